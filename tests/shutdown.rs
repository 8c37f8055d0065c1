//! The end of a run: within a second under full load and with everything handed on, at once on a second signal, in
//! order when the reader has had enough, and without losing what was written when it is killed.
#![cfg(unix)]

mod support;

use std::io::{BufRead as _, Read as _};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;
use support::{Events, Place, Running, STREAMED, Sim, Stdout, eventually, files, market, metric};

/// What is promised to whoever stops a run.
const WITHIN: Duration = Duration::from_secs(1);
/// Nothing is waited for.
const AT_ONCE: Duration = Duration::from_millis(500);

/// Everything that streams, from all markets, into the sink.
fn streaming(place: &Place, options: &[String], sink: &str) -> Command {
    let mut command = place.collector("run --exchanges binance,bybit --markets spot,linear,inverse --mode stream --listen 127.0.0.1:0");
    command.args(["--channels", STREAMED, "--sink", sink]).args(options);
    command
}

fn stops_in_time(signal: Signal) {
    let _alone = support::alone();
    let place = Place::new();
    let (simulator, options) = place.simulator("--exchanges binance,bybit --symbols 40 --rate 25000 --for 1m");
    let mut run = Running::start(streaming(&place, &options, "file:out").args(["--capture", "captures"]), Stdout::Collect);
    run.wait_for_events(40_000);
    run.signal(signal);
    let took = run.time_to_end();
    let finished = run.finish().ok();
    assert!(took < WITHIN, "{took:?}");
    let seen = Events::of_sink(&place.path("out"));
    assert!(seen.seconds_with(15_000) >= 1, "that was no full load");
    let told: u64 = ["binance", "bybit"].iter().map(|venue| finished.summary(venue)[0]).sum();
    assert_eq!(told, seen.len() as u64, "what it says that it passed on is in the file");
    seen.assert_once();
    let [captures] = files(&place.path("captures")).try_into().unwrap();
    assert!(support::text(&captures).ends_with("\"}\n"), "and what the venues sent is in the captures, to the end of the file");
    simulator.stop().ok();
}

#[test]
fn sigterm_under_full_load_ends_within_a_second_with_everything_handed_on() {
    stops_in_time(Signal::TERM);
}

#[test]
fn sigint_under_full_load_ends_within_a_second_with_everything_handed_on() {
    stops_in_time(Signal::INT);
}

/// A run whose standard output nobody reads, so that much waits to be written there.
fn stuck(place: &Place, sim: &Sim) -> Running {
    let run = Running::start(&mut streaming(place, &sim.options(), "stdout:"), Stdout::Leave);
    // More than the pipe holds, and more than is written at a time.
    eventually("what waits for the reader", || (metric(&run.metrics(), "collector_queue_depth_events", &[]) > 2000).then_some(()));
    run
}

#[test]
fn a_second_signal_ends_at_once() {
    let _alone = support::alone();
    for (first, second, status) in [(Signal::TERM, Signal::TERM, 143), (Signal::TERM, Signal::INT, 130)] {
        let (place, sim) = (Place::new(), Sim::start(market(20, 5000.0)));
        let mut run = stuck(&place, &sim);
        run.signal(first);
        // Nothing ends by itself here: what waits has no way out.
        std::thread::sleep(WITHIN);
        assert!(run.is_running(), "{}", run.stderr());
        run.signal(second);
        let took = run.time_to_end();
        let finished = run.finish();
        assert_eq!(finished.status, Some(status), "{}", finished.stderr);
        assert!(took < AT_ONCE, "{took:?}");
    }
}

#[test]
fn a_late_reader_still_gets_everything() {
    let _alone = support::alone();
    let (place, sim) = (Place::new(), Sim::start(market(20, 5000.0)));
    let mut run = stuck(&place, &sim);
    run.signal(Signal::TERM);
    let mut text = String::new();
    run.take_stdout().read_to_string(&mut text).unwrap();
    let finished = run.finish().ok();
    let told: u64 = ["binance", "bybit"].iter().map(|venue| finished.summary(venue)[0]).sum();
    assert_eq!(told, Events::parse(&text).len() as u64);
}

#[test]
fn what_a_reader_was_too_slow_for_is_a_gap_even_at_the_end() {
    let _alone = support::alone();
    let (place, sim) = (Place::new(), Sim::start(market(20, 20_000.0)));
    let mut run = stuck(&place, &sim);
    let dropped = |run: &Running| metric(&run.metrics(), "collector_events_dropped_total", &[]);
    eventually("the overflow", || (dropped(&run) > 1000).then_some(()));
    run.signal(Signal::TERM);
    // Nothing follows with which it could be told.
    eventually("the end of all connections", || (sim.handle().counters().connections == 0).then_some(()));
    let mut text = String::new();
    run.take_stdout().read_to_string(&mut text).unwrap();
    run.finish().ok();
    let seen = Events::parse(&text);
    let gaps = seen.gaps("overflow");
    assert!(gaps.len() > 10, "{}", gaps.len());
    for gap in &gaps {
        let time = |key: &str| gap[key].as_str().unwrap().parse::<i64>().unwrap();
        assert!(time("from") < time("to") && gap["symbol"].is_string() && gap["channel"].is_string(), "{gap}");
    }
}

#[test]
fn a_reader_that_has_had_enough_is_no_failure() {
    let (place, sim) = (Place::new(), Sim::start(market(20, 2000.0)));
    let mut run = Running::start(&mut streaming(&place, &sim.options(), "stdout:"), Stdout::Leave);
    let mut stdout = run.take_stdout();
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(Events::parse(&line).len(), 1);
    drop(stdout);
    let finished = run.finish().ok();
    assert!(!finished.stderr.contains("panicked") && !finished.stderr.contains("\"level\":\"ERROR\""), "{}", finished.stderr);
}

#[test]
fn what_was_written_survives_a_kill_and_a_restart() {
    let (place, sim) = (Place::new(), Sim::start(market(20, 4000.0)));
    let first = Running::start(&mut streaming(&place, &sim.options(), "file:out"), Stdout::Collect);
    first.wait_for_events(10_000);
    first.signal(Signal::KILL);
    assert_eq!(first.finish().status, None);

    let [killed] = files(&place.path("out")).try_into().unwrap();
    let bytes = std::fs::read(&killed).unwrap();
    let mut text = Vec::new();
    let mut decoder = zstd::Decoder::new(&bytes[..]).unwrap();
    let mut buffer = [0; 4096];
    while let Ok(count @ 1..) = decoder.read(&mut buffer) {
        text.extend_from_slice(&buffer[..count]);
    }
    let whole = text.iter().rposition(|byte| *byte == b'\n').unwrap() + 1;
    let seen = Events::parse(std::str::from_utf8(&text[..whole]).unwrap());
    seen.lines().for_each(|line| drop(line.json()));
    seen.assert_once();
    assert!(seen.len() > 3000, "a second's events at most are lost: {} are there", seen.len());

    // The same name and the same directory: the lock of the dead does not keep it out, and its file stays.
    let second = Running::start(&mut streaming(&place, &sim.options(), "file:out"), Stdout::Collect);
    second.wait_for_events(1000);
    second.stop().ok();
    assert_eq!(std::fs::read(&killed).unwrap(), bytes);
    let [same, other] = files(&place.path("out")).try_into().unwrap();
    assert_eq!(same, killed);
    assert!(Events::read(&other).len() >= 1000);
}
