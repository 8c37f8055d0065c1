//! What OKX's messages mean: a route table for each transport, then one function per record kind, used by both.

use std::borrow::Cow;
use std::sync::Arc;

use exchange_core::event::{self, Body, BookKind, Ident};
use exchange_core::instrument::{Details, Kind, Right, Status};
use exchange_core::wire::{self, Ignored, Reader, Rows, Wire};
use exchange_core::{Control, Decimal, DecodeError, ErrorKind, Input, Instrument, Interval, Market, Out, Source, Time};

use super::wire::{
    Action, Answer, Arg, Book, Candle, FundingHistory, FundingRate, IndexTicker, InstrumentInfo, Liquidations, MarkPrice, OpenInterest, Push, Reply, Ticker,
    Trade,
};

/// The decoder: a plain function, since every message says what it is about.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    match input.source {
        Source::Ws { .. } => frame(input, out),
        Source::Http { endpoint, .. } => reply(&endpoint.name, input, out),
    }
}

/// Frames. The one answer that is not JSON is that to our ping.
fn frame(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    if input.payload == b"pong" {
        out.control(Control::Alive);
        return Ok(());
    }
    let frame = input.reader()?;
    match (frame.find("data")?, frame.find("arg")?) {
        (Some(_), Some(mut arg)) => push(&Arg::read(&mut arg)?, frame, input, out),
        _ => answer(&frame.whole()?, input, out),
    }
}

/// Pushes, by channel.
fn push(arg: &Arg<'_>, frame: Reader<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let name = arg.instId.as_deref().unwrap_or_default();
    match &*arg.channel {
        "tickers" => each(rows(frame)?, input, out, ticker),
        "bbo-tbt" => each_of(rows(frame)?, name, input, out, quote),
        "books" | "books5" | "books-l2-tbt" | "books50-l2-tbt" | "books-rpi" | "books-elp" => {
            let push: Push<Rows<'_, Book>> = frame.whole()?;
            // The books that are always sent whole have no `action`.
            let kind = if push.action == Some(Action::Update) { BookKind::Delta } else { BookKind::Snapshot };
            each_of(push.data, name, input, out, |record, instrument, out| book(record, kind, instrument, out));
        }
        "trades" | "trades-all" | "option-trades" => each(rows(frame)?, input, out, trade),
        "mark-price" => each(rows(frame)?, input, out, mark_price),
        "index-tickers" => each(rows(frame)?, input, out, index_ticker),
        "funding-rate" => each(rows(frame)?, input, out, funding_rate),
        "open-interest" => each(rows(frame)?, input, out, open_interest),
        "liquidation-orders" => each(rows(frame)?, input, out, liquidations),
        "instruments" => each(rows(frame)?, input, out, instrument),
        // Greeks, price limits, settlement prices, the platform's status, and candles without a volume: no channel of ours.
        "opt-summary" | "price-limit" | "estimated-price" | "status" | "adl-warning" | "call-auction-details" => {
            let _: Ignored = frame.whole()?;
        }
        candles if candles.starts_with("mark-price-candle") || candles.starts_with("index-candle") => {
            let _: Ignored = frame.whole()?;
        }
        other => {
            let bar = other.strip_prefix("candle").ok_or_else(|| DecodeError::unknown("channel", other))?;
            let interval = interval(bar)?;
            each_of(rows(frame)?, name, input, out, |record, instrument, out| candle(&record, interval, input.received, instrument, out));
        }
    }
    Ok(())
}

/// The records of a push that has nothing else to say.
fn rows<'a, T: Wire<'a>>(frame: Reader<'a>) -> Result<Rows<'a, T>, DecodeError> {
    let push: Push<Rows<'a, T>> = frame.whole()?;
    Ok(push.data)
}

/// Replies, by the endpoint's name in `venue.toml`.
fn reply(endpoint: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    fn rows<'a, T: Wire<'a>>(input: &Input<'a>) -> Result<Rows<'a, T>, DecodeError> {
        let reply: Reply<Rows<'a, T>> = input.reader()?.whole()?;
        Ok(reply.data)
    }
    let name = input.query("instId").unwrap_or_default();
    match endpoint {
        "tickers" | "ticker" => each(rows(input)?, input, out, ticker),
        "mark_price" => each(rows(input)?, input, out, mark_price),
        "index_tickers" | "index_ticker" => each(rows(input)?, input, out, index_ticker),
        "funding_rate" => each(rows(input)?, input, out, funding_rate),
        "funding_history" => each(rows(input)?, input, out, funding_settled),
        "open_interest" => each(rows(input)?, input, out, open_interest),
        "instruments" => each(rows(input)?, input, out, instrument),
        "liquidation_orders" => each(rows(input)?, input, out, liquidations),
        "books" | "books_full" => each_of(rows(input)?, &name, input, out, |record, instrument, out| book(record, BookKind::Snapshot, instrument, out)),
        "trades" | "history_trades" => each(rows(input)?, input, out, trade),
        "candles" | "history_candles" => {
            let interval = interval(input.query("bar").as_deref().unwrap_or("1m"))?;
            each_of(rows(input)?, &name, input, out, |record, instrument, out| candle(&record, interval, input.received, instrument, out));
        }
        _ => return Err(DecodeError::unknown("endpoint", endpoint)),
    }
    Ok(())
}

/// The records of a list that each name their instrument. One that cannot be read costs only itself.
#[inline]
fn each<T>(rows: Rows<'_, T>, input: &Input<'_>, out: &mut Out<'_>, mut record: impl FnMut(T, &Input<'_>, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, input, out),
            Err(bad) => {
                let name = wire::peek_str(bad.text, "instId").ok().flatten();
                out.bad(market_named(name.as_deref().unwrap_or_default(), input, out), name.as_deref(), bad.fault, bad.text);
            }
        }
    }
}

/// The records of a list that is about one instrument, named by the topic or the request.
#[inline]
fn each_of<T>(rows: Rows<'_, T>, name: &str, input: &Input<'_>, out: &mut Out<'_>, mut record: impl FnMut(T, &Arc<Instrument>, &mut Out<'_>)) {
    let market = market_named(name, input, out);
    let instrument = out.instrument(market, name);
    for row in rows.0 {
        match row {
            Ok(row) => record(row, &instrument, out),
            Err(bad) => out.bad(market, Some(name), bad.fault, bad.text),
        }
    }
}

/// The market of an instrument by its name: one socket and one list carry several.
fn market_named(name: &str, input: &Input<'_>, out: &Out<'_>) -> Market {
    match name.split('-').count() {
        2 => Market::Spot,
        3 => contract_market(name, out),
        5 => Market::Option,
        _ => input.market,
    }
}

/// The market as which the venue lists a contract; before it does, that of its quote currency: of `BTC-USD-SWAP`,
/// `BTC-USDT-SWAP` and `BTC-USD_UM-SWAP` the first alone is inverse.
fn contract_market(name: &str, out: &Out<'_>) -> Market {
    let listed = out.market_of(&[Market::Linear, Market::Inverse], name);
    listed.unwrap_or(if name.split('-').nth(1) == Some("USD") { Market::Inverse } else { Market::Linear })
}

/// The instrument of a record that may say its type; none where the type is of another kind than what is collected.
#[inline]
fn instrument_of(inst_type: Option<&str>, name: &str, input: &Input<'_>, out: &mut Out<'_>) -> Option<Arc<Instrument>> {
    let market = match inst_type {
        Some("SPOT" | "MARGIN") => Market::Spot,
        Some("OPTION") => Market::Option,
        Some("SWAP" | "FUTURES") => contract_market(name, out),
        None => market_named(name, input, out),
        // Prediction markets, and what may come.
        Some(_) => return None,
    };
    Some(out.instrument(market, name))
}

#[inline]
fn ticker(record: Ticker<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(record.instType.as_deref(), &record.instId, input, out) else { return };
    let ticker = event::Ticker {
        last: record.last.0,
        last_size: record.lastSz.positive(),
        bid: record.bidPx.positive(),
        bid_size: record.bidSz.positive(),
        ask: record.askPx.positive(),
        ask_size: record.askSz.positive(),
        open_24h: record.open24h.0,
        high_24h: record.high24h.0,
        low_24h: record.low24h.0,
        volume_24h: record.vol24h.0,
        turnover_24h: record.volCcy24h.0.filter(|_| instrument.market == Market::Spot),
        change_24h: None,
    };
    out.emit(&instrument, record.ts.0, Body::Ticker(ticker));
}

fn mark_price(record: MarkPrice<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(record.instType.as_deref(), &record.instId, input, out) else { return };
    out.emit(&instrument, record.ts.0, Body::Mark(event::Mark { mark: record.markPx.0, ..event::Mark::default() }));
}

/// An index is of no one instrument: it has a name of its own in the market whose contracts follow it, whichever market
/// it was asked for.
fn index_ticker(record: IndexTicker<'_>, _: &Input<'_>, out: &mut Out<'_>) {
    let market = if record.instId.ends_with("-USD") { Market::Inverse } else { Market::Linear };
    let index = out.instrument(market, &record.instId);
    out.emit(&index, record.ts.0, Body::Mark(event::Mark { index: record.idxPx.0, ..event::Mark::default() }));
}

fn funding_rate(record: FundingRate<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(record.instType.as_deref(), &record.instId, input, out) else { return };
    let (next_time, after_it) = (record.fundingTime.0, record.nextFundingTime.0);
    let funding = event::Funding {
        rate: record.fundingRate.0,
        next_time,
        interval_hours: next_time.zip(after_it).and_then(|(next, after_it)| hours(next, after_it)),
        predicted_rate: record.nextFundingRate.0,
        cap: record.maxFundingRate.0,
        floor: record.minFundingRate.0,
    };
    out.emit(&instrument, record.ts.0, Body::Funding(funding));
}

fn funding_settled(record: FundingHistory<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(record.instType.as_deref(), &record.instId, input, out) else { return };
    match (record.realizedRate.0.or(record.fundingRate.0), record.fundingTime.0) {
        (Some(rate), Some(time)) => out.emit(&instrument, Some(time), Body::FundingSettled(event::FundingSettled { rate, time, mark: None })),
        _ => out.bad(instrument.market, Some(&record.instId), "a settlement without rate or time", ""),
    }
}

fn open_interest(record: OpenInterest<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(record.instType.as_deref(), &record.instId, input, out) else { return };
    // In US dollars, whatever the contract is quoted in.
    let in_dollars = record.instId.split('-').nth(1).is_some_and(|quote| quote.starts_with("USD"));
    let open_interest = event::OpenInterest { value: record.oi.0, value_base: record.oiCcy.0, value_quote: record.oiUsd.0.filter(|_| in_dollars) };
    out.emit(&instrument, record.ts.0, Body::OpenInterest(open_interest));
}

#[inline]
fn trade(record: Trade<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(None, &record.instId, input, out) else { return };
    let trade = event::Trade { trade_id: record.tradeId, price: record.px, size: record.sz, size_base: None, side: record.side.0 };
    out.emit(&instrument, record.ts.0, Body::Trade(trade));
}

fn liquidations(record: Liquidations<'_>, input: &Input<'_>, out: &mut Out<'_>) {
    let Some(instrument) = instrument_of(record.instType.as_deref(), &record.instId, input, out) else { return };
    for row in record.details.0 {
        match row {
            Ok(row) => {
                let liquidation = event::Liquidation { price: row.bkPx, size: row.sz, size_base: None, side: row.side.0, trade_id: None };
                out.emit(&instrument, row.ts.0, Body::Liquidation(liquidation));
            }
            Err(bad) => out.bad(instrument.market, Some(&record.instId), bad.fault, bad.text),
        }
    }
}

/// The venue's own top of the book; a side without orders is empty.
#[inline]
fn quote(record: Book, instrument: &Arc<Instrument>, out: &mut Out<'_>) {
    let best = |side: Option<Vec<event::Level>>| side.and_then(|side| side.into_iter().next()).map(|level| (level.price, level.size)).unzip();
    let ((bid, bid_size), (ask, ask_size)) = (best(record.bids), best(record.asks));
    out.emit(instrument, record.ts.0, Body::Quote(event::Quote { bid, bid_size, ask, ask_size, seq: sequence(record.seqId) }));
}

#[inline]
fn book(record: Book, kind: BookKind, instrument: &Arc<Instrument>, out: &mut Out<'_>) {
    let (bids, asks) = (record.bids.unwrap_or_default(), record.asks.unwrap_or_default());
    // Once a minute without a change: the same number again, and nothing else.
    if kind == BookKind::Delta && bids.is_empty() && asks.is_empty() && record.seqId == record.prevSeqId {
        return out.control(Control::Alive);
    }
    let book = event::Book {
        kind,
        bids,
        asks,
        seq: sequence(record.seqId),
        prev_seq: sequence(record.prevSeqId),
        checksum: record.checksum.filter(|checksum| *checksum != 0).map(|checksum| Ident::parse(&checksum.to_string())),
    };
    out.emit(instrument, record.ts.0, Body::Book(book));
}

/// A candle has no time of its own: one that did not change since it was last asked for is the same fact.
fn candle(record: &Candle, interval: Interval, received: Time, instrument: &Arc<Instrument>, out: &mut Out<'_>) {
    let Some(open_time) = record.ts.0 else { return out.bad(instrument.market, Some(&instrument.venue_symbol), "a candle without a time", "") };
    let in_quote = if instrument.market == Market::Spot { record.vol_ccy.0.clone() } else { None };
    let candle = event::Candle {
        interval,
        open_time,
        open: record.open.clone(),
        high: record.high.clone(),
        low: record.low.clone(),
        close: record.close.clone(),
        volume: record.vol.clone(),
        turnover: record.vol_ccy_quote.0.clone().or(in_quote),
        trades: None,
        closed: record.confirm.map_or_else(|| interval.end(open_time) <= received, |confirm| confirm == 1),
    };
    out.emit(instrument, None, Body::Candle(candle));
}

fn instrument(record: InstrumentInfo<'_>, _: &Input<'_>, out: &mut Out<'_>) {
    let name = &*record.instId;
    let status = match record.state.as_deref() {
        Some("live") => Status::Trading,
        Some("preopen") => Status::PreLaunch,
        Some("expired") => Status::Delisted,
        Some("test") => return,
        // `suspend`, `rebase`, `post_only`, `settling`, and what the venue may add: listed, but not to be traded freely.
        _ => Status::Halted,
    };
    let (kind, market) = match (record.instType.as_deref(), record.ctType.as_deref()) {
        (Some("SPOT" | "MARGIN"), _) => (Kind::Spot, Market::Spot),
        (Some("OPTION"), _) => (Kind::Option, Market::Option),
        (Some(swap_or_futures @ ("SWAP" | "FUTURES")), contract) => {
            let market = match contract {
                Some("linear") => Market::Linear,
                Some("inverse") => Market::Inverse,
                // A new listing's fields are filled in later.
                _ => contract_market(name, out),
            };
            (if swap_or_futures == "SWAP" { Kind::Perpetual } else { Kind::Future }, market)
        }
        _ => return,
    };
    // Contracts have their currencies in the index that they follow, behind which a family (`BTC-USD_UM`) may be named.
    let halves = [record.uly.as_deref(), record.instFamily.as_deref(), Some(name)].into_iter().flatten().find_map(|pair| pair.split_once('-'));
    let (first, second) = halves.unwrap_or_default();
    let second = second.split(['-', '_']).next().unwrap_or_default();
    // Of a contract that is about to be listed, nothing but its name may be there yet. What a family is settled in, that
    // does not say.
    let settled = (!name.contains('_')).then_some(if market == Market::Linear { second } else { first });
    let (base, quote) = match kind {
        Kind::Spot => (record.baseCcy.as_deref().unwrap_or(first), record.quoteCcy.as_deref().unwrap_or(second)),
        _ => (first, second),
    };
    let one = Decimal::ONE;
    let contract_size = record.ctVal.0.and_then(|value| value.checked_mul(record.ctMult.0.as_ref().unwrap_or(&one)));
    let other = if market == Market::Inverse { base } else { quote };
    let details = Details {
        settle: record.settleCcy.as_deref().or(settled).filter(|_| kind != Kind::Spot).map(Into::into),
        // One contract is so much of `ctValCcy`: of the base, or of the quote where it is inverse. The other way round, it
        // would be no size in the contract's own terms.
        contract_size: contract_size.filter(|_| kind != Kind::Spot && record.ctValCcy.as_deref() != Some(other)),
        tick_size: record.tickSz.0,
        lot_size: record.lotSz.0,
        min_size: record.minSz.0,
        // Perpetuals and spot pairs have one, too, when they are about to be delisted.
        expiry: record.expTime.0,
        option: record.stk.0.zip(record.optType.as_deref().and_then(right)).filter(|_| kind == Kind::Option),
        ..Details::new(kind, base, quote, status)
    };
    out.describe(market, name, None, details);
}

/// What is no data: acknowledgements, refusals, notices.
fn answer(answer: &Answer<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let id = answer.id.as_ref().and_then(|id| id.parse().ok());
    match (&*answer.event, &answer.arg) {
        ("subscribe" | "unsubscribe", Some(arg)) => out.control(Control::AckTopic { id, topic: topic(arg) }),
        ("channel-conn-count", _) => out.control(Control::Alive),
        // Some 60 s before the connection is closed for an upgrade.
        ("notice", _) => out.control(Control::Closing),
        ("error", _) => {
            let (code, said) = (answer.code.as_deref().unwrap_or_default(), answer.msg.as_deref().unwrap_or_default());
            let kind = input.profile.errors.get(&format!("code:{code}")).copied().unwrap_or(ErrorKind::Rejected);
            let reason = format!("code {code}: {said}");
            if kind != ErrorKind::Rejected {
                // It passes: what was asked for stays unanswered, and is asked for again.
                return Err(DecodeError { kind, message: reason });
            }
            out.control(Control::Rejected { id, topic: topic_refused(said), reason });
        }
        (other, _) => return Err(DecodeError::unknown("event", other)),
    }
    Ok(())
}

/// The topic that an argument says: the words of a subscription to it.
fn topic(arg: &Arg<'_>) -> String {
    let about = [&arg.instId, &arg.instType, &arg.instFamily].into_iter().flatten().next().map_or("", Cow::as_ref);
    format!("{} {about}", arg.channel)
}

/// The topic in `Wrong URL or channel:books,instId:NOPE-USDT doesn't exist. Please use ...`.
fn topic_refused(said: &str) -> Option<String> {
    let (channel, rest) = said.split_once("channel:")?.1.split_once(',')?;
    let about = rest.split_once(':')?.1.split([' ', ',']).next()?;
    Some(format!("{} {about}", channel.trim()))
}

/// The interval for OKX's word. Its days, weeks and months begin at midnight in Hong Kong unless the word ends with `utc`;
/// the open time says which.
fn interval(bar: &str) -> Result<Interval, DecodeError> {
    let word = bar.strip_suffix("utc").unwrap_or(bar);
    // `M` is a month and `m` a minute here and there; hours, days and weeks are capitals here.
    Interval::parse(&word.replace('H', "h").replace('D', "d").replace('W', "w")).ok_or_else(|| DecodeError::unknown("interval", bar))
}

/// Whole hours from one time to another.
fn hours(from: Time, to: Time) -> Option<u32> {
    let millis = to.since(from).as_millis();
    u32::try_from(millis / 3_600_000).ok().filter(|hours| *hours > 0 && millis.is_multiple_of(3_600_000))
}

/// A message's number; the snapshot follows -1, which numbers nothing.
fn sequence(number: Option<i64>) -> Option<Ident> {
    number.and_then(|number| u64::try_from(number).ok()).map(Ident::from)
}

fn right(word: &str) -> Option<Right> {
    match word {
        "C" => Some(Right::Call),
        "P" => Some(Right::Put),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use exchange_core::Turn;

    use super::*;
    use crate::okx::Okx;
    use crate::testing;

    fn controls(frames: &[&str]) -> Vec<Control> {
        let mut feed = testing::feed(&Okx, Market::Linear);
        let mut turn = Turn::default();
        for frame in frames {
            feed.frame(Time::from_millis(1_785_870_840_000), "wss://x", frame.as_bytes(), &mut turn);
        }
        turn.controls
    }

    #[test]
    fn each_argument_is_acknowledged_as_the_topic_that_was_asked_for() {
        let acknowledged = |id, topic: &str| Control::AckTopic { id, topic: topic.into() };
        let frames = [
            r#"{"id":"7","event":"subscribe","arg":{"channel":"books","instId":"BTC-USDT"},"connId":"a"}"#,
            r#"{"event":"subscribe","arg":{"channel":"liquidation-orders","instType":"SWAP"},"connId":"a"}"#,
        ];
        assert_eq!(controls(&frames), [acknowledged(Some(7), "books BTC-USDT"), acknowledged(None, "liquidation-orders SWAP")]);
    }

    #[test]
    fn a_refusal_names_its_topic_and_what_passes_is_none() {
        let reason = "code 60018: Wrong URL or channel:books,instId:NOPE-USDT doesn't exist. Please use the correct URL.";
        let refused = format!(r#"{{"id":"3","event":"error","code":"60018","msg":"{}","connId":"a"}}"#, reason.split_once(": ").unwrap().1);
        let too_often = r#"{"event":"error","code":"60014","msg":"Requests too frequent.","connId":"a"}"#;
        let rejected = Control::Rejected { id: Some(3), topic: Some("books NOPE-USDT".into()), reason: reason.into() };
        assert_eq!(controls(&[&refused, too_often, "pong"]), [rejected, Control::Alive]);
        assert_eq!(controls(&[r#"{"event":"notice","code":"64008","msg":"The connection will soon be closed","connId":"a"}"#]), [Control::Closing]);
    }

    #[test]
    fn a_heartbeat_of_a_book_is_no_change() {
        let update = |seq: i64| {
            format!(
                r#"{{"arg":{{"channel":"books","instId":"X-USDT"}},"action":"update","data":[{{"asks":[],"bids":[],"ts":"1","prevSeqId":5,"seqId":{seq}}}]}}"#
            )
        };
        assert_eq!(controls(&[&update(5)]), [Control::Alive]);
        assert_eq!(controls(&[&update(6)]), [], "it numbers something");
    }

    #[test]
    fn intervals_are_told_apart_by_their_case() {
        let interval = |bar| interval(bar).map(|interval| interval.to_string()).unwrap_or_default();
        let bars = ["1s", "1m", "15m", "1H", "6Hutc", "12H", "1D", "1Dutc", "1Wutc", "1M", "3Mutc", "7x", ""];
        assert_eq!(bars.map(interval), ["1s", "1m", "15m", "1h", "6h", "12h", "1d", "1d", "1w", "1M", "3M", "", ""]);
    }
}
