//! Bybit v5: spot, linear and inverse, one category to a connection, as its documents describe them in 2026.

mod facts;
mod rest;
mod ws;

use std::time::Duration;

use exchange_core::{Market, Time};

use crate::book::Numbering;
use crate::hub::ConnId;
use crate::listing::Listing;
use crate::market::{Inst, Moved, Row, Trade};
use crate::num::{Num, mix};
use crate::wire::{Answer, Cost, Push, Request, Route, Wire};
use crate::world::World;

/// The venue.
#[derive(Debug)]
pub(crate) struct Bybit;

/// Month codes of inverse futures: March, June, September, December.
const MONTHS: [(u32, &str, &str); 4] = [(3, "H", "MAR"), (6, "M", "JUN"), (9, "U", "SEP"), (12, "Z", "DEC")];

impl Wire for Bybit {
    fn name(&self) -> &'static str {
        "bybit"
    }

    fn symbol(&self, market: Market, base: &str, quote: &str, expiry: Option<Time>) -> (String, String) {
        let pair = format!("{base}{quote}");
        let usdc = market == Market::Linear && quote == "USDC";
        let symbol = match expiry {
            Some(expiry) => {
                let (year, month, day) = expiry.date();
                let (_, letter, name) = MONTHS.into_iter().find(|(number, ..)| *number == month).unwrap_or_default();
                let year = year.rem_euclid(100);
                match market {
                    Market::Inverse => format!("{pair}{letter}{year:02}"),
                    _ if usdc => format!("{base}-{day}{name}{year:02}"),
                    _ => format!("{pair}-{day}{name}{year:02}"),
                }
            }
            None if usdc => format!("{base}PERP"),
            None => pair.clone(),
        };
        (symbol, pair)
    }

    fn dated_quote(&self, index: usize) -> &'static str {
        if index.is_multiple_of(2) { "USDT" } else { "USDC" }
    }

    fn inverse_contract(&self, _base: &str) -> i64 {
        1
    }

    fn unusual_base(&self, _market: Market) -> Option<&'static str> {
        None
    }

    fn lists_dead_pairs(&self) -> bool {
        false
    }

    fn global_trade_ids(&self, market: Market) -> bool {
        market == Market::Spot
    }

    fn numbering(&self, _market: Market) -> Numbering {
        Numbering::Updates
    }

    fn one_ticker_has_all(&self, _market: Market) -> bool {
        true
    }

    fn mark_scale(&self, listing: &Listing) -> u8 {
        listing.price_scale
    }

    fn rest(&self, world: &mut World, request: &Request) -> Answer {
        rest::answer(world, request)
    }

    fn cost(&self, _request: &Request) -> Cost {
        Cost { budget: "ip", units: 1, limit: 600, seconds: 5, header: None }
    }

    fn refused(&self, _cost: &Cost, _used: u32, _wall: Time, _until: Time) -> Answer {
        Answer::error(403, "access too frequent")
    }

    fn route(&self, path: &str) -> Option<Route> {
        ws::route(path)
    }

    fn opened(&self, _world: &mut World, _conn: ConnId, _path: &str, _query: &[(String, String)]) {}

    fn frame(&self, world: &mut World, conn: ConnId, text: &str) {
        ws::frame(world, conn, text);
    }

    fn publish(&self, push: &mut Push<'_>, index: usize, inst: &Inst, moved: &Moved<'_>) {
        ws::publish(push, index, inst, moved);
    }

    fn beat(&self, _world: &mut World) {}

    fn frames_per_second(&self, _route: Route) -> u32 {
        // Not documented.
        500
    }

    fn ping_every(&self) -> Option<Duration> {
        None
    }
}

/// A category's name, which is the market's.
fn category(text: &str) -> Option<Market> {
    Market::parse(text).filter(|market| *market != Market::Option)
}

/// The number of a trade: a UUID on derivatives, digits on spot.
fn trade_id(inst: &Inst, trade: &Trade) -> String {
    if inst.market() == Market::Spot {
        return trade.id.to_string();
    }
    let (high, low) = (mix(inst.key, trade.id), mix(inst.key ^ 1, trade.id));
    let text = format!("{high:016x}{low:016x}");
    let part = |from: usize, to: usize| text.get(from..to).unwrap_or_default();
    format!("{}-{}-5{}-a{}-{}", part(0, 8), part(8, 12), part(13, 16), part(17, 20), part(20, 32))
}

/// A value of a ticker, as the venue writes it.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Value {
    Number(Num),
    Integer(i64),
    Nothing,
}

/// Fields of a derivative's ticker, in the venue's order. A field's place is its bit in a set of changed fields.
const FIELDS: [&str; 25] = [
    "price24hPcnt",
    "lastPrice",
    "prevPrice24h",
    "highPrice24h",
    "lowPrice24h",
    "prevPrice1h",
    "markPrice",
    "indexPrice",
    "openInterest",
    "openInterestValue",
    "singleOpenInterest",
    "singleOpenInterestValue",
    "turnover24h",
    "volume24h",
    "fundingIntervalHour",
    "fundingCap",
    "nextFundingTime",
    "fundingRate",
    "bid1Price",
    "bid1Size",
    "ask1Price",
    "ask1Size",
    "basis",
    "basisRate",
    "predictedDeliveryPrice",
];

/// The set of all fields.
const ALL: u32 = (1 << FIELDS.len()) - 1;

/// The bit of a field.
fn bit(name: &str) -> u32 {
    FIELDS.iter().position(|field| *field == name).map_or(0, |at| 1 << at)
}

/// The values of [`FIELDS`].
fn values(inst: &Inst, row: &Row) -> [Value; FIELDS.len()] {
    use Value::{Integer, Nothing, Number};
    let perpetual = inst.funding_hours > 0;
    let funding = |value: Value| if perpetual { value } else { Nothing };
    let dated = |value: Value| if perpetual { Nothing } else { value };
    let price = |ticks: i64| Number(inst.price(ticks));
    let both = both_sides(row);
    let places = if inst.market() == Market::Inverse { 4 } else { 2 };
    [
        Number(Num::new(row.change(6), 6)),
        price(row.last),
        price(row.open),
        price(row.high),
        price(row.low),
        price(row.open),
        Number(inst.mark_price(row.mark)),
        Number(inst.mark_price(row.index)),
        Number(inst.size(both)),
        Number(inst.interest_value(row, both, places)),
        Number(inst.size(row.interest)),
        Number(inst.interest_value(row, row.interest, places)),
        Number(inst.turnover_num(row.turnover)),
        Number(inst.size(row.volume)),
        funding(Integer(inst.funding_hours)),
        funding(Number(Num::new(inst.cap, crate::market::RATE_SCALE))),
        funding(Integer(row.next_funding)),
        funding(Number(Num::new(row.rate, crate::market::RATE_SCALE))),
        price(row.bid),
        Number(inst.size(row.bid_size)),
        price(row.ask),
        Number(inst.size(row.ask_size)),
        dated(Number(basis(inst, row))),
        dated(Number(Num::new(row.change(8) / 10, 8))),
        dated(Number(Num::new(0, 2))),
    ]
}

/// The venue counts both sides of the open interest.
fn both_sides(row: &Row) -> i64 {
    row.interest * 2
}

fn basis(inst: &Inst, row: &Row) -> Num {
    inst.mark_price(row.mark - row.index)
}

/// The fields in which two states differ.
fn differing(a: &[Value; FIELDS.len()], b: &[Value; FIELDS.len()]) -> u32 {
    a.iter().zip(b).enumerate().fold(0, |set, (at, (a, b))| if a == b { set } else { set | 1 << at })
}
