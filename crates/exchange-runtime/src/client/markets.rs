//! Unified symbols and the instruments behind them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange_core::instrument::Catalog;
use exchange_core::{Instrument, Market, Venue};
use tokio::sync::OnceCell;

use super::error::ClientError;

/// What can be asked for by this API; options are decoded, but not offered yet.
pub(super) const MARKETS: [Market; 3] = [Market::Spot, Market::Linear, Market::Inverse];

/// The instruments of a venue, by symbol.
#[derive(Default)]
pub(super) struct Markets {
    /// Whether a market's instruments were read.
    pub(super) loaded: [OnceCell<()>; 4],
    symbols: Mutex<Symbols>,
}

/// The catalog's instruments by symbol, as of one version of it.
#[derive(Default)]
struct Symbols {
    version: u64,
    by_symbol: HashMap<Box<str>, Arc<Instrument>>,
}

impl Markets {
    fn symbols(&self, catalog: &Catalog) -> MutexGuard<'_, Symbols> {
        let mut symbols = self.symbols.lock().unwrap_or_else(PoisonError::into_inner);
        let version = catalog.version();
        if symbols.version != version {
            symbols.version = version;
            let all = MARKETS.into_iter().flat_map(|market| catalog.list(market));
            symbols.by_symbol = all.filter_map(|instrument| Some((instrument.symbol.clone()?, instrument))).collect();
        }
        symbols
    }

    /// The instrument of that symbol, among those that are known.
    pub(super) fn find(&self, catalog: &Catalog, symbol: &str) -> Option<Arc<Instrument>> {
        self.symbols(catalog).by_symbol.get(symbol).cloned()
    }

    /// What to say of a symbol that nothing is known of: how many are, and which of them was probably meant.
    pub(super) fn unknown(&self, venue: &Venue, symbol: &str) -> ClientError {
        let symbols = self.symbols(&venue.catalog);
        let wanted = symbol.to_uppercase();
        let distance = |known: &Instrument, name: &str| {
            // Many know the venue's own name better.
            if known.venue_symbol.eq_ignore_ascii_case(&wanted) { 0 } else { 1 + strsim::damerau_levenshtein(&name.to_uppercase(), &wanted) }
        };
        let nearest = symbols.by_symbol.iter().map(|(name, known)| (distance(known, name), name)).min();
        let hint = nearest.map_or_else(String::new, |(_, name)| format!(": did you mean `{name}`?"));
        let message = format!("`{symbol}` is none of the {} symbols that are known{hint}", symbols.by_symbol.len());
        ClientError::config(&venue.profile.name, message)
    }
}

/// The markets in which a symbol may be found, by its form: `BTC/USDT`, `BTC/USDT:USDT`, `BTC/USD:BTC`.
pub(super) fn candidates(symbol: &str) -> Vec<Market> {
    let Some((base, rest)) = symbol.split_once('/') else { return MARKETS.to_vec() };
    let Some((quote, settled)) = rest.split_once(':') else { return vec![Market::Spot] };
    let settle = settled.split('-').next().unwrap_or_default();
    match settle {
        _ if settle == quote => vec![Market::Linear],
        _ if settle == base => vec![Market::Inverse],
        _ => vec![Market::Linear, Market::Inverse],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_symbols_form_tells_its_market() {
        assert_eq!(candidates("BTC/USDT"), [Market::Spot]);
        assert_eq!(candidates("BTC/USDT:USDT-261225"), [Market::Linear]);
        assert_eq!(candidates("BTC/USD:BTC"), [Market::Inverse]);
        assert_eq!(candidates("BTC/USD:USDC"), [Market::Linear, Market::Inverse]);
        assert_eq!(candidates("BTCUSDT"), MARKETS);
    }
}
