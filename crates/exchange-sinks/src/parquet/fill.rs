//! Events to rows: each body's fields in the order of its [table](super::table).

use exchange_core::event::{BookKind, Origin, Side};
use exchange_core::{Body, Event};

use super::rows::{Row, Rows};

/// Adds an event to the rows of its table. Gives the columns in which a value did not fit, of which there is hardly ever one.
pub(super) fn add(event: &Event, rows: &mut Rows) -> Vec<&'static str> {
    let mut row = rows.row();
    let instrument = &*event.instrument;
    row.time(Some(event.received));
    row.time(event.time);
    row.word(Some(instrument.market.as_str()));
    row.word(Some(&*instrument.venue_symbol).filter(|name| !name.is_empty()));
    row.word(instrument.symbol.as_deref());
    row.word(event.origin.map(|origin| match origin {
        Origin::Refill => "refill",
        Origin::Backfill => "backfill",
    }));
    row.hash(&event.id.0);
    body(&event.body, &mut row);
    row.end()
}

fn body(body: &Body, row: &mut Row<'_>) {
    match body {
        Body::Ticker(t) => {
            row.decimal(t.last.as_ref());
            row.decimal(t.last_size.as_ref());
            row.decimal(t.bid.as_ref());
            row.decimal(t.bid_size.as_ref());
            row.decimal(t.ask.as_ref());
            row.decimal(t.ask_size.as_ref());
            row.decimal(t.open_24h.as_ref());
            row.decimal(t.high_24h.as_ref());
            row.decimal(t.low_24h.as_ref());
            row.decimal(t.volume_24h.as_ref());
            row.decimal(t.turnover_24h.as_ref());
            row.decimal(t.change_24h.as_ref());
        }
        Body::Quote(q) => {
            row.decimal(q.bid.as_ref());
            row.decimal(q.bid_size.as_ref());
            row.decimal(q.ask.as_ref());
            row.decimal(q.ask_size.as_ref());
            row.ident(q.seq.as_ref());
        }
        Body::Mark(m) => {
            row.decimal(m.mark.as_ref());
            row.decimal(m.index.as_ref());
            row.decimal(m.basis.as_ref());
        }
        Body::Funding(f) => {
            row.decimal(f.rate.as_ref());
            row.time(f.next_time);
            row.small(f.interval_hours);
            row.decimal(f.predicted_rate.as_ref());
            row.decimal(f.cap.as_ref());
            row.decimal(f.floor.as_ref());
        }
        Body::FundingSettled(f) => {
            row.decimal(Some(&f.rate));
            row.time(Some(f.time));
            row.decimal(f.mark.as_ref());
        }
        Body::OpenInterest(v) => {
            row.decimal(v.value.as_ref());
            row.decimal(v.value_base.as_ref());
            row.decimal(v.value_quote.as_ref());
        }
        Body::Trade(t) => {
            row.ident(t.trade_id.as_ref());
            row.decimal(Some(&t.price));
            row.decimal(Some(&t.size));
            row.decimal(t.size_base.as_ref());
            row.word(t.side.map(Side::as_str));
        }
        Body::Liquidation(l) => {
            row.decimal(Some(&l.price));
            row.decimal(Some(&l.size));
            row.decimal(l.size_base.as_ref());
            row.word(l.side.map(Side::as_str));
            row.ident(l.trade_id.as_ref());
        }
        Body::Book(b) => {
            row.word(Some(if b.kind == BookKind::Snapshot { "snapshot" } else { "delta" }));
            row.levels(&b.bids);
            row.levels(&b.asks);
            row.ident(b.seq.as_ref());
            row.ident(b.prev_seq.as_ref());
            row.ident(b.checksum.as_ref());
        }
        Body::Candle(c) => {
            row.word(Some(&c.interval.to_string()));
            row.time(Some(c.open_time));
            row.decimal(Some(&c.open));
            row.decimal(Some(&c.high));
            row.decimal(Some(&c.low));
            row.decimal(Some(&c.close));
            row.decimal(Some(&c.volume));
            row.decimal(c.turnover.as_ref());
            row.whole(c.trades);
            row.flag(c.closed);
        }
        Body::Instrument(d) => {
            row.word(Some(d.kind.as_str()));
            row.word(Some(&d.base));
            row.word(Some(&d.quote));
            row.word(d.settle.as_deref());
            row.decimal(d.contract_size.as_ref());
            row.decimal(d.tick_size.as_ref());
            row.decimal(d.lot_size.as_ref());
            row.decimal(d.min_size.as_ref());
            row.time(d.expiry);
            row.word(Some(d.status.as_str()));
            row.small(d.funding_interval_hours);
        }
        Body::Gap(g) => {
            row.word(Some(&g.channel.to_string()));
            row.word(Some(g.reason.as_str()));
            row.ident(g.from.as_ref());
            row.ident(g.to.as_ref());
        }
        Body::Refill(r) => {
            row.hash(&r.gap.0);
            row.word(Some(&r.channel.to_string()));
            row.ident(r.from.as_ref());
            row.ident(r.to.as_ref());
            row.whole(Some(r.count));
            row.flag(r.complete);
        }
        Body::DecodeError(e) => {
            row.text(&e.reason);
            row.text(&e.excerpt);
        }
        // What has no table comes to no rows.
        _ => {}
    }
}
