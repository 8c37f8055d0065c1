//! Whether each subscription of a connection is alive, without a clock or a socket.
//!
//! A socket may be open and dead, a topic acknowledged and never sent. For each channel and instrument of a connection,
//! this knows how often something comes: as the venue's description says (`cadence`), else as it learns. What is silent for
//! twice that is looked at. Where the description promised a cadence, it is stale. Where it did not, a quiet market is no dead
//! stream, and the venue's REST answer decides: it knows a trade that the stream never told, or its book changed between two
//! answers while the stream said nothing.
//!
//! A pause that the venue confirms is how often something comes: what is slow is asked about at its own pace, and ever less often
//! while nothing happens, until anything else of the same instrument moves. A stream may come back by itself before it is
//! asked about: when a pause of trades is over, the venue is asked once what there was in it.

mod doubt;
mod evidence;
mod rhythm;

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use self::doubt::{DOUBTFUL, Doubt, Known};
pub use self::evidence::Evidence;
use self::rhythm::Rhythm;
pub use self::rhythm::Rhythms;
use crate::event::{CHANNELS, Channel, Event};
use crate::instrument::Instrument;
use crate::refill::SKEW;
use crate::time::Time;

/// A quiet subscription is asked about less and less often, but not less often than this.
const RAREST: Duration = Duration::from_hours(1);
/// What the venue tells by REST may be on its way on the stream: so much patience before that counts.
const ON_ITS_WAY: Duration = Duration::from_secs(2);
/// An answer that does not come by then is given up.
const UNANSWERED: Duration = Duration::from_mins(1);
/// How often one subscription is begun anew before the connection is.
const HEALS: u32 = 3;
/// What was begun anew is given so long at least; and if nothing at all came since, the next silent one is not the topic's fault.
const PATIENCE: Duration = Duration::from_secs(20);
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
    /// Whether REST can tell a quiet market from a dead stream.
    askable: bool,
    state: State,
    last: Time,
    /// Until then, nothing was left out that the venue knows of.
    sure: Time,
    /// The venue's own time of the newest event that the stream told, or that it was begun anew for.
    told: Option<Time>,
    /// The venue's own time of the newest event that is known, or that the stream need not tell.
    newest: Option<Time>,
    /// The last answer's values, as long as the stream is silent.
    print: Option<u128>,
    /// The last pause, as long as it is not known whether something was left out in it.
    doubt: Option<Doubt>,
    /// Something was left out since then, which is not told yet.
    left_out: Option<Time>,
    rhythm: Rhythm,
    /// Before the last question; none before the first answer that knew of no more.
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
    /// When a topic was begun anew, and which, if nothing had been heard since the one before.
    anew: Option<(Time, usize)>,
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

    /// Watches a channel of a topic. `askable` says whether REST can tell a quiet market from a dead stream. What is neither
    /// promised nor askable is never found silent; when it was last heard is known.
    pub fn watch(&mut self, topic: usize, channel: Channel, instrument: Option<Arc<Instrument>>, promised: Option<Duration>, askable: bool) {
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
            askable,
            state: State::Idle,
            last: Time::EPOCH,
            sure: Time::EPOCH,
            told: None,
            newest: None,
            print: None,
            doubt: None,
            left_out: None,
            rhythm: Rhythm::default(),
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
            entry.told = entry.newest;
            if entry.is_watched() {
                self.next = self.next.min(now + self.period);
            }
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
                if self.entries.get_mut(place).is_some_and(|entry| entry.heard(now, event.time)) {
                    self.awake(now, &event.instrument.venue_symbol);
                }
            }
        }
    }

    /// A market that was quiet moves again: what is still silent of it is not left alone for as long as if nothing did.
    #[cold]
    fn awake(&mut self, now: Time, symbol: &str) {
        let typical = self.typical;
        let same = |entry: &&mut Entry| entry.instrument.as_ref().is_some_and(|instrument| *instrument.venue_symbol == *symbol);
        for entry in self.entries.iter_mut().filter(same) {
            if let State::Quiet(until) = &mut entry.state {
                *until = (*until).min(now + entry.rhythm.cadence(typical[entry.channel.index()]));
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
        let is_asked = |entry: &&Entry| matches!(entry.state, State::Asked(_)) || entry.doubt.is_some_and(|doubt| doubt.is_asked());
        let asked = self.entries.iter().filter(is_asked).count();
        let mut may_ask = asked < ASKED_AT_ONCE;
        let active = self.entries.iter().filter(|entry| entry.state != State::Idle && entry.is_watched()).count();
        let mut dead = false;
        for entry in &mut self.entries {
            let expected = entry.cadence(self.typical[entry.channel.index()]);
            let finding = entry.check(now, expected, &mut may_ask);
            if matches!(finding, Some(Finding::Stale { .. })) && active > 1 {
                // One silent topic among others that speak is healed alone; where nothing speaks, the connection is dead: for
                // twice as long as this one was expected to, or since another was begun anew, which a quiet market does not heal.
                let anew = self.anew.filter(|(since, _)| self.last < *since);
                dead |= now >= self.last + 2 * expected || anew.is_some_and(|(since, topic)| topic != entry.topic && now >= since + PATIENCE);
                self.anew = anew.or(Some((now, entry.topic)));
            }
            findings.extend(finding);
        }
        self.stale = self.entries.iter().filter(|entry| matches!(entry.state, State::Healing(_))).count();
        if !dead {
            return findings;
        }
        for finding in findings {
            if let Finding::Stale { channel, instrument, since, .. } = finding
                && let Some(entry) = self.place(channel, instrument.as_deref()).and_then(|place| self.entries.get_mut(place))
            {
                // Nobody is told of it alone: it is missed with all the others.
                entry.sure = since;
            }
        }
        vec![Finding::Reconnect]
    }

    /// What is typical of each channel.
    fn learn(&mut self) {
        for (channel, typical) in self.typical.iter_mut().enumerate() {
            let known = self.entries.iter().filter(|entry| entry.channel.index() == channel && entry.promised.is_none() && entry.rhythm.is_learned());
            let (count, sum) = known.fold((0, Duration::ZERO), |(count, sum), entry| (count + 1, sum + entry.cadence(None)));
            *typical = sum.checked_div(count);
        }
    }

    /// The venue's REST answer to [`Finding::Ask`]; none if it could not be had.
    pub fn answered(&mut self, now: Time, channel: Channel, instrument: &Instrument, evidence: Option<Evidence>) {
        let typical = self.typical[channel.index()];
        if let Some(entry) = self.place(channel, Some(instrument)).and_then(|place| self.entries.get_mut(place)) {
            entry.answered(now, entry.cadence(typical), evidence);
        }
    }

    /// Since when something of a channel may have been missed, if it is lost now: since it was last heard, or its topic begun,
    /// or the venue last knew of no more; or since before a pause that is still in doubt. Nothing, if it was never begun.
    pub fn last_heard(&self, channel: Channel, instrument: Option<&Instrument>) -> Option<Time> {
        let entry = self.entries.get(self.place(channel, instrument)?)?;
        let doubted = entry.left_out.or(entry.doubt.map(|doubt| doubt.since));
        (entry.state != State::Idle).then(|| doubted.unwrap_or_else(|| entry.last.max(entry.sure)))
    }

    fn place(&self, channel: Channel, instrument: Option<&Instrument>) -> Option<usize> {
        match instrument {
            Some(instrument) => self.places[channel.index()].get(&*instrument.venue_symbol).copied(),
            None => self.all[channel.index()],
        }
    }

    /// What was learned so far.
    pub fn rhythms(&self) -> Rhythms {
        let mut rhythms = Rhythms::default();
        for entry in &self.entries {
            rhythms.insert(entry.channel, entry.symbol(), entry.rhythm);
        }
        rhythms
    }

    /// What another connection learned of what this one does not know well yet.
    pub fn remember(&mut self, rhythms: &Rhythms) {
        for entry in &mut self.entries {
            if let Some(known) = rhythms.get(entry.channel, entry.symbol()).filter(|known| known.knows_more_than(&entry.rhythm)) {
                entry.rhythm = known;
            }
        }
    }

    /// How many subscriptions are stale now.
    pub fn stale(&self) -> usize {
        self.stale
    }
}

impl Entry {
    /// Whether it had been quiet, as the venue said itself.
    #[inline]
    fn heard(&mut self, now: Time, newest: Option<Time>) -> bool {
        if now >= self.last + DOUBTFUL {
            self.doubt(now, newest);
        }
        self.newest = self.newest.max(newest);
        self.told = self.told.max(newest);
        let (state, was_quiet) = (self.state, self.pause > Duration::ZERO);
        if state != State::Fine {
            if state == State::Idle {
                return false;
            }
            (self.state, self.print, self.pause, self.heals) = (State::Fine, None, Duration::ZERO, 0);
        }
        let is_whole = state == State::Fine || (matches!(state, State::Quiet(_)) && was_quiet);
        // A pause in which something was left out says nothing about how often something happens.
        if is_whole && now > self.last {
            self.rhythm.note(now.micros() - self.last.micros());
        }
        self.last = now;
        is_whole && was_quiet
    }

    /// A pause is over, with a trade of that time.
    #[cold]
    fn doubt(&mut self, now: Time, time: Option<Time>) {
        let since = self.last.max(self.sure);
        if self.askable
            && self.channel == Channel::Trade
            && self.state != State::Idle
            && now >= since + DOUBTFUL
            && let Some(between) = self.told.zip(time).filter(|(from, to)| from < to)
        {
            self.doubt = Some(Doubt::new(now, since, between));
        }
    }

    /// How often something is expected.
    fn cadence(&self, typical: Option<Duration>) -> Duration {
        self.promised.unwrap_or_else(|| self.rhythm.cadence(typical))
    }

    /// The venue's name of its instrument; `*` for all.
    fn symbol(&self) -> &str {
        self.instrument.as_ref().map_or("*", |instrument| &instrument.venue_symbol)
    }

    fn is_watched(&self) -> bool {
        self.promised.is_some() || self.askable
    }

    fn check(&mut self, now: Time, cadence: Duration, may_ask: &mut bool) -> Option<Finding> {
        if !self.is_watched() {
            return None;
        }
        if let Some(since) = self.left_out.take() {
            return Some(Finding::Stale { topic: self.topic, channel: self.channel, instrument: self.instrument.clone(), since });
        }
        if let Some(doubt) = self.doubt.as_mut().filter(|_| *may_ask)
            && doubt.is_due(now)
            && let Some(instrument) = self.instrument.clone()
        {
            doubt.ask(now);
            *may_ask = false;
            return Some(Finding::Ask(self.channel, instrument));
        }
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
        self.state = State::Healing(now + (2 * cadence).max(PATIENCE));
        let since = self.last.max(self.sure);
        // What is known to be missed is not missed a second time.
        (self.told, self.sure) = (self.told.max(self.newest), now);
        Finding::Stale { topic: self.topic, channel: self.channel, instrument: self.instrument.clone(), since }
    }

    fn answered(&mut self, now: Time, cadence: Duration, evidence: Option<Evidence>) {
        if let Some(doubt) = self.doubt.as_mut().filter(|doubt| doubt.is_asked()) {
            let (since, known) = (doubt.since, doubt.answered(evidence));
            self.left_out = (known == Known::LeftOut).then_some(since);
            self.doubt = self.doubt.filter(|_| known == Known::InDoubt);
        }
        let State::Asked(asked) = self.state else { return };
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
        // What else an answer says is compared with the answer before it, not with the stream.
        if evidence.newest.is_some() && evidence.newest <= self.told {
            self.sure = self.sure.max(asked.earlier(ON_ITS_WAY));
        }
        self.pause = (self.pause * 2).clamp(cadence, RAREST);
        self.state = State::Quiet(now + self.pause);
    }
}

#[cfg(test)]
mod tests;
