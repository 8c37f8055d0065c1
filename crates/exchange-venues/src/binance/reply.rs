//! What REST answers mean.

use std::sync::Arc;
use std::time::Duration;

use exchange_core::decimal::Decimal;
use exchange_core::error::DecodeError;
use exchange_core::event::{Body, BookKind, Candle, Funding, FundingSettled, OpenInterest, Quote, Ticker, Trade};
use exchange_core::exchange::{Input, Out};
use exchange_core::instrument::{Details, Instrument, Kind, Market, Status};
use exchange_core::time::{Interval, Time};
use exchange_core::wire::{Rows, Wire};

use super::decode::{Result, best, levels, mark_and_funding, taker, turnover};
use super::wire;

/// By the name of the endpoint.
pub(super) fn reply(input: &Input<'_>, endpoint: &str, out: &mut Out<'_>) -> Result {
    match endpoint {
        "ticker_24h" => rows(input, out, rest_ticker),
        "ticker_price" | "ticker_price_v1" => rows(input, out, rest_price),
        "book_ticker" => rows(input, out, rest_quote),
        "premium_index" => rows(input, out, premium_index),
        "funding_info" => rows(input, out, funding_info),
        "funding_rate" | "funding_rate_history" => rows(input, out, funding_rate),
        "open_interest" => rows(input, out, open_interest),
        "open_interest_hist" => rows(input, out, open_interest_hist),
        "exchange_info" => exchange_info(input, out),
        "depth" => rest_depth(input, out),
        "trades" | "historical_trades" => rest_trades(input, out),
        "agg_trades" => rest_agg_trades(input, out),
        "klines" => rest_candles(input, out),
        other => Err(DecodeError::malformed(format_args!("`{other}` is an endpoint that is not decoded here"))),
    }
}

/// Decodes the records of an answer, a list or a single one.
fn rows<'a, T: Wire<'a>>(input: &Input<'a>, out: &mut Out<'_>, meaning: impl Fn(&Input<'_>, &mut Out<'_>, T)) -> Result {
    let rows: Rows<'a, T> = input.reader()?.whole()?;
    for row in rows.0 {
        match row {
            Ok(record) => meaning(input, out, record),
            Err(bad) => match input.query("symbol") {
                Some(name) => out.bad(input.market, Some(&name.to_uppercase()), bad.fault, bad.text),
                None => out.bad_row(input.market, "symbol", &bad),
            },
        }
    }
    Ok(())
}

fn rest_ticker(input: &Input<'_>, out: &mut Out<'_>, t: wire::RestTicker<'_>) {
    let instrument = out.instrument(input.market, &t.symbol);
    let ((bid, bid_size), (ask, ask_size)) = (best(t.bidPrice, t.bidQty), best(t.askPrice, t.askQty));
    let body = Ticker {
        last: t.lastPrice.0,
        last_size: t.lastQty.0,
        bid,
        bid_size,
        ask,
        ask_size,
        open_24h: t.openPrice.0,
        high_24h: t.highPrice.0,
        low_24h: t.lowPrice.0,
        volume_24h: t.volume.0,
        turnover_24h: turnover(&instrument, t.quoteVolume),
        change_24h: t.priceChangePercent.0.map(|percent| percent.shifted(2)),
    };
    out.emit(&instrument, t.closeTime.0, Body::Ticker(body));
}

fn rest_price(input: &Input<'_>, out: &mut Out<'_>, t: wire::RestPrice<'_>) {
    let instrument = out.instrument(input.market, &t.symbol);
    out.emit(&instrument, t.time.0, Body::Ticker(Ticker { last: t.price.0, ..Ticker::default() }));
}

fn rest_quote(input: &Input<'_>, out: &mut Out<'_>, t: wire::RestBookTicker<'_>) {
    let instrument = out.instrument(input.market, &t.symbol);
    let ((bid, bid_size), (ask, ask_size)) = (best(t.bidPrice, t.bidQty), best(t.askPrice, t.askQty));
    out.emit(&instrument, t.time.0, Body::Quote(Quote { bid, bid_size, ask, ask_size, seq: t.lastUpdateId }));
}

fn premium_index(input: &Input<'_>, out: &mut Out<'_>, p: wire::PremiumIndex<'_>) {
    let instrument = out.instrument(input.market, &p.symbol);
    mark_and_funding(out, &instrument, p.time.0, (p.markPrice, p.indexPrice), (p.lastFundingRate, p.nextFundingTime.0));
}

fn funding_info(input: &Input<'_>, out: &mut Out<'_>, f: wire::FundingInfo<'_>) {
    let instrument = out.instrument(input.market, &f.symbol);
    let interval_hours = f.fundingIntervalHours.and_then(|hours| u32::try_from(hours).ok());
    let body = Funding { interval_hours, cap: f.adjustedFundingRateCap.0, floor: f.adjustedFundingRateFloor.0, ..Funding::default() };
    out.emit(&instrument, None, Body::Funding(body));
}

fn funding_rate(input: &Input<'_>, out: &mut Out<'_>, f: wire::FundingRate<'_>) {
    let instrument = out.instrument(input.market, &f.symbol);
    let time = f.fundingTime.0;
    out.emit(&instrument, Some(time), Body::FundingSettled(FundingSettled { rate: f.fundingRate, time, mark: f.markPrice.0 }));
}

fn open_interest(input: &Input<'_>, out: &mut Out<'_>, o: wire::RestOpenInterest<'_>) {
    let instrument = match &o.symbol {
        Some(name) => out.instrument(input.market, name),
        None => out.instrument(input.market, &input.query("symbol").unwrap_or_default().to_uppercase()),
    };
    out.emit(&instrument, o.time.0, Body::OpenInterest(OpenInterest { value: o.openInterest.0, ..OpenInterest::default() }));
}

fn open_interest_hist(input: &Input<'_>, out: &mut Out<'_>, o: wire::OpenInterestHist<'_>) {
    let instrument = out.instrument(input.market, &o.symbol);
    let body = OpenInterest { value: o.sumOpenInterest.0, value_base: None, value_quote: o.sumOpenInterestValue.0 };
    out.emit(&instrument, o.timestamp.0, Body::OpenInterest(body));
}

/// The instrument that a request named, where its answer does not.
fn asked_for(input: &Input<'_>, out: &mut Out<'_>) -> Result<Arc<Instrument>> {
    let name = input.query("symbol").ok_or_else(|| DecodeError::malformed("neither the answer nor the request names an instrument"))?;
    Ok(out.instrument(input.market, &name.to_uppercase()))
}

fn rest_depth(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let d: wire::RestDepth<'_> = input.reader()?.whole()?;
    let instrument = match &d.symbol {
        Some(name) => out.instrument(input.market, name),
        None => asked_for(input, out)?,
    };
    out.emit(&instrument, d.T.0.or(d.E.0), levels(BookKind::Snapshot, d.bids.0, d.asks.0, d.lastUpdateId, None));
    Ok(())
}

fn rest_trades(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let instrument = asked_for(input, out)?;
    rows(input, out, |_, out, t: wire::RestTrade| {
        let body = Trade { trade_id: t.id, price: t.price, size: t.qty, size_base: None, side: taker(t.isBuyerMaker) };
        out.emit(&instrument, t.time.0, Body::Trade(body));
    })
}

fn rest_agg_trades(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let instrument = asked_for(input, out)?;
    rows(input, out, |_, out, t: wire::RestAggTrade| {
        let body = Trade { trade_id: t.a, price: t.p, size: t.q, size_base: None, side: taker(t.m) };
        out.emit(&instrument, t.T.0, Body::Trade(body));
    })
}

fn rest_candles(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let instrument = asked_for(input, out)?;
    let interval = input.query("interval").and_then(|word| Interval::parse(&word));
    let interval = interval.ok_or_else(|| DecodeError::malformed("the request names no interval"))?;
    rows(input, out, |input, out, k: wire::RestKline| {
        let body = Candle {
            interval,
            open_time: k.open_time.0,
            open: k.open,
            high: k.high,
            low: k.low,
            close: k.close,
            volume: k.volume,
            turnover: turnover(&instrument, k.turnover),
            trades: k.trades,
            closed: k.close_time.0 < input.received,
        };
        out.emit(&instrument, None, Body::Candle(body));
    })
}

fn exchange_info(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let info: wire::ExchangeInfo<'_> = input.reader()?.whole()?;
    for row in info.rateLimits.into_iter().flat_map(|rows| rows.0) {
        match row {
            Ok(limit) => rate_limit(input, out, &limit),
            Err(bad) => out.bad_row(input.market, "rateLimitType", &bad),
        }
    }
    for row in info.symbols.0 {
        match row {
            Ok(listing) => {
                let details = details(input.market, &listing);
                out.describe(input.market, &listing.symbol, None, details);
            }
            Err(bad) => out.bad_row(input.market, "symbol", &bad),
        }
    }
    Ok(())
}

/// Weight is what answers are counted by; plain requests (`RAW_REQUESTS`) never come near their limit, and orders are not ours.
fn rate_limit(input: &Input<'_>, out: &mut Out<'_>, limit: &wire::RateLimit<'_>) {
    let unit = match &*limit.interval {
        "SECOND" => 1,
        "MINUTE" => 60,
        "HOUR" => 3600,
        "DAY" => 86_400,
        _ => return,
    };
    if limit.rateLimitType == "REQUEST_WEIGHT" {
        out.allows(input, limit.limit, Duration::from_secs(limit.intervalNum.saturating_mul(unit)));
    }
}

fn details(market: Market, listing: &wire::Listing<'_>) -> Details {
    let word = listing.status.as_deref().or(listing.contractStatus.as_deref()).unwrap_or_default();
    let spot = market == Market::Spot;
    Details {
        kind: if spot { Kind::Spot } else { kind(listing) },
        base: (&*listing.baseAsset).into(),
        quote: (&*listing.quoteAsset).into(),
        settle: listing.marginAsset.as_deref().map(Into::into),
        contract_size: match market {
            Market::Spot => None,
            Market::Inverse => listing.contractSize.0.clone(),
            Market::Linear | Market::Option => Some(Decimal::ONE),
        },
        tick_size: listing.filters.tick.clone(),
        lot_size: listing.filters.lot.clone(),
        min_size: listing.filters.min.clone(),
        expiry: if spot { None } else { expiry(listing.deliveryDate.0) },
        status: status(word),
        funding_interval_hours: None,
        option: None,
    }
}

/// `contractType` says it, except of contracts that were settled, where it is empty: there, a perpetual is named as its
/// pair is (`BTCUSDT`, `BTCUSD_PERP`).
fn kind(listing: &wire::Listing<'_>) -> Kind {
    match listing.contractType.as_deref() {
        Some("PERPETUAL" | "TRADIFI_PERPETUAL" | "PERPETUAL_DELIVERING") => Kind::Perpetual,
        Some(dated) if dated.contains("QUARTER") || dated.contains("MONTH") => Kind::Future,
        _ => {
            let perpetual = listing.pair.as_deref().is_none_or(|pair| matches!(listing.symbol.strip_prefix(pair), Some("" | "_PERP")));
            if perpetual { Kind::Perpetual } else { Kind::Future }
        }
    }
}

/// The delivery date of what is never delivered: 2100-12-25T08:00:00Z.
const NEVER: Time = Time::from_millis(4_133_404_800_000);

pub(super) fn expiry(delivery: Option<Time>) -> Option<Time> {
    delivery.filter(|time| *time != NEVER)
}

/// Contracts that were settled stay in the list for a while.
pub(super) fn status(word: &str) -> Status {
    match word {
        "TRADING" => Status::Trading,
        "PENDING_TRADING" | "PRE_TRADING" => Status::PreLaunch,
        "DELIVERED" | "SETTLING" | "CLOSE" => Status::Delisted,
        // BREAK, HALT, PRE_SETTLE, and whatever is new.
        _ => Status::Halted,
    }
}
