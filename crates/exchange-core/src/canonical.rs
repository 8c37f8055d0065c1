//! The canonical bytes of an event, and its id: the first 16 bytes of their BLAKE3 hash.
//!
//! The canonical form, pinned by a test of known ids:
//!
//! 1. the event's type, one byte (`tag`);
//! 2. the venue's name and the venue's symbol, each as a length and UTF-8, with the market's byte between them;
//! 3. the fields that are there, in ascending order of their numbers, each as its number (one byte) and its value:
//!    a decimal as a byte of scale and sign and its normalised mantissa (LEB128), or 255, a length and the text of one
//!    that no 96-bit mantissa holds; a time or a count as zigzag LEB128; an identifier as a byte for its shape and then
//!    its number, its 16 bytes or its text; text as length and bytes; a book side as its count and its pairs;
//! 4. zeros up to a multiple of 64 bytes, at least one. Field numbers begin at 1, so the padding cannot be mistaken.
//!    Whole blocks let many events be hashed side by side.
//!
//! What does not come from the message is left out, as `SCHEMA.md` says: `t`, `id`, `symbol`, `size_base`,
//! `value_base` where it was derived, `origin`. A state, a gap or a decode error that has neither `et` nor `seq`
//! covers `t`.

use std::sync::Arc;

use crate::decimal::Decimal;
use crate::event::{Body, BookKind, Event, EventId, Ident, Level, Side};
use crate::instrument::Market;
use crate::time::Time;

/// BLAKE3's block: canonical forms are whole blocks.
pub const BLOCK: usize = 64;

/// Appends a LEB128 varint.
#[inline]
pub(crate) fn varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    #[expect(clippy::cast_possible_truncation, reason = "seven bits")]
    out.push(value as u8);
}

/// Appends a length and bytes.
#[inline]
pub(crate) fn bytes(value: &[u8], out: &mut Vec<u8>) {
    varint(value.len() as u64, out);
    out.extend_from_slice(value);
}

/// The canonical bytes that name an instrument.
pub(crate) fn instrument_key(venue: &Arc<str>, market: Market, venue_symbol: &str) -> Box<[u8]> {
    let mut key = Vec::with_capacity(venue.len() + venue_symbol.len() + 3);
    bytes(venue.as_bytes(), &mut key);
    key.push(market as u8);
    bytes(venue_symbol.as_bytes(), &mut key);
    key.into()
}

/// The byte of an event's type.
fn tag(body: &Body) -> u8 {
    match body {
        Body::Ticker(_) => 1,
        Body::Quote(_) => 2,
        Body::Mark(_) => 3,
        Body::Funding(_) => 4,
        Body::FundingSettled(_) => 5,
        Body::OpenInterest(_) => 6,
        Body::Trade(_) => 7,
        Body::Liquidation(_) => 8,
        Body::Book(_) => 9,
        Body::Candle(_) => 10,
        Body::Instrument(_) => 11,
        Body::Gap(_) => 12,
        Body::Refill(_) => 13,
        Body::DecodeError(_) => 14,
    }
}

/// Numbers of the fields that every type has; a type's own begin at [`OWN`].
const RECEIVED: u8 = 1;
const TIME: u8 = 2;
const ORDINAL: u8 = 3;
const OWN: u8 = 4;

/// Writes numbered fields.
struct Fields<'a> {
    out: &'a mut Vec<u8>,
    next: u8,
}

impl Fields<'_> {
    #[inline]
    fn number(&mut self) -> u8 {
        self.next += 1;
        self.next - 1
    }

    #[inline]
    fn decimal(&mut self, value: Option<&Decimal>) {
        let number = self.number();
        if let Some(value) = value {
            self.out.push(number);
            value.write_canonical(self.out);
        }
    }

    #[inline]
    fn signed(&mut self, value: Option<i64>) {
        let number = self.number();
        if let Some(value) = value {
            self.out.push(number);
            #[expect(clippy::cast_sign_loss, reason = "zigzag")]
            varint((value << 1 ^ value >> 63) as u64, self.out);
        }
    }

    fn time(&mut self, value: Option<Time>) {
        self.signed(value.map(Time::micros));
    }

    #[inline]
    fn ident(&mut self, value: Option<&Ident>) {
        let number = self.number();
        let Some(value) = value else { return };
        self.out.push(number);
        match value {
            Ident::Number(n) => {
                self.out.push(1);
                varint(*n, self.out);
            }
            Ident::Uuid(uuid) => {
                self.out.push(2);
                self.out.extend_from_slice(uuid);
            }
            Ident::Text(text) => {
                self.out.push(3);
                bytes(text.as_bytes(), self.out);
            }
        }
    }

    fn text(&mut self, value: Option<&str>) {
        let number = self.number();
        if let Some(value) = value {
            self.out.push(number);
            bytes(value.as_bytes(), self.out);
        }
    }

    fn byte(&mut self, value: Option<u8>) {
        let number = self.number();
        if let Some(value) = value {
            self.out.extend_from_slice(&[number, value]);
        }
    }

    #[inline]
    fn side(&mut self, value: Option<Side>) {
        self.byte(value.map(|side| side as u8));
    }

    #[inline]
    fn levels(&mut self, levels: &[Level]) {
        let number = self.number();
        self.out.push(number);
        varint(levels.len() as u64, self.out);
        for level in levels {
            level.price.write_canonical(self.out);
            level.size.write_canonical(self.out);
        }
    }
}

/// Appends the fields of a body that its message gave. `fold` and dedup compare bodies by these bytes, too.
#[inline]
pub(crate) fn write_body(body: &Body, out: &mut Vec<u8>) {
    let mut f = Fields { out, next: OWN };
    match body {
        Body::Ticker(t) => {
            for value in [
                &t.last,
                &t.last_size,
                &t.bid,
                &t.bid_size,
                &t.ask,
                &t.ask_size,
                &t.open_24h,
                &t.high_24h,
                &t.low_24h,
                &t.volume_24h,
                &t.turnover_24h,
                &t.change_24h,
            ] {
                f.decimal(value.as_ref());
            }
        }
        Body::Quote(q) => {
            for value in [&q.bid, &q.bid_size, &q.ask, &q.ask_size] {
                f.decimal(value.as_ref());
            }
            f.ident(q.seq.as_ref());
        }
        Body::Mark(m) => {
            for value in [&m.mark, &m.index, &m.basis] {
                f.decimal(value.as_ref());
            }
        }
        Body::Funding(v) => {
            f.decimal(v.rate.as_ref());
            f.time(v.next_time);
            f.signed(v.interval_hours.map(i64::from));
            for value in [&v.predicted_rate, &v.cap, &v.floor] {
                f.decimal(value.as_ref());
            }
        }
        Body::FundingSettled(v) => {
            f.decimal(Some(&v.rate));
            f.time(Some(v.time));
            f.decimal(v.mark.as_ref());
        }
        Body::OpenInterest(v) => {
            f.decimal(v.value.as_ref());
            f.decimal(v.value_quote.as_ref());
        }
        Body::Trade(t) => {
            f.ident(t.trade_id.as_ref());
            f.decimal(Some(&t.price));
            f.decimal(Some(&t.size));
            f.side(t.side);
        }
        Body::Liquidation(l) => {
            f.ident(l.trade_id.as_ref());
            f.decimal(Some(&l.price));
            f.decimal(Some(&l.size));
            f.side(l.side);
        }
        Body::Book(b) => {
            f.byte(Some(u8::from(b.kind == BookKind::Delta)));
            f.ident(b.seq.as_ref());
            f.ident(b.prev_seq.as_ref());
            f.ident(b.checksum.as_ref());
            f.levels(&b.bids);
            f.levels(&b.asks);
        }
        Body::Candle(c) => {
            f.text(Some(&c.interval.to_string()));
            f.time(Some(c.open_time));
            for value in [&c.open, &c.high, &c.low, &c.close, &c.volume] {
                f.decimal(Some(value));
            }
            f.decimal(c.turnover.as_ref());
            f.signed(c.trades.and_then(|n| i64::try_from(n).ok()));
            f.byte(Some(u8::from(c.closed)));
        }
        Body::Instrument(d) => {
            f.text(Some(d.kind.as_str()));
            f.text(Some(&d.base));
            f.text(Some(&d.quote));
            f.text(d.settle.as_deref());
            for value in [&d.contract_size, &d.tick_size, &d.lot_size, &d.min_size] {
                f.decimal(value.as_ref());
            }
            f.time(d.expiry);
            f.text(Some(d.status.as_str()));
            f.signed(d.funding_interval_hours.map(i64::from));
        }
        Body::Gap(g) => {
            f.text(Some(&g.channel.to_string()));
            f.text(Some(g.reason.as_str()));
            f.ident(g.from.as_ref());
            f.ident(g.to.as_ref());
        }
        Body::Refill(r) => {
            f.text(Some(&r.gap.to_string()));
            f.text(Some(&r.channel.to_string()));
            f.ident(r.from.as_ref());
            f.ident(r.to.as_ref());
            f.signed(i64::try_from(r.count).ok());
            f.byte(Some(u8::from(r.complete)));
        }
        Body::DecodeError(e) => {
            f.text(Some(&e.reason));
            f.text(Some(&e.excerpt));
        }
    }
}

/// Appends the canonical bytes of an event, padded to whole blocks.
#[inline]
pub fn write(event: &Event, out: &mut Vec<u8>) {
    let start = out.len();
    out.push(tag(&event.body));
    out.extend_from_slice(&event.instrument.canonical);
    let has_seq = matches!(&event.body, Body::Quote(quote) if quote.seq.is_some());
    let covers_received = event.time.is_none() && !has_seq && (event.body.is_state() || matches!(event.body, Body::Gap(_) | Body::DecodeError(_)));
    let mut common = Fields { out, next: RECEIVED };
    common.time(covers_received.then_some(event.received));
    debug_assert_eq!(common.next, TIME);
    common.time(event.time);
    debug_assert_eq!(common.next, ORDINAL);
    common.signed((event.ordinal > 0).then_some(i64::from(event.ordinal)));
    write_body(&event.body, out);
    let padded = (out.len() - start + 1).next_multiple_of(BLOCK);
    out.resize(start + padded, 0);
}

/// The id of an event.
pub fn id(event: &Event) -> EventId {
    let mut canonical = Vec::with_capacity(4 * BLOCK);
    write(event, &mut canonical);
    id_of(&canonical)
}

/// The id of canonical bytes.
#[inline]
pub fn id_of(canonical: &[u8]) -> EventId {
    let mut id = [0; 16];
    id.copy_from_slice(&blake3::hash(canonical).as_bytes()[..16]);
    EventId(id)
}
