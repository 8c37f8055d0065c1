//! The shapes of Gate's messages, under Gate's own names. Records come first, then the envelope of the `WebSockets`;
//! REST has none.
//!
//! A size is a number, or a string where the header `X-Gate-Size-Decimal` was sent; a time is in seconds or milliseconds,
//! with or without a fraction, by channel and transport. Both are read either way.
//! REST: <https://www.gate.com/docs/developers/apiv4/>, futures' WebSocket:
//! <https://www.gate.com/docs/developers/futures/ws/en/>, spot's: <https://www.gate.com/docs/developers/apiv4/ws/en/>

use std::borrow::Cow;

use exchange_core::event::{Ident, Level};
use exchange_core::wire::{AnyTime, Ignored, Num, Read, Reader, Row, Rows, Taker, Wire};
use exchange_core::{Decimal, Time};

exchange_core::wire! {
    /// A contract, perpetual or (with `expire_time`, without funding) dated. `position_size` is its open interest.
    pub(super) struct Contract<'a> {
        name: Cow<'a, str>, kind: Option<Cow<'a, str>> = "type", quanto_multiplier: Num, mark_price: Num, index_price: Num,
        funding_rate: Num, order_price_round: Num, order_size_min: Num, funding_interval: Num, funding_next_apply: AnyTime, position_size: Num, basis_value: Num,
        expire_time: AnyTime, status: Option<Cow<'a, str>>,
    }

    /// What `futures.contract_info` says of a contract.
    pub(super) struct ContractInfo<'a> {
        contract: Cow<'a, str>, quanto_multiplier: Num, order_price_round: Num,
    }

    /// A contract's last 24 hours. Pushes leave fields out; `total_size` is the open interest in contracts.
    pub(super) struct Ticker<'a> {
        contract: Cow<'a, str>, last: Num, low_24h: Num, high_24h: Num, change_percentage: Num, total_size: Num, volume_24h: Num,
        volume_24h_quote: Num, mark_price: Num, funding_rate: Num, funding_interval: Num, funding_next_apply: AnyTime, index_price: Num,
        basis_value: Num, highest_bid: Num, highest_size: Num, lowest_ask: Num, lowest_size: Num, t: AnyTime,
    }

    /// A spot pair's last 24 hours.
    pub(super) struct SpotTicker<'a> {
        currency_pair: Cow<'a, str>, last: Num, lowest_ask: Num, lowest_size: Num, highest_bid: Num, highest_size: Num,
        change_percentage: Num, base_volume: Num, quote_volume: Num, high_24h: Num, low_24h: Num,
    }

    /// A spot pair. `precision` is of prices, both are numbers of places.
    pub(super) struct Pair<'a> {
        id: Cow<'a, str>, base: Cow<'a, str>, quote: Cow<'a, str>, min_base_amount: Num, amount_precision: Option<u64>,
        precision: Option<u64>, trade_status: Option<Cow<'a, str>>, buy_start: AnyTime, delisting_time: AnyTime,
    }

    /// The best bid and ask; `""` for an empty side.
    pub(super) struct BookTicker<'a> {
        t: AnyTime, u: Option<Ident>, s: Cow<'a, str>, b: Num, B: Num, a: Num, A: Num,
    }

    /// `obu` and `order_book_update`: the changes numbered `U` to `u`, or with `full` the whole book.
    pub(super) struct BookUpdate<'a> {
        t: AnyTime, full: Option<bool>, s: Cow<'a, str>, U: Option<u64>, u: Option<u64>, b: Option<Levels>, a: Option<Levels>,
    }

    /// A book by REST, `spot.order_book` (`lastUpdateId`, `s`) or `futures.order_book` (`id`, `contract`).
    pub(super) struct FullBook<'a> {
        t: AnyTime, id: Option<u64>, lastUpdateId: Option<u64>, update: AnyTime, contract: Option<Cow<'a, str>>, s: Option<Cow<'a, str>>,
        asks: Levels, bids: Levels,
    }

    /// A changed price of the old `futures.order_book`: its size is negative for an ask, 0 when it is gone.
    pub(super) struct Change<'a> {
        p: Decimal, s: Decimal, c: Cow<'a, str>,
    }

    /// A price of futures' books.
    struct Priced {
        p: Decimal, s: Decimal,
    }

    /// A trade of a contract: the taker sold where its size is negative.
    pub(super) struct Trade<'a> {
        size: Decimal, id: Option<Ident>, create_time: AnyTime, create_time_ms: AnyTime, price: Decimal, contract: Cow<'a, str>,
    }

    /// A trade of a spot pair, which REST's answers need not name.
    pub(super) struct SpotTrade<'a> {
        id: Option<Ident>, create_time: AnyTime, create_time_ms: AnyTime, side: Taker, currency_pair: Option<Cow<'a, str>>,
        amount: Decimal, price: Decimal,
    }

    /// A candle, pushed, or of a contract by REST. `v` is in contracts, at spot in quote currency, where `a` is in base.
    /// `n` is `1m_BTC_USDT`, `w` whether it is over.
    pub(super) struct Candle<'a> {
        t: At, v: Num, c: Decimal, h: Decimal, l: Decimal, o: Decimal, n: Option<Cow<'a, str>>, a: Num, w: Truth, sum: Num,
    }

    /// A candle of a spot pair by REST, by position.
    pub(super) struct SpotCandle row {
        t: At, turnover: Num, close: Decimal, high: Decimal, low: Decimal, open: Decimal, volume: Num, closed: Truth,
    }

    /// A past funding settlement.
    pub(super) struct FundingRate {
        r: Decimal, t: At,
    }

    /// A liquidation by REST: `size` is the liquidated position's, `order_size` the forced order's, both signed.
    pub(super) struct LiquidationOrder<'a> {
        time: AnyTime, contract: Cow<'a, str>, size: Num, order_size: Num, fill_price: Num, left: Num,
    }

    /// A liquidation as it is pushed: `size` is the forced order's, signed.
    pub(super) struct PublicLiquidation<'a> {
        contract: Cow<'a, str>, price: Decimal, size: Decimal, time: AnyTime, time_ms: AnyTime,
    }

    /// Statistics of a contract at a time. `open_interest_usd` is in quote currency.
    pub(super) struct ContractStats<'a> {
        time: AnyTime, contract: Option<Cow<'a, str>>, open_interest: Num, mark_price: Num, open_interest_usd: Num,
    }

    /// News of the service itself.
    pub(super) struct System<'a> {
        kind: Option<Cow<'a, str>> = "type",
    }
}

exchange_core::wire! {
    /// A push. Its `time` is in seconds; `time_ms` came later, and is 0 at times.
    pub(super) struct Push<T> {
        time: AnyTime, time_ms: AnyTime, channel: Ignored, event: Ignored, result: T,
    }

    /// An answer to what the client sent. Only new ones repeat the `payload`.
    pub(super) struct Answer<'a> {
        id: Option<Ident>, channel: Option<Cow<'a, str>>, event: Option<Cow<'a, str>>, payload: Option<Rows<'a, Cow<'a, str>>>,
        error: Option<WsError<'a>>, result: Option<Outcome<'a>>,
    }

    /// Why not.
    pub(super) struct WsError<'a> {
        message: Option<Cow<'a, str>>,
    }

    /// `success` or `fail`.
    pub(super) struct Outcome<'a> {
        status: Option<Cow<'a, str>>,
    }
}

impl<T> Push<T> {
    /// When it was sent.
    pub(super) fn sent(&self) -> Option<Time> {
        self.time_ms.0.or(self.time.0)
    }
}

/// The records of a push: one, a list, or a list in a list, all of which were seen.
#[derive(Debug)]
pub(super) struct Records<'a, T>(pub(super) Vec<Row<'a, T>>);

impl<'a, T: Wire<'a>> Wire<'a> for Records<'a, T> {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let start = reader.position();
        let nested = reader.peek() == b'[' && reader.open_array()? && reader.peek() == b'[';
        reader.rewind(start);
        if nested {
            return Ok(Self(Vec::<Rows<'a, T>>::read(reader)?.into_iter().flat_map(|rows| rows.0).collect()));
        }
        Rows::read(reader).map(|rows| Self(rows.0))
    }
}

/// One side of a book: `{"p":"1.5","s":100}` of contracts, `["1.5","100"]` elsewhere; an empty one may be `null`.
#[derive(Debug, Default)]
pub(super) struct Levels(pub(super) Vec<Level>);

impl<'a> Wire<'a> for Levels {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        let mut levels = Vec::new();
        let mut more = !reader.null() && reader.open_array()?;
        while more {
            levels.push(if reader.peek() == b'{' {
                let Priced { p, s } = Priced::read(reader)?;
                Level { price: p, size: s }
            } else {
                Level::read(reader)?
            });
            more = reader.more_in_array()?;
        }
        Ok(Self(levels))
    }
}

/// A time that must be there.
#[derive(Debug, Clone, Copy)]
pub(super) struct At(pub(super) Time);

impl<'a> Wire<'a> for At {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        match AnyTime::read(reader)?.0 {
            Some(time) => Ok(Self(time)),
            None => Err(reader.shape("is not a time")),
        }
    }
}

/// `true`, `"true"`, or not there.
#[derive(Debug, Clone, Copy)]
pub(super) struct Truth(pub(super) Option<bool>);

impl<'a> Wire<'a> for Truth {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if reader.peek() != b'"' {
            return Option::read(reader).map(Self);
        }
        match &*reader.string()? {
            "true" => Ok(Self(Some(true))),
            "false" => Ok(Self(Some(false))),
            _ => Err(reader.shape("is neither true nor false")),
        }
    }

    fn absent(_: &Reader<'a>, _: &'static str) -> Read<Self> {
        Ok(Self(None))
    }
}
