//! What `KuCoin` says of its instruments when it lists them, their state included.

use std::borrow::Cow;

use exchange_core::decimal::Decimal;
use exchange_core::event::{self, Body, Ident};
use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::{Market, Out};

use super::record::{HOUR, open_interest, turnover};
use super::wire::{Contract, Pair, UaInstrument};

/// A contract's listing and its state, which has no time of its own.
pub(super) fn contract(row: Contract<'_>, out: &mut Out<'_>) {
    let kind = match row.kind.as_deref() {
        Some("FFICSX") => Kind::Future,
        Some("FFWCSX") => Kind::Perpetual,
        _ if row.expireDate.0.is_some() => Kind::Future,
        _ => Kind::Perpetual,
    };
    let inverse = row.isInverse.unwrap_or_else(|| row.multiplier.0.as_ref().is_some_and(Decimal::is_negative));
    let market = if inverse { Market::Inverse } else { Market::Linear };
    let current = row.currentFundingRateGranularity.hours(HOUR).or_else(|| row.fundingRateGranularity.hours(HOUR));
    let interval_hours = current.filter(|_| kind == Kind::Perpetual);
    let status = match row.status.as_deref() {
        Some("Open") => Status::Trading,
        Some("Init") => Status::PreLaunch,
        Some("BeingSettled" | "Settled" | "Closed") => Status::Delisted,
        // `Paused`, `CancelOnly`, and what the venue may add: listed, but not to be traded.
        _ => Status::Halted,
    };
    let details = Details {
        contract_size: row.multiplier.0.map(|size| size.abs()),
        tick_size: row.tickSize.0,
        lot_size: row.lotSize.0,
        expiry: row.expireDate.0.filter(|_| kind == Kind::Future),
        funding_interval_hours: interval_hours,
        ..contract_details(kind, [&row.baseCurrency, &row.quoteCurrency, &row.settleCurrency], status)
    };
    if row.symbol.is_empty() || details.base.is_empty() || details.quote.is_empty() {
        return out.describe(market, &row.symbol, None, details);
    }
    let instrument = out.learn(market, &row.symbol, &details);

    let ticker = event::Ticker {
        last: row.lastTradePrice.0,
        high_24h: row.highPrice.0,
        low_24h: row.lowPrice.0,
        volume_24h: row.volumeOf24h.0,
        turnover_24h: turnover(market, row.turnoverOf24h),
        change_24h: row.priceChgPct.0,
        ..event::Ticker::default()
    };
    out.emit(&instrument, None, Body::Ticker(ticker));
    let mark = row.markPrice.0;
    out.emit(&instrument, None, Body::Mark(event::Mark { mark: mark.clone(), index: row.indexPrice.0, basis: None }));
    if kind == Kind::Perpetual {
        let funding = event::Funding {
            rate: row.fundingFeeRate.0,
            next_time: row.nextFundingRateDateTime.0,
            interval_hours,
            predicted_rate: row.predictedFundingFeeRate.0,
            cap: None,
            floor: None,
        };
        out.emit(&instrument, None, Body::Funding(funding));
    }
    open_interest(&instrument, row.openInterest, mark.as_ref(), None, out);
    out.describe(market, &row.symbol, None, details);
}

pub(super) fn pair(row: &Pair<'_>, out: &mut Out<'_>) {
    let status = match (row.enableTrading, row.callauctionIsEnabled) {
        (Some(true), _) => Status::Trading,
        (_, Some(true)) => Status::PreLaunch,
        _ => Status::Halted,
    };
    let sizes = [&row.priceIncrement, &row.baseIncrement, &row.baseMinSize].map(|size| size.0.clone());
    out.describe(Market::Spot, &row.symbol, None, spot_details(row.baseCurrency.as_deref(), row.quoteCurrency.as_deref(), sizes, status));
}

pub(super) fn ua_instrument(row: UaInstrument<'_>, out: &mut Out<'_>) {
    let status = if row.tradingStatus == Some(Ident::Number(1)) { Status::Trading } else { Status::Halted };
    if row.symbol.contains('-') {
        let sizes = [row.tickSize.0, row.baseOrderStep.0, row.minBaseOrderSize.0];
        return out.describe(Market::Spot, &row.symbol, None, spot_details(row.baseCurrency.as_deref(), row.quoteCurrency.as_deref(), sizes, status));
    }
    let expiry = row.expiryTime.0;
    let kind = if expiry.is_some() { Kind::Future } else { Kind::Perpetual };
    let details = Details {
        contract_size: row.unitSize.0.map(|size| size.abs()),
        tick_size: row.tickSize.0,
        lot_size: row.lotSize.0,
        expiry,
        ..contract_details(kind, [&row.baseCurrency, &row.quoteCurrency, &row.settlementCurrency], status)
    };
    out.describe(if row.isInverse == Some(true) { Market::Inverse } else { Market::Linear }, &row.symbol, None, details);
}

/// What is known of a contract by its currencies.
fn contract_details(kind: Kind, [base, quote, settle]: [&Option<Cow<'_, str>>; 3], status: Status) -> Details {
    let [base, quote] = [base, quote].map(|code| currency(code.as_deref().unwrap_or_default()));
    Details { settle: settle.as_deref().map(|code| currency(code).into()), ..Details::new(kind, base, quote, status) }
}

fn spot_details(base: Option<&str>, quote: Option<&str>, [tick_size, lot_size, min_size]: [Option<Decimal>; 3], status: Status) -> Details {
    Details { tick_size, lot_size, min_size, ..Details::new(Kind::Spot, base.unwrap_or_default(), quote.unwrap_or_default(), status) }
}

/// `KuCoin` calls bitcoin `XBT` in futures alone.
fn currency(code: &str) -> &str {
    if code == "XBT" { "BTC" } else { code }
}
