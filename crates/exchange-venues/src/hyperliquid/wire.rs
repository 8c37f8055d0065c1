//! Hyperliquid's records, in its own words. Prices, sizes and rates are quoted decimals, times are in milliseconds.
//!
//! <https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/info-endpoint>,
//! <https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api/websocket/subscriptions>

use std::borrow::Cow;

use exchange_core::Decimal;
use exchange_core::event::{Ident, Level, Side};
use exchange_core::wire::{BadRow, Ignored, Millis, Num, Raw, Read, Reader, Row, Rows, Wire};

exchange_core::wire! {
    /// A trade, pushed and listed. `users` are the buyer's and the seller's addresses, `tid` a hash of their orders.
    pub(super) struct Trade<'a> {
        coin: Cow<'a, str>,
        side: Taker,
        px: Decimal,
        sz: Decimal,
        time: Millis,
        hash: Ignored,
        tid: Option<Ident>,
        users: Ignored,
    }

    /// A whole book, to the depth that was asked for.
    pub(super) struct Book<'a> {
        coin: Cow<'a, str>,
        time: Millis,
        levels: Sides,
    }

    /// Both sides of a book, the best price first.
    pub(super) struct Sides row {
        bids: Vec<Rung>,
        asks: Vec<Rung>,
    }

    /// A price of a book; `n` is the number of its orders.
    pub(super) struct Rung {
        px: Decimal,
        sz: Decimal,
        n: Ignored,
    }

    /// The top of a book.
    pub(super) struct Bbo<'a> {
        coin: Cow<'a, str>,
        time: Millis,
        top: Best = "bbo",
    }

    /// Its sides; an empty one is null.
    pub(super) struct Best row {
        bid: Option<Rung>,
        ask: Option<Rung>,
    }

    /// A candle, from `t` to the last millisecond `T`; `v` is in base, `n` counts trades.
    pub(super) struct Candle<'a> {
        t: i64,
        T: Ignored,
        s: Cow<'a, str>,
        i: Cow<'a, str>,
        o: Decimal,
        c: Decimal,
        h: Decimal,
        l: Decimal,
        v: Decimal,
        n: Option<u64>,
    }

    /// The state of a contract ("asset context"), or, without `funding`, `openInterest` and `oraclePx`, of a spot pair:
    /// only that names its `coin`. `impactPxs` are not the best prices, `premium` is not the basis.
    pub(super) struct Ctx<'a> {
        funding: Num,
        openInterest: Num,
        prevDayPx: Num,
        dayNtlVlm: Num,
        premium: Ignored,
        oraclePx: Num,
        markPx: Num,
        midPx: Ignored,
        impactPxs: Ignored,
        dayBaseVlm: Num,
        coin: Option<Cow<'a, str>>,
    }

    /// A pushed state; `coin` is here, too, for spot pairs.
    pub(super) struct ActiveCtx<'a> {
        coin: Cow<'a, str>,
        ctx: Ctx<'a>,
    }

    /// The states of a dex' contracts, by the position of each in the dex' universe.
    pub(super) struct DexCtxs<'a> {
        dex: Cow<'a, str>,
        ctxs: Listed<'a, Ctx<'a>>,
    }

    /// The same as a pair.
    pub(super) struct DexPair<'a> row {
        dex: Cow<'a, str>,
        ctxs: Listed<'a, Ctx<'a>>,
    }

    /// The states of all dexs' contracts.
    pub(super) struct AllDexs<'a> {
        ctxs: Vec<DexPair<'a>>,
    }

    /// What is traded on a dex, and the index of the token in which it is settled.
    pub(super) struct Meta<'a> {
        universe: Listed<'a, Asset<'a>>,
        marginTables: Ignored,
        collateralToken: Option<u64>,
    }

    /// A contract.
    pub(super) struct Asset<'a> {
        szDecimals: Option<u64>,
        name: Cow<'a, str>,
        isDelisted: Option<bool>,
    }

    /// `metaAndAssetCtxs`: the state of each contract has its contract's position.
    pub(super) struct MetaAndCtxs<'a> row {
        meta: Meta<'a>,
        ctxs: Listed<'a, Ctx<'a>>,
    }

    /// Spot pairs and tokens.
    pub(super) struct SpotMeta<'a> {
        universe: Listed<'a, Pair<'a>>,
        tokens: Listed<'a, Token<'a>>,
    }

    /// A spot pair, by the indexes of its base and quote token.
    pub(super) struct Pair<'a> {
        tokens: Vec<u64>,
        name: Cow<'a, str>,
        index: Option<u64>,
    }

    /// A token.
    pub(super) struct Token<'a> {
        name: Cow<'a, str>,
        szDecimals: Option<u64>,
        weiDecimals: Ignored,
        index: Option<u64>,
    }

    /// `spotMetaAndAssetCtxs`.
    pub(super) struct SpotMetaAndCtxs<'a> row {
        meta: SpotMeta<'a>,
        ctxs: Listed<'a, Ctx<'a>>,
    }

    /// A builder's dex.
    pub(super) struct Dex<'a> {
        name: Cow<'a, str>,
    }

    /// What is predicted for a coin, here and elsewhere.
    pub(super) struct Predicted<'a> row {
        coin: Cow<'a, str>,
        venues: Vec<PredictedAt<'a>>,
    }

    /// What is predicted for one venue; null where it does not have the coin.
    pub(super) struct PredictedAt<'a> row {
        venue: Cow<'a, str>,
        prediction: Option<Prediction>,
    }

    /// A funding rate to come.
    pub(super) struct Prediction {
        fundingRate: Num,
        nextFundingTime: Millis,
        fundingIntervalHours: Num,
    }

    /// A past funding settlement.
    pub(super) struct FundingThen<'a> {
        coin: Cow<'a, str>,
        fundingRate: Decimal,
        premium: Ignored,
        time: i64,
    }

    /// A mark price of `fastAssetCtxs`; what did not change is left out.
    pub(super) struct FastCtx {
        markPx: Num,
        midPx: Ignored,
    }

    /// The answer to a subscribe or unsubscribe frame.
    pub(super) struct Subscribed<'a> {
        subscription: Subscription<'a>,
    }

    /// A subscription, as it was worded.
    pub(super) struct Subscription<'a> {
        kind: Cow<'a, str> = "type",
        coin: Option<Cow<'a, str>>,
        interval: Option<Cow<'a, str>>,
    }

    /// The answer to a request over the WebSocket.
    pub(super) struct Post<'a> {
        id: Ignored,
        response: Response<'a>,
    }

    /// `info` with a payload that is an [`Answer`], or `error` with a text.
    pub(super) struct Response<'a> {
        kind: Cow<'a, str> = "type",
        payload: Raw<'a>,
    }

    /// What HTTP would answer to a request of that type.
    pub(super) struct Answer<'a> {
        kind: Cow<'a, str> = "type",
        data: Raw<'a>,
    }
}

exchange_core::wire! {
    /// A push.
    pub(super) struct Push<T> {
        channel: Ignored,
        data: T,
    }
}

pub(super) type Trades<'a> = Rows<'a, Trade<'a>>;

/// Records of which each has a position that counts: unlike [`Rows`], never without those that did not change.
#[derive(Debug)]
pub(super) struct Listed<'a, T>(pub(super) Vec<Row<'a, T>>);

impl<'a, T: Wire<'a>> Wire<'a> for Listed<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut all = Vec::new();
        let mut more = reader.open_array()?;
        while more {
            all.push(row(reader)?);
            more = reader.more_in_array()?;
        }
        Ok(Self(all))
    }
}

/// A record; one of an unexpected shape costs only itself.
fn row<'a, T: Wire<'a>>(reader: &mut Reader<'a>) -> Read<Row<'a, T>> {
    let start = reader.position();
    match T::read(reader) {
        Err(fault) if !fault.broken => {
            reader.rewind(start);
            Ok(Err(BadRow { fault, text: Raw::read(reader)?.0 }))
        }
        read => read.map(Ok),
    }
}

/// `fastAssetCtxs`, by coin.
#[derive(Debug)]
pub(super) struct FastCtxs<'a>(pub(super) Vec<(Cow<'a, str>, Row<'a, FastCtx>)>);

impl<'a> Wire<'a> for FastCtxs<'a> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.peek() == b'"' {
            return Err(reader.shape("is compressed (base64 of raw DEFLATE), which is not read here"));
        }
        let mut all = Vec::new();
        let mut more = reader.open_object()?;
        while more {
            all.push((reader.key()?, row(reader)?));
            more = reader.more_in_object()?;
        }
        Ok(Self(all))
    }
}

/// The taker's side: `B` bought ("bid"), `A` sold ("ask"); absent where the venue writes something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taker(pub(super) Option<Side>);

impl<'a> Wire<'a> for Taker {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        Ok(Self(match &*reader.string()? {
            "B" => Some(Side::Buy),
            "A" => Some(Side::Sell),
            _ => None,
        }))
    }
}

impl From<Rung> for Level {
    fn from(rung: Rung) -> Self {
        Self { price: rung.px, size: rung.sz }
    }
}
