//! The sink's thread: batches to partitions, partitions to files when they are due.

use std::collections::BTreeMap;
use std::sync::mpsc::RecvTimeoutError;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use exchange_core::{Batch, Position};
use foldhash::fast::RandomState;
use hashbrown::HashMap;
use metrics::Counter;
use tokio::sync::oneshot;

use super::partition::{Added, Key, Owner, Partition, Written, day};
use super::store::Store;
use super::table::{TABLES, table_of};
use crate::error::SinkError;
use crate::worker::{Command, Post, permits};

/// All files together are written with so many bytes a second while there is no more than that to write.
const RATE: usize = 16 << 20;
/// One of them has at most so much of it.
const RATE_EACH: usize = 2 << 20;
/// So much memory may be taken by rows.
const NEW_BYTES: usize = 8 << 20;
/// How often it is looked what is due, at least.
const LOOK: Duration = Duration::from_millis(5);
/// How often it is looked for partitions that are idle.
const SWEEP: Duration = Duration::from_secs(30);

/// How the dataset is written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pace {
    /// How long rows wait for a file while nobody waits for them.
    pub(super) every: Duration,
    /// How long they wait when somebody does.
    pub(super) asked: Duration,
}

/// The paths of partitions that are open, for those who would move their files.
pub(super) type Open = Arc<Mutex<std::collections::HashSet<String>>>;

/// The last batch that is safe, as far as this run knows.
pub(super) type Safe = Arc<Mutex<Option<Position>>>;

/// All open partitions.
pub(super) struct Dataset {
    pub(super) store: Box<dyn Store>,
    pub(super) owner: Owner,
    pub(super) pace: Pace,
    pub(super) open: Open,
    pub(super) safe: Safe,
    partitions: Vec<Partition>,
    places: HashMap<Key, usize, RandomState>,
    /// Whether the owner's journal is one, and not a number of this run's own.
    journaled: bool,
    /// The last batch that was taken.
    last: u64,
    /// Who waits for a flush, and up to which batch.
    flushes: Vec<(u64, oneshot::Sender<()>)>,
    swept: Instant,
    /// When it was last looked what is due.
    looked: Instant,
    /// Whether the last command had to be waited for.
    is_idle: bool,
    counts: Counts,
}

struct Counts {
    unfit: BTreeMap<(usize, &'static str), Counter>,
    files: Counter,
    bytes: Counter,
    repeats: Counter,
    sink: String,
}

impl Counts {
    fn new(sink: &str) -> Self {
        metrics::describe_counter!("collector_parquet_unfit_total", "Values that do not fit their column, and are exact in the text column beside it");
        metrics::describe_counter!("collector_parquet_writes_total", "Parquet files written, each time that they are");
        metrics::describe_counter!("collector_parquet_written_bytes_total", metrics::Unit::Bytes, "Bytes of Parquet files written, each time that they are");
        metrics::describe_counter!("collector_parquet_repeats_total", "Events that came again after a crash and were in a file already");
        let counter = |name| metrics::counter!(name, "sink" => sink.to_owned());
        Self {
            unfit: BTreeMap::new(),
            files: counter("collector_parquet_writes_total"),
            bytes: counter("collector_parquet_written_bytes_total"),
            repeats: counter("collector_parquet_repeats_total"),
            sink: sink.to_owned(),
        }
    }

    fn unfit(&mut self, table: usize, column: &'static str) {
        let sink = &self.sink;
        let counter = self.unfit.entry((table, column)).or_insert_with(|| {
            let kind = TABLES.get(table).map_or("", |table| table.name);
            metrics::counter!("collector_parquet_unfit_total", "sink" => sink.clone(), "type" => kind, "column" => column)
        });
        counter.increment(1);
    }
}

impl Dataset {
    pub(super) fn new(sink: &str, store: Box<dyn Store>, owner: Owner, pace: Pace) -> Self {
        Self {
            store,
            owner,
            pace,
            open: Open::default(),
            safe: Safe::default(),
            partitions: Vec::new(),
            places: HashMap::default(),
            journaled: false,
            last: 0,
            flushes: Vec::new(),
            swept: Instant::now(),
            looked: Instant::now(),
            is_idle: true,
            counts: Counts::new(sink),
        }
    }

    /// Serves the commands until the end.
    pub(super) fn serve(&mut self, post: &mut Post) -> Result<(), SinkError> {
        loop {
            match self.receive(post) {
                Ok(Command::Write(batch)) => {
                    self.take(&batch, post)?;
                    post.make_room(permits(&batch) as usize);
                }
                Ok(Command::Flush(answer)) => self.flushes.push((self.last, answer)),
                Ok(Command::Close(answer)) => {
                    self.write_all(post)?;
                    // Whoever asked may have gone.
                    let _ = answer.send(());
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return self.write_all(post),
            }
            let now = Instant::now();
            if now.duration_since(self.looked) >= LOOK || self.is_idle {
                self.looked = now;
                self.write_due(post)?;
                self.answer();
                self.sweep();
            }
        }
    }

    fn receive(&mut self, post: &Post) -> Result<Command, RecvTimeoutError> {
        // While one command follows the other, it is not asked each time what is due.
        self.is_idle = false;
        if self.looked.elapsed() < LOOK
            && let Ok(command) = post.commands.try_recv()
        {
            return Ok(command);
        }
        self.is_idle = true;
        let (every, rate) = (self.every(), self.rate());
        if self.flushes.iter().any(|(upto, _)| self.is_safe(*upto)) {
            // Somebody asked since it was last looked, and waits for nothing.
            return post.commands.recv_timeout(Duration::ZERO);
        }
        match self.partitions.iter().filter_map(|partition| partition.due(every, self.pace.every, rate)).min() {
            Some(due) => post.commands.recv_timeout(due.saturating_duration_since(Instant::now())),
            None => post.commands.recv_timeout(SWEEP),
        }
    }

    /// Takes a batch.
    fn take(&mut self, batch: &Arc<Batch>, post: &mut Post) -> Result<(), SinkError> {
        let position = batch.position();
        if position.is_some() != self.journaled || position.is_some_and(|position| position.journal != self.owner.journal) {
            // Another journal's files are other files.
            self.write_all(post)?;
            self.close_all();
            self.journaled = position.is_some();
            self.owner.journal = position.map_or_else(super::chance, |position| position.journal);
            self.last = 0;
        }
        let number = position.map_or(self.last + 1, |position| position.number);
        let now = Instant::now();
        let places = self.places(batch, post, now)?;
        let mut repeats = 0;
        for (event, place) in batch.events().iter().zip(places) {
            let Some(partition) = place.and_then(|place| self.partitions.get_mut(place)) else { continue };
            match partition.add(event, number, now) {
                Added::Row(unfit) => {
                    post.held += 1;
                    for column in unfit {
                        self.counts.unfit(partition.key.table, column);
                    }
                }
                Added::Repeat => repeats += 1,
            }
        }
        self.counts.repeats.increment(repeats);
        self.last = number;
        Ok(())
    }

    /// The partition of each event of a batch, opened where it was not. Nothing is changed otherwise, so that a batch is taken as
    /// a whole or not at all.
    fn places(&mut self, batch: &Batch, post: &Post, now: Instant) -> Result<Vec<Option<usize>>, SinkError> {
        let mut places = Vec::with_capacity(batch.events().len());
        let mut before: Option<(usize, i64, usize)> = None;
        for event in batch.events() {
            let Some(table) = table_of(&event.body) else {
                tracing::error!(kind = event.body.kind(), "there is no table for events of this type");
                places.push(None);
                continue;
            };
            let day = day(event.received);
            if let Some((_, _, place)) = before.filter(|(of, on, place)| {
                *of == table && *on == day && self.partitions.get(*place).is_some_and(|partition| *partition.key.venue == *event.instrument.venue)
            }) {
                places.push(Some(place));
                continue;
            }
            let key = Key { table, venue: event.instrument.venue.clone(), day };
            let place = match self.places.get(&key) {
                Some(place) => Some(*place),
                None => self.open(key, post, now)?,
            };
            before = place.map(|place| (table, day, place));
            places.push(place);
        }
        Ok(places)
    }

    fn open(&mut self, key: Key, post: &Post, now: Instant) -> Result<Option<usize>, SinkError> {
        let path = key.path();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(path);
        let Some(partition) = post.attempt(|| Partition::open(key.clone(), self.owner, &*self.store, now))? else { return Ok(None) };
        let place = self.partitions.len();
        self.partitions.push(partition);
        self.places.insert(key, place);
        Ok(Some(place))
    }

    /// How long rows may wait now.
    fn every(&self) -> Duration {
        if self.flushes.is_empty() { self.pace.every } else { self.pace.asked }
    }

    /// What each partition may write a second.
    fn rate(&self) -> usize {
        let waiting = self.partitions.iter().filter(|partition| partition.waits().is_some()).count();
        (RATE / waiting.max(1)).min(RATE_EACH)
    }

    /// Writes what is due.
    fn write_due(&mut self, post: &mut Post) -> Result<(), SinkError> {
        let (every, rate, now) = (self.every(), self.rate(), Instant::now());
        let much = self.partitions.iter().map(Partition::bytes).sum::<usize>() >= NEW_BYTES;
        if much && !self.flushes.is_empty() {
            return self.write_all(post);
        }
        for place in 0..self.partitions.len() {
            let due = self.partitions.get(place).and_then(|partition| partition.due(every, self.pace.every, rate));
            if due.is_some_and(|due| due <= now) {
                self.write(place, post)?;
            }
        }
        // The largest first, until there is room for as much again.
        if much {
            let mut sizes: Vec<(usize, usize)> = self.partitions.iter().map(Partition::bytes).zip(0..).collect();
            sizes.sort_unstable_by(|a, b| b.cmp(a));
            let mut rest: usize = sizes.iter().map(|(bytes, _)| bytes).sum();
            for (bytes, place) in sizes {
                if rest < NEW_BYTES / 2 {
                    break;
                }
                self.write(place, post)?;
                rest -= bytes;
            }
        }
        Ok(())
    }

    fn write_all(&mut self, post: &mut Post) -> Result<(), SinkError> {
        for place in 0..self.partitions.len() {
            self.write(place, post)?;
        }
        Ok(())
    }

    fn write(&mut self, place: usize, post: &mut Post) -> Result<(), SinkError> {
        let (owner, last, store) = (self.owner, self.last, &*self.store);
        let Some(partition) = self.partitions.get_mut(place) else { return Ok(()) };
        if partition.waits().is_none() {
            return Ok(());
        }
        let Written { rows, bytes, new } = post.attempt(|| partition.write(owner, last, store, Instant::now()))?;
        post.held = post.held.saturating_sub(rows);
        post.meter.written(rows, new);
        self.counts.files.increment(1);
        self.counts.bytes.increment(bytes as u64);
        self.note();
        Ok(())
    }

    /// The first batch of which a row is in no file.
    fn waits(&self) -> Option<u64> {
        self.partitions.iter().filter_map(Partition::waits).min()
    }

    /// Notes how far everything is safe.
    fn note(&self) {
        let number = self.waits().map_or(self.last, |first| first.saturating_sub(1));
        if self.journaled {
            *self.safe.lock().unwrap_or_else(PoisonError::into_inner) = Some(Position { journal: self.owner.journal, number });
        }
    }

    /// Whether all rows up to a batch are in files.
    fn is_safe(&self, upto: u64) -> bool {
        self.waits().is_none_or(|first| first > upto)
    }

    fn answer(&mut self) {
        for (upto, answer) in std::mem::take(&mut self.flushes) {
            if self.is_safe(upto) {
                self.note();
                // Whoever asked may have gone.
                let _ = answer.send(());
            } else {
                self.flushes.push((upto, answer));
            }
        }
    }

    /// Closes partitions that are idle.
    fn sweep(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.swept) < SWEEP {
            return;
        }
        self.swept = now;
        if self.partitions.iter().any(|partition| partition.is_idle(now)) {
            let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            self.partitions.retain(|partition| {
                let idle = partition.is_idle(now);
                if idle {
                    open.remove(&partition.key.path());
                }
                !idle
            });
            self.places = self.partitions.iter().enumerate().map(|(place, partition)| (partition.key.clone(), place)).collect();
        }
    }

    fn close_all(&mut self) {
        self.partitions.clear();
        self.places.clear();
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }
}
