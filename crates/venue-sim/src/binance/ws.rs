//! Binance's streams: subscriptions, their answers, and pushes.

use std::sync::Arc;

use exchange_core::{Event, Interval, Market};
use serde_json::Value;

use super::facts;
use crate::book::{Changes, Level};
use crate::hub::{ConnId, Frame, Item, Target};
use crate::market::{Candle, Inst, Liquidation, MINUTE, Moved, RATE_SCALE, Trade};
use crate::num::{Num, Text};
use crate::wire::{Push, Route};
use crate::world::World;

/// Spot and COIN-M; of USD-M, what the decommissioned path still gave.
pub(super) const UNSPLIT: u8 = 0;
const PUBLIC: u8 = 1;
const MARKET: u8 = 2;

/// Streams of one instrument, by number.
const STREAMS: [&str; 12] =
    ["trade", "bookTicker", "depth", "depth@100ms", "depth@500ms", "aggTrade", "ticker", "markPrice", "markPrice@1s", "kline_1m", "forceOrder", "depth@0ms"];
const TRADE: usize = 0;
const BOOK_TICKER: usize = 1;
const DEPTHS: [usize; 4] = [2, 3, 4, 11];
const AGG_TRADE: usize = 5;
const TICKER: usize = 6;
const MARKS: [usize; 2] = [7, 8];
const KLINE: usize = 9;
const FORCE_ORDER: usize = 10;

/// Streams of all instruments of a futures market: a number for the stream, to which the market's is added.
const ARRAYS: [(&str, u8); 4] = [("!ticker@arr", 0), ("!markPrice@arr", 1), ("!markPrice@arr@1s", 2), ("!forceOrder@arr", 3)];
const ALL_TICKERS: u8 = 0;
const ALL_MARKS: [u8; 2] = [1, 2];
const ALL_ORDERS: u8 = 3;

/// How far the numbers of aggregated trades are from those of single ones.
const AGGREGATES: u64 = 5_000_000_000;

/// Streams that one connection may have.
const MOST_STREAMS: usize = 1024;

pub(super) fn route(path: &str) -> Option<Route> {
    // A raw stream may be named behind `/ws/`.
    let (surface, rest) = match path {
        _ if path.starts_with("/public/") => (PUBLIC, path.strip_prefix("/public")?),
        _ if path.starts_with("/market/") => (MARKET, path.strip_prefix("/market")?),
        _ => (UNSPLIT, path),
    };
    match rest {
        "/stream" => Some(Route { surface, raw: false }),
        _ if rest == "/ws" || rest.starts_with("/ws/") => Some(Route { surface, raw: true }),
        _ => None,
    }
}

/// Whether a path serves a stream of USD-M.
fn serves(surface: u8, stream: usize) -> bool {
    let public = stream == TRADE || stream == BOOK_TICKER || DEPTHS.contains(&stream);
    match surface {
        MARKET => !public,
        _ => public,
    }
}

/// What a stream's name stands for; nothing, for one that is unknown or on the wrong path: it is silent.
fn targets(world: &World, venue: usize, surface: u8, name: &str) -> Vec<Target> {
    if let Some((_, array)) = ARRAYS.iter().find(|(known, _)| *known == name) {
        let own = match surface {
            UNSPLIT => Market::Inverse,
            MARKET => Market::Linear,
            _ => return Vec::new(),
        };
        // Since the two families share their all-market streams, each carries both.
        let other = if own == Market::Linear { Market::Inverse } else { Market::Linear };
        let both = world.mixed_families && !ALL_MARKS.contains(array);
        return std::iter::once(own).chain(both.then_some(other)).map(|market| Target::Array((venue, array_of(*array, market)))).collect();
    }
    let Some((symbol, stream)) = name.split_once('@') else { return Vec::new() };
    let Some(slot) = STREAMS.iter().position(|known| *known == stream) else { return Vec::new() };
    let find = |market| world.find_lower(venue, market, symbol);
    let futures_only = MARKS.contains(&slot) || slot == FORCE_ORDER;
    let found = match surface {
        UNSPLIT => {
            find(Market::Spot).filter(|_| !futures_only).or_else(|| find(Market::Inverse)).or_else(|| find(Market::Linear).filter(|_| serves(surface, slot)))
        }
        _ => find(Market::Linear).filter(|_| serves(surface, slot)),
    };
    found.map(|inst| Target::Inst(inst, slot)).into_iter().collect()
}

fn array_of(array: u8, market: Market) -> u8 {
    array * 4 + u8::try_from(market.index()).unwrap_or(0)
}

pub(super) fn opened(world: &mut World, conn: ConnId, path: &str, query: &[(String, String)]) {
    let listed = query.iter().filter(|(key, _)| key == "streams").map(|(_, list)| list.as_str());
    let raw = path.split_once("/ws/").map(|(_, list)| list);
    for stream in listed.chain(raw).flat_map(|list| list.split('/')).filter(|name| !name.is_empty()) {
        subscribe(world, conn, stream);
    }
}

pub(super) fn frame(world: &mut World, conn: ConnId, text: &str) {
    let surface = world.hub.conn(conn).map_or(UNSPLIT, |conn| conn.route.surface);
    let spot = surface == UNSPLIT;
    let Ok(request) = serde_json::from_str::<Value>(text) else {
        return refuse(world, conn, spot, 3, "Invalid JSON: expected value at line 1 column 1", &Value::Null);
    };
    let id = request.get("id").cloned().unwrap_or(Value::Null);
    let names: Vec<&str> = request.get("params").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).collect();
    let method = request.get("method").and_then(Value::as_str);
    match method {
        Some("SUBSCRIBE" | "UNSUBSCRIBE") if names.is_empty() => refuse(world, conn, spot, 2, "Invalid request: missing field `params`", &id),
        Some("SUBSCRIBE") => {
            let have = world.hub.conn(conn).map_or(0, |conn| conn.names.len());
            if have + names.len() > MOST_STREAMS {
                return refuse(world, conn, spot, 2, "Invalid request: too many streams", &id);
            }
            world.hub.send(conn, Item::Answer(format!("{{\"result\":null,\"id\":{id}}}")));
            for name in names {
                subscribe(world, conn, name);
            }
        }
        Some("UNSUBSCRIBE") => {
            for name in names {
                world.hub.unsubscribe(conn, name);
            }
            world.hub.send(conn, Item::Answer(format!("{{\"result\":null,\"id\":{id}}}")));
        }
        Some("LIST_SUBSCRIPTIONS") => {
            let names: Vec<Value> = world.hub.conn(conn).into_iter().flat_map(|conn| conn.names.keys().cloned().map(Value::from)).collect();
            world.hub.send(conn, Item::Answer(format!("{{\"result\":{},\"id\":{id}}}", Value::from(names))));
        }
        Some("SET_PROPERTY") => world.hub.send(conn, Item::Answer(format!("{{\"result\":null,\"id\":{id}}}"))),
        _ => refuse(world, conn, spot, 2, "Invalid request: unknown variant, expected one of `SUBSCRIBE`, `UNSUBSCRIBE`, `LIST_SUBSCRIPTIONS`", &id),
    }
}

fn refuse(world: &mut World, conn: ConnId, spot: bool, code: u8, words: &str, id: &Value) {
    let words = Value::from(words);
    let text = if spot {
        format!("{{\"code\":{code},\"msg\":{words},\"id\":{id}}}")
    } else {
        format!("{{\"error\":{{\"code\":{code},\"msg\":{words}}},\"id\":{id}}}")
    };
    world.hub.send(conn, Item::Answer(text));
}

/// Subscribes, and pushes the present state of what is pushed about every second, as the venue's next push would.
fn subscribe(world: &mut World, conn: ConnId, name: &str) {
    let Some(venue) = world.venue("binance") else { return };
    let surface = world.hub.conn(conn).map_or(UNSPLIT, |conn| conn.route.surface);
    let targets = targets(world, venue, surface, name);
    if !world.hub.subscribe(conn, name, targets.clone()) {
        return;
    }
    let wall = world.wall();
    let now = world.now(wall);
    let telling = world.hub.telling;
    for target in targets {
        match target {
            Target::Inst(index, slot) => {
                let Some(inst) = world.insts.get(index) else { continue };
                let mut events = Vec::new();
                let payload = match slot {
                    _ if !inst.moves() => continue,
                    TICKER => ticker(inst, now),
                    BOOK_TICKER => book_ticker(inst, now),
                    _ if MARKS.contains(&slot) => mark(inst, now),
                    _ => continue,
                };
                if telling {
                    match slot {
                        TICKER => events.push(facts::ticker(inst, wall, now)),
                        BOOK_TICKER => events.extend(facts::quote(inst, wall, quote_time(inst, now), Some(inst.book.last_id))),
                        _ => facts::premium(inst, wall, now, &mut events),
                    }
                }
                let frame = wrap(name, &payload, events);
                world.hub.send(conn, Item::Push(frame));
            }
            Target::Array((_, array)) => {
                let Some(market) = [Market::Linear, Market::Inverse].into_iter().find(|market| array % 4 == array_of(0, *market)) else { continue };
                let insts: Vec<&Inst> = world.listed(venue, market).map(|(_, inst)| inst).collect();
                let kind = array / 4;
                if kind != ALL_ORDERS && !insts.is_empty() {
                    let frame = list(name, kind == ALL_TICKERS, &insts, now, wall, telling);
                    world.hub.send(conn, Item::Push(frame));
                }
            }
        }
    }
}

/// `{"stream":"…","data":…}`.
fn wrap(stream: &str, payload: &str, events: Vec<Event>) -> Arc<Frame> {
    let mut text = Text::with_capacity(payload.len() + stream.len() + 24);
    text.raw("{\"stream\":\"").raw(stream).raw("\",\"data\":");
    let at = text.0.len();
    text.raw(payload).raw("}");
    Frame::new(text.0, at, events)
}

/// Pushes a payload to those who listen to a stream of an instrument.
fn send(push: &mut Push<'_>, index: usize, inst: &Inst, slot: usize, payload: &str, events: impl FnOnce() -> Vec<Event>) {
    let mut text = Text::with_capacity(payload.len() + inst.lower.len() + 48);
    text.raw("{\"stream\":\"").raw(&inst.lower).raw("@").raw(STREAMS.get(slot).copied().unwrap_or_default()).raw("\",\"data\":");
    let at = text.0.len();
    text.raw(payload).raw("}");
    let events = if push.hub.telling { events() } else { Vec::new() };
    push.hub.push(index, slot, &Frame::new(text.0, at, events));
}

pub(super) fn publish(push: &mut Push<'_>, index: usize, inst: &Inst, moved: &Moved<'_>) {
    let (now, wall) = (push.now, push.wall);
    match moved {
        Moved::Book(changes) => push_book(push, index, inst, changes),
        Moved::Trades(count) => {
            for trade in inst.trades.iter().rev().take(*count).rev() {
                push_trade(push, index, inst, trade);
            }
        }
        Moved::Ticker(_) => {
            if push.hub.hears(index, TICKER) {
                send(push, index, inst, TICKER, &ticker(inst, now), || vec![facts::ticker(inst, wall, now)]);
            }
        }
        Moved::Premium => {
            for slot in MARKS {
                if push.hub.hears(index, slot) {
                    send(push, index, inst, slot, &mark(inst, now), || {
                        let mut events = Vec::new();
                        facts::premium(inst, wall, now, &mut events);
                        events
                    });
                }
            }
        }
        Moved::Candle(candle, closed) => {
            if push.hub.hears(index, KLINE) {
                let interval = Interval::new(1, 'm');
                send(push, index, inst, KLINE, &kline(inst, now, candle, *closed), || {
                    interval.map(|interval| facts::candle(inst, wall, Some(now), interval, candle, *closed)).into_iter().collect()
                });
            }
        }
        Moved::Liquidation(order) => push_liquidation(push, index, inst, order),
        Moved::Interest => {}
    }
}

/// A change of the book, and of its top.
fn push_book(push: &mut Push<'_>, index: usize, inst: &Inst, changes: &Changes) {
    let (now, wall) = (push.now, push.wall);
    let slots = DEPTHS.map(|slot| push.hub.hears(index, slot).then_some(slot));
    if slots.iter().any(Option::is_some) {
        let mut text = Text::with_capacity(400);
        head(&mut text, "depthUpdate", now, inst);
        if inst.market() != Market::Spot {
            text.count("T", transaction(now));
        }
        text.count("U", changes.first_id).count("u", changes.last_id);
        if inst.market() != Market::Spot {
            text.count("pu", changes.previous_id);
            family(&mut text, inst);
        }
        side(&mut text, "b", inst, &changes.bids);
        side(&mut text, "a", inst, &changes.asks);
        text.close("}");
        let at = if inst.market() == Market::Spot { now } else { transaction(now) };
        for slot in slots.into_iter().flatten() {
            send(push, index, inst, slot, &text.0, || vec![facts::delta(inst, wall, at, changes)]);
        }
    }
    if changes.top && push.hub.hears(index, BOOK_TICKER) {
        send(push, index, inst, BOOK_TICKER, &book_ticker(inst, now), || {
            facts::quote(inst, wall, quote_time(inst, now), Some(inst.book.last_id)).into_iter().collect()
        });
    }
}

/// A trade, by itself and as the aggregation that it is.
fn push_trade(push: &mut Push<'_>, index: usize, inst: &Inst, trade: &Trade) {
    let (now, wall) = (push.now, push.wall);
    for slot in [TRADE, AGG_TRADE] {
        if !push.hub.hears(index, slot) {
            continue;
        }
        let single = slot == TRADE;
        let id = if single { trade.id } else { aggregate(trade.id) };
        let mut text = Text::with_capacity(240);
        head(&mut text, if single { "trade" } else { "aggTrade" }, now, inst);
        text.count(if single { "t" } else { "a" }, id);
        price(&mut text, "p", inst, trade.price);
        size(&mut text, "q", inst, trade.size);
        if !single {
            if inst.market() != Market::Spot {
                size(&mut text, "nq", inst, trade.size);
            }
            text.count("f", trade.id).count("l", trade.id);
        }
        text.count("T", trade.time).raw("\"m\":").raw(facts::buyer_is_maker(trade)).raw(",");
        match (inst.market(), single) {
            (Market::Spot, _) => drop(text.raw("\"M\":true,")),
            (_, true) => drop(text.raw("\"X\":\"MARKET\",")),
            (_, false) => family(&mut text, inst),
        }
        text.close("}");
        send(push, index, inst, slot, &text.0, || vec![facts::trade(inst, wall, trade, id)]);
    }
}

/// A forced order, to those who listen to its instrument and to those who listen to all.
fn push_liquidation(push: &mut Push<'_>, index: usize, inst: &Inst, order: &Liquidation) {
    let (now, wall) = (push.now, push.wall);
    let array = (push.venue, array_of(ALL_ORDERS, inst.market()));
    if !push.hub.hears(index, FORCE_ORDER) && !push.hub.hears_array(array) {
        return;
    }
    let mut text = Text::with_capacity(300);
    text.raw("{").word("e", "forceOrder").count("E", now).raw("\"o\":{").word("s", inst.symbol());
    if inst.market() == Market::Inverse {
        text.word("ps", &inst.listing.pair);
    }
    text.word("S", if order.side == exchange_core::event::Side::Buy { "BUY" } else { "SELL" }).word("o", "LIMIT").word("f", "IOC");
    size(&mut text, "q", inst, order.size);
    price(&mut text, "p", inst, order.price);
    price(&mut text, "ap", inst, order.average);
    text.word("X", "FILLED");
    size(&mut text, "l", inst, order.size);
    size(&mut text, "z", inst, order.size);
    text.count("T", order.time).close("},");
    family(&mut text, inst);
    text.close("}");
    if push.hub.hears(index, FORCE_ORDER) {
        send(push, index, inst, FORCE_ORDER, &text.0, || vec![facts::liquidation(inst, wall, order)]);
    }
    if push.hub.hears_array(array) {
        let events = if push.hub.telling { vec![facts::liquidation(inst, wall, order)] } else { Vec::new() };
        push.hub.push_array(array, &wrap("!forceOrder@arr", &text.0, events));
    }
}

/// The lists that go out every second: tickers that changed, and all marks.
pub(super) fn beat(world: &mut World) {
    let Some(venue) = world.venue("binance") else { return };
    let wall = world.wall();
    let now = world.now(wall);
    let telling = world.hub.telling;
    let Some([tickers, premiums]) = world.venues.get_mut(venue).map(|venue| std::mem::take(&mut venue.changed)) else { return };
    for (mut changed, kinds) in [(tickers, &[ALL_TICKERS][..]), (premiums, &ALL_MARKS[..])] {
        changed.sort_unstable();
        changed.dedup();
        for market in [Market::Linear, Market::Inverse] {
            let insts: Vec<&Inst> = changed.iter().filter_map(|index| world.insts.get(*index)).filter(|inst| inst.market() == market).collect();
            for &kind in kinds {
                let array = (venue, array_of(kind, market));
                if !insts.is_empty() && world.hub.hears_array(array) {
                    let name = ARRAYS.iter().find(|(_, number)| *number == kind).map_or("", |(name, _)| name);
                    let frame = list(name, kind == ALL_TICKERS, &insts, now, wall, telling);
                    world.hub.push_array(array, &frame);
                }
            }
        }
    }
}

/// A list of tickers or of marks.
fn list(name: &str, tickers: bool, insts: &[&Inst], now: i64, wall: exchange_core::Time, telling: bool) -> Arc<Frame> {
    let mut text = Text::with_capacity(insts.len() * 300);
    text.raw("[");
    let mut events = Vec::new();
    for inst in insts {
        text.raw(&if tickers { ticker(inst, now) } else { mark(inst, now) }).raw(",");
        match tickers {
            _ if !telling => {}
            true => events.push(facts::ticker(inst, wall, now)),
            false => facts::premium(inst, wall, now, &mut events),
        }
    }
    text.close("]");
    wrap(name, &text.0, events)
}

/// When the matching engine did it: a little before it is pushed.
pub(super) fn transaction(now: i64) -> i64 {
    now - 3
}

/// Spot's best prices come without a time.
fn quote_time(inst: &Inst, now: i64) -> Option<i64> {
    (inst.market() != Market::Spot).then_some(now)
}

/// The number of the aggregated trade that a trade is in: each is alone in its own, and the numbers are others.
pub(super) fn aggregate(id: u64) -> u64 {
    id + AGGREGATES
}

fn head(text: &mut Text, event: &str, now: i64, inst: &Inst) {
    text.raw("{").word("e", event).count("E", now).word("s", inst.symbol());
}

/// The futures' family and pair.
fn family(text: &mut Text, inst: &Inst) {
    text.word("ps", &inst.listing.pair).count("st", if inst.market() == Market::Linear { 1 } else { 2 });
}

/// Spot writes all its numbers with eight places.
pub(super) fn places(inst: &Inst) -> u8 {
    if inst.market() == Market::Spot { 8 } else { 0 }
}

pub(super) fn number(text: &mut Text, key: &str, value: Num, places: u8) {
    text.raw("\"").raw(key).raw("\":\"").padded(value, places).raw("\",");
}

pub(super) fn price(text: &mut Text, key: &str, inst: &Inst, ticks: i64) {
    number(text, key, inst.price(ticks), places(inst));
}

pub(super) fn size(text: &mut Text, key: &str, inst: &Inst, lots: i64) {
    number(text, key, inst.size(lots), places(inst));
}

pub(super) fn side(text: &mut Text, key: &str, inst: &Inst, levels: &[Level]) {
    text.raw("\"").raw(key).raw("\":[");
    for &(price, size) in levels {
        text.raw("[\"").padded(inst.price(price), places(inst)).raw("\",\"").padded(inst.size(size), places(inst)).raw("\"],");
    }
    text.close("],");
}

fn book_ticker(inst: &Inst, now: i64) -> String {
    let mut text = Text::with_capacity(200);
    let spot = inst.market() == Market::Spot;
    text.raw("{");
    if !spot {
        text.word("e", "bookTicker");
    }
    let (bid, ask) = (inst.book.best_bid().unwrap_or_default(), inst.book.best_ask().unwrap_or_default());
    text.count("u", inst.book.last_id).word("s", inst.symbol());
    price(&mut text, "b", inst, bid.0);
    size(&mut text, "B", inst, bid.1);
    price(&mut text, "a", inst, ask.0);
    size(&mut text, "A", inst, ask.1);
    if !spot {
        text.count("T", transaction(now)).count("E", now);
        family(&mut text, inst);
    }
    text.close("}");
    text.0
}

fn ticker(inst: &Inst, now: i64) -> String {
    let row = &inst.row;
    let spot = inst.market() == Market::Spot;
    let mut text = Text::with_capacity(480);
    head(&mut text, "24hrTicker", now, inst);
    price(&mut text, "p", inst, row.last - row.open);
    text.text("P", Num::new(row.change(facts::PERCENT + 2), facts::PERCENT));
    price(&mut text, "w", inst, i64::midpoint(row.high, row.low));
    if spot {
        price(&mut text, "x", inst, row.open);
    }
    price(&mut text, "c", inst, row.last);
    size(&mut text, "Q", inst, row.last_size);
    if spot {
        price(&mut text, "b", inst, row.bid);
        size(&mut text, "B", inst, row.bid_size);
        price(&mut text, "a", inst, row.ask);
        size(&mut text, "A", inst, row.ask_size);
    }
    price(&mut text, "o", inst, row.open);
    price(&mut text, "h", inst, row.high);
    price(&mut text, "l", inst, row.low);
    size(&mut text, "v", inst, row.volume);
    number(&mut text, "q", inst.turnover_num(row.turnover), places(inst));
    text.count("O", row.time - 1440 * MINUTE).count("C", row.time);
    text.count("F", i128::from(row.last_id) - i128::from(row.count) + 1).count("L", row.last_id).count("n", row.count);
    if !spot {
        family(&mut text, inst);
    }
    text.close("}");
    text.0
}

fn mark(inst: &Inst, now: i64) -> String {
    let row = &inst.row;
    let mut text = Text::with_capacity(280);
    head(&mut text, "markPriceUpdate", now, inst);
    text.text("p", inst.mark_price(row.mark)).text("i", inst.mark_price(row.index)).text("P", inst.mark_price(row.index + 7));
    if inst.funding_hours > 0 {
        text.text("r", Num::new(row.rate, RATE_SCALE));
    } else {
        text.word("r", "");
    }
    text.text("ap", inst.mark_price(row.mark + 3)).count("T", row.next_funding).count("st", if inst.market() == Market::Linear { 1 } else { 2 }).close("}");
    text.0
}

fn kline(inst: &Inst, now: i64, candle: &Candle, closed: bool) -> String {
    let mut text = Text::with_capacity(400);
    head(&mut text, "kline", now, inst);
    text.raw("\"k\":{").count("t", candle.start).count("T", candle.start + MINUTE - 1).word("s", inst.symbol()).word("i", "1m");
    // A candle without a trade names none.
    let (first, last) = if candle.trades == 0 { (-1, -1) } else { (i128::from(candle.first_id), i128::from(candle.last_id)) };
    text.count("f", first).count("L", last);
    for (key, value) in [("o", candle.open), ("c", candle.close), ("h", candle.high), ("l", candle.low)] {
        price(&mut text, key, inst, value);
    }
    size(&mut text, "v", inst, candle.volume);
    text.count("n", candle.trades).raw(if closed { "\"x\":true," } else { "\"x\":false," });
    number(&mut text, "q", inst.turnover_num(candle.turnover), places(inst));
    size(&mut text, "V", inst, candle.volume / 2);
    number(&mut text, "Q", inst.turnover_num(candle.turnover / 2), places(inst));
    text.word("B", "0").close("}}");
    text.0
}
