//! Simulated venues, and the collectors that are among them.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exchange_core::{Channel, Event, Market, Mode, Profile, Time, Venue};
use exchange_runtime::{Clock, Collector, Outside, StateDir};
use venue_sim::faults::Faults;
use venue_sim::{Config, Inside};

use crate::kept::Kept;
use crate::net::{HOST, Sent, SimNet};

/// All that happens in one virtual time.
pub(crate) struct Stage {
    pub(crate) sim: Inside,
    clock: Clock,
    began: Time,
}

/// What a collector is asked for.
pub(crate) struct Job<'a> {
    pub(crate) venues: Vec<Venue>,
    pub(crate) markets: &'a [Market],
    pub(crate) channels: &'a [Channel],
    pub(crate) mode: Mode,
    pub(crate) interval: Duration,
    pub(crate) all_events: bool,
    pub(crate) seed: u64,
    /// The state directory, and the collector's name.
    pub(crate) state: (&'a Path, &'a str),
}

/// A collector, as it is seen from outside.
pub(crate) struct Member {
    collector: Collector,
    log: Arc<Mutex<Vec<Sent>>>,
    kept: Kept,
}

impl Stage {
    /// Begins now.
    pub(crate) fn new(config: &Config, faults: &str) -> Self {
        // Before the time of the files that are made meanwhile: none of them is old.
        let began = Time::from_date(2025, 1, 6).unwrap();
        Self { clock: Clock::simulated(began), sim: Inside::start(config, Faults::parse(faults).unwrap(), began).unwrap(), began }
    }

    /// So much time has passed by then.
    pub(crate) async fn until(&self, since: Duration) {
        tokio::time::sleep((self.began + since).since(self.clock.wall())).await;
    }

    /// How much time has passed at a moment.
    pub(crate) fn at(&self, time: Time) -> Duration {
        time.since(self.began)
    }

    /// A collector that begins now.
    pub(crate) fn start(&self, job: Job<'_>) -> Member {
        let net = Arc::new(SimNet::new(self.sim.door(), self.clock));
        let (log, kept) = (net.log(), Kept::default());
        let (directory, name) = job.state;
        let builder = job.venues.into_iter().fold(Collector::builder(), exchange_runtime::Builder::venue);
        let collector = builder
            .markets(job.markets.to_vec())
            .channels(job.channels.to_vec())
            .mode(job.mode)
            .interval(job.interval)
            .all_events(job.all_events)
            .state(Some(StateDir::open(directory).unwrap().claim(name).unwrap()))
            .sink(Box::new(kept.clone()))
            .outside(Outside { net, clock: self.clock, seed: job.seed })
            .start()
            .unwrap();
        Member { collector, log, kept }
    }
}

impl Member {
    /// What was asked of a venue so far.
    pub(crate) fn sent(&self, venue: &str) -> Vec<Sent> {
        self.log.lock().unwrap().iter().filter(|sent| sent.venue() == venue).cloned().collect()
    }

    /// What went out so far.
    pub(crate) fn events(&self) -> Vec<Event> {
        self.kept.0.lock().unwrap().iter().flat_map(|batch| batch.events().iter().cloned()).collect()
    }

    /// Ends it in an orderly way; what was asked, as [`Member::sent`] has it, of all venues.
    pub(crate) async fn stop(self) -> BTreeMap<String, Vec<Sent>> {
        tokio::time::timeout(Duration::from_secs(30), self.collector.stop()).await.expect("it stops");
        let mut sent = BTreeMap::new();
        for one in self.log.lock().unwrap().iter() {
            sent.entry(one.venue().to_owned()).or_insert_with(Vec::new).push(one.clone());
        }
        sent
    }
}

/// Runs in virtual time.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(test)
}

/// Venues at the simulated address.
pub(crate) fn venues(names: &[&str]) -> Vec<Venue> {
    let all = exchange_venues::all().iter().map(|exchange| (*exchange, Profile::parse(exchange.policy()).unwrap()));
    let chosen = all.filter(|(_, profile)| names.contains(&profile.name.as_str())).map(|(exchange, mut profile)| {
        let name = profile.name.clone();
        for surface in profile.markets.values_mut() {
            surface.rest = format!("http{HOST}/{name}");
            surface.ws = format!("ws{HOST}/{name}");
        }
        Venue::new(exchange, profile)
    });
    chosen.collect()
}
