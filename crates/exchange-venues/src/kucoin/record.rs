//! What each kind of `KuCoin`'s records means: one function for each.

use std::sync::Arc;

use exchange_core::decimal::Decimal;
use exchange_core::event::{self, Body, BookKind, Ident, Level};
use exchange_core::instrument::Instrument;
use exchange_core::wire::Num;
use exchange_core::{DecodeError, Input, Interval, Market, Out, Time};

use super::decode::Result;
use super::wire::{
    Book, BookPush, CandlePush, Funding, FuturesCandle, FuturesChange, FuturesSnapshot, FuturesState, FuturesTop, Levels, MarkNow, PastOpenInterest,
    PushedCandle, PushedFunding, PushedMark, PushedTicker, PushedTrade, SpotCandle, SpotChange, SpotTicker, SpotTop, Trade, UaTicker,
};

/// Milliseconds in an hour, of funding intervals.
pub(super) const HOUR: u32 = 3_600_000;

/// The instrument of that name. Pairs have a hyphen, contracts have none. One answer or socket carries linear and
/// inverse contracts: what the venue has listed decides, then the name, and where that says nothing the surface that was
/// asked.
#[inline]
fn place(input: &Input<'_>, out: &mut Out<'_>, name: &str) -> Arc<Instrument> {
    if name.contains('-') {
        return out.instrument(Market::Spot, name);
    }
    let (asked, other) = if input.market == Market::Inverse { (Market::Inverse, Market::Linear) } else { (Market::Linear, Market::Inverse) };
    let here = out.instrument(asked, name);
    if here.details.is_some() {
        return here;
    }
    let there = out.instrument(other, name);
    if there.details.is_some() || settlement(name) == Some(other) { there } else { here }
}

/// The market of a contract by its name: `XBTUSDTM`, `XBTUSDCM`; `XBTUSDM`, `XBTMZ26`.
fn settlement(name: &str) -> Option<Market> {
    if name.ends_with("USDTM") || name.ends_with("USDCM") {
        return Some(Market::Linear);
    }
    // A month's letter and the year: only inverse contracts are dated.
    let dated = matches!(name.as_bytes(), [.., b'M', month, tens, ones] if month.is_ascii_uppercase() && tens.is_ascii_digit() && ones.is_ascii_digit());
    (name.ends_with("USDM") || dated).then_some(Market::Inverse)
}

/// Turnover is in the settlement currency: of an inverse contract that is not the quote currency.
pub(super) fn turnover(market: Market, value: Num) -> Option<Decimal> {
    value.0.filter(|_| market != Market::Inverse)
}

/// Open interest in lots; in base by the mark price of the same message, which inverse contracts need.
pub(super) fn open_interest(instrument: &Arc<Instrument>, lots: Num, mark: Option<&Decimal>, time: Option<Time>, out: &mut Out<'_>) {
    let value_base = lots.0.as_ref().zip(mark).and_then(|(lots, mark)| instrument.base_size(lots, Some(mark)));
    out.emit(instrument, time, Body::OpenInterest(event::OpenInterest { value: lots.0, value_base, value_quote: None }));
}

pub(super) fn spot_ticker(row: SpotTicker<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(Market::Spot, &row.symbol);
    let ticker = event::Ticker {
        last: row.last.0.or(row.lastTradedPrice.0),
        last_size: None,
        bid: row.buy.positive(),
        bid_size: row.bestBidSize.positive().or(row.bidSize.positive()),
        ask: row.sell.positive(),
        ask_size: row.bestAskSize.positive().or(row.askSize.positive()),
        open_24h: row.open.0,
        high_24h: row.high.0,
        low_24h: row.low.0,
        volume_24h: row.vol.0,
        turnover_24h: row.volValue.0,
        change_24h: row.changeRate.0,
    };
    out.emit(&instrument, row.datetime.0.or(row.time.0), Body::Ticker(ticker));
}

/// The volumes are in what their names say, but of inverse contracts nobody says so: those are left out.
pub(super) fn ua_ticker(row: UaTicker<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    let [volume_24h, turnover_24h] = [row.baseVolume, row.quoteVolume].map(|volume| turnover(instrument.market, volume));
    let ticker = event::Ticker {
        last: row.lastPrice.0,
        last_size: row.size.0,
        bid: row.bestBidPrice.positive(),
        bid_size: row.bestBidSize.positive(),
        ask: row.bestAskPrice.positive(),
        ask_size: row.bestAskSize.positive(),
        open_24h: row.open.0,
        high_24h: row.high.0,
        low_24h: row.low.0,
        volume_24h,
        turnover_24h,
        change_24h: None,
    };
    out.emit(&instrument, None, Body::Ticker(ticker));
}

/// The last trade and the best prices.
fn top(last: [Num; 2], bid: [Num; 2], ask: [Num; 2]) -> Body {
    let ([last, last_size], [bid, bid_size], [ask, ask_size]) = (last, bid, ask);
    Body::Ticker(event::Ticker {
        last: last.0,
        last_size: last_size.0,
        bid: bid.positive(),
        bid_size: bid_size.positive(),
        ask: ask.positive(),
        ask_size: ask_size.positive(),
        ..event::Ticker::default()
    })
}

pub(super) fn spot_top(row: SpotTop, symbol: &str, out: &mut Out<'_>) {
    let instrument = out.instrument(Market::Spot, symbol);
    let body = top([row.price, row.size], [row.bestBid, row.bestBidSize], [row.bestAsk, row.bestAskSize]);
    out.emit(&instrument, row.time.0.or(row.Time.0), body);
}

pub(super) fn futures_ticker(row: FuturesTop<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    let body = top([row.price, row.size], [row.bestBidPrice, row.bestBidSize], [row.bestAskPrice, row.bestAskSize]);
    out.emit(&instrument, row.ts.0, body);
}

pub(super) fn pushed_ticker(row: PushedTicker<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    out.emit(&instrument, row.M.0.or(time), top([row.l, row.q], [row.b, row.B], [row.a, row.A]));
}

pub(super) fn futures_snapshot(row: FuturesSnapshot<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    let ticker = event::Ticker {
        last: row.lastPrice.0,
        open_24h: row.price24HoursBefore.0,
        high_24h: row.highPrice.0,
        low_24h: row.lowPrice.0,
        volume_24h: row.volume.0,
        turnover_24h: turnover(instrument.market, row.turnover),
        change_24h: row.priceChgPct.0,
        ..event::Ticker::default()
    };
    out.emit(&instrument, row.ts.0, Body::Ticker(ticker));
}

/// Best prices: of each side the first level.
pub(super) fn quote(bids: Levels, asks: Levels, seq: Option<Ident>) -> Body {
    let best = |side: Levels| side.0.into_iter().next().map(|level| (level.price, level.size)).unzip();
    let ((bid, bid_size), (ask, ask_size)) = (best(bids), best(asks));
    Body::Quote(event::Quote { bid, bid_size, ask, ask_size, seq })
}

pub(super) fn futures_quote(row: FuturesTop<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    let quote = event::Quote {
        bid: row.bestBidPrice.positive(),
        bid_size: row.bestBidSize.positive(),
        ask: row.bestAskPrice.positive(),
        ask_size: row.bestAskSize.positive(),
        seq: row.sequence,
    };
    out.emit(&instrument, row.ts.0, Body::Quote(quote));
}

fn book(kind: BookKind, bids: Levels, asks: Levels, seq: Option<Ident>, prev_seq: Option<u64>) -> Body {
    Body::Book(event::Book { kind, bids: bids.0, asks: asks.0, seq, prev_seq: prev_seq.map(Into::into), checksum: None })
}

pub(super) fn snapshot(row: Book<'_>, asked: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, row.symbol.as_deref().unwrap_or(asked));
    let time = row.ts.0.or(row.time.0).or(row.timestamp.0);
    out.emit(&instrument, time, book(BookKind::Snapshot, row.bids, row.asks, row.sequence, None));
}

/// A change of a pair's book: its numbers follow the last one's without a hole.
pub(super) fn spot_change(row: SpotChange<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(Market::Spot, &row.symbol);
    let body = book(BookKind::Delta, row.changes.bids, row.changes.asks, Some(row.sequenceEnd.into()), row.sequenceStart.checked_sub(1));
    out.emit(&instrument, row.time.0, body);
}

/// A change of a contract's book, one level each.
pub(super) fn futures_change(row: &FuturesChange<'_>, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let malformed = || DecodeError::malformed(format_args!("`{}` is no price, side and size", row.change));
    let mut parts = row.change.splitn(3, ',');
    let [price, side, lots] = [(); 3].map(|()| parts.next().unwrap_or_default());
    let level = Levels(vec![Level { price: price.parse().map_err(|_| malformed())?, size: lots.parse().map_err(|_| malformed())? }]);
    let (bids, asks) = match side {
        "buy" => (level, Levels::default()),
        "sell" => (Levels::default(), level),
        _ => return Err(malformed()),
    };
    let instrument = place(input, out, symbol);
    let body = book(BookKind::Delta, bids, asks, Some(row.sequence.into()), row.sequence.checked_sub(1));
    out.emit(&instrument, row.timestamp.0, body);
    Ok(())
}

/// `obu`: one level is the top of the book. A change follows the number before its first; levels are absolute.
pub(super) fn pushed_book(push: BookPush<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let row = push.d;
    let (instrument, seq) = (place(input, out, &row.s), row.C.map(Into::into));
    let body = match (push.dp.as_deref(), push.t.as_deref()) {
        (Some("1"), _) => quote(row.b, row.a, seq),
        // A snapshot follows nothing.
        (_, Some("snapshot")) | (Some("5" | "50"), None) => book(BookKind::Snapshot, row.b, row.a, seq, None),
        (_, Some("delta")) | (Some("increment"), None) => book(BookKind::Delta, row.b, row.a, seq, row.O.and_then(|first| first.checked_sub(1))),
        _ => return Err(DecodeError::malformed("a book that is neither a snapshot nor a delta")),
    };
    out.emit(&instrument, row.M.0.or(push.P.0), body);
    Ok(())
}

/// A trade. Spot trades of the classic REST interface have their id as `sequence`.
pub(super) fn trade(row: Trade<'_>, asked: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, row.symbol.as_deref().unwrap_or(asked));
    let trade = event::Trade { trade_id: row.tradeId.or(row.sequence), price: row.price, size: row.size, size_base: None, side: row.side.0 };
    out.emit(&instrument, row.ts.0.or(row.time.0), Body::Trade(trade));
}

pub(super) fn pushed_trade(row: PushedTrade<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    let trade = event::Trade { trade_id: row.ti, price: row.p, size: row.q, size_base: None, side: row.S.0 };
    out.emit(&instrument, row.M.0.or(time), Body::Trade(trade));
}

/// A candle of a list: no time of its own, so that one that did not change since the last poll is the same fact.
pub(super) fn spot_candle(row: SpotCandle, symbol: &str, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, symbol);
    let Some(open_time) = row.time.0 else { return out.bad(instrument.market, Some(symbol), "a candle without a time", "") };
    let candle = event::Candle {
        interval,
        open_time,
        open: row.open,
        high: row.high,
        low: row.low,
        close: row.close,
        volume: row.volume,
        turnover: turnover(instrument.market, row.turnover),
        trades: None,
        closed: interval.end(open_time) <= input.received,
    };
    out.emit(&instrument, None, Body::Candle(candle));
}

pub(super) fn futures_candle(row: FuturesCandle, symbol: &str, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) {
    let FuturesCandle { time, open, high, low, close, volume, turnover } = row;
    spot_candle(SpotCandle { time, open, close, high, low, volume, turnover }, symbol, interval, input, out);
}

pub(super) fn pushed_candles(row: CandlePush<'_>, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let mut candle = row.candles;
    if !row.symbol.contains('-') {
        // A contract's sixth number is documented as wrong; the seventh, which older frames lack, is the volume in lots.
        candle.volume = candle.turnover.0.take().unwrap_or(candle.volume);
    }
    if candle.time.0.is_none() {
        return Err(DecodeError::malformed("a candle without a time"));
    }
    spot_candle(candle, &row.symbol, interval, input, out);
    out.stamp(row.time.0);
    Ok(())
}

pub(super) fn pushed_candle(row: PushedCandle<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    let (Some(open_time), Some(interval)) = (row.O.0, input.profile.interval_named(&row.i)) else {
        return out.bad(instrument.market, Some(&row.s), "a candle without a time or a known interval", "");
    };
    let candle = event::Candle {
        interval,
        open_time,
        open: row.o,
        high: row.h,
        low: row.l,
        close: row.c,
        volume: row.v,
        turnover: turnover(instrument.market, row.a),
        trades: None,
        closed: row.S.map_or_else(|| interval.end(open_time) <= input.received, |flag| flag.0),
    };
    out.emit(&instrument, time, Body::Candle(candle));
}

pub(super) fn mark_now(row: MarkNow<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    out.emit(&instrument, row.timePoint.0, Body::Mark(event::Mark { mark: row.value.0, index: row.indexPrice.0, basis: None }));
}

pub(super) fn pushed_mark(row: PushedMark<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let (instrument, time) = (place(input, out, &row.s), row.ts.0.or(time));
    let mark = row.mp.0;
    out.emit(&instrument, time, Body::Mark(event::Mark { mark: mark.clone(), index: row.ip.0, basis: None }));
    open_interest(&instrument, row.oi, mark.as_ref(), time, out);
}

/// Mark and index, or a funding rate: of the interval's granularity the one in force, of a minute's the prediction.
pub(super) fn futures_state(row: FuturesState, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let (instrument, time) = (place(input, out, symbol), row.timestamp.0);
    out.emit(&instrument, time, Body::Mark(event::Mark { mark: row.markPrice.0, index: row.indexPrice.0, basis: None }));
    let Some(rate) = row.fundingRate.0 else { return };
    let interval_hours = row.granularity.hours(HOUR);
    let (rate, predicted_rate) = if interval_hours.is_some() { (Some(rate), None) } else { (None, Some(rate)) };
    out.emit(&instrument, time, Body::Funding(event::Funding { rate, predicted_rate, interval_hours, ..event::Funding::default() }));
}

pub(super) fn funding(row: Funding<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, of_funding_index(&row.symbol));
    let funding = event::Funding {
        rate: row.value.0.or(row.nextFundingRate.0),
        next_time: row.fundingTime.0,
        interval_hours: row.granularity.hours(HOUR).or_else(|| row.currentGranularity.hours(HOUR)),
        predicted_rate: row.predictedValue.0,
        cap: row.fundingRateCap.0,
        floor: row.fundingRateFloor.0,
    };
    out.emit(&instrument, None, Body::Funding(funding));
}

/// The running funding, and the last settlement, which is the same fact until the next one.
pub(super) fn pushed_funding(row: PushedFunding<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    let funding =
        event::Funding { rate: row.fr.0, next_time: row.nt.0, interval_hours: row.gl.hours(HOUR), predicted_rate: None, cap: row.fc.0, floor: row.ff.0 };
    out.emit(&instrument, time, Body::Funding(funding));
    if row.lfr.0.is_some() && row.ft.0.is_some() {
        settled(&row.s, row.lfr.0, row.ft.0, input, out);
    }
}

pub(super) fn settled(symbol: &str, rate: Option<Decimal>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, symbol);
    match (rate, time) {
        (Some(rate), Some(time)) => out.emit(&instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate, time, mark: None })),
        _ => out.bad(instrument.market, Some(symbol), "a settlement without a time", ""),
    }
}

pub(super) fn past_open_interest(row: PastOpenInterest, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, symbol);
    open_interest(&instrument, row.openInterest, None, row.ts.0, out);
}

/// The contract of a funding index: `XBTUSDTM` of `.XBTUSDTMFPI8H`.
fn of_funding_index(name: &str) -> &str {
    name.strip_prefix('.').and_then(|name| name.rsplit_once("FPI")).map_or(name, |(contract, _)| contract)
}
