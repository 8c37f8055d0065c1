//! What goes out of the binary is what the venues served: against the truth of the simulator, against the binary's own
//! captures, and one collector against another.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use serde_json::Value;
use support::{Events, Line, Place, Running, STREAMED, Sim, Stdout, assert_decoded, assert_same, eventually, get, market};
use venue_sim::Config;

/// All types that the simulator's truth knows and that can be streamed.
const TYPES: [&str; 9] = ["ticker", "quote", "mark", "funding", "open_interest", "trade", "book", "liquidation", "candle"];
/// Everything that can be polled, the past aside.
const POLLED: &str = "ticker,quote,mark,funding,open_interest,trade,book,candle:1m";
/// What is promised, in events a second.
const RATE: usize = 20_000;

#[test]
fn what_is_streamed_is_the_truth_at_20000_events_a_second() {
    let _alone = support::alone();
    let place = Place::new();
    let (simulator, options) = place.simulator("--exchanges binance,bybit --symbols 40 --rate 28000 --truth truth.ndjson --for 5s");
    let mut command =
        place.collector("run --exchanges binance,bybit --markets spot,linear,inverse --mode stream --all-events --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(["--channels", STREAMED]).args(options), Stdout::Collect);
    simulator.finish().ok();
    run.settle();
    run.stop().ok();

    let (truth, seen) = (Events::read(&place.path("truth.ndjson")), Events::of_sink(&place.path("out")));
    assert_same(&truth, &seen, &TYPES);
    seen.assert_once();
    // The simulator ended, and every connection with it: nothing else was missed.
    assert_eq!(seen.of(&["gap"]).count(), seen.gaps("disconnect").len());
    assert_eq!(seen.of(&["decode_error"]).count(), 0);
    assert!(seen.seconds_with(RATE) >= 2, "{} events", seen.len());
}

#[test]
fn what_is_polled_is_the_truth_at_20000_events_a_second() {
    let _alone = support::alone();
    let place = Place::new();
    // Answers that are under way when one side ends would be known to the other alone: from here on there are none.
    place.write("faults.toml", "[[fault]]\naction = \"status\"\nstatus = 503\nfrom = \"4s\"");
    let (simulator, options) = place.simulator("--exchanges binance,bybit --symbols 1200 --rate 20000 --truth truth.ndjson --faults faults.toml --for 1m");
    let mut command = place.collector(
        "run --exchanges binance,bybit --markets spot,linear,inverse --mode poll --interval 500ms --all-events --sink file:out --listen off --for 5s",
    );
    let finished = Running::start(command.args(["--channels", POLLED]).args(options), Stdout::Collect).finish().ok();
    simulator.stop().ok();

    let (truth, seen) = (Events::read(&place.path("truth.ndjson")), Events::of_sink(&place.path("out")));
    assert_same(&truth, &seen, &TYPES);
    seen.assert_once();
    assert_eq!(seen.of(&["gap"]).count(), 0);
    // What a venue has not changed since it says again, as the same fact: that was seen as well, and went out once.
    let records: u64 = ["binance", "bybit"].map(|venue| finished.summary(venue)).iter().map(|[events, _, duplicates, ..]| events + duplicates).sum();
    let times = || truth.of(&TYPES).map(Line::received);
    let seconds = (times().max().unwrap() - times().min().unwrap()) / 1_000_000 + 1;
    assert!(records >= seconds.unsigned_abs() * RATE as u64, "{records} records in {seconds} s");
}

/// One book frame of each of these is lost: venue, market, the path of its socket, the book's topic.
const DROPPED: [(&str, &str, &str, &str); 6] = [
    ("binance", "inverse", "/stream", "btcusd_perp@depth@100ms"),
    ("binance", "linear", "/public/stream", "btcusdt@depth@100ms"),
    ("binance", "spot", "/stream", "btcusdt@depth@100ms"),
    ("bybit", "inverse", "/v5/public/inverse", "orderbook.50.BTCUSD"),
    ("bybit", "linear", "/v5/public/linear", "orderbook.50.BTCUSDT"),
    ("bybit", "spot", "/v5/public/spot", "orderbook.50.BTCUSDT"),
];

#[test]
fn a_capture_decodes_to_what_went_out() {
    let _alone = support::alone();
    let place = Place::new();
    let dropped = |(venue, _, path, topic)| {
        format!("[[fault]]\naction = \"drop_frame\"\nvenue = \"{venue}\"\npath = \"{path}\"\ntopic = \"{topic}\"\nafter = 30\ncount = 1\n")
    };
    let mut faults = DROPPED.map(dropped).concat();
    faults += "[[fault]]\naction = \"broken_frame\"\nvenue = \"bybit\"\ntopic = \"publicTrade.*\"\nafter = 20\ncount = 3\n";
    faults += "[[fault]]\naction = \"broken_json\"\nvenue = \"binance\"\npath = \"/fapi/v1/fundingInfo\"\ncount = 1\n";
    faults += "[[fault]]\naction = \"close\"\nvenue = \"bybit\"\npath = \"/v5/public/spot\"\ntopic = \"orderbook.1.*\"\nafter = 300\ncount = 1\ncode = 1001\n";
    let sim = Sim::faulty(market(6, 3000.0), &faults);
    let mut command = place.collector(
        "run --exchanges binance,bybit --markets spot,linear,inverse --mode stream --all-events --sink file:out --capture captures --listen 127.0.0.1:0",
    );
    let run = Running::start(command.args(["--channels", STREAMED]).args(sim.options()), Stdout::Collect);
    eventually("all faults", || {
        let metrics = run.metrics();
        let disconnected = support::metric(&metrics, "collector_reconnects_total", &[]) >= 1;
        let errors = support::metric(&metrics, "collector_decode_errors_total", &[]) >= 4;
        (disconnected && errors && support::metric(&metrics, "collector_events_total", &[]) >= 8000).then_some(())
    });
    run.stop().ok();

    let seen = Events::of_sink(&place.path("out"));
    let decoded = place.decode("captures");
    assert_eq!(decoded.status, Some(3), "some lines could not be decoded: {}", decoded.stderr);
    let decoded = Events::parse(&decoded.stdout);
    assert!(decoded.lines().map(Line::json).all(|event| event["line"].as_u64().is_some_and(|line| line > 0)));

    let mut gaps: Vec<_> = seen.gaps("sequence").iter().map(|gap| ["venue", "market", "channel"].map(|key| gap[key].as_str().unwrap().to_owned())).collect();
    gaps.sort();
    assert_eq!(gaps, DROPPED.map(|(venue, market, ..)| [venue, market, "book"].map(str::to_owned)), "one gap for each frame that was lost");
    assert_eq!(seen.of(&["decode_error"]).count(), 4, "one for each message that was cut in half");
    assert!(!seen.gaps("disconnect").is_empty());

    assert_decoded(&seen, &decoded, &[&TYPES[..], &["gap", "decode_error"]].concat());
}

/// What `/api/digest` says, by venue, market and channel.
fn digests(address: SocketAddr) -> BTreeMap<[String; 3], String> {
    let (status, body) = get(address, "/api/digest");
    assert_eq!(status, 200);
    let all: Vec<Value> = serde_json::from_str(&body).unwrap();
    let word = |entry: &Value, key: &str| entry[key].as_str().unwrap().to_owned();
    all.iter().map(|entry| (["venue", "market", "channel"].map(|key| word(entry, key)), word(entry, "digest"))).collect()
}

#[test]
fn who_polls_and_who_streams_know_the_same() {
    let _alone = support::alone();
    let sim = Sim::start(Config { events: Some(12_000), ..market(12, 6000.0) });
    let place = Place::new();
    let start = |more: &str| {
        let mut command = place
            .collector("run --exchanges binance,bybit --markets linear,inverse --channels ticker,mark,funding,open_interest --sink null: --listen 127.0.0.1:0");
        Running::start(command.args(more.split(' ')).args(sim.options()), Stdout::Collect)
    };
    let polling = start("--name polling --mode poll --interval 500ms");
    let streaming = start("--name streaming --mode stream --fold");
    sim.still();
    // Open interest is asked for one instrument after the other: when all were asked for twice, the last value is known.
    for path in ["binance/fapi/v1/openInterest", "binance/dapi/v1/openInterest"] {
        let before = sim.requests(path);
        eventually("all open interest", || (sim.requests(path) >= before + 2 * 12).then_some(()));
    }

    let both = || {
        let (polled, streamed) = (digests(polling.address()), digests(streaming.address()));
        let differing: Vec<[String; 3]> = streamed.iter().filter(|(key, digest)| polled.get(*key) != Some(digest)).map(|(key, _)| key.clone()).collect();
        (polled, streamed, differing)
    };
    let agreed = || eventually("equal digests", || Some(both()).filter(|(_, streamed, differing)| streamed.len() == 14 && differing.is_empty()));
    let (polled, streamed, _) = agreed();
    assert_eq!(polled.len(), 16, "four channels of two markets of two venues");
    let only_polled: Vec<_> = polled.keys().filter(|key| !streamed.contains_key(*key)).map(|key| key.join(" ")).collect();
    assert_eq!(only_polled, ["binance inverse open_interest", "binance linear open_interest"], "Binance does not stream it");

    for (venue, symbol) in [("bybit", "BTCUSDT"), ("binance", "BTCUSDT")] {
        let (before_polled, before_streamed, _) = agreed();
        assert!(sim.handle().nudge(venue, exchange_core::Market::Linear, symbol));
        let key = [venue, "linear", "ticker"].map(str::to_owned);
        let (polled, streamed, _) = eventually("the change at both", || {
            Some(both()).filter(|(polled, streamed, _)| polled[&key] != before_polled[&key] && streamed[&key] != before_streamed[&key])
        });
        for (before, after) in [(before_polled, polled), (before_streamed, streamed)] {
            let changed: Vec<_> = after.iter().filter(|(key, digest)| before.get(*key) != Some(digest)).map(|(key, _)| key).collect();
            assert_eq!(changed, [&key], "one value changes one digest");
        }
        agreed();
    }

    let finished = streaming.stop().ok();
    let left_out: Vec<&str> = finished.stderr.lines().filter(|line| line.contains("left out")).collect();
    assert_eq!(left_out, ["binance: does not serve open_interest by WebSocket for linear, inverse: left out"]);
    polling.stop().ok();
}
