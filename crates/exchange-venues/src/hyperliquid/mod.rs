//! Hyperliquid: perpetuals of its own dex and of builders' dexs (HIP-3), and spot. There is no inverse contract.
//!
//! What is odd here:
//! - Everything is asked with `POST /info`, told apart by the `type` in the body, and answered without a time.
//! - The states of contracts ("asset contexts") have no name: each belongs to the contract at its position in the
//!   universe. By HTTP both come together; a WebSocket connection asks for the universes itself, over the WebSocket,
//!   before it can read `allDexsAssetCtxs`.
//! - Funding is hourly, and so is the rate. Sizes are in base, of contracts, too.
//! - A builder's contract is called `dex:NAME`. Which token it is settled in is an index into the spot tokens, which are
//!   asked for first.
//! - Spot pairs are called `@107`, one is called `PURR/USDC`: what `@107` trades, the spot tokens say.
//! - No last price, no liquidations; books are whole, without a sequence.

mod decode;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan::Topic;
use exchange_core::{Decoder, Exchange, Market, Op, Time};

/// Hyperliquid. <https://hyperliquid.gitbook.io/hyperliquid-docs/for-developers/api>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Hyperliquid;

impl Exchange for Hyperliquid {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    /// One subscription a frame: `type`, `coin` and `interval` are the words of the topic.
    fn subscribe(&self, op: Op, topics: &[&Topic], _: u64, _: Time) -> String {
        let op = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let mut frame = format!(r#"{{"method":"{op}","subscription":{{"#).into_bytes();
        let words = topics.first().map_or("", |topic| &topic.name).split(' ');
        for (key, word) in [r#""type":"#, r#","coin":"#, r#","interval":"#].into_iter().zip(words) {
            frame.extend_from_slice(key.as_bytes());
            write_string(word, &mut frame);
            if word == "l2Book" {
                // Five levels twice a second, instead of twenty every five seconds.
                frame.extend_from_slice(br#","fast":true"#);
            }
        }
        frame.extend_from_slice(b"}}");
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::<decode::State>::default()
    }

    /// `PURR/USDC` says it all; what has no dex in its name is a perpetual of the first dex, settled in USDC.
    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        match market {
            Market::Spot => venue_symbol.contains('/').then(|| venue_symbol.to_owned()),
            _ if venue_symbol.is_empty() || !venue_symbol.chars().all(char::is_alphanumeric) => None,
            _ => Some(format!("{venue_symbol}/USDC:USDC")),
        }
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
        let profile = testing::profile(&Hyperliquid);
        let instruments = ["BTC", "xyz:AAPL"].map(|name| Arc::new(Instrument::named(&"hyperliquid".into(), market, name, None)));
        Hyperliquid.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    const STATES: &[Channel] = &[Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest];

    #[test]
    fn one_request_serves_four_channels_of_all_contracts() {
        let plan = plan(Market::Linear, STATES, Mode::Auto);
        let bodies: Vec<_> = plan.polls.iter().map(|poll| poll.request.body.as_deref().unwrap()).collect();
        assert_eq!(bodies, [r#"{"type":"metaAndAssetCtxs"}"#, r#"{"type":"predictedFundings"}"#]);
        assert!(plan.topics.is_empty() && plan.unserved.is_empty());
    }

    #[test]
    fn candles_and_past_funding_are_asked_for_by_time() {
        let hour = Channel::Candle(exchange_core::Interval::parse("1h").unwrap());
        let plan = plan(Market::Linear, &[Channel::FundingSettled, hour], Mode::Poll);
        assert!(plan.unserved.is_empty() && plan.polls.iter().all(|poll| poll.sweep));
        let sent: Vec<_> = plan.polls.iter().step_by(2).map(|poll| poll.request.at(Time::from_millis(1_000_000_000)).body.unwrap()).collect();
        assert_eq!(
            sent,
            [
                r#"{"type":"fundingHistory","coin":"BTC","startTime":913600000}"#,
                r#"{"type":"candleSnapshot","req":{"coin":"BTC","interval":"1h","startTime":892000000,"endTime":1000000000}}"#,
            ]
        );
    }

    #[test]
    fn one_topic_serves_them_as_well() {
        let plan = plan(Market::Linear, STATES, Mode::Stream);
        let topics: Vec<_> = plan.topics.iter().map(|topic| (topic.name.as_str(), topic.channels.len())).collect();
        assert_eq!(topics, [("allDexsAssetCtxs", 4)]);
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let candle = Channel::Candle(exchange_core::Interval::parse("1h").unwrap());
        let plan = plan(Market::Linear, &[Channel::Trade, Channel::Book, candle], Mode::Stream);
        let frame = |op, at: usize| Hyperliquid.subscribe(op, &[&plan.topics[at]], 7, Time::EPOCH);
        assert_eq!(frame(Op::Subscribe, 0), r#"{"method":"subscribe","subscription":{"type":"trades","coin":"BTC"}}"#);
        assert_eq!(frame(Op::Unsubscribe, 3), r#"{"method":"unsubscribe","subscription":{"type":"l2Book","fast":true,"coin":"xyz:AAPL"}}"#);
        assert_eq!(frame(Op::Subscribe, 4), r#"{"method":"subscribe","subscription":{"type":"candle","coin":"BTC","interval":"1h"}}"#);
    }

    #[test]
    fn names_that_say_it_all_are_symbols() {
        let symbol = |market, name| Hyperliquid.parse_symbol(market, name);
        assert_eq!(symbol(Market::Linear, "kPEPE").as_deref(), Some("kPEPE/USDC:USDC"));
        assert_eq!(symbol(Market::Spot, "PURR/USDC").as_deref(), Some("PURR/USDC"));
        assert_eq!((symbol(Market::Linear, "xyz:AAPL"), symbol(Market::Spot, "@107")), (None, None));
    }
}
