//! What time it is: the one place where a clock is read.

use std::time::{SystemTime, UNIX_EPOCH};

use exchange_core::Time;
use tokio::time::Instant;

/// The clock on the wall, by which events are served.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Wall {
    /// The system's.
    System,
    /// It showed a time at an instant of tokio's clock, and moves with that: a test pauses and advances it.
    Virtual(Time, Instant),
}

impl Wall {
    /// What it shows.
    pub(crate) fn now(self) -> Time {
        match self {
            Self::System => {
                let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
                Time::from_micros(i64::try_from(since.as_micros()).unwrap_or(i64::MAX))
            }
            Self::Virtual(began, at) => began + at.elapsed(),
        }
    }
}
