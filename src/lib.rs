//! Exchange market-data collector: every price, funding rate, open interest, trade and book change of every venue.
//!
//! This crate only re-exports: [`core`] is the vocabulary and every state machine, [`venues`] what the venues say and
//! mean, [`runtime`] the sockets and tasks, [`sinks`] where events go.

pub use exchange_core as core;
pub use exchange_runtime as runtime;
pub use exchange_sinks as sinks;
pub use exchange_venues as venues;
