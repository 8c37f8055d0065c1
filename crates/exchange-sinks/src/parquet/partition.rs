//! One partition: the rows of a type, a venue and a date, and the file that they go into.
//!
//! The newest file of a partition is written again, under its name, each time that it gets rows: what is in it stays where it is,
//! byte by byte, and the rows that have come follow as a row group of their own. So no reader sees a row twice, or half a
//! file; nor does one that opens the file by its name a second time, as DuckDB does, and finds the next one, since all that
//! the first one spoke of is in the same places.

use std::time::{Duration, Instant};

use bytes::Bytes;
use exchange_core::{Event, Time};

use super::covers::Covers;
use super::encode::{self, Draft};
use super::fill;
use super::rows::Rows;
use super::store::{Store, broken};
use super::table::TABLES;
use crate::error::{SinkError, SinkErrorKind};

/// A file that has so many row groups gets no more: each costs some kilobytes, and to be copied each time.
const GROUPS: usize = 128;
/// A row group of fewer rows waits longer, by so much (or three times as long, if that is less).
const FEW_ROWS: usize = 100;
const FEW_WAIT: Duration = Duration::from_secs(2);
/// What writing a file costs besides its bytes: a place in a directory, a disk that is asked whether it is done.
const FILE_COST: usize = 128 << 10;
/// What is new in memory is some eight times as large as in a file: when it is so much larger than what must be written
/// again besides, it does not wait.
const WORTH: usize = 2;
/// A partition that is quiet for so long is closed: its file stays as it is until there are rows again.
pub(super) const IDLE: Duration = Duration::from_mins(5);

/// Which partition.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// An index into [`TABLES`].
    pub(super) table: usize,
    pub(super) venue: std::sync::Arc<str>,
    /// Days since 1970, of the time at which the events arrived.
    pub(super) day: i64,
}

/// Days since 1970.
pub(super) fn day(time: Time) -> i64 {
    time.micros().div_euclid(86_400_000_000)
}

/// The folder of a day.
pub(super) fn date(day: i64) -> String {
    let (year, month, day) = Time::from_micros(day.saturating_mul(86_400_000_000)).date();
    format!("date={year:04}-{month:02}-{day:02}")
}

impl Key {
    /// Where the partition lies.
    pub(super) fn path(&self) -> String {
        let kind = TABLES.get(self.table).map_or("", |table| table.name);
        format!("type={kind}/venue={}/{}", self.venue, date(self.day))
    }
}

/// Which of the partitions' files are this sink's, and how they are written.
#[derive(Debug, Clone, Copy)]
pub(super) struct Owner {
    /// The journal, or a number of this run's own.
    pub(super) journal: u64,
    /// Compression.
    pub(super) level: i32,
    /// A file that has so many bytes gets no more.
    pub(super) file_bytes: usize,
}

/// The file that gets the rows.
#[derive(Debug, Clone)]
struct Current {
    name: String,
    groups: usize,
    bytes: usize,
    first: u64,
}

/// An open partition.
pub(super) struct Partition {
    pub(super) key: Key,
    path: String,
    /// Those that are in no file.
    rows: Rows,
    current: Option<Current>,
    /// Up to which batch the files held everything when the partition was opened.
    safe: Option<u64>,
    /// The first batch of which a row is not in the file.
    waits: Option<(u64, Instant)>,
    written: Option<Instant>,
    used: Instant,
}

impl Partition {
    /// Looks at what is there.
    pub(super) fn open(key: Key, owner: Owner, store: &dyn Store, now: Instant) -> Result<Option<Self>, SinkError> {
        let Some(table) = TABLES.get(key.table) else { return Ok(None) };
        let path = key.path();
        let mut this = Self { rows: Rows::new(table), path, current: None, safe: None, waits: None, written: None, used: now, key };
        this.look(owner, store)?;
        Ok(Some(this))
    }

    /// Finds out what the files of the partition hold of the journal, and whether the newest of them can be continued.
    fn look(&mut self, owner: Owner, store: &dyn Store) -> Result<(), SinkError> {
        let own = own_prefix(owner.journal);
        let mut names = store.list(&self.path)?;
        // Files may be merged meanwhile: what is told of must be there to the end.
        loop {
            self.look_at(&names, &own, owner, store)?;
            let before = std::mem::replace(&mut names, store.list(&self.path)?);
            if before.iter().all(|name| names.contains(name)) {
                return Ok(());
            }
        }
    }

    fn look_at(&mut self, names: &[String], own: &str, owner: Owner, store: &dyn Store) -> Result<(), SinkError> {
        self.current = None;
        let newest = names.iter().filter(|name| name.starts_with(own) && name.ends_with(SUFFIX)).max();
        let merged = names.iter().filter(|name| name.starts_with(MERGED) && name.ends_with(SUFFIX));
        for name in merged.chain(newest) {
            let path = format!("{}/{name}", self.path);
            let metadata = store.metadata(&path)?;
            let Some((metadata, covers)) = metadata.and_then(|metadata| encode::covers(&metadata).map(|covers| (metadata, covers))) else {
                tracing::warn!(file = store.shown(&path), "cannot be read: what it holds may be written again");
                continue;
            };
            self.safe = self.safe.max(covers.last(owner.journal));
            let bytes: i64 = metadata.row_groups().iter().map(parquet::file::metadata::RowGroupMetaData::compressed_size).sum();
            let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
            if newest == Some(name)
                && bytes < owner.file_bytes
                && metadata.num_row_groups() < GROUPS
                && encode::is_of_today(&metadata, self.key.table)
                && let Some(first) = covers.first(owner.journal)
            {
                self.current = Some(Current { name: name.clone(), groups: metadata.num_row_groups(), bytes, first });
            }
        }
        Ok(())
    }

    /// Adds an event of a batch, unless it is in a file already.
    pub(super) fn add(&mut self, event: &Event, batch: u64, now: Instant) -> Added {
        self.used = now;
        if self.safe.is_some_and(|safe| batch <= safe) {
            return Added::Repeat;
        }
        self.waits.get_or_insert((batch, now));
        Added::Row(fill::add(event, &mut self.rows))
    }

    /// The first batch of which a row is not in a file.
    pub(super) fn waits(&self) -> Option<u64> {
        self.waits.map(|(batch, _)| batch)
    }

    pub(super) fn is_idle(&self, now: Instant) -> bool {
        self.waits.is_none() && now.duration_since(self.used) >= IDLE
    }

    /// Memory that the rows take.
    pub(super) fn bytes(&self) -> usize {
        self.rows.bytes()
    }

    /// When the file is to be written. Rows wait for `every`, a file for `least` since it was written, and what writing costs is
    /// spread over time, `rate` bytes a second, unless there is so much new that it is worth it.
    pub(super) fn due(&self, every: Duration, least: Duration, rate: usize) -> Option<Instant> {
        let (_, since) = self.waits?;
        let cost = FILE_COST + self.current.as_ref().map_or(0, |current| current.bytes);
        if self.rows.bytes() >= cost * WORTH {
            return Some(since);
        }
        let spread = Duration::from_micros(u64::try_from(cost * 1_000_000 / rate.max(1)).unwrap_or(u64::MAX));
        let apart = if self.rows.count() < FEW_ROWS { least + FEW_WAIT.min(least * 2) } else { least };
        let paid = self.written.map_or(since, |written| written + spread.max(apart));
        Some(paid.max(since + every))
    }

    /// Writes the file, with all rows in it: after that all of them are safe. `last` is the last batch that was taken.
    pub(super) fn write(&mut self, owner: Owner, last: u64, store: &dyn Store, now: Instant) -> Result<Written, SinkError> {
        let Some((first, _)) = self.waits else { return Ok(Written::default()) };
        let before = self.before(store)?;
        let current = match &self.current {
            Some(current) => current.clone(),
            None => Current { name: self.new_name(owner.journal, first, store)?, groups: 0, bytes: 0, first },
        };
        // An attempt that seems to fail may have done it all the same: the next one goes by what was there before it.
        self.current = Some(current.clone());
        let draft = Draft {
            table: self.key.table,
            venue: &self.key.venue,
            level: owner.level,
            before: before.as_ref().map(|bytes| (bytes, current.groups)),
            rows: &self.rows,
            covers: &Covers::one(owner.journal, current.first, last),
        };
        let path = format!("{}/{}", self.path, current.name);
        let content = encode::encode(&draft).map_err(|error| broken(&format!("cannot encode `{}`", store.shown(&path)), &error))?;
        let bytes = content.len();
        store.replace(&path, content)?;
        let written = Written { rows: self.rows.count(), bytes, new: bytes.saturating_sub(before.map_or(0, |before| before.len())) };
        self.rows.clear();
        (self.waits, self.written) = (None, Some(now));
        let groups = current.groups + 1;
        self.current = (bytes < owner.file_bytes && groups < GROUPS).then_some(Current { groups, bytes, ..current });
        Ok(written)
    }

    /// The file as it lies.
    fn before(&mut self, store: &dyn Store) -> Result<Option<Bytes>, SinkError> {
        let Some(current) = self.current.as_ref().filter(|current| current.groups > 0) else { return Ok(None) };
        let path = format!("{}/{}", self.path, current.name);
        let bytes = store.read(&path)?;
        if bytes.is_none() {
            // It was merged into another, or somebody took it away.
            tracing::debug!(file = store.shown(&path), "is gone: the next one begins");
            self.current = None;
        }
        Ok(bytes)
    }

    /// A name that no file has.
    fn new_name(&self, journal: u64, first: u64, store: &dyn Store) -> Result<String, SinkError> {
        let names = store.list(&self.path)?;
        let stem = format!("{}{first:012}", own_prefix(journal));
        let free = |name: &String| !names.contains(name);
        // There is one of that name if it could not be read when the partition was opened.
        let names = std::iter::once(format!("{stem}{SUFFIX}")).chain((1..=u64::MAX).map(|number| format!("{stem}-{number}{SUFFIX}")));
        names.into_iter().find(free).ok_or_else(|| SinkError::new(SinkErrorKind::Permanent, format!("`{}` has too many files", store.shown(&self.path))))
    }
}

/// What became of an event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Added {
    /// It is a row, and the values of these columns are null there and in the text beside them.
    Row(Vec<&'static str>),
    /// It is in a file already.
    Repeat,
}

/// What was written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Written {
    /// Rows that are safe now, and were not before.
    pub(super) rows: usize,
    /// The file's size.
    pub(super) bytes: usize,
    /// By how much it has grown.
    pub(super) new: usize,
}

/// How files end.
pub(super) const SUFFIX: &str = ".parquet";
/// How files begin that others were merged into.
pub(super) const MERGED: &str = "merged-";

/// How the names of a journal's files begin; behind it stands the number of the first batch, so that they sort.
fn own_prefix(journal: u64) -> String {
    format!("part-{journal:016x}-")
}

/// The journal, and the number of the first batch, of a file by its name.
pub(super) fn part_of(name: &str) -> Option<(u64, u64)> {
    let (journal, rest) = name.strip_prefix("part-")?.split_once('-')?;
    let first = rest.split(['-', '.']).next()?;
    Some((u64::from_str_radix(journal, 16).ok()?, first.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use ::parquet::file::metadata::ParquetMetaData;

    use super::super::store::Directory;
    use super::super::tests::{lines, trades};
    use super::*;

    /// Does what it is asked for, and says that it could not.
    struct Liar(Directory);

    impl Store for Liar {
        fn list(&self, partition: &str) -> Result<Vec<String>, SinkError> {
            self.0.list(partition)
        }

        fn read(&self, path: &str) -> Result<Option<Bytes>, SinkError> {
            self.0.read(path)
        }

        fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError> {
            self.0.metadata(path)
        }

        fn replace(&self, path: &str, content: Vec<u8>) -> Result<(), SinkError> {
            self.0.replace(path, content)?;
            Err(SinkError::new(SinkErrorKind::Retryable, "the answer was lost"))
        }

        fn shown(&self, path: &str) -> String {
            self.0.shown(path)
        }
    }

    #[test]
    fn an_attempt_that_seemed_to_fail_gives_no_row_twice() {
        let directory = tempfile::tempdir().unwrap();
        let liar = Liar(Directory::open(directory.path(), true).unwrap());
        let (owner, now) = (Owner { journal: 7, level: 1, file_bytes: 1 << 20 }, Instant::now());
        let events = trades(0..30, 1);
        let key = Key { table: super::super::table::table_of(&events[0].body).unwrap(), venue: "bybit".into(), day: day(events[0].received) };
        let mut partition = Partition::open(key, owner, &liar, now).unwrap().unwrap();
        for (batch, events) in (1..).zip(events.chunks(10)) {
            for event in events {
                assert_eq!(partition.add(event, batch, now), Added::Row(Vec::new()));
            }
            // The answer is lost for a first file, and for one that is written again; more comes meanwhile.
            partition.write(owner, batch, &liar, now).unwrap_err();
            partition.write(owner, batch, &liar, now).unwrap_err();
            if batch != 2 {
                assert_eq!(partition.write(owner, batch, &liar.0, now).unwrap().rows, if batch == 1 { 10 } else { 20 });
            }
        }
        assert_eq!(lines(directory.path()).as_bytes(), exchange_core::Batch::new(trades(0..30, 1)).lines());
    }
}
