//! The venues: what to ask for, and what their bytes mean. One folder a venue, one line here.
//!
//! Nothing but this list names a venue to the rest of the collector. This crate has no socket, no task and no clock.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

use exchange_core::Exchange;

mod binance;
mod bybit;
mod deribit;
mod gate;
mod hyperliquid;
mod kucoin;
mod mexc;
mod okx;
#[cfg(test)]
mod testing;

/// All venues, in alphabetical order.
pub fn all() -> &'static [&'static dyn Exchange] {
    &[&binance::Binance, &bybit::Bybit, &deribit::Deribit, &gate::Gate, &hyperliquid::Hyperliquid, &kucoin::Kucoin, &mexc::Mexc, &okx::Okx]
}
