//! Small files of days that are over become large ones.
//!
//! A partition is merged aside, as a directory of its own, and then the two directories trade places: one step of the kernel's, so
//! that whoever lists the partition sees the old files or the new ones, and a crash at any time leaves one of the two in
//! its place. What is aside afterwards is removed. Where the system knows no such step, nothing is merged.
//!
//! A reader that listed the partition before and opens a file of it after does not find it, and has to ask again. A pattern that
//! goes through hidden directories as well (`DIR/**` instead of `DIR/type=…/**`) may for some milliseconds see both.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ::parquet::basic::Type as Physical;
use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{BoolType, ByteArrayType, DataType, FixedLenByteArrayType, Int32Type, Int64Type};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::file::writer::SerializedRowGroupWriter;
use exchange_core::Time;

use super::covers::Covers;
use super::encode;
use super::partition::{MERGED, SUFFIX, date, day};
use super::store::{UNFINISHED, broken, lock, sync_directory};
use super::table::TABLES;
use crate::error::{SinkError, SinkErrorKind};

/// Who merges holds this lock.
const MERGING: &str = ".merging";
/// Rows of a row group of a merged file.
const GROUP_ROWS: i64 = 128 * 1024;
/// A file that was written so short a time ago may be written again.
const QUIET: Duration = Duration::from_hours(1);

/// How files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOptions {
    /// Files are merged up to this size, roughly.
    pub file_bytes: u64,
    /// The level of zstd's compression: what is merged is written once, so that it may take its time.
    pub level: i32,
    /// Partitions of days that were over so long ago are merged, where nothing was written for as long.
    pub quiet: Duration,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self { file_bytes: 128 << 20, level: 3, quiet: QUIET }
    }
}

/// What was merged.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Merged {
    /// Partitions in which files were merged.
    pub partitions: u64,
    /// How many files these were.
    pub files_before: u64,
    /// How many there are instead.
    pub files_after: u64,
    /// Their bytes before.
    pub bytes_before: u64,
    /// Their bytes now.
    pub bytes_after: u64,
}

/// Merges the small files of a dataset's days that are over.
///
/// # Errors
/// The first that occurred; the other partitions are merged all the same. [`SinkErrorKind::Retryable`] if somebody else is at it.
pub fn merge(directory: &Path, options: MergeOptions) -> Result<Merged, SinkError> {
    let now = SystemTime::now();
    let today = Time::EPOCH + now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Merger { root: directory, options, today, now, is_open: &|_| false, goes_on: &|| true }.run()
}

/// A pass over a dataset.
pub(super) struct Merger<'a> {
    pub(super) root: &'a Path,
    pub(super) options: MergeOptions,
    pub(super) today: Time,
    pub(super) now: SystemTime,
    /// Whether somebody in this process writes to a partition.
    pub(super) is_open: &'a dyn Fn(&str) -> bool,
    /// Whether there is time left.
    pub(super) goes_on: &'a dyn Fn() -> bool,
}

/// A file to be merged, as it was when it was read.
struct Source {
    name: String,
    bytes: u64,
    reader: SerializedFileReader<File>,
    covers: Covers,
}

impl Merger<'_> {
    pub(super) fn run(&self) -> Result<Merged, SinkError> {
        let at = self.root.join(MERGING);
        let one = File::options().create(true).append(true).open(&at).map_err(|error| SinkError::io(&format!("cannot create `{}`", at.display()), error))?;
        match one.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SinkError::new(SinkErrorKind::Retryable, format!("somebody else merges the files of `{}`", self.root.display())));
            }
            Err(TryLockError::Error(error)) => return Err(SinkError::io(&format!("cannot lock `{}`", at.display()), error)),
        }
        let aside = self.root.join(UNFINISHED).join("merge");
        let mut merged = Merged::default();
        let mut first_error = None;
        for partition in self.partitions() {
            if !(self.goes_on)() {
                break;
            }
            // What was begun and not ended, by whomever.
            remove(&aside)?;
            match self.partition(&partition, &aside) {
                Ok(more) => merged += more,
                Err(error) => {
                    tracing::warn!(partition, %error, "its files are not merged");
                    first_error.get_or_insert(error);
                }
            }
        }
        remove(&aside)?;
        first_error.map_or(Ok(merged), Err)
    }

    /// The paths of partitions whose day is over.
    fn partitions(&self) -> Vec<String> {
        let today = date(day(Time::from_micros(self.today.micros().saturating_sub(i64::try_from(self.options.quiet.as_micros()).unwrap_or(i64::MAX)))));
        let mut found = Vec::new();
        for kind in folders(self.root, "type=") {
            for venue in folders(&self.root.join(&kind), "venue=") {
                let dates = folders(&self.root.join(&kind).join(&venue), "date=");
                found.extend(dates.into_iter().filter(|date| *date < today).map(|date| format!("{kind}/{venue}/{date}")));
            }
        }
        found
    }

    fn partition(&self, partition: &str, aside: &Path) -> Result<Merged, SinkError> {
        let path = self.root.join(partition);
        let failed = |error| SinkError::io(&format!("cannot merge `{}`", path.display()), error);
        let names = listed(&path).map_err(failed)?;
        let quiet = |modified: SystemTime| self.now.duration_since(modified).is_ok_and(|age| age >= self.options.quiet);
        let small = names.iter().filter(|(_, bytes, _)| *bytes < self.options.file_bytes / 2).count();
        if small < 2 || !names.iter().all(|(_, _, modified)| quiet(*modified)) || (self.is_open)(partition) {
            return Ok(Merged::default());
        }
        let kind = partition.split('/').next().and_then(|part| part.strip_prefix("type="));
        let Some(table) = kind.and_then(|kind| TABLES.iter().position(|table| table.name == kind)) else { return Ok(Merged::default()) };
        let venue = partition.split('/').nth(1).and_then(|part| part.strip_prefix("venue=")).unwrap_or_default();
        let sources = self.sources(&path, &names, table).map_err(failed)?;
        if sources.len() < 2 {
            return Ok(Merged::default());
        }
        fs::create_dir_all(aside).map_err(failed)?;
        let mut merged = Merged { partitions: 1, ..Merged::default() };
        let mut made = Vec::new();
        for together in self.together(&sources) {
            if !(self.goes_on)() {
                return Ok(Merged::default());
            }
            let name = free_name(&names, &made);
            let unfinished = aside.join(format!("{name}.unfinished"));
            self.write(&unfinished, table, venue, together).map_err(|error| broken(&format!("cannot merge `{}`", path.display()), &error))?;
            merged.files_before += together.len() as u64;
            merged.bytes_before += together.iter().map(|source| source.bytes).sum::<u64>();
            merged.files_after += 1;
            merged.bytes_after += fs::metadata(&unfinished).map_err(failed)?.len();
            made.push(name);
        }
        // What is not merged stays as it is, in the new directory as well.
        let gone: Vec<&str> = sources.iter().map(|source| &*source.name).collect();
        for (name, _, _) in names.iter().filter(|(name, _, _)| !gone.contains(&&**name)) {
            fs::hard_link(path.join(name), aside.join(name)).map_err(failed)?;
        }
        self.swap(&path, aside, &names, &made).map_err(failed)?;
        tracing::info!(partition, files = merged.files_before, now = merged.files_after, "merged");
        Ok(merged)
    }

    /// What can be merged: small files of exactly the columns of today, whose metadata says what they cover.
    fn sources(&self, path: &Path, names: &[Listed], table: usize) -> io::Result<Vec<Source>> {
        let mut sources = Vec::new();
        for (name, bytes, _) in names.iter().filter(|(name, bytes, _)| *bytes < self.options.file_bytes / 2 && name.ends_with(SUFFIX)) {
            let Ok(reader) = SerializedFileReader::new(File::open(path.join(name))?) else { continue };
            let covers = encode::covers(reader.metadata()).filter(|_| encode::is_of_today(reader.metadata(), table));
            if let Some(covers) = covers {
                sources.push(Source { name: name.clone(), bytes: *bytes, reader, covers });
            }
        }
        Ok(sources)
    }

    /// Which files become one.
    fn together<'s>(&self, sources: &'s [Source]) -> impl Iterator<Item = &'s [Source]> {
        let (mut bytes, limit) = (0, self.options.file_bytes);
        sources.chunk_by(move |before, _| {
            bytes += before.bytes;
            let fits = bytes < limit;
            if !fits {
                bytes = 0;
            }
            fits
        })
    }

    fn write(&self, path: &Path, table: usize, venue: &str, sources: &[Source]) -> ParquetResult<()> {
        let mut covers = Covers::default();
        for source in sources {
            covers.add(&source.covers);
        }
        let mut writer = encode::writer(io::BufWriter::new(File::create(path)?), table, self.options.level)?;
        let groups: Vec<(&Source, usize)> = sources.iter().flat_map(|source| (0..source.reader.num_row_groups()).map(move |group| (source, group))).collect();
        let mut rows = 0;
        let full = |(source, group): &(&Source, usize), _: &(&Source, usize)| {
            rows += source.reader.metadata().row_group(*group).num_rows();
            let fits = rows < GROUP_ROWS;
            if !fits {
                rows = 0;
            }
            fits
        };
        for together in groups.chunk_by(full) {
            let mut out = writer.next_row_group()?;
            for column in 0..encode::leaves(table)? {
                copy(together, column, &mut out)?;
            }
            out.close()?;
        }
        encode::describe(&mut writer, table, venue, &covers);
        let file = writer.into_inner()?.into_inner().map_err(|error| ParquetError::External(Box::new(error.into_error())))?;
        file.sync_all()?;
        Ok(())
    }

    /// Puts the new directory in the place of the old, if nobody has changed that one since it was listed.
    fn swap(&self, path: &Path, aside: &Path, names: &[Listed], made: &[String]) -> io::Result<()> {
        let nobody = lock(self.root).map_err(|error| io::Error::other(error.to_string()))?;
        // Whoever gives a file its name holds this in common with others.
        nobody.lock()?;
        if listed(path)? != names {
            return Err(io::Error::other("somebody writes to it"));
        }
        for name in made {
            fs::rename(aside.join(format!("{name}.unfinished")), aside.join(name))?;
        }
        sync_directory(aside)?;
        exchange(aside, path)?;
        path.parent().map_or(Ok(()), sync_directory)?;
        fs::remove_dir_all(aside)
    }
}

/// Two directories trade places.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system cannot let two directories trade places"))
}

/// A name, a size, and when it was written.
type Listed = (String, u64, SystemTime);

/// The files of a partition, in the order of their names.
fn listed(path: &Path) -> io::Result<Vec<Listed>> {
    let mut names = fs::read_dir(path)?
        .map(|entry| {
            let entry = entry?;
            let metadata = entry.metadata()?;
            Ok((entry.file_name().to_string_lossy().into_owned(), metadata.len(), metadata.modified()?))
        })
        .collect::<io::Result<Vec<_>>>()?;
    names.sort();
    Ok(names)
}

/// The names of directories that begin so.
fn folders(path: &Path, beginning: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

fn free_name(names: &[Listed], made: &[String]) -> String {
    let taken = |name: &String| made.contains(name) || names.iter().any(|(known, _, _)| known == name);
    (0..u64::MAX).map(|number| format!("{MERGED}{number:06}{SUFFIX}")).find(|name| !taken(name)).unwrap_or_default()
}

fn remove(aside: &PathBuf) -> Result<(), SinkError> {
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SinkError::io(&format!("cannot remove `{}`", aside.display()), error)),
        _ => Ok(()),
    }
}

/// Copies a column of several row groups into one.
fn copy<W: io::Write + Send>(groups: &[(&Source, usize)], column: usize, out: &mut SerializedRowGroupWriter<'_, W>) -> ParquetResult<()> {
    let Some((first, _)) = groups.first() else { return Ok(()) };
    match first.reader.metadata().file_metadata().schema_descr().column(column).physical_type() {
        Physical::BOOLEAN => copy_as::<BoolType, W>(groups, column, out),
        Physical::INT32 => copy_as::<Int32Type, W>(groups, column, out),
        Physical::INT64 => copy_as::<Int64Type, W>(groups, column, out),
        Physical::BYTE_ARRAY => copy_as::<ByteArrayType, W>(groups, column, out),
        Physical::FIXED_LEN_BYTE_ARRAY => copy_as::<FixedLenByteArrayType, W>(groups, column, out),
        other => Err(ParquetError::General(format!("no column of ours is of the type {other}"))),
    }
}

fn copy_as<T: DataType, W: io::Write + Send>(groups: &[(&Source, usize)], column: usize, out: &mut SerializedRowGroupWriter<'_, W>) -> ParquetResult<()> {
    let mut to = out.next_column()?.ok_or_else(|| ParquetError::General("there are more columns than the schema has".to_owned()))?;
    for (source, group) in groups {
        let group = source.reader.get_row_group(*group)?;
        let descriptor = group.metadata().schema_descr().column(column);
        let (optional, list) = (descriptor.max_def_level() > 0, descriptor.max_rep_level() > 0);
        let mut from = get_typed_column_reader::<T>(group.get_column_reader(column)?);
        let (mut values, mut definitions, mut repetitions) = (Vec::new(), Vec::new(), Vec::new());
        let rows = usize::try_from(group.metadata().num_rows())?;
        let mut read = 0;
        while read < rows {
            let (records, _, _) = from.read_records(rows - read, optional.then_some(&mut definitions), list.then_some(&mut repetitions), &mut values)?;
            if records == 0 {
                return Err(ParquetError::EOF(format!("a column has {read} of {rows} rows")));
            }
            read += records;
        }
        to.typed::<T>().write_batch(&values, optional.then_some(&*definitions), list.then_some(&*repetitions))?;
    }
    to.close()
}

impl std::ops::AddAssign for Merged {
    fn add_assign(&mut self, other: Self) {
        self.partitions += other.partitions;
        self.files_before += other.files_before;
        self.files_after += other.files_after;
        self.bytes_before += other.bytes_before;
        self.bytes_after += other.bytes_after;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::{Batch, Event, Position};

    use super::super::tests::{files, lines, noon, trades};
    use super::super::{ParquetOptions, ParquetSink};
    use super::*;
    use crate::contract::block_on;
    use crate::sink::Sink as _;

    const AT_ONCE: MergeOptions = MergeOptions { file_bytes: 1 << 20, level: 3, quiet: Duration::ZERO };

    /// Each batch into a file of its own.
    fn write(root: &Path, batches: Vec<(u64, Vec<Event>)>) {
        block_on(async {
            let options = ParquetOptions { file_bytes: 1, merge: false, ..ParquetOptions::default() };
            let mut sink = ParquetSink::open(root, options).unwrap();
            for (number, events) in batches {
                sink.write(&Arc::new(Batch::new(events).at(Position { journal: 7, number }))).await.unwrap();
                sink.flush().await.unwrap();
            }
            sink.close().await.unwrap();
        });
    }

    fn merge_on(root: &Path, day: u32, is_open: &dyn Fn(&str) -> bool) -> Result<Merged, SinkError> {
        Merger { root, options: AT_ONCE, today: noon(day), now: SystemTime::now() + Duration::from_secs(1), is_open, goes_on: &|| true }.run()
    }

    fn day(root: &Path, day: u32) -> PathBuf {
        root.join(format!("type=trade/venue=bybit/date=2026-03-{day:02}"))
    }

    #[test]
    fn days_that_are_over_have_few_files_of_the_same_rows() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..9).map(|n| (n, trades(n * 10..n * 10 + 10, if n < 6 { 1 } else { 2 }))).collect());
        let before = lines(root);
        let merged = merge_on(root, 2, &|_| false).unwrap();
        assert_eq!((merged.partitions, merged.files_before, merged.files_after), (1, 5, 1));
        assert!(merged.bytes_after < merged.bytes_before, "{merged:?}");
        assert_eq!(lines(root), before);
        assert_eq!((files(&day(root, 1)).len(), files(&day(root, 2)).len()), (1, 3), "the second is not over");
        assert_eq!(files(&root.join(UNFINISHED)), Vec::<PathBuf>::new());
        // What they cover is known: a batch that comes again, late, is not written again, and one that is new is.
        write(root, (3..6).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).chain([(9, trades(100..110, 1))]).collect());
        assert_eq!(sorted(&lines(root)), sorted(&(before + &lines_of(trades(100..110, 1)))));
        assert_eq!(merge_on(root, 2, &|_| false).unwrap().files_before, 2);
        assert_eq!(merge_on(root, 2, &|_| false).unwrap(), Merged::default(), "there is nothing left to do");
    }

    fn lines_of(events: Vec<Event>) -> String {
        String::from_utf8(Batch::new(events).lines().to_vec()).unwrap()
    }

    fn sorted(lines: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = lines.lines().collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn what_was_broken_off_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..4).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).collect());
        let before = lines(root);
        // The end came before the directories had traded places: the new one is not whole. Or after it: the old one is aside.
        for _ in 0..2 {
            let aside = root.join(UNFINISHED).join("merge");
            fs::create_dir_all(&aside).unwrap();
            for path in files(&day(root, 1)) {
                fs::copy(&path, aside.join("merged-000000.parquet")).unwrap();
            }
            merge_on(root, 2, &|_| false).unwrap();
            assert!(!aside.exists());
            assert_eq!(lines(root), before);
        }
    }

    #[test]
    fn what_is_written_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..4).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).collect());
        assert_eq!(merge_on(root, 2, &|partition| partition == "type=trade/venue=bybit/date=2026-03-01").unwrap(), Merged::default());
        assert_eq!(merge(root, MergeOptions::default()).unwrap(), Merged::default(), "it was written a moment ago");
        // Somebody writes to it while it is merged.
        let late = |_: &str| {
            write(root, vec![(4, trades(40..50, 1))]);
            false
        };
        let error = merge_on(root, 2, &late).unwrap_err();
        assert!(error.to_string().ends_with("date=2026-03-01`: somebody writes to it"), "{error}");
        assert_eq!(lines(root).lines().count(), 40);
        assert_eq!(files(&day(root, 1)).len(), 4);
    }

    #[test]
    fn a_file_that_cannot_be_merged_stays() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..4).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).collect());
        let strange = day(root, 1).join("part-strange.parquet");
        fs::write(&strange, "no parquet").unwrap();
        assert_eq!(merge_on(root, 2, &|_| false).unwrap().files_after, 1);
        assert_eq!(fs::read_to_string(&strange).unwrap(), "no parquet");
        fs::remove_file(&strange).unwrap();
        assert_eq!(lines(root).lines().count(), 30);
    }

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let other = File::create(directory.path().join(MERGING)).unwrap();
        other.lock().unwrap();
        assert!(merge(directory.path(), MergeOptions::default()).unwrap_err().is_retryable());
    }
}
