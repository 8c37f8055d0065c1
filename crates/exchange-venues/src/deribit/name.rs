//! What Deribit's names say of an instrument before, or without, its description: captures seldom hold one.
//! <https://docs.deribit.com/#naming>

use std::time::Duration;

use exchange_core::instrument::{Details, Kind, Right, Status};
use exchange_core::{Decimal, Market, Time};

/// Contracts end at 08:00 UTC.
const EXPIRY_HOUR: Duration = Duration::from_hours(8);

/// Reads `BTC-PERPETUAL`, `SOL_USDC-PERPETUAL`, `BTC-26DEC25`, `ETH-26DEC25-3000-C`, `XRP_USDC-9MAR24-1d02-P` or the
/// pair `BTC_USDC`. A contract whose name has no second currency is quoted in dollars and settled in its first.
/// Combinations of contracts (`BTC-FS-26DEC25_PERP`) and indices (`btc_usd`) are none of these.
pub(super) fn read(name: &str) -> Option<(Market, Details)> {
    let mut parts = name.split('-');
    let pair = parts.next()?;
    let (base, counter) = pair.split_once('_').map_or((pair, None), |(base, counter)| (base, Some(counter)));
    let currency = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit());
    if !currency(base) || !counter.is_none_or(currency) {
        return None;
    }
    let (term, option) = (parts.next(), (parts.next(), parts.next()));
    let expiry = match term {
        None | Some("PERPETUAL") => None,
        Some(date) => Some(read_date(date)? + EXPIRY_HOUR),
    };
    let (kind, option) = match (term, option) {
        (None, _) => (Kind::Spot, None),
        (Some("PERPETUAL"), (None, _)) => (Kind::Perpetual, None),
        (Some(_), (None, _)) => (Kind::Future, None),
        (Some(_), (Some(strike), Some(right))) => (Kind::Option, Some((strike.replace('d', ".").parse().ok()?, read_right(right)?))),
        _ => return None,
    };
    if parts.next().is_some() || (kind == Kind::Spot && counter.is_none()) || (kind == Kind::Option && expiry.is_none()) {
        return None;
    }
    let market = match kind {
        Kind::Spot => Market::Spot,
        Kind::Option => Market::Option,
        _ if counter.is_some() => Market::Linear,
        _ => Market::Inverse,
    };
    let details = Details {
        kind,
        base: base.into(),
        quote: counter.unwrap_or("USD").into(),
        settle: (kind != Kind::Spot).then(|| counter.unwrap_or(base).into()),
        contract_size: contract_size(kind),
        tick_size: None,
        lot_size: None,
        min_size: None,
        expiry,
        status: Status::Trading,
        funding_interval_hours: None,
        option,
    };
    Some((market, details))
}

/// What a unit of amount is in base currency, of inverse contracts in quote currency.
pub(super) fn contract_size(kind: Kind) -> Option<Decimal> {
    (kind != Kind::Spot).then_some(Decimal::ONE)
}

/// Whether a name is that of a combination: a strategy's letters stand where others have a date.
pub(super) fn is_combo(name: &str) -> bool {
    name.split('-').nth(1).is_some_and(|strategy| strategy != "PERPETUAL" && strategy.starts_with(|letter: char| letter.is_ascii_uppercase()))
}

/// `C` and `call`, `P` and `put`.
pub(super) fn read_right(text: &str) -> Option<Right> {
    match text {
        "C" | "call" => Some(Right::Call),
        "P" | "put" => Some(Right::Put),
        _ => None,
    }
}

/// `9MAR24`, at midnight.
fn read_date(text: &str) -> Option<Time> {
    const MONTHS: [&str; 12] = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"];
    let (day, rest) = text.split_at_checked(text.find(|c: char| !c.is_ascii_digit())?)?;
    let (month, year) = rest.split_at_checked(3)?;
    let month = MONTHS.iter().zip(1..).find(|(name, _)| **name == month)?.1;
    if year.len() != 2 || !year.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    Time::from_date(2000 + year.parse::<i64>().ok()?, month, day.parse().ok()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_carry_their_parts() {
        let symbol = |name: &str| read(name).and_then(|(market, details)| Some((market, details.symbol()?)));
        for (name, market, unified) in [
            ("BTC-PERPETUAL", Market::Inverse, "BTC/USD:BTC"),
            ("SOL_USDC-PERPETUAL", Market::Linear, "SOL/USDC:USDC"),
            ("BTC_USDT-PERPETUAL", Market::Linear, "BTC/USDT:USDT"),
            ("BTC-26DEC25", Market::Inverse, "BTC/USD:BTC-251226"),
            ("BTC_USDC-6MAR26", Market::Linear, "BTC/USDC:USDC-260306"),
            ("ETH-26DEC25-3000-C", Market::Option, "ETH/USD:ETH-251226-3000-C"),
            ("XRP_USDC-9MAR24-1d02-P", Market::Option, "XRP/USDC:USDC-240309-1.02-P"),
            ("BTC_USDC", Market::Spot, "BTC/USDC"),
        ] {
            assert_eq!(symbol(name), Some((market, unified.to_owned())), "{name}");
        }
    }

    #[test]
    fn what_is_no_instrument_has_no_parts() {
        for name in [
            "",
            "-",
            "BTC",
            "btc_usd",
            "_USDC",
            "BTC_",
            "BTC-",
            "BTC-26DEC",
            "BTC-32DEC25",
            "BTC-DEC25",
            "BTC-26ÄEC25",
            "BTC-PERPETUAL-1-C",
            "BTC-26DEC25-C",
            "BTC-26DEC25-x-C",
            "BTC-26DEC25-1-X",
            "BTC-26DEC25-1-C-2",
            "BTC-FS-26DEC25_PERP",
            "BTC-CS-28OCT22-30000_36000",
        ] {
            assert_eq!(read(name), None, "{name}");
        }
        assert!(is_combo("BTC-FS-26DEC25_PERP") && !is_combo("BTC-PERPETUAL") && !is_combo("BTC-26DEC25"));
    }
}
