//! An event's own fields, by the names of the data contract, for sinks that keep them apart.

use std::borrow::Cow;

use exchange_core::event::{BookKind, Ident, Level, Side};
use exchange_core::{Body, Decimal, Time};

/// A field's value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value<'a> {
    Decimal(&'a Decimal),
    Time(Time),
    Whole(u64),
    Flag(bool),
    Text(Cow<'a, str>),
    /// Prices and sizes of one side of a book.
    Levels(&'a [Level]),
}

/// Shows every field that events of this type can have, those that this one has not as `None`, always in the same order.
pub(crate) fn each<'a>(body: &'a Body, mut show: impl FnMut(&'static str, Option<Value<'a>>)) {
    match body {
        Body::Ticker(t) => {
            show("last", decimal(t.last.as_ref()));
            show("last_size", decimal(t.last_size.as_ref()));
            show("bid", decimal(t.bid.as_ref()));
            show("bid_size", decimal(t.bid_size.as_ref()));
            show("ask", decimal(t.ask.as_ref()));
            show("ask_size", decimal(t.ask_size.as_ref()));
            show("open_24h", decimal(t.open_24h.as_ref()));
            show("high_24h", decimal(t.high_24h.as_ref()));
            show("low_24h", decimal(t.low_24h.as_ref()));
            show("volume_24h", decimal(t.volume_24h.as_ref()));
            show("turnover_24h", decimal(t.turnover_24h.as_ref()));
            show("change_24h", decimal(t.change_24h.as_ref()));
        }
        Body::Quote(q) => {
            show("bid", decimal(q.bid.as_ref()));
            show("bid_size", decimal(q.bid_size.as_ref()));
            show("ask", decimal(q.ask.as_ref()));
            show("ask_size", decimal(q.ask_size.as_ref()));
            show("seq", ident(q.seq.as_ref()));
        }
        Body::Mark(m) => {
            show("mark", decimal(m.mark.as_ref()));
            show("index", decimal(m.index.as_ref()));
            show("basis", decimal(m.basis.as_ref()));
        }
        Body::Funding(f) => {
            show("rate", decimal(f.rate.as_ref()));
            show("next_time", f.next_time.map(Value::Time));
            show("interval_hours", f.interval_hours.map(|hours| Value::Whole(hours.into())));
            show("predicted_rate", decimal(f.predicted_rate.as_ref()));
            show("cap", decimal(f.cap.as_ref()));
            show("floor", decimal(f.floor.as_ref()));
        }
        Body::FundingSettled(f) => {
            show("rate", decimal(Some(&f.rate)));
            show("time", Some(Value::Time(f.time)));
            show("mark", decimal(f.mark.as_ref()));
        }
        Body::OpenInterest(v) => {
            show("value", decimal(v.value.as_ref()));
            show("value_base", decimal(v.value_base.as_ref()));
            show("value_quote", decimal(v.value_quote.as_ref()));
        }
        Body::Trade(t) => {
            show("trade_id", ident(t.trade_id.as_ref()));
            show("price", decimal(Some(&t.price)));
            show("size", decimal(Some(&t.size)));
            show("size_base", decimal(t.size_base.as_ref()));
            show("side", side(t.side));
        }
        Body::Liquidation(l) => {
            show("price", decimal(Some(&l.price)));
            show("size", decimal(Some(&l.size)));
            show("size_base", decimal(l.size_base.as_ref()));
            show("side", side(l.side));
            show("trade_id", ident(l.trade_id.as_ref()));
        }
        Body::Book(b) => {
            show("kind", Some(text(if b.kind == BookKind::Snapshot { "snapshot" } else { "delta" })));
            show("bids", Some(Value::Levels(&b.bids)));
            show("asks", Some(Value::Levels(&b.asks)));
            show("seq", ident(b.seq.as_ref()));
            show("prev_seq", ident(b.prev_seq.as_ref()));
            show("checksum", ident(b.checksum.as_ref()));
        }
        Body::Candle(c) => {
            show("interval", Some(shown(c.interval)));
            show("open_time", Some(Value::Time(c.open_time)));
            show("open", decimal(Some(&c.open)));
            show("high", decimal(Some(&c.high)));
            show("low", decimal(Some(&c.low)));
            show("close", decimal(Some(&c.close)));
            show("volume", decimal(Some(&c.volume)));
            show("turnover", decimal(c.turnover.as_ref()));
            show("trades", c.trades.map(Value::Whole));
            show("closed", Some(Value::Flag(c.closed)));
        }
        Body::Instrument(d) => {
            show("kind", Some(text(d.kind.as_str())));
            show("base", Some(text(&d.base)));
            show("quote", Some(text(&d.quote)));
            show("settle", d.settle.as_deref().map(text));
            show("contract_size", decimal(d.contract_size.as_ref()));
            show("tick_size", decimal(d.tick_size.as_ref()));
            show("lot_size", decimal(d.lot_size.as_ref()));
            show("min_size", decimal(d.min_size.as_ref()));
            show("expiry", d.expiry.map(Value::Time));
            show("status", Some(text(d.status.as_str())));
            show("funding_interval_hours", d.funding_interval_hours.map(|hours| Value::Whole(hours.into())));
        }
        Body::Gap(g) => {
            show("channel", Some(shown(g.channel)));
            show("reason", Some(text(g.reason.as_str())));
            show("from", ident(g.from.as_ref()));
            show("to", ident(g.to.as_ref()));
        }
        Body::Refill(r) => {
            show("gap", Some(shown(r.gap)));
            show("channel", Some(shown(r.channel)));
            show("from", ident(r.from.as_ref()));
            show("to", ident(r.to.as_ref()));
            show("count", Some(Value::Whole(r.count)));
            show("complete", Some(Value::Flag(r.complete)));
        }
        Body::DecodeError(e) => {
            show("reason", Some(text(&e.reason)));
            show("excerpt", Some(text(&e.excerpt)));
        }
        // A type that the contract gained since.
        _ => {}
    }
}

fn decimal(value: Option<&Decimal>) -> Option<Value<'_>> {
    value.map(Value::Decimal)
}

fn text(value: &str) -> Value<'_> {
    Value::Text(value.into())
}

fn shown<'a>(value: impl std::fmt::Display) -> Value<'a> {
    Value::Text(value.to_string().into())
}

fn ident(value: Option<&Ident>) -> Option<Value<'_>> {
    value.map(|value| match value {
        Ident::Text(value) => text(value),
        value => shown(value),
    })
}

fn side<'a>(side: Option<Side>) -> Option<Value<'a>> {
    side.map(|side| text(side.as_str()))
}
