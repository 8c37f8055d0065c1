//! Vocabulary and state machines of the collector: what an event is, what a venue is, and what happens in what order.
//! No socket, no task, no clock, no global: time and chance are arguments.
//!
//! In reading order: [`event`] and its [`decimal`]s, [`time`]s and [`instrument`]s; [`canonical`] for an event's id,
//! [`encode`] for its JSON; [`exchange`] for what a venue is, described by its [`profile`]; [`mod@wire`] for reading its
//! JSON, [`proto`] where it writes protobuf; [`plan`] for what to ask it.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

pub mod batch;
pub mod book;
pub mod budget;
pub mod canonical;
pub mod capture;
pub mod circuit;
pub mod decimal;
pub mod encode;
pub mod error;
pub mod event;
pub mod exchange;
pub mod feed;
pub mod fold;
pub mod history;
pub mod instrument;
pub mod latency;
pub mod ledger;
pub mod liveness;
pub mod memo;
pub mod offline;
pub mod parse;
pub mod pipeline;
pub mod plan;
pub mod profile;
pub mod proto;
pub mod refill;
pub mod roster;
pub mod seal;
pub mod session;
pub mod spread;
mod template;
pub mod time;
pub mod wire;

pub use batch::{Batch, NoPosition, Position};
pub use decimal::Decimal;
pub use error::{DecodeError, ErrorKind};
pub use event::{Body, Channel, Event, EventId};
pub use exchange::{Control, Decoder, Exchange, Input, Op, Out, Source};
pub use feed::{Feed, Turn, Venue};
pub use fold::Latest;
pub use instrument::{Instrument, Market};
pub use offline::Offline;
pub use parse::{Interner, ParseError};
pub use pipeline::Pipeline;
pub use plan::{Mode, Plan, Request, Topic, Want};
pub use profile::Profile;
pub use roster::Roster;
pub use seal::Sealer;
pub use session::Session;
pub use spread::Spread;
pub use time::{Interval, Time};
