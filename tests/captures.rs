//! `run --capture`: what a sink got is in the captures, whatever becomes of the process.
#![cfg(unix)]

mod support;

use std::collections::HashSet;
use std::io::BufRead as _;

use rustix::process::Signal;
use support::{Events, Place, Running, STREAMED, Stdout, files};

/// Killed again and again under load, each time in the middle of what it prints.
#[test]
fn what_was_printed_before_a_kill_decodes_from_the_captures() {
    let place = Place::new();
    let (_simulator, options) = place.simulator("--exchanges bybit,binance --symbols 10 --rate 3000 --for 120s");
    let mut printed = String::new();
    for round in 0..8 {
        let command = format!("run --exchanges bybit,binance --channels {STREAMED} --listen off --log json --sink stdout: --capture archive");
        let mut run = Running::start(place.collector(&command).args(&options), Stdout::Leave);
        let mut lines = run.take_stdout().lines();
        for _ in 0..1000 + 300 * round {
            printed += &lines.next().expect("it prints").unwrap();
            printed.push('\n');
        }
        run.signal(Signal::KILL);
        assert_eq!(run.finish().status, None);
        // What it had handed over by then; the last line may lack its end.
        let rest: Vec<String> = lines.map_while(Result::ok).collect();
        printed.extend(rest.iter().filter(|line| line.ends_with('}')).map(|line| format!("{line}\n")));
    }
    assert_eq!(files(&place.path("archive")).len(), 8, "a file for each run");

    let decoded = place.run("decode archive");
    assert_eq!(decoded.status, Some(1), "files without an end are told: {}", decoded.stderr);
    assert_eq!(decoded.stderr.lines().filter(|line| line.contains("ends within a block")).count(), 8, "{}", decoded.stderr);
    let decoded = Events::parse(&decoded.stdout);
    let known: HashSet<&str> = decoded.lines().map(support::Line::id).collect();
    let printed = Events::parse(&printed);
    // What only a live run knows of is not in what the venues sent.
    let missing: Vec<_> = printed.lines().filter(|line| !["gap", "refill"].contains(&line.kind()) && !known.contains(line.id())).collect();
    assert!(missing.is_empty(), "{} of {} events: {:?}", missing.len(), printed.len(), &missing[..missing.len().min(3)]);
    assert!(printed.len() > 10_000, "{}", printed.len());
    assert!(decoded.of(&["decode_error"]).count() == 0, "connections of two runs are not taken for one");
}
