//! OKX v5: spot, perpetual swaps and dated futures (linear and inverse); options for captures.
//!
//! What is odd here:
//! - One socket and one list carry linear and inverse contracts alike; what is asked for is a type (`SWAP`, `FUTURES`).
//!   Each record goes to its own market, which the list of instruments tells and the name only mostly.
//! - Sizes of contracts are in contracts, which may be fractions (`lotSz` of 0.01); `volCcy` of a contract is in base
//!   currency, of a spot pair in quote currency.
//! - `fundingTime` is when the running rate is exchanged, `nextFundingTime` the settlement after it. All rates come in
//!   one answer to `instId=ANY`, those of the X-perps included: futures by type, which pay funding.
//! - Candles and single fills are served on a path of their own (`/ws/v5/business`). `trades` joins all fills of an order
//!   at one price under the last one's id; `trades-all` and the REST interface number each fill.
//! - A book's checksum is 0 since June 2026: `seqId` and `prevSeqId` tell a gap.
//! - Ping and pong are bare words.

mod decode;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan::Topic;
use exchange_core::{Decoder, Exchange, Market, Op, Time};

/// OKX v5. <https://www.okx.com/docs-v5/en/>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Okx;

impl Exchange for Okx {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    /// A topic is a channel and what it is of: an instrument, or a type of instruments.
    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let op = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let mut frame = format!(r#"{{"id":"{id}","op":"{op}","args":["#).into_bytes();
        for (at, topic) in topics.iter().enumerate() {
            let (channel, about) = topic.name.split_once(' ').unwrap_or((&topic.name, ""));
            frame.extend_from_slice(if at > 0 { b",{\"channel\":" } else { b"{\"channel\":" });
            write_string(channel, &mut frame);
            frame.extend_from_slice(if channel == "liquidation-orders" { b",\"instType\":" } else { b",\"instId\":" });
            write_string(about, &mut frame);
            frame.push(b'}');
        }
        frame.extend_from_slice(b"]}");
        String::from_utf8(frame).unwrap_or_default()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }

    /// Names carry their parts: `BTC-USDT`, `BTC-USDT-SWAP`, `BTC-USD-261225`, `BTC-USD-261225-100000-C`. What a family
    /// (`BTC-USD_UM-SWAP`) is settled in, only the list of instruments says.
    fn parse_symbol(&self, market: Market, venue_symbol: &str) -> Option<String> {
        let parts: Vec<&str> = venue_symbol.split('-').collect();
        let (base, quote) = (*parts.first()?, *parts.get(1)?);
        let plain = |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric());
        if base.is_empty() || !plain(quote) {
            return None;
        }
        let number = |part: &str| part.starts_with(|c: char| c.is_ascii_digit()) && part.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        // Contracts of a quote in US dollars are settled in the coin.
        let settled = format!("{base}/{quote}:{}", if quote == "USD" { base } else { quote });
        let dated = |date: &str| date.len() == 6 && date.bytes().all(|byte| byte.is_ascii_digit());
        match (market, parts.get(2..)?) {
            (Market::Spot, []) => Some(format!("{base}/{quote}")),
            (Market::Linear, _) if quote == "USD" => None,
            (Market::Linear | Market::Inverse, ["SWAP"]) => Some(settled),
            (Market::Linear | Market::Inverse, [date]) if dated(date) => Some(format!("{settled}-{date}")),
            (Market::Option, [date, strike, right @ ("C" | "P")]) if dated(date) && number(strike) => Some(format!("{settled}-{date}-{strike}-{right}")),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::plan::{Mode, Want};
    use exchange_core::{Body, Channel, Decimal, Instrument, Interval, Offline, Plan};

    use super::*;
    use crate::testing;

    fn plan(market: Market, channels: &[Channel], mode: Mode) -> Plan {
        let profile = testing::profile(&Okx);
        let instruments = ["BTC-USDT-SWAP", "ETH-USDT-SWAP"].map(|name| Arc::new(Instrument::named(&"okx".into(), market, name, None)));
        Okx.plan(&profile, &Want { market, channels, mode, fallback: false, instruments: &instruments })
    }

    #[test]
    fn both_contract_markets_ask_the_same() {
        let channels = [Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest];
        let targets = |market| plan(market, &channels, Mode::Auto).polls.into_iter().map(|poll| poll.request.target).collect::<Vec<_>>();
        let linear = targets(Market::Linear);
        assert_eq!(linear.len(), 10, "two of each type, three of indices, one of funding: {linear:?}");
        assert!(linear.contains(&"/api/v5/public/funding-rate?instId=ANY".to_owned()));
        assert!(targets(Market::Inverse).iter().all(|target| linear.contains(target)), "what one asks serves the other");
    }

    #[test]
    fn frames_are_worded_as_documented() {
        let channels = [Channel::Liquidation, Channel::Candle(Interval::parse("1d").unwrap())];
        let plan = plan(Market::Linear, &channels, Mode::Stream);
        let topics: Vec<_> = plan.topics.iter().collect();
        assert_eq!(
            Okx.subscribe(Op::Subscribe, &topics[1..3], 7, Time::EPOCH),
            r#"{"id":"7","op":"subscribe","args":[{"channel":"liquidation-orders","instType":"FUTURES"},{"channel":"candle1Dutc","instId":"BTC-USDT-SWAP"}]}"#
        );
        assert!(Okx.subscribe(Op::Unsubscribe, &topics[..1], 8, Time::EPOCH).starts_with(r#"{"id":"8","op":"unsubscribe","args":[{"#));
        assert_eq!((topics[1].ws_path.as_str(), topics[2].ws_path.as_str()), ("/ws/v5/public", "/ws/v5/business"));
    }

    #[test]
    fn names_carry_their_parts() {
        let symbol = |market, name| Okx.parse_symbol(market, name).unwrap_or_default();
        assert_eq!(symbol(Market::Spot, "BTC-USDT"), "BTC/USDT");
        assert_eq!(symbol(Market::Linear, "BTC-USDC-SWAP"), "BTC/USDC:USDC");
        assert_eq!(symbol(Market::Linear, "BTC-USDT-261225"), "BTC/USDT:USDT-261225");
        assert_eq!(symbol(Market::Inverse, "BTC-USD-SWAP"), "BTC/USD:BTC");
        assert_eq!(symbol(Market::Linear, "币安人生-USDT-SWAP"), "币安人生/USDT:USDT");
        assert_eq!(symbol(Market::Option, "BTC-USD-261225-100000-C"), "BTC/USD:BTC-261225-100000-C");
        assert_eq!(symbol(Market::Option, "XRP-USD-261225-0.55-P"), "XRP/USD:XRP-261225-0.55-P");
        // An index, a family, and what is no name.
        for (market, name) in [
            (Market::Linear, "BTC-USDT"),
            (Market::Linear, "BTC-USD_UM-SWAP"),
            (Market::Linear, "BTC-USD_UM_XPERP-310404"),
            (Market::Spot, "-"),
            (Market::Spot, ""),
        ] {
            assert_eq!(symbol(market, name), "", "{name}");
        }
    }

    /// The sizes are right if open interest in base currency at the mark price is what OKX says in dollars; what is in
    /// base currency is what the contracts are.
    #[test]
    fn open_interest_agrees_with_its_value_in_dollars() {
        let mut offline = Offline::new([testing::venue(&Okx)]);
        let mut events = Vec::new();
        include_str!("fixtures/linear.ndjson").lines().for_each(|line| offline.line(line.as_bytes(), &mut events));
        let about = |a: &Decimal, b: &Decimal| {
            let ratio: f64 = a.checked_quotient(b).unwrap().to_string().parse().unwrap();
            (ratio - 1.0).abs() < 0.01
        };
        for name in ["BTC-USDT-SWAP", "BTC-USD-SWAP"] {
            let of_it: Vec<_> = events.iter().filter(|event| &*event.instrument.venue_symbol == name).collect();
            let mark = of_it.iter().find_map(|event| if let Body::Mark(mark) = &event.body { mark.mark.clone() } else { None }).unwrap();
            let interest = of_it.iter().find(|event| matches!(event.body, Body::OpenInterest(_))).unwrap();
            let Body::OpenInterest(known) = &interest.body else { unreachable!() };
            let base = known.value_base.clone().unwrap();
            assert!(about(&base.checked_mul(&mark).unwrap(), known.value_quote.as_ref().unwrap()), "{name}");
            assert!(about(&interest.instrument.base_size(known.value.as_ref().unwrap(), Some(&mark)).unwrap(), &base), "{name}");
        }
    }
}
