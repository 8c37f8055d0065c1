//! Which function reads which of `KuCoin`'s messages: a route table for each transport and interface. (`record.rs` says what
//! the records mean, `listing.rs` what is said of instruments.)

use std::borrow::Cow;

use exchange_core::wire::{Ignored, Reader, Rows, Wire};
use exchange_core::{Control, DecodeError, Input, Interval, Market, Out, Source, Time};

use super::listing::{contract, pair, ua_instrument};
use super::record::{
    funding, futures_candle, futures_change, futures_quote, futures_snapshot, futures_state, futures_ticker, mark_now, past_open_interest, pushed_book,
    pushed_candle, pushed_candles, pushed_funding, pushed_mark, pushed_ticker, pushed_trade, quote, settled, snapshot, spot_candle, spot_change, spot_ticker,
    spot_top, trade, ua_ticker,
};
use super::wire::{
    Answer, Book, CandlePush, Flag, FuturesCandle, FuturesChange, FuturesSnapshot, FuturesState, FuturesTop, List, Listed, PastFunding, Push, Reply,
    Settlement, SpotCandle, SpotChange, SpotQuote, SpotTicker, SpotTickers, SpotTop, Trade, UaPush, UaTicker,
};

pub(super) type Result<T = ()> = std::result::Result<T, DecodeError>;

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
mod tests;
