//! Envelopes of WebSocket frames: what kind of record a frame holds, told before the record is read, and by its stream's
//! name or its event's, whichever stands first.

use std::borrow::Cow;

use exchange_core::error::DecodeError;
use exchange_core::exchange::{Control, Input, Out};
use exchange_core::wire::{BadRow, Reader, Wire, read};

use super::decode::Result;
use super::wire::Answer;

/// What a push holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Route {
    Trade,
    AggTrade,
    Quote,
    Ticker,
    Mark,
    Index,
    Candle,
    Liquidation,
    /// A change of a book.
    Depth,
    /// A book's best levels, whole.
    BestLevels,
    Contract,
    OptionMark,
    OptionOpenInterest,
    Closing,
    /// Known, and nothing that the contract has an event for.
    Uncollected,
}

/// By the name of the stream: `btcusdt@depth@100ms`, `!markPrice@arr@1s`.
#[inline]
fn by_stream(name: &str) -> Option<Route> {
    let words = match name.strip_prefix('!') {
        Some(words) => words,
        None => name.split_once('@').map_or(name, |(_, words)| words),
    };
    Some(match words.split('@').next()? {
        "aggTrade" => Route::AggTrade,
        "depth" => Route::Depth,
        "bookTicker" => Route::Quote,
        "markPrice" => Route::Mark,
        "trade" | "optionTrade" => Route::Trade,
        "ticker" | "miniTicker" | "optionTicker" => Route::Ticker,
        "forceOrder" => Route::Liquidation,
        "contractInfo" => Route::Contract,
        "indexPrice" | "optionIndexPrice" => Route::Index,
        "optionMarkPrice" => Route::OptionMark,
        "optionOpenInterest" => Route::OptionOpenInterest,
        "serverShutdown" => Route::Closing,
        // Other books, other windows, baskets, trades off the book, stock exchanges' hours.
        "rpiDepth" | "tradingSession" | "compositeIndex" | "assetIndex" | "blockTrade" | "avgPrice" => Route::Uncollected,
        word if word.starts_with("kline_") => Route::Candle,
        word if word.starts_with("depth") => Route::BestLevels,
        word if word.starts_with("continuousKline_") || word.starts_with("ticker_") => Route::Uncollected,
        _ => return None,
    })
}

/// By the name of the event, where no stream is named.
fn by_event(name: &str) -> Option<Route> {
    Some(match name {
        "aggTrade" => Route::AggTrade,
        "trade" => Route::Trade,
        "depthUpdate" => Route::Depth,
        "bookTicker" => Route::Quote,
        "24hrTicker" | "24hrMiniTicker" => Route::Ticker,
        "markPriceUpdate" => Route::Mark,
        "indexPriceUpdate" | "index" => Route::Index,
        "kline" => Route::Candle,
        "forceOrder" => Route::Liquidation,
        "contractInfo" => Route::Contract,
        "markPrice" => Route::OptionMark,
        "openInterest" => Route::OptionOpenInterest,
        "serverShutdown" => Route::Closing,
        "compositeIndex" | "assetIndexUpdate" | "blockTrade" | "avgPrice" | "continuous_kline" | "1hTicker" | "4hTicker" | "1dTicker" => Route::Uncollected,
        _ => return None,
    })
}

/// A push, its cursor at the record or the list of them.
pub(super) struct Frame<'a> {
    reader: Reader<'a>,
    pub(super) route: Route,
    /// The stream's name, from the frame or from the address.
    pub(super) stream: Option<Cow<'a, str>>,
    /// Whether the record stands in `{"stream":…,"data":…}`.
    wrapped: bool,
}

impl<'a> Frame<'a> {
    /// Opens a frame; `None` if it is no push.
    #[inline]
    pub(super) fn open(input: &Input<'a>, url: &'a str) -> Result<Option<Self>> {
        let mut reader = input.reader()?;
        let start = reader.clone();
        if reader.peek() == b'{' && reader.open_object()? {
            if reader.at_key(b"\"stream\":") {
                let stream = reader.string()?;
                if reader.more_in_object()?
                    && reader.at_key(b"\"data\":")
                    && let Some(route) = by_stream(&stream)
                {
                    return Ok(Some(Self { reader, route, stream: Some(stream), wrapped: true }));
                }
            } else if reader.at_key(b"\"e\":") {
                let name = reader.string()?;
                let route = by_event(&name).ok_or_else(|| unknown_event(&name))?;
                return Ok(Some(Self::bare(start, route, url)));
            }
        }
        Self::open_other(start, url)
    }

    /// A frame that does not begin as they usually do.
    fn open_other(mut reader: Reader<'a>, url: &'a str) -> Result<Option<Self>> {
        if reader.peek() == b'{'
            && let (Some(mut stream), Some(data)) = (reader.find("stream")?, reader.find("data")?)
        {
            let stream = stream.string()?;
            let route = if let Some(route) = by_stream(&stream) { Some(route) } else { event(&data)? };
            let route = route.ok_or_else(|| DecodeError::unknown("stream", &stream))?;
            return Ok(Some(Self { reader: data, route, stream: Some(stream), wrapped: true }));
        }
        Ok(event(&reader)?.map(|route| Self::bare(reader, route, url)))
    }

    /// A frame that is not wrapped. The address names its stream, if it was opened for a single one.
    fn bare(reader: Reader<'a>, mut route: Route, url: &'a str) -> Self {
        let mut stream = None;
        if matches!(route, Route::Depth | Route::BestLevels) {
            stream = url.split_once("/ws/").map(|(_, name)| name.split('?').next().unwrap_or(name)).filter(|name| !name.contains('/'));
            // Of futures, best levels and the book of retail orders look like a change.
            if let Some(named @ (Route::BestLevels | Route::Uncollected)) = stream.and_then(by_stream) {
                route = named;
            }
        }
        Self { reader, route, stream: stream.map(Cow::Borrowed), wrapped: false }
    }

    /// Decodes the record, or each of a list. One that cannot be read costs only itself.
    #[inline]
    pub(super) fn each<T: Wire<'a>>(mut self, input: &Input<'_>, out: &mut Out<'_>, meaning: impl Fn(&Input<'_>, &mut Out<'_>, T)) -> Result {
        if self.reader.peek() == b'[' {
            let mut more = self.reader.open_array()?;
            while more {
                self.one(input, out, &meaning)?;
                more = self.reader.more_in_array()?;
            }
        } else {
            self.one(input, out, &meaning)?;
        }
        self.close()
    }

    #[inline]
    fn one<T: Wire<'a>>(&mut self, input: &Input<'_>, out: &mut Out<'_>, meaning: &impl Fn(&Input<'_>, &mut Out<'_>, T)) -> Result {
        let start = self.reader.position();
        match T::read(&mut self.reader) {
            Ok(record) => meaning(input, out, record),
            Err(fault) if fault.broken => return Err(fault.into()),
            Err(fault) => {
                self.reader.rewind(start);
                self.reader.skip()?;
                let text = self.reader.slice(start, self.reader.position());
                out.bad_row(input.market, "s", &BadRow { fault, text });
            }
        }
        Ok(())
    }

    /// Nothing but the rest of the envelope may follow.
    #[inline]
    fn close(mut self) -> Result {
        if self.wrapped {
            while self.reader.more_in_object()? {
                self.reader.key()?;
                self.reader.skip()?;
            }
        }
        self.reader.finish()?;
        Ok(())
    }
}

#[cold]
fn unknown_event(name: &str) -> DecodeError {
    DecodeError::unknown("event", name)
}

/// The route of a record, or of the first of a list, that has to tell by itself.
fn event(reader: &Reader<'_>) -> Result<Option<Route>> {
    let mut reader = reader.clone();
    if reader.peek() == b'[' && !reader.open_array()? {
        return Ok(Some(Route::Uncollected));
    }
    if reader.peek() != b'{' {
        return Ok(None);
    }
    if let Some(mut name) = reader.find("e")? {
        let name = name.string()?;
        return by_event(&name).map(Some).ok_or_else(|| unknown_event(&name));
    }
    // Of spot's pushes, two have no event: the best prices and the best levels.
    if reader.find("lastUpdateId")?.is_some() {
        return Ok(Some(Route::BestLevels));
    }
    Ok((reader.find("s")?.is_some() && reader.find("u")?.is_some()).then_some(Route::Quote))
}

/// A frame that is no push: an answer to one of ours.
#[cold]
pub(super) fn answer(input: &Input<'_>, out: &mut Out<'_>) -> Result {
    let answer: Answer<'_> = read(input.text()?)?;
    let id = answer.id.and_then(|id| id.as_number());
    let refused = answer.error.map(|error| (error.code, error.msg)).or_else(|| answer.code.map(|code| (Some(code), answer.msg)));
    if let Some((code, words)) = refused {
        let words = words.unwrap_or_default();
        let reason = code.map_or_else(|| words.to_string(), |code| format!("code {code}: {words}"));
        out.control(Control::Rejected { id, topic: None, reason });
    } else if answer.result.0 {
        out.control(Control::Ack { id });
    } else {
        return Err(DecodeError::malformed("neither a push nor an answer that is known"));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_have_routes() {
        for (name, route) in [
            ("btcusdt@aggTrade", Route::AggTrade),
            ("btcusdt@depth@100ms", Route::Depth),
            ("btcusdt@depth", Route::Depth),
            ("btcusdt@depth20@100ms", Route::BestLevels),
            ("btcusdt@depth5", Route::BestLevels),
            ("btcusdt@rpiDepth@500ms", Route::Uncollected),
            ("!markPrice@arr@1s", Route::Mark),
            ("btcusd@indexPrice@1s", Route::Index),
            ("btcusdt@kline_1m", Route::Candle),
            ("btcusdt_perpetual@continuousKline_1m", Route::Uncollected),
            ("!ticker_1h@arr", Route::Uncollected),
            ("!miniTicker@arr", Route::Ticker),
            ("!bookTicker", Route::Quote),
            ("ethusdt@optionOpenInterest@251219", Route::OptionOpenInterest),
            ("币安人生usdt@trade", Route::Trade),
        ] {
            assert_eq!(by_stream(name), Some(route), "{name}");
        }
        assert_eq!(by_stream("btcusdt@somethingNew"), None);
        assert_eq!(by_stream("btcusdt"), None);
        assert_eq!(by_stream("tradingSession"), Some(Route::Uncollected));
    }
}
