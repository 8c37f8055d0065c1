//! Input of the benchmarks: what the venues send, rendered once.
//!
//! Where `../shared/perf/gen_wire.py` is there, its seeded bytes are taken, so that figures compare between machines;
//! elsewhere the simulator's market, recorded over its own sockets, which has the same shape. What neither of them speaks
//! is taken from the venues' fixtures.

#![allow(dead_code, reason = "each benchmark uses its part")]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use collector::core::capture::{Capture, CaptureSource};
use collector::core::feed::{Reply, Turn};
use collector::core::profile::Method;
use collector::core::{Body, Exchange, Feed, Market, Profile, Time, Venue};
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

const INSTRUMENTS: [Kind; 4] = [
    Kind { venue: "binance", name: "rest_exchange_info", path: "/fapi/v1/exchangeInfo" },
    Kind { venue: "bybit", name: "rest_instruments", path: "/v5/market/instruments-info?category=linear&limit=1000" },
    Kind { venue: "gate", name: "rest_contracts", path: "/api/v4/futures/usdt/contracts" },
    Kind { venue: "okx", name: "rest_instruments", path: "/api/v5/public/instruments?instType=SWAP" },
];
/// Lists of all instruments that the generator alone knows.
const LISTS: [Kind; 6] = [
    Kind { venue: "gate", name: "rest_contracts", path: "/api/v4/futures/usdt/contracts" },
    Kind { venue: "gate", name: "rest_tickers", path: "/api/v4/futures/usdt/tickers" },
    Kind { venue: "okx", name: "rest_tickers", path: "/api/v5/market/tickers?instType=SWAP" },
    Kind { venue: "okx", name: "rest_mark_price", path: "/api/v5/public/mark-price?instType=SWAP" },
    Kind { venue: "okx", name: "rest_funding_rate", path: "/api/v5/public/funding-rate?instId=ANY" },
    Kind { venue: "okx", name: "rest_open_interest", path: "/api/v5/public/open-interest?instType=SWAP" },
];
const BYBIT_TICKERS: Kind = Kind { venue: "bybit", name: "rest_tickers", path: "/v5/market/tickers?category=linear" };
const BINANCE_TICKERS: Kind = Kind { venue: "binance", name: "rest_ticker_24h", path: "/fapi/v1/ticker/24hr" };
const BINANCE_MARKS: Kind = Kind { venue: "binance", name: "rest_premium_index", path: "/fapi/v1/premiumIndex" };

/// Whether the generator is at hand, which speaks for more venues than the simulator.
pub(crate) fn has_generator() -> bool {
    generator().is_some()
}

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
    static OKX: OnceLock<Vec<String>> = OnceLock::new();
    let kept = match venue {
        "binance" => &BINANCE,
        "bybit" => &BYBIT,
        _ => &OKX,
    };
    kept.get_or_init(|| {
        if let Some(script) = generator() {
            return generate(&script, venue, "mix", SYMBOLS, MESSAGES);
        }
        let known = self::venue(venue, SYMBOLS).catalog.list(Market::Linear);
        runtime().block_on(record(venue, known.iter().map(|instrument| instrument.venue_symbol.to_string()).collect()))
    })
}

async fn record(venue: &'static str, names: Vec<String>) -> Vec<String> {
    let simulator = simulator(venue, SYMBOLS);
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

/// A body of each list that the generator alone knows: venue, name, path, body.
pub(crate) fn lists(symbols: usize) -> Vec<(&'static str, &'static str, &'static str, String)> {
    let known = has_generator().then_some(LISTS).into_iter().flatten();
    known.map(|kind| (kind.venue, kind.name.trim_start_matches("rest_"), kind.path, bodies(&kind, symbols, 1).remove(0))).collect()
}

/// Messages of a venue's fixtures that can be decoded again and again, each by the feed of its connection.
pub(crate) struct Sample {
    feeds: Vec<Feed>,
    messages: Vec<(usize, Capture)>,
    /// Events of one pass.
    pub(crate) events: usize,
    /// Bytes of one pass.
    pub(crate) bytes: usize,
}

impl Sample {
    /// Decodes everything once; `each` gets what each message gave.
    pub(crate) fn pass(&mut self, turn: &mut Turn, mut each: impl FnMut(&Turn)) {
        for (at, capture) in &self.messages {
            decode(&mut self.feeds[*at], capture, turn);
            each(turn);
            turn.events.clear();
            turn.controls.clear();
            turn.send.clear();
            turn.fetch.clear();
            turn.resync.clear();
        }
    }

    /// Leaves out what gives no event, an error, or (the second time) a gap.
    fn settle(&mut self) {
        let mut turn = Turn::default();
        loop {
            let mut kept = Vec::new();
            let (mut events, mut bytes) = (0, 0);
            self.pass(&mut turn, |turn| {
                let plain = |event: &collector::core::Event| !matches!(event.body, Body::DecodeError(_) | Body::Gap(_));
                kept.push(!turn.events.is_empty() && turn.controls.is_empty() && turn.events.iter().all(plain));
                events += turn.events.len();
            });
            let all = kept.iter().all(|kept| *kept);
            let mut kept = kept.into_iter();
            self.messages.retain(|_| kept.next() == Some(true));
            self.messages.iter().for_each(|(_, capture)| bytes += capture.payload.len());
            (self.events, self.bytes) = (events, bytes);
            if all {
                return;
            }
        }
    }
}

fn decode(feed: &mut Feed, capture: &Capture, turn: &mut Turn) {
    match capture.source() {
        Some(CaptureSource::Http(method, url)) => {
            let (request, status) = (capture.request.as_deref(), capture.status.unwrap_or(200));
            let reply = Reply { method, url, request, status, retry_after: None, payload: &capture.payload, memo: None };
            // A refusal is among the events.
            drop(feed.reply(Time::from_millis(1), &reply, turn));
        }
        Some(CaptureSource::Ws(url)) => feed.frame(Time::from_millis(1), url, &capture.payload, turn),
        None => {}
    }
}

/// A venue's fixtures by how they come: `ws` and `rest` (JSON), `binary`.
pub(crate) fn fixtures(name: &str) -> Vec<(&'static str, Sample)> {
    let (exchange, profile) = profile(name);
    let venue = Venue::new(exchange, profile);
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/exchange-venues/src").join(name).join("fixtures");
    let mut files: Vec<PathBuf> = std::fs::read_dir(folder).expect("fixtures").map(|entry| entry.expect("a file").path()).collect();
    files.retain(|path| !path.to_string_lossy().ends_with(".events.ndjson"));
    files.sort();
    let mut samples: Vec<(&str, Sample)> = ["rest", "ws", "binary"].map(|kind| (kind, Sample { feeds: vec![], messages: vec![], events: 0, bytes: 0 })).into();
    let mut connections = std::collections::HashMap::new();
    for (number, path) in files.iter().enumerate() {
        for line in std::fs::read_to_string(path).expect("a fixture").lines().filter(|line| !line.trim().is_empty()) {
            let mut capture = Capture::default();
            capture.read(line.as_bytes()).expect("a capture");
            let market = capture.market.expect("a market");
            let (kind, source) = match (capture.source(), std::str::from_utf8(&capture.payload)) {
                (Some(CaptureSource::Http(..)), _) => (0, String::new()),
                (_, Ok(_)) => (1, capture.source.clone()),
                (_, Err(_)) => (2, capture.source.clone()),
            };
            let sample = &mut samples[kind].1;
            let at = *connections.entry((kind, market, source, capture.conn, number)).or_insert_with(|| {
                sample.feeds.push(Feed::new(venue.clone(), market));
                sample.feeds.len() - 1
            });
            sample.messages.push((at, capture));
        }
    }
    for (_, sample) in &mut samples {
        sample.settle();
    }
    samples.retain(|(_, sample)| !sample.messages.is_empty());
    samples
}

/// By path: what both venues answer to a cycle of `ticker,mark,funding`, a body for each of several cycles.
pub(crate) fn polled_bodies() -> Vec<(&'static str, Vec<String>)> {
    let path = |kind: &Kind| kind.path.split('?').next().unwrap_or_default();
    let [binance, bybit, ..] = &INSTRUMENTS;
    vec![
        (path(binance), bodies(binance, 500, 1)),
        (path(bybit), bodies(bybit, 600, 1)),
        ("/fapi/v1/fundingInfo", vec!["[]".to_owned()]),
        (path(&BINANCE_TICKERS), bodies(&BINANCE_TICKERS, 500, CYCLES)),
        (path(&BINANCE_MARKS), bodies(&BINANCE_MARKS, 500, CYCLES)),
        (path(&BYBIT_TICKERS), bodies(&BYBIT_TICKERS, 600, CYCLES)),
    ]
}
