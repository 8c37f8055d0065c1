//! What those who append and those who read share, behind one lock: the segments, the newest batches, who stands where.

use std::collections::{BTreeMap, VecDeque};
use std::fs::{self, File};
use std::io::{self, IoSlice, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use exchange_core::{Batch, Position};

use crate::cursor::CursorFile;
use crate::error::{Refused, SpoolError};
use crate::loss::{Losses, Stock};
use crate::record::Header;
use crate::segment::{HEAD, Segment, head};
use crate::{Cause, Options};

/// How much of the newest batches is kept in memory for those who keep up.
const RING_BYTES: usize = 8 << 20;
/// Between two offsets that are remembered.
const MARK_BYTES: u64 = 1 << 20;
/// How long the cursor of a sink that nobody attaches holds segments.
const DETACHED: Duration = Duration::from_hours(7 * 24);

#[derive(Debug)]
pub(crate) struct Inner {
    pub(crate) directory: PathBuf,
    pub(crate) journal: u64,
    pub(crate) segments: VecDeque<Segment>,
    /// The last of the segments, if it is being written to.
    pub(crate) active: Option<Arc<File>>,
    /// What was written to and not synced: segments, and the directory's names.
    pub(crate) unsynced: Vec<Arc<Path>>,
    pub(crate) unsynced_names: bool,
    /// The number of the last batch that was ever given.
    pub(crate) last: u64,
    /// The number of the next batch.
    pub(crate) next: u64,
    /// The newest batches, as far as somebody has not read them yet.
    pub(crate) ring: VecDeque<Arc<Batch>>,
    pub(crate) ring_bytes: usize,
    /// By the names of their files.
    pub(crate) cursors: BTreeMap<String, Cursor>,
    /// The numbers of the last two checkpoints.
    pub(crate) checkpoints: Vec<u64>,
    pub(crate) losses: Losses,
    /// Bytes of all segments.
    pub(crate) bytes: u64,
    pub(crate) gauge: metrics::Gauge,
}

/// A sink's place.
#[derive(Debug, Default)]
pub(crate) struct Cursor {
    /// Up to where everything is safe.
    pub(crate) acknowledged: u64,
    /// Who reads, while somebody does.
    pub(crate) reader: Option<Arc<Attached>>,
}

/// An attached reader, as the others see it.
#[derive(Debug)]
pub(crate) struct Attached {
    /// The sink's name.
    pub(crate) sink: String,
    /// Up to where it has read.
    pub(crate) read: AtomicU64,
}

impl Attached {
    pub(crate) fn read(&self) -> u64 {
        self.read.load(Ordering::Relaxed)
    }
}

impl Cursor {
    fn read(&self) -> u64 {
        self.reader.as_ref().map_or(self.acknowledged, |reader| reader.read())
    }
}

impl Inner {
    /// Writes a batch behind all others; gives it with its position. After an error nothing of it lies there.
    pub(crate) fn append(&mut self, options: &Options, (header, places): (&mut Header, &str), batch: Batch) -> Result<Arc<Batch>, Box<Refused>> {
        header.number = self.next;
        if let Err(error) = self.try_append(options, header, places, batch.lines()) {
            return Err(Box::new(Refused { batch, error }));
        }
        self.last = header.number;
        self.next = header.number + 1;
        let batch = Arc::new(batch.at(Position { journal: self.journal, number: self.last }));
        self.remember(batch.clone());
        Ok(batch)
    }

    fn try_append(&mut self, options: &Options, header: &Header, places: &str, lines: &[u8]) -> Result<(), SpoolError> {
        let most = options.most();
        let fits = |segment: &Segment| segment.last + 1 == header.number && (segment.is_empty() || segment.bytes + header.bytes() <= most);
        let file = match &self.active {
            Some(file) if self.segments.back().is_some_and(fits) => file.clone(),
            _ => self.roll()?,
        };
        let Some(segment) = self.segments.back_mut() else { return Ok(()) };
        let at = segment.bytes;
        if let Err(error) = write_all(&file, [&header.write(), places.as_bytes(), lines]) {
            // Half a record must not stand before whole ones. Where even that fails, nothing is written behind it.
            if file.set_len(at).and_then(|()| (&*file).seek(SeekFrom::Start(at))).is_err() {
                self.active = None;
            }
            return Err(SpoolError::io("write", &segment.path)(error));
        }
        segment.bytes += header.bytes();
        segment.last = header.number;
        if segment.marks.last().map_or(HEAD, |(_, offset)| *offset) + MARK_BYTES <= at {
            segment.marks.push((header.number, at));
        }
        self.bytes += header.bytes();
        if self.unsynced.last().is_none_or(|last| !Arc::ptr_eq(last, &segment.path)) {
            self.unsynced.push(segment.path.clone());
        }
        self.gauge();
        Ok(())
    }

    /// Begins a segment.
    fn roll(&mut self) -> Result<Arc<File>, SpoolError> {
        self.active = None;
        if self.segments.back().is_some_and(Segment::is_empty)
            && let Some(empty) = self.segments.pop_back()
        {
            self.delete(&empty);
        }
        let segment = Segment::new(&self.directory, self.next, self.last);
        // What lies there by that name is empty: no number is given twice.
        let mut file = File::create(&segment.path).map_err(SpoolError::io("create", &segment.path))?;
        if let Err(error) = file.write_all(&head(self.journal)) {
            let _ = fs::remove_file(&segment.path);
            return Err(SpoolError::io("write", &segment.path)(error));
        }
        let file = Arc::new(file);
        self.bytes += segment.bytes;
        self.segments.push_back(segment);
        self.active = Some(file.clone());
        self.unsynced_names = true;
        for name in self.cursors.iter().filter(|(_, cursor)| cursor.reader.is_some()).map(|(name, _)| name) {
            // It only matters should the sink be gone for days.
            let _ = CursorFile::touch(&self.cursor_path(name));
        }
        self.retire();
        Ok(file)
    }

    fn remember(&mut self, batch: Arc<Batch>) {
        self.ring_bytes += weight(&batch);
        self.ring.push_back(batch);
        let read = self.cursors.values().filter_map(|cursor| cursor.reader.as_ref()).map(|reader| reader.read()).min().unwrap_or(u64::MAX);
        while let Some(oldest) = self.ring.front()
            && (self.ring_bytes > RING_BYTES || number(oldest) <= read)
        {
            self.ring_bytes -= weight(oldest);
            self.ring.pop_front();
        }
    }

    /// A batch that is still in memory.
    pub(crate) fn in_memory(&self, wanted: u64) -> Option<Arc<Batch>> {
        let at = wanted.checked_sub(number(self.ring.front()?))?;
        // The position is compared because numbers may have skipped some.
        self.ring.get(usize::try_from(at).ok()?).filter(|batch| number(batch) == wanted).cloned()
    }

    /// Deletes the segments that nobody needs: every sink has confirmed them, and the last two checkpoints are newer.
    pub(crate) fn retire(&mut self) {
        self.forget_detached();
        let confirmed = self.cursors.values().map(|cursor| cursor.acknowledged).min().unwrap_or(u64::MAX);
        let needed = match self.checkpoints.as_slice() {
            [older, _] => *older,
            _ => 0,
        };
        let done = confirmed.min(needed);
        while self.segments.len() > 1
            && self.segments.front().is_some_and(|oldest| oldest.last <= done)
            && let Some(oldest) = self.segments.pop_front()
        {
            self.delete(&oldest);
        }
        self.losses.forget(confirmed);
    }

    /// Cursors that nobody has attached for long hold nothing any more.
    fn forget_detached(&mut self) {
        let directory = self.directory.clone();
        self.cursors.retain(|name, cursor| {
            let path = cursor_path(&directory, name);
            let age = || fs::metadata(&path).and_then(|data| data.modified()).ok()?.elapsed().ok();
            let forgotten = cursor.reader.is_none() && age().is_some_and(|age| age > DETACHED);
            if forgotten {
                tracing::info!(cursor = name, "this sink has not been there for a week: what it has not read is not kept for it any more");
                let _ = fs::remove_file(path);
            }
            !forgotten
        });
    }

    /// The first number of the oldest segment.
    pub(crate) fn oldest(&self) -> Option<u64> {
        self.segments.front().map(|oldest| oldest.first)
    }

    /// The segment that goes first for want of room, and whether somebody has not had all of it. `None` if none may go.
    pub(crate) fn first_to_go(&mut self) -> Option<(Segment, bool)> {
        let confirmed = self.cursors.values().map(|cursor| cursor.acknowledged).min().unwrap_or(u64::MAX);
        if self.segments.len() < 2 && self.active.is_some() {
            // What is being written to may go when everybody has had it.
            if self.segments.front().is_none_or(|newest| newest.is_empty() || newest.last > confirmed) {
                return None;
            }
            self.active = None;
        }
        self.segments.front().map(|oldest| (oldest.clone(), confirmed < oldest.last))
    }

    /// Keeps in mind what goes unread, and counts it.
    pub(crate) fn lose(&mut self, stock: &Stock) {
        let cuts: Vec<u64> = self.cursors.values().flat_map(|cursor| [cursor.acknowledged, cursor.read()]).collect();
        let pieces = stock.pieces(cuts.clone());
        for (name, cursor) in &self.cursors {
            let unread = pieces.iter().filter(|piece| piece.after >= cursor.read());
            let (batches, events) = unread.fold((0, 0), |(batches, events), piece| (batches + piece.batches, events + piece.events));
            if batches > 0 {
                let sink = cursor.reader.as_ref().map_or(name, |reader| &reader.sink);
                tracing::warn!(sink, batches, events, "no room in the journal: the oldest goes before this sink has had it, each loss will be a gap event");
                count_lost(sink, Cause::Dropped, batches, events);
            }
        }
        self.losses.add(pieces, &cuts);
    }

    fn delete(&mut self, segment: &Segment) {
        segment.delete();
        self.gone(segment);
    }

    /// A segment's file is not there any more.
    pub(crate) fn gone(&mut self, segment: &Segment) {
        self.bytes = self.bytes.saturating_sub(segment.bytes);
        self.unsynced_names = true;
        self.gauge();
    }

    fn gauge(&self) {
        #[expect(clippy::cast_precision_loss, reason = "a gauge")]
        self.gauge.set(self.bytes as f64);
    }

    pub(crate) fn cursor_path(&self, name: &str) -> PathBuf {
        cursor_path(&self.directory, name)
    }

    /// The number before the oldest batch that is there.
    pub(crate) fn beginning(&self) -> u64 {
        self.segments.front().map_or(self.last, |oldest| oldest.previous)
    }
}

/// Counts what a sink does not get.
pub(crate) fn count_lost(sink: &str, cause: Cause, batches: u64, events: u64) {
    metrics::counter!("collector_spool_lost_batches_total", "sink" => sink.to_owned(), "cause" => cause.as_str()).increment(batches);
    metrics::counter!("collector_spool_lost_events_total", "sink" => sink.to_owned(), "cause" => cause.as_str()).increment(events);
}

fn cursor_path(directory: &Path, name: &str) -> PathBuf {
    directory.join("cursors").join(name)
}

fn number(batch: &Batch) -> u64 {
    batch.position().map_or(0, |position| position.number)
}

/// About what a batch takes in memory.
fn weight(batch: &Batch) -> usize {
    batch.lines().len() + size_of_val(batch.events())
}

fn write_all(mut file: &File, parts: [&[u8]; 3]) -> io::Result<()> {
    let mut slices = parts.map(IoSlice::new);
    let mut slices = slices.as_mut_slice();
    while slices.iter().any(|slice| !slice.is_empty()) {
        match file.write_vectored(slices) {
            Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
            Ok(written) => IoSlice::advance_slices(&mut slices, written),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
