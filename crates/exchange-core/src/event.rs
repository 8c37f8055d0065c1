//! Events: what a venue's message means, in the words of the data contract (`SCHEMA.md`, schema 1).
//!
//! Every field that a venue did not send is `None`; nothing here is ever a guess. An [`Event`] is plain data: its
//! JSON is written by [`Event::write_json`], its id by [`crate::canonical`].

mod channel;
mod ident;

use std::fmt;
use std::sync::Arc;

pub use self::channel::{CHANNELS, Channel};
pub use self::ident::Ident;
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
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
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

impl Body {
    /// All that [`Body::kind`] may answer.
    pub const KINDS: [&'static str; 14] = [
        "ticker",
        "quote",
        "mark",
        "funding",
        "funding_settled",
        "open_interest",
        "trade",
        "liquidation",
        "book",
        "candle",
        "instrument",
        "gap",
        "refill",
        "decode_error",
    ];

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

    /// Whether this is a state that carries no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Ticker(t) => [
                &t.last,
                &t.bid,
                &t.ask,
                &t.volume_24h,
                &t.open_24h,
                &t.high_24h,
                &t.low_24h,
                &t.turnover_24h,
                &t.change_24h,
                &t.last_size,
                &t.bid_size,
                &t.ask_size,
            ]
            .into_iter()
            .all(Option::is_none),
            Self::Quote(q) => q.bid.is_none() && q.ask.is_none() && q.bid_size.is_none() && q.ask_size.is_none(),
            Self::Mark(m) => m.mark.is_none() && m.index.is_none() && m.basis.is_none(),
            Self::Funding(f) => {
                f.rate.is_none() && f.next_time.is_none() && f.interval_hours.is_none() && f.predicted_rate.is_none() && f.cap.is_none() && f.floor.is_none()
            }
            Self::OpenInterest(v) => v.value.is_none() && v.value_base.is_none() && v.value_quote.is_none(),
            _ => false,
        }
    }
}

impl Event {
    /// A live event, not sealed yet.
    #[inline]
    pub fn new(instrument: Arc<Instrument>, received: Time, time: Option<Time>, body: Body) -> Self {
        Self { instrument, received, time, origin: None, ordinal: 0, id: EventId::NONE, body }
    }

    /// A gap, not sealed yet: a lost connection missed what a channel of an instrument said from `since` on, which was noticed
    /// at `received`.
    pub fn disconnected(instrument: Arc<Instrument>, channel: Channel, since: Time, received: Time) -> Self {
        let gap = Gap { channel, reason: GapReason::Disconnect, from: Ident::of_time(since), to: None };
        Self::new(instrument, received, None, Body::Gap(Box::new(gap)))
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
