//! What is counted of one venue's events.

use std::sync::{Mutex, PoisonError};

use exchange_core::event::{CHANNELS, Origin};
use exchange_core::pipeline::Counts;
use exchange_core::{Body, Channel, Event};

use crate::net::FailureKind;

/// The meters of one venue.
pub(crate) struct Meters {
    events: [metrics::Counter; CHANNELS],
    unchanged: metrics::Counter,
    duplicates: metrics::Counter,
    gaps: metrics::Counter,
    errors: metrics::Counter,
    pub(crate) lag: metrics::Histogram,
    refilled: metrics::Counter,
    /// What was told to the counters so far.
    told: Mutex<Counts>,
}

impl Meters {
    pub(crate) fn new(venue: &str) -> Self {
        let venue = venue.to_owned();
        // There from the beginning: an alert needs the zero before the first of them.
        for name in ["collector_reconnects_total", "collector_resubscriptions_total", "collector_task_restarts_total"] {
            drop(metrics::counter!(name, "venue" => venue.clone()));
        }
        for reason in FailureKind::ALL {
            drop(metrics::counter!("collector_connect_failures_total", "venue" => venue.clone(), "reason" => reason));
        }
        for channel in ["trade", "candle", "funding_settled"] {
            for complete in [true, false] {
                refills(&venue, channel, complete).increment(0);
            }
        }
        let kind = |at: usize| Channel::NAMES.iter().filter_map(|name| Channel::parse(name)).find(|channel| channel.index() == at).map_or("", Channel::as_str);
        Self {
            events: std::array::from_fn(|at| metrics::counter!("collector_events_total", "venue" => venue.clone(), "channel" => kind(at))),
            unchanged: metrics::counter!("collector_unchanged_total", "venue" => venue.clone()),
            duplicates: metrics::counter!("collector_duplicates_total", "venue" => venue.clone()),
            gaps: metrics::counter!("collector_gaps_total", "venue" => venue.clone()),
            errors: metrics::counter!("collector_decode_errors_total", "venue" => venue.clone()),
            refilled: metrics::counter!("collector_refilled_events_total", "venue" => venue.clone()),
            lag: metrics::histogram!("collector_event_lag_seconds", "venue" => venue),
            told: Mutex::default(),
        }
    }

    /// Tells the counters how the pipeline's have grown.
    pub(crate) fn tell(&self, counts: Counts) {
        let mut told = self.told.lock().unwrap_or_else(PoisonError::into_inner);
        let told = &mut *told;
        let tell = |meter: &metrics::Counter, now: u64, told: &mut u64| {
            let new = news(now, told);
            if new > 0 {
                meter.increment(new);
            }
        };
        for ((meter, now), told) in self.events.iter().zip(counts.by_channel).zip(&mut told.by_channel) {
            tell(meter, now, told);
        }
        tell(&self.unchanged, counts.unchanged, &mut told.unchanged);
        tell(&self.duplicates, counts.duplicates, &mut told.duplicates);
        tell(&self.gaps, counts.gaps, &mut told.gaps);
        tell(&self.errors, counts.errors, &mut told.errors);
    }

    /// Counts what was recovered, and the gaps that it closed or not.
    pub(crate) fn count_refills(&self, venue: &str, events: &[Event]) {
        self.refilled.increment(events.iter().filter(|event| event.origin == Some(Origin::Refill)).count() as u64);
        for event in events {
            if let Body::Refill(refill) = &event.body {
                refills(venue, refill.channel.as_str(), refill.complete).increment(1);
            }
        }
    }
}

/// What a count has gained since it was told. Connections may tell in another order than they counted: what was told stays told.
fn news(now: u64, told: &mut u64) -> u64 {
    let new = now.saturating_sub(*told);
    *told += new;
    new
}

/// Counts what became of gaps.
fn refills(venue: &str, channel: &'static str, complete: bool) -> metrics::Counter {
    metrics::counter!("collector_refills_total", "venue" => venue.to_owned(), "channel" => channel, "complete" => if complete { "true" } else { "false" })
}

#[cfg(test)]
mod tests {
    use super::news;

    #[test]
    fn a_count_that_is_told_late_is_not_told_twice() {
        let mut told = 0;
        let sum: u64 = [10, 30, 20, 40].into_iter().map(|now| news(now, &mut told)).sum();
        assert_eq!((sum, told), (40, 40));
    }
}
