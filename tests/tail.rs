//! `collector tail`: what sinks hold, of several each event once, with the binary as a user runs it.
#![cfg(unix)]

mod support;

use std::collections::BTreeSet;
use std::io::{BufRead as _, Write as _};

use rustix::process::Signal;
use support::{Events, Place, Running, Stdout};

/// Two collectors of one market, one after the other has died.
#[test]
fn two_collectors_side_by_side_are_one_stream() {
    let place = Place::new();
    let (simulator, options) = place.simulator("--exchanges bybit,binance --symbols 5 --rate 2000 --for 60s");
    let run = |name: &str| {
        let mut command = place.collector(&format!(
            "run --exchanges bybit,binance --channels trade,mark,funding --listen 127.0.0.1:0 --log json --name {name} --sink file:{name}"
        ));
        Running::start(command.args(&options), Stdout::Collect)
    };
    let (one, other) = (run("one"), run("other"));
    one.wait_for_events(200);
    other.wait_for_events(200);
    let mut tail = Running::start(&mut place.collector("tail file:one file:other --from start"), Stdout::Leave);
    one.wait_for_events(400);
    one.signal(Signal::KILL);
    drop(one);
    other.wait_for_events(800);
    other.stop().ok();
    drop(simulator);

    let ids = |directory: &str| Events::of_killed(&place.path(directory)).lines().map(|line| line.id().to_owned()).collect::<BTreeSet<String>>();
    let (one, other) = (ids("one"), ids("other"));
    assert!(one.intersection(&other).count() > 100, "they saw the same");
    let all: BTreeSet<String> = one.union(&other).cloned().collect();
    let mut lines = tail.take_stdout().lines();
    let mut printed = BTreeSet::new();
    while printed.len() < all.len() {
        let line = lines.next().expect("not all was printed").unwrap();
        let events = Events::parse(&line);
        assert!(printed.insert(events.lines().next().unwrap().id().to_owned()), "twice: {line}");
    }
    assert_eq!(printed, all);
    let ended = tail.stop().ok();
    assert!(ended.stderr.contains(&format!("{} events, {} repetitions left out", all.len(), one.len() + other.len() - all.len())), "{}", ended.stderr);

    let printed = place.run("tail file:one file:other --no-follow").ok();
    assert_eq!(Events::parse(&printed.stdout).len(), all.len());
    assert_eq!(place.run("tail file:one --no-follow --from 2030-01-01").ok().stdout, "");
}

#[test]
fn standard_input_is_a_source() {
    let place = Place::new();
    let run = place.run("run --exchanges bybit --simulate --once --sink stdout:").ok();
    let mut command = place.collector("tail stdin:");
    let mut child = command.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).stderr(std::process::Stdio::piped()).spawn().unwrap();
    let mut input = child.stdin.take().unwrap();
    let twice = format!("{0}no event\n{0}", run.stdout);
    let writer = std::thread::spawn(move || input.write_all(twice.as_bytes()).unwrap());
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success());
    assert_eq!(String::from_utf8(output.stdout).unwrap(), run.stdout);
    assert!(String::from_utf8(output.stderr).unwrap().contains("left out: line "));
}

#[test]
fn a_wrong_source_is_wrong_usage() {
    let place = Place::new();
    for (arguments, what) in [
        ("tail", "<URI>"),
        ("tail mysql://u:p@h", "`mysql://***@h` is nothing that this build reads events from"),
        ("tail file:./nowhere", "cannot read `./nowhere`: No such file or directory"),
        #[cfg(feature = "parquet")]
        ("tail parquet:. --no-follow", "there is no dataset (`type=…/venue=…/date=…`) in `.`"),
        ("tail file:. --from yesterday", "--from: `yesterday` is no time"),
    ] {
        let ended = place.run(arguments);
        assert_eq!(ended.status, Some(2), "{arguments}");
        assert!(ended.stderr.contains(what), "{arguments}: {}", ended.stderr);
    }
}
