//! What the tasks of one venue share: its pipeline, the way out, and what is to be seen from outside.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange_core::circuit::State;
use exchange_core::pipeline::{Counts, Skipped};
use exchange_core::refill::Outcome;
use exchange_core::{Batch, Body, Channel, Event, Instrument, Pipeline, Time, Topic, Venue};
use tokio::sync::{Notify, watch};

use crate::capture::Tap;
use crate::clock::Clock;
use crate::limits::Limits;
use crate::meters::Meters;
use crate::net::Outside;
use crate::output::Output;
use crate::watchdog::Pulse;

/// The tasks' common ground.
pub(crate) struct Shared {
    pub(crate) venue: Venue,
    pub(crate) outside: Outside,
    pub(crate) clock: Clock,
    pub(crate) limits: Limits,
    pub(crate) tap: Option<Tap>,
    /// Of the venue's actor.
    pub(crate) pulse: Pulse,
    pub(crate) health: Mutex<Health>,
    pipeline: Mutex<Pipeline>,
    output: Arc<Output>,
    meters: Meters,
    /// Something that was missed can be asked for now.
    pub(crate) missed: Notify,
    /// Something went nowhere: what was known of the polls' last answers is not to be relied on.
    forgotten: AtomicBool,
}

/// How a venue is doing.
#[derive(Debug, Clone, Default)]
pub struct Health {
    /// Why the venue delivers nothing or not everything; empty if it is ready.
    pub problems: BTreeMap<String, String>,
    /// Whether its instruments were read and everything asked for was started.
    pub started: bool,
    /// The circuit of each endpoint that was asked.
    pub circuits: BTreeMap<String, State>,
    /// Requests that failed for good (`--once` tries each some times).
    pub failed: u64,
    /// Open connections.
    pub connections: u64,
    /// Between the venue's time of the last event and its arrival, in seconds.
    pub lag_seconds: Option<f64>,
    /// When the last event went out.
    pub last_event: Option<Time>,
}

impl Health {
    /// The worst of its circuits.
    pub fn circuit(&self) -> State {
        let worse = |a: State, b: State| if matches!(a, State::Open(_)) || b == State::Closed { a } else { b };
        self.circuits.values().copied().fold(State::Closed, worse)
    }
}

impl Shared {
    pub(crate) fn new(venue: Venue, pipeline: Pipeline, output: Arc<Output>, limits: Limits, tap: Option<Tap>, outside: Outside) -> Self {
        let meters = Meters::new(&venue.profile.name);
        Self {
            venue,
            clock: outside.clock,
            outside,
            limits,
            tap,
            pulse: Pulse::default(),
            health: Mutex::default(),
            pipeline: Mutex::new(pipeline),
            output,
            meters,
            missed: Notify::new(),
            forgotten: AtomicBool::new(false),
        }
    }

    /// What keeps the journal from taking anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.output.trouble()
    }

    /// Waits until all that was kept can be had by the sinks.
    pub(crate) async fn settled(&self) {
        self.output.settled().await;
    }

    pub(crate) fn name(&self) -> &str {
        &self.venue.profile.name
    }

    pub(crate) fn health(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn pipeline(&self) -> MutexGuard<'_, Pipeline> {
        self.pipeline.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says, or with `None` takes back, why something is not delivered.
    pub(crate) fn problem(&self, what: &str, why: Option<String>) {
        let mut health = self.health();
        match why {
            Some(why) => drop(health.problems.insert(what.to_owned(), why)),
            None => drop(health.problems.remove(what)),
        }
    }

    /// Passes decoded events through the pipeline and hands on what is left of them. `events` is empty afterwards,
    /// its memory kept where nothing went out.
    pub(crate) async fn deliver(&self, events: &mut Vec<Event>, skipped: Option<Skipped<'_>>) {
        self.captured().await;
        if events.is_empty() && skipped.is_none() {
            return;
        }
        let (counts, batch) = {
            let mut pipeline = self.pipeline();
            pipeline.process(events);
            if let Some(skipped) = &skipped {
                pipeline.skipped(skipped);
            }
            if pipeline.take_woken() {
                self.missed.notify_one();
            }
            (pipeline.counts(), self.keep(&mut pipeline, events))
        };
        self.hand_on(counts, batch).await;
    }

    /// These topics are about to be subscribed to: what was missed of them since an earlier run is told.
    pub(crate) async fn resume(&self, topics: &[Arc<Topic>]) {
        let (counts, batch) = {
            let mut pipeline = self.pipeline();
            let mut gaps = pipeline.resume(topics, self.clock.wall());
            (pipeline.counts(), self.keep(&mut pipeline, &mut gaps))
        };
        self.hand_on(counts, batch).await;
    }

    /// Waits until what was decoded is among the captures: what a sink has, they have.
    async fn captured(&self) {
        if let Some(tap) = &self.tap {
            tap.settled().await;
        }
    }

    /// The streams of these topics are served: what was missed of them before can be asked for.
    pub(crate) fn served(&self, topics: &[Arc<Topic>]) {
        let mut pipeline = self.pipeline();
        if pipeline.served(topics, self.clock.wall()) {
            self.output.checkpoint_soon();
        }
        if pipeline.take_woken() {
            self.missed.notify_one();
        }
    }

    /// What was asked for because it was missed has come, or not: as [`Shared::deliver`]. Whether there is no more to ask.
    pub(crate) async fn refilled(&self, channel: Channel, instrument: &Instrument, outcome: Outcome, events: &mut Vec<Event>) -> bool {
        self.captured().await;
        let (counts, batch, is_over) = {
            let mut pipeline = self.pipeline();
            pipeline.refilled((self.clock.now(), self.clock.wall()), channel, instrument, outcome, events);
            self.count_refills(events);
            let is_over = events.iter().any(|event| matches!(event.body, Body::Refill(_)));
            (pipeline.counts(), self.keep(&mut pipeline, events), is_over)
        };
        self.hand_on(counts, batch).await;
        is_over
    }

    /// Counts what was recovered, and the gaps that it closed or not.
    pub(crate) fn count_refills(&self, events: &[Event]) {
        self.meters.count_refills(self.name(), events);
    }

    /// Keeps what left the pipeline, if anything did, while the pipeline is held.
    fn keep(&self, pipeline: &mut Pipeline, events: &mut Vec<Event>) -> Option<Arc<Batch>> {
        if events.is_empty() {
            return None;
        }
        let kept = self.output.keep(std::mem::take(events), pipeline);
        if kept.is_none() {
            self.forgotten.store(true, Ordering::Relaxed);
        }
        kept
    }

    async fn hand_on(&self, counts: Counts, batch: Option<Arc<Batch>>) {
        self.meters.tell(counts);
        let Some(batch) = batch else { return };
        let Some(last) = batch.events().last() else { return };
        let received = last.received;
        // What is fetched later says nothing of how late the venue's news come.
        let live = |event: &Event| event.origin.is_none() && (event.body.is_state() || matches!(event.body, Body::Trade(_) | Body::Book(_)));
        let lag = batch.events().iter().rev().find_map(|event| event.time.filter(|_| live(event)));
        {
            let mut health = self.health();
            health.last_event = Some(received);
            if let Some(time) = lag {
                let seconds = received.since(time).as_secs_f64();
                self.meters.lag.record(seconds);
                health.lag_seconds = Some(seconds);
            }
        }
        if !self.output.send(&batch).await {
            self.pipeline().forget(batch.events());
            self.forgotten.store(true, Ordering::Relaxed);
        }
    }

    /// Whether something went nowhere since this was asked last.
    pub(crate) fn take_forgotten(&self) -> bool {
        self.forgotten.swap(false, Ordering::Relaxed)
    }
}

/// Numbers connections.
#[derive(Debug)]
pub(crate) struct Numbers(AtomicU64);

impl Numbers {
    /// Numbers that no earlier run has used: the captures of many are decoded together, and a decoder's state belongs to
    /// one connection.
    pub(crate) fn since(start: Time) -> Self {
        Self(u64::try_from(start.micros()).unwrap_or_default().into())
    }

    pub(crate) fn next(&self) -> u64 {
        self.0.fetch_add(1, Ordering::Relaxed) + 1
    }
}

/// Waits until everything shall end.
pub(crate) async fn stopped(stop: &mut watch::Receiver<bool>) {
    // A sender that is gone means the same.
    let _gone = stop.wait_for(|stop| *stop).await;
}
