//! The one place where the time is read.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exchange_core::Time;
use tokio::time::Instant;

/// Gives wall-clock times to events and steady times to state machines: a step of the system's clock must neither
/// stall a schedule nor make it race.
#[derive(Debug, Clone, Copy)]
pub struct Clock {
    wall: Time,
    started: Instant,
    simulated: bool,
}

impl Clock {
    /// The system's clock.
    pub fn system() -> Self {
        Self { wall: system(), started: Instant::now(), simulated: false }
    }

    /// A clock that shows `wall` now and moves with tokio's, which a simulation pauses and advances.
    pub fn simulated(wall: Time) -> Self {
        Self { wall, started: Instant::now(), simulated: true }
    }

    /// The wall clock's time: what an event's `t` says.
    pub fn wall(&self) -> Time {
        if self.simulated { self.now() } else { system() }
    }

    /// A time that only moves forward, at an even pace.
    pub fn now(&self) -> Time {
        self.wall + self.started.elapsed()
    }

    /// How long it is until `time` comes.
    pub(crate) fn until(&self, time: Time) -> Duration {
        time.since(self.now())
    }
}

fn system() -> Time {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    Time::EPOCH + since
}
