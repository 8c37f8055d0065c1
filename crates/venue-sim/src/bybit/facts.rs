//! What Bybit's messages mean, as events: built out of the market, by `SCHEMA.md` and the venue's documents.

use exchange_core::event::{Body, Funding, FundingSettled, Ident, Mark, OpenInterest, Quote, Ticker};
use exchange_core::{Decimal, Event, Interval, Market, Time};

use super::{basis, bit, both_sides, trade_id};
use crate::book::{Changes, Level as Lots};
use crate::facts::{self, event};
use crate::market::{Candle, Inst, Liquidation, RATE_SCALE, Trade, time};
use crate::num::Num;

/// What a ticker tells of the fields that it carries. Spot's stream leaves the best prices out.
pub(super) fn ticker(inst: &Inst, wall: Time, at: i64, carried: u32, events: &mut Vec<Event>) {
    let row = &inst.row;
    let has = |name: &str, value: Num| (carried & bit(name) != 0).then(|| value.decimal());
    let positive = |value: Option<Decimal>| value.filter(Decimal::is_positive);
    let inverse = inst.market() == Market::Inverse;
    let ticker = Ticker {
        last: has("lastPrice", inst.price(row.last)),
        last_size: None,
        bid: positive(has("bid1Price", inst.price(row.bid))),
        bid_size: positive(has("bid1Size", inst.size(row.bid_size))),
        ask: positive(has("ask1Price", inst.price(row.ask))),
        ask_size: positive(has("ask1Size", inst.size(row.ask_size))),
        open_24h: has("prevPrice24h", inst.price(row.open)),
        high_24h: has("highPrice24h", inst.price(row.high)),
        low_24h: has("lowPrice24h", inst.price(row.low)),
        volume_24h: has("volume24h", inst.size(row.volume)),
        // That of an inverse contract is in base currency.
        turnover_24h: has("turnover24h", inst.turnover_num(row.turnover)).filter(|_| !inverse),
        change_24h: has("price24hPcnt", Num::new(row.change(6), 6)),
    };
    let mut tell = |body: Body| {
        if !body.is_empty() {
            events.push(event(inst, wall, Some(at), body));
        }
    };
    tell(Body::Ticker(ticker));
    if inst.market() == Market::Spot {
        return;
    }
    let perpetual = inst.funding_hours > 0;
    tell(Body::Mark(Mark {
        mark: has("markPrice", inst.mark_price(row.mark)),
        index: has("indexPrice", inst.mark_price(row.index)),
        basis: has("basis", basis(inst, row)).filter(|_| !perpetual),
    }));
    if perpetual {
        let cap = has("fundingCap", Num::new(inst.cap, RATE_SCALE));
        tell(Body::Funding(Funding {
            rate: has("fundingRate", Num::new(row.rate, RATE_SCALE)),
            next_time: (carried & bit("nextFundingTime") != 0).then(|| time(row.next_funding)),
            interval_hours: u32::try_from(inst.funding_hours).ok().filter(|_| carried & bit("fundingIntervalHour") != 0),
            predicted_rate: None,
            floor: cap.as_ref().map(Decimal::negated),
            cap,
        }));
    }
    let value = inst.interest_value(row, both_sides(row), if inverse { 4 } else { 2 });
    let value = has("openInterestValue", value);
    let (value_base, value_quote) = if inverse { (value, None) } else { (None, value) };
    tell(Body::OpenInterest(OpenInterest { value: has("openInterest", inst.size(both_sides(row))), value_base, value_quote }));
}

pub(super) fn quote(inst: &Inst, wall: Time, at: i64) -> Event {
    let side = |level: Option<Lots>| level.map(|(price, size)| (inst.price(price).decimal(), inst.size(size).decimal())).unzip();
    let ((bid, bid_size), (ask, ask_size)) = (side(inst.book.best_bid()), side(inst.book.best_ask()));
    event(inst, wall, Some(at), Body::Quote(Quote { bid, bid_size, ask, ask_size, seq: Some(inst.book.last_id.into()) }))
}

pub(super) fn trade(inst: &Inst, wall: Time, trade: &Trade) -> Event {
    facts::trade(inst, wall, trade, Ident::parse(&trade_id(inst, trade)))
}

/// The market knows the side of the forced order, as an event does. (The venue names that of the position.)
pub(super) fn liquidation(inst: &Inst, wall: Time, order: &Liquidation) -> Event {
    facts::liquidation(inst, wall, order, order.price)
}

/// A change of a book; the venue does not say what it follows.
pub(super) fn delta(inst: &Inst, wall: Time, at: i64, changes: &Changes) -> Event {
    facts::delta(inst, wall, at, changes, None)
}

/// The book, so many levels of it.
pub(super) fn snapshot(inst: &Inst, wall: Time, at: i64, limit: usize) -> Event {
    facts::snapshot(inst, wall, Some(at), limit)
}

/// A candle; `at` is its own time stamp, which only pushes have. The venue does not count trades.
pub(super) fn candle(inst: &Inst, wall: Time, at: Option<i64>, interval: Interval, candle: &Candle, closed: bool) -> Event {
    facts::candle(inst, wall, at, interval, candle, closed, None)
}

pub(super) fn settled(inst: &Inst, wall: Time, at: i64) -> Event {
    let body = FundingSettled { rate: Num::new(inst.past_rate(at), RATE_SCALE).decimal(), time: time(at), mark: None };
    event(inst, wall, Some(at), Body::FundingSettled(body))
}

/// Open interest of the past, in lots.
pub(super) fn interest_then(inst: &Inst, wall: Time, at: i64, both: i64) -> Event {
    let body = OpenInterest { value: Some(inst.size(both).decimal()), ..OpenInterest::default() };
    event(inst, wall, Some(at), Body::OpenInterest(body))
}
