//! What a lost connection made the collector miss is fetched afterwards, as far as the venue remembers it.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use serde_json::Value;
use support::{Events, Place, Running, Sim, Stdout, eventually, get, market, metric};
use venue_sim::Config;

/// An instrument's trades, by id, and when they were.
type Trades = BTreeMap<(String, String, String), BTreeMap<String, i64>>;

fn text(value: &Value) -> String {
    value.as_str().map_or_else(|| value.to_string(), str::to_owned)
}

/// The trades that went out.
fn seen(events: &Events) -> Trades {
    let mut trades = Trades::new();
    for trade in events.of(&["trade"]).map(support::Line::json) {
        let of = ["venue", "market", "venue_symbol"].map(|key| text(&trade[key]));
        trades.entry(of.into()).or_default().insert(text(&trade["trade_id"]), trade["et"].as_i64().unwrap() / 1000);
    }
    trades
}

/// The trades that the venue remembers of an instrument, in the kind of record that its stream has.
fn remembered(sim: &Sim, (venue, market, symbol): &(String, String, String)) -> BTreeMap<String, i64> {
    let path = match (venue.as_str(), market.as_str()) {
        ("binance", "spot") => format!("/binance/api/v3/trades?symbol={symbol}&limit=1000"),
        ("binance", "linear") => format!("/binance/fapi/v1/aggTrades?symbol={symbol}&limit=1000"),
        ("binance", _) => format!("/binance/dapi/v1/aggTrades?symbol={symbol}&limit=1000"),
        (_, market) => format!("/bybit/v5/market/recent-trade?category={market}&symbol={symbol}&limit=1000"),
    };
    let (status, body) = get(sim.handle().address(), &path);
    assert_eq!(status, 200, "{path}: {body}");
    let answer: Value = serde_json::from_str(&body).unwrap();
    let list = answer.as_array().or_else(|| answer["result"]["list"].as_array()).unwrap();
    let word = |trade: &Value, keys: &[&str]| keys.iter().map(|key| &trade[*key]).find(|value| !value.is_null()).map(text).unwrap();
    list.iter().map(|trade| (word(trade, &["a", "id", "execId"]), word(trade, &["T", "time"]).parse().unwrap())).collect()
}

/// How many trades in all the venues remember, since the first that went out of their instrument, that did not go out.
fn missing(sim: &Sim, seen: &Trades) -> usize {
    let missing = |(instrument, trades): (&(String, String, String), &BTreeMap<String, i64>)| {
        let first = *trades.values().min().unwrap();
        // Trades are numbered a few milliseconds out of order of their times: those of the very first moment may have been before.
        let lacking = remembered(sim, instrument).into_iter().filter(|(id, at)| *at > first + 10 && !trades.contains_key(id));
        lacking.inspect(|lacks| eprintln!("{instrument:?} lacks {lacks:?}")).count()
    };
    seen.iter().map(missing).sum()
}

/// Gaps of trades, and the refills that name them.
fn gaps_and_refills(events: &Events) -> (BTreeSet<String>, BTreeMap<String, Value>) {
    let gaps = events.gaps("disconnect").iter().map(|gap| text(&gap["id"])).collect();
    let refills: Vec<Value> = events.of(&["refill"]).map(support::Line::json).collect();
    let by_gap: BTreeMap<String, Value> = refills.iter().map(|refill| (text(&refill["gap"]), refill.clone())).collect();
    assert_eq!(by_gap.len(), refills.len(), "one for each gap");
    (gaps, by_gap)
}

fn closes(venue: &str, path: &str, topic: &str, code: &str) -> String {
    format!("[[fault]]\naction = \"close\"\nvenue = \"{venue}\"\npath = \"{path}\"\ntopic = \"{topic}\"\nafter = 60\nevery = 80\ncount = 3\n{code}\n")
}

#[test]
fn no_trade_is_missing_after_lost_connections() {
    let place = Place::new();
    let faults = [
        closes("bybit", "/v5/public/linear", "publicTrade.*", "code = 1001"),
        closes("bybit", "/v5/public/inverse", "publicTrade.*", ""),
        closes("binance", "/stream", "*@trade", ""),
        closes("binance", "/market/stream", "*@aggTrade", "code = 1001"),
    ];
    let sim = Sim::faulty(Config { events: Some(15_000), ..market(4, 2000.0) }, &faults.concat());
    let mut command = place.collector("run --exchanges binance,bybit --channels trade --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(["--markets", "spot,linear,inverse"]).args(sim.options()), Stdout::Collect);
    sim.still();
    let (gaps, refilled) = eventually("a refill for each gap", || {
        let metrics = run.metrics();
        let [gaps, refills, reconnects] =
            ["collector_gaps_total", "collector_refills_total", "collector_reconnects_total"].map(|name| metric(&metrics, name, &[]));
        (reconnects >= 8 && refills == gaps).then(|| {
            assert_eq!(metric(&metrics, "collector_refills_total", &[("complete", "true"), ("channel", "trade")]), gaps);
            (gaps, metric(&metrics, "collector_refilled_events_total", &[]))
        })
    });
    run.stop().ok();
    let events = Events::of_sink(&place.path("out"));
    let trades = seen(&events);
    assert_eq!(missing(&sim, &trades), 0);
    events.assert_once();
    let (told, refills) = gaps_and_refills(&events);
    assert_eq!(told.len() as u64, gaps);
    assert_eq!(refills.keys().cloned().collect::<BTreeSet<_>>(), told);
    assert!(refills.values().all(|refill| refill["complete"] == true), "{refills:#?}");
    let origins = events.of(&["trade"]).map(support::Line::json).filter(|trade| trade["origin"] == "refill").count() as u64;
    assert_eq!(origins, refilled);
    assert_eq!(refills.values().map(|refill| refill["count"].as_u64().unwrap()).sum::<u64>(), origins);
    assert!(origins >= gaps, "something was missed: {origins}");
    sim.end();
}

#[test]
fn a_venue_that_remembers_too_little_leaves_a_gap_that_is_told() {
    let place = Place::new();
    let config = Config { venues: vec!["bybit".into()], events: Some(12_000), ..market(1, 4000.0) };
    let fault = "[[fault]]\naction = \"close\"\nvenue = \"bybit\"\npath = \"/v5/public/spot\"\ntopic = \"publicTrade.*\"\nafter = 100\ncount = 1\n";
    let sim = Sim::faulty(config, fault);
    let mut command = place.collector("run --exchanges bybit --markets spot --channels trade --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    sim.still();
    eventually("a refill", || (metric(&run.metrics(), "collector_refills_total", &[("complete", "false")]) >= 1).then_some(()));
    run.stop().ok();
    let events = Events::of_sink(&place.path("out"));
    let (gaps, refills) = gaps_and_refills(&events);
    assert_eq!((gaps.len(), refills.keys().cloned().collect()), (1, gaps));
    let refill = refills.values().next().unwrap();
    assert_eq!(refill["complete"], false);
    let origins = events.of(&["trade"]).map(support::Line::json).filter(|trade| trade["origin"] == "refill").count() as u64;
    assert_eq!(refill["count"], origins);
    assert!(origins < 60);
    // What it says it closed is closed, and before that something is missing: ids rise by one.
    let [trades] = &seen(&events).into_values().collect::<Vec<_>>()[..] else { panic!("one instrument") };
    let mut ids: Vec<u64> = trades.keys().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    let holes: Vec<u64> = ids.windows(2).filter(|pair| pair[1] != pair[0] + 1).map(|pair| pair[1]).collect();
    assert_eq!(holes.len(), 1, "{holes:?}");
    if let Some(from) = refill["from"].as_str() {
        assert!(trades[&holes[0].to_string()] <= from.parse::<i64>().unwrap() / 1000 + 10);
    }
    sim.end();
}

/// What a run said of each lost connection: which it was, and how long it waits.
fn pauses(stderr: &str) -> BTreeMap<String, Vec<String>> {
    let mut pauses = BTreeMap::new();
    for line in stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()) {
        if let Some((_, rest)) = text(&line["message"]).split_once("next attempt in ") {
            pauses.entry(text(&line["url"])).or_insert_with(Vec::new).push(rest.split(' ').next().unwrap().to_owned());
        }
    }
    pauses
}

#[test]
fn two_processes_that_lose_everything_at_once_come_back_one_by_one_and_miss_nothing() {
    let place = Place::new();
    // All connections of both, four times.
    let faults = ["4", "7", "10", "14"].map(|at| format!("[[fault]]\naction = \"outage\"\nfrom = \"{at}s\"\nto = \"{at}100ms\"\n"));
    let sim = Sim::faulty(Config { duration: Some(Duration::from_secs(20)), ..market(3, 400.0) }, &faults.concat());
    let start = |name: &str| {
        let run = format!("run --exchanges binance,bybit --channels trade --sink file:{name} --listen 127.0.0.1:0 --markets spot,linear,inverse");
        Running::start(place.collector(&run).args(sim.options()), Stdout::Collect)
    };
    let both = ["first", "second"].map(|name| (name, start(name)));
    sim.still();
    for (_, run) in &both {
        eventually("a refill for each gap", || {
            let metrics = run.metrics();
            let [gaps, refills, reconnects] =
                ["collector_gaps_total", "collector_refills_total", "collector_reconnects_total"].map(|name| metric(&metrics, name, &[]));
            (reconnects >= 24 && refills == gaps).then_some(())
        });
        run.settle();
    }
    let [first, second] = both.map(|(name, run)| {
        let finished = run.stop().ok();
        let events = Events::of_sink(&place.path(name));
        assert_eq!(missing(&sim, &seen(&events)), 0, "{name}");
        events.assert_once();
        let (gaps, refills) = gaps_and_refills(&events);
        assert_eq!(refills.keys().cloned().collect::<BTreeSet<_>>(), gaps, "{name}");
        assert!(refills.values().all(|refill| refill["complete"] == true), "{refills:#?}");
        pauses(&finished.stderr)
    });
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    // Two of Binance's markets have the same address.
    for pauses in [&first, &second] {
        assert!(pauses.len() == 5 && pauses.values().map(Vec::len).sum::<usize>() >= 24, "{pauses:?}");
    }
    // Told to a tenth of a second, some are the same.
    let same = first.iter().filter(|(url, pauses)| second[*url] == **pauses).count();
    assert!(same <= 1, "{first:?}, {second:?}");
    sim.end();
}
