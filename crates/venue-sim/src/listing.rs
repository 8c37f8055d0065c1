//! What a venue lists: which instruments a seeded market has, and their contracts.

use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::{Decimal, Market, Time};

use crate::num::{mix, pow10};
use crate::wire::Wire;

/// Real names first: what people look for. Some are scaled as the venues scale them.
const REAL: [&str; 54] = [
    "BTC",
    "ETH",
    "SOL",
    "XRP",
    "DOGE",
    "BNB",
    "ADA",
    "AVAX",
    "LINK",
    "SUI",
    "LTC",
    "BCH",
    "TRX",
    "DOT",
    "UNI",
    "AAVE",
    "NEAR",
    "APT",
    "ARB",
    "OP",
    "FIL",
    "ETC",
    "ATOM",
    "INJ",
    "TIA",
    "SEI",
    "WLD",
    "ENA",
    "1000PEPE",
    "1000SHIB",
    "1000BONK",
    "WIF",
    "HBAR",
    "XLM",
    "ICP",
    "RUNE",
    "LDO",
    "GALA",
    "SAND",
    "ALGO",
    "FET",
    "TAO",
    "ONDO",
    "JUP",
    "PENDLE",
    "STX",
    "IMX",
    "GRT",
    "CRV",
    "DYDX",
    "1MBABYDOGE",
    "10000SATS",
    "S",
    "W",
];

/// Prices to begin with, in hundredths of a cent; others are drawn.
const PRICES: [(&str, i64); 8] =
    [("BTC", 930_000_000), ("ETH", 33_000_000), ("SOL", 1_400_000), ("BNB", 8_800_000), ("XRP", 21_000), ("DOGE", 1_400), ("LTC", 820_000), ("BCH", 5_900_000)];

/// One instrument to be.
#[derive(Debug, Clone)]
pub(crate) struct Listing {
    pub(crate) venue_symbol: String,
    /// The name of its index: several contracts share one.
    pub(crate) pair: String,
    pub(crate) market: Market,
    pub(crate) details: Details,
    /// Decimal places of prices: the tick is one of the last.
    pub(crate) price_scale: u8,
    /// Decimal places of sizes: the lot is one of the last.
    pub(crate) size_scale: u8,
    /// The first price in ticks.
    pub(crate) price: i64,
}

impl Listing {
    pub(crate) fn is_perpetual(&self) -> bool {
        self.details.kind == Kind::Perpetual
    }
}

/// The `index`-th base currency.
pub(crate) fn base(index: usize) -> String {
    const CONSONANTS: &[u8] = b"BDFGKLMNPRSTVZ";
    const VOWELS: &[u8] = b"AEIOU";
    if let Some(real) = REAL.get(index) {
        return (*real).into();
    }
    // Syllables. Two of them give 4,900 names; a third follows where that is not enough.
    let mut rest = index - REAL.len();
    let mut name = String::new();
    while rest > 0 || name.len() < 4 {
        let consonant = CONSONANTS.get(rest % CONSONANTS.len()).copied().unwrap_or(b'B');
        rest /= CONSONANTS.len();
        let vowel = VOWELS.get(rest % VOWELS.len()).copied().unwrap_or(b'A');
        rest /= VOWELS.len();
        name.push(char::from(consonant));
        name.push(char::from(vowel));
    }
    // So that no name is another's beginning, or ends in what a venue reads as a part of its own.
    name + "X"
}

/// The instruments of one market of a venue: `count` in all.
pub(crate) fn listings(wire: &dyn Wire, market: Market, count: usize, now: Time) -> Vec<Listing> {
    let dated = match (market, count) {
        (Market::Spot, _) | (_, 0..4) => 0,
        (_, 4..20) => 2,
        _ => 4,
    };
    // The second currency that linear contracts are settled in.
    let usdc = if market == Market::Linear && count >= 8 { 2 } else { 0 };
    let mut all = Vec::with_capacity(count);
    for index in 0..count - dated - usdc {
        let name = if index == 15 && count >= 20 { wire.unusual_base(market).map_or_else(|| base(index), Into::into) } else { base(index) };
        let quote = match market {
            Market::Inverse => "USD",
            Market::Spot if index % 10 == 7 => "USDC",
            _ => "USDT",
        };
        let mut listing = listing(wire, market, &name, quote, None);
        // A long-dead pair: listed, never traded.
        if market == Market::Spot && wire.lists_dead_pairs() && count >= 10 && index + 1 == count {
            listing.details.status = Status::Halted;
        }
        all.push(listing);
    }
    all.extend((0..usdc).map(|index| listing(wire, market, &base(index), "USDC", None)));
    let [near, far] = quarters(now);
    for index in 0..dated {
        let quote = if market == Market::Inverse { "USD" } else { wire.dated_quote(index) };
        all.push(listing(wire, market, &base(index % 2), quote, Some(if index < 2 { near } else { far })));
    }
    all
}

fn listing(wire: &dyn Wire, market: Market, name: &str, quote: &str, expiry: Option<Time>) -> Listing {
    let hash = name.bytes().fold(7, |hash, byte| mix(hash, u64::from(byte)));
    // Hundredths of a cent, from 0.0005 to 100, unless the name has a known price; then as many places as give five
    // or six digits.
    let drawn = 5 * pow10(u8::try_from(hash % 6).unwrap_or(0)) + i64::try_from(mix(hash, 1) % 90_000).unwrap_or(0) * i64::from(hash % 3 == 0);
    let price = PRICES.iter().find(|(known, _)| *known == name).map_or(drawn, |(_, price)| *price);
    let magnitude = u8::try_from(price.max(1).ilog10()).unwrap_or(0);
    let price_scale = 9u8.saturating_sub(magnitude).min(8);
    let ticks = if price_scale >= 4 { price * pow10(price_scale - 4) } else { price / pow10(4 - price_scale) };
    let size_scale = match market {
        Market::Inverse => 0,
        Market::Spot => magnitude.saturating_sub(3).min(5),
        _ => magnitude.saturating_sub(3).min(3),
    };
    let kind = match (market, expiry) {
        (Market::Spot, _) => Kind::Spot,
        (_, None) => Kind::Perpetual,
        (_, Some(_)) => Kind::Future,
    };
    let settle = match market {
        Market::Spot => None,
        Market::Inverse => Some(name.into()),
        _ => Some(quote.into()),
    };
    let contract_size = match market {
        Market::Spot => None,
        Market::Inverse => Some(Decimal::from(wire.inverse_contract(name))),
        _ => Some(Decimal::ONE),
    };
    let (venue_symbol, pair) = wire.symbol(market, name, quote, expiry);
    let details = Details {
        kind,
        base: name.into(),
        quote: quote.into(),
        settle,
        contract_size,
        tick_size: Decimal::from_parts(1, u32::from(price_scale)),
        lot_size: Decimal::from_parts(1, u32::from(size_scale)),
        min_size: Decimal::from_parts(1, u32::from(size_scale)),
        expiry,
        status: Status::Trading,
        funding_interval_hours: None,
        option: None,
    };
    Listing { venue_symbol, pair, market, details, price_scale, size_scale, price: ticks }
}

/// The last Fridays of the next two quarters, 08:00 UTC, at least a week away.
fn quarters(now: Time) -> [Time; 2] {
    const DAY: i64 = 86_400_000_000;
    let (year, _, _) = now.date();
    let fridays = (0..10).filter_map(|quarter| {
        let (year, month) = (year + quarter / 4, quarter % 4 * 3 + 3);
        let (next_year, next_month) = if month == 12 { (year + 1, 1) } else { (year, month + 1) };
        let last = Time::from_date(next_year, u32::try_from(next_month).ok()?, 1)?.micros() / DAY - 1;
        // Day 0 was a Thursday.
        let friday = last - (last + 4 - 5).rem_euclid(7);
        Some(Time::from_micros(friday * DAY + 8 * 3_600_000_000))
    });
    let mut coming = fridays.filter(|friday| friday.micros() > now.micros() + 7 * DAY);
    let near = coming.next().unwrap_or(now);
    [near, coming.next().unwrap_or(now)]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_unique() {
        let names: std::collections::HashSet<_> = (0..9000).map(base).collect();
        assert_eq!(names.len(), 9000);
    }

    #[test]
    fn quarters_end_on_their_last_friday() {
        let [near, far] = quarters(Time::from_date(2025, 12, 20).unwrap());
        assert_eq!((near.date(), far.date()), ((2026, 3, 27), (2026, 6, 26)));
        assert_eq!(quarters(Time::from_date(2025, 11, 20).unwrap())[0].date(), (2025, 12, 26));
    }

    #[test]
    fn symbols_are_unique_in_each_market_and_by_their_unified_name() {
        let now = Time::from_date(2026, 1, 15).unwrap();
        for wire in crate::wire::ALL {
            for market in [Market::Spot, Market::Linear, Market::Inverse] {
                for count in [1, 3, 5, 12, 40, 1500] {
                    let all = listings(*wire, market, count, now);
                    assert_eq!(all.len(), count);
                    let names: std::collections::HashSet<_> = all.iter().map(|l| &l.venue_symbol).collect();
                    let symbols: std::collections::HashSet<_> = all.iter().map(|l| l.details.symbol().unwrap()).collect();
                    assert_eq!((names.len(), symbols.len()), (count, count), "{market}");
                    assert!(
                        all.iter().all(|l| l.price >= 10_000 && l.price < 10_000_000),
                        "{:?}",
                        all.iter().find(|l| l.price < 10_000 || l.price >= 10_000_000)
                    );
                }
            }
        }
    }
}
