//! What travels from the pipeline to the sinks: sealed events, serialized once for all of them.

use std::sync::OnceLock;

use crate::event::Event;

/// Sealed events of one venue, in order. Shared by all sinks, never changed.
#[derive(Debug, Default)]
pub struct Batch {
    events: Vec<Event>,
    lines: OnceLock<Vec<u8>>,
}

impl Batch {
    /// A batch of sealed events.
    pub fn new(events: Vec<Event>) -> Self {
        Self { events, lines: OnceLock::new() }
    }

    /// The events.
    pub fn events(&self) -> &[Event] {
        &self.events
    }

    /// The events as lines of JSON, serialized when first asked for.
    pub fn lines(&self) -> &[u8] {
        self.lines.get_or_init(|| {
            let mut out = Vec::with_capacity(self.events.len() * 300);
            for event in &self.events {
                event.write_json(None, &mut out);
                out.push(b'\n');
            }
            out
        })
    }
}
