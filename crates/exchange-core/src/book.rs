//! The continuity of order books: whether each message follows the one before it.
//!
//! Only sequence numbers are watched here, not prices: a message that does not follow is a `gap`, whoever keeps the
//! book. The rule is the venue's ([`Continuity`]); the state belongs to a connection and dies with it.

use std::sync::Arc;

use hashbrown::HashMap;

use crate::event::{Body, Book, BookKind, Event, Ident};
use crate::instrument::Instrument;
use crate::profile::{BookPolicy, Continuity, SnapshotFrom};

/// What a book message is to the messages before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It follows, or nothing can be said.
    Follows,
    /// The first of its book on this connection: where snapshots are fetched, one is needed now.
    First,
    /// Something is missing between these two sequence numbers.
    Broken {
        /// The last number before the break.
        from: u64,
        /// The number of the message that does not follow.
        to: u64,
    },
}

/// The books of one connection.
#[derive(Debug, Default)]
pub struct Books {
    policy: BookPolicy,
    /// Whether another connection carries the same books until this one takes over: none of them begins here.
    taking_over: bool,
    /// By market and the venue's symbol.
    states: [HashMap<Box<str>, State, foldhash::fast::RandomState>; 4],
}

#[derive(Debug, Clone, Copy)]
struct State {
    /// The last sequence number.
    last: u64,
    /// What the first delta followed, since the last break: a fetched snapshot must not be older.
    start: u64,
    /// After a break, until the stream's snapshot: what comes meanwhile belongs to the same gap.
    broken: bool,
}

#[expect(clippy::indexing_slicing, reason = "one slot a market")]
impl Books {
    /// No books yet.
    pub fn new(policy: BookPolicy) -> Self {
        Self { policy, taking_over: false, states: Default::default() }
    }

    /// Takes note of a message.
    #[inline]
    pub fn follow(&mut self, instrument: &Instrument, book: &Book) -> Verdict {
        if self.policy.continuity == Continuity::None {
            return Verdict::Follows;
        }
        let Some((prev, seq)) = self.policy.continuity.range(book) else { return Verdict::Follows };
        let states = &mut self.states[instrument.market.index()];
        let Some(state) = states.get_mut(&*instrument.venue_symbol) else {
            if book.kind == BookKind::Snapshot || self.policy.snapshot == SnapshotFrom::Rest {
                states.insert(instrument.venue_symbol.clone(), State { last: seq, start: prev, broken: false });
            }
            // A delta before the stream's snapshot says nothing: the snapshot replaces whatever came before.
            let begins = book.kind == BookKind::Delta && self.policy.snapshot == SnapshotFrom::Rest && !self.taking_over;
            return if begins { Verdict::First } else { Verdict::Follows };
        };
        if book.kind == BookKind::Snapshot {
            *state = State { last: seq, start: prev, broken: false };
            return Verdict::Follows;
        }
        if prev == state.last {
            state.last = seq;
            return Verdict::Follows;
        }
        if seq <= state.last {
            // A repeated or late frame changes nothing that is known.
            return Verdict::Follows;
        }
        if prev < state.last {
            // It goes over what is known, and on: nothing is missing.
            state.last = seq;
            return Verdict::Follows;
        }
        let from = std::mem::replace(&mut state.last, seq);
        if state.broken {
            return Verdict::Follows;
        }
        state.broken = self.policy.snapshot == SnapshotFrom::Stream;
        state.start = prev;
        Verdict::Broken { from, to: seq }
    }

    /// Another connection carries the same books: until [`Books::take_over`], none of them begins here.
    pub fn wait(&mut self) {
        self.taking_over = true;
    }

    /// The other connection has ended. Of `held`, the book events that came here meanwhile, only those are left that go on
    /// from where that one ended, by its `books`; and whole again where they do not join. Returned are the instruments
    /// whose book must begin anew.
    pub fn take_over(&mut self, before: &Self, held: &mut Vec<Event>) -> Vec<Arc<Instrument>> {
        self.taking_over = false;
        let mut known: HashMap<(usize, Box<str>), Option<bool>, foldhash::fast::RandomState> = HashMap::default();
        let mut anew = Vec::new();
        for event in &*held {
            let Body::Book(book) = &event.body else { continue };
            let key = (event.instrument.market.index(), event.instrument.venue_symbol.clone());
            if known.contains_key(&key) {
                continue;
            }
            let last = before.states[key.0].get(&*key.1).filter(|state| !state.broken).map(|state| state.last);
            let range = self.policy.continuity.range(book);
            // The first message here decides: either the other connection had what comes before it, or not.
            let joins = last.zip(range).map(|(last, (prev, _))| prev <= last);
            if joins != Some(true) && book.kind == BookKind::Delta && self.policy.continuity != Continuity::None {
                anew.push(event.instrument.clone());
            }
            known.insert(key, joins);
        }
        held.retain(|event| {
            let Body::Book(book) = &event.body else { return true };
            let key = (event.instrument.market.index(), event.instrument.venue_symbol.clone());
            if known.get(&key) != Some(&Some(true)) {
                return true;
            }
            let last = before.states[key.0].get(&*key.1).map_or(0, |state| state.last);
            book.kind == BookKind::Delta && self.policy.continuity.range(book).is_none_or(|(_, seq)| seq > last)
        });
        anew
    }

    /// Nobody wants this book any more; if it comes back, it begins anew.
    pub fn forget(&mut self, instrument: &Instrument) {
        self.states[instrument.market.index()].remove(&*instrument.venue_symbol);
    }

    /// Whether a fetched snapshot joins what the stream has sent since it was asked for; if not, it is too old.
    pub fn joins(&self, instrument: &Instrument, snapshot_seq: u64) -> bool {
        self.states[instrument.market.index()].get(&*instrument.venue_symbol).is_none_or(|state| snapshot_seq >= state.start)
    }
}

impl Continuity {
    /// What a message follows, and its own number; nothing where it cannot be told.
    fn range(self, book: &Book) -> Option<(u64, u64)> {
        let seq = book.seq.as_ref().and_then(Ident::as_number)?;
        let prev = match self {
            Self::None => return None,
            Self::PrevSeq => match book.prev_seq.as_ref().and_then(Ident::as_number) {
                Some(prev) => prev,
                None if book.kind == BookKind::Snapshot => seq,
                None => return None,
            },
            Self::Increment => seq.wrapping_sub(1),
        };
        Some((prev, seq))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::instrument::Market;

    fn message(kind: BookKind, seq: u64, prev: Option<u64>) -> Book {
        Book { kind, bids: Vec::new(), asks: Vec::new(), seq: Some(seq.into()), prev_seq: prev.map(Into::into), checksum: None }
    }

    fn books(continuity: Continuity, snapshot: SnapshotFrom) -> (Books, Instrument) {
        (Books::new(BookPolicy { continuity, snapshot }), Instrument::named(&"x".into(), Market::Linear, "BTCUSDT", None))
    }

    #[test]
    fn a_chain_by_previous_numbers() {
        let (mut books, btc) = books(Continuity::PrevSeq, SnapshotFrom::Rest);
        let mut delta = |seq, prev| books.follow(&btc, &message(BookKind::Delta, seq, Some(prev)));
        assert_eq!(delta(160, 100), Verdict::First);
        assert_eq!(delta(170, 160), Verdict::Follows);
        assert_eq!(delta(170, 160), Verdict::Follows, "a repeated frame is no gap");
        assert_eq!(delta(200, 180), Verdict::Broken { from: 170, to: 200 });
        assert_eq!(delta(210, 200), Verdict::Follows);
        assert_eq!(delta(230, 220), Verdict::Broken { from: 210, to: 230 }, "each break is a gap");
        assert!(books.joins(&btc, 220) && !books.joins(&btc, 219));
    }

    #[test]
    fn a_chain_by_increments_waits_for_the_streams_snapshot() {
        let (mut books, btc) = books(Continuity::Increment, SnapshotFrom::Stream);
        assert_eq!(books.follow(&btc, &message(BookKind::Delta, 5, None)), Verdict::Follows);
        assert_eq!(books.follow(&btc, &message(BookKind::Snapshot, 7, None)), Verdict::Follows);
        assert_eq!(books.follow(&btc, &message(BookKind::Delta, 8, None)), Verdict::Follows);
        assert_eq!(books.follow(&btc, &message(BookKind::Delta, 10, None)), Verdict::Broken { from: 8, to: 10 });
        assert_eq!(books.follow(&btc, &message(BookKind::Delta, 15, None)), Verdict::Follows, "still the same gap");
        assert_eq!(books.follow(&btc, &message(BookKind::Snapshot, 1, None)), Verdict::Follows, "the venue restarted");
        assert_eq!(books.follow(&btc, &message(BookKind::Delta, 2, None)), Verdict::Follows);
        assert_eq!(books.follow(&btc, &message(BookKind::Delta, 4, None)), Verdict::Broken { from: 2, to: 4 });
    }

    /// What becomes of a book's numbered messages on the way: some are lost, some come twice, some come late.
    struct Way {
        /// The numbers that arrive, in order.
        arrived: Vec<u64>,
        /// Holes in the chain: a message that comes late leaves one where it should have been.
        holes: usize,
    }

    fn way(rng: &mut fastrand::Rng, count: u64) -> Way {
        let mut way = Way { arrived: Vec::new(), holes: 0 };
        let mut late: Vec<(u64, u64)> = Vec::new();
        for number in 1..=count {
            match rng.u8(0..20) {
                0 => way.holes += 1,
                1 => {
                    way.holes += 1;
                    late.push((number + rng.u64(1..10), number));
                }
                2 => {
                    way.arrived.push(number);
                    late.push((number + rng.u64(0..10), number));
                }
                _ => way.arrived.push(number),
            }
            late.retain(|(due, then)| {
                if *due <= number {
                    way.arrived.push(*then);
                }
                *due > number
            });
        }
        way
    }

    /// The breaks in what arrives. Where the stream itself begins a book anew, it does so after each break.
    fn breaks(continuity: Continuity, snapshot: SnapshotFrom, arrived: &[u64]) -> usize {
        let (mut books, btc) = books(continuity, snapshot);
        // Numbers by previous ones may leap.
        let number = |n: u64| if continuity == Continuity::PrevSeq { 1000 + n * n } else { 1000 + n };
        let delta = |n: u64| message(BookKind::Delta, number(n), (continuity == Continuity::PrevSeq).then(|| number(n - 1)));
        books.follow(&btc, &message(BookKind::Snapshot, number(0), None));
        let mut breaks = 0;
        for &n in arrived {
            if let Verdict::Broken { from, to } = books.follow(&btc, &delta(n)) {
                assert!(from < to && to == number(n), "{from} to {to}");
                breaks += 1;
                if snapshot == SnapshotFrom::Stream {
                    books.follow(&btc, &message(BookKind::Snapshot, number(n), None));
                }
            }
        }
        breaks
    }

    const RULES: [(Continuity, SnapshotFrom); 4] = [
        (Continuity::PrevSeq, SnapshotFrom::Rest),
        (Continuity::PrevSeq, SnapshotFrom::Stream),
        (Continuity::Increment, SnapshotFrom::Rest),
        (Continuity::Increment, SnapshotFrom::Stream),
    ];

    #[test]
    fn never_more_gaps_than_holes() {
        for seed in 0..500 {
            let way = way(&mut fastrand::Rng::with_seed(seed), 200);
            for (continuity, snapshot) in RULES {
                let breaks = breaks(continuity, snapshot, &way.arrived);
                assert!(breaks <= way.holes, "seed {seed}, {continuity:?}, {snapshot:?}: {breaks} gaps for {} holes", way.holes);
                assert!(breaks > 0 || way.holes == 0 || way.arrived.last() < Some(&190), "seed {seed}: holes that nobody noticed");
            }
        }
    }

    #[test]
    fn each_hole_that_stands_alone_is_one_gap() {
        for seed in 0..200 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let holes: std::collections::BTreeSet<u64> = (0..rng.u64(0..20)).map(|_| 2 * rng.u64(1..90)).collect();
            // With repeated and late ones in between, which are none.
            let arrived: Vec<u64> = (1..=200)
                .filter(|n| !holes.contains(n))
                .flat_map(|n| match rng.u8(0..10) {
                    0 => vec![n, n],
                    1 => vec![n, n - rng.u64(0..n.min(100))],
                    _ => vec![n],
                })
                .collect();
            for (continuity, snapshot) in RULES {
                assert_eq!(breaks(continuity, snapshot, &arrived), holes.len(), "seed {seed}, {continuity:?}, {snapshot:?}");
            }
        }
    }

    fn event(seq: u64, kind: BookKind, of: &Instrument) -> Event {
        let body = Body::Book(message(kind, seq, Some(seq - 1)));
        let of = Instrument::named(&of.venue, of.market, &of.venue_symbol, None);
        Event::new(Arc::new(of), crate::time::Time::EPOCH, None, body)
    }

    #[test]
    fn another_connection_takes_over_without_a_seam() {
        for snapshot in [SnapshotFrom::Stream, SnapshotFrom::Rest] {
            let (mut old, btc) = books(Continuity::PrevSeq, snapshot);
            let (mut new, _) = books(Continuity::PrevSeq, snapshot);
            let first = if snapshot == SnapshotFrom::Stream { BookKind::Snapshot } else { BookKind::Delta };
            old.follow(&btc, &message(BookKind::Snapshot, 5, None));
            for seq in 6..=10 {
                old.follow(&btc, &message(BookKind::Delta, seq, Some(seq - 1)));
            }
            new.wait();
            let mut held: Vec<Event> = (8..=12).map(|seq| event(seq, if seq == 8 { first } else { BookKind::Delta }, &btc)).collect();
            for event in &held {
                let Body::Book(book) = &event.body else { unreachable!() };
                assert_eq!(new.follow(&btc, book), Verdict::Follows, "a book does not begin while another connection has it");
            }
            assert!(new.take_over(&old, &mut held).is_empty());
            let seqs: Vec<u64> =
                held.iter().filter_map(|event| if let Body::Book(book) = &event.body { book.seq.as_ref()?.as_number() } else { None }).collect();
            assert_eq!(seqs, [11, 12]);
            assert_eq!(new.follow(&btc, &message(BookKind::Delta, 13, Some(12))), Verdict::Follows);
        }
    }

    #[test]
    fn what_does_not_join_begins_anew() {
        let (old, btc) = books(Continuity::PrevSeq, SnapshotFrom::Rest);
        let (mut new, _) = books(Continuity::PrevSeq, SnapshotFrom::Rest);
        let mut held = vec![event(8, BookKind::Delta, &btc), event(9, BookKind::Delta, &btc)];
        assert_eq!(new.take_over(&old, &mut held).len(), 1, "the other connection knew nothing of it");
        assert_eq!(held.len(), 2);
        let mut held = vec![event(8, BookKind::Snapshot, &btc)];
        assert!(new.take_over(&old, &mut held).is_empty() && held.len() == 1, "a snapshot is a beginning");
    }
}
