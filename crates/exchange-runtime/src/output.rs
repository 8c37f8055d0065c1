//! The way from the pipelines to the sinks. Those that last read a journal, each at its own pace; the others have a bounded
//! queue each.

use std::sync::Arc;

use exchange_core::{Batch, Event, Pipeline};
use exchange_sinks::{Sink, SinkError};
use exchange_spool::{Backlog, Reader};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::clock::Clock;
use crate::journal::Journal;
use crate::ledger::{Book, Books, Counting};
use crate::queue::Queue;

/// All sinks.
#[derive(Default)]
pub(crate) struct Output {
    journal: Option<Journal>,
    queues: Vec<Queue>,
}

/// How a sink's task ended.
#[derive(Debug)]
pub(crate) struct SinkEnd {
    pub(crate) name: String,
    pub(crate) result: Result<(), SinkError>,
    /// Its place in the journal: as long as this is held, what waits for it there is kept for it.
    pub(crate) reader: Option<Reader>,
    /// Batches that it took and did not confirm.
    pub(crate) unconfirmed: u64,
}

impl SinkEnd {
    /// What it has not got, and the next run delivers.
    pub(crate) fn waiting(&self) -> Backlog {
        let backlog = self.reader.as_ref().map(Reader::backlog).unwrap_or_default();
        Backlog { batches: backlog.batches + self.unconfirmed, ..backlog }
    }
}

impl Output {
    /// Starts a queue and a task for each sink. The tasks end when the output is dropped, after everything was written.
    /// `failed` is told of the first that ends early. Each sink has a book in the ledger, by these
    /// names, if one is kept.
    pub(crate) fn start(
        sinks: Vec<(String, Box<dyn Sink>)>,
        failed: &watch::Sender<Option<SinkError>>,
        ledger: Option<&[String]>,
        clock: Clock,
    ) -> (Self, Vec<JoinHandle<SinkEnd>>, Books) {
        let mut in_ledger = ledger.into_iter().flatten().cloned();
        let mut books = Vec::new();
        let mut open = |(name, sink)| {
            let (book, counting): (Option<Arc<Book>>, Counting) = Book::open(in_ledger.next());
            books.extend(book.clone());
            Queue::start(name, sink, failed, (book, counting), clock)
        };
        let (queues, tasks) = sinks.into_iter().map(&mut open).unzip();
        (Self { journal: None, queues }, tasks, books.into())
    }

    /// With a journal before the sinks that last.
    pub(crate) fn with_journal(self, journal: Option<Journal>) -> Self {
        Self { journal, ..self }
    }

    /// The next run shall know what is new, even if this one ends soon.
    pub(crate) fn checkpoint_soon(&self) {
        if let Some(journal) = &self.journal {
            journal.checkpoint_soon();
        }
    }

    /// What keeps the journal from taking anything.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.journal.as_ref().and_then(Journal::trouble)
    }

    /// Keeps events that left a pipeline, which is held meanwhile. Blocks as long as it takes to write to a file; whoever
    /// [sends](Output::send) the batch waits for the disk. What could not be kept and nobody else gets is forgotten by the
    /// pipeline, so that it goes out when it comes again: then there is nothing to hand on.
    pub(crate) fn keep(&self, events: Vec<Event>, pipeline: &mut Pipeline) -> Option<Arc<Batch>> {
        let Some(journal) = &self.journal else { return Some(Arc::new(Batch::new(events))) };
        match journal.append(events) {
            Ok(batch) => Some(batch),
            Err(batch) if self.queues.is_empty() => {
                pipeline.forget(batch.events());
                None
            }
            Err(batch) => Some(Arc::new(batch)),
        }
    }

    /// Waits until all that was kept is as safe as was asked for, so that the sinks that last can have it.
    pub(crate) async fn settled(&self) {
        if let Some(journal) = &self.journal {
            journal.settled(None).await;
        }
    }

    /// Hands a batch to every sink that has a queue, once it is safe if it was kept; waits for room, within bounds. Whether
    /// somebody has it now.
    pub(crate) async fn send(&self, batch: &Arc<Batch>) -> bool {
        if let Some(journal) = &self.journal
            && let Some(position) = batch.position()
        {
            journal.settled(Some(position)).await;
        }
        let mut taken = batch.position().is_some() || self.queues.is_empty();
        for queue in &self.queues {
            taken |= queue.send(batch).await;
        }
        taken
    }
}

/// The sinks' names, in order, each once: two sinks of one name are two.
pub(crate) fn distinct<'a>(names: impl Iterator<Item = &'a String>) -> Vec<String> {
    let mut distinct: Vec<String> = Vec::new();
    for name in names {
        let numbered = (2..).map(|number| format!("{name} #{number}"));
        let free = std::iter::once(name.clone()).chain(numbered).find(|name| !distinct.contains(name));
        distinct.extend(free);
    }
    distinct
}

#[cfg(test)]
mod tests {
    use exchange_core::event::Trade;
    use exchange_core::ledger::{Account, Entry, EventCounts, Share};
    use exchange_core::{Body, Decimal, Instrument, Time};
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
            output.send(&batch).await;
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
