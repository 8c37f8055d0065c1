//! What can be asked for.

use std::fmt;

use crate::time::Interval;

/// A kind of data that can be asked for: the contract's event types, candles with their interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[expect(missing_docs, reason = "named by the contract")]
pub enum Channel {
    Ticker,
    Quote,
    Mark,
    Funding,
    FundingSettled,
    OpenInterest,
    Trade,
    Book,
    Liquidation,
    Candle(Interval),
    Instrument,
}

/// How many kinds of [`Channel`] there are, candles of all intervals being one.
pub const CHANNELS: usize = 11;

impl Channel {
    /// The channel's word: `ticker`, `open_interest`, and `candle` for candles of any interval.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticker => "ticker",
            Self::Quote => "quote",
            Self::Mark => "mark",
            Self::Funding => "funding",
            Self::FundingSettled => "funding_settled",
            Self::OpenInterest => "open_interest",
            Self::Trade => "trade",
            Self::Book => "book",
            Self::Liquidation => "liquidation",
            Self::Candle(_) => "candle",
            Self::Instrument => "instrument",
        }
    }

    /// Reads a channel's name; a candle's has its interval behind a colon (`candle:1m`).
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "ticker" => Self::Ticker,
            "quote" => Self::Quote,
            "mark" => Self::Mark,
            "funding" => Self::Funding,
            "funding_settled" => Self::FundingSettled,
            "open_interest" => Self::OpenInterest,
            "trade" => Self::Trade,
            "book" => Self::Book,
            "liquidation" => Self::Liquidation,
            "instrument" => Self::Instrument,
            _ => Self::Candle(Interval::parse(text.strip_prefix("candle:")?)?),
        })
    }

    /// The names that [`Channel::parse`] takes, for help texts and suggestions.
    pub const NAMES: [&'static str; CHANNELS] =
        ["ticker", "quote", "mark", "funding", "funding_settled", "open_interest", "trade", "book", "liquidation", "candle:1m", "instrument"];

    /// Whether two channels are the same but for a candle's interval.
    pub fn same_kind(self, other: Self) -> bool {
        std::mem::discriminant(&self) == std::mem::discriminant(&other)
    }

    /// A small number for tables: below [`CHANNELS`].
    pub fn index(self) -> usize {
        match self {
            Self::Ticker => 0,
            Self::Quote => 1,
            Self::Mark => 2,
            Self::Funding => 3,
            Self::FundingSettled => 4,
            Self::OpenInterest => 5,
            Self::Trade => 6,
            Self::Book => 7,
            Self::Liquidation => 8,
            Self::Candle(_) => 9,
            Self::Instrument => 10,
        }
    }
}

impl fmt::Display for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Candle(interval) => write!(f, "candle:{interval}"),
            _ => f.write_str(self.as_str()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_round_trip() {
        for name in Channel::NAMES {
            assert_eq!(Channel::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Channel::parse("candle"), None);
        assert_eq!(Channel::parse("tikcer"), None);
    }
}
