//! What Binance's bytes mean: which function reads which kind of record, then those functions for what is pushed.
//! (`frame.rs` tells the kinds, `reply.rs` does the same for REST.)

use std::sync::Arc;

use exchange_core::decimal::Decimal;
use exchange_core::error::DecodeError;
use exchange_core::event::{Body, Book, BookKind, Candle, Funding, Ident, Level, Liquidation, Mark, OpenInterest, Quote, Side, Ticker, Trade};
use exchange_core::exchange::{Control, Input, Out, Source};
use exchange_core::instrument::{Details, Instrument, Market};
use exchange_core::time::Time;
use exchange_core::wire::{Ignored, Num};

use super::frame::{Frame, Route, answer};
use super::reply::{expiry, reply, status};
use super::wire;

pub(super) type Result<T = ()> = std::result::Result<T, DecodeError>;

/// Decodes one frame or one answer.
pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    match input.source {
        Source::Ws { url } => push(input, url, out),
        Source::Http { endpoint, .. } => reply(input, &endpoint.name, out),
    }
}

fn push(input: &Input<'_>, url: &str, out: &mut Out<'_>) -> Result {
    let Some(frame) = Frame::open(input, url)? else { return answer(input, out) };
    match frame.route {
        Route::AggTrade => frame.each(input, out, agg_trade),
        Route::Trade => frame.each(input, out, trade),
        Route::Depth => frame.each(input, out, |input, out, depth| book(input, out, depth, BookKind::Delta)),
        Route::BestLevels if input.market == Market::Spot => spot_best_levels(frame, input, out),
        Route::BestLevels => frame.each(input, out, |input, out, depth| book(input, out, depth, BookKind::Snapshot)),
        Route::Quote => frame.each(input, out, quote),
        Route::Ticker => frame.each(input, out, ticker),
        Route::Mark => frame.each(input, out, mark),
        Route::Index => frame.each(input, out, index),
        Route::Candle => frame.each(input, out, candle),
        Route::Liquidation => frame.each(input, out, liquidation),
        Route::Contract => frame.each(input, out, |input, out, push| contract(input, out, &push)),
        Route::OptionMark => frame.each(input, out, option_mark),
        Route::OptionOpenInterest => frame.each(input, out, option_open_interest),
        Route::Uncollected => frame.each(input, out, |_, _, _: Ignored| ()),
        Route::Closing => frame.each(input, out, |_, out, _: Ignored| out.control(Control::Closing)),
    }
}

/// The instrument that a futures record names. What the venue lists decides; then `st` (1 is USD-M, 2 is COIN-M), which
/// the documents' own samples have wrong here and there; and the connection only where nothing else tells.
#[inline]
fn place(input: &Input<'_>, out: &mut Out<'_>, name: &str, st: Option<u64>) -> Arc<Instrument> {
    let here = out.instrument(input.market, name);
    if here.details.is_some() || matches!(input.market, Market::Spot | Market::Option) {
        return here;
    }
    let other = if input.market == Market::Linear { Market::Inverse } else { Market::Linear };
    let there = out.instrument(other, name);
    if there.details.is_some() {
        return there;
    }
    let market = match st {
        // No names of other markets end like these.
        _ if name.ends_with("_PERP") => Market::Inverse,
        _ if name.ends_with("-C") || name.ends_with("-P") => Market::Option,
        Some(1) => Market::Linear,
        Some(2) => Market::Inverse,
        _ => return here,
    };
    out.instrument(market, name)
}

/// The taker sold where the buyer was the maker.
pub(super) fn taker(buyer_is_maker: Option<bool>) -> Option<Side> {
    buyer_is_maker.map(|maker| if maker { Side::Sell } else { Side::Buy })
}

/// Price and size of a side of the book; an empty side is sent as zero.
#[inline]
pub(super) fn best(price: Num, size: Num) -> (Option<Decimal>, Option<Decimal>) {
    let price = price.positive();
    let size = if price.is_some() { size.0 } else { None };
    (price, size)
}

fn agg_trade(input: &Input<'_>, out: &mut Out<'_>, t: wire::AggTrade<'_>) {
    let instrument = place(input, out, &t.s, t.st);
    let body = Trade { trade_id: t.a, price: t.p, size: t.q, size_base: None, side: taker(t.m) };
    out.emit(&instrument, t.T.0.or(t.E.0), Body::Trade(body));
}

fn trade(input: &Input<'_>, out: &mut Out<'_>, t: wire::Trade<'_>) {
    // Booked by the venue, not traded in the book.
    if matches!(t.X.as_deref(), Some("INSURANCE_FUND" | "ADL" | "NA")) {
        return;
    }
    let instrument = place(input, out, &t.s, t.st);
    let body = Trade { trade_id: t.t, price: t.p, size: t.q, size_base: None, side: taker(t.m) };
    out.emit(&instrument, t.T.0.or(t.E.0), Body::Trade(body));
}

fn quote(input: &Input<'_>, out: &mut Out<'_>, t: wire::BookTicker<'_>) {
    let instrument = place(input, out, &t.s, t.st);
    let ((bid, bid_size), (ask, ask_size)) = (best(t.b, t.B), best(t.a, t.A));
    out.emit(&instrument, t.E.0.or(t.T.0), Body::Quote(Quote { bid, bid_size, ask, ask_size, seq: t.u }));
}

fn ticker(input: &Input<'_>, out: &mut Out<'_>, t: wire::Ticker<'_>) {
    let instrument = place(input, out, &t.s, t.st);
    let ((bid, bid_size), (ask, ask_size)) = (best(t.b, t.B), best(t.a, t.A));
    let body = Ticker {
        last: t.c.0,
        last_size: t.Q.0,
        bid,
        bid_size,
        ask,
        ask_size,
        open_24h: t.o.0,
        high_24h: t.h.0,
        low_24h: t.l.0,
        volume_24h: t.v.0,
        turnover_24h: turnover(&instrument, t.q),
        change_24h: t.P.0.map(|percent| percent.shifted(2)),
    };
    out.emit(&instrument, t.E.0, Body::Ticker(body));
}

/// What was traded in quote currency: at COIN-M, that place holds base currency.
#[inline]
pub(super) fn turnover(instrument: &Instrument, value: Num) -> Option<Decimal> {
    if instrument.market == Market::Inverse { None } else { value.0 }
}

fn mark(input: &Input<'_>, out: &mut Out<'_>, m: wire::MarkPrice<'_>) {
    let instrument = place(input, out, &m.s, m.st);
    mark_and_funding(out, &instrument, m.E.0, (m.p, m.i), (m.r, m.T.0));
}

/// A dated future exchanges no funding: its rate is empty, or its next time is 0.
#[inline]
pub(super) fn mark_and_funding(out: &mut Out<'_>, instrument: &Arc<Instrument>, time: Option<Time>, (mark, index): (Num, Num), funding: (Num, Option<Time>)) {
    out.emit(instrument, time, Body::Mark(Mark { mark: mark.0, index: index.0, basis: None }));
    if let (Num(Some(rate)), Some(next_time)) = funding {
        out.emit(instrument, time, Body::Funding(Funding { rate: Some(rate), next_time: Some(next_time), ..Funding::default() }));
    }
}

fn index(input: &Input<'_>, out: &mut Out<'_>, i: wire::IndexPrice<'_>) {
    // Only COIN-M and options push indices; the name is a pair, which at USD-M would be an instrument's.
    let market = if input.market == Market::Option { Market::Option } else { Market::Inverse };
    let instrument = out.instrument(market, i.s.or(i.i).as_deref().unwrap_or_default());
    out.emit(&instrument, i.E.0, Body::Mark(Mark { index: i.p.0, ..Mark::default() }));
}

fn candle(input: &Input<'_>, out: &mut Out<'_>, c: wire::Candle<'_>) {
    let instrument = place(input, out, &c.s, c.st);
    let k = c.k;
    let body = Candle {
        interval: k.i.0,
        open_time: k.t.0,
        open: k.o,
        high: k.h,
        low: k.l,
        close: k.c,
        volume: k.v,
        turnover: turnover(&instrument, k.q),
        trades: k.n,
        closed: k.x,
    };
    out.emit(&instrument, c.E.0, Body::Candle(body));
}

fn liquidation(input: &Input<'_>, out: &mut Out<'_>, order: wire::ForceOrder<'_>) {
    let o = order.o;
    let instrument = place(input, out, &o.s, order.st);
    let side = match &*o.S {
        "BUY" => Some(Side::Buy),
        "SELL" => Some(Side::Sell),
        _ => None,
    };
    // `p` is the limit, at the bankruptcy price; what was paid is the average. `q` is what was ordered, `z` what was filled.
    let body = Liquidation { price: o.ap.positive().unwrap_or(o.p), size: o.z.positive().unwrap_or(o.q), size_base: None, side, trade_id: None };
    out.emit(&instrument, o.T.0.or(order.E.0), Body::Liquidation(body));
}

fn book(input: &Input<'_>, out: &mut Out<'_>, d: wire::Depth<'_>, kind: BookKind) {
    let instrument = place(input, out, &d.s, d.st);
    // Spot does not say what it follows: its updates are numbered without a hole.
    let prev_seq = if input.market == Market::Spot { d.U.and_then(|first| first.checked_sub(1)) } else { d.pu };
    out.emit(&instrument, d.T.0.or(d.E.0), levels(kind, d.b.0, d.a.0, d.u, prev_seq));
}

pub(super) fn levels(kind: BookKind, bids: Vec<Level>, asks: Vec<Level>, seq: u64, prev_seq: Option<u64>) -> Body {
    Body::Book(Book { kind, bids, asks, seq: Some(seq.into()), prev_seq: prev_seq.map(Ident::from), checksum: None })
}

/// Spot's best levels do not name their instrument: the stream does.
fn spot_best_levels(mut frame: Frame<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let stream = frame.stream.take().unwrap_or_default();
    let name = stream.split('@').next().unwrap_or_default().to_uppercase();
    if name.is_empty() {
        return Err(DecodeError::malformed("a book whose instrument neither the frame nor the address names"));
    }
    frame.each(input, out, |input, out, d: wire::RestDepth<'_>| {
        let instrument = out.instrument(input.market, &name);
        out.emit(&instrument, d.T.0.or(d.E.0), levels(BookKind::Snapshot, d.bids.0, d.asks.0, d.lastUpdateId, None));
    })
}

/// What became of a contract. The push leaves out what an instrument is made of, so one that `exchangeInfo` has not
/// described yet has to wait for that.
fn contract(input: &Input<'_>, out: &mut Out<'_>, c: &wire::ContractInfo<'_>) {
    let instrument = place(input, out, &c.s, c.st);
    if let Some(known) = instrument.details.as_deref() {
        let expiry = if c.dt.0.is_some() { expiry(c.dt.0) } else { known.expiry };
        let details = Details { status: status(&c.cs), expiry, ..known.clone() };
        out.describe(instrument.market, &c.s, c.E.0, details);
    }
}

fn option_mark(_: &Input<'_>, out: &mut Out<'_>, m: wire::OptionMark<'_>) {
    let instrument = out.instrument(Market::Option, &m.s);
    out.emit(&instrument, m.E.0, Body::Mark(Mark { mark: m.mp.0, index: m.i.0, basis: None }));
}

fn option_open_interest(_: &Input<'_>, out: &mut Out<'_>, o: wire::OptionOpenInterest<'_>) {
    let instrument = out.instrument(Market::Option, &o.s);
    out.emit(&instrument, o.E.0, Body::OpenInterest(OpenInterest { value: o.o.0, value_base: None, value_quote: o.h.0 }));
}

#[cfg(test)]
mod tests {
    use exchange_core::instrument::Status;
    use exchange_core::{Event, Feed, Turn, Venue};

    use super::*;
    use crate::binance::Binance;
    use crate::testing;

    const NOW: Time = Time::from_millis(1_784_894_400_000);
    const EXCHANGE_INFO: &str = r#"{"symbols":[{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,
        "status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","filters":[]}]}"#;
    const FUNDING_INFO: &str = r#"[{"symbol":"BTCUSDT","adjustedFundingRateCap":"0.02","adjustedFundingRateFloor":"-0.02","fundingIntervalHours":4}]"#;

    fn venue() -> Venue {
        testing::venue(&Binance)
    }

    /// What a USD-M answer gives.
    fn get(venue: &Venue, path: &str, payload: &str) -> Vec<Event> {
        let url = format!("http://proxy/of/fapi{path}");
        testing::answer(&mut Feed::new(venue.clone(), Market::Linear), NOW, &url, None, payload).events
    }

    fn frame(venue: &Venue, market: Market, url: &str, payload: &str) -> Turn {
        testing::frame(&mut Feed::new(venue.clone(), market), NOW, url, payload)
    }

    #[test]
    fn the_symbol_table_decides_the_market_before_st() {
        let venue = venue();
        get(&venue, "/fapi/v1/exchangeInfo", EXCHANGE_INFO);
        let market = |name: &str, st: &str| {
            let payload = format!(r#"{{"stream":"!miniTicker@arr","data":[{{"e":"24hrMiniTicker","E":1,"s":"{name}","c":"1"{st}}}]}}"#);
            frame(&venue, Market::Inverse, "ws://x/stream", &payload).events[0].instrument.market
        };
        assert_eq!(market("BTCUSDT", r#","st":2"#), Market::Linear, "listed");
        assert_eq!(market("ETHUSDT", r#","st":1"#), Market::Linear, "not listed");
        assert_eq!(market("ETHUSD_261225", r#","st":2"#), Market::Inverse);
        assert_eq!(market("ETHUSD_PERP", r#","st":1"#), Market::Inverse, "the documents' samples have this");
        assert_eq!(market("ETHUSD_261225", ""), Market::Inverse, "nothing tells but the connection");
    }

    #[test]
    fn a_new_funding_interval_changes_the_instrument() {
        let venue = venue();
        get(&venue, "/fapi/v1/exchangeInfo", EXCHANGE_INFO);
        let events = get(&venue, "/fapi/v1/fundingInfo", FUNDING_INFO);
        assert!(matches!(&events[..], [Event { body: Body::Funding(_), .. }, Event { body: Body::Instrument(d), .. }] if d.funding_interval_hours == Some(4)));
        assert_eq!(get(&venue, "/fapi/v1/fundingInfo", FUNDING_INFO).len(), 1, "it is known now");
    }

    #[test]
    fn a_contracts_push_changes_its_status_and_keeps_the_rest() {
        let venue = venue();
        let push = r#"{"e":"contractInfo","E":5,"s":"BTCUSDT","ct":"PERPETUAL","cs":"SETTLING","st":1}"#;
        assert!(frame(&venue, Market::Linear, "ws://x/market/ws", push).events.is_empty(), "nothing is known of it yet");
        get(&venue, "/fapi/v1/exchangeInfo", EXCHANGE_INFO);
        let turn = frame(&venue, Market::Linear, "ws://x/market/ws", push);
        let Body::Instrument(details) = &turn.events[0].body else { panic!("{:?}", turn.events) };
        assert_eq!((details.status, &*details.base, details.symbol().as_deref()), (Status::Delisted, "BTC", Some("BTC/USDT:USDT")));
    }

    #[test]
    fn the_list_of_instruments_says_what_may_be_asked() {
        let said = |market, path: &str, limits: &str| {
            let url = format!("http://proxy/of{path}");
            let payload = format!(r#"{{"timezone":"UTC","rateLimits":{limits},"symbols":[]}}"#);
            let turn = testing::answer(&mut testing::feed(&Binance, market), Time::EPOCH, &url, None, &payload);
            let allowances: Vec<_> = turn.allowances.into_iter().map(|said| (said.limit, said.budget, said.window.as_secs())).collect();
            (allowances, turn.events.len())
        };
        // As the documents have it. <https://developers.binance.com/docs/binance-spot-api-docs/rest-api/limits>
        let spot = r#"[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":6000},
            {"rateLimitType":"ORDERS","interval":"SECOND","intervalNum":10,"limit":100},
            {"rateLimitType":"RAW_REQUESTS","interval":"MINUTE","intervalNum":5,"limit":61000}]"#;
        assert_eq!(said(Market::Spot, "/api/v3/exchangeInfo", spot), (vec![("spot".into(), 6000, 60)], 0));
        let two = r#"[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":5,"limit":9000},
            {"rateLimitType":"REQUEST_WEIGHT","interval":"SECOND","intervalNum":10,"limit":200},
            {"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":2400}]"#;
        assert_eq!(said(Market::Linear, "/fapi/v1/exchangeInfo", two), (vec![("linear".into(), 200, 10)], 0), "the tightest");
        for nothing in ["[]", "null", r#"[{"rateLimitType":"REQUEST_WEIGHT","interval":"MOON","intervalNum":1,"limit":5}]"#] {
            assert_eq!(said(Market::Inverse, "/dapi/v1/exchangeInfo", nothing), (vec![], 0), "{nothing}");
        }
        let zero = r#"[{"rateLimitType":"REQUEST_WEIGHT","interval":"DAY","intervalNum":0,"limit":5},
            {"rateLimitType":"REQUEST_WEIGHT","interval":"DAY","intervalNum":1,"limit":0}]"#;
        assert_eq!(said(Market::Inverse, "/dapi/v1/exchangeInfo", zero), (vec![], 0), "what says nothing");
        let bad = r#"[{"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":-5},
            {"rateLimitType":"REQUEST_WEIGHT","interval":"MINUTE","intervalNum":1,"limit":99999999999}]"#;
        assert_eq!(said(Market::Inverse, "/dapi/v1/exchangeInfo", bad), (vec![("inverse".into(), u32::MAX, 60)], 1), "a bad row costs itself");
    }

    #[test]
    fn what_concerns_the_connection_is_no_event() {
        let venue = venue();
        let controls = |payload: &str| frame(&venue, Market::Spot, "ws://x/ws/btcusdt@depth5", payload).controls;
        assert_eq!(controls(r#"{"result":null,"id":7}"#), [Control::Ack { id: Some(7) }]);
        for refusal in [r#"{"code":2,"msg":"no","id":8}"#, r#"{"id":8,"error":{"code":2,"msg":"no"}}"#] {
            assert_eq!(controls(refusal), [Control::Rejected { id: Some(8), topic: None, reason: "code 2: no".into() }]);
        }
        assert_eq!(controls(r#"{"stream":"!serverShutdown","data":{"e":"serverShutdown","E":1}}"#), [Control::Closing]);
    }

    #[test]
    fn best_levels_replace_the_book() {
        let venue = venue();
        let depth = r#"{"e":"depthUpdate","E":2,"T":1,"s":"BTCUSDT","U":5,"u":9,"pu":4,"b":[],"a":[["1","2"]]}"#;
        let kind = |url: &str, payload: &str| match &frame(&venue, Market::Linear, url, payload).events[0].body {
            Body::Book(book) => book.kind,
            other => panic!("{other:?}"),
        };
        assert_eq!(kind("ws://x/public/ws", depth), BookKind::Delta);
        assert_eq!(kind("ws://x/public/ws/btcusdt@depth5@100ms?timeUnit=MICROSECOND", depth), BookKind::Snapshot);
        assert_eq!(kind("ws://x/public/stream", &format!(r#"{{"stream":"btcusdt@depth20","data":{depth}}}"#)), BookKind::Snapshot);
        assert_eq!(kind("ws://x/public/stream", &format!(r#"{{"data":{depth},"stream":"btcusdt@depth"}}"#)), BookKind::Delta);
    }
}
