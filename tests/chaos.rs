//! What goes wrong at the venues costs what it must and no more: refusals, broken answers, lost connections, repetitions.
#![cfg(unix)]

mod support;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use support::{Events, Place, Running, Sim, Stdout, assert_decoded, assert_same, eventually, market, metric};
use venue_sim::Config;

const TYPES: [&str; 7] = ["ticker", "quote", "mark", "funding", "open_interest", "trade", "book"];

/// From here on nothing is answered any more: what is under way when a run ends would be known to the simulator alone.
const END: &str = "[[fault]]\naction = \"status\"\nstatus = 503\nfrom = \"4s\"\n";

/// Waits for the next request to a path; when it was seen.
fn next_request(sim: &Sim, path: &str) -> Instant {
    let before = sim.requests(path);
    eventually(path, || (sim.requests(path) > before).then(Instant::now))
}

/// The third request to `refused` is answered with `status` and `Retry-After: 3`. Until then, none of `silent` is asked
/// for, while `others` are.
fn waits_as_told(status: u16, outcome: &str, refused: &str, silent: &[&str], others: &[&str]) {
    let place = Place::new();
    let (venue, path) = refused.split_once('/').unwrap();
    let sim = Sim::faulty(
        market(5, 500.0),
        &format!("[[fault]]\naction = \"status\"\nstatus = {status}\nretry_after = 3\nvenue = \"{venue}\"\npath = \"/{path}\"\nafter = 2\ncount = 1"),
    );
    let mut command = place.collector(
        "run --exchanges binance,bybit --markets spot,linear --channels ticker,mark,funding --mode poll --interval 250ms --sink null: --listen 127.0.0.1:0",
    );
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    eventually("the third request", || (sim.requests(refused) >= 3).then_some(()));
    let since = Instant::now();
    eventually("the refusal", || (metric(&run.metrics(), "collector_http_requests_total", &[("venue", venue), ("outcome", outcome)]) >= 1).then_some(()));
    // What was under way at that moment comes in, too.
    std::thread::sleep(Duration::from_millis(250));
    let before: Vec<u64> = silent.iter().map(|path| sim.requests(path)).collect();
    let others_before: Vec<u64> = others.iter().map(|path| sim.requests(path)).collect();
    while since.elapsed() < Duration::from_millis(2600) {
        let now: Vec<u64> = silent.iter().map(|path| sim.requests(path)).collect();
        assert_eq!(now, before, "{silent:?} after {:?}", since.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    for (path, before) in others.iter().zip(others_before) {
        assert!(sim.requests(path) >= before + 4, "{path} has nothing to do with it");
    }
    next_request(&sim, refused);
    let metrics = run.metrics();
    assert_eq!(metric(&metrics, "collector_http_requests_total", &[("venue", venue), ("outcome", outcome)]), 1);
    assert_eq!(metric(&metrics, "collector_circuit_state", &[]), 0, "to be told to wait is no failure");
    run.stop().ok();
}

#[test]
fn a_limit_that_is_used_up_is_left_alone_as_long_as_told() {
    let silent = ["binance/fapi/v1/premiumIndex", "binance/fapi/v1/ticker/24hr"];
    waits_as_told(429, "rate_limited", silent[0], &silent, &["binance/api/v3/ticker/24hr", "bybit/v5/market/tickers"]);
}

#[test]
fn a_venue_that_bans_is_left_alone_as_long_as_told() {
    let silent = ["binance/fapi/v1/premiumIndex", "binance/fapi/v1/ticker/24hr", "binance/api/v3/ticker/24hr", "binance/api/v3/exchangeInfo"];
    waits_as_told(418, "banned", silent[0], &silent, &["bybit/v5/market/tickers"]);
}

#[test]
fn broken_answers_are_counted_and_cost_only_themselves() {
    let place = Place::new();
    let fault = |action: &str, venue: &str, path: &str| format!("[[fault]]\n{action}\nvenue = \"{venue}\"\npath = \"{path}\"\nafter = 2\ncount = 2\n");
    let faults = [
        fault("action = \"status\"\nstatus = 502\nbody = \"html\"", "bybit", "/v5/market/tickers"),
        fault("action = \"status\"\nstatus = 500\nbody = \"empty\"", "binance", "/dapi/v1/premiumIndex"),
        fault("action = \"broken_json\"", "binance", "/fapi/v1/ticker/24hr"),
        END.to_owned(),
    ];
    let sim = Sim::faulty(market(10, 1000.0), &faults.concat());
    let mut command = place.collector("run --exchanges binance,bybit --markets linear,inverse --mode poll --interval 250ms --all-events --sink file:out --capture captures --listen 127.0.0.1:0");
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    eventually("the end", || run.stderr().contains("503").then_some(()));
    run.settle();
    let metrics = run.metrics();
    run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    assert_same(&truth, &seen, &TYPES);
    let decoded = place.decode("captures");
    assert_eq!(decoded.status, Some(3), "{}", decoded.stderr);
    assert_decoded(&seen, &Events::parse(&decoded.stdout), &[&TYPES[..], &["decode_error"]].concat());

    let reasons: Vec<String> = seen.of(&["decode_error"]).map(|error| error.json()["reason"].as_str().unwrap().to_owned()).collect();
    let count = |start: &str| reasons.iter().filter(|reason| reason.starts_with(start)).count();
    assert_eq!((count("transient: HTTP 502, an HTML page"), count("transient: HTTP 500"), count("malformed: ")), (2, 2, 2), "{reasons:#?}");
    let counted =
        |venue, endpoint, outcome| metric(&metrics, "collector_http_requests_total", &[("venue", venue), ("endpoint", endpoint), ("outcome", outcome)]);
    assert_eq!(counted("binance", "ticker_24h", "malformed"), 2);
    assert!(counted("bybit", "tickers", "transient") >= 2 && counted("binance", "premium_index", "transient") >= 2);
    assert_eq!(metric(&metrics, "collector_decode_errors_total", &[]), reasons.len() as u64);

    // Each of them answered again after that, and what they serve went on.
    for (venue, market, kind) in [("bybit", "linear", "ticker"), ("binance", "inverse", "mark"), ("binance", "linear", "ticker")] {
        let of = |line: &support::Line<'_>| line.json()["venue"] == venue && line.json()["market"] == market;
        let broken =
            seen.of(&["decode_error"]).filter(of).filter(|line| !line.json()["reason"].as_str().unwrap().contains("503")).map(support::Line::received).max();
        let last = seen.of(&[kind]).filter(of).map(support::Line::received).max();
        assert!(last > broken, "{venue} {market} {kind}");
    }
}

#[test]
fn a_lost_connection_is_a_gap_for_what_it_carried_and_no_loss_after_it() {
    let place = Place::new();
    let faults = [
        "[[fault]]\naction = \"close\"\nvenue = \"bybit\"\npath = \"/v5/public/linear\"\ntopic = \"publicTrade.*\"\nafter = 100\ncount = 1\ncode = 1001\n",
        "[[fault]]\naction = \"close\"\nvenue = \"binance\"\npath = \"/stream\"\ntopic = \"*@depth@100ms\"\nafter = 200\ncount = 1\n",
    ];
    let sim = Sim::faulty(Config { events: Some(12_000), ..market(6, 3000.0) }, &faults.concat());
    let mut command = place.collector(
        "run --exchanges binance,bybit --markets spot,linear --channels trade,book,ticker --mode stream --all-events --sink file:out --listen 127.0.0.1:0",
    );
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    sim.still();
    run.settle();
    assert_eq!(metric(&run.metrics(), "collector_reconnects_total", &[]), 2);
    run.stop().ok();
    let (summary, truth) = sim.end();
    assert_eq!(summary.counters.opened, 7, "one for each surface, Binance's USD-M has two, and two that were opened again");
    let seen = Events::of_sink(&place.path("out"));
    assert_same(&truth.since_first_of(&seen), &seen, &["trade", "book", "ticker"]);
    seen.assert_once();

    let gaps = seen.gaps("disconnect");
    let word = |gap: &serde_json::Value, key: &str| gap[key].as_str().unwrap().to_owned();
    let of: BTreeSet<_> = gaps.iter().map(|gap| ["venue", "market", "channel"].map(|key| word(gap, key))).collect();
    let wanted = [("binance", "spot"), ("bybit", "linear")]
        .into_iter()
        .flat_map(|(venue, market)| ["book", "ticker", "trade"].map(|channel| [venue, market, channel].map(str::to_owned)));
    assert_eq!(of, wanted.collect(), "and of no other connection");
    assert_eq!(
        gaps.iter().map(|gap| [word(gap, "venue"), word(gap, "channel"), word(gap, "venue_symbol")]).collect::<BTreeSet<_>>().len(),
        gaps.len(),
        "one for each channel and instrument"
    );
    for gap in &gaps {
        let after = seen.of(&["trade", "book", "ticker"]).map(support::Line::received).any(|received| received > gap["t"].as_i64().unwrap());
        assert!(after && gap["from"].as_str().unwrap().parse::<i64>().unwrap() <= gap["t"].as_i64().unwrap());
    }
}

#[test]
fn what_a_venue_sends_twice_goes_out_once() {
    let place = Place::new();
    let sim = Sim::faulty(Config { events: Some(6000), ..market(6, 3000.0) }, "[[fault]]\naction = \"repeat_frame\"\nprobability = 0.3");
    let mut command =
        place.collector("run --exchanges binance,bybit --markets spot,linear,inverse --mode stream --all-events --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(["--channels", support::STREAMED]).args(sim.options()), Stdout::Collect);
    sim.still();
    run.settle();
    let finished = run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    assert_same(&truth, &seen, &[&TYPES[..], &["liquidation", "candle"]].concat());
    seen.assert_once();
    assert_eq!(seen.of(&["gap"]).count(), 0, "what comes twice breaks no book");
    for venue in ["binance", "bybit"] {
        let [events, _, duplicates, ..] = finished.summary(venue);
        assert!(duplicates > events / 10, "{duplicates} of {events}");
    }
}
