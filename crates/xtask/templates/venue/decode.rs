//! What the venue's messages mean: a route for each transport, then one function per record kind, used by both.

use exchange_core::event::{self, Body};
use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::wire::{Reader, Rows};
use exchange_core::{Control, DecodeError, Input, Market, Out, Source, Time};

use super::wire::{Answer, Instrument, Push, Reply, Ticker, Trade};

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
    match topic.split_once('.') {
        Some(("ticker", _)) => {
            let push: Push<Ticker<'_>> = frame.whole()?;
            ticker(push.data, push.time.0, input.market, out);
        }
        Some(("trade", _)) => {
            let push: Push<Rows<'_, Trade<'_>>> = frame.whole()?;
            each(push.data, input.market, out, |record, out| trade(record, input.market, out));
            out.stamp(push.time.0);
        }
        _ => return Err(DecodeError::unknown("topic", topic)),
    }
    Ok(())
}

/// Replies, by the endpoint's name in `venue.toml`. The envelope's time stands behind the list: it is set last.
fn reply(endpoint: &str, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let (body, market) = (input.reader()?, input.market);
    let time = match endpoint {
        "instruments" => {
            let reply: Reply<Rows<'_, Instrument<'_>>> = body.whole()?;
            each(reply.data, market, out, |record, out| instrument(record, market, out));
            reply.time
        }
        "tickers" => {
            let reply: Reply<Rows<'_, Ticker<'_>>> = body.whole()?;
            each(reply.data, market, out, |record, out| ticker(record, None, market, out));
            reply.time
        }
        "trades" => {
            let reply: Reply<Rows<'_, Trade<'_>>> = body.whole()?;
            each(reply.data, market, out, |record, out| trade(record, market, out));
            reply.time
        }
        _ => return Err(DecodeError::unknown("endpoint", endpoint)),
    };
    out.stamp(time.0);
    Ok(())
}

/// The records of a list. One that cannot be read costs only itself.
fn each<T>(rows: Rows<'_, T>, market: Market, out: &mut Out<'_>, mut record: impl FnMut(T, &mut Out<'_>)) {
    for row in rows.0 {
        match row {
            Ok(row) => record(row, out),
            Err(bad) => out.bad_row(market, "symbol", &bad),
        }
    }
}

fn ticker(record: Ticker<'_>, time: Option<Time>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let ticker = event::Ticker {
        last: record.last.0,
        // An empty side is sent as zero.
        bid: record.bid.positive(),
        bid_size: record.bidSize.positive(),
        ask: record.ask.positive(),
        ask_size: record.askSize.positive(),
        open_24h: record.open24h.0,
        high_24h: record.high24h.0,
        low_24h: record.low24h.0,
        volume_24h: record.volume24h.0,
        turnover_24h: record.turnover24h.0,
        ..event::Ticker::default()
    };
    out.emit(&instrument, time, Body::Ticker(ticker));
}

fn trade(record: Trade<'_>, market: Market, out: &mut Out<'_>) {
    let instrument = out.instrument(market, &record.symbol);
    let trade = event::Trade { trade_id: record.id, price: record.price, size: record.size, size_base: None, side: record.side.0 };
    out.emit(&instrument, record.time.0, Body::Trade(trade));
}

fn instrument(record: Instrument<'_>, market: Market, out: &mut Out<'_>) {
    let status = match &*record.status {
        "online" => Status::Trading,
        "preopen" => Status::PreLaunch,
        "delisted" => Status::Delisted,
        // What the venue may add: listed, but not to be traded.
        _ => Status::Halted,
    };
    let known = Details::new(Kind::Spot, &record.base, &record.quote, status);
    let details = Details { tick_size: record.tickSize.0, lot_size: record.lotSize.0, min_size: record.minSize.0, ..known };
    out.describe(market, &record.symbol, None, details);
}

/// Acknowledgements, refusals, pongs.
fn answer(frame: Reader<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let Answer { id, op, ok, arg, msg } = frame.whole()?;
    match (&*op, ok) {
        ("pong", _) => out.control(Control::Alive),
        ("subscribe" | "unsubscribe", Some(true)) => out.control(Control::Ack { id }),
        ("subscribe" | "unsubscribe", Some(false)) => {
            let reason = msg.map_or_else(|| "refused without a reason".to_owned(), Into::into);
            out.control(Control::Rejected { id, topic: arg.map(Into::into), reason });
        }
        _ => return Err(DecodeError::unknown("answer", op)),
    }
    Ok(())
}
