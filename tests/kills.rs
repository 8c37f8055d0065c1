//! A collector that is killed again and again, at any moment and under load, has in the end what the venues served: every
//! trade, and of everything else what is not inside a gap; each event once, or by its id a repetition. A Parquet dataset, a database
//! and a stream of JetStream stand beside the files and have the same events, each once.
//!
//! A second collector that nobody kills is the witness of what the first one missed; it keeps the venues talking meanwhile, so
//! that the simulator's truth has all trades. `COLLECTOR_KILLS` says how often the first is killed.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use serde_json::Value;
use support::{Events, Line, Place, Running, STREAMED, Sim, Stdout, market, metric};
use test_servers::{POSTGRES_PASSWORD, Python, Server};
use venue_sim::Config;

/// So many times, where the environment does not say.
const KILLS: u64 = 20;
/// So many starts use up what the venues allow to ask for in a minute: the last refills wait for the next.
const REFILLED: Duration = Duration::from_secs(150);
/// Of twice as many, the venues would not remember the first trades any more when they are asked for them.
const EVENTS: u64 = 55_000;
/// What is served happened a moment before it arrived, and what arrives later may have been served before.
const MOMENT: i64 = 1_000_000;

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
        all.push(Exact { address: format!("{address}?duplicate_window=10m"), ids: Box::new(move |place| in_nats(place, &asked)), _server: Some(server) });
    }
    all
}

fn in_parquet(python: &Python, data: &Path) -> Vec<String> {
    const SCRIPT: &str = "import duckdb, glob, sys
for kind in glob.glob(sys.argv[1] + '/type=*'):
    for row in duckdb.sql(f\"select id from '{kind}/**/*.parquet'\").fetchall():
        print(row[0])";
    let output = python.command().args(["-c", SCRIPT]).arg(data).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

fn in_postgres(address: &str) -> Vec<String> {
    let ids = async {
        let (client, connection) = tokio_postgres::connect(address, tokio_postgres::NoTls).await.unwrap();
        tokio::spawn(connection);
        let rejected: i64 = client.query_one("SELECT count(*) FROM collector.rejected", &[]).await.unwrap().get(0);
        assert_eq!(rejected, 0);
        let mut ids = Vec::new();
        for kind in KINDS {
            let rows = client.query(&format!("SELECT replace(id::text, '-', '') FROM collector.{kind}"), &[]).await.unwrap();
            ids.extend(rows.iter().map(|row| row.get::<_, String>(0)));
        }
        ids
    };
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(ids)
}

/// The types of events, which are the tables' names.
const KINDS: [&str; 14] = [
    "ticker",
    "quote",
    "mark",
    "funding",
    "funding_settled",
    "open_interest",
    "trade",
    "liquidation",
    "book",
    "candle",
    "instrument",
    "gap",
    "refill",
    "decode_error",
];

fn in_nats(place: &Place, address: &str) -> Vec<String> {
    let tail = place.run(&format!("tail {address} --no-follow")).ok();
    // Nothing was left out: it is the stream itself that has each once.
    assert!(tail.stderr.contains(", 0 repetitions left out"), "{}", tail.stderr);
    Events::parse(&tail.stdout).lines().map(|line| line.id().to_owned()).collect()
}

/// Whose events they are: venue, market and name.
type Place3 = [String; 3];

fn place_of(event: &Value) -> Place3 {
    ["venue", "market", "venue_symbol"].map(|key| event[key].as_str().unwrap().to_owned())
}

fn collecting(place: &Place, options: &[String], sinks: &[&str], name: &str) -> Command {
    let mut command = place.collector("run --exchanges binance,bybit --markets linear,inverse --mode stream --all-events --listen 127.0.0.1:0");
    command.args(["--channels", STREAMED, "--name", name, "--state", &format!("state-{name}")]);
    command.args(sinks.iter().flat_map(|sink| ["--sink", sink])).args(options);
    command
}

/// From when to when something of a channel was missed, by whose it is; `*` is everybody of the market.
#[derive(Default)]
struct Gaps(HashMap<(Place3, String), Vec<(i64, i64)>>);

impl Gaps {
    /// A gap is over with the first of its channel that came live afterwards.
    fn of(seen: &Events) -> Self {
        let mut came: HashMap<(Place3, String), Vec<i64>> = HashMap::new();
        let mut told = Vec::new();
        for line in seen.lines() {
            let event = line.json();
            if event["type"] == "gap" {
                told.push(event);
            } else if event["origin"].is_null() && event["type"] != "refill" {
                let kind = if event["type"] == "candle" { format!("candle:{}", event["interval"].as_str().unwrap()) } else { line.kind().to_owned() };
                came.entry((place_of(&event), kind)).or_default().push(line.received());
            }
        }
        for times in came.values_mut() {
            times.sort_unstable();
        }
        let mut gaps = Self::default();
        for gap in told {
            let at = gap["t"].as_i64().unwrap();
            let channel = gap["channel"].as_str().unwrap().to_owned();
            let from = gap["from"].as_str().filter(|_| gap["reason"] != "sequence").map_or(at, |from| from.parse().unwrap());
            let place = place_of(&gap);
            let resumed = came.get(&(place.clone(), channel.clone())).and_then(|times| times.iter().copied().find(|time| *time > at));
            let to = if place[2] == "*" { None } else { resumed };
            gaps.0.entry((place, channel)).or_default().push((from, to.unwrap_or(i64::MAX)));
        }
        gaps
    }

    fn hold(&self, place: &Place3, channel: &str, at: i64) -> bool {
        let inside = |place: Place3| {
            self.0.get(&(place, channel.to_owned())).is_some_and(|spans| spans.iter().any(|(from, to)| from - MOMENT <= at && at <= to.saturating_add(MOMENT)))
        };
        let all = [place[0].clone(), place[1].clone(), "*".to_owned()];
        inside(place.clone()) || inside(all)
    }
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
        let channel = if line.kind() == "candle" { format!("candle:{}", event["interval"].as_str().unwrap()) } else { line.kind().to_owned() };
        assert!(gaps.hold(&place_of(&event), &channel, line.received()), "in no gap: {line:?}");
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
