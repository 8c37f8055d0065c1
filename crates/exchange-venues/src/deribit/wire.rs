//! The shapes of Deribit's messages, under Deribit's own names. Records come first, then the envelopes of both transports.
//!
//! Fields are declared in the order in which pushes have them today (older ones and replies have others), and those
//! without a meaning to us are named all the same, because a known key is passed over faster than an unknown one. All
//! times are in milliseconds.

use std::borrow::Cow;

use exchange_core::Decimal;
use exchange_core::event::{Ident, Level};
use exchange_core::wire::{Ignored, Millis, Num, Raw, Read, Reader, Rows, Taker, Wire};

exchange_core::wire! {
    /// A ticker, whole or the fields that changed; a quote is a part of it, and so is a mark price of `markprice`.
    /// <https://docs.deribit.com/subscriptions/market-data/tickerinstrument_nameinterval>,
    /// <https://docs.deribit.com/subscriptions/market-data/incremental_tickerinstrument_name>,
    /// <https://docs.deribit.com/subscriptions/market-data/quoteinstrument_name>
    pub(super) struct Ticker<'a> {
        timestamp: Millis,
        state: Ignored,
        stats: Option<Stats>,
        index_price: Num,
        instrument_name: Cow<'a, str>,
        last_price: Num,
        settlement_price: Ignored,
        min_price: Ignored,
        max_price: Ignored,
        open_interest: Num,
        mark_price: Num,
        interest_value: Ignored,
        best_ask_price: Num,
        best_bid_price: Num,
        estimated_delivery_price: Ignored,
        best_ask_amount: Num,
        best_bid_amount: Num,
        current_funding: Num,
        funding_8h: Ignored,
    }

    /// A ticker's last 24 hours. `volume` is in base currency, `price_change` a percentage; `volume_notional` is in quote
    /// currency and came after `volume_usd`, which is the same for inverse contracts.
    pub(super) struct Stats {
        high: Num,
        low: Num,
        price_change: Num,
        volume: Num,
        volume_usd: Num,
        volume_notional: Num,
    }

    /// A line of a summary, prices `null` where there are none. Only perpetuals have `current_funding`.
    /// <https://docs.deribit.com/api-reference/market-data/public-get_book_summary_by_currency>
    pub(super) struct Summary<'a> {
        high: Num,
        low: Num,
        last: Num,
        instrument_name: Cow<'a, str>,
        bid_price: Num,
        ask_price: Num,
        open_interest: Num,
        mark_price: Num,
        creation_timestamp: Millis,
        price_change: Num,
        volume: Num,
        volume_usd: Num,
        volume_notional: Num,
        estimated_delivery_price: Option<Worded>,
        base_currency: Ignored,
        quote_currency: Ignored,
        current_funding: Num,
        funding_8h: Ignored,
        mid_price: Ignored,
    }

    /// A trade. `amount` is in dollars for inverse contracts, else in base currency; `direction` is the taker's.
    /// <https://docs.deribit.com/subscriptions/trades/tradeskindcurrencyinterval>
    pub(super) struct PublicTrade<'a> {
        trade_seq: Ignored,
        trade_id: Option<Ident>,
        timestamp: Millis,
        tick_direction: Ignored,
        price: Decimal,
        mark_price: Ignored,
        liquidation: Option<Cow<'a, str>>,
        instrument_name: Cow<'a, str>,
        index_price: Ignored,
        direction: Taker,
        contracts: Ignored,
        amount: Decimal,
    }

    /// A book or a change of one. Until 2020 there was no `type`: the message without `prev_change_id` is the snapshot.
    /// <https://docs.deribit.com/subscriptions/orderbook/bookinstrument_nameinterval>,
    /// <https://docs.deribit.com/subscriptions/orderbook/bookinstrument_namegroupdepthinterval>
    pub(super) struct Book<'a> {
        kind: Option<Cow<'a, str>> = "type",
        timestamp: Millis,
        instrument_name: Cow<'a, str>,
        prev_change_id: Option<Ident>,
        change_id: Option<Ident>,
        bids: Vec<Step>,
        asks: Vec<Step>,
    }

    /// The running candle; `volume` in base currency, `cost` in quote currency.
    /// <https://docs.deribit.com/subscriptions/market-data/charttradesinstrument_nameresolution>
    pub(super) struct Bar {
        tick: Millis,
        open: Num,
        high: Num,
        low: Num,
        close: Num,
        volume: Num,
        cost: Num,
    }

    /// Candles, one list for each field. <https://docs.deribit.com/api-reference/market-data/public-get_tradingview_chart_data>
    pub(super) struct Chart<'a> {
        volume: Rows<'a, Num>,
        ticks: Rows<'a, Millis>,
        status: Ignored,
        open: Rows<'a, Num>,
        low: Rows<'a, Num>,
        high: Rows<'a, Num>,
        cost: Option<Rows<'a, Num>>,
        close: Rows<'a, Num>,
    }

    /// The funding rate of a perpetual, for eight hours.
    /// <https://docs.deribit.com/subscriptions/market-data/perpetualinstrument_nameinterval>
    pub(super) struct Perpetual {
        interest: Num,
        timestamp: Millis,
        index_price: Num,
    }

    /// Funding of a past hour. <https://docs.deribit.com/api-reference/market-data/public-get_funding_rate_history>
    pub(super) struct FundingHour {
        timestamp: Millis,
        index_price: Ignored,
        prev_index_price: Ignored,
        interest_8h: Ignored,
        interest_1h: Decimal,
    }

    /// An index. <https://docs.deribit.com/subscriptions/market-data/deribit_price_indexindex_name>
    pub(super) struct PriceIndex<'a> {
        timestamp: Millis,
        price: Num,
        index_name: Cow<'a, str>,
    }

    /// The same by REST, where the request names it. <https://docs.deribit.com/api-reference/market-data/public-get_index_price>
    pub(super) struct AskedIndex {
        index_price: Num,
    }

    /// A step of an instrument's life. <https://docs.deribit.com/subscriptions/market-data/instrumentstatekindcurrency>
    pub(super) struct Lifecycle<'a> {
        timestamp: Millis,
        state: Cow<'a, str>,
        instrument_name: Cow<'a, str>,
    }

    /// An instrument. `state` came in January 2026, `instrument_type` and `counter_currency` in 2022. An option's
    /// `quote_currency` is what its price is in, `counter_currency` that of its strike. `lot_size` is Coinbase's.
    /// <https://docs.deribit.com/api-reference/market-data/public-get_instruments>
    pub(super) struct Listing<'a> {
        kind: Option<Cow<'a, str>>,
        instrument_name: Cow<'a, str>,
        option_type: Option<Cow<'a, str>>,
        strike: Num,
        instrument_type: Option<Cow<'a, str>>,
        expiration_timestamp: Millis,
        creation_timestamp: Millis,
        is_active: Option<bool>,
        state: Option<Cow<'a, str>>,
        tick_size: Num,
        contract_size: Ignored,
        min_trade_amount: Num,
        lot_size: Num,
        future_type: Option<Cow<'a, str>>,
        settlement_currency: Option<Cow<'a, str>>,
        settlement_period: Option<Cow<'a, str>>,
        base_currency: Option<Cow<'a, str>>,
        counter_currency: Option<Cow<'a, str>>,
        quote_currency: Option<Cow<'a, str>>,
    }
}

exchange_core::wire! {
    /// A push.
    pub(super) struct Push<T> {
        jsonrpc: Ignored,
        method: Ignored,
        params: Params<T>,
    }

    /// What a push is about.
    pub(super) struct Params<T> {
        channel: Ignored,
        data: T,
    }

    /// A reply; one with an `error` does not come here. `usOut` is when it left, in microseconds.
    pub(super) struct Reply<T> {
        jsonrpc: Ignored,
        id: Ignored,
        result: T,
        usIn: Ignored,
        usOut: Option<i64>,
        usDiff: Ignored,
        testnet: Ignored,
    }

    /// The result of a request for trades.
    pub(super) struct Trades<'a> {
        trades: Rows<'a, PublicTrade<'a>>,
        has_more: Ignored,
    }

    /// A heartbeat, or a request to show that we live.
    pub(super) struct Heartbeat<'a> {
        jsonrpc: Ignored,
        method: Ignored,
        params: HeartbeatKind<'a>,
    }

    /// Which of the two.
    pub(super) struct HeartbeatKind<'a> {
        kind: Cow<'a, str> = "type",
    }

    /// An answer to what the client sent: channels that were accepted or ended, `"ok"`, a version, a refusal.
    pub(super) struct Answer<'a> {
        jsonrpc: Ignored,
        id: Option<Ident>,
        result: Option<Raw<'a>>,
        error: Option<Refusal<'a>>,
    }

    /// Why not. <https://docs.deribit.com/#rpc-error-codes>
    pub(super) struct Refusal<'a> {
        code: i64,
        message: Option<Cow<'a, str>>,
        data: Option<Raw<'a>>,
    }
}

/// A price of a book: `[price, amount]`, or `["new" | "change" | "delete", price, amount]` where books change.
#[derive(Debug)]
pub(super) struct Step(pub(super) Level);

impl<'a> Wire<'a> for Step {
    #[inline]
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        if !reader.open_array()? {
            return Err(reader.shape("has no price"));
        }
        let mut delete = false;
        if reader.peek() == b'"' {
            delete = *reader.string()? == *"delete";
            if !reader.more_in_array()? {
                return Err(reader.shape("has no price"));
            }
        }
        let price = Decimal::read(reader)?;
        if !reader.more_in_array()? {
            return Err(reader.shape("has no size"));
        }
        let size = Decimal::read(reader)?;
        while reader.more_in_array()? {
            reader.skip()?;
        }
        Ok(Self(Level { price, size: if delete { Decimal::ZERO } else { size } }))
    }
}

/// A number that is a word where there is none: the estimated delivery price of what has expired is `"expired"`.
#[derive(Debug)]
pub(super) struct Worded(pub(super) Option<Decimal>);

impl<'a> Wire<'a> for Worded {
    fn read(reader: &mut Reader<'a>) -> Read<Self> {
        Ok(Self(reader.string_or_number()?.parse().ok()))
    }
}
