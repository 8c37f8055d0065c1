//! The ledger balances, and says what the files say: `collector audit` against the lines that went out, when all goes
//! well, when a sink does not keep up or goes away, when the process is killed, and when someone meddles with it.
#![cfg(unix)]

mod support;

use std::collections::BTreeMap;
use std::io::{BufRead as _, Read as _};
use std::process::Command;

use rustix::process::Signal;
use serde_json::Value;
use support::{Events, Finished, Line, Place, Running, Sim, Stdout, eventually, files, get, market, metric};
use venue_sim::Config;

const CHANNELS: &str = "ticker,mark,funding,open_interest,trade,book";

/// What a run is asked for, into sinks.
fn collecting(place: &Place, options: &[String], sinks: &[&str]) -> Command {
    let mut command = place.collector("run --exchanges binance,bybit --markets spot,linear --interval 2s --name mine --listen 127.0.0.1:0");
    command.args(["--channels", CHANNELS]).args(sinks.iter().flat_map(|sink| ["--sink", sink])).args(options);
    command
}

/// What `audit --json` says of the one ledger, and its exit status.
fn audit(place: &Place, arguments: &str) -> (Value, Finished) {
    let finished = place.run(&format!("audit --json {arguments}"));
    let all: Value = serde_json::from_str(&finished.stdout).unwrap_or_else(|error| panic!("{error}: {finished:?}"));
    assert_eq!(finished.status, Some(i32::from(all["balanced"] != true)), "{}", finished.stderr);
    let [ledger] = all["ledgers"].as_array().unwrap().as_slice() else { panic!("{all}") };
    (ledger.clone(), finished)
}

fn rows(ledger: &Value) -> &[Value] {
    ledger["rows"].as_array().unwrap()
}

/// The sum of a count over all rows.
fn sum(ledger: &Value, count: &str) -> u64 {
    rows(ledger).iter().map(|row| row[count].as_u64().unwrap()).sum()
}

/// How many lines of each venue, market, type, instrument and hour.
type Counts = BTreeMap<[String; 5], u64>;

fn counts_of_lines(events: &Events) -> Counts {
    let mut counts = Counts::new();
    for event in events.lines().map(Line::json) {
        let word = |key: &str| event[key].as_str().unwrap_or_default().to_owned();
        let name = [word("symbol"), word("venue_symbol"), "-".to_owned()].into_iter().find(|name| !name.is_empty()).unwrap();
        let hour = exchange_core::Time::from_micros(event["t"].as_i64().unwrap()).to_string()[..13].to_owned();
        *counts.entry([word("venue"), word("market"), word("type"), name, hour]).or_default() += 1;
    }
    counts
}

fn counts_of_rows(ledger: &Value, sink: &str, count: &str) -> Counts {
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    let key = |row: &Value| [word(row, "venue"), word(row, "market"), word(row, "channel"), word(row, "symbol"), word(row, "hour")[..13].to_owned()];
    rows(ledger).iter().map(|row| (key(row), row["sinks"][sink][count].as_u64().unwrap())).filter(|(_, count)| *count > 0).collect()
}

/// The name of the sink that is no other.
fn sink_named(ledger: &Value, start: &str) -> String {
    let mut names = ledger["sinks"].as_array().unwrap().iter().map(|name| name.as_str().unwrap());
    names.find(|name| name.starts_with(start)).unwrap().to_owned()
}

#[test]
fn it_says_what_the_files_and_the_summary_say() {
    let place = Place::new();
    // Gaps, decode errors and repetitions, too.
    let faults = [
        "[[fault]]\naction = \"close\"\nvenue = \"bybit\"\npath = \"/v5/public/linear\"\nafter = 300\ncount = 1\ncode = 1001\n",
        "[[fault]]\naction = \"broken_frame\"\nvenue = \"bybit\"\ntopic = \"publicTrade.*\"\nafter = 20\ncount = 3\n",
        "[[fault]]\naction = \"drop_frame\"\nvenue = \"binance\"\npath = \"/stream\"\ntopic = \"btcusdt@depth@100ms\"\nafter = 30\ncount = 1\n",
        "[[fault]]\naction = \"repeat_frame\"\nprobability = 0.2",
    ];
    let sim = Sim::faulty(market(6, 2000.0), &faults.concat());
    let run = Running::start(&mut collecting(&place, &sim.options(), &["file:out", "null:"]), Stdout::Collect);
    eventually("gaps and errors", || {
        let metrics = run.metrics();
        let of = |name: &str| metric(&metrics, name, &[]);
        (of("collector_reconnects_total") >= 1 && of("collector_decode_errors_total") >= 3 && of("collector_unchanged_total") > 0).then_some(())
    });
    run.wait_for_events(8000);
    // Until its end, nobody else has its name; its ledger can be read all the same.
    assert_eq!(place.run("audit --json").ok().stderr.lines().filter(|line| line.contains("goes on")).count(), 1);
    let finished = run.stop().ok();

    let (ledger, told) = audit(&place, "--symbols");
    assert_eq!((told.status, ledger["running"].as_bool(), told.stderr.as_str()), (Some(0), Some(false), ""));
    let seen = Events::of_sink(&place.path("out"));
    let file = sink_named(&ledger, "file:");
    assert_eq!(counts_of_rows(&ledger, &file, "written"), counts_of_lines(&seen));
    assert_eq!(counts_of_rows(&ledger, "null:", "written"), counts_of_lines(&seen));
    for venue in ["binance", "bybit"] {
        let of = |count: &str| rows(&ledger).iter().filter(|row| row["venue"] == venue).map(|row| row[count].as_u64().unwrap()).sum::<u64>();
        let said = [of("passed"), of("unchanged") + of("passed_over"), of("duplicate"), of("gaps"), of("undecodable")];
        assert_eq!(said, finished.summary(venue), "{venue}");
    }
    assert!(sum(&ledger, "gaps") > 0 && sum(&ledger, "duplicate") > 0 && sum(&ledger, "passed_over") > 0 && sum(&ledger, "dropped") == 0);
    assert!(rows(&ledger).iter().all(|row| row["complete"].is_null() || row["complete"] == 1.0));

    // Less of it is the same, less finely.
    let (coarse, _) = audit(&place, "");
    for count in ["received", "passed", "written", "gaps"] {
        assert_eq!(sum(&coarse, count), sum(&ledger, count));
    }
    let (bitcoin, _) = audit(&place, "--symbols BTC/*");
    assert!(!rows(&bitcoin).is_empty() && rows(&bitcoin).iter().all(|row| row["symbol"].as_str().unwrap().starts_with("BTC/")));
    let table = place.run("audit").ok().stdout;
    let head = table.lines().find(|line| line.starts_with("HOUR")).unwrap();
    assert_eq!(head.split_whitespace().take(4).collect::<Vec<_>>(), ["HOUR", "VENUE", "CHANNEL", "RECEIVED"]);
    assert!(table.lines().any(|line| line.contains(" bybit ") && line.contains(" trade ") && line.ends_with("100.00 %")), "{table}");
    assert!(rows(&audit(&place, "--to 2026-01-01").0).is_empty());
}

#[test]
fn whoever_meddles_with_it_is_found_out() {
    let (place, sim) = (Place::new(), Sim::start(Config { events: Some(500), ..market(3, 1000.0) }));
    let run = Running::start(&mut collecting(&place, &sim.options(), &["file:out"]), Stdout::Collect);
    sim.still();
    run.settle();
    run.stop().ok();
    audit(&place, "").1.ok();

    let [path] = files(&place.path("state/collector/ledger/mine")).try_into().unwrap();
    let text = std::fs::read_to_string(&path).unwrap();
    let written = |change: &dyn Fn(&mut Vec<String>)| {
        let mut lines: Vec<String> = text.lines().map(str::to_owned).collect();
        change(&mut lines);
        std::fs::write(&path, lines.join("\n") + "\n").unwrap();
        let (ledger, finished) = audit(&place, "");
        assert_eq!(finished.status, Some(1));
        (ledger, finished.stderr)
    };
    let row = |kind: &str| {
        text.lines().position(|line| line.starts_with(&format!("{{\"{kind}\":")) && line.contains("\"trade\"") && line.contains("\"bybit\"")).unwrap()
    };
    let (ledger, said) = written(&|lines| drop(lines.remove(row("sink"))));
    assert!(
        said.contains(" rows were read where ") && said.contains(" bybit ") && said.contains(" trade ") && said.contains("but 0 written, kept or dropped"),
        "{said}"
    );
    let differences = ledger["differences"].as_array().unwrap();
    assert!(!differences.is_empty() && differences.iter().all(|d| d["venue"] == "bybit" && d["channel"] == "trade" && d["sum"] == "sink" && d["right"] == 0));
    let (_, said) = written(&|lines| drop(lines.remove(row("venue"))));
    assert!(said.contains(": 0 passed on to `file:"), "{said}");
    let (_, said) = written(&|lines| lines[row("venue")] = lines[row("venue")].replacen("\"passed\":", "\"passed\":9", 1));
    assert!(said.contains(" decoded or made, but "), "{said}");
    let (_, said) = written(&|lines| lines[row("venue")].push('}'));
    assert!(said.contains("not a row of a ledger"), "{said}");
    let (_, said) = written(&|lines| drop(lines.pop()));
    assert!(said.contains("was killed"), "{said}");
    std::fs::write(&path, &text).unwrap();
    audit(&place, "").1.ok();
}

#[test]
fn what_a_sink_was_too_slow_for_is_dropped_and_balances() {
    let _alone = support::alone();
    let (place, sim) = (Place::new(), Sim::start(market(20, 20_000.0)));
    let mut run = Running::start(&mut collecting(&place, &sim.options(), &["stdout:", "file:out"]), Stdout::Leave);
    eventually("the overflow", || (metric(&run.metrics(), "collector_events_dropped_total", &[]) > 1000).then_some(()));
    run.signal(Signal::TERM);
    eventually("the end of all connections", || (sim.handle().counters().connections == 0).then_some(()));
    let mut text = String::new();
    run.take_stdout().read_to_string(&mut text).unwrap();
    run.finish().ok();

    let (ledger, _) = audit(&place, "--symbols");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    let seen = Events::parse(&text);
    assert_eq!(counts_of_rows(&ledger, "stdout:", "written"), counts_of_lines(&seen));
    let of = |count: &str| rows(&ledger).iter().map(|row| row["sinks"]["stdout:"][count].as_u64().unwrap()).sum::<u64>();
    assert!(of("dropped") > 1000);
    assert_eq!(of("told"), seen.gaps("overflow").len() as u64);
    assert_eq!(of("written") + of("dropped"), sum(&ledger, "passed") + of("told"));
    // The other sink has everything.
    let file = sink_named(&ledger, "file:");
    assert_eq!(counts_of_rows(&ledger, &file, "written"), counts_of_lines(&Events::of_sink(&place.path("out"))));
    assert!(rows(&ledger).iter().any(|row| row["complete"].as_f64().is_some_and(|complete| complete < 1.0)));
}

#[test]
fn what_a_reader_that_went_away_did_not_get_is_dropped_and_balances() {
    let (place, sim) = (Place::new(), Sim::start(market(10, 4000.0)));
    let mut run = Running::start(&mut collecting(&place, &sim.options(), &["stdout:", "file:out"]), Stdout::Leave);
    let mut reader = run.take_stdout();
    for _ in 0..100 {
        reader.read_line(&mut String::new()).unwrap();
    }
    drop(reader);
    run.finish().ok();
    let (ledger, _) = audit(&place, "--symbols");
    assert_eq!(ledger["balanced"], true, "{ledger}");
    assert!(rows(&ledger).iter().map(|row| row["sinks"]["stdout:"]["dropped"].as_u64().unwrap()).sum::<u64>() > 0);
    let file = sink_named(&ledger, "file:");
    assert_eq!(counts_of_rows(&ledger, &file, "written"), counts_of_lines(&Events::of_sink(&place.path("out"))));
}

#[test]
fn a_run_that_was_killed_does_not_pass_for_a_whole_one() {
    let (place, sim) = (Place::new(), Sim::start(market(5, 2000.0)));
    let first = Running::start(&mut collecting(&place, &sim.options(), &["file:out"]), Stdout::Collect);
    first.wait_for_events(1000);
    first.signal(Signal::KILL);
    first.finish();
    let (ledger, finished) = audit(&place, "");
    assert!(ledger["balanced"] == false && finished.stderr.contains("was killed: what it did after 20"), "{}", finished.stderr);

    // The next run of that name keeps its own ledger beside it.
    let second = Running::start(&mut collecting(&place, &sim.options(), &["file:out2"]), Stdout::Collect);
    second.wait_for_events(1000);
    let finished = second.stop().ok();
    let (ledger, said) = audit(&place, "--symbols");
    assert_eq!(said.stderr.lines().count(), 1, "{}", said.stderr);
    let out2 = ledger["sinks"].as_array().unwrap().iter().filter_map(Value::as_str).find(|name| name.ends_with("out2")).unwrap();
    assert_eq!(counts_of_rows(&ledger, out2, "written"), counts_of_lines(&Events::of_sink(&place.path("out2"))));
    assert_eq!(sum(&ledger, "passed"), ["binance", "bybit"].iter().map(|venue| finished.summary(venue)[0]).sum::<u64>());
    assert_eq!(ledger["differences"], serde_json::json!([]));
}

#[test]
fn a_state_directory_that_cannot_be_used() {
    let (place, sim) = (Place::new(), Sim::start(Config { events: Some(0), ..market(2, 1.0) }));
    place.write("file", "");
    let once = "run --exchanges bybit --once --sink file:out --listen off";
    let run = |arguments: &str, home: &str| {
        let mut command = place.collector(arguments);
        Running::start(command.env("XDG_STATE_HOME", place.path(home)).args(sim.options()), Stdout::Collect).finish()
    };
    // Nobody asked for it: the data is worth more than the ledger.
    let finished = run(once, "file").ok();
    let path = place.path("file/collector");
    assert!(
        finished.stderr.contains(&format!("cannot use `{}` as the state directory: ", path.display())) && finished.stderr.contains("no ledger"),
        "{finished:?}"
    );
    assert!(Events::of_sink(&place.path("out")).len() > 0);
    let finished = run(&format!("{once} --state file/mine"), "state");
    assert!(finished.status == Some(2) && finished.stderr.contains("cannot use `file/mine` as the state directory: "), "{finished:?}");
    // What does not last has no books. What the venues count does not depend on that.
    run("run --exchanges bybit --once --sink stdout: --listen off", "state").ok();
    assert_eq!(files(&place.path("state/collector")), [place.path("state/collector/budgets")]);
    let finished = run("run --exchanges bybit --once --sink stdout: --listen off", "file").ok();
    assert!(finished.stderr.contains("bans and budgets are not shared") && !finished.stderr.contains("ledger"), "{finished:?}");
    run("run --exchanges bybit --once --sink stdout: --listen off --simulate", "simulated").ok();
    assert!(!place.path("simulated").exists());
}

#[test]
fn what_is_asked_of_it_wrongly_is_said() {
    let (place, sim) = (Place::new(), Sim::start(Config { events: Some(0), ..market(2, 1.0) }));
    let state = place.path("state/collector").display().to_string();
    let refused = |arguments: &str| {
        let finished = place.run(arguments);
        assert_eq!((finished.status, finished.stdout.as_str()), (Some(2), ""), "{}", finished.stderr);
        finished.stderr.trim_end().to_owned()
    };
    let none = |place: &str| {
        format!("there is no ledger in `{place}`: `collector run` keeps one there, if its sinks last or it has a --name (another directory: --state)")
    };
    assert_eq!(refused("audit"), none(&state));
    assert_eq!(refused("audit --state elsewhere"), none("elsewhere"));
    let run = Running::start(&mut collecting(&place, &sim.options(), &["null:"]), Stdout::Collect);
    eventually("its start", || (get(run.address(), "/healthz").0 == 200).then_some(()));
    run.stop().ok();
    place.run("audit").ok();
    place.run("audit --name mine --from 1h --to 2999-01-01").ok();
    assert_eq!(refused("audit --name other"), format!("there is no ledger of `other` in `{state}`: there is `mine`"));
    assert_eq!(refused("audit --from yesterday"), "--from: `yesterday` is no hour (such as 2026-01-05T13, 2026-01-05, or 24h ago: 24h)");
}
