//! What Gate's messages mean: a route table for each transport, then one function per record kind, used by both.

use std::borrow::Cow;

use exchange_core::event::{self, Body, BookKind, Ident, Level, Side};
use exchange_core::instrument::{Details, Instrument, Kind, Status};
use exchange_core::wire::{AnyTime, BadRow, Reader, Row, Rows, Wire, peek_str};
use exchange_core::{Control, Decimal, DecodeError, Input, Interval, Market, Out, Source, Time};

use super::Name;
use super::wire::{
    Answer, BookTicker, BookUpdate, Candle, Change, Contract, ContractInfo, ContractStats, FullBook, FundingRate, LiquidationOrder, Pair, PublicLiquidation,
    Push, Records, SpotCandle, SpotTicker, SpotTrade, System, Ticker, Trade,
};

/// The decoder: a plain function, since every message says what it is about.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    match input.source {
        Source::Ws { .. } => push(input, out),
        Source::Http { endpoint, url, .. } => reply(&endpoint.name, url, input, out),
    }
}

/// Frames, by event and channel.
fn push(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let (frame, market) = (input.reader()?, input.market);
    let event = word(&frame, "event")?;
    if !matches!(&*event, "update" | "all") {
        return answer(frame, out);
    }
    let channel = word(&frame, "channel")?;
    match &*channel {
        "futures.tickers" => each(frame, "contract", market, out, |record, time, out| ticker(record, time, market, out)),
        "futures.trades" => each(frame, "contract", market, out, |record, time, out| trade(record, time, market, out)),
        "futures.public_liquidates" => each(frame, "contract", market, out, |record, time, out| public_liquidation(record, time, market, out)),
        "futures.contract_stats" => each(frame, "contract", market, out, |record, time, out| contract_stats(record, "", time, market, out)),
        "futures.contract_info" => each(frame, "contract", market, out, |record, _, out| contract_info(&record, market, out)),
        "spot.tickers" => each(frame, "currency_pair", market, out, |record, time, out| spot_ticker(record, time, market, out)),
        "spot.trades" => each(frame, "currency_pair", market, out, |record, time, out| spot_trade(record, "", time, market, out)),
        "futures.book_ticker" | "spot.book_ticker" => each(frame, "s", market, out, |record, time, out| book_ticker(record, time, market, out)),
        "futures.obu" | "spot.obu" | "futures.order_book_update" | "spot.order_book_update" => {
            each(frame, "s", market, out, |record, time, out| book_update(record, time, market, out))
        }
        "futures.candlesticks" | "spot.candlesticks" => each(frame, "n", market, out, |record, time, out| candle(record, None, time, input, out)),
        "futures.order_book" if event == "update" => {
            let push: Push<Records<'_, Change<'_>>> = frame.whole()?;
            changes(push.sent(), push.result.0, market, out);
            Ok(())
        }
        "futures.order_book" | "spot.order_book" => {
            let push: Push<FullBook<'_>> = frame.whole()?;
            full_book(push.sent(), push.result, None, market, out)
        }
        "futures.system" | "spot.system" => {
            let push: Push<System<'_>> = frame.whole()?;
            // `upgrade` precedes a shutdown.
            out.control(if push.result.kind.as_deref() == Some("upgrade") { Control::Closing } else { Control::Alive });
            Ok(())
        }
        _ => Err(DecodeError::unknown("channel", channel)),
    }
}

/// The text under a key of a frame; empty where there is none.
#[inline]
fn word<'a>(frame: &Reader<'a>, key: &str) -> Result<Cow<'a, str>, DecodeError> {
    let value = frame.find(key)?.map(|mut value| Option::read(&mut value)).transpose()?;
    Ok(value.flatten().unwrap_or_default())
}

/// Replies, by the endpoint's name in `venue.toml`.
fn reply(endpoint: &str, url: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let (body, market) = (input.reader()?, input.market);
    let asked = || input.query("contract").or_else(|| input.query("currency_pair"));
    let symbol = || asked().ok_or_else(|| DecodeError::malformed("the request names no symbol"));
    match endpoint {
        "contracts" | "contract" | "delivery_contracts" => rows(body, Named::By("name"), market, out, |record, out| contract(record, settle(url), market, out)),
        "tickers" | "delivery_tickers" => rows(body, Named::By("contract"), market, out, |record, out| ticker(record, None, market, out)),
        "trades" | "delivery_trades" => rows(body, Named::By("contract"), market, out, |record, out| trade(record, None, market, out)),
        "liq_orders" => rows(body, Named::By("contract"), market, out, |record, out| liquidation_order(&record, market, out)),
        "currency_pairs" | "currency_pair" => rows(body, Named::By("id"), market, out, |record, out| pair(&record, input, out)),
        "spot_tickers" => rows(body, Named::By("currency_pair"), market, out, |record, out| spot_ticker(record, None, market, out)),
        "order_book" | "delivery_order_book" | "spot_order_book" => full_book(None, body.whole()?, Some(&symbol()?), market, out),
        "spot_trades" => {
            let symbol = asked().unwrap_or_default();
            rows(body, Named::Asked(&symbol), market, out, |record, out| spot_trade(record, &symbol, None, market, out))
        }
        "contract_stats" => {
            let symbol = symbol()?;
            rows(body, Named::Asked(&symbol), market, out, |record, out| contract_stats(record, &symbol, None, market, out))
        }
        "funding_rate" => {
            let symbol = symbol()?;
            rows(body, Named::Asked(&symbol), market, out, |record, out| funding_rate(record, &symbol, market, out))
        }
        // A request that names no interval has the venue's default.
        "candlesticks" | "delivery_candlesticks" => {
            let (symbol, interval) = (symbol()?, interval(&input.query("interval").unwrap_or(Cow::Borrowed("5m")), input)?);
            rows(body, Named::Asked(&symbol), market, out, |record, out| candle(record, Some((Some(interval), &symbol)), None, input, out))
        }
        "spot_candlesticks" => {
            let (symbol, interval) = (symbol()?, interval(&input.query("interval").unwrap_or(Cow::Borrowed("30m")), input)?);
            rows(body, Named::Asked(&symbol), market, out, |record, out| spot_candle(record, interval, &symbol, input, out))
        }
        _ => Err(DecodeError::unknown("endpoint", endpoint)),
    }
}

/// Where a record has its symbol.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Named<'a> {
    /// Under this key.
    By(&'a str),
    /// Nowhere: it was asked for.
    Asked(&'a str),
}

/// The records of a push, with the time of it. One that cannot be read costs only itself.
#[inline]
fn each<'a, T: Wire<'a>>(
    frame: Reader<'a>,
    key: &'static str,
    market: Market,
    out: &mut Out<'_>,
    mut record: impl FnMut(T, Option<Time>, &mut Out<'_>),
) -> Result<(), DecodeError> {
    let push: Push<Records<'a, T>> = frame.whole()?;
    let time = push.sent();
    one_by_one(push.result.0, Named::By(key), market, out, |row, out| record(row, time, out));
    Ok(())
}

/// The records of a reply.
fn rows<'a, T: Wire<'a>>(
    body: Reader<'a>,
    named: Named<'_>,
    market: Market,
    out: &mut Out<'_>,
    record: impl FnMut(T, &mut Out<'_>),
) -> Result<(), DecodeError> {
    let Rows(rows) = body.whole()?;
    one_by_one(rows, named, market, out, record);
    Ok(())
}

fn one_by_one<T>(rows: Vec<Row<'_, T>>, named: Named<'_>, market: Market, out: &mut Out<'_>, mut record: impl FnMut(T, &mut Out<'_>)) {
    for row in rows {
        match row {
            Ok(row) => record(row, out),
            Err(row) => bad(&row, named, market, out),
        }
    }
}

/// A record that cannot be read, under the symbol that it is about.
#[cold]
fn bad(row: &BadRow<'_>, named: Named<'_>, market: Market, out: &mut Out<'_>) {
    let name = match named {
        Named::Asked(symbol) => Some(Cow::Borrowed(symbol)),
        Named::By(key) => peek_str(row.text, key).ok().flatten(),
    };
    let symbol = name.as_deref().map(|name| if named == Named::By("n") { name.split_once('_').map_or(name, |(_, symbol)| symbol) } else { plain(name) });
    out.bad(market, symbol, row.fault, row.text);
}

/// A contract: all that is known of it in one record.
fn contract(record: Contract<'_>, settle: &str, market: Market, out: &mut Out<'_>) {
    let Some(name) = Name::parse(&record.name) else { return out.bad(market, Some(&record.name), "its name is no pair", "") };
    let expiry = record.expire_time.0.or(name.day);
    let kind = if expiry.is_some() { Kind::Future } else { Kind::Perpetual };
    let status = match record.status.as_deref() {
        // Older answers have no status. What is being delisted trades until then.
        None | Some("trading" | "delisting") => Status::Trading,
        Some("prelaunch") => Status::PreLaunch,
        Some("delisted") => Status::Delisted,
        // `circuit_breaker`, and what the venue may add.
        Some(_) => Status::Halted,
    };
    let details = Details {
        settle: Some(settle.to_uppercase().into()),
        // An inverse contract has a multiplier of 0: it is one unit of the quote currency. A quanto one (until 2021) has no
        // size in either.
        contract_size: match record.kind.as_deref() {
            Some("quanto") => None,
            _ => record.quanto_multiplier.positive().or((market == Market::Inverse).then_some(Decimal::ONE)),
        },
        tick_size: record.order_price_round.positive(),
        lot_size: record.order_size_min.clone().positive(),
        min_size: record.order_size_min.positive(),
        expiry,
        funding_interval_hours: record.funding_interval.hours(SECONDS),
        ..Details::new(kind, name.base, name.quote, status)
    };
    let instrument = out.learn(market, &record.name, &details);
    let mark = event::Mark { mark: record.mark_price.positive(), index: record.index_price.positive(), basis: record.basis_value.0 };
    let open_interest = open_interest(record.position_size.0, &mark, &instrument);
    out.emit(&instrument, None, Body::Mark(mark));
    if expiry.is_none() {
        let funding = event::Funding {
            rate: record.funding_rate.0,
            next_time: record.funding_next_apply.0,
            interval_hours: details.funding_interval_hours,
            ..event::Funding::default()
        };
        out.emit(&instrument, None, Body::Funding(funding));
    }
    out.emit(&instrument, None, Body::OpenInterest(open_interest));
    out.describe(market, &record.name, None, details);
}

/// What changed of a contract that is known otherwise.
fn contract_info(record: &ContractInfo<'_>, market: Market, out: &mut Out<'_>) {
    let Some(mut details) = out.instrument(market, &record.contract).details.clone() else { return };
    details.contract_size = record.quanto_multiplier.clone().positive().or(details.contract_size);
    details.tick_size = record.order_price_round.clone().positive().or(details.tick_size);
    out.describe(market, &record.contract, None, *details);
}

/// A contract's ticker: a whole record, or the fields that a push has.
#[inline]
fn ticker(record: Ticker<'_>, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.contract);
    let time = record.t.0.or(sent);
    let ticker = event::Ticker {
        last: record.last.0,
        bid: record.highest_bid.positive(),
        bid_size: record.highest_size.positive(),
        ask: record.lowest_ask.positive(),
        ask_size: record.lowest_size.positive(),
        high_24h: record.high_24h.0,
        low_24h: record.low_24h.0,
        volume_24h: record.volume_24h.0,
        turnover_24h: record.volume_24h_quote.0,
        change_24h: record.change_percentage.0.map(|percent| percent.shifted(2)),
        ..event::Ticker::default()
    };
    out.emit(&instrument, time, Body::Ticker(ticker));
    let mark = event::Mark { mark: record.mark_price.positive(), index: record.index_price.positive(), basis: record.basis_value.0 };
    let open_interest = open_interest(record.total_size.0, &mark, &instrument);
    out.emit(&instrument, time, Body::Mark(mark));
    // A dated future's rate is 0, and means nothing.
    if Name::parse(&record.contract).is_none_or(|name| name.day.is_none()) {
        let funding = event::Funding {
            rate: record.funding_rate.0,
            next_time: record.funding_next_apply.0,
            interval_hours: record.funding_interval.hours(SECONDS),
            ..event::Funding::default()
        };
        out.emit(&instrument, time, Body::Funding(funding));
    }
    out.emit(&instrument, time, Body::OpenInterest(open_interest));
}

/// Open interest in contracts. An inverse contract's base needs a price: the mark of the same message.
fn open_interest(value: Option<Decimal>, mark: &event::Mark, instrument: &Instrument) -> event::OpenInterest {
    let value_base = value.as_ref().and_then(|value| instrument.base_size(value, mark.mark.as_ref()));
    event::OpenInterest { value, value_base, value_quote: None }
}

/// Statistics of a contract; by REST they do not name it.
fn contract_stats(record: ContractStats<'_>, asked: &str, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, record.contract.as_deref().unwrap_or(asked));
    let time = record.time.0.or(sent);
    let mark = event::Mark { mark: record.mark_price.positive(), ..event::Mark::default() };
    let value = event::OpenInterest { value_quote: record.open_interest_usd.0, ..open_interest(record.open_interest.0, &mark, &instrument) };
    out.emit(&instrument, time, Body::Mark(mark));
    out.emit(&instrument, time, Body::OpenInterest(value));
}

/// A settlement is carried out a second or two late: its time is the whole minute.
fn funding_rate(record: FundingRate, symbol: &str, market: Market, out: &mut Out<'_>) {
    const MINUTE: i64 = 60_000_000;
    let instrument = out.instrument(market, symbol);
    let time = Time::from_micros((record.t.0.micros() + MINUTE / 2).div_euclid(MINUTE) * MINUTE);
    out.emit(&instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate: record.r, time, mark: None }));
}

fn spot_ticker(record: SpotTicker<'_>, time: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.currency_pair);
    let ticker = event::Ticker {
        last: record.last.0,
        bid: record.highest_bid.positive(),
        bid_size: record.highest_size.positive(),
        ask: record.lowest_ask.positive(),
        ask_size: record.lowest_size.positive(),
        high_24h: record.high_24h.0,
        low_24h: record.low_24h.0,
        volume_24h: record.base_volume.0,
        turnover_24h: record.quote_volume.0,
        change_24h: record.change_percentage.0.map(|percent| percent.shifted(2)),
        ..event::Ticker::default()
    };
    out.emit(&instrument, time, Body::Ticker(ticker));
}

fn pair(record: &Pair<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let step = |places: Option<u64>| Decimal::from_parts(1, u32::try_from(places?).ok()?);
    let now = input.received;
    let status = match record.trade_status.as_deref() {
        // One side only is still trading.
        Some("tradable" | "buyable" | "sellable") => Status::Trading,
        _ if record.buy_start.0.is_some_and(|start| start > now) => Status::PreLaunch,
        _ if record.delisting_time.0.is_some_and(|end| end <= now) => Status::Delisted,
        _ => Status::Halted,
    };
    let details = Details {
        tick_size: step(record.precision),
        lot_size: step(record.amount_precision),
        min_size: record.min_base_amount.clone().positive(),
        ..Details::new(Kind::Spot, &record.base, &record.quote, status)
    };
    out.describe(input.market, &record.id, None, details);
}

/// The top of the book. A side whose size was rounded down to 0 still has its price.
#[inline]
fn book_ticker(record: BookTicker<'_>, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.s);
    let (bid, ask) = (record.b.positive(), record.a.positive());
    let quote = event::Quote { bid, bid_size: record.B.positive(), ask, ask_size: record.A.positive(), seq: record.u };
    out.emit(&instrument, record.t.0.or(sent), Body::Quote(quote));
}

/// A change of a book, or the whole of it.
#[inline]
fn book_update(record: BookUpdate<'_>, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, plain(&record.s));
    let whole = record.full == Some(true);
    let book = event::Book {
        kind: if whole { BookKind::Snapshot } else { BookKind::Delta },
        bids: record.b.unwrap_or_default().0,
        asks: record.a.unwrap_or_default().0,
        seq: number(record.u),
        prev_seq: record.U.filter(|_| !whole).and_then(|first| number(first.checked_sub(1))),
        checksum: None,
    };
    out.emit(&instrument, record.t.0.or(sent), Body::Book(book));
}

/// A whole book, of the contract or pair that it names or that was asked for.
fn full_book(sent: Option<Time>, record: FullBook<'_>, asked: Option<&str>, market: Market, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let named = record.contract.as_deref().or(record.s.as_deref()).or(asked);
    let instrument = out.instrument(market, named.ok_or_else(|| DecodeError::malformed("a book of nothing"))?);
    let book = event::Book {
        kind: BookKind::Snapshot,
        bids: record.bids.0,
        asks: record.asks.0,
        seq: number(record.id.or(record.lastUpdateId)),
        prev_seq: None,
        checksum: None,
    };
    out.emit(&instrument, record.t.0.or(record.update.0).or(sent), Body::Book(book));
    Ok(())
}

/// Changes of the old channel, one record a price. What is gone may have stood on either side.
fn changes(sent: Option<Time>, rows: Vec<Row<'_, Change<'_>>>, market: Market, out: &mut Out<'_>) {
    let mut all = Vec::with_capacity(rows.len());
    one_by_one(rows, Named::By("c"), market, out, |change, _| all.push(change));
    for changes in all.chunk_by(|a, b| a.c == b.c) {
        let Some(first) = changes.first() else { continue };
        let instrument = out.instrument(market, &first.c);
        let side = |other: fn(&Decimal) -> bool| {
            changes.iter().filter(|change| !other(&change.s)).map(|change| Level { price: change.p.clone(), size: change.s.abs() }).collect()
        };
        let (bids, asks) = (side(Decimal::is_negative), side(Decimal::is_positive));
        out.emit(&instrument, sent, Body::Book(event::Book { kind: BookKind::Delta, bids, asks, seq: None, prev_seq: None, checksum: None }));
    }
}

/// A trade of a contract. (Internal ones, by which the insurance fund takes a position over, are trades like others.)
#[inline]
fn trade(record: Trade<'_>, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.contract);
    let trade = event::Trade { trade_id: record.id, price: record.price, size: record.size.abs(), size_base: None, side: side(&record.size) };
    out.emit(&instrument, either(record.create_time_ms, record.create_time).or(sent), Body::Trade(trade));
}

#[inline]
fn spot_trade(record: SpotTrade<'_>, asked: &str, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, record.currency_pair.as_deref().unwrap_or(asked));
    let trade = event::Trade { trade_id: record.id, price: record.price, size: record.amount, size_base: None, side: record.side.0 };
    out.emit(&instrument, either(record.create_time_ms, record.create_time).or(sent), Body::Trade(trade));
}

/// A liquidation by REST. `size` is the position's, which the forced order closes: its side is the other one. What of
/// the order was filled is the liquidation; an order of which nothing was (the insurance fund took it over) is none.
fn liquidation_order(record: &LiquidationOrder<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.contract);
    let position = record.size.0.as_ref();
    let Some(whole) = record.order_size.0.as_ref().or(position) else {
        return out.bad(market, Some(&record.contract), "a liquidation without a size", "");
    };
    let left = record.left.0.as_ref().map_or(Decimal::ZERO, Decimal::abs);
    let size = whole.abs().to_rust_decimal().zip(left.to_rust_decimal()).map(|(whole, left)| Decimal::from(whole - left));
    if let (Some(size), Some(price)) = (size.filter(Decimal::is_positive), record.fill_price.clone().positive()) {
        let forced = position.and_then(side).map(Side::opposite).or_else(|| side(whole));
        out.emit(&instrument, record.time.0, Body::Liquidation(event::Liquidation { price, size, size_base: None, side: forced, trade_id: None }));
    }
}

/// A liquidation as it is pushed. The documentation calls `size` the forced order's, and an order's is negative where it
/// sells.
fn public_liquidation(record: PublicLiquidation<'_>, sent: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.contract);
    let forced = side(&record.size);
    let liquidation = event::Liquidation { price: record.price, size: record.size.abs(), size_base: None, side: forced, trade_id: None };
    out.emit(&instrument, either(record.time, record.time_ms).or(sent), Body::Liquidation(liquidation));
}

/// A candle of the pair and interval that it names, or that was asked for. Those of marks and indices have no volume, and
/// are none.
fn candle(record: Candle<'_>, asked: Option<(Option<Interval>, &str)>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let named = record.n.as_deref().and_then(|name| name.split_once('_'));
    let (known, symbol) = named.map(|(word, symbol)| (interval(word, input).ok(), symbol)).or(asked).unwrap_or_default();
    let Some(interval) = known else { return out.bad(input.market, Some(symbol), "a candle of no interval that is known", "") };
    if symbol.starts_with("mark_") || symbol.starts_with("index_") {
        return;
    }
    let (volume, turnover) = match input.market {
        // Until 2022 the volume in base was left out; the one in quote was all that the venue called volume.
        Market::Spot => (record.a.0.or_else(|| record.v.0.clone()), record.v.0),
        _ => (record.v.0, record.sum.0),
    };
    let Some(volume) = volume else { return out.bad(input.market, Some(symbol), "a candle without a volume", "") };
    let instrument = out.instrument(input.market, symbol);
    let closed = record.w.0.unwrap_or_else(|| interval.end(record.t.0) <= input.received);
    let (open, high, low, close) = (record.o, record.h, record.l, record.c);
    let candle = event::Candle { interval, open_time: record.t.0, open, high, low, close, volume, turnover, trades: None, closed };
    out.emit(&instrument, time, Body::Candle(candle));
}

fn spot_candle(record: SpotCandle, interval: Interval, symbol: &str, input: &Input<'_>, out: &mut Out<'_>) {
    let SpotCandle { t, turnover, close, high, low, open, volume, closed } = record;
    let Some(volume) = volume.0.or_else(|| turnover.0.clone()) else { return out.bad(input.market, Some(symbol), "a candle without a volume", "") };
    let instrument = out.instrument(input.market, symbol);
    let closed = closed.0.unwrap_or_else(|| interval.end(t.0) <= input.received);
    let candle = event::Candle { interval, open_time: t.0, open, high, low, close, volume, turnover: turnover.0, trades: None, closed };
    out.emit(&instrument, None, Body::Candle(candle));
}

/// Acknowledgements, refusals, pongs.
fn answer(frame: Reader<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let Answer { id, channel, event, payload, error, result } = frame.whole()?;
    let (id, channel) = (id.and_then(|id| id.as_number()), channel.unwrap_or_default());
    let failed = error.is_some() || result.is_some_and(|result| result.status.as_deref() == Some("fail"));
    if failed {
        let reason = error.and_then(|error| error.message).unwrap_or(Cow::Borrowed("refused without a reason"));
        // What is wrong stands last: a symbol, or an entry of the payload, which only newer answers repeat.
        let word = reason.rsplit(' ').next().unwrap_or_default();
        if reason.starts_with("Alert sub ") {
            // It is subscribed to already.
            out.control(Control::AckTopic { id, topic: format!("{channel} {word}") });
            return Ok(());
        }
        let mut entries = payload.into_iter().flat_map(|payload| payload.0).flatten();
        let entry = entries.find(|entry| plain(entry) == word).or_else(|| word.contains('_').then_some(Cow::Borrowed(word)));
        out.control(Control::Rejected { id, topic: entry.map(|entry| format!("{channel} {entry}")), reason: reason.clone().into_owned() });
    } else if channel.ends_with(".pong") || channel.ends_with(".ping") {
        out.control(Control::Alive);
    } else if matches!(event.as_deref(), Some("subscribe" | "unsubscribe")) {
        out.control(Control::Ack { id });
    } else {
        return Err(DecodeError::malformed("neither a push nor an answer to what was sent"));
    }
    Ok(())
}

/// Gate counts hours in seconds.
const SECONDS: u32 = 3600;

/// What settles the contracts of an address: what follows `futures` or `delivery` in its path.
fn settle(url: &str) -> &str {
    let mut parts = url.split(['/', '?']).skip_while(|part| !matches!(*part, "futures" | "delivery"));
    parts.nth(1).unwrap_or_default()
}

/// The symbol in `obu`'s `ob.BTC_USDT.50`, which is plain elsewhere.
fn plain(name: &str) -> &str {
    name.strip_prefix("ob.").and_then(|topic| topic.rsplit_once('.')).map_or(name, |(symbol, _)| symbol)
}

/// The taker's side by the sign of a size. One that was rounded down to 0 has none.
fn side(size: &Decimal) -> Option<Side> {
    (!size.is_zero()).then_some(if size.is_negative() { Side::Sell } else { Side::Buy })
}

/// A number of the book's changes; an empty book has 0, which numbers nothing.
fn number(number: Option<u64>) -> Option<Ident> {
    number.filter(|number| *number != 0).map(Ident::from)
}

fn either(first: AnyTime, second: AnyTime) -> Option<Time> {
    first.0.or(second.0)
}

/// The interval for Gate's word, which other answers write as we do.
fn interval(word: &str, input: &Input<'_>) -> Result<Interval, DecodeError> {
    let known = input.profile.interval_named(word).or_else(|| Interval::parse(word));
    known.ok_or_else(|| DecodeError::unknown("interval", word))
}

#[cfg(test)]
mod tests;
