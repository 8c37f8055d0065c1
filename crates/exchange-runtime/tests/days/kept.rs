//! A sink in memory.

use std::sync::{Arc, Mutex};

use exchange_core::Batch;
use exchange_sinks::{Sink, SinkFuture};

/// A sink that keeps everything until it is read.
#[derive(Clone, Default)]
pub(crate) struct Kept(pub(crate) Arc<Mutex<Vec<Arc<Batch>>>>);

impl Sink for Kept {
    fn name(&self) -> &'static str {
        "kept:"
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        self.0.lock().unwrap().push(batch.clone());
        Box::pin(std::future::ready(Ok(())))
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}
