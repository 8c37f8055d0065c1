//! What goes wrong on purpose, captures, and the life of a simulation.

mod common;

use std::time::{Duration, Instant};

use common::{PATIENCE, Sim, of_type};
use tokio_tungstenite::tungstenite::Message;
use venue_sim::{Config, Error};

fn config(rate: f64) -> Config {
    Config { symbols: 12, rate, ..Config::default() }
}

#[tokio::test]
async fn requests_fail_as_they_should() {
    let sim = Sim::faulty(
        config(10.0),
        r#"
        [[fault]]
        action = "status"
        path = "/api/v3/ping"
        status = 429
        retry_after = 3
        count = 1
        [[fault]]
        action = "status"
        path = "/api/v3/time"
        status = 503
        body = "html"
        [[fault]]
        action = "broken_json"
        venue = "bybit"
        [[fault]]
        action = "latency"
        path = "/fapi/v1/ping"
        latency = "60ms"
        [[fault]]
        action = "status"
        path = "/stream"
        status = 451
        "#,
    );
    let (status, headers, _) = sim.get("/binance/api/v3/ping").await;
    assert_eq!((status, headers["retry-after"].as_str()), (429, "3"));
    assert_eq!(sim.get("/binance/api/v3/ping").await.0, 200, "once");
    let (status, headers, body) = sim.get("/binance/api/v3/time").await;
    assert_eq!((status, headers["content-type"].as_str()), (503, "text/html"));
    assert!(body.starts_with("<html>"));
    let (status, _, body) = sim.get("/bybit/v5/market/tickers?category=linear").await;
    assert!(status == 200 && body.starts_with('{') && serde_json::from_str::<serde_json::Value>(&body).is_err());
    let before = Instant::now();
    sim.get("/binance/fapi/v1/ping").await;
    assert!(before.elapsed() >= Duration::from_millis(60));
    assert!(tokio_tungstenite::connect_async(format!("ws://{}/binance/stream", sim.handle.address())).await.is_err());
    let (_, truth) = sim.end().await;
    assert_eq!(truth.len(), 0, "what is broken is not part of the truth");
}

#[tokio::test]
async fn frames_fail_as_they_should() {
    let sim = Sim::faulty(
        Config { events: Some(30_000), ..config(20_000.0) },
        r#"
        [[fault]]
        action = "drop_frame"
        topic = "btcusdt@aggTrade"
        every = 2
        [[fault]]
        action = "repeat_frame"
        topic = "ethusdt@aggTrade"
        [[fault]]
        action = "broken_frame"
        topic = "solusdt@aggTrade"
        [[fault]]
        action = "close"
        topic = "publicTrade.*"
        after = 3
        code = 1012
        "#,
    );
    let mut socket = sim.socket("/binance/market/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade/solusdt@aggTrade/xrpusdt@aggTrade").await;
    let mut bybit = sim.socket("/bybit/v5/public/linear").await;
    bybit.send(r#"{"op":"subscribe","args":["publicTrade.BTCUSDT"]}"#).await;
    let mut frames = 0;
    let close = loop {
        match bybit.message().await {
            Message::Close(frame) => break frame,
            _ => frames += 1,
        }
    };
    assert_eq!((frames, u16::from(close.unwrap().code)), (4, 1012), "an answer and three pushes");
    sim.handle.still().await;
    let (mut seen, mut broken) = (std::collections::HashMap::<String, Vec<u64>>::new(), 0);
    // The market stands still: an answer is the last frame.
    socket.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":1}"#).await;
    loop {
        let text = socket.text().await.unwrap();
        match serde_json::from_str::<serde_json::Value>(&text) {
            Err(_) => broken += 1,
            Ok(frame) if frame["id"] == 1 => break,
            Ok(frame) => seen.entry(frame["data"]["s"].as_str().unwrap().into()).or_default().push(frame["data"]["a"].as_u64().unwrap()),
        }
    }
    let (_, truth) = sim.end().await;
    let told = |symbol: &str| of_type(&truth, "trade").filter(|trade| trade["venue_symbol"] == symbol && trade["venue"] == "binance").count();
    assert!(broken > 10 && told("SOLUSDT") == 0 && !seen.contains_key("SOLUSDT"));
    assert!(seen["BTCUSDT"].windows(2).all(|pair| pair[1] == pair[0] + 2), "each second one is lost");
    assert_eq!(told("BTCUSDT"), seen["BTCUSDT"].len());
    assert!(seen["ETHUSDT"].chunks(2).all(|pair| pair[0] == pair[1]), "each one comes twice");
    assert_eq!(told("ETHUSDT") * 2, seen["ETHUSDT"].len());
    assert_eq!(told("XRPUSDT"), seen["XRPUSDT"].len());
}

/// A line of a file of captures; of a socket, if it has no status.
fn capture(source: &str, status: Option<u16>, payload: &str, binary: bool) -> String {
    let status = status.map(|status| format!(r#""status":{status},"#)).unwrap_or_default();
    let encoding = if binary { r#","encoding":"base64""# } else { "" };
    format!(r#"{{"t":1,"venue":"okx","market":"linear","conn":1,"source":"{source}",{status}"payload":"{payload}"{encoding}}}"#)
}

#[tokio::test]
async fn captures_stand_beside_a_market_and_their_truth_is_what_stands_beside_them() {
    let dir = tempfile::tempdir().unwrap();
    let [file, truth, faults] = ["x.ndjson", "truth.ndjson", "faults.toml"].map(|name| dir.path().join(name));
    let socket = "ws wss://okx.example/ws/v5/public";
    let lines = [
        capture("GET https://okx.example/all", Some(200), "all", false),
        capture(socket, None, "subscribed", false),
        capture(socket, None, "one", false),
        capture(socket, None, "/wAB", true),
        capture(socket, None, "three", false),
        capture("GET https://okx.example/lost", Some(200), "lost", false),
    ];
    std::fs::write(&file, lines.join("\n")).unwrap();
    let event = |name: &str, line: u32| format!(r#"{{"type":"trade","venue":"okx","t":1,"id":"{name}","line":{line}}}"#);
    let said = [event("a", 1), event("b", 1), event("one", 3), event("two", 4), event("three", 5), event("lost", 6)];
    std::fs::write(&faults, "[[fault]]\naction = \"garbage\"\nvenue = \"okx\"\npath = \"/lost\"\n").unwrap();
    let config = Config {
        symbols: 3,
        rate: 100.0,
        play: vec![file],
        truth: Some(truth.clone()),
        faults: Some(faults),
        pace: Duration::from_millis(150),
        ..Config::default()
    };
    let refused = venue_sim::start(&config).err().unwrap().to_string();
    assert!(refused.contains("x.events.ndjson") && refused.contains("collector decode --lenient x.ndjson > x.events.ndjson"), "{refused}");
    std::fs::write(dir.path().join("x.events.ndjson"), "{\"type\":\"trade\"}\n").unwrap();
    assert!(venue_sim::start(&config).err().unwrap().to_string().contains("line 1 is no event line"));
    std::fs::write(dir.path().join("x.events.ndjson"), said.join("\n")).unwrap();

    let sim = Sim::of(&config, dir);
    assert_eq!(sim.handle.venues(), ["binance", "bybit", "okx"]);
    for _ in 0..2 {
        assert_eq!(sim.get("/okx/all").await.2, "all");
    }
    assert_ne!(sim.get("/okx/lost").await.2, "lost");
    assert!(sim.json("/bybit/v5/market/tickers?category=linear").await["result"]["list"].is_array());
    let mut first = sim.socket("/okx.linear/ws/v5/public").await;
    first.send("{\"op\":\"subscribe\"}").await;
    assert_eq!(first.message().await, Message::text("subscribed"));
    assert!(first.is_silent_for(Duration::from_millis(50)).await, "one after the other");
    assert_eq!(first.message().await, Message::text("one"));
    drop(first);
    // The simulator notices that the first is gone when it reads from it, or sends to it.
    tokio::time::sleep(Duration::from_millis(50)).await;
    let mut second = sim.socket("/okx.linear/ws/v5/public").await;
    assert_eq!(second.message().await, Message::binary(vec![0xff, 0, 1]), "what the first did not get");
    assert_eq!(second.message().await, Message::text("three"));
    sim.handle.refuse();
    assert_eq!(sim.get("/okx/all").await.0, 503);
    tokio::time::timeout(common::PATIENCE, sim.handle.shutdown()).await.unwrap().unwrap();

    let text = std::fs::read_to_string(truth).unwrap();
    let ids: Vec<&str> = text.lines().filter(|line| line.contains(r#""venue":"okx""#)).filter_map(|line| line.split('"').nth(13)).collect();
    assert_eq!(ids, ["a", "b", "a", "b", "one", "two", "three"], "each time that it was served, and only what was");
    assert!(!text.contains(r#""line":"#));
    assert!(text.lines().any(|line| line.contains(r#""venue":"bybit""#)));
}

#[tokio::test]
async fn captures_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("x.ndjson");
    std::fs::write(
        &file,
        concat!(
            r#"{"t":1,"venue":"okx","market":"linear","source":"GET https://okx.example/api/v5/x?b=2&a=1","status":200,"payload":"{\"code\":\"0\"}"}"#,
            "\n",
            r#"{"t":1,"venue":"okx","market":"linear","source":"GET https://okx.example/api/v5/y","status":451,"payload":"<html>no</html>"}"#,
            "\n",
            r#"{"t":2,"venue":"okx","market":"linear","conn":1,"source":"ws wss://okx.example:8443/ws/v5/public","payload":"{\"event\":\"subscribe\"}"}"#,
            "\n",
            r#"{"t":3,"venue":"okx","market":"linear","conn":1,"source":"ws wss://okx.example:8443/ws/v5/public","payload":"/wAB","encoding":"base64"}"#,
            "\n",
            r#"{"t":3,"venue":"okx","market":"linear","conn":2,"source":"ws wss://okx.example:8443/ws/v5/public","payload":"second"}"#,
            "\n",
        ),
    )
    .unwrap();
    let sim = Sim::start(Config { venues: Vec::new(), play: vec![file], ..Config::default() });
    assert_eq!(sim.handle.venues(), ["okx"]);
    assert_eq!(sim.handle.options()[1], format!("venues.okx.rest_url=http://{}/okx", sim.handle.address()));
    assert_eq!(sim.json("/okx/api/v5/x?a=1&b=2").await["code"], "0");
    assert_eq!(sim.get("/okx/api/v5/y").await.0, 451);
    assert_eq!(sim.get("/okx/api/v5/z").await.0, 404);
    let mut first = sim.socket("/okx/ws/v5/public").await;
    first.send("{\"op\":\"subscribe\"}").await;
    assert_eq!(first.message().await, Message::text("{\"event\":\"subscribe\"}"));
    assert_eq!(first.message().await, Message::binary(vec![0xff, 0, 1]));
    let mut second = sim.socket("/okx/ws/v5/public").await;
    assert_eq!(second.message().await, Message::text("second"), "without a frame of the client's, too");
    assert_eq!(sim.handle.counters().opened, 2);
    sim.end().await;
}

#[tokio::test]
async fn everything_that_was_served_is_in_the_truth() {
    let sim = Sim::start(Config { events: Some(40_000), ..config(40_000.0) });
    let mut socket = sim.socket("/binance/market/stream").await;
    let names: Vec<String> = ["btc", "eth", "sol", "xrp", "doge", "bnb", "ada"].iter().map(|base| format!("{base}usdt@aggTrade")).collect();
    socket.send(&serde_json::json!({"method": "SUBSCRIBE", "params": names, "id": 1}).to_string()).await;
    // A second subscriber of the same does not make it two facts.
    let twin = sim.socket(&format!("/binance/market/stream?streams={}", names.join("/"))).await;
    sim.handle.still().await;
    socket.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":2}"#).await;
    let frames = socket.until(|frame| frame["id"] == 2).await;
    let sent: std::collections::HashSet<(String, String)> = frames
        .iter()
        .filter(|frame| frame.get("data").is_some())
        .map(|frame| (frame["data"]["s"].as_str().unwrap().to_owned(), frame["data"]["a"].to_string()))
        .collect();
    drop(twin);
    let (summary, truth) = sim.end().await;
    assert!(sent.len() > 1000, "{}", sent.len());
    let told: std::collections::HashSet<(String, String)> =
        of_type(&truth, "trade").map(|trade| (trade["venue_symbol"].as_str().unwrap().to_owned(), trade["trade_id"].as_str().unwrap().to_owned())).collect();
    assert!(sent.is_subset(&told), "nothing is left out");
    assert_eq!(summary.truth, truth.len() as u64, "each fact once");
    assert_eq!(summary.counters.connections, 0);
}

#[tokio::test]
async fn a_client_that_does_not_read_is_waited_for() {
    let sim = Sim::start(Config { events: Some(600_000), ..config(300_000.0) });
    let all: Vec<String> = (0..7)
        .flat_map(|at| {
            let base = ["btc", "eth", "sol", "xrp", "doge", "bnb", "ada"][at];
            [format!("{base}usdt@depth@100ms"), format!("{base}usdt@bookTicker")]
        })
        .collect();
    let mut socket = sim.socket(&format!("/binance/public/stream?streams={}", all.join("/"))).await;
    // Nothing is read: the sockets' buffers and the queue fill up, and the market comes to a halt before its end.
    let mut before = 0;
    loop {
        tokio::time::sleep(Duration::from_millis(300)).await;
        let updates = sim.handle.counters().updates;
        if updates == before {
            break;
        }
        before = updates;
    }
    assert!(before < 600_000, "{before}");
    let mut previous = std::collections::HashMap::new();
    let mut asked = false;
    loop {
        if !asked && sim.handle.counters().updates >= 600_000 {
            asked = true;
            socket.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":5}"#).await;
        }
        let frame = socket.json().await;
        if frame["id"] == 5 {
            break;
        }
        if frame["data"]["e"] == "depthUpdate" {
            let data = &frame["data"];
            if let Some(last) = previous.insert(data["s"].to_string(), data["u"].as_u64()) {
                assert_eq!(data["pu"].as_u64(), last, "no frame is missing");
            }
        }
    }
    assert!(previous.len() == 7);
    sim.end().await;
}

#[tokio::test]
async fn the_same_seed_gives_the_same_market() {
    let start = exchange_core::Time::from_date(2026, 2, 3);
    let mut bodies = Vec::new();
    for seed in [5, 5, 6] {
        let sim = Sim::start(Config { seed, start, events: Some(3000), ..config(10_000.0) });
        tokio::time::timeout(PATIENCE, sim.handle.still()).await.unwrap();
        let mut body = String::new();
        for path in [
            "/binance/fapi/v1/ticker/24hr",
            "/binance/dapi/v1/premiumIndex",
            "/binance/api/v3/trades?symbol=BTCUSDT",
            "/bybit/v5/market/tickers?category=inverse",
        ] {
            body += &sim.get(path).await.2;
        }
        bodies.push(body);
    }
    assert!(bodies[0] == bodies[1] && bodies[0] != bodies[2]);
}

#[test]
fn wrong_settings_are_refused() {
    let refused = |config: Config| venue_sim::start(&config).err().unwrap();
    assert!(matches!(refused(Config { venues: vec!["nope".into()], ..Config::default() }), Error::UnknownVenue { .. }));
    assert!(matches!(refused(Config { symbols: 0, ..Config::default() }), Error::Setting(_)));
    assert!(matches!(refused(Config { rate: -1.0, ..Config::default() }), Error::Setting(_)));
    assert!(matches!(refused(Config { faults: Some("/nowhere".into()), ..Config::default() }), Error::File { .. }));
}
