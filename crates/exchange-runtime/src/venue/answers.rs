//! What answers do: they are decoded in the order of their arrival, passed on, and whoever asked is told.

use std::sync::Arc;
use std::time::Duration;

use exchange_core::budget::Class;
use exchange_core::capture::Capture;
use exchange_core::error::{ErrorKind, Reaction, Refusal};
use exchange_core::feed::{Reply, Turn};
use exchange_core::memo::Memo;
use exchange_core::pipeline::Skipped;
use exchange_core::plan::Poll;
use exchange_core::refill::Outcome;
use exchange_core::roster::Departed;
use exchange_core::{Body, Channel, Event, Instrument, Market, Request, Time, session};

use super::{Done, Purpose, VenueActor, problem_of};
use crate::http::{Answer, Http};
use crate::net::{Failure, FailureKind};
use crate::ws::Answered;

/// How often one request of a `--once` cycle is tried.
const ATTEMPTS: u32 = 4;
/// For so long, a question of a connection that met with an error counts as a problem: longer than it takes to ask for a
/// book again.
const FADES: Duration = Duration::from_secs(12);

impl VenueActor {
    /// A request has been answered, or has failed.
    pub(super) async fn finished(&mut self, done: Done) {
        let Done { purpose, request, page, sweep, result } = done;
        let now = self.shared.clock.now();
        let key = if let Purpose::Poll(key) = &purpose { Some(key.clone()) } else { None };
        self.sweeping -= usize::from(sweep);
        if let Some(scheduled) = key.as_ref().and_then(|key| self.schedule.get_mut(key)) {
            // It may have been taken off the schedule and put there again meanwhile.
            scheduled.running = scheduled.running.saturating_sub(1);
        }
        let mut turn = std::mem::take(&mut self.turn);
        let mut skipped = 0;
        let memo_key = key.as_deref().filter(|_| !page);
        let outcome = self.read(&request, result, &purpose, memo_key, &mut turn).map(|records| skipped = records);
        self.count(&request, outcome.as_ref().err().map(|refusal| refusal.kind));
        let answer = match (&purpose, &outcome) {
            (Purpose::Ask(channel, instrument, ..), Ok(())) => session::Answer::given(&turn.events, *channel, instrument),
            (_, Err(refusal)) if refusal.kind == ErrorKind::Rejected => session::Answer::Refused,
            _ => session::Answer::Failed,
        };
        if let Purpose::Ask(_, _, Class::Backfill, _) = purpose {
            // A question, no source: its few newest records would hide what was missed before them from the refill.
            turn.events.retain(|event| matches!(event.body, Body::DecodeError(_)));
        }
        if let Some(key) = &key {
            match outcome {
                Ok(()) => self.roster.answered(key, &turn.events),
                Err(_) => self.roster.failed(key),
            }
        }
        self.follow(&mut turn, &purpose);
        if let Purpose::Refill(channel, instrument) = &purpose {
            self.refilled(now, &request, (*channel, instrument), &outcome, &mut turn.events).await;
        } else {
            let channels = key.as_ref().and_then(|key| self.schedule.get(key)).map(|scheduled| scheduled.poll.channels.as_slice());
            let skipped = channels.filter(|_| skipped > 0).map(|channels| Skipped {
                received: self.shared.clock.wall(),
                market: request.market,
                channels,
                records: skipped,
            });
            self.shared.deliver(&mut turn.events, skipped).await;
        }
        self.turn = turn;
        match (outcome, purpose) {
            (Ok(()), Purpose::Poll(key)) => self.polled(now, &request, &key).await,
            (outcome, Purpose::Ask(channel, instrument, class, sender)) => {
                match outcome {
                    Ok(()) => self.succeeded(&request),
                    Err(refusal) => {
                        let problem = problem_of(&request);
                        if self.fading.contains_key(&problem) || !self.shared.health().problems.contains_key(&problem) {
                            self.fading.insert(problem, now + FADES);
                        }
                        self.react(now, &request, &refusal);
                    }
                }
                // A connection that is gone meanwhile wants no answer.
                drop(sender.send(Answered { channel, instrument, is_snapshot: class == Class::Snapshot, answer }));
            }
            (Err(refusal), Purpose::Poll(key)) => self.refused(now, &request, &key, &refusal),
            (_, Purpose::Refill(..)) => {}
        }
    }

    /// Decodes an answer, if there is one; how many of its records were passed over. `key` is that of the poll whose memo it is
    /// held against.
    fn read(&mut self, request: &Request, result: Result<Answer, Failure>, purpose: &Purpose, key: Option<&str>, turn: &mut Turn) -> Result<u64, Refusal> {
        let answer = match result {
            Ok(answer) => answer,
            Err(failure) => {
                if failure.kind == FailureKind::Timeout {
                    self.latencies.entry(request.endpoint.clone()).or_default().late();
                }
                return Err(Refusal { kind: ErrorKind::Transient, message: failure.message, until: None });
            }
        };
        self.measure(request, &answer);
        let received = self.shared.clock.wall();
        let decoded = self.decode(request, &answer, received, key, turn);
        self.capture(request, &answer, received, purpose, &turn.events);
        decoded
    }

    /// Does what an answer asks for besides passing on its events: the next pages, and what the venue allows.
    fn follow(&mut self, turn: &mut Turn, purpose: &Purpose) {
        if let Purpose::Poll(key) = purpose
            && let Some(scheduled) = self.schedule.get_mut(key)
        {
            scheduled.running += u32::try_from(turn.fetch.len()).unwrap_or(0);
        }
        // What was missed is asked for span by span.
        let refill = matches!(purpose, Purpose::Refill(..));
        for next in turn.fetch.drain(..).filter(|_| !refill) {
            self.urgent.push_back((purpose.clone(), next, true));
        }
        for said in turn.allowances.drain(..) {
            if self.shared.limits.learn(self.shared.venue.exchange, &said) {
                self.gate.allow(&said);
            }
        }
        // Those are for connections.
        turn.controls.clear();
        turn.send.clear();
        turn.resync.clear();
    }

    /// What was missed has come, or not.
    async fn refilled(
        &mut self,
        now: Time,
        request: &Request,
        (channel, instrument): (Channel, &Instrument),
        outcome: &Result<(), Refusal>,
        events: &mut Vec<Event>,
    ) {
        self.refilling -= 1;
        let outcome = match outcome {
            Ok(()) => {
                self.succeeded(request);
                self.refill_pauses.reset();
                Outcome::Answered
            }
            Err(refusal) => {
                let again = self.react(now, request, refusal);
                Outcome::Failed(refusal.kind, again.unwrap_or_else(|| now + self.refill_pauses.next_pause()))
            }
        };
        if self.shared.refilled(channel, instrument, outcome, events).await {
            // Nobody asks again: what is collected now does not suffer from it.
            self.shared.problem(&problem_of(request), None);
        }
    }

    /// Hands an answer to the captures. One to a question whose events go nowhere is none: what the captures decode to is what
    /// went out.
    fn capture(&self, request: &Request, answer: &Answer, received: Time, purpose: &Purpose, events: &[Event]) {
        let Some(tap) = &self.shared.tap else { return };
        let question = matches!(purpose, Purpose::Ask(_, _, Class::Backfill, _));
        if question && !events.iter().any(|event| matches!(event.body, Body::DecodeError(_))) {
            return;
        }
        tap.take(Capture {
            received,
            venue: self.shared.name().to_owned(),
            market: Some(request.market),
            conn: None,
            source: format!("{} {}", request.method.as_str(), answer.url),
            request: request.body.clone(),
            status: Some(answer.status),
            payload: answer.body.to_vec(),
        });
    }

    /// Decodes an answer; how many of its records were passed over.
    fn decode(&mut self, request: &Request, answer: &Answer, received: Time, key: Option<&str>, turn: &mut Turn) -> Result<u64, Refusal> {
        if self.shared.take_forgotten() {
            // A record that stands there as before may be one that went nowhere.
            self.schedule.values().filter_map(|scheduled| scheduled.memo.as_ref()).for_each(Memo::forget);
        }
        let scheduled = key.and_then(|key| self.schedule.get(key));
        let memo = scheduled.and_then(|scheduled| scheduled.memo.as_ref());
        let Some(feed) = self.feeds.get_mut(&request.market) else { return Ok(0) };
        let reply = Reply {
            method: request.method,
            url: &answer.url,
            request: request.body.as_deref(),
            status: answer.status,
            retry_after: answer.retry_after,
            payload: &answer.body,
            memo,
        };
        feed.reply(received, &reply, turn)?;
        let unchanged = memo.map_or(0, Memo::commit);
        // What another endpoint was asked for on the way (a list of lists, say) is part of this poll. Whoever wants all events
        // wants what was captured to decode to them.
        if let Some(own) = scheduled.filter(|own| !self.options.all_events && own.poll.request.endpoint == request.endpoint) {
            let others = || self.schedule.values().filter(|other| !std::ptr::eq(*other, own)).map(|other| (other.markets.as_slice(), &other.poll));
            turn.events.retain(|event| !is_anothers(event, &own.poll, others()));
        }
        Ok(unchanged)
    }

    fn measure(&mut self, request: &Request, answer: &Answer) {
        let labels = [("venue", self.shared.name().to_owned()), ("endpoint", request.endpoint.clone())];
        metrics::histogram!("collector_http_request_duration_seconds", &labels).record(answer.took.as_secs_f64());
        self.latencies.entry(request.endpoint.clone()).or_default().observe(answer.took);
        if let Some(used) = self.shared.limits.used(&request.limit, answer.used) {
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            metrics::gauge!("collector_limit_used", "venue" => self.shared.name().to_owned(), "limit" => request.limit.clone()).set(used as f64);
        }
    }

    fn count(&self, request: &Request, error: Option<ErrorKind>) {
        let outcome = error.map_or("ok", ErrorKind::as_str);
        let labels = [("venue", self.shared.name().to_owned()), ("endpoint", request.endpoint.clone()), ("outcome", outcome.to_owned())];
        metrics::counter!("collector_http_requests_total", &labels).increment(1);
    }

    fn succeeded(&mut self, request: &Request) {
        self.gate.circuit(&request.endpoint).success();
        self.shared.problem(&problem_of(request), None);
    }

    async fn polled(&mut self, now: Time, request: &Request, key: &str) {
        self.succeeded(request);
        let Some(scheduled) = self.schedule.get_mut(key) else { return };
        if scheduled.running > 0 {
            return;
        }
        // (A first page that comes each time says nothing of a second one that never does.)
        scheduled.attempts = 0;
        scheduled.pauses.reset();
        scheduled.done = true;
        if scheduled.poll.channels.contains(&Channel::Instrument) {
            let markets = scheduled.markets.clone();
            for departed in self.roster.ended(now, key) {
                self.delist(departed).await;
            }
            let version = self.shared.venue.catalog.version();
            for market in markets {
                if self.planned.get(&market) != Some(&version) {
                    self.plan(market);
                }
            }
        }
    }

    /// Says of instruments that left the venue's list that they are delisted.
    async fn delist(&mut self, departed: Departed) {
        let Departed { market, names, doubted } = departed;
        if let Some((known, listed)) = doubted {
            tracing::warn!(venue = self.shared.name(), %market, known, listed, "so few instruments are listed that the list is not believed at once");
        }
        let catalog = &self.shared.venue.catalog;
        let received = self.shared.clock.wall();
        let gone = names.iter().filter_map(|name| catalog.delist(market, name));
        let event = |instrument: Arc<Instrument>| {
            let details = instrument.details.clone()?;
            tracing::info!(venue = self.shared.name(), %market, symbol = &*instrument.venue_symbol, "delisted");
            Some(Event::new(instrument, received, None, Body::Instrument(details)))
        };
        let mut events: Vec<Event> = gone.filter_map(event).collect();
        self.shared.deliver(&mut events, None).await;
    }

    fn refused(&mut self, now: Time, request: &Request, key: &str, refusal: &Refusal) {
        // It is asked again until it is answered.
        self.fading.remove(&problem_of(request));
        let retry_at = self.react(now, request, refusal);
        let Some(scheduled) = self.schedule.get_mut(key) else { return };
        scheduled.attempts += 1;
        if refusal.kind == ErrorKind::Rejected && scheduled.poll.request.instrument.is_some() {
            // A symbol that the venue does not know costs only itself.
            scheduled.dropped = true;
            return;
        }
        let gives_up = self.options.once && (scheduled.attempts >= ATTEMPTS || matches!(refusal.kind, ErrorKind::Rejected | ErrorKind::GeoBlocked));
        if gives_up {
            scheduled.done = true;
            scheduled.dropped = true;
            self.shared.health().failed += 1;
            return;
        }
        scheduled.due = retry_at.unwrap_or_else(|| now + scheduled.pauses.next_pause());
        if scheduled.poll.sweep
            && let Some(place) = self.sweep.iter().position(|other| other == key)
        {
            self.sweep.remove(place);
            self.sweep.push_front(key.to_owned());
        }
    }

    /// Does what the one table of reactions says; when to try again, if that is known.
    fn react(&mut self, now: Time, request: &Request, refusal: &Refusal) -> Option<Time> {
        let circuit = self.gate.circuit(&request.endpoint);
        let wall = self.shared.clock.wall();
        let pause = |default: Duration| refusal.until.map_or(default, |until| until.since(wall));
        let retry_at = match refusal.kind.reaction() {
            Reaction::BackOff => {
                circuit.failure(now);
                None
            }
            Reaction::Wait(default) => {
                circuit.neutral();
                Some(self.shared.limits.block(&request.limit, pause(default)))
            }
            Reaction::Sleep(default) => {
                circuit.neutral();
                Some(self.shared.limits.ban(request, pause(default)))
            }
            Reaction::Stop => {
                circuit.neutral();
                // Asked again now and then: the place may change, the venue too.
                self.asleep_until = now + Duration::from_mins(10);
                Some(self.asleep_until)
            }
            Reaction::Drop | Reaction::GoOn => {
                circuit.neutral();
                None
            }
        };
        let problem = problem_of(request);
        let known = self.shared.health().problems.contains_key(&problem);
        if !known {
            let url = Http::url(&self.shared.venue.profile, request);
            tracing::warn!(venue = self.shared.name(), url, "{refusal}");
        }
        self.shared.problem(&problem, Some(refusal.to_string()));
        retry_at
    }
}

/// Whether another poll is there for what this one's answer holds besides: of two sources of one field, one a little
/// behind the other, each answer would contradict the last. (Not so of instruments: whichever answer has news of one.)
fn is_anothers<'p>(event: &Event, own: &Poll, mut others: impl Iterator<Item = (&'p [Market], &'p Poll)>) -> bool {
    let Some(channel) = event.body.channel().filter(|channel| *channel != Channel::Instrument && !own.channels.contains(channel)) else { return false };
    others.any(|(markets, poll)| markets.contains(&event.instrument.market) && poll.channels.contains(&channel))
}

#[cfg(test)]
mod tests {
    use exchange_core::event::{Funding, Mark};

    use super::*;

    fn poll(endpoint: &str, channels: &[Channel]) -> Poll {
        let request = Request {
            endpoint: endpoint.into(),
            market: Market::Linear,
            method: exchange_core::profile::Method::Get,
            target: format!("/{endpoint}"),
            body: None,
            limit: "all".into(),
            cost: 1,
            instrument: None,
        };
        Poll { request, channels: channels.to_vec(), every: None, sweep: false, memo: false }
    }

    #[test]
    fn what_another_poll_serves_is_left_to_it() {
        let (contracts, rates) = (poll("contracts", &[Channel::Instrument, Channel::Mark]), poll("rates", &[Channel::Funding]));
        let event = |market, body| Event::new(Arc::new(Instrument::named(&"toy".into(), market, "BTC", None)), Time::EPOCH, None, body);
        let both = [Market::Linear, Market::Inverse];
        let taken = |event: &Event, others: &[(&[Market], &Poll)]| is_anothers(event, &contracts, others.iter().copied());
        let funding = event(Market::Inverse, Body::Funding(Funding::default()));
        assert!(taken(&funding, &[(&both, &rates)]));
        assert!(!taken(&funding, &[(&[Market::Linear], &rates)]), "another market's");
        assert!(!taken(&funding, &[]), "nobody else has it");
        assert!(!taken(&event(Market::Linear, Body::Mark(Mark::default())), &[(&both, &poll("marks", &[Channel::Mark]))]), "it was asked for both");
    }
}
