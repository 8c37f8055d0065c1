//! Bybit's HTTP interface.

use exchange_core::instrument::Kind;
use exchange_core::{Event, Interval, Market, Time};

use super::ws::{fields, levels, side};
use super::{ALL, bit, category, facts, trade_id};
use crate::market::{Inst, MINUTE, RATE_SCALE};
use crate::num::{Num, Text, mix_below};
use crate::rest::{candles, settlements};
use crate::wire::{Answer, Request};
use crate::world::World;

/// Rows of an answer in the making.
struct Page<'a> {
    world: &'a World,
    request: &'a Request,
    market: Market,
    now: i64,
    text: Text,
    events: Vec<Event>,
}

pub(super) fn answer(world: &World, request: &Request) -> Answer {
    let now = world.now(request.wall);
    let Some(path) = request.path.strip_prefix("/v5/market/") else { return Answer::error(404, "404 page not found") };
    if path == "time" {
        return Answer::ok(envelope(0, "OK", &format!("{{\"timeSecond\":\"{}\",\"timeNano\":\"{}\"}}", now / 1000, now * 1_000_000), now));
    }
    let Some(market) = category(request.get("category").unwrap_or_default()) else { return refuse("params error: Category is invalid", now) };
    let Some(venue) = world.venue("bybit") else { return refuse("params error: Category is invalid", now) };
    let one = match request.get("symbol") {
        Some(symbol) => match world.find(venue, market, symbol).and_then(|index| world.insts.get(index)) {
            Some(inst) => Some(inst),
            None => return refuse("params error: Symbol Is Invalid", now),
        },
        None => None,
    };
    let insts: Vec<&Inst> = match one {
        Some(inst) => vec![inst],
        None => world.listed(venue, market).map(|(_, inst)| inst).collect(),
    };
    let mut page = Page { world, request, market, now, text: Text::with_capacity(4000), events: Vec::new() };
    let done = match (path, one) {
        ("tickers", _) => {
            page.tickers(&insts);
            Ok(())
        }
        ("instruments-info", _) => page.instruments(&insts),
        (_, None) => Err("params error: Symbol Is Invalid"),
        ("orderbook", Some(inst)) => {
            page.book(inst);
            Ok(())
        }
        ("recent-trade", Some(inst)) => {
            page.trades(inst);
            Ok(())
        }
        ("kline", Some(inst)) => page.klines(inst),
        ("funding/history", Some(inst)) if market != Market::Spot => page.fundings(inst),
        ("open-interest", Some(inst)) if market != Market::Spot => page.interests(inst),
        _ => return Answer::error(404, "404 page not found"),
    };
    if let Err(words) = done {
        return refuse(words, now);
    }
    if !world.hub.telling {
        page.events.clear();
    }
    Answer { events: page.events, ..Answer::ok(envelope(0, "OK", &page.text.0, now)) }
}

fn refuse(words: &str, now: i64) -> Answer {
    Answer::ok(envelope(10001, words, "{}", now))
}

fn envelope(code: i32, words: &str, result: &str, now: i64) -> String {
    format!("{{\"retCode\":{code},\"retMsg\":\"{words}\",\"result\":{result},\"retExtInfo\":{{}},\"time\":{now}}}")
}

impl Page<'_> {
    fn wall(&self) -> Time {
        self.request.wall
    }

    /// `{"category":"linear","list":[`
    fn list(&mut self) {
        self.text.raw("{").word("category", self.market.as_str()).raw("\"list\":[");
    }

    fn tickers(&mut self, insts: &[&Inst]) {
        const SPOT: [&str; 11] = [
            "bid1Price",
            "bid1Size",
            "ask1Price",
            "ask1Size",
            "lastPrice",
            "prevPrice24h",
            "price24hPcnt",
            "highPrice24h",
            "lowPrice24h",
            "turnover24h",
            "volume24h",
        ];
        let spot = self.market == Market::Spot;
        let carried = if spot { SPOT.iter().fold(0, |set, name| set | bit(name)) } else { ALL };
        self.list();
        for inst in insts {
            self.text.raw("{").word("symbol", inst.symbol());
            fields(&mut self.text, inst, carried);
            if spot {
                self.text.word("usdIndexPrice", "");
            } else {
                let expiry = inst.listing.details.expiry.map_or(0, Time::millis);
                self.text
                    .raw("\"deliveryTime\":\"")
                    .int(expiry)
                    .raw("\",")
                    .word("deliveryFeeRate", "")
                    .word("preOpenPrice", "")
                    .word("preQty", "")
                    .word("curPreListingPhase", "");
            }
            self.text.close("},");
            facts::ticker(inst, self.request.wall, self.now, carried, &mut self.events);
        }
        self.text.close("]}");
    }

    fn book(&mut self, inst: &Inst) {
        let limit = self.request.limit(if self.market == Market::Spot { 1 } else { 25 }, 1000);
        let at = self.now - 3;
        self.text.raw("{").word("s", inst.symbol());
        let best = |levels: &'_ [(i64, i64)]| levels.get(..limit.min(levels.len())).unwrap_or_default().to_vec();
        levels(&mut self.text, "a", inst, &best(&inst.book.asks));
        levels(&mut self.text, "b", inst, &best(&inst.book.bids));
        let seq = self.world.venue("bybit").and_then(|venue| self.world.venues.get(venue)).map_or(0, |venue| venue.seq);
        self.text.count("ts", self.now).count("u", inst.book.last_id).count("seq", seq).count("cts", at).close("}");
        self.events.push(facts::snapshot(inst, self.wall(), at, limit));
    }

    /// Newest first.
    fn trades(&mut self, inst: &Inst) {
        let limit = if self.market == Market::Spot { self.request.limit(60, 60) } else { self.request.limit(500, 1000) };
        self.list();
        for trade in inst.trades.iter().rev().take(limit) {
            self.text
                .raw("{")
                .word("execId", &trade_id(inst, trade))
                .word("symbol", inst.symbol())
                .text("price", inst.price(trade.price))
                .text("size", inst.size(trade.size));
            self.text
                .word("side", side(trade.side))
                .raw("\"time\":\"")
                .int(trade.time)
                .raw("\",\"isBlockTrade\":false,\"isRPITrade\":false,\"seq\":\"")
                .int(trade.seq)
                .raw("\"},");
            self.events.push(facts::trade(inst, self.request.wall, trade));
        }
        self.text.close("]}");
    }

    /// Newest first.
    fn klines(&mut self, inst: &Inst) -> Result<(), &'static str> {
        let word = self.request.get("interval").unwrap_or_default();
        let (interval, minutes) = match word {
            "D" => (Interval::new(1, 'd'), 1440),
            "1" | "3" | "5" | "15" | "30" | "60" | "120" | "240" | "360" | "720" => {
                (word.parse().ok().and_then(|count| Interval::new(count, 'm')), word.parse().unwrap_or(1))
            }
            _ => return Err("Invalid period!"),
        };
        let interval = interval.ok_or("Invalid period!")?;
        let window = (self.request.number("start"), self.request.number("end"));
        let list = candles(inst, minutes, self.now, window, self.request.limit(200, 1000), true);
        self.text.raw("{").word("symbol", inst.symbol()).word("category", self.market.as_str()).raw("\"list\":[");
        for candle in list.iter().rev() {
            self.text.raw("[\"").int(candle.start).raw("\",");
            for value in [candle.open, candle.high, candle.low, candle.close] {
                self.text.raw("\"").num(inst.price(value)).raw("\",");
            }
            self.text.raw("\"").num(inst.size(candle.volume)).raw("\",\"").num(inst.turnover_num(candle.turnover)).raw("\"],");
            let closed = candle.start + minutes * MINUTE <= self.request.wall.millis();
            self.events.push(facts::candle(inst, self.request.wall, None, interval, candle, closed));
        }
        self.text.close("]}");
        Ok(())
    }

    /// Newest first.
    fn fundings(&mut self, inst: &Inst) -> Result<(), &'static str> {
        let window = (self.request.number("startTime"), self.request.number("endTime"));
        if window.0.is_some() && window.1.is_none() {
            return Err("params error: endTime is required");
        }
        self.list();
        for at in settlements(inst, self.now, window, self.request.limit(200, 200)) {
            self.text.raw("{").word("symbol", inst.symbol()).text("fundingRate", Num::new(inst.past_rate(at), RATE_SCALE));
            self.text.raw("\"fundingRateTimestamp\":\"").int(at).raw("\"},");
            self.events.push(facts::settled(inst, self.request.wall, at));
        }
        self.text.close("]}");
        Ok(())
    }

    /// Newest first.
    fn interests(&mut self, inst: &Inst) -> Result<(), &'static str> {
        let minutes = match self.request.get("intervalTime") {
            Some("5min") => 5,
            Some("15min") => 15,
            Some("30min") => 30,
            Some("1h") => 60,
            Some("4h") => 240,
            Some("1d") => 1440,
            _ => return Err("params error: intervalTime is invalid"),
        };
        let step = minutes * MINUTE;
        let (from, to) = (self.request.number("startTime").unwrap_or(0), self.request.number("endTime").unwrap_or(self.now));
        let last = to.min(self.now).div_euclid(step) * step;
        self.text.raw("{").word("symbol", inst.symbol()).word("category", self.market.as_str()).raw("\"list\":[");
        for back in 0..i64::try_from(self.request.limit(50, 200)).unwrap_or(50) {
            let at = last - back * step;
            if at < from {
                break;
            }
            let both = 2 * (1 + mix_below(inst.key, u64::try_from(at).unwrap_or(0), 5_000_000));
            self.text
                .raw("{")
                .text("openInterest", inst.size(both))
                .text("singleOpenInterest", inst.size(both / 2))
                .raw("\"timestamp\":\"")
                .int(at)
                .raw("\"},");
            self.events.push(facts::interest_then(inst, self.request.wall, at, both));
        }
        self.text.close("],").word("nextPageCursor", "").close("}");
        Ok(())
    }

    /// Pages, but for spot. A page's cursor names the last instrument before it.
    fn instruments(&mut self, insts: &[&Inst]) -> Result<(), &'static str> {
        let spot = self.market == Market::Spot;
        let status = self.request.get("status").unwrap_or("Trading");
        let listed: &[&Inst] = if status == "Trading" { insts } else { &[] };
        let limit = if spot { usize::MAX } else { self.request.limit(500, 1000) };
        let first = match self.request.get("cursor").filter(|cursor| !cursor.is_empty()) {
            None => 0,
            // As the venue's: percent signs are part of it, so that it has to be encoded once more.
            Some(cursor) => cursor.strip_prefix("first%3D").and_then(|first| first.parse().ok()).ok_or("params error: cursor is invalid")?,
        };
        self.text.raw("{").word("category", self.market.as_str()).raw("\"list\":[");
        for inst in listed.iter().skip(first).take(limit) {
            if spot { self.spot_instrument(inst) } else { self.contract(inst) }
        }
        self.text.close("],");
        let next = first.saturating_add(limit);
        let cursor = if next < listed.len() { format!("first%3D{next}") } else { String::new() };
        self.text.word("nextPageCursor", &cursor).close("}");
        Ok(())
    }

    fn spot_instrument(&mut self, inst: &Inst) {
        let details = &inst.listing.details;
        let lot = Num::new(1, inst.listing.size_scale);
        self.text.raw("{").word("symbol", inst.symbol()).word("baseCoin", &details.base).word("quoteCoin", &details.quote).word("innovation", "0");
        self.text
            .word("status", "Trading")
            .word("marginTrading", "utaOnly")
            .raw("\"lotSizeFilter\":{")
            .text("basePrecision", lot)
            .word("quotePrecision", "0.01");
        self.text.text("minOrderQty", lot).word("maxOrderQty", "1000000").word("minOrderAmt", "5").word("maxOrderAmt", "1000000").close("},");
        self.text.raw("\"priceFilter\":{").text("tickSize", Num::new(1, inst.listing.price_scale)).close("}},");
    }

    fn contract(&mut self, inst: &Inst) {
        let details = &inst.listing.details;
        let (tick, lot) = (Num::new(1, inst.listing.price_scale), Num::new(1, inst.listing.size_scale));
        let kind = match (self.market, details.kind) {
            (Market::Inverse, Kind::Future) => "InverseFutures",
            (Market::Inverse, _) => "InversePerpetual",
            (_, Kind::Future) => "LinearFutures",
            _ => "LinearPerpetual",
        };
        let expiry = details.expiry.map_or(0, Time::millis);
        self.text.raw("{").word("symbol", inst.symbol()).word("contractType", kind).word("status", "Trading").word("baseCoin", &details.base);
        self.text.word("quoteCoin", &details.quote).word("settleCoin", details.settle.as_deref().unwrap_or_default()).word("launchTime", "1585526400000");
        self.text
            .raw("\"deliveryTime\":\"")
            .int(expiry)
            .raw("\",")
            .word("deliveryFeeRate", "")
            .raw("\"priceScale\":\"")
            .int(inst.listing.price_scale)
            .raw("\",");
        self.text.raw("\"leverageFilter\":{\"minLeverage\":\"1\",\"maxLeverage\":\"100.00\",\"leverageStep\":\"0.01\"},");
        self.text.raw("\"priceFilter\":{").text("minPrice", tick).text("maxPrice", Num::new(1_000_000_000, tick.scale)).text("tickSize", tick).close("},");
        self.text
            .raw("\"lotSizeFilter\":{")
            .text("maxOrderQty", Num::new(1_000_000_000, lot.scale))
            .text("minOrderQty", lot)
            .text("qtyStep", lot)
            .word("minNotionalValue", "5")
            .close("},");
        self.text.raw("\"unifiedMarginTrade\":true,");
        if inst.funding_hours > 0 {
            let cap = Num::new(inst.cap, RATE_SCALE);
            self.text
                .count("fundingInterval", inst.funding_hours * 60)
                .text("upperFundingRate", cap)
                .text("lowerFundingRate", Num::new(-cap.mantissa, cap.scale));
        } else {
            self.text.count("fundingInterval", 0).word("upperFundingRate", "").word("lowerFundingRate", "");
        }
        self.text.raw("\"copyTrading\":\"none\",\"isPreListing\":false,\"preListingInfo\":null,\"symbolType\":\"\"},");
    }
}
