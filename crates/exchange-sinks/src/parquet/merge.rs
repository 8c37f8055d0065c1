//! Which small files become large ones, and how: the same for a directory and for an object store.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use ::parquet::basic::Type as Physical;
use ::parquet::column::reader::get_typed_column_reader;
use ::parquet::data_type::{BoolType, ByteArrayType, DataType, FixedLenByteArrayType, Int32Type, Int64Type};
use ::parquet::errors::{ParquetError, Result as ParquetResult};
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{FileReader as _, SerializedFileReader};
use ::parquet::file::statistics::Statistics;
use ::parquet::file::writer::SerializedRowGroupWriter;
use exchange_core::Time;

use super::covers::Covers;
use super::encode;
use super::partition::{SUFFIX, date, day, part_of};
use super::table::TABLES;

/// Rows of a row group of a merged file, and their bytes without compression: what is in memory is some of it.
const GROUP_ROWS: i64 = 128 * 1024;
const GROUP_BYTES: i64 = 64 << 20;
/// So many rows are copied at once.
const AT_ONCE: usize = 8 * 1024;
/// Of a partition that still grows, fewer files are not merged.
const FEW: usize = 4;

/// How files are merged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MergeOptions {
    /// Files are merged up to this size, roughly. Those of half the size or more stay as they are.
    pub file_bytes: u64,
    /// The level of zstd's compression: what is merged is written seldom, so that it may take its time.
    pub level: i32,
    /// Days that were over so long ago, and in which nothing was written for as long, are merged as a whole.
    pub quiet: Duration,
}

impl Default for MergeOptions {
    fn default() -> Self {
        Self { file_bytes: 256 << 20, level: 3, quiet: Duration::from_hours(1) }
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

/// A file of a partition, in the order of their names.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) bytes: u64,
    pub(super) modified: SystemTime,
}

/// A file to be merged.
pub(super) struct Source {
    pub(super) listed: Listed,
    reader: SerializedFileReader<File>,
    covers: Covers,
    /// The first time in it, in microseconds.
    begin: i64,
}

impl MergeOptions {
    /// The first of the dates (`date=2026-11-21`) that may not be over yet.
    pub(super) fn open_date(&self, now: Time) -> String {
        let quiet = i64::try_from(self.quiet.as_micros()).unwrap_or(i64::MAX);
        date(day(Time::from_micros(now.micros().saturating_sub(quiet))))
    }

    /// Whether nothing was written for long.
    pub(super) fn is_quiet(&self, files: &[Listed], now: SystemTime) -> bool {
        files.iter().all(|file| now.duration_since(file.modified).is_ok_and(|age| age >= self.quiet))
    }

    /// The small ones of a partition's files.
    pub(super) fn small<'f>(&self, files: &'f [Listed]) -> Vec<&'f Listed> {
        files.iter().filter(|file| file.bytes < self.file_bytes / 2 && file.name.ends_with(SUFFIX)).collect()
    }

    /// Which files become one.
    pub(super) fn together<'s>(&self, sources: &'s [Source]) -> impl Iterator<Item = &'s [Source]> {
        let (mut bytes, limit) = (0, self.file_bytes);
        sources.chunk_by(move |before, _| {
            bytes += before.listed.bytes;
            let fits = bytes < limit;
            if !fits {
                bytes = 0;
            }
            fits
        })
    }
}

/// The table and the venue of a partition's path.
pub(super) fn table_and_venue(partition: &str) -> Option<(usize, &str)> {
    let mut parts = partition.split('/');
    let kind = parts.next()?.strip_prefix("type=")?;
    Some((TABLES.iter().position(|table| table.name == kind)?, parts.next()?.strip_prefix("venue=")?))
}

/// Files that nobody will write again: of those that a sink writes, only the last of a journal is.
pub(super) fn closed<'f>(files: &[&'f Listed]) -> Vec<&'f Listed> {
    let parts = || files.iter().filter_map(|file| part_of(&file.name));
    // In order of their numbers.
    let lasts: BTreeMap<u64, u64> = parts().collect::<BTreeSet<_>>().into_iter().collect();
    files.iter().copied().filter(|file| part_of(&file.name).is_none_or(|(journal, first)| lasts.get(&journal) != Some(&first))).collect()
}

/// Those that can be merged, the oldest first: files of exactly the columns of today, whose metadata says what they cover.
pub(super) fn sources(directory: &Path, files: &[&Listed], table: usize) -> io::Result<Vec<Source>> {
    let mut sources = Vec::new();
    for listed in files {
        let Ok(reader) = SerializedFileReader::new(File::open(directory.join(&listed.name))?) else { continue };
        let covers = encode::covers(reader.metadata()).filter(|_| encode::is_of_today(reader.metadata(), table));
        if let Some(covers) = covers {
            let begin = begin(reader.metadata()).unwrap_or(i64::MAX);
            sources.push(Source { listed: (*listed).clone(), reader, covers, begin });
        }
    }
    sources.sort_by_key(|source| source.begin);
    Ok(sources)
}

/// The first time in a file, in microseconds.
pub(super) fn begin(metadata: &ParquetMetaData) -> Option<i64> {
    let first = |group: &::parquet::file::metadata::RowGroupMetaData| match group.columns().first()?.statistics()? {
        Statistics::Int64(times) => times.min_opt().copied(),
        _ => None,
    };
    metadata.row_groups().iter().filter_map(first).min()
}

/// Of a partition that still grows, the newest files, if they are together as large as the oldest of them: a row is written again
/// only when its file becomes twice as large.
pub(super) fn growing(mut sources: Vec<Source>) -> Vec<Source> {
    let mut behind: u64 = sources.iter().map(|source| source.listed.bytes).sum();
    let doubles = sources.iter().position(|source| {
        behind -= source.listed.bytes;
        source.listed.bytes <= behind
    });
    let newest = doubles.map(|from| sources.split_off(from)).unwrap_or_default();
    if newest.len() < FEW { Vec::new() } else { newest }
}

/// Writes the rows of several files into one, which is on the disk then.
pub(super) fn write(path: &Path, (table, venue): (usize, &str), level: i32, sources: &[Source], replaces: Option<&str>) -> ParquetResult<()> {
    let mut covers = Covers::default();
    for source in sources {
        covers.add(&source.covers);
    }
    let mut writer = encode::writer(io::BufWriter::new(File::create(path)?), table, level)?;
    let groups: Vec<(&Source, usize)> = sources.iter().flat_map(|source| (0..source.reader.num_row_groups()).map(move |group| (source, group))).collect();
    let (mut rows, mut bytes) = (0, 0);
    let fits = |(source, group): &(&Source, usize), _: &(&Source, usize)| {
        let group = source.reader.metadata().row_group(*group);
        (rows, bytes) = (rows + group.num_rows(), bytes + group.total_byte_size());
        let fits = rows < GROUP_ROWS && bytes < GROUP_BYTES;
        if !fits {
            (rows, bytes) = (0, 0);
        }
        fits
    };
    for together in groups.chunk_by(fits) {
        let mut out = writer.next_row_group()?;
        for column in 0..encode::leaves(table)? {
            copy(together, column, &mut out)?;
        }
        out.close()?;
    }
    encode::describe(&mut writer, table, venue, &covers);
    if let Some(replaces) = replaces {
        encode::says_it_replaces(&mut writer, replaces);
    }
    let file = writer.into_inner()?.into_inner().map_err(|error| ParquetError::External(Box::new(error.into_error())))?;
    file.sync_all()?;
    Ok(())
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
            let most = AT_ONCE.min(rows - read);
            let (records, _, _) = from.read_records(most, optional.then_some(&mut definitions), list.then_some(&mut repetitions), &mut values)?;
            if records == 0 {
                return Err(ParquetError::EOF(format!("a column has {read} of {rows} rows")));
            }
            read += records;
            to.typed::<T>().write_batch(&values, optional.then_some(&*definitions), list.then_some(&*repetitions))?;
            values.clear();
            definitions.clear();
            repetitions.clear();
        }
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
