//! What `KuCoin`'s messages mean: a route table for each transport and interface, then one function per record kind.

use std::borrow::Cow;
use std::sync::Arc;

use exchange_core::decimal::Decimal;
use exchange_core::event::{self, Body, BookKind, Ident, Level};
use exchange_core::instrument::{Details, Instrument, Kind, Status};
use exchange_core::wire::{Ignored, Num, Reader, Rows, Wire};
use exchange_core::{Control, DecodeError, Input, Interval, Market, Out, Source, Time};

use super::wire::{
    Answer, Book, BookPush, CandlePush, Contract, Flag, Funding, FuturesCandle, FuturesChange, FuturesSnapshot, FuturesState, FuturesTop, Levels, List, Listed,
    MarkNow, Pair, PastFunding, PastOpenInterest, Push, PushedCandle, PushedFunding, PushedMark, PushedTicker, PushedTrade, Reply, Settlement, SpotCandle,
    SpotChange, SpotQuote, SpotTicker, SpotTickers, SpotTop, Trade, UaInstrument, UaPush, UaTicker,
};

type Result<T = ()> = std::result::Result<T, DecodeError>;

/// Milliseconds in an hour, of funding intervals.
const HOUR: u32 = 3_600_000;

/// The decoder: a plain function, since every message says what it is about.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let Source::Http { endpoint, .. } = input.source else {
        let frame = input.reader()?;
        if let Some(mut kind) = frame.find("T")? {
            return unified(&kind.string()?, frame, input, out);
        }
        return match frame.find("topic")? {
            Some(mut topic) => classic(&topic.string()?, frame, input, out),
            None => answer(frame, out),
        };
    };
    reply(&endpoint.name, input, out)
}

/// Pushes of the unified interface, by `ticker.FUTURES` and the like.
fn unified(kind: &str, frame: Reader<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    match kind.split('.').next().unwrap_or_default() {
        "ticker" => each_pushed(frame, input, out, pushed_ticker),
        "trade" => each_pushed(frame, input, out, pushed_trade),
        "obu" => pushed_book(frame.whole()?, input, out),
        "mark-price" => each_pushed(frame, input, out, pushed_mark),
        "funding-fee" | "funding-fee-all-symbols" => each_pushed(frame, input, out, pushed_funding),
        "kline" => each_pushed(frame, input, out, pushed_candle),
        // Auctions before a listing: no channel of ours.
        "callAuctionInfo" => frame.whole::<Ignored>().map(|_| ()).map_err(Into::into),
        _ => Err(DecodeError::unknown("push", kind)),
    }
}

/// The records of a push, which are one or a list, with the gateway's time.
fn each_pushed<'a, T: Wire<'a>>(frame: Reader<'a>, input: &Input<'_>, out: &mut Out<'_>, record: impl Fn(T, Option<Time>, &Input<'_>, &mut Out<'_>)) -> Result {
    let push: UaPush<Rows<'a, T>> = frame.whole()?;
    each(push.d, "s", input, out, |row, out| record(row, push.P.0, input, out));
    Ok(())
}

/// Classic pushes, by topic and subject.
fn classic(topic: &str, frame: Reader<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let (name, rest) = topic.split_once(':').unwrap_or((topic, ""));
    let subject = match frame.find("subject")? {
        Some(mut subject) => subject.string()?,
        None => Cow::Borrowed(""),
    };
    match name {
        "/market/ticker" => {
            let push: Push<SpotTop> = frame.whole()?;
            // Of the topic of all pairs, the subject names the one.
            spot_top(push.data, if rest == "all" { &subject } else { rest }, out);
        }
        "/market/snapshot" => {
            let push: Push<Push<SpotTicker<'_>>> = frame.whole()?;
            spot_ticker(push.data.data, out);
        }
        "/market/match" | "/contractMarket/execution" => {
            let push: Push<Trade<'_>> = frame.whole()?;
            trade(push.data, rest, input, out);
        }
        "/market/level2" => {
            let push: Push<SpotChange<'_>> = frame.whole()?;
            spot_change(push.data, out);
        }
        "/spotMarket/level2Depth5" | "/spotMarket/level2Depth50" | "/contractMarket/level2Depth5" | "/contractMarket/level2Depth50" => {
            let push: Push<Book<'_>> = frame.whole()?;
            snapshot(push.data, rest, input, out);
        }
        "/spotMarket/level1" => {
            let push: Push<SpotQuote> = frame.whole()?;
            let instrument = out.instrument(Market::Spot, rest);
            out.emit(&instrument, push.data.timestamp.0, quote(push.data.bids, push.data.asks, None));
        }
        "/market/candles" | "/contractMarket/limitCandle" => {
            let (_, word) = rest.rsplit_once('_').unwrap_or_default();
            let push: Push<CandlePush<'_>> = frame.whole()?;
            pushed_candles(push.data, input.interval(word)?, input, out)?;
        }
        "/contractMarket/tickerV2" => {
            let push: Push<FuturesTop<'_>> = frame.whole()?;
            futures_quote(push.data, input, out);
        }
        "/contractMarket/ticker" => {
            let push: Push<FuturesTop<'_>> = frame.whole()?;
            futures_ticker(push.data, input, out);
        }
        "/contractMarket/snapshot" => {
            let push: Push<FuturesSnapshot<'_>> = frame.whole()?;
            futures_snapshot(push.data, input, out);
        }
        "/contractMarket/level2" => {
            let push: Push<FuturesChange<'_>> = frame.whole()?;
            futures_change(&push.data, rest, input, out)?;
        }
        "/contract/instrument" if matches!(&*subject, "mark.index.price" | "funding.rate") => {
            let push: Push<FuturesState> = frame.whole()?;
            futures_state(push.data, rest, input, out);
        }
        // Both say the rate that is exchanged at that time.
        "/contract/announcement" if matches!(&*subject, "funding.begin" | "funding.end") => {
            let Push { data } = frame.whole::<Push<Settlement<'_>>>()?;
            settled(&data.symbol, Some(data.fundingRate), data.fundingTime.0, input, out);
        }
        _ => return Err(DecodeError::malformed(format_args!("`{topic}` ({subject}) is no topic that is known"))),
    }
    Ok(())
}

/// Answers, by the endpoint's name in `venue.toml`.
fn reply(endpoint: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let body = input.reader()?;
    match endpoint {
        "contracts" | "contract" => each_replied(body, input, out, contract),
        "spot_symbols" | "spot_symbols_v1" | "spot_symbol" => each_replied(body, input, out, |row, out| pair(&row, out)),
        "ua_instruments" => each_listed(body, input, out, ua_instrument),
        "spot_tickers" => {
            let reply: Reply<SpotTickers<Rows<'_, SpotTicker<'_>>>> = body.whole()?;
            each(reply.data.ticker, "symbol", input, out, spot_ticker);
            out.stamp(reply.data.time.0);
            Ok(())
        }
        "spot_stats" => each_replied(body, input, out, spot_ticker),
        "spot_ticker" => {
            let (symbol, reply): (_, Reply<SpotTop>) = (symbol(input)?, body.whole()?);
            spot_top(reply.data, &symbol, out);
            Ok(())
        }
        "ua_tickers" => {
            let reply: Reply<List<Rows<'_, UaTicker<'_>>>> = body.whole()?;
            each(reply.data.list, "symbol", input, out, |row, out| ua_ticker(row, input, out));
            out.stamp(reply.data.ts.0);
            Ok(())
        }
        "futures_tickers" | "futures_ticker" => each_replied(body, input, out, |row, out| futures_ticker(row, input, out)),
        "ua_funding" | "ua_funding_v1" | "funding_now" => each_replied(body, input, out, |row, out| funding(row, input, out)),
        "mark_now" => each_replied(body, input, out, |row, out| mark_now(row, input, out)),
        "funding_history" | "ua_funding_history" => {
            let symbol = symbol(input)?;
            each_listed(body, input, out, |row: PastFunding, out| settled(&symbol, Some(row.fundingRate), row.timepoint.0.or(row.ts.0), input, out))
        }
        "ua_open_interest" => {
            let symbol = symbol(input)?;
            each_listed(body, input, out, |row, out| past_open_interest(row, &symbol, input, out))
        }
        "spot_book_20" | "spot_book_100" | "spot_book" | "futures_book_20" | "futures_book_100" | "futures_book" | "ua_book" => {
            let reply: Reply<Book<'_>> = body.whole()?;
            let asked = input.query("symbol").unwrap_or_default();
            snapshot(reply.data, &asked, input, out);
            Ok(())
        }
        "spot_trades" | "futures_trades" | "ua_trades" => {
            let symbol = symbol(input)?;
            each_listed(body, input, out, |row, out| trade(row, &symbol, input, out))
        }
        "spot_candles" | "ua_candles" => {
            let word = input.query(if endpoint == "ua_candles" { "interval" } else { "type" }).unwrap_or_default();
            let (symbol, interval) = (symbol(input)?, input.interval(&word)?);
            each_listed(body, input, out, |row: SpotCandle, out| spot_candle(row, &symbol, interval, input, out))
        }
        "futures_candles" => {
            let (symbol, interval) = (symbol(input)?, minutes(input)?);
            each_replied(body, input, out, |row: FuturesCandle, out| futures_candle(row, &symbol, interval, input, out))
        }
        _ => Err(DecodeError::unknown("endpoint", endpoint)),
    }
}

/// The records of a list. One that cannot be read costs only itself: it names its symbol under `key`, or the request does.
#[inline]
fn each<T>(rows: Rows<'_, T>, key: &str, input: &Input<'_>, out: &mut Out<'_>, mut record: impl FnMut(T, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, out),
            Err(bad) => match input.query("symbol") {
                Some(symbol) => out.bad(input.market, Some(&symbol), bad.fault, bad.text),
                None => out.bad_row(input.market, key, &bad),
            },
        }
    }
}

fn each_replied<'a, T: Wire<'a>>(body: Reader<'a>, input: &Input<'_>, out: &mut Out<'_>, record: impl FnMut(T, &mut Out<'_>)) -> Result {
    let reply: Reply<Rows<'a, T>> = body.whole()?;
    each(reply.data, "symbol", input, out, record);
    Ok(())
}

/// The same of the unified interface.
fn each_listed<'a, T: Wire<'a>>(body: Reader<'a>, input: &Input<'_>, out: &mut Out<'_>, record: impl FnMut(T, &mut Out<'_>)) -> Result {
    let reply: Reply<Listed<'a, T>> = body.whole()?;
    each(reply.data.0, "symbol", input, out, record);
    Ok(())
}

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

/// `KuCoin` calls bitcoin `XBT` in futures alone.
fn currency(code: &str) -> &str {
    if code == "XBT" { "BTC" } else { code }
}

/// What is known of a contract by its currencies.
fn contract_details(kind: Kind, [base, quote, settle]: [&Option<Cow<'_, str>>; 3], status: Status) -> Details {
    let [base, quote] = [base, quote].map(|code| currency(code.as_deref().unwrap_or_default()));
    Details { settle: settle.as_deref().map(|code| currency(code).into()), ..Details::new(kind, base, quote, status) }
}

/// A contract's listing and its state, which has no time of its own.
fn contract(row: Contract<'_>, out: &mut Out<'_>) {
    let kind = match row.kind.as_deref() {
        Some("FFICSX") => Kind::Future,
        Some("FFWCSX") => Kind::Perpetual,
        _ if row.expireDate.0.is_some() => Kind::Future,
        _ => Kind::Perpetual,
    };
    let inverse = row.isInverse.unwrap_or_else(|| row.multiplier.0.as_ref().is_some_and(Decimal::is_negative));
    let market = if inverse { Market::Inverse } else { Market::Linear };
    let current = row.currentFundingRateGranularity.hours(HOUR).or_else(|| row.fundingRateGranularity.hours(HOUR));
    let interval_hours = current.filter(|_| kind == Kind::Perpetual);
    let status = match row.status.as_deref() {
        Some("Open") => Status::Trading,
        Some("Init") => Status::PreLaunch,
        Some("BeingSettled" | "Settled" | "Closed") => Status::Delisted,
        // `Paused`, `CancelOnly`, and what the venue may add: listed, but not to be traded.
        _ => Status::Halted,
    };
    let details = Details {
        contract_size: row.multiplier.0.map(|size| size.abs()),
        tick_size: row.tickSize.0,
        lot_size: row.lotSize.0,
        expiry: row.expireDate.0.filter(|_| kind == Kind::Future),
        funding_interval_hours: interval_hours,
        ..contract_details(kind, [&row.baseCurrency, &row.quoteCurrency, &row.settleCurrency], status)
    };
    if row.symbol.is_empty() || details.base.is_empty() || details.quote.is_empty() {
        return out.describe(market, &row.symbol, None, details);
    }
    let instrument = out.learn(market, &row.symbol, &details);

    let ticker = event::Ticker {
        last: row.lastTradePrice.0,
        high_24h: row.highPrice.0,
        low_24h: row.lowPrice.0,
        volume_24h: row.volumeOf24h.0,
        turnover_24h: turnover(market, row.turnoverOf24h),
        change_24h: row.priceChgPct.0,
        ..event::Ticker::default()
    };
    out.emit(&instrument, None, Body::Ticker(ticker));
    let mark = row.markPrice.0;
    out.emit(&instrument, None, Body::Mark(event::Mark { mark: mark.clone(), index: row.indexPrice.0, basis: None }));
    if kind == Kind::Perpetual {
        let funding = event::Funding {
            rate: row.fundingFeeRate.0,
            next_time: row.nextFundingRateDateTime.0,
            interval_hours,
            predicted_rate: row.predictedFundingFeeRate.0,
            cap: None,
            floor: None,
        };
        out.emit(&instrument, None, Body::Funding(funding));
    }
    open_interest(&instrument, row.openInterest, mark.as_ref(), None, out);
    out.describe(market, &row.symbol, None, details);
}

/// Turnover is in the settlement currency: of an inverse contract that is not the quote currency.
fn turnover(market: Market, value: Num) -> Option<Decimal> {
    value.0.filter(|_| market != Market::Inverse)
}

/// Open interest in lots; in base by the mark price of the same message, which inverse contracts need.
fn open_interest(instrument: &Arc<Instrument>, lots: Num, mark: Option<&Decimal>, time: Option<Time>, out: &mut Out<'_>) {
    let value_base = lots.0.as_ref().zip(mark).and_then(|(lots, mark)| instrument.base_size(lots, Some(mark)));
    out.emit(instrument, time, Body::OpenInterest(event::OpenInterest { value: lots.0, value_base, value_quote: None }));
}

fn pair(row: &Pair<'_>, out: &mut Out<'_>) {
    let status = match (row.enableTrading, row.callauctionIsEnabled) {
        (Some(true), _) => Status::Trading,
        (_, Some(true)) => Status::PreLaunch,
        _ => Status::Halted,
    };
    let sizes = [&row.priceIncrement, &row.baseIncrement, &row.baseMinSize].map(|size| size.0.clone());
    out.describe(Market::Spot, &row.symbol, None, spot_details(row.baseCurrency.as_deref(), row.quoteCurrency.as_deref(), sizes, status));
}

fn spot_details(base: Option<&str>, quote: Option<&str>, [tick_size, lot_size, min_size]: [Option<Decimal>; 3], status: Status) -> Details {
    Details { tick_size, lot_size, min_size, ..Details::new(Kind::Spot, base.unwrap_or_default(), quote.unwrap_or_default(), status) }
}

fn ua_instrument(row: UaInstrument<'_>, out: &mut Out<'_>) {
    let status = if row.tradingStatus == Some(Ident::Number(1)) { Status::Trading } else { Status::Halted };
    if row.symbol.contains('-') {
        let sizes = [row.tickSize.0, row.baseOrderStep.0, row.minBaseOrderSize.0];
        return out.describe(Market::Spot, &row.symbol, None, spot_details(row.baseCurrency.as_deref(), row.quoteCurrency.as_deref(), sizes, status));
    }
    let expiry = row.expiryTime.0;
    let kind = if expiry.is_some() { Kind::Future } else { Kind::Perpetual };
    let details = Details {
        contract_size: row.unitSize.0.map(|size| size.abs()),
        tick_size: row.tickSize.0,
        lot_size: row.lotSize.0,
        expiry,
        ..contract_details(kind, [&row.baseCurrency, &row.quoteCurrency, &row.settlementCurrency], status)
    };
    out.describe(if row.isInverse == Some(true) { Market::Inverse } else { Market::Linear }, &row.symbol, None, details);
}

fn spot_ticker(row: SpotTicker<'_>, out: &mut Out<'_>) {
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
fn ua_ticker(row: UaTicker<'_>, input: &Input<'_>, out: &mut Out<'_>) {
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

fn spot_top(row: SpotTop, symbol: &str, out: &mut Out<'_>) {
    let instrument = out.instrument(Market::Spot, symbol);
    let body = top([row.price, row.size], [row.bestBid, row.bestBidSize], [row.bestAsk, row.bestAskSize]);
    out.emit(&instrument, row.time.0.or(row.Time.0), body);
}

fn futures_ticker(row: FuturesTop<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    let body = top([row.price, row.size], [row.bestBidPrice, row.bestBidSize], [row.bestAskPrice, row.bestAskSize]);
    out.emit(&instrument, row.ts.0, body);
}

fn pushed_ticker(row: PushedTicker<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    out.emit(&instrument, row.M.0.or(time), top([row.l, row.q], [row.b, row.B], [row.a, row.A]));
}

fn futures_snapshot(row: FuturesSnapshot<'_>, input: &Input<'_>, out: &mut Out<'_>) {
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
fn quote(bids: Levels, asks: Levels, seq: Option<Ident>) -> Body {
    let best = |side: Levels| side.0.into_iter().next().map(|level| (level.price, level.size)).unzip();
    let ((bid, bid_size), (ask, ask_size)) = (best(bids), best(asks));
    Body::Quote(event::Quote { bid, bid_size, ask, ask_size, seq })
}

fn futures_quote(row: FuturesTop<'_>, input: &Input<'_>, out: &mut Out<'_>) {
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

fn snapshot(row: Book<'_>, asked: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, row.symbol.as_deref().unwrap_or(asked));
    let time = row.ts.0.or(row.time.0).or(row.timestamp.0);
    out.emit(&instrument, time, book(BookKind::Snapshot, row.bids, row.asks, row.sequence, None));
}

/// A change of a pair's book: its numbers follow the last one's without a hole.
fn spot_change(row: SpotChange<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(Market::Spot, &row.symbol);
    let body = book(BookKind::Delta, row.changes.bids, row.changes.asks, Some(row.sequenceEnd.into()), row.sequenceStart.checked_sub(1));
    out.emit(&instrument, row.time.0, body);
}

/// A change of a contract's book, one level each.
fn futures_change(row: &FuturesChange<'_>, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
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
fn pushed_book(push: BookPush<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result {
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
fn trade(row: Trade<'_>, asked: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, row.symbol.as_deref().unwrap_or(asked));
    let trade = event::Trade { trade_id: row.tradeId.or(row.sequence), price: row.price, size: row.size, size_base: None, side: row.side.0 };
    out.emit(&instrument, row.ts.0.or(row.time.0), Body::Trade(trade));
}

fn pushed_trade(row: PushedTrade<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    let trade = event::Trade { trade_id: row.ti, price: row.p, size: row.q, size_base: None, side: row.S.0 };
    out.emit(&instrument, row.M.0.or(time), Body::Trade(trade));
}

/// A candle of a list: no time of its own, so that one that did not change since the last poll is the same fact.
fn spot_candle(row: SpotCandle, symbol: &str, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) {
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

fn futures_candle(row: FuturesCandle, symbol: &str, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) {
    let FuturesCandle { time, open, high, low, close, volume, turnover } = row;
    spot_candle(SpotCandle { time, open, close, high, low, volume, turnover }, symbol, interval, input, out);
}

fn pushed_candles(row: CandlePush<'_>, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) -> Result {
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

fn pushed_candle(row: PushedCandle<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
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

fn mark_now(row: MarkNow<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.symbol);
    out.emit(&instrument, row.timePoint.0, Body::Mark(event::Mark { mark: row.value.0, index: row.indexPrice.0, basis: None }));
}

fn pushed_mark(row: PushedMark<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let (instrument, time) = (place(input, out, &row.s), row.ts.0.or(time));
    let mark = row.mp.0;
    out.emit(&instrument, time, Body::Mark(event::Mark { mark: mark.clone(), index: row.ip.0, basis: None }));
    open_interest(&instrument, row.oi, mark.as_ref(), time, out);
}

/// Mark and index, or a funding rate: of the interval's granularity the one in force, of a minute's the prediction.
fn futures_state(row: FuturesState, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let (instrument, time) = (place(input, out, symbol), row.timestamp.0);
    out.emit(&instrument, time, Body::Mark(event::Mark { mark: row.markPrice.0, index: row.indexPrice.0, basis: None }));
    let Some(rate) = row.fundingRate.0 else { return };
    let interval_hours = row.granularity.hours(HOUR);
    let (rate, predicted_rate) = if interval_hours.is_some() { (Some(rate), None) } else { (None, Some(rate)) };
    out.emit(&instrument, time, Body::Funding(event::Funding { rate, predicted_rate, interval_hours, ..event::Funding::default() }));
}

fn funding(row: Funding<'_>, input: &Input<'_>, out: &mut Out<'_>) {
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
fn pushed_funding(row: PushedFunding<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, &row.s);
    let funding =
        event::Funding { rate: row.fr.0, next_time: row.nt.0, interval_hours: row.gl.hours(HOUR), predicted_rate: None, cap: row.fc.0, floor: row.ff.0 };
    out.emit(&instrument, time, Body::Funding(funding));
    if row.lfr.0.is_some() && row.ft.0.is_some() {
        settled(&row.s, row.lfr.0, row.ft.0, input, out);
    }
}

fn settled(symbol: &str, rate: Option<Decimal>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, symbol);
    match (rate, time) {
        (Some(rate), Some(time)) => out.emit(&instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate, time, mark: None })),
        _ => out.bad(instrument.market, Some(symbol), "a settlement without a time", ""),
    }
}

fn past_open_interest(row: PastOpenInterest, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(input, out, symbol);
    open_interest(&instrument, row.openInterest, None, row.ts.0, out);
}

/// Greetings, acknowledgements, refusals, pongs.
fn answer(frame: Reader<'_>, out: &mut Out<'_>) -> Result {
    let Answer { id, kind, code, data, result, message, msg, sessionId } = frame.whole()?;
    let id = id.and_then(|id| id.as_number());
    match (kind.as_deref(), result) {
        (Some("welcome" | "pong"), _) => out.control(Control::Alive),
        (Some("ack"), _) | (_, Some(Flag(true))) => out.control(Control::Ack { id }),
        (Some("error"), _) | (_, Some(Flag(false))) => {
            let said = message.or(msg).or(data).unwrap_or(Cow::Borrowed("refused without a reason"));
            let reason = code.map_or_else(|| said.clone().into_owned(), |code| format!("code {code}: {said}"));
            out.control(Control::Rejected { id, topic: None, reason });
        }
        _ if sessionId.is_some() => out.control(Control::Alive),
        _ => return Err(DecodeError::malformed("neither a push nor an answer to what was sent")),
    }
    Ok(())
}

/// The contract of a funding index: `XBTUSDTM` of `.XBTUSDTMFPI8H`.
fn of_funding_index(name: &str) -> &str {
    name.strip_prefix('.').and_then(|name| name.rsplit_once("FPI")).map_or(name, |(contract, _)| contract)
}

/// The symbol that was asked for, where the records do not say it.
fn symbol<'a>(input: &Input<'a>) -> Result<Cow<'a, str>> {
    input.query("symbol").ok_or_else(|| DecodeError::malformed("neither the reply nor the request names a symbol"))
}

/// The interval that a request for a contract's candles names, in minutes.
fn minutes(input: &Input<'_>) -> Result<Interval> {
    let word = input.query("granularity").unwrap_or_default();
    let interval =
        word.parse::<u16>().ok().and_then(|minutes| if minutes % 1440 == 0 { Interval::new(minutes / 1440, 'd') } else { Interval::new(minutes, 'm') });
    interval.ok_or_else(|| DecodeError::malformed(format_args!("`{word}` is no number of minutes")))
}

#[cfg(test)]
mod tests {
    use exchange_core::feed::{Feed, Reply as Answered, Turn};
    use exchange_core::profile::Method;
    use exchange_core::{Event, Exchange, Profile, Venue};

    use super::*;
    use crate::kucoin::Kucoin;

    fn feed(market: Market) -> Feed {
        Feed::new(Venue::new(&Kucoin, Profile::parse(Kucoin.policy()).unwrap()), market)
    }

    fn get(feed: &mut Feed, target: &str, data: &str) -> Vec<Event> {
        let (mut turn, payload) = (Turn::default(), format!(r#"{{"code":"200000","data":{data}}}"#));
        let url = format!("https://proxy/kucoin{target}");
        let reply = Answered { method: Method::Get, url: &url, request: None, status: 200, retry_after: None, payload: payload.as_bytes(), memo: None };
        feed.reply(Time::from_millis(1_790_985_600_000), &reply, &mut turn).unwrap();
        turn.events
    }

    fn controls(text: &str) -> Vec<Control> {
        let mut turn = Turn::default();
        feed(Market::Spot).frame(Time::EPOCH, "wss://x", text.as_bytes(), &mut turn);
        turn.controls
    }

    /// `a` is `b`, within a percent.
    fn about(a: &Decimal, b: &Decimal) -> bool {
        let quotient = a.checked_quotient(b).unwrap();
        quotient > "0.99".parse().unwrap() && quotient < "1.01".parse().unwrap()
    }

    /// `KuCoin` publishes no open interest in USD: what it publishes in USD is held against the same units.
    #[test]
    fn lots_and_base_agree_with_what_the_venue_says_in_other_units() {
        let rows = r#"[{"symbol":"XBTUSDTM","type":"FFWCSX","baseCurrency":"XBT","quoteCurrency":"USDT","settleCurrency":"USDT","multiplier":0.001,
            "isInverse":false,"openInterest":"6748176","turnoverOf24h":1034643198.3,"volumeOf24h":12069.225,"markPrice":86378.69},
            {"symbol":"XBTUSDM","type":"FFWCSX","baseCurrency":"XBT","quoteCurrency":"USD","settleCurrency":"XBT","multiplier":-1.0,
            "isInverse":true,"openInterest":"18157442","turnoverOf24h":68.02716403,"volumeOf24h":1124530.0,"markPrice":16537.95}]"#;
        let events = get(&mut feed(Market::Inverse), "/api/v1/contracts/active", rows);
        let decimal = |text: &str| text.parse::<Decimal>().unwrap();
        let mut checked = 0;
        for event in &events {
            match (&event.body, event.instrument.market) {
                (Body::OpenInterest(oi), Market::Linear) => assert_eq!(oi.value_base, Some(decimal("6748.176"))),
                (Body::OpenInterest(oi), _) => {
                    let usd = oi.value_base.as_ref().unwrap().checked_mul(&decimal("16537.95")).unwrap();
                    assert!(about(&usd, oi.value.as_ref().unwrap()), "a lot is a dollar");
                }
                (Body::Ticker(ticker), Market::Linear) => {
                    let usd = ticker.volume_24h.as_ref().unwrap().checked_mul(&decimal("86378.69")).unwrap();
                    assert!(about(&usd, ticker.turnover_24h.as_ref().unwrap()), "the volume is in base");
                }
                (Body::Ticker(ticker), _) => {
                    let base = ticker.volume_24h.as_ref().unwrap().checked_quotient(&decimal("16537.95")).unwrap();
                    assert!(about(&base, &decimal("68.02716403")) && ticker.turnover_24h.is_none(), "the turnover is in base");
                }
                _ => continue,
            }
            checked += 1;
        }
        assert_eq!(checked, 4);
    }

    #[test]
    fn a_contracts_market_is_the_listings_then_the_names() {
        let mut feed = feed(Market::Inverse);
        let listed = r#"[{"symbol":"ODDUSDM","type":"FFWCSX","baseCurrency":"ODD","quoteCurrency":"USDT","settleCurrency":"USDT","isInverse":false}]"#;
        get(&mut feed, "/api/v1/contracts/active", listed);
        let mut market = |name: &str| get(&mut feed, "/api/v1/ticker", &format!(r#"{{"symbol":"{name}","price":"1"}}"#))[0].instrument.market;
        assert_eq!(["ODDUSDM", "XBTUSDTM", "XBTUSDCM"].map(&mut market), [Market::Linear; 3]);
        assert_eq!(["XBTUSDM", "XBTMZ26", "SOMETHING"].map(&mut market), [Market::Inverse; 3]);
    }

    #[test]
    fn a_countdown_is_no_time() {
        let row = r#"[{"symbol":"X","type":"FFWCSX","baseCurrency":"X","quoteCurrency":"USDT","settleCurrency":"USDT","fundingFeeRate":5.2E-5,"nextFundingRateTime":21031525}]"#;
        let events = get(&mut feed(Market::Linear), "/api/v1/contracts/active", row);
        let Some(Body::Funding(funding)) = events.first().map(|event| &event.body) else { panic!("{events:?}") };
        assert_eq!((funding.rate.as_ref().unwrap().to_string().as_str(), funding.next_time), ("0.000052", None));
    }

    #[test]
    fn minutes_are_intervals() {
        let mut feed = feed(Market::Linear);
        let mut interval = |minutes: &str| {
            let target = format!("/api/v1/kline/query?symbol=X&granularity={minutes}");
            let Body::Candle(candle) = &get(&mut feed, &target, "[[1714824000000,1,1,1,1,1]]")[0].body else { panic!("no candle") };
            candle.interval.to_string()
        };
        assert_eq!(["1", "240", "1440", "10080"].map(&mut interval), ["1m", "4h", "1d", "1w"]);
    }

    #[test]
    fn answers_are_told_apart() {
        for alive in [r#"{"id":"x","type":"welcome"}"#, r#"{"sessionId":"s","message":"welcome","pingInterval":18000}"#, r#"{"type":"pong","id":"0","ts":1}"#] {
            assert_eq!(controls(alive), [Control::Alive]);
        }
        assert_eq!(controls(r#"{"id":"12","result":true}"#), [Control::Ack { id: Some(12) }]);
        assert_eq!(controls(r#"{"id":"12","type":"ack"}"#), [Control::Ack { id: Some(12) }]);
        let rejected = |reason: &str| [Control::Rejected { id: Some(3), topic: None, reason: reason.into() }];
        assert_eq!(controls(r#"{"id":"3","result":false,"message":"no"}"#), rejected("no"));
        assert_eq!(controls(r#"{"id":"3","type":"error","code":404,"data":"topic /x is not found"}"#), rejected("code 404: topic /x is not found"));
    }
}
