//! `KuCoin`: spot, linear (USDT and USDC, perpetual) and inverse (perpetual and dated).
//!
//! What is odd here:
//! - There are two public interfaces. Streams are those of the unified one (UTA): no token, binary frames that hold JSON.
//!   Most requests are classic ones. The topics of the classic sockets are decoded from captures.
//! - `contracts/active` holds all contracts with all their state, linear and inverse in one list. Funding comes from the
//!   unified interface all the same, which alone has cap and floor.
//! - Sizes of contracts are lots, but the volume of 24 hours is in base, and of inverse contracts in lots (1 USD).
//! - Bitcoin is `XBT` in contracts: `BTC` in unified names, unchanged in the venue's.
//! - Numbers come quoted or not, with exponents, times in seconds to nanoseconds; `nextFundingRateTime` is a countdown.
//! - Errors come with HTTP 200. There is no public liquidation feed.

mod decode;
mod listing;
mod record;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan::Topic;
use exchange_core::{Decoder, Exchange, Market, Op, Time};

/// `KuCoin`. <https://www.kucoin.com/docs-new>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Kucoin;

impl Exchange for Kucoin {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    /// <https://www.kucoin.com/docs-new/websocket-api/base-info/introduction-uta>: a topic's words are the channel and the
    /// values of the keys that it takes. Only tickers and trades take several symbols in a frame.
    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let action = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let mut words = topics.first().map_or("", |topic| topic.name.as_str()).split(' ');
        let channel = words.next().unwrap_or_default();
        let keys: &[&str] = match channel {
            "ticker" | "trade" => &["tradeType", "symbol"],
            "obu" => &["tradeType", "symbol", "depth"],
            "kline" => &["tradeType", "symbol", "interval"],
            "mark-price" => &["symbol"],
            _ => &[],
        };
        let mut frame = format!(r#"{{"id":"{id}","action":"{action}","channel":"{channel}""#).into_bytes();
        for (key, word) in keys.iter().zip(words) {
            let several = *key == "symbol" && topics.len() > 1;
            frame.extend_from_slice(if several { ",\"symbols\":[" } else { ",\"" }.as_bytes());
            if several {
                for (at, topic) in topics.iter().enumerate() {
                    if at > 0 {
                        frame.push(b',');
                    }
                    write_string(topic.name.rsplit(' ').next().unwrap_or_default(), &mut frame);
                }
                frame.push(b']');
            } else {
                frame.extend_from_slice(key.as_bytes());
                frame.extend_from_slice(b"\":");
                write_string(word, &mut frame);
            }
        }
        frame.push(b'}');
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }

    /// `BTC-USDT` is `BTC/USDT`; contracts do not say where their base ends.
    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        let (base, quote) = venue_symbol.split_once('-').filter(|_| market == Market::Spot)?;
        let whole = !base.is_empty() && !quote.is_empty() && !quote.contains('-');
        whole.then(|| format!("{base}/{quote}"))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::plan::{Mode, Plan, Want};
    use exchange_core::{Channel, Instrument};

    use super::*;
    use crate::testing;

    fn plan(market: Market, channels: &[Channel], mode: Mode) -> Plan {
        let profile = testing::profile(&Kucoin);
        let instruments = ["XBTUSDTM", "ETHUSDTM"].map(|name| Arc::new(Instrument::named(&"kucoin".into(), market, name, None)));
        Kucoin.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    #[test]
    fn three_requests_serve_all_contracts() {
        let plan = plan(Market::Linear, &[Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest], Mode::Auto);
        let asked: Vec<_> = plan.polls.iter().map(|poll| (poll.request.target.as_str(), poll.channels.as_slice())).collect();
        assert_eq!(
            asked,
            [
                ("/api/v1/contracts/active", &[Channel::Ticker, Channel::Mark, Channel::OpenInterest][..]),
                ("/api/v1/allTickers", &[Channel::Ticker]),
                ("/api/ua/v2/market/funding-rate", &[Channel::Funding]),
            ]
        );
        assert!(plan.topics.is_empty() && plan.unserved.is_empty());
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let said = |market, channel, op, most| {
            let plan = plan(market, &[channel], Mode::Stream);
            let topics: Vec<&Topic> = plan.topics.iter().take(most).collect();
            Kucoin.subscribe(op, &topics, 7, Time::EPOCH)
        };
        assert_eq!(
            said(Market::Linear, Channel::Trade, Op::Subscribe, 2),
            r#"{"id":"7","action":"subscribe","channel":"trade","tradeType":"FUTURES","symbols":["XBTUSDTM","ETHUSDTM"]}"#
        );
        assert_eq!(
            said(Market::Inverse, Channel::Book, Op::Unsubscribe, 1),
            r#"{"id":"7","action":"unsubscribe","channel":"obu","tradeType":"FUTURES","symbol":"XBTUSDTM","depth":"increment@10ms"}"#
        );
        assert_eq!(said(Market::Linear, Channel::Mark, Op::Subscribe, 1), r#"{"id":"7","action":"subscribe","channel":"mark-price","symbol":"XBTUSDTM"}"#);
        assert_eq!(said(Market::Linear, Channel::Funding, Op::Subscribe, 1), r#"{"id":"7","action":"subscribe","channel":"funding-fee-all-symbols"}"#);
        let candles = Channel::Candle(exchange_core::Interval::parse("4h").unwrap());
        assert_eq!(
            said(Market::Spot, candles, Op::Subscribe, 1),
            r#"{"id":"7","action":"subscribe","channel":"kline","tradeType":"SPOT","symbol":"XBTUSDTM","interval":"4hour"}"#
        );
    }

    #[test]
    fn only_spot_names_are_taken_apart() {
        assert_eq!(Kucoin.parse_symbol(Market::Spot, "BTC-USDT").as_deref(), Some("BTC/USDT"));
        for (market, name) in [(Market::Linear, "XBTUSDTM"), (Market::Inverse, "A-B"), (Market::Spot, "-USDT"), (Market::Spot, "A-B-C")] {
            assert_eq!(Kucoin.parse_symbol(market, name), None, "{name}");
        }
    }
}
