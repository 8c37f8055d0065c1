//! All eight venues side by side, two with a market and six played from their fixtures; one after the other has a bad time.
//! Nobody misses an event that was served, and each is back soon after its recovery.
#![cfg(unix)]

mod support;

use std::collections::{BTreeMap, BTreeSet, HashSet};
use std::time::{Duration, Instant};

use support::{Events, Place, Played, Running, Sim, Stdout, TYPES, assert_same, metric, missing_in_gaps, venues};
use venue_sim::Config;

const ALL: [&str; 8] = ["binance", "bybit", "deribit", "gate", "hyperliquid", "kucoin", "mexc", "okx"];
/// They have a market; the others are played.
const SEEDED: [&str; 2] = ["binance", "bybit"];
/// Its sockets hang, too, in its bad time.
const SILENT: &str = "bybit";
/// A venue is back within so long of its recovery.
const BACK: Duration = Duration::from_secs(30);

/// A venue's bad time.
struct Fault {
    venue: &'static str,
    from: u64,
    to: u64,
    what: &'static str,
}

const FAULTS: [Fault; 5] = [
    Fault { venue: "binance", from: 5, to: 10, what: "action = \"status\"\nstatus = 503" },
    Fault { venue: "okx", from: 11, to: 16, what: "action = \"status\"\nstatus = 502\nbody = \"html\"" },
    Fault { venue: "kucoin", from: 17, to: 22, what: "action = \"garbage\"" },
    Fault { venue: "deribit", from: 23, to: 28, what: "action = \"drip\"\nbytes = 16\nlatency = \"500ms\"" },
    Fault { venue: SILENT, from: 29, to: 35, what: "action = \"outage\"\nmanner = \"hang\"" },
];

impl Fault {
    fn rule(&self) -> String {
        let Self { venue, from, to, what } = self;
        format!("[[fault]]\n{what}\nvenue = \"{venue}\"\nfrom = \"{from}s\"\nto = \"{to}s\"\n")
    }
}

/// The endpoints of a venue that were ever answered, and how often; of those that have a market, also how many trades came.
fn answered(metrics: &str, venue: &str) -> BTreeMap<String, u64> {
    let name = "collector_http_requests_total";
    let of_venue = metrics.lines().filter(|line| line.starts_with(name) && line.contains(&format!("venue=\"{venue}\"")) && line.contains("outcome=\"ok\""));
    let endpoint = |line: &str| line.split("endpoint=\"").nth(1).and_then(|rest| rest.split('"').next()).unwrap().to_owned();
    let endpoints: BTreeSet<String> = of_venue.map(endpoint).collect();
    let count = |endpoint: &String| metric(metrics, name, &[("venue", venue), ("endpoint", endpoint), ("outcome", "ok")]);
    let mut answered: BTreeMap<String, u64> = endpoints.into_iter().map(|endpoint| (endpoint.clone(), count(&endpoint))).collect();
    if SEEDED.contains(&venue) {
        answered.insert("trades".into(), metric(metrics, "collector_events_total", &[("venue", venue), ("channel", "trade")]));
    }
    answered
}

/// Looks at a venue that has a bad time until it is back.
struct Watch {
    fault: &'static Fault,
    /// What was counted two seconds before, just before, and at the end; of the last, what has not moved since.
    first: Option<BTreeMap<String, u64>>,
    active: Option<BTreeSet<String>>,
    waiting: Option<BTreeMap<String, u64>>,
    /// How often the venues were answered that were well when it began.
    others: BTreeMap<&'static str, u64>,
    /// How long after the end everything that was served just before was served again.
    back: Option<Duration>,
}

impl Watch {
    fn new(fault: &'static Fault) -> Self {
        Self { fault, first: None, active: None, waiting: None, others: BTreeMap::new(), back: None }
    }

    fn look(&mut self, metrics: &str, since: Duration, well: &[&'static str]) {
        let Fault { venue, from, to, what } = self.fault;
        let [from, to] = [from, to].map(|seconds| Duration::from_secs(*seconds));
        if self.back.is_some() || since + Duration::from_secs(2) < from {
            return;
        }
        let now = answered(metrics, venue);
        let first = self.first.get_or_insert_with(|| now.clone());
        if since >= from && self.active.is_none() {
            let active: BTreeSet<String> =
                now.iter().filter(|(endpoint, count)| first.get(*endpoint).is_some_and(|first| first < count)).map(|(endpoint, _)| endpoint.clone()).collect();
            assert!(!active.is_empty(), "{venue}: {first:?}, then {now:?}");
            self.active = Some(active);
            self.others = well.iter().map(|venue| (*venue, answered(metrics, venue).values().sum())).collect();
        }
        if since >= to && self.waiting.is_none() {
            for (other, before) in &self.others {
                let now: u64 = answered(metrics, other).values().sum();
                assert!(now >= before + 3, "while {venue} has a bad time, {other} is asked: {now} after {before}");
            }
        }
        let Some(active) = self.active.as_ref().filter(|_| since >= to) else { return };
        let waiting = self.waiting.get_or_insert_with(|| now.clone());
        waiting.retain(|endpoint, count| active.contains(endpoint) && now.get(endpoint).is_none_or(|now| now <= count));
        let took = since.saturating_sub(to);
        assert!(took < BACK, "{venue} is not back after {took:?}: {waiting:?} of {active:?}");
        if waiting.is_empty() {
            println!("{venue} ({what:?}) is back after {took:?}: {active:?}");
            self.back = Some(took);
        }
    }
}

#[test]
fn one_venues_bad_time_costs_no_other_an_event() {
    let place = Place::new();
    let mut played = Vec::new();
    let mut options = Vec::new();
    for venue in venues().filter(|venue| !SEEDED.contains(&venue.profile.name.as_str())) {
        let name = &venue.profile.name;
        played.push(Played::prepare(&place.path(""), &venue));
        // Fixtures are not what venues' limits are for.
        options.extend(venue.profile.limits.keys().flat_map(|limit| ["--set".to_owned(), format!("venues.{name}.limits.{limit}.budget=1000000")]));
    }
    let config = Config {
        venues: SEEDED.map(Into::into).into(),
        play: played.iter().map(|played| played.file.clone()).collect(),
        pace: Duration::from_secs(1),
        ..support::market(3, 100.0)
    };
    let sim = Sim::faulty(config, &FAULTS.iter().map(Fault::rule).collect::<String>());
    let began = Instant::now();
    let mut command = place.collector("run --exchanges all --markets spot,linear,inverse --all-events --interval 1s --sink file:out --listen 127.0.0.1:0");
    command.args(["--channels", &TYPES.join(",")]).args(sim.options()).args(&options);
    let run = Running::start(&mut command, Stdout::Collect);

    let mut watches: Vec<Watch> = FAULTS.iter().map(Watch::new).collect();
    while watches.iter().any(|watch| watch.back.is_none()) {
        let (metrics, since) = (run.metrics(), began.elapsed());
        let ill: Vec<&str> = watches.iter().filter(|watch| watch.first.is_some() && watch.back.is_none()).map(|watch| watch.fault.venue).collect();
        let well: Vec<&str> = ALL.into_iter().filter(|venue| !ill.contains(venue)).collect();
        for watch in &mut watches {
            watch.look(&metrics, since, &well);
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    sim.handle().halt();
    sim.handle().refuse();
    run.settle();
    let finished = run.stop().ok();
    let (_, truth) = sim.end();
    let seen = Events::of_sink(&place.path("out"));
    assert!(finished.stderr.contains("binance: "), "{}", finished.stderr);

    for venue in SEEDED {
        let of_venue =
            |events: &Events| Events::parse(&events.lines().filter(|line| line.is_of(venue)).flat_map(|line| [line.text(), "\n"]).collect::<String>());
        let (mut truth, seen) = (of_venue(&truth), of_venue(&seen));
        if SILENT == venue {
            // Whoever leaves a connection that hangs does not get what was written into it last.
            let left: HashSet<String> = missing_in_gaps(truth.of(&["book"]), &seen).into_iter().map(|line| line.id().to_owned()).collect();
            truth = Events::parse(&truth.lines().filter(|line| !left.contains(line.id())).flat_map(|line| [line.text(), "\n"]).collect::<String>());
        }
        assert_same(&truth.since_first_of(&seen), &seen, &TYPES);
    }
    let wrong: Vec<String> = played.iter().flat_map(|played| played.wrong(&truth, &seen, true)).collect();
    assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));
}
