//! A dataset, read back: rows to event lines and those to events.
//!
//! Day by day, in a day type by type and venue by venue, and of those file by file as their times begin. Of a file no more
//! is in memory than a row group. Files may be written and merged meanwhile: what is read is what was there when the reading
//! of its partition began.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};

use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::ParquetMetaData;
use ::parquet::file::reader::{FileReader, SerializedFileReader};

use super::form::Form;
use super::merge::begin;
use super::partition::{SUFFIX, date, day};
use super::store::{LOCK, broken};
use super::{DirectoryTarget, encode};
use crate::error::{SinkError, SinkErrorKind};
use crate::source::background::{Background, Gone, Out};
use crate::source::{Origin, Reading, Since, Source};

/// So many bytes of lines make a batch.
const BATCH_BYTES: usize = 256 << 10;

/// Where the files of a dataset are read from.
pub(super) trait Shelf {
    /// The names of the folders in one.
    fn folders(&self, path: &str) -> Result<Vec<String>, SinkError>;

    /// The names of the files in a folder.
    fn files(&self, path: &str) -> Result<Vec<String>, SinkError>;

    /// A file's metadata, if it can be made out.
    fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError>;

    /// Opens a file.
    fn open(&self, path: &str) -> Result<Box<dyn FileReader>, SinkError>;

    /// How a file is called to people.
    fn shown(&self, path: &str) -> String;

    /// Whether files must stay where they are for now.
    fn hold(&self, _: bool) -> Result<(), SinkError> {
        Ok(())
    }
}

/// Opens a source that reads what is on a shelf, which `open` finds.
pub(super) fn start<S: Shelf>(
    name: &str,
    reading: Reading,
    open: impl FnOnce() -> Result<S, SinkError> + Send + 'static,
) -> Result<Box<dyn Source>, SinkError> {
    if reading.follow {
        let message = format!("`{name}`: a dataset is read as it is, and not followed (`--no-follow`)");
        return Err(SinkError::new(SinkErrorKind::Config, message));
    }
    Background::start(name, reading.from, move |out| match open() {
        _ if reading.from == Since::Now => Ok(()),
        Ok(shelf) => read(&shelf, reading.from, out),
        Err(error) => out.give(Err(error)),
    })
}

/// Why reading stopped.
enum Stop {
    Gone,
    Fault(SinkError),
}

impl From<Gone> for Stop {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<SinkError> for Stop {
    fn from(error: SinkError) -> Self {
        Self::Fault(error)
    }
}

/// Reads everything. What cannot be read is told, and the rest is read.
fn read(shelf: &impl Shelf, from: Since, out: &mut Out) -> Result<(), Gone> {
    let partitions = match partitions(shelf) {
        Ok(partitions) => partitions,
        Err(error) => return out.give(Err(error)),
    };
    let first = if let Since::Time(time) = from { date(day(time)) } else { String::new() };
    for (_, path) in partitions.range((first, String::new())..) {
        match read_partition(shelf, path, out) {
            Ok(()) => {}
            Err(Stop::Gone) => return Err(Gone),
            Err(Stop::Fault(error)) => out.give(Err(error))?,
        }
    }
    Ok(())
}

/// The paths of all partitions, by their dates and themselves.
fn partitions(shelf: &impl Shelf) -> Result<BTreeMap<(String, String), String>, SinkError> {
    let mut found = BTreeMap::new();
    let folders = |path: &str, beginning: &str| -> Result<Vec<String>, SinkError> {
        let mut folders = shelf.folders(path)?;
        folders.retain(|folder| folder.starts_with(beginning));
        Ok(folders)
    };
    for kind in folders("", TYPE)? {
        for venue in folders(&kind, "venue=")? {
            let path = format!("{kind}/{venue}");
            for date in folders(&path, "date=")? {
                let path = format!("{path}/{date}");
                found.insert((date, path.clone()), path);
            }
        }
    }
    if found.is_empty() {
        let message = format!("there is no dataset (`type=…/venue=…/date=…`) in `{}`", shelf.shown("").trim_end_matches('/'));
        return Err(SinkError::new(SinkErrorKind::Permanent, message));
    }
    Ok(found)
}

/// How the folders of a dataset begin.
const TYPE: &str = "type=";

fn read_partition(shelf: &impl Shelf, path: &str, out: &mut Out) -> Result<(), Stop> {
    shelf.hold(true)?;
    let mut names = shelf.files(path)?;
    names.retain(|name| name.ends_with(SUFFIX));
    // What cannot be made out comes last, and is told when it is read.
    let begins = |path: &str| shelf.metadata(path).ok().flatten().and_then(|metadata| begin(&metadata)).unwrap_or(i64::MAX);
    let mut paths: Vec<String> = names.into_iter().map(|name| format!("{path}/{name}")).collect();
    paths.sort_by_cached_key(|path| (begins(path), path.clone()));
    for path in paths {
        match read_file(shelf, &path, out) {
            Err(Stop::Fault(error)) => out.give(Err(error))?,
            other => other?,
        }
    }
    Ok(shelf.hold(false)?)
}

fn read_file(shelf: &impl Shelf, path: &str, out: &mut Out) -> Result<(), Stop> {
    let reader = shelf.open(path)?;
    let shown = shelf.shown(path);
    let form = Form::of(reader.metadata()).map_err(|why| SinkError::new(SinkErrorKind::Permanent, format!("cannot read `{shown}`: {why}")))?;
    let mut lines = Lines { file: &shown, out, bytes: Vec::new(), told: 0, count: 0, bad: 0 };
    let read = read_rows(&*reader, &form, &mut lines);
    lines.tell()?;
    let (count, bad) = (lines.count, lines.bad);
    if bad > 0 {
        let message = format!("cannot read all of `{shown}`: {bad} of its rows are no events (each is named in the log)");
        out.give(Err(SinkError::new(SinkErrorKind::Permanent, message)))?;
    }
    match read {
        Err(RowFault::Gone) => Err(Stop::Gone),
        Err(RowFault::Broken(error)) => Err(broken(&format!("cannot read `{shown}` beyond row {count}"), &error).into()),
        Ok(()) => Ok(()),
    }
}

/// Why no further row was read.
enum RowFault {
    Gone,
    Broken(ParquetError),
}

impl From<Gone> for RowFault {
    fn from(Gone: Gone) -> Self {
        Self::Gone
    }
}

impl From<ParquetError> for RowFault {
    fn from(error: ParquetError) -> Self {
        Self::Broken(error)
    }
}

fn read_rows(reader: &dyn FileReader, form: &Form, lines: &mut Lines<'_>) -> Result<(), RowFault> {
    for group in 0..reader.num_row_groups() {
        for row in reader.get_row_group(group)?.get_row_iter(None)? {
            let (row, whole) = (row?, lines.bytes.len());
            form.write(&row, &mut lines.bytes).inspect_err(|_| lines.bytes.truncate(whole))?;
            lines.count += 1;
            if lines.bytes.len() >= BATCH_BYTES {
                lines.tell()?;
            }
        }
    }
    Ok(())
}

/// The lines of a file.
struct Lines<'a> {
    file: &'a str,
    out: &'a mut Out,
    /// Those that were not handed on yet.
    bytes: Vec<u8>,
    /// How many were.
    told: usize,
    count: usize,
    /// How many of those that were handed on are no events.
    bad: usize,
}

impl Lines<'_> {
    fn tell(&mut self) -> Result<(), Gone> {
        if !self.bytes.is_empty() {
            self.bad += self.out.tell(std::mem::take(&mut self.bytes), self.file, self.told)?;
            self.told = self.count;
        }
        Ok(())
    }
}

/// A directory.
struct Folder {
    root: PathBuf,
    /// Who merges files waits for it. Where there is none, nobody does.
    lock: Option<File>,
}

impl Folder {
    fn entries(&self, path: &str, wanted: impl Fn(&fs::DirEntry) -> bool) -> Result<Vec<String>, SinkError> {
        let at = self.root.join(path);
        let listed = || -> io::Result<Vec<String>> {
            let mut names = Vec::new();
            for entry in fs::read_dir(&at)? {
                let entry = entry?;
                if wanted(&entry) {
                    names.push(entry.file_name().to_string_lossy().into_owned());
                }
            }
            Ok(names)
        };
        listed().map_err(|error| SinkError::io(&format!("cannot read `{}`", at.display()), error))
    }
}

impl Shelf for Folder {
    fn folders(&self, path: &str) -> Result<Vec<String>, SinkError> {
        self.entries(path, |entry| entry.path().is_dir())
    }

    fn files(&self, path: &str) -> Result<Vec<String>, SinkError> {
        self.entries(path, |_| true)
    }

    fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError> {
        let path = self.root.join(path);
        let file = File::open(&path).map_err(|error| SinkError::io(&format!("cannot read `{}`", path.display()), error))?;
        Ok(encode::metadata(&file).ok())
    }

    fn open(&self, path: &str) -> Result<Box<dyn FileReader>, SinkError> {
        let path = self.root.join(path);
        let what = || format!("cannot read `{}`", path.display());
        let file = File::open(&path).map_err(|error| SinkError::io(&what(), error))?;
        Ok(Box::new(SerializedFileReader::new(file).map_err(|error| broken(&what(), &error))?))
    }

    fn shown(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    fn hold(&self, hold: bool) -> Result<(), SinkError> {
        let Some(lock) = &self.lock else { return Ok(()) };
        let done = if hold { lock.lock_shared() } else { lock.unlock() };
        done.map_err(|error| SinkError::io(&format!("cannot lock `{}`", self.root.join(LOCK).display()), error))
    }
}

impl Origin for DirectoryTarget {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        let lock = File::open(self.directory.join(LOCK)).ok();
        let folder = Folder { root: self.directory.clone(), lock };
        // What is wrong with the directory shows now.
        partitions(&folder)?;
        start(&format!("parquet:{}", self.directory.display()), reading, || Ok(folder))
    }
}

/// Whether a directory holds a dataset.
pub(crate) fn is_dataset(path: &Path) -> bool {
    let folder = Folder { root: path.to_owned(), lock: None };
    folder.folders("").is_ok_and(|folders| folders.iter().any(|folder| folder.starts_with(TYPE)))
}

#[cfg(test)]
mod tests;
