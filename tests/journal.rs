//! The journal of a collector as its user sees it: what waits there when a run ends is delivered by the next one.
#![cfg(unix)]

mod support;

use std::time::{Duration, Instant};

use exchange_core::event::Trade;
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Time, canonical};
use exchange_runtime::spool::{Options, Spool};
use rustix::process::Signal;
use serde_json::Value;
use support::{Events, Line, Place, Running, Sim, Stdout, eventually, get, market, metric};

/// What is promised to whoever stops a run.
const WITHIN: Duration = Duration::from_secs(1);
/// Events that wait when the run begins,
const WAITING: u64 = 1_000_000;
/// in batches of so many.
const BATCH: u64 = 1000;
/// How long a test that is not optimized may take to deliver them.
const DELIVERED: Duration = Duration::from_mins(3);

/// As if a run of this name had been killed before its sink got anything.
fn left_behind(place: &Place, sink: &str) {
    let spool = Spool::open(&place.path("state/collector/spool/mine"), Options::default()).unwrap().spool;
    drop(spool.reader(sink).unwrap());
    let instrument = std::sync::Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let trade = |id: u64| {
        let trade = Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
        let time = Time::from_micros(1_790_000_000_000_000 + id.cast_signed());
        let mut event = Event::new(instrument.clone(), time, Some(time), Body::Trade(trade));
        event.id = canonical::id(&event);
        event
    };
    for batch in 0..WAITING / BATCH {
        spool.append(Batch::new((batch * BATCH..(batch + 1) * BATCH).map(trade).collect())).unwrap();
    }
}

#[test]
fn sigterm_with_a_million_events_waiting_ends_within_a_second_and_the_next_run_delivers_the_rest() {
    let _alone = support::alone();
    let (place, sim) = (Place::new(), Sim::start(market(3, 200.0)));
    let command = || {
        let mut command = place.collector("run --exchanges bybit --mode stream --name mine --sink file:out --listen 127.0.0.1:0");
        command.args(["--channels", "ticker,quote"]).args(sim.options());
        command
    };
    std::fs::create_dir_all(place.path("out")).unwrap();
    left_behind(&place, "file:out");
    let mut run = Running::start(&mut command(), Stdout::Collect);
    run.wait_for_events(1);
    run.signal(Signal::TERM);
    let took = run.time_to_end();
    let finished = run.finish().ok();
    assert!(took < WITHIN, "{took:?}");
    assert!(finished.stderr.lines().any(|line| line.starts_with("file:out: ") && line.contains(" wait in the journal: ")), "{}", finished.stderr);
    let first = Events::of_sink(&place.path("out")).of(&["trade"]).count() as u64;
    assert!(first < WAITING, "it had no time for all of them");

    let run = Running::start(&mut command(), Stdout::Collect);
    let since = Instant::now();
    while metric(&run.metrics(), "collector_sink_backlog_batches", &[]) > 0 || Events::of_killed(&place.path("out")).of(&["trade"]).count() < 1000 {
        assert!(since.elapsed() < DELIVERED, "{}", run.stderr());
        std::thread::sleep(Duration::from_millis(500));
    }
    // What is new comes behind it.
    run.wait_for_events(50);
    run.stop().ok();
    let seen = Events::of_sink(&place.path("out"));
    let ids: Vec<u64> = seen.of(&["trade"]).map(|line| line.json()["trade_id"].as_str().unwrap().parse().unwrap()).collect();
    assert!(ids.iter().copied().eq(0..WAITING), "{} trades, each once and in order", ids.len());
    assert_eq!(place.run("audit").status, Some(0), "{}", place.run("audit").stderr);
}

#[test]
fn what_was_missed_between_two_runs_is_a_gap_and_refilled_and_the_books_balance() {
    let (place, sim) = (Place::new(), Sim::start(market(2, 800.0)));
    let start = || {
        let mut command = place.collector("run --exchanges bybit --mode stream --all-events --name mine --sink file:out --sink null: --listen 127.0.0.1:0");
        Running::start(command.args(["--channels", "trade,book"]).args(sim.options()), Stdout::Collect)
    };
    let run = start();
    run.wait_for_events(500);
    run.stop().ok();
    let before = Events::of_sink(&place.path("out"));
    assert_eq!(before.of(&["gap"]).count(), 0, "nothing was before the first run");
    let run = start();
    eventually("the refills", || (metric(&run.metrics(), "collector_refills_total", &[("complete", "true")]) >= 2).then_some(()));
    let (status, text) = get(run.address(), "/readyz");
    assert_eq!((status, text.as_str()), (200, "bybit: ready\nfile:out: ready\n"));
    run.stop().ok();
    let seen = Events::of_sink(&place.path("out"));
    seen.assert_once();
    let gaps = seen.gaps("disconnect");
    assert_eq!(gaps.len(), 4, "two channels of two instruments: {gaps:?}");
    for gap in &gaps {
        let own = |line: &Line<'_>| line.kind() == gap["channel"] && line.json()["venue_symbol"] == gap["venue_symbol"];
        let last = before.lines().filter(own).map(Line::received).max().unwrap();
        assert_eq!(gap["from"], last.to_string(), "from what came last: {gap}");
    }
    let refills: Vec<Value> = seen.of(&["refill"]).map(Line::json).collect();
    assert!(refills.len() == 2 && refills.iter().all(|refill| refill["complete"] == true), "{refills:?}");

    let finished = place.run("audit --json").ok();
    let all: Value = serde_json::from_str(&finished.stdout).unwrap();
    let rows = all["ledgers"][0]["rows"].as_array().unwrap();
    let sum = |count: &str| rows.iter().map(|row| row["sinks"]["file:out"][count].as_u64().unwrap()).sum::<u64>();
    assert_eq!((sum("written"), sum("kept"), sum("waiting")), (seen.len() as u64, seen.len() as u64, 0));
}
