//! `null:` takes everything and keeps nothing: for benches, and for runs of which only the counters matter.

use std::future::ready;
use std::sync::Arc;

use exchange_core::Batch;

use crate::address::Address;
use crate::error::SinkError;
use crate::registry::Target;
use crate::sink::{Sink, SinkFuture};
use crate::worker::Meter;

/// Reads `null:`.
pub(crate) fn target(address: Address) -> Result<Arc<dyn Target>, SinkError> {
    address.nothing_behind()?;
    address.end()?;
    Ok(Arc::new(Null))
}

#[derive(Debug)]
struct Null;

impl Target for Null {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(NullSink::new()))
    }

    fn lasts(&self) -> bool {
        false
    }
}

/// Takes everything and keeps nothing.
#[derive(Debug)]
pub struct NullSink {
    meter: Meter,
    closed: bool,
}

impl NullSink {
    /// A sink without a floor.
    pub fn new() -> Self {
        Self { meter: Meter::new("null:"), closed: false }
    }

    fn open(&self) -> Result<(), SinkError> {
        if self.closed { Err(SinkError::ended(self.meter.sink())) } else { Ok(()) }
    }
}

impl Default for NullSink {
    fn default() -> Self {
        Self::new()
    }
}

impl Sink for NullSink {
    fn name(&self) -> &str {
        self.meter.sink()
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        let open = self.open();
        if open.is_ok() {
            // Not its lines: nobody asked for them, and making them is most of a sink's cost.
            self.meter.written(batch.events().len(), 0);
        }
        Box::pin(ready(open))
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(ready(self.open()))
    }

    fn close(&mut self) -> SinkFuture<'_> {
        let open = self.open();
        self.closed = true;
        Box::pin(ready(open))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{batch, block_on};

    #[test]
    fn takes_everything_until_it_is_closed() {
        let mut sink = NullSink::new();
        block_on(async {
            sink.write(&batch(0..9)).await.unwrap();
            sink.close().await.unwrap();
            sink.write(&batch(0..9)).await.unwrap_err();
        });
    }
}
