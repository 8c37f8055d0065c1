//! What every venue must do, asked of the registry: no venue is named here. A venue adds fixtures, not tests.
//!
//! Fixtures are capture lines in `src/<venue>/fixtures/*.ndjson`; the events that they must give stand beside them in
//! `*.events.ndjson`, written by `cargo xtask bless` and reviewed like code.

#![expect(clippy::disallowed_methods, reason = "fixtures are files, and what a run of this suite does is set in the environment")]

mod contract;
mod decoding;
mod fixtures;
mod hostile;
mod plans;
mod profiles;
