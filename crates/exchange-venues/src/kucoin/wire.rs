//! The shapes of `KuCoin`'s messages, under the venue's own names: contracts and pairs, then what both transports of the
//! classic interface share, then the unified one (UTA), then the envelopes.
//!
//! The same field is a string here, a number there, now and then with an exponent; times are in seconds, milliseconds
//! or nanoseconds. So numbers are [`Num`] or [`Decimal`] and times [`AnyTime`] throughout, and anything may be `null`.

use std::borrow::Cow;

use exchange_core::Decimal;
use exchange_core::event::{Ident, Level};
use exchange_core::wire::{AnyTime, Ignored, Num, Read, Reader, Rows, Taker, Wire};

exchange_core::wire! {
    /// A contract with its state. `nextFundingRateTime`, a countdown, is not read.
    /// <https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-all-symbols>
    pub(super) struct Contract<'a> {
        symbol: Cow<'a, str>,
        kind: Option<Cow<'a, str>> = "type",
        expireDate: AnyTime,
        baseCurrency: Option<Cow<'a, str>>,
        quoteCurrency: Option<Cow<'a, str>>,
        settleCurrency: Option<Cow<'a, str>>,
        lotSize: Num,
        tickSize: Num,
        /// In base for linear contracts; -1 for inverse ones, whose lot is 1 USD.
        multiplier: Num,
        isInverse: Option<bool>,
        status: Option<Cow<'a, str>>,
        fundingFeeRate: Num,
        predictedFundingFeeRate: Num,
        /// Milliseconds.
        fundingRateGranularity: Num,
        currentFundingRateGranularity: Num,
        /// Lots.
        openInterest: Num,
        /// In the settlement currency: quote, but base for inverse contracts.
        turnoverOf24h: Num,
        /// In base, but lots for inverse contracts.
        volumeOf24h: Num,
        markPrice: Num,
        indexPrice: Num,
        lastTradePrice: Num,
        nextFundingRateDateTime: AnyTime,
        lowPrice: Num,
        highPrice: Num,
        /// A fraction.
        priceChgPct: Num,
    }

    /// A spot pair. <https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-all-symbols>
    pub(super) struct Pair<'a> {
        symbol: Cow<'a, str>,
        baseCurrency: Option<Cow<'a, str>>,
        quoteCurrency: Option<Cow<'a, str>>,
        baseMinSize: Num,
        baseIncrement: Num,
        priceIncrement: Num,
        enableTrading: Option<bool>,
        callauctionIsEnabled: Option<bool>,
    }

    /// A pair or a contract of the unified interface. <https://www.kucoin.com/docs-new/rest/ua/get-symbol>
    pub(super) struct UaInstrument<'a> {
        symbol: Cow<'a, str>,
        baseCurrency: Option<Cow<'a, str>>,
        quoteCurrency: Option<Cow<'a, str>>,
        minBaseOrderSize: Num,
        baseOrderStep: Num,
        tickSize: Num,
        /// 1 trades.
        tradingStatus: Option<Ident>,
        settlementCurrency: Option<Cow<'a, str>>,
        isInverse: Option<bool>,
        expiryTime: AnyTime,
        lotSize: Num,
        /// The classic `multiplier`; 1 for inverse contracts since 2026.
        unitSize: Num,
    }

    /// A spot pair's 24 hours: by REST (of one pair with the `time`), and under some other names and in numbers as
    /// `/market/snapshot` pushes them.
    /// <https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-all-tickers>
    pub(super) struct SpotTicker<'a> {
        symbol: Cow<'a, str>,
        buy: Num,
        bestBidSize: Num,
        bidSize: Num,
        sell: Num,
        bestAskSize: Num,
        askSize: Num,
        /// A fraction.
        changeRate: Num,
        open: Num,
        high: Num,
        low: Num,
        vol: Num,
        volValue: Num,
        last: Num,
        lastTradedPrice: Num,
        datetime: AnyTime,
        time: AnyTime,
    }

    /// A pair's or contract's 24 hours by the unified interface. <https://www.kucoin.com/docs-new/rest/ua/get-ticker>
    pub(super) struct UaTicker<'a> {
        symbol: Cow<'a, str>,
        bestBidSize: Num,
        bestBidPrice: Num,
        bestAskSize: Num,
        bestAskPrice: Num,
        high: Num,
        low: Num,
        baseVolume: Num,
        quoteVolume: Num,
        lastPrice: Num,
        open: Num,
        size: Num,
    }

    /// A spot pair's last trade and best prices; the topic, the subject or the request names the pair.
    /// <https://www.kucoin.com/docs-new/3470063w0>
    pub(super) struct SpotTop {
        price: Num,
        size: Num,
        bestAsk: Num,
        bestAskSize: Num,
        bestBid: Num,
        bestBidSize: Num,
        time: AnyTime,
        /// So in one of the documents' samples.
        Time: AnyTime,
    }

    /// A contract's last trade and best prices; `tickerV2` pushes it without the trade.
    /// <https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-all-tickers>
    pub(super) struct FuturesTop<'a> {
        sequence: Option<Ident>,
        symbol: Cow<'a, str>,
        size: Num,
        price: Num,
        bestBidSize: Num,
        bestBidPrice: Num,
        bestAskSize: Num,
        bestAskPrice: Num,
        ts: AnyTime,
    }

    /// A contract's 24 hours as pushed. <https://www.kucoin.com/docs-new/3470073w0>
    pub(super) struct FuturesSnapshot<'a> {
        symbol: Cow<'a, str>,
        highPrice: Num,
        lowPrice: Num,
        lastPrice: Num,
        price24HoursBefore: Num,
        priceChgPct: Num,
        turnover: Num,
        volume: Num,
        ts: AnyTime,
    }

    /// A book or the best levels of one: REST of both interfaces, and `level2Depth5` and `50`.
    pub(super) struct Book<'a> {
        symbol: Option<Cow<'a, str>>,
        time: AnyTime,
        sequence: Option<Ident>,
        bids: Levels,
        asks: Levels,
        ts: AnyTime,
        timestamp: AnyTime,
    }

    /// Best prices as `level1` pushes them.
    pub(super) struct SpotQuote {
        asks: Levels,
        bids: Levels,
        timestamp: AnyTime,
    }

    /// A change of a contract's book: `price,side,size`.
    pub(super) struct FuturesChange<'a> {
        sequence: u64,
        change: Cow<'a, str>,
        timestamp: AnyTime,
    }

    /// A change of a pair's book.
    pub(super) struct SpotChange<'a> {
        changes: Sides,
        sequenceEnd: u64,
        sequenceStart: u64,
        symbol: Cow<'a, str>,
        time: AnyTime,
    }

    pub(super) struct Sides {
        asks: Levels,
        bids: Levels,
    }

    /// A trade: REST of both interfaces and classic pushes.
    pub(super) struct Trade<'a> {
        symbol: Option<Cow<'a, str>>,
        sequence: Option<Ident>,
        side: Taker,
        size: Decimal,
        price: Decimal,
        tradeId: Option<Ident>,
        time: AnyTime,
        ts: AnyTime,
    }

    /// A candle of a pair, or of anything by the unified interface: the close before the high.
    /// <https://www.kucoin.com/docs-new/rest/spot-trading/market-data/get-klines>
    pub(super) struct SpotCandle row {
        time: AnyTime,
        open: Decimal,
        close: Decimal,
        high: Decimal,
        low: Decimal,
        volume: Decimal,
        turnover: Num,
    }

    /// A contract's candle by REST. <https://www.kucoin.com/docs-new/rest/futures-trading/market-data/get-klines>
    pub(super) struct FuturesCandle row {
        time: AnyTime,
        open: Decimal,
        high: Decimal,
        low: Decimal,
        close: Decimal,
        /// Lots.
        volume: Decimal,
        turnover: Num,
    }

    /// Candles as pushed: of a contract, `turnover` has the volume (see `decode`).
    pub(super) struct CandlePush<'a> {
        symbol: Cow<'a, str>,
        candles: SpotCandle,
        time: AnyTime,
    }

    /// What `/contract/instrument` pushes, under one subject or the other.
    pub(super) struct FuturesState {
        markPrice: Num,
        indexPrice: Num,
        fundingRate: Num,
        /// Milliseconds: a minute for the prediction, the funding interval for the rate in force.
        granularity: Num,
        timestamp: AnyTime,
    }

    /// The beginning or end of a settlement.
    pub(super) struct Settlement<'a> {
        symbol: Cow<'a, str>,
        fundingTime: AnyTime,
        fundingRate: Decimal,
    }

    /// A past settlement by REST: the classic interface says `timepoint` and names the contract.
    pub(super) struct PastFunding {
        fundingRate: Decimal,
        timepoint: AnyTime,
        ts: AnyTime,
    }

    /// Past open interest, in lots.
    pub(super) struct PastOpenInterest {
        openInterest: Num,
        ts: AnyTime,
    }

    /// A contract's funding now, in the words of the classic and of the unified interface; both name the funding index,
    /// the second version of the latter the contract. `timePoint`, the interval's *beginning*, is not read.
    /// <https://www.kucoin.com/docs-new/rest/futures-trading/funding-fees/get-current-funding-rate>,
    /// <https://www.kucoin.com/docs-new/rest/ua/get-current-funding-rate>
    pub(super) struct Funding<'a> {
        symbol: Cow<'a, str>,
        granularity: Num,
        value: Num,
        predictedValue: Num,
        nextFundingRate: Num,
        fundingTime: AnyTime,
        fundingRateCap: Num,
        fundingRateFloor: Num,
        currentGranularity: Num,
    }

    /// A contract's mark price now.
    pub(super) struct MarkNow<'a> {
        symbol: Cow<'a, str>,
        timePoint: AnyTime,
        value: Num,
        indexPrice: Num,
    }

    /// `ticker`, as pushed.
    pub(super) struct PushedTicker<'a> {
        s: Cow<'a, str>,
        b: Num,
        B: Num,
        a: Num,
        A: Num,
        l: Num,
        q: Num,
        M: AnyTime,
    }

    /// `trade`, as pushed.
    pub(super) struct PushedTrade<'a> {
        s: Cow<'a, str>,
        p: Decimal,
        q: Decimal,
        S: Taker,
        ti: Option<Ident>,
        M: AnyTime,
    }

    /// `obu`: a book of the depth `dp`, whole or a change of one, by its first and last sequence number.
    pub(super) struct BookPush<'a> {
        T: Ignored,
        dp: Option<Cow<'a, str>>,
        t: Option<Cow<'a, str>>,
        P: AnyTime,
        d: PushedBook<'a>,
    }

    pub(super) struct PushedBook<'a> {
        a: Levels,
        b: Levels,
        s: Cow<'a, str>,
        O: Option<u64>,
        C: Option<u64>,
        M: AnyTime,
    }

    /// `mark-price`.
    pub(super) struct PushedMark<'a> {
        s: Cow<'a, str>,
        mp: Num,
        ip: Num,
        /// Lots.
        oi: Num,
        ts: AnyTime,
    }

    /// `funding-fee`: the running rate, the last settled one and its time, when the next is settled.
    pub(super) struct PushedFunding<'a> {
        s: Cow<'a, str>,
        fr: Num,
        ft: AnyTime,
        lfr: Num,
        nt: AnyTime,
        /// Milliseconds.
        gl: Num,
        fc: Num,
        ff: Num,
    }

    /// `kline`, as pushed.
    pub(super) struct PushedCandle<'a> {
        s: Cow<'a, str>,
        i: Cow<'a, str>,
        O: AnyTime,
        o: Decimal,
        c: Decimal,
        h: Decimal,
        l: Decimal,
        v: Decimal,
        a: Num,
        S: Option<Flag>,
    }

    /// A REST answer.
    pub(super) struct Reply<T> {
        data: T,
    }

    /// All spot tickers and their time.
    pub(super) struct SpotTickers<T> {
        time: AnyTime,
        ticker: T,
    }

    /// A list of the unified interface; that of tickers has a time.
    pub(super) struct List<T> {
        ts: AnyTime,
        list: T,
    }

    /// A classic push.
    pub(super) struct Push<T> {
        data: T,
    }

    /// A push of the unified interface. `P` is the gateway's time.
    pub(super) struct UaPush<T> {
        P: AnyTime,
        d: T,
    }

    /// What is no push: greetings, acknowledgements, refusals, pongs of both interfaces.
    pub(super) struct Answer<'a> {
        id: Option<Ident>,
        kind: Option<Cow<'a, str>> = "type",
        code: Option<Ident>,
        data: Option<Cow<'a, str>>,
        result: Option<Flag>,
        message: Option<Cow<'a, str>>,
        msg: Option<Cow<'a, str>>,
        sessionId: Option<Ident>,
    }
}

/// The records of the unified interface, in a `list`; some paths were seen with the bare array, too.
#[derive(Debug)]
pub(super) struct Listed<'a, T>(pub(super) Rows<'a, T>);

impl<'a, T: Wire<'a>> Wire<'a> for Listed<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.peek() == b'[' { Rows::read(reader).map(Self) } else { List::read(reader).map(|all| Self(all.list)) }
    }
}

/// A side of a book: levels, or the one level flat where there is but one. A level whose price is 0 is none: it stands
/// for something that only moves the sequence.
#[derive(Debug, Default)]
pub(super) struct Levels(pub(super) Vec<Level>);

impl<'a> Wire<'a> for Levels {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.null() {
            return Ok(Self::default());
        }
        let start = reader.position();
        if !reader.open_array()? {
            return Ok(Self::default());
        }
        let flat = reader.peek() != b'[';
        reader.rewind(start);
        let mut levels = if flat { vec![Level::read(reader)?] } else { Vec::read(reader)? };
        levels.retain(|level| !level.price.is_zero());
        Ok(Self(levels))
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self::default())
    }
}

/// `true` or `"true"`: both are seen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Flag(pub(super) bool);

impl<'a> Wire<'a> for Flag {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.peek() != b'"' {
            return bool::read(reader).map(Self);
        }
        match &*reader.string()? {
            "true" => Ok(Self(true)),
            "false" => Ok(Self(false)),
            _ => Err(reader.shape("is neither true nor false")),
        }
    }
}
