//! A collector that is killed again and again, at any moment and under load, has in the end what the venues served: every
//! trade, and of everything else what is not inside a gap; each event once, or by its id a repetition. A Parquet dataset, a database
//! and a stream of JetStream stand beside the files and have the same events, each once.
//!
//! A second collector that nobody kills is the witness of what the first one missed; it keeps the venues talking meanwhile, so
//! that the simulator's truth has all trades. `COLLECTOR_KILLS` says how often the first is killed.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::{Events, Gaps, Line, MOMENT, Place, Running, STREAMED, Sim, Stdout, channel_of, in_parquet, in_postgres, market, metric, place_of, tailed};
use test_servers::{POSTGRES_PASSWORD, Server};
use venue_sim::Config;

/// So many times, where the environment does not say.
const KILLS: u64 = 20;
/// So many starts use up what the venues allow to ask for in a minute: the last refills wait for the next.
const REFILLED: Duration = Duration::from_secs(150);
/// Of twice as many, the venues would not remember the first trades any more when they are asked for them.
const EVENTS: u64 = 55_000;

/// Lines in files, which may be there twice: what they say is judged.
const LINES: &str = "file:out";

fn lines(place: &Place) -> Events {
    Events::of_killed(&place.path("out"))
}

/// The ids of what a sink holds.
type Ids = Box<dyn Fn(&Place) -> Vec<String>>;

/// A sink that stands beside it and holds each event once: the same ones.
struct Exact {
    address: String,
    ids: Ids,
    _server: Option<Server>,
}

/// Those that can be had here.
fn exact() -> Vec<Exact> {
    let mut all = Vec::new();
    if cfg!(feature = "parquet")
        && let Some(python) = test_servers::python(&["duckdb"])
    {
        let ids = move |place: &Place| in_parquet(&python, &place.path("data"));
        all.push(Exact { address: "parquet:data".to_owned(), ids: Box::new(ids), _server: None });
    }
    if cfg!(feature = "postgres")
        && let Some(server) = test_servers::postgres()
    {
        let address = format!("postgres://postgres:{POSTGRES_PASSWORD}@{}/postgres", server.address());
        let asked = address.clone();
        all.push(Exact { address, ids: Box::new(move |_| in_postgres(&asked)), _server: Some(server) });
    }
    if cfg!(feature = "nats")
        && let Some(server) = test_servers::nats()
    {
        let address = format!("nats://{}/ticks", server.address());
        let asked = address.clone();
        all.push(Exact { address: format!("{address}?duplicate_window=10m"), ids: Box::new(move |place| tailed(place, &asked).ids()), _server: Some(server) });
    }
    all
}

fn collecting(place: &Place, options: &[String], sinks: &[&str], name: &str) -> Command {
    let mut command = place.collector("run --exchanges binance,bybit --markets linear,inverse --mode stream --all-events --listen 127.0.0.1:0");
    command.args(["--channels", STREAMED, "--name", name, "--state", &format!("state-{name}")]);
    command.args(sinks.iter().flat_map(|sink| ["--sink", sink])).args(options);
    command
}

/// Gaps of trades that no refill has answered.
fn open_gaps(seen: &Events) -> Vec<String> {
    let of = |kind: &str| seen.lines().filter(|line| line.kind() == kind).map(Line::json).filter(|event| event["channel"] == "trade").collect::<Vec<_>>();
    let closed: HashSet<String> = of("refill").iter().map(|refill| refill["gap"].to_string()).collect();
    of("gap").into_iter().filter(|gap| !closed.contains(&gap["id"].to_string())).map(|gap| gap.to_string()).collect()
}

/// Refills that say that they are not complete.
fn incomplete(seen: &Events) -> Vec<String> {
    seen.of(&["refill"]).filter(|line| line.json()["complete"] != true).map(|line| line.text().to_owned()).collect()
}

#[test]
fn killed_again_and_again_it_has_everything_in_the_end() {
    let _alone = support::alone();
    let kills = std::env::var("COLLECTOR_KILLS").ok().map_or(KILLS, |kills| kills.parse().unwrap());
    let place = Place::new();
    #[expect(clippy::cast_precision_loss, reason = "a test's length")]
    let seconds = kills as f64 * 1.8 + 8.0;
    let sim = Sim::start(Config { events: Some(EVENTS), ..market(3, (f64::from(u32::try_from(EVENTS).unwrap()) / seconds).min(2500.0)) });
    let witness = Running::start(&mut collecting(&place, &sim.options(), &["file:witness"], "witness"), Stdout::Collect);
    witness.wait_for_events(2000);

    let exact = exact();
    let sinks: Vec<&str> = std::iter::once(LINES).chain(exact.iter().map(|sink| sink.address.as_str())).collect();
    let start = || Running::start(&mut collecting(&place, &sim.options(), &sinks, "mine"), Stdout::Collect);
    let run = start();
    run.wait_for_events(3000);
    run.signal(Signal::KILL);
    drop(run);
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 1..kills {
        let run = start();
        // Anything from the reading of the instruments to the middle of the refills.
        std::thread::sleep(Duration::from_millis(random.u64(200..2500)));
        run.signal(Signal::KILL);
        assert_eq!(run.finish().status, None);
    }
    let run = start();
    sim.still();
    run.settle();
    let since = Instant::now();
    while let open @ [_, ..] = &*open_gaps(&lines(&place)) {
        assert!(since.elapsed() < REFILLED, "{} gaps are not refilled, such as {}\n{}", open.len(), open[0], run.stderr());
        std::thread::sleep(Duration::from_millis(300));
    }
    let metrics = run.metrics();
    assert_eq!(metric(&metrics, "collector_decode_errors_total", &[]), 0);
    let ended = run.stop().ok();
    assert!(!ended.stderr.contains("wait in the journal"), "{}", ended.stderr);
    witness.stop().ok();
    let (_, truth) = sim.end();
    let witnessed = Events::of_sink(&place.path("witness"));
    assert_eq!(witnessed.of(&["gap"]).count(), 0, "nobody saw what it missed");

    let seen = lines(&place);
    let mut by_id: BTreeMap<&str, &str> = BTreeMap::new();
    for line in seen.lines() {
        let before = by_id.insert(line.id(), line.text());
        assert!(before.is_none_or(|before| before == line.text()), "{before:?} and {line:?}");
    }
    let mut trades = HashSet::new();
    for trade in seen.of(&["trade"]).map(Line::json) {
        trades.insert((place_of(&trade), trade["trade_id"].to_string(), trade["id"].to_string()));
    }
    let by_name: HashSet<_> = trades.iter().map(|(place, name, _)| (place, name)).collect();
    assert_eq!(by_name.len(), trades.len(), "a trade is one event");

    // A closed candle that was missed is asked for, and then has other words.
    let candle = |event: &Value| (place_of(event), event["open_time"].as_i64().unwrap());
    let closed: HashSet<_> = seen.of(&["candle"]).map(Line::json).filter(|event| event["closed"] == true).map(|event| candle(&event)).collect();
    let gaps = Gaps::of(&seen);
    let first = seen.lines().map(Line::received).min().unwrap();
    for line in truth.since_first_of(&seen).of(&["trade"]).filter(|line| line.received() > first + 2 * MOMENT) {
        assert!(by_id.contains_key(line.id()), "not refilled: {line:?}\n{:?}", incomplete(&seen));
    }
    let (mut missing, mut known) = (BTreeMap::<&str, u64>::new(), 0_u64);
    for line in witnessed.lines().filter(|line| line.is_known_by_id() && line.received() > first + 2 * MOMENT) {
        if by_id.contains_key(line.id()) || line.kind() == "trade" {
            known += 1;
            continue;
        }
        let event = line.json();
        if event["closed"] == true && closed.contains(&candle(&event)) {
            continue;
        }
        assert!(gaps.hold(&place_of(&event), &channel_of(&event), line.received()), "in no gap: {line:?}");
        *missing.entry(line.kind()).or_default() += 1;
    }
    eprintln!("{kills} kills, {known} events seen, missing inside gaps: {missing:?}");
    assert!(known > 2000 && missing.len() >= 3, "{known} seen, {missing:?} missing: nothing was tested");

    for sink in &exact {
        let found = (sink.ids)(&place);
        let ids: HashSet<&str> = found.iter().map(String::as_str).collect();
        assert_eq!(ids.len(), found.len(), "{} holds something twice", sink.address);
        let lacking: Vec<_> = by_id.iter().filter(|(id, _)| !ids.contains(*id)).map(|(_, line)| line).take(3).collect();
        assert!(lacking.is_empty() && ids.len() == by_id.len(), "{} has {} of {} events, and lacks {lacking:?}", sink.address, ids.len(), by_id.len());
    }
}
