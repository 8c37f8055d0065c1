//! The shapes of OKX's messages, under OKX's own names. Records are the same by REST and WebSocket; the envelopes differ.
//!
//! Every number and time is a string, and what is not there is `""`. Fields are declared in the order in which they are
//! sent; those without a meaning to us are named where there are many, because a known key is passed over faster than
//! an unknown one.

use std::borrow::Cow;

use exchange_core::Decimal;
use exchange_core::event::{Ident, Level};
use exchange_core::wire::{Ignored, Millis, Num, Read, Reader, Rows, Taker, Wire};

exchange_core::wire! {
    /// 24 hours of an instrument. <https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-tickers>
    pub(super) struct Ticker<'a> {
        instType: Option<Cow<'a, str>>,
        instId: Cow<'a, str>,
        last: Num,
        lastSz: Num,
        askPx: Num,
        askSz: Num,
        bidPx: Num,
        bidSz: Num,
        open24h: Num,
        high24h: Num,
        low24h: Num,
        /// In quote currency for spot, in base currency for all contracts.
        volCcy24h: Num,
        /// In base currency for spot, contracts for the others.
        vol24h: Num,
        sodUtc0: Ignored,
        sodUtc8: Ignored,
        ts: Millis,
    }

    /// A mark price. <https://www.okx.com/docs-v5/en/#public-data-rest-api-get-mark-price>
    pub(super) struct MarkPrice<'a> {
        instType: Option<Cow<'a, str>>,
        instId: Cow<'a, str>,
        markPx: Num,
        ts: Millis,
    }

    /// An index. <https://www.okx.com/docs-v5/en/#public-data-rest-api-get-index-tickers>
    pub(super) struct IndexTicker<'a> {
        /// The index's name, which is the `uly` of the contracts that follow it.
        instId: Cow<'a, str>,
        idxPx: Num,
        ts: Millis,
    }

    /// The running funding rate. <https://www.okx.com/docs-v5/en/#public-data-rest-api-get-funding-rate>
    pub(super) struct FundingRate<'a> {
        instType: Option<Cow<'a, str>>,
        instId: Cow<'a, str>,
        method: Ignored,
        formulaType: Ignored,
        fundingRate: Num,
        /// When `fundingRate` is exchanged: the next settlement.
        fundingTime: Millis,
        /// The prediction for the settlement after it; no longer sent.
        nextFundingRate: Num,
        /// The settlement after `fundingTime`.
        nextFundingTime: Millis,
        minFundingRate: Num,
        maxFundingRate: Num,
        ts: Millis,
    }

    /// A past settlement. <https://www.okx.com/docs-v5/en/#public-data-rest-api-get-funding-rate-history>
    pub(super) struct FundingHistory<'a> {
        instType: Option<Cow<'a, str>>,
        instId: Cow<'a, str>,
        /// What was predicted; `realizedRate` was exchanged.
        fundingRate: Num,
        realizedRate: Num,
        fundingTime: Millis,
    }

    /// Open interest. <https://www.okx.com/docs-v5/en/#public-data-rest-api-get-open-interest>
    pub(super) struct OpenInterest<'a> {
        instType: Option<Cow<'a, str>>,
        instId: Cow<'a, str>,
        /// In contracts.
        oi: Num,
        /// In base currency.
        oiCcy: Num,
        /// In US dollars; since 2025.
        oiUsd: Num,
        ts: Millis,
    }

    /// A trade; those of `trades` are all fills of one order at one price, named after the last.
    /// <https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-all-trades-channel>
    pub(super) struct Trade<'a> {
        instId: Cow<'a, str>,
        tradeId: Option<Ident>,
        px: Decimal,
        sz: Decimal,
        /// The taker's.
        side: Taker,
        ts: Millis,
    }

    /// An instrument's liquidations.
    /// <https://www.okx.com/docs-v5/en/#public-data-websocket-liquidation-orders-channel>
    pub(super) struct Liquidations<'a> {
        instId: Cow<'a, str>,
        instType: Option<Cow<'a, str>>,
        details: Rows<'a, Liquidation>,
    }

    /// One of them.
    pub(super) struct Liquidation {
        /// The price at which the position is bankrupt.
        bkPx: Decimal,
        /// The forced order's.
        side: Taker,
        /// In contracts.
        sz: Decimal,
        ts: Millis,
    }

    /// A book, a change of one, or its top. A level is `[price, size, "0", orders]`; of the books with the orders that
    /// only people may take, `[price, size, size of the others, orders]`.
    /// <https://www.okx.com/docs-v5/en/#order-book-trading-market-data-ws-order-book-channel>
    pub(super) struct Book {
        asks: Option<Vec<Level>>,
        bids: Option<Vec<Level>>,
        ts: Millis,
        /// 0 since 2026-06-23.
        checksum: Option<i64>,
        /// -1 with a snapshot.
        prevSeqId: Option<i64>,
        seqId: Option<i64>,
    }

    /// A candle. <https://www.okx.com/docs-v5/en/#order-book-trading-market-data-get-candlesticks>
    pub(super) struct Candle row {
        ts: Millis,
        open: Decimal,
        high: Decimal,
        low: Decimal,
        close: Decimal,
        /// In base currency for spot, contracts for the others.
        vol: Decimal,
        /// In quote currency for spot, in base currency for the others.
        vol_ccy: Num,
        /// In quote currency. This and `confirm` are since 2022.
        vol_ccy_quote: Num,
        /// Whether the candle is final.
        confirm: Option<u64>,
    }

    /// An instrument. <https://www.okx.com/docs-v5/en/#public-data-rest-api-get-instruments>
    pub(super) struct InstrumentInfo<'a> {
        instType: Option<Cow<'a, str>>,
        instId: Cow<'a, str>,
        uly: Option<Cow<'a, str>>,
        instFamily: Option<Cow<'a, str>>,
        baseCcy: Option<Cow<'a, str>>,
        quoteCcy: Option<Cow<'a, str>>,
        settleCcy: Option<Cow<'a, str>>,
        ctVal: Num,
        ctMult: Num,
        ctValCcy: Option<Cow<'a, str>>,
        optType: Option<Cow<'a, str>>,
        stk: Num,
        expTime: Millis,
        tickSz: Num,
        lotSz: Num,
        minSz: Num,
        ctType: Option<Cow<'a, str>>,
        state: Option<Cow<'a, str>>,
    }
}

exchange_core::wire! {
    /// A push.
    pub(super) struct Push<T> {
        arg: Ignored,
        /// Of books that change.
        action: Option<Action>,
        data: T,
    }

    /// A reply; one with another `code` than 0 does not come here.
    pub(super) struct Reply<T> {
        code: Ignored,
        msg: Ignored,
        data: T,
    }

    /// What a push or an acknowledgement is about.
    pub(super) struct Arg<'a> {
        channel: Cow<'a, str>,
        instId: Option<Cow<'a, str>>,
        instType: Option<Cow<'a, str>>,
        instFamily: Option<Cow<'a, str>>,
    }

    /// An answer to what the client sent, or a notice. <https://www.okx.com/docs-v5/en/#overview-websocket-subscribe>
    pub(super) struct Answer<'a> {
        id: Option<Cow<'a, str>>,
        event: Cow<'a, str>,
        arg: Option<Arg<'a>>,
        code: Option<Cow<'a, str>>,
        msg: Option<Cow<'a, str>>,
    }
}

/// What a book's push does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// It replaces the book.
    Snapshot,
    /// It changes it.
    Update,
}

impl<'a> Wire<'a> for Action {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        match &*reader.string()? {
            "snapshot" => Ok(Self::Snapshot),
            "update" => Ok(Self::Update),
            _ => Err(reader.shape("is neither `snapshot` nor `update`")),
        }
    }
}
