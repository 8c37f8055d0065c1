//! Bybit v5: spot, linear (USDT and USDC, perpetual and dated) and inverse; options for captures.
//!
//! What is odd here:
//! - One ticker carries four channels. By REST one request serves a whole market; on the WebSocket a contract's ticker
//!   is a snapshot and then deltas, in which a field that is missing did not change.
//! - One bad topic fails its whole subscribe frame; the refusal names it.
//! - `allLiquidation` names the side of the *position*.
//! - An inverse contract's turnover and `openInterestValue` are in base currency.
//! - Open interest is the sum of both sides, twice what other venues publish; it is passed on as sent.
//!
//! The instruments' `upperFundingRate` and `lowerFundingRate` are not emitted: they would fight with the tickers'
//! `fundingCap` over the same fields of `funding`.

mod decode;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan::Topic;
use exchange_core::{Decoder, Exchange, Market, Op, Time};

/// Bybit v5. <https://bybit-exchange.github.io/docs/v5/intro>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Bybit;

impl Exchange for Bybit {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let op = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let mut frame = format!(r#"{{"req_id":"{id}","op":"{op}","args":["#).into_bytes();
        for (at, topic) in topics.iter().enumerate() {
            if at > 0 {
                frame.push(b',');
            }
            write_string(&topic.name, &mut frame);
        }
        frame.extend_from_slice(b"]}");
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::plan::{Mode, Want};
    use exchange_core::{Channel, Instrument};

    use super::*;
    use crate::testing;

    fn plan(market: Market, channels: &[Channel], mode: Mode) -> exchange_core::plan::Plan {
        let profile = testing::profile(&Bybit);
        let instruments = ["BTCUSDT", "ETHUSDT"].map(|name| Arc::new(Instrument::named(&"bybit".into(), market, name, None)));
        Bybit.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    #[test]
    fn one_request_serves_four_channels_of_a_market() {
        let plan = plan(Market::Linear, &[Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest], Mode::Auto);
        let targets: Vec<_> = plan.polls.iter().map(|poll| poll.request.target.as_str()).collect();
        assert_eq!(targets, ["/v5/market/tickers?category=linear"]);
        assert!(plan.topics.is_empty() && plan.unserved.is_empty());
    }

    #[test]
    fn one_topic_serves_four_channels_of_an_instrument() {
        let plan = plan(Market::Inverse, &[Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest, Channel::Quote], Mode::Stream);
        let topics: Vec<_> = plan.topics.iter().map(|topic| (topic.name.as_str(), topic.channels.len())).collect();
        assert_eq!(topics, [("tickers.BTCUSDT", 4), ("tickers.ETHUSDT", 4), ("orderbook.1.BTCUSDT", 1), ("orderbook.1.ETHUSDT", 1)]);
        assert!(plan.topics.iter().all(|topic| topic.ws_path == "/v5/public/inverse"));
    }

    #[test]
    fn spot_has_no_funding() {
        let plan = plan(Market::Spot, &[Channel::Ticker, Channel::Funding, Channel::Liquidation], Mode::Auto);
        assert_eq!(plan.unserved, [Channel::Funding, Channel::Liquidation]);
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let plan = plan(Market::Spot, &[Channel::Trade, Channel::Candle(exchange_core::Interval::parse("1h").unwrap())], Mode::Stream);
        let topics: Vec<_> = plan.topics.iter().skip(1).take(2).collect();
        assert_eq!(
            Bybit.subscribe(Op::Subscribe, &topics, 7, Time::EPOCH),
            r#"{"req_id":"7","op":"subscribe","args":["publicTrade.ETHUSDT","kline.60.BTCUSDT"]}"#
        );
        assert_eq!(Bybit.subscribe(Op::Unsubscribe, &topics[..1], 8, Time::EPOCH), r#"{"req_id":"8","op":"unsubscribe","args":["publicTrade.ETHUSDT"]}"#);
    }
}
