//! Each fault, as a client meets it.

mod common;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use common::{PATIENCE, Sim, Socket, of_type};
use serde_json::Value;
use tokio_tungstenite::tungstenite::Message;
use venue_sim::faults::Faults;
use venue_sim::{Config, Error};

fn config(rate: f64) -> Config {
    Config { symbols: 12, rate, ..Config::default() }
}

const TICKERS: &str = "/bybit/v5/market/tickers?category=linear";
const TRADES: &str = "/binance/fapi/v1/trades?symbol=BTCUSDT";
const TRADE_STREAM: &str = "/binance/market/stream?streams=btcusdt@aggTrade";

fn trades_of<'a>(truth: &'a std::collections::HashMap<String, Value>, venue: &'a str) -> impl Iterator<Item = &'a Value> {
    of_type(truth, "trade").filter(move |trade| trade["venue"] == venue)
}

/// What comes of a body, and how it ends: whether by an error.
async fn body(mut response: reqwest::Response) -> (Vec<u8>, bool) {
    let mut bytes = Vec::new();
    loop {
        match tokio::time::timeout(PATIENCE, response.chunk()).await.expect("an end") {
            Ok(Some(chunk)) => bytes.extend_from_slice(&chunk),
            Ok(None) => return (bytes, false),
            Err(_) => return (bytes, true),
        }
    }
}

#[tokio::test]
async fn bodies_come_late_or_not_whole() {
    let fault = |action: &str, path: &str| format!("[[fault]]\nvenue = \"binance\"\npath = \"{path}\"\naction = {action}\n");
    let faults = [
        fault("\"truncate_body\"", "/fapi/v1/trades"),
        fault("\"truncate_body\"\nbytes = 0", "/dapi/v1/trades"),
        fault("\"stall_body\"\nbytes = 30\nlatency = \"150ms\"", "/fapi/v1/ticker/24hr"),
        fault("\"stall_body\"", "/dapi/v1/ticker/24hr"),
        fault("\"drip\"\nlatency = \"2ms\"\nbytes = 700", "/api/v3/trades"),
        fault("\"drip\"\nlatency = \"20ms\"\nbytes = 1", "/api/v3/depth"),
        fault("\"garbage\"", "/fapi/v1/depth"),
        fault("\"garbage\"\nform = \"binary\"\nbytes = 1000", "/dapi/v1/depth"),
        fault("\"status\"\nstatus = 403\nbody = \"html\"", "/api/v3/time"),
    ];
    // Nothing moves: an answer's length is that of the same answer without a fault.
    let sim = Sim::faulty(Config { events: Some(0), ..config(10.0) }, &faults.concat());
    let client = reqwest::Client::new();
    let get = |target: &str| client.get(sim.url(target)).send();

    for (target, part) in [(TRADES, true), ("/binance/dapi/v1/trades?symbol=BTCUSD_PERP", false)] {
        let response = get(target).await.unwrap();
        let promised = response.content_length().unwrap();
        let (bytes, broke) = body(response).await;
        assert!(broke && promised > 100, "{target}");
        assert_eq!(bytes.len() as u64, if part { promised / 2 } else { 0 });
    }

    let before = Instant::now();
    let response = get("/binance/fapi/v1/ticker/24hr").await.unwrap();
    assert!(response.status() == 200 && response.content_length().unwrap() > 1000 && before.elapsed() < Duration::from_millis(150));
    let (bytes, broke) = body(response).await;
    assert!(broke && bytes.len() == 30 && before.elapsed() >= Duration::from_millis(150));
    let mut response = get("/binance/dapi/v1/ticker/24hr").await.unwrap();
    let half = response.content_length().unwrap() / 2;
    let mut came = 0;
    while came < half {
        came += response.chunk().await.unwrap().unwrap().len() as u64;
    }
    assert!(tokio::time::timeout(Duration::from_millis(300), response.chunk()).await.is_err(), "nothing more, and no end");

    let before = Instant::now();
    let (bytes, broke) = body(get("/binance/api/v3/trades?symbol=BTCUSDT").await.unwrap()).await;
    assert!(!broke && serde_json::from_slice::<Value>(&bytes).unwrap().as_array().unwrap().len() == 5);
    assert!(before.elapsed() >= Duration::from_millis(2) * u32::try_from(bytes.len().div_ceil(700)).unwrap());
    // Who does not wait for the end has not been told.
    drop(get("/binance/api/v3/depth?symbol=BTCUSDT").await.unwrap());

    let response = get("/binance/fapi/v1/depth?symbol=BTCUSDT").await.unwrap();
    let promised = response.content_length().unwrap();
    let (bytes, broke) = body(response).await;
    assert!(!broke && bytes.len() as u64 == promised && std::str::from_utf8(&bytes).is_ok() && serde_json::from_slice::<Value>(&bytes).is_err());
    let (bytes, _) = body(get("/binance/dapi/v1/depth?symbol=BTCUSD_PERP").await.unwrap()).await;
    assert!(bytes.len() == 1000 && std::str::from_utf8(&bytes).is_err());
    let (status, headers, page) = sim.get("/binance/api/v3/time").await;
    assert!(status == 403 && headers["content-type"] == "text/html" && page.starts_with("<html>"));

    let (_, truth) = sim.end().await;
    assert_eq!(truth.len(), 5, "the trades that dripped to their end, and nothing else");
    assert!(trades_of(&truth, "binance").all(|trade| trade["market"] == "spot"));
}

#[tokio::test]
async fn connections_are_open_and_dead() {
    let sim = Sim::faulty(
        config(3000.0),
        r#"
        [[fault]]
        action = "only_pongs"
        venue = "bybit"
        count = 1
        [[fault]]
        action = "zero_frames"
        venue = "binance"
        path = "/public/stream"
        [[fault]]
        action = "zero_frames"
        venue = "binance"
        path = "/market/stream"
        latency = "500ms"
        "#,
    );
    let subscribe = r#"{"op":"subscribe","req_id":"7","args":["publicTrade.BTCUSDT","orderbook.50.BTCUSDT"]}"#;
    let mut dead = sim.socket("/bybit/v5/public/linear").await;
    dead.send(subscribe).await;
    let answer = dead.json().await;
    assert!(answer["success"] == true && answer["req_id"] == "7");
    dead.send(r#"{"op":"ping"}"#).await;
    assert_eq!(dead.json().await["ret_msg"], "pong");
    dead.ping("are you there").await;
    assert_eq!(dead.message().await, Message::Pong("are you there".into()));
    let mut alive = sim.socket("/bybit/v5/public/linear").await;
    alive.send(subscribe).await;
    alive.until(|frame| frame["topic"] == "publicTrade.BTCUSDT").await;
    assert!(dead.is_silent_for(Duration::from_millis(100)).await, "the other one has data");

    let mut mute = sim.socket("/binance/public/stream?streams=btcusdt@depth@100ms").await;
    mute.ping("are you there").await;
    mute.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":1}"#).await;
    assert!(mute.is_silent_for(Duration::from_millis(200)).await, "not even a pong");

    let mut dying = sim.socket(TRADE_STREAM).await;
    let since = Instant::now();
    dying.text().await.unwrap();
    tokio::time::sleep(Duration::from_millis(600).saturating_sub(since.elapsed())).await;
    let mut last = 0;
    while !dying.is_silent_for(Duration::from_millis(150)).await {
        last += 1;
    }
    assert!(last > 5 && since.elapsed() < PATIENCE, "it was in order, and is silent now: {last}");
    dying.ping("are you there").await;
    assert!(dying.is_silent_for(Duration::from_millis(100)).await);

    // A client that goes is noticed all the same.
    assert_eq!(sim.handle.counters().connections, 4);
    drop((mute, dying));
    let gone = async {
        while sim.handle.counters().connections > 2 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, gone).await.expect("two connections less");
    let (_, truth) = sim.end().await;
    let of = |venue: &str, kind: &str| of_type(&truth, kind).filter(|event| event["venue"] == venue).count();
    assert!(of("bybit", "book") > 0 && of("binance", "book") == 0, "what was left out is not the truth");
    assert!(of("binance", "trade") >= last);
}

/// The topics of what comes, until the answer to a frame of ours.
async fn topics(socket: &mut Socket, question: &str, answers: impl Fn(&Value) -> bool) -> BTreeMap<String, usize> {
    socket.send(question).await;
    let mut topics = BTreeMap::new();
    for frame in socket.until(answers).await {
        if let Some(topic) = frame["topic"].as_str().or(frame["stream"].as_str()) {
            *topics.entry(topic.to_owned()).or_default() += 1;
        }
    }
    topics
}

#[tokio::test]
async fn topics_are_acknowledged_and_silent() {
    // Before the start, from which the faults' times count.
    let begun = Instant::now();
    let sim = Sim::faulty(
        config(3000.0),
        r#"
        [[fault]]
        action = "silent_topic"
        venue = "bybit"
        topic = "orderbook.50.*"
        count = 1
        [[fault]]
        action = "silent_topic"
        venue = "binance"
        topic = "btcusdt@*"
        to = "2500ms"
        resubscribe_heals = false
        "#,
    );
    let mut bybit = sim.socket("/bybit/v5/public/linear").await;
    let pong = |frame: &Value| frame["ret_msg"] == "pong";
    bybit.send(r#"{"op":"subscribe","args":["orderbook.50.BTCUSDT","orderbook.50.ETHUSDT"]}"#).await;
    assert_eq!(bybit.json().await["success"], true);
    bybit.until(|frame| frame["topic"] == "orderbook.50.ETHUSDT" && frame["type"] == "delta").await;
    tokio::time::sleep(Duration::from_millis(200)).await;
    let seen = topics(&mut bybit, r#"{"op":"ping"}"#, pong).await;
    assert!(seen.len() == 1 && seen["orderbook.50.ETHUSDT"] > 0, "{seen:?}");
    bybit.send(r#"{"op":"unsubscribe","args":["orderbook.50.BTCUSDT"]}"#).await;
    bybit.send(r#"{"op":"subscribe","args":["orderbook.50.BTCUSDT"]}"#).await;
    let healed = bybit.until(|frame| frame["topic"] == "orderbook.50.BTCUSDT").await;
    assert_eq!(healed.last().unwrap()["type"], "snapshot");
    bybit.until(|frame| frame["topic"] == "orderbook.50.BTCUSDT" && frame["type"] == "delta").await;

    let mut binance = sim.socket("/binance/market/stream").await;
    let asked = r#"{"method":"LIST_SUBSCRIPTIONS","id":9}"#;
    for _ in 0..2 {
        binance.send(r#"{"method":"SUBSCRIBE","params":["btcusdt@aggTrade","btcusdt@markPrice@1s","ethusdt@aggTrade"],"id":1}"#).await;
        binance.until(|frame| frame["stream"] == "ethusdt@aggTrade").await;
        tokio::time::sleep(Duration::from_millis(100)).await;
        let seen = topics(&mut binance, asked, |frame| frame["id"] == 9).await;
        assert!(seen.keys().eq(["ethusdt@aggTrade"]), "{seen:?}");
        binance.send(r#"{"method":"UNSUBSCRIBE","params":["btcusdt@aggTrade","btcusdt@markPrice@1s"],"id":2}"#).await;
    }
    binance.send(r#"{"method":"SUBSCRIBE","params":["btcusdt@aggTrade"],"id":1}"#).await;
    binance.until(|frame| frame["stream"] == "btcusdt@aggTrade").await;
    assert!(begun.elapsed() >= Duration::from_millis(2500), "it is served once the rule is over");
    let (_, truth) = sim.end().await;
    let kinds: Vec<&str> = of_type(&truth, "book").filter(|book| book["venue_symbol"] == "BTCUSDT").filter_map(|book| book["kind"].as_str()).collect();
    assert_eq!(kinds.iter().filter(|kind| **kind == "snapshot").count(), 1, "the first subscription has none");
    assert!(kinds.contains(&"delta"));
}

#[tokio::test]
async fn frames_overtake_each_other_or_are_noise() {
    let sim = Sim::faulty(
        Config { events: Some(20_000), ..config(20_000.0) },
        r#"
        [[fault]]
        action = "reorder_frames"
        topic = "btcusdt@aggTrade"
        every = 3
        [[fault]]
        action = "garbage"
        topic = "ethusdt@aggTrade"
        every = 2
        [[fault]]
        action = "garbage"
        topic = "solusdt@aggTrade"
        form = "binary"
        bytes = 40
        "#,
    );
    let mut socket = sim.socket("/binance/market/stream?streams=btcusdt@aggTrade/ethusdt@aggTrade/solusdt@aggTrade").await;
    sim.handle.still().await;
    socket.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":1}"#).await;
    let (mut seen, mut noise, mut binary) = (BTreeMap::<String, Vec<u64>>::new(), 0_usize, 0);
    loop {
        match socket.message().await {
            Message::Binary(bytes) => {
                assert_eq!(bytes.len(), 40);
                binary += 1;
            }
            Message::Text(text) => match serde_json::from_str::<Value>(&text) {
                Err(_) => noise += 1,
                Ok(frame) if frame["id"] == 1 => break,
                Ok(frame) => seen.entry(frame["data"]["s"].as_str().unwrap().into()).or_default().push(frame["data"]["a"].as_u64().unwrap()),
            },
            _ => {}
        }
    }
    let (_, truth) = sim.end().await;
    let told = |symbol: &str| trades_of(&truth, "binance").filter(|trade| trade["venue_symbol"] == symbol).count();
    // The third comes after the fourth: a, b, d, c, e, g, f …
    let (btc, eth) = (&seen["BTCUSDT"], &seen["ETHUSDT"]);
    let first = btc[0];
    let order: Vec<u64> = btc.iter().take(8).map(|id| id - first).collect();
    assert_eq!(order, [0, 1, 3, 2, 4, 6, 5, 7]);
    let mut sorted = btc.clone();
    sorted.sort_unstable();
    assert!(sorted.windows(2).all(|pair| pair[1] == pair[0] + 1) && told("BTCUSDT") == btc.len(), "what is out of order is the truth");
    assert!(eth.windows(2).all(|pair| pair[1] == pair[0] + 2) && noise.abs_diff(eth.len()) <= 1, "each second one is noise");
    assert!(told("ETHUSDT") == eth.len() && told("SOLUSDT") == 0 && binary > 10);
}

#[tokio::test]
async fn a_venues_clock_jumps() {
    // Before the start, from which the faults' times count.
    let begun = Instant::now();
    let sim = Sim::faulty(
        config(2000.0),
        "[[fault]]\naction = \"clock_jump\"\nvenue = \"binance\"\nby = \"-90s\"\nto = \"1200ms\"\n[[fault]]\naction = \"clock_jump\"\nvenue = \"bybit\"\nby = \"1h\"",
    );
    // Seconds from the wall's clock.
    let off = |millis: i64| {
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_millis();
        (millis - i64::try_from(wall).unwrap()) / 1000
    };
    let near = |off: i64, want: i64| (off - want).abs() < 5;
    let mut socket = sim.socket(TRADE_STREAM).await;
    let frame = socket.json().await;
    let [event, trade] = ["E", "T"].map(|key| off(frame["data"][key].as_i64().unwrap()));
    assert!(near(event, -90) && near(trade, -90), "{event} {trade}");
    let time = sim.json("/binance/api/v3/time").await;
    assert!(near(off(time["serverTime"].as_i64().unwrap()), -90));
    let time = sim.json("/bybit/v5/market/time").await;
    assert!(near(off(time["time"].as_i64().unwrap()), 3600), "a venue of its own");
    let mut bybit = sim.socket("/bybit/v5/public/spot").await;
    bybit.send(r#"{"op":"subscribe","args":["kline.1.BTCUSDT","publicTrade.BTCUSDT"]}"#).await;
    let frames = bybit.until(|frame| frame["topic"] == "publicTrade.BTCUSDT").await;
    assert!(near(off(frames.last().unwrap()["data"][0]["T"].as_i64().unwrap()), 3600));
    let candle = bybit.until(|frame| frame["topic"] == "kline.1.BTCUSDT").await.pop().unwrap();
    let opened = off(candle["data"][0]["start"].as_i64().unwrap());
    assert!((-65..5).contains(&opened), "the calendar goes on: {opened}");

    let frames = socket.until(|frame| off(frame["data"]["E"].as_i64().unwrap()) > -5).await;
    assert!(begun.elapsed() >= Duration::from_millis(1200), "{:?}", begun.elapsed());
    assert!(near(off(frames.last().unwrap()["data"]["T"].as_i64().unwrap()), 0));
    let sent = frames[0]["data"]["a"].to_string();
    let (_, truth) = sim.end().await;
    let told = trades_of(&truth, "binance").find(|trade| trade["trade_id"] == sent.as_str()).unwrap();
    assert_eq!(told["et"].as_i64().unwrap() / 1000, frames[0]["data"]["T"].as_i64().unwrap(), "the truth is what was served");
    assert!(near(off(told["t"].as_i64().unwrap() / 1000), 0), "its reception is by the right clock");
}

#[tokio::test]
async fn a_venue_goes_down_and_comes_back() {
    // Before the start, from which the faults' times count.
    let begun = Instant::now();
    let sim = Sim::faulty(
        config(3000.0),
        r#"
        [[fault]]
        action = "outage"
        venue = "binance"
        from = "1s"
        to = "2s"
        [[fault]]
        action = "outage"
        venue = "bybit"
        path = "/v5/public/linear"
        manner = "hang"
        from = "1s"
        to = "2s"
        [[fault]]
        action = "outage"
        venue = "bybit"
        path = "/v5/market/*"
        manner = "hang"
        from = "1s"
        to = "2s"
        "#,
    );
    let at = |millis: u64| begun.elapsed() >= Duration::from_millis(millis);
    let mut closed = sim.socket(TRADE_STREAM).await;
    let mut hangs = sim.socket("/bybit/v5/public/linear").await;
    let mut spot = sim.socket("/bybit/v5/public/spot").await;
    for (socket, topic) in [(&mut hangs, "publicTrade.BTCUSDT"), (&mut spot, "publicTrade.BTCUSDT")] {
        socket.send(&format!(r#"{{"op":"subscribe","args":["{topic}"]}}"#)).await;
        socket.until(|frame| frame["topic"] == topic).await;
    }
    assert_eq!(sim.get(TRADES).await.0, 200);
    assert!(!at(900), "too slow to tell");

    // The socket ends when the outage begins; what is asked then gets no answer.
    while closed.text().await.is_some() {}
    assert!(at(1000) && !at(1900));
    let refused = reqwest::get(sim.url(TRADES)).await.unwrap_err();
    assert!(!refused.is_timeout() && refused.status().is_none(), "{refused}");
    assert!(tokio_tungstenite::connect_async(format!("ws://{}{TRADE_STREAM}", sim.handle.address())).await.is_err());
    assert!(!at(1900), "at once");
    // The other hangs, and ends with the outage.
    hangs.ping("are you there").await;
    let last = async {
        let mut last = Instant::now();
        while hangs.text().await.is_some() {
            last = Instant::now();
        }
        (last, Instant::now())
    };
    let (asked, (last, end), _) = tokio::join!(reqwest::get(sim.url(TICKERS)), last, spot.until(|_| at(1900)));
    assert!(asked.is_err() && at(2000));
    assert!(last.duration_since(begun) < Duration::from_millis(1500) && end.duration_since(begun) >= Duration::from_secs(2));

    assert_eq!(sim.get(TRADES).await.0, 200, "it is back");
    sim.socket(TRADE_STREAM).await.text().await.expect("a frame");
    assert_eq!(sim.get(TICKERS).await.0, 200);
    assert!(spot.text().await.is_some(), "all the time");
    assert_eq!(sim.handle.counters().requests["binance/fapi/v1/trades"], 3, "what is not answered was asked, too");
    sim.end().await;
}

#[test]
fn each_scenario_can_be_run() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/faults");
    let mut text = String::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(path.extension().unwrap(), "toml", "{}", path.display());
        Faults::load(&path).unwrap_or_else(|error| panic!("{error}"));
        text += &std::fs::read_to_string(&path).unwrap();
    }
    let source = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/faults.rs")).unwrap();
    let actions: Vec<&str> = source
        .lines()
        .filter_map(|line| line.strip_prefix("//! | `")?.split_once("` | "))
        .filter(|(_, of)| of.contains('|'))
        .map(|(action, _)| action)
        .collect();
    assert!(actions.len() > 15, "{actions:?}");
    for action in actions.into_iter().filter(|action| *action != "action") {
        assert!(text.contains(&format!("action = \"{action}\"")), "no scenario shows `{action}`");
    }
}

#[test]
fn captures_have_no_clock() {
    let dir = tempfile::tempdir().unwrap();
    let (faults, play) = (dir.path().join("faults.toml"), dir.path().join("play.ndjson"));
    std::fs::write(&play, "").unwrap();
    std::fs::write(&faults, "[[fault]]\naction = \"clock_jump\"\nby = \"1s\"").unwrap();
    let refused = venue_sim::start(&Config { venues: Vec::new(), play: vec![play], faults: Some(faults), ..Config::default() }).err().unwrap();
    assert!(matches!(refused, Error::Setting(_)) && refused.to_string().contains("clock_jump"), "{refused}");
}
