//! Events out of files: those of a `file:` sink, any other file of event lines, standard input.
//!
//! Files may be whole, torn by the death of their writer, or still being written; a line that is no event is named in the log and
//! left out.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::lines::{Lines, Rest};
use crate::source::background::{Background, Gone, Out};
use crate::source::{Origin, Reading, Since, Source};

/// How often files that may grow are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// A file that has not grown for so long, and is not the newest, is not being written any more.
const LEFT: Duration = Duration::from_secs(10);

/// Reads `file:DIR` or `file:FILE`.
pub(crate) fn directory(address: Address) -> Result<Arc<dyn Origin>, SinkError> {
    let path = address.path().ok_or_else(|| address.wrong("it lacks a directory or a file (such as `file:./data`)"))?.into();
    let name = address.shown();
    address.end()?;
    Ok(Arc::new(Place { name, path }))
}

/// Reads `stdin:`.
pub(crate) fn stdin(address: Address) -> Result<Arc<dyn Origin>, SinkError> {
    address.nothing_behind()?;
    address.end()?;
    Ok(Arc::new(Stdin))
}

#[derive(Debug)]
struct Stdin;

impl Origin for Stdin {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        // What comes through a pipe has no past.
        Background::start("stdin:", reading.from, |out| {
            let mut file = OpenFile::new("standard input".to_owned(), io::stdin());
            while out.read_some(&mut file, true)? {}
            out.end(file)
        })
    }
}

#[derive(Debug)]
struct Place {
    name: String,
    path: PathBuf,
}

impl Origin for Place {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        // What cannot be read shows now.
        let found = list(&self.path)?;
        if found.is_empty() && !reading.follow {
            let message = format!("there are no files of event lines (`*.ndjson`, `*.ndjson.zst`) in `{}`", self.path.display());
            return Err(SinkError::new(SinkErrorKind::Permanent, message));
        }
        let path = self.path.clone();
        Background::start(
            &self.name,
            reading.from,
            move |out| if reading.follow { follow(&path, found, reading.from, out) } else { read_all(found, reading.from, out) },
        )
    }
}

/// The files of event lines of a directory, oldest first by their names; or the one file.
pub(super) fn list(path: &Path) -> Result<Vec<PathBuf>, SinkError> {
    let fault = |error| SinkError::io(&format!("cannot read `{}`", path.display()), error);
    if path.is_file() {
        return Ok(vec![path.to_owned()]);
    }
    let mut files = Vec::new();
    for entry in std::fs::read_dir(path).map_err(fault)? {
        let file = entry.map_err(fault)?.path();
        let name = file.file_name().unwrap_or_default().to_string_lossy();
        if name.ends_with(".ndjson") || name.ends_with(".ndjson.zst") {
            files.push(file);
        }
    }
    files.sort();
    Ok(files)
}

/// When a file was last written to.
fn written(path: &Path) -> Option<SystemTime> {
    path.metadata().and_then(|file| file.modified()).ok()
}

/// Whether a file was written to just now.
fn is_recent(path: &Path) -> bool {
    written(path).is_some_and(|at| at.elapsed().is_ok_and(|ago| ago < LEFT))
}

/// Whether a file may hold what is to be read.
fn may_hold(path: &Path, from: Since) -> bool {
    let Since::Time(time) = from else { return true };
    let micros = |written: SystemTime| i64::try_from(written.duration_since(UNIX_EPOCH).unwrap_or_default().as_micros()).unwrap_or(i64::MAX);
    written(path).is_none_or(|written| micros(written) >= time.micros())
}

/// Each file to its end.
fn read_all(files: Vec<PathBuf>, from: Since, out: &mut Out) -> Result<(), Gone> {
    if from == Since::Now {
        return Ok(());
    }
    for path in files.into_iter().filter(|path| may_hold(path, from)) {
        let Some(mut file) = out.open(&path)? else { continue };
        while out.read_some(&mut file, true)? {}
        out.end(file)?;
    }
    Ok(())
}

/// Each file to its end, then what is added to the last ones and what comes after them, for ever.
fn follow(path: &Path, found: Vec<PathBuf>, from: Since, out: &mut Out) -> Result<(), Gone> {
    let newest = found.last().cloned();
    // A file of the past may still grow if it is the newest, or was written to just now: two may write.
    let grows = |path: &Path, newest: Option<&PathBuf>| newest.is_some_and(|newest| newest == path) || is_recent(path);
    // What is there now is passed over where only what comes is wanted.
    let mut told = from != Since::Now;
    let mut found: Vec<PathBuf> = found.into_iter().filter(|path| if told { may_hold(path, from) } else { grows(path, newest.as_ref()) }).collect();
    let mut seen: Option<PathBuf> = None;
    let mut open: BTreeMap<PathBuf, OpenFile<File>> = BTreeMap::new();
    loop {
        let newest = found.last().cloned();
        for path in found.drain(..) {
            if let Some(mut file) = out.open(&path)? {
                while out.read_some(&mut file, told)? {}
                // Those of the past may be more than a process may have open.
                if grows(&path, newest.as_ref()) {
                    open.insert(path.clone(), file);
                } else {
                    out.end(file)?;
                }
            }
            seen = seen.max(Some(path));
        }
        told = true;
        let last = open.keys().next_back().cloned();
        let mut left = Vec::new();
        for (path, file) in &mut open {
            while out.read_some(file, true)? {}
            if file.grown.elapsed() > LEFT && last.as_ref() != Some(path) {
                left.push(path.clone());
            }
        }
        for path in left {
            if let Some(file) = open.remove(&path) {
                out.end(file)?;
            }
        }
        if out.is_closed() {
            return Err(Gone);
        }
        thread::sleep(LOOK_EVERY);
        match list(path) {
            Ok(files) => found = files.into_iter().filter(|file| Some(file) > seen.as_ref()).collect(),
            Err(error) => return out.give(Err(error)),
        }
    }
}

/// A file that is being read.
struct OpenFile<R> {
    name: String,
    lines: Lines<R>,
    /// The lines that were read so far.
    count: usize,
    /// When the last bytes came.
    grown: Instant,
}

impl<R: Read> OpenFile<R> {
    fn new(name: String, input: R) -> Self {
        Self { name, lines: Lines::new(input), count: 0, grown: Instant::now() }
    }
}

impl Out {
    /// Opens a file. One that cannot be read is told, and is none.
    fn open(&mut self, path: &Path) -> Result<Option<OpenFile<File>>, Gone> {
        let name = path.display().to_string();
        match File::open(path) {
            Ok(file) => Ok(Some(OpenFile::new(name, file))),
            Err(error) => self.give(Err(SinkError::io(&format!("cannot read `{name}`"), error))).map(|()| None),
        }
    }

    /// Reads on; whether there may be more. What is not `told` is passed over.
    fn read_some(&mut self, file: &mut OpenFile<impl Read>, told: bool) -> Result<bool, Gone> {
        let mut lines = Vec::new();
        let more = match file.lines.read(&mut lines) {
            Ok(more) => more,
            Err(error) => {
                // Nothing behind it can be trusted.
                self.give(Err(SinkError::io(&format!("cannot read `{}` beyond line {}", file.name, file.count), error)))?;
                false
            }
        };
        if more {
            file.grown = Instant::now();
        }
        let before = file.count;
        file.count += memchr::memchr_iter(b'\n', &lines).count();
        if told {
            self.tell(lines, &file.name, before)?;
        }
        Ok(more)
    }

    /// What stands behind the last whole line.
    fn end(&mut self, mut file: OpenFile<impl Read>) -> Result<(), Gone> {
        match file.lines.rest() {
            Rest::Nothing => Ok(()),
            Rest::Line(line) => self.tell(line, &file.name, file.count).map(drop),
            Rest::Torn => {
                tracing::warn!(file = file.name, lines = file.count, "the file ends within a block: its writer was killed, or still writes");
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests;
