//! What Bybit's messages mean: a route table for each transport, then one function per record kind, used by both.

use std::borrow::Cow;

use exchange_core::event::{self, Body, Ident, Side};
use exchange_core::instrument::{Details, Kind as Contract, Right, Status};
use exchange_core::wire::{Ignored, Reader, Rows};
use exchange_core::{Control, Decimal, DecodeError, Input, Interval, Market, Out, Source, Time};

use super::wire::{
    AllLiquidation, Answer, Book, FundingHistory, InstrumentInfo, InstrumentPage, Kind, Kline, KlineRow, List, OldLiquidation, OpenInterestHistory,
    OpenInterestList, OptionTicker, PublicTrade, Push, RecentTrade, Reply, SymbolList, Ticker, Top,
};

/// The decoder: a plain function, since every message says what it is about.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    match input.source {
        Source::Ws { .. } => push(input, out),
        Source::Http { endpoint, .. } => reply(&endpoint.name, input, out),
    }
}

/// Frames, by topic.
fn push(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let frame = input.reader()?;
    let Some(mut topic) = frame.find("topic")? else { return answer(frame, out) };
    let topic = topic.string()?;
    let (name, rest) = topic.split_once('.').unwrap_or((&topic, ""));
    match name {
        "orderbook" if rest.starts_with("1.") => {
            let push: Push<Top<'_>> = frame.whole()?;
            quote(push.data, push.cts.0.or(push.ts.0), input.market, out);
        }
        "orderbook" => {
            let push: Push<Book<'_>> = frame.whole()?;
            book(push.data, push.kind, push.cts.0.or(push.ts.0), input.market, out);
        }
        "tickers" if input.market == Market::Option => {
            let push: Push<OptionTicker<'_>> = frame.whole()?;
            option_ticker(push.data, push.ts.0, input.market, out);
        }
        "tickers" => {
            let push: Push<Ticker<'_>> = frame.whole()?;
            ticker(push.data, push.kind, push.ts.0, input.market, out);
        }
        "publicTrade" => {
            let push: Push<Rows<'_, PublicTrade<'_>>> = frame.whole()?;
            each(push.data, "s", input.market, out, |record, out| public_trade(record, input.market, out));
            out.stamp(push.ts.0);
        }
        "allLiquidation" => {
            let push: Push<Rows<'_, AllLiquidation<'_>>> = frame.whole()?;
            each(push.data, "s", input.market, out, |record, out| all_liquidation(record, input.market, out));
            out.stamp(push.ts.0);
        }
        "liquidation" => {
            let push: Push<Rows<'_, OldLiquidation<'_>>> = frame.whole()?;
            each(push.data, "symbol", input.market, out, |record, out| old_liquidation(record, input.market, out));
            out.stamp(push.ts.0);
        }
        "kline" => {
            let (word, symbol) = rest.split_once('.').unwrap_or((rest, ""));
            let interval = input.interval(word)?;
            let push: Push<Rows<'_, Kline>> = frame.whole()?;
            each_of(push.data, symbol, input.market, out, |record, out| kline(record, symbol, interval, input.market, out));
            out.stamp(push.ts.0);
        }
        // Price limits, deleveraging alerts, the insurance pool, the platform's status: no channel of ours.
        "priceLimit" | "adlAlert" | "insurance" | "system" => {
            let _: Ignored = frame.whole()?;
        }
        _ => return Err(DecodeError::unknown("topic", topic)),
    }
    Ok(())
}

/// Replies, by the endpoint's name in `venue.toml`. The envelope's time stands behind the list: it is set last.
fn reply(endpoint: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let body = input.reader()?;
    let market = input.market;
    match endpoint {
        "tickers" | "spot_tickers" => {
            let reply: Reply<List<Rows<'_, Ticker<'_>>>> = body.whole()?;
            each(reply.result.list, "symbol", market, out, |record, out| ticker(record, Kind::Snapshot, None, market, out));
            out.stamp(reply.time.0);
        }
        "option_tickers" => {
            let reply: Reply<List<Rows<'_, OptionTicker<'_>>>> = body.whole()?;
            each(reply.result.list, "symbol", market, out, |record, out| option_ticker(record, None, market, out));
            out.stamp(reply.time.0);
        }
        "instruments" | "instruments_pre_launch" => {
            let reply: Reply<InstrumentPage<'_>> = body.whole()?;
            each(reply.result.list, "symbol", market, out, |record, out| instrument(record, market, out));
            out.stamp(reply.time.0);
            if let Some(cursor) = reply.result.nextPageCursor {
                out.next_page(input, "cursor", &cursor);
            }
        }
        "orderbook" | "full_orderbook" | "rpi_orderbook" => {
            let reply: Reply<Book<'_>> = body.whole()?;
            let time = reply.result.cts.0.or(reply.result.ts.0).or(reply.time.0);
            book(reply.result, Kind::Snapshot, time, market, out);
        }
        "trades" => {
            let reply: Reply<List<Rows<'_, RecentTrade<'_>>>> = body.whole()?;
            each(reply.result.list, "symbol", market, out, |record, out| recent_trade(record, market, out));
            out.stamp(reply.time.0);
        }
        "klines" => {
            let interval = input.interval(&input.query("interval").unwrap_or_default())?;
            let reply: Reply<SymbolList<'_>> = body.whole()?;
            let symbol = symbol(reply.result.symbol, input)?;
            // Without a time: a candle that did not change since the last poll is the same fact.
            each_of(reply.result.list, &symbol, market, out, |record, out| kline_row(record, &symbol, interval, input, out));
        }
        "funding_history" => {
            let reply: Reply<List<Rows<'_, FundingHistory<'_>>>> = body.whole()?;
            each(reply.result.list, "symbol", market, out, |record, out| funding_settled(record, market, out));
        }
        "open_interest_history" => {
            let reply: Reply<OpenInterestList<'_>> = body.whole()?;
            let symbol = symbol(reply.result.symbol, input)?;
            each_of(reply.result.list, &symbol, market, out, |record, out| open_interest_then(record, &symbol, market, out));
        }
        _ => return Err(DecodeError::unknown("endpoint", endpoint)),
    }
    Ok(())
}

/// The records of a list that name their symbol under `key`. One that cannot be read costs only itself.
#[inline]
fn each<T>(rows: Rows<'_, T>, key: &str, market: Market, out: &mut Out<'_>, mut record: impl FnMut(T, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, out),
            Err(bad) => out.bad_row(market, key, &bad),
        }
    }
}

/// The records of a list that is about one symbol.
fn each_of<T>(rows: Rows<'_, T>, symbol: &str, market: Market, out: &mut Out<'_>, mut record: impl FnMut(T, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, out),
            Err(bad) => out.bad(market, Some(symbol), bad.fault, bad.text),
        }
    }
}

/// A ticker: a whole record, or the fields that changed.
#[inline]
fn ticker(record: Ticker<'_>, kind: Kind, time: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let ticker = event::Ticker {
        last: record.lastPrice.0,
        last_size: None,
        bid: record.bid1Price.positive(),
        bid_size: record.bid1Size.positive(),
        ask: record.ask1Price.positive(),
        ask_size: record.ask1Size.positive(),
        open_24h: record.prevPrice24h.0,
        high_24h: record.highPrice24h.0,
        low_24h: record.lowPrice24h.0,
        volume_24h: record.volume24h.0,
        turnover_24h: record.turnover24h.0.filter(|_| market != Market::Inverse),
        change_24h: record.price24hPcnt.0,
    };
    out.emit(&instrument, time, Body::Ticker(ticker));
    if market == Market::Spot {
        return;
    }
    let mark = event::Mark { mark: record.markPrice.0, index: record.indexPrice.0, basis: record.basis.0 };
    out.emit(&instrument, time, Body::Mark(mark));

    // A dated future has empty funding fields in a whole record, and whatever else stands there means nothing.
    let (rate, next_time) = (record.fundingRate.0, record.nextFundingTime.0);
    if kind == Kind::Delta || rate.is_some() || next_time.is_some() {
        let cap = record.fundingCap.0;
        let funding = event::Funding {
            rate,
            next_time,
            interval_hours: record.fundingIntervalHour.hours(1),
            predicted_rate: None,
            floor: cap.as_ref().map(Decimal::negated),
            cap,
        };
        out.emit(&instrument, time, Body::Funding(funding));
    }

    let (value_base, value_quote) = match market {
        Market::Inverse => (record.openInterestValue.0, None),
        _ => (None, record.openInterestValue.0),
    };
    let open_interest = event::OpenInterest { value: record.openInterest.0, value_base, value_quote };
    out.emit(&instrument, time, Body::OpenInterest(open_interest));
}

/// An option's ticker.
fn option_ticker(record: OptionTicker<'_>, time: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let ticker = event::Ticker {
        last: record.lastPrice.0,
        last_size: None,
        bid: record.bidPrice.positive().or(record.bid1Price.positive()),
        bid_size: record.bidSize.positive().or(record.bid1Size.positive()),
        ask: record.askPrice.positive().or(record.ask1Price.positive()),
        ask_size: record.askSize.positive().or(record.ask1Size.positive()),
        open_24h: None,
        high_24h: record.highPrice24h.0,
        low_24h: record.lowPrice24h.0,
        volume_24h: record.volume24h.0,
        turnover_24h: record.turnover24h.0,
        change_24h: record.change24h.0,
    };
    out.emit(&instrument, time, Body::Ticker(ticker));
    let mark = event::Mark { mark: record.markPrice.0, index: record.indexPrice.0, basis: None };
    out.emit(&instrument, time, Body::Mark(mark));
    let open_interest = event::OpenInterest { value: record.openInterest.0, ..event::OpenInterest::default() };
    out.emit(&instrument, time, Body::OpenInterest(open_interest));
}

/// The venue's own top of the book.
#[inline]
fn quote(record: Top<'_>, time: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.s);
    let (bid, bid_size) = record.b.and_then(|best| best.0).map(|level| (level.price, level.size)).unzip();
    let (ask, ask_size) = record.a.and_then(|best| best.0).map(|level| (level.price, level.size)).unzip();
    out.emit(&instrument, time, Body::Quote(event::Quote { bid, bid_size, ask, ask_size, seq: sequence(record.u) }));
}

/// A book, or a change of one.
#[inline]
fn book(record: Book<'_>, kind: Kind, time: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.s);
    let book = event::Book {
        kind: kind.of_book(),
        bids: record.b.unwrap_or_default(),
        asks: record.a.unwrap_or_default(),
        seq: sequence(record.u),
        prev_seq: None,
        checksum: None,
    };
    out.emit(&instrument, time, Body::Book(book));
}

#[inline]
fn public_trade(record: PublicTrade<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.s);
    let trade = event::Trade { trade_id: record.i, price: record.p, size: record.v, size_base: None, side: record.S.0 };
    out.emit(&instrument, record.T.0, Body::Trade(trade));
}

fn recent_trade(record: RecentTrade<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let trade = event::Trade { trade_id: record.execId, price: record.price, size: record.size, size_base: None, side: record.side.0 };
    out.emit(&instrument, record.time.0, Body::Trade(trade));
}

/// Bybit names the side of the position; the forced order is on the other one.
fn all_liquidation(record: AllLiquidation<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.s);
    let side = record.S.0.map(Side::opposite);
    let liquidation = event::Liquidation { price: record.p, size: record.v, size_base: None, side, trade_id: None };
    out.emit(&instrument, record.T.0, Body::Liquidation(liquidation));
}

fn old_liquidation(record: OldLiquidation<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let side = record.side.0.map(Side::opposite);
    let liquidation = event::Liquidation { price: record.price, size: record.size, size_base: None, side, trade_id: None };
    out.emit(&instrument, record.updatedTime.0, Body::Liquidation(liquidation));
}

fn kline(record: Kline, symbol: &str, interval: Interval, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, symbol);
    let candle = event::Candle {
        interval,
        open_time: record.start.0,
        open: record.open,
        high: record.high,
        low: record.low,
        close: record.close,
        volume: record.volume,
        turnover: record.turnover.0.filter(|_| market != Market::Inverse),
        trades: None,
        closed: record.confirm,
    };
    out.emit(&instrument, record.timestamp.0, Body::Candle(candle));
}

fn kline_row(record: KlineRow, symbol: &str, interval: Interval, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(input.market, symbol);
    let candle = event::Candle {
        interval,
        open_time: record.start.0,
        open: record.open,
        high: record.high,
        low: record.low,
        close: record.close,
        volume: record.volume,
        turnover: record.turnover.0.filter(|_| input.market != Market::Inverse),
        trades: None,
        closed: interval.end(record.start.0) <= input.received,
    };
    out.emit(&instrument, None, Body::Candle(candle));
}

fn funding_settled(record: FundingHistory<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let time = record.fundingRateTimestamp.0;
    out.emit(&instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate: record.fundingRate, time, mark: None }));
}

fn open_interest_then(record: OpenInterestHistory, symbol: &str, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, symbol);
    let open_interest = event::OpenInterest { value: Some(record.openInterest), ..event::OpenInterest::default() };
    out.emit(&instrument, Some(record.timestamp.0), Body::OpenInterest(open_interest));
}

fn instrument(record: InstrumentInfo<'_>, market: Market, out: &mut Out<'_>) {
    let kind = contract(market, record.contractType.as_deref(), record.deliveryTime.0);
    let (tick_size, lot) = (record.priceFilter.and_then(|filter| filter.tickSize.0), record.lotSizeFilter);
    let (lot_size, min_size) = lot.map_or((None, None), |lot| (lot.qtyStep.0.or(lot.basePrecision.0), lot.minOrderQty.0));
    let details = Details {
        kind,
        base: (*record.baseCoin).into(),
        quote: (*record.quoteCoin).into(),
        settle: record.settleCoin.filter(|_| kind != Contract::Spot).map(|coin| (*coin).into()),
        // One unit of base, or of quote for inverse contracts. Options come in lots that Bybit does not say here.
        contract_size: matches!(market, Market::Linear | Market::Inverse).then_some(Decimal::ONE),
        tick_size,
        lot_size,
        min_size,
        expiry: record.deliveryTime.0.filter(|_| matches!(kind, Contract::Future | Contract::Option)),
        status: match record.status.as_deref() {
            Some("Trading") => Status::Trading,
            Some("PreLaunch") => Status::PreLaunch,
            Some("Closed") => Status::Delisted,
            // `Delivering`, and what the venue may add: listed, but not to be traded.
            _ => Status::Halted,
        },
        funding_interval_hours: record.fundingInterval.hours(60).filter(|_| kind == Contract::Perpetual),
        option: strike_and_right(&record.symbol).filter(|_| kind == Contract::Option),
    };
    out.describe(market, &record.symbol, None, details);
}

/// The kind of a contract by its type, which spot pairs and options do not have.
fn contract(market: Market, contract_type: Option<&str>, delivery: Option<Time>) -> Contract {
    match (market, contract_type) {
        (Market::Spot, _) => Contract::Spot,
        (Market::Option, _) => Contract::Option,
        (_, Some(name)) if name.ends_with("Perpetual") => Contract::Perpetual,
        (_, Some(name)) if name.ends_with("Futures") => Contract::Future,
        _ if delivery.is_some() => Contract::Future,
        _ => Contract::Perpetual,
    }
}

/// `1250` and put, of `ETH-3JAN23-1250-P` or `ETH-3JAN23-1250-P-USDT`.
fn strike_and_right(name: &str) -> Option<(Decimal, Right)> {
    let mut parts = name.split('-').skip(2);
    let strike = parts.next()?.parse().ok()?;
    let right = match parts.next()? {
        "C" => Right::Call,
        "P" => Right::Put,
        _ => return None,
    };
    Some((strike, right))
}

/// Acknowledgements, refusals, pongs.
fn answer(frame: Reader<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let Answer { success, ret_msg, req_id, op, data, .. } = frame.whole()?;
    let id = req_id.and_then(|id| id.parse().ok());
    let said = ret_msg.unwrap_or(Cow::Borrowed("refused without a reason"));
    let refused = data.and_then(|topics| topics.failTopics).unwrap_or_default();
    match (op.as_deref(), success) {
        (_, Some(false)) if refused.is_empty() => {
            out.control(Control::Rejected { id, topic: topic_named(&said).map(str::to_owned), reason: said.into_owned() });
        }
        _ if !refused.is_empty() => {
            for topic in refused {
                out.control(Control::Rejected { id, topic: Some(topic.into_owned()), reason: said.clone().into_owned() });
            }
        }
        (Some("ping" | "pong"), _) => out.control(Control::Alive),
        (_, Some(true)) => out.control(Control::Ack { id }),
        _ => return Err(DecodeError::malformed("neither a topic nor an answer to what was sent")),
    }
    Ok(())
}

/// The topic in `error:handler not found,topic:orderbook.50.NOPEUSDT`.
fn topic_named(said: &str) -> Option<&str> {
    let topic = said.split_once("topic:")?.1.trim_start();
    topic.split([',', ' ']).next().filter(|topic| !topic.is_empty())
}

/// The symbol that a reply is about, by itself or by what was asked.
fn symbol<'a>(named: Option<Cow<'a, str>>, input: &Input<'a>) -> Result<Cow<'a, str>, DecodeError> {
    named.or_else(|| input.query("symbol")).ok_or_else(|| DecodeError::malformed("neither the reply nor the request names a symbol"))
}

/// A message's number. Options' empty books have 0, which numbers nothing.
#[inline]
fn sequence(u: Option<u64>) -> Option<Ident> {
    u.filter(|u| *u != 0).map(Ident::from)
}

#[cfg(test)]
mod tests;
