//! Bybit's topics: subscriptions, their answers, and pushes.

use std::fmt::Write as _;

use exchange_core::event::Side;
use exchange_core::{Event, Interval, Market, Time};
use serde_json::Value;

use super::{ALL, FIELDS, Value as Field, differing, facts, trade_id, values};
use crate::book::Level;
use crate::hub::{ConnId, Frame, Item, Target};
use crate::market::{Inst, MINUTE, Moved};
use crate::num::{Num, Text};
use crate::wire::{Push, Route};
use crate::world::World;

/// Topics of one instrument, by number.
const TOPICS: [&str; 8] = ["tickers", "orderbook.1", "orderbook.50", "orderbook.200", "orderbook.1000", "publicTrade", "kline.1", "allLiquidation"];
const TICKERS: usize = 0;
const BEST: usize = 1;
const BOOKS: std::ops::Range<usize> = 2..5;
const TRADES: usize = 5;
const KLINE: usize = 6;
const LIQUIDATIONS: usize = 7;

/// Characters that the topics of a derivatives connection may have.
const MOST_CHARACTERS: usize = 21_000;

const MARKETS: [Market; 3] = [Market::Spot, Market::Linear, Market::Inverse];

pub(super) fn route(path: &str) -> Option<Route> {
    let market = super::category(path.strip_prefix("/v5/public/")?)?;
    Some(Route { surface: u8::try_from(market.index()).ok()?, raw: false })
}

pub(super) fn frame(world: &mut World, conn: ConnId, text: &str) {
    let request: Value = serde_json::from_str(text).unwrap_or_default();
    let id = request.get("req_id").and_then(Value::as_str).unwrap_or_default().to_owned();
    let op = request.get("op").and_then(Value::as_str).unwrap_or_default();
    let topics: Vec<&str> = request.get("args").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    match op {
        "ping" => answer(world, conn, true, "pong", &id, "ping"),
        "subscribe" => {
            if let Some(words) = refusal(world, conn, &topics) {
                return answer(world, conn, false, &words, &id, op);
            }
            answer(world, conn, true, "", &id, op);
            for topic in topics {
                subscribe(world, conn, topic);
            }
        }
        "unsubscribe" => {
            for topic in topics {
                world.hub.unsubscribe(conn, topic);
            }
            answer(world, conn, true, "", &id, op);
        }
        _ => answer(world, conn, false, "error:request format error", &id, op),
    }
}

fn answer(world: &mut World, conn: ConnId, success: bool, words: &str, id: &str, op: &str) {
    let [words, id, op] = [words, id, op].map(Value::from);
    let text = format!("{{\"success\":{success},\"ret_msg\":{words},\"conn_id\":\"cejreaspqfm9se7usbrg-{conn:x}\",\"req_id\":{id},\"op\":{op}}}");
    world.hub.send(conn, Item::Answer(text));
}

/// Why a frame is refused. One bad topic is enough, and none of the others is then served.
fn refusal(world: &World, conn: ConnId, topics: &[&str]) -> Option<String> {
    let conn = world.hub.conn(conn)?;
    if topics.is_empty() {
        return Some("error:args is empty".into());
    }
    let spot = usize::from(conn.route.surface) == Market::Spot.index();
    if spot && topics.len() > 10 {
        return Some("error:args size >10".into());
    }
    let characters = conn.names.keys().map(String::len).sum::<usize>() + topics.iter().map(|topic| topic.len()).sum::<usize>();
    if !spot && characters > MOST_CHARACTERS {
        return Some("error:args length >21000".into());
    }
    topics.iter().enumerate().find_map(|(at, topic)| {
        if conn.names.contains_key(*topic) || topics.get(..at).is_some_and(|before| before.contains(topic)) {
            Some(format!("error:already subscribed,topic:{topic}"))
        } else if target(world, conn.route, topic).is_none() {
            Some(format!("error:handler not found,topic:{topic}"))
        } else {
            None
        }
    })
}

/// The instrument and the number that a topic's name stands for.
fn target(world: &World, route: Route, topic: &str) -> Option<(usize, usize)> {
    let (name, symbol) = topic.rsplit_once('.')?;
    let slot = TOPICS.iter().position(|known| *known == name)?;
    let market = MARKETS.into_iter().find(|market| market.index() == usize::from(route.surface))?;
    if market == Market::Spot && slot == LIQUIDATIONS {
        return None;
    }
    Some((world.find(world.venue("bybit")?, market, symbol)?, slot))
}

/// Subscribes; books, best prices and tickers begin with a snapshot for this connection.
fn subscribe(world: &mut World, conn: ConnId, topic: &str) {
    let Some((index, slot)) = world.hub.conn(conn).and_then(|c| target(world, c.route, topic)) else { return };
    if !world.hub.subscribe(conn, topic, vec![Target::Inst(index, slot)]) {
        return;
    }
    let wall = world.wall();
    let now = world.now(wall);
    let telling = world.hub.telling;
    let Some(seq) = world.venue("bybit").and_then(|venue| world.venues.get(venue)).map(|venue| venue.seq) else { return };
    let Some(inst) = world.insts.get(index) else { return };
    let frame = match slot {
        TICKERS => ticker(inst, now, wall, seq, ALL, true, telling),
        BEST => book(inst, slot, now, wall, seq, None, telling),
        _ if BOOKS.contains(&slot) => book(inst, slot, now, wall, seq, None, telling),
        _ => return,
    };
    world.hub.send(conn, Item::Push(frame));
}

pub(super) fn publish(push: &mut Push<'_>, index: usize, inst: &Inst, moved: &Moved<'_>) {
    let Push { now, wall, seq, .. } = *push;
    let telling = push.hub.telling;
    match moved {
        Moved::Book(changes) => {
            for slot in BOOKS {
                if push.hub.hears(index, slot) {
                    push.hub.push(index, slot, &book(inst, slot, now, wall, seq, Some(changes), telling));
                }
            }
            if changes.top && push.hub.hears(index, BEST) {
                push.hub.push(index, BEST, &book(inst, BEST, now, wall, seq, None, telling));
            }
        }
        Moved::Trades(count) => {
            if !push.hub.hears(index, TRADES) {
                return;
            }
            let mut text = topic(inst, TRADES, "snapshot", now);
            text.raw("\"data\":[");
            let mut events = Vec::new();
            for trade in inst.trades.iter().rev().take(*count).rev() {
                text.raw("{").count("T", trade.time).word("s", inst.symbol()).word("S", side(trade.side));
                text.text("v", inst.size(trade.size)).text("p", inst.price(trade.price)).word("L", "PlusTick").word("i", &trade_id(inst, trade));
                text.raw("\"BT\":false,\"RPI\":false,").count("seq", trade.seq).close("},");
                if telling {
                    events.push(facts::trade(inst, wall, trade));
                }
            }
            text.close("]}");
            push.hub.push(index, TRADES, &Frame::new(text.0, 0, events));
        }
        Moved::Ticker(before) => {
            if !push.hub.hears(index, TICKERS) {
                return;
            }
            if inst.market() == Market::Spot {
                return push.hub.push(index, TICKERS, &ticker(inst, now, wall, seq, ALL, true, telling));
            }
            let changed = differing(&values(inst, before), &values(inst, &inst.row));
            if changed != 0 {
                push.hub.push(index, TICKERS, &ticker(inst, now, wall, seq, changed, false, telling));
            }
        }
        Moved::Candle(candle, closed) => {
            if !push.hub.hears(index, KLINE) {
                return;
            }
            // The record's own time is a little before the push.
            let at = now - 2;
            let mut text = topic(inst, KLINE, "snapshot", now);
            text.raw("\"data\":[{").count("start", candle.start).count("end", candle.start + MINUTE - 1).word("interval", "1");
            for (key, price) in [("open", candle.open), ("close", candle.close), ("high", candle.high), ("low", candle.low)] {
                text.text(key, inst.price(price));
            }
            text.text("volume", inst.size(candle.volume)).text("turnover", inst.turnover_num(candle.turnover));
            text.raw(if *closed { "\"confirm\":true," } else { "\"confirm\":false," }).count("timestamp", at).close("}]}");
            let interval = Interval::new(1, 'm').filter(|_| telling);
            let events = interval.map(|interval| facts::candle(inst, wall, Some(at), interval, candle, *closed)).into_iter().collect();
            push.hub.push(index, KLINE, &Frame::new(text.0, 0, events));
        }
        Moved::Liquidation(order) => {
            if !push.hub.hears(index, LIQUIDATIONS) {
                return;
            }
            let mut text = topic(inst, LIQUIDATIONS, "snapshot", now);
            // The position's side: a forced order that sells closes a position that was bought.
            text.raw("\"data\":[{").count("T", order.time).word("s", inst.symbol()).word("S", side(order.side.opposite()));
            text.text("v", inst.size(order.size)).text("p", inst.price(order.price)).close("}]}");
            let events = if telling { vec![facts::liquidation(inst, wall, order)] } else { Vec::new() };
            push.hub.push(index, LIQUIDATIONS, &Frame::new(text.0, 0, events));
        }
        Moved::Premium | Moved::Interest => {}
    }
}

pub(super) fn side(side: Side) -> &'static str {
    if side == Side::Buy { "Buy" } else { "Sell" }
}

/// The beginning of a push.
fn topic(inst: &Inst, slot: usize, kind: &str, now: i64) -> Text {
    let mut text = Text::with_capacity(400);
    text.raw("{\"topic\":\"").raw(TOPICS.get(slot).copied().unwrap_or_default()).raw(".").raw(inst.symbol()).raw("\",");
    text.word("type", kind).count("ts", now);
    text
}

pub(super) fn levels(text: &mut Text, key: &str, inst: &Inst, levels: &[Level]) {
    text.raw("\"").raw(key).raw("\":[");
    for &(price, size) in levels {
        let zero = if size == 0 { Num::new(0, 0) } else { inst.size(size) };
        text.raw("[\"").num(inst.price(price)).raw("\",\"").num(zero).raw("\"],");
    }
    text.close("],");
}

/// A change of a book, or the whole of it; for the topic of the best prices, always those.
fn book(inst: &Inst, slot: usize, now: i64, wall: Time, seq: u64, changes: Option<&crate::book::Changes>, telling: bool) -> std::sync::Arc<Frame> {
    // The matching engine's time is a little before the push.
    let at = now - 2;
    let mut text = topic(inst, slot, if changes.is_some() { "delta" } else { "snapshot" }, now);
    text.raw("\"data\":{").word("s", inst.symbol());
    let whole = if slot == BEST { 1 } else { usize::MAX };
    let best = |side: &'_ [Level]| side.get(..whole.min(side.len())).unwrap_or_default().to_vec();
    if let Some(changes) = changes {
        levels(&mut text, "b", inst, &changes.bids);
        levels(&mut text, "a", inst, &changes.asks);
    } else {
        levels(&mut text, "b", inst, &best(&inst.book.bids));
        levels(&mut text, "a", inst, &best(&inst.book.asks));
    }
    text.count("u", inst.book.last_id).count("seq", seq).close("},").count("cts", at).close("}");
    let mut events = Vec::new();
    if telling {
        events.push(match changes {
            _ if slot == BEST => facts::quote(inst, wall, at),
            Some(changes) => facts::delta(inst, wall, at, changes),
            None => facts::snapshot(inst, wall, at, usize::MAX),
        });
    }
    Frame::new(text.0, 0, events)
}

/// A ticker with the fields in `carried`. Spot's has fewer, and never a part of them.
fn ticker(inst: &Inst, now: i64, wall: Time, seq: u64, carried: u32, whole: bool, telling: bool) -> std::sync::Arc<Frame> {
    const SPOT: [&str; 7] = ["lastPrice", "highPrice24h", "lowPrice24h", "prevPrice24h", "volume24h", "turnover24h", "price24hPcnt"];
    let spot = inst.market() == Market::Spot;
    let carried = if spot { SPOT.iter().fold(0, |set, name| set | super::bit(name)) } else { carried };
    let mut text = topic(inst, TICKERS, if whole { "snapshot" } else { "delta" }, now);
    text.raw("\"data\":{").word("symbol", inst.symbol());
    if whole && !spot {
        text.word("tickDirection", "PlusTick").word("preOpenPrice", "").word("preQty", "").word("curPreListingPhase", "");
        if let Some(expiry) = inst.listing.details.expiry {
            // Text here, milliseconds by request.
            let shown = expiry.to_string();
            text.word("deliveryTime", &format!("{}Z", shown.get(..19).unwrap_or_default()));
        }
    }
    fields(&mut text, inst, carried);
    if spot {
        text.word("usdIndexPrice", "");
    }
    text.close("},").count("cs", seq).close("}");
    let mut events: Vec<Event> = Vec::new();
    if telling {
        facts::ticker(inst, wall, now, carried, &mut events);
    }
    Frame::new(text.0, 0, events)
}

/// The fields of a ticker that are in `carried`.
pub(super) fn fields(text: &mut Text, inst: &Inst, carried: u32) {
    for (at, (name, value)) in FIELDS.iter().zip(values(inst, &inst.row)).enumerate() {
        if carried & 1 << at == 0 {
            continue;
        }
        match value {
            Field::Number(number) => drop(text.text(name, number)),
            Field::Integer(number) => {
                // Writing to a string cannot fail.
                let _ = write!(text.0, "\"{name}\":\"{number}\",");
            }
            Field::Nothing => drop(text.word(name, "")),
        }
    }
}
