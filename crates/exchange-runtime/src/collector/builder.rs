//! What a collector is to do, and how it begins to.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Channel, Market, Mode, Pipeline, Venue};
use exchange_sinks::Sink;
use exchange_spool::{Opened, Spool};
use tokio::sync::{Notify, watch};

use super::{Collector, StartError};
use crate::capture::{Tap, Writer};
use crate::clock::Clock;
use crate::delivery::{Deliveries, Start, Until};
use crate::http::Http;
use crate::journal;
use crate::ledger::{self, Books, Keeper};
use crate::limits::Limits;
use crate::net::Outside;
use crate::output::{Output, distinct};
use crate::shared::{Numbers, Shared};
use crate::state::{StateDir, StateError};
use crate::venue::{Chooser, VenueOptions, supervise};
use crate::watchdog;

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

impl Builder {
    pub(super) fn new() -> Self {
        let options = VenueOptions {
            markets: vec![Market::Linear],
            channels: vec![Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest],
            mode: Mode::Auto,
            interval: Duration::from_secs(5),
            once: false,
            all_events: false,
            chooser: None,
        };
        Self {
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
    pub fn start(mut self) -> Result<Collector, StartError> {
        let outside = self.outside.take().map_or_else(Outside::real, Ok)?;
        let http = Http::new(&outside);
        let (tap, capture) = self.open_capture(outside.clock)?.unzip();
        let (stop, stopped) = watch::channel(false);
        let (failed, sink_failed) = watch::channel(None);
        let journal = self.open_journal()?;
        if journal.is_none() {
            self.sinks.append(&mut self.lasting);
        }
        let (queued, lasting) = (std::mem::take(&mut self.sinks), std::mem::take(&mut self.lasting));
        let names = distinct(lasting.iter().chain(&queued).map(|(name, _)| name));
        let (lasting_names, queued_names) = names.split_at_checked(lasting.len()).unwrap_or_default();
        let ledger = self.open_ledger(outside.clock, &names)?;
        let open = |venue: &Venue| Limits::open(&venue.profile, outside.clock, self.state.as_ref());
        let limits: Vec<Limits> = self.venues.iter().map(open).collect::<Result<_, _>>()?;
        let options: Vec<VenueOptions> = self.venues.iter().map(|venue| self.options_of(venue)).collect();
        let pipeline = |(venue, options): (&Venue, &VenueOptions)| (venue.profile.name.clone(), self.pipeline(venue, options, ledger.is_some()));
        let mut pipelines: Vec<(String, Pipeline)> = self.venues.iter().zip(&options).map(pipeline).collect();
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
        Ok(Collector { venues, actors, sinks, stop, capture, sink_failed, watchdog, keeper, checkpoints, until, statuses, _state: self.state })
    }

    fn open_capture(&self, clock: Clock) -> Result<Option<(Tap, Writer)>, StartError> {
        let open = |path: &PathBuf| Tap::open(path, clock.wall()).map_err(|source| StartError::Capture { path: path.clone(), source });
        self.capture.as_ref().map(open).transpose()
    }

    /// This collector's own directory for a part of its state, if it has a name.
    fn own(&self, part: &str) -> Result<Option<PathBuf>, StateError> {
        Ok(self.state.as_ref().map(|state| state.own(part)).transpose()?.flatten())
    }

    /// The journal and its directory, if there are sinks that need one.
    fn open_journal(&self) -> Result<Option<(Opened, PathBuf)>, StartError> {
        if self.lasting.is_empty() {
            return Ok(None);
        }
        let Some(path) = self.own(journal::PART)? else { return Ok(None) };
        match Spool::open(&path, self.journal.clone()) {
            Ok(opened) => Ok(Some((opened, path))),
            Err(source) => Err(StartError::Journal { path, source }),
        }
    }

    fn open_ledger(&self, clock: Clock, sinks: &[String]) -> Result<Option<ledger::Writer>, StartError> {
        let Some(path) = self.own(ledger::PART)? else { return Ok(None) };
        let opened = ledger::Writer::open(path.clone(), clock.wall(), sinks.to_vec());
        opened.map(Some).map_err(|source| StartError::Ledger { path, source })
    }

    /// What is asked of a venue: of the markets, those that it has.
    fn options_of(&self, venue: &Venue) -> VenueOptions {
        let markets = self.options.markets.iter().copied().filter(|market| venue.profile.markets.contains_key(market)).collect();
        VenueOptions { markets, ..self.options.clone() }
    }

    fn pipeline(&self, venue: &Venue, options: &VenueOptions, has_ledger: bool) -> Pipeline {
        let mut pipeline = Pipeline::new(&venue.profile.name, Arc::new(options.clone()), options.all_events, self.fold).with_refills(venue.profile.clone());
        if has_ledger {
            pipeline.keep_ledger();
        }
        pipeline
    }
}
