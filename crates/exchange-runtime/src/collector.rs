//! The collector as embedders hold it: [`Builder`] begins it, [`Collector`] is in charge of it, [`Monitor`] looks at it.

mod builder;
mod error;
mod monitor;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::pipeline::Counts;
use exchange_core::{Channel, Market, Mode, Venue};
use exchange_sinks::SinkError;
use exchange_spool::Backlog;
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio::time::Instant;

pub use self::builder::Builder;
pub use self::error::StartError;
pub use self::monitor::{Digest, Monitor, VenueStatus};
use crate::capture::Writer;
use crate::delivery::{SinkStatus, Status, Until};
use crate::ledger::Keeper;
use crate::output::SinkEnd;
use crate::shared::Shared;
use crate::state::StateDir;

/// A running collector. Dropping it stops everything, without waiting for the sinks.
pub struct Collector {
    venues: Vec<Arc<Shared>>,
    /// The venues' tasks.
    actors: Vec<JoinHandle<()>>,
    sinks: Vec<JoinHandle<SinkEnd>>,
    stop: watch::Sender<bool>,
    capture: Option<Writer>,
    sink_failed: watch::Receiver<Option<SinkError>>,
    watchdog: JoinHandle<()>,
    /// Of the ledger.
    keeper: Option<Keeper>,
    checkpoints: Option<JoinHandle<()>>,
    /// How long deliveries go on.
    until: watch::Sender<Until>,
    statuses: Vec<Status>,
    /// Its name is claimed until the last row is written.
    _state: Option<StateDir>,
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

impl Collector {
    /// Begins to describe a collector.
    pub fn builder() -> Builder {
        Builder::new()
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
        if let Some(shared) = self.venues.first() {
            // A sink that has had all there is ends.
            shared.settled().await;
        }
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
        if let Some(writer) = self.capture.take() {
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
        Monitor::new(&self.venues, self.statuses.clone())
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

/// The channels that a venue does not serve in a market in this mode.
pub fn unserved(venue: &Venue, market: Market, channels: &[Channel], mode: Mode) -> Vec<Channel> {
    let want = exchange_core::Want { market, channels, mode, fallback: false, instruments: &[] };
    venue.exchange.plan(&venue.profile, &want).unserved
}
