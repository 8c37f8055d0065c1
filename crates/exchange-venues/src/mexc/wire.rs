//! MEXC's shapes, under MEXC's own names: spot's protobuf frames, the contracts' JSON frames, and what REST answers.

use std::borrow::Cow;

use exchange_core::event::{Ident, Level};
use exchange_core::proto::{Message, Value};
use exchange_core::wire::{Ignored, Millis, Num, Read, Reader, Wire, at};
use exchange_core::{Decimal, Time, wire};

/// A field of a protobuf message. In this format, an empty text and a zero are the same as none.
pub(super) trait Field<'a>: Default {
    /// Takes the field's value, or of a list the next one.
    fn take(&mut self, value: Value<'a>) -> Read<()>;
}

impl<'a> Field<'a> for &'a str {
    fn take(&mut self, value: Value<'a>) -> Read<()> {
        *self = value.text()?;
        Ok(())
    }
}

impl<'a> Field<'a> for i64 {
    fn take(&mut self, value: Value<'a>) -> Read<()> {
        *self = value.number()?;
        Ok(())
    }
}

impl<'a> Field<'a> for Num {
    #[inline]
    fn take(&mut self, value: Value<'a>) -> Read<()> {
        let text = value.text()?;
        self.0 = match text {
            "" => None,
            _ => Some(Decimal::parse(text.as_bytes()).map_err(|_| value.shape("is not a decimal number"))?),
        };
        Ok(())
    }
}

impl<'a> Field<'a> for Option<Ident> {
    fn take(&mut self, value: Value<'a>) -> Read<()> {
        *self = Some(value.text()?).filter(|text| !text.is_empty()).map(Ident::parse);
        Ok(())
    }
}

/// One side of a book. A level that cannot be read leaves no book that could be trusted.
impl<'a> Field<'a> for Vec<Level> {
    #[inline]
    fn take(&mut self, value: Value<'a>) -> Read<()> {
        let PbLevel { price: Num(Some(price)), quantity: Num(Some(size)) } = PbLevel::read(value.message()?)? else {
            return Err(value.shape("has no price or no quantity"));
        };
        self.push(Level { price, size });
        Ok(())
    }
}

/// Records of a list. One that is protobuf, but not of its shape, costs only itself.
impl<'a, T: Record<'a>> Field<'a> for Vec<Read<T>> {
    fn take(&mut self, value: Value<'a>) -> Read<()> {
        match T::read(value.message()?) {
            Err(fault) if fault.broken => return Err(fault),
            record => self.push(record),
        }
        Ok(())
    }
}

/// A protobuf message whose fields are known by number.
pub(super) trait Record<'a>: Default {
    /// Reads it; fields of other numbers are passed over.
    fn read(message: Message<'a>) -> Read<Self>;
}

macro_rules! protobuf {
    ($($(#[$meta:meta])* struct $name:ident $(<$lt:lifetime>)? { $($number:literal $field:ident: $ty:ty),+ $(,)? })+) => {$(
        $(#[$meta])*
        #[derive(Debug, Default)]
        #[allow(non_snake_case, reason = "the venue's own names")]
        pub(super) struct $name $(<$lt>)? { $(pub(super) $field: $ty,)+ }
        protobuf!(@read $name [$($lt)?] $($number $field)+);
    )+};
    (@read $name:ident [] $($number:literal $field:ident)+) => { impl<'w> Record<'w> for $name { protobuf!(@body 'w $($number $field)+); } };
    (@read $name:ident [$lt:lifetime] $($number:literal $field:ident)+) => { impl<$lt> Record<$lt> for $name<$lt> { protobuf!(@body $lt $($number $field)+); } };
    (@body $lt:lifetime $($number:literal $field:ident)+) => {
        #[inline]
        fn read(message: Message<$lt>) -> Read<Self> {
            let mut record = Self::default();
            message.each(|number, value| match number {
                $($number => at(stringify!($field), Field::take(&mut record.$field, value)),)+
                _ => Ok(()),
            })?;
            Ok(record)
        }
    };
}

// https://github.com/mexcdevelop/websocket-proto (of 2026-06)
protobuf! {
    struct PbLevel { 1 price: Num, 2 quantity: Num }

    /// `publicAggreDeals`, `publicDeals`.
    struct Deals<'a> { 1 deals: Vec<Read<Deal<'a>>> }
    /// Without an id before 2026.
    struct Deal<'a> { 1 price: Num, 2 quantity: Num, 3 tradeType: i64, 4 time: i64, 5 tradeId: &'a str }

    /// `publicAggreDepths`: all changes of the versions from the first to the last.
    struct AggreDepths { 1 asks: Vec<Level>, 2 bids: Vec<Level>, 4 fromVersion: Option<Ident>, 5 toVersion: Option<Ident> }
    /// `publicLimitDepths`, `publicIncreaseDepths`.
    struct Depths { 1 asks: Vec<Level>, 2 bids: Vec<Level>, 4 version: Option<Ident> }
    /// `publicIncreaseDepthsBatch`.
    struct DepthsBatch { 1 items: Vec<Read<Depths>> }

    /// `publicAggreBookTicker`, `publicBookTicker`.
    struct BookTicker { 1 bidPrice: Num, 2 bidQuantity: Num, 3 askPrice: Num, 4 askQuantity: Num, 5 version: Option<Ident> }
    /// `publicBookTickerBatch`.
    struct BookTickerBatch { 1 items: Vec<Read<BookTicker>>, 2 version: Option<Ident> }

    /// `publicSpotKline`; its times are seconds.
    struct SpotKline<'a> {
        1 interval: &'a str, 2 windowStart: i64, 3 openingPrice: Num, 4 closingPrice: Num, 5 highestPrice: Num, 6 lowestPrice: Num,
        7 volume: Num, 8 amount: Num,
    }

    /// `publicMiniTicker`; `volume` is what was paid, `quantity` what was traded.
    struct MiniTicker<'a> { 1 symbol: &'a str, 2 price: Num, 4 zonedRate: Num, 5 high: Num, 6 low: Num, 7 volume: Num, 8 quantity: Num }
    /// `publicMiniTickers`.
    struct MiniTickers<'a> { 1 items: Vec<Read<MiniTicker<'a>>> }
}

/// `PushDataV3ApiWrapper`: every binary frame of spot.
#[derive(Debug, Default)]
#[allow(non_snake_case, reason = "the venue's own names")]
pub(super) struct Wrapper<'a> {
    pub(super) channel: &'a str,
    pub(super) symbol: &'a str,
    pub(super) createTime: i64,
    pub(super) sendTime: i64,
    /// The number of the field that holds it, and what it holds.
    pub(super) body: Option<(u32, Message<'a>)>,
}

impl<'a> Wrapper<'a> {
    pub(super) fn read(frame: &'a [u8]) -> Read<Self> {
        let mut wrapper = Self::default();
        Message::new(frame).each(|number, value| {
            match number {
                1 => wrapper.channel = value.text()?,
                3 => wrapper.symbol = value.text()?,
                5 => wrapper.createTime = value.number()?,
                6 => wrapper.sendTime = value.number()?,
                300..400 => wrapper.body = Some((number, value.message()?)),
                _ => {}
            }
            Ok(())
        })?;
        Ok(wrapper)
    }
}

/// A time in seconds.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seconds(pub(super) Time);

impl Seconds {
    pub(super) fn new(seconds: i64) -> Option<Self> {
        (seconds > 0).then(|| Self(Time::from_millis(seconds.saturating_mul(1000))))
    }
}

impl<'a> Wire<'a> for Seconds {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let seconds = i64::read(reader)?;
        Self::new(seconds).ok_or_else(|| reader.shape("is not a time in seconds"))
    }
}

wire! {
    /// What the contracts' REST interface answers.
    pub(super) struct Reply<T> { success: Option<bool>, code: Ignored, message: Ignored, data: Option<T> }

    /// What the contracts' WebSocket sends.
    pub(super) struct Push<T> { channel: Ignored, data: T, symbol: Ignored, ts: Millis }

    /// By REST and by WebSocket, one or all; the last leaves out what does not change often.
    /// <https://mexcdevelop.github.io/apidocs/contract_v1_en/#market-endpoints>
    pub(super) struct ContractTicker<'a> {
        symbol: Cow<'a, str>, lastPrice: Num, bid1: Num, ask1: Num, volume24: Num, amount24: Num, holdVol: Num, lower24Price: Num,
        high24Price: Num, riseFallRate: Num, riseFallValue: Ignored, indexPrice: Num, fairPrice: Num, fundingRate: Num, maxBidPrice: Ignored,
        minAskPrice: Ignored, timestamp: Millis,
    }

    /// By REST `fundingRate`, by WebSocket `rate`.
    pub(super) struct FundingRate<'a> {
        symbol: Option<Cow<'a, str>>, fundingRate: Num, rate: Num, maxFundingRate: Num, minFundingRate: Num, collectCycle: Option<u64>,
        nextSettleTime: Millis, timestamp: Millis,
    }

    pub(super) struct FundingPage<T> { resultList: T }

    pub(super) struct FundingSettled<'a> { symbol: Cow<'a, str>, fundingRate: Decimal, settleTime: i64 }

    /// A price of index or mark: REST names which, the WebSocket's channel does.
    pub(super) struct NamedPrice<'a> { symbol: Option<Cow<'a, str>>, indexPrice: Num, fairPrice: Num, price: Num, timestamp: Millis }

    /// A trade of a contract.
    pub(super) struct ContractDeal { p: Decimal, v: Decimal, T: Option<i64>, O: Ignored, M: Ignored, t: Millis, i: Option<Ident> }

    /// A contract's book, its best levels, or a change of it.
    pub(super) struct ContractDepth {
        asks: Option<Vec<Level>>, bids: Option<Vec<Level>>, version: Option<u64>, begin: Option<u64>, end: Option<u64>, cts: Millis, timestamp: Millis,
    }

    /// Candles by column.
    pub(super) struct Columns<T> { time: T, open: T, close: T, high: T, low: T, vol: T, amount: T }

    pub(super) struct ContractKline<'a> {
        symbol: Option<Cow<'a, str>>, interval: Cow<'a, str>, t: Seconds, o: Decimal, c: Decimal, h: Decimal, l: Decimal, a: Num, q: Decimal,
    }

    pub(super) struct Contract<'a> {
        symbol: Cow<'a, str>, baseCoin: Cow<'a, str>, quoteCoin: Cow<'a, str>, settleCoin: Cow<'a, str>, futureType: Option<i64>, contractSize: Num,
        priceUnit: Num, volUnit: Num, minVol: Num, state: Option<i64>, openingTime: Millis,
    }

    /// An answer to a frame of ours on spot's WebSocket.
    pub(super) struct Answer<'a> { id: Ignored, code: Option<i64>, msg: Cow<'a, str> }

    // What spot's REST interface answers. https://mexcdevelop.github.io/apidocs/spot_v3_en/#market-data-endpoints

    pub(super) struct SpotTicker<'a> {
        symbol: Cow<'a, str>, priceChange: Ignored, priceChangePercent: Num, prevClosePrice: Ignored, lastPrice: Num, bidPrice: Num, bidQty: Num,
        askPrice: Num, askQty: Num, openPrice: Num, highPrice: Num, lowPrice: Num, volume: Num, quoteVolume: Num, openTime: Ignored, closeTime: Millis,
    }

    pub(super) struct SpotPrice<'a> { symbol: Cow<'a, str>, price: Num }

    pub(super) struct SpotBookTicker<'a> { symbol: Cow<'a, str>, bidPrice: Num, bidQty: Num, askPrice: Num, askQty: Num }

    pub(super) struct SpotDepth { lastUpdateId: Option<Ident>, bids: Option<Vec<Level>>, asks: Option<Vec<Level>>, timestamp: Millis }

    /// `id` is always null.
    pub(super) struct SpotTrade<'a> {
        id: Option<Ident>, price: Decimal, qty: Decimal, quoteQty: Ignored, time: Millis, isBuyerMaker: Option<bool>, isBestMatch: Ignored,
        tradeType: Option<Cow<'a, str>>,
    }

    pub(super) struct SpotAggTrade { a: Option<Ident>, f: Ignored, l: Ignored, p: Decimal, q: Decimal, T: Millis, m: Option<bool> }

    pub(super) struct SpotKlineRow row {
        open_time: i64, open: Decimal, high: Decimal, low: Decimal, close: Decimal, volume: Decimal, close_time: Ignored, turnover: Num,
    }

    pub(super) struct ExchangeInfo<T> { symbols: T }

    pub(super) struct Listing<'a> {
        symbol: Cow<'a, str>, status: Option<Ident>, baseAsset: Cow<'a, str>, baseAssetPrecision: Option<u64>, quoteAsset: Cow<'a, str>,
        quotePrecision: Option<u64>, baseSizePrecision: Num,
    }
}
