//! The one interface of all sinks.

use std::pin::Pin;
use std::sync::Arc;

use exchange_core::Batch;

use crate::error::SinkError;

/// What a sink's methods give: boxed once per batch, so that sinks are objects.
pub type SinkFuture<'a> = Pin<Box<dyn Future<Output = Result<(), SinkError>> + Send + 'a>>;

/// Where events go.
///
/// Batches are written in the order of the calls. Futures may be dropped: a batch whose `write` did not answer `Ok`
/// was not taken.
pub trait Sink: Send {
    /// What it is called in logs and metrics: its address without anything secret.
    fn name(&self) -> &str;

    /// Hands over a batch. `Ok` means accepted: in order, into a bounded queue, to be written at once, kept and tried
    /// again if that fails. An error means that *this* batch was not taken; a retryable one tells of trouble that may
    /// pass, so that the same batch may be written again. Waits while the queue is full.
    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a>;

    /// Waits until every accepted batch is where another process can read it. It survives this process' death, not
    /// yet the machine's.
    fn flush(&mut self) -> SinkFuture<'_>;

    /// Flushes and ends the sink. `Ok` means durable, where there is such a thing (a file was synced to its disk).
    /// Nothing can be written any more.
    fn close(&mut self) -> SinkFuture<'_>;
}
