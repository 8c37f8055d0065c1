//! Events out of messages: each message of a broker is one event's line.

use exchange_core::{Batch, Event, Interner};

use crate::source::Since;

/// Events that are handed on together.
#[cfg(any(feature = "kafka", feature = "nats"))]
const BATCH: usize = 1024;

/// So far a collector's clock may be ahead of a server's: of what the server stored before, nothing was received later.
#[cfg(any(feature = "nats", feature = "redis"))]
pub(crate) const SKEW_MICROS: i64 = 60_000_000;

/// The events of messages that were read and not handed on yet.
#[derive(Debug)]
pub(crate) struct Messages {
    from: Since,
    interner: Interner,
    events: Vec<Event>,
}

impl Messages {
    /// Takes events that are to be read.
    pub(crate) fn new(from: Since) -> Self {
        Self { from, interner: Interner::default(), events: Vec::new() }
    }

    /// Takes a message of the source of this name, from that place in it. What is no event is named and left out.
    pub(crate) fn add(&mut self, source: &str, place: impl std::fmt::Display, payload: &[u8]) {
        match Event::parse_with(payload, &mut self.interner) {
            Ok(event) if self.from.includes(event.received) => self.events.push(event),
            Ok(_) => {}
            Err(error) => tracing::warn!(source, %place, "left out: {error}"),
        }
    }

    /// Whether it is time to hand on what there is.
    #[cfg(any(feature = "kafka", feature = "nats"))]
    pub(crate) fn is_full(&self) -> bool {
        self.events.len() >= BATCH
    }

    /// What there is, if anything is.
    pub(crate) fn take(&mut self) -> Option<Batch> {
        (!self.events.is_empty()).then(|| Batch::new(std::mem::take(&mut self.events)))
    }
}
