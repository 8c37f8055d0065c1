//! Binance: spot, USD-M futures (linear) and COIN-M futures (inverse), as its documents describe them in 2026.
//!
//! USD-M's streams are split by path (`/public`, `/market`); spot and COIN-M share the unsplit one, which here means
//! that a stream's market is that of its symbol.

mod facts;
mod rest;
mod ws;

use std::time::Duration;

use exchange_core::{Market, Time};

use crate::book::Numbering;
use crate::hub::ConnId;
use crate::listing::Listing;
use crate::market::{Inst, Moved};
use crate::wire::{Answer, Cost, Push, Request, Route, Wire};
use crate::world::World;

/// The venue.
#[derive(Debug)]
pub(crate) struct Binance;

impl Wire for Binance {
    fn name(&self) -> &'static str {
        "binance"
    }

    fn symbol(&self, market: Market, base: &str, quote: &str, expiry: Option<Time>) -> (String, String) {
        let pair = format!("{base}{quote}");
        let symbol = match expiry {
            Some(expiry) => {
                let (year, month, day) = expiry.date();
                format!("{pair}_{:02}{month:02}{day:02}", year.rem_euclid(100))
            }
            None if market == Market::Inverse => format!("{pair}_PERP"),
            None => pair.clone(),
        };
        (symbol, pair)
    }

    fn dated_quote(&self, _index: usize) -> &'static str {
        "USDT"
    }

    fn inverse_contract(&self, base: &str) -> i64 {
        if base == "BTC" { 100 } else { 10 }
    }

    fn unusual_base(&self, market: Market) -> Option<&'static str> {
        (market != Market::Inverse).then_some("币安人生")
    }

    fn lists_dead_pairs(&self) -> bool {
        true
    }

    fn global_trade_ids(&self, _market: Market) -> bool {
        false
    }

    fn numbering(&self, market: Market) -> Numbering {
        if market == Market::Spot { Numbering::EachChange } else { Numbering::ChangesWithHoles }
    }

    fn one_ticker_has_all(&self, _market: Market) -> bool {
        false
    }

    fn mark_scale(&self, _listing: &Listing) -> u8 {
        8
    }

    fn rest(&self, world: &mut World, request: &Request) -> Answer {
        rest::answer(world, request)
    }

    fn cost(&self, request: &Request) -> Cost {
        rest::cost(request)
    }

    fn refused(&self, cost: &Cost, used: u32, wall: Time, until: Time) -> Answer {
        rest::refused(cost, used, wall, until)
    }

    fn route(&self, path: &str) -> Option<Route> {
        ws::route(path)
    }

    fn opened(&self, world: &mut World, conn: ConnId, path: &str, query: &[(String, String)]) {
        ws::opened(world, conn, path, query);
    }

    fn frame(&self, world: &mut World, conn: ConnId, text: &str) {
        ws::frame(world, conn, text);
    }

    fn publish(&self, push: &mut Push<'_>, index: usize, inst: &Inst, moved: &Moved<'_>) {
        ws::publish(push, index, inst, moved);
    }

    fn beat(&self, world: &mut World) {
        ws::beat(world);
    }

    fn frames_per_second(&self, route: Route) -> u32 {
        // Spot's limit is half of the futures'; COIN-M shares its path here.
        if route.surface == ws::UNSPLIT { 5 } else { 10 }
    }

    fn ping_every(&self) -> Option<Duration> {
        Some(Duration::from_secs(20))
    }
}
