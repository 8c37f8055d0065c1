//! What Binance's messages mean, as events: built out of the market, by `SCHEMA.md` and the venue's documents.

use exchange_core::event::{Body, Funding, FundingSettled, Mark, OpenInterest, Quote, Side, Ticker};
use exchange_core::{Decimal, Event, Interval, Market, Time};

use crate::book::{Changes, Level as Lots};
use crate::facts::{self, event};
use crate::market::{Candle, Inst, Liquidation, RATE_SCALE, Trade, time};
use crate::num::Num;

/// Decimal places of `priceChangePercent`.
pub(super) const PERCENT: u8 = 3;

/// A price and its size, absent for an empty side.
fn best(inst: &Inst, level: Option<Lots>) -> (Option<Decimal>, Option<Decimal>) {
    level.filter(|(price, _)| *price > 0).map(|(price, size)| (inst.price(price).decimal(), inst.size(size).decimal())).unzip()
}

/// The day's figures. Only spot has the best prices with them.
pub(super) fn ticker(inst: &Inst, wall: Time, at: i64) -> Event {
    let row = &inst.row;
    let spot = inst.market() == Market::Spot;
    let (bid, bid_size) = best(inst, spot.then_some((row.bid, row.bid_size)));
    let (ask, ask_size) = best(inst, spot.then_some((row.ask, row.ask_size)));
    let body = Ticker {
        last: Some(inst.price(row.last).decimal()),
        last_size: Some(inst.size(row.last_size).decimal()),
        bid,
        bid_size,
        ask,
        ask_size,
        open_24h: Some(inst.price(row.open).decimal()),
        high_24h: Some(inst.price(row.high).decimal()),
        low_24h: Some(inst.price(row.low).decimal()),
        volume_24h: Some(inst.size(row.volume).decimal()),
        turnover_24h: (inst.market() != Market::Inverse).then(|| inst.turnover_num(row.turnover).decimal()),
        // A percentage of three places is a fraction of five.
        change_24h: Some(Num::new(row.change(PERCENT + 2), PERCENT + 2).decimal()),
    };
    event(inst, wall, Some(at), Body::Ticker(body))
}

/// The best prices; `None` for an empty book.
pub(super) fn quote(inst: &Inst, wall: Time, at: Option<i64>, seq: Option<u64>) -> Option<Event> {
    let (bid, bid_size) = best(inst, inst.book.best_bid());
    let (ask, ask_size) = best(inst, inst.book.best_ask());
    let any = bid.is_some() || ask.is_some();
    any.then(|| event(inst, wall, at, Body::Quote(Quote { bid, bid_size, ask, ask_size, seq: seq.map(Into::into) })))
}

/// Mark, index, and funding for what has it.
pub(super) fn premium(inst: &Inst, wall: Time, at: i64, events: &mut Vec<Event>) {
    let row = &inst.row;
    let mark = Mark { mark: Some(inst.mark_price(row.mark).decimal()), index: Some(inst.mark_price(row.index).decimal()), basis: None };
    events.push(event(inst, wall, Some(at), Body::Mark(mark)));
    if inst.funding_hours > 0 {
        let funding = Funding { rate: Some(Num::new(row.rate, RATE_SCALE).decimal()), next_time: Some(time(row.next_funding)), ..Funding::default() };
        events.push(event(inst, wall, Some(at), Body::Funding(funding)));
    }
}

/// What `fundingInfo` says of what was adjusted.
pub(super) fn limits(inst: &Inst, wall: Time) -> Event {
    let cap = Num::new(inst.cap, RATE_SCALE).decimal();
    let body = Funding { interval_hours: u32::try_from(inst.funding_hours).ok(), floor: Some(cap.negated()), cap: Some(cap), ..Funding::default() };
    event(inst, wall, None, Body::Funding(body))
}

/// An exchange of funding; only USD-M tells the mark price.
pub(super) fn settled(inst: &Inst, wall: Time, at: i64, rate: i64, mark: Option<i64>) -> Event {
    let body = FundingSettled { rate: Num::new(rate, RATE_SCALE).decimal(), time: time(at), mark: mark.map(|mark| inst.mark_price(mark).decimal()) };
    event(inst, wall, Some(at), Body::FundingSettled(body))
}

pub(super) fn interest(inst: &Inst, wall: Time) -> Event {
    let body = OpenInterest { value: Some(inst.size(inst.row.interest).decimal()), ..OpenInterest::default() };
    event(inst, wall, Some(inst.row.interest_time), Body::OpenInterest(body))
}

/// A trade. Single and aggregated trades have their own numbers.
pub(super) fn trade(inst: &Inst, wall: Time, trade: &Trade, id: u64) -> Event {
    facts::trade(inst, wall, trade, id.into())
}

/// A liquidation, at the price that was paid in the mean.
pub(super) fn liquidation(inst: &Inst, wall: Time, order: &Liquidation) -> Event {
    facts::liquidation(inst, wall, order, order.average)
}

/// A change of a book. Spot says the first of its numbers, futures the last of the change before.
pub(super) fn delta(inst: &Inst, wall: Time, at: i64, changes: &Changes) -> Event {
    let previous = if inst.market() == Market::Spot { changes.first_id - 1 } else { changes.previous_id };
    facts::delta(inst, wall, at, changes, Some(previous))
}

/// A book by request: so many levels; without a time on spot.
pub(super) fn snapshot(inst: &Inst, wall: Time, at: i64, limit: usize) -> Event {
    facts::snapshot(inst, wall, (inst.market() != Market::Spot).then_some(at), limit)
}

/// A candle; `at` is when it was pushed.
pub(super) fn candle(inst: &Inst, wall: Time, at: Option<i64>, interval: Interval, candle: &Candle, closed: bool) -> Event {
    facts::candle(inst, wall, at, interval, candle, closed, u64::try_from(candle.trades).ok())
}

/// The venue says whether the buyer was the maker.
pub(super) fn buyer_is_maker(trade: &Trade) -> &'static str {
    if trade.side == Side::Sell { "true" } else { "false" }
}
