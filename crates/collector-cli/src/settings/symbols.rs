//! Which instruments are wanted, by their unified symbols: `BTC/USDT:USDT`, `BTC/*`.

use exchange_core::Market;

/// Patterns of unified symbols, any of which may match. `*` stands for any text; case does not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SymbolFilter(Vec<String>);

impl SymbolFilter {
    /// A filter of these patterns.
    pub(crate) fn new(patterns: Vec<String>) -> Self {
        Self(patterns)
    }

    /// Whether everything matches, known symbol or not.
    pub(crate) fn is_all(&self) -> bool {
        self.0.iter().any(|pattern| pattern == "*")
    }

    /// Whether an instrument of this symbol is wanted.
    pub(crate) fn matches(&self, symbol: &str) -> bool {
        self.0.iter().any(|pattern| matches(pattern, symbol))
    }

    /// Patterns that match none of these symbols, which is probably a mistake.
    pub(crate) fn unmatched<'a>(&'a self, symbols: &'a [&str]) -> impl Iterator<Item = &'a str> {
        self.0.iter().map(String::as_str).filter(|pattern| !symbols.iter().any(|symbol| matches(pattern, symbol)))
    }
}

/// Whether a pattern with `*` matches a text.
fn matches(pattern: &str, text: &str) -> bool {
    let same = |a: &str, b: &str| a.eq_ignore_ascii_case(b);
    let Some((first, rest)) = pattern.split_once('*') else { return same(pattern, text) };
    let Some(head) = text.get(..first.len()) else { return false };
    let (middle, last) = rest.rsplit_once('*').unwrap_or(("", rest));
    let Some(tail_at) = text.len().checked_sub(last.len()).filter(|at| *at >= first.len()) else { return false };
    let (Some(mut between), Some(tail)) = (text.get(first.len()..tail_at), text.get(tail_at..)) else { return false };
    if !same(head, first) || !same(tail, last) {
        return false;
    }
    // Each part as early as it can be: what is left for the others is then longest.
    middle.split('*').all(|part| {
        let end = (0..=between.len()).find_map(|at| between.get(at..at + part.len()).filter(|found| same(found, part)).map(|_| at + part.len()));
        end.and_then(|end| between.get(end..)).map(|rest| between = rest).is_some()
    })
}

/// Checks a pattern that a user wrote.
///
/// # Errors
/// What a unified symbol looks like, if this cannot be one of these markets.
pub(crate) fn check(text: &str, markets: &[Market]) -> Result<String, String> {
    if text.contains(char::is_whitespace) {
        return Err(format!("`{text}` is no unified symbol: it contains a space"));
    }
    if text.contains('*') {
        return Ok(text.to_owned());
    }
    let shape = "`BTC/USDT` (spot), `BTC/USDT:USDT` (linear), `BTC/USD:BTC` (inverse), `BTC/*`";
    let Some((base, rest)) = text.split_once('/') else {
        return Err(format!("`{text}` is no unified symbol: they are written {shape}"));
    };
    let (quote, settle) = rest.split_once(':').map_or((rest, None), |(quote, settle)| (quote, Some(settle)));
    let currency = |part: &str| !part.is_empty() && !part.contains(['/', ':']);
    let (currency_settled, dated) =
        settle.map_or((None, None), |settle| settle.split_once('-').map_or((Some(settle), None), |(settle, rest)| (Some(settle), Some(rest))));
    if !currency(base) || !currency(quote) || !currency_settled.is_none_or(currency) || !dated.is_none_or(is_dated) {
        return Err(format!("`{text}` is no unified symbol: they are written {shape}, dated ones `BTC/USDT:USDT-261225`"));
    }
    let market = match currency_settled {
        None => Market::Spot,
        Some(settle) if settle.eq_ignore_ascii_case(base) => Market::Inverse,
        Some(_) => Market::Linear,
    };
    // What is settled in its base may be linear all the same, where that is the quote as well.
    let possible = markets.is_empty() || markets.contains(&market) || (market == Market::Inverse && quote.eq_ignore_ascii_case(base));
    if possible {
        return Ok(text.to_owned());
    }
    let asked = markets.iter().map(|market| market.as_str()).collect::<Vec<_>>().join(",");
    let instead = match market {
        Market::Spot if markets.contains(&Market::Linear) => format!("write `{base}/{quote}:{quote}`, or ask for `--markets spot`"),
        _ => format!("ask for `--markets {market}`"),
    };
    Err(format!("`{text}` is a {market} symbol, and the markets are {asked}: {instead}"))
}

/// `261225`, `261225-100000-C`.
fn is_dated(text: &str) -> bool {
    let mut parts = text.split('-');
    let date = parts.next().is_some_and(|date| date.len() == 6 && date.bytes().all(|byte| byte.is_ascii_digit()));
    let option = match (parts.next(), parts.next()) {
        (None, _) => true,
        (Some(strike), Some("C" | "P")) => !strike.is_empty() && strike.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.'),
        _ => false,
    };
    date && option && parts.next().is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_match_any_text() {
        for (pattern, symbol, wanted) in [
            ("BTC/*", "BTC/USDT:USDT", true),
            ("BTC/*", "WBTC/USDT", false),
            ("*/USDT:USDT", "ETH/USDT:USDT", true),
            ("*/USDT", "ETH/USDT:USDT", false),
            ("*", "币安人生/USDT:USDT", true),
            ("*人*:USDT", "币安人生/USDT:USDT", true),
            ("btc/usdt", "BTC/USDT", true),
            ("BTC/USDT", "BTC/USDT:USDT", false),
            ("*T*T*T", "TT", false),
            ("*SD*:*SD*", "ETH/USDT:USDT", true),
            ("ETH/USDT:USDT*", "ETH/USDT:USDT-261225", true),
            ("AB*BA", "ABA", false),
            ("**", "x", true),
        ] {
            assert_eq!(SymbolFilter::new(vec![pattern.to_owned()]).matches(symbol), wanted, "{pattern} {symbol}");
        }
    }

    #[test]
    fn what_is_no_unified_symbol_is_refused() {
        let linear = [Market::Linear];
        for text in ["BTC/USDT:USDT", "BTC/USDT:USDT-261225", "BTC/*", "*"] {
            assert_eq!(check(text, &linear), Ok(text.to_owned()));
        }
        assert!(check("BTC/USD:BTC-261225-100000-C", &[Market::Inverse]).is_ok());
        for text in ["BTCUSDT", "BTC/", "/USDT", "BTC/USDT:", "BTC/USDT:USDT-26", "BTC/USDT:USDT-261225-1", "BTC USDT", "BTC/USDT/X"] {
            assert!(check(text, &linear).unwrap_err().starts_with(&format!("`{text}` is no unified symbol: ")), "{text}");
        }
    }

    #[test]
    fn a_symbol_of_another_market_is_refused() {
        let said = check("BTC/USDT", &[Market::Linear]).unwrap_err();
        assert_eq!(said, "`BTC/USDT` is a spot symbol, and the markets are linear: write `BTC/USDT:USDT`, or ask for `--markets spot`");
        assert!(check("BTC/USD:BTC", &[Market::Linear, Market::Spot]).unwrap_err().ends_with("ask for `--markets inverse`"));
    }

    #[test]
    fn patterns_without_a_match_are_found() {
        let filter = SymbolFilter::new(vec!["BTC/*".to_owned(), "DOGE/USDT".to_owned()]);
        assert_eq!(filter.unmatched(&["BTC/USDT", "ETH/USDT"]).collect::<Vec<_>>(), ["DOGE/USDT"]);
        assert!(!filter.is_all());
    }
}
