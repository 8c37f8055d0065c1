//! The journal between the pipelines and the sinks: what was appended survives the process, and each sink reads it at
//! its own pace.
//!
//! A [`Spool`] is a directory of segments, files of records that are only ever appended to and deleted whole. A record
//! holds one batch: its event lines, and a header that says whose they are without reading them. A [`Reader`] is a sink's
//! place in it, kept in a file of its own. Checkpoints are opaque bytes that stand for all batches up to a position.
//!
//! What this does not do: look into events (beyond where they belong), retry, or keep a second process out: its caller
//! holds a lock on the directory's owner.
//!
//! # What is lost, and when
//! - A killed process loses nothing that [`Spool::append`] has answered for. A power cut loses what was not synced
//!   ([`Options::sync`]); numbers go on far behind what could have been lost, so that no number is ever given twice.
//! - A damaged record costs itself. Where the header is whole the loss is known exactly; else it is told for every place
//!   that is known around it.
//! - At [`Options::max_bytes`], or when the disk is full, the oldest segment goes, read or not.
//!
//! Each of these reaches the readers concerned as [`Read::Lost`], whose batch holds the `gap` events.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod checkpoint;
mod cursor;
mod error;
mod inner;
mod loss;
mod reader;
mod record;
mod room;
mod segment;
mod spool;

use std::time::Duration;

pub use error::{Refused, SpoolError};
pub use loss::{Cause, Lost};
pub use reader::{Backlog, Read, Reader, Replay};
pub use spool::{Opened, Repaired, Spool};

/// How a spool uses its disk.
#[derive(Debug, Clone)]
pub struct Options {
    /// Size of a segment: what is deleted at a time. At most a quarter of [`max_bytes`](Options::max_bytes) is used.
    pub segment_bytes: u64,
    /// How much of the disk the segments may take. Beyond it the oldest goes.
    pub max_bytes: u64,
    /// When what was appended is forced to the disk.
    pub sync: Sync,
}

impl Default for Options {
    fn default() -> Self {
        Self { segment_bytes: 64 << 20, max_bytes: 16 << 30, sync: Sync::Every(Duration::from_secs(1)) }
    }
}

impl Options {
    /// How large a segment gets.
    fn most(&self) -> u64 {
        self.segment_bytes.min(self.max_bytes / 4)
    }
}

/// When what was appended is forced to the disk. It only matters when the machine stops: what a process wrote outlives it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sync {
    /// In the background, this long after the last time.
    Every(Duration),
    /// Before [`Spool::append`] or [`Spool::settled`] answers, and before anybody reads it; those who append at the same time
    /// share it. Should it fail, the batch is in the journal all the same; `collector_spool_sync_errors_total` counts it.
    Always,
    /// When the system likes to, and at checkpoints.
    Never,
}
