//! What Deribit's messages mean: a route table for each transport, then one function per record kind, used by both.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::event::{self, Body, BookKind, Ident, Level, Side};
use exchange_core::instrument::{Details, Instrument, Kind, Status};
use exchange_core::wire::{self, Ignored, Millis, Num, Raw, Reader, Rows};
use exchange_core::{Control, Decimal, DecodeError, ErrorKind, Input, Interval, Market, Out, Source, Time};

use super::name;
use super::wire::{
    Answer, AskedIndex, Bar, Book, Chart, FundingHour, Heartbeat, Lifecycle, Listing, Perpetual, PriceIndex, PublicTrade, Push, Reply, Step, Summary, Ticker,
    Trades,
};

/// Perpetuals and spot pairs end in the year 3000.
const NEVER: Time = Time::from_millis(32_503_708_800_000);
/// An inactive instrument that is not older than this has not begun to trade.
const NEW: Duration = Duration::from_hours(24);
/// The rate of funding is one for so many hours.
const FUNDING_HOURS: u32 = 8;

/// The decoder: a plain function, since every message says what it is about.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    match input.source {
        Source::Ws { .. } => frame(input, out),
        Source::Http { url, request, .. } => {
            // By POST, what is asked stands in the body: `public/ticker`, as a path by GET does.
            let body = request.map(|body| wire::peek_str(body, "method")).transpose()?.flatten();
            let path = body.as_deref().unwrap_or_else(|| url.split(['?', '#']).next().unwrap_or(url));
            reply(path.rsplit('/').next().unwrap_or(path), input, out)
        }
    }
}

/// Frames, by method; those without one are answers.
fn frame(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let frame = input.reader()?;
    let Some(mut method) = frame.find("method")? else { return answer(frame, input, out) };
    match &*method.string()? {
        "subscription" => push(frame, input, out),
        "heartbeat" => {
            let heartbeat: Heartbeat<'_> = frame.whole()?;
            if heartbeat.params.kind == "test_request" {
                out.reply(r#"{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}"#.to_owned());
            }
            out.control(Control::Alive);
            Ok(())
        }
        other => Err(DecodeError::unknown("method", other)),
    }
}

/// Pushes, by channel.
fn push(frame: Reader<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let channel = frame.find("params")?.map(|params| params.find("channel")).transpose()?.flatten();
    let channel = channel.ok_or_else(|| DecodeError::malformed("a push without a channel"))?.string()?;
    let (kind, about) = channel.split_once('.').unwrap_or((&channel, ""));
    match kind {
        "ticker" | "incremental_ticker" => ticker(data(frame)?, input, out),
        "quote" => quote(data(frame)?, input, out),
        "trades" => each(data(frame)?, "instrument_name", input, out, trade),
        // `none.1` is the ungrouped book of one level: the top of the book.
        "book" if about.contains(".none.1.") => top(data(frame)?, input, out),
        "book" => book(data(frame)?, None, input, out)?,
        "chart" => {
            let named = about.strip_prefix("trades.").and_then(|about| about.rsplit_once('.'));
            let (symbol, word) = named.ok_or_else(|| DecodeError::malformed(format_args!("`{channel}` names no interval")))?;
            let (interval, instrument) = (input.interval(word)?, instrument_of(symbol, input, out));
            let bar: Bar = data(frame)?;
            let values = [bar.open.0, bar.high.0, bar.low.0, bar.close.0, bar.volume.0, bar.cost.0];
            candle(&instrument, interval, bar.tick.0, values, input, out);
        }
        "perpetual" => perpetual(about.split('.').next().unwrap_or_default(), data(frame)?, input, out),
        "deribit_price_index" => {
            let index: PriceIndex<'_> = data(frame)?;
            emit_index(&index.index_name, index.price.0, index.timestamp.0, input, out);
        }
        "markprice" => each(data(frame)?, "instrument_name", input, out, ticker),
        "instrument" => state(&data(frame)?, input, out),
        // How an index came about, volatilities, notices, what is for sale in private: no channel of ours.
        "deribit_price_ranking"
        | "deribit_price_statistics"
        | "deribit_volatility_index"
        | "estimated_expiration_price"
        | "platform_state"
        | "announcements"
        | "rfq"
        | "block_rfq"
        | "block_trade_confirmations" => {
            let _: Ignored = frame.whole()?;
        }
        _ => return Err(DecodeError::unknown("channel", channel)),
    }
    Ok(())
}

fn data<'a, T: wire::Wire<'a>>(frame: Reader<'a>) -> Result<T, DecodeError> {
    let push: Push<T> = frame.whole()?;
    Ok(push.params.data)
}

/// Replies, by the method that was asked.
fn reply(method: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    match method {
        "get_book_summary_by_currency" | "get_book_summary_by_instrument" => {
            let (rows, _) = result(input)?;
            each(rows, "instrument_name", input, out, summary);
        }
        "ticker" => ticker(result(input)?.0, input, out),
        "get_instruments" | "get_instrument" => {
            let (rows, time) = result(input)?;
            each(rows, "instrument_name", input, out, |record, input, out| instrument(record, time, input, out));
        }
        "get_order_book" => {
            // A ticker and a book in one record.
            let (Raw(record), time) = result(input)?;
            ticker(wire::read(record)?, input, out);
            book(wire::read(record)?, time, input, out)?;
        }
        _ if method.starts_with("get_last_trades_by_") => {
            let (trades, _): (Trades<'_>, _) = result(input)?;
            each(trades.trades, "instrument_name", input, out, trade);
        }
        "get_tradingview_chart_data" => chart(result(input)?.0, input, out)?,
        "get_funding_rate_history" => {
            let instrument = instrument_of(&asked(input, "instrument_name")?, input, out);
            let (rows, _): (Rows<'_, FundingHour>, _) = result(input)?;
            for row in rows.0 {
                match row {
                    Ok(hour) => funding_settled(&instrument, hour, out),
                    Err(bad) => out.bad(instrument.market, Some(&instrument.venue_symbol), bad.fault, bad.text),
                }
            }
        }
        "get_index_price" => {
            let (price, time): (AskedIndex, _) = result(input)?;
            emit_index(&asked(input, "index_name")?, price.index_price.0, time, input, out);
        }
        _ => return Err(DecodeError::unknown("method", method)),
    }
    Ok(())
}

/// The result of a reply, and when that left the venue.
fn result<'a, T: wire::Wire<'a>>(input: &Input<'a>) -> Result<(T, Option<Time>), DecodeError> {
    let reply: Reply<T> = input.reader()?.whole()?;
    Ok((reply.result, reply.usOut.map(Time::from_micros)))
}

/// What the request says and its answer does not repeat.
fn asked<'a>(input: &Input<'a>, key: &str) -> Result<Cow<'a, str>, DecodeError> {
    let in_body = || {
        let Source::Http { request: Some(body), .. } = input.source else { return None };
        Reader::new(body).find("params").ok()??.find(key).ok()??.string_or_number().ok()
    };
    input.query(key).or_else(in_body).ok_or_else(|| DecodeError::malformed(format_args!("the request has no `{key}`, and its answer does not say")))
}

/// The records of a list that name their instrument under `key`. One that cannot be read costs only itself.
#[inline]
fn each<T>(rows: Rows<'_, T>, key: &str, input: &Input<'_>, out: &mut Out<'_>, mut record: impl FnMut(T, &Input<'_>, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, input, out),
            Err(bad) => {
                let market = wire::peek_str(bad.text, key).ok().flatten().map_or(input.market, |name| market_of(&name, input, out));
                out.bad_row(market, key, &bad);
            }
        }
    }
}

/// The market of an instrument: one socket carries them all. What was described says so, then the name, else the
/// surface that was asked (combinations have names of their own).
#[inline]
fn market_of(name: &str, input: &Input<'_>, out: &Out<'_>) -> Market {
    let [a, b, c, d] = Market::ALL;
    out.market_of(&[input.market, a, b, c, d], name).or_else(|| name::read(name).map(|(market, _)| market)).unwrap_or(input.market)
}

#[inline]
fn instrument_of(name: &str, input: &Input<'_>, out: &mut Out<'_>) -> Arc<Instrument> {
    let market = market_of(name, input, out);
    out.instrument(market, name)
}

/// What a ticker and a summary say alike.
struct Facts {
    ticker: event::Ticker,
    mark: event::Mark,
    /// For eight hours; perpetuals have it.
    rate: Option<Decimal>,
    open_interest: Option<Decimal>,
}

#[inline]
fn emit_facts(instrument: &Arc<Instrument>, time: Option<Time>, facts: Facts, out: &mut Out<'_>) {
    // A combination's price is a difference of prices: nothing can be converted with that. It has no symbol.
    let inverse = instrument.market == Market::Inverse && instrument.symbol.is_some();
    out.emit(instrument, time, Body::Ticker(facts.ticker));
    if instrument.market == Market::Spot {
        // A pair's mark price and index are of no contract.
        return;
    }
    let mark = facts.mark.mark.clone();
    out.emit(instrument, time, Body::Mark(facts.mark));
    if facts.rate.is_some() {
        let funding = event::Funding { rate: facts.rate, interval_hours: Some(FUNDING_HOURS), ..event::Funding::default() };
        out.emit(instrument, time, Body::Funding(funding));
    }
    // Dollars, where the contract is inverse: the quote currency.
    let value = facts.open_interest;
    let value_base = value.as_ref().filter(|_| inverse).and_then(|value| value.checked_quotient(mark.as_ref()?));
    let value_quote = value.clone().filter(|_| inverse);
    out.emit(instrument, time, Body::OpenInterest(event::OpenInterest { value, value_base, value_quote }));
}

/// What was traded, in quote currency. An option's premiums are in base currency: what is sent in dollars is no turnover.
fn turnover(notional: Num, usd: Num, market: Market) -> Option<Decimal> {
    notional.0.or(usd.0).filter(|_| market != Market::Option)
}

/// A ticker: a whole record, or the fields that changed.
#[inline]
fn ticker(record: Ticker<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = instrument_of(&record.instrument_name, input, out);
    let mut ticker = event::Ticker {
        last: record.last_price.0,
        bid: record.best_bid_price.positive(),
        bid_size: record.best_bid_amount.positive(),
        ask: record.best_ask_price.positive(),
        ask_size: record.best_ask_amount.positive(),
        ..event::Ticker::default()
    };
    if let Some(stats) = record.stats {
        ticker.high_24h = stats.high.0;
        ticker.low_24h = stats.low.0;
        ticker.volume_24h = stats.volume.0;
        ticker.turnover_24h = turnover(stats.volume_notional, stats.volume_usd, instrument.market);
        ticker.change_24h = stats.price_change.0.map(|percent| percent.shifted(2));
    }
    let mark = event::Mark { mark: record.mark_price.0, index: record.index_price.0, basis: None };
    let facts = Facts { ticker, mark, rate: record.current_funding.0, open_interest: record.open_interest.0 };
    emit_facts(&instrument, record.timestamp.0, facts, out);
}

/// A line of a summary.
fn summary(record: Summary<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = instrument_of(&record.instrument_name, input, out);
    let ticker = event::Ticker {
        last: record.last.0,
        bid: record.bid_price.positive(),
        ask: record.ask_price.positive(),
        high_24h: record.high.0,
        low_24h: record.low.0,
        volume_24h: record.volume.0,
        turnover_24h: turnover(record.volume_notional, record.volume_usd, instrument.market),
        change_24h: record.price_change.0.map(|percent| percent.shifted(2)),
        ..event::Ticker::default()
    };
    let rate = record.current_funding.0;
    // What never expires would be delivered at its index. What does has an average of its last half hour there.
    let index = record.estimated_delivery_price.and_then(|price| price.0).filter(|_| rate.is_some());
    let facts = Facts { ticker, mark: event::Mark { mark: record.mark_price.0, index, basis: None }, rate, open_interest: record.open_interest.0 };
    emit_facts(&instrument, record.creation_timestamp.0, facts, out);
}

/// The venue's own top of the book.
#[inline]
fn quote(record: Ticker<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = instrument_of(&record.instrument_name, input, out);
    let quote = event::Quote {
        bid: record.best_bid_price.positive(),
        bid_size: record.best_bid_amount.positive(),
        ask: record.best_ask_price.positive(),
        ask_size: record.best_ask_amount.positive(),
        seq: None,
    };
    out.emit(&instrument, record.timestamp.0, Body::Quote(quote));
}

/// The same as a book of one level.
fn top(record: Book<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = instrument_of(&record.instrument_name, input, out);
    let best = |side: Vec<Step>| side.into_iter().next().map(|Step(level)| (level.price, level.size)).unzip();
    let ((bid, bid_size), (ask, ask_size)) = (best(record.bids), best(record.asks));
    out.emit(&instrument, record.timestamp.0, Body::Quote(event::Quote { bid, bid_size, ask, ask_size, seq: record.change_id }));
}

/// A book, or a change of one.
#[inline]
fn book(record: Book<'_>, sent: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let instrument = instrument_of(&record.instrument_name, input, out);
    let kind = match (record.kind.as_deref(), &record.prev_change_id) {
        (Some("snapshot"), _) | (None, None) => BookKind::Snapshot,
        (Some("change"), _) | (None, Some(_)) => BookKind::Delta,
        (Some(other), _) => return Err(DecodeError::malformed(format_args!("`{other}` is neither a snapshot nor a change"))),
    };
    let levels = |side: Vec<Step>| -> Vec<Level> { side.into_iter().map(|step| step.0).collect() };
    let book = event::Book {
        kind,
        bids: levels(record.bids),
        asks: levels(record.asks),
        seq: record.change_id,
        // Some snapshots have one, too, though they follow nothing.
        prev_seq: record.prev_change_id.filter(|_| kind == BookKind::Delta),
        checksum: None,
    };
    out.emit(&instrument, record.timestamp.0.or(sent), Body::Book(book));
    Ok(())
}

/// A trade. Where one of its sides was liquidated, that side's order was the forced one: the taker's (`T`), the
/// maker's (`M`), or both.
#[inline]
fn trade(record: PublicTrade<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = instrument_of(&record.instrument_name, input, out);
    let PublicTrade { trade_id, price, amount: size, .. } = record;
    let time = record.timestamp.0;
    let taker = record.direction.0;
    let flags = record.liquidation.unwrap_or_default();
    let forced = [('T', taker), ('M', taker.map(Side::opposite))].into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, side)| side);
    let liquidation = |side| event::Liquidation { price: price.clone(), size: size.clone(), size_base: None, side, trade_id: trade_id.clone() };
    let forced: Vec<_> = forced.map(liquidation).collect();
    out.emit(&instrument, time, Body::Trade(event::Trade { trade_id, price, size, size_base: None, side: taker }));
    for liquidation in forced {
        out.emit(&instrument, time, Body::Liquidation(liquidation));
    }
}

/// A candle of open, high, low, close, volume and turnover. One without a trade in it has a volume of 0.
fn candle(instrument: &Arc<Instrument>, interval: Interval, open_time: Option<Time>, values: [Option<Decimal>; 6], input: &Input<'_>, out: &mut Out<'_>) {
    let [Some(open), Some(high), Some(low), Some(close), Some(volume), turnover] = values else {
        return out.bad(instrument.market, Some(&instrument.venue_symbol), "a candle lacks a price or its volume", "");
    };
    let Some(open_time) = open_time else {
        return out.bad(instrument.market, Some(&instrument.venue_symbol), "a candle lacks its time", "");
    };
    let closed = interval.end(open_time) <= input.received;
    let turnover = turnover.filter(|_| instrument.market != Market::Option);
    let candle = event::Candle { interval, open_time, open, high, low, close, volume, turnover, trades: None, closed };
    // Without a time: a candle that did not change is the same fact, whenever it is asked for.
    out.emit(instrument, None, Body::Candle(candle));
}

fn chart(chart: Chart<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let instrument = instrument_of(&asked(input, "instrument_name")?, input, out);
    let interval = input.interval(&asked(input, "resolution")?)?;
    let count = chart.ticks.0.len();
    let column = |rows: Rows<'_, Num>| match rows.0.len() {
        len if len == count => Ok(rows.0.into_iter().map(|row| row.ok().and_then(|number| number.0)).collect::<Vec<_>>()),
        _ => Err(DecodeError::malformed("the lists of a chart differ in length")),
    };
    let (open, high, low, close, volume) = (column(chart.open)?, column(chart.high)?, column(chart.low)?, column(chart.close)?, column(chart.volume)?);
    let mut cost = chart.cost.map(column).transpose()?.unwrap_or_default().into_iter();
    for (((((tick, open), high), low), close), volume) in chart.ticks.0.into_iter().zip(open).zip(high).zip(low).zip(close).zip(volume) {
        let turnover = cost.next().flatten();
        let time = tick.unwrap_or(Millis(None)).0;
        candle(&instrument, interval, time, [open, high, low, close, volume, turnover], input, out);
    }
    Ok(())
}

fn perpetual(symbol: &str, record: Perpetual, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = instrument_of(symbol, input, out);
    let mark = event::Mark { index: record.index_price.0, ..event::Mark::default() };
    let facts = Facts { ticker: event::Ticker::default(), mark, rate: record.interest.0, open_interest: None };
    emit_facts(&instrument, record.timestamp.0, facts, out);
}

/// The funding of an hour, though accrued continuously.
fn funding_settled(instrument: &Arc<Instrument>, record: FundingHour, out: &mut Out<'_>) {
    let Some(time) = record.timestamp.0 else {
        return out.bad(instrument.market, Some(&instrument.venue_symbol), "a settlement lacks its time", "");
    };
    out.emit(instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate: record.interest_1h, time, mark: None }));
}

/// An index is no instrument of any market: it goes by its own name, with that of whoever asked.
fn emit_index(name: &str, index: Option<Decimal>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let instrument = out.instrument(input.market, name);
    out.emit(&instrument, time, Body::Mark(event::Mark { index, ..event::Mark::default() }));
}

fn instrument(record: Listing<'_>, time: Option<Time>, input: &Input<'_>, out: &mut Out<'_>) {
    let (named_market, named) = name::read(&record.instrument_name).unzip();
    let kind = match (record.kind.as_deref(), record.settlement_period.as_deref()) {
        (Some("spot"), _) => Some(Kind::Spot),
        (Some("option"), _) => Some(Kind::Option),
        (Some("future"), Some("perpetual")) => Some(Kind::Perpetual),
        (Some("future"), Some(_)) => Some(Kind::Future),
        // Positions of several contracts at once: the contracts are described, the combinations have no kind of ours.
        (Some("future_combo" | "option_combo"), _) => return,
        _ => named.as_ref().map(|named| named.kind),
    };
    let market = match (kind, record.instrument_type.as_deref().or(record.future_type.as_deref())) {
        (Some(Kind::Spot), _) => Some(Market::Spot),
        (Some(Kind::Option), _) => Some(Market::Option),
        (_, Some("reversed")) => Some(Market::Inverse),
        (_, Some("linear")) => Some(Market::Linear),
        _ => named_market,
    };
    let (Some(kind), Some(market)) = (kind, market) else {
        return out.bad(input.market, Some(&record.instrument_name), "neither its fields nor its name say what kind of instrument this is", "");
    };
    let boxed = |text: Option<Cow<'_, str>>| text.map(|text| Box::<str>::from(&*text));
    let base = boxed(record.base_currency).or(named.as_ref().map(|named| named.base.clone())).unwrap_or_default();
    // The price of an inverse option is in base currency, its strike in dollars.
    let quote = boxed(record.counter_currency).or(boxed(record.quote_currency).filter(|quote| *quote != base));
    let quote = quote.or(named.as_ref().map(|named| named.quote.clone())).unwrap_or_default();
    let strike = record.strike.0.zip(record.option_type.as_deref().and_then(name::read_right));
    let expiry = record.expiration_timestamp.0.filter(|time| matches!(kind, Kind::Future | Kind::Option) && *time < NEVER);
    let details = Details {
        kind,
        settle: boxed(record.settlement_currency).or(named.as_ref().and_then(|named| named.settle.clone())).filter(|_| kind != Kind::Spot),
        base,
        quote,
        contract_size: name::contract_size(kind),
        tick_size: record.tick_size.0,
        lot_size: record.lot_size.0.or_else(|| record.min_trade_amount.0.clone()),
        min_size: record.min_trade_amount.0,
        expiry,
        status: status(record.state.as_deref(), record.is_active, record.creation_timestamp.0, expiry, input.received),
        funding_interval_hours: None,
        option: strike.or(named.and_then(|named| named.option)).filter(|_| kind == Kind::Option),
    };
    out.describe(market, &record.instrument_name, time, details);
}

/// Whether an instrument can be traded, by its state or, before 2026, by whether it is active.
fn status(state: Option<&str>, active: Option<bool>, created: Option<Time>, expiry: Option<Time>, now: Time) -> Status {
    match (state, active) {
        (Some("open"), _) => Status::Trading,
        (Some("inactive"), _) if created.is_some_and(|created| now < created + NEW) => Status::PreLaunch,
        (Some("settlement" | "locked" | "halted" | "inactive"), _) => Status::Halted,
        (Some("delivered" | "archivized"), _) => Status::Delisted,
        (_, Some(false)) if expiry.is_some_and(|expiry| expiry <= now) => Status::Delisted,
        (_, Some(false)) | (Some(_), None) => Status::Halted,
        (None, _) | (_, Some(true)) => Status::Trading,
    }
}

/// A step of an instrument's life, told with what is known of it besides.
fn state(record: &Lifecycle<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let name = &record.instrument_name;
    let instrument = instrument_of(name, input, out);
    let details = instrument.details.as_deref().cloned().or_else(|| name::read(name).map(|(_, details)| details));
    let status = match &*record.state {
        "created" => Status::PreLaunch,
        "started" => Status::Trading,
        "closed" | "terminated" => Status::Delisted,
        // `settled`, `deactivated`, and what the venue may add.
        _ => Status::Halted,
    };
    match details {
        Some(details) => out.describe(instrument.market, name, record.timestamp.0, Details { status, ..details }),
        None if name::is_combo(name) => {}
        None => out.bad(instrument.market, Some(name), "an instrument that is not known changed its state", ""),
    }
}

/// Answers to what the client sent: the channels that were accepted, `"ok"`, a refusal.
fn answer(frame: Reader<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let Answer { id, result, error, .. } = frame.whole()?;
    let id = id.as_ref().and_then(Ident::as_number);
    if let Some(refusal) = error {
        let said = refusal.message.as_deref().unwrap_or("refused without a reason");
        let why = refusal.data.map(|Raw(text)| format!(" {text}")).unwrap_or_default();
        let message = format!("code {}: {said}{why}", refusal.code);
        return match input.profile.errors.get(&format!("code:{}", refusal.code)) {
            None | Some(ErrorKind::Rejected) => {
                out.control(Control::Rejected { id, topic: None, reason: message });
                Ok(())
            }
            // The frame was not at fault: it is sent again for want of an acknowledgement.
            Some(kind) => Err(DecodeError { kind: *kind, message }),
        };
    }
    match result {
        Some(Raw(list)) if list.starts_with('[') => {
            let topics: Vec<Cow<'_, str>> = wire::read(list)?;
            out.control(Control::AckOnly { id, topics: topics.into_iter().map(Cow::into_owned).collect() });
        }
        Some(_) => out.control(Control::Alive),
        None => return Err(DecodeError::malformed("neither a push nor an answer to what was sent")),
    }
    Ok(())
}

#[cfg(test)]
mod tests;
