//! One day of a collector among simulated venues, from its seed.

use std::collections::BTreeMap;
use std::fmt;
use std::hash::{DefaultHasher, Hasher as _};
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Batch, Body, Channel, Event, Interval, Market, Mode, Profile, Time, Venue};
use exchange_runtime::{Clock, Collector, Monitor, Outside};
use fastrand::Rng;
use venue_sim::faults::Faults;
use venue_sim::{Config, Inside};

use crate::count::Sums;
use crate::judge::Judge;
use crate::kept::Kept;
use crate::net::{self, HOST, Sent, SimNet};
use crate::weather::{DAY, Weather};

const VENUES: [&str; 2] = ["binance", "bybit"];
/// How often the venues' health is looked at.
const LOOK: u64 = 10;
/// The market is busy at the beginning and at the end, in seconds, so that it shows what is served and what is not.
const BUSY: (u64, u64) = (300, 1200);
/// Updates a second then.
const BUSY_RATE: f64 = 2.0;
/// So long before and after something goes wrong, in seconds, the market is awake.
const AROUND: u64 = 300;
/// Before the end, nothing moves any more for so long.
const STILL: u64 = 30;
/// Tasks that a collector of two venues and its simulation may have at once.
const MOST_TASKS: usize = 300;

/// What is to be simulated.
#[derive(Debug, Clone)]
pub(crate) struct Day {
    pub(crate) seed: u64,
    pub(crate) weather: Weather,
    mode: Mode,
    markets: Vec<Market>,
    interval: u64,
    all_events: bool,
    symbols: usize,
    /// Updates a second while something goes wrong, and while nothing does.
    rates: (f64, f64),
    began: Time,
    diary: bool,
}

/// What became of it.
#[derive(Debug)]
pub(crate) struct Outcome {
    /// What should not have happened.
    pub(crate) faults: Vec<String>,
    /// Of all event lines, in order.
    pub(crate) digest: u64,
    pub(crate) events: u64,
    pub(crate) gaps: u64,
    pub(crate) errors: u64,
    pub(crate) requests: usize,
    pub(crate) connects: BTreeMap<String, usize>,
    pub(crate) reconnects: u64,
    pub(crate) resubscriptions: u64,
}

impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, markets, interval, all_events, symbols, rates, began, .. } = self;
        write!(f, "{mode:?} {markets:?} from {began}, {symbols} symbols, {rates:?} updates/s, polled each {interval} s, all events: {all_events}")
    }
}

impl Day {
    /// The day that a seed stands for, in its own weather or in a fair one.
    pub(crate) fn of(seed: u64, fair: bool) -> Self {
        let mut rng = Rng::with_seed(seed);
        let mode = [Mode::Auto, Mode::Auto, Mode::Stream, Mode::Poll][rng.usize(0..4)];
        let market = [Market::Linear, Market::Linear, Market::Inverse, Market::Spot][rng.usize(0..4)];
        Self {
            seed,
            mode,
            markets: vec![market],
            interval: rng.u64(300..600),
            all_events: rng.bool(),
            symbols: rng.usize(1..3),
            rates: ([0.05, 0.1, 0.2, 0.4][rng.usize(0..4)], [0.002, 0.005, 0.01, 0.02][rng.usize(0..4)]),
            began: Time::from_date(2026, 1, 5).unwrap() + Duration::from_secs(rng.u64(0..300 * DAY)),
            diary: false,
            weather: if fair { Weather::fair() } else { Weather::bad(&mut rng, &VENUES) },
        }
    }

    /// Writes down what happened, to be looked at.
    pub(crate) fn with_diary(self, diary: bool) -> Self {
        Self { diary, ..self }
    }

    /// Lives through it, in a tokio runtime of its own, on this thread.
    pub(crate) fn live(&self) -> Outcome {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap();
        let sums = Sums::default();
        let mut outcome = metrics::with_local_recorder(&sums, || runtime.block_on(self.pass()));
        outcome.reconnects = sums.of("collector_reconnects_total");
        outcome.resubscriptions = sums.of("collector_resubscriptions_total");
        let left = runtime.metrics().num_alive_tasks();
        if left > 0 {
            outcome.faults.push(format!("{left} tasks did not end"));
        }
        outcome
    }

    async fn pass(&self) -> Outcome {
        let clock = Clock::simulated(self.began);
        let config = Config {
            venues: VENUES.map(Into::into).to_vec(),
            symbols: self.symbols,
            rate: BUSY_RATE,
            tick: Duration::from_secs(2),
            seed: self.seed,
            ..Config::default()
        };
        let sim = Inside::start(&config, Faults::parse(&self.weather.file).unwrap(), self.began).unwrap();
        let net = Arc::new(SimNet::new(sim.door(), clock));
        let log = net.log();
        let kept = Kept::default();
        let mut diary = Diary::default();
        let venues: Vec<Venue> = VENUES.map(venue).to_vec();
        let profiles: Vec<Profile> = venues.iter().map(|venue| (*venue.profile).clone()).collect();
        let minute = Interval::new(1, 'm').unwrap();
        let channels = [
            Channel::Ticker,
            Channel::Quote,
            Channel::Mark,
            Channel::Funding,
            Channel::OpenInterest,
            Channel::Trade,
            Channel::Book,
            Channel::Liquidation,
            Channel::Candle(minute),
            Channel::Instrument,
        ];
        let builder = venues.into_iter().fold(Collector::builder(), exchange_runtime::Builder::venue);
        let collector = builder
            .markets(self.markets.clone())
            .channels(channels)
            .mode(self.mode)
            .interval(Duration::from_secs(self.interval))
            .all_events(self.all_events)
            .sink(Box::new(kept.clone()))
            .outside(Outside { net, clock, seed: self.seed })
            .start()
            .unwrap();
        let mut judge = Judge::new(self.began, &self.weather);
        let mut digest = DefaultHasher::new();
        let monitor = collector.monitor();
        for second in (LOOK..=DAY).step_by(usize::try_from(LOOK).unwrap()) {
            tokio::time::sleep_until(self.instant(second, clock)).await;
            sim.set_rate(self.rate(second));
            look(&monitor, second, &mut judge);
            if second.is_multiple_of(60) {
                diary.events.extend(kept.read(&mut judge, &mut digest).into_iter().filter(|_| self.diary));
                judge.truth(sim.truth(), &log.lock().unwrap());
            }
        }
        let end = clock.wall();
        let history = self.history(&sim, &mut judge).await;
        if tokio::time::timeout(Duration::from_secs(30), collector.stop()).await.is_err() {
            judge.blame("the collector did not stop".into());
        }
        if tokio::time::timeout(Duration::from_secs(30), sim.shutdown()).await.is_err() {
            judge.blame("the simulation did not stop".into());
        }
        diary.events.extend(kept.read(&mut judge, &mut digest).into_iter().filter(|_| self.diary));
        let polled = if self.mode == Mode::Poll { 2 * self.interval } else { 0 };
        judge.history(history, self.began + Duration::from_secs(DAY - STILL - polled));
        judge.conclude(end, BUSY, self.all_events, self.mode == Mode::Poll);
        let log = log.lock().unwrap();
        judge.asked(&log, &profiles);
        if self.diary {
            diary.write(self, &log);
        }
        let mut connects = BTreeMap::new();
        for sent in log.iter().filter(|sent| sent.socket) {
            *connects.entry(sent.venue().to_owned()).or_default() += 1;
        }
        Outcome {
            faults: judge.faults,
            digest: digest.finish(),
            events: judge.events,
            gaps: judge.gaps,
            errors: judge.errors,
            requests: log.len(),
            connects,
            reconnects: 0,
            resubscriptions: 0,
        }
    }

    /// Updates a second. Nights are long, and most of what a day is about happens while something goes wrong.
    fn rate(&self, second: u64) -> f64 {
        if second >= DAY - STILL {
            0.0
        } else if second < BUSY.0 || second >= DAY - BUSY.1 {
            BUSY_RATE
        } else if self.weather.episodes.iter().any(|episode| second + AROUND >= episode.from && second <= episode.to + AROUND) {
            self.rates.0
        } else {
            self.rates.1
        }
    }

    /// The instant of a second of the day.
    fn instant(&self, second: u64, clock: Clock) -> tokio::time::Instant {
        tokio::time::Instant::now() + (self.began + Duration::from_secs(second)).since(clock.wall())
    }

    /// All trades of the day, out of the venues' own memory.
    async fn history(&self, sim: &Inside, judge: &mut Judge) -> Vec<Event> {
        for (venue, market, symbol) in judge.listed().clone() {
            let path = match (venue.as_str(), market) {
                ("binance", Market::Spot) => "api/v3/trades?",
                ("binance", Market::Inverse) => "dapi/v1/aggTrades?",
                ("binance", _) => "fapi/v1/aggTrades?",
                // It has the last 60 only.
                (_, Market::Spot) => continue,
                (_, Market::Inverse) => "v5/market/recent-trade?category=inverse&",
                _ => "v5/market/recent-trade?category=linear&",
            };
            net::glance(&sim.door(), &format!("/{venue}/{path}symbol={symbol}&limit=1000")).await;
        }
        let truth = sim.truth();
        judge.truth(truth.clone(), &[]);
        truth.into_iter().filter(|event| matches!(event.body, Body::Trade(_))).collect()
    }
}

/// Looks at how the venues are doing, and the runtime.
fn look(monitor: &Monitor, second: u64, judge: &mut Judge) {
    for status in monitor.status().into_iter().filter(|status| !status.is_ready()) {
        judge.unready(&status.venue, second, &status.health.problems);
    }
    let tasks = tokio::runtime::Handle::current().metrics().num_alive_tasks();
    if tasks > MOST_TASKS {
        judge.blame(format!("{tasks} tasks at {second} s"));
    }
}

/// A venue, at the simulated address.
fn venue(name: &str) -> Venue {
    let mut all = exchange_venues::all().iter().map(|exchange| (*exchange, Profile::parse(exchange.policy()).unwrap()));
    let (exchange, mut profile) = all.find(|(_, profile)| profile.name == name).unwrap();
    for surface in profile.markets.values_mut() {
        surface.rest = format!("http{HOST}/{name}");
        surface.ws = format!("ws{HOST}/{name}");
    }
    Venue::new(exchange, profile)
}

/// What happened, for people.
#[derive(Default)]
struct Diary {
    events: Vec<Arc<Batch>>,
}

impl Diary {
    /// Writes the events as lines, and what was sent, each with its second of the day.
    fn write(&self, day: &Day, log: &[Sent]) {
        let path = |ending: &str| std::path::Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("day-{}.{ending}", day.seed));
        let mut events = Vec::new();
        for batch in &self.events {
            for event in batch.events() {
                events.extend_from_slice(format!("{:.3} ", event.received.since(day.began).as_secs_f64()).as_bytes());
                event.write_json(None, &mut events);
                events.push(b'\n');
            }
        }
        std::fs::write(path("events"), events).unwrap();
        let sent = log.iter().map(|sent| {
            let answer = sent.answer.map(|answer| (answer.status, answer.at.since(sent.at)));
            format!("{:.3} {} {answer:?}\n", sent.at.since(day.began).as_secs_f64(), sent.target)
        });
        std::fs::write(path("requests"), sent.collect::<String>()).unwrap();
        println!("what happened: {} and {}", path("events").display(), path("requests").display());
    }
}

impl Kept {
    fn read(&self, judge: &mut Judge, digest: &mut DefaultHasher) -> Vec<Arc<Batch>> {
        let batches = std::mem::take(&mut *self.0.lock().unwrap());
        for batch in &batches {
            digest.write(batch.lines());
            judge.delivered(batch.events());
        }
        batches
    }
}
