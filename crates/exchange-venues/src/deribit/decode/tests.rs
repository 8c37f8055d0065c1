//! What fixtures cannot show: made-up messages, and units held against each other.

use exchange_core::{Event, Feed, Turn};

use super::*;
use crate::deribit::Deribit;
use crate::testing;

const NOW: Time = Time::from_millis(1_785_000_000_000);

fn feed() -> Feed {
    testing::feed(&Deribit, Market::Inverse)
}

fn frame(text: &str) -> Turn {
    testing::frame(&mut feed(), NOW, "wss://x", text)
}

fn push(channel: &str, data: &str) -> Vec<Body> {
    let turn = frame(&format!(r#"{{"jsonrpc":"2.0","method":"subscription","params":{{"channel":"{channel}","data":{data}}}}}"#));
    turn.events.into_iter().map(|event| event.body).collect()
}

fn reply(target: &str, result: &str) -> Vec<Event> {
    let payload = format!(r#"{{"jsonrpc":"2.0","result":{result},"usIn":1,"usOut":1785000000000000,"usDiff":1,"testnet":false}}"#);
    let url = format!("https://www.deribit.com/api/v2/public/{target}");
    testing::answer(&mut feed(), NOW, &url, None, &payload).events
}

#[test]
fn a_test_request_is_answered() {
    let turn = frame(r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"test_request"}}"#);
    assert_eq!(turn.send, [r#"{"jsonrpc":"2.0","id":0,"method":"public/test","params":{}}"#]);
    assert_eq!(turn.controls, [Control::Alive]);
    assert!(frame(r#"{"jsonrpc":"2.0","method":"heartbeat","params":{"type":"heartbeat"}}"#).send.is_empty());
}

#[test]
fn answers_are_told_apart() {
    let controls = |text: &str| frame(text).controls;
    let topics = vec!["quote.A".to_owned(), "quote.B".to_owned()];
    assert_eq!(controls(r#"{"jsonrpc":"2.0","id":3,"result":["quote.A","quote.B"],"usIn":1}"#), [Control::AckOnly { id: Some(3), topics }]);
    assert_eq!(controls(r#"{"jsonrpc":"2.0","id":3,"result":[]}"#), [Control::AckOnly { id: Some(3), topics: Vec::new() }]);
    assert_eq!(controls(r#"{"jsonrpc":"2.0","id":0,"result":"ok"}"#), [Control::Alive]);
    let refused = r#"{"jsonrpc":"2.0","id":4,"error":{"message":"Invalid params","data":{"param":"channels"},"code":-32602}}"#;
    let reason = r#"code -32602: Invalid params {"param":"channels"}"#.to_owned();
    assert_eq!(controls(refused), [Control::Rejected { id: Some(4), topic: None, reason }]);
    // Too many frames are no fault of their topics.
    let limited = frame(r#"{"jsonrpc":"2.0","id":4,"error":{"message":"too_many_requests","code":10028}}"#);
    assert!(limited.controls.is_empty() && limited.events[0].to_json().contains("rate_limited: code 10028"));
}

#[test]
fn the_forced_side_is_that_of_who_was_liquidated() {
    let forced = |flag: &str| {
        let trade = format!(r#"[{{"trade_id":"1","timestamp":5,"price":2,"liquidation":"{flag}","instrument_name":"A","direction":"buy","amount":10.0}}]"#);
        let events = push("trades.A.raw", &trade).into_iter().skip(1);
        events.map(|body| if let Body::Liquidation(forced) = body { forced.side } else { None }).collect::<Vec<_>>()
    };
    assert_eq!(forced("T"), [Some(Side::Buy)]);
    assert_eq!(forced("M"), [Some(Side::Sell)]);
    assert_eq!(forced("MT"), [Some(Side::Buy), Some(Side::Sell)]);
    assert_eq!(forced(""), []);
}

#[test]
fn a_change_gives_the_fields_that_it_carries() {
    let change =
        |fields: &str| push("incremental_ticker.BTC-PERPETUAL", &format!(r#"{{"type":"change","timestamp":5,"instrument_name":"BTC-PERPETUAL"{fields}}}"#));
    assert!(matches!(change(r#","best_bid_price":0.0,"mark_price":2"#).as_slice(), [Body::Mark(_)]));
    assert!(matches!(change(r#","stats":{"high":3}"#).as_slice(), [Body::Ticker(_)]));
    assert!(matches!(change(r#","current_funding":0.0"#).as_slice(), [Body::Funding(_)]));
    assert!(change(r#","settlement_price":2"#).is_empty());
}

#[test]
fn a_book_without_a_type_is_a_snapshot_until_it_follows_another() {
    let book =
        |fields: &str| match push("book.A.raw", &format!(r#"{{"timestamp":5,"instrument_name":"A","change_id":9,"bids":[["delete",1,5]],"asks":[]{fields}}}"#))
            .remove(0)
        {
            Body::Book(book) => book,
            other => panic!("{other:?}"),
        };
    assert_eq!(book("").kind, BookKind::Snapshot);
    let change = book(r#","prev_change_id":8"#);
    assert_eq!((change.kind, change.prev_seq, change.bids[0].size.is_zero()), (BookKind::Delta, Some(Ident::Number(8)), true));
}

/// The open interest of inverse contracts is in dollars: in base it must be worth the same.
#[test]
fn open_interest_in_base_is_worth_what_the_venue_says() {
    let row = r#"[{"instrument_name":"BTC-PERPETUAL","mark_price":87102.01,"open_interest":997891120,"current_funding":1e-4}]"#;
    let events = reply("get_book_summary_by_currency?currency=BTC&kind=future", row);
    let Some(Body::OpenInterest(open)) = events.last().map(|event| &event.body) else { panic!("{events:?}") };
    let number = |value: &Decimal| value.to_string().parse::<f64>().unwrap();
    let (dollars, base) = (number(open.value_quote.as_ref().unwrap()), number(open.value_base.as_ref().unwrap()));
    assert!((base * 87102.01 / dollars - 1.0).abs() < 0.01, "{open:?}");
}

#[test]
fn states_say_whether_an_instrument_trades() {
    let (old, new) = (Some(Time::EPOCH), Some(NOW));
    assert_eq!(status(Some("open"), Some(false), old, None, NOW), Status::Trading);
    assert_eq!(status(Some("inactive"), None, old, None, NOW), Status::Halted);
    assert_eq!(status(Some("inactive"), None, new, None, NOW), Status::PreLaunch);
    assert_eq!(status(Some("archivized"), Some(true), old, None, NOW), Status::Delisted);
    assert_eq!(status(Some("a new one"), Some(true), old, None, NOW), Status::Trading);
    assert_eq!(status(None, Some(false), old, old, NOW), Status::Delisted);
    assert_eq!(status(None, Some(false), old, None, NOW), Status::Halted);
    assert_eq!(status(None, None, None, None, NOW), Status::Trading);
}
