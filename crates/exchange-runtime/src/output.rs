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
use crate::ledger::{Book, Books, Counting};

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
    book: Option<Arc<Book>>,
}

/// How a sink's task ended.
#[derive(Debug)]
pub(crate) struct SinkEnd {
    pub(crate) name: String,
    pub(crate) result: Result<(), SinkError>,
}

impl Output {
    /// Starts a task for each sink. The tasks end when the output is dropped, after everything was written.
    /// `failed` is told of the first that ends early. Each sink has a book in the ledger, by these
    /// names, if one is kept.
    pub(crate) fn start(
        sinks: Vec<(String, Box<dyn Sink>)>,
        failed: &watch::Sender<Option<SinkError>>,
        ledger: Option<&[String]>,
        clock: Clock,
    ) -> (Self, Vec<JoinHandle<SinkEnd>>, Books) {
        let mut in_ledger = ledger.into_iter().flatten().cloned();
        let (queues, tasks): (Vec<Queue>, Vec<_>) = sinks
            .into_iter()
            .map(|(name, sink)| {
                let (book, counting) = Book::open(in_ledger.next());
                // The semaphore is the bound: it counts events, where a channel's own would count batches.
                let (sender, receiver) = mpsc::unbounded_channel();
                let room = Arc::new(Semaphore::new(CAPACITY as usize));
                let depth = metrics::gauge!("collector_queue_depth_events", "sink" => name.clone());
                // There from the beginning: an alert on it needs the zero before the first loss.
                let dropped = metrics::counter!("collector_events_dropped_total", "sink" => name.clone());
                let queue =
                    Queue { name: name.clone(), sender, room, overflowing: AtomicBool::new(false), lost: Mutex::default(), clock, depth, dropped, book };
                (queue, tokio::spawn(write(name, sink, receiver, failed.clone(), counting)))
            })
            .unzip();
        let books = queues.iter().filter_map(|queue| queue.book.clone()).collect();
        (Self { queues }, tasks, books)
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
        self.hand_over(batch.clone(), permit);
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
            let gaps = self.gaps();
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
            let mut pause = RETRY.0;
            while let Err(error) = sink.write(&batch).await {
                // On the way out there is nobody left to wait for.
                if !error.is_retryable() || (queue.is_closed() && pause > RETRY.0) {
                    counting.dropped(batch.events());
                    return Err(error);
                }
                tracing::warn!(sink = name, %error, "cannot write, trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
            counting.accepted(batch.events());
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
    SinkEnd { name, result }
}

#[cfg(test)]
mod tests {
    use exchange_core::Decimal;
    use exchange_core::event::Trade;
    use exchange_core::ledger::{Account, Entry, EventCounts, Share};
    use exchange_sinks::{SinkErrorKind, SinkFuture};

    use super::*;

    /// Takes some batches, then fails for good.
    struct Failing {
        takes: usize,
        confirms: bool,
    }

    impl Failing {
        fn answer(good: bool) -> SinkFuture<'static> {
            Box::pin(std::future::ready(if good { Ok(()) } else { Err(SinkError::new(SinkErrorKind::Permanent, "gone")) }))
        }
    }

    impl Sink for Failing {
        fn name(&self) -> &'static str {
            "failing"
        }

        fn write<'a>(&'a mut self, _: &'a Arc<Batch>) -> SinkFuture<'a> {
            self.takes = self.takes.wrapping_sub(1);
            Self::answer(self.takes < usize::MAX / 2)
        }

        fn flush(&mut self) -> SinkFuture<'_> {
            Self::answer(self.confirms)
        }

        fn close(&mut self) -> SinkFuture<'_> {
            Self::answer(self.confirms)
        }
    }

    fn batch() -> Arc<Batch> {
        let instrument = Arc::new(Instrument::named(&"x".into(), exchange_core::Market::Linear, "A", None));
        let trade = || Trade { trade_id: None, price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
        Arc::new(Batch::new((0..10).map(|_| Event::new(instrument.clone(), Time::EPOCH, None, Body::Trade(trade()))).collect()))
    }

    /// Sends ten batches of ten events, and lets the sinks confirm after each; what the books say then.
    async fn ten_batches(sinks: Vec<Failing>) -> Vec<Share> {
        let names: Vec<String> = (0..sinks.len()).map(|at| at.to_string()).collect();
        let (failed, _) = watch::channel(None);
        let sinks = sinks.into_iter().map(|sink| ("failing".to_owned(), Box::new(sink) as Box<dyn Sink>)).collect();
        let (output, tasks, books) = Output::start(sinks, &failed, Some(&names), Clock::system());
        let mut passed = EventCounts::default();
        for _ in 0..10 {
            let batch = batch();
            passed.count(batch.events());
            output.send(batch).await;
            for book in books.iter() {
                let _ended = book.confirm().await;
            }
        }
        drop(output);
        for task in tasks {
            task.await.unwrap();
        }
        let mut account = Account::default();
        account.add_entries(passed.take().into_iter().map(|(key, n)| (key, Entry { received: n, decoded: n, passed: n, ..Entry::default() })));
        for book in books.iter() {
            account.add_shares(book.name(), book.take());
        }
        assert_eq!(account.differences(false), []);
        account
            .sinks
            .values()
            .map(|shares| {
                shares.values().fold(Share::default(), |mut sum, share| {
                    sum += *share;
                    sum
                })
            })
            .collect()
    }

    #[tokio::test]
    async fn the_ledger_knows_what_a_failing_sink_did_not_write() {
        let sinks = vec![
            Failing { takes: 20, confirms: true },
            // Three batches were confirmed, one was refused, and for six there was nobody.
            Failing { takes: 3, confirms: true },
            // What was accepted and never confirmed is not written.
            Failing { takes: 20, confirms: false },
            Failing { takes: 0, confirms: true },
        ];
        let expected = [(100, 0), (30, 70), (0, 100), (0, 100)].map(|(written, dropped)| Share { written, dropped, ..Share::default() });
        assert_eq!(ten_batches(sinks).await, expected);
    }
}
