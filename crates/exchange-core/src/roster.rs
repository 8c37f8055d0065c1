//! Which instruments a venue lists, and which it lists no more.
//!
//! A venue says what it lists, never what it has taken off its list. So an instrument is gone when it is missing from what
//! the venue lists as a whole: from every page of every answer that lists instruments of its market. One such *round* proves
//! little, since a page may be stale and an instrument may be on its way from one list to another; and an answer that failed
//! proves nothing. A list that is suddenly much shorter is more likely a fault of the venue's than the end of a market.

use std::collections::{BTreeMap, HashSet};
use std::time::Duration;

use crate::event::{Body, Event};
use crate::instrument::Market;
use crate::time::Time;

/// In so many rounds an instrument is missing before it is gone.
const ROUNDS: u32 = 2;
/// And in so many if the list has lost more than half of what it had.
const DOUBTED_ROUNDS: u32 = 3;

/// How many instruments were known, and how many were listed now, where that is too few to be believed at once.
pub type Doubt = Option<(usize, usize)>;
/// What one request lists, by market.
type Names = HashSet<(Market, Box<str>)>;

/// The lists of a venue's instruments.
#[derive(Debug, Default)]
pub struct Roster {
    /// By the key of the poll.
    lists: BTreeMap<String, List>,
    rounds: BTreeMap<Market, Round>,
}

/// One poll, its further pages and whatever its answers lead to included.
#[derive(Debug, Default)]
struct List {
    /// One answer may list instruments of several markets.
    markets: Vec<Market>,
    /// What the answers of this cycle list.
    seen: Names,
    /// Whether an answer of this cycle failed, or had a record that could not be read.
    broken: bool,
}

/// A market's round: it ends when each of its lists was read once.
#[derive(Debug, Default)]
struct Round {
    every: Duration,
    /// What each list held, if it was read in this round.
    read: BTreeMap<String, Option<HashSet<Box<str>>>>,
    /// What was ever listed and is not gone, and in how many rounds it was missing since.
    known: BTreeMap<Box<str>, u32>,
    ended: Option<Time>,
}

/// What a round has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Departed {
    /// The market.
    pub market: Market,
    /// The venue's names of the instruments that are gone.
    pub names: Vec<Box<str>>,
    /// Whether the list is too short to be believed at once.
    pub doubted: Doubt,
}

impl Roster {
    /// A poll that lists instruments of a market, and how often it is made. Rounds do not follow each other much faster
    /// than that, even if the same answer is asked for more often for something else.
    pub fn watch(&mut self, list: &str, market: Market, every: Duration) {
        let markets = &mut self.lists.entry(list.to_owned()).or_default().markets;
        if !markets.contains(&market) {
            markets.push(market);
        }
        let round = self.rounds.entry(market).or_default();
        round.every = round.every.max(every);
        round.read.insert(list.to_owned(), None);
    }

    /// A poll begins anew.
    pub fn began(&mut self, list: &str) {
        if let Some(list) = self.lists.get_mut(list) {
            list.seen.clear();
            list.broken = false;
        }
    }

    /// One of its answers came, and this is what it said.
    pub fn answered(&mut self, list: &str, events: &[Event]) {
        let Some(list) = self.lists.get_mut(list) else { return };
        for event in events {
            let instrument = &event.instrument;
            match event.body {
                // A record without a name may be anybody's.
                Body::DecodeError(_) if instrument.venue_symbol.is_empty() => list.broken = true,
                // One that cannot be read is listed nevertheless.
                Body::Instrument(_) | Body::DecodeError(_) => drop(list.seen.insert((instrument.market, instrument.venue_symbol.clone()))),
                _ => {}
            }
        }
    }

    /// One of its answers did not come, or could not be read.
    pub fn failed(&mut self, list: &str) {
        if let Some(list) = self.lists.get_mut(list) {
            list.broken = true;
        }
    }

    /// All its answers came or failed. What that shows of the markets whose rounds end with it, where it shows something.
    pub fn ended(&mut self, now: Time, list: &str) -> Vec<Departed> {
        let Some(ended) = self.lists.get_mut(list).filter(|list| !list.broken) else { return Vec::new() };
        let seen = std::mem::take(&mut ended.seen);
        let mut departed = Vec::new();
        for &market in &ended.markets {
            let Some(round) = self.rounds.get_mut(&market) else { continue };
            let names = seen.iter().filter(|(of, _)| *of == market).map(|(_, name)| name.clone()).collect();
            round.read.insert(list.to_owned(), Some(names));
            departed.extend(round.end(now).map(|(names, doubted)| Departed { market, names, doubted }));
        }
        departed
    }
}

impl Round {
    /// Ends, if every list was read.
    fn end(&mut self, now: Time) -> Option<(Vec<Box<str>>, Doubt)> {
        if self.read.values().any(Option::is_none) || self.ended.is_some_and(|ended| now < ended + self.every / 2) {
            return None;
        }
        self.ended = Some(now);
        let listed: HashSet<Box<str>> = self.read.values_mut().filter_map(Option::take).flatten().collect();
        let doubted = (listed.len() * 2 < self.known.len()).then_some((self.known.len(), listed.len()));
        let rounds = if doubted.is_some() { DOUBTED_ROUNDS } else { ROUNDS };
        let mut gone = Vec::new();
        self.known.retain(|name, missing| {
            *missing = if listed.contains(name) { 0 } else { *missing + 1 };
            if *missing >= rounds {
                gone.push(name.clone());
            }
            *missing < rounds
        });
        for name in listed {
            self.known.entry(name).or_default();
        }
        (!gone.is_empty() || doubted.is_some()).then_some((gone, doubted))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::DecodeFailure;
    use crate::instrument::{Details, Instrument, Kind, Status};

    const MINUTE: Duration = Duration::from_mins(1);

    fn listed(market: Market, name: &str) -> Event {
        let details = Details::new(Kind::Perpetual, "A", "B", Status::Trading);
        let instrument = Arc::new(Instrument::described(&"toy".into(), market, name, details.clone()));
        Event::new(instrument, Time::EPOCH, None, Body::Instrument(Box::new(details)))
    }

    fn unreadable(name: &str) -> Event {
        let body = DecodeFailure { reason: "no".into(), excerpt: String::new() };
        Event::new(Arc::new(Instrument::named(&"toy".into(), Market::Linear, name, None)), Time::EPOCH, None, Body::DecodeError(Box::new(body)))
    }

    /// A roster and its clock.
    struct Net {
        roster: Roster,
        now: Time,
    }

    impl Net {
        fn new(lists: &[(&str, Market)]) -> Self {
            let mut roster = Roster::default();
            for (list, market) in lists {
                roster.watch(list, *market, MINUTE);
            }
            Self { roster, now: Time::EPOCH }
        }

        /// One cycle of one list, of one page for each of these; none for a page that fails.
        fn read(&mut self, list: &str, pages: &[Option<&[Event]>]) -> Vec<Departed> {
            self.roster.began(list);
            for page in pages {
                match page {
                    Some(events) => self.roster.answered(list, events),
                    None => self.roster.failed(list),
                }
            }
            self.roster.ended(self.now, list)
        }

        /// A minute later, the list `all` holds these names; which are gone then.
        fn holds(&mut self, names: &[&str]) -> Vec<String> {
            self.now = self.now + MINUTE;
            let events: Vec<Event> = names.iter().map(|name| listed(Market::Linear, name)).collect();
            gone(&self.read("all", &[Some(&events)]))
        }
    }

    fn gone(departed: &[Departed]) -> Vec<String> {
        departed.iter().flat_map(|departed| departed.names.iter().map(|name| format!("{} {name}", departed.market))).collect()
    }

    const NOBODY: [&str; 0] = [];

    #[test]
    fn what_is_missing_twice_is_gone_once() {
        let mut net = Net::new(&[("all", Market::Linear)]);
        assert_eq!(net.holds(&["A", "B", "C"]), NOBODY);
        assert_eq!(net.holds(&["A", "B"]), NOBODY);
        assert_eq!(net.holds(&["A", "B", "C"]), NOBODY, "it was an oversight");
        assert_eq!(net.holds(&["A", "B"]), NOBODY);
        assert_eq!(net.holds(&["A", "B"]), ["linear C"]);
        assert_eq!(net.holds(&["A", "B"]), NOBODY);
        assert_eq!(net.holds(&["A", "B", "C"]), NOBODY, "it is back");
        assert_eq!(net.holds(&["A", "B"]), NOBODY);
        assert_eq!(net.holds(&["A", "B"]), ["linear C"]);
    }

    #[test]
    fn an_answer_that_failed_proves_nothing() {
        let mut net = Net::new(&[("all", Market::Linear)]);
        net.holds(&["A", "B", "C"]);
        let (some, nameless) = ([listed(Market::Linear, "A"), listed(Market::Linear, "B")], [unreadable("")]);
        for broken in [&[None, Some(&some[..])][..], &[Some(&some), None], &[Some(&some), Some(&nameless)]] {
            for _ in 0..5 {
                net.now = net.now + MINUTE;
                assert_eq!(net.read("all", broken), []);
            }
        }
        assert_eq!(net.holds(&["A", "B"]), NOBODY, "nor does it count as one of two");
        assert_eq!(net.holds(&["A", "B"]), ["linear C"]);
    }

    #[test]
    fn a_record_that_cannot_be_read_is_listed() {
        let mut net = Net::new(&[("all", Market::Linear)]);
        net.holds(&["A", "B"]);
        for _ in 0..5 {
            net.now = net.now + MINUTE;
            assert_eq!(net.read("all", &[Some(&[listed(Market::Linear, "A"), unreadable("B")])]), []);
        }
    }

    #[test]
    fn every_page_and_every_list_count() {
        let mut net = Net::new(&[("trading", Market::Linear), ("pre_launch", Market::Linear)]);
        let [a, b, c] = ["A", "B", "C"].map(|name| [listed(Market::Linear, name)]);
        let two: &[Option<&[Event]>] = &[Some(&a), Some(&b)];
        for _ in 0..4 {
            net.now = net.now + MINUTE;
            assert_eq!(net.read("trading", two), []);
            assert_eq!(net.read("pre_launch", &[Some(&c)]), []);
        }
        // One of the lists alone makes no round, however often it is read.
        for _ in 0..4 {
            net.now = net.now + MINUTE;
            assert_eq!(net.read("trading", two), []);
        }
        // It is launched: for a moment, neither list has it.
        net.now = net.now + MINUTE;
        assert_eq!(net.read("pre_launch", &[Some(&[])]), []);
        net.now = net.now + MINUTE;
        assert_eq!(net.read("trading", &[Some(&a), Some(&b), Some(&c)]), []);
        assert_eq!(net.read("pre_launch", &[Some(&[])]), []);
        // And one is taken off.
        for expected in [&NOBODY[..], &["linear B"]] {
            net.now = net.now + MINUTE;
            net.read("trading", &[Some(&a), Some(&c)]);
            assert_eq!(gone(&net.read("pre_launch", &[Some(&[])])), expected);
        }
    }

    #[test]
    fn one_answer_may_list_two_markets() {
        let mut net = Net::new(&[("all", Market::Linear), ("all", Market::Inverse)]);
        let all = [(Market::Inverse, "A"), (Market::Inverse, "B"), (Market::Linear, "B"), (Market::Linear, "C"), (Market::Linear, "A"), (Market::Spot, "D")];
        let all = all.map(|(market, name)| listed(market, name));
        for (left, expected) in [(6, &NOBODY[..]), (4, &NOBODY), (4, &["linear A"]), (2, &NOBODY), (2, &NOBODY), (2, &["linear B", "linear C"])] {
            net.now = net.now + MINUTE;
            assert_eq!(gone(&net.read("all", &[Some(&all[..left])])), expected, "the other market's are its own, and one that nobody watches is nothing");
        }
    }

    #[test]
    fn a_list_that_shrinks_too_much_is_doubted() {
        let mut net = Net::new(&[("all", Market::Linear)]);
        net.holds(&["A", "B", "C", "D", "E"]);
        let one = [listed(Market::Linear, "A")];
        for _ in 0..2 {
            net.now = net.now + MINUTE;
            assert_eq!(net.read("all", &[Some(&one)]), [Departed { market: Market::Linear, names: Vec::new(), doubted: Some((5, 1)) }]);
        }
        assert_eq!(net.holds(&["A", "B", "C", "D", "E"]), NOBODY, "and all is well again");
        net.holds(&["A"]);
        net.holds(&["A"]);
        assert_eq!(net.holds(&["A"]), ["linear B", "linear C", "linear D", "linear E"]);
        assert_eq!(net.holds(&["A"]), NOBODY);
        assert_eq!(net.holds(&[]), NOBODY);
    }

    #[test]
    fn a_list_that_is_read_often_makes_no_more_rounds() {
        let mut net = Net::new(&[("all", Market::Linear)]);
        net.holds(&["A", "B", "C"]);
        let two = [listed(Market::Linear, "A"), listed(Market::Linear, "B")];
        let mut rounds = 0;
        while gone(&net.read("all", &[Some(&two)])).is_empty() {
            net.now = net.now + Duration::from_secs(5);
            rounds += 1;
        }
        assert!(rounds >= 10, "gone after {rounds} answers, one every five seconds");
    }
}
