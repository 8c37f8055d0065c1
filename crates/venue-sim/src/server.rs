//! The server: one port for all venues, what its tasks share, and the market's clock.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use axum::Router;
use axum::extract::connect_info::Connected;
use axum::serve::{IncomingStream, Listener};
use tokio::sync::watch;
use tokio::time::{Instant, MissedTickBehavior};

use crate::clock::Wall;
use crate::config::Config;
use crate::faults::Faults;
use crate::handle::Counters;
use crate::hub::{Item, Queue};
use crate::line::Hold;
use crate::request::handle;
use crate::source::Source;
use crate::truth::Truth;
use crate::world::World;

/// Pushes that may wait for one connection before the market waits for it.
const WAITING: usize = 8192;
/// How long the market waits for a connection that reads nothing before it is cut off.
const PATIENCE: Duration = Duration::from_secs(30);

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
    pub(crate) latency: Duration,
    /// Updates a second.
    rate: Mutex<f64>,
    tick: Duration,
    duration: Option<Duration>,
    requests: Mutex<BTreeMap<String, u64>>,
    pub(crate) open: AtomicUsize,
    pub(crate) opened: AtomicU64,
    /// Told when everything ends.
    pub(crate) stop: watch::Receiver<bool>,
    still: watch::Sender<bool>,
    /// Whether requests are refused by now.
    pub(crate) refusing: AtomicBool,
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

    /// Counts a request, by venue and path.
    pub(crate) fn count(&self, request: String) {
        *self.requests.lock().unwrap_or_else(PoisonError::into_inner).entry(request).or_default() += 1;
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
