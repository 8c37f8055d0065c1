//! The way to a sink that does not last: a bounded queue, and no silence when it overflows.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use exchange_core::Batch;
use exchange_sinks::{Sink, SinkError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch};
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::ledger::{Book, Counting};
use crate::losses::Losses;
use crate::output::SinkEnd;
use crate::retry;

/// Events that may wait for one sink.
const CAPACITY: u32 = 32_768;
/// How long a full queue is waited for before events are given up. A socket that is not read meanwhile fills up and is
/// closed by the venue, so the patience is short of that.
const PATIENCE: Duration = Duration::from_secs(5);

type Item = (Arc<Batch>, OwnedSemaphorePermit);

pub(crate) struct Queue {
    name: String,
    sender: mpsc::UnboundedSender<Item>,
    room: Arc<Semaphore>,
    overflowing: AtomicBool,
    losses: Losses,
    clock: Clock,
    depth: metrics::Gauge,
    dropped: metrics::Counter,
    book: Option<Arc<Book>>,
}

impl Queue {
    /// Starts the sink's task. It ends when the queue is dropped, after everything was written. `failed` is told if it
    /// ends early.
    pub(crate) fn start(
        name: String,
        sink: Box<dyn Sink>,
        failed: &watch::Sender<Option<SinkError>>,
        (book, counting): (Option<Arc<Book>>, Counting),
        clock: Clock,
    ) -> (Self, JoinHandle<SinkEnd>) {
        // The semaphore is the bound: it counts events, where a channel's own would count batches.
        let (sender, receiver) = mpsc::unbounded_channel();
        let room = Arc::new(Semaphore::new(CAPACITY as usize));
        let depth = metrics::gauge!("collector_queue_depth_events", "sink" => name.clone());
        // There from the beginning: an alert on it needs the zero before the first loss.
        let dropped = metrics::counter!("collector_events_dropped_total", "sink" => name.clone());
        let task = tokio::spawn(write(name.clone(), sink, receiver, failed.clone(), counting));
        (Self { name, sender, room, overflowing: AtomicBool::new(false), losses: Losses::default(), clock, depth, dropped, book }, task)
    }

    /// Hands over a batch; waits for room, within bounds. Whether there was room.
    pub(crate) async fn send(&self, batch: &Arc<Batch>) -> bool {
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
        let Some(permit) = permit else {
            self.give_up(batch);
            return false;
        };
        // What was lost is told before what comes next.
        self.tell_losses();
        self.hand_over(batch.clone(), permit);
        true
    }

    fn hand_over(&self, batch: Arc<Batch>, permit: OwnedSemaphorePermit) {
        // The receiver only goes away when the sink has failed for good, which ends the collector.
        if let Err(mpsc::error::SendError((batch, _))) = self.sender.send((batch, permit))
            && let Some(book) = &self.book
        {
            book.dropped(batch.events());
        }
    }

    fn tell_losses(&self) {
        if !self.overflowing.swap(false, Ordering::Relaxed) {
            return;
        }
        // It is little, and finds room always: one event an instrument and channel.
        if let Ok(free) = self.room.clone().try_acquire_many_owned(0) {
            let gaps = self.losses.take(self.clock.wall());
            if let Some(book) = &self.book {
                book.told(&gaps);
            }
            self.hand_over(Arc::new(Batch::new(gaps)), free);
        }
    }

    #[cold]
    fn give_up(&self, batch: &Batch) {
        if !self.overflowing.swap(true, Ordering::Relaxed) {
            tracing::warn!(sink = self.name, "the sink does not keep up: events are given up, each loss will be a gap event");
        }
        self.dropped.increment(batch.events().len() as u64);
        if let Some(book) = &self.book {
            book.dropped(batch.events());
        }
        self.losses.note(batch.events());
    }
}

impl Drop for Queue {
    /// The end may come before there was room again.
    fn drop(&mut self) {
        self.tell_losses();
    }
}

/// The sink's task.
async fn write(
    name: String,
    mut sink: Box<dyn Sink>,
    mut queue: mpsc::UnboundedReceiver<Item>,
    failed: watch::Sender<Option<SinkError>>,
    mut counting: Counting,
) -> SinkEnd {
    let result = async {
        loop {
            let (batch, room) = tokio::select! {
                biased;
                Some(answer) = counting.asked() => {
                    counting.confirm(&mut *sink, answer).await;
                    continue;
                }
                next = queue.recv() => match next {
                    Some(next) => next,
                    None => break,
                },
            };
            if let Err(error) = retry::write(&mut *sink, &name, &batch, || queue.is_closed()).await {
                counting.dropped(batch.events());
                return Err(error);
            }
            counting.accepted(batch.events(), false);
            drop(room);
        }
        sink.close().await
    };
    let result = result.await;
    match &result {
        Ok(()) => counting.written(),
        Err(error) => {
            failed.send_replace(Some(error.clone()));
            counting.lost();
            // What still waits has nowhere to go.
            queue.close();
            while let Some((batch, _)) = queue.recv().await {
                counting.dropped(batch.events());
            }
        }
    }
    SinkEnd { name, result, reader: None, unconfirmed: 0 }
}
