//! Event lines back into events: the inverse of [`crate::encode`], for journals, files of events and message buses.
//!
//! What is read is what was written: the same line comes out again, with the id that it had, which is not computed
//! anew ([`Event::verify`] does that). Two things are not in a line: what the venue said of the instrument (its
//! `details`), and which of several equal records of one message it was. An event that was read must therefore not be
//! sealed again: that would lose its sizes in base currency. Fields that this version does not know are passed over, as
//! the contract asks; a type or a word that it does not know is an error that names it.

use std::borrow::Cow;
use std::hash::BuildHasher as _;
use std::sync::Arc;

use hashbrown::HashTable;

use crate::batch::Batch;
use crate::canonical;
use crate::decimal::Decimal;
use crate::event::{
    Body, Book, BookKind, Candle, Channel, DecodeFailure, Event, EventId, Funding, FundingSettled, Gap, GapReason, Ident, Level, Liquidation, Mark,
    OpenInterest, Origin, Quote, Refill, Side, Ticker, Trade,
};
use crate::instrument::{Details, Instrument, Kind, Market, Status};
use crate::time::{Interval, Time};
use crate::wire::{self, Fault, Read, Reader, Wire};

/// Bytes that are no event line of a kind that is known here.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}{what}", line.map_or_else(|| "not an event line: ".to_owned(), |line| format!("line {line} is no event line: ")))]
pub struct ParseError {
    line: Option<usize>,
    what: String,
}

impl ParseError {
    /// Which line of a batch, from 1.
    pub fn line(&self) -> Option<usize> {
        self.line
    }
}

impl From<Fault> for ParseError {
    fn from(fault: Fault) -> Self {
        Self { line: None, what: fault.to_string() }
    }
}

fn not_utf8() -> ParseError {
    ParseError { line: None, what: "it is not UTF-8".into() }
}

/// The instruments of events that were read, shared by them. Of bounded size: when it is full it begins anew.
#[derive(Debug, Default)]
pub struct Interner {
    known: HashTable<Arc<Instrument>>,
    venues: Vec<Arc<str>>,
    hasher: foldhash::fast::FixedState,
}

/// More than all venues together list.
const MOST_INSTRUMENTS: usize = 1 << 16;
/// More venues than there are.
const MOST_VENUES: usize = 256;

impl Interner {
    /// The instrument of these names.
    fn get(&mut self, venue: &str, market: Market, venue_symbol: &str, symbol: Option<&str>) -> Arc<Instrument> {
        let hash = self.hasher.hash_one((venue, market, venue_symbol, symbol));
        let same = |known: &Arc<Instrument>| {
            *known.venue_symbol == *venue_symbol && known.market == market && *known.venue == *venue && known.symbol.as_deref() == symbol
        };
        if let Some(known) = self.known.find(hash, same) {
            return known.clone();
        }
        if self.known.len() >= MOST_INSTRUMENTS {
            self.known.clear();
        }
        let instrument = Arc::new(Instrument::named(&self.venue(venue), market, venue_symbol, symbol));
        let hasher = &self.hasher;
        self.known
            .insert_unique(hash, instrument.clone(), |known| hasher.hash_one((&*known.venue, known.market, &*known.venue_symbol, known.symbol.as_deref())));
        instrument
    }

    /// The shared name of a venue.
    fn venue(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.venues.iter().find(|known| ***known == *name) {
            return known.clone();
        }
        if self.venues.len() >= MOST_VENUES {
            self.venues.clear();
        }
        let venue: Arc<str> = name.into();
        self.venues.push(venue.clone());
        venue
    }
}

impl Event {
    /// Reads an event line; a line break at its end may be there.
    ///
    /// # Errors
    /// What is wrong with the line, and where in it.
    pub fn parse(line: &[u8]) -> Result<Self, ParseError> {
        Self::parse_with(line, &mut Interner::default())
    }

    /// Reads an event line, its instrument shared with the events that were read with the same `interner`.
    ///
    /// # Errors
    /// As [`Event::parse`].
    pub fn parse_with(line: &[u8], interner: &mut Interner) -> Result<Self, ParseError> {
        read(simdutf8::basic::from_utf8(line).map_err(|_| not_utf8())?, interner)
    }

    /// Whether the id is that of the content: no for an event that was damaged or forged.
    pub fn verify(&self) -> bool {
        /// More equal records than any message has.
        const MOST_EQUALS: u16 = 1000;
        let mut event = self.clone();
        (self.ordinal..=self.ordinal.max(MOST_EQUALS)).any(|ordinal| {
            event.ordinal = ordinal;
            canonical::id(&event) == self.id
        })
    }
}

impl Batch {
    /// Reads a batch that was written by [`Batch::lines`], whose bytes it keeps: nothing is serialized again.
    ///
    /// # Errors
    /// The first line that is no event (an empty one is none), and what is wrong with it.
    pub fn parse(lines: Vec<u8>) -> Result<Self, ParseError> {
        Self::parse_with(lines, &mut Interner::default())
    }

    /// The same, the instruments shared with the events that were read with the same `interner`.
    ///
    /// # Errors
    /// As [`Batch::parse`].
    pub fn parse_with(mut lines: Vec<u8>, interner: &mut Interner) -> Result<Self, ParseError> {
        if lines.last().is_some_and(|last| *last != b'\n') {
            lines.push(b'\n');
        }
        let text = simdutf8::basic::from_utf8(&lines).map_err(|_| not_utf8())?;
        let mut events = Vec::with_capacity(lines.len() / 200);
        let mut start = 0;
        for end in memchr::memchr_iter(b'\n', &lines) {
            let line = text.get(start..end).unwrap_or_default();
            events.push(read(line, interner).map_err(|error| ParseError { line: Some(events.len() + 1), ..error })?);
            start = end + 1;
        }
        Ok(Self::with_lines(events, lines))
    }
}

/// A field that is always there.
#[derive(Debug)]
struct Given<T>(T);

/// A field that may be absent.
#[derive(Debug)]
struct Maybe<T>(Option<T>);

/// How a value of the contract is written.
trait Value<'a>: Sized {
    fn value(reader: &mut Reader<'a>) -> Read<Self>;
}

impl<'a, T: Value<'a>> Wire<'a> for Given<T> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        T::value(reader).map(Self)
    }
}

impl<'a, T: Value<'a>> Wire<'a> for Maybe<T> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        T::value(reader).map(|value| Self(Some(value)))
    }

    #[inline]
    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}

/// Values that are read as any venue's are.
macro_rules! as_wire {
    ($($type:ty),+) => {$(
        impl<'a> Value<'a> for $type {
            #[inline]
            fn value(reader: &mut Reader<'a>) -> Read<Self> {
                <Self as Wire<'a>>::read(reader)
            }
        }
    )+};
}

as_wire!(Decimal, u64, bool, Cow<'a, str>, Vec<Level>);

impl<'a> Value<'a> for Time {
    #[inline]
    fn value(reader: &mut Reader<'a>) -> Read<Self> {
        reader.number()?.parse().map(Self::from_micros).map_err(|_| reader.shape("is not a time in microseconds"))
    }
}

impl<'a> Value<'a> for u32 {
    fn value(reader: &mut Reader<'a>) -> Read<Self> {
        Self::try_from(<u64 as Wire>::read(reader)?).map_err(|_| reader.shape("is too large"))
    }
}

impl<'a> Value<'a> for Ident {
    #[inline]
    fn value(reader: &mut Reader<'a>) -> Read<Self> {
        reader.string().map(|text| Self::parse(&text))
    }
}

impl<'a> Value<'a> for Box<str> {
    fn value(reader: &mut Reader<'a>) -> Read<Self> {
        reader.string().map(Into::into)
    }
}

impl<'a> Value<'a> for String {
    fn value(reader: &mut Reader<'a>) -> Read<Self> {
        reader.string().map(Cow::into_owned)
    }
}

impl<'a> Value<'a> for EventId {
    #[inline]
    fn value(reader: &mut Reader<'a>) -> Read<Self> {
        let text = reader.string()?;
        let wrong = |reader: &Reader<'a>| reader.shape("is not an id of 32 hexadecimal digits");
        let (digits, rest) = text.as_bytes().as_chunks::<2>();
        if digits.len() != 16 || !rest.is_empty() {
            return Err(wrong(reader));
        }
        let mut id = [0; 16];
        for (byte, [high, low]) in id.iter_mut().zip(digits) {
            let nibble = |digit: &u8| match digit {
                b'0'..=b'9' => Some(digit - b'0'),
                b'a'..=b'f' => Some(digit - b'a' + 10),
                _ => None,
            };
            *byte = nibble(high).zip(nibble(low)).map(|(high, low)| high << 4 | low).ok_or_else(|| wrong(reader))?;
        }
        Ok(Self(id))
    }
}

/// Values that are one of a few words.
macro_rules! as_word {
    ($($type:ty, $parse:expr, $wrong:literal;)+) => {$(
        impl<'a> Value<'a> for $type {
            #[inline]
            fn value(reader: &mut Reader<'a>) -> Read<Self> {
                let word = reader.string()?;
                $parse(&word).ok_or_else(|| reader.shape($wrong))
            }
        }
    )+};
}

/// The one of `all` that is written so.
fn one_of<T: Copy>(all: &[T], as_str: impl Fn(T) -> &'static str, word: &str) -> Option<T> {
    all.iter().copied().find(|one| as_str(*one) == word)
}

as_word! {
    Market, Market::parse, "is no market that is known here";
    Interval, Interval::parse, "is no interval such as `1m`";
    Channel, Channel::parse, "is no channel that is known here";
    Side, |word: &str| one_of(&[Side::Buy, Side::Sell], Side::as_str, word), "is neither `buy` nor `sell`";
    GapReason, |word: &str| one_of(&GapReason::ALL, GapReason::as_str, word), "is no reason that is known here";
    Kind, |word: &str| one_of(&Kind::ALL, Kind::as_str, word), "is no kind of instrument that is known here";
    Status, |word: &str| one_of(&Status::ALL, Status::as_str, word), "is no status that is known here";
    BookKind, |word: &str| one_of(&[BookKind::Snapshot, BookKind::Delta], BookKind::as_str, word), "is neither `snapshot` nor `delta`";
    Origin, |word: &str| one_of(&[Origin::Refill, Origin::Backfill], Origin::as_str, word), "is neither `refill` nor `backfill`";
}

/// Declares, for each type of event, the fields of its line in the order in which they are written, and how it is read.
macro_rules! lines {
    ($($variant:ident($body:ident) as $line:ident { $($field:ident: $wrap:ident<$type:ty>),+ $(,)? } $(+ $extra:ident: $value:expr)?;)+) => {
        $(crate::wire! {
            #[expect(dead_code, reason = "the type is known by then")]
            struct $line<'a> {
                event_type: wire::Ignored = "type",
                venue: Given<Cow<'a, str>>,
                market: Given<Market>,
                venue_symbol: Maybe<Cow<'a, str>>,
                symbol: Maybe<Cow<'a, str>>,
                t: Given<Time>,
                et: Maybe<Time>,
                origin: Maybe<Origin>,
                $($field: $wrap<$type>,)+
                id: Given<EventId>,
            }
        })+

        $(impl $line<'_> {
            #[inline]
            fn event(self, interner: &mut Interner) -> Event {
                let venue_symbol = self.venue_symbol.0.unwrap_or_default();
                Event {
                    instrument: interner.get(&self.venue.0, self.market.0, &venue_symbol, self.symbol.0.as_deref()),
                    received: self.t.0,
                    time: self.et.0,
                    origin: self.origin.0,
                    ordinal: 0,
                    id: self.id.0,
                    body: Body::$variant($body { $($field: self.$field.0,)+ $($extra: $value,)? }.into()),
                }
            }
        })+
    };
}

lines! {
    Ticker(Ticker) as TickerLine {
        last: Maybe<Decimal>, last_size: Maybe<Decimal>, bid: Maybe<Decimal>, bid_size: Maybe<Decimal>, ask: Maybe<Decimal>, ask_size: Maybe<Decimal>,
        open_24h: Maybe<Decimal>, high_24h: Maybe<Decimal>, low_24h: Maybe<Decimal>, volume_24h: Maybe<Decimal>, turnover_24h: Maybe<Decimal>,
        change_24h: Maybe<Decimal>,
    };
    Quote(Quote) as QuoteLine {
        bid: Maybe<Decimal>, bid_size: Maybe<Decimal>, ask: Maybe<Decimal>, ask_size: Maybe<Decimal>, seq: Maybe<Ident>,
    };
    Mark(Mark) as MarkLine { mark: Maybe<Decimal>, index: Maybe<Decimal>, basis: Maybe<Decimal> };
    Funding(Funding) as FundingLine {
        rate: Maybe<Decimal>, next_time: Maybe<Time>, interval_hours: Maybe<u32>, predicted_rate: Maybe<Decimal>, cap: Maybe<Decimal>, floor: Maybe<Decimal>,
    };
    FundingSettled(FundingSettled) as FundingSettledLine { rate: Given<Decimal>, time: Given<Time>, mark: Maybe<Decimal> };
    OpenInterest(OpenInterest) as OpenInterestLine { value: Maybe<Decimal>, value_base: Maybe<Decimal>, value_quote: Maybe<Decimal> };
    Trade(Trade) as TradeLine {
        trade_id: Maybe<Ident>, price: Given<Decimal>, size: Given<Decimal>, size_base: Maybe<Decimal>, side: Maybe<Side>,
    };
    Liquidation(Liquidation) as LiquidationLine {
        price: Given<Decimal>, size: Given<Decimal>, size_base: Maybe<Decimal>, side: Maybe<Side>, trade_id: Maybe<Ident>,
    };
    Book(Book) as BookLine {
        kind: Given<BookKind>, bids: Given<Vec<Level>>, asks: Given<Vec<Level>>, seq: Maybe<Ident>, prev_seq: Maybe<Ident>, checksum: Maybe<Ident>,
    };
    Candle(Candle) as CandleLine {
        interval: Given<Interval>, open_time: Given<Time>, open: Given<Decimal>, high: Given<Decimal>, low: Given<Decimal>, close: Given<Decimal>,
        volume: Given<Decimal>, turnover: Maybe<Decimal>, trades: Maybe<u64>, closed: Given<bool>,
    };
    Instrument(Details) as InstrumentLine {
        kind: Given<Kind>, base: Given<Box<str>>, quote: Given<Box<str>>, settle: Maybe<Box<str>>, contract_size: Maybe<Decimal>, tick_size: Maybe<Decimal>,
        lot_size: Maybe<Decimal>, min_size: Maybe<Decimal>, expiry: Maybe<Time>, status: Given<Status>, funding_interval_hours: Maybe<u32>,
    } + option: None;
    Gap(Gap) as GapLine { channel: Given<Channel>, reason: Given<GapReason>, from: Maybe<Ident>, to: Maybe<Ident> };
    Refill(Refill) as RefillLine {
        gap: Given<EventId>, channel: Given<Channel>, from: Maybe<Ident>, to: Maybe<Ident>, count: Given<u64>, complete: Given<bool>,
    };
    DecodeError(DecodeFailure) as DecodeErrorLine { reason: Given<String>, excerpt: Given<String> };
}

/// Reads one line.
fn read(text: &str, interner: &mut Interner) -> Result<Event, ParseError> {
    let kind = wire::peek_str(text, "type")?.ok_or_else(|| ParseError { line: None, what: "`type` is missing".into() })?;
    Ok(match &*kind {
        "ticker" => wire::read::<TickerLine<'_>>(text)?.event(interner),
        "quote" => wire::read::<QuoteLine<'_>>(text)?.event(interner),
        "mark" => wire::read::<MarkLine<'_>>(text)?.event(interner),
        "funding" => wire::read::<FundingLine<'_>>(text)?.event(interner),
        "funding_settled" => wire::read::<FundingSettledLine<'_>>(text)?.event(interner),
        "open_interest" => wire::read::<OpenInterestLine<'_>>(text)?.event(interner),
        "trade" => wire::read::<TradeLine<'_>>(text)?.event(interner),
        "liquidation" => wire::read::<LiquidationLine<'_>>(text)?.event(interner),
        "book" => wire::read::<BookLine<'_>>(text)?.event(interner),
        "candle" => wire::read::<CandleLine<'_>>(text)?.event(interner),
        "instrument" => wire::read::<InstrumentLine<'_>>(text)?.event(interner),
        "gap" => wire::read::<GapLine<'_>>(text)?.event(interner),
        "refill" => wire::read::<RefillLine<'_>>(text)?.event(interner),
        "decode_error" => wire::read::<DecodeErrorLine<'_>>(text)?.event(interner),
        other => return Err(ParseError { line: None, what: format!("its type `{other}` is not known here: a newer collector may have written it") }),
    })
}

#[cfg(test)]
mod tests;
