//! The one place where the time is read.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use exchange_core::Time;

/// Gives wall-clock times to events and steady times to state machines: a step of the system's clock must neither
/// stall a schedule nor make it race.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock {
    wall: Time,
    started: Instant,
}

impl Clock {
    pub(crate) fn start() -> Self {
        Self { wall: Self::wall(), started: Instant::now() }
    }

    /// The system's time: what an event's `t` says.
    pub(crate) fn wall() -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
        Time::EPOCH + since
    }

    /// A time that only moves forward, at an even pace.
    pub(crate) fn now(&self) -> Time {
        self.wall + self.started.elapsed()
    }

    /// How long it is until `time` comes.
    pub(crate) fn until(&self, time: Time) -> Duration {
        time.since(self.now())
    }
}
