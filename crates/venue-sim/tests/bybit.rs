//! Bybit's wire format over real sockets, compared with the truth.

mod common;

use std::collections::{BTreeMap, HashSet};

use common::{Sim, of_type, same_number};
use serde_json::{Value, json};
use venue_sim::Config;

/// A clock that runs by the updates: no minute ends between two requests.
fn config(rate: f64, events: u64) -> Config {
    let start = exchange_core::Time::from_date(2026, 2, 3);
    Config { start, venues: vec!["bybit".into()], symbols: 24, rate, events: Some(events), ..Config::default() }
}

fn list(value: &Value) -> &Vec<Value> {
    assert_eq!(value["retCode"], 0, "{value}");
    value["result"]["list"].as_array().unwrap()
}

#[tokio::test]
async fn everything_is_served_by_request() {
    let sim = Sim::start(config(5000.0, 2000));
    sim.handle.still().await;
    for (path, count) in [
        ("tickers?category=linear", 24),
        ("tickers?category=inverse&symbol=BTCUSD", 1),
        ("tickers?category=spot", 24),
        ("recent-trade?category=spot&symbol=BTCUSDT&limit=4", 4),
        ("recent-trade?category=linear&symbol=BTCUSDT&limit=4", 4),
        ("kline?category=inverse&symbol=BTCUSD&interval=1&limit=10", 10),
        ("kline?category=linear&symbol=BTCUSDT&interval=D&limit=4", 4),
        ("funding/history?category=linear&symbol=ETHUSDT&limit=50", 50),
        ("open-interest?category=linear&symbol=ETHUSDT&intervalTime=5min&limit=6", 6),
        ("instruments-info?category=spot", 24),
    ] {
        let first = sim.json(&format!("/bybit/v5/market/{path}")).await;
        assert_eq!(list(&first).len(), count, "{path}");
        assert_eq!(list(&sim.json(&format!("/bybit/v5/market/{path}")).await), list(&first), "the market stands still: {path}");
    }
    let book = sim.json("/bybit/v5/market/orderbook?category=linear&symbol=BTCUSDT&limit=7").await;
    assert_eq!(book["result"]["a"].as_array().unwrap().len(), 7);
    let tickers = sim.json("/bybit/v5/market/tickers?category=linear").await;
    let dated = list(&tickers).iter().find(|row| row["symbol"].as_str().unwrap().starts_with("BTCUSDT-")).unwrap();
    assert_eq!((&dated["fundingRate"], &dated["nextFundingTime"]), (&"".into(), &"".into()));
    let trades = sim.json("/bybit/v5/market/recent-trade?category=linear&symbol=BTCUSDT").await;
    assert_eq!(list(&trades)[0]["execId"].as_str().unwrap().len(), 36);

    for path in ["tickers?category=linear&symbol=NOPE", "orderbook?category=linear&symbol=NOPEUSDT", "tickers?category=future"] {
        assert_eq!(sim.json(&format!("/bybit/v5/market/{path}")).await["retCode"], 10001, "{path}");
    }
    let (_, truth) = sim.end().await;
    let row = list(&tickers).iter().find(|row| row["symbol"] == "ETHUSDT").unwrap();
    let et = tickers["time"].as_i64().unwrap() * 1000;
    let event = |kind: &'static str, symbol: &Value| {
        of_type(&truth, kind).find(|e| e["venue_symbol"] == *symbol && e["market"] == "linear" && e["et"].as_i64() == Some(et)).cloned()
    };
    let symbol = &row["symbol"];
    assert!(same_number(&event("open_interest", symbol).unwrap()["value"], &row["openInterest"]));
    assert!(same_number(&event("open_interest", symbol).unwrap()["value_quote"], &row["openInterestValue"]));
    assert!(same_number(&event("ticker", symbol).unwrap()["bid"], &row["bid1Price"]));
    assert!(same_number(&event("ticker", symbol).unwrap()["change_24h"], &row["price24hPcnt"]));
    assert!(same_number(&event("mark", symbol).unwrap()["index"], &row["indexPrice"]));
    let funding = event("funding", symbol).unwrap();
    assert!(same_number(&funding["rate"], &row["fundingRate"]) && same_number(&funding["cap"], &row["fundingCap"]));
    assert_eq!(funding["interval_hours"].to_string(), row["fundingIntervalHour"].as_str().unwrap());
    assert_eq!(funding["floor"], format!("-{}", funding["cap"].as_str().unwrap()));
    assert!(event("funding", &dated["symbol"]).is_none(), "dated futures have none");
    assert!(same_number(&event("mark", &dated["symbol"]).unwrap()["basis"], &dated["basis"]));
    let inverse = of_type(&truth, "open_interest").find(|e| e["market"] == "inverse").unwrap();
    assert!(inverse.get("value_base").is_some() && inverse.get("value_quote").is_none());
    assert!(of_type(&truth, "ticker").filter(|e| e["market"] == "inverse").all(|e| e.get("turnover_24h").is_none()));
}

#[tokio::test]
async fn instruments_come_in_pages() {
    let sim = Sim::start(Config { symbols: 1100, ..config(10.0, 1) });
    let mut names = HashSet::new();
    let mut cursor = String::new();
    let mut pages = 0;
    loop {
        // The cursor has percent signs of its own, which are encoded once more.
        let page = sim.json(&format!("/bybit/v5/market/instruments-info?category=linear&limit=500&cursor={}", cursor.replace('%', "%25"))).await;
        names.extend(list(&page).iter().map(|row| row["symbol"].as_str().unwrap().to_owned()));
        pages += 1;
        cursor = page["result"]["nextPageCursor"].as_str().unwrap().to_owned();
        if cursor.is_empty() {
            break;
        }
    }
    assert_eq!((names.len(), pages), (1100, 3));
    assert!(names.contains("BTCPERP") && names.iter().any(|name| name.starts_with("ETH-")));
    assert_eq!(list(&sim.json("/bybit/v5/market/instruments-info?category=linear&status=PreLaunch").await).len(), 0);
}

fn apply(book: &mut BTreeMap<exchange_core::Decimal, String>, levels: &Value) {
    for level in levels.as_array().unwrap() {
        let (price, size) = (level[0].as_str().unwrap().parse().unwrap(), level[1].as_str().unwrap());
        if size == "0" {
            book.remove(&price)
        } else {
            book.insert(price, size.to_owned())
        };
    }
}

#[tokio::test]
async fn books_begin_with_a_snapshot_and_chain() {
    for (category, symbol) in [("spot", "BTCUSDT"), ("linear", "BTCUSDT"), ("inverse", "BTCUSD")] {
        let sim = Sim::start(config(4000.0, 4000));
        let mut socket = sim.socket(&format!("/bybit/v5/public/{category}")).await;
        let topic = format!("orderbook.50.{symbol}");
        socket.send(&json!({"req_id": "1", "op": "subscribe", "args": [topic]}).to_string()).await;
        let ack = socket.json().await;
        assert_eq!((&ack["success"], &ack["op"], &ack["req_id"]), (&true.into(), &"subscribe".into(), &"1".into()));
        sim.handle.still().await;
        let after = sim.json(&format!("/bybit/v5/market/orderbook?category={category}&symbol={symbol}&limit=1000")).await;
        let frames = socket.until(|frame| frame["data"]["u"] == after["result"]["u"]).await;
        assert_eq!(frames[0]["type"], "snapshot");
        let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
        for (at, frame) in frames.iter().enumerate() {
            assert_eq!(frame["topic"], topic);
            if at > 0 {
                assert_eq!(frame["type"], "delta");
                assert_eq!(frame["data"]["u"].as_u64().unwrap(), frames[at - 1]["data"]["u"].as_u64().unwrap() + 1);
            }
            apply(&mut bids, &frame["data"]["b"]);
            apply(&mut asks, &frame["data"]["a"]);
        }
        assert!(frames.len() > 5);
        let (mut want_bids, mut want_asks) = (BTreeMap::new(), BTreeMap::new());
        apply(&mut want_bids, &after["result"]["b"]);
        apply(&mut want_asks, &after["result"]["a"]);
        assert_eq!((bids, asks), (want_bids, want_asks));
        let (_, truth) = sim.end().await;
        for frame in &frames {
            let seq = frame["data"]["u"].to_string();
            let book = of_type(&truth, "book").find(|book| book["seq"] == seq && book["kind"] == frame["type"]).unwrap();
            assert_eq!(book["et"].as_i64().unwrap(), frame["cts"].as_i64().unwrap() * 1000);
        }
    }
}

#[tokio::test]
async fn topics_have_the_venues_shapes() {
    let sim = Sim::start(config(8000.0, 60_000));
    let mut socket = sim.socket("/bybit/v5/public/linear").await;
    let topics = ["tickers.BTCUSDT", "orderbook.1.BTCUSDT", "publicTrade.BTCUSDT", "kline.1.BTCUSDT", "allLiquidation.BTCUSDT"];
    socket.send(&json!({"req_id": "a", "op": "subscribe", "args": topics}).to_string()).await;
    let mut seen: BTreeMap<String, Vec<Value>> = BTreeMap::new();
    socket
        .until(|frame| {
            if let Some(topic) = frame["topic"].as_str() {
                seen.entry(topic.to_owned()).or_default().push(frame.clone());
            }
            seen.len() == topics.len() && seen["tickers.BTCUSDT"].len() > 3
        })
        .await;
    let tickers = &seen["tickers.BTCUSDT"];
    assert_eq!((&tickers[0]["type"], &tickers[1]["type"]), (&"snapshot".into(), &"delta".into()));
    assert!(tickers[1]["data"].as_object().unwrap().len() < tickers[0]["data"].as_object().unwrap().len(), "only what changed");
    assert!(seen["orderbook.1.BTCUSDT"].iter().all(|frame| frame["type"] == "snapshot" && frame["data"]["b"].as_array().unwrap().len() == 1));

    let refused = |topic: &str, why: &str| format!("error:{why},topic:{topic}");
    for (args, words) in [
        (json!(["orderbook.200.BTCUSDT", "orderbook.50.NOPEUSDT"]), refused("orderbook.50.NOPEUSDT", "handler not found")),
        (json!(["publicTrade.BTCUSDT"]), refused("publicTrade.BTCUSDT", "already subscribed")),
    ] {
        socket.send(&json!({"req_id": "b", "op": "subscribe", "args": args}).to_string()).await;
        let answer = socket.until(|frame| frame["req_id"] == "b").await.pop().unwrap();
        assert_eq!((&answer["success"], &answer["ret_msg"]), (&false.into(), &words.into()));
    }
    socket.send(r#"{"op":"ping","req_id":"p"}"#).await;
    let between = socket.until(|frame| frame["req_id"] == "p").await;
    assert_eq!(between.last().unwrap()["ret_msg"], "pong");
    assert!(between.iter().all(|frame| !frame["topic"].as_str().unwrap_or_default().starts_with("orderbook.200")), "none of a refused frame is served");

    let (_, truth) = sim.end().await;
    for record in seen["publicTrade.BTCUSDT"].iter().flat_map(|frame| frame["data"].as_array().unwrap()) {
        let trade = of_type(&truth, "trade").find(|trade| trade["trade_id"] == record["i"]).unwrap();
        assert!(same_number(&trade["price"], &record["p"]) && same_number(&trade["size"], &record["v"]));
        assert_eq!(trade["side"].as_str().unwrap(), record["S"].as_str().unwrap().to_lowercase());
    }
    let order = &seen["allLiquidation.BTCUSDT"][0]["data"][0];
    let liquidation =
        of_type(&truth, "liquidation").find(|l| l["et"].as_i64() == Some(order["T"].as_i64().unwrap() * 1000) && same_number(&l["size"], &order["v"])).unwrap();
    assert_eq!(liquidation["side"], if order["S"] == "Buy" { "sell" } else { "buy" }, "the venue names the position's side");
    let delta = &tickers[1]["data"];
    let at = tickers[1]["ts"].as_i64().unwrap() * 1000;
    let mark = of_type(&truth, "mark").find(|mark| mark["et"].as_i64() == Some(at));
    assert_eq!(mark.is_some_and(|mark| mark.get("mark").is_some()), delta.get("markPrice").is_some());
}

#[tokio::test]
async fn spot_takes_ten_topics_in_a_frame() {
    let sim = Sim::start(config(10.0, 1));
    let mut socket = sim.socket("/bybit/v5/public/spot").await;
    let args: Vec<String> = ["tickers", "orderbook.1", "orderbook.50", "publicTrade", "kline.1", "orderbook.200"]
        .iter()
        .flat_map(|t| [format!("{t}.BTCUSDT"), format!("{t}.ETHUSDT")])
        .collect();
    socket.send(&json!({"op": "subscribe", "args": args}).to_string()).await;
    assert_eq!(socket.json().await["success"], false);
    socket.send(&json!({"op": "subscribe", "args": &args[..10]}).to_string()).await;
    assert_eq!(socket.json().await["success"], true);
    let snapshot = socket.until(|frame| frame["topic"] == "tickers.BTCUSDT").await.pop().unwrap();
    assert!(snapshot["data"].get("bid1Price").is_none());
    assert!(tokio_tungstenite::connect_async(format!("ws://{}/bybit/v5/public/moon", sim.handle.address())).await.is_err());
}
