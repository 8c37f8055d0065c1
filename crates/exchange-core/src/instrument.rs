//! Instruments: the venue's name, the unified symbol, and what is known of the contract.
//!
//! `(venue, market, venue_symbol)` names an instrument: `BTCUSDT` may be two of them. Strings end here: a decoder asks
//! the [`Catalog`] for a shared [`Instrument`], and every event of it holds that.

use std::fmt;
use std::sync::{Arc, RwLock};

use hashbrown::{HashMap, HashSet};

use crate::decimal::Decimal;
use crate::time::Time;

/// One of a venue's surfaces, and what its instruments are settled in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Market {
    /// Delivery of the base currency.
    Spot,
    /// Derivatives whose size is in base or contracts of base, settled in the quote currency.
    Linear,
    /// Derivatives of a fixed quote value, settled in the base currency.
    Inverse,
    /// Options.
    Option,
}

impl Market {
    /// All markets.
    pub const ALL: [Self; 4] = [Self::Spot, Self::Linear, Self::Inverse, Self::Option];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Linear => "linear",
            Self::Inverse => "inverse",
            Self::Option => "option",
        }
    }

    /// Reads the contract's word.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|market| market.as_str() == text)
    }

    /// A small number for tables.
    pub fn index(self) -> usize {
        self as usize
    }
}

impl fmt::Display for Market {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// What kind of contract an instrument is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named by the contract")]
pub enum Kind {
    Spot,
    Perpetual,
    Future,
    Option,
}

impl Kind {
    /// All kinds.
    pub const ALL: [Self; 4] = [Self::Spot, Self::Perpetual, Self::Future, Self::Option];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Spot => "spot",
            Self::Perpetual => "perpetual",
            Self::Future => "future",
            Self::Option => "option",
        }
    }
}

/// Whether an instrument can be traded.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named by the contract")]
pub enum Status {
    Trading,
    Halted,
    PreLaunch,
    Delisted,
}

impl Status {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Trading, Self::Halted, Self::PreLaunch, Self::Delisted];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trading => "trading",
            Self::Halted => "halted",
            Self::PreLaunch => "pre_launch",
            Self::Delisted => "delisted",
        }
    }
}

/// The right that an option gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Right {
    /// To buy.
    Call,
    /// To sell.
    Put,
}

/// What a venue says of an instrument: the fields of the contract's `instrument` event.
#[derive(Debug, Clone, PartialEq)]
pub struct Details {
    /// Kind of contract.
    pub kind: Kind,
    /// Base currency, as the venue writes it (`1000PEPE` stays `1000PEPE`).
    pub base: Box<str>,
    /// Quote currency.
    pub quote: Box<str>,
    /// Settlement currency; absent for spot.
    pub settle: Option<Box<str>>,
    /// Size of one contract: in base for linear, in quote for inverse.
    pub contract_size: Option<Decimal>,
    /// Price step.
    pub tick_size: Option<Decimal>,
    /// Size step.
    pub lot_size: Option<Decimal>,
    /// Smallest order.
    pub min_size: Option<Decimal>,
    /// When the contract ends.
    pub expiry: Option<Time>,
    /// Whether it trades.
    pub status: Status,
    /// Hours between two funding settlements.
    pub funding_interval_hours: Option<u32>,
    /// Strike and right of an option: part of its unified symbol, not a field of the event.
    pub option: Option<(Decimal, Right)>,
}

impl Details {
    /// An instrument of which nothing else is known yet.
    pub fn new(kind: Kind, base: &str, quote: &str, status: Status) -> Self {
        Self {
            kind,
            base: base.into(),
            quote: quote.into(),
            settle: None,
            contract_size: None,
            tick_size: None,
            lot_size: None,
            min_size: None,
            expiry: None,
            status,
            funding_interval_hours: None,
            option: None,
        }
    }

    /// The unified symbol, in ccxt's convention: `BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC-261225`,
    /// `BTC/USD:BTC-261225-100000-C`. `None` where a part of it is not known.
    pub fn symbol(&self) -> Option<String> {
        let pair = format!("{}/{}", self.base, self.quote);
        if self.kind == Kind::Spot {
            return Some(pair);
        }
        let settled = format!("{pair}:{}", self.settle.as_deref()?);
        if self.kind == Kind::Perpetual {
            return Some(settled);
        }
        let (year, month, day) = self.expiry?.date();
        let dated = format!("{settled}-{:02}{month:02}{day:02}", year.rem_euclid(100));
        match (self.kind, &self.option) {
            (Kind::Option, Some((strike, right))) => Some(format!("{dated}-{strike}-{}", if *right == Right::Call { 'C' } else { 'P' })),
            (Kind::Option, None) => None,
            _ => Some(dated),
        }
    }
}

/// A named instrument. Immutable and shared; the [`Catalog`] replaces it when the venue says something new.
#[derive(PartialEq)]
pub struct Instrument {
    /// The venue's name on the command line.
    pub venue: Arc<str>,
    /// The instrument's own market.
    pub market: Market,
    /// The venue's own name, unchanged; `*` for a gap that concerns all instruments, empty where it is not known.
    pub venue_symbol: Box<str>,
    /// The unified symbol, where the instrument is known.
    pub symbol: Option<Box<str>>,
    /// What the venue said of it, if it did.
    pub details: Option<Box<Details>>,
    /// Canonical bytes of venue, market and name: the beginning of what every event's id covers.
    pub(crate) canonical: Box<[u8]>,
}

impl Instrument {
    /// What an event is of that is about all instruments of a market.
    pub const ALL: &str = "*";

    /// Stands for all instruments of a market.
    pub fn all(venue: &Arc<str>, market: Market) -> Self {
        Self::named(venue, market, Self::ALL, None)
    }

    /// Whether it stands for all instruments of its market.
    pub fn is_all(&self) -> bool {
        *self.venue_symbol == *Self::ALL
    }

    /// Whether they are the same instrument of a venue, whatever is known of it.
    pub fn is_same(&self, other: &Self) -> bool {
        self.market == other.market && self.venue_symbol == other.venue_symbol
    }

    /// An instrument of which only the name is known.
    pub fn named(venue: &Arc<str>, market: Market, venue_symbol: &str, symbol: Option<&str>) -> Self {
        Self {
            venue: venue.clone(),
            market,
            venue_symbol: venue_symbol.into(),
            symbol: symbol.map(Into::into),
            details: None,
            canonical: crate::canonical::instrument_key(venue, market, venue_symbol),
        }
    }

    /// An instrument as the venue describes it.
    pub fn described(venue: &Arc<str>, market: Market, venue_symbol: &str, details: Details) -> Self {
        Self { symbol: details.symbol().map(Into::into), details: Some(Box::new(details)), ..Self::named(venue, market, venue_symbol, None) }
    }

    /// A size of this instrument in base currency, where the contract is known; for an inverse contract the price of
    /// the same message is needed.
    #[inline]
    pub fn base_size(&self, size: &Decimal, price: Option<&Decimal>) -> Option<Decimal> {
        let details = self.details.as_deref()?;
        match (self.market, &details.contract_size) {
            (Market::Spot, _) => Some(size.clone()),
            (Market::Linear | Market::Option, Some(one)) if *one == Decimal::ONE => Some(size.clone()),
            (Market::Linear | Market::Option, Some(contract)) => size.checked_mul(contract),
            (Market::Inverse, Some(contract)) => size.checked_mul(contract)?.checked_quotient(price?),
            (_, None) => None,
        }
    }
}

impl Instrument {
    /// Which of `count` shares this belongs to: the same everywhere, for every version.
    pub fn shard(&self, count: u32) -> u32 {
        let hash = blake3::hash(&self.canonical);
        let number = hash.as_bytes().first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        u32::try_from(number % u64::from(count.max(1))).unwrap_or(0)
    }
}

impl fmt::Debug for Instrument {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}/{}", self.venue, self.market, self.venue_symbol)
    }
}

type Table = [HashMap<Box<str>, Arc<Instrument>, foldhash::fast::RandomState>; 4];

/// What is known of one venue's instruments, shared by its decoders. Reading takes a lock: a connection's decoder
/// keeps what it looked up in a [`Lookup`] of its own and comes back only when the catalog has changed.
#[derive(Debug)]
pub struct Catalog {
    venue: Arc<str>,
    inner: RwLock<Inner>,
    version: std::sync::atomic::AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    instruments: Table,
    /// Instruments whose description carries the funding interval: what else says it may be older or newer than that.
    intervals: [HashSet<Box<str>, foldhash::fast::RandomState>; 4],
}

#[expect(clippy::indexing_slicing, reason = "one slot a market")]
impl Catalog {
    /// An empty catalog of a venue.
    pub fn new(venue: &str) -> Self {
        Self { venue: venue.into(), inner: RwLock::default(), version: 0.into() }
    }

    /// The venue's name.
    pub fn venue(&self) -> &Arc<str> {
        &self.venue
    }

    /// Rises whenever the catalog changes.
    pub fn version(&self) -> u64 {
        self.version.load(std::sync::atomic::Ordering::Acquire)
    }

    /// Takes note of an instrument as the venue describes it now. Returns the shared instrument, and whether that
    /// was news. A field that the message leaves out (a funding interval, say) keeps its last known value.
    pub fn learn(&self, market: Market, venue_symbol: &str, mut details: Details) -> (Arc<Instrument>, bool) {
        let mut inner = self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        if details.funding_interval_hours.is_some() && !inner.intervals[market.index()].contains(venue_symbol) {
            inner.intervals[market.index()].insert(venue_symbol.into());
        }
        let table = &mut inner.instruments[market.index()];
        if let Some(known) = table.get(venue_symbol)
            && let Some(old) = known.details.as_deref()
        {
            details.funding_interval_hours = details.funding_interval_hours.or(old.funding_interval_hours);
            if *old == details {
                return (known.clone(), false);
            }
        }
        let instrument = Arc::new(Instrument::described(&self.venue, market, venue_symbol, details));
        table.insert(venue_symbol.into(), instrument.clone());
        self.version.fetch_add(1, std::sync::atomic::Ordering::Release);
        (instrument, true)
    }

    /// Takes note of a funding interval that the venue says elsewhere than in its description of the instrument, which
    /// leaves it out. The instrument, if that was news.
    pub(crate) fn learn_interval(&self, market: Market, venue_symbol: &str, hours: u32) -> Option<Arc<Instrument>> {
        self.change(market, venue_symbol, |inner, details| {
            let listed = inner.intervals[market.index()].contains(venue_symbol);
            let news = !listed && details.kind == Kind::Perpetual && details.funding_interval_hours != Some(hours);
            news.then(|| Details { funding_interval_hours: Some(hours), ..details.clone() })
        })
    }

    /// Takes note that the venue lists an instrument no more. The instrument as it is then, unless that was known.
    pub fn delist(&self, market: Market, venue_symbol: &str) -> Option<Arc<Instrument>> {
        self.change(market, venue_symbol, |_, details| (details.status != Status::Delisted).then(|| Details { status: Status::Delisted, ..details.clone() }))
    }

    /// Changes what is known of an instrument, if it is described.
    fn change(&self, market: Market, venue_symbol: &str, change: impl FnOnce(&Inner, &Details) -> Option<Details>) -> Option<Arc<Instrument>> {
        let mut inner = self.inner.write().unwrap_or_else(std::sync::PoisonError::into_inner);
        let known = inner.instruments[market.index()].get(venue_symbol)?;
        let details = change(&inner, known.details.as_deref()?)?;
        let instrument = Arc::new(Instrument::described(&self.venue, market, venue_symbol, details));
        inner.instruments[market.index()].insert(venue_symbol.into(), instrument.clone());
        self.version.fetch_add(1, std::sync::atomic::Ordering::Release);
        Some(instrument)
    }

    /// The instrument of that name, if the venue has described it.
    pub fn get(&self, market: Market, venue_symbol: &str) -> Option<Arc<Instrument>> {
        self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner).instruments[market.index()].get(venue_symbol).cloned()
    }

    /// All described instruments of a market, ordered by name.
    pub fn list(&self, market: Market) -> Vec<Arc<Instrument>> {
        let inner = self.inner.read().unwrap_or_else(std::sync::PoisonError::into_inner);
        let mut all: Vec<_> = inner.instruments[market.index()].values().cloned().collect();
        all.sort_by(|a, b| a.venue_symbol.cmp(&b.venue_symbol));
        all
    }
}

/// One decoder's own view of a [`Catalog`]: no lock on the way of a message.
#[derive(Debug)]
pub struct Lookup {
    catalog: Arc<Catalog>,
    version: u64,
    known: Table,
}

/// A stream of garbage names must not fill the memory: beyond this many unknown names they are not kept.
const KEEP_UNKNOWN: usize = 20_000;

#[expect(clippy::indexing_slicing, reason = "one slot a market")]
impl Lookup {
    /// A view of `catalog`.
    pub fn new(catalog: Arc<Catalog>) -> Self {
        Self { version: catalog.version(), catalog, known: Table::default() }
    }

    /// The catalog behind this view.
    pub fn catalog(&self) -> &Arc<Catalog> {
        &self.catalog
    }

    /// Forgets what is outdated. Called once per message.
    #[inline]
    pub fn refresh(&mut self) {
        let version = self.catalog.version();
        if version != self.version {
            self.version = version;
            self.known = Table::default();
        }
    }

    /// The instrument of that name. One that the venue has not described has no details, and a symbol only where
    /// `parse` reads it out of the name.
    #[inline]
    pub fn get(&mut self, market: Market, venue_symbol: &str, parse: impl FnOnce() -> Option<String>) -> Arc<Instrument> {
        match self.known[market.index()].get(venue_symbol) {
            Some(known) => known.clone(),
            None => self.look_up(market, venue_symbol, parse),
        }
    }

    #[cold]
    fn look_up(&mut self, market: Market, venue_symbol: &str, parse: impl FnOnce() -> Option<String>) -> Arc<Instrument> {
        let described = self.catalog.get(market, venue_symbol);
        let instrument = described.unwrap_or_else(|| Arc::new(Instrument::named(self.catalog.venue(), market, venue_symbol, parse().as_deref())));
        let table = &mut self.known[market.index()];
        if table.len() < KEEP_UNKNOWN || instrument.details.is_some() {
            table.insert(venue_symbol.into(), instrument.clone());
        }
        instrument
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn details(kind: Kind) -> Details {
        Details {
            kind,
            base: "BTC".into(),
            quote: "USD".into(),
            settle: Some("BTC".into()),
            contract_size: Some(Decimal::from(100)),
            tick_size: None,
            lot_size: None,
            min_size: None,
            expiry: Time::from_date(2026, 12, 25),
            status: Status::Trading,
            funding_interval_hours: None,
            option: None,
        }
    }

    #[test]
    fn symbols_follow_the_convention() {
        assert_eq!(details(Kind::Spot).symbol().unwrap(), "BTC/USD");
        assert_eq!(details(Kind::Perpetual).symbol().unwrap(), "BTC/USD:BTC");
        assert_eq!(details(Kind::Future).symbol().unwrap(), "BTC/USD:BTC-261225");
        assert_eq!(details(Kind::Option).symbol(), None);
        let option = Details { option: Some((Decimal::from(100_000), Right::Call)), ..details(Kind::Option) };
        assert_eq!(option.symbol().unwrap(), "BTC/USD:BTC-261225-100000-C");
    }

    #[test]
    fn a_view_sees_what_the_catalog_learns() {
        let catalog = Arc::new(Catalog::new("x"));
        let mut view = Lookup::new(catalog.clone());
        assert!(view.get(Market::Inverse, "BTCUSD", || None).symbol.is_none());
        assert!(catalog.learn(Market::Inverse, "BTCUSD", details(Kind::Perpetual)).1);
        assert!(!catalog.learn(Market::Inverse, "BTCUSD", details(Kind::Perpetual)).1);
        view.refresh();
        assert_eq!(view.get(Market::Inverse, "BTCUSD", || None).symbol.as_deref(), Some("BTC/USD:BTC"));
        assert!(view.get(Market::Linear, "BTCUSD", || None).symbol.is_none(), "another market is another instrument");
    }

    #[test]
    fn what_is_delisted_stays_known_and_may_come_back() {
        let catalog = Catalog::new("x");
        assert_eq!(catalog.delist(Market::Inverse, "BTCUSD"), None, "nobody has described it");
        catalog.learn(Market::Inverse, "BTCUSD", details(Kind::Perpetual));
        let version = catalog.version();
        let gone = catalog.delist(Market::Inverse, "BTCUSD").unwrap();
        assert_eq!(gone.details.as_deref(), Some(&Details { status: Status::Delisted, ..details(Kind::Perpetual) }));
        assert!(catalog.version() > version);
        assert_eq!(catalog.delist(Market::Inverse, "BTCUSD"), None, "that is no news");
        assert_eq!(catalog.get(Market::Inverse, "BTCUSD"), Some(gone));
        assert!(catalog.learn(Market::Inverse, "BTCUSD", details(Kind::Perpetual)).1);
    }

    #[test]
    fn sizes_in_base_follow_the_contract() {
        let catalog = Catalog::new("x");
        let (inverse, _) = catalog.learn(Market::Inverse, "BTCUSD", details(Kind::Perpetual));
        let base = inverse.base_size(&Decimal::from(5), Some(&Decimal::from(50_000))).unwrap();
        assert_eq!(base.to_string(), "0.01");
        assert_eq!(inverse.base_size(&Decimal::from(5), None), None);
    }
}
