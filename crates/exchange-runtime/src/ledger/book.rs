//! A sink's side of the ledger: what it was told alone, what it wrote, what was given up.
//!
//! An accepted event is not a written one: it waits in the sink's own queue. It counts as written when the sink has
//! confirmed by a flush that another process can read it, and as dropped when the sink fails before that; but what lies
//! in a journal for the sink is not dropped then, it waits.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use exchange_core::ledger::{EventCounts, Key, Kind, Share};
use exchange_core::{Body, Event};
use exchange_sinks::Sink;
use tokio::sync::{mpsc, oneshot};

/// The books of all sinks.
pub(crate) type Books = Arc<[Arc<Book>]>;

/// What is answered when everything that was accepted before is confirmed, or cannot be.
type Confirmed = oneshot::Sender<()>;

/// One sink's book, written by its queue and its task.
pub(crate) struct Book {
    name: String,
    ask: mpsc::UnboundedSender<Confirmed>,
    side: Mutex<Side>,
}

#[derive(Default)]
struct Side {
    told: EventCounts,
    gaps: EventCounts,
    kept: EventCounts,
    dropped: EventCounts,
    /// What was confirmed, given up or lost. Sinks confirm every second: summed up, or it would be megabytes in a minute.
    shares: HashMap<Key, Share>,
}

impl Side {
    fn add(&mut self, counts: Vec<(Key, u64)>, share: impl Fn(u64) -> Share) {
        for (key, count) in counts {
            *self.shares.entry(key).or_default() += share(count);
        }
    }
}

/// What the sink's task counts. Without a ledger it counts nothing.
pub(crate) struct Counting {
    book: Option<Arc<Book>>,
    asked: mpsc::UnboundedReceiver<Confirmed>,
    accepted: EventCounts,
    /// Of these, what an earlier run had left.
    earlier: EventCounts,
}

impl Book {
    /// A book, and the part of it that is the sink's task's. Without a name there is none.
    pub(crate) fn open(name: Option<String>) -> (Option<Arc<Self>>, Counting) {
        let (ask, asked) = mpsc::unbounded_channel();
        let book = name.map(|name| Arc::new(Self { name, ask, side: Mutex::default() }));
        (book.clone(), Counting { book, asked, accepted: EventCounts::default(), earlier: EventCounts::default() })
    }

    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    fn side(&self) -> MutexGuard<'_, Side> {
        self.side.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Events that no venue sent and that this sink alone gets.
    pub(crate) fn told(&self, events: &[Event]) {
        let mut side = self.side();
        side.told.count(events);
        for event in events {
            if let Body::Gap(gap) = &event.body {
                side.gaps.count_as(event, Kind::channel(gap.channel));
            }
        }
    }

    /// Events that lie in the journal for the sink.
    pub(crate) fn kept(&self, events: &[Event]) {
        self.side().kept.count(events);
    }

    /// Events that will not be written.
    pub(crate) fn dropped(&self, events: &[Event]) {
        self.side().dropped.count(events);
    }

    /// Asks the sink to confirm what it has accepted.
    pub(crate) fn confirm(&self) -> oneshot::Receiver<()> {
        let (answer, confirmed) = oneshot::channel();
        // A sink that has ended drops the question, which is an answer.
        drop(self.ask.send(answer));
        confirmed
    }

    /// The rows since the last time.
    pub(crate) fn take(&self) -> Vec<(Key, Share)> {
        let mut side = self.side();
        let told = side.told.take().into_iter().map(|(key, told)| (key, Share { told, ..Share::default() }));
        let mut rows: Vec<(Key, Share)> = told.collect();
        rows.extend(side.gaps.take().into_iter().map(|(key, gaps)| (key, Share { gaps, ..Share::default() })));
        rows.extend(side.kept.take().into_iter().map(|(key, kept)| (key, Share { kept, ..Share::default() })));
        rows.extend(side.dropped.take().into_iter().map(|(key, dropped)| (key, Share { dropped, ..Share::default() })));
        rows.extend(side.shares.drain());
        rows
    }
}

impl Counting {
    /// Waits until the sink shall confirm; for ever, if nobody will ask.
    pub(crate) async fn asked(&mut self) -> Option<Confirmed> {
        self.asked.recv().await
    }

    /// Lets the sink confirm.
    pub(crate) async fn confirm(&mut self, sink: &mut dyn Sink, answer: Confirmed) {
        // In trouble it has not written yet; if that does not pass, the next write says so.
        if sink.flush().await.is_ok() {
            self.written();
        }
        // Whoever asked may have stopped waiting.
        let _gone = answer.send(());
    }

    /// The sink took these; `earlier` where an earlier run had left them in the journal.
    pub(crate) fn accepted(&mut self, events: &[Event], earlier: bool) {
        if self.book.is_some() {
            self.accepted.count(events);
            if earlier {
                self.earlier.count(events);
            }
        }
    }

    /// Everything that was accepted can be read.
    pub(crate) fn written(&mut self) {
        self.settle(|written| Share { written, ..Share::default() });
        if let Some(book) = &self.book {
            book.side().add(self.earlier.take(), |resumed| Share { resumed, ..Share::default() });
        }
    }

    /// What was accepted and not confirmed may be anywhere.
    pub(crate) fn lost(&mut self) {
        self.settle(|dropped| Share { dropped, ..Share::default() });
    }

    /// The journal has lost so many events, of which these gaps tell. Of which channel how many were is not known.
    pub(crate) fn lost_in_journal(&self, gaps: &[Event], events: u64) {
        let Some(book) = &self.book else { return };
        book.told(gaps);
        let mut left = events;
        for (at, gap) in gaps.iter().enumerate() {
            let Body::Gap(of) = &gap.body else { continue };
            let lost = left.div_ceil((gaps.len() - at) as u64);
            left -= lost;
            let mut counts = EventCounts::default();
            counts.count_as(gap, Kind::channel(of.channel));
            book.side().add(counts.take(), |_| Share { lost, ..Share::default() });
        }
    }

    /// These will not be written.
    pub(crate) fn dropped(&self, events: &[Event]) {
        if let Some(book) = &self.book {
            book.dropped(events);
        }
    }

    fn settle(&mut self, share: impl Fn(u64) -> Share) {
        if let Some(book) = &self.book {
            book.side().add(self.accepted.take(), share);
        }
    }
}

#[cfg(test)]
mod tests {
    use exchange_core::event::Ticker;
    use exchange_core::{Instrument, Market, Time};

    use super::*;

    #[test]
    fn what_is_confirmed_again_and_again_is_one_row() {
        let instrument = Arc::new(Instrument::named(&"x".into(), Market::Linear, "A", None));
        let event = Event::new(instrument, Time::from_micros(1), None, Body::Ticker(Ticker::default()));
        let (book, mut counting) = Book::open(Some("own:".to_owned()));
        for _ in 0..3 {
            counting.accepted(std::slice::from_ref(&event), false);
            counting.written();
        }
        counting.accepted(std::slice::from_ref(&event), true);
        counting.lost();
        let shares: Vec<Share> = book.unwrap().take().into_iter().map(|(_, share)| share).collect();
        assert_eq!(shares, [Share { written: 3, dropped: 1, ..Share::default() }]);
    }
}
