//! What fixtures cannot show: made-up messages, and units held against each other.

use exchange_core::{Feed, Turn};

use super::*;
use crate::hyperliquid::Hyperliquid;
use crate::testing;

const NOW: Time = Time::from_millis(1_766_571_300_000);

fn feed() -> Feed {
    testing::feed(&Hyperliquid, Market::Linear)
}

/// What is asked for because of an answer.
fn asked(feed: &mut Feed, request: &str, payload: &str) -> Vec<String> {
    let turn = testing::answer(feed, NOW, "https://api.hyperliquid.xyz/info", Some(request), payload);
    turn.fetch.into_iter().filter_map(|request| request.body).collect()
}

fn frame(feed: &mut Feed, received: Time, text: &str) -> Turn {
    testing::frame(feed, received, "wss://api.hyperliquid.xyz/ws", text)
}

#[test]
fn builders_dexs_are_asked_for_once_the_tokens_are_known() {
    let mut feed = feed();
    let (dexs, list) = (r#"{"type":"perpDexs"}"#, r#"[null,{"name":"xyz"},{"name":"flx"}]"#);
    let (tokens, known) = (r#"{"type":"spotMeta"}"#, r#"{"universe":[],"tokens":[{"name":"USDH","index":360}]}"#);
    let each = ["xyz", "flx"].map(|dex| format!(r#"{{"type":"metaAndAssetCtxs","dex":"{dex}"}}"#));
    assert_eq!(asked(&mut feed, dexs, list), [tokens]);
    assert_eq!(asked(&mut feed, tokens, known), each);
    assert_eq!(asked(&mut feed, tokens, known), [""; 0]);
    assert_eq!(asked(&mut feed, dexs, list), each);
    let meta = |token: u64| format!(r#"[{{"universe":[{{"name":"flx:A"}}],"collateralToken":{token}}},[]]"#);
    assert_eq!(asked(&mut feed, &each[1], &meta(360)), [""; 0]);
    assert_eq!(asked(&mut feed, &each[1], &meta(361)), [tokens], "a token that was listed since");
}

#[test]
fn a_connection_asks_for_what_positions_mean() {
    let mut feed = feed();
    let push = r#"{"channel":"assetCtxs","data":{"dex":"","ctxs":[{"markPx":"1"},{"markPx":"2"},{"markPx":"3"}]}}"#;
    let turn = frame(&mut feed, NOW, push);
    assert_eq!((turn.send.as_slice(), turn.events.len()), (&[ASK_METAS.to_owned()][..], 1));
    assert!(frame(&mut feed, NOW, push).send.is_empty(), "the answer is on its way");
    let answer = r#"{"channel":"post","data":{"id":1,"response":{"type":"info","payload":{"type":"allPerpMetas","data":[
        {"universe":[{"name":"A"},{"name":"B","isDelisted":true},{"name":"C"}]},{"universe":[]}]}}}}"#;
    assert!(frame(&mut feed, NOW, answer).events.is_empty(), "instruments are the polls' to describe");
    let names = |turn: Turn| turn.events.iter().map(|event| format!("{} {}", event.instrument.venue_symbol, event.body.kind())).collect::<Vec<_>>();
    assert_eq!(names(frame(&mut feed, NOW, push)), ["A mark", "C mark"]);
    let listed = push.replace(r#"{"markPx":"3"}"#, r#"{"markPx":"3"},{"markPx":"4"}"#);
    assert_eq!(frame(&mut feed, NOW + ASK_AGAIN, &listed).send, [ASK_METAS]);
}

#[test]
fn answers_are_told_apart() {
    let control = |text: &str| frame(&mut feed(), NOW, text).controls;
    let accepted = |topic: &str| [Control::AckTopic { id: None, topic: topic.into() }];
    let subscribed = |what: &str| format!(r#"{{"channel":"subscriptionResponse","data":{{"method":"subscribe","subscription":{{{what}}}}}}}"#);
    let error = |said: &str| format!(r#"{{"channel":"error","data":"{said} {{\"type\":\"bbo\",\"coin\":\"X\"}}"}}"#);
    assert_eq!(control(&subscribed(r#""type":"candle","coin":"BTC","interval":"1h""#)), accepted("candle BTC 1h"));
    assert_eq!(control(&subscribed(r#""type":"l2Book","coin":"BTC","nSigFigs":null,"mantissa":null,"fast":true"#)), accepted("l2Book BTC"));
    assert_eq!(control(&error("Already subscribed:")), accepted("bbo X"));
    let reason = r#"Invalid subscription {"type":"bbo","coin":"X"}"#.to_owned();
    assert_eq!(control(&error("Invalid subscription")), [Control::Rejected { id: None, topic: Some("bbo X".into()), reason }]);
    assert_eq!(control(r#"{"channel":"error","data":"Too many subscriptions"}"#), []);
    assert_eq!(control(r#"{"channel":"pong"}"#), [Control::Alive]);
    assert_eq!(control("Websocket connection established."), [Control::Alive]);
}

#[test]
fn names_say_their_market() {
    for (name, market) in [("BTC", Market::Linear), ("xyz:AAPL", Market::Linear), ("@107", Market::Spot), ("PURR/USDC", Market::Spot)] {
        assert_eq!(market_of(name), market);
    }
}
