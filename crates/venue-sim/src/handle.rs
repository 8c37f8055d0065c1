//! How a simulation begins, and the handle by which it is watched, changed and ended.
//!
//! Everything runs on one thread of its own with its own runtime: a simulated venue takes one core, whatever the
//! program around it does, and that program needs no runtime to start one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;

use exchange_core::Market;
use tokio::sync::watch;

use crate::clock::Wall;
use crate::config::{Config, Error};
use crate::faults::Faults;
use crate::line::Lines;
use crate::server::{App, run};
use crate::source::Source;
use crate::truth::{Truth, Writer};

/// A running simulation. Dropping it ends the simulation, without waiting for that.
pub struct Handle {
    address: SocketAddr,
    app: Arc<App>,
    stop: watch::Sender<bool>,
    still: watch::Receiver<bool>,
    done: Option<tokio::sync::oneshot::Receiver<()>>,
    thread: Option<JoinHandle<()>>,
    writer: Option<Writer>,
}

/// What a simulation has done so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counters {
    /// Requests by venue and path, such as `binance/fapi/v1/premiumIndex`; openings of sockets, too.
    pub requests: BTreeMap<String, u64>,
    /// Sockets that are open.
    pub connections: usize,
    /// Sockets that were opened so far.
    pub opened: u64,
    /// Updates of the market.
    pub updates: u64,
    /// Pushes that were handed to connections.
    pub served: u64,
}

/// What a simulation did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Summary {
    /// The last counters.
    pub counters: Counters,
    /// Lines of the truth.
    pub truth: u64,
}

/// Starts a simulation, and returns once it listens.
///
/// # Errors
/// What cannot be simulated, listened on, read or written.
pub fn start(config: &Config) -> Result<Handle, Error> {
    config.check()?;
    let faults = Arc::new(config.faults.as_deref().map_or_else(|| Ok(Faults::none()), Faults::load)?);
    let source = Source::new(config, &faults, Wall::System, config.truth.is_some())?;
    let fault = |source| Error::Listen { address: config.listen, source };
    let listener = std::net::TcpListener::bind(config.listen).map_err(fault)?;
    listener.set_nonblocking(true).map_err(fault)?;
    let address = listener.local_addr().map_err(fault)?;
    let (truth, writer) = match &config.truth {
        Some(path) => Truth::create(path).map(|(truth, writer)| (truth, Some(writer)))?,
        None => (Truth::default(), None),
    };
    let (stop, stopped) = watch::channel(false);
    let (app, stands) = App::new(config, source, faults, Wall::System, truth, stopped);
    let app = Arc::new(app);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(fault)?;
    let (finished, done) = tokio::sync::oneshot::channel();
    let theirs = app.clone();
    let thread = std::thread::Builder::new().name("venue-sim".into()).spawn(move || {
        runtime.block_on(async {
            match tokio::net::TcpListener::from_std(listener) {
                Ok(listener) => run(theirs, Lines(listener)).await,
                Err(error) => tracing::error!(%error, "the simulator cannot listen"),
            }
        });
        drop(runtime);
        finished.send(()).ok();
    });
    let thread = thread.map_err(fault)?;
    Ok(Handle { address, app, stop, still: stands, done: Some(done), thread: Some(thread), writer })
}

impl Handle {
    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The venues that it serves.
    pub fn venues(&self) -> &[String] {
        &self.app.source.venues
    }

    /// The `--set` options, each followed by its value, that point `collector run` at it.
    pub fn options(&self) -> Vec<String> {
        self.settings().into_iter().flat_map(|(key, value)| ["--set".to_owned(), format!("{key}={value}")]).collect()
    }

    /// The settings behind [`Handle::options`].
    pub fn settings(&self) -> Vec<(String, String)> {
        let mut all = Vec::new();
        for name in self.venues() {
            all.push((format!("venues.{name}.rest_url"), self.rest_url(name)));
            all.push((format!("venues.{name}.ws_url"), format!("ws://{}/{name}", self.address)));
            let markets = self.played_markets(name);
            all.extend(markets.into_iter().map(|market| (format!("venues.{name}.{market}.ws_url"), self.ws_url(name, market))));
        }
        all
    }

    /// What stands for scheme and host of a venue's REST interface.
    pub fn rest_url(&self, venue: &str) -> String {
        format!("http://{}/{venue}", self.address)
    }

    /// What stands for scheme and host of the `WebSockets` of a venue's market.
    pub fn ws_url(&self, venue: &str, market: Market) -> String {
        let address = self.address;
        if self.played_markets(venue).contains(&market) { format!("ws://{address}/{venue}.{market}") } else { format!("ws://{address}/{venue}") }
    }

    /// The markets of a played venue that have sockets of their own: a path may carry several. (Options are not collected.)
    fn played_markets(&self, venue: &str) -> Vec<Market> {
        self.app.source.player.markets(venue).filter(|market| *market != Market::Option).collect()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.app.counters()
    }

    /// Raises the published last price of an instrument by a tick, also where the market stands still: one changed
    /// value, for tests of what must change with it. `false` if there is no such instrument.
    pub fn nudge(&self, venue: &str, market: Market, symbol: &str) -> bool {
        self.app.world().is_some_and(|mut world| world.nudge(venue, market, symbol, self.app.wall.now()))
    }

    /// Takes an instrument off a venue's list: it is unknown from now on, and nothing is told of it. `false` if there is no
    /// such instrument.
    pub fn delist(&self, venue: &str, market: Market, symbol: &str) -> bool {
        self.app.world().is_some_and(|mut world| world.list(venue, market, symbol, false))
    }

    /// Puts an instrument that was taken off a venue's list there again. `false` if there is no such instrument.
    pub fn list(&self, venue: &str, market: Market, symbol: &str) -> bool {
        self.app.world().is_some_and(|mut world| world.list(venue, market, symbol, true))
    }

    /// What clients are subscribed to, by the venues' own names of topics, in order.
    pub fn subscriptions(&self) -> Vec<String> {
        let mut all: Vec<String> = self.app.world().map(|world| world.hub.names().map(Into::into).collect()).unwrap_or_default();
        all.sort_unstable();
        all
    }

    /// From now on the market stands still, and goes on being served.
    pub fn halt(&self) {
        if let Some(mut world) = self.app.world() {
            world.still = true;
        }
    }

    /// From now on each request and each opening of a socket is refused (503), so that nothing is under way when a client ends:
    /// what it was told would be in the truth, and not with the client.
    pub fn refuse(&self) {
        self.app.refusing.store(true, Ordering::Relaxed);
    }

    /// Waits until the market stands still ([`Config::events`], [`Config::duration`]); forever, if it never does.
    pub async fn still(&self) {
        let mut still = self.still.clone();
        // The sender lives as long as this handle.
        drop(still.wait_for(|still| *still).await);
    }

    /// Sends what waits, closes the connections, writes the rest of the truth, and ends.
    ///
    /// # Errors
    /// If the truth could not be written.
    pub async fn shutdown(mut self) -> Result<Summary, Error> {
        self.stop.send_replace(true);
        if let Some(done) = self.done.take() {
            done.await.map_err(|_| Error::Ended)?;
        }
        if let Some(thread) = self.thread.take() {
            thread.join().map_err(|_| Error::Ended)?;
        }
        let counters = self.counters();
        self.app.truth.end();
        let truth = match self.writer.take() {
            None => 0,
            Some(writer) => {
                // The queue is short, and the tasks that could wait for this thread have ended.
                let lines = tokio::task::spawn_blocking(move || writer.join()).await.map_err(|_| Error::Ended)?;
                lines.map_err(|_| Error::Ended)?.map_err(|source| Error::File { path: "the truth".into(), source })?
            }
        };
        Ok(Summary { counters, truth })
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
