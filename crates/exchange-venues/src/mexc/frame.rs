//! Spot's binary frames: protobuf, one kind of record each, told by the number of the field that holds it.
//! <https://github.com/mexcdevelop/websocket-proto>

use exchange_core::event::{Body, BookKind, Candle, Ident, Ticker};
use exchange_core::wire::{Num, Read};
use exchange_core::{DecodeError, Input, Market, Out, Time};

use super::decode::{Result, aggressor, book, quote, trade};
use super::wire::{AggreDepths, BookTicker, BookTickerBatch, Deal, Deals, Depths, DepthsBatch, MiniTicker, MiniTickers, Record, Seconds, SpotKline, Wrapper};

/// What one frame has said of itself before its records.
struct Frame<'a> {
    channel: &'a str,
    symbol: &'a str,
    time: Option<Time>,
}

/// The one kind of frame whose records name their instruments.
const ALL_MINI_TICKERS: u32 = 310;

pub(super) fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let wrapper = Wrapper::read(input.payload)?;
    let Some((kind, body)) = wrapper.body else { return Err(DecodeError::malformed("a frame that holds no record")) };
    let frame = Frame {
        channel: wrapper.channel,
        symbol: if wrapper.symbol.is_empty() && kind != ALL_MINI_TICKERS { symbol_of(wrapper.channel) } else { wrapper.symbol },
        time: millis(wrapper.sendTime).or_else(|| millis(wrapper.createTime)),
    };
    match kind {
        301 | 314 => frame.each(Deals::read(body)?.deals, out, Frame::deal),
        302 => frame.depths(Depths::read(body)?, BookKind::Delta, out),
        303 => frame.depths(Depths::read(body)?, BookKind::Snapshot, out),
        312 => {
            for depths in DepthsBatch::read(body)?.items {
                // A change that is lost cannot be made good by the next.
                frame.depths(depths?, BookKind::Delta, out);
            }
        }
        313 => frame.aggre_depths(AggreDepths::read(body)?, out),
        305 | 315 => frame.quote(BookTicker::read(body)?, None, out),
        311 => {
            let batch = BookTickerBatch::read(body)?;
            frame.each(batch.items, out, |frame, record, out| {
                frame.quote(record, batch.version.clone(), out);
                Ok(())
            });
        }
        308 => frame.candle(SpotKline::read(body)?, input, out)?,
        309 => frame.mini_ticker(MiniTicker::read(body)?, out),
        ALL_MINI_TICKERS => frame.each(MiniTickers::read(body)?.items, out, |frame, record, out| {
            frame.mini_ticker(record, out);
            Ok(())
        }),
        _ => return Err(DecodeError::malformed(format_args!("`{}` (field {kind}) is no channel that is known", wrapper.channel))),
    }
    Ok(())
}

/// The symbol in a channel's name: `spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT`, `…@BTCUSDT@Min1`.
fn symbol_of(channel: &str) -> &str {
    channel.split('@').skip(2).find(|word| !word.ends_with("ms")).unwrap_or_default()
}

fn millis(millis: i64) -> Option<Time> {
    (millis > 0).then(|| Time::from_millis(millis))
}

/// A price or size that must be there.
fn required(number: Num, what: &'static str) -> Result<exchange_core::Decimal> {
    number.0.ok_or_else(|| DecodeError::malformed(what))
}

impl Frame<'_> {
    /// The records of a list. One that cannot be read costs only itself.
    fn each<T>(&self, records: Vec<Read<T>>, out: &mut Out<'_>, meaning: impl Fn(&Self, T, &mut Out<'_>) -> Result) {
        for record in records {
            if let Err(error) = record.map_err(DecodeError::from).and_then(|record| meaning(self, record, out)) {
                out.bad(Market::Spot, Some(self.symbol), error.message, "");
            }
        }
    }

    fn deal(&self, deal: Deal<'_>, out: &mut Out<'_>) -> Result {
        let (price, size) = (required(deal.price, "a trade without a price")?, required(deal.quantity, "a trade without a size")?);
        let trade_id = Some(deal.tradeId).filter(|id| !id.is_empty()).map(Ident::parse);
        let instrument = out.instrument(Market::Spot, self.symbol);
        out.emit(&instrument, millis(deal.time).or(self.time), trade(trade_id, price, size, aggressor(deal.tradeType)));
        Ok(())
    }

    fn quote(&self, t: BookTicker, version: Option<Ident>, out: &mut Out<'_>) {
        let instrument = out.instrument(Market::Spot, self.symbol);
        out.emit(&instrument, self.time, quote((t.bidPrice, t.bidQuantity), (t.askPrice, t.askQuantity), t.version.or(version)));
    }

    fn depths(&self, d: Depths, kind: BookKind, out: &mut Out<'_>) {
        let instrument = out.instrument(Market::Spot, self.symbol);
        let first = d.version.as_ref().and_then(Ident::as_number).filter(|_| kind == BookKind::Delta);
        out.emit(&instrument, self.time, book(kind, d.bids, d.asks, d.version, first));
    }

    fn aggre_depths(&self, d: AggreDepths, out: &mut Out<'_>) {
        let instrument = out.instrument(Market::Spot, self.symbol);
        let first = d.fromVersion.or_else(|| d.toVersion.clone()).as_ref().and_then(Ident::as_number);
        out.emit(&instrument, self.time, book(BookKind::Delta, d.bids, d.asks, d.toVersion, first));
    }

    fn candle(&self, k: SpotKline<'_>, input: &Input<'_>, out: &mut Out<'_>) -> Result {
        let interval = input.interval(k.interval)?;
        let Seconds(open_time) = Seconds::new(k.windowStart).ok_or_else(|| DecodeError::malformed("a candle without a time"))?;
        let body = Candle {
            interval,
            open_time,
            open: required(k.openingPrice, "a candle without its first price")?,
            high: required(k.highestPrice, "a candle without its highest price")?,
            low: required(k.lowestPrice, "a candle without its lowest price")?,
            close: required(k.closingPrice, "a candle without its last price")?,
            volume: required(k.volume, "a candle without its volume")?,
            turnover: k.amount.0,
            trades: None,
            closed: interval.end(open_time) <= input.received,
        };
        let instrument = out.instrument(Market::Spot, self.symbol);
        out.emit(&instrument, self.time, Body::Candle(body));
        Ok(())
    }

    fn mini_ticker(&self, t: MiniTicker<'_>, out: &mut Out<'_>) {
        let instrument = out.instrument(Market::Spot, if t.symbol.is_empty() { self.symbol } else { t.symbol });
        let body = Ticker {
            last: t.price.0,
            high_24h: t.high.0,
            low_24h: t.low.0,
            volume_24h: t.quantity.0,
            turnover_24h: t.volume.0,
            // Of a time zone's topic, it is the change since midnight there; the others roll over 24 hours in any case.
            change_24h: t.zonedRate.0.filter(|_| self.channel.ends_with("@24H")),
            ..Ticker::default()
        };
        out.emit(&instrument, self.time, Body::Ticker(body));
    }
}
