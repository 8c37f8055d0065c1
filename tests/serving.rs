//! What a run serves over HTTP: metrics by Prometheus' rules, whether it lives, whether it is ready and why not.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{SocketAddr, TcpListener};

use serde_json::Value;
use support::{Place, Running, Sim, Stdout, eventually, get, market, metric, nobody};
use venue_sim::Config;

/// Where the metrics are described: whatever stands there has to be served.
const DESCRIBED: &str = include_str!("../crates/collector-cli/src/serve.rs");

/// How the names of metrics end: in their unit, or in what they count.
const ENDINGS: [&str; 13] = ["_total", "_up", "_batches", "_tasks", "_seconds", "_bytes", "_events", "_state", "_used", "_fds", "_threads", "_info", "_ratio"];

/// A sample: its name, its labels, its value. Written after the text format's description:
/// <https://prometheus.io/docs/instrumenting/exposition_formats/#text-based-format>.
fn sample(line: &str) -> Option<(&str, BTreeMap<&str, String>, f64)> {
    let is_name = |text: &str| {
        let mut letters = text.chars();
        letters.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && letters.all(|c| c.is_ascii_alphanumeric() || c == '_')
    };
    let end = line.find(['{', ' '])?;
    let (name, mut rest) = line.split_at(end);
    let mut labels = BTreeMap::new();
    if let Some(inner) = rest.strip_prefix('{') {
        rest = inner;
        while !rest.starts_with('}') {
            let (key, behind) = rest.split_once("=\"")?;
            let mut value = String::new();
            let mut letters = behind.char_indices();
            let close = loop {
                match letters.next()? {
                    (at, '"') => break at,
                    (_, '\\') => value.push(letters.next().filter(|(_, c)| matches!(c, '\\' | '"' | 'n'))?.1),
                    (_, c) => value.push(c),
                }
            };
            if !is_name(key) || labels.insert(key, value).is_some() {
                return None;
            }
            rest = behind.get(close + 1..)?;
            rest = rest.strip_prefix(',').unwrap_or(rest);
        }
        rest = rest.strip_prefix('}')?;
    }
    let value = rest.strip_prefix(' ')?.parse().ok()?;
    is_name(name).then_some((name, labels, value))
}

/// Every line is one of the format; the types of all metrics.
fn check(text: &str) -> BTreeMap<String, String> {
    let (mut types, mut helps) = (BTreeMap::new(), BTreeSet::new());
    let mut seen = BTreeSet::new();
    for line in text.lines().filter(|line| !line.is_empty()) {
        if let Some(help) = line.strip_prefix("# HELP ") {
            assert!(helps.insert(help.split_once(' ').expect("a text").0.to_owned()), "{line}");
        } else if let Some(kind) = line.strip_prefix("# TYPE ") {
            let (name, kind) = kind.split_once(' ').unwrap();
            assert!(matches!(kind, "counter" | "gauge" | "histogram"), "{line}");
            assert!(types.insert(name.to_owned(), kind.to_owned()).is_none(), "{line}");
        } else {
            let (name, labels, value) = sample(line).unwrap_or_else(|| panic!("no sample: {line}"));
            assert!(value.is_finite() && seen.insert((name, labels.clone())), "{line}");
            let family = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end))
                .filter(|family| types.get(*family).is_some_and(|kind| kind == "histogram"))
                .unwrap_or(name);
            let kind = types.get(family).unwrap_or_else(|| panic!("no type before: {line}"));
            assert_eq!(name.ends_with("_bucket"), labels.contains_key("le"), "{line}");
            assert_eq!(kind == "counter", family.ends_with("_total"), "{line}");
            assert!(kind == "gauge" || value >= 0.0, "{line}");
        }
    }
    for name in types.keys() {
        assert!(ENDINGS.iter().any(|end| name.ends_with(end)), "{name} says no unit");
        assert!(helps.contains(name), "{name} is not described");
    }
    types
}

#[test]
fn metrics_are_prometheus_and_complete() {
    let place = Place::new();
    let sim = Sim::faulty(market(6, 1000.0), "[[fault]]\naction = \"status\"\nstatus = 500\npath = \"/v5/market/tickers\"\nafter = 1\ncount = 1");
    let mut command = place.collector(
        "run --exchanges binance,bybit --channels ticker,mark,funding,open_interest,trade,book --interval 500ms --sink file:out --sink null: --listen 127.0.0.1:0",
    );
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    eventually("something of everything", || {
        let text = run.metrics();
        let more = |name: &str| metric(&text, name, &[]) >= 1;
        let lag = |venue| metric(&text, "collector_event_lag_seconds_count", &[("venue", venue)]) >= 1;
        (more("collector_unchanged_total")
            && more("collector_decode_errors_total")
            && more("collector_http_request_duration_seconds_count")
            && lag("binance")
            && lag("bybit"))
        .then_some(())
    });
    let text = run.metrics();
    let types = check(&text);
    let described: Vec<&str> = DESCRIBED.split("describe_").skip(1).filter_map(|rest| rest.split_once("!(\"")?.1.split('"').next()).collect();
    assert!(described.len() >= 10, "{described:?}");
    for name in described {
        assert!(types.contains_key(name), "{name} is described and not served");
    }
    // CPU (in whole seconds) and memory of the process are there as well.
    assert!(types.contains_key("process_cpu_seconds_total") && metric(&text, "process_resident_memory_bytes", &[]) > 1_000_000);
    assert!(metric(&text, "collector_events_total", &[("venue", "bybit"), ("channel", "trade")]) > 0);
    assert!(metric(&text, "collector_http_requests_total", &[("venue", "bybit"), ("endpoint", "tickers"), ("outcome", "transient")]) >= 1);
    assert!(metric(&text, "collector_limit_used", &[("venue", "binance"), ("limit", "linear")]) > 0);

    let finished = run.stop().ok();
    let told: u64 = ["binance", "bybit"].iter().map(|venue| finished.summary(venue)[0]).sum();
    assert!(metric(&text, "collector_events_total", &[]) <= told);
}

#[test]
fn the_format_is_really_checked() {
    assert_eq!(
        sample("a_total{b=\"c\\\"d\",e=\"}\"} 5").map(|(name, labels, value)| (name, labels.len(), value.to_string())),
        Some(("a_total", 2, "5".to_owned()))
    );
    for line in ["a", "a{b=\"c\"}5", "a{b=c} 5", "1a 5", "a{b=\"c\",b=\"d\"} 5", "a five", "a{b=\"c} 5"] {
        assert_eq!(sample(line), None, "{line}");
    }
}

#[test]
fn ready_is_who_delivers_everything_and_else_it_says_why_not() {
    let place = Place::new();
    let sim = Sim::start(market(5, 200.0));
    let address = nobody();
    let start = |binance: &str| {
        let mut command = place.collector("run --exchanges binance,bybit --sink null: --listen 127.0.0.1:0");
        Running::start(command.args(sim.options()).args(["--set", &format!("venues.binance.rest_url={binance}")]), Stdout::Collect)
    };
    let run = start(&format!("http://{address}/binance"));
    assert_eq!(get(run.address(), "/healthz"), (200, "alive\n".to_owned()));
    let text = eventually("one ready, one not", || {
        let (status, text) = get(run.address(), "/readyz");
        assert_eq!(status, 503, "{text}");
        (text.contains("bybit: ready\n") && text.contains("cannot connect")).then_some(text)
    });
    assert!(text.starts_with("binance: not ready\n  linear exchange_info: transient: cannot connect: "), "{text}");

    // Somebody begins to listen there: the run comes to it by itself.
    let late = venue_sim::start(&venue_sim::Config { listen: address, venues: vec!["binance".into()], ..market(5, 200.0) }).unwrap();
    eventually("both ready", || (get(run.address(), "/readyz") == (200, "binance: ready\nbybit: ready\n".to_owned())).then_some(()));
    assert_eq!(get(run.address(), "/nowhere").0, 404);
    run.stop().ok();
    drop(late);

    let run = start(&sim.rest_url("binance"));
    eventually("both ready", || (get(run.address(), "/readyz").0 == 200).then_some(()));
    run.stop().ok();
}

#[test]
fn the_last_known_states_are_served_as_json() {
    let (place, sim) = (Place::new(), Sim::start(Config { events: Some(3000), ..market(4, 2000.0) }));
    let channels = "ticker,mark,funding,trade";
    let mut command = place.collector("run --exchanges binance,bybit --markets spot,linear --mode stream --sink file:out --listen 127.0.0.1:0");
    let run = Running::start(command.args(["--channels", channels]).args(sim.options()), Stdout::Collect);
    sim.still();
    run.settle();
    let ask = |path: &str| {
        let (status, body) = get(run.address(), path);
        assert_eq!(status, 200, "{path}: {body}");
        let Value::Array(rows) = serde_json::from_str(&body).unwrap() else { panic!("{body}") };
        rows
    };
    let all = ask("/api/latest");
    let only = |key: &str, value: &str| all.iter().filter(|row| row[key] == value).cloned().collect::<Vec<_>>();
    assert_eq!(ask("/api/latest?channel=funding"), only("type", "funding"));
    assert_eq!(ask("/api/latest?venue=bybit"), only("venue", "bybit"));
    assert_eq!(ask("/api/latest?market=spot"), only("market", "spot"));
    assert_eq!(ask("/api/latest?symbol=BTC/USDT:USDT"), only("symbol", "BTC/USDT:USDT"));
    let narrow = ask("/api/latest?venue=binance&symbol=btc/*,ETH/*&channel=ticker,mark");
    assert!(!narrow.is_empty() && narrow.iter().all(|row| row["venue"] == "binance" && (row["type"] == "ticker" || row["type"] == "mark")), "{narrow:?}");

    let funding = ask("/api/funding");
    assert_eq!(funding.len(), only("type", "funding").iter().filter(|row| !row["rate"].is_null()).count());
    assert!(funding.len() >= 4, "the four instruments of bybit at least: {funding:?}");
    for row in &funding {
        for field in ["venue", "market", "venue_symbol", "symbol", "t", "rate", "next_time", "mark", "index"] {
            assert!(!row[field].is_null(), "{field}: {row}");
        }
    }
    assert_eq!(funding.iter().map(|row| row["symbol"].as_str().unwrap()).collect::<Vec<_>>(), {
        let mut symbols: Vec<_> = funding.iter().map(|row| row["symbol"].as_str().unwrap()).collect();
        symbols.sort_unstable();
        symbols
    });
    assert_eq!(ask("/api/funding?symbol=ETH/USDT:USDT&venue=bybit").len(), 1);

    for (path, what) in [
        ("/api/latest?venue=bibit", "`bibit`: did you mean `bybit`?\n"),
        ("/api/latest?channel=trade", "`trade`: there is `ticker`, `quote`, `mark`, `funding`, `open_interest` and `instrument`\n"),
        ("/api/latest?symbols=BTC/*", "unknown key `symbols`: did you mean `symbol`?\n"),
        ("/api/funding?channel=mark", "unknown key `channel`: there is `venue`, `market` and `symbol`\n"),
    ] {
        assert_eq!(get(run.address(), path), (400, what.to_owned()));
    }
    run.stop().ok();
    // Each field is the last that went out of it.
    let mut last = BTreeMap::new();
    let events = support::Events::of_sink(&place.path("out"));
    let key = |row: &Value| ["type", "venue", "market", "venue_symbol"].map(|key| row[key].as_str().unwrap().to_owned());
    for event in events.of(&["ticker", "mark", "funding", "open_interest"]).map(support::Line::json) {
        let known: &mut serde_json::Map<String, Value> = last.entry(key(&event)).or_default();
        known.extend(
            event.as_object().unwrap().iter().filter(|(key, _)| !["id", "et"].contains(&key.as_str())).map(|(key, value)| (key.clone(), value.clone())),
        );
    }
    assert_eq!(all.iter().filter(|row| row["type"] != "instrument").map(|row| (key(row), row.as_object().unwrap().clone())).collect::<BTreeMap<_, _>>(), last);
}

#[test]
fn a_default_address_that_is_taken_is_a_warning_and_one_that_was_asked_for_an_error() {
    let place = Place::new();
    let sim = Sim::start(market(3, 0.0));
    // Whoever has it, it is taken.
    let _taken = TcpListener::bind("127.0.0.1:9464");
    let once = "run --exchanges bybit --once --sink stdout:";
    let finished = Running::start(place.collector(once).args(sim.options()), Stdout::Collect).finish().ok();
    let warned = finished.stderr.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok()).find(|line| line["level"] == "WARN").unwrap();
    assert!(warned["message"].as_str().unwrap().contains("choose another --listen") && warned["address"] == "127.0.0.1:9464", "{warned}");
    assert!(!finished.stdout.is_empty());

    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address: SocketAddr = taken.local_addr().unwrap();
    let finished = Running::start(place.collector(once).args(["--listen", &address.to_string()]).args(sim.options()), Stdout::Collect).finish();
    assert_eq!(finished.status, Some(2));
    assert!(finished.stderr.contains(&format!("cannot listen on {address}: ")), "{}", finished.stderr);
}

#[test]
fn gives_signs_of_life() {
    let place = Place::new();
    let socket = std::os::unix::net::UnixDatagram::bind(place.path("systemd")).unwrap();
    socket.set_read_timeout(Some(support::PATIENCE)).unwrap();
    let mut command = place.collector("run --exchanges bybit --simulate --sink null: --listen off --heartbeat beat");
    // The watchdog is meant for this process only where it says so, or says nothing.
    command.env("NOTIFY_SOCKET", place.path("systemd")).env("WATCHDOG_USEC", "400000").env_remove("WATCHDOG_PID");
    let run = Running::start(&mut command, Stdout::Collect);
    let mut heard = Vec::new();
    let mut hear = |wanted: &str| {
        while !heard.iter().any(|said: &String| said == wanted) {
            let mut buffer = [0; 256];
            let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error}, only {heard:?}"));
            heard.extend(String::from_utf8_lossy(&buffer[..length]).lines().map(str::to_owned));
        }
        heard.clear();
    };
    hear("READY=1");
    hear("WATCHDOG=1");
    hear("WATCHDOG=1");
    let seconds: u64 = std::fs::read_to_string(place.path("beat")).unwrap().trim().parse().unwrap();
    assert!(seconds > 1_700_000_000);
    run.stop().ok();
    hear("STOPPING=1");
}
