//! A WebSocket connection's life, without a socket: subscribing in paced frames, acknowledgements and refusals, pings,
//! silence, broken books, topics that come and go, the venue's time limit. One state machine for all venues.
//!
//! The shell tells it what [`Happened`] and carries out what the [`Turn`] asks for; [`Session::wake_at`] says when it
//! wants to be called again though nothing happened. `now` is the shell's steady clock, `received` its wall clock.

mod resyncs;

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use self::resyncs::Resyncs;
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

/// A subscribe frame that was not acknowledged after so long is sent again.
const ACK_TIMEOUT: Duration = Duration::from_secs(15);
/// How often it is sent at most.
const ATTEMPTS: u32 = 3;
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

#[derive(Debug)]
struct Frame {
    op: Op,
    topics: Vec<usize>,
    attempts: u32,
}

/// The state of one connection.
pub struct Session {
    feed: Feed,
    url: String,
    policy: WsPolicy,
    topics: Vec<Topic>,
    /// Topics that are subscribed or shall be; the venue's refusals take some out.
    wanted: Vec<bool>,
    /// Topics that nobody asks for any more.
    retired: HashSet<usize>,
    /// Topics that the venue was asked for last, whether it has answered or not.
    begun: HashSet<usize>,
    /// Frames to be sent when the venue's pace allows.
    outbox: VecDeque<Frame>,
    /// Frames that were sent, by id.
    sent: BTreeMap<u64, (Frame, Time)>,
    next_id: u64,
    pace: Budget,
    next_frame: Option<Time>,
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
    refused: u64,
    healed: u64,
}

impl Session {
    /// A session for a connection to `url` that carries `topics` of one market. Its pauses are drawn by `seed`; `epoch` is
    /// any instant, as for [`BackOff::new`](crate::circuit::BackOff::new).
    pub fn new(venue: Venue, market: Market, url: &str, topics: Vec<Topic>, (seed, epoch): (u64, Instant)) -> Self {
        let policy = venue.profile.ws_of(market);
        let liveness = watched(&venue, market, &topics);
        let pace = Budget::exact(&policy.frames);
        Self {
            feed: Feed::new(venue, market),
            url: url.to_owned(),
            policy,
            wanted: vec![true; topics.len()],
            retired: HashSet::new(),
            begun: HashSet::new(),
            topics,
            outbox: VecDeque::new(),
            sent: BTreeMap::new(),
            next_id: 0,
            pace,
            next_frame: None,
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
            refused: 0,
            healed: 0,
        }
    }

    /// From now on, these are the topics of this connection: what is new among them is subscribed to, what is not among
    /// them is unsubscribed from, and nothing else happens to the others.
    pub fn want(&mut self, now: Time, topics: Vec<Topic>, turn: &mut Turn) {
        let mut places: HashMap<String, usize> = self.topics.iter().enumerate().map(|(at, topic)| (topic.name.clone(), at)).collect();
        let mut begin = Vec::new();
        for topic in topics {
            let place = places.remove(&topic.name);
            let at = place.unwrap_or(self.topics.len());
            if let Some(known) = self.topics.get_mut(at) {
                *known = topic;
            } else {
                watch(&mut self.liveness, self.feed.venue(), self.feed.market(), at, &topic);
                self.topics.push(topic);
                self.wanted.push(false);
            }
            // One that was refused stays refused, unless it was gone meanwhile.
            if place.is_none() || self.retired.remove(&at) {
                if let Some(wanted) = self.wanted.get_mut(at) {
                    *wanted = true;
                }
                begin.push(at);
            }
        }
        let mut end: Vec<usize> = places.into_values().filter(|at| self.retired.insert(*at)).collect();
        end.sort_unstable();
        for &at in &end {
            self.set_aside(at);
            if let Some(instrument) = self.topics.get(at).filter(|topic| topic.channels.contains(&Channel::Book)).and_then(|topic| topic.instrument.as_ref()) {
                self.feed.books_mut().forget(instrument);
            }
        }
        self.enqueue(Op::Unsubscribe, &end);
        self.enqueue(Op::Subscribe, &begin);
        self.tend(now, turn);
    }

    /// The topics that are served, or shall be.
    pub fn topics(&self) -> Vec<Topic> {
        self.topics.iter().zip(&self.wanted).filter(|(_, wanted)| **wanted).map(|(topic, _)| topic.clone()).collect()
    }

    /// How many topics the venue refused.
    pub fn refused(&self) -> u64 {
        self.refused
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
        self.outbox.is_empty() && self.sent.is_empty()
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
        if !self.outbox.is_empty() {
            at = at.min(self.next_frame.unwrap_or(self.opened));
        }
        if let Some(sent) = self.sent.values().map(|(_, time)| *time).min() {
            at = at.min(sent + ACK_TIMEOUT);
        }
        self.resyncs.next().map_or(at, |later| at.min(later))
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
        for (topic, _) in self.topics.iter().zip(&self.wanted).filter(|(_, wanted)| **wanted) {
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
        let all: Vec<usize> = (0..self.topics.len()).filter(|topic| self.wanted.get(*topic) == Some(&true)).collect();
        self.enqueue(Op::Subscribe, &all);
    }

    /// The wall clock, by the steady one.
    fn wall(&self, now: Time) -> Time {
        self.opened_at + now.since(self.opened)
    }

    /// A ping's text or a greeting, its variables filled in.
    fn worded(&self, now: Time, template: &str) -> String {
        self.feed.venue().profile.worded(self.feed.market(), template, self.wall(now))
    }

    fn enqueue(&mut self, op: Op, topics: &[usize]) {
        let stream = |topic: &usize| self.topics.get(*topic).map_or(usize::MAX, |topic| topic.stream);
        for of_one_stream in topics.chunk_by(|a, b| stream(a) == stream(b)) {
            let own = of_one_stream.first().and_then(|topic| self.feed.venue().profile.stream.get(stream(topic))?.topics_per_frame);
            for chunk in of_one_stream.chunks(own.unwrap_or(self.policy.topics_per_frame).max(1)) {
                self.outbox.push_back(Frame { op, topics: chunk.to_vec(), attempts: 0 });
            }
        }
    }

    fn control(&mut self, control: Control) {
        match control {
            Control::Ack { id: Some(id) } => drop(self.sent.remove(&id)),
            // Frames are answered in the order in which they were sent.
            Control::Ack { id: None } => drop(self.sent.pop_first()),
            Control::AckTopic { id, topic } => self.acknowledged(id, &topic),
            Control::AckOnly { id, topics } => self.acknowledged_only(id, &topics),
            Control::Alive => {}
            Control::Closing => self.close = Some(Close::Expected),
            Control::Rejected { id, topic, .. } => self.rejected(id, topic.as_deref()),
        }
    }

    /// The frame of that id, or else the first that names the topic.
    fn frame_of(&self, id: Option<u64>, topic: Option<&str>) -> Option<u64> {
        id.or_else(|| self.sent.iter().find(|(_, (frame, _))| topic.is_none_or(|topic| self.names(frame, topic))).map(|(id, _)| *id))
    }

    /// One topic was accepted; its frame waits for the others.
    fn acknowledged(&mut self, id: Option<u64>, topic: &str) {
        let Some(id) = self.frame_of(id, Some(topic)) else { return };
        let Some((frame, _)) = self.sent.get_mut(&id) else { return };
        frame.topics.retain(|at| self.topics.get(*at).is_none_or(|known| known.name != topic));
        if frame.topics.is_empty() {
            self.sent.remove(&id);
        }
    }

    /// Exactly these topics were accepted: what else the frame asked for was refused without a word.
    fn acknowledged_only(&mut self, id: Option<u64>, topics: &[String]) {
        let id = self.frame_of(id, topics.first().map(String::as_str));
        let Some((frame, _)) = id.and_then(|id| self.sent.remove(&id)) else { return };
        if frame.op == Op::Subscribe {
            let refused = |at: &usize| self.topics.get(*at).is_some_and(|known| !topics.contains(&known.name));
            for topic in frame.topics.iter().copied().filter(refused).collect::<Vec<_>>() {
                self.refuse(topic);
            }
        }
    }

    /// A frame was refused: the topic that was the reason is dropped, the others are asked for again. Where the venue
    /// names none, the halves of the frame are tried until the guilty topic stands alone.
    fn rejected(&mut self, id: Option<u64>, topic: Option<&str>) {
        let Some((frame, _)) = self.frame_of(id, topic).and_then(|id| self.sent.remove(&id)) else { return };
        if frame.op == Op::Unsubscribe {
            return;
        }
        let guilty = frame.topics.iter().position(|at| self.topics.get(*at).is_some_and(|known| topic == Some(known.name.as_str())));
        match (guilty, frame.topics.as_slice()) {
            (Some(at), topics) => {
                let rest: Vec<usize> = topics.iter().enumerate().filter(|(other, _)| *other != at).map(|(_, topic)| *topic).collect();
                // A frame that was sent again is refused because the first one had arrived: its topics are served.
                if let Some(topic) = topics.get(at).filter(|_| frame.attempts == 0) {
                    self.refuse(*topic);
                }
                self.enqueue(Op::Subscribe, &rest);
            }
            (None, [one]) => self.refuse(*one),
            (None, topics) => {
                let (left, right) = topics.split_at(topics.len() / 2);
                let (left, right) = (left.to_vec(), right.to_vec());
                self.enqueue(Op::Subscribe, &left);
                self.enqueue(Op::Subscribe, &right);
            }
        }
    }

    fn names(&self, frame: &Frame, topic: &str) -> bool {
        frame.topics.iter().any(|at| self.topics.get(*at).is_some_and(|known| known.name == topic))
    }

    fn refuse(&mut self, topic: usize) {
        self.begun.remove(&topic);
        self.refused += 1;
        self.set_aside(topic);
    }

    /// Nothing is expected of a topic any more.
    fn set_aside(&mut self, topic: usize) {
        if let Some(wanted) = self.wanted.get_mut(topic) {
            *wanted = false;
        }
        self.liveness.ended(topic);
    }

    /// Whether the book of an instrument is carried.
    fn carries_book(&self, topic: usize, instrument: &Instrument) -> bool {
        let carries =
            |topic: &Topic| topic.channels.contains(&Channel::Book) && topic.instrument.as_ref().is_none_or(|i| i.venue_symbol == instrument.venue_symbol);
        self.wanted.get(topic) == Some(&true) && self.topics.get(topic).is_some_and(carries)
    }

    /// Subscribes to a topic anew, ahead of what else waits.
    fn begin_anew(&mut self, topic: usize) {
        self.outbox.push_front(Frame { op: Op::Subscribe, topics: vec![topic], attempts: 0 });
        self.outbox.push_front(Frame { op: Op::Unsubscribe, topics: vec![topic], attempts: 0 });
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
                    // Behind the topics that were not asked for yet.
                    for op in [Op::Unsubscribe, Op::Subscribe] {
                        self.outbox.push_back(Frame { op, topics: vec![topic], attempts: 0 });
                    }
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
        let Some(topic) = (0..self.topics.len()).find(|at| self.carries_book(*at, instrument)) else { return };
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
        self.begin_anew(topic);
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
        let late: Vec<u64> = self.sent.iter().filter(|(_, (_, time))| now >= *time + ACK_TIMEOUT).map(|(id, _)| *id).collect();
        for id in late {
            if let Some((mut frame, _)) = self.sent.remove(&id) {
                frame.attempts += 1;
                // To unsubscribe again would end the subscription that has begun since.
                if frame.op == Op::Subscribe && frame.attempts < ATTEMPTS {
                    self.outbox.push_back(frame);
                }
            }
        }
        while let Some(frame) = self.outbox.front_mut() {
            // What was retired while its frame waited is not begun, and what was never begun needs no end.
            frame.topics.retain(|at| if frame.op == Op::Subscribe { self.wanted.get(*at) == Some(&true) } else { self.begun.contains(at) });
            if frame.topics.is_empty() {
                self.outbox.pop_front();
                continue;
            }
            if let Err(at) = self.pace.spend(now, 1) {
                self.next_frame = Some(at);
                break;
            }
            self.next_id += 1;
            let topics: Vec<&Topic> = frame.topics.iter().filter_map(|at| self.topics.get(*at)).collect();
            turn.send.push(self.feed.venue().exchange.subscribe(frame.op, &topics, self.next_id, self.wall(now)));
            let wall = self.wall(now);
            if let Some(frame) = self.outbox.pop_front() {
                for topic in &frame.topics {
                    if frame.op == Op::Subscribe {
                        self.liveness.began(now, wall, *topic);
                        self.begun.insert(*topic);
                    } else {
                        self.begun.remove(topic);
                    }
                }
                self.sent.insert(self.next_id, (frame, now));
            }
        }
    }
}

/// When another connection is to take over.
fn relief(life: Duration) -> Duration {
    life.saturating_sub(life.mul_f64(RELIEF.0).max(RELIEF.1)).max(life / 2)
}

/// What there is to watch of a connection's topics.
fn watched(venue: &Venue, market: Market, topics: &[Topic]) -> Liveness {
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
