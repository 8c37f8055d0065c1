//! How long to wait for an answer: as long as the venue usually takes, and then some.
//!
//! The estimate is that of network protocols (RFC 6298): a mean and a mean deviation, each request counting a little.

use std::time::Duration;

/// A time-out is so many times the usual latency at least: venues are slow for good reasons now and then.
const GENEROUS: u32 = 3;

/// The latencies of one endpoint.
#[derive(Debug, Clone, Default)]
pub struct Latency {
    /// Mean and mean deviation in microseconds; nothing before the first answer.
    known: Option<(i64, i64)>,
    /// How often in a row there was no answer in time: each time is given twice as long as the last.
    late: u32,
}

impl Latency {
    /// An answer took so long.
    pub fn observe(&mut self, took: Duration) {
        let took = i64::try_from(took.as_micros()).unwrap_or(i64::MAX);
        self.late = 0;
        self.known = Some(match self.known {
            None => (took, took / 2),
            Some((mean, deviation)) => (mean + (took - mean) / 8, deviation + ((took - mean).abs() - deviation) / 4),
        });
    }

    /// There was no answer in time.
    pub fn late(&mut self) {
        self.late = self.late.saturating_add(1);
    }

    /// How long to wait for the next one. Before anything is known, as long as possible.
    pub fn timeout(&self, least: Duration, most: Duration) -> Duration {
        let Some((mean, deviation)) = self.known else { return most };
        let usual = Duration::from_micros(u64::try_from(mean.saturating_add(4 * deviation)).unwrap_or(0));
        (usual * GENEROUS).max(least).saturating_mul(1 << self.late.min(10)).min(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(15));

    fn after(latency: &mut Latency, millis: &[u64]) -> Duration {
        for millis in millis {
            latency.observe(Duration::from_millis(*millis));
        }
        latency.timeout(BOUNDS.0, BOUNDS.1)
    }

    #[test]
    fn follows_the_venue_within_bounds() {
        let mut latency = Latency::default();
        assert_eq!(after(&mut latency, &[]), BOUNDS.1);
        assert_eq!(after(&mut latency, &[40; 50]), BOUNDS.0);
        let slow = after(&mut latency, &[1500; 50]);
        assert!(slow > Duration::from_secs(4) && slow < Duration::from_secs(6), "{slow:?}");
        assert_eq!(after(&mut latency, &[20_000; 50]), BOUNDS.1);
    }

    #[test]
    fn what_was_late_is_given_longer() {
        let mut latency = Latency::default();
        after(&mut latency, &[40; 20]);
        let waits: Vec<u64> = (0..5)
            .map(|_| {
                latency.late();
                latency.timeout(BOUNDS.0, BOUNDS.1).as_secs()
            })
            .collect();
        assert_eq!(waits, [4, 8, 15, 15, 15]);
        assert_eq!(after(&mut latency, &[40]), BOUNDS.0);
    }
}
