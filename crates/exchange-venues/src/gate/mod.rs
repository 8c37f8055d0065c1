//! Gate, API v4: spot, perpetuals settled in USDT and USD1 (linear) and in BTC (inverse); dated futures for captures.
//!
//! What is odd here:
//! - Perpetuals come in families by what settles them. Each has its own paths by REST and its own WebSocket; a contract
//!   of another family is acknowledged there and stays silent. A family is no market of ours: USDT and USD1 are both linear.
//! - Sizes are contracts, rounded down to whole ones unless the header `X-Gate-Size-Decimal` asks for all of them.
//! - The sign of a trade's size is the taker's side, that of a liquidation by REST the liquidated position's.
//! - One request for a family's contracts has its marks, funding rates and open interest too.
//! - Times are in seconds or milliseconds, by channel and transport.

mod decode;
mod wire;

use std::time::Duration;

use exchange_core::encode::write_string;
use exchange_core::{Channel, Decoder, Exchange, Market, Op, Plan, Profile, Time, Topic, Want, plan};

/// How often the contracts are asked for where the tickers have what of them changes all the time.
const CONTRACTS: Duration = Duration::from_secs(30);

/// Gate, API v4. <https://www.gate.com/docs/developers/apiv4/>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gate;

impl Exchange for Gate {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    /// Whoever wants tickers has marks, rates and open interest in the same answer, in a third of the bytes of the
    /// contracts. Those are asked for less often then, for instruments, intervals and the next settlement.
    fn plan(&self, profile: &Profile, want: &Want<'_>) -> Plan {
        let mut plan = plan::from_profile(profile, want);
        if plan.polls.iter().any(|poll| poll.request.endpoint == "tickers") {
            let both = want.channels.iter().filter(|channel| matches!(channel, Channel::Mark | Channel::Funding | Channel::OpenInterest));
            for poll in &mut plan.polls {
                match poll.request.endpoint.as_str() {
                    "tickers" => poll.channels.extend(both.clone()),
                    "contracts" => poll.every = Some(CONTRACTS),
                    _ => {}
                }
            }
        }
        plan
    }

    /// A topic is a channel and its payload, as words: most channels take the payloads of many topics in one list.
    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, time: Time) -> String {
        let event = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let channel = topics.first().and_then(|topic| topic.name.split(' ').next()).unwrap_or_default();
        let mut frame = format!(r#"{{"time":{},"id":{id},"channel":"{channel}","event":"{event}","payload":["#, time.micros() / 1_000_000).into_bytes();
        for (at, word) in topics.iter().flat_map(|topic| topic.name.split(' ').skip(1)).enumerate() {
            if at > 0 {
                frame.push(b',');
            }
            write_string(word, &mut frame);
        }
        frame.extend_from_slice(b"]}");
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }

    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        Name::parse(venue_symbol)?.symbol(market)
    }
}

/// What a name says: `BTC_USDT`, of a dated future `BTC_USDT_20251226`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Name<'a> {
    base: &'a str,
    quote: &'a str,
    /// Midnight of the day on which it is delivered.
    day: Option<Time>,
}

impl<'a> Name<'a> {
    fn parse(name: &'a str) -> Option<Self> {
        let dated = name.rsplit_once('_').and_then(|(pair, day)| Some((pair, date(day)?)));
        let (pair, day) = dated.map_or((name, None), |(pair, day)| (pair, Some(day)));
        let (base, quote) = pair.rsplit_once('_')?;
        (!base.is_empty() && !quote.is_empty()).then_some(Self { base, quote, day })
    }

    /// The unified symbol. What is inverse is settled in BTC.
    fn symbol(&self, market: Market) -> Option<String> {
        let Self { base, quote, day } = self;
        let settle = match market {
            Market::Spot => return Some(format!("{base}/{quote}")),
            Market::Linear => quote,
            Market::Inverse => "BTC",
            Market::Option => return None,
        };
        Some(match day.map(Time::date) {
            Some((year, month, day)) => format!("{base}/{quote}:{settle}-{:02}{month:02}{day:02}", year.rem_euclid(100)),
            None => format!("{base}/{quote}:{settle}"),
        })
    }
}

/// Midnight of `20251226`.
fn date(text: &str) -> Option<Time> {
    let number: u32 = text.parse().ok().filter(|_| text.len() == 8)?;
    Time::from_date(i64::from(number / 10_000), number / 100 % 100, number % 100)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::{Instrument, Interval, Mode};

    use super::*;
    use crate::testing;

    const ALL: [Channel; 10] = [
        Channel::Ticker,
        Channel::Quote,
        Channel::Mark,
        Channel::Funding,
        Channel::FundingSettled,
        Channel::OpenInterest,
        Channel::Trade,
        Channel::Book,
        Channel::Liquidation,
        Channel::Instrument,
    ];

    fn plan(market: Market, channels: &[Channel], mode: Mode) -> Plan {
        let profile = testing::profile(&Gate);
        let instruments = ["BTC_USDT", "ETH_USDT"].map(|name| Arc::new(Instrument::named(&"gate".into(), market, name, None)));
        Gate.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    fn targets(plan: &Plan) -> Vec<&str> {
        plan.polls.iter().filter(|poll| !poll.sweep).map(|poll| poll.request.target.as_str()).collect()
    }

    #[test]
    fn one_request_of_a_family_serves_funding_and_open_interest() {
        let some = [Channel::Mark, Channel::Funding, Channel::OpenInterest, Channel::Instrument];
        assert_eq!(targets(&plan(Market::Linear, &some, Mode::Poll)), ["/api/v4/futures/usdt/contracts", "/api/v4/futures/usd1/contracts"]);
        assert_eq!(targets(&plan(Market::Inverse, &some, Mode::Poll)), ["/api/v4/futures/btc/contracts"]);
        assert!(plan(Market::Linear, &some, Mode::Poll).polls.iter().all(|poll| poll.every.is_none()));
        assert_eq!(targets(&plan(Market::Spot, &ALL, Mode::Poll)), ["/api/v4/spot/tickers", "/api/v4/spot/currency_pairs"]);
    }

    #[test]
    fn the_tickers_have_it_all_where_they_are_wanted() {
        let plan = plan(Market::Linear, &ALL, Mode::Poll);
        let polls = plan.polls.iter().filter(|poll| !poll.sweep);
        let asked: Vec<_> = polls.map(|poll| (poll.request.endpoint.as_str(), poll.every.is_some(), poll.channels.len())).collect();
        assert_eq!(
            asked,
            [("tickers", false, 4), ("tickers", false, 4), ("contracts", true, 4), ("contracts", true, 4), ("liq_orders", false, 1), ("liq_orders", false, 1)]
        );
    }

    #[test]
    fn a_family_has_its_own_socket() {
        let plan = plan(Market::Linear, &[Channel::Liquidation], Mode::Stream);
        let topics: Vec<_> = plan.topics.iter().map(|topic| (topic.name.as_str(), topic.ws_path.as_str())).collect();
        assert_eq!(topics, [("futures.public_liquidates !all", "/v4/ws/usdt"), ("futures.public_liquidates !all", "/v4/ws/usd1")]);
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let plan = plan(Market::Linear, &[Channel::Book, Channel::Candle(Interval::parse("1w").unwrap())], Mode::Stream);
        let topics: Vec<_> = plan.topics.iter().collect();
        assert_eq!(
            Gate.subscribe(Op::Subscribe, &topics[..2], 7, Time::from_millis(1_789_456_334_999)),
            r#"{"time":1789456334,"id":7,"channel":"futures.obu","event":"subscribe","payload":["ob.BTC_USDT.50","ob.ETH_USDT.50"]}"#
        );
        assert_eq!(
            Gate.subscribe(Op::Unsubscribe, &topics[2..3], 8, Time::from_millis(1_000)),
            r#"{"time":1,"id":8,"channel":"futures.candlesticks","event":"unsubscribe","payload":["7d","BTC_USDT"]}"#
        );
    }

    #[test]
    fn names_carry_their_parts() {
        let symbol = |market, name| Gate.parse_symbol(market, name);
        assert_eq!(symbol(Market::Spot, "BTC_USDT").as_deref(), Some("BTC/USDT"));
        assert_eq!(symbol(Market::Linear, "BTC_USD1").as_deref(), Some("BTC/USD1:USD1"));
        assert_eq!(symbol(Market::Inverse, "BTC_USD").as_deref(), Some("BTC/USD:BTC"));
        assert_eq!(symbol(Market::Linear, "BTC_USDT_20251226").as_deref(), Some("BTC/USDT:USDT-251226"));
        assert_eq!([symbol(Market::Spot, "BTCUSDT"), symbol(Market::Spot, "_USDT"), symbol(Market::Linear, "")], [None, None, None]);
    }
}
