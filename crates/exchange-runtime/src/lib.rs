//! The collector's runtime: the only sockets and tasks. Venues, sessions, budgets and circuits are
//! [`exchange_core`]'s; this crate moves their bytes.
//!
//! One actor a venue owns its schedule, budgets and circuits; one task a connection drives its session. Both decode
//! what arrives and pass it through the venue's pipeline to the sinks' queues.
//!
//! A [`Collector`] collects events into sinks; a [`Client`] answers single questions and hands out single streams.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod capture;
mod client;
mod clock;
mod collector;
mod delivery;
mod http;
mod journal;
pub mod ledger;
mod limits;
mod losses;
mod meters;
mod net;
mod output;
mod queue;
mod replay;
mod retry;
mod shared;
mod state;
mod venue;
mod watchdog;
mod ws;

pub use client::{Client, ClientError, ClientErrorKind, Record, Watch, WatchError};
pub use clock::Clock;
pub use collector::{Builder, Collector, Digest, Monitor, StartError, Summary, VenueStatus, VenueSummary, unserved};
pub use delivery::SinkStatus;
pub use exchange_spool as spool;
pub use net::{Failure, FailureKind, HttpAnswer, HttpRequest, Net, Outside, Socket, handshake, websocket_config};
pub use replay::{Passing, Replay};
pub use shared::Health;
pub use state::{StateDir, StateError};
pub use venue::Chooser;
