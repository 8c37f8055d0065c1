//! The server: one port for all venues, the market's clock, and the handle by which all of it is stopped.
//!
//! Everything runs on one thread of its own with its own runtime: a simulated venue takes one core, whatever the
//! program around it does, and that program needs no runtime to start one.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State, WebSocketUpgrade};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::serve::{IncomingStream, Listener};
use bytes::Bytes;
use exchange_core::Market;
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::body;
use crate::clock::Wall;
use crate::config::{Config, Error};
use crate::faults::{BodyFault, Faults, OpeningFault, Refusal, RequestFault};
use crate::hub::{Item, Queue};
use crate::line::{Hold, Lines};
use crate::play::{self, Reply, pairs, sorted};
use crate::socket::{self, Driver, Quiet};
use crate::source::Source;
use crate::truth::{Facts, Truth, Writer};
use crate::wire::{self, ALL, Wire};
use crate::world::World;

/// Pushes that may wait for one connection before the market waits for it.
const WAITING: usize = 8192;
/// How long the market waits for a connection that reads nothing before it is cut off.
const PATIENCE: Duration = Duration::from_secs(30);
/// A body that a client may send.
const MOST_BYTES: usize = 1 << 20;

/// What all tasks share.
pub(crate) struct App {
    pub(crate) source: Source,
    pub(crate) faults: Arc<Faults>,
    pub(crate) wall: Wall,
    /// From which the times of faults count.
    started: Instant,
    pub(crate) truth: Truth,
    pub(crate) limits: bool,
    /// Between captured frames.
    pub(crate) pace: Duration,
    latency: Duration,
    /// Updates a second.
    rate: Mutex<f64>,
    tick: Duration,
    duration: Option<Duration>,
    requests: Mutex<BTreeMap<String, u64>>,
    pub(crate) open: AtomicUsize,
    opened: AtomicU64,
    /// Told when everything ends.
    pub(crate) stop: watch::Receiver<bool>,
    still: watch::Sender<bool>,
    /// Whether requests are refused by now.
    refusing: AtomicBool,
}

impl App {
    /// What a configuration asks for, and who is told when the market stands still.
    pub(crate) fn new(
        config: &Config,
        source: Source,
        faults: Arc<Faults>,
        wall: Wall,
        truth: Truth,
        stop: watch::Receiver<bool>,
    ) -> (Self, watch::Receiver<bool>) {
        let (still, stands) = watch::channel(false);
        let app = Self {
            source,
            faults,
            wall,
            started: Instant::now(),
            truth,
            limits: config.limits,
            pace: config.pace,
            latency: config.latency,
            rate: Mutex::new(config.rate),
            tick: config.tick,
            duration: config.duration,
            requests: Mutex::default(),
            open: AtomicUsize::new(0),
            opened: AtomicU64::new(0),
            stop,
            still,
            refusing: AtomicBool::new(false),
        };
        (app, stands)
    }

    /// Updates a second.
    pub(crate) fn rate(&self) -> MutexGuard<'_, f64> {
        self.rate.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What happened so far.
    pub(crate) fn counters(&self) -> Counters {
        let (updates, served) = self.world().map(|world| (world.updates, world.hub.served)).unwrap_or_default();
        Counters {
            requests: self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            connections: self.open.load(Ordering::Relaxed),
            opened: self.opened.load(Ordering::Relaxed),
            updates,
            served,
        }
    }

    /// The market as it is now, if there is one.
    pub(crate) fn world(&self) -> Option<MutexGuard<'_, World>> {
        let mut world = self.source.market.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner);
        world.at(self.since());
        Some(world)
    }

    /// Captured frames that a connection did not get.
    pub(crate) fn give_back(&self, number: usize, frames: &[Item]) {
        self.source.player.give_back(number, frames);
    }

    /// How long ago the start was.
    pub(crate) fn since(&self) -> Duration {
        self.started.elapsed()
    }
}

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

/// Serves whoever comes in until the end.
pub(crate) async fn run<L: Listener<Addr: std::fmt::Debug>>(app: Arc<App>, listener: L)
where
    Hold: for<'a> Connected<IncomingStream<'a, L>>,
{
    let router = Router::new().fallback(handle).with_state(app.clone()).into_make_service_with_connect_info::<Hold>();
    let mut stop = app.stop.clone();
    tokio::select! {
        biased;
        () = stopped(&mut stop) => {}
        () = tick(&app) => {}
        served = async { axum::serve(listener, router).await } => drop(served),
    }
    // Connections end by themselves, once they have sent what waits.
    for _ in 0..100 {
        if app.open.load(Ordering::Relaxed) == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

/// Waits for the end.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stop| *stop).await);
}

/// Moves the market on, as fast as it should and as its listeners can.
async fn tick(app: &Arc<App>) {
    let mut timer = tokio::time::interval(app.tick);
    timer.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let begun = Instant::now();
    let (mut last, mut owed, mut beat) = (begun, 0.0, begun);
    loop {
        timer.tick().await;
        keep_up(app).await;
        let now = Instant::now();
        let rate = *app.rate();
        // What could not be done within a quarter of a second is not made up for.
        let most = app.tick.max(Duration::from_millis(250)).as_secs_f64();
        owed = (owed + now.duration_since(last).as_secs_f64() * rate).min((rate * most).max(1.0));
        last = now;
        let Some(mut world) = app.world() else { return std::future::pending().await };
        if app.duration.is_some_and(|duration| now.duration_since(begun) >= duration) {
            world.still = true;
        }
        let before = world.updates;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number of updates")]
        world.advance(owed as u64, app.wall.now());
        #[expect(clippy::cast_precision_loss, reason = "a small number of updates")]
        let done = (world.updates - before) as f64;
        owed -= done;
        if now.duration_since(beat) >= Duration::from_secs(1) || (world.still && !*app.still.borrow()) {
            beat = now;
            world.beat();
        }
        if world.still && !*app.still.borrow() {
            app.still.send_replace(true);
        }
    }
}

/// Waits for connections that have too much to send. One that reads nothing at all is cut off, and that is logged.
async fn keep_up(app: &Arc<App>) {
    let late: Vec<Arc<Queue>> =
        app.world().map(|world| world.hub.queues().filter(|(_, queue)| queue.len() > WAITING).map(|(_, queue)| queue.clone()).collect()).unwrap_or_default();
    for queue in late {
        let since = Instant::now();
        while queue.len() > WAITING {
            if tokio::time::timeout(PATIENCE.saturating_sub(since.elapsed()), queue.room.notified()).await.is_err() {
                tracing::warn!(waiting = queue.len(), "a client that does not read is cut off");
                queue.cut.notify_one();
                break;
            }
        }
    }
}

async fn handle(State(app): State<Arc<App>>, ConnectInfo(hold): ConnectInfo<Hold>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let (venue, market, path) = match play::named(parts.uri.path()) {
        Some((venue, market, path)) => (venue.to_owned(), market, path),
        None => return (StatusCode::NOT_FOUND, "no venue is named").into_response(),
    };
    *app.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(format!("{venue}{path}")).or_default() += 1;
    if app.refusing.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "nothing is answered any more").into_response();
    }
    let since = app.since();
    if let Some(outage) = app.faults.outage(&venue, &path, since).filter(|outage| outage.holds(since)) {
        if outage.hangs {
            match outage.to {
                Some(to) => tokio::time::sleep(to.saturating_sub(since)).await,
                None => std::future::pending().await,
            }
        }
        hold.cut();
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let wants_socket = parts.headers.get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if wants_socket {
        let quiet = match app.faults.opening(&venue, &path, since) {
            Some(OpeningFault::Refused(refusal)) => return refuse(refusal),
            Some(OpeningFault::Latency(latency)) => {
                tokio::time::sleep(latency).await;
                None
            }
            Some(OpeningFault::OnlyPongs(after)) => Some(Quiet::OnlyPongs(after)),
            Some(OpeningFault::ZeroFrames(after)) => Some(Quiet::ZeroFrames(after)),
            None => None,
        };
        // Paths may be percent-encoded, as queries are.
        let decoded = exchange_core::exchange::query(&format!("?path={path}"), "path").map_or_else(|| path.clone(), std::borrow::Cow::into_owned);
        let Some(driver) = connect(&app, &venue, market, &decoded, &parts.uri) else { return (StatusCode::NOT_FOUND, "404 page not found").into_response() };
        return match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
            Ok(upgrade) => {
                app.opened.fetch_add(1, Ordering::Relaxed);
                upgrade.on_upgrade(move |socket| socket::serve(app, venue, decoded, driver, socket, hold, quiet))
            }
            Err(refused) => refused.into_response(),
        };
    }
    let fault = match app.faults.request(&venue, &path, since) {
        Some(RequestFault::Refused(refusal)) => return refuse(refusal),
        Some(RequestFault::Latency(latency)) => {
            tokio::time::sleep(latency).await;
            None
        }
        Some(RequestFault::Body(fault)) => Some(fault),
        None => None,
    };
    if !app.latency.is_zero() {
        tokio::time::sleep(app.latency).await;
    }
    let player = &app.source.player;
    let (status, headers, body, facts) = if player.plays(&venue) {
        let body = axum::body::to_bytes(body, MOST_BYTES).await.unwrap_or_default();
        let reply = player.answer(&venue, parts.method.as_str(), &path, sorted(&parts.uri), std::str::from_utf8(&body).unwrap_or_default());
        match reply {
            Some(Reply { status, body, lines }) => (status, Vec::new(), body, Facts::Lines(lines)),
            None => return respond(404, "application/json", Vec::new(), "{\"error\":\"nothing was captured for this request\"}"),
        }
    } else {
        let request = wire::Request { query: pairs(&parts.uri), path, wall: app.wall.now() };
        match (simulated(&app, &venue), app.world()) {
            (Some(wire), Some(mut world)) => {
                let answer = world.answer(wire, &request);
                (answer.status, answer.headers, Bytes::from(answer.body), Facts::Events(answer.events))
            }
            _ => return (StatusCode::NOT_FOUND, "this venue is not simulated").into_response(),
        }
    };
    let kind = kind(&body);
    let Some(fault) = fault else {
        app.truth.facts(facts).await;
        return respond(status, kind, headers, body);
    };
    let length = body.len();
    let body = match fault {
        BodyFault::Broken => Body::from(body::part(&body, None)),
        BodyFault::Garbage(noise) => Body::from(noise.instead_of(length)),
        BodyFault::Truncated(bytes) => body::unfinished(body::part(&body, bytes), Some(Duration::ZERO)),
        BodyFault::Stalled(bytes, hold) => body::unfinished(body::part(&body, bytes), hold),
        BodyFault::Drip(bytes, every) => {
            let app = app.clone();
            body::dripping(body, bytes, every, async move { app.truth.facts(facts).await })
        }
    };
    let promised = !matches!(fault, BodyFault::Broken | BodyFault::Garbage(_));
    let mut response = respond(status, kind, headers, body);
    if promised {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// The venue of that name, if it is one of those that were asked for.
fn simulated(app: &App, name: &str) -> Option<&'static dyn Wire> {
    app.world()?.venue(name)?;
    ALL.iter().copied().find(|wire| wire.name() == name)
}

/// What drives a new connection.
fn connect(app: &App, venue: &str, market: Option<Market>, path: &str, uri: &axum::http::Uri) -> Option<Driver> {
    if app.source.player.plays(venue) {
        let (number, frames) = app.source.player.connect(venue, market, path, &sorted(uri))?;
        return Some(Driver::Play(number, frames));
    }
    let wire = simulated(app, venue)?;
    Some(Driver::Market { wire, route: wire.route(path)?, query: pairs(uri) })
}

fn kind(body: &[u8]) -> &'static str {
    if body.trim_ascii_start().starts_with(b"<") { "text/html" } else { "application/json" }
}

fn refuse(refusal: Refusal) -> Response {
    let headers = refusal.retry_after.map(|seconds| ("retry-after", seconds.to_string())).into_iter().collect();
    respond(refusal.status, refusal.kind, headers, refusal.body)
}

fn respond(status: u16, kind: &'static str, headers: Vec<(&'static str, String)>, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
