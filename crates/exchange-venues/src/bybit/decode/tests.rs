//! What fixtures cannot show: made-up messages, and units held against each other.

use exchange_core::Turn;

use super::*;
use crate::bybit::Bybit;
use crate::testing;

const NOW: Time = Time::from_millis(1_700_000_000_000);

/// What a frame gives; events as their JSON without what all have in common.
fn frame(market: Market, text: &str) -> (Vec<String>, Vec<Control>) {
    let turn = testing::frame(&mut testing::feed(&Bybit, market), NOW, "wss://x", text);
    (said(&turn), turn.controls)
}

fn reply(market: Market, target: &str, result: &str) -> (Vec<String>, Turn) {
    let payload = format!(r#"{{"retCode":0,"retMsg":"OK","result":{result},"retExtInfo":{{}},"time":1700000000000}}"#);
    let url = format!("https://api.bybit.com{target}");
    let turn = testing::answer(&mut testing::feed(&Bybit, market), NOW, &url, None, &payload);
    (said(&turn), turn)
}

fn said(turn: &Turn) -> Vec<String> {
    let common = |json: &str| json.split_once(r#","t":1700000000000000"#).map(|(_, own)| own.rsplit_once(r#","id""#).unwrap().0.to_owned());
    turn.events.iter().map(|event| format!("{}{}", event.body.kind(), common(&event.to_json()).unwrap())).collect()
}

#[test]
fn a_delta_gives_the_fields_that_it_carries() {
    let frame = |data: &str| frame(Market::Linear, &format!(r#"{{"topic":"tickers.X","type":"delta","data":{{"symbol":"X"{data}}},"cs":1,"ts":5}}"#)).0;
    assert_eq!(frame(r#","ask1Price":"2","bid1Price":"0","bid1Size":"""#), [r#"ticker,"et":5000,"ask":"2""#]);
    assert_eq!(frame(r#","fundingCap":"0.005""#), [r#"funding,"et":5000,"cap":"0.005","floor":"-0.005""#]);
    assert_eq!(frame(r#","prevPrice1h":"2","fundingRate":"","nextFundingTime":"""#), [""; 0]);
}

#[test]
fn a_dated_future_has_no_funding() {
    let row = r#"{"category":"inverse","list":[{"symbol":"X","markPrice":"3","openInterestValue":"7","turnover24h":"9","fundingRate":"","nextFundingTime":"0","fundingIntervalHour":"8"}]}"#;
    let (events, _) = reply(Market::Inverse, "/v5/market/tickers?category=inverse", row);
    assert_eq!(events, [r#"mark,"et":1700000000000000,"mark":"3""#, r#"open_interest,"et":1700000000000000,"value_base":"7""#]);
}

#[test]
fn a_liquidated_long_is_a_forced_sale() {
    let (events, _) = frame(Market::Linear, r#"{"topic":"allLiquidation.X","type":"snapshot","ts":9,"data":[{"T":8,"s":"X","S":"Buy","v":"2","p":"3"}]}"#);
    assert_eq!(events, [r#"liquidation,"et":8000,"price":"3","size":"2","side":"sell""#]);
}

#[test]
fn a_quote_is_the_best_level_that_is_not_empty() {
    let frame = |b: &str, a: &str| {
        frame(Market::Spot, &format!(r#"{{"topic":"orderbook.1.X","ts":5,"type":"delta","data":{{"s":"X","b":{b},"a":{a},"u":7,"seq":9}},"cts":4}}"#)).0
    };
    assert_eq!(
        frame(r#"[["11","0"],["9","1"],["10","2"]]"#, r#"[["12","3"],["13","0"]]"#),
        [r#"quote,"et":4000,"bid":"10","bid_size":"2","ask":"12","ask_size":"3","seq":"7""#]
    );
    assert_eq!(frame("[]", r#"[["12","0"]]"#), [""; 0]);
}

#[test]
fn a_polled_candle_is_closed_when_its_time_is_over() {
    let rows = r#"{"symbol":"X","category":"linear","list":[["1699999980000","1","1","1","1","1","1"],["1699999920000","1","1","1","1","1","1"]]}"#;
    let (events, _) = reply(Market::Linear, "/v5/market/kline?category=linear&symbol=X&interval=1", rows);
    let closed: Vec<bool> = events.iter().map(|event| event.ends_with(r#""closed":true"#)).collect();
    assert_eq!(closed, [false, true]);
}

#[test]
fn the_next_page_is_asked_for_with_the_cursor_encoded_once() {
    let (_, turn) =
        reply(Market::Linear, "/v5/market/instruments-info?category=linear&limit=1000&cursor=old", r#"{"list":[],"nextPageCursor":"first%3DA%26last%3DB"}"#);
    let targets: Vec<_> = turn.fetch.iter().map(|request| request.target.as_str()).collect();
    assert_eq!(targets, ["/v5/market/instruments-info?category=linear&limit=1000&cursor=first%253DA%2526last%253DB"]);
    let (_, turn) = reply(Market::Spot, "/v5/market/instruments-info?category=spot", r#"{"list":[],"nextPageCursor":""}"#);
    assert!(turn.fetch.is_empty());
}

#[test]
fn answers_are_told_apart() {
    let control = |text: &str| frame(Market::Linear, text).1;
    assert_eq!(control(r#"{"success":true,"ret_msg":"","conn_id":"c","req_id":"12","op":"subscribe"}"#), [Control::Ack { id: Some(12) }]);
    assert_eq!(control(r#"{"success":true,"ret_msg":"subscribe","conn_id":"c","op":"subscribe"}"#), [Control::Ack { id: None }]);
    assert_eq!(control(r#"{"success":true,"ret_msg":"pong","conn_id":"c","req_id":"","op":"ping"}"#), [Control::Alive]);
    assert_eq!(control(r#"{"req_id":"2","op":"pong","args":["1757405570352"],"conn_id":"c"}"#), [Control::Alive]);
    let rejected = |id, topic: &str, reason: &str| Control::Rejected { id, topic: Some(topic.into()), reason: reason.into() };
    let reason = "error:handler not found,topic:orderbook.50.NOPEUSDT";
    assert_eq!(
        control(&format!(r#"{{"success":false,"ret_msg":"{reason}","conn_id":"c","req_id":"14","op":"subscribe"}}"#)),
        [rejected(Some(14), "orderbook.50.NOPEUSDT", reason)]
    );
    let some_failed = r#"{"success":true,"conn_id":"c","data":{"failTopics":["tickers.A","tickers.B"],"successTopics":[]},"type":"COMMAND_RESP"}"#;
    assert_eq!(control(some_failed), ["tickers.A", "tickers.B"].map(|topic| rejected(None, topic, "refused without a reason")));
    assert!(frame(Market::Linear, r#"{"op":"subscribe"}"#).0[0].contains("malformed"));
}

#[test]
fn an_options_name_says_strike_and_right() {
    assert_eq!(strike_and_right("ETH-3JAN23-1250-P"), Some((Decimal::from(1250), Right::Put)));
    assert_eq!(strike_and_right("BTC-26JUN26-100000-C-USDT"), Some((Decimal::from(100_000), Right::Call)));
    assert_eq!(strike_and_right("BTC-26JUN26"), None);
    assert_eq!(strike_and_right("A-B-C-D"), None);
}
