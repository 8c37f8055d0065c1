//! __Title__: spot.
//!
//! What is odd here: nothing yet. Say here what a reader of the code would otherwise stumble over, and why it is so.

mod decode;
mod wire;

use exchange_core::encode::write_string;
use exchange_core::plan::Topic;
use exchange_core::{Decoder, Exchange, Market, Op, Time};

/// The venue. <https://docs.__name__.example/>
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct __Name__;

impl Exchange for __Name__ {
    fn policy(&self) -> &'static str {
        include_str!("venue.toml")
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let op = match op {
            Op::Subscribe => "subscribe",
            Op::Unsubscribe => "unsubscribe",
        };
        let mut names = Vec::new();
        for topic in topics {
            if !names.is_empty() {
                names.push(b',');
            }
            write_string(&topic.name, &mut names);
        }
        format!(r#"{{"id":{id},"op":"{op}","args":[{}]}}"#, String::from_utf8_lossy(&names))
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode::decode)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_worded_as_documented() {
        let topic = |name: &str| Topic { name: name.into(), market: Market::Spot, ws_path: "/ws".into(), channels: Vec::new(), instrument: None, stream: 0 };
        let (ticker, trade) = (topic("ticker.BTC-USDT"), topic("trade.BTC-USDT"));
        let frame = __Name__.subscribe(Op::Subscribe, &[&ticker, &trade], 7, Time::EPOCH);
        assert_eq!(frame, r#"{"id":7,"op":"subscribe","args":["ticker.BTC-USDT","trade.BTC-USDT"]}"#);
    }
}
