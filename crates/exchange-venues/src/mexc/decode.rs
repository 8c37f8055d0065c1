//! What MEXC's messages mean: contracts' frames by channel, replies by endpoint, then one function per kind of record.
//! Spot's binary frames are `frame.rs`'s.

use std::borrow::Cow;
use std::sync::Arc;

use exchange_core::event::{Body, Book, BookKind, Candle, Funding, FundingSettled, Ident, Level, Mark, OpenInterest, Quote, Side, Ticker, Trade};
use exchange_core::exchange::query;
use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::wire::{Ignored, Num, Raw, Reader, Rows, Wire, peek_str, read};
use exchange_core::{Control, Decimal, DecodeError, ErrorKind, Input, Instrument, Interval, Market, Out, Source, Time};

use super::{frame, wire};

pub(super) type Result<T = (), E = DecodeError> = std::result::Result<T, E>;

/// The decoder: a plain function, since every message says what it is about.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    match input.source {
        Source::Http { endpoint, url, .. } if input.market == Market::Spot => spot_reply(&endpoint.name, url, input, out),
        Source::Http { endpoint, url, .. } => contract_reply(&endpoint.name, url, input, out),
        Source::Ws { .. } if input.market != Market::Spot => push(input, out),
        // No protobuf begins like this: it would be a group.
        Source::Ws { .. } if input.payload.first() == Some(&b'{') => answer(input, out),
        Source::Ws { .. } => frame::decode(input, out),
    }
}

/// Frames of contracts, by channel.
fn push(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let frame = input.reader()?;
    let Some(mut channel) = frame.find("channel")? else { return Err(DecodeError::malformed("a frame that names no channel")) };
    let channel = channel.string()?;
    match &*channel {
        "push.ticker" | "push.tickers" => {
            let push: wire::Push<Rows<'_, wire::ContractTicker<'_>>> = frame.whole()?;
            each(push.data, None, input, out, contract_ticker);
            out.stamp(push.ts.0);
        }
        "push.deal" => {
            let symbol = named(&frame)?;
            let push: wire::Push<Rows<'_, wire::ContractDeal>> = frame.whole()?;
            deals(push.data, &symbol, input, out);
            out.stamp(push.ts.0);
        }
        "push.depth" | "push.depth.full" => {
            let symbol = named(&frame)?;
            let push: wire::Push<wire::ContractDepth> = frame.whole()?;
            contract_depth(push.data, &symbol, if channel == "push.depth" { BookKind::Delta } else { BookKind::Snapshot }, out);
            out.stamp(push.ts.0);
        }
        "push.kline" => {
            let symbol = named(&frame)?;
            let push: wire::Push<wire::ContractKline<'_>> = frame.whole()?;
            contract_kline(push.data, &symbol, input, out)?;
            out.stamp(push.ts.0);
        }
        "push.funding.rate" => {
            let symbol = named(&frame)?;
            let push: wire::Push<wire::FundingRate<'_>> = frame.whole()?;
            funding(push.data, &symbol, out);
            out.stamp(push.ts.0);
        }
        "push.index.price" | "push.fair.price" => {
            let symbol = named(&frame)?;
            let mut push: wire::Push<wire::NamedPrice<'_>> = frame.whole()?;
            let named = if channel == "push.index.price" { &mut push.data.indexPrice } else { &mut push.data.fairPrice };
            *named = push.data.price.clone();
            price(push.data, &symbol, out);
            out.stamp(push.ts.0);
        }
        "push.contract" => {
            let push: wire::Push<Rows<'_, wire::Contract<'_>>> = frame.whole()?;
            each(push.data, None, input, out, |record, out| contract(&record, input, out));
            out.stamp(push.ts.0);
        }
        "pong" => {
            let _: Ignored = frame.whole()?;
            out.control(Control::Alive);
        }
        _ if channel.starts_with("rs.") => {
            let push: wire::Push<Raw<'_>> = frame.whole()?;
            let words = push.data.0.trim_matches('"');
            if words == "success" && channel != "rs.error" {
                out.control(Control::Ack { id: None });
            } else {
                out.control(Control::Rejected { id: None, topic: None, reason: words.to_owned() });
            }
        }
        _ => return Err(DecodeError::unknown("channel", channel)),
    }
    Ok(())
}

/// The contract that an envelope names: some records do not.
#[inline]
fn named<'a>(frame: &Reader<'a>) -> Result<Cow<'a, str>> {
    Ok(frame.find("symbol")?.map(|mut name| name.string()).transpose()?.unwrap_or_default())
}

/// Spot's answers to our frames. What was accepted is repeated in the words, joined by commas; a refusal names its topic
/// in brackets, and its code is 0, too.
fn answer(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let answer: wire::Answer<'_> = read(input.text()?)?;
    let words = answer.msg.trim();
    if words.eq_ignore_ascii_case("pong") {
        out.control(Control::Alive);
        return Ok(());
    }
    if words.starts_with("spot@") && !words.contains('[') && answer.code.unwrap_or_default() == 0 {
        for topic in words.split(',') {
            out.control(Control::AckTopic { id: None, topic: topic.trim().to_owned() });
        }
    } else {
        // Of several, the first: the others are asked for again, and refused in their turn.
        let topic = words.split_once('[').and_then(|(_, rest)| rest.split([']', ',']).next()).map(|topic| topic.trim().to_owned());
        out.control(Control::Rejected { id: None, topic, reason: words.to_owned() });
    }
    Ok(())
}

/// Replies of spot, by the endpoint's name in `venue.toml`.
fn spot_reply(endpoint: &str, url: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let body = input.reader()?;
    let market = Market::Spot;
    match endpoint {
        "ticker_24h" => each(body.whole()?, None, input, out, spot_ticker),
        "ticker_price" => each(body.whole()?, None, input, out, |t: wire::SpotPrice<'_>, out| {
            let instrument = out.instrument(market, &t.symbol);
            out.emit(&instrument, None, Body::Ticker(Ticker { last: t.price.0, ..Ticker::default() }));
        }),
        "book_ticker" => each(body.whole()?, None, input, out, |t: wire::SpotBookTicker<'_>, out| {
            let instrument = out.instrument(market, &t.symbol);
            out.emit(&instrument, None, quote((t.bidPrice, t.bidQty), (t.askPrice, t.askQty), None));
        }),
        "exchange_info" => {
            let info: wire::ExchangeInfo<Rows<'_, wire::Listing<'_>>> = body.whole()?;
            each(info.symbols, None, input, out, |listing, out| out.describe(market, &listing.symbol, None, pair(&listing)));
        }
        _ => {
            let symbol = query(url, "symbol").ok_or_else(|| DecodeError::malformed("the request names no symbol"))?;
            let instrument = out.instrument(market, &symbol);
            match endpoint {
                "depth" => {
                    let depth: wire::SpotDepth = body.whole()?;
                    out.emit(
                        &instrument,
                        depth.timestamp.0,
                        book(BookKind::Snapshot, depth.bids.unwrap_or_default(), depth.asks.unwrap_or_default(), depth.lastUpdateId, None),
                    );
                }
                "trades" => each(body.whole()?, Some(&symbol), input, out, |t: wire::SpotTrade<'_>, out| {
                    let side = taker(t.isBuyerMaker).or_else(|| taker(t.tradeType.map(|side| side == "ASK")));
                    out.emit(&instrument, t.time.0, trade(t.id, t.price, t.qty, side));
                }),
                "agg_trades" => each(body.whole()?, Some(&symbol), input, out, |t: wire::SpotAggTrade, out| {
                    out.emit(&instrument, t.T.0, trade(t.a, t.p, t.q, taker(t.m)));
                }),
                "klines" => {
                    let word = query(url, "interval").unwrap_or_default();
                    let interval = Interval::parse(if word == "1W" { "1w" } else { &word });
                    let interval = interval.ok_or_else(|| DecodeError::malformed("the request names no interval"))?;
                    each(body.whole()?, Some(&symbol), input, out, |k: wire::SpotKlineRow, out| {
                        let open_time = Time::from_millis(k.open_time);
                        let body = Candle {
                            interval,
                            open_time,
                            open: k.open,
                            high: k.high,
                            low: k.low,
                            close: k.close,
                            volume: k.volume,
                            turnover: k.turnover.0,
                            trades: None,
                            closed: interval.end(open_time) <= input.received,
                        };
                        out.emit(&instrument, None, Body::Candle(body));
                    });
                }
                _ => return Err(unknown(endpoint)),
            }
        }
    }
    Ok(())
}

/// Replies of contracts, by the endpoint's name in `venue.toml`.
fn contract_reply(endpoint: &str, url: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let symbol = asked_for(url);
    match endpoint {
        "tickers" => each(data(input)?, None, input, out, contract_ticker),
        "funding_rates" | "funding_rate" => each(data(input)?, None, input, out, |record, out| funding(record, &symbol, out)),
        "funding_history" => {
            let page: wire::FundingPage<Rows<'_, wire::FundingSettled<'_>>> = data(input)?;
            each(page.resultList, None, input, out, |record: wire::FundingSettled<'_>, out| {
                let (instrument, time) = (place(out, &record.symbol), Time::from_millis(record.settleTime));
                out.emit(&instrument, Some(time), Body::FundingSettled(FundingSettled { rate: record.fundingRate, time, mark: None }));
            });
        }
        "index_price" | "fair_price" => each(data(input)?, None, input, out, |record, out| price(record, &symbol, out)),
        "depth" => contract_depth(data(input)?, &symbol, BookKind::Snapshot, out),
        "depth_commits" => each(data(input)?, Some(&symbol), input, out, |record, out| contract_depth(record, &symbol, BookKind::Delta, out)),
        "deals" => deals(data(input)?, &symbol, input, out),
        "klines" => columns(&data(input)?, &symbol, input, out)?,
        "detail" => each(data(input)?, None, input, out, |record, out| contract(&record, input, out)),
        _ => return Err(unknown(endpoint)),
    }
    Ok(())
}

#[cold]
fn unknown(endpoint: &str) -> DecodeError {
    DecodeError::malformed(format_args!("`{endpoint}` is an endpoint that is not decoded here"))
}

/// What an answer of contracts holds. (A refusal with a code of its own does not come here.)
fn data<'a, T: Wire<'a>>(input: &Input<'a>) -> Result<T> {
    let reply: wire::Reply<T> = input.reader()?.whole()?;
    if reply.success == Some(false) {
        return Err(DecodeError { kind: ErrorKind::Rejected, message: "the answer says that it is no success".into() });
    }
    reply.data.ok_or_else(|| DecodeError::malformed("an answer without data"))
}

/// The contract that an address names: the last part of its path that looks like one, or what the query says.
fn asked_for(url: &str) -> String {
    let path = url.split(['?', '#']).next().unwrap_or(url);
    let part = path.rsplit('/').find(|part| part.contains('_')).unwrap_or_default();
    query(url, "symbol").or_else(|| query(&format!("?symbol={part}"), "symbol").map(|name| name.into_owned().into())).unwrap_or_default().into_owned()
}

/// The records of a list, all of `symbol` or each with its own. One that cannot be read costs only itself.
fn each<T>(rows: Rows<'_, T>, symbol: Option<&str>, input: &Input<'_>, out: &mut Out<'_>, record: impl Fn(T, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, out),
            Err(bad) => {
                let name = symbol.map(Cow::Borrowed).or_else(|| peek_str(bad.text, "symbol").ok().flatten());
                let market = name.as_deref().filter(|_| input.market != Market::Spot).map_or(input.market, |name| place(out, name).market);
                out.bad(market, name.as_deref(), bad.fault, bad.text);
            }
        }
    }
}

/// The instrument of a contract: linear and inverse ones come by the same ways. What the venue lists decides; until it is
/// known, the name does: contracts of dollars are settled in their base.
#[inline]
fn place(out: &mut Out<'_>, name: &str) -> Arc<Instrument> {
    let (likely, other) = if name.ends_with("_USD") { (Market::Inverse, Market::Linear) } else { (Market::Linear, Market::Inverse) };
    let here = out.instrument(likely, name);
    if here.details.is_some() || out.market_of(&[other], name).is_none() { here } else { out.instrument(other, name) }
}

/// The taker sold where the buyer was the maker.
fn taker(buyer_is_maker: Option<bool>) -> Option<Side> {
    buyer_is_maker.map(|maker| if maker { Side::Sell } else { Side::Buy })
}

/// Who was the aggressor: 1 bought, 2 sold, in every kind of message.
pub(super) fn aggressor(kind: i64) -> Option<Side> {
    match kind {
        1 => Some(Side::Buy),
        2 => Some(Side::Sell),
        _ => None,
    }
}

#[inline]
pub(super) fn trade(trade_id: Option<Ident>, price: Decimal, size: Decimal, taker: Option<Side>) -> Body {
    Body::Trade(Trade { trade_id, price, size, size_base: None, side: taker })
}

/// Price and size of a side of the book; an empty side has no price above zero.
fn best((price, size): (Num, Num)) -> (Option<Decimal>, Option<Decimal>) {
    let price = price.positive();
    let size = if price.is_some() { size.0 } else { None };
    (price, size)
}

#[inline]
pub(super) fn quote(bid: (Num, Num), ask: (Num, Num), seq: Option<Ident>) -> Body {
    let ((bid, bid_size), (ask, ask_size)) = (best(bid), best(ask));
    Body::Quote(Quote { bid, bid_size, ask, ask_size, seq })
}

/// `first` is the first version of a change that has several: it follows the one before.
#[inline]
pub(super) fn book(kind: BookKind, bids: Vec<Level>, asks: Vec<Level>, seq: Option<Ident>, first: Option<u64>) -> Body {
    let prev_seq = first.and_then(|first| first.checked_sub(1)).map(Ident::from);
    Body::Book(Book { kind, bids, asks, seq, prev_seq, checksum: None })
}

fn spot_ticker(t: wire::SpotTicker<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(Market::Spot, &t.symbol);
    let ((bid, bid_size), (ask, ask_size)) = (best((t.bidPrice, t.bidQty)), best((t.askPrice, t.askQty)));
    let body = Ticker {
        last: t.lastPrice.0,
        last_size: None,
        bid,
        bid_size,
        ask,
        ask_size,
        open_24h: t.openPrice.0,
        high_24h: t.highPrice.0,
        low_24h: t.lowPrice.0,
        volume_24h: t.volume.0,
        turnover_24h: t.quoteVolume.0,
        // A fraction, whatever its name says.
        change_24h: t.priceChangePercent.0,
    };
    out.emit(&instrument, t.closeTime.0, Body::Ticker(body));
}

fn pair(listing: &wire::Listing<'_>) -> Details {
    let step = |digits: Option<u64>| Decimal::from_parts(1, u32::try_from(digits?).ok()?);
    let status = match listing.status.as_ref().map(ToString::to_string).as_deref() {
        // The words would be an older form's: none was seen.
        Some("1" | "ENABLED" | "TRADING") => Status::Trading,
        Some("3") => Status::Delisted,
        _ => Status::Halted,
    };
    Details {
        tick_size: step(listing.quotePrecision),
        lot_size: step(listing.baseAssetPrecision),
        min_size: listing.baseSizePrecision.clone().positive(),
        ..Details::new(Kind::Spot, &listing.baseAsset, &listing.quoteAsset, status)
    }
}

#[inline]
fn contract_ticker(t: wire::ContractTicker<'_>, out: &mut Out<'_>) {
    let instrument = place(out, &t.symbol);
    let time = t.timestamp.0;
    let inverse = instrument.market == Market::Inverse;
    let ticker = Ticker {
        last: t.lastPrice.0,
        bid: t.bid1.positive(),
        ask: t.ask1.positive(),
        high_24h: t.high24Price.0,
        low_24h: t.lower24Price.0,
        volume_24h: t.volume24.0,
        // Of an inverse contract, it is in base currency.
        turnover_24h: t.amount24.0.filter(|_| !inverse),
        change_24h: t.riseFallRate.0,
        ..Ticker::default()
    };
    out.emit(&instrument, time, Body::Ticker(ticker));
    // So many contracts of quote currency are worth what the mark price of this message says; linear ones need no price.
    let value_base = t.holdVol.0.as_ref().filter(|_| inverse).and_then(|value| instrument.base_size(value, t.fairPrice.0.as_ref()));
    out.emit(&instrument, time, Body::Mark(Mark { mark: t.fairPrice.0, index: t.indexPrice.0, basis: None }));
    out.emit(&instrument, time, Body::Funding(Funding { rate: t.fundingRate.0, ..Funding::default() }));
    out.emit(&instrument, time, Body::OpenInterest(OpenInterest { value: t.holdVol.0, value_base, value_quote: None }));
}

fn funding(f: wire::FundingRate<'_>, symbol: &str, out: &mut Out<'_>) {
    let symbol = f.symbol.as_deref().unwrap_or(symbol);
    let instrument = place(out, symbol);
    let interval_hours = f.collectCycle.and_then(|hours| u32::try_from(hours).ok()).filter(|hours| *hours > 0);
    let body = Funding {
        rate: f.fundingRate.0.or(f.rate.0),
        next_time: f.nextSettleTime.0,
        interval_hours,
        predicted_rate: None,
        cap: f.maxFundingRate.0,
        floor: f.minFundingRate.0,
    };
    out.emit(&instrument, f.timestamp.0, Body::Funding(body));
}

fn price(p: wire::NamedPrice<'_>, symbol: &str, out: &mut Out<'_>) {
    let instrument = place(out, p.symbol.as_deref().unwrap_or(symbol));
    out.emit(&instrument, p.timestamp.0, Body::Mark(Mark { mark: p.fairPrice.0, index: p.indexPrice.0, basis: None }));
}

fn deals(rows: Rows<'_, wire::ContractDeal>, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = place(out, symbol);
    each(rows, Some(symbol), input, out, |d, out| out.emit(&instrument, d.t.0, trade(d.i, d.p, d.v, d.T.and_then(aggressor))));
}

/// A change's first and last version are `begin` and `end`, or its only one is `version`.
fn contract_depth(d: wire::ContractDepth, symbol: &str, kind: BookKind, out: &mut Out<'_>) {
    let instrument = place(out, symbol);
    let last = d.end.filter(|end| *end > 0).or(d.version);
    let first = d.begin.filter(|begin| *begin > 0).or(d.version).filter(|_| kind == BookKind::Delta);
    let body = book(kind, d.bids.unwrap_or_default(), d.asks.unwrap_or_default(), last.map(Ident::from), first);
    out.emit(&instrument, d.cts.0.or(d.timestamp.0), body);
}

fn contract_kline(k: wire::ContractKline<'_>, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let instrument = place(out, k.symbol.as_deref().unwrap_or(symbol));
    let interval = input.interval(&k.interval)?;
    let body = Candle {
        interval,
        open_time: k.t.0,
        open: k.o,
        high: k.h,
        low: k.l,
        close: k.c,
        volume: k.q,
        turnover: k.a.0.filter(|_| instrument.market != Market::Inverse),
        trades: None,
        closed: interval.end(k.t.0) <= input.received,
    };
    out.emit(&instrument, None, Body::Candle(body));
    Ok(())
}

/// Candles of the REST interface: a column for each value, in seconds.
fn columns(c: &wire::Columns<Rows<'_, Num>>, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let instrument = place(out, symbol);
    // Without one, it is a minute.
    let interval = input.interval(input.query("interval").as_deref().unwrap_or("Min1"))?;
    let value = |column: &Rows<'_, Num>, at: usize| column.0.get(at)?.as_ref().ok()?.0.clone();
    for at in 0..c.time.0.len() {
        let time = value(&c.time, at).and_then(|time| time.to_string().parse().ok()).and_then(wire::Seconds::new);
        let row = (value(&c.open, at), value(&c.high, at), value(&c.low, at), value(&c.close, at), value(&c.vol, at));
        let (Some(wire::Seconds(open_time)), (Some(open), Some(high), Some(low), Some(close), Some(volume))) = (time, row) else {
            out.bad(instrument.market, Some(symbol), format_args!("candle {at} lacks a value"), "");
            continue;
        };
        let turnover = value(&c.amount, at).filter(|_| instrument.market != Market::Inverse);
        let closed = interval.end(open_time) <= input.received;
        let body = Candle { interval, open_time, open, high, low, close, volume, turnover, trades: None, closed };
        out.emit(&instrument, None, Body::Candle(body));
    }
    Ok(())
}

fn contract(c: &wire::Contract<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    // Documented is 1, perpetual. What 2 is, is a guess: without an expiry it gets no symbol.
    let kind = if c.futureType == Some(2) { Kind::Future } else { Kind::Perpetual };
    let status = match c.state {
        Some(0) if c.openingTime.0.is_some_and(|opening| opening > input.received) => Status::PreLaunch,
        Some(0) => Status::Trading,
        // Completed, offline.
        Some(2 | 3) => Status::Delisted,
        // In delivery, paused, or new to us.
        _ => Status::Halted,
    };
    let details = Details {
        settle: Some((&*c.settleCoin).into()),
        contract_size: c.contractSize.clone().positive(),
        tick_size: c.priceUnit.clone().positive(),
        lot_size: c.volUnit.clone().positive(),
        min_size: c.minVol.clone().positive(),
        ..Details::new(kind, &c.baseCoin, &c.quoteCoin, status)
    };
    let market = if c.settleCoin == c.baseCoin { Market::Inverse } else { Market::Linear };
    out.describe(market, &c.symbol, None, details);
}

#[cfg(test)]
mod tests;
