//! The venue actor: it owns a venue's circuits and schedule, keeps to its limits, asks by HTTP, and starts the connections.
//!
//! One task a venue, so that nothing here needs a lock and no venue waits for another. Requests run beside each other;
//! their answers are decoded here, in the order of their arrival. What there is to ask for follows from the instruments:
//! when they change, so do the polls and what the connections carry.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use exchange_core::budget::{Budgets, Class};
use exchange_core::capture::Capture;
use exchange_core::circuit::{BackOff, Circuit, State};
use exchange_core::error::{ErrorKind, Reaction, Refusal};
use exchange_core::feed::{Query, Reply, Turn};
use exchange_core::latency::Latency;
use exchange_core::memo::Memo;
use exchange_core::pipeline::{Next, Skipped};
use exchange_core::plan::{Poll, requests};
use exchange_core::profile::{Endpoint, Limit};
use exchange_core::refill::Outcome;
use exchange_core::roster::Departed;
use exchange_core::session;
use exchange_core::spread::{LineId, Shift};
use exchange_core::{Body, Channel, Event, Feed, Instrument, Market, Request, Roster, Spread, Time, Topic, Want};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::collector::VenueOptions;
use crate::http::{Answer, Http};
use crate::limits::Limits;
use crate::net::{Failure, FailureKind};
use crate::shared::{Numbers, Shared, stopped};
use crate::watchdog::TURN;
use crate::ws::{Answered, Ask, Connection};

/// Requests under way at once.
const CONCURRENCY: usize = 16;
/// How many of them may be sweeps: the others must find a place.
const SWEEPING: usize = 8;
/// How many may be for what was missed.
const REFILLING: usize = 4;
/// How many holes are looked at when budgets do not allow to ask for the first: another's may.
const REFILLS_LOOKED_AT: usize = 16;
/// How often one request of a `--once` cycle is tried.
const ATTEMPTS: u32 = 4;
/// Pauses between attempts of one request.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(12));
/// How often the list of instruments is read, where the venue's description says nothing: what is listed is collected
/// within a minute.
const INSTRUMENTS_EVERY: Duration = Duration::from_secs(45);
/// For so long, a question of a connection that met with an error counts as a problem: longer than it takes to ask for a
/// book again.
const FADES: Duration = Duration::from_secs(12);
/// A sweep spends at most this part of a budget, evenly.
const SWEEP_SHARE: u32 = 2;
const SWEEP_SLICES: u32 = 20;

/// Why a request is made.
#[derive(Debug, Clone)]
enum Purpose {
    /// A poll of the plan, by its key.
    Poll(String),
    /// What a connection wants to know of a channel of an instrument: a snapshot for its book, or whether it is stale.
    Ask(Channel, Arc<Instrument>, Class, mpsc::UnboundedSender<Answered>),
    /// A stream missed something of a channel of an instrument.
    Refill(Channel, Arc<Instrument>),
}

struct Done {
    purpose: Purpose,
    request: Request,
    /// Whether this was a further page.
    page: bool,
    /// Whether it is of a sweep.
    sweep: bool,
    result: Result<Answer, Failure>,
}

struct Scheduled {
    poll: Poll,
    /// The markets that its answer serves.
    markets: Vec<Market>,
    memo: Option<Memo>,
    due: Time,
    /// Requests of this poll that are under way, and further pages that are to be.
    running: u32,
    attempts: u32,
    pauses: BackOff,
    /// Asked at least once, or given up: what `--once` waits for.
    done: bool,
    /// Refused for good.
    dropped: bool,
}

impl Scheduled {
    /// The same request is wanted for something else as well. What is now asked more often is due earlier, too.
    fn join(&mut self, poll: Poll, now: Time, interval: Duration) {
        if !self.markets.contains(&poll.request.market) {
            self.markets.push(poll.request.market);
        }
        let more: Vec<Channel> = poll.channels.into_iter().filter(|channel| !self.poll.channels.contains(channel)).collect();
        self.poll.channels.extend(more);
        self.poll.every = self.poll.every.zip(poll.every).map(|(known, other)| known.min(other));
        if self.attempts == 0 {
            self.due = self.due.min(now + self.poll.every.unwrap_or_default().max(interval));
        }
        if !poll.memo {
            self.memo = None;
        }
    }

    /// Many small requests are no more urgent than anything else, whatever they are for.
    fn class(&self) -> Class {
        if self.poll.sweep { Class::Rest } else { Class::of(&self.poll.channels) }
    }

    /// Whether it will not be asked again.
    fn is_over(&self, once: bool) -> bool {
        self.dropped || (once && self.done)
    }
}

pub(crate) struct VenueActor {
    shared: Arc<Shared>,
    options: VenueOptions,
    http: Http,
    feeds: BTreeMap<Market, Feed>,
    sweeps: Budgets,
    circuits: BTreeMap<String, Circuit>,
    /// By endpoint, as the circuits.
    latencies: BTreeMap<String, Latency>,
    schedule: BTreeMap<String, Scheduled>,
    /// Sweeps in the order in which they are due; those that are tried again go first.
    sweep: VecDeque<String>,
    urgent: VecDeque<(Purpose, Request, bool)>,
    running: JoinSet<Done>,
    sweeping: usize,
    refilling: usize,
    refill_pauses: BackOff,
    connections: JoinSet<()>,
    numbers: Arc<Numbers>,
    spread: Spread,
    /// What each connection carries: the other end is the connection's.
    lines: HashMap<LineId, watch::Sender<Vec<Topic>>>,
    roster: Roster,
    planned: BTreeMap<Market, u64>,
    asks: mpsc::UnboundedReceiver<Ask>,
    ask: mpsc::UnboundedSender<Ask>,
    stop: watch::Receiver<bool>,
    asleep_until: Time,
    /// What was told of each host: until when it is shut.
    bans: BTreeMap<String, Option<Time>>,
    rng: fastrand::Rng,
    turn: Turn,
    /// Problems that only a connection's question met, and until when they are believed: nobody repeats it for its own sake.
    fading: BTreeMap<String, Time>,
}

impl VenueActor {
    pub(crate) fn new(shared: Arc<Shared>, options: VenueOptions, http: Http, numbers: Arc<Numbers>, stop: watch::Receiver<bool>) -> Self {
        let profile = shared.venue.profile.clone();
        let (ask, asks) = mpsc::unbounded_channel();
        let slice = |(name, limit): (&String, &Limit)| {
            let (budget, window) = sweep_slice(limit.budget, limit.window);
            (name.clone(), Limit { budget, window, ..limit.clone() })
        };
        shared.limits.look_up(&options.markets);
        let mut actor = Self {
            feeds: options.markets.iter().map(|market| (*market, Feed::new(shared.venue.clone(), *market))).collect(),
            sweeps: Budgets::new(profile.limits.iter().map(slice).collect()),
            circuits: BTreeMap::new(),
            latencies: BTreeMap::new(),
            schedule: BTreeMap::new(),
            sweep: VecDeque::new(),
            urgent: VecDeque::new(),
            running: JoinSet::new(),
            sweeping: 0,
            refilling: 0,
            refill_pauses: BackOff::new(RETRY.0, RETRY.1, shared.outside.seed ^ seed_of("refill"), Instant::now().into_std()),
            connections: JoinSet::new(),
            numbers,
            spread: Spread::default(),
            lines: HashMap::new(),
            roster: Roster::default(),
            planned: BTreeMap::new(),
            asks,
            ask,
            stop,
            asleep_until: Time::EPOCH,
            bans: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(shared.outside.seed ^ seed_of(shared.name())),
            turn: Turn::default(),
            fading: BTreeMap::new(),
            shared,
            options,
            http,
        };
        actor.schedule_instruments();
        actor
    }

    /// Runs until everything asked for was done (`--once`) or until the end.
    pub(crate) async fn run(mut self) {
        self.tell_bans();
        loop {
            let wake = self.launch().await;
            if self.options.once && self.is_done() {
                break;
            }
            let now = self.shared.clock.now();
            self.shared.pulse.beat(now);
            let pause = wake.map_or(TURN, |wake| wake.since(now)).min(TURN);
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    match done {
                        Ok(done) => self.finished(done).await,
                        Err(error) if error.is_cancelled() => {}
                        Err(error) => tracing::error!(venue = self.shared.name(), %error, "a request's task failed"),
                    }
                }
                Some(ask) = self.asks.recv() => {
                    let Query { channel, request, is_snapshot } = ask.query;
                    if let Some(instrument) = request.instrument.clone() {
                        let class = if is_snapshot { Class::Snapshot } else { Class::Backfill };
                        self.urgent.push_back((Purpose::Ask(channel, instrument, class, ask.answer), request, false));
                    }
                }
                Some(ended) = self.connections.join_next(), if !self.connections.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(venue = self.shared.name(), %error, "a connection's task failed");
                    }
                }
                () = self.shared.missed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.tell_health();
        }
        self.running.shutdown().await;
        while self.connections.join_next().await.is_some() {}
    }

    fn is_done(&self) -> bool {
        // A market whose instruments could not be read has nothing else scheduled: giving them up is the end of it.
        self.running.is_empty() && self.urgent.is_empty() && self.schedule.values().all(|s| s.is_over(true))
    }

    /// The instruments come first: what else is asked for depends on them.
    fn schedule_instruments(&mut self) {
        let venue = self.shared.venue.clone();
        for market in self.options.markets.clone() {
            let mut lists = false;
            let wanted = |e: &&Endpoint| e.serves(market, Channel::Instrument) && !e.history && !e.follow && !e.per_instrument();
            for endpoint in venue.profile.endpoint.iter().filter(wanted) {
                for request in requests(&venue.profile, endpoint, market, Channel::Instrument) {
                    let every = venue.profile.instruments_every.or(endpoint.every).unwrap_or(INSTRUMENTS_EVERY);
                    let key = self.schedule(Poll { request, channels: vec![Channel::Instrument], every: Some(every), sweep: false, memo: false });
                    self.roster.watch(&key, market, every);
                }
                lists = true;
            }
            if !lists {
                self.plan(market);
            }
        }
    }

    /// A request that is scheduled already, for another market or another channel, is asked once for all of them. Its key
    /// in the schedule.
    fn schedule(&mut self, poll: Poll) -> String {
        let key = format!("{} {}", Http::url(&self.shared.venue.profile, &poll.request), poll.request.body.as_deref().unwrap_or_default());
        if let Some(known) = self.schedule.get_mut(&key) {
            known.join(poll, self.shared.clock.now(), self.options.interval);
            return key;
        }
        if poll.sweep {
            self.sweep.push_back(key.clone());
        }
        let memo = (poll.memo && !self.options.all_events && !self.options.once).then(Memo::default);
        let pauses = BackOff::new(RETRY.0, RETRY.1, self.rng.u64(..), Instant::now().into_std());
        let due = self.shared.clock.now();
        let markets = vec![poll.request.market];
        self.schedule.insert(key.clone(), Scheduled { poll, markets, memo, due, running: 0, attempts: 0, pauses, done: false, dropped: false });
        key
    }

    /// Asks the venue what there is to ask for in a market, starts what is new and ends what is not wanted any more.
    fn plan(&mut self, market: Market) {
        let venue = self.shared.venue.clone();
        self.planned.insert(market, venue.catalog.version());
        let chosen = |instrument: &Arc<Instrument>| self.options.chosen(instrument);
        let instruments: Vec<Arc<Instrument>> = venue.catalog.list(market).into_iter().filter(chosen).collect();
        let channels: Vec<Channel> = self.options.channels.iter().copied().filter(|channel| *channel != Channel::Instrument).collect();
        let want = Want { market, channels: &channels, mode: self.options.mode, fallback: false, instruments: &instruments };
        let plan = venue.exchange.plan(&venue.profile, &want);
        let keys: BTreeSet<String> = plan.polls.into_iter().map(|poll| self.schedule(poll)).collect();
        self.end_sweeps(market, &keys);
        for scheduled in self.schedule.values_mut().filter(|scheduled| scheduled.markets.contains(&market)) {
            // A record that has not changed may say something of an instrument that was not known before.
            scheduled.memo = scheduled.memo.take().map(|_| Memo::default());
        }
        let most = venue.profile.ws_of(market).topics_per_connection;
        for (line, shift) in self.spread.want(market, plan.topics, most) {
            match shift {
                Shift::Open { ws_path, topics } => self.connect(market, line, &ws_path, topics),
                Shift::Carry(topics) => {
                    if let Some(carried) = self.lines.get(&line) {
                        carried.send_replace(topics);
                    }
                }
                Shift::End => drop(self.lines.remove(&line)),
            }
        }
        self.shared.health().started = self.planned.len() == self.options.markets.len();
    }

    /// Sweeps of instruments that are not in the plan any more are asked no more.
    fn end_sweeps(&mut self, market: Market, planned: &BTreeSet<String>) {
        for (_, scheduled) in self.schedule.iter_mut().filter(|(key, scheduled)| scheduled.poll.sweep && !planned.contains(*key)) {
            scheduled.markets.retain(|of| *of != market);
        }
        self.schedule.retain(|_, scheduled| !scheduled.markets.is_empty());
        self.sweep.retain(|key| self.schedule.contains_key(key));
    }

    fn connect(&mut self, market: Market, line: LineId, ws_path: &str, topics: Vec<Topic>) {
        let host = self.shared.venue.profile.markets.get(&market).map_or("", |surface| surface.ws.trim_end_matches('/'));
        let (carried, topics) = watch::channel(topics);
        self.lines.insert(line, carried);
        let connection = Connection {
            shared: self.shared.clone(),
            market,
            url: format!("{host}{ws_path}"),
            topics,
            numbers: self.numbers.clone(),
            asks: self.ask.clone(),
            stop: self.stop.clone(),
            seed: self.rng.u64(..),
        };
        self.connections.spawn(connection.run());
    }

    /// Starts what is due; when to look again.
    async fn launch(&mut self) -> Option<Time> {
        let now = self.shared.clock.now();
        if now < self.asleep_until {
            return Some(self.asleep_until);
        }
        let mut wake: Option<Time> = None;
        let mut later = |at: Option<Time>| wake = [wake, at].into_iter().flatten().min();
        later(self.fading.values().copied().min());
        let mut short = Short::default();
        for class in Class::ALL {
            later(self.launch_urgent(now, class, &mut short));
            later(self.launch_due(now, class, &mut short));
            if class == Class::Rest {
                later(self.launch_sweeps(now, &mut short));
            }
            if class == Class::Backfill {
                later(self.launch_refills(now, &mut short).await);
            }
        }
        // With all places taken, the next answer wakes us.
        wake.filter(|_| self.running.len() < CONCURRENCY)
    }

    /// Asks for what was missed: behind everything that is due, and out of the sweeps' part of the budgets.
    async fn launch_refills(&mut self, now: Time, short: &mut Short) -> Option<Time> {
        let mut earliest: Option<Time> = None;
        for _ in 0..REFILLS_LOOKED_AT {
            if self.running.len() >= CONCURRENCY || self.refilling >= REFILLING {
                return None;
            }
            let next = self.shared.pipeline().next_refill(now, self.shared.clock.wall());
            let (channel, instrument, request) = match next? {
                Next::Wait(at) => return Some(at),
                Next::Tell(mut events) => {
                    self.shared.count_refills(&events);
                    self.shared.deliver(&mut events, None).await;
                    continue;
                }
                Next::Ask(channel, instrument, request) => (channel, instrument, request),
            };
            let spent = self.sweeps.get(&request.limit).map_or(Ok(()), |budget| budget.spend(now, request.cost));
            let refused = spent.and_then(|()| self.may_ask(now, &request, Class::Backfill, short)).err();
            self.shared.pipeline().refill_asked(channel, &instrument, refused);
            match refused {
                Some(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
                None => self.ask(Purpose::Refill(channel, instrument), request, false),
            }
        }
        earliest.or(Some(now))
    }

    /// Asks what connections and further pages wait for.
    fn launch_urgent(&mut self, now: Time, class: Class, short: &mut Short) -> Option<Time> {
        let mut wake: Option<Time> = None;
        for _ in 0..self.urgent.len() {
            let Some((purpose, request, page)) = self.urgent.pop_front() else { break };
            if self.running.len() < CONCURRENCY && self.class(&purpose) == class {
                match self.may_ask(now, &request, class, short) {
                    Ok(()) => {
                        self.ask(purpose, request, page);
                        continue;
                    }
                    Err(at) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
                }
            }
            // Once around, and the order is as before.
            self.urgent.push_back((purpose, request, page));
        }
        wake
    }

    fn launch_due(&mut self, now: Time, class: Class, short: &mut Short) -> Option<Time> {
        let is_due = |s: &Scheduled| !s.poll.sweep && s.running == 0 && !s.is_over(self.options.once) && s.class() == class;
        let due: Vec<(Time, String)> = self.schedule.iter().filter(|(_, s)| is_due(s)).map(|(key, s)| (s.due, key.clone())).collect();
        let mut wake: Option<Time> = None;
        for (due, key) in due {
            let Some(scheduled) = self.schedule.get(&key) else { continue };
            let mut at = due.max(now);
            if due <= now && self.running.len() < CONCURRENCY {
                let request = scheduled.poll.request.clone();
                match self.may_ask(now, &request, class, short) {
                    Ok(()) => {
                        self.start(now, &key);
                        continue;
                    }
                    Err(refused) => at = refused,
                }
            }
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        wake
    }

    fn launch_sweeps(&mut self, now: Time, short: &mut Short) -> Option<Time> {
        let mut wake: Option<Time> = None;
        let sooner = |wake: Option<Time>, at: Time| Some(wake.map_or(at, |wake| wake.min(at)));
        let mut place = 0;
        while let Some(key) = self.sweep.get(place).cloned() {
            if self.running.len() >= CONCURRENCY || (self.sweeping >= SWEEPING && !self.options.once) {
                return wake;
            }
            let Some(scheduled) = self.schedule.get(&key).filter(|s| !s.is_over(self.options.once)) else {
                self.sweep.remove(place);
                continue;
            };
            if scheduled.running > 0 {
                place += 1;
                continue;
            }
            if scheduled.due > now {
                wake = sooner(wake, scheduled.due);
                if scheduled.attempts > 0 {
                    // The others need not wait for one that is tried again.
                    place += 1;
                    continue;
                }
                // The rest is due later still.
                return wake;
            }
            let request = scheduled.poll.request.clone();
            if !self.options.once
                && let Some(Err(at)) = self.sweeps.get(&request.limit).map(|budget| budget.spend(now, request.cost))
            {
                return sooner(wake, at);
            }
            if let Err(at) = self.may_ask(now, &request, Class::Rest, short) {
                return sooner(wake, at);
            }
            self.sweep.remove(place);
            self.sweep.push_back(key.clone());
            self.start(now, &key);
        }
        wake
    }

    /// How urgent a request is.
    fn class(&self, purpose: &Purpose) -> Class {
        match purpose {
            Purpose::Ask(_, _, class, _) => *class,
            Purpose::Refill(..) => Class::Backfill,
            Purpose::Poll(key) => self.schedule.get(key).map_or(Class::Rest, Scheduled::class),
        }
    }

    /// Whether the circuit and the budget let a request through; if so, its cost is spent.
    fn may_ask(&mut self, now: Time, request: &Request, class: Class, short: &mut Short) -> Result<(), Time> {
        let circuit = self.circuits.entry(request.endpoint.clone()).or_insert_with(|| Circuit::new(&self.shared.venue.profile.circuit));
        if let State::Open(until) = circuit.state()
            && now < until
        {
            return Err(until);
        }
        circuit.call(now)?;
        if let Err(at) = short.spend(&self.shared.limits, request, class) {
            // Nothing is asked after all. (The other way round, each look at a circuit that is not closed would cost.)
            circuit.neutral();
            return Err(at);
        }
        Ok(())
    }

    fn start(&mut self, now: Time, key: &str) {
        let Some(scheduled) = self.schedule.get_mut(key) else { return };
        let every = scheduled.poll.every.unwrap_or_default().max(self.options.interval);
        // On the grid of its own beginning: a slow answer does not shift the cycles after it.
        scheduled.due = if scheduled.poll.sweep || now.since(scheduled.due) >= every { now + every } else { scheduled.due + every };
        let request = scheduled.poll.request.clone();
        self.roster.began(key);
        self.ask(Purpose::Poll(key.to_owned()), request, false);
    }

    fn ask(&mut self, purpose: Purpose, request: Request, page: bool) {
        let mut sweep = false;
        if let Purpose::Poll(key) = &purpose
            && let Some(scheduled) = self.schedule.get_mut(key)
        {
            scheduled.running += u32::from(!page);
            sweep = scheduled.poll.sweep;
            self.sweeping += usize::from(sweep);
        }
        self.refilling += usize::from(matches!(purpose, Purpose::Refill(..)));
        let profile = self.shared.venue.profile.clone();
        let http = self.http.clone();
        let known = self.latencies.get(&request.endpoint).cloned().unwrap_or_default();
        let timeout = known.timeout(profile.http.timeout_min, profile.http.timeout_max);
        let wall = self.shared.clock.wall();
        self.running.spawn(async move {
            let request = request.at(wall);
            let result = http.send(&profile, &request, timeout).await;
            Done { purpose, request, page, sweep, result }
        });
    }

    async fn finished(&mut self, done: Done) {
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
        let outcome = match result {
            Ok(answer) => {
                self.measure(&request, &answer);
                let decoded = self.decode(&request, &answer, key.as_deref().filter(|_| !page), &mut turn);
                decoded.map(|records| skipped = records)
            }
            Err(failure) if failure.kind == FailureKind::Timeout => {
                self.latencies.entry(request.endpoint.clone()).or_default().late();
                Err(Refusal { kind: ErrorKind::Transient, message: failure.message, until: None })
            }
            Err(failure) => Err(Refusal { kind: ErrorKind::Transient, message: failure.message, until: None }),
        };
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
        let refill = matches!(purpose, Purpose::Refill(..));
        if let Some(scheduled) = key.as_ref().and_then(|key| self.schedule.get_mut(key)) {
            scheduled.running += u32::try_from(turn.fetch.len()).unwrap_or(0);
        }
        // What was missed is asked for span by span.
        for next in turn.fetch.drain(..).filter(|_| !refill) {
            self.urgent.push_back((purpose.clone(), next, true));
        }
        if let Some(key) = &key {
            match outcome {
                Ok(()) => self.roster.answered(key, &turn.events),
                Err(_) => self.roster.failed(key),
            }
        }
        for said in turn.allowances.drain(..) {
            if self.shared.limits.learn(self.shared.venue.exchange, &said) {
                let (budget, window) = sweep_slice(said.budget, said.window);
                self.sweeps.allow(&said.limit, budget, window);
            }
        }
        turn.controls.clear();
        turn.send.clear();
        turn.resync.clear();
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
            (outcome, Purpose::Ask(channel, instrument, _, sender)) => {
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
                drop(sender.send(Answered { channel, instrument, answer }));
            }
            (Err(refusal), Purpose::Poll(key)) => self.refused(now, &request, &key, &refusal),
            (_, Purpose::Refill(..)) => {}
        }
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

    /// Decodes an answer; how many of its records were passed over.
    fn decode(&mut self, request: &Request, answer: &Answer, key: Option<&str>, turn: &mut Turn) -> Result<u64, Refusal> {
        let received = self.shared.clock.wall();
        if let Some(tap) = &self.shared.tap {
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
        self.circuits.entry(request.endpoint.clone()).or_insert_with(|| Circuit::new(&self.shared.venue.profile.circuit)).success();
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
        let circuit = self.circuits.entry(request.endpoint.clone()).or_insert_with(|| Circuit::new(&self.shared.venue.profile.circuit));
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

    /// Makes known which hosts are shut, by whomever that was found out.
    fn tell_bans(&mut self) {
        for (host, until) in self.shared.limits.bans() {
            // What is left is measured anew each time, and may differ by a moment.
            let is_news = self.bans.get(&host).is_none_or(|told| match (told, until) {
                (Some(told), Some(until)) => until.since(*told).max(told.since(until)) >= Duration::from_secs(1),
                (told, until) => told.is_some() != until.is_some(),
            });
            if !is_news {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            let seconds = until.map_or(0.0, |until| until.micros() as f64 / 1e6);
            metrics::gauge!("collector_banned_until_seconds", "venue" => self.shared.name().to_owned(), "host" => host.clone()).set(seconds);
            if let Some(until) = until {
                tracing::warn!(venue = self.shared.name(), host, "nothing is asked of this host until {until}");
            }
            self.shared.problem(&host, until.map(|until| format!("nothing is asked of it until {until}")));
            self.bans.insert(host, until);
        }
    }

    fn tell_health(&mut self) {
        self.tell_bans();
        let now = self.shared.clock.now();
        for (problem, _) in self.fading.extract_if(.., |_, until| *until <= now) {
            self.shared.problem(&problem, None);
        }
        let mut health = self.shared.health();
        for (endpoint, circuit) in &self.circuits {
            let state = circuit.state();
            if health.circuits.get(endpoint) == Some(&state) {
                continue;
            }
            let value = match state {
                State::Closed => 0.0,
                State::HalfOpen => 1.0,
                State::Open(_) => 2.0,
            };
            let labels = [("venue", self.shared.name().to_owned()), ("endpoint", endpoint.clone())];
            metrics::gauge!("collector_circuit_state", &labels).set(value);
            health.circuits.insert(endpoint.clone(), state);
        }
    }
}

/// What was refused within one round of asking, so that nothing less urgent takes what is waited for, and nothing is looked
/// up twice.
#[derive(Default)]
struct Short(BTreeMap<String, (Class, Time)>);

impl Short {
    fn spend(&mut self, limits: &Limits, request: &Request, class: Class) -> Result<(), Time> {
        if let Some((refused, at)) = self.0.get(&request.limit)
            && class.waits_for(*refused)
        {
            return Err(*at);
        }
        limits.spend(request, class).inspect_err(|at| {
            // That its host is shut says nothing of another host's requests for the same limit.
            if limits.banned_until(request).is_none() {
                self.0.insert(request.limit.clone(), (class, *at));
            }
        })
    }
}

/// Whether another poll is there for what this one's answer holds besides: of two sources of one field, one a little
/// behind the other, each answer would contradict the last. (Not so of instruments: whichever answer has news of one.)
fn is_anothers<'p>(event: &Event, own: &Poll, mut others: impl Iterator<Item = (&'p [Market], &'p Poll)>) -> bool {
    let Some(channel) = event.body.channel().filter(|channel| *channel != Channel::Instrument && !own.channels.contains(channel)) else { return false };
    others.any(|(markets, poll)| markets.contains(&event.instrument.market) && poll.channels.contains(&channel))
}

/// The part of a limit that sweeps may spend, and in which time.
fn sweep_slice(budget: u32, window: Duration) -> (u32, Duration) {
    ((budget / SWEEP_SHARE / SWEEP_SLICES).max(1), window / SWEEP_SLICES)
}

/// A number for a name: venues shall not move in step with each other either.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a request's failure is called in the venue's health: one for all instruments of an endpoint.
fn problem_of(request: &Request) -> String {
    format!("{} {}", request.market, request.endpoint)
}

#[cfg(test)]
mod tests {
    use exchange_core::event::{Funding, Mark};

    use exchange_core::Body;

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

    #[test]
    fn what_is_wanted_more_often_is_due_earlier() {
        let request = Request {
            endpoint: "all".into(),
            market: Market::Linear,
            method: exchange_core::profile::Method::Get,
            target: "/all".into(),
            body: None,
            limit: "ip".into(),
            cost: 1,
            instrument: None,
        };
        let poll = |channel, every| Poll { request: request.clone(), channels: vec![channel], every, sweep: false, memo: false };
        let minute = Duration::from_mins(1);
        let mut scheduled = Scheduled {
            poll: poll(Channel::Instrument, Some(minute)),
            markets: vec![Market::Linear],
            memo: None,
            due: Time::EPOCH + minute,
            running: 0,
            attempts: 0,
            pauses: BackOff::new(RETRY.0, RETRY.1, 1, Instant::now().into_std()),
            done: true,
            dropped: false,
        };
        let (now, interval) = (Time::EPOCH + Duration::from_secs(1), Duration::from_secs(5));
        scheduled.join(poll(Channel::Ticker, None), now, interval);
        assert_eq!((scheduled.due, scheduled.poll.every), (now + interval, None));
        scheduled.due = now;
        scheduled.join(poll(Channel::Mark, Some(minute)), now, interval);
        assert_eq!((scheduled.due, scheduled.poll.every, scheduled.poll.channels.len()), (now, None, 3), "never later");
        (scheduled.due, scheduled.attempts) = (Time::EPOCH + minute, 1);
        scheduled.join(poll(Channel::Mark, None), now, interval);
        assert_eq!(scheduled.due, Time::EPOCH + minute, "what was refused waits as long as it has to");
    }
}
