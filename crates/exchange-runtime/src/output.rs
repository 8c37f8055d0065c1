//! The way from the pipelines to the sinks: a bounded queue for each sink, and no silence when one overflows.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exchange_core::event::{Gap, GapReason, Ident};
use exchange_core::{Batch, Body, Channel, Event, Instrument, Time, canonical};
use exchange_sinks::{Sink, SinkError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;

/// Events that may wait for one sink.
const CAPACITY: u32 = 32_768;
/// How long a full queue is waited for before events are given up. A socket that is not read meanwhile fills up and is
/// closed by the venue, so the patience is short of that.
const PATIENCE: Duration = Duration::from_secs(5);

type Item = (Arc<Batch>, OwnedSemaphorePermit);
/// Since when events of a channel of an instrument (by the address of its handle) were given up.
type Lost = HashMap<(Channel, usize), (Arc<Instrument>, Time)>;

/// All sinks.
pub(crate) struct Output {
    queues: Vec<Queue>,
}

struct Queue {
    name: String,
    sender: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    overflowing: AtomicBool,
    /// What was given up, and since when, until it can be told.
    lost: Mutex<Lost>,
    clock: Clock,
    depth: metrics::Gauge,
    dropped: metrics::Counter,
}

/// How a sink's task ended.
#[derive(Debug)]
pub(crate) struct SinkEnd {
    pub(crate) name: String,
    pub(crate) result: Result<(), SinkError>,
}

impl Output {
    /// Starts a task for each sink. The tasks end when the output is dropped, after everything was written.
    /// `failed` is told of the first that ends early.
    pub(crate) fn start(sinks: Vec<(String, Box<dyn Sink>)>, failed: &watch::Sender<Option<SinkError>>, clock: Clock) -> (Self, Vec<JoinHandle<SinkEnd>>) {
        let (queues, tasks) = sinks
            .into_iter()
            .map(|(name, sink)| {
                // The semaphore is the bound: it counts events, where a channel's own would count batches.
                let (sender, receiver) = mpsc::unbounded_channel();
                let room = Arc::new(Semaphore::new(CAPACITY as usize));
                let depth = metrics::gauge!("collector_queue_depth_events", "sink" => name.clone());
                // There from the beginning: an alert on it needs the zero before the first loss.
                let dropped = metrics::counter!("collector_events_dropped_total", "sink" => name.clone());
                let queue = Queue { name: name.clone(), sender, room, overflowing: AtomicBool::new(false), lost: Mutex::default(), clock, depth, dropped };
                (queue, tokio::spawn(write(name, sink, receiver, failed.clone())))
            })
            .unzip();
        (Self { queues }, tasks)
    }

    /// Hands a batch to every sink. Waits for room, within bounds.
    pub(crate) async fn send(&self, batch: Arc<Batch>) {
        for queue in &self.queues {
            queue.send(&batch).await;
        }
    }
}

impl Queue {
    async fn send(&self, batch: &Arc<Batch>) {
        let cost = u32::try_from(batch.events().len()).unwrap_or(CAPACITY).clamp(1, CAPACITY);
        let permit = if self.overflowing.load(Ordering::Relaxed) {
            self.room.clone().try_acquire_many_owned(cost).ok()
        } else {
            match self.room.clone().try_acquire_many_owned(cost) {
                Ok(permit) => Some(permit),
                Err(_) => tokio::time::timeout(PATIENCE, self.room.clone().acquire_many_owned(cost)).await.ok().and_then(Result::ok),
            }
        };
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.depth.set((CAPACITY as usize - self.room.available_permits()) as f64);
        let Some(permit) = permit else { return self.give_up(batch) };
        // What was lost is told before what comes next.
        self.tell_losses();
        // The receiver only goes away when the sink has failed for good, which ends the collector.
        drop(self.sender.send((batch.clone(), permit)));
    }

    fn tell_losses(&self) {
        if !self.overflowing.swap(false, Ordering::Relaxed) {
            return;
        }
        // It is little, and finds room always: one event an instrument and channel.
        if let Ok(free) = self.room.clone().try_acquire_many_owned(0) {
            drop(self.sender.send((Arc::new(Batch::new(self.gaps())), free)));
        }
    }

    #[cold]
    fn give_up(&self, batch: &Batch) {
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            tracing::warn!(sink = self.name, "the sink does not keep up: events are given up, each loss will be a gap event");
        }
        self.dropped.increment(batch.events().len() as u64);
        let mut lost = self.lost.lock().unwrap_or_else(PoisonError::into_inner);
        for event in batch.events() {
            if let Some(channel) = event.body.channel() {
                // One entry an instrument: its address names it well enough while the handle is kept.
                lost.entry((channel, Arc::as_ptr(&event.instrument) as usize)).or_insert_with(|| (event.instrument.clone(), event.received));
            }
        }
    }

    fn gaps(&self) -> Vec<Event> {
        let now = self.clock.wall();
        let ident = |time: Time| u64::try_from(time.micros()).ok().map(Ident::Number);
        let lost = std::mem::take(&mut *self.lost.lock().unwrap_or_else(PoisonError::into_inner));
        lost.into_iter()
            .map(|((channel, _), (instrument, since))| {
                let gap = Gap { channel, reason: GapReason::Overflow, from: ident(since), to: ident(now) };
                let mut event = Event::new(instrument, now, None, Body::Gap(Box::new(gap)));
                event.id = canonical::id(&event);
                event
            })
            .collect()
    }
}

impl Drop for Queue {
    /// The end may come before there was room again.
    fn drop(&mut self) {
        self.tell_losses();
    }
}

/// Pauses between attempts to write what a sink refused.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

async fn write(name: String, mut sink: Box<dyn Sink>, mut queue: mpsc::UnboundedReceiver<Item>, failed: watch::Sender<Option<SinkError>>) -> SinkEnd {
    let result = async {
        while let Some((batch, room)) = queue.recv().await {
            let mut pause = RETRY.0;
            while let Err(error) = sink.write(&batch).await {
                if !error.is_retryable() {
                    return Err(error);
                }
                // On the way out there is nobody left to wait for.
                if queue.is_closed() && pause > RETRY.0 {
                    return Err(error);
                }
                tracing::warn!(sink = name, %error, "cannot write, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
            drop(room);
        }
        sink.close().await
    };
    let result = result.await;
    if let Err(error) = &result {
        failed.send_replace(Some(error.clone()));
    }
    SinkEnd { name, result }
}
