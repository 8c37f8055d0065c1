//! Instruments come and go: what a venue lists is collected, what it takes off its list is retired, and the others do not
//! notice.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;

use exchange_core::Market;
use support::{Events, Line, Place, Running, Sim, Stdout, assert_same, eventually, get, market, metric};

const VENUES: [&str; 2] = ["binance", "bybit"];
/// Listed while the collector runs,
const NEW: &str = "XRPUSDT";
/// and taken off the list, and put there again.
const GONE: &str = "SOLUSDT";
/// Topics of one instrument: its trades and its book.
const TOPICS: usize = 2;
/// Instruments of a market.
const SYMBOLS: usize = 6;

/// The binary, which reads the lists of instruments often.
fn collector(place: &Place, sim: &Sim, arguments: &str) -> Running {
    let mut command = place.collector(&format!("run --markets linear --interval 200ms --sink file:out --listen 127.0.0.1:0 {arguments}"));
    for venue in VENUES {
        command.args(["--set", &format!("venues.{venue}.instruments_every=200ms")]);
    }
    Running::start(command.args(sim.options()), Stdout::Collect)
}

/// Waits until clients are subscribed to so many topics, and to so many of an instrument.
fn subscribed(sim: &Sim, count: usize, symbol: &str, of_it: usize) -> Vec<String> {
    let what = format!("{count} topics, {of_it} of {symbol}");
    eventually(&what, || {
        let all = sim.handle().subscriptions();
        (all.len() == count && of(&all, symbol).len() == of_it).then_some(all)
    })
}

/// Those of an instrument.
fn of(topics: &[String], symbol: &str) -> Vec<String> {
    topics.iter().filter(|topic| topic.to_uppercase().contains(symbol)).cloned().collect()
}

/// What instruments' events say of their status, in order.
fn statuses(seen: &Events) -> BTreeMap<[String; 2], Vec<String>> {
    let mut all: BTreeMap<_, Vec<String>> = BTreeMap::new();
    for event in seen.of(&["instrument"]).map(Line::json) {
        let word = |key: &str| event[key].as_str().unwrap().to_owned();
        all.entry(["venue", "venue_symbol"].map(word)).or_default().push(word("status"));
    }
    all
}

#[test]
fn a_listing_is_collected_a_delisting_retired_and_the_others_do_not_notice() {
    let place = Place::new();
    let sim = Sim::start(market(SYMBOLS, 2000.0));
    let each = |change: &dyn Fn(&str) -> bool| assert!(VENUES.iter().all(|venue| change(venue)));
    each(&|venue| sim.handle().delist(venue, Market::Linear, NEW));
    let run = collector(&place, &sim, "--exchanges binance,bybit --channels instrument,trade,book,open_interest");
    let both = VENUES.len() * TOPICS;
    let (most, all) = ((SYMBOLS - 1) * both, SYMBOLS * both);
    subscribed(&sim, most, NEW, 0);
    let opened = sim.handle().counters().opened;
    run.wait_for_events(500);

    each(&|venue| sim.handle().list(venue, Market::Linear, NEW));
    let before = subscribed(&sim, all, NEW, both);
    each(&|venue| sim.handle().delist(venue, Market::Linear, GONE));
    let after = subscribed(&sim, most, GONE, 0);
    let left: Vec<String> = before.iter().filter(|topic| !of(&before, GONE).contains(topic)).cloned().collect();
    assert_eq!(after, left, "exactly its own topics");
    each(&|venue| sim.handle().list(venue, Market::Linear, GONE));
    assert_eq!(subscribed(&sim, all, GONE, both), before);

    let swept = sim.requests("binance/fapi/v1/openInterest");
    eventually("a sweep of all", || (sim.requests("binance/fapi/v1/openInterest") >= swept + 2 * SYMBOLS as u64).then_some(()));
    sim.handle().halt();
    sim.still();
    let happened = || ["trade", "book"].map(|channel| metric(&run.metrics(), "collector_events_total", &[("channel", channel)]));
    let (mut last, mut same) = (happened(), 0);
    eventually("nothing more", || {
        let now = happened();
        same = if now == last { same + 1 } else { 0 };
        last = now;
        (same == 25).then_some(())
    });
    run.stop().ok();
    let (summary, truth) = sim.end();
    assert_eq!(summary.counters.opened, opened, "no other connection was needed");

    let seen = Events::of_sink(&place.path("out"));
    assert_same(&truth, &seen, &["trade", "book"]);
    seen.assert_once();
    assert_eq!(seen.of(&["gap"]).count(), 0, "nothing was missed");
    let statuses = statuses(&seen);
    assert_eq!(statuses.len(), VENUES.len() * SYMBOLS);
    for ([venue, symbol], statuses) in statuses {
        let expected: &[&str] = if symbol == GONE { &["trading", "delisted", "trading"] } else { &["trading"] };
        assert_eq!(statuses, expected, "{venue} {symbol}");
    }
    for venue in VENUES {
        let of_it = |events: &Events, kind: &str, symbol: &str| {
            let kinds = [kind];
            let of_it = events.of(&kinds).map(Line::json).filter(|event| event["venue"] == venue && event["venue_symbol"] == symbol);
            of_it.map(|event| event["t"].as_i64().unwrap()).max()
        };
        let back = of_it(&seen, "instrument", GONE);
        for kind in ["trade", "book"] {
            assert!(of_it(&seen, kind, GONE) > back, "{venue} {kind} of what came back");
            assert!(of_it(&seen, kind, NEW).is_some(), "{venue} {kind} of what was listed");
        }
        // It may be the same as ever, but was asked for.
        assert!(of_it(&truth, "open_interest", GONE) > back && of_it(&seen, "open_interest", NEW).is_some(), "{venue} open interest");
    }
}

#[test]
fn a_connection_that_carries_nothing_ends_and_another_is_opened_when_it_is_needed() {
    let place = Place::new();
    let sim = Sim::start(market(SYMBOLS, 1000.0));
    let run = collector(&place, &sim, "--exchanges bybit --channels instrument,trade --symbols SOL/USDT:USDT");
    let connections = |count: usize| eventually("connections", || (sim.handle().counters().connections == count).then_some(()));
    subscribed(&sim, 1, GONE, 1);
    run.wait_for_events(5);
    for back in 1..=2 {
        assert!(sim.handle().delist("bybit", Market::Linear, GONE));
        connections(0);
        assert_eq!(get(run.address(), "/readyz").0, 200, "everything that there is is delivered");
        assert!(sim.handle().list("bybit", Market::Linear, GONE));
        subscribed(&sim, 1, GONE, 1);
        assert_eq!(sim.handle().counters().opened, 1 + back);
    }
    let trades = metric(&run.metrics(), "collector_events_total", &[("channel", "trade")]);
    eventually("trades", || (metric(&run.metrics(), "collector_events_total", &[("channel", "trade")]) > trades).then_some(()));
    run.stop().ok();
    let seen = Events::of_sink(&place.path("out"));
    assert_eq!(seen.of(&["gap", "decode_error"]).count(), 0);
    assert_eq!(statuses(&seen).into_values().collect::<Vec<_>>(), [["trading", "delisted", "trading", "delisted", "trading"]]);
}
