//! Whether a stream left something out in a pause that is over: it may have been dead, and come back by itself.

use std::time::Duration;

use super::evidence::Evidence;
use crate::time::Time;

/// A pause so long is doubted.
pub(super) const DOUBTFUL: Duration = Duration::from_secs(30);
/// What is so near to the edges of a pause may be the venue's way of telling time.
const MARGIN: Duration = Duration::from_secs(1);
/// A question that could not be answered is asked again after so long,
const AGAIN: Duration = Duration::from_secs(10);
/// so often at most.
const ATTEMPTS: u32 = 3;
/// An answer that does not come by then is given up.
const UNANSWERED: Duration = Duration::from_mins(1);

/// A pause of trades that is over.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    /// When it began.
    pub(super) since: Time,
    /// The last trade before it and the first after it, by the venue's clock.
    between: (Time, Time),
    due: Time,
    asked: Option<Time>,
    attempts: u32,
}

/// What is known of it now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Known {
    /// Nothing was left out, or nobody can say any more.
    Nothing,
    /// Something was left out.
    LeftOut,
    /// It is still in doubt.
    InDoubt,
}

impl Doubt {
    /// A pause that began at `since` and is over `now`.
    pub(super) fn new(now: Time, since: Time, between: (Time, Time)) -> Self {
        Self { since, between, due: now, asked: None, attempts: 0 }
    }

    /// Whether the venue is being asked.
    pub(super) fn is_asked(&self) -> bool {
        self.asked.is_some()
    }

    /// Whether the venue is to be asked.
    pub(super) fn is_due(&mut self, now: Time) -> bool {
        if self.asked.is_some_and(|asked| now >= asked + UNANSWERED) {
            self.asked = None;
        }
        self.asked.is_none() && now >= self.due
    }

    /// The venue is asked.
    pub(super) fn ask(&mut self, now: Time) {
        (self.asked, self.due) = (Some(now), now + AGAIN);
        self.attempts += 1;
    }

    /// What its answer says; none if it could not be had.
    pub(super) fn answered(&mut self, evidence: Option<Evidence>) -> Known {
        self.asked = None;
        let Some(evidence) = evidence else {
            return if self.attempts < ATTEMPTS { Known::InDoubt } else { Known::Nothing };
        };
        let (from, to) = (self.between.0 + MARGIN, self.between.1.earlier(MARGIN));
        if evidence.latest.into_iter().flatten().any(|time| from < time && time < to) { Known::LeftOut } else { Known::Nothing }
    }
}
