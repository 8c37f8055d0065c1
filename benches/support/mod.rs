//! Input of the benchmarks: what the venues send, rendered once.
//!
//! Where `../shared/perf/gen_wire.py` is there, its seeded bytes are taken, so that figures compare between machines;
//! elsewhere the simulator's market, recorded over its own sockets, which has the same shape.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use collector::core::feed::{Reply, Turn};
use collector::core::profile::Method;
use collector::core::{Exchange, Feed, Market, Profile, Time, Venue};
use futures_util::{SinkExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;

/// Messages of a mix.
const MESSAGES: usize = 200_000;
/// Symbols of a mix.
pub(crate) const SYMBOLS: usize = 200;

/// Cycles of polls before the bodies repeat; repeated ones hold no news, since their ids have gone out.
const CYCLES: usize = 200;

/// One kind of input: the generator's name for it, and where the simulator serves the same.
struct Kind {
    venue: &'static str,
    name: &'static str,
    path: &'static str,
}

const INSTRUMENTS: [Kind; 2] = [
    Kind { venue: "binance", name: "rest_exchange_info", path: "/fapi/v1/exchangeInfo" },
    Kind { venue: "bybit", name: "rest_instruments", path: "/v5/market/instruments-info?category=linear&limit=1000" },
];
const BYBIT_TICKERS: Kind = Kind { venue: "bybit", name: "rest_tickers", path: "/v5/market/tickers?category=linear" };
const BINANCE_TICKERS: Kind = Kind { venue: "binance", name: "rest_ticker_24h", path: "/fapi/v1/ticker/24hr" };
const BINANCE_MARKS: Kind = Kind { venue: "binance", name: "rest_premium_index", path: "/fapi/v1/premiumIndex" };

fn generator() -> Option<PathBuf> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../shared/perf/gen_wire.py");
    path.exists().then_some(path)
}

/// Lines of the generator, kept in the target directory.
fn generate(script: &Path, venue: &str, kind: &str, symbols: usize, count: usize) -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/bench-input");
    std::fs::create_dir_all(&directory).expect("a directory for input");
    let kept = directory.join(format!("{venue}-{kind}-{symbols}-{count}.ndjson"));
    let text = std::fs::read_to_string(&kept).unwrap_or_else(|_| {
        let arguments = ["--venue", venue, "--kind", kind, "--symbols", &symbols.to_string(), "--count", &count.to_string(), "--seed", "1"];
        let output = Command::new("python3").arg(script).args(arguments).output().expect("python3");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        std::fs::write(&kept, &output.stdout).expect("input to keep");
        String::from_utf8(output.stdout).expect("text")
    });
    text.lines().map(str::to_owned).collect()
}

/// The simulator, moving fast.
fn simulator(venue: &str, symbols: usize) -> venue_sim::Handle {
    let config = venue_sim::Config { venues: vec![venue.to_owned()], symbols, rate: 100_000.0, limits: false, ..venue_sim::Config::default() };
    venue_sim::start(&config).expect("a simulator")
}

fn bodies(kind: &Kind, symbols: usize, count: usize) -> Vec<String> {
    if let Some(script) = generator() {
        return generate(&script, kind.venue, kind.name, symbols, count);
    }
    runtime().block_on(async {
        let simulator = simulator(kind.venue, symbols);
        let mut all = Vec::new();
        for _ in 0..count {
            let url = format!("http://{}/{}{}", simulator.address(), kind.venue, kind.path);
            all.push(reqwest::get(url).await.expect("an answer").text().await.expect("a body"));
        }
        simulator.shutdown().await.expect("an end");
        all
    })
}

fn runtime() -> tokio::runtime::Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime")
}

/// A mix of WebSocket messages: book deltas, trades, quotes or tickers, marks.
pub(crate) fn mix(venue: &'static str) -> &'static [String] {
    static BINANCE: OnceLock<Vec<String>> = OnceLock::new();
    static BYBIT: OnceLock<Vec<String>> = OnceLock::new();
    let kept = if venue == "binance" { &BINANCE } else { &BYBIT };
    kept.get_or_init(|| match generator() {
        Some(script) => generate(&script, venue, "mix", SYMBOLS, MESSAGES),
        None => runtime().block_on(record(venue)),
    })
}

async fn record(venue: &'static str) -> Vec<String> {
    let simulator = simulator(venue, SYMBOLS);
    let known = self::venue(venue, SYMBOLS);
    let names: Vec<String> = known.catalog.list(Market::Linear).iter().map(|instrument| instrument.venue_symbol.to_string()).collect();
    let (path, frame): (&str, fn(&str) -> String) = if venue == "binance" {
        ("/public/stream", |name| {
            let name = name.to_lowercase();
            format!(r#"{{"method":"SUBSCRIBE","params":["{name}@depth@100ms","{name}@trade","{name}@bookTicker"],"id":1}}"#)
        })
    } else {
        ("/v5/public/linear", |name| format!(r#"{{"req_id":"1","op":"subscribe","args":["orderbook.50.{name}","publicTrade.{name}","tickers.{name}"]}}"#))
    };
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{}/{venue}{path}", simulator.address())).await.expect("a connection");
    for name in &names {
        socket.send(Message::text(frame(name))).await.expect("a subscription");
    }
    let mut messages = Vec::with_capacity(MESSAGES);
    while messages.len() < MESSAGES {
        if let Message::Text(text) = socket.next().await.expect("a frame").expect("a frame")
            && text.contains("\"data\"")
        {
            messages.push(text.to_string());
        }
    }
    simulator.shutdown().await.expect("an end");
    messages
}

fn profile(name: &str) -> (&'static dyn Exchange, Profile) {
    let known = collector::venues::all().iter().map(|exchange| (*exchange, Profile::parse(exchange.policy()).expect("a description")));
    known.into_iter().find(|(_, profile)| profile.name == name).expect("a venue of that name")
}

/// A venue that knows its linear instruments.
pub(crate) fn venue(name: &'static str, symbols: usize) -> Venue {
    let (exchange, profile) = profile(name);
    let venue = Venue::new(exchange, profile);
    let kind = INSTRUMENTS.iter().find(|kind| kind.venue == name).expect("a kind of instruments");
    let mut feed = Feed::new(venue.clone(), Market::Linear);
    for body in bodies(kind, symbols, 1) {
        let reply = Reply { method: Method::Get, url: kind.path, request: None, status: 200, retry_after: None, payload: body.as_bytes(), memo: None };
        feed.reply(Time::EPOCH, &reply, &mut Turn::default()).expect("instruments");
    }
    venue
}

/// A venue whose REST interface is elsewhere, and does not count.
pub(crate) fn venue_at(name: &str, rest: &str) -> Venue {
    let (exchange, mut profile) = profile(name);
    profile.markets.values_mut().for_each(|surface| rest.clone_into(&mut surface.rest));
    // Cycles follow each other faster than the venue would allow.
    profile.limits.values_mut().for_each(|limit| limit.budget = 1_000_000);
    Venue::new(exchange, profile)
}

/// A body of Bybit's linear tickers.
pub(crate) fn bybit_tickers(symbols: usize) -> String {
    bodies(&BYBIT_TICKERS, symbols, 1).remove(0)
}

/// By path: what both venues answer to a cycle of `ticker,mark,funding`, a body for each of several cycles.
pub(crate) fn polled_bodies() -> Vec<(&'static str, Vec<String>)> {
    let path = |kind: &Kind| kind.path.split('?').next().unwrap_or_default();
    let [binance, bybit] = &INSTRUMENTS;
    vec![
        (path(binance), bodies(binance, 500, 1)),
        (path(bybit), bodies(bybit, 600, 1)),
        ("/fapi/v1/fundingInfo", vec!["[]".to_owned()]),
        (path(&BINANCE_TICKERS), bodies(&BINANCE_TICKERS, 500, CYCLES)),
        (path(&BINANCE_MARKS), bodies(&BINANCE_MARKS, 500, CYCLES)),
        (path(&BYBIT_TICKERS), bodies(&BYBIT_TICKERS, 600, CYCLES)),
    ]
}
