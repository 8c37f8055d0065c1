//! The shapes of the venue's messages, under its own names: records first, then the envelopes of both transports.

use std::borrow::Cow;

use exchange_core::Decimal;
use exchange_core::event::{Ident, Side};
use exchange_core::wire::{Millis, Num, Read, Reader, Wire};

exchange_core::wire! {
    /// An instrument. <https://docs.__name__.example/rest/instruments>
    pub(super) struct Instrument<'a> {
        symbol: Cow<'a, str>,
        base: Cow<'a, str>,
        quote: Cow<'a, str>,
        tickSize: Num,
        lotSize: Num,
        minSize: Num,
        status: Cow<'a, str>,
    }

    /// A ticker, by REST or WebSocket. <https://docs.__name__.example/rest/tickers>
    pub(super) struct Ticker<'a> {
        symbol: Cow<'a, str>,
        last: Num,
        bid: Num,
        bidSize: Num,
        ask: Num,
        askSize: Num,
        open24h: Num,
        high24h: Num,
        low24h: Num,
        volume24h: Num,
        turnover24h: Num,
    }

    /// A trade, by REST or WebSocket. <https://docs.__name__.example/rest/trades>
    pub(super) struct Trade<'a> {
        symbol: Cow<'a, str>,
        id: Option<Ident>,
        price: Decimal,
        size: Decimal,
        side: Taker,
        time: Millis,
    }

    /// What REST wraps around its records.
    pub(super) struct Reply<T> {
        data: T,
        time: Millis,
    }

    /// What the WebSocket wraps around its records.
    pub(super) struct Push<T> {
        data: T,
        time: Millis,
    }

    /// The answer to a frame of ours.
    pub(super) struct Answer<'a> {
        id: Option<u64>,
        op: Cow<'a, str>,
        ok: Option<bool>,
        arg: Option<Cow<'a, str>>,
        msg: Option<Cow<'a, str>>,
    }
}

/// The taker's side; a word that is not known tells none.
#[derive(Debug, Clone, Copy)]
pub(super) struct Taker(pub(super) Option<Side>);

impl<'a> Wire<'a> for Taker {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        Ok(Self(match &*reader.string()? {
            "buy" => Some(Side::Buy),
            "sell" => Some(Side::Sell),
            _ => None,
        }))
    }
}
