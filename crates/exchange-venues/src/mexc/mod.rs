//! MEXC: spot, and perpetual contracts, linear and inverse by the same ways.
//!
//! What is odd here:
//! - Spot's WebSocket pushes protobuf and takes JSON. Contracts speak JSON, with bare numbers.
//! - One answer holds the tickers of all contracts with mark, index, funding rate and open interest; another, all running
//!   funding rates with their intervals, bounds and next times.
//! - Contracts are counted: of base currency if linear, of dollars if inverse.
//! - Rates and changes are fractions, also where a name says "percent". Candles' times are seconds, all others milliseconds.
//! - Contracts' acknowledgements carry neither an id nor a symbol: they come in the order of the frames, so that a frame
//!   has one topic. Spot's repeat the topics.
//! - Spot's trades have no id by REST, and have one on the WebSocket.

mod decode;
mod frame;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::{Decoder, Exchange, Market, Op, Time, Topic};

/// MEXC. <https://www.mexc.com/api-docs/>
pub(crate) struct Mexc;

impl Exchange for Mexc {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], _: u64, _: Time) -> String {
        let mut frame = Vec::with_capacity(64 + topics.len() * 64);
        match topics {
            [topic] if topic.market != Market::Spot => contract_frame(op, &topic.name, &mut frame),
            _ => {
                let method = if op == Op::Subscribe { "SUBSCRIPTION" } else { "UNSUBSCRIPTION" };
                frame.extend_from_slice(format!(r#"{{"method":"{method}","params":["#).as_bytes());
                for (at, topic) in topics.iter().enumerate() {
                    if at > 0 {
                        frame.push(b',');
                    }
                    write_string(&topic.name, &mut frame);
                }
                frame.extend_from_slice(b"]}");
            }
        }
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }

    /// Linear contracts are settled in their quote, inverse ones in their base. Spot's names do not say where their parts meet.
    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        let (base, quote) = venue_symbol.split_once('_').filter(|(base, quote)| !base.is_empty() && !quote.is_empty() && !quote.contains('_'))?;
        match market {
            Market::Linear => Some(format!("{base}/{quote}:{quote}")),
            Market::Inverse => Some(format!("{base}/{quote}:{base}")),
            _ => None,
        }
    }
}

/// A topic of contracts is a method, a symbol and an interval, as far as it has them: `sub.kline BTC_USDT Min1`.
fn contract_frame(op: Op, topic: &str, frame: &mut Vec<u8>) {
    let mut words = topic.split(' ');
    let method = words.next().unwrap_or_default();
    frame.extend_from_slice(br#"{"method":"#);
    match op {
        Op::Subscribe => write_string(method, frame),
        Op::Unsubscribe => write_string(&format!("un{method}"), frame),
    }
    frame.extend_from_slice(br#","param":{"#);
    for (at, (key, word)) in ["symbol", "interval"].iter().zip(words).enumerate() {
        frame.extend_from_slice(if at > 0 { b",\"" } else { b"\"" });
        frame.extend_from_slice(key.as_bytes());
        frame.extend_from_slice(b"\":");
        write_string(word, frame);
    }
    // By default, trades are merged.
    if method == "sub.deal" {
        frame.extend_from_slice(br#","compress":false"#);
    }
    frame.extend_from_slice(br#"},"gzip":false}"#);
}

#[cfg(test)]
mod tests {
    use exchange_core::{Channel, Interval, Mode, Plan, Want};

    use super::*;
    use crate::testing;

    fn plan(market: Market, channels: &[Channel], mode: Mode) -> Plan {
        let profile = testing::profile(&Mexc);
        let name = if market == Market::Spot { "BTCUSDT" } else { "BTC_USDT" };
        let instruments = [std::sync::Arc::new(exchange_core::Instrument::named(&"mexc".into(), market, name, None))];
        Mexc.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    fn targets(plan: &Plan) -> Vec<&str> {
        plan.polls.iter().map(|poll| poll.request.target.as_str()).collect()
    }

    fn candles(text: &str) -> Channel {
        Channel::Candle(Interval::parse(text).unwrap())
    }

    #[test]
    fn names_of_contracts_are_symbols() {
        let symbol = |market, name| Mexc.parse_symbol(market, name);
        assert_eq!(symbol(Market::Linear, "币_USDT").as_deref(), Some("币/USDT:USDT"));
        assert_eq!(symbol(Market::Inverse, "BTC_USD").as_deref(), Some("BTC/USD:BTC"));
        for (market, name) in [(Market::Spot, "A_B"), (Market::Linear, "BTCUSDT"), (Market::Linear, "_USDT"), (Market::Linear, "A_B_C")] {
            assert_eq!(symbol(market, name), None, "{name}");
        }
    }

    #[test]
    fn two_requests_serve_all_contracts() {
        let plan = plan(Market::Linear, &[Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest], Mode::Auto);
        assert_eq!(targets(&plan), ["/api/v1/contract/ticker", "/api/v1/contract/funding_rate"]);
        assert!(plan.topics.is_empty() && plan.unserved.is_empty());
    }

    #[test]
    fn spots_rest_interface_has_its_own_words_for_intervals() {
        assert_eq!(targets(&plan(Market::Spot, &[candles("1h")], Mode::Poll)), ["/api/v3/klines?symbol=BTCUSDT&interval=60m&limit=3"]);
        assert_eq!(targets(&plan(Market::Linear, &[candles("1h")], Mode::Poll)), ["/api/v1/contract/kline/BTC_USDT?interval=Min60&start={ago_s:36000s}"]);
        assert_eq!(plan(Market::Spot, &[candles("8h")], Mode::Poll).unserved, [candles("8h")]);
        assert_eq!(plan(Market::Spot, &[candles("8h")], Mode::Stream).topics[0].name, "spot@public.kline.v3.api.pb@BTCUSDT@Hour8");
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let frame = |op, market, channels: &[Channel]| {
            let plan = plan(market, channels, Mode::Stream);
            Mexc.subscribe(op, &plan.topics.iter().collect::<Vec<_>>(), 1, Time::EPOCH)
        };
        assert_eq!(
            frame(Op::Subscribe, Market::Spot, &[Channel::Trade, Channel::Book]),
            r#"{"method":"SUBSCRIPTION","params":["spot@public.aggre.deals.v3.api.pb@100ms@BTCUSDT","spot@public.aggre.depth.v3.api.pb@100ms@BTCUSDT"]}"#
        );
        assert_eq!(
            frame(Op::Unsubscribe, Market::Spot, &[Channel::Quote]),
            r#"{"method":"UNSUBSCRIPTION","params":["spot@public.aggre.bookTicker.v3.api.pb@100ms@BTCUSDT"]}"#
        );
        for (channel, worded) in [
            (Channel::Ticker, r#"{"method":"sub.tickers","param":{},"gzip":false}"#),
            (Channel::Funding, r#"{"method":"sub.ticker","param":{"symbol":"BTC_USDT"},"gzip":false}"#),
            (Channel::Trade, r#"{"method":"sub.deal","param":{"symbol":"BTC_USDT","compress":false},"gzip":false}"#),
            (candles("1m"), r#"{"method":"sub.kline","param":{"symbol":"BTC_USDT","interval":"Min1"},"gzip":false}"#),
        ] {
            assert_eq!(frame(Op::Subscribe, Market::Inverse, &[channel]), worded);
        }
        assert_eq!(frame(Op::Unsubscribe, Market::Linear, &[Channel::Book]), r#"{"method":"unsub.depth","param":{"symbol":"BTC_USDT"},"gzip":false}"#);
    }
}
