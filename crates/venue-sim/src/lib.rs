//! Simulated venues over loopback HTTP and WebSocket, in the venues' real wire formats.
//!
//! Two kinds of markets, one server. A *seeded* market (random walk, consistent books, funding, liquidations, hundreds
//! or thousands of instruments) speaks the wire format of a few venues, and writes the truth: every event that it
//! served, out of its own state. It never decodes what it sent, and does not know the collector's decoders, so the two
//! cannot share a mistake. A *played* market serves captures of any venue, with no code per venue; its truth is what stands beside
//! the captures. Both stand under `/NAME` on one port, side by side if need be, and both inject the faults of a small file.
//!
//! ```no_run
//! # async fn example() -> Result<(), venue_sim::Error> {
//! let sim = venue_sim::start(&venue_sim::Config { symbols: 50, ..Default::default() })?;
//! println!("collector run --exchanges binance,bybit {}", sim.options().join(" "));
//! sim.shutdown().await?;
//! # Ok(())
//! # }
//! ```

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod binance;
mod body;
mod book;
mod bybit;
mod clock;
mod config;
mod facts;
pub mod faults;
mod handle;
mod hub;
mod inside;
mod line;
mod listing;
mod market;
mod num;
mod play;
mod request;
mod rest;
mod server;
mod socket;
mod source;
mod truth;
mod wire;
mod world;

pub use config::{Config, Error};
pub use handle::{Counters, Handle, Summary, start};
pub use inside::{Door, Inside};

/// The venues that have a seeded market.
pub fn venues() -> impl Iterator<Item = &'static str> {
    wire::ALL.iter().map(|wire| wire.name())
}
