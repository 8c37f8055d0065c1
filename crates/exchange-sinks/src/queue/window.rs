//! The events that were accepted and not acknowledged yet.

use std::collections::VecDeque;
use std::ops::Range;
use std::sync::Arc;

use exchange_core::{Batch, Event};

use super::IN_FLIGHT;

/// One event on its way.
#[derive(Debug, Clone)]
pub(crate) struct Message {
    /// Its number: each one more than the one before, from 0.
    pub(crate) number: u64,
    batch: Arc<Batch>,
    event: usize,
    line: Range<usize>,
}

impl Message {
    /// The event.
    pub(crate) fn event(&self) -> &Event {
        #[expect(clippy::indexing_slicing, reason = "counted off this very batch in `Window::push`")]
        &self.batch.events()[self.event]
    }

    /// Its line of JSON, without the line's end.
    pub(crate) fn line(&self) -> &[u8] {
        self.batch.lines().get(self.line.clone()).unwrap_or_default()
    }
}

/// Accepted events in order, the oldest without an answer first.
#[derive(Debug, Default)]
pub(crate) struct Window {
    /// `None` once it is acknowledged.
    messages: VecDeque<Option<Message>>,
    /// The number of the first.
    first: u64,
    /// How many of them, from the front, were sent.
    sent: usize,
    /// How many have no answer, and how many of those were sent.
    open: usize,
    in_flight: usize,
    /// The bytes of the lines of those that have no answer.
    bytes: usize,
}

impl Window {
    /// Appends a batch.
    pub(crate) fn push(&mut self, batch: &Arc<Batch>) {
        let (mut number, mut start) = (self.first + self.messages.len() as u64, 0);
        for (event, (_, line)) in batch.records().enumerate() {
            let line = start..start + line.len();
            start = line.end + 1;
            self.messages.push_back(Some(Message { number, batch: batch.clone(), event, line }));
            number += 1;
        }
        self.open += batch.events().len();
        self.bytes += batch.lines().len();
    }

    /// The next message to be sent, if another may be in flight.
    pub(crate) fn next(&self) -> Option<Message> {
        if self.in_flight < IN_FLIGHT { self.messages.iter().skip(self.sent).flatten().next().cloned() } else { None }
    }

    /// That message was sent.
    pub(crate) fn sent(&mut self) {
        let skipped = self.messages.iter().skip(self.sent).take_while(|message| message.is_none()).count();
        self.sent += skipped + 1;
        self.in_flight += 1;
    }

    /// A message that is not acknowledged.
    pub(crate) fn get(&self, number: u64) -> Option<Message> {
        self.messages.get(self.place(number)?)?.clone()
    }

    /// A message is acknowledged: how long its line was, the first time.
    pub(crate) fn done(&mut self, number: u64) -> Option<usize> {
        let place = self.place(number)?;
        let message = self.messages.get_mut(place)?.take()?;
        self.open -= 1;
        if place < self.sent {
            self.in_flight -= 1;
        }
        while let Some(None) = self.messages.front() {
            self.messages.pop_front();
            self.first += 1;
            self.sent = self.sent.saturating_sub(1);
        }
        let bytes = message.line.len() + 1;
        self.bytes -= bytes;
        Some(bytes)
    }

    /// How many have no answer.
    pub(crate) fn open(&self) -> usize {
        self.open
    }

    /// How many bytes their lines have.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }

    /// All that is not acknowledged is to be sent again.
    pub(crate) fn rewind(&mut self) {
        (self.sent, self.in_flight) = (0, 0);
    }

    fn place(&self, number: u64) -> Option<usize> {
        usize::try_from(number.checked_sub(self.first)?).ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::batch;

    fn number(message: Option<Message>) -> Option<u64> {
        message.map(|message| message.number)
    }

    #[test]
    fn what_was_not_acknowledged_is_sent_again_in_order() {
        let mut window = Window::default();
        window.push(&batch(0..2));
        window.push(&batch(2..4));
        for _ in 0..3 {
            assert!(window.next().is_some());
            window.sent();
        }
        let line = batch(1..2).lines().len();
        assert_eq!((window.done(1), window.done(1)), (Some(line), None), "once");
        assert_eq!((window.open(), window.in_flight, window.bytes()), (3, 2, batch(0..4).lines().len() - line));
        window.rewind();
        assert_eq!(number(window.next()), Some(0));
        window.sent();
        assert_eq!(number(window.next()), Some(2), "1 is acknowledged");
        window.sent();
        assert_eq!(number(window.next()), Some(3));
        assert_eq!(window.get(2).unwrap().line(), batch(2..3).lines().trim_ascii_end());
        for number in [3, 0, 2] {
            assert!(window.done(number).is_some());
        }
        assert!(window.next().is_none() && window.get(0).is_none() && window.open() == 0 && window.in_flight == 0 && window.bytes() == 0);
        window.push(&batch(4..5));
        assert_eq!(number(window.next()), Some(4));
    }

    #[test]
    fn no_more_are_in_flight_than_may_be() {
        let mut window = Window::default();
        window.push(&batch(0..IN_FLIGHT as u64 + 2));
        let mut sent = 0;
        while window.next().is_some() {
            window.sent();
            sent += 1;
        }
        assert_eq!(sent, IN_FLIGHT);
        window.done(7);
        assert_eq!(number(window.next()), Some(IN_FLIGHT as u64));
    }
}
