//! Before a venue's time limit ends a connection, another one has taken over: under load, nothing is missing and nothing
//! goes out twice.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::time::Duration;

use support::{Events, Place, Running, Sim, Stdout, assert_same, market};
use venue_sim::Config;

#[test]
fn a_connection_is_relieved_before_the_venue_ends_it() {
    let place = Place::new();
    // A day in six seconds.
    let sim = Sim::start(Config { duration: Some(Duration::from_secs(15)), ..market(5, 1500.0) });
    let mut command = place.collector(
        "run --exchanges binance,bybit --markets spot,linear --channels trade,quote,book --mode stream --all-events --sink file:out --listen 127.0.0.1:0 \
         --set venues.binance.ws.life=6s --set venues.bybit.ws.life=6s",
    );
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    sim.still();
    run.settle();
    let opened = sim.handle().counters().opened;
    run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    assert!(opened >= 3 * 5, "each of five connections was relieved at least twice: {opened}");
    assert_same(&truth, &seen, &["trade", "quote"]);
    seen.assert_once();
    assert_eq!(seen.of(&["gap", "decode_error"]).count(), 0);
    // Each delta goes on from the one before it.
    let mut last: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    let mut deltas = 0;
    for book in seen.of(&["book"]).map(support::Line::json) {
        let word = |key: &str| book[key].as_str().unwrap_or_default().to_owned();
        let number = |key: &str| book[key].as_str().and_then(|text| text.parse::<u64>().ok());
        let seq = number("seq").unwrap();
        let key = (word("venue"), word("market"), word("venue_symbol"));
        if book["kind"] == "delta" {
            deltas += 1;
            if let Some(last) = last.get(&key) {
                assert_eq!(number("prev_seq").unwrap_or(seq - 1), *last, "{book}");
            }
            last.insert(key, seq);
        } else if key.0 == "bybit" {
            last.insert(key, seq);
        }
    }
    assert!(deltas > 1000, "{deltas}");
    let delta = |events: &Events| {
        events
            .of(&["book"])
            .map(support::Line::json)
            .filter(|book| book["kind"] == "delta")
            .map(|book| book["id"].clone().to_string())
            .collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(delta(&truth).symmetric_difference(&delta(&seen)).count(), 0);
}
