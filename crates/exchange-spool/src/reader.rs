//! Reading: a sink's place in the journal, and the way over what lies there.

use std::io;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use exchange_core::parse::Interner;
use exchange_core::{Batch, Position, Time};
use tokio::sync::watch;

use crate::checkpoint::sync_directory;
use crate::cursor::{CursorFile, file_name};
use crate::error::SpoolError;
use crate::inner::{Attached, Cursor, Inner, count_lost};
use crate::loss::{Cause, Lost, Spans};
use crate::record::{Header, Place};
use crate::segment::{HEAD, Records, Segment};
use crate::spool::{SKIP, Shared, Spool};

/// What comes next.
#[derive(Debug, Clone)]
pub enum Read {
    /// A batch.
    Batch(Arc<Batch>),
    /// Batches that are missing.
    Lost(Lost),
}

impl Read {
    /// The batch, or the one that tells of the loss.
    pub fn into_batch(self) -> Arc<Batch> {
        match self {
            Self::Batch(batch) => batch,
            Self::Lost(lost) => lost.batch,
        }
    }
}

/// What a reader has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Backlog {
    /// Batches.
    pub batches: u64,
    /// What they take on the disk, about.
    pub bytes: u64,
}

/// A sink's place in the journal. It detaches when it is dropped.
#[derive(Debug)]
pub struct Reader {
    walk: Walk,
    changed: watch::Receiver<u64>,
    /// The name of the cursor's file.
    name: String,
    attached: Arc<Attached>,
    cursor: Mutex<CursorFile>,
}

/// What lies in the journal now, from some position on.
#[derive(Debug)]
pub struct Replay {
    walk: Walk,
    until: u64,
}

impl Spool {
    /// Goes over what lies there now, behind a position; from the oldest on where there is none, or one of another
    /// journal. It holds nothing back from being deleted.
    pub fn replay(&self, after: Option<Position>) -> Replay {
        let inner = self.shared.lock();
        let after = after.filter(|position| position.journal == inner.journal);
        let at = after.map_or_else(|| inner.beginning(), |position| position.number);
        let until = inner.segments.iter().rev().find(|segment| !segment.is_empty()).map_or(0, |newest| newest.last);
        Replay { walk: Walk::new(&self.shared, at), until }
    }

    /// Attaches a sink by its name. It goes on behind its last acknowledgement. A name that is new begins at the end, but the first
    /// of all at the oldest batch. Where the cursor is damaged, or of a journal that was deleted, it begins at the oldest
    /// batch, too.
    ///
    /// # Errors
    /// [`SpoolError::Attached`], [`SpoolError::Io`].
    pub fn reader(&self, sink: &str) -> Result<Reader, SpoolError> {
        let name = file_name(sink);
        let mut inner = self.shared.lock();
        if inner.cursors.get(&name).is_some_and(|cursor| cursor.reader.is_some()) {
            return Err(SpoolError::Attached(sink.to_owned()));
        }
        let path = inner.cursor_path(&name);
        let known = match inner.cursors.get(&name) {
            Some(cursor) => Some(cursor.acknowledged),
            None if inner.cursors.is_empty() => Some(inner.beginning()),
            None => None,
        };
        let at = known.unwrap_or(inner.last);
        let (mut cursor, found) = CursorFile::open(&path).map_err(SpoolError::io("open", &path))?;
        if inner.cursors.contains_key(&name) && found.is_none_or(|position| position.journal != inner.journal) {
            tracing::warn!(sink, cursor = %path.display(), "this cursor is damaged or of another journal: the sink gets again all that lies here");
        }
        cursor.store(Position { journal: inner.journal, number: at }).map_err(SpoolError::io("write", &path))?;
        if found.is_none() {
            // A sink that was forgotten by a power cut would begin at the end.
            cursor.sync().and_then(|()| path.parent().map_or(Ok(()), sync_directory)).map_err(SpoolError::io("sync", &path))?;
        }
        let attached = Arc::new(Attached { sink: sink.to_owned(), read: AtomicU64::new(at) });
        inner.cursors.insert(name.clone(), Cursor { acknowledged: at, reader: Some(attached.clone()) });
        drop(inner);
        for cause in [Cause::Damaged, Cause::Dropped] {
            // There from the beginning: an alert needs the zero before the first loss.
            count_lost(sink, cause, 0, 0);
        }
        Ok(Reader { walk: Walk::new(&self.shared, at), changed: self.shared.last.subscribe(), name, attached, cursor: Mutex::new(cursor) })
    }
}

impl Reader {
    /// The next batch, or what is missing before it. `None` if there is nothing more yet, or after a moment if the files
    /// cannot be read now. It may read files, a record at a time.
    #[expect(clippy::should_implement_trait, reason = "`None` is not the end")]
    pub fn next(&mut self) -> Option<Read> {
        let until = *self.changed.borrow_and_update();
        let read = self.walk.next(until).unwrap_or_else(|error| {
            self.walk.wait_out(&error);
            None
        });
        self.attached.read.store(self.walk.at, Ordering::Relaxed);
        // What was dropped has been counted when it was.
        if let Some(Read::Lost(Lost { cause: cause @ Cause::Damaged, batches, events, .. })) = &read {
            tracing::warn!(
                sink = self.attached.sink,
                batches,
                events,
                up_to = self.walk.at,
                "batches in the journal are damaged or missing: their loss is told by gap events"
            );
            count_lost(&self.attached.sink, *cause, *batches, *events);
        }
        read
    }

    /// Waits until [`Reader::next`] has something.
    pub async fn ready(&self) {
        let at = self.walk.at;
        // The sender lives as long as this does.
        let _ = self.changed.clone().wait_for(|last| *last > at).await;
    }

    /// Says that everything up to a position is safe. A position before the last acknowledged one, or in another journal,
    /// says nothing. One small write; it is not synced, so that a power cut may take it back.
    ///
    /// # Errors
    /// [`SpoolError::Io`]. It may be said again.
    pub fn acknowledge(&self, position: Position) -> Result<(), SpoolError> {
        let mut cursor = self.cursor.lock().unwrap_or_else(PoisonError::into_inner);
        let shared = &self.walk.shared;
        let path = {
            let inner = shared.lock();
            let acknowledged = inner.cursors.get(&self.name).map_or(0, |cursor| cursor.acknowledged);
            if position.journal != inner.journal || position.number <= acknowledged {
                return Ok(());
            }
            inner.cursor_path(&self.name)
        };
        cursor.store(position).map_err(SpoolError::io("write", &path))?;
        let mut inner = shared.lock();
        if let Some(cursor) = inner.cursors.get_mut(&self.name) {
            cursor.acknowledged = position.number;
        }
        if inner.segments.len() > 1 && inner.segments.front().is_some_and(|oldest| oldest.last <= position.number) {
            inner.retire();
        }
        Ok(())
    }

    /// Goes on behind the position that the sink's own books say, forward or back. One in another journal says nothing.
    pub fn seek(&mut self, after: Position) {
        let mut inner = self.walk.shared.lock();
        if after.journal != inner.journal {
            return;
        }
        // A sink that has more than the journal ever gave: this is a copy from before. What comes next must be new to it.
        if after.number >= inner.next {
            tracing::warn!(sink = self.attached.sink, position = %after, "the sink has batches that this journal does not know; numbers go on behind them");
            inner.next = after.number.saturating_add(1);
        }
        drop(inner);
        self.walk.seek(after.number);
        self.attached.read.store(after.number, Ordering::Relaxed);
    }

    /// The position of what was read last, or behind which this begins.
    pub fn position(&self) -> Position {
        self.walk.position(self.walk.at)
    }

    /// What [`Reader::next`] has not given yet.
    pub fn backlog(&self) -> Backlog {
        self.walk.shared.lock().backlog(self.walk.at)
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        if let Some(cursor) = self.walk.shared.lock().cursors.get_mut(&self.name) {
            cursor.reader = None;
        }
    }
}

impl Iterator for Replay {
    type Item = Read;

    fn next(&mut self) -> Option<Read> {
        for _ in 0..REPLAY_ATTEMPTS {
            match self.walk.next(self.until) {
                Ok(read) => return read,
                Err(error) => self.walk.wait_out(&error),
            }
        }
        tracing::error!("the journal cannot be read: what lies there is left out");
        None
    }
}

impl Inner {
    fn backlog(&self, at: u64) -> Backlog {
        let mut backlog = Backlog::default();
        for segment in self.segments.iter().filter(|segment| segment.last > at && !segment.is_empty()) {
            let (all, batches) = (segment.last - segment.first + 1, segment.last - at.max(segment.first - 1));
            backlog.batches += batches;
            let share = u128::from(segment.bytes) * u128::from(batches) / u128::from(all);
            backlog.bytes += u64::try_from(share).unwrap_or(u64::MAX);
        }
        backlog
    }
}

/// A way through the journal.
#[derive(Debug)]
struct Walk {
    shared: Arc<Shared>,
    /// The number that was passed last.
    at: u64,
    /// When the last event that was passed arrived.
    time: Option<Time>,
    interner: Interner,
    /// The segment that is being read, by its first number.
    open: Option<(u64, Records)>,
    surroundings: Surroundings,
    /// Whether the files could not be read last time.
    in_trouble: bool,
}

/// How long files that cannot be read are left alone.
const RETRY: Duration = Duration::from_millis(100);
/// How often they are tried before a replay ends.
const REPLAY_ATTEMPTS: u32 = 50;

/// What was found out about the places of a segment, by its first number, to tell of damage in it.
#[derive(Debug, Default)]
struct Surroundings {
    first: u64,
    /// How often it was searched. That takes a while: not for each of thousands of records.
    searches: u32,
    places: Vec<Place>,
}

/// How often a segment is searched at most.
const SEARCHES: u32 = 16;

/// Where the next batch is.
enum Next {
    None,
    Memory(Arc<Batch>),
    /// In a segment, at this offset or behind it.
    Segment(Segment, u64),
    /// It is not there any more.
    Missing(Lost),
}

impl Walk {
    fn new(shared: &Arc<Shared>, at: u64) -> Self {
        Self { shared: shared.clone(), at, time: None, interner: Interner::default(), open: None, surroundings: Surroundings::default(), in_trouble: false }
    }

    fn seek(&mut self, at: u64) {
        if at < self.at {
            (self.open, self.time) = (None, None);
        }
        self.at = at;
    }

    fn position(&self, number: u64) -> Position {
        Position { journal: self.shared.journal, number }
    }

    /// An error says that nothing can be said now.
    fn next(&mut self, until: u64) -> io::Result<Option<Read>> {
        loop {
            match self.look(until)? {
                Next::None => return Ok(None),
                Next::Memory(batch) => {
                    self.pass(&batch);
                    return Ok(Some(Read::Batch(batch)));
                }
                Next::Missing(lost) => {
                    self.pass(&lost.batch);
                    return Ok(Some(Read::Lost(lost)));
                }
                Next::Segment(segment, offset) => {
                    let read = match self.read(&segment, offset) {
                        Err(error) if is_for_good(&error) => {
                            let missing = self.missing(&segment, segment.last, None)?;
                            if missing.is_some() {
                                tracing::error!(file = %segment.path.display(), %error, "the rest of this segment cannot be read any more");
                            }
                            missing
                        }
                        read => read?,
                    };
                    self.in_trouble = false;
                    if read.is_some() {
                        return Ok(read);
                    }
                }
            }
        }
    }

    fn wait_out(&mut self, error: &io::Error) {
        if !std::mem::replace(&mut self.in_trouble, true) {
            tracing::warn!(%error, "cannot read the journal, trying again");
        }
        self.open = None;
        thread::sleep(RETRY);
    }

    fn pass(&mut self, batch: &Batch) {
        self.at = batch.position().map_or(self.at, |position| position.number);
        self.time = batch.events().last().map(|event| event.received).max(self.time);
        self.open = None;
    }

    fn look(&mut self, until: u64) -> io::Result<Next> {
        let shared = self.shared.clone();
        let inner = shared.lock();
        if self.at >= until {
            return Ok(Next::None);
        }
        let number = inner.segments.partition_point(|segment| segment.last <= self.at);
        let Some(segment) = inner.segments.get(number) else {
            // Somebody went back to what has been deleted.
            let newest = inner.segments.back().cloned();
            drop(inner);
            return Ok(Next::Missing(self.unknown(newest.as_ref(), until, None)?));
        };
        if segment.previous > self.at {
            if let Some(piece) = inner.losses.between(self.at, segment.previous) {
                let position = self.position(segment.previous);
                return Ok(Next::Missing(Lost::new(position, piece.batches, piece.events, Cause::Dropped, &piece.spans)));
            }
            // A power cut took the end of a segment, after another sink had had it; or what is known of deleted ones is damaged.
            let (segment, before) = (segment.clone(), number.checked_sub(1).and_then(|before| inner.segments.get(before)).cloned());
            drop(inner);
            let first = Records::open(&segment.path, HEAD)?.peek(segment.bytes)?;
            let next = first.map(|first| first.received.0);
            return Ok(Next::Missing(self.unknown(Some(before.as_ref().unwrap_or(&segment)), segment.previous, next)?));
        }
        // Numbers between two segments were given to nobody.
        self.at = self.at.max(segment.first - 1);
        Ok(match inner.in_memory(self.at + 1) {
            Some(batch) => Next::Memory(batch),
            None => Next::Segment(Segment { marks: Vec::new(), path: segment.path.clone(), ..*segment }, segment.offset(self.at + 1)),
        })
    }

    /// The next record of a segment, or what is missing before it. `None` if the segment is not there any more.
    fn read(&mut self, segment: &Segment, offset: u64) -> io::Result<Option<Read>> {
        let mut records = match self.open.take() {
            Some((first, records)) if first == segment.first => records,
            _ => Records::open(&segment.path, offset)?,
        };
        let header = loop {
            match records.peek(segment.bytes)? {
                Some(header) if header.number <= self.at => records.pass(&header),
                header => break header,
            }
        };
        self.time = self.time.max(records.time);
        let read = match header {
            Some(header) if header.number == self.at + 1 => {
                records.pass(&header);
                Some(self.record(segment, &mut records, &header)?)
            }
            // It comes after what is missing has been told.
            Some(header) => self.missing(segment, header.number - 1, Some(header.received.1))?,
            None => self.missing(segment, segment.last, None)?,
        };
        self.open = Some((segment.first, records));
        Ok(read)
    }

    /// The batch of a record that was passed, or what its header says of it.
    fn record(&mut self, segment: &Segment, records: &mut Records, header: &Header) -> io::Result<Read> {
        let position = self.position(header.number);
        let parsed = records.lines(header)?.map(|lines| Batch::parse_with(lines, &mut self.interner));
        let read = match parsed {
            Some(Ok(batch)) => Read::Batch(Arc::new(batch.at(position))),
            damaged => {
                if let Some(Err(error)) = damaged {
                    tracing::error!(%position, %error, "a batch in the journal is whole and cannot be read");
                }
                let (from, to) = header.received;
                let spans = match records.places(header)? {
                    Some(places) => Spans::of(places, Some(from), to),
                    None => Spans::of(self.around(segment, header.number, None)?.places(), Some(from), to),
                };
                Read::Lost(Lost::new(position, 1, header.events.into(), Cause::Damaged, &spans))
            }
        };
        self.at = header.number;
        self.time = self.time.max(Some(header.received.1));
        Ok(read)
    }

    /// Passes what is missing up to a number. `None` if that is because the whole segment has gone meanwhile, of which more is known.
    fn missing(&mut self, segment: &Segment, last: u64, next: Option<Time>) -> io::Result<Option<Read>> {
        self.open = None;
        if !self.shared.lock().segments.iter().any(|listed| listed.first == segment.first) {
            return Ok(None);
        }
        let told = self.unknown(Some(segment), last, next)?;
        self.at = last;
        Ok(Some(Read::Lost(told)))
    }

    fn around(&mut self, segment: &Segment, last: u64, next: Option<Time>) -> io::Result<Spans> {
        if self.surroundings.first != segment.first {
            self.surroundings = Surroundings { first: segment.first, ..Surroundings::default() };
        }
        let known = &mut self.surroundings;
        if let Some(next) = next
            && known.searches >= SEARCHES
        {
            return Ok(Spans::of(known.places.iter().cloned(), self.time.map(|time| time.min(next)), next));
        }
        let spans = segment.around(self.at, last, self.time, next.filter(|_| last > segment.last))?;
        known.searches += 1;
        known.places = spans.clone().places().collect();
        Ok(spans)
    }

    /// Batches of which nothing is left: they may have been of any place that is known around them. `next` is when what
    /// follows arrived, if it is known.
    fn unknown(&mut self, segment: Option<&Segment>, last: u64, next: Option<Time>) -> io::Result<Lost> {
        let spans = match segment.map(|segment| self.around(segment, last, next)).transpose() {
            Err(error) if is_for_good(&error) => {
                tracing::error!(%error, "cannot say what is missing in the journal");
                None
            }
            spans => spans?,
        };
        // No number of that run is below this.
        let before = last.saturating_sub(1) / SKIP * SKIP;
        Ok(Lost::new(self.position(last), last - self.at.max(before), 0, Cause::Damaged, &spans.unwrap_or_default()))
    }
}

/// Whether an error tells of the file: it is not there, or shorter than it was, or the disk cannot read it. Others (too many open
/// files, no memory, no permission) pass, and what lies there is still whole.
fn is_for_good(error: &io::Error) -> bool {
    const EIO: i32 = 5;
    matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::UnexpectedEof) || error.raw_os_error() == Some(EIO)
}

const _: () = {
    const fn shared_between_threads<T: Send + Sync>() {}
    shared_between_threads::<Spool>();
    shared_between_threads::<Reader>();
};
