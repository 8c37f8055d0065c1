//! Sockets that are open and dead, topics that are acknowledged and silent, frames that are noise, books with holes: noticed,
//! told, and healed, each for itself.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use serde_json::Value;
use support::{Events, Place, Running, Sim, Stdout, assert_same, eventually, get, market, metric};
use venue_sim::Config;

fn word(event: &Value, key: &str) -> String {
    event[key].as_str().unwrap_or_default().to_owned()
}

/// The events of these types but of some instruments'.
fn of_others(events: &Events, kind: &str, not: &BTreeSet<String>) -> BTreeSet<String> {
    let others = events.of(std::slice::from_ref(&kind)).map(support::Line::json).filter(|event| !not.contains(&word(event, "venue_symbol")));
    others.map(|event| word(&event, "id")).collect()
}

/// Waits for some hundreds of trades more.
fn more_trades(run: &Running) {
    let trades = || metric(&run.metrics(), "collector_events_total", &[("channel", "trade")]);
    let before = trades();
    eventually("more trades", || (trades() >= before + 300).then_some(()));
}

#[test]
fn a_topic_that_is_acknowledged_and_silent_is_healed_alone() {
    let place = Place::new();
    let faults = "[[fault]]\naction = \"silent_topic\"\nvenue = \"bybit\"\npath = \"/v5/public/linear\"\ntopic = \"publicTrade.*\"\nafter = 1\ncount = 1\n";
    let sim = Sim::faulty(Config { duration: Some(Duration::from_secs(24)), ..market(4, 400.0) }, faults);
    let mut command =
        place.collector("run --exchanges bybit --markets linear --channels trade --mode stream --all-events --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    let since = Instant::now();
    // Some seconds until it is known how often trades come, twice that until the silence is decided upon.
    eventually("the topic is begun anew", || (metric(&run.metrics(), "collector_resubscriptions_total", &[("venue", "bybit")]) == 1).then_some(()));
    assert!(since.elapsed() < Duration::from_secs(20), "{:?}", since.elapsed());
    more_trades(&run);
    assert_eq!(metric(&run.metrics(), "collector_reconnects_total", &[]), 0, "the socket is in order");
    assert_eq!(sim.handle().counters().opened, 1);
    sim.still();
    run.settle();
    run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    let gaps = seen.gaps("disconnect");
    assert_eq!(gaps.len(), 1, "of no other instrument");
    let silent = word(&gaps[0], "venue_symbol");
    let after = |trade: &Value| word(trade, "venue_symbol") == silent && trade["t"].as_i64() > gaps[0]["t"].as_i64();
    assert!(seen.of(&["trade"]).map(support::Line::json).any(|trade| after(&trade)), "it is served since");
    let silent = BTreeSet::from([silent]);
    assert_eq!(of_others(&truth, "trade", &silent).difference(&of_others(&seen, "trade", &silent)).count(), 0);
}

#[test]
fn a_connection_that_only_pongs_is_opened_anew() {
    for action in ["only_pongs", "zero_frames"] {
        let place = Place::new();
        let faults = format!("[[fault]]\naction = \"{action}\"\nvenue = \"bybit\"\npath = \"/v5/public/linear\"\nlatency = \"8s\"\ncount = 1\n");
        let sim = Sim::faulty(market(4, 400.0), &faults);
        let mut command =
            place.collector("run --exchanges bybit --markets linear --channels trade --mode stream --all-events --sink file:out --listen 127.0.0.1:0");
        let run = Running::start(command.args(sim.options()), Stdout::Collect);
        let began = Instant::now();
        eventually("the connection is given up", || (metric(&run.metrics(), "collector_reconnects_total", &[]) == 1).then_some(()));
        let took = began.elapsed();
        assert!(took >= Duration::from_secs(8) && took < Duration::from_secs(8 + 12), "{action}: {took:?}");
        more_trades(&run);
        eventually("ready", || (get(run.address(), "/readyz").0 == 200).then_some(()));
        run.stop().ok();
        let seen = Events::of_sink(&place.path("out"));
        // (One topic may have been found silent before all of them were.)
        let gaps: BTreeSet<String> = seen.gaps("disconnect").iter().map(|gap| word(gap, "venue_symbol")).collect();
        assert!(gaps.len() >= 4, "{action}: {gaps:?}");
    }
}

#[test]
fn each_lost_frame_of_a_book_is_one_gap_and_one_new_beginning_of_that_book() {
    let place = Place::new();
    // One in so many that each book is whole again before its next loss.
    let faults = "[[fault]]\naction = \"drop_frame\"\nvenue = \"bybit\"\npath = \"/v5/public/linear\"\ntopic = \"orderbook.50.*\"\nafter = 100\nevery = 300\ncount = 4\n";
    let sim = Sim::faulty(Config { events: Some(24_000), ..market(6, 3000.0) }, faults);
    let mut command = place.collector("run --exchanges bybit --markets linear --channels book --mode stream --all-events --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    sim.still();
    run.settle();
    run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    let gaps = seen.gaps("sequence");
    assert_eq!(gaps.len(), 4);
    let mut hit: BTreeMap<String, usize> = BTreeMap::new();
    for gap in &gaps {
        *hit.entry(word(gap, "venue_symbol")).or_default() += 1;
    }
    let mut snapshots: BTreeMap<String, usize> = BTreeMap::new();
    for book in seen.of(&["book"]).map(support::Line::json).filter(|book| book["kind"] == "snapshot") {
        *snapshots.entry(word(&book, "venue_symbol")).or_default() += 1;
    }
    for (symbol, count) in &snapshots {
        assert_eq!(*count, 1 + hit.get(symbol).copied().unwrap_or(0), "{symbol}: one at the beginning, one after each gap");
    }
    let hit: BTreeSet<String> = hit.into_keys().collect();
    assert_eq!(of_others(&truth, "book", &hit), of_others(&seen, "book", &hit), "the other books did not notice");
    assert_same(&truth, &seen, &["book"]);
}

#[test]
fn noise_is_counted_frame_by_frame_and_costs_only_itself() {
    let place = Place::new();
    let faults = ["text", "binary"].map(|form| {
        format!("[[fault]]\naction = \"garbage\"\nform = \"{form}\"\nbytes = 300\nvenue = \"bybit\"\npath = \"/v5/public/linear\"\ntopic = \"publicTrade.*\"\nafter = 50\nevery = 7\ncount = 20\n")
    });
    let sim = Sim::faulty(Config { events: Some(9000), ..market(5, 2000.0) }, &faults.concat());
    let mut command =
        place.collector("run --exchanges binance,bybit --markets linear --channels trade --mode stream --all-events --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    sim.still();
    run.settle();
    let counted = metric(&run.metrics(), "collector_decode_errors_total", &[("venue", "bybit")]);
    run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    assert_same(&truth, &seen, &["trade"]);
    let errors = seen.of(&["decode_error"]).count();
    assert_eq!((errors as u64, counted), (40, 40), "each bad frame is one error");
    assert_eq!(seen.of(&["gap"]).count(), 0);
}
