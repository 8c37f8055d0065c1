//! A WebSocket connection's life, without a socket: subscribing in paced frames, acknowledgements and refusals, pings,
//! silence, broken books, topics that come and go, the venue's time limit. One state machine for all venues.
//!
//! The shell tells it what [`Happened`] and carries out what the [`Turn`] asks for; [`Session::wake_at`] says when it
//! wants to be called again though nothing happened. `now` is the shell's steady clock, `received` its wall clock.

mod resyncs;
mod subscriptions;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::resyncs::Resyncs;
use self::subscriptions::Subscriptions;
use crate::book::Books;
use crate::budget::Budget;
use crate::event::{Body, Channel, Event, Ident};
use crate::exchange::{Control, Op};
use crate::feed::{Feed, Query, Turn, Venue};
use crate::instrument::{Instrument, Market};
use crate::liveness::{Evidence, Finding, Liveness, Rhythms};
use crate::plan::{Range, Topic, request, request_range};
use crate::profile::{Endpoint, Profile, SnapshotFrom, WsPolicy};
use crate::time::Time;

/// Connections end at this share of the venue's limit, so that the venue never ends them by surprise.
const LIFE_SHARE: f64 = 0.95;
/// Another one is to take over so long before the limit: a part of it, but time enough to open one.
const RELIEF: (f64, Duration) = (0.1, Duration::from_mins(1));
/// So long both carry the same topics: what is on its way on one has come on the other.
const OVERLAP: Duration = Duration::from_secs(2);
/// So many book events are held back at most while another connection carries the books.
const HELD: usize = 1 << 16;

/// What the shell tells.
#[derive(Debug, Clone, Copy)]
pub enum Happened<'a> {
    /// The socket is open.
    Opened {
        /// Since when, by the wall clock: what frames say to venues that want to know.
        received: Time,
    },
    /// A text or binary frame.
    Frame {
        /// When it arrived, by the wall clock: what its events say.
        received: Time,
        /// Its bytes.
        payload: &'a [u8],
    },
    /// Something that is no data: a protocol ping or pong.
    Pulse,
    /// Nothing; the time that [`Session::wake_at`] named has come.
    Woken,
}

/// Why a session wants its connection closed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// Nothing at all arrived for too long.
    Silent,
    /// Subscriptions stayed silent though the venue has something to tell, and beginning them anew did not help.
    Stale,
    /// The venue said that it is about to close, or soon would by its time limit.
    Expected,
}

/// What became of a request that a session wanted made.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Answer {
    /// It was answered.
    Given {
        /// The sequence number of the book in the answer.
        seq: Option<u64>,
        /// What the answer says about the stream.
        evidence: Evidence,
    },
    /// The venue refused it for good.
    Refused,
    /// It failed, and may be made again.
    Failed,
}

impl Answer {
    /// What an answer's events say about a channel of an instrument.
    pub fn given(events: &[Event], channel: Channel, instrument: &Instrument) -> Self {
        let seq = events.iter().find_map(|event| if let Body::Book(book) = &event.body { book.seq.as_ref().and_then(Ident::as_number) } else { None });
        Self::Given { seq, evidence: Evidence::of(events, channel, instrument) }
    }
}

/// The state of one connection.
pub struct Session {
    feed: Feed,
    url: String,
    policy: WsPolicy,
    subscriptions: Subscriptions,
    /// Of all frames, pings included.
    pace: Budget,
    opened: Time,
    /// The wall clock at that time.
    opened_at: Time,
    last_frame: Time,
    last_received: Option<Time>,
    next_ping: Time,
    close: Option<Close>,
    resyncs: Resyncs,
    liveness: Liveness,
    /// Book events that wait until another connection, which carries the same books, has ended.
    held: Option<Vec<Event>>,
    /// Whether it carried its topics beside the other one for long enough.
    overlapped: bool,
    relief_due: bool,
    /// Topics that were begun anew because nothing came of them.
    healed: u64,
}

impl Session {
    /// A session for a connection to `url` that carries `topics` of one market. Its pauses are drawn by `seed`; `epoch` is
    /// any instant, as for [`BackOff::new`](crate::circuit::BackOff::new).
    pub fn new(venue: Venue, market: Market, url: &str, topics: Vec<Arc<Topic>>, (seed, epoch): (u64, Instant)) -> Self {
        let policy = venue.profile.ws_of(market);
        let liveness = watched(&venue, market, &topics);
        let pace = Budget::exact(&policy.frames);
        Self {
            subscriptions: Subscriptions::new(venue.profile.clone(), market, topics),
            feed: Feed::new(venue, market),
            url: url.to_owned(),
            policy,
            pace,
            opened: Time::EPOCH,
            opened_at: Time::EPOCH,
            last_frame: Time::EPOCH,
            last_received: None,
            next_ping: Time::MAX,
            close: None,
            resyncs: Resyncs::new(seed, epoch),
            liveness,
            held: None,
            overlapped: false,
            relief_due: false,
            healed: 0,
        }
    }

    /// From now on, these are the topics of this connection: what is new among them is subscribed to, what is not among
    /// them is unsubscribed from, and nothing else happens to the others.
    pub fn want(&mut self, now: Time, topics: Vec<Arc<Topic>>, turn: &mut Turn) {
        let change = self.subscriptions.want(topics);
        for at in change.new {
            if let Some(topic) = self.subscriptions.topic(at) {
                watch(&mut self.liveness, self.feed.venue(), self.feed.market(), at, topic);
            }
        }
        for at in change.end {
            self.liveness.ended(at);
            let topic = self.subscriptions.topic(at).filter(|topic| topic.channels.contains(&Channel::Book));
            if let Some(instrument) = topic.and_then(|topic| topic.instrument.as_ref()) {
                self.feed.books_mut().forget(instrument);
            }
        }
        self.tend(now, turn);
    }

    /// The topics that are served, or shall be.
    pub fn topics(&self) -> Vec<Arc<Topic>> {
        self.subscriptions.wanted().cloned().collect()
    }

    /// How many topics the venue refused.
    pub fn refused(&self) -> u64 {
        self.subscriptions.refused()
    }

    /// How many topics were begun anew because nothing came of them.
    pub fn healed(&self) -> u64 {
        self.healed
    }

    /// How many subscriptions are silent though they should not be.
    pub fn stale(&self) -> usize {
        self.liveness.stale()
    }

    /// How often its streams spoke, as far as that was learned.
    pub fn rhythms(&self) -> Rhythms {
        self.liveness.rhythms()
    }

    /// How often its streams spoke on the connection before.
    pub fn remember(&mut self, rhythms: &Rhythms) {
        self.liveness.remember(rhythms);
    }

    /// Whether the connection comes near the venue's time limit: time for another one to take over.
    pub fn wants_relief(&self) -> bool {
        self.relief_due
    }

    /// This connection relieves another one: until [`Session::take_over`], both carry the same topics.
    pub fn relieve(&mut self) {
        self.feed.books_mut().wait();
        self.held = Some(Vec::new());
    }

    /// Whether every topic is served or refused.
    pub fn is_served(&self) -> bool {
        self.subscriptions.is_served()
    }

    /// Whether every topic is served or refused, and was so for long enough that the other connection can end.
    pub fn can_take_over(&self) -> bool {
        self.is_served() && self.overlapped
    }

    /// The connection that this one relieves has ended. What it had not told of the books is told now.
    pub fn take_over(&mut self, now: Time, before: Option<&Self>, turn: &mut Turn) {
        if let Some(before) = before {
            self.liveness.remember(&before.liveness.rhythms());
        }
        let Some(mut held) = self.held.take() else { return };
        let nothing = Books::default();
        let anew = self.feed.books_mut().take_over(before.map_or(&nothing, |before| before.feed.books()), &mut held);
        turn.events.append(&mut held);
        for instrument in anew {
            self.resync(now, &instrument, turn);
        }
    }

    /// Whether the connection should be closed, and why.
    pub fn close(&self) -> Option<Close> {
        self.close
    }

    /// When the session wants to be called though nothing happened.
    pub fn wake_at(&self) -> Time {
        let ws = &self.policy;
        let mut at = (self.last_frame + ws.silence).min(self.liveness.next());
        if self.held.is_some() && !self.overlapped {
            at = at.min(self.opened + OVERLAP);
        }
        if ws.ping.is_some() {
            at = at.min(self.next_ping);
        }
        if let Some(life) = ws.life {
            let relief = self.opened + relief(life);
            at = at.min(if self.relief_due { self.opened + life.mul_f64(LIFE_SHARE) } else { relief });
        }
        self.subscriptions.wake_at(self.opened).into_iter().chain(self.resyncs.next()).fold(at, Time::min)
    }

    /// Takes note of what happened; what is to be done about it is in `turn`.
    #[inline]
    pub fn handle(&mut self, now: Time, happened: Happened<'_>, turn: &mut Turn) {
        match happened {
            Happened::Opened { received } => self.opened(now, received, turn),
            Happened::Frame { received, payload } => {
                self.last_frame = now;
                self.last_received = Some(received);
                let start = turn.events.len();
                self.feed.frame(received, &self.url, payload, turn);
                self.liveness.heard(now, turn.events.get(start..).unwrap_or_default());
                if self.held.is_some() {
                    self.hold(start, turn);
                }
                if turn.controls.is_empty() && turn.resync.is_empty() {
                    return;
                }
                for control in std::mem::take(&mut turn.controls) {
                    self.control(control);
                }
                for instrument in std::mem::take(&mut turn.resync) {
                    self.resync(now, &instrument, turn);
                }
            }
            Happened::Pulse => self.last_frame = now,
            Happened::Woken => {}
        }
        self.tend(now, turn);
    }

    /// Holds back the book events of a frame.
    #[cold]
    fn hold(&mut self, start: usize, turn: &mut Turn) {
        let Some(held) = &mut self.held else { return };
        held.extend(turn.events.extract_if(start.., |event| matches!(event.body, Body::Book(_))));
        if held.len() > HELD {
            // The other connection has not ended for very long: repeats are harmless, memory is not.
            turn.events.extend(self.held.take().into_iter().flatten());
        }
    }

    /// What [`Turn::ask`] asked for was answered, and a snapshot's events were passed on; or there is no answer.
    pub fn answered(&mut self, now: Time, channel: Channel, instrument: &Arc<Instrument>, is_snapshot: bool, answer: Answer) {
        if is_snapshot {
            match answer {
                // One that is older than what the stream began with does not join it: another is asked for.
                Answer::Given { seq: Some(seq), .. } if self.feed.books().joins(instrument, seq) => self.resyncs.succeeded(instrument),
                Answer::Given { .. } | Answer::Failed => self.resyncs.failed(now, instrument),
                Answer::Refused => {}
            }
        }
        let evidence = if let Answer::Given { evidence, .. } = answer { Some(evidence) } else { None };
        self.liveness.answered(now, channel, instrument, evidence);
    }

    /// The connection was lost at `received` (by the wall clock): one gap for each channel and instrument that it
    /// carried, from where that was last heard of; none if it never carried anything.
    pub fn lost(&self, received: Time, events: &mut Vec<Event>) {
        let Some(last) = self.last_received else { return };
        let all = self.all();
        let mut told = HashSet::new();
        for topic in self.subscriptions.wanted() {
            let instrument = topic.instrument.as_ref().unwrap_or(&all);
            for channel in &topic.channels {
                if !told.insert((*channel, instrument.market, instrument.venue_symbol.clone())) {
                    continue;
                }
                let heard = self.liveness.last_heard(*channel, topic.instrument.as_deref()).map_or(last, |heard| self.wall(heard));
                events.push(Event::disconnected(instrument.clone(), *channel, last.min(heard), received));
            }
        }
    }

    fn opened(&mut self, now: Time, received: Time, turn: &mut Turn) {
        (self.opened, self.opened_at, self.last_frame) = (now, received, now);
        if let Some(ping) = &self.policy.ping {
            self.next_ping = now + ping.every;
        }
        for frame in &self.policy.hello {
            // What begins a connection is not held back: its budget is fresh.
            let _spent = self.pace.spend(now, 1);
            turn.send.push(self.worded(now, frame));
        }
        self.subscriptions.begin();
    }

    /// The wall clock, by the steady one.
    fn wall(&self, now: Time) -> Time {
        self.opened_at + now.since(self.opened)
    }

    /// A ping's text or a greeting, its variables filled in.
    fn worded(&self, now: Time, template: &str) -> String {
        self.feed.venue().profile.worded(self.feed.market(), template, self.wall(now))
    }

    fn control(&mut self, control: Control) {
        if matches!(control, Control::Closing) {
            self.close = Some(Close::Expected);
        }
        for topic in self.subscriptions.control(control) {
            self.liveness.ended(topic);
        }
    }

    /// Looks for silent subscriptions: asks the venue about them, begins them anew, and tells what was missed.
    fn look_for_silence(&mut self, now: Time, turn: &mut Turn) {
        for finding in self.liveness.check(now) {
            match finding {
                Finding::Ask(channel, instrument) => {
                    let venue = self.feed.venue();
                    match probe(&venue.profile, self.feed.market(), channel) {
                        Some(endpoint) => {
                            let market = self.feed.market();
                            // The newest will do.
                            let newest = Range { limit: Some(5), ..Range::default() };
                            let request = request_range(&venue.profile, endpoint, market, channel, &instrument, &newest);
                            turn.ask.push(Query { channel, request, is_snapshot: false });
                        }
                        None => self.liveness.answered(now, channel, &instrument, None),
                    }
                }
                Finding::Stale { topic, channel, instrument, since } => {
                    self.healed += 1;
                    self.subscriptions.begin_anew_in_turn(topic);
                    let instrument = instrument.unwrap_or_else(|| self.all());
                    turn.events.push(Event::disconnected(instrument, channel, self.wall(since), self.wall(now)));
                }
                Finding::Reconnect => self.close = Some(Close::Stale),
            }
        }
    }

    /// All instruments of the market.
    fn all(&self) -> Arc<Instrument> {
        Arc::new(Instrument::all(self.feed.venue().catalog.venue(), self.feed.market()))
    }

    /// Makes a book begin anew.
    fn resync(&mut self, now: Time, instrument: &Arc<Instrument>, turn: &mut Turn) {
        // What is still on its way of a book that nobody wants any more begins nothing.
        let Some(topic) = self.subscriptions.book_of(instrument) else { return };
        if !self.resyncs.begin(now, instrument) {
            return;
        }
        let venue = self.feed.venue();
        if venue.profile.book.snapshot == SnapshotFrom::Rest {
            let market = self.feed.market();
            if let Some(endpoint) = venue.profile.endpoint.iter().find(|e| e.per_instrument() && e.serves(market, Channel::Book)) {
                let request = request(&venue.profile, endpoint, market, Channel::Book, Some(instrument));
                turn.ask.push(Query { channel: Channel::Book, request, is_snapshot: true });
            }
            return;
        }
        // The book is of no use until then.
        self.subscriptions.begin_anew_at_once(topic);
    }

    /// What is due: pings, frames, deadlines.
    fn tend(&mut self, now: Time, turn: &mut Turn) {
        let ws = &self.policy;
        if now >= self.last_frame + ws.silence {
            self.close = Some(Close::Silent);
        }
        self.overlapped = now >= self.opened + OVERLAP;
        if let Some(life) = ws.life {
            self.relief_due = now >= self.opened + relief(life);
            if now >= self.opened + life.mul_f64(LIFE_SHARE) {
                self.close = Some(Close::Expected);
            }
        }
        if let Some(ping) = &ws.ping
            && now >= self.next_ping
        {
            if let Err(at) = self.pace.spend(now, 1) {
                self.next_ping = at;
            } else {
                self.next_ping = now + ping.every;
                // Without a text, the shell sends a protocol ping for an empty frame.
                turn.send.push(ping.text.as_ref().map(|text| self.worded(now, text)).unwrap_or_default());
            }
        }
        self.look_for_silence(now, turn);
        for instrument in self.resyncs.due(now) {
            self.resync(now, &instrument, turn);
        }
        self.subscriptions.repeat_late(now);
        self.subscribe(now, turn);
    }

    /// Sends what waits to be asked for, as far as the venue's pace allows.
    fn subscribe(&mut self, now: Time, turn: &mut Turn) {
        let wall = self.wall(now);
        while let Some((id, op, places)) = self.subscriptions.next_frame(now, &mut self.pace) {
            let topics: Vec<&Topic> = places.iter().filter_map(|at| self.subscriptions.topic(*at).map(Arc::as_ref)).collect();
            turn.send.push(self.feed.venue().exchange.subscribe(op, &topics, id, wall));
            if op == Op::Subscribe {
                for at in places {
                    self.liveness.began(now, wall, at);
                }
            }
        }
    }
}

/// When another connection is to take over.
fn relief(life: Duration) -> Duration {
    life.saturating_sub(life.mul_f64(RELIEF.0).max(RELIEF.1)).max(life / 2)
}

/// What there is to watch of a connection's topics.
fn watched(venue: &Venue, market: Market, topics: &[Arc<Topic>]) -> Liveness {
    let mut liveness = Liveness::new();
    for (at, topic) in topics.iter().enumerate() {
        watch(&mut liveness, venue, market, at, topic);
    }
    liveness
}

fn watch(liveness: &mut Liveness, venue: &Venue, market: Market, at: usize, topic: &Topic) {
    let promised = venue.profile.stream.get(topic.stream).and_then(|stream| stream.cadence);
    for &channel in &topic.channels {
        let askable = topic.instrument.is_some() && probe(&venue.profile, market, channel).is_some();
        liveness.watch(at, channel, topic.instrument.clone(), promised, askable);
    }
}

/// The endpoint whose answer tells a quiet channel from a dead one: one instrument's, since a list of thousands is no price for
/// a question about one of them. What only happens now and then cannot be told by it.
fn probe(profile: &Profile, market: Market, channel: Channel) -> Option<&Endpoint> {
    if matches!(channel, Channel::Liquidation | Channel::FundingSettled | Channel::Candle(_) | Channel::Instrument) {
        return None;
    }
    profile.endpoint.iter().find(|e| e.serves(market, channel) && e.per_instrument() && !e.history && !e.follow && !e.also)
}

#[cfg(test)]
mod tests;
