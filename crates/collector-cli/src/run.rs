//! `collector run`: the main job, from settings to an exit status.

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exchange_core::{Channel, Instrument, Market, Venue};
use exchange_runtime::{Chooser, Collector, Monitor, SinkStatus, StateDir, StateError, Summary};
use exchange_sinks::{SinkError, SinkErrorKind};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::heartbeat;
use crate::live;
use crate::logging::{self, Voice, say};
use crate::serve;
use crate::settings::Settings;

/// After a signal, what has come until then is handed on for so long.
const HAND_ON: Duration = Duration::from_millis(600);

/// Runs until the end. What is wrong before anything started is exit status 2, as a [`Usage`].
pub(crate) fn run(settings: &Settings, venues: &[Venue]) -> anyhow::Result<ExitCode> {
    let served = served_channels(settings, venues)?;
    let voice = logging::start(settings.log, settings.sinks.iter().any(exchange_sinks::SinkUri::is_stdout));
    let state = claim(settings)?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let status = runtime.block_on(collect(settings, served, voice, state));
    // Nothing that still hangs on a socket is worth waiting for.
    runtime.shutdown_background();
    status
}

/// Wrong usage, found after the configuration was read: exit status 2.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Usage(pub(crate) String);

/// Names what is asked for in vain, once; leaves out venues that serve nothing of it.
fn served_channels(settings: &Settings, venues: &[Venue]) -> anyhow::Result<Vec<Venue>> {
    let mut served = Vec::new();
    for venue in venues {
        let name = &venue.profile.name;
        let mut any = false;
        let mut lacking: BTreeSet<(Channel, Market)> = BTreeSet::new();
        for &market in &settings.markets {
            if !venue.profile.markets.contains_key(&market) {
                say!("{name}: has no {market} market");
                continue;
            }
            let unserved = exchange_runtime::unserved(venue, market, &settings.channels, settings.mode);
            any |= unserved.len() < settings.channels.len();
            lacking.extend(unserved.into_iter().map(|channel| (channel, market)));
        }
        let how = match settings.mode {
            exchange_core::Mode::Poll => " by REST",
            exchange_core::Mode::Stream => " by WebSocket",
            exchange_core::Mode::Auto => "",
        };
        for &channel in &settings.channels {
            let markets: Vec<&str> = lacking.iter().filter(|(lacks, _)| *lacks == channel).map(|(_, market)| market.as_str()).collect();
            if !markets.is_empty() {
                say!("{name}: does not serve {channel}{how} for {}: left out", markets.join(", "));
            }
        }
        if any {
            served.push(venue.clone());
        }
    }
    if served.is_empty() {
        return Err(Usage("nothing is left to collect: see `collector venues` for what each venue serves".into()).into());
    }
    Ok(served)
}

/// Opens the state directory, and claims the collector's name in it, if it has one: two of one name would write the same
/// ledger. What the venues hold against this machine concerns those without a name, too.
pub(crate) fn claim(settings: &Settings) -> anyhow::Result<Option<StateDir>> {
    if settings.name.is_none() && settings.simulate {
        // A venue that lives no longer than this process holds nothing against anyone.
        return Ok(None);
    }
    let opened = StateDir::open(&settings.state).and_then(|state| match &settings.name {
        Some(name) => state.claim(name),
        None => Ok(state),
    });
    match opened {
        Ok(state) => Ok(Some(state)),
        Err(StateError::Running(name)) => Err(Usage(format!("a collector named `{name}` is running already: choose another --name (or stop it)")).into()),
        Err(error) if settings.state_is_default => {
            let named =
                settings.name.as_ref().map_or("", |_| ", there will be no ledger and no journal, and nothing keeps out a second collector of this name");
            tracing::warn!("{error}: bans and budgets are not shared and end with this run{named} (choose another --state)");
            Ok(None)
        }
        Err(error @ StateError::Unusable { .. }) => Err(Usage(format!("{error} (make it writable, or choose another --state)")).into()),
        Err(error) => Err(Usage(error.to_string()).into()),
    }
}

/// What keeps a sink from being opened, and what to do about it.
pub(crate) fn cannot_open(error: &SinkError) -> String {
    match error.kind() {
        SinkErrorKind::Config => error.to_string(),
        // Servers are not asked yet: this is about a directory.
        _ => format!("{error} (make it writable, or choose another --sink)"),
    }
}

pub(crate) fn chooser(settings: &Settings) -> Option<Chooser> {
    let (symbols, shard) = (settings.symbols.clone(), settings.shard);
    if symbols.is_all() && shard.count == 1 {
        return None;
    }
    Some(Arc::new(move |instrument: &Instrument| {
        let asked = symbols.is_all() || instrument.symbol.as_deref().is_some_and(|symbol| symbols.matches(symbol));
        asked && instrument.shard(shard.count) == shard.index
    }))
}

async fn collect(settings: &Settings, mut venues: Vec<Venue>, voice: Voice, state: Option<StateDir>) -> anyhow::Result<ExitCode> {
    let listener = listen(settings).await?;
    let simulator = if settings.simulate { Some(simulate(settings, &mut venues)?) } else { None };
    let recorder = serve::install_recorder()?;
    tokio::spawn(serve::keep_up(recorder.clone()));
    let mut builder = Collector::builder()
        .markets(settings.markets.iter().copied())
        .channels(settings.channels.iter().copied())
        .mode(settings.mode)
        .interval(settings.interval)
        .once(settings.once)
        .all_events(settings.all_events)
        .fold(settings.fold)
        .capture(settings.capture.clone())
        .journal(settings.spool.clone())
        .state(state);
    for sink in &settings.sinks {
        let opened = sink.open().map_err(|error| Usage(cannot_open(&error)))?;
        builder = if sink.needs_name() { builder.lasting_sink(opened) } else { builder.sink(opened) };
    }
    if let Some(chooser) = chooser(settings) {
        builder = builder.choose(chooser);
    }
    for venue in &venues {
        builder = builder.venue(venue.clone());
    }
    // Before anything can be asked of the venues: a signal is never lost.
    let mut signals = Signals::new()?;
    let mut collector = builder.start().map_err(|error| Usage(format!("{:#}", anyhow::Error::from(error))))?;
    if let Some(listener) = listener {
        let address = listener.local_addr()?;
        serve::start(listener, recorder, collector.monitor());
        tracing::info!(%address, "serving /metrics, /healthz, /readyz, /api/latest, /api/funding, /api/digest");
    }
    tokio::spawn(heartbeat::keep(collector.monitor(), settings.heartbeat.clone()));
    let lines = if let Voice::Live(lines) = &voice { Some(lines.clone()) } else { None };
    let live = lines.clone().map(|lines| tokio::spawn(live::show(collector.monitor(), lines)));
    let patterns = tokio::spawn(warn_of_unmatched(settings.symbols.clone(), venues.clone(), collector.monitor()));

    let over = async {
        match settings.stop_after {
            Some(after) => tokio::time::sleep(after).await,
            None => std::future::pending().await,
        }
    };
    let mut sink_error = None;
    let failed = collector.sink_failed();
    let interrupted = tokio::select! {
        () = collector.finished() => false,
        () = over => false,
        _ = signals.next() => true,
        error = failed => {
            sink_error = Some(error);
            false
        }
    };
    // From here on a second signal ends everything at once.
    tokio::spawn(async move {
        let status = signals.next().await;
        std::process::exit(status);
    });
    patterns.abort();
    heartbeat::stopping();
    // Who asks for the end wants it soon, and what is in the journal is in no hurry.
    let summary = if interrupted { collector.stop_within(HAND_ON).await } else { collector.stop().await };
    if let Some(live) = live {
        live.abort();
        if let Some(lines) = lines {
            // What was shown last may be cleared; the summary follows.
            let _cleared = lines.clear();
        }
    }
    if let Some(simulator) = simulator {
        simulator.shutdown().await?;
    }
    Ok(report(settings, &summary, interrupted, sink_error.as_ref().is_some_and(|error| error.kind() != SinkErrorKind::Closed)))
}

/// Takes the address of metrics and health, before anything is asked of anyone.
async fn listen(settings: &Settings) -> anyhow::Result<Option<TcpListener>> {
    let Some(address) = settings.listen.address else { return Ok(None) };
    match TcpListener::bind(address).await {
        Ok(listener) => Ok(Some(listener)),
        Err(error) if settings.listen.is_default => {
            tracing::warn!(%address, %error, "metrics and health are not served (choose another --listen)");
            Ok(None)
        }
        Err(error) => Err(Usage(format!("cannot listen on {address}: {error}")).into()),
    }
}

/// Starts the simulated venues, and points the venues at them.
fn simulate(settings: &Settings, venues: &mut [Venue]) -> anyhow::Result<venue_sim::Handle> {
    let names = venues.iter().map(|venue| venue.profile.name.clone()).collect();
    let simulator = venue_sim::start(&crate::sim::config(&settings.sim, names, None))?;
    for venue in venues {
        let mut profile = (*venue.profile).clone();
        for (market, surface) in &mut profile.markets {
            surface.rest = simulator.rest_url(&profile.name);
            surface.ws = simulator.ws_url(&profile.name, *market);
        }
        *venue = Venue::new(venue.exchange, profile);
    }
    Ok(simulator)
}

/// A pattern that matches no instrument of any venue is probably a slip.
async fn warn_of_unmatched(symbols: crate::settings::SymbolFilter, venues: Vec<Venue>, monitor: Monitor) {
    if symbols.is_all() {
        return;
    }
    while !monitor.status().iter().all(|status| status.health.started) {
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    let known: Vec<Arc<Instrument>> = venues.iter().flat_map(|venue| Market::ALL.into_iter().flat_map(|market| venue.catalog.list(market))).collect();
    let known: Vec<&str> = known.iter().filter_map(|instrument| instrument.symbol.as_deref()).collect();
    for pattern in symbols.unmatched(&known) {
        tracing::warn!("`{pattern}` matches no instrument: `collector instruments` lists them");
    }
}

/// The last lines of a run: what became of each venue.
pub(crate) fn report(settings: &Settings, summary: &Summary, interrupted: bool, sink_failed: bool) -> ExitCode {
    let mut failed = sink_failed;
    for (name, venue) in &summary.venues {
        let counts = &venue.counts;
        say!(
            "{name}: {} events, {} unchanged, {} duplicates, {} gaps, {} errors",
            counts.events,
            counts.unchanged,
            counts.duplicates,
            counts.gaps,
            counts.errors
        );
        // What was wrong to the end: a venue that was never reached has no other errors to count.
        for (what, why) in &venue.problems {
            say!("{name}: {what}: {why}");
        }
        failed |= settings.once && (venue.failed > 0 || !venue.problems.is_empty());
    }
    for (name, error) in &summary.sink_errors {
        if error.kind() != SinkErrorKind::Closed {
            failed = true;
            say!("{name}: {error}");
        }
    }
    for waiting in &summary.waiting {
        // A run that ends by itself has to deliver what it collected.
        failed |= !interrupted;
        let SinkStatus { name, batches, bytes, .. } = waiting;
        #[expect(clippy::cast_precision_loss, reason = "for people")]
        let size = *bytes as f64 / f64::from(1 << 20);
        say!("{name}: {batches} batches ({size:.1} MiB) wait in the journal: the next run of the same name delivers them");
    }
    if let Some(error) = &summary.capture_error {
        failed = true;
        say!("the captures are not complete: {error}");
    }
    if let Some(error) = &summary.ledger_error {
        failed = true;
        say!("the ledger is not complete: {error}");
    }
    ExitCode::from(u8::from(failed))
}

/// SIGINT and SIGTERM.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    pub(crate) fn new() -> anyhow::Result<Self> {
        let listen = |kind| signal(kind).context("cannot listen for signals");
        Ok(Self { interrupt: listen(SignalKind::interrupt())?, terminate: listen(SignalKind::terminate())? })
    }

    /// Waits for one; the exit status that it asks for where it cuts things short.
    pub(crate) async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 130,
            _ = self.terminate.recv() => 143,
        }
    }
}
