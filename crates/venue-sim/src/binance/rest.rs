//! Binance's HTTP interface.

use exchange_core::instrument::Kind;
use exchange_core::{Event, Interval, Market, Time};

use super::facts::{self, buyer_is_maker};
use super::ws::{aggregate, number, places, price, side, size, transaction};
use crate::market::{Candle, Inst, MINUTE, RATE_SCALE, Trade};
use crate::num::{Num, Text, mix_below};
use crate::rest::{candles, settlements};
use crate::wire::{Answer, Cost, Request};
use crate::world::World;

const DAY: i64 = 1440 * MINUTE;
/// What stands for "no expiry".
const NEVER: i64 = 4_133_404_800_000;

/// The market that a path belongs to, and the path behind the version.
fn surface(path: &str) -> Option<(Market, &str)> {
    let prefixes = [
        ("/api/v3/", Market::Spot),
        ("/fapi/v1/", Market::Linear),
        ("/fapi/v2/", Market::Linear),
        ("/dapi/v1/", Market::Inverse),
        ("/futures/data/", Market::Linear),
    ];
    prefixes.into_iter().find_map(|(prefix, market)| Some((market, path.strip_prefix(prefix)?)))
}

pub(super) fn cost(request: &Request) -> Cost {
    let (market, path) = surface(&request.path).unwrap_or((Market::Spot, ""));
    let one = request.get("symbol").is_some();
    let depth = request.limit(100, 5000);
    let rows = request.limit(500, 1500);
    let spot = market == Market::Spot;
    let units = match (path, spot) {
        ("exchangeInfo", true) | ("aggTrades", false) => 20,
        ("ticker/24hr", true) if one => 2,
        ("ticker/24hr", true) => 80,
        ("ticker/24hr", false) if !one => 40,
        ("ticker/bookTicker", true) => {
            if one {
                2
            } else {
                4
            }
        }
        ("ticker/bookTicker", false) => {
            if one {
                2
            } else {
                5
            }
        }
        ("premiumIndex", false) if !one => 10,
        ("depth", true) => match depth {
            0..=100 => 5,
            101..=500 => 25,
            501..=1000 => 50,
            _ => 250,
        },
        ("depth", false) => match depth {
            0..=50 => 2,
            51..=100 => 5,
            101..=500 => 10,
            _ => 20,
        },
        ("trades", true) => 25,
        ("trades", false) => 5,
        ("aggTrades", true) => 4,
        ("klines", true) => 2,
        ("klines", false) => match rows {
            0..100 => 1,
            100..500 => 2,
            500..=1000 => 5,
            _ => 10,
        },
        ("fundingInfo" | "fundingRate", false) => return Cost { budget: "funding", units: 1, limit: 500, seconds: 300, header: None },
        ("openInterestHist", false) => return Cost { budget: "data", units: 1, limit: 1000, seconds: 300, header: None },
        _ => 1,
    };
    let (budget, limit) = match market {
        Market::Spot => ("spot", 6000),
        Market::Inverse => ("inverse", 2400),
        _ => ("linear", 2400),
    };
    Cost { budget, units, limit, seconds: 60, header: Some("x-mbx-used-weight-1m") }
}

/// Too much; whoever goes on nevertheless is banned.
pub(super) fn refused(cost: &Cost, used: u32, wall: Time, until: Time) -> Answer {
    let wait = until.since(wall).as_secs() + 1;
    let (status, words) = if used > cost.limit * 2 {
        (418, format!("Way too much request weight used; IP banned until {}. Please use WebSocket Streams for live updates to avoid bans.", until.millis()))
    } else {
        (
            429,
            format!(
                "Too much request weight used; current limit is {} request weight per 1 MINUTE. Please use WebSocket Streams for live updates to avoid polling the API.",
                cost.limit
            ),
        )
    };
    Answer { headers: vec![("retry-after", wait.to_string())], ..Answer::error(status, format!("{{\"code\":-1003,\"msg\":\"{words}\"}}")) }
}

fn error(code: i32, words: &str) -> Answer {
    Answer::error(400, format!("{{\"code\":{code},\"msg\":\"{words}\"}}"))
}

pub(super) fn answer(world: &World, request: &Request) -> Answer {
    let Some((venue, (market, path))) = world.venue("binance").zip(surface(&request.path)) else {
        return Answer::error(404, "<html><body><h2>404 Not found</h2></body></html>");
    };
    let futures = market != Market::Spot;
    match path {
        "ping" => return Answer::ok("{}".into()),
        "time" => return Answer::ok(format!("{{\"serverTime\":{}}}", world.now(request.wall))),
        _ => {}
    }
    // A pair of COIN-M asks for several symbols.
    let one = match request.get("symbol") {
        Some(symbol) => match world.find(venue, market, symbol) {
            Some(index) => Some(index),
            None => return error(-1121, "Invalid symbol."),
        },
        None => None,
    };
    let wanted = |inst: &&Inst| {
        request.get("pair").is_none_or(|pair| inst.listing.pair == pair) && request.get("symbolStatus").is_none_or(|status| status != "TRADING" || inst.moves())
    };
    let insts: Vec<&Inst> = match one {
        Some(index) => world.insts.get(index).into_iter().collect(),
        None => world.listed(venue, market).map(|(_, inst)| inst).filter(wanted).collect(),
    };
    let page = Page { request, now: world.now(request.wall), market, single: one.is_some(), telling: world.hub.telling };
    match path {
        "exchangeInfo" => Answer::ok(exchange_info(&page, &insts)),
        "ticker/24hr" => {
            page.rows(&insts, !futures || market == Market::Linear, ticker, |inst, events| events.push(facts::ticker(inst, request.wall, inst.row.time)))
        }
        "ticker/bookTicker" => page.rows(
            &insts,
            market != Market::Inverse,
            |text, inst| book_ticker(text, inst, &page),
            |inst, events| {
                let at = futures.then_some(inst.quote_time);
                events.extend(facts::quote(inst, request.wall, at, (market == Market::Inverse).then_some(inst.book.last_id)));
            },
        ),
        "premiumIndex" if futures => {
            page.rows(&insts, market == Market::Linear, premium, |inst, events| facts::premium(inst, request.wall, inst.row.premium_time, events))
        }
        "fundingInfo" if futures => {
            let adjusted: Vec<&Inst> = insts.into_iter().filter(|inst| inst.adjusted).collect();
            page.rows(&adjusted, false, funding_info, |inst, events| events.push(facts::limits(inst, request.wall)))
        }
        "fundingRate" if futures => {
            if market == Market::Inverse && one.is_none() {
                return error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed.");
            }
            funding_rates(&page, &insts)
        }
        _ => match insts.first().filter(|_| one.is_some()) {
            Some(inst) => single(path, &page, inst),
            None => error(-1102, "Mandatory parameter 'symbol' was not sent, was empty/null, or malformed."),
        },
    }
}

/// What answers have in common.
struct Page<'a> {
    request: &'a Request,
    now: i64,
    market: Market,
    /// Whether one symbol was asked for.
    single: bool,
    telling: bool,
}

impl Page<'_> {
    /// An answer of one record for each instrument; without a list, if one was asked for and the venue answers so.
    fn rows(&self, insts: &[&Inst], bare: bool, row: impl Fn(&mut Text, &Inst), tell: impl Fn(&Inst, &mut Vec<Event>)) -> Answer {
        let bare = bare && self.single;
        let mut text = Text::with_capacity(insts.len() * 400);
        let mut events = Vec::new();
        text.raw(if bare { "" } else { "[" });
        for inst in insts {
            text.raw("{");
            row(&mut text, inst);
            text.close("},");
            if self.telling {
                tell(inst, &mut events);
            }
        }
        text.close(if bare { "" } else { "]" });
        Answer { events, ..Answer::ok(text.0) }
    }

    /// An answer, and what of it the truth is told.
    fn answer(&self, text: Text, events: Vec<Event>) -> Answer {
        Answer { events: if self.telling { events } else { Vec::new() }, ..Answer::ok(text.0) }
    }
}

/// Answers about one instrument.
fn single(path: &str, page: &Page<'_>, inst: &Inst) -> Answer {
    match path {
        "openInterest" if page.market != Market::Spot => interest(page, inst),
        "depth" => depth(page, inst),
        "trades" | "historicalTrades" => trades(page, inst, false),
        "aggTrades" => trades(page, inst, true),
        "klines" => klines(page, inst),
        _ => Answer::error(404, "<html><body><h2>404 Not found</h2></body></html>"),
    }
}

fn interest(page: &Page<'_>, inst: &Inst) -> Answer {
    let mut text = Text::with_capacity(200);
    text.raw("{").word("symbol", inst.symbol());
    if page.market == Market::Inverse {
        text.word("pair", &inst.listing.pair).word("contractType", contract_type(inst));
    }
    size(&mut text, "openInterest", inst, inst.row.interest);
    text.count("time", inst.row.interest_time).close("}");
    page.answer(text, vec![facts::interest(inst, page.request.wall)])
}

fn depth(page: &Page<'_>, inst: &Inst) -> Answer {
    let limit = page.request.limit(100, 5000);
    let mut text = Text::with_capacity(4000);
    text.raw("{").count("lastUpdateId", inst.book.last_id);
    if page.market != Market::Spot {
        text.count("E", page.now).count("T", transaction(page.now));
    }
    if page.market == Market::Inverse {
        text.word("symbol", inst.symbol()).word("pair", &inst.listing.pair);
    }
    let best = |levels: &'_ [(i64, i64)]| levels.get(..limit.min(levels.len())).unwrap_or_default().to_vec();
    side(&mut text, "bids", inst, &best(&inst.book.bids));
    side(&mut text, "asks", inst, &best(&inst.book.asks));
    text.close("}");
    page.answer(text, vec![facts::snapshot(inst, page.request.wall, transaction(page.now), limit)])
}

fn trades(page: &Page<'_>, inst: &Inst, aggregated: bool) -> Answer {
    let (request, wall) = (page.request, page.request.wall);
    let id = |trade: &Trade| if aggregated { aggregate(trade.id) } else { trade.id };
    let from = request.get("fromId").and_then(|id| id.parse::<u64>().ok());
    let (start, end) = (request.number("startTime").unwrap_or(i64::MIN), request.number("endTime").unwrap_or(i64::MAX));
    let limit = request.limit(500, 1000);
    let chosen: Vec<_> = inst.trades.iter().filter(|trade| from.is_none_or(|from| id(trade) >= from) && (start..=end).contains(&trade.time)).collect();
    // From a place or a time on, the first ones; else the last.
    let first = if from.is_some() || request.get("startTime").is_some() { 0 } else { chosen.len().saturating_sub(limit) };
    let (mut text, mut events) = (Text::with_capacity(4000), Vec::new());
    text.raw("[");
    for trade in chosen.into_iter().skip(first).take(limit) {
        text.raw("{");
        if aggregated {
            text.count("a", id(trade));
            price(&mut text, "p", inst, trade.price);
            size(&mut text, "q", inst, trade.size);
            text.count("f", trade.id).count("l", trade.id).count("T", trade.time).raw("\"m\":").raw(buyer_is_maker(trade)).raw(",");
            text.raw(if page.market == Market::Spot { "\"M\":true" } else { "" });
        } else {
            text.count("id", trade.id);
            price(&mut text, "price", inst, trade.price);
            size(&mut text, "qty", inst, trade.size);
            let value = inst.turnover_num(inst.turnover(trade.price, trade.size));
            number(&mut text, if page.market == Market::Inverse { "baseQty" } else { "quoteQty" }, value, places(inst));
            text.count("time", trade.time).raw("\"isBuyerMaker\":").raw(buyer_is_maker(trade)).raw(",");
            text.raw(match page.market {
                Market::Spot => "\"isBestMatch\":true",
                Market::Linear => "\"isRPITrade\":false",
                _ => "",
            });
        }
        text.close("},");
        events.push(facts::trade(inst, wall, trade, id(trade)));
    }
    text.close("]");
    page.answer(text, events)
}

fn klines(page: &Page<'_>, inst: &Inst) -> Answer {
    let (request, wall) = (page.request, page.request.wall);
    let word = request.get("interval").unwrap_or_default();
    let Some((interval, minutes)) = minutes(word) else { return error(-1120, "Invalid interval.") };
    let most = if page.market == Market::Spot { 1000 } else { 1500 };
    let window = (request.number("startTime"), request.number("endTime"));
    let list = candles(inst, minutes, page.now, window, request.limit(500, most), page.market == Market::Inverse);
    let (mut text, mut events) = (Text::with_capacity(4000), Vec::new());
    text.raw("[");
    for candle in &list {
        kline(&mut text, inst, candle, minutes);
        let closed = candle.start + minutes * MINUTE - 1 < wall.millis();
        events.push(facts::candle(inst, wall, None, interval, candle, closed));
    }
    text.close("]");
    page.answer(text, events)
}

/// An interval by the venue's word, and its length in minutes.
fn minutes(word: &str) -> Option<(Interval, i64)> {
    let minutes = match word {
        "1m" => 1,
        "3m" => 3,
        "5m" => 5,
        "15m" => 15,
        "30m" => 30,
        "1h" => 60,
        "2h" => 120,
        "4h" => 240,
        "6h" => 360,
        "8h" => 480,
        "12h" => 720,
        "1d" => 1440,
        _ => return None,
    };
    Some((Interval::parse(word)?, minutes))
}

fn kline(text: &mut Text, inst: &Inst, candle: &Candle, minutes: i64) {
    text.raw("[").int(candle.start).raw(",");
    for value in [candle.open, candle.high, candle.low, candle.close] {
        text.raw("\"").padded(inst.price(value), places(inst)).raw("\",");
    }
    text.raw("\"").padded(inst.size(candle.volume), places(inst)).raw("\",").int(candle.start + minutes * MINUTE - 1).raw(",\"");
    text.padded(inst.turnover_num(candle.turnover), places(inst)).raw("\",").int(candle.trades).raw(",\"");
    text.padded(inst.size(candle.volume / 2), places(inst)).raw("\",\"").padded(inst.turnover_num(candle.turnover / 2), places(inst)).raw("\",\"0\"],");
}

fn ticker(text: &mut Text, inst: &Inst) {
    let row = &inst.row;
    let market = inst.market();
    text.word("symbol", inst.symbol());
    if market == Market::Inverse {
        text.word("pair", &inst.listing.pair);
    }
    price(text, "priceChange", inst, row.last - row.open);
    text.text("priceChangePercent", Num::new(row.change(facts::PERCENT + 2), facts::PERCENT));
    price(text, "weightedAvgPrice", inst, i64::midpoint(row.high, row.low));
    if market == Market::Spot {
        price(text, "prevClosePrice", inst, row.open);
    }
    price(text, "lastPrice", inst, row.last);
    size(text, "lastQty", inst, row.last_size);
    if market == Market::Spot {
        price(text, "bidPrice", inst, row.bid);
        size(text, "bidQty", inst, row.bid_size);
        price(text, "askPrice", inst, row.ask);
        size(text, "askQty", inst, row.ask_size);
    }
    price(text, "openPrice", inst, row.open);
    price(text, "highPrice", inst, row.high);
    price(text, "lowPrice", inst, row.low);
    size(text, "volume", inst, row.volume);
    number(text, if market == Market::Inverse { "baseVolume" } else { "quoteVolume" }, inst.turnover_num(row.turnover), places(inst));
    text.count("openTime", row.time - DAY).count("closeTime", row.time);
    text.count("firstId", i128::from(row.last_id) - i128::from(row.count) + 1).count("lastId", row.last_id).count("count", row.count);
}

fn book_ticker(text: &mut Text, inst: &Inst, page: &Page<'_>) {
    let (bid, ask) = (inst.book.best_bid().unwrap_or_default(), inst.book.best_ask().unwrap_or_default());
    if page.market == Market::Inverse {
        text.count("lastUpdateId", inst.book.last_id);
    }
    text.word("symbol", inst.symbol());
    if page.market == Market::Inverse {
        text.word("pair", &inst.listing.pair);
    }
    price(text, "bidPrice", inst, bid.0);
    size(text, "bidQty", inst, bid.1);
    price(text, "askPrice", inst, ask.0);
    size(text, "askQty", inst, ask.1);
    if page.market != Market::Spot {
        text.count("time", inst.quote_time);
    }
}

fn premium(text: &mut Text, inst: &Inst) {
    let row = &inst.row;
    text.word("symbol", inst.symbol());
    if inst.market() == Market::Inverse {
        text.word("pair", &inst.listing.pair);
    }
    text.text("markPrice", inst.mark_price(row.mark))
        .text("indexPrice", inst.mark_price(row.index))
        .text("estimatedSettlePrice", inst.mark_price(row.index + 7));
    if inst.funding_hours > 0 {
        text.text("lastFundingRate", Num::new(row.rate, RATE_SCALE)).word("interestRate", "0.00010000");
    } else {
        text.word("lastFundingRate", "").word("interestRate", "");
    }
    text.count("nextFundingTime", row.next_funding).count("time", row.premium_time);
}

fn funding_info(text: &mut Text, inst: &Inst) {
    let cap = Num::new(inst.cap, RATE_SCALE);
    text.word("symbol", inst.symbol()).text("adjustedFundingRateCap", cap).text("adjustedFundingRateFloor", Num::new(-cap.mantissa, cap.scale));
    text.count("fundingIntervalHours", inst.funding_hours).raw("\"disclaimer\":false,");
}

/// Oldest first; of all symbols, the newest ones.
fn funding_rates(page: &Page<'_>, insts: &[&Inst]) -> Answer {
    let request = page.request;
    let limit = request.limit(if page.single { 100 } else { 200 }, 1000);
    let window = (request.number("startTime"), request.number("endTime"));
    // Of all symbols, those of the last day: nobody needs more of them than one answer holds.
    let mut all: Vec<(i64, &Inst)> = Vec::new();
    for inst in insts {
        let of_one = if page.single { limit } else { 24 };
        all.extend(settlements(inst, page.now, window, of_one).into_iter().map(|at| (at, *inst)));
    }
    all.sort_by(|a, b| (a.0, a.1.symbol()).cmp(&(b.0, b.1.symbol())));
    let first = if page.single && window.0.is_some() { 0 } else { all.len().saturating_sub(limit) };
    let mut text = Text::with_capacity(16_000);
    let mut events = Vec::new();
    text.raw("[");
    for (period, inst) in all.into_iter().skip(first).take(limit) {
        // The venue's clock is a few milliseconds late now and then.
        let key = u64::try_from(period).unwrap_or(0);
        let at = period + mix_below(inst.key, key, 4);
        let rate = inst.past_rate(period);
        let mark = (page.market == Market::Linear).then(|| inst.past_candle(period, 1).open * crate::num::pow10(inst.mark_scale - inst.listing.price_scale));
        text.raw("{").word("symbol", inst.symbol()).text("fundingRate", Num::new(rate, RATE_SCALE)).count("fundingTime", at);
        if let Some(mark) = mark {
            text.text("markPrice", inst.mark_price(mark)).word("rateType", "Regular");
        }
        text.close("},");
        if page.telling {
            events.push(facts::settled(inst, request.wall, at, rate, mark));
        }
    }
    text.close("]");
    Answer { events, ..Answer::ok(text.0) }
}

fn contract_type(inst: &Inst) -> &'static str {
    let near = inst.listing.details.expiry.map_or(0, Time::millis) < inst.born + 100 * DAY;
    match inst.listing.details.kind {
        Kind::Future if near => "CURRENT_QUARTER",
        Kind::Future => "NEXT_QUARTER",
        _ => "PERPETUAL",
    }
}

fn exchange_info(page: &Page<'_>, insts: &[&Inst]) -> String {
    let limit = if page.market == Market::Spot { 6000 } else { 2400 };
    let mut text = Text::with_capacity(insts.len() * 900);
    text.raw("{").word("timezone", "UTC").count("serverTime", page.now);
    text.raw("\"rateLimits\":[{\"rateLimitType\":\"REQUEST_WEIGHT\",\"interval\":\"MINUTE\",\"intervalNum\":1,\"limit\":").int(limit).raw("}");
    if page.market == Market::Spot {
        text.raw(",{\"rateLimitType\":\"RAW_REQUESTS\",\"interval\":\"MINUTE\",\"intervalNum\":5,\"limit\":300000}");
    }
    text.raw("],\"exchangeFilters\":[],\"symbols\":[");
    for inst in insts {
        symbol(&mut text, inst, page);
    }
    text.close("]}");
    text.0
}

fn symbol(text: &mut Text, inst: &Inst, page: &Page<'_>) {
    let details = &inst.listing.details;
    text.raw("{").word("symbol", inst.symbol());
    let status = if inst.moves() { "TRADING" } else { "BREAK" };
    if page.market == Market::Spot {
        text.word("status", status).word("baseAsset", &details.base).count("baseAssetPrecision", 8).word("quoteAsset", &details.quote);
        text.count("quotePrecision", 8).count("quoteAssetPrecision", 8);
        text.raw("\"orderTypes\":[\"LIMIT\",\"LIMIT_MAKER\",\"MARKET\"],\"icebergAllowed\":true,\"isSpotTradingAllowed\":").raw(if inst.moves() {
            "true,"
        } else {
            "false,"
        });
    } else {
        text.word("pair", &inst.listing.pair).word("contractType", contract_type(inst));
        text.count("deliveryDate", details.expiry.map_or(NEVER, Time::millis)).count("onboardDate", 1_569_398_400_000i64);
        text.word(if page.market == Market::Inverse { "contractStatus" } else { "status" }, status);
        if page.market == Market::Inverse {
            text.count("contractSize", inst.contract());
        }
        text.word("baseAsset", &details.base).word("quoteAsset", &details.quote).word("marginAsset", details.settle.as_deref().unwrap_or_default());
        // Neither is the tick or the lot.
        text.count("pricePrecision", inst.listing.price_scale + 1).count("quantityPrecision", inst.listing.size_scale);
        text.word("underlyingType", "COIN").raw("\"underlyingSubType\":[],");
    }
    let tick = Num::new(1, inst.listing.price_scale);
    text.raw("\"filters\":[{").word("filterType", "PRICE_FILTER");
    number(text, "minPrice", tick, places(inst));
    number(text, "maxPrice", Num::new(1_000_000_000, inst.listing.price_scale), places(inst));
    number(text, "tickSize", tick, places(inst));
    text.close("},{").word("filterType", "LOT_SIZE");
    size(text, "minQty", inst, 1);
    size(text, "maxQty", inst, 1_000_000_000);
    size(text, "stepSize", inst, 1);
    if page.market == Market::Spot {
        text.close("},{").word("filterType", "NOTIONAL").word("minNotional", "5.00000000");
    } else {
        text.close("},{").word("filterType", "MIN_NOTIONAL").word("notional", "5");
    }
    text.close("}],");
    if page.market == Market::Spot {
        text.raw("\"permissions\":[],");
        if page.request.get("showPermissionSets") != Some("false") {
            text.raw("\"permissionSets\":[[\"SPOT\",\"MARGIN\"]],");
        }
    }
    text.close("},");
}
