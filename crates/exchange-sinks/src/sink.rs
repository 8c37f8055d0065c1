//! The one interface of all sinks.

use std::pin::Pin;
use std::sync::Arc;

use exchange_core::{Batch, Position};

use crate::error::SinkError;

/// What a sink's methods give: boxed once per batch, so that sinks are objects.
pub type SinkFuture<'a, T = ()> = Pin<Box<dyn Future<Output = Result<T, SinkError>> + Send + 'a>>;

/// Where events go.
///
/// Batches are written in the order of the calls. Futures may be dropped: a batch whose `write` did not answer `Ok`
/// was not taken. A sink connects when it is first asked for something, and again whenever it has to: that the other
/// side is not there is a retryable error.
///
/// A journal stands before every sink that lasts. What a [`flush`](Sink::flush) confirmed is never written again; what was
/// written since is, after a crash, at the same [positions](Batch::position). A sink that must not hold anything twice
/// keeps the position beside the data, in one step with it, and answers with it when it is [asked](Sink::position).
pub trait Sink: Send {
    /// What it is called in logs and metrics: its address without anything secret.
    fn name(&self) -> &str;

    /// The last batch of this journal that is safe by the sink's own books, asked before the first is written. Others may
    /// write to the same place out of journals of their own: theirs are none of the asker's business. `None` if it keeps
    /// none: then the collector's own count holds, which may be behind.
    fn position(&mut self, _journal: u64) -> SinkFuture<'_, Option<Position>> {
        Box::pin(std::future::ready(Ok(None)))
    }

    /// Hands over a batch. `Ok` means accepted: in order, into a bounded queue or buffer, to be written at once or
    /// together with others, kept and tried again if that fails. An error means that *this* batch was not taken; a
    /// retryable one tells of trouble that may pass, so that the same batch may be written again. Waits while the
    /// queue is full.
    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a>;

    /// Waits until every accepted batch is safe: acknowledged by the server, or where another process can read it and
    /// this process' death does not matter. It is called once in a while (some times a second while batches come), not
    /// after each batch. After an error all that was accepted since the last `Ok` is still the sink's to deliver.
    fn flush(&mut self) -> SinkFuture<'_>;

    /// Flushes and ends the sink. `Ok` means durable, where there is such a thing (a file was synced to its disk).
    /// Nothing can be written any more.
    fn close(&mut self) -> SinkFuture<'_>;
}
