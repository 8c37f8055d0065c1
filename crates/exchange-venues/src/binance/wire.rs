//! Binance's shapes, in Binance's names. What they mean is `decode.rs`'s business.
//!
//! Fields that are not used are named all the same where they stand between others: a known key is passed over faster.

use std::borrow::Cow;

use exchange_core::decimal::Decimal;
use exchange_core::event::{Ident, Level};
use exchange_core::time::{Interval, Time};
use exchange_core::wire;
use exchange_core::wire::{Fault, Ignored, Num, Read, Reader, Rows, Wire};

/// A time: milliseconds, or microseconds where the client asked for them (`timeUnit=MICROSECOND`, the header
/// `X-MBX-TIME-UNIT`), which three more digits tell. `""`, `null` and 0 are absent.
/// <https://developers.binance.com/docs/binance-spot-api-docs/web-socket-streams>
#[derive(Debug, Clone, Copy)]
pub(super) struct Stamp(pub(super) Option<Time>);

/// The first number that is too late for milliseconds (the year 5138), and too early for microseconds (1973).
const FIRST_MICROS: i64 = 100_000_000_000_000;

impl<'a> Wire<'a> for Stamp {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.null() {
            return Ok(Self(None));
        }
        let text = reader.string_or_number()?;
        let mut number = 0i64;
        for byte in text.bytes() {
            let digit = byte.wrapping_sub(b'0');
            if digit > 9 || text.len() > 17 {
                return Err(reader.shape("is not a time"));
            }
            number = number * 10 + i64::from(digit);
        }
        Ok(Self(match number {
            0 => None,
            millis if millis < FIRST_MICROS => Some(Time::from_millis(millis)),
            micros => Some(Time::from_micros(micros)),
        }))
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}

/// A time that must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct When(pub(super) Time);

impl<'a> Wire<'a> for When {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        match Stamp::read(reader)?.0 {
            Some(time) => Ok(Self(time)),
            None => Err(reader.shape("is not a time")),
        }
    }
}

/// A candle's length: Binance's words are the contract's.
#[derive(Debug)]
pub(super) struct Span(pub(super) Interval);

impl<'a> Wire<'a> for Span {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let word = reader.string()?;
        Interval::parse(&word).map(Self).ok_or_else(|| reader.shape("is not an interval"))
    }
}

/// One side of a book. Most messages have fewer levels than are made room for here.
#[derive(Debug)]
pub(super) struct Levels(pub(super) Vec<Level>);

impl<'a> Wire<'a> for Levels {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut more = reader.open_array()?;
        let mut levels = Vec::with_capacity(if more { 8 } else { 0 });
        while more {
            levels.push(Level::read(reader)?);
            more = reader.more_in_array()?;
        }
        Ok(Self(levels))
    }
}

/// Whether a key is there, whatever its value.
#[derive(Debug)]
pub(super) struct Present(pub(super) bool);

impl<'a> Wire<'a> for Present {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        reader.skip().map(|()| Self(true))
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(false))
    }
}

/// What an instrument's `filters` say of its grid.
#[derive(Debug, Default)]
pub(super) struct Filters {
    pub(super) tick: Option<Decimal>,
    pub(super) lot: Option<Decimal>,
    pub(super) min: Option<Decimal>,
}

impl<'a> Wire<'a> for Filters {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut filters = Self::default();
        let mut more = reader.open_array()?;
        while more {
            let rule = Rule::read(reader)?;
            match &*rule.filterType {
                // A step of zero means that the rule is off.
                "PRICE_FILTER" => filters.tick = rule.tickSize.positive(),
                "LOT_SIZE" => {
                    filters.lot = rule.stepSize.positive();
                    filters.min = rule.minQty.positive();
                }
                _ => {}
            }
            more = reader.more_in_array()?;
        }
        Ok(filters)
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Result<Self, Fault> {
        Ok(Self::default())
    }
}

wire! {
    struct Rule<'a> { filterType: Cow<'a, str>, minPrice: Ignored, maxPrice: Ignored, tickSize: Num, minQty: Num, maxQty: Ignored, stepSize: Num }

    // What WebSockets push.

    pub(super) struct Trade<'a> {
        e: Ignored, E: Stamp, T: Stamp, s: Cow<'a, str>, t: Option<Ident>, p: Decimal, q: Decimal, b: Ignored, a: Ignored,
        X: Option<Cow<'a, str>>, S: Ignored, m: Option<bool>, M: Ignored, st: Option<u64>,
    }

    pub(super) struct AggTrade<'a> {
        e: Ignored, E: Stamp, a: Option<Ident>, s: Cow<'a, str>, p: Decimal, q: Decimal, nq: Ignored, f: Ignored, l: Ignored, T: Stamp,
        m: Option<bool>, M: Ignored, st: Option<u64>,
    }

    /// Spot's has neither `e` nor a time.
    pub(super) struct BookTicker<'a> {
        e: Ignored, u: Option<Ident>, s: Cow<'a, str>, ps: Ignored, b: Num, B: Num, a: Num, A: Num, T: Stamp, E: Stamp, st: Option<u64>,
    }

    /// Of 24 hours, whole or mini, of all markets and options.
    pub(super) struct Ticker<'a> {
        e: Ignored, E: Stamp, s: Cow<'a, str>, ps: Ignored, p: Ignored, P: Num, w: Ignored, x: Ignored, c: Num, Q: Num,
        b: Num, B: Num, a: Num, A: Num, o: Num, h: Num, l: Num, v: Num, q: Num,
        O: Ignored, C: Ignored, F: Ignored, L: Ignored, n: Ignored, st: Option<u64>,
    }

    pub(super) struct MarkPrice<'a> {
        e: Ignored, E: Stamp, s: Cow<'a, str>, p: Num, ap: Ignored, P: Ignored, i: Num, r: Num, T: Stamp, st: Option<u64>,
    }

    /// `i` is the pair; in the options' index stream it is `s`.
    pub(super) struct IndexPrice<'a> { e: Ignored, E: Stamp, s: Option<Cow<'a, str>>, i: Option<Cow<'a, str>>, p: Num }

    pub(super) struct Candle<'a> { e: Ignored, E: Stamp, s: Cow<'a, str>, k: Kline, st: Option<u64> }

    pub(super) struct Kline {
        t: When, T: Ignored, s: Ignored, i: Span, f: Ignored, L: Ignored, o: Decimal, c: Decimal, h: Decimal, l: Decimal, v: Decimal,
        n: Option<u64>, x: bool, q: Num, V: Ignored, Q: Ignored, B: Ignored,
    }

    pub(super) struct ForceOrder<'a> { e: Ignored, E: Stamp, o: ForcedOrder<'a>, ps: Ignored, st: Option<u64> }

    pub(super) struct ForcedOrder<'a> {
        s: Cow<'a, str>, ps: Ignored, S: Cow<'a, str>, o: Ignored, f: Ignored, q: Decimal, p: Decimal, ap: Num, X: Ignored, l: Ignored, z: Num,
        T: Stamp,
    }

    /// A change of a book, or its best levels.
    pub(super) struct Depth<'a> {
        e: Ignored, E: Stamp, T: Stamp, s: Cow<'a, str>, ps: Ignored, U: Option<u64>, u: u64, pu: Option<u64>, b: Levels, a: Levels,
        st: Option<u64>,
    }

    pub(super) struct ContractInfo<'a> {
        e: Ignored, E: Stamp, s: Cow<'a, str>, ps: Ignored, ct: Ignored, dt: Stamp, ot: Ignored, cs: Cow<'a, str>, st: Option<u64>,
    }

    pub(super) struct OptionMark<'a> { s: Cow<'a, str>, mp: Num, E: Stamp, e: Ignored, i: Num }

    pub(super) struct OptionOpenInterest<'a> { e: Ignored, E: Stamp, s: Cow<'a, str>, o: Num, h: Num }

    /// An answer to a subscribe frame: `result` (accepted), or an error, of its own or nested.
    pub(super) struct Answer<'a> { result: Present, error: Option<WsError<'a>>, code: Option<i64>, msg: Option<Cow<'a, str>>, id: Option<Ident> }

    pub(super) struct WsError<'a> { code: Option<i64>, msg: Option<Cow<'a, str>> }

    // What REST answers.

    pub(super) struct RestTicker<'a> {
        symbol: Cow<'a, str>, pair: Ignored, priceChange: Ignored, priceChangePercent: Num, weightedAvgPrice: Ignored, prevClosePrice: Ignored,
        lastPrice: Num, lastQty: Num, bidPrice: Num, bidQty: Num, askPrice: Num, askQty: Num, openPrice: Num, highPrice: Num, lowPrice: Num,
        volume: Num, quoteVolume: Num, baseVolume: Ignored, openTime: Ignored, closeTime: Stamp, firstId: Ignored, lastId: Ignored, count: Ignored,
    }

    pub(super) struct RestPrice<'a> { symbol: Cow<'a, str>, ps: Ignored, price: Num, time: Stamp }

    pub(super) struct RestBookTicker<'a> {
        lastUpdateId: Option<Ident>, symbol: Cow<'a, str>, pair: Ignored, bidPrice: Num, bidQty: Num, askPrice: Num, askQty: Num, time: Stamp,
    }

    pub(super) struct PremiumIndex<'a> {
        symbol: Cow<'a, str>, pair: Ignored, markPrice: Num, indexPrice: Num, estimatedSettlePrice: Ignored, lastFundingRate: Num,
        interestRate: Ignored, nextFundingTime: Stamp, time: Stamp,
    }

    pub(super) struct FundingInfo<'a> {
        symbol: Cow<'a, str>, adjustedFundingRateCap: Num, adjustedFundingRateFloor: Num, fundingIntervalHours: Option<u64>, disclaimer: Ignored,
    }

    pub(super) struct FundingRate<'a> { symbol: Cow<'a, str>, fundingTime: When, fundingRate: Decimal, markPrice: Num }

    pub(super) struct RestOpenInterest<'a> { symbol: Option<Cow<'a, str>>, pair: Ignored, openInterest: Num, contractType: Ignored, time: Stamp }

    pub(super) struct OpenInterestHist<'a> { symbol: Cow<'a, str>, sumOpenInterest: Num, sumOpenInterestValue: Num, timestamp: Stamp }

    /// Also what spot's `@depth5` pushes.
    pub(super) struct RestDepth<'a> {
        lastUpdateId: u64, E: Stamp, T: Stamp, symbol: Option<Cow<'a, str>>, pair: Ignored, bids: Levels, asks: Levels,
    }

    pub(super) struct RestTrade {
        id: Option<Ident>, price: Decimal, qty: Decimal, quoteQty: Ignored, baseQty: Ignored, time: Stamp, isBuyerMaker: Option<bool>,
    }

    pub(super) struct RestAggTrade { a: Option<Ident>, p: Decimal, q: Decimal, nq: Ignored, f: Ignored, l: Ignored, T: Stamp, m: Option<bool> }

    /// By position; what follows is what takers bought.
    pub(super) struct RestKline row {
        open_time: When, open: Decimal, high: Decimal, low: Decimal, close: Decimal, volume: Decimal, close_time: When, turnover: Num, trades: Option<u64>,
    }

    pub(super) struct ExchangeInfo<'a> { rateLimits: Option<Rows<'a, RateLimit<'a>>>, symbols: Rows<'a, Listing<'a>> }

    /// So much of a kind in each window of `intervalNum` times `interval`.
    pub(super) struct RateLimit<'a> { rateLimitType: Cow<'a, str>, interval: Cow<'a, str>, intervalNum: u64, limit: u64 }

    pub(super) struct Listing<'a> {
        symbol: Cow<'a, str>, pair: Option<Cow<'a, str>>, contractType: Option<Cow<'a, str>>, deliveryDate: Stamp, onboardDate: Ignored,
        status: Option<Cow<'a, str>>, contractStatus: Option<Cow<'a, str>>, contractSize: Num, marginAsset: Option<Cow<'a, str>>,
        baseAsset: Cow<'a, str>, quoteAsset: Cow<'a, str>, filters: Filters,
    }
}
