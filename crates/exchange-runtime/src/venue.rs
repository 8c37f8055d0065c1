//! The venue actor: it owns a venue's circuits and schedule, keeps to its limits, asks by HTTP, and starts the connections.
//!
//! One task a venue, so that nothing here needs a lock and no venue waits for another. Requests run beside each other;
//! their answers are decoded here, in the order of their arrival. What there is to ask for follows from the instruments:
//! when they change, so do the polls and what the connections carry.

mod answers;
mod gate;
mod health;
mod launch;
mod options;
mod scheduled;
mod supervisor;

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use exchange_core::budget::Class;
use exchange_core::circuit::BackOff;
use exchange_core::feed::{Query, Turn};
use exchange_core::latency::Latency;
use exchange_core::memo::Memo;
use exchange_core::plan::{Poll, requests};
use exchange_core::profile::Endpoint;
use exchange_core::spread::{LineId, Shift};
use exchange_core::{Channel, Feed, Instrument, Market, Request, Roster, Spread, Time, Topic, Want};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use self::gate::Gate;
pub use self::options::Chooser;
pub(crate) use self::options::VenueOptions;
use self::scheduled::Scheduled;
pub(crate) use self::supervisor::supervise;
use crate::http::{Answer, Http};
use crate::net::Failure;
use crate::shared::{Numbers, Shared, stopped};
use crate::watchdog::TURN;
use crate::ws::{Answered, Ask, Connection};

/// Pauses between attempts of one request.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(12));
/// How often the list of instruments is read, where the venue's description says nothing: what is listed is collected
/// within a minute.
const INSTRUMENTS_EVERY: Duration = Duration::from_secs(45);

/// Why a request is made.
#[derive(Debug, Clone)]
enum Purpose {
    /// A poll of the plan, by its key.
    Poll(String),
    /// What a connection wants to know of a channel of an instrument: a snapshot for its book, or whether it is stale.
    Ask(Channel, Arc<Instrument>, Class, mpsc::UnboundedSender<Answered>),
    /// A stream missed something of a channel of an instrument.
    Refill(Channel, Arc<Instrument>),
}

struct Done {
    purpose: Purpose,
    request: Request,
    /// Whether this was a further page.
    page: bool,
    /// Whether it is of a sweep.
    sweep: bool,
    result: Result<Answer, Failure>,
}

pub(crate) struct VenueActor {
    shared: Arc<Shared>,
    options: VenueOptions,
    http: Http,
    feeds: BTreeMap<Market, Feed>,
    gate: Gate,
    /// By endpoint.
    latencies: BTreeMap<String, Latency>,
    schedule: BTreeMap<String, Scheduled>,
    /// Sweeps in the order in which they are due; those that are tried again go first.
    sweep: VecDeque<String>,
    urgent: VecDeque<(Purpose, Request, bool)>,
    running: JoinSet<Done>,
    sweeping: usize,
    refilling: usize,
    refill_pauses: BackOff,
    connections: JoinSet<()>,
    numbers: Arc<Numbers>,
    spread: Spread,
    /// What each connection carries: the other end is the connection's.
    lines: HashMap<LineId, watch::Sender<Vec<Arc<Topic>>>>,
    roster: Roster,
    planned: BTreeMap<Market, u64>,
    asks: mpsc::UnboundedReceiver<Ask>,
    ask: mpsc::UnboundedSender<Ask>,
    stop: watch::Receiver<bool>,
    asleep_until: Time,
    /// What was told of each host: until when it is shut.
    bans: BTreeMap<String, Option<Time>>,
    rng: fastrand::Rng,
    turn: Turn,
    /// Problems that only a connection's question met, and until when they are believed: nobody repeats it for its own sake.
    fading: BTreeMap<String, Time>,
}

impl VenueActor {
    pub(crate) fn new(shared: Arc<Shared>, options: VenueOptions, http: Http, numbers: Arc<Numbers>, stop: watch::Receiver<bool>) -> Self {
        let (ask, asks) = mpsc::unbounded_channel();
        shared.limits.look_up(&options.markets);
        let mut actor = Self {
            feeds: options.markets.iter().map(|market| (*market, Feed::new(shared.venue.clone(), *market))).collect(),
            gate: Gate::new(&shared.venue.profile),
            latencies: BTreeMap::new(),
            schedule: BTreeMap::new(),
            sweep: VecDeque::new(),
            urgent: VecDeque::new(),
            running: JoinSet::new(),
            sweeping: 0,
            refilling: 0,
            refill_pauses: BackOff::new(RETRY.0, RETRY.1, shared.outside.seed ^ seed_of("refill"), Instant::now().into_std()),
            connections: JoinSet::new(),
            numbers,
            spread: Spread::default(),
            lines: HashMap::new(),
            roster: Roster::default(),
            planned: BTreeMap::new(),
            asks,
            ask,
            stop,
            asleep_until: Time::EPOCH,
            bans: BTreeMap::new(),
            rng: fastrand::Rng::with_seed(shared.outside.seed ^ seed_of(shared.name())),
            turn: Turn::default(),
            fading: BTreeMap::new(),
            shared,
            options,
            http,
        };
        actor.schedule_instruments();
        actor
    }

    /// Runs until everything asked for was done (`--once`) or until the end.
    pub(crate) async fn run(mut self) {
        self.tell_bans();
        loop {
            let wake = self.launch().await;
            if self.options.once && self.is_done() {
                break;
            }
            let now = self.shared.clock.now();
            self.shared.pulse.beat(now);
            let pause = wake.map_or(TURN, |wake| wake.since(now)).min(TURN);
            tokio::select! {
                biased;
                () = stopped(&mut self.stop) => break,
                Some(done) = self.running.join_next(), if !self.running.is_empty() => {
                    match done {
                        Ok(done) => self.finished(done).await,
                        Err(error) if error.is_cancelled() => {}
                        Err(error) => tracing::error!(venue = self.shared.name(), %error, "a request's task failed"),
                    }
                }
                Some(ask) = self.asks.recv() => {
                    let Query { channel, request, is_snapshot } = ask.query;
                    if let Some(instrument) = request.instrument.clone() {
                        let class = if is_snapshot { Class::Snapshot } else { Class::Backfill };
                        self.urgent.push_back((Purpose::Ask(channel, instrument, class, ask.answer), request, false));
                    }
                }
                Some(ended) = self.connections.join_next(), if !self.connections.is_empty() => {
                    if let Err(error) = ended {
                        tracing::error!(venue = self.shared.name(), %error, "a connection's task failed");
                    }
                }
                () = self.shared.missed.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
            self.tell_health();
        }
        self.running.shutdown().await;
        while self.connections.join_next().await.is_some() {}
    }

    fn is_done(&self) -> bool {
        // A market whose instruments could not be read has nothing else scheduled: giving them up is the end of it.
        self.running.is_empty() && self.urgent.is_empty() && self.schedule.values().all(|s| s.is_over(true))
    }

    /// The instruments come first: what else is asked for depends on them.
    fn schedule_instruments(&mut self) {
        let venue = self.shared.venue.clone();
        for market in self.options.markets.clone() {
            let mut lists = false;
            let wanted = |e: &&Endpoint| e.serves(market, Channel::Instrument) && !e.history && !e.follow && !e.per_instrument();
            for endpoint in venue.profile.endpoint.iter().filter(wanted) {
                for request in requests(&venue.profile, endpoint, market, Channel::Instrument) {
                    let every = venue.profile.instruments_every.or(endpoint.every).unwrap_or(INSTRUMENTS_EVERY);
                    let key = self.schedule(Poll { request, channels: vec![Channel::Instrument], every: Some(every), sweep: false, memo: false });
                    self.roster.watch(&key, market, every);
                }
                lists = true;
            }
            if !lists {
                self.plan(market);
            }
        }
    }

    /// A request that is scheduled already, for another market or another channel, is asked once for all of them. Its key
    /// in the schedule.
    fn schedule(&mut self, poll: Poll) -> String {
        let key = format!("{} {}", Http::url(&self.shared.venue.profile, &poll.request), poll.request.body.as_deref().unwrap_or_default());
        if let Some(known) = self.schedule.get_mut(&key) {
            known.join(poll, self.shared.clock.now(), self.options.interval);
            return key;
        }
        if poll.sweep {
            self.sweep.push_back(key.clone());
        }
        let memo = (poll.memo && !self.options.all_events && !self.options.once).then(Memo::default);
        let pauses = BackOff::new(RETRY.0, RETRY.1, self.rng.u64(..), Instant::now().into_std());
        let due = self.shared.clock.now();
        let markets = vec![poll.request.market];
        self.schedule.insert(key.clone(), Scheduled { poll, markets, memo, due, running: 0, attempts: 0, pauses, done: false, dropped: false });
        key
    }

    /// Asks the venue what there is to ask for in a market, starts what is new and ends what is not wanted any more.
    fn plan(&mut self, market: Market) {
        let venue = self.shared.venue.clone();
        self.planned.insert(market, venue.catalog.version());
        let chosen = |instrument: &Arc<Instrument>| self.options.chosen(instrument);
        let instruments: Vec<Arc<Instrument>> = venue.catalog.list(market).into_iter().filter(chosen).collect();
        let channels: Vec<Channel> = self.options.channels.iter().copied().filter(|channel| *channel != Channel::Instrument).collect();
        let want = Want { market, channels: &channels, mode: self.options.mode, fallback: false, instruments: &instruments };
        let plan = venue.exchange.plan(&venue.profile, &want);
        let keys: BTreeSet<String> = plan.polls.into_iter().map(|poll| self.schedule(poll)).collect();
        self.end_sweeps(market, &keys);
        for scheduled in self.schedule.values_mut().filter(|scheduled| scheduled.markets.contains(&market)) {
            // A record that has not changed may say something of an instrument that was not known before.
            scheduled.memo = scheduled.memo.take().map(|_| Memo::default());
        }
        let most = venue.profile.ws_of(market).topics_per_connection;
        for (line, shift) in self.spread.want(market, plan.topics, most) {
            match shift {
                Shift::Open { ws_path, topics } => self.connect(market, line, &ws_path, topics),
                Shift::Carry(topics) => {
                    if let Some(carried) = self.lines.get(&line) {
                        carried.send_replace(topics);
                    }
                }
                Shift::End => drop(self.lines.remove(&line)),
            }
        }
        self.shared.health().started = self.planned.len() == self.options.markets.len();
    }

    /// Sweeps of instruments that are not in the plan any more are asked no more.
    fn end_sweeps(&mut self, market: Market, planned: &BTreeSet<String>) {
        for (_, scheduled) in self.schedule.iter_mut().filter(|(key, scheduled)| scheduled.poll.sweep && !planned.contains(*key)) {
            scheduled.markets.retain(|of| *of != market);
        }
        self.schedule.retain(|_, scheduled| !scheduled.markets.is_empty());
        self.sweep.retain(|key| self.schedule.contains_key(key));
    }

    fn connect(&mut self, market: Market, line: LineId, ws_path: &str, topics: Vec<Arc<Topic>>) {
        let host = self.shared.venue.profile.markets.get(&market).map_or("", |surface| surface.ws.trim_end_matches('/'));
        let (carried, topics) = watch::channel(topics);
        self.lines.insert(line, carried);
        let connection = Connection {
            shared: self.shared.clone(),
            market,
            url: format!("{host}{ws_path}"),
            topics,
            numbers: self.numbers.clone(),
            asks: self.ask.clone(),
            stop: self.stop.clone(),
            seed: self.rng.u64(..),
            rhythms: Mutex::default(),
        };
        self.connections.spawn(connection.run());
    }
}

/// A number for a name: venues shall not move in step with each other either.
fn seed_of(name: &str) -> u64 {
    name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// What a request's failure is called in the venue's health: one for all instruments of an endpoint.
fn problem_of(request: &Request) -> String {
    format!("{} {}", request.market, request.endpoint)
}
