//! What fixtures cannot show: made-up messages, and units held against each other.

use exchange_core::{Event, Feed, Turn};

use super::*;
use crate::gate::Gate;
use crate::testing;

const NOW: Time = Time::from_millis(1_789_456_334_000);

/// A feed that has seen BTC's contract.
fn feed(market: Market) -> Feed {
    let mut feed = testing::feed(&Gate, market);
    let (path, row) = match market {
        Market::Spot => return feed,
        Market::Inverse => ("btc/contracts", r#"{"name":"BTC_USD","type":"inverse","quanto_multiplier":"0"}"#),
        _ => ("usdt/contracts", r#"{"name":"BTC_USDT","type":"direct","quanto_multiplier":"0.0001"}"#),
    };
    reply(&mut feed, &format!("/futures/{path}"), &format!("[{row}]"));
    feed
}

fn reply(feed: &mut Feed, target: &str, body: &str) -> Vec<Event> {
    testing::answer(feed, NOW, &format!("https://api.gateio.ws/api/v4{target}"), None, body).events
}

fn frame(feed: &mut Feed, text: &str) -> Turn {
    testing::frame(feed, NOW, "wss://fx-ws.gateio.ws/v4/ws/usdt", text)
}

/// A figure that was measured on 2026-08-25.
#[test]
fn open_interest_in_base_times_mark_is_what_gate_says() {
    let row = r#"[{"time":1789456200,"open_interest":"588483656","open_interest_usd":4631589996.5,"mark_price":78703.8}]"#;
    let events = reply(&mut feed(Market::Linear), "/futures/usdt/contract_stats?contract=BTC_USDT&interval=5m", row);
    let [Event { body: Body::Mark(mark), .. }, Event { body: Body::OpenInterest(value), .. }] = events.as_slice() else { panic!("{events:?}") };
    let ours = value.value_base.as_ref().and_then(|base| base.checked_mul(mark.mark.as_ref()?)?.to_rust_decimal()).unwrap();
    let theirs = value.value_quote.as_ref().and_then(Decimal::to_rust_decimal).unwrap();
    assert_eq!(Decimal::from((ours / theirs).round_dp(2)), Decimal::ONE, "{ours} {theirs}");
}

#[test]
fn an_inverse_contract_is_a_dollar() {
    let row = r#"[{"contract":"BTC_USD","total_size":"73648000","mark_price":"50000"}]"#;
    let events = reply(&mut feed(Market::Inverse), "/futures/btc/tickers", row);
    assert!(matches!(&events[1].body, Body::OpenInterest(value) if value.value_base == Some("1472.96".parse().unwrap())), "{events:?}");
}

#[test]
fn a_closed_long_is_a_forced_sale() {
    let side = |row: &str| match &reply(&mut feed(Market::Linear), "/futures/usdt/liq_orders", row)[..] {
        [Event { body: Body::Liquidation(one), .. }] => Some((one.side, one.size.to_string())),
        _ => None,
    };
    let row = |sizes: &str| side(&format!(r#"[{{"time":1,"contract":"BTC_USDT",{sizes},"fill_price":"2"}}]"#));
    assert_eq!(row(r#""size":600,"order_size":-600,"left":0"#), Some((Some(Side::Sell), "600".into())));
    assert_eq!(row(r#""size":-165,"order_size":"165.5","left":"0.5""#), Some((Some(Side::Buy), "165".into())));
    assert_eq!(row(r#""size":-7,"left":-3"#), Some((Some(Side::Buy), "4".into())));
    assert_eq!(row(r#""order_size":-7"#), Some((Some(Side::Sell), "7".into())));
    assert_eq!(row(r#""size":7,"order_size":-7,"left":-7"#), None);
}

#[test]
fn answers_are_told_apart() {
    let control = |text: &str| frame(&mut feed(Market::Linear), text).controls;
    let failed = |payload: &str, message: &str| {
        control(&format!(
            r#"{{"time":1,"id":7,"channel":"futures.obu","event":"subscribe",{payload}"error":{{"code":2,"message":"{message}"}},"result":{{"status":"fail"}}}}"#
        ))
    };
    let rejected = |topic: Option<&str>, reason: &str| [Control::Rejected { id: Some(7), topic: topic.map(str::to_owned), reason: reason.into() }];
    let said = "unknown currency pair: NO_USDT";
    assert_eq!(failed(r#""payload":["ob.BTC_USDT.50","ob.NO_USDT.50"],"#, said), rejected(Some("futures.obu ob.NO_USDT.50"), said));
    assert_eq!(failed("", said), rejected(Some("futures.obu NO_USDT"), said));
    assert_eq!(failed("", "invalid argument"), rejected(None, "invalid argument"));
    assert_eq!(failed("", "Alert sub ob.A_B.50"), [Control::AckTopic { id: Some(7), topic: "futures.obu ob.A_B.50".into() }]);
    assert_eq!(control(r#"{"time":1,"channel":"futures.pong","event":"","result":null}"#), [Control::Alive]);
    assert_eq!(control(r#"{"time":1,"id":9,"channel":"futures.obu","event":"subscribe","result":{"status":"success"}}"#), [Control::Ack { id: Some(9) }]);
}
