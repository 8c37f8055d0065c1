//! What travels from the pipeline to the sinks: sealed events, serialized once for all of them.

use std::fmt;
use std::str::FromStr;
use std::sync::OnceLock;

use crate::event::Event;

/// Where a batch lies in a journal. Written `5f3a00c2d1e4b697/42`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// Which journal: a number that is drawn when it is made, so that positions in one that was deleted are not taken
    /// for positions in the next.
    pub journal: u64,
    /// The batch's number in it: 1 for the first, each one more than the one before, and many more when the journal is
    /// opened anew.
    pub number: u64,
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}/{}", self.journal, self.number)
    }
}

/// A text that is no [`Position`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("no position in a journal (such as `5f3a00c2d1e4b697/42`)")]
pub struct NoPosition;

impl FromStr for Position {
    type Err = NoPosition;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (journal, number) = text.split_once('/').filter(|(journal, _)| journal.len() == 16).ok_or(NoPosition)?;
        let journal = u64::from_str_radix(journal, 16).map_err(|_| NoPosition)?;
        let number = number.parse().map_err(|_| NoPosition)?;
        Ok(Self { journal, number })
    }
}

/// Sealed events of one venue, in order. Shared by all sinks, never changed.
#[derive(Debug, Default)]
pub struct Batch {
    events: Vec<Event>,
    lines: OnceLock<Vec<u8>>,
    position: Option<Position>,
}

impl Batch {
    /// A batch of sealed events.
    pub fn new(mut events: Vec<Event>) -> Self {
        // Thousands of batches wait at a time, most of them of an event or two with room for four.
        events.shrink_to_fit();
        Self { events, lines: OnceLock::new(), position: None }
    }

    /// A batch that was read: its events, and the lines that they were read from, each with its end.
    pub(crate) fn with_lines(events: Vec<Event>, lines: Vec<u8>) -> Self {
        Self { lines: OnceLock::from(lines), ..Self::new(events) }
    }

    /// The same batch as it lies in a journal.
    #[must_use]
    pub fn at(self, position: Position) -> Self {
        Self { position: Some(position), ..self }
    }

    /// Where it lies in a journal, if it went through one. The same events again at the same position are a repeat.
    pub fn position(&self) -> Option<Position> {
        self.position
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
            out.shrink_to_fit();
            out
        })
    }

    /// The events for which `keep` answers `true`, with their lines as they are.
    #[must_use]
    pub fn filtered(self, mut keep: impl FnMut(&Event) -> bool) -> Self {
        let kept: Vec<bool> = self.events.iter().map(&mut keep).collect();
        if kept.iter().all(|kept| *kept) {
            return self;
        }
        let mut lines = Vec::new();
        for ((_, line), _) in self.records().zip(&kept).filter(|(_, kept)| **kept) {
            lines.extend_from_slice(line);
            lines.push(b'\n');
        }
        let events = self.events.into_iter().zip(kept).filter_map(|(event, kept)| kept.then_some(event)).collect();
        Self { events, lines: OnceLock::from(lines), position: self.position }
    }

    /// Each event with its line of JSON, without the line's end.
    pub fn records(&self) -> impl Iterator<Item = (&Event, &[u8])> {
        self.events.iter().zip(self.lines().split(|byte| *byte == b'\n'))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_takes_no_more_memory_than_its_events() {
        let instrument = std::sync::Arc::new(crate::Instrument::named(&"x".into(), crate::Market::Linear, "A", None));
        let event = Event::new(instrument, crate::Time::from_micros(1), None, crate::Body::Ticker(crate::event::Ticker::default()));
        let mut events = Vec::with_capacity(64);
        events.push(event);
        let batch = Batch::new(events);
        assert!(batch.lines().ends_with(b"}\n"));
        assert_eq!((batch.events.capacity(), batch.lines.get().unwrap().capacity()), (1, batch.lines().len()));
    }

    #[test]
    fn a_position_is_read_as_it_is_written() {
        let position = Position { journal: 0x5f3a_00c2_d1e4_b697, number: 42 };
        assert_eq!(position.to_string(), "5f3a00c2d1e4b697/42");
        assert_eq!("5f3a00c2d1e4b697/42".parse(), Ok(position));
        for text in ["", "42", "5f3a00c2d1e4b697/", "5f3a00c2d1e4b697/x", "5f3a/42"] {
            assert_eq!(text.parse::<Position>(), Err(NoPosition), "{text}");
        }
    }
}
