//! When each book of a connection is asked to begin anew.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::circuit::BackOff;
use crate::instrument::{Instrument, Market};
use crate::time::Time;

/// A book is not asked for more often than this.
pub(super) const PAUSE: Duration = Duration::from_secs(1);
/// Pauses after snapshots that did not come, or did not join the stream: a half of it at least, and never so long that a
/// book is stopped for much longer than its venue is.
const RETRY: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(10));

type Key = (Market, Box<str>);

/// The books that began anew, or shall.
#[derive(Debug)]
pub(super) struct Resyncs {
    /// When each may be asked for again.
    next: HashMap<Key, Time>,
    /// Those that must be, and when.
    later: BTreeMap<Time, Vec<Arc<Instrument>>>,
    /// Of those whose snapshots fail.
    pauses: HashMap<Key, BackOff>,
    rng: fastrand::Rng,
    epoch: Instant,
}

fn key(instrument: &Instrument) -> Key {
    (instrument.market, instrument.venue_symbol.clone())
}

impl Resyncs {
    /// `epoch` is any instant, as for [`BackOff::new`].
    pub(super) fn new(seed: u64, epoch: Instant) -> Self {
        Self { next: HashMap::new(), later: BTreeMap::new(), pauses: HashMap::new(), rng: fastrand::Rng::with_seed(seed), epoch }
    }

    /// Whether a book may be asked for now, which counts; if not, it comes with [`Resyncs::due`] later.
    pub(super) fn begin(&mut self, now: Time, instrument: &Arc<Instrument>) -> bool {
        let next = self.next.entry(key(instrument)).or_insert(now);
        if *next > now {
            let at = *next;
            // What is due already will do.
            if !self.later.values().flatten().any(|known| known == instrument) {
                self.later.entry(at).or_default().push(instrument.clone());
            }
            return false;
        }
        *next = now + PAUSE;
        self.take_off(instrument);
        true
    }

    fn take_off(&mut self, instrument: &Instrument) {
        self.later.retain(|_, due| {
            due.retain(|known| **known != *instrument);
            !due.is_empty()
        });
    }

    /// A book's snapshot did not come, or does not join: it is asked for again, each time a little later.
    pub(super) fn failed(&mut self, now: Time, instrument: &Arc<Instrument>) {
        let (rng, epoch) = (&mut self.rng, self.epoch);
        let pauses = self.pauses.entry(key(instrument)).or_insert_with(|| BackOff::new(RETRY.0, RETRY.1, rng.u64(..), epoch));
        let at = now + pauses.next_pause();
        self.next.insert(key(instrument), at);
        self.take_off(instrument);
        self.later.entry(at).or_default().push(instrument.clone());
    }

    /// A book's snapshot came.
    pub(super) fn succeeded(&mut self, instrument: &Instrument) {
        self.pauses.remove(&key(instrument));
    }

    /// When the next one is due.
    pub(super) fn next(&self) -> Option<Time> {
        self.later.keys().next().copied()
    }

    /// Those that are due.
    pub(super) fn due(&mut self, now: Time) -> Vec<Arc<Instrument>> {
        let mut due = Vec::new();
        while let Some(first) = self.later.first_entry().filter(|first| *first.key() <= now) {
            due.extend(first.remove());
        }
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Time = Time::from_millis(1_763_640_000_000);

    fn instrument(name: &str) -> Arc<Instrument> {
        Arc::new(Instrument::named(&"toy".into(), Market::Linear, name, None))
    }

    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn resyncs(seed: u64) -> Resyncs {
        Resyncs::new(seed, Instant::now())
    }

    /// The pauses of a book whose snapshots fail `times` times, and whose stream breaks all the while.
    fn pauses(resyncs: &mut Resyncs, now: &mut Time, times: usize) -> Vec<Duration> {
        let book = instrument("A");
        let mut pauses = Vec::new();
        for _ in 0..times {
            let failed = *now;
            resyncs.failed(failed, &book);
            while !resyncs.begin(*now, &book) {
                *now = *now + Duration::from_millis(10);
            }
            assert!(resyncs.due(*now).is_empty(), "once");
            pauses.push(now.since(failed));
        }
        pauses
    }

    #[test]
    fn what_fails_is_asked_for_less_and_less_often() {
        let (mut one, mut now) = (resyncs(1), START);
        assert!(one.begin(now, &instrument("A")));
        let pauses_of_one = pauses(&mut one, &mut now, 8);
        for (pause, whole) in pauses_of_one.iter().zip([2, 4, 8, 10, 10, 10, 10, 10]) {
            let whole = Duration::from_secs(whole);
            assert!(*pause >= whole / 2 && *pause <= whole + Duration::from_millis(10), "{pauses_of_one:?}");
        }
        assert_ne!(pauses_of_one, pauses(&mut resyncs(2), &mut { START }, 8), "no two in step");
        assert!(one.begin(now, &instrument("B")), "another book is not concerned");
        one.succeeded(&instrument("A"));
        assert!(pauses(&mut one, &mut now, 1)[0] <= RETRY.0 + Duration::from_millis(10), "what came is the end of it");
    }

    #[test]
    fn what_is_due_is_due_once() {
        let (mut resyncs, book) = (resyncs(1), instrument("A"));
        assert!(resyncs.begin(START, &book));
        resyncs.failed(START, &book);
        resyncs.failed(START, &book);
        assert!(!resyncs.begin(START, &book));
        let end = START + RETRY.1;
        assert_eq!((resyncs.due(end).len(), resyncs.due(end).len(), resyncs.next()), (1, 0, None));
    }
}
