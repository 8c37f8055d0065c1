//! `collector reparse`: captures against the events that were collected from them.
#![cfg(unix)]

mod support;

use serde_json::Value;
use support::{Events, Finished, Place, Running, Stdout};

const CHANNELS: &str = "ticker,mark,funding,open_interest,trade,book,quote";

/// Collects into `live` and captures into `archive`, in two runs: the second knows nothing of the first.
fn collect(place: &Place) {
    let (_simulator, options) = place.simulator("--exchanges bybit,binance --symbols 5 --rate 3000 --for 120s");
    for _ in 0..2 {
        let command = format!("run --exchanges bybit,binance --listen 127.0.0.1:0 --log json --channels {CHANNELS} --sink file:live --capture archive");
        let run = Running::start(place.collector(&command).args(&options), Stdout::Collect);
        run.wait_for_events(2500);
        run.stop().ok();
    }
}

fn json(finished: &Finished) -> Value {
    serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {}", finished.stderr))
}

fn sum(report: &Value, what: &str) -> u64 {
    report["rows"].as_array().unwrap().iter().map(|row| row[what].as_u64().unwrap()).sum()
}

#[test]
fn what_nobody_changed_is_the_same_and_what_was_changed_is_found() {
    let place = Place::new();
    collect(&place);
    let events: String = support::files(&place.path("live")).iter().map(|path| support::text(path)).collect();
    place.write("events.ndjson", &events);
    let count = Events::parse(&events).of(&CHANNELS.split(',').collect::<Vec<_>>()).count() as u64;

    let same = place.run("reparse archive --events live --json --examples 3");
    assert_eq!(same.status, Some(0), "{}{}", same.stdout, same.stderr);
    let report = json(&same);
    assert_eq!((report["same"].as_bool(), sum(&report, "changed") + sum(&report, "missing") + sum(&report, "new")), (Some(true), 0), "{report:#}");
    assert!(sum(&report, "same") >= count, "{report:#}");
    let table = place.run(&format!("reparse archive --events events.ndjson --channels {CHANNELS}"));
    assert_eq!(table.status, Some(0), "{}{}", table.stdout, table.stderr);
    assert!(table.stdout.starts_with("VENUE    CHANNEL"), "{}", table.stdout);

    // As if an older decoder had got a price wrong, missed a trade, and made one up.
    let lines: Vec<&str> = events.lines().collect();
    let trades: Vec<usize> = (0..lines.len()).filter(|at| lines[*at].starts_with("{\"type\":\"trade\",\"venue\":\"bybit\"")).collect();
    let id = |at: usize| Events::parse(lines[at]).lines().next().unwrap().id().to_owned();
    let forged = |at: usize, digit: char| lines[at].replace(&id(at), &digit.to_string().repeat(32)).replace("\"price\":\"", "\"price\":\"9");
    let (wrong, missed, made_up) = (trades[10], trades[20], trades[30]);
    let old: Vec<String> = (0..lines.len())
        .filter(|at| *at != missed)
        .flat_map(|at| match at {
            _ if at == wrong => vec![forged(at, 'a')],
            // A microsecond that had no message.
            _ if at == made_up => {
                vec![lines[at].to_owned(), forged(at, 'b').replace(&format!("\"t\":{}", received(lines[at])), &format!("\"t\":{}", received(lines[at]) + 1))]
            }
            _ => vec![lines[at].to_owned()],
        })
        .collect();
    place.write("old.ndjson", &(old.join("\n") + "\n"));
    let differs = place.run("reparse archive --events old.ndjson --json --examples 5 --sink file:corrected");
    assert_eq!(differs.status, Some(1), "{}", differs.stderr);
    let report = json(&differs);
    assert_eq!((sum(&report, "changed"), sum(&report, "missing"), sum(&report, "new")), (1, 1, 1), "{report:#}");
    assert_eq!(sum(&report, "same"), sum(&json(&same), "same") - 2);
    let corrected = Events::of_sink(&place.path("corrected"));
    let mut ids: Vec<&str> = corrected.lines().map(support::Line::id).collect();
    let mut wanted = [id(wrong), id(missed)];
    ids.sort_unstable();
    wanted.sort();
    assert_eq!(ids, wanted, "what is right now");
    let examples = report["examples"].as_array().unwrap();
    let change = examples.iter().find(|example| !example["collected"].is_null() && !example["now"].is_null()).unwrap();
    assert!(change["collected"].as_str().unwrap().contains(&"a".repeat(32)) && change["now"].as_str().unwrap().contains(&id(wrong)), "{report:#}");

    // Who asks for something else is not told of it.
    let others = place.run("reparse archive --events old.ndjson --channels funding,mark");
    assert_eq!(others.status, Some(0), "{}", others.stdout);
    assert!(!others.stdout.contains("trade"), "{}", others.stdout);
}

#[cfg(feature = "parquet")]
#[test]
fn a_dataset_is_compared_as_its_lines_are() {
    let place = Place::new();
    let venues = "--exchanges bybit,binance";
    place.run(&format!("run {venues} --channels {CHANNELS} --simulate --listen off --for 2s --sink file:live --capture archive")).ok();
    // Both of them whole: a run that ends may leave something for the next one to deliver.
    place.run(&format!("replay archive {venues} --channels {CHANNELS} --sink parquet:rows --sink file:lines")).ok();
    let sorted = |lines: &str| {
        let mut lines: Vec<String> = lines.lines().map(str::to_owned).collect();
        lines.sort_unstable();
        lines
    };
    let lines: String = support::files(&place.path("lines")).iter().map(|path| support::text(path)).collect();
    let rows = place.run("tail parquet:rows --no-follow").ok();
    assert!(lines.lines().count() > 500 && sorted(&rows.stdout) == sorted(&lines), "{} and {} bytes", rows.stdout.len(), lines.len());
    let report = json(&place.run("reparse archive --events lines --json").ok());
    assert!(sum(&report, "same") > 500, "{report:#}");
    for events in ["rows", "parquet:rows"] {
        assert_eq!(json(&place.run(&format!("reparse archive --events {events} --json")).ok()), report);
    }
    // A dataset of which a file is damaged is not compared as if it were whole.
    let folder = std::fs::read_dir(place.path("rows/type=trade/venue=bybit")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(folder.join("part-damaged.parquet"), "no parquet").unwrap();
    let refused = place.run("reparse archive --events rows");
    assert!(refused.status == Some(1) && refused.stderr.contains("part-damaged.parquet"), "{}", refused.stderr);
    let told = place.run("tail parquet:rows --no-follow --log json");
    assert!(told.status == Some(1) && told.stderr.contains("part-damaged.parquet"), "{}", told.stderr);
    assert_eq!(Events::parse(&told.stdout).len(), lines.lines().count(), "the rest is there");
}

/// When the event of a line was received.
fn received(line: &str) -> i64 {
    Events::parse(line).lines().next().unwrap().received()
}

#[test]
fn what_is_not_there_is_wrong_usage() {
    let place = Place::new();
    place.write("none.ndjson", "");
    for (arguments, what) in [
        ("reparse none.ndjson", "--events <PATH>"),
        ("reparse none.ndjson --events nowhere", "cannot read `nowhere`: No such file or directory"),
        ("reparse nowhere --events none.ndjson", "cannot open nowhere: No such file or directory"),
        ("reparse none.ndjson --events amqp://u:p@h", "--events: `amqp://***@h` is nothing that this build reads events from"),
    ] {
        let refused = place.run(arguments);
        assert_eq!(refused.status, Some(2), "{arguments}: {}", refused.stderr);
        assert!(refused.stderr.contains(what), "{arguments}: {}", refused.stderr);
    }
    assert!(place.run("reparse none.ndjson --events none.ndjson").ok().stdout.starts_with("VENUE"));
}
