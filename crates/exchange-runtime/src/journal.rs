//! The way into the journal, and what the next run is told of this one.
//!
//! A batch is put under the lock of the pipeline that made it, so that a checkpoint of the pipeline and a position in
//! the journal say the same: all events of that venue up to there, and none behind.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

use exchange_core::{Batch, Event, Pipeline, Position};
use exchange_spool::{Read, Refused, Spool, SpoolError};
use serde::{Deserialize, Serialize};
use tokio::sync::Notify;

use crate::clock::Clock;
use crate::ledger::Book;
use crate::losses::Losses;
use crate::shared::Shared;

/// The directory in the state directory.
pub(crate) const PART: &str = "spool";
/// How long a journal that takes nothing is left alone.
const RETRY: Duration = Duration::from_millis(500);
/// How often is asked whether it is time for a checkpoint.
const LOOK: Duration = Duration::from_secs(1);
/// No two are written closer together.
const APART: Duration = Duration::from_millis(250);
/// Raised when an older program would misread a checkpoint.
const VERSION: u32 = 1;
/// So much that lies behind the last checkpoint is read at the start; more, and a new one is made at once. Runs that all
/// end early must not read more each time.
const REREAD_BYTES: usize = 4 << 20;

/// The journal's side of the output.
pub(crate) struct Journal {
    spool: Spool,
    books: Vec<Arc<Book>>,
    losses: Losses,
    dropped: Vec<metrics::Counter>,
    soon: Arc<Notify>,
    /// It is not tried again before (microseconds of the steady clock): what is told then grows with what was lost.
    not_before: AtomicI64,
    /// Why nothing can be appended.
    trouble: Mutex<Option<String>>,
    clock: Clock,
}

impl Journal {
    /// For the sinks of these names; `books` are those that have one.
    pub(crate) fn new(spool: Spool, names: &[String], books: Vec<Arc<Book>>, soon: Arc<Notify>, clock: Clock) -> Self {
        let counter = |name: &String| metrics::counter!("collector_events_dropped_total", "sink" => name.clone());
        Self {
            spool,
            books,
            losses: Losses::default(),
            dropped: names.iter().map(counter).collect(),
            soon,
            not_before: AtomicI64::new(i64::MIN),
            trouble: Mutex::default(),
            clock,
        }
    }

    pub(crate) fn checkpoint_soon(&self) {
        self.soon.notify_one();
    }

    /// Why nothing is appended at the moment.
    pub(crate) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Appends events. They are handed on once they are [settled](Journal::settled).
    ///
    /// # Errors
    /// The batch that there is no way for at the moment. It is told as a gap as soon as there is.
    pub(crate) fn append(&self, events: Vec<Event>) -> Result<Arc<Batch>, Batch> {
        let batch = Batch::new(events);
        if self.losses.any() && (self.clock.now().micros() < self.not_before.load(Ordering::Relaxed) || !self.tell_losses()) {
            self.give_up(batch.events());
            return Err(batch);
        }
        match self.spool.put(batch) {
            Ok(batch) => {
                self.books.iter().for_each(|book| book.kept(batch.events()));
                Ok(batch)
            }
            Err(refused) => {
                let Refused { batch, error } = *refused;
                self.refused(&error);
                if self.give_up(batch.events()) {
                    tracing::error!(%error, "the journal takes nothing: events are given up, each loss will be a gap event");
                }
                Err(batch)
            }
        }
    }

    /// Waits until what was appended up to a position is as safe as was asked for; all, if there is none.
    pub(crate) async fn settled(&self, position: Option<Position>) {
        self.spool.settled(position.unwrap_or_else(|| self.spool.last())).await;
    }

    fn refused(&self, error: &SpoolError) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = Some(error.to_string());
        self.not_before.store((self.clock.now() + RETRY).micros(), Ordering::Relaxed);
    }

    /// Whether these are the first.
    fn give_up(&self, events: &[Event]) -> bool {
        self.dropped.iter().for_each(|counter| counter.increment(events.len() as u64));
        self.books.iter().for_each(|book| book.dropped(events));
        self.losses.note(events)
    }

    /// What was lost is told before what comes next. Whether it could be.
    #[cold]
    fn tell_losses(&self) -> bool {
        let gaps = self.losses.take(self.clock.wall());
        let mut by_venue: BTreeMap<Arc<str>, Vec<Event>> = BTreeMap::new();
        for gap in gaps {
            by_venue.entry(gap.instrument.venue.clone()).or_default().push(gap);
        }
        let mut told = true;
        for gaps in by_venue.into_values() {
            match self.spool.put(Batch::new(gaps)) {
                Ok(batch) => {
                    for book in &self.books {
                        book.told(batch.events());
                        book.kept(batch.events());
                    }
                }
                Err(refused) => {
                    told = false;
                    self.refused(&refused.error);
                    self.losses.note_again(refused.batch.events());
                }
            }
        }
        if told {
            *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = None;
            tracing::info!("the journal takes events again");
        }
        told
    }
}

/// The head of a checkpoint: a line of JSON, behind which the venues' own follow.
#[derive(Serialize, Deserialize)]
struct Head {
    v: u32,
    venues: Vec<Part>,
}

#[derive(Serialize, Deserialize)]
struct Part {
    venue: String,
    /// The position up to which it stands for everything.
    after: String,
    bytes: usize,
}

/// What each venue's pipeline knew, by its name: up to which position, and the checkpoint.
type Parts<'a> = BTreeMap<String, (Position, &'a [u8])>;

fn write(parts: Vec<(String, Position, Vec<u8>)>) -> Vec<u8> {
    let head = parts.iter().map(|(venue, after, bytes)| Part { venue: venue.clone(), after: after.to_string(), bytes: bytes.len() }).collect();
    // Names and numbers: there is nothing in it that JSON could not say.
    let mut out = serde_json::to_vec(&Head { v: VERSION, venues: head }).unwrap_or_default();
    out.push(b'\n');
    for (_, _, mut bytes) in parts {
        out.append(&mut bytes);
    }
    out
}

fn read(bytes: &[u8]) -> Result<Parts<'_>, String> {
    let broken = || "it is broken off".to_owned();
    let mut halves = bytes.splitn(2, |byte| *byte == b'\n');
    let (Some(head), Some(mut rest)) = (halves.next(), halves.next()) else { return Err(broken()) };
    let head: Head = serde_json::from_slice(head).map_err(|error| error.to_string())?;
    if head.v != VERSION {
        return Err(format!("it is of another version ({}, not {VERSION})", head.v));
    }
    let mut parts = Parts::new();
    for part in head.venues {
        let (own, behind) = rest.split_at_checked(part.bytes).ok_or_else(broken)?;
        let after = part.after.parse().map_err(|error: exchange_core::batch::NoPosition| error.to_string())?;
        parts.insert(part.venue, (after, own));
        rest = behind;
    }
    Ok(parts)
}

/// Gives the pipelines what earlier runs knew, before anything is processed.
pub(crate) fn restore(spool: &Spool, checkpoint: Option<&(Position, Vec<u8>)>, pipelines: &mut [(String, Pipeline)]) {
    let mut parts = Parts::new();
    if let Some((_, bytes)) = checkpoint {
        match read(bytes) {
            Ok(read) => parts = read,
            Err(error) => tracing::warn!(error, "the journal's checkpoint cannot be used: gaps will be longer, and some events may go out again"),
        }
    }
    let mut behind: BTreeMap<String, Position> = BTreeMap::new();
    for (venue, pipeline) in &mut *pipelines {
        let Some((after, bytes)) = parts.remove(venue) else { continue };
        match pipeline.restore(bytes) {
            Ok(()) => drop(behind.insert(venue.clone(), after)),
            Err(error) => tracing::warn!(venue, %error, "its checkpoint cannot be used: gaps will be longer, and some events may go out again"),
        }
    }
    let mut reread = 0;
    for read in spool.replay(checkpoint.map(|(position, _)| *position)) {
        // What a sink was not told of what is missing is told to it: here, only what is there counts.
        let Read::Batch(batch) = read else { continue };
        reread += batch.lines().len();
        let Some(event) = batch.events().first() else { continue };
        let Some((venue, pipeline)) = pipelines.iter_mut().find(|(venue, _)| **venue == *event.instrument.venue) else { continue };
        if behind.get(venue).is_none_or(|after| batch.position().is_none_or(|position| position > *after)) {
            pipeline.observe(batch.events());
        }
    }
    if reread > REREAD_BYTES {
        let at = spool.last();
        let parts = pipelines.iter().map(|(venue, pipeline)| (venue.clone(), at, pipeline.checkpoint())).collect();
        if let Err(error) = spool.checkpoint_at(at, &write(parts)) {
            tracing::warn!(%error, "cannot write a checkpoint: the next start takes longer");
        }
    }
    for (_, pipeline) in pipelines {
        pipeline.restarted();
    }
}

/// Writes a checkpoint whenever it is time for one, or shall be `soon`, until it is aborted.
pub(crate) async fn keep_checkpoints(spool: Spool, venues: Vec<Weak<Shared>>, soon: Arc<Notify>) {
    loop {
        let now = tokio::select! {
            () = soon.notified() => true,
            () = tokio::time::sleep(LOOK) => false,
        };
        if !now && !spool.wants_checkpoint() {
            continue;
        }
        let (spool, venues) = (spool.clone(), venues.clone());
        let written = tokio::task::spawn_blocking(move || {
            let at = spool.last();
            let part = |shared: Arc<Shared>| {
                let pipeline = shared.pipeline();
                // Nothing of this venue is appended while its pipeline is held.
                (shared.name().to_owned(), spool.last(), pipeline.checkpoint())
            };
            let parts = venues.iter().filter_map(Weak::upgrade).map(part).collect();
            spool.checkpoint_at(at, &write(parts))
        });
        match written.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "cannot write a checkpoint, trying again"),
            Err(error) => tracing::error!(%error, "a checkpoint failed"),
        }
        // Connections are served one after another.
        tokio::time::sleep(APART).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_checkpoint_of_all_venues_is_read_as_it_was_written() {
        let position = |number| Position { journal: 7, number };
        let bytes = write(vec![("a".into(), position(3), b"one\ntwo".to_vec()), ("b".into(), position(4), Vec::new())]);
        let wanted: Parts<'_> = [("a".into(), (position(3), &b"one\ntwo"[..])), ("b".into(), (position(4), &b""[..]))].into();
        assert_eq!(read(&bytes), Ok(wanted));
        for length in 0..bytes.len() {
            assert!(read(&bytes[..length]).is_err(), "{length}");
        }
        assert!(read(&String::from_utf8(bytes).unwrap().replace("\"v\":1", "\"v\":2").into_bytes()).unwrap_err().contains("another version"));
    }
}
