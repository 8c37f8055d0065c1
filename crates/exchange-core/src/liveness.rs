//! Whether each subscription of a connection is alive, without a clock or a socket.
//!
//! A socket may be open and dead, a topic acknowledged and never sent. For each channel and instrument of a connection,
//! this knows how often something comes: as the venue's description says (`cadence`), else as it learns. What is silent for
//! twice that is looked at. Where the description promised a cadence, it is stale. Where it did not, a quiet market is no dead
//! stream, and the venue's REST answer decides: it knows a trade that the stream never told, or its book changed between two
//! answers while the stream said nothing.

use std::sync::Arc;
use std::time::Duration;

use hashbrown::HashMap;

use crate::canonical;
use crate::event::{Body, CHANNELS, Channel, Event};
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
/// Levels of a book by which two answers are compared.
const LEVELS: usize = 5;

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

/// What a REST answer says about a channel of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The newest trade's time.
    pub newest: Option<Time>,
    /// Stands for the values, whenever they were asked for.
    pub print: Option<u128>,
}

impl Evidence {
    /// The evidence in an answer's events.
    pub fn of(events: &[Event], channel: Channel, instrument: &Instrument) -> Self {
        let about = |event: &&Event| event.body.channel().is_some_and(|c| c.same_kind(channel)) && event.instrument.venue_symbol == instrument.venue_symbol;
        let mut all = events.iter().filter(about);
        if channel == Channel::Trade {
            let newest = all.filter_map(|event| event.time).max();
            return Self { newest, print: newest.map(|time| time.micros().unsigned_abs().into()) };
        }
        Self { newest: None, print: all.next_back().map(print) }
    }
}

/// Equal for equal values.
fn print(event: &Event) -> u128 {
    let mut event = Event { received: Time::EPOCH, time: None, ..event.clone() };
    match &mut event.body {
        Body::Book(book) => {
            (book.seq, book.prev_seq, book.checksum) = (None, None, None);
            book.bids.truncate(LEVELS);
            book.asks.truncate(LEVELS);
        }
        Body::Quote(quote) => quote.seq = None,
        _ => {}
    }
    u128::from_le_bytes(canonical::id(&event).0)
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
mod tests {
    use super::*;
    use crate::decimal::Decimal;
    use crate::event::{Book, BookKind, Level, Trade};
    use crate::instrument::Market;

    const SECOND: Duration = Duration::from_secs(1);
    const START: Time = Time::from_millis(1_763_640_000_000);

    fn instrument() -> Arc<Instrument> {
        Arc::new(Instrument::named(&"toy".into(), Market::Linear, "A", None))
    }

    fn trade(at: Time) -> Event {
        let trade = Trade { trade_id: None, price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
        Event::new(instrument(), at, Some(at), Body::Trade(trade))
    }

    fn book(price: i64, seq: u64) -> Event {
        let bids = vec![Level { price: price.into(), size: Decimal::ONE }];
        let book = Book { kind: BookKind::Snapshot, bids, asks: Vec::new(), seq: Some(seq.into()), prev_seq: None, checksum: None };
        Event::new(instrument(), START, Some(START + Duration::from_secs(seq)), Body::Book(book))
    }

    fn watching(channel: Channel) -> Liveness {
        let mut liveness = Liveness::new();
        liveness.watch(0, channel, Some(instrument()), None, true);
        liveness.began(START, START, 0);
        liveness
    }

    /// Lets time pass second by second; what was found, and when.
    fn pass(liveness: &mut Liveness, now: &mut Time, seconds: u64, mut rest: impl FnMut(Time) -> Option<Evidence>) -> Vec<(u64, Finding)> {
        let mut all = Vec::new();
        for _ in 0..seconds {
            *now = *now + SECOND;
            for finding in liveness.check(*now) {
                if let Finding::Ask(channel, instrument) = &finding {
                    liveness.answered(*now, *channel, instrument, rest(*now));
                }
                all.push((now.since(START).as_secs(), finding));
            }
        }
        all
    }

    fn stale(found: &[(u64, Finding)]) -> Vec<u64> {
        found.iter().filter(|(_, finding)| matches!(finding, Finding::Stale { .. })).map(|(at, _)| *at).collect()
    }

    #[test]
    fn a_market_that_trades_once_an_hour_is_quiet_and_rarely_asked_about() {
        let mut liveness = watching(Channel::Trade);
        let (mut now, mut last, mut asked) = (START, START, 0);
        for _ in 0..24 {
            let found = pass(&mut liveness, &mut now, 3600, |_| Some(Evidence::of(&[trade(last)], Channel::Trade, &instrument())));
            asked += found.len();
            assert_eq!(stale(&found), [0; 0]);
            last = now;
            liveness.heard(now, &[trade(now)]);
        }
        assert!(asked < 24 * 8, "{asked} requests in a day");
    }

    #[test]
    fn a_dead_stream_of_trades_is_found_within_two_cadences() {
        let mut liveness = watching(Channel::Trade);
        let mut now = START;
        for _ in 0..20 {
            now = now + 5 * SECOND;
            liveness.heard(now, &[trade(now)]);
            assert!(liveness.check(now).is_empty());
        }
        let died = now.since(START).as_secs();
        let found = pass(&mut liveness, &mut now, 60, |now| Some(Evidence::of(&[trade(now)], Channel::Trade, &instrument())));
        let first = stale(&found)[0];
        assert!(first - died <= 2 * 6, "found after {} s", first - died);
        assert_eq!(liveness.stale(), 1);
        liveness.heard(now, &[trade(now)]);
        liveness.check(now + 2 * SECOND);
        assert_eq!(liveness.stale(), 0);
    }

    #[test]
    fn a_stream_that_never_told_what_happened_since_it_began_is_dead() {
        for (after, is_stale) in [(-60, false), (3, false), (15, true)] {
            let mut liveness = watching(Channel::Trade);
            let happened = Time::from_micros(START.micros() + after * 1_000_000);
            let found = pass(&mut liveness, &mut { START }, 60, |_| Some(Evidence::of(&[trade(happened)], Channel::Trade, &instrument())));
            assert_eq!(!stale(&found).is_empty(), is_stale, "a trade {after} s after the beginning: {found:?}");
        }
    }

    #[test]
    fn a_trade_that_is_on_its_way_is_no_alarm() {
        let mut liveness = watching(Channel::Trade);
        let mut now = START;
        let found = pass(&mut liveness, &mut now, 30, |now| Some(Evidence { newest: Some(now), print: Some(1) }));
        assert!(matches!(found[..], [(30, Finding::Ask(..))]), "{found:?}");
        assert!(pass(&mut liveness, &mut now, 1, |_| None).is_empty());
        liveness.heard(now, &[trade(now)]);
        assert!(stale(&pass(&mut liveness, &mut now, 20, |_| None)).is_empty());
    }

    #[test]
    fn a_book_is_stale_if_it_changed_between_two_answers() {
        for (second, expected) in [(1, 0), (2, 1)] {
            let mut liveness = watching(Channel::Book);
            let (mut now, mut asked) = (START, 0);
            let found = pass(&mut liveness, &mut now, 100, |_| {
                asked += 1;
                // The number moves on with other books, too.
                Some(Evidence::of(&[book(if asked == 1 { 1 } else { second }, asked)], Channel::Book, &instrument()))
            });
            assert_eq!(stale(&found).len(), expected, "{found:?}");
        }
    }

    #[test]
    fn what_never_speaks_again_costs_the_connection() {
        let mut liveness = Liveness::new();
        liveness.watch(0, Channel::Quote, None, Some(3 * SECOND), false);
        let mut now = START;
        assert!(pass(&mut liveness, &mut now, 60, |_| None).is_empty(), "not subscribed to yet");
        liveness.began(now, now, 0);
        let began = now.since(START).as_secs();
        let found = pass(&mut liveness, &mut now, 120, |_| None);
        let times: Vec<u64> = stale(&found).into_iter().map(|at| at - began).collect();
        let given_up = found.iter().position(|(_, finding)| *finding == Finding::Reconnect).unwrap();
        assert!(times[0] <= 7 && given_up == 3, "{times:?}");
    }

    #[test]
    fn where_nothing_speaks_the_connection_is_dead() {
        let other = || Arc::new(Instrument::named(&"toy".into(), Market::Linear, "B", None));
        for other_speaks in [true, false] {
            let mut liveness = watching(Channel::Trade);
            liveness.watch(1, Channel::Trade, Some(other()), None, true);
            liveness.began(START, START, 1);
            let mut now = START;
            let mut found = Vec::new();
            for second in 0..60 {
                now = now + SECOND;
                if second < 20 {
                    liveness.heard(now, &[trade(now)]);
                }
                if second < 20 || other_speaks {
                    liveness.heard(now, &[Event { instrument: other(), ..trade(now) }]);
                }
                for finding in liveness.check(now) {
                    if let Finding::Ask(channel, instrument) = &finding {
                        liveness.answered(now, *channel, instrument, Some(Evidence { newest: Some(now), print: None }));
                    }
                    found.push((now.since(START).as_secs(), finding));
                }
            }
            let reconnects = found.iter().filter(|(_, finding)| *finding == Finding::Reconnect).count();
            assert_eq!(reconnects > 0, !other_speaks, "{found:?}");
            let wanted = |finding: &Finding| if other_speaks { matches!(finding, Finding::Stale { .. }) } else { *finding == Finding::Reconnect };
            let first = found.iter().find(|(_, finding)| wanted(finding)).unwrap().0;
            assert!(first <= 20 + 6 + 1, "{first}");
        }
    }

    #[test]
    fn what_never_spoke_is_expected_as_often_as_others_of_its_kind() {
        let other = || Arc::new(Instrument::named(&"toy".into(), Market::Linear, "B", None));
        let mut liveness = watching(Channel::Trade);
        liveness.watch(1, Channel::Trade, Some(other()), None, true);
        liveness.began(START, START, 1);
        let mut now = START;
        let mut first = None;
        while first.is_none() {
            now = now + SECOND;
            liveness.heard(now, &[trade(now)]);
            first = liveness
                .check(now)
                .into_iter()
                .find_map(|finding| if let Finding::Ask(_, of) = finding { Some((now.since(START).as_secs(), of.venue_symbol.to_string())) } else { None });
        }
        assert_eq!(first, Some((u64::from(LEARNED), "B".to_owned())), "as soon as the others are known");
    }

    #[test]
    fn an_answer_that_never_comes_is_given_up() {
        let mut liveness = watching(Channel::Trade);
        let mut asked = 0;
        let mut now = START;
        for _ in 0..400 {
            now = now + SECOND;
            asked += liveness.check(now).len();
        }
        assert!((3..6).contains(&asked), "{asked}");
    }
}
