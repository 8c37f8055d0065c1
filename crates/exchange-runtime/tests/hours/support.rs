//! What the tests of the binary know of events and of venues that are played.
#![allow(dead_code, unused_imports, reason = "another test's")]

use std::path::{Path, PathBuf};

#[path = "../../../../tests/support/events.rs"]
mod events;
#[path = "../../../../tests/support/fixtures.rs"]
mod fixtures;
#[path = "../../../../tests/support/played.rs"]
mod played;

pub(crate) use self::events::{Events, Line, assert_same, text};
pub(crate) use self::fixtures::{captures, lines, venues};
pub(crate) use self::played::{Played, TYPES};

/// The files of a directory, in the order of their names.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
