//! Whether each subscription of a connection is alive, without a clock or a socket.
//!
//! A socket may be open and dead, a topic acknowledged and never sent. For each channel and instrument of a connection,
//! this knows how often something comes: as the venue's description says (`cadence`), else as it learns. What is silent for
//! twice that is looked at. Where the description promised a cadence, it is stale. Where it did not, a quiet market is no dead
//! stream, and the venue's REST answer decides: it knows a trade that the stream never told, or its book changed between two
//! answers while the stream said nothing.

mod evidence;

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

pub use self::evidence::Evidence;
use crate::event::{CHANNELS, Channel, Event};
use crate::instrument::Instrument;
use crate::time::Time;

/// How often something is expected where nothing is known.
const UNKNOWN: Duration = Duration::from_secs(30);
/// No cadence that is learned counts as shorter: streams come in bursts.
const SHORTEST: Duration = Duration::from_secs(3);
/// A quiet subscription is asked about less and less often, but not less often than this.
const RAREST: Duration = Duration::from_hours(1);
/// Intervals after which a cadence counts as learned.
const LEARNED: u32 = 8;
/// What the venue tells by REST may be on its way on the stream: so much patience before that counts.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// An answer that does not come by then is given up.
const UNANSWERED: Duration = Duration::from_mins(1);
/// The venue's clock and ours may differ by so much.
const SKEW: Duration = Duration::from_secs(5);
/// How often one subscription is begun anew before the connection is.
const HEALS: u32 = 3;
/// How many are asked about at once, one more with each look: they share the venue's budget with everything else.
const ASKED_AT_ONCE: usize = 4;

/// What is to be done about a silent subscription.
#[derive(Debug, Clone, PartialEq)]
pub enum Finding {
    /// The venue is to be asked by REST.
    Ask(Channel, Arc<Instrument>),
    /// It is stale: this topic is to be begun anew.
    Stale {
        /// The topic's place in the session.
        topic: usize,
        /// What is missed.
        channel: Channel,
        /// Of which instrument; all of the topic's, without one.
        instrument: Option<Arc<Instrument>>,
        /// When the last of it came.
        since: Time,
    },
    /// Beginning it anew did not help: the connection is to be.
    Reconnect,
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum State {
    /// Not subscribed to yet.
    Idle,
    /// Something comes as often as it should.
    Fine,
    /// Silent; nobody is asked before then.
    Quiet(Time),
    /// Silent; the venue was asked at that time.
    Asked(Time),
    /// Silent, though the venue knows more: that may be on its way until then.
    Suspect(Time),
    /// Begun anew; it has until then to speak.
    Healing(Time),
}

#[derive(Debug)]
struct Entry {
    topic: usize,
    channel: Channel,
    instrument: Option<Arc<Instrument>>,
    /// How often the venue promises something.
    promised: Option<Duration>,
    state: State,
    last: Time,
    /// The venue's own time of the newest event that is known, or that the stream need not tell.
    newest: Option<Time>,
    /// The last answer's values, as long as the stream is silent.
    print: Option<u128>,
    /// Mean interval and mean deviation from it, in microseconds.
    mean: i64,
    deviation: i64,
    intervals: u32,
    pause: Duration,
    heals: u32,
}

/// The subscriptions of one connection.
#[derive(Debug, Default)]
pub struct Liveness {
    entries: Vec<Entry>,
    /// Entries by channel and the venue's symbol; symbols of two markets on one connection share an entry.
    places: [HashMap<Box<str>, usize, foldhash::fast::RandomState>; CHANNELS],
    /// Entries of topics for all instruments, by channel.
    all: [Option<usize>; CHANNELS],
    next: Time,
    period: Duration,
    /// When anything came last.
    last: Time,
    /// How often something comes of a channel's instruments, where that is known: what to expect of the others.
    typical: [Option<Duration>; CHANNELS],
    stale: usize,
}

#[expect(clippy::indexing_slicing, reason = "one slot a channel")]
impl Liveness {
    /// Nothing to watch.
    pub fn new() -> Self {
        Self { period: Duration::from_secs(1), next: Time::MAX, ..Self::default() }
    }

    /// Watches a channel of a topic. `askable` says whether REST can tell a quiet market from a dead stream.
    pub fn watch(&mut self, topic: usize, channel: Channel, instrument: Option<Arc<Instrument>>, promised: Option<Duration>, askable: bool) {
        if promised.is_none() && !askable {
            return;
        }
        let place = self.entries.len();
        match &instrument {
            Some(instrument) => drop(self.places[channel.index()].insert(instrument.venue_symbol.clone(), place)),
            None => self.all[channel.index()] = Some(place),
        }
        if let Some(promised) = promised {
            self.period = self.period.min(promised / 4).max(Duration::from_millis(100));
        }
        self.entries.push(Entry {
            topic,
            channel,
            instrument,
            promised,
            state: State::Idle,
            last: Time::EPOCH,
            newest: None,
            print: None,
            mean: 0,
            deviation: 0,
            intervals: 0,
            pause: Duration::ZERO,
            heals: 0,
        });
    }

    /// A topic's subscription was sent, at `wall` by the wall clock: from now on it is expected to speak.
    pub fn began(&mut self, now: Time, wall: Time, topic: usize) {
        for entry in self.entries.iter_mut().filter(|entry| entry.topic == topic && entry.state == State::Idle) {
            (entry.state, entry.last) = (State::Fine, now);
            // What happens later than that is the stream's to tell.
            entry.newest = entry.newest.max(Some(wall + SKEW));
            self.next = self.next.min(now + self.period);
        }
    }

    /// A topic is not subscribed to any more: it was refused, or nobody wants it.
    pub fn ended(&mut self, topic: usize) {
        self.entries.iter_mut().filter(|entry| entry.topic == topic).for_each(|entry| entry.state = State::Idle);
    }

    /// Takes note of what a frame gave. A frame is of one topic, so neighbours are mostly of one subscription.
    #[inline]
    pub fn heard(&mut self, now: Time, events: &[Event]) {
        let mut before: Option<(usize, *const Instrument)> = None;
        for event in events {
            let Some(channel) = event.body.channel() else { continue };
            self.last = now;
            let at = (channel.index(), Arc::as_ptr(&event.instrument));
            if before.replace(at) == Some(at) && channel != Channel::Trade {
                continue;
            }
            let own = self.places[at.0].get(&*event.instrument.venue_symbol).copied();
            for place in [own, self.all[at.0]].into_iter().flatten() {
                if let Some(entry) = self.entries.get_mut(place) {
                    entry.heard(now, event.time);
                }
            }
        }
    }

    /// When to look again.
    pub fn next(&self) -> Time {
        self.next
    }

    /// Which subscriptions are silent for too long; once for each time that something is to be done.
    pub fn check(&mut self, now: Time) -> Vec<Finding> {
        let mut findings = Vec::new();
        if now < self.next || self.entries.is_empty() {
            return findings;
        }
        self.next = now + self.period;
        self.learn();
        let asked = self.entries.iter().filter(|entry| matches!(entry.state, State::Asked(_))).count();
        let mut may_ask = asked < ASKED_AT_ONCE;
        let active = self.entries.iter().filter(|entry| entry.state != State::Idle).count();
        let mut dead = false;
        for entry in &mut self.entries {
            let expected = entry.cadence(self.typical[entry.channel.index()]);
            let finding = entry.check(now, expected, &mut may_ask);
            // One silent topic among others that speak is healed alone; where nothing speaks, the connection is dead.
            dead |= matches!(finding, Some(Finding::Stale { .. })) && active > 1 && now >= self.last + 2 * expected;
            findings.extend(finding);
        }
        self.stale = self.entries.iter().filter(|entry| matches!(entry.state, State::Healing(_))).count();
        if dead { vec![Finding::Reconnect] } else { findings }
    }

    /// What is typical of each channel.
    fn learn(&mut self) {
        for (channel, typical) in self.typical.iter_mut().enumerate() {
            let known = self.entries.iter().filter(|entry| entry.channel.index() == channel && entry.promised.is_none() && entry.intervals >= LEARNED);
            let (count, sum) = known.fold((0, Duration::ZERO), |(count, sum), entry| (count + 1, sum + entry.cadence(None)));
            *typical = sum.checked_div(count);
        }
    }

    /// The venue's REST answer to [`Finding::Ask`]; none if it could not be had.
    pub fn answered(&mut self, now: Time, channel: Channel, instrument: &Instrument, evidence: Option<Evidence>) {
        let place = self.places[channel.index()].get(&*instrument.venue_symbol).copied();
        let typical = self.typical[channel.index()];
        if let Some(entry) = place.and_then(|place| self.entries.get_mut(place)) {
            entry.answered(now, entry.cadence(typical), evidence);
        }
    }

    /// How many subscriptions are stale now.
    pub fn stale(&self) -> usize {
        self.stale
    }
}

impl Entry {
    #[inline]
    fn heard(&mut self, now: Time, newest: Option<Time>) {
        self.newest = self.newest.max(newest);
        if self.state != State::Fine {
            if self.state == State::Idle {
                return;
            }
            (self.state, self.print, self.pause, self.heals) = (State::Fine, None, Duration::ZERO, 0);
        } else if now > self.last {
            // As for a network's round trips (RFC 6298).
            let interval = now.micros() - self.last.micros();
            if self.intervals == 0 {
                (self.mean, self.deviation) = (interval, interval / 2);
            } else {
                self.deviation += ((interval - self.mean).abs() - self.deviation) / 4;
                self.mean += (interval - self.mean) / 8;
            }
            self.intervals = self.intervals.saturating_add(1);
        }
        self.last = now;
    }

    /// How often something is expected; of what has not spoken often enough, as of others of its kind.
    fn cadence(&self, typical: Option<Duration>) -> Duration {
        if let Some(promised) = self.promised {
            return promised;
        }
        if self.intervals < LEARNED {
            return typical.map_or(UNKNOWN, |typical| (2 * typical).min(UNKNOWN));
        }
        Duration::from_micros(u64::try_from(self.mean + 2 * self.deviation).unwrap_or(0)).clamp(SHORTEST, RAREST)
    }

    fn check(&mut self, now: Time, cadence: Duration, may_ask: &mut bool) -> Option<Finding> {
        match self.state {
            // Half of the time for asking, half for deciding.
            State::Fine if self.promised.is_none() && now >= self.last + cadence => self.ask(now, may_ask),
            State::Fine if now >= self.last + 2 * cadence => Some(self.heal(now, cadence)),
            State::Quiet(until) if now >= until => self.ask(now, may_ask),
            State::Asked(since) if now >= since + UNANSWERED => {
                self.state = State::Quiet(now + cadence);
                None
            }
            State::Suspect(until) if now >= until => Some(self.heal(now, cadence)),
            State::Healing(until) if now >= until && self.promised.is_some() => Some(self.heal(now, cadence)),
            // It was begun anew; whether there was anything to tell since, the venue knows.
            State::Healing(until) if now >= until => self.ask(now, may_ask),
            _ => None,
        }
    }

    fn ask(&mut self, now: Time, may_ask: &mut bool) -> Option<Finding> {
        let instrument = self.instrument.clone()?;
        if !std::mem::take(may_ask) {
            return None;
        }
        self.state = State::Asked(now);
        Some(Finding::Ask(self.channel, instrument))
    }

    fn heal(&mut self, now: Time, cadence: Duration) -> Finding {
        if self.heals >= HEALS {
            self.heals = 0;
            return Finding::Reconnect;
        }
        self.heals += 1;
        self.state = State::Healing(now + (2 * cadence).max(10 * ON_ITS_WAY));
        Finding::Stale { topic: self.topic, channel: self.channel, instrument: self.instrument.clone(), since: self.last }
    }

    fn answered(&mut self, now: Time, cadence: Duration, evidence: Option<Evidence>) {
        if !matches!(self.state, State::Asked(_)) {
            return;
        }
        let Some(evidence) = evidence else {
            self.state = State::Quiet(now + cadence);
            return;
        };
        // Trades from before the subscription prove nothing.
        let knows_more = evidence.newest > self.newest;
        let changed = self.print.is_some() && evidence.print.is_some() && self.print != evidence.print;
        self.print = evidence.print.or(self.print);
        // The same answer is no news a second time.
        self.newest = self.newest.max(evidence.newest);
        if knows_more || changed {
            self.state = State::Suspect(now + ON_ITS_WAY);
            return;
        }
        self.pause = (self.pause * 2).clamp(cadence, RAREST);
        self.state = State::Quiet(now + self.pause);
    }
}

#[cfg(test)]
mod tests;
