//! Which events are the same, which became others, and which there are only before or only now.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::hash::{DefaultHasher, Hash, Hasher as _};

use exchange_core::event::GapReason;
use exchange_core::instrument::Status;
use exchange_core::{Batch, Body, Event, EventId, Pipeline, Sealer, Time};

/// Differences that are kept to be paired. Beyond, they are only counted.
const PAIRED: usize = 1 << 20;

/// The ids of the collected events, and which of them the captures gave.
#[derive(Debug, Default)]
pub(super) struct Ids {
    sorted: Vec<EventId>,
    /// One bit each.
    found: Vec<u64>,
    left: usize,
}

impl Ids {
    pub(super) fn add(&mut self, id: EventId) {
        self.sorted.push(id);
    }

    /// Puts them in order; how many were there more than once.
    fn sort(&mut self) -> u64 {
        let count = self.sorted.len();
        self.sorted.sort_unstable();
        self.sorted.dedup();
        self.found = vec![0; self.sorted.len().div_ceil(64)];
        self.left = self.sorted.len();
        (count - self.sorted.len()) as u64
    }

    fn at(&self, id: EventId) -> Option<(usize, u64)> {
        self.sorted.binary_search(&id).ok().map(|at| (at / 64, 1 << (at % 64)))
    }

    /// Marks an id as found: `None` if there is none such, else whether it was not marked before.
    fn mark(&mut self, id: EventId) -> Option<bool> {
        let (at, bit) = self.at(id)?;
        let word = self.found.get_mut(at)?;
        let first = *word & bit == 0;
        *word |= bit;
        self.left -= usize::from(first);
        Some(first)
    }
}

/// A venue and a type of events.
pub(super) type Group = (String, &'static str);

/// What became of a group's events.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Counts {
    /// Were collected, and the captures give them.
    pub(super) same: u64,
    /// Of the same instrument and message, with another content.
    pub(super) changed: u64,
    /// Were collected, and the captures do not give them.
    pub(super) missing: u64,
    /// The captures give them, and they were not collected.
    pub(super) new: u64,
}

/// A difference as event lines: what was collected, and what the captures give.
pub(super) type Example = (Option<String>, Option<String>);

/// An event that was not collected, kept until it is known which one it replaces.
struct New {
    group: Group,
    line: Vec<u8>,
    /// It may have been known before the first capture, or happened before it, so that a live run passed it over.
    first: bool,
}

/// Everything that was compared.
#[derive(Default)]
pub(super) struct Comparison {
    ids: Ids,
    /// From when to when there are captures of a venue.
    span: HashMap<String, (Time, Time)>,
    /// Instruments and types of which a state came.
    states: HashSet<Place>,
    /// When the first trade of an instrument was received.
    traded: HashMap<Place, Time>,
    /// Errors that the captures gave and that were not collected.
    errors: HashSet<u64>,
    new: HashMap<(Place, Time), VecDeque<New>>,
    kept: usize,
    pub(super) groups: BTreeMap<Group, Counts>,
    /// Collected more than once.
    pub(super) repeated: u64,
    /// Collected, of times of which there are no captures.
    pub(super) outside: u64,
    /// Collected, and known to a live run alone.
    pub(super) only_live: u64,
    /// Too many differences to be paired.
    pub(super) unpaired: bool,
    wanted_examples: usize,
    pub(super) examples: BTreeMap<Group, Vec<Example>>,
}

/// An instrument and a type, as a number that only chance gives to two of them.
type Place = u64;

fn place(event: &Event) -> Place {
    hash(&(&*event.instrument.venue, event.instrument.market, &*event.instrument.venue_symbol, event.body.kind()))
}

fn hash(value: &impl Hash) -> u64 {
    let mut hasher = DefaultHasher::new();
    value.hash(&mut hasher);
    hasher.finish()
}

fn group(event: &Event) -> Group {
    (event.instrument.venue.to_string(), event.body.kind())
}

/// Whether only a live run knows it: what it missed, what it asked for because of that, and what left the venue's lists.
fn is_live_alone(event: &Event) -> bool {
    match &event.body {
        Body::Gap(gap) => matches!(gap.reason, GapReason::Disconnect | GapReason::Overflow),
        Body::Refill(_) => true,
        Body::Instrument(details) => details.status == Status::Delisted,
        _ => false,
    }
}

impl Comparison {
    /// Keeps so many examples of each group.
    pub(super) fn new(examples: usize) -> Self {
        Self { wanted_examples: examples, ..Self::default() }
    }

    /// What was collected.
    pub(super) fn collected(&mut self, mut ids: Ids) {
        self.repeated = ids.sort();
        self.ids = ids;
    }

    /// A capture of a venue was read.
    pub(super) fn captured(&mut self, venue: &str, received: Time) {
        match self.span.get_mut(venue) {
            Some((from, to)) => (*from, *to) = ((*from).min(received), (*to).max(received)),
            None => drop(self.span.insert(venue.to_owned(), (received, received))),
        }
    }

    /// Compares what captures of one venue gave; what was not collected comes back, but for what may yet turn out to be
    /// no news.
    pub(super) fn compare(&mut self, pipeline: &mut Pipeline, sealer: &mut Sealer, mut events: Vec<Event>) -> Batch {
        // What a run passes over as known before may have been passed on by one that knew less.
        sealer.seal(&mut events);
        for event in &events {
            self.mark(event);
            if let Body::Trade(_) = event.body {
                self.traded.entry(place(event)).or_insert(event.received);
            }
        }
        let first: Vec<(EventId, bool)> = events.iter().map(|event| (event.id, event.body.is_state() && self.states.insert(place(event)))).collect();
        let first: HashSet<EventId> = first.into_iter().filter_map(|(id, first)| first.then_some(id)).collect();
        pipeline.process(&mut events);
        let mut news = Vec::new();
        for event in events {
            // (One that was made whole has another id than before.)
            if self.mark(&event) {
                continue;
            }
            if !self.is_told_once(&event) {
                continue;
            }
            let first = first.contains(&event.id) || self.happened_before(&event);
            if self.kept < PAIRED {
                self.kept += 1;
                let mut line = Vec::new();
                event.write_json(None, &mut line);
                self.new.entry((place(&event), event.received)).or_default().push_back(New { group: group(&event), line, first });
            } else {
                self.unpaired = true;
                self.groups.entry(group(&event)).or_default().new += 1;
            }
            if !first {
                news.push(event);
            }
        }
        Batch::new(news)
    }

    /// Whether it is of the past that the first capture found there: of what is read to close a gap, a run passes on what was missed.
    fn happened_before(&self, event: &Event) -> bool {
        // Between the first capture and a subscription there is time to trade, too: a list that came later tells of that.
        let traded = self.traded.get(&place(event)).copied();
        if traded.is_some_and(|first| event.received > first && event.time.is_some_and(|time| time < first)) {
            return true;
        }
        let time = match &event.body {
            Body::Trade(_) => event.time,
            Body::Candle(candle) => Some(candle.open_time),
            Body::FundingSettled(settled) => Some(settled.time),
            _ => None,
        };
        let first = self.span.get(&*event.instrument.venue).map(|(first, _)| *first);
        time.zip(first).is_some_and(|(time, first)| time < first)
    }

    /// Whether an error is another one than before: a run looks at a polled record again only when it has changed.
    fn is_told_once(&mut self, event: &Event) -> bool {
        let Body::DecodeError(error) = &event.body else { return true };
        self.errors.len() >= PAIRED || self.errors.insert(hash(&(place(event), &error.reason, &error.excerpt)))
    }

    /// Takes note of an event that the captures gave. Whether it was collected.
    fn mark(&mut self, event: &Event) -> bool {
        let found = self.ids.mark(event.id);
        if found == Some(true) {
            self.groups.entry(group(event)).or_default().same += 1;
            self.is_told_once(event);
        }
        found.is_some()
    }

    /// Whether the captures gave all that was collected.
    pub(super) fn all_found(&self) -> bool {
        self.ids.left == 0
    }

    /// Takes note of a collected event, if the captures did not give it. The line of the one that stands in its place, where
    /// that was not handed out before.
    pub(super) fn missing(&mut self, event: &Event, line: &[u8]) -> Option<Vec<u8>> {
        // Found, or found missing before.
        if self.ids.mark(event.id) != Some(true) {
            return None;
        }
        if is_live_alone(event) {
            self.only_live += 1;
            return None;
        }
        let captured = self.span.get(&*event.instrument.venue).is_some_and(|(from, to)| (*from..=*to).contains(&event.received));
        if !captured {
            self.outside += 1;
            return None;
        }
        let before = String::from_utf8_lossy(line).into_owned();
        let now = self.new.get_mut(&(place(event), event.received)).and_then(VecDeque::pop_front);
        let counts = self.groups.entry(group(event)).or_default();
        let Some(now) = now else {
            counts.missing += 1;
            self.example(group(event), (Some(before), None));
            return None;
        };
        counts.changed += 1;
        self.example(group(event), (Some(before), Some(String::from_utf8_lossy(&now.line).into_owned())));
        now.first.then_some(now.line)
    }

    /// What replaces nothing is new.
    pub(super) fn finish(&mut self) {
        let mut left: Vec<New> = std::mem::take(&mut self.new).into_values().flatten().filter(|new| !new.first).collect();
        left.sort_by(|a, b| a.line.cmp(&b.line));
        for new in left {
            self.groups.entry(new.group.clone()).or_default().new += 1;
            self.example(new.group, (None, Some(String::from_utf8_lossy(&new.line).into_owned())));
        }
    }

    fn example(&mut self, group: Group, example: Example) {
        if self.wanted_examples > 0 {
            let examples = self.examples.entry(group).or_default();
            if examples.len() < self.wanted_examples {
                examples.push(example);
            }
        }
    }

    /// Whether anything is not the same.
    pub(super) fn differs(&self) -> bool {
        self.groups.values().any(|counts| counts.changed + counts.missing + counts.new > 0)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::event::{DecodeFailure, Gap, Mark, Trade};
    use exchange_core::pipeline::Everything;
    use exchange_core::{Channel, Decimal, Instrument, Market};

    use super::*;

    fn event(at: i64, body: Body) -> Event {
        let instrument = Arc::new(Instrument::named(&"x".into(), Market::Linear, "A", None));
        Event::new(instrument, Time::from_micros(at), None, body)
    }

    fn trade(at: i64, id: u64, price: i64) -> Event {
        event(at, Body::Trade(Trade { trade_id: Some(id.into()), price: price.into(), size: Decimal::ONE, size_base: None, side: None }))
    }

    fn mark(at: i64, price: i64) -> Event {
        event(at, Body::Mark(Mark { mark: Some(price.into()), ..Mark::default() }))
    }

    #[test]
    fn what_happened_before_the_first_capture_need_not_have_been_collected() {
        let old = |time: i64, id| Event { time: Some(Time::from_micros(time)), ..trade(10, id, 7) };
        let (comparison, counts, _) = compare(vec![old(10, 1)], vec![old(9, 2), old(10, 1), old(11, 3)]);
        assert_eq!(counts["trade"], Counts { same: 1, new: 1, ..Counts::default() });
        assert!(comparison.differs());
    }

    /// Compares what a run collected with what the captures give now: the counts by type, and how many were written.
    fn compare(mut collected: Vec<Event>, now: Vec<Event>) -> (Comparison, BTreeMap<&'static str, Counts>, usize) {
        let mut sealer = Sealer::default();
        sealer.seal(&mut collected);
        let mut comparison = Comparison::new(10);
        let mut ids = Ids::default();
        for event in &collected {
            ids.add(event.id);
        }
        comparison.collected(ids);
        for event in &now {
            comparison.captured("x", event.received);
        }
        let mut pipeline = Pipeline::new("x", Arc::new(Everything), false, false);
        let mut written = comparison.compare(&mut pipeline, &mut sealer, now).events().len();
        for event in &collected {
            written += usize::from(comparison.missing(event, event.to_json().as_bytes()).is_some());
        }
        comparison.finish();
        let counts = comparison.groups.iter().map(|((_, kind), counts)| (*kind, *counts)).collect();
        (comparison, counts, written)
    }

    #[test]
    fn what_is_the_same_is_the_same_whatever_a_run_held_back() {
        let all = || vec![trade(1, 1, 5), trade(1, 2, 5), mark(2, 7), mark(3, 7), mark(4, 8), trade(5, 1, 5)];
        // A run that began anew in between passed on what it did not know any more.
        for collected in [vec![trade(1, 1, 5), trade(1, 2, 5), mark(2, 7), mark(4, 8)], all()] {
            let (comparison, counts, written) = compare(collected, all());
            assert!(!comparison.differs() && comparison.all_found(), "{counts:?}");
            assert_eq!(written, 0);
        }
    }

    #[test]
    fn a_difference_is_a_change_where_the_place_is_the_same() {
        let collected = vec![trade(1, 1, 5), trade(1, 2, 5), trade(2, 3, 5), trade(3, 4, 5), mark(1, 7)];
        let now = vec![trade(1, 1, 5), trade(1, 2, 6), trade(3, 4, 5), trade(4, 5, 5), mark(1, 70)];
        let (comparison, counts, written) = compare(collected, now);
        assert_eq!(counts["trade"], Counts { same: 2, changed: 1, missing: 1, new: 1 });
        assert_eq!(counts["mark"], Counts { changed: 1, ..Counts::default() });
        assert_eq!(written, 3, "what is changed and what is new");
        let examples = &comparison.examples[&("x".to_owned(), "trade")];
        let shape: Vec<(bool, bool)> = examples.iter().map(|(before, now)| (before.is_some(), now.is_some())).collect();
        assert_eq!(shape, [(true, true), (true, false), (false, true)]);
    }

    #[test]
    fn an_error_that_each_poll_repeats_is_one() {
        let error = |at, reason: &str| event(at, Body::DecodeError(Box::new(DecodeFailure { reason: reason.into(), excerpt: "x".into() })));
        let now = || vec![error(1, "bad"), error(2, "bad"), error(3, "worse"), error(4, "bad"), error(5, "worse")];
        let (comparison, counts, _) = compare(vec![error(1, "bad"), error(3, "worse")], now());
        assert!(!comparison.differs(), "{counts:?}");
        let (_, counts, _) = compare(vec![error(1, "bad")], now());
        assert_eq!(counts["decode_error"], Counts { same: 1, new: 1, ..Counts::default() });
    }

    #[test]
    fn what_captures_cannot_know_is_no_difference() {
        let gap = event(2, Body::Gap(Box::new(Gap { channel: Channel::Trade, reason: GapReason::Disconnect, from: None, to: None })));
        let collected = vec![trade(0, 9, 1), gap, trade(2, 1, 1), trade(2, 1, 1), trade(9, 8, 1)];
        // A run knew that value already, and said nothing.
        let (comparison, counts, written) = compare(collected, vec![mark(1, 5), trade(2, 1, 1), trade(3, 1, 1)]);
        assert!(!comparison.differs(), "{counts:?}");
        assert_eq!((comparison.outside, comparison.only_live, comparison.repeated, written), (2, 1, 1, 0));
    }
}
