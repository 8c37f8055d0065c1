//! Deribit: linear and inverse perpetuals and dated futures, spot pairs; options for captures.
//!
//! What is odd here:
//! - Everything is JSON-RPC 2.0, by HTTP as on the WebSocket, and one socket carries all markets: a record's market is
//!   its instrument's.
//! - Sizes are *amounts*: US dollars for inverse contracts, base currency for all others. The venue's `contract_size`
//!   (10 USD of BTC-PERPETUAL) is the step of orders, not a factor: a unit of amount is one unit of quote or base.
//! - Funding accrues continuously. The rate is one for eight hours, and there is no next time.
//! - The answer to a subscription lists the channels that were accepted, and says nothing of the others.
//! - A liquidation is a flag on a trade, which says whether its maker, its taker or both were liquidated.
//! - The server sends test requests that must be answered.

mod decode;
mod name;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan::Topic;
use exchange_core::{Decoder, Exchange, Market, Op, Time};

/// Deribit. <https://docs.deribit.com/>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Deribit;

impl Exchange for Deribit {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let method = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let mut frame = format!(r#"{{"jsonrpc":"2.0","id":{id},"method":"public/{method}","params":{{"channels":["#).into_bytes();
        for (at, topic) in topics.iter().enumerate() {
            if at > 0 {
                frame.push(b',');
            }
            write_string(&topic.name, &mut frame);
        }
        frame.extend_from_slice(b"]}}");
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }

    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        name::read(venue_symbol).filter(|(own, _)| *own == market)?.1.symbol()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::plan::{Mode, Plan, Want};
    use exchange_core::{Channel, Instrument, Interval};

    use super::*;
    use crate::testing;

    fn plan(market: Market, channels: &[Channel], mode: Mode) -> Plan {
        let profile = testing::profile(&Deribit);
        let instruments = ["A", "B"].map(|name| Arc::new(Instrument::named(&"deribit".into(), market, name, None)));
        Deribit.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    const STATES: [Channel; 4] = [Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest];

    #[test]
    fn one_request_a_currency_serves_four_channels() {
        let targets = |market| {
            let plan = plan(market, &STATES, Mode::Auto);
            assert!(plan.topics.is_empty() && plan.unserved.is_empty());
            plan.polls.iter().map(|poll| poll.request.target.rsplit_once('?').unwrap().1.to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(targets(Market::Linear), ["currency=USDC&kind=future", "currency=USDT&kind=future"]);
        assert_eq!(targets(Market::Inverse), ["currency=BTC&kind=future", "currency=ETH&kind=future"]);
    }

    #[test]
    fn every_trade_is_listed_once() {
        let topics = |market| {
            let plan = plan(market, &[Channel::Trade, Channel::Liquidation], Mode::Auto);
            plan.topics.into_iter().map(|topic| topic.name).collect::<Vec<_>>()
        };
        assert_eq!(topics(Market::Linear), ["trades.future.USDC.100ms", "trades.future.USDT.100ms"]);
        assert_eq!(topics(Market::Inverse), ["trades.future.BTC.100ms", "trades.future.ETH.100ms"]);
        assert_eq!(topics(Market::Spot), ["trades.A.100ms", "trades.B.100ms"]);
    }

    #[test]
    fn candles_and_past_funding_are_asked_for_by_time() {
        let hour = Channel::Candle(Interval::parse("1h").unwrap());
        let plan = plan(Market::Inverse, &[Channel::FundingSettled, hour], Mode::Poll);
        assert!(plan.unserved.is_empty() && plan.polls.iter().all(|poll| poll.sweep));
        let sent: Vec<_> = plan.polls.iter().step_by(2).map(|poll| poll.request.at(Time::from_millis(1_000_000_000)).target).collect();
        assert_eq!(
            sent,
            [
                "/api/v2/public/get_funding_rate_history?instrument_name=A&start_timestamp=827200000&end_timestamp=1000000000",
                "/api/v2/public/get_tradingview_chart_data?instrument_name=A&resolution=60&start_timestamp=964000000&end_timestamp=1000000000",
            ]
        );
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let hour = Channel::Candle(Interval::parse("1h").unwrap());
        let plan = plan(Market::Inverse, &[Channel::Quote, hour], Mode::Stream);
        let topics: Vec<&Topic> = plan.topics.iter().skip(1).take(2).collect();
        let frame = |op, id| Deribit.subscribe(op, &topics, id, Time::EPOCH);
        let asked = r#""params":{"channels":["quote.B","chart.trades.A.60"]}}"#;
        assert_eq!(frame(Op::Subscribe, 7), format!(r#"{{"jsonrpc":"2.0","id":7,"method":"public/subscribe",{asked}"#));
        assert_eq!(frame(Op::Unsubscribe, 8), format!(r#"{{"jsonrpc":"2.0","id":8,"method":"public/unsubscribe",{asked}"#));
    }
}
