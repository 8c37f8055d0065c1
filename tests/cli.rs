//! The command line as a user meets it: what is wrong is said in a line each, with what would be right, before
//! anything is started; what is asked for once comes once; file, environment and flags in their order.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::Write as _;

use exchange_sinks::SinkUri;
use serde_json::Value;
use support::{Events, Finished, Place, Running, Sim, Stdout, market, nobody};
use venue_sim::Config;

/// A market in which nothing happens.
fn standing(symbols: usize) -> Sim {
    Sim::start(Config { events: Some(0), ..market(symbols, 1.0) })
}

/// The venues that there are.
fn registered() -> Vec<String> {
    exchange_venues::all().iter().map(|venue| exchange_core::Profile::parse(venue.policy()).unwrap().name).collect()
}

fn listed_in_words(names: &[String]) -> String {
    let quoted: Vec<String> = names.iter().map(|name| format!("`{name}`")).collect();
    let (last, others) = quoted.split_last().unwrap();
    format!("{} and {last}", others.join(", "))
}

/// Wrong usage: nothing on standard output, and on standard error these lines.
#[track_caller]
fn refused(finished: &Finished, lines: &[&str]) {
    assert_eq!((finished.status, finished.stdout.as_str()), (Some(2), ""), "{}", finished.stderr);
    assert_eq!(finished.stderr.lines().collect::<Vec<_>>(), lines);
}

#[test]
fn what_is_wrong_is_said_with_what_would_be_right() {
    let place = Place::new();
    place.write("slip.toml", "exchanges = \"bybit\"\n\nintervall = \"3s\"\n");
    place.write("broken.toml", "exchanges = [\n");
    place.write("faults.toml", "[[fault]]\naction = \"explode\"\n");
    let known = registered();
    let symbols = "they are written `BTC/USDT` (spot), `BTC/USDT:USDT` (linear), `BTC/USD:BTC` (inverse), `BTC/*`";
    for (arguments, line) in [
        (
            "run",
            format!(
                "no venue was named: give `--exchanges LIST` or write `exchanges` in the configuration (there is {}; `all` for all)",
                listed_in_words(&known)
            ),
        ),
        ("run --exchanges bybti", "--exchanges: unknown venue `bybti`: did you mean `bybit`?".to_owned()),
        ("run --exchanges nobody", format!("--exchanges: unknown venue `nobody`: there is {}", listed_in_words(&[&known[..], &["all".into()]].concat()))),
        ("instruments --exchanges bybti", "--exchanges: unknown venue `bybti`: did you mean `bybit`?".to_owned()),
        ("run --exchanges bybit --channels tikcer", "--channels: unknown channel `tikcer`: did you mean `ticker`?".to_owned()),
        ("run --exchanges bybit --channels candle", "--channels: candles have an interval: `candle:1m`".to_owned()),
        ("run --exchanges bybit --markets liner", "--markets: unknown market `liner`: did you mean `linear`?".to_owned()),
        ("run --exchanges bybit --markets option", "--markets: market `option` cannot be collected yet: there is `spot`, `linear` and `inverse`".to_owned()),
        ("run --exchanges bybit --symbols BTCUSDT", format!("--symbols: `BTCUSDT` is no unified symbol: {symbols}")),
        (
            "run --exchanges bybit --symbols BTC/USDT",
            "--symbols: `BTC/USDT` is a spot symbol, and the markets are linear: write `BTC/USDT:USDT`, or ask for `--markets spot`".to_owned(),
        ),
        ("run --exchanges bybit --mode fast", "--mode: unknown mode `fast`: there is `poll`, `stream` and `auto`".to_owned()),
        ("run --exchanges bybit --once --mode stream", "--mode: `once` is one poll cycle, which mode `stream` has not".to_owned()),
        ("run --exchanges bybit --for soon", "--for: `soon` is no duration (such as 500ms, 5s, 10m, 24h)".to_owned()),
        ("run --exchanges bybit --interval 0s", "--interval: it must be longer than nothing".to_owned()),
        ("run --exchanges bybit --sink fiel:x", format!("--sink: `fiel:x` is no sink: did you mean `file:`? (there are {})", SinkUri::known())),
        ("run --exchanges bybit --listen here", "--listen: `here` is no address (such as 127.0.0.1:9464, [::]:9464)".to_owned()),
        ("run --exchanges bybit --shard 2/2", "--shard: `2/2` is no share: `I/N`, with I from 0 and less than N (`0/3`, `1/3`, `2/3`)".to_owned()),
        ("run --exchanges bybit --name a/b", "--name: `a/b` is no name: up to 100 letters, digits, `-`, `_` and `.`".to_owned()),
        ("run --exchanges bybit --set intervall=3s", "--set intervall: unknown key `intervall`: did you mean `interval`?".to_owned()),
        ("run --exchanges bybit --set interval", "--set interval: expected KEY=VALUE".to_owned()),
        ("run --exchanges bybit --set venues.bybit.rest_ur=http://h", "--set venues.bybit.rest_ur: unknown key `rest_ur`: did you mean `rest_url`?".to_owned()),
        (
            "run --exchanges bybit --set venues.bybit.ws_url=http://h",
            "--set venues.bybit.ws_url: `http://h` is no address that begins with `ws://` or `wss://` and a host".to_owned(),
        ),
        ("run --exchanges bybit --profile prod", "--profile: there is no configuration file, hence no profile `prod`".to_owned()),
        ("run --config none.toml", "none.toml: cannot read it: No such file or directory (os error 2)".to_owned()),
        ("run --config slip.toml", "slip.toml:3: unknown key `intervall`: did you mean `interval`?".to_owned()),
        ("check --config slip.toml", "slip.toml:3: unknown key `intervall`: did you mean `interval`?".to_owned()),
        ("run --config broken.toml", "broken.toml:1:14: unclosed array, expected `]`".to_owned()),
        ("sim", "--exchanges or --play is needed: which venues to simulate, or which captures to serve".to_owned()),
        ("sim --exchanges bybit --faults none.toml", "none.toml: No such file or directory (os error 2)".to_owned()),
        ("sim --play none.ndjson", "none.ndjson: No such file or directory (os error 2)".to_owned()),
        ("decode none.ndjson", "cannot open none.ndjson: No such file or directory (os error 2)".to_owned()),
        ("decode .", "there are no captures in . (`*.ndjson`, `*.ndjson.zst`)".to_owned()),
    ] {
        let finished = place.run(arguments);
        assert_eq!(finished.stderr.trim_end(), line, "{arguments}");
        refused(&finished, &[&line]);
    }
    let finished = place.run("sim --exchanges bybit --faults faults.toml");
    assert!(finished.status == Some(2) && finished.stderr.contains("unknown variant `explode`"), "{finished:?}");
    for arguments in ["run --exchange bybit", "runn", "run --exchanges bybit --once=perhaps", "completions tcsh"] {
        let finished = place.run(arguments);
        assert!(finished.status == Some(2) && finished.stdout.is_empty() && finished.stderr.starts_with("error: "), "{arguments}: {finished:?}");
    }
    // All at once, not one after the other.
    refused(
        &place.run("run --exchanges bybit --for soon --mode pol"),
        &["--mode: unknown mode `pol`: did you mean `poll`?", "--for: `soon` is no duration (such as 500ms, 5s, 10m, 24h)"],
    );
    let environment = Running::start(place.collector("run --exchanges bybit").env("COLLECTOR_ALL_EVENT", "true"), Stdout::Collect).finish();
    refused(&environment, &["COLLECTOR_ALL_EVENT: unknown key `all_event`: did you mean `all_events`?"]);
    // Nothing was started, so nothing was written.
    assert!(!place.path("data").exists() && !place.path("state").exists());
}

/// What was listed, by venue, market and symbol; whether it is a perpetual.
type Listed = BTreeMap<[String; 3], bool>;

fn listed(place: &Place, sim: &Sim, markets: &str) -> Listed {
    let mut command = place.collector(&format!("instruments --exchanges binance,bybit --markets {markets} --json"));
    let finished = Running::start(command.args(sim.options()), Stdout::Collect).finish().ok();
    let rows: Vec<Value> = serde_json::from_str(&finished.stdout).unwrap();
    let word = |row: &Value, key: &str| row[key].as_str().unwrap().to_owned();
    rows.iter().map(|row| (["venue", "market", "symbol"].map(|key| word(row, key)), row["kind"] == "perpetual")).collect()
}

#[test]
fn once_is_one_cycle_of_everything_asked_for() {
    let (place, sim) = (Place::new(), standing(12));
    let instruments = listed(&place, &sim, "linear,inverse");
    assert_eq!(instruments.len(), 48, "as many as the simulator has of each market");
    let mut command = place.collector("run --exchanges bybit,binance --markets linear,inverse --once --sink stdout: --listen off");
    let finished = Running::start(command.args(sim.options()), Stdout::Collect).finish().ok();
    let seen = Events::parse(&finished.stdout);
    seen.assert_once();

    let mut counts: BTreeMap<(String, [String; 3]), usize> = BTreeMap::new();
    for event in seen.lines() {
        let event = event.json();
        let key = ["venue", "market", "symbol"].map(|key| event[key].as_str().unwrap().to_owned());
        *counts.entry((event["type"].as_str().unwrap().to_owned(), key)).or_default() += 1;
    }
    let wanted = |kind: &str| {
        instruments.iter().filter(|(_, perpetual)| kind != "funding" || **perpetual).map(|(key, _)| (kind.to_owned(), key.clone())).collect::<BTreeSet<_>>()
    };
    let wanted: BTreeSet<_> = ["ticker", "mark", "funding", "open_interest"].into_iter().flat_map(wanted).collect();
    assert_eq!(counts.keys().cloned().collect::<BTreeSet<_>>(), wanted, "every channel of every instrument, and nothing else");
    for ((kind, key), count) in counts {
        // Binance says interval and limits of the funding in an answer of its own, for some instruments.
        assert!(count == 1 || (count == 2 && kind == "funding" && key[0] == "binance"), "{kind} {key:?}: {count}");
    }
    // One request of each: what serves all instruments at once is not asked for one of them.
    let requests = sim.handle().counters().requests;
    assert_eq!((requests["bybit/v5/market/tickers"], requests["binance/fapi/v1/premiumIndex"], requests["binance/fapi/v1/openInterest"]), (2, 1, 12));
}

#[test]
fn simulated_venues_inside_the_process_need_no_network() {
    let place = Place::new();
    let finished = place.run("run --simulate --exchanges bybit,binance --once --sink stdout: --listen off --set sim.symbols=5").ok();
    let seen = Events::parse(&finished.stdout);
    let venues: BTreeSet<String> = seen.lines().map(|line| line.json()["venue"].as_str().unwrap().to_owned()).collect();
    assert_eq!(venues, ["binance", "bybit"].map(str::to_owned).into());
    assert_eq!(seen.of(&["ticker"]).count(), 10);
}

#[test]
fn a_venue_that_cannot_be_reached_costs_the_others_nothing() {
    let (place, sim) = (Place::new(), standing(5));
    let mut command = place.collector("run --exchanges bybit,binance --once --sink stdout: --listen off");
    command.args(sim.options()).args(["--set", &format!("venues.bybit.rest_url=http://{}/bybit", nobody())]);
    let finished = Running::start(&mut command, Stdout::Collect).finish();
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("\nbybit: linear instruments: transient: cannot connect: "), "{}", finished.stderr);
    let seen = Events::parse(&finished.stdout);
    assert!(seen.lines().all(|line| line.json()["venue"] == "binance"));
    assert_eq!(["ticker", "mark", "open_interest"].map(|kind| seen.of(&[kind]).count()), [5, 5, 5]);

    // Who watched it for a while is told at the end, too: nothing came, and why.
    let mut command = place.collector("run --exchanges bybit --for 2s --sink stdout: --listen off");
    command.args(["--set", &format!("venues.bybit.rest_url=http://{}/bybit", nobody())]);
    let finished = Running::start(&mut command, Stdout::Collect).finish().ok();
    let last: Vec<&str> = finished.stderr.lines().skip_while(|line| !line.starts_with("bybit: 0 events")).collect();
    assert!(last.iter().any(|line| line.starts_with("bybit: linear instruments: transient: cannot connect: ")), "{}", finished.stderr);
}

#[test]
fn what_a_venue_does_not_serve_is_named_once_and_left_out() {
    let (place, sim) = (Place::new(), standing(5));
    let mut command =
        place.collector("run --exchanges bybit,binance --markets spot,linear --channels ticker,funding,liquidation --once --sink stdout: --listen off");
    let finished = Running::start(command.args(sim.options()), Stdout::Collect).finish().ok();
    let left_out: BTreeSet<&str> = finished.stderr.lines().filter(|line| line.contains("does not serve")).collect();
    assert_eq!(
        left_out,
        [
            "bybit: does not serve funding by REST for spot: left out",
            "bybit: does not serve liquidation by REST for spot, linear: left out",
            "binance: does not serve funding by REST for spot: left out",
            "binance: does not serve liquidation by REST for spot, linear: left out",
        ]
        .into()
    );
    assert_eq!(finished.stderr.matches("does not serve").count(), 4, "once each");
    let seen = Events::parse(&finished.stdout);
    assert!(seen.of(&["ticker"]).count() >= 19 && seen.of(&["funding"]).count() >= 6 && seen.of(&["liquidation"]).count() == 0);

    let nothing = place.run("run --exchanges bybit,binance --markets spot --channels funding --once --sink stdout:");
    refused(
        &nothing,
        &[
            "bybit: does not serve funding by REST for spot: left out",
            "binance: does not serve funding by REST for spot: left out",
            "nothing is left to collect: see `collector venues` for what each venue serves",
        ],
    );
}

/// A capture line.
const LIQUIDATION: &str = r#"{"t":1784894400000000,"venue":"bybit","market":"linear","conn":1,"source":"ws wss://stream.bybit.com/v5/public/linear","payload":"{\"topic\":\"allLiquidation.ROSEUSDT\",\"type\":\"snapshot\",\"ts\":1739502303204,\"data\":[{\"T\":1739502302929,\"s\":\"ROSEUSDT\",\"S\":\"Sell\",\"v\":\"20000\",\"p\":\"0.04499\"}]}"}"#;

#[test]
fn a_capture_that_was_cut_off_gives_what_it_holds() {
    let place = Place::new();
    let mut file = zstd::Encoder::new(Vec::new(), 1).unwrap();
    for _ in 0..3 {
        writeln!(file, "{LIQUIDATION}").unwrap();
    }
    file.flush().unwrap();
    std::fs::write(place.path("cut.ndjson.zst"), file.get_ref()).unwrap();
    let finished = place.run("decode cut.ndjson.zst");
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.starts_with("cut.ndjson.zst: ends within a block, behind line 3: "), "{}", finished.stderr);
    assert_eq!(Events::parse(&finished.stdout).of(&["liquidation"]).count(), 3);

    // What comes after it is decoded as well.
    std::fs::create_dir(place.path("archive")).unwrap();
    std::fs::write(place.path("archive/1.ndjson.zst"), file.get_ref()).unwrap();
    std::fs::write(place.path("archive/2.ndjson.zst"), [&[0x28, 0xb5, 0x2f, 0xfd], &[0xff; 100][..]].concat()).unwrap();
    std::fs::write(place.path("archive/3.ndjson"), format!("\n{LIQUIDATION}")).unwrap();
    let finished = place.run("decode archive");
    assert_eq!(finished.status, Some(1), "{}", finished.stderr);
    assert!(finished.stderr.contains("cannot read archive/2.ndjson.zst beyond line 0: "), "{}", finished.stderr);
    let lines: Vec<Value> = Events::parse(&finished.stdout).of(&["liquidation"]).map(|line| line.json()["line"].clone()).collect();
    assert_eq!(lines, [1, 2, 3, 2], "an empty line is counted");
}

#[test]
fn what_cannot_be_decoded_is_an_event_and_a_status() {
    let place = Place::new();
    let good = LIQUIDATION;
    let stranger = good.replace("\"venue\":\"bybit\"", "\"venue\":\"bybti\"");
    let cut = good.replace("\\\"p\\\":\\\"0.04499\\\"}]}", "");
    place.write("good.ndjson", &format!("{good}\n"));
    place.write("mixed.ndjson", &format!("this is no capture\n{good}\n\n{stranger}\n{cut}\n"));

    let finished = place.run("decode good.ndjson").ok();
    let event = Events::parse(&finished.stdout).lines().map(support::Line::json).next().unwrap();
    assert_eq!((&event["type"], &event["side"], &event["line"]), (&"liquidation".into(), &"buy".into(), &1.into()), "the position's side, turned");

    let strict = place.run("decode mixed.ndjson good.ndjson");
    assert_eq!(strict.status, Some(3), "{}", strict.stderr);
    let events = Events::parse(&strict.stdout);
    let errors: Vec<Value> = events.of(&["decode_error"]).map(support::Line::json).collect();
    assert_eq!(errors.iter().map(|error| error["line"].as_u64().unwrap()).collect::<Vec<_>>(), [1, 4, 5], "numbered as in the file");
    let reason = |at: usize| errors[at]["reason"].as_str().unwrap();
    assert!(reason(0).starts_with("malformed: not a capture line: "), "{}", reason(0));
    assert!(reason(1).contains("`bybti` is no venue that is known here") && reason(1).contains("bybit"), "{}", reason(1));
    assert!(reason(2).starts_with("malformed: "), "{}", reason(2));
    assert_eq!(events.of(&["liquidation"]).count(), 2, "all of it is tried");

    let lenient = place.run("decode --lenient mixed.ndjson good.ndjson").ok();
    assert_eq!(lenient.stdout, strict.stdout);
    // A name that is wrong is found before anything is decoded.
    refused(&place.run("decode good.ndjson none.ndjson"), &["cannot open none.ndjson: No such file or directory (os error 2)"]);
}

/// The keys of a printed configuration, with their values.
fn keys(printed: &str) -> BTreeMap<String, String> {
    let lines = printed.lines().filter_map(|line| line.split(" # ").next().unwrap().trim_end().split_once(" = "));
    lines.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
}

#[test]
fn flags_win_over_the_environment_and_that_over_the_file() {
    let (place, sim) = (Place::new(), standing(4));
    place.write("collector.toml", "exchanges = [\"bybit\", \"binance\"]\ninterval = \"1s\"\nmode = \"stream\"\nall_events = true\nmarkets = \"spot\"\n[profiles.prod]\ninterval = \"9s\"\nfold = true\n");
    let with = |arguments: &str| {
        let mut command = place.collector(arguments);
        command.env("COLLECTOR_INTERVAL", "2s").env("COLLECTOR_MODE", "auto").env("COLLECTOR_VENUES__BYBIT__WS__TOPICS_PER_FRAME", "7").args(sim.options());
        command
    };
    let finished = Running::start(&mut with("check --interval 3s --set listen=off --profile prod"), Stdout::Collect).finish().ok();
    let line = |key: &str| finished.stdout.lines().find(|line| line.starts_with(&format!("{key} = "))).unwrap_or_else(|| panic!("{}", finished.stdout));
    for (key, value, origin) in [
        ("interval", "\"3s\"", "--interval"),
        ("mode", "\"auto\"", "COLLECTOR_MODE"),
        ("all_events", "true", "collector.toml:4"),
        ("fold", "true", "collector.toml:8"),
        ("markets", "\"spot\"", "collector.toml:5"),
        ("listen", "\"off\"", "--set"),
        ("once", "false", "default"),
        ("venues.bybit.ws.topics_per_frame", "\"7\"", "COLLECTOR_VENUES__BYBIT__WS__TOPICS_PER_FRAME"),
        ("venues.bybit.ws.silence", "\"20s\"", "bybit/venue.toml"),
    ] {
        let line = line(key);
        assert!(line.starts_with(&format!("{key} = {value} ")) && line.contains(&format!(" # {origin}")), "{line}");
    }

    // What it prints is a configuration that says the same.
    place.write("printed.toml", &finished.stdout);
    let again = place.run("check --config printed.toml").ok();
    assert_eq!(keys(&again.stdout), keys(&finished.stdout));

    // And a run goes by it: the file's venues, the flag's market and channel, the file's mode overruled.
    let run = Running::start(&mut with("run --markets linear --channels mark --once --sink stdout: --listen off"), Stdout::Collect).finish().ok();
    let seen: BTreeSet<[String; 3]> =
        Events::parse(&run.stdout).lines().map(|line| ["venue", "market", "type"].map(|key| line.json()[key].as_str().unwrap().to_owned())).collect();
    assert_eq!(seen, [["binance", "linear", "mark"], ["bybit", "linear", "mark"]].map(|words| words.map(str::to_owned)).into());
}

#[test]
fn a_second_collector_of_the_same_name_is_refused() {
    let (place, sim) = (Place::new(), standing(3));
    let run = |more: &str| {
        let mut command = place.collector("run --exchanges bybit --listen 127.0.0.1:0 --state state");
        command.args(more.split(' ')).args(sim.options());
        command
    };
    let first = Running::start(&mut run("--name one --sink file:out"), Stdout::Collect);
    first.wait_for_events(1);
    let second = Running::start(&mut run("--name one --sink file:other"), Stdout::Collect).finish();
    refused(&second, &["a collector named `one` is running already: choose another --name (or stop it)"]);
    assert!(!place.path("other").exists());
    let third = Running::start(&mut run("--name two --sink file:other --once"), Stdout::Collect).finish().ok();
    assert!(third.summary("bybit")[0] > 0);
    first.stop().ok();
    Running::start(&mut run("--name one --sink file:out --once"), Stdout::Collect).finish().ok();
}

#[test]
fn lists_and_versions_are_for_people_and_for_programs() {
    let (place, sim) = (Place::new(), standing(6));
    let venues: Vec<Value> = serde_json::from_str(&place.run("venues --json").ok().stdout).unwrap();
    let names: Vec<&str> = venues.iter().map(|venue| venue["name"].as_str().unwrap()).collect();
    assert_eq!(names, registered());
    let of = |name: &str| venues.iter().find(|venue| venue["name"] == name).unwrap();
    assert_eq!(of("binance")["markets"]["linear"]["channels"]["open_interest"], serde_json::json!(["sweep"]));
    assert_eq!(of("bybit")["markets"]["linear"]["requests_per_cycle"], 1, "all of Bybit linear in one request");
    let table = place.run("venues").ok().stdout;
    assert!(names.iter().all(|name| table.contains(name)) && table.contains("funding_settled"));

    assert_eq!(listed(&place, &sim, "spot,linear,inverse").len(), 36);
    let mut command = place.collector("instruments --exchanges bybit --symbols BTC/*");
    let table = Running::start(command.args(sim.options()), Stdout::Collect).finish().ok().stdout;
    let mut rows = table.lines();
    assert!(rows.next().unwrap().starts_with("VENUE"));
    assert!(rows.clone().count() >= 1 && rows.all(|row| row.contains(" BTC/USD")), "{table}");

    let version = place.run("--version").ok().stdout;
    assert_eq!(version, format!("collector {} (schema 1)\n", env!("CARGO_PKG_VERSION")));
    let script = place.run("completions bash").ok().stdout;
    assert!(script.contains("complete -F _collector") && script.contains("--all-events"), "{script}");
    for command in ["run", "decode", "sim", "instruments", "venues", "check", "completions"] {
        let help = place.run(&format!("{command} --help")).ok().stdout;
        assert!(help.contains("Example") && help.contains("collector "), "{command} has no example: {help}");
    }
}
