//! The shapes of Bybit's messages, under Bybit's own names. Records come first, then the envelopes of both transports.
//!
//! Fields are declared in the order in which they are sent, for a ticker that of the WebSocket's deltas and then of what
//! REST alone has behind them; fields without a meaning to us are named all the same, because a known key is passed
//! over faster than an unknown one.

use std::borrow::Cow;

use exchange_core::event::{BookKind, Ident, Level};
use exchange_core::wire::{Ignored, Millis, Num, Read, Reader, Rows, Taker, Wire};
use exchange_core::{Decimal, Time};

exchange_core::wire! {
    /// A ticker of a spot pair or a linear or inverse contract, by REST or WebSocket, whole or in part.
    /// <https://bybit-exchange.github.io/docs/v5/websocket/public/ticker>,
    /// <https://bybit-exchange.github.io/docs/v5/market/tickers>
    pub(super) struct Ticker<'a> {
        symbol: Cow<'a, str>,
        tickDirection: Ignored,
        price24hPcnt: Num,
        lastPrice: Num,
        prevPrice24h: Num,
        highPrice24h: Num,
        lowPrice24h: Num,
        prevPrice1h: Ignored,
        markPrice: Num,
        indexPrice: Num,
        openInterest: Num,
        openInterestValue: Num,
        singleOpenInterest: Ignored,
        singleOpenInterestValue: Ignored,
        turnover24h: Num,
        volume24h: Num,
        nextFundingTime: Millis,
        fundingRate: Num,
        bid1Price: Num,
        bid1Size: Num,
        ask1Price: Num,
        ask1Size: Num,
        predictedDeliveryPrice: Ignored,
        basisRate: Ignored,
        deliveryFeeRate: Ignored,
        deliveryTime: Ignored,
        basis: Num,
        preOpenPrice: Ignored,
        preQty: Ignored,
        curPreListingPhase: Ignored,
        fundingIntervalHour: Num,
        basisRateYear: Ignored,
        fundingCap: Num,
        usdIndexPrice: Ignored,
    }

    /// An option's ticker. Its best prices have other names on the WebSocket than by REST.
    pub(super) struct OptionTicker<'a> {
        symbol: Cow<'a, str>,
        bidPrice: Num,
        bidSize: Num,
        askPrice: Num,
        askSize: Num,
        bid1Price: Num,
        bid1Size: Num,
        ask1Price: Num,
        ask1Size: Num,
        lastPrice: Num,
        highPrice24h: Num,
        lowPrice24h: Num,
        markPrice: Num,
        indexPrice: Num,
        openInterest: Num,
        turnover24h: Num,
        volume24h: Num,
        change24h: Num,
    }

    /// A book, or a change of one. `u` numbers the messages of one depth; `seq` counts across all symbols and says
    /// nothing about continuity. <https://bybit-exchange.github.io/docs/v5/websocket/public/orderbook>,
    /// <https://bybit-exchange.github.io/docs/v5/market/orderbook>
    pub(super) struct Book<'a> {
        s: Cow<'a, str>,
        b: Option<Vec<Level>>,
        a: Option<Vec<Level>>,
        ts: Millis,
        u: Option<u64>,
        seq: Ignored,
        cts: Millis,
    }

    /// `orderbook.1`, of which only the best level of each side matters.
    pub(super) struct Top<'a> {
        s: Cow<'a, str>,
        b: Option<Best<true>>,
        a: Option<Best<false>>,
        u: Option<u64>,
        seq: Ignored,
    }

    /// A trade as it is pushed. <https://bybit-exchange.github.io/docs/v5/websocket/public/trade>
    pub(super) struct PublicTrade<'a> {
        T: Millis,
        s: Cow<'a, str>,
        S: Taker,
        v: Decimal,
        p: Decimal,
        L: Ignored,
        i: Option<Ident>,
        BT: Ignored,
        RPI: Ignored,
        seq: Ignored,
    }

    /// A trade as REST lists it. <https://bybit-exchange.github.io/docs/v5/market/recent-trade>
    pub(super) struct RecentTrade<'a> {
        execId: Option<Ident>,
        symbol: Cow<'a, str>,
        price: Decimal,
        size: Decimal,
        side: Taker,
        time: Millis,
    }

    /// A liquidation. <https://bybit-exchange.github.io/docs/v5/websocket/public/all-liquidation>
    pub(super) struct AllLiquidation<'a> {
        T: Millis,
        s: Cow<'a, str>,
        S: Taker,
        v: Decimal,
        p: Decimal,
    }

    /// A liquidation of the topic that was withdrawn in 2025, for captures of before.
    /// <https://bybit-exchange.github.io/docs/v5/websocket/public/liquidation>
    pub(super) struct OldLiquidation<'a> {
        updatedTime: Millis,
        symbol: Cow<'a, str>,
        side: Taker,
        size: Decimal,
        price: Decimal,
    }

    /// A candle as it is pushed; the symbol stands in the topic alone, the interval there too.
    /// <https://bybit-exchange.github.io/docs/v5/websocket/public/kline>
    pub(super) struct Kline {
        start: At,
        end: Ignored,
        interval: Ignored,
        open: Decimal,
        close: Decimal,
        high: Decimal,
        low: Decimal,
        volume: Decimal,
        turnover: Num,
        confirm: bool,
        timestamp: Millis,
    }

    /// A candle as REST lists it, by position. <https://bybit-exchange.github.io/docs/v5/market/kline>
    pub(super) struct KlineRow row {
        start: At,
        open: Decimal,
        high: Decimal,
        low: Decimal,
        close: Decimal,
        volume: Decimal,
        turnover: Num,
    }

    /// A past funding settlement. <https://bybit-exchange.github.io/docs/v5/market/history-fund-rate>
    pub(super) struct FundingHistory<'a> {
        symbol: Cow<'a, str>,
        fundingRate: Decimal,
        fundingRateTimestamp: At,
    }

    /// Open interest at a past time. <https://bybit-exchange.github.io/docs/v5/market/open-interest>
    pub(super) struct OpenInterestHistory {
        openInterest: Decimal,
        singleOpenInterest: Ignored,
        timestamp: At,
    }

    /// An instrument. <https://bybit-exchange.github.io/docs/v5/market/instrument>
    pub(super) struct InstrumentInfo<'a> {
        symbol: Cow<'a, str>,
        contractType: Option<Cow<'a, str>>,
        status: Option<Cow<'a, str>>,
        baseCoin: Cow<'a, str>,
        quoteCoin: Cow<'a, str>,
        deliveryTime: Millis,
        priceFilter: Option<PriceFilter>,
        lotSizeFilter: Option<LotSizeFilter>,
        fundingInterval: Num,
        settleCoin: Option<Cow<'a, str>>,
    }

    /// Price steps.
    pub(super) struct PriceFilter {
        tickSize: Num,
    }

    /// Size steps: `basePrecision` of spot pairs, `qtyStep` of contracts.
    pub(super) struct LotSizeFilter {
        basePrecision: Num,
        minOrderQty: Num,
        qtyStep: Num,
    }
}

exchange_core::wire! {
    /// A push. The order of `type`, `ts` and `data` differs between topics and markets.
    pub(super) struct Push<T> {
        topic: Ignored,
        kind: Kind = "type",
        ts: Millis,
        data: T,
        cs: Ignored,
        cts: Millis,
    }

    /// A reply; one with another `retCode` than 0 does not come here.
    pub(super) struct Reply<T> {
        retCode: Ignored,
        retMsg: Ignored,
        result: T,
        retExtInfo: Ignored,
        time: Millis,
    }

    /// The result of most replies.
    pub(super) struct List<T> {
        category: Ignored,
        list: T,
    }

    /// The result of a reply about one symbol, which its records do not repeat.
    pub(super) struct SymbolList<'a> {
        symbol: Option<Cow<'a, str>>,
        category: Ignored,
        list: Rows<'a, KlineRow>,
    }

    /// The same for open interest.
    pub(super) struct OpenInterestList<'a> {
        symbol: Option<Cow<'a, str>>,
        category: Ignored,
        list: Rows<'a, OpenInterestHistory>,
    }

    /// A page of instruments.
    pub(super) struct InstrumentPage<'a> {
        category: Ignored,
        list: Rows<'a, InstrumentInfo<'a>>,
        nextPageCursor: Option<Cow<'a, str>>,
    }

    /// An answer to what the client sent: an acknowledgement, a refusal, a pong.
    /// <https://bybit-exchange.github.io/docs/v5/ws/connect>
    pub(super) struct Answer<'a> {
        success: Option<bool>,
        ret_msg: Option<Cow<'a, str>>,
        conn_id: Ignored,
        req_id: Option<Cow<'a, str>>,
        op: Option<Cow<'a, str>>,
        data: Option<Topics<'a>>,
    }

    /// What the option market says of a subscription.
    pub(super) struct Topics<'a> {
        failTopics: Option<Vec<Cow<'a, str>>>,
        successTopics: Ignored,
    }
}

/// A time in milliseconds that must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) Time);

impl<'a> Wire<'a> for At {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        match Millis::read(reader)?.0 {
            Some(time) => Ok(Self(time)),
            None => Err(reader.shape("is not a time in milliseconds")),
        }
    }
}

/// Whether a push replaces what was known or changes it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Snapshot,
    Delta,
}

impl Kind {
    pub(super) fn of_book(self) -> BookKind {
        match self {
            Self::Snapshot => BookKind::Snapshot,
            Self::Delta => BookKind::Delta,
        }
    }
}

impl<'a> Wire<'a> for Kind {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        match &*reader.string()? {
            "snapshot" => Ok(Self::Snapshot),
            "delta" => Ok(Self::Delta),
            _ => Err(reader.shape("is neither snapshot nor delta")),
        }
    }
}

/// The best level of a book side that is not empty: the highest bid, the lowest ask. (Until March 2025 `orderbook.1`
/// sent deltas, which name the removed level too.)
#[derive(Debug)]
pub(super) struct Best<const BID: bool>(pub(super) Option<Level>);

impl<'a, const BID: bool> Wire<'a> for Best<BID> {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut best: Option<Level> = None;
        let mut more = reader.open_array()?;
        while more {
            let level = Level::read(reader)?;
            let better = best.as_ref().is_none_or(|best| if BID { level.price > best.price } else { level.price < best.price });
            if better && level.size.is_positive() && level.price.is_positive() {
                best = Some(level);
            }
            more = reader.more_in_array()?;
        }
        Ok(Self(best))
    }
}
