//! A watch over the collector itself: whether its tasks move, and how late the runtime wakes them.

use std::sync::Weak;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use exchange_core::Time;
use tokio::time::Instant;

use crate::shared::Shared;

/// How often it looks.
const EVERY: Duration = Duration::from_secs(1);
/// A task turns at least so often, whatever it waits for.
pub(crate) const TURN: Duration = Duration::from_secs(10);
/// A task that has not turned for so long is stuck.
const STUCK: Duration = Duration::from_mins(1);
/// So late a wake-up is worth a line in the log.
const LATE: Duration = Duration::from_secs(1);

/// When a task turned last.
#[derive(Debug, Default)]
pub(crate) struct Pulse(AtomicI64);

impl Pulse {
    pub(crate) fn beat(&self, now: Time) {
        self.0.store(now.micros(), Ordering::Relaxed);
    }

    /// For how long the task has not turned, if that is too long.
    pub(crate) fn stuck(&self, now: Time) -> Option<Duration> {
        let last = self.0.load(Ordering::Relaxed);
        let silent = now.since(Time::from_micros(last));
        (last != 0 && silent >= STUCK).then_some(silent)
    }
}

/// Looks after the venues' tasks until they are gone.
pub(crate) async fn watch(venues: Vec<Weak<Shared>>) {
    let lag = metrics::histogram!("collector_event_loop_lag_seconds");
    let stuck = metrics::gauge!("collector_stuck_tasks");
    loop {
        let asleep = Instant::now();
        tokio::time::sleep(EVERY).await;
        let late = asleep.elapsed().saturating_sub(EVERY);
        lag.record(late.as_secs_f64());
        if late > LATE {
            tracing::warn!(seconds = late.as_secs_f64(), "the runtime was late: the machine is overloaded, or a task does not give way");
        }
        let there: Vec<_> = venues.iter().filter_map(Weak::upgrade).collect();
        if there.is_empty() {
            return;
        }
        let mut count = 0;
        for shared in there {
            let silent = shared.pulse.stuck(shared.clock.now());
            count += u32::from(silent.is_some());
            shared.problem("its task", silent.map(|silent| format!("has not moved for {} s", silent.as_secs())));
        }
        stuck.set(f64::from(count));
    }
}
