//! Many batches in one step: what sinks have in common whose server takes a thousand rows as fast as ten.

use std::sync::Arc;

use exchange_core::{Batch, Body, Position};

use crate::error::{SinkError, SinkErrorKind};
use crate::sink::{Sink, SinkFuture};
use crate::worker::Meter;

/// About how many bytes of events are stored in one step at most.
const STEP_BYTES: usize = 16 << 20;

/// A server that takes batches in steps.
pub(crate) trait Store: Send {
    /// Events that are stored in one step. They and what they are sent as are in memory for as long as the server takes.
    const STEP_EVENTS: usize;

    /// The last batch of a journal that is safe by the server's own books.
    fn position(&mut self, journal: u64) -> impl Future<Output = Result<Option<Position>, SinkError>> + Send;

    /// Stores batches, all or none of them. It is called again with the same ones (and perhaps more behind them) after an
    /// error, or when its future was dropped: whether they were stored then is to be found out.
    fn store(&mut self, batches: &[Arc<Batch>]) -> impl Future<Output = Result<(), SinkError>> + Send;

    /// Takes leave.
    fn close(&mut self) -> impl Future<Output = ()> + Send;
}

/// A sink that stores what it gathered when it is enough, and when it is flushed.
#[derive(Debug)]
pub(crate) struct Buffered<S> {
    store: S,
    meter: Meter,
    waiting: Vec<Arc<Batch>>,
    events: usize,
    bytes: usize,
    closed: bool,
}

impl<S: Store> Buffered<S> {
    pub(crate) fn new(name: &str, store: S) -> Self {
        Self { store, meter: Meter::new(name), waiting: Vec::new(), events: 0, bytes: 0, closed: false }
    }

    async fn deliver(&mut self) -> Result<(), SinkError> {
        if self.closed {
            return Err(SinkError::ended(self.meter.sink()));
        }
        if self.waiting.is_empty() {
            return Ok(());
        }
        self.store.store(&self.waiting).await.inspect_err(|_| self.meter.failed())?;
        self.meter.written(self.events, self.bytes);
        self.waiting.clear();
        (self.events, self.bytes) = (0, 0);
        Ok(())
    }
}

impl<S: Store> Sink for Buffered<S> {
    fn name(&self) -> &str {
        self.meter.sink()
    }

    fn position(&mut self, journal: u64) -> SinkFuture<'_, Option<Position>> {
        Box::pin(async move { self.store.position(journal).await.inspect_err(|_| self.meter.failed()) })
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        Box::pin(async move {
            if self.closed {
                return Err(SinkError::ended(self.meter.sink()));
            }
            if self.events >= S::STEP_EVENTS || self.bytes >= STEP_BYTES {
                self.deliver().await?;
            }
            self.waiting.push(batch.clone());
            self.events += batch.events().len();
            self.bytes += bytes(batch);
            Ok(())
        })
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(self.deliver())
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async {
            let result = self.deliver().await;
            if !self.closed {
                self.closed = true;
                self.store.close().await;
            }
            result
        })
    }
}

/// About how many bytes of lines a batch has: most of them are small, and books are not.
fn bytes(batch: &Batch) -> usize {
    let levels = |body: &Body| if let Body::Book(book) = body { book.bids.len() + book.asks.len() } else { 0 };
    batch.events().iter().map(|event| 250 + 30 * levels(&event.body)).sum()
}

/// Waits for an answer, but not for ever: a network that swallows everything tells nobody.
pub(crate) async fn within<T>(patience: std::time::Duration, what: &str, answer: impl Future<Output = Result<T, SinkError>>) -> Result<T, SinkError> {
    match tokio::time::timeout(patience, answer).await {
        Ok(result) => result,
        Err(_) => Err(SinkError::new(SinkErrorKind::Retryable, format!("{what}: no answer within {patience:?}"))),
    }
}
