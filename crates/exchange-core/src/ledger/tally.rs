//! Counting where things happen, as cheaply as possible: by places in tables instead of names.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{DECODE_ERROR, Entry, GAP, Hour, KINDS, Key, Kind, REFILL, ROOM, name_of};
use crate::event::{Body, Channel, Event, Origin};
use crate::instrument::{Instrument, Market};
use crate::time::Time;

/// What is still to come of an event that was decoded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Fate {
    NotAsked,
    Unchanged,
    Duplicate,
    Passed,
}

/// A row's counts of the running hour, in half a cache line.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Tally {
    arrived: u32,
    passed_over: u32,
    fates: [u32; 4],
    gaps: u32,
    refilled: u32,
}

/// Where an instrument's tally of one kind is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Mark(u32);

impl Mark {
    /// The same instrument's tally of another kind.
    #[inline]
    pub(crate) fn of(self, kind: Kind) -> Self {
        Self(self.0 / ROOM * ROOM + u32::from(kind.0))
    }
}

/// One venue's tallies. Whoever looks up an instrument for other reasons keeps its [`Mark`], so that counting is an
/// index into a table.
#[derive(Debug, Default)]
pub(crate) struct Tallies {
    venue: Arc<str>,
    hour: Hour,
    names: Vec<(Market, Arc<str>)>,
    /// [`ROOM`] for each name.
    table: Vec<Tally>,
    /// Those that are not zero.
    touched: Vec<u32>,
    /// For each market, what stands for no single instrument.
    all: [Option<Mark>; 4],
    closed: Vec<(Key, Entry)>,
}

#[expect(clippy::indexing_slicing, reason = "one slot a market, one a fate; a mark is a place in the table")]
impl Tallies {
    pub(crate) fn new(venue: Arc<str>) -> Self {
        Self { venue, ..Self::default() }
    }

    /// How many instruments have a place.
    pub(crate) fn len(&self) -> usize {
        self.names.len()
    }

    /// A place for an instrument.
    pub(crate) fn add(&mut self, instrument: &Instrument) -> Mark {
        self.add_name(instrument.market, name_of(instrument))
    }

    fn add_name(&mut self, market: Market, name: &str) -> Mark {
        let mark = u32::try_from(self.table.len()).unwrap_or(0);
        self.names.push((market, name.into()));
        self.table.resize(self.table.len() + ROOM as usize, Tally::default());
        Mark(mark)
    }

    /// Gives up all places; no mark is valid any more.
    pub(crate) fn clear(&mut self) {
        self.close();
        self.names.clear();
        self.table.clear();
        self.all = [None; 4];
    }

    /// From here on, counts are of the hour of `received`.
    #[inline]
    fn at(&mut self, received: Time) {
        if !self.hour.contains(received) {
            self.close();
            self.hour = Hour::of(received);
        }
    }

    #[inline]
    fn tally(&mut self, mark: Mark) -> &mut Tally {
        let tally = &mut self.table[mark.0 as usize];
        if *tally == Tally::default() {
            self.touched.push(mark.0);
        }
        tally
    }

    /// A record has become an event, or the collector has made one.
    #[inline]
    pub(crate) fn arrived(&mut self, mark: Mark, received: Time) {
        self.at(received);
        self.tally(mark).arrived += 1;
    }

    /// What became of an event.
    #[inline]
    pub(crate) fn fate(&mut self, mark: Mark, received: Time, fate: Fate) {
        self.at(received);
        self.tally(mark).fates[fate as usize] += 1;
    }

    /// What an event that was passed on says besides.
    #[inline]
    pub(crate) fn passed(&mut self, mark: Mark, event: &Event) {
        self.fate(mark, event.received, Fate::Passed);
        if let Body::Gap(gap) = &event.body {
            self.tally(mark.of(Kind::channel(gap.channel))).gaps += 1;
        }
        if event.origin == Some(Origin::Refill) {
            self.tally(mark).refilled += 1;
        }
    }

    /// Records of a channel that were passed over.
    pub(crate) fn passed_over(&mut self, market: Market, channel: Channel, received: Time, records: u64) {
        self.at(received);
        let known = self.all[market.index()];
        let all = known.unwrap_or_else(|| self.add_name(market, "*"));
        self.all[market.index()] = Some(all);
        let tally = self.tally(all.of(Kind::channel(channel)));
        tally.passed_over = tally.passed_over.saturating_add(u32::try_from(records).unwrap_or(u32::MAX));
    }

    /// Ends the running hour's rows.
    fn close(&mut self) {
        for at in self.touched.drain(..) {
            let (Some(tally), Some((market, name))) = (self.table.get_mut(at as usize), self.names.get((at / ROOM) as usize)) else { continue };
            let tally = std::mem::take(tally);
            let kind = Kind((at % ROOM) as u8);
            let arrived = u64::from(tally.arrived);
            let [not_asked, unchanged, duplicate, passed] = tally.fates.map(u64::from);
            let entry = Entry {
                received: if kind.0 == GAP || kind.0 == REFILL { 0 } else { arrived + u64::from(tally.passed_over) },
                decoded: if kind.0 < GAP { arrived } else { 0 },
                passed_over: tally.passed_over.into(),
                undecodable: if kind.0 == DECODE_ERROR { arrived } else { 0 },
                made: if kind.0 < GAP { 0 } else { arrived },
                not_asked,
                unchanged,
                duplicate,
                passed,
                gaps: tally.gaps.into(),
                refilled: tally.refilled.into(),
            };
            let key = Key { hour: self.hour, venue: self.venue.clone(), kind, market: *market, name: name.clone() };
            self.closed.push((key, entry));
        }
    }

    /// All rows since the last time.
    pub(crate) fn take(&mut self) -> Vec<(Key, Entry)> {
        self.close();
        std::mem::take(&mut self.closed)
    }
}

/// Counts events on their way to a sink. An instrument is known by the address of its handle, which is kept as long as
/// it counts: that is cheaper than its name, and never another's.
#[derive(Debug, Default)]
pub struct EventCounts {
    hour: Hour,
    running: HashMap<usize, (Arc<Instrument>, [u32; ROOM as usize]), foldhash::fast::RandomState>,
    closed: Vec<(Key, u64)>,
}

impl EventCounts {
    /// Counts these events.
    pub fn count(&mut self, events: &[Event]) {
        for event in events {
            self.count_as(event, Kind::of(&event.body));
        }
    }

    /// Counts an event under a kind that need not be its own.
    #[inline]
    pub fn count_as(&mut self, event: &Event, kind: Kind) {
        if !self.hour.contains(event.received) {
            self.close();
            self.hour = Hour::of(event.received);
        }
        let (_, counts) = self.running.entry(Arc::as_ptr(&event.instrument) as usize).or_insert_with(|| (event.instrument.clone(), [0; ROOM as usize]));
        if let Some(count) = counts.get_mut(usize::from(kind.0)) {
            *count += 1;
        }
    }

    fn close(&mut self) {
        for (_, (instrument, counts)) in self.running.drain() {
            let name: Arc<str> = name_of(&instrument).into();
            for (kind, count) in (0..KINDS).zip(counts).filter(|(_, count)| *count > 0) {
                let key = Key { hour: self.hour, venue: instrument.venue.clone(), kind: Kind(kind), market: instrument.market, name: name.clone() };
                self.closed.push((key, count.into()));
            }
        }
    }

    /// All counts since the last time, which need not be one for each key.
    pub fn take(&mut self) -> Vec<(Key, u64)> {
        self.close();
        std::mem::take(&mut self.closed)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::super::{Account, HOUR_MICROS};
    use super::*;
    use crate::decimal::Decimal;
    use crate::event::{Gap, GapReason, Ticker};

    fn instrument(name: &str, symbol: Option<&str>) -> Arc<Instrument> {
        Arc::new(Instrument::named(&"x".into(), Market::Linear, name, symbol))
    }

    fn ticker(instrument: &Arc<Instrument>, received: i64) -> Event {
        let ticker = Ticker { last: Some(Decimal::ONE), ..Ticker::default() };
        Event::new(instrument.clone(), Time::from_micros(received), None, Body::Ticker(ticker))
    }

    fn key(name: &str, kind: &str, hour: i64) -> Key {
        Key { hour: Hour(hour), venue: "x".into(), kind: Kind::parse(kind).unwrap(), market: Market::Linear, name: name.into() }
    }

    #[test]
    fn events_count_in_the_hour_in_which_they_arrived() {
        let (a, unnamed) = (instrument("A", Some("A/B:B")), instrument("", None));
        let mut counts = EventCounts::default();
        counts.count(&[ticker(&a, 5), ticker(&a, HOUR_MICROS), ticker(&a, 6), ticker(&unnamed, HOUR_MICROS - 1)]);
        // The same instrument behind another handle is the same one.
        counts.count(&[ticker(&instrument("A", Some("A/B:B")), 7)]);
        let mut sum: BTreeMap<Key, u64> = BTreeMap::new();
        counts.take().into_iter().for_each(|(key, count)| *sum.entry(key).or_default() += count);
        let expected = [(key("-", "ticker", 0), 1), (key("A/B:B", "ticker", 0), 3), (key("A/B:B", "ticker", 1), 1)];
        assert_eq!(sum, expected.into());
        assert_eq!(counts.take(), []);
    }

    #[test]
    fn tallies_are_rows_since_the_last_time() {
        let a = instrument("A", None);
        let mut tallies = Tallies::new("x".into());
        let place = tallies.add(&a);
        let event = ticker(&a, 5);
        let mark = place.of(Kind::of(&event.body));
        for fate in [Fate::NotAsked, Fate::Unchanged, Fate::Duplicate] {
            tallies.arrived(mark, event.received);
            tallies.fate(mark, event.received, fate);
        }
        tallies.arrived(mark, event.received);
        tallies.passed(mark, &Event { origin: Some(Origin::Refill), ..event.clone() });
        tallies.passed_over(Market::Linear, Channel::Ticker, event.received, 9);
        let gap = Body::Gap(Box::new(Gap { channel: Channel::Ticker, reason: GapReason::Disconnect, from: None, to: None }));
        let gap = Event { body: gap, ..event };
        tallies.arrived(place.of(Kind::of(&gap.body)), gap.received);
        tallies.passed(place.of(Kind::of(&gap.body)), &gap);

        let mut account = Account::default();
        account.add_entries(tallies.take());
        assert_eq!(account.differences(false), []);
        let ticker = Entry { received: 4, decoded: 4, not_asked: 1, unchanged: 1, duplicate: 1, passed: 1, gaps: 1, refilled: 1, ..Entry::default() };
        assert_eq!(account.entries[&key("A", "ticker", 0)], ticker);
        assert_eq!(account.entries[&key("*", "ticker", 0)], Entry { received: 9, passed_over: 9, ..Entry::default() });
        assert_eq!(account.entries[&key("A", "gap", 0)], Entry { made: 1, passed: 1, ..Entry::default() });
        assert_eq!(tallies.take(), []);
    }
}
