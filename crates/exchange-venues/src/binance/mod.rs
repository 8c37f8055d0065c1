//! Binance: spot, USD-M futures (`linear`), COIN-M futures (`inverse`), and captured messages of its options.
//!
//! What is odd here:
//! - Each market has hosts, budgets and paths of its own. USD-M's WebSocket is split by path; a topic on the wrong path
//!   is acknowledged and stays silent.
//! - Since USD-M and COIN-M were joined, streams for all symbols carry both on either host. A record's market comes
//!   from what the venue lists, then from its `st`, and from the host only where nothing else tells.
//! - `@trade` and `@aggTrade` number their trades differently. Spot's trades come from the former, futures' from the
//!   latter (`@trade` is undocumented there); refills ask the REST endpoint of the same family.
//! - Open interest is served one symbol a request, by REST alone.
//! - `lastFundingRate` is the running rate of the settlement to come, not of the last one.

mod decode;
mod frame;
mod reply;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan;
use exchange_core::time::Interval;
use exchange_core::{Channel, Decoder, Exchange, Market, Op, Plan, Profile, Time, Topic, Want};

/// The venue.
pub(crate) struct Binance;

impl Exchange for Binance {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    fn plan(&self, profile: &Profile, want: &Want<'_>) -> Plan {
        // Futures have no candles of a second: they acknowledge the topic and stay silent.
        let second = Interval::new(1, 's').map(Channel::Candle);
        let (unserved, channels): (Vec<_>, Vec<_>) = want.channels.iter().partition(|&&channel| want.market != Market::Spot && Some(channel) == second);
        let mut plan = plan::from_profile(profile, &Want { channels: &channels, ..*want });
        plan.unserved.extend(unserved);
        plan
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let method = match op {
            Op::Subscribe => "SUBSCRIBE",
            Op::Unsubscribe => "UNSUBSCRIBE",
        };
        let mut names = Vec::with_capacity(topics.len() * 32);
        for topic in topics {
            if !names.is_empty() {
                names.push(b',');
            }
            write_string(&topic.name, &mut names);
        }
        format!(r#"{{"method":"{method}","params":[{}],"id":{id}}}"#, String::from_utf8_lossy(&names))
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }

    /// Options carry their parts (`BTC-251219-89000-C`) and are all settled in USDT; other names are never taken apart.
    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        if market != Market::Option {
            return None;
        }
        let mut parts = venue_symbol.split('-');
        let (base, expiry, strike, right) = (parts.next()?, parts.next()?, parts.next()?, parts.next()?);
        let dated = expiry.len() == 6 && expiry.bytes().all(|b| b.is_ascii_digit());
        let priced = strike.bytes().all(|b| b.is_ascii_digit() || b == b'.');
        let whole = !base.is_empty() && !strike.is_empty() && matches!(right, "C" | "P") && parts.next().is_none();
        (dated && priced && whole).then(|| format!("{base}/USDT:USDT-{expiry}-{strike}-{right}"))
    }
}

#[cfg(test)]
mod tests {
    use exchange_core::Mode;

    use super::*;
    use crate::testing;

    fn profile() -> Profile {
        testing::profile(&Binance)
    }

    fn want(market: Market, channels: &[Channel], mode: Mode) -> Want<'_> {
        Want { market, channels, mode, fallback: true, instruments: &[] }
    }

    #[test]
    fn one_request_serves_mark_and_funding_of_all() {
        let plan = Binance.plan(&profile(), &want(Market::Linear, &[Channel::Mark, Channel::Funding], Mode::Auto));
        let targets: Vec<&str> = plan.polls.iter().map(|poll| poll.request.target.as_str()).collect();
        assert_eq!(targets, ["/fapi/v1/premiumIndex", "/fapi/v1/fundingInfo"]);
        assert!(plan.topics.is_empty() && plan.unserved.is_empty());
    }

    #[test]
    fn usd_m_streams_go_to_their_paths() {
        let profile = profile();
        let path = |topic: &str, market| profile.stream.iter().find(|s| s.topic == topic && s.markets.contains(&market)).unwrap().ws_path.as_deref();
        for public in ["{symbol_lower}@bookTicker", "{symbol_lower}@depth@100ms"] {
            assert_eq!(path(public, Market::Linear), Some("/public/stream"));
            assert_eq!(path(public, Market::Inverse), None);
        }
        assert_eq!(path("{symbol_lower}@aggTrade", Market::Linear), None);
        assert_eq!(profile.markets[&Market::Linear].ws_path, "/market/stream");
    }

    #[test]
    fn candles_of_a_second_are_spots_alone() {
        let second = [Channel::Candle(Interval::new(1, 's').unwrap())];
        assert_eq!(Binance.plan(&profile(), &want(Market::Linear, &second, Mode::Auto)).unserved, second);
        assert!(Binance.plan(&profile(), &want(Market::Spot, &second, Mode::Auto)).unserved.is_empty());
    }

    #[test]
    fn subscribes_by_name() {
        let topic = |name: &str| Topic { name: name.into(), market: Market::Spot, ws_path: String::new(), channels: Vec::new(), instrument: None, stream: 0 };
        let (a, b) = (topic("btcusdt@trade"), topic("币安人生usdt@trade"));
        assert_eq!(
            Binance.subscribe(Op::Subscribe, &[&a, &b], 7, Time::EPOCH),
            r#"{"method":"SUBSCRIBE","params":["btcusdt@trade","币安人生usdt@trade"],"id":7}"#
        );
        assert_eq!(Binance.subscribe(Op::Unsubscribe, &[&a], 8, Time::EPOCH), r#"{"method":"UNSUBSCRIBE","params":["btcusdt@trade"],"id":8}"#);
    }

    #[test]
    fn only_options_names_are_taken_apart() {
        assert_eq!(Binance.parse_symbol(Market::Option, "XRP-251219-2.05-P").unwrap(), "XRP/USDT:USDT-251219-2.05-P");
        for name in ["BTCUSDT", "BTC-251219-89000", "BTC-251219-89000-X", "BTC-2512-89000-C", "BTC-251219-89000-C-1"] {
            assert_eq!(Binance.parse_symbol(Market::Option, name), None, "{name}");
        }
        assert_eq!(Binance.parse_symbol(Market::Linear, "BTC-251219-89000-C"), None);
    }
}
