//! The collector: builder and handle for embedders.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use exchange_core::fold::STATES;
use exchange_core::pipeline::{Counts, Wanted};
use exchange_core::{Channel, Event, Instrument, Market, Mode, Pipeline, Venue};
use exchange_sinks::{Sink, SinkError};
use exchange_spool::{Backlog, Spool};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::capture::{Tap, Writer};
use crate::delivery::{Deliveries, SinkStatus, Start, Status, Until};
use crate::http::Http;
use crate::journal;
use crate::ledger::{self, Books, Keeper};
use crate::limits::Limits;
use crate::net::Outside;
use crate::output::{Output, SinkEnd};
use crate::shared::{Health, Numbers, Shared};
use crate::state::{StateDir, StateError};
use crate::venue::VenueActor;
use crate::watchdog;

/// A task that failed is started again after this long.
const RESTART: Duration = Duration::from_secs(1);

/// Decides which instruments are collected.
pub type Chooser = Arc<dyn Fn(&Instrument) -> bool + Send + Sync>;

/// What is asked of each venue.
#[derive(Clone)]
pub(crate) struct VenueOptions {
    pub(crate) markets: Vec<Market>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) mode: Mode,
    pub(crate) interval: Duration,
    pub(crate) once: bool,
    pub(crate) all_events: bool,
    pub(crate) chooser: Option<Chooser>,
}

impl VenueOptions {
    pub(crate) fn chosen(&self, instrument: &Instrument) -> bool {
        self.chooser.as_ref().is_none_or(|chooser| chooser(instrument))
    }
}

impl Wanted for VenueOptions {
    fn wants(&self, channel: Channel, instrument: &Instrument) -> bool {
        self.markets.contains(&instrument.market) && self.channels.contains(&channel) && self.chosen(instrument)
    }
}

/// Why a collector could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[from] reqwest::Error),
    /// The capture file could not be made.
    #[error("cannot capture into `{}`", path.display())]
    Capture {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal cannot be used.
    #[error("cannot keep a journal in `{}`", path.display())]
    Journal {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: exchange_spool::SpoolError,
    },
    /// The ledger's file could not be made.
    #[error("cannot keep a ledger in `{}`", path.display())]
    Ledger {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}

/// Makes a collector. Brings no runtime, no logger, no metrics exporter and no signal handler of its own.
///
/// ```no_run
/// # async fn example(venue: exchange_core::Venue, sink: Box<dyn exchange_sinks::Sink>) -> Result<(), exchange_runtime::StartError> {
/// use exchange_core::{Channel, Market};
///
/// let collector = exchange_runtime::Collector::builder()
///     .venue(venue)
///     .markets([Market::Linear])
///     .channels([Channel::Ticker, Channel::Funding])
///     .sink(sink)
///     .start()?;
/// tokio::time::sleep(std::time::Duration::from_secs(60)).await;
/// let summary = collector.stop().await;
/// # Ok(())
/// # }
/// ```
pub struct Builder {
    venues: Vec<Venue>,
    options: VenueOptions,
    fold: bool,
    sinks: Vec<(String, Box<dyn Sink>)>,
    lasting: Vec<(String, Box<dyn Sink>)>,
    journal: exchange_spool::Options,
    capture: Option<PathBuf>,
    outside: Option<Outside>,
    state: Option<StateDir>,
}

/// A running collector. Dropping it stops everything, without waiting for the sinks.
pub struct Collector {
    venues: Vec<Arc<Shared>>,
    actors: Vec<JoinHandle<()>>,
    sinks: Vec<JoinHandle<SinkEnd>>,
    stop: watch::Sender<bool>,
    writer: Option<Writer>,
    sink_failed: watch::Receiver<Option<SinkError>>,
    watchdog: JoinHandle<()>,
    keeper: Option<Keeper>,
    checkpoints: Option<JoinHandle<()>>,
    until: watch::Sender<Until>,
    statuses: Vec<Status>,
    /// Its name is claimed until the last row is written.
    _state: Option<StateDir>,
}

/// Runs a venue's actor, and another one in its place should it fail: what it knew of the venue's instruments is not its
/// own, what it had not asked yet is asked anew.
async fn supervise(shared: Arc<Shared>, options: VenueOptions, http: Http, numbers: Arc<Numbers>, stop: watch::Receiver<bool>) {
    loop {
        let actor = VenueActor::new(shared.clone(), options.clone(), http.clone(), numbers.clone(), stop.clone());
        let Err(error) = tokio::spawn(actor.run()).await else { return };
        if error.is_cancelled() || *stop.borrow() {
            return;
        }
        tracing::error!(venue = shared.name(), %error, "the venue's task failed, and is started again");
        metrics::counter!("collector_task_restarts_total", "venue" => shared.name().to_owned()).increment(1);
        // Its connections ended with it, and what they would have brought until they are open again is missed.
        let mut gaps: Vec<Event> = missed(&shared, &options);
        shared.deliver(&mut gaps, None).await;
        tokio::time::sleep(RESTART).await;
    }
}

/// One gap for each channel of each market that was asked for.
fn missed(shared: &Shared, options: &VenueOptions) -> Vec<Event> {
    let now = shared.clock.wall();
    let mut gaps = Vec::new();
    for market in &options.markets {
        let all = Arc::new(Instrument::all(shared.venue.catalog.venue(), *market));
        for channel in options.channels.iter().filter(|channel| **channel != Channel::Instrument) {
            gaps.push(Event::disconnected(all.clone(), *channel, now, now));
        }
    }
    gaps
}

/// What became of a run.
#[derive(Debug, Clone, Default)]
pub struct Summary {
    /// Each venue's counts.
    pub venues: BTreeMap<String, VenueSummary>,
    /// Errors of sinks that ended early, by the sink's name.
    pub sink_errors: Vec<(String, SinkError)>,
    /// What kept the captures from the disk.
    pub capture_error: Option<String>,
    /// What kept the ledger from being complete.
    pub ledger_error: Option<String>,
    /// What the sinks have not got yet: it lies in the journal, and is delivered by the next run of the same name.
    pub waiting: Vec<SinkStatus>,
}

/// What became of one venue.
#[derive(Debug, Clone, Default)]
pub struct VenueSummary {
    /// Events by their fate.
    pub counts: Counts,
    /// Requests of a `--once` cycle that failed for good.
    pub failed: u64,
    /// What did not work at the end.
    pub problems: BTreeMap<String, String>,
}

impl Builder {
    /// Adds a venue.
    #[must_use]
    pub fn venue(mut self, venue: Venue) -> Self {
        self.venues.push(venue);
        self
    }

    /// The markets to collect (linear, if nothing is said). A venue's other markets are left alone.
    #[must_use]
    pub fn markets(mut self, markets: impl IntoIterator<Item = Market>) -> Self {
        self.options.markets = markets.into_iter().collect();
        self
    }

    /// The channels to collect (ticker, mark, funding and open interest, if nothing is said).
    #[must_use]
    pub fn channels(mut self, channels: impl IntoIterator<Item = Channel>) -> Self {
        self.options.channels = channels.into_iter().collect();
        self
    }

    /// By REST, by WebSocket, or each channel as suits it.
    #[must_use]
    pub fn mode(mut self, mode: Mode) -> Self {
        self.options.mode = mode;
        self
    }

    /// Time between poll cycles (5 seconds, if nothing is said).
    #[must_use]
    pub fn interval(mut self, interval: Duration) -> Self {
        self.options.interval = interval;
        self
    }

    /// One full poll cycle, then [`Collector::finished`].
    #[must_use]
    pub fn once(mut self, once: bool) -> Self {
        self.options.once = once;
        if once {
            self.options.mode = Mode::Poll;
        }
        self
    }

    /// Passes on unchanged states, too.
    #[must_use]
    pub fn all_events(mut self, all_events: bool) -> Self {
        self.options.all_events = all_events;
        self
    }

    /// Makes each state whole.
    #[must_use]
    pub fn fold(mut self, fold: bool) -> Self {
        self.fold = fold;
        self
    }

    /// Collects only the instruments for which this answers `true`.
    #[must_use]
    pub fn choose(mut self, chooser: Chooser) -> Self {
        self.options.chooser = Some(chooser);
        self
    }

    /// Adds a sink that lasts beyond the run. If a [state directory](Builder::state) has a name claimed, it reads a journal
    /// there, at its own pace: it holds up nobody, and what it has not got when the run ends, however it ends, is delivered
    /// by the next run of that name. Without one, this is [`Builder::sink`].
    #[must_use]
    pub fn lasting_sink(mut self, sink: Box<dyn Sink>) -> Self {
        self.lasting.push((sink.name().to_owned(), sink));
        self
    }

    /// How the journal uses its disk.
    #[must_use]
    pub fn journal(mut self, options: exchange_spool::Options) -> Self {
        self.journal = options;
        self
    }

    /// Adds a sink that has no past and no future: a bounded queue stands before it, and what does not fit is given up, each
    /// loss a gap.
    #[must_use]
    pub fn sink(mut self, sink: Box<dyn Sink>) -> Self {
        self.sinks.push((sink.name().to_owned(), sink));
        self
    }

    /// Also writes what the venues send into files in this directory.
    #[must_use]
    pub fn capture(mut self, directory: Option<PathBuf>) -> Self {
        self.capture = directory;
        self
    }

    /// Another network, clock and chance than the system's: for simulations.
    #[must_use]
    pub fn outside(mut self, outside: Outside) -> Self {
        self.outside = Some(outside);
        self
    }

    /// What survives the run goes into this directory. Bans, and what was spent of the venues' budgets, are shared through
    /// it with all others that use it. If a name was claimed in it, a ledger is kept ([`exchange_core::ledger`]), for
    /// which each sink is flushed once a minute.
    #[must_use]
    pub fn state(mut self, state: Option<StateDir>) -> Self {
        self.state = state;
        self
    }

    /// Starts collecting, on the tokio runtime of the caller.
    ///
    /// # Errors
    /// [`StartError`]; nothing was started then.
    pub fn start(self) -> Result<Collector, StartError> {
        let outside = self.outside.map_or_else(Outside::real, Ok)?;
        let http = Http::new(&outside);
        let (tap, writer) = match &self.capture {
            None => (None, None),
            Some(directory) => {
                let opened = Tap::open(directory, outside.clock.wall()).map_err(|source| StartError::Capture { path: directory.clone(), source })?;
                (Some(opened.0), Some(opened.1))
            }
        };
        let (stop, stopped) = watch::channel(false);
        let (failed, sink_failed) = watch::channel(None);
        let journal = match self.state.as_ref().filter(|_| !self.lasting.is_empty()).map(|state| state.own(journal::PART)).transpose()?.flatten() {
            None => None,
            Some(path) => {
                Some(Spool::open(&path, self.journal.clone()).map(|opened| (opened, path.clone())).map_err(|source| StartError::Journal { path, source })?)
            }
        };
        let (mut queued, mut lasting) = (self.sinks, self.lasting);
        if journal.is_none() {
            queued.append(&mut lasting);
        }
        let names = distinct(lasting.iter().chain(&queued).map(|(name, _)| name));
        let ledger = match self.state.as_ref().map(|state| state.own(ledger::PART)).transpose()?.flatten() {
            None => None,
            Some(path) => {
                let opened = ledger::Writer::open(path.clone(), outside.clock.wall(), names.clone());
                Some(opened.map_err(|source| StartError::Ledger { path, source })?)
            }
        };
        let open = |venue: &Venue| Limits::open(&venue.profile, outside.clock, self.state.as_ref());
        let limits: Vec<Limits> = self.venues.iter().map(open).collect::<Result<_, _>>()?;
        let of = |venue: &Venue| {
            let markets = self.options.markets.iter().copied().filter(|market| venue.profile.markets.contains_key(market)).collect();
            VenueOptions { markets, ..self.options.clone() }
        };
        let options: Vec<VenueOptions> = self.venues.iter().map(of).collect();
        let pipeline = |(venue, options): (&Venue, &VenueOptions)| {
            let name = &venue.profile.name;
            let mut pipeline = Pipeline::new(name, Arc::new(options.clone()), options.all_events, self.fold).with_refills(venue.profile.clone());
            if ledger.is_some() {
                pipeline.keep_ledger();
            }
            (name.clone(), pipeline)
        };
        let mut pipelines: Vec<(String, Pipeline)> = self.venues.iter().zip(&options).map(pipeline).collect();
        let (lasting_names, queued_names) = names.split_at_checked(lasting.len()).unwrap_or_default();
        let (until, ending) = watch::channel(Until::Stopped);
        let soon = Arc::new(Notify::new());
        let start = Start { soon: soon.clone(), failed: &failed, until: ending, has_ledger: ledger.is_some(), clock: outside.clock, seed: outside.seed };
        let deliveries = match &journal {
            None => Deliveries::default(),
            Some((opened, path)) => {
                journal::restore(&opened.spool, opened.checkpoint.as_ref(), &mut pipelines);
                start.deliveries(&opened.spool, lasting, lasting_names).map_err(|source| StartError::Journal { path: path.clone(), source })?
            }
        };
        let in_ledger = ledger.is_some().then_some(queued_names);
        let (output, mut sinks, books) = Output::start(queued, &failed, in_ledger, outside.clock);
        let output = Arc::new(output.with_journal(deliveries.journal));
        sinks.extend(deliveries.tasks);
        let books: Books = deliveries.books.into_iter().chain(books.iter().cloned()).collect();
        let numbers = Arc::new(Numbers::since(outside.clock.wall()));
        let mut venues = Vec::new();
        let mut actors = Vec::new();
        for (((venue, limits), options), (_, pipeline)) in self.venues.into_iter().zip(limits).zip(options).zip(pipelines) {
            let shared = Arc::new(Shared::new(venue, pipeline, output.clone(), limits, tap.clone(), outside.clone()));
            venues.push(shared.clone());
            actors.push(tokio::spawn(supervise(shared, options, http.clone(), numbers.clone(), stopped.clone())));
        }
        let weak = || venues.iter().map(Arc::downgrade).collect();
        let keeper = ledger.map(|writer| Keeper::start(writer, weak(), books, ledger::EVERY, outside.clock));
        let checkpoints = journal.map(|(opened, _)| tokio::spawn(journal::keep_checkpoints(opened.spool, weak(), soon)));
        let watchdog = tokio::spawn(watchdog::watch(weak()));
        let statuses = deliveries.statuses;
        Ok(Collector { venues, actors, sinks, stop, writer, sink_failed, watchdog, keeper, checkpoints, until, statuses, _state: self.state })
    }
}

impl Collector {
    /// Begins to describe a collector.
    pub fn builder() -> Builder {
        let options = VenueOptions {
            markets: vec![Market::Linear],
            channels: vec![Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest],
            mode: Mode::Auto,
            interval: Duration::from_secs(5),
            once: false,
            all_events: false,
            chooser: None,
        };
        Builder {
            venues: Vec::new(),
            options,
            fold: false,
            sinks: Vec::new(),
            lasting: Vec::new(),
            journal: exchange_spool::Options::default(),
            capture: None,
            outside: None,
            state: None,
        }
    }

    /// Waits until every venue has done all that was asked for; without `once`, that is never.
    pub async fn finished(&mut self) {
        for actor in &mut self.actors {
            if let Err(error) = actor.await {
                tracing::error!(%error, "a venue's task failed");
            }
        }
        self.actors.clear();
    }

    /// Waits until a sink has failed for good. One that has a journal counts only when no other of those is left: what is
    /// there for it is kept, and the others go on.
    pub fn sink_failed(&self) -> impl Future<Output = SinkError> + use<> {
        let mut failed = self.sink_failed.clone();
        async move {
            loop {
                if let Some(error) = failed.borrow_and_update().clone() {
                    return error;
                }
                if failed.changed().await.is_err() {
                    // No sink is left that could fail.
                    std::future::pending::<()>().await;
                }
            }
        }
    }

    /// Stops asking, hands on what is on its way, and waits until the sinks have taken everything. A sink that has a journal
    /// and is in trouble is waited for a few seconds.
    pub async fn stop(self) -> Summary {
        self.end(None).await
    }

    /// Stops asking, and hands on what can be in so long; what has not reached a sink that has a journal by then stays there
    /// for the next run. Sinks without one are waited for as by [`Collector::stop`].
    pub async fn stop_within(self, time: Duration) -> Summary {
        self.end(Some(Instant::now() + time)).await
    }

    async fn end(mut self, deadline: Option<Instant>) -> Summary {
        self.stop.send_replace(true);
        self.finished().await;
        self.until.send_replace(deadline.map_or(Until::Delivered, Until::Deadline));
        if let Some(checkpoints) = self.checkpoints.take() {
            checkpoints.abort();
        }
        let ledger = match self.keeper.take() {
            Some(keeper) => Some(keeper.pause().await),
            None => None,
        };
        let mut rows = Vec::new();
        let mut summary = Summary::default();
        for shared in std::mem::take(&mut self.venues) {
            let counts = shared.pipeline().counts();
            rows.append(&mut shared.pipeline().take_ledger());
            let health = shared.health().clone();
            summary.venues.insert(shared.name().to_owned(), VenueSummary { counts, failed: health.failed, problems: health.problems });
        }
        // The last owners of the queues and of the tap are gone: their tasks end when they have written everything.
        for sink in std::mem::take(&mut self.sinks) {
            match sink.await {
                Ok(end) => {
                    let waiting = end.waiting();
                    let SinkEnd { name, result, .. } = end;
                    if waiting != Backlog::default() {
                        summary.waiting.push(SinkStatus { name: name.clone(), batches: waiting.batches, bytes: waiting.bytes, ..SinkStatus::default() });
                    }
                    if let Err(error) = result {
                        summary.sink_errors.push((name, error));
                    }
                }
                Err(error) => tracing::error!(%error, "a sink's task failed"),
            }
        }
        if let Some(ledger) = ledger {
            summary.ledger_error = ledger.finish(rows).await.err();
        }
        if let Some(writer) = self.writer.take() {
            summary.capture_error = writer.finish().err();
        }
        summary
    }

    /// The venues' names.
    pub fn venues(&self) -> Vec<String> {
        self.venues.iter().map(|shared| shared.name().to_owned()).collect()
    }

    /// A view for servers and displays that outlives nothing and holds nothing up.
    pub fn monitor(&self) -> Monitor {
        Monitor { venues: self.venues.iter().map(Arc::downgrade).collect(), sinks: self.statuses.clone() }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        self.watchdog.abort();
        self.actors.iter().for_each(JoinHandle::abort);
        if let Some(keeper) = &self.keeper {
            keeper.abort();
        }
        if let Some(checkpoints) = &self.checkpoints {
            checkpoints.abort();
        }
    }
}

/// What is to be seen of a running collector.
#[derive(Clone)]
pub struct Monitor {
    venues: Vec<std::sync::Weak<Shared>>,
    sinks: Vec<Status>,
}

/// One venue, as it is now.
#[derive(Debug, Clone)]
pub struct VenueStatus {
    /// Its name.
    pub venue: String,
    /// Events by their fate.
    pub counts: Counts,
    /// How it is doing.
    pub health: Health,
}

impl VenueStatus {
    /// Whether everything asked for is being delivered.
    pub fn is_ready(&self) -> bool {
        self.health.started && self.health.problems.is_empty()
    }
}

/// The digest of one channel of a market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The venue.
    pub venue: String,
    /// The market.
    pub market: Market,
    /// The channel.
    pub channel: Channel,
    /// Equal for collectors that know the same.
    pub digest: u128,
}

impl Monitor {
    fn shared(&self) -> impl Iterator<Item = Arc<Shared>> {
        self.venues.iter().filter_map(std::sync::Weak::upgrade)
    }

    /// Each venue's status.
    pub fn status(&self) -> Vec<VenueStatus> {
        self.shared()
            .map(|shared| VenueStatus { venue: shared.name().to_owned(), counts: shared.pipeline().counts(), health: shared.health().clone() })
            .collect()
    }

    /// How the sinks are doing that have a journal.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        // All venues have the same way out.
        let trouble = self.shared().find_map(|shared| shared.trouble());
        let status = |status: &Status| {
            let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            SinkStatus { problem: status.problem.or_else(|| trouble.clone()), ..status }
        };
        self.sinks.iter().map(status).collect()
    }

    /// Whether every venue's task moves. A venue that does not answer is no reason why it would not.
    pub fn is_alive(&self) -> bool {
        self.shared().all(|shared| shared.pulse.stuck(shared.clock.now()).is_none())
    }

    /// The last known states of these channels, whole: events without an id, received when the state changed last.
    pub fn latest(&self, channels: &[Channel], wants: &dyn Fn(&Instrument) -> bool) -> Vec<Event> {
        let mut all = Vec::new();
        for shared in self.shared() {
            let catalog = &shared.venue.catalog;
            let pipeline = shared.pipeline();
            for market in Market::ALL {
                for channel in channels {
                    for (name, at, body) in pipeline.latest().states(market, *channel) {
                        let instrument = catalog.get(market, name).unwrap_or_else(|| Arc::new(Instrument::named(catalog.venue(), market, name, None)));
                        if wants(&instrument) {
                            all.push(Event::new(instrument, at, None, body));
                        }
                    }
                }
            }
        }
        all
    }

    /// The digests of all states that are known, by venue, market and channel.
    pub fn digests(&self) -> Vec<Digest> {
        let mut all = Vec::new();
        for shared in self.shared() {
            let mut pipeline = shared.pipeline();
            for market in Market::ALL {
                for (channel, digest) in STATES.into_iter().zip(pipeline.digests(market)) {
                    if digest != 0 {
                        all.push(Digest { venue: shared.name().to_owned(), market, channel, digest });
                    }
                }
            }
        }
        all
    }
}

/// The names, in order, each once: two sinks of one name are two.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        let numbered = (2..).map(|number| format!("{name} #{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !distinct.contains(name));
        distinct.extend(free);
    }
    distinct
}

/// The channels that a venue does not serve in a market in this mode.
pub fn unserved(venue: &Venue, market: Market, channels: &[Channel], mode: Mode) -> Vec<Channel> {
    let want = exchange_core::Want { market, channels, mode, fallback: false, instruments: &[] };
    venue.exchange.plan(&venue.profile, &want).unserved
}
