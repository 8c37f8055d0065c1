//! How often a stream tells something, as it learns.

use std::collections::HashMap;
use std::time::Duration;

use crate::event::Channel;

/// How often something is expected where nothing is known.
const UNKNOWN: Duration = Duration::from_secs(30);
/// No cadence that is learned counts as shorter: streams come in bursts.
const SHORTEST: Duration = Duration::from_secs(3);
/// Nor does any count as longer.
const LONGEST: Duration = Duration::from_hours(1);
/// Intervals after which a cadence counts as learned.
pub(super) const LEARNED: u32 = 8;

/// The intervals of one stream, as of a network's round trips (RFC 6298).
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Rhythm {
    /// Mean interval and mean deviation from it, in microseconds.
    mean: i64,
    deviation: i64,
    intervals: u32,
}

impl Rhythm {
    /// So much time, in microseconds, was between two of its events, or since its beginning.
    #[inline]
    pub(super) fn note(&mut self, interval: i64) {
        if self.intervals == 0 {
            (self.mean, self.deviation) = (interval, interval / 2);
        } else {
            self.deviation += ((interval - self.mean).abs() - self.deviation) / 4;
            self.mean += (interval - self.mean) / 8;
        }
        self.intervals = self.intervals.saturating_add(1);
    }

    /// Whether it is known well enough to tell what is typical of others.
    pub(super) fn is_learned(&self) -> bool {
        self.intervals >= LEARNED
    }

    /// Whether it was learned from more than the other one.
    pub(super) fn knows_more_than(&self, other: &Self) -> bool {
        self.intervals > other.intervals
    }

    /// How often something is expected; of what has not spoken often enough, as of others of its kind, unless it is known to
    /// be slower.
    pub(super) fn cadence(&self, typical: Option<Duration>) -> Duration {
        let own = Duration::from_micros(u64::try_from(self.mean + 2 * self.deviation).unwrap_or(0)).clamp(SHORTEST, LONGEST);
        if self.is_learned() { own } else { own.max(typical.map_or(UNKNOWN, |typical| (2 * typical).min(UNKNOWN))) }
    }
}

/// What was learned of a connection's streams: the next one that carries them need not learn it anew.
#[derive(Debug, Clone, Default)]
pub struct Rhythms(HashMap<(Channel, Box<str>), Rhythm>);

impl Rhythms {
    pub(super) fn insert(&mut self, channel: Channel, symbol: &str, rhythm: Rhythm) {
        if rhythm.intervals > 0 {
            self.0.insert((channel, symbol.into()), rhythm);
        }
    }

    pub(super) fn get(&self, channel: Channel, symbol: &str) -> Option<Rhythm> {
        self.0.get(&(channel, symbol.into())).copied()
    }
}
