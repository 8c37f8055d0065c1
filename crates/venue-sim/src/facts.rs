//! What every venue says of trades, books, liquidations and candles, as events: built out of the market. What only one of them says,
//! or says otherwise, is in its own folder.

use exchange_core::event::{Body, Book, BookKind, Candle as CandleBody, Ident, Level, Liquidation as LiquidationBody, Trade as TradeBody};
use exchange_core::{Event, Interval, Market, Time};

use crate::book::{Changes, Level as Lots};
use crate::market::{Candle, Inst, Liquidation, Trade, time};

/// An event of an instrument; `at` is the venue's own time, in milliseconds.
pub(crate) fn event(inst: &Inst, wall: Time, at: Option<i64>, body: Body) -> Event {
    Event::new(inst.handle.clone(), wall, at.map(time), body)
}

pub(crate) fn trade(inst: &Inst, wall: Time, trade: &Trade, id: Ident) -> Event {
    let body = TradeBody {
        trade_id: Some(id),
        price: inst.price(trade.price).decimal(),
        size: inst.size(trade.size).decimal(),
        size_base: None,
        side: Some(trade.side),
    };
    event(inst, wall, Some(trade.time), Body::Trade(body))
}

/// A liquidation at a price, in ticks: venues differ in which one they tell.
pub(crate) fn liquidation(inst: &Inst, wall: Time, order: &Liquidation, price: i64) -> Event {
    let body =
        LiquidationBody { price: inst.price(price).decimal(), size: inst.size(order.size).decimal(), size_base: None, side: Some(order.side), trade_id: None };
    event(inst, wall, Some(order.time), Body::Liquidation(body))
}

fn levels(inst: &Inst, levels: &[Lots]) -> Vec<Level> {
    levels.iter().map(|&(price, size)| Level { price: inst.price(price).decimal(), size: inst.size(size).decimal() }).collect()
}

/// A change of a book, which follows the number `previous` where the venue says so.
pub(crate) fn delta(inst: &Inst, wall: Time, at: i64, changes: &Changes, previous: Option<u64>) -> Event {
    let body = Book {
        kind: BookKind::Delta,
        bids: levels(inst, &changes.bids),
        asks: levels(inst, &changes.asks),
        seq: Some(changes.last_id.into()),
        prev_seq: previous.map(Into::into),
        checksum: None,
    };
    event(inst, wall, Some(at), Body::Book(body))
}

/// The book, so many levels of it.
pub(crate) fn snapshot(inst: &Inst, wall: Time, at: Option<i64>, limit: usize) -> Event {
    let best = |side: &[Lots]| levels(inst, side.get(..limit.min(side.len())).unwrap_or_default());
    let body = Book {
        kind: BookKind::Snapshot,
        bids: best(&inst.book.bids),
        asks: best(&inst.book.asks),
        seq: Some(inst.book.last_id.into()),
        prev_seq: None,
        checksum: None,
    };
    event(inst, wall, at, Body::Book(body))
}

/// A candle; `at` is its own time stamp, which only pushes have. Not every venue counts its trades.
pub(crate) fn candle(inst: &Inst, wall: Time, at: Option<i64>, interval: Interval, candle: &Candle, closed: bool, trades: Option<u64>) -> Event {
    let body = CandleBody {
        interval,
        open_time: time(candle.start),
        open: inst.price(candle.open).decimal(),
        high: inst.price(candle.high).decimal(),
        low: inst.price(candle.low).decimal(),
        close: inst.price(candle.close).decimal(),
        volume: inst.size(candle.volume).decimal(),
        turnover: (inst.market() != Market::Inverse).then(|| inst.turnover_num(candle.turnover).decimal()),
        trades,
        closed,
    };
    event(inst, wall, at, Body::Candle(body))
}
