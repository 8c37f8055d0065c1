//! Event lines: the contract's JSON of an event.

use std::io::Write as _;

use crate::decimal::Decimal;
use crate::event::{Body, Event, Ident, Level, Side};
use crate::time::Time;

impl Event {
    /// Appends the event as one JSON object, without a line break. `line` is the capture line that it came from.
    #[expect(clippy::indexing_slicing, reason = "a nibble of sixteen digits")]
    pub fn write_json(&self, line: Option<u64>, out: &mut Vec<u8>) {
        let mut o = Object { out };
        o.out.extend_from_slice(b"{\"type\":\"");
        o.out.extend_from_slice(self.body.kind().as_bytes());
        o.out.push(b'"');
        o.text("venue", &self.instrument.venue);
        o.text("market", self.instrument.market.as_str());
        if !self.instrument.venue_symbol.is_empty() {
            o.text("venue_symbol", &self.instrument.venue_symbol);
        }
        if let Some(symbol) = &self.instrument.symbol {
            o.text("symbol", symbol);
        }
        o.time("t", Some(self.received));
        o.time("et", self.time);
        if let Some(origin) = self.origin {
            o.text("origin", origin.as_str());
        }
        body(&self.body, &mut o);
        o.key("id");
        let mut hex = [b'"'; 34];
        for (two, byte) in hex[1..33].chunks_exact_mut(2).zip(self.id.0) {
            const DIGITS: &[u8; 16] = b"0123456789abcdef";
            two.copy_from_slice(&[DIGITS[usize::from(byte >> 4)], DIGITS[usize::from(byte & 15)]]);
        }
        o.out.extend_from_slice(&hex);
        o.integer("line", line);
        o.out.push(b'}');
    }

    /// The event as one JSON object.
    pub fn to_json(&self) -> String {
        let mut out = Vec::with_capacity(256);
        self.write_json(None, &mut out);
        String::from_utf8(out).unwrap_or_default()
    }
}

fn body(body: &Body, o: &mut Object<'_>) {
    match body {
        Body::Ticker(t) => {
            o.decimal("last", t.last.as_ref());
            o.decimal("last_size", t.last_size.as_ref());
            o.decimal("bid", t.bid.as_ref());
            o.decimal("bid_size", t.bid_size.as_ref());
            o.decimal("ask", t.ask.as_ref());
            o.decimal("ask_size", t.ask_size.as_ref());
            o.decimal("open_24h", t.open_24h.as_ref());
            o.decimal("high_24h", t.high_24h.as_ref());
            o.decimal("low_24h", t.low_24h.as_ref());
            o.decimal("volume_24h", t.volume_24h.as_ref());
            o.decimal("turnover_24h", t.turnover_24h.as_ref());
            o.decimal("change_24h", t.change_24h.as_ref());
        }
        Body::Quote(q) => {
            o.decimal("bid", q.bid.as_ref());
            o.decimal("bid_size", q.bid_size.as_ref());
            o.decimal("ask", q.ask.as_ref());
            o.decimal("ask_size", q.ask_size.as_ref());
            o.ident("seq", q.seq.as_ref());
        }
        Body::Mark(m) => {
            o.decimal("mark", m.mark.as_ref());
            o.decimal("index", m.index.as_ref());
            o.decimal("basis", m.basis.as_ref());
        }
        Body::Funding(f) => {
            o.decimal("rate", f.rate.as_ref());
            o.time("next_time", f.next_time);
            o.integer("interval_hours", f.interval_hours.map(u64::from));
            o.decimal("predicted_rate", f.predicted_rate.as_ref());
            o.decimal("cap", f.cap.as_ref());
            o.decimal("floor", f.floor.as_ref());
        }
        Body::FundingSettled(f) => {
            o.decimal("rate", Some(&f.rate));
            o.time("time", Some(f.time));
            o.decimal("mark", f.mark.as_ref());
        }
        Body::OpenInterest(v) => {
            o.decimal("value", v.value.as_ref());
            o.decimal("value_base", v.value_base.as_ref());
            o.decimal("value_quote", v.value_quote.as_ref());
        }
        Body::Trade(t) => {
            o.ident("trade_id", t.trade_id.as_ref());
            o.decimal("price", Some(&t.price));
            o.decimal("size", Some(&t.size));
            o.decimal("size_base", t.size_base.as_ref());
            o.side(t.side);
        }
        Body::Liquidation(l) => {
            o.decimal("price", Some(&l.price));
            o.decimal("size", Some(&l.size));
            o.decimal("size_base", l.size_base.as_ref());
            o.side(l.side);
            o.ident("trade_id", l.trade_id.as_ref());
        }
        Body::Book(b) => {
            o.text("kind", b.kind.as_str());
            o.levels("bids", &b.bids);
            o.levels("asks", &b.asks);
            o.ident("seq", b.seq.as_ref());
            o.ident("prev_seq", b.prev_seq.as_ref());
            o.ident("checksum", b.checksum.as_ref());
        }
        Body::Candle(c) => {
            o.shown("interval", c.interval);
            o.time("open_time", Some(c.open_time));
            o.decimal("open", Some(&c.open));
            o.decimal("high", Some(&c.high));
            o.decimal("low", Some(&c.low));
            o.decimal("close", Some(&c.close));
            o.decimal("volume", Some(&c.volume));
            o.decimal("turnover", c.turnover.as_ref());
            o.integer("trades", c.trades);
            o.boolean("closed", c.closed);
        }
        Body::Instrument(d) => {
            o.text("kind", d.kind.as_str());
            o.text("base", &d.base);
            o.text("quote", &d.quote);
            if let Some(settle) = &d.settle {
                o.text("settle", settle);
            }
            o.decimal("contract_size", d.contract_size.as_ref());
            o.decimal("tick_size", d.tick_size.as_ref());
            o.decimal("lot_size", d.lot_size.as_ref());
            o.decimal("min_size", d.min_size.as_ref());
            o.time("expiry", d.expiry);
            o.text("status", d.status.as_str());
            o.integer("funding_interval_hours", d.funding_interval_hours.map(u64::from));
        }
        Body::Gap(g) => {
            o.shown("channel", g.channel);
            o.text("reason", g.reason.as_str());
            o.ident("from", g.from.as_ref());
            o.ident("to", g.to.as_ref());
        }
        Body::Refill(r) => {
            o.shown("gap", r.gap);
            o.shown("channel", r.channel);
            o.ident("from", r.from.as_ref());
            o.ident("to", r.to.as_ref());
            o.integer("count", Some(r.count));
            o.boolean("complete", r.complete);
        }
        Body::DecodeError(e) => {
            o.text("reason", &e.reason);
            o.text("excerpt", &e.excerpt);
        }
    }
}

/// The fields of an object that has one already.
struct Object<'a> {
    out: &'a mut Vec<u8>,
}

impl Object<'_> {
    #[inline]
    fn key(&mut self, key: &str) {
        self.out.extend_from_slice(b",\"");
        self.out.extend_from_slice(key.as_bytes());
        self.out.extend_from_slice(b"\":");
    }

    fn text(&mut self, key: &str, value: &str) {
        self.key(key);
        write_string(value, self.out);
    }

    /// A value whose text needs no escaping.
    fn shown(&mut self, key: &str, value: impl std::fmt::Display) {
        self.key(key);
        // Writing to a vector cannot fail.
        let _ = write!(self.out, "\"{value}\"");
    }

    fn boolean(&mut self, key: &str, value: bool) {
        self.key(key);
        self.out.extend_from_slice(if value { b"true" } else { b"false" });
    }

    fn integer(&mut self, key: &str, value: Option<u64>) {
        if let Some(value) = value {
            self.key(key);
            self.out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        }
    }

    #[inline]
    fn time(&mut self, key: &str, value: Option<Time>) {
        if let Some(value) = value {
            self.key(key);
            self.out.extend_from_slice(itoa::Buffer::new().format(value.micros()).as_bytes());
        }
    }

    #[inline]
    fn decimal(&mut self, key: &str, value: Option<&Decimal>) {
        if let Some(value) = value {
            self.key(key);
            self.quoted(value);
        }
    }

    #[inline]
    fn quoted(&mut self, value: &Decimal) {
        self.out.push(b'"');
        value.write_to(self.out);
        self.out.push(b'"');
    }

    fn ident(&mut self, key: &str, value: Option<&Ident>) {
        match value {
            None => {}
            Some(Ident::Text(text)) => self.text(key, text),
            Some(Ident::Number(number)) => {
                self.key(key);
                self.out.push(b'"');
                self.out.extend_from_slice(itoa::Buffer::new().format(*number).as_bytes());
                self.out.push(b'"');
            }
            Some(uuid) => self.shown(key, uuid),
        }
    }

    fn side(&mut self, side: Option<Side>) {
        if let Some(side) = side {
            self.text("side", side.as_str());
        }
    }

    fn levels(&mut self, key: &str, levels: &[Level]) {
        self.key(key);
        self.out.push(b'[');
        for (at, level) in levels.iter().enumerate() {
            self.out.extend_from_slice(if at == 0 { b"[" } else { b",[" });
            self.quoted(&level.price);
            self.out.push(b',');
            self.quoted(&level.size);
            self.out.push(b']');
        }
        self.out.push(b']');
    }
}

/// Appends text as a JSON string.
#[expect(clippy::indexing_slicing, reason = "between bytes that were found there")]
pub fn write_string(text: &str, out: &mut Vec<u8>) {
    out.push(b'"');
    let bytes = text.as_bytes();
    let mut done = 0;
    for (at, &byte) in bytes.iter().enumerate() {
        if byte >= 0x20 && byte != b'"' && byte != b'\\' {
            continue;
        }
        out.extend_from_slice(&bytes[done..at]);
        done = at + 1;
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            _ => {
                let _ = write!(out, "\\u{byte:04x}");
            }
        }
    }
    out.extend_from_slice(&bytes[done..]);
    out.push(b'"');
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::event::{EventId, Ticker};
    use crate::instrument::{Instrument, Market};

    #[test]
    fn absent_fields_are_left_out() {
        let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
        let ticker = Ticker { last: Some(Decimal::from(5)), ..Ticker::default() };
        let mut event = Event::new(instrument, Time::from_micros(7), None, Body::Ticker(ticker));
        event.id = EventId([0xab; 16]);
        assert_eq!(
            event.to_json(),
            r#"{"type":"ticker","venue":"bybit","market":"linear","venue_symbol":"BTCUSDT","symbol":"BTC/USDT:USDT","t":7,"last":"5","id":"abababababababababababababababab"}"#
        );
    }

    #[test]
    fn text_is_escaped() {
        let mut out = Vec::new();
        write_string("a\"\\\n\u{1}ß", &mut out);
        assert_eq!(String::from_utf8(out).unwrap(), "\"a\\\"\\\\\\n\\u0001ß\"");
    }
}
