//! Events: what a venue's message means, in the words of the data contract (`SCHEMA.md`, schema 1).
//!
//! Every field that a venue did not send is `None`; nothing here is ever a guess. An [`Event`] is plain data: its
//! JSON is written by [`Event::write_json`], its id by [`crate::canonical`].

use std::fmt;
use std::sync::Arc;

use crate::decimal::Decimal;
use crate::instrument::{Details, Instrument, Market};
use crate::time::{Interval, Time};

/// The number of the data contract that these types implement.
pub const SCHEMA: u32 = 1;

/// One fact, venue-neutral.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// Whose fact this is.
    pub instrument: Arc<Instrument>,
    /// `t`: when the message arrived.
    pub received: Time,
    /// `et`: the venue's own time of the fact.
    pub time: Option<Time>,
    /// How the event came here, if not live.
    pub origin: Option<Origin>,
    /// Which of several records of one message that are equal in every field (0: the first, or the only one).
    pub ordinal: u16,
    /// The content's identity; [`EventId::NONE`] until it was sealed.
    pub id: EventId,
    /// What happened.
    pub body: Body,
}

/// Where an event that is not live came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Origin {
    /// Fetched to close a gap.
    Refill,
    /// Fetched as history.
    Backfill,
}

impl Origin {
    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Refill => "refill",
            Self::Backfill => "backfill",
        }
    }
}

/// The first 16 bytes of the BLAKE3 hash of an event's canonical content.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct EventId(pub [u8; 16]);

impl EventId {
    /// Not computed yet.
    pub const NONE: Self = Self([0; 16]);
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What happened: one variant for each `type` of the contract.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the variants are the contract's types, documented on their structs")]
pub enum Body {
    Ticker(Ticker),
    Quote(Quote),
    Mark(Mark),
    Funding(Funding),
    FundingSettled(FundingSettled),
    OpenInterest(OpenInterest),
    Trade(Trade),
    Liquidation(Liquidation),
    Book(Book),
    Candle(Candle),
    Instrument(Box<Details>),
    Gap(Box<Gap>),
    Refill(Box<Refill>),
    DecodeError(Box<DecodeFailure>),
}

const _: () = assert!(size_of::<Event>() <= 272, "an event is moved often: box what is rare and large");

/// The last 24 hours and the last trade of an instrument.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Ticker {
    /// Price of the last trade.
    pub last: Option<Decimal>,
    /// Size of the last trade.
    pub last_size: Option<Decimal>,
    /// Best bid.
    pub bid: Option<Decimal>,
    /// Size of the best bid.
    pub bid_size: Option<Decimal>,
    /// Best ask.
    pub ask: Option<Decimal>,
    /// Size of the best ask.
    pub ask_size: Option<Decimal>,
    /// Price 24 hours ago.
    pub open_24h: Option<Decimal>,
    /// Highest price of 24 hours.
    pub high_24h: Option<Decimal>,
    /// Lowest price of 24 hours.
    pub low_24h: Option<Decimal>,
    /// Traded in 24 hours, in the venue's unit (base or contracts).
    pub volume_24h: Option<Decimal>,
    /// Traded in 24 hours, in quote currency.
    pub turnover_24h: Option<Decimal>,
    /// Change over 24 hours as a fraction: 0.01 is one percent.
    pub change_24h: Option<Decimal>,
}

/// Best bid and offer, from a venue's own top-of-book stream.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Quote {
    /// Best bid; absent for an empty side.
    pub bid: Option<Decimal>,
    /// Size of the best bid.
    pub bid_size: Option<Decimal>,
    /// Best ask; absent for an empty side.
    pub ask: Option<Decimal>,
    /// Size of the best ask.
    pub ask_size: Option<Decimal>,
    /// The venue's sequence number.
    pub seq: Option<Ident>,
}

/// Mark and index price.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Mark {
    /// Mark price.
    pub mark: Option<Decimal>,
    /// Index price.
    pub index: Option<Decimal>,
    /// The venue's basis.
    pub basis: Option<Decimal>,
}

/// The running funding rate of a perpetual.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Funding {
    /// Fraction per funding interval: 0.0001 is one basis point.
    pub rate: Option<Decimal>,
    /// When funding is next exchanged.
    pub next_time: Option<Time>,
    /// Hours between two settlements.
    pub interval_hours: Option<u32>,
    /// The venue's prediction for the interval after the running one.
    pub predicted_rate: Option<Decimal>,
    /// Highest possible rate.
    pub cap: Option<Decimal>,
    /// Lowest possible rate.
    pub floor: Option<Decimal>,
}

/// A past funding settlement.
#[derive(Debug, Clone, PartialEq)]
pub struct FundingSettled {
    /// The rate that was exchanged.
    pub rate: Decimal,
    /// When.
    pub time: Time,
    /// Mark price then.
    pub mark: Option<Decimal>,
}

/// Open interest; at least one field is there.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct OpenInterest {
    /// In the venue's unit (base or contracts).
    pub value: Option<Decimal>,
    /// In base currency.
    pub value_base: Option<Decimal>,
    /// In quote currency.
    pub value_quote: Option<Decimal>,
}

/// Who was the aggressor of a trade, or what the forced order of a liquidation did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Side {
    /// Bought.
    Buy,
    /// Sold.
    Sell,
}

impl Side {
    /// `buy` or `sell`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Buy => "buy",
            Self::Sell => "sell",
        }
    }

    /// The other side.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::Buy => Self::Sell,
            Self::Sell => Self::Buy,
        }
    }
}

/// A trade.
#[derive(Debug, Clone, PartialEq)]
pub struct Trade {
    /// The venue's identity of the trade.
    pub trade_id: Option<Ident>,
    /// Price.
    pub price: Decimal,
    /// Size in the venue's unit.
    pub size: Decimal,
    /// Size in base currency; filled when the event is sealed.
    pub size_base: Option<Decimal>,
    /// The taker's side.
    pub side: Option<Side>,
}

/// A forced order.
#[derive(Debug, Clone, PartialEq)]
pub struct Liquidation {
    /// Price.
    pub price: Decimal,
    /// Size in the venue's unit.
    pub size: Decimal,
    /// Size in base currency; filled when the event is sealed.
    pub size_base: Option<Decimal>,
    /// Side of the forced order: `sell` means that a long position was liquidated.
    pub side: Option<Side>,
    /// The venue's identity of the trade.
    pub trade_id: Option<Ident>,
}

/// Whether a book message replaces the book or changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum BookKind {
    /// Replaces the book.
    Snapshot,
    /// Sets absolute sizes per price; size 0 removes the price.
    Delta,
}

impl BookKind {
    /// `snapshot` or `delta`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Snapshot => "snapshot",
            Self::Delta => "delta",
        }
    }
}

/// One price of a book.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Level {
    /// Price.
    pub price: Decimal,
    /// Size at that price; in a delta, 0 removes it.
    pub size: Decimal,
}

/// An order book, or a change of one.
#[derive(Debug, Clone, PartialEq)]
pub struct Book {
    /// Snapshot or delta.
    pub kind: BookKind,
    /// Bids, as sent.
    pub bids: Vec<Level>,
    /// Asks, as sent.
    pub asks: Vec<Level>,
    /// The venue's sequence number of this message.
    pub seq: Option<Ident>,
    /// The sequence number that this message follows.
    pub prev_seq: Option<Ident>,
    /// The venue's checksum of the book after this message.
    pub checksum: Option<Ident>,
}

/// A candle.
#[derive(Debug, Clone, PartialEq)]
pub struct Candle {
    /// Its length.
    pub interval: Interval,
    /// When it opened.
    pub open_time: Time,
    /// First price.
    pub open: Decimal,
    /// Highest price.
    pub high: Decimal,
    /// Lowest price.
    pub low: Decimal,
    /// Last price.
    pub close: Decimal,
    /// Traded, in the venue's unit.
    pub volume: Decimal,
    /// Traded, in quote currency.
    pub turnover: Option<Decimal>,
    /// Number of trades.
    pub trades: Option<u64>,
    /// Whether the candle is final.
    pub closed: bool,
}

/// Something was missed, and the collector knows it.
#[derive(Debug, Clone, PartialEq)]
pub struct Gap {
    /// What was missed.
    pub channel: Channel,
    /// How.
    pub reason: GapReason,
    /// From where: a sequence number or a time in microseconds.
    pub from: Option<Ident>,
    /// To where.
    pub to: Option<Ident>,
}

/// How something was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[expect(missing_docs, reason = "named by the contract")]
pub enum GapReason {
    Disconnect,
    Sequence,
    Checksum,
    Overflow,
}

impl GapReason {
    /// All reasons.
    pub const ALL: [Self; 4] = [Self::Disconnect, Self::Sequence, Self::Checksum, Self::Overflow];

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Disconnect => "disconnect",
            Self::Sequence => "sequence",
            Self::Checksum => "checksum",
            Self::Overflow => "overflow",
        }
    }
}

/// How far a gap was closed.
#[derive(Debug, Clone, PartialEq)]
pub struct Refill {
    /// The gap.
    pub gap: EventId,
    /// What was refilled.
    pub channel: Channel,
    /// From where.
    pub from: Option<Ident>,
    /// To where.
    pub to: Option<Ident>,
    /// Events recovered.
    pub count: u64,
    /// Whether nothing is missing now.
    pub complete: bool,
}

/// A message or record that could not be decoded.
#[derive(Debug, Clone, PartialEq)]
pub struct DecodeFailure {
    /// Why; for an error answer it begins with the kind of the error.
    pub reason: String,
    /// At most 200 characters of the payload.
    pub excerpt: String,
}

/// A venue's identifier or sequence number: text in the contract, compact here.
#[derive(Clone, PartialEq, Eq, Hash)]
pub enum Ident {
    /// Digits without a leading zero.
    Number(u64),
    /// A lower-case, hyphenated UUID.
    Uuid([u8; 16]),
    /// Any other text.
    Text(Box<str>),
}

impl Ident {
    /// The identifier for a text. The same text always gives the same variant.
    #[inline]
    pub fn parse(text: &str) -> Self {
        let bytes = text.as_bytes();
        if !bytes.is_empty() && bytes.len() <= 19 && (bytes.first() != Some(&b'0') || bytes.len() == 1) && bytes.iter().all(u8::is_ascii_digit) {
            return Self::Number(bytes.iter().fold(0, |sum, &b| sum * 10 + u64::from(b - b'0')));
        }
        if bytes.len() == 36
            && let Some(uuid) = parse_uuid(bytes)
        {
            return Self::Uuid(uuid);
        }
        // Twenty digits may still fit.
        match text.parse::<u64>() {
            Ok(number) if bytes.len() == 20 && !text.starts_with(['0', '+']) => Self::Number(number),
            _ => Self::Text(text.into()),
        }
    }

    /// The number, if it is one.
    pub fn as_number(&self) -> Option<u64> {
        match self {
            Self::Number(number) => Some(*number),
            _ => None,
        }
    }
}

fn parse_uuid(text: &[u8]) -> Option<[u8; 16]> {
    let nibble = |b: u8| match b {
        b'0'..=b'9' => Some(b - b'0'),
        b'a'..=b'f' => Some(b - b'a' + 10),
        _ => None,
    };
    let mut uuid = [0; 16];
    let mut at = 0;
    for byte in &mut uuid {
        if matches!(at, 8 | 13 | 18 | 23) {
            if *text.get(at)? != b'-' {
                return None;
            }
            at += 1;
        }
        *byte = nibble(*text.get(at)?)? << 4 | nibble(*text.get(at + 1)?)?;
        at += 2;
    }
    Some(uuid)
}

impl From<u64> for Ident {
    fn from(number: u64) -> Self {
        Self::Number(number)
    }
}

impl From<&str> for Ident {
    fn from(text: &str) -> Self {
        Self::parse(text)
    }
}

impl fmt::Display for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(f, "{number}"),
            Self::Uuid(uuid) => {
                for (at, byte) in uuid.iter().enumerate() {
                    if matches!(at, 4 | 6 | 8 | 10) {
                        f.write_str("-")?;
                    }
                    write!(f, "{byte:02x}")?;
                }
                Ok(())
            }
            Self::Text(text) => f.write_str(text),
        }
    }
}

impl fmt::Debug for Ident {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

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

impl Body {
    /// The contract's `type`.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Gap(_) => "gap",
            Self::Refill(_) => "refill",
            Self::DecodeError(_) => "decode_error",
            _ => self.channel().map_or("", Channel::as_str),
        }
    }

    /// The channel that the event belongs to; `None` for what the collector itself says.
    pub fn channel(&self) -> Option<Channel> {
        Some(match self {
            Self::Ticker(_) => Channel::Ticker,
            Self::Quote(_) => Channel::Quote,
            Self::Mark(_) => Channel::Mark,
            Self::Funding(_) => Channel::Funding,
            Self::FundingSettled(_) => Channel::FundingSettled,
            Self::OpenInterest(_) => Channel::OpenInterest,
            Self::Trade(_) => Channel::Trade,
            Self::Liquidation(_) => Channel::Liquidation,
            Self::Book(_) => Channel::Book,
            Self::Candle(candle) => Channel::Candle(candle.interval),
            Self::Instrument(_) => Channel::Instrument,
            Self::Gap(_) | Self::Refill(_) | Self::DecodeError(_) => return None,
        })
    }

    /// Whether this is a state: a value that holds until it changes, so that an unchanged one is no news.
    pub fn is_state(&self) -> bool {
        matches!(self, Self::Ticker(_) | Self::Quote(_) | Self::Mark(_) | Self::Funding(_) | Self::OpenInterest(_) | Self::Instrument(_))
    }
}

impl Event {
    /// A live event, not sealed yet.
    #[inline]
    pub fn new(instrument: Arc<Instrument>, received: Time, time: Option<Time>, body: Body) -> Self {
        Self { instrument, received, time, origin: None, ordinal: 0, id: EventId::NONE, body }
    }

    /// The market of the event's instrument.
    pub fn market(&self) -> Market {
        self.instrument.market
    }

    /// Fills what follows from the message and the instrument alone: sizes in base currency.
    #[inline]
    pub fn derive_base_sizes(&mut self) {
        match &mut self.body {
            Body::Trade(trade) => trade.size_base = self.instrument.base_size(&trade.size, Some(&trade.price)),
            Body::Liquidation(liquidation) => liquidation.size_base = self.instrument.base_size(&liquidation.size, Some(&liquidation.price)),
            Body::OpenInterest(OpenInterest { value: Some(value), value_base: base @ None, .. }) => *base = self.instrument.base_size(value, None),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idents_keep_their_text() {
        for text in [
            "0",
            "7",
            "18446744073709551615",
            "18446744073709551616",
            "007",
            "",
            "+5",
            "20f43950-d8dd-5b31-9112-a178eb6023af",
            "20F43950-D8DD-5b31-9112-a178eb6023af",
            "abc",
        ] {
            assert_eq!(Ident::parse(text).to_string(), text);
        }
        assert!(matches!(Ident::parse("18446744073709551615"), Ident::Number(u64::MAX)));
    }

    #[test]
    fn channels_round_trip() {
        for name in Channel::NAMES {
            assert_eq!(Channel::parse(name).unwrap().to_string(), name);
        }
        assert_eq!(Channel::parse("candle"), None);
        assert_eq!(Channel::parse("tikcer"), None);
    }
}
