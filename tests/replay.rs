//! `collector replay`: captures through the whole pipeline give what the run gave that captured them.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;

use rustix::process::Signal;
use support::{Events, Place, Running, STREAMED, Stdout, assert_decoded, eventually, files};

/// Collects from simulated venues into `live`, captures into `archive`.
fn collect(place: &Place, arguments: &str, events: u64) {
    let (_simulator, options) = place.simulator("--exchanges bybit,binance --symbols 8 --rate 5000 --for 120s");
    let command = format!("run --exchanges bybit,binance --listen 127.0.0.1:0 --log json --sink file:live --capture archive {arguments}");
    let run = Running::start(place.collector(&command).args(&options), Stdout::Collect);
    run.wait_for_events(events);
    run.stop().ok();
}

/// The types that were asked for, and what else is in the captures.
fn types(channels: &str) -> Vec<&str> {
    channels.split(',').map(|channel| channel.split(':').next().unwrap()).chain(["gap", "decode_error"]).collect()
}

#[test]
fn what_was_streamed_comes_out_again() {
    let place = Place::new();
    collect(&place, &format!("--channels {STREAMED} --mode stream"), 5000);
    place.run(&format!("replay archive --channels {STREAMED} --markets linear --sink file:again")).ok();
    let (live, again) = (Events::of_sink(&place.path("live")), Events::of_sink(&place.path("again")));
    assert_decoded(&live, &again, &types(STREAMED));
    again.assert_once();
    // Each instrument's events in the order in which they went out.
    let ordered = |events: &Events| {
        let mut trades: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for line in events.of(&["trade"]) {
            let trade = line.json();
            trades.entry(format!("{}{}", trade["venue"], trade["venue_symbol"])).or_default().push(line.id().to_owned());
        }
        trades
    };
    assert_eq!(ordered(&live), ordered(&again));

    // Without a choice, it is everything.
    let all = place.run("replay archive --sink stdout:").ok();
    let all = Events::parse(&all.stdout);
    assert!(all.len() > again.len() && all.of(&["instrument"]).count() > 0);
    let some = place.run("replay archive --exchanges bybit --symbols BTC/* --channels trade --sink stdout:").ok();
    let some = Events::parse(&some.stdout);
    let wanted =
        live.of(&["trade"]).map(support::Line::json).filter(|trade| trade["venue"] == "bybit" && trade["symbol"].as_str().unwrap().starts_with("BTC/")).count();
    assert_eq!(some.len(), wanted);
    assert!(wanted > 0);
}

#[test]
fn what_was_polled_comes_out_again() {
    let place = Place::new();
    let channels = "ticker,mark,funding,open_interest";
    collect(&place, "--mode poll --interval 300ms", 1500);
    let finished = place.run("replay archive --channels ticker,mark,funding,open_interest --markets linear --sink file:again --name again").ok();
    let (live, again) = (Events::of_sink(&place.path("live")), Events::of_sink(&place.path("again")));
    assert_decoded(&live, &again, &types(channels));
    let passed: u64 = ["bybit", "binance"].iter().map(|venue| finished.summary(venue)[0]).sum();
    assert_eq!(passed, again.len() as u64);
    let audit = place.run("audit --name again").ok();
    assert!(audit.stdout.contains("100.00 %"), "{}", audit.stdout);
}

#[test]
fn a_signal_ends_a_replay_in_good_order() {
    let place = Place::new();
    collect(&place, "--channels trade", 500);
    // What took seconds takes hours.
    let replay = Running::start(&mut place.collector("replay archive --speed 0.0001x --log text --sink file:slow"), Stdout::Collect);
    eventually("a file", || place.path("slow").exists().then(|| files(&place.path("slow"))).filter(|files| !files.is_empty()));
    replay.signal(Signal::TERM);
    let ended = replay.finish().ok();
    let slow = Events::of_sink(&place.path("slow"));
    assert!(slow.len() < Events::of_sink(&place.path("live")).len(), "it was slow");
    assert_eq!(["bybit", "binance"].iter().map(|venue| ended.summary(venue)[0]).sum::<u64>(), slow.len() as u64);
}

#[test]
fn what_cannot_be_replayed_is_named() {
    let place = Place::new();
    let capture = |venue: &str| format!(r#"{{"t":1,"venue":"{venue}","market":"linear","source":"ws wss://h","payload":"[]"}}"#);
    place.write("strange.ndjson", &format!("\nno capture\n{}\n{}\n", capture("bybti"), capture("bybit")));
    let finished = place.run("replay strange.ndjson --sink stdout:");
    assert_eq!(finished.status, Some(3), "{}", finished.stderr);
    for said in [
        "strange.ndjson:2: not a capture line: is not an object at byte 0",
        "strange.ndjson:3: `bybti` is no venue that is known here (",
        "2 lines were no captures",
        "bybit: 1 events, 0 unchanged, 0 duplicates, 0 gaps, 1 errors",
    ] {
        assert!(finished.stderr.contains(said), "{said}: {}", finished.stderr);
    }
    assert_eq!(Events::parse(&finished.stdout).of(&["decode_error"]).count(), 1);
    for (arguments, what) in [
        ("replay none.ndjson", "cannot open none.ndjson: No such file"),
        ("replay . --speed fast", "--speed: `fast` is no speed (such as 1x, 10x, 0.5x, max)"),
        ("replay strange.ndjson --sink fiel:x", "did you mean `file:`?"),
        ("replay strange.ndjson --channels tikcer", "tikcer"),
    ] {
        let refused = place.run(arguments);
        assert_eq!(refused.status, Some(2), "{arguments}: {}", refused.stderr);
        assert!(refused.stderr.contains(what), "{arguments}: {}", refused.stderr);
    }
}
