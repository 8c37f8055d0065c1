//! The ledger's files: `STATE_DIR/ledger/NAME/2026-01-05T13.ndjson`, one for each hour in which rows were written.
//!
//! While its hour lasts, a file only grows: each take of rows is one write, closed by a line that says how many rows it
//! has. When the hour is over, its rows are added up and the file is replaced, whole, by `….ndjson.zst`, which is
//! hundreds of times smaller (200 instruments with 4 channels: some 5 MB, and then 5 kB). Files are kept for [`KEEP`]; a file that cannot be understood is left as it is.
//!
//! The lines, each an object with one key:
//!
//! | line | says |
//! | --- | --- |
//! | `begin` | `ledger`: the format's version, 1; `run`: when the run began (microseconds), which is its number; its `sinks` |
//! | `venue` | the venues' side of the rows of an `hour`, `venue`, `market` and `channel` (the event's type), by instrument |
//! | `sink` | the same of a `sink`'s side |
//! | `taken` | ends the rows of the takes `first` to `last` (takes are numbered from 1): so many `lines`, known `at` |
//! | `end` | the run ended in an orderly way |

mod read;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Write as _};
use std::path::{Path, PathBuf};

use exchange_core::Time;
use exchange_core::ledger::{Account, Entry, Hour, Key, Share};
use serde::{Deserialize, Serialize};

pub use self::read::{Ledger, Run, names, read};

/// The version of the format.
const VERSION: u32 = 1;
/// How many hours' files are kept.
const KEEP: i64 = 90 * 24;
/// The directory in the state directory.
pub(crate) const PART: &str = "ledger";
/// How hard files of hours that are over are compressed.
const LEVEL: i32 = 9;

/// A line, as the table above says. Times are in microseconds.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
enum Line<'a> {
    Begin {
        ledger: u32,
        run: i64,
        sinks: Cow<'a, [String]>,
    },
    Venue {
        run: i64,
        hour: Cow<'a, str>,
        venue: Cow<'a, str>,
        market: Cow<'a, str>,
        channel: Cow<'a, str>,
        counts: BTreeMap<Cow<'a, str>, Entry>,
    },
    Sink {
        run: i64,
        sink: Cow<'a, str>,
        hour: Cow<'a, str>,
        venue: Cow<'a, str>,
        market: Cow<'a, str>,
        channel: Cow<'a, str>,
        counts: BTreeMap<Cow<'a, str>, Share>,
    },
    Taken {
        run: i64,
        first: u64,
        last: u64,
        lines: u64,
        at: i64,
    },
    End {
        run: i64,
        at: i64,
    },
}

/// Appends the lines of an account; how many.
fn write_rows(run: i64, rows: &Account, out: &mut Vec<u8>) -> io::Result<u64> {
    let mut lines = 0;
    for (group, counts) in groups(&rows.entries) {
        let (hour, market, channel) = (group.hour.to_string().into(), group.market.as_str().into(), group.kind.as_str().into());
        write_line(&Line::Venue { run, hour, venue: (&*group.venue).into(), market, channel, counts }, out)?;
        lines += 1;
    }
    for (sink, shares) in &rows.sinks {
        for (group, counts) in groups(shares) {
            let (hour, market, channel) = (group.hour.to_string().into(), group.market.as_str().into(), group.kind.as_str().into());
            write_line(&Line::Sink { run, sink: sink.into(), hour, venue: (&*group.venue).into(), market, channel, counts }, out)?;
            lines += 1;
        }
    }
    Ok(lines)
}

/// Rows that differ in their names alone stand side by side.
fn groups<T: Copy>(rows: &BTreeMap<Key, T>) -> Vec<(&Key, BTreeMap<Cow<'_, str>, T>)> {
    let mut groups: Vec<(&Key, BTreeMap<Cow<'_, str>, T>)> = Vec::new();
    for (key, counts) in rows {
        let name = Cow::Borrowed(&*key.name);
        match groups.last_mut() {
            Some((group, members)) if (group.hour, &group.venue, group.kind, group.market) == (key.hour, &key.venue, key.kind, key.market) => {
                members.insert(name, *counts);
            }
            _ => groups.push((key, BTreeMap::from([(name, *counts)]))),
        }
    }
    groups
}

fn write_line(line: &Line<'_>, out: &mut Vec<u8>) -> io::Result<()> {
    serde_json::to_writer(&mut *out, line)?;
    out.push(b'\n');
    Ok(())
}

/// A run's ledger, open for its rows.
pub(crate) struct Writer {
    directory: PathBuf,
    run: i64,
    sinks: Vec<String>,
    hour: Hour,
    file: File,
    /// How much of the file is whole.
    length: u64,
    takes: u64,
    /// Rows that are not written yet.
    rows: Account,
}

impl Writer {
    /// Opens a ledger in its directory, for a run that begins now.
    ///
    /// # Errors
    /// Where its file cannot be made.
    pub(crate) fn open(directory: PathBuf, now: Time, sinks: Vec<String>) -> io::Result<Self> {
        // A clock that was set back does not lead back into an hour that is closed.
        let newest = stored(&directory)?.into_iter().map(|(hour, path)| if is_closed(&path) { hour.plus(1) } else { hour }).max();
        let hour = newest.map_or(Hour::of(now), |newest| newest.max(Hour::of(now)));
        let run = now.micros();
        let (file, length) = begin(&directory, hour, run, &sinks)?;
        tidy(&directory, hour);
        Ok(Self { directory, run, sinks, hour, file, length, takes: 0, rows: Account::default() })
    }

    /// The rows that the next [`Writer::append`] writes.
    pub(crate) fn rows(&mut self) -> &mut Account {
        &mut self.rows
    }

    /// Writes the rows, and, if they are the `last`, that the run has ended.
    ///
    /// # Errors
    /// What kept them from the file. They are kept, for the next time.
    pub(crate) fn append(&mut self, now: Time, last: bool) -> io::Result<()> {
        let hour = Hour::of(now);
        if hour > self.hour {
            (self.file, self.length) = begin(&self.directory, hour, self.run, &self.sinks)?;
            self.hour = hour;
            tidy(&self.directory, hour);
        }
        let mut text = Vec::new();
        let taken = !self.rows.is_empty();
        if taken {
            let lines = write_rows(self.run, &self.rows, &mut text)?;
            let number = self.takes + 1;
            write_line(&Line::Taken { run: self.run, first: number, last: number, lines, at: now.micros() }, &mut text)?;
        }
        if last {
            write_line(&Line::End { run: self.run, at: now.micros() }, &mut text)?;
        }
        if let Err(error) = self.file.write_all(&text) {
            // Half a take must not stay, since the whole one will be written again.
            self.file.set_len(self.length)?;
            return Err(error);
        }
        self.length += text.len() as u64;
        self.takes += u64::from(taken);
        self.rows = Account::default();
        if last { self.file.sync_data() } else { Ok(()) }
    }
}

/// Opens an hour's file at its end and says whose rows follow.
fn begin(directory: &Path, hour: Hour, run: i64, sinks: &[String]) -> io::Result<(File, u64)> {
    let path = directory.join(format!("{hour}.ndjson"));
    let mut file = File::options().create(true).append(true).read(true).open(&path)?;
    // A process that was killed may have left half a take behind.
    let whole = whole_length(&mut BufReader::new(&file))?;
    if whole < file.metadata()?.len() {
        tracing::warn!(path = %path.display(), "the last rows of the ledger were not written to their end: they are left out");
        file.set_len(whole)?;
    }
    let mut text = Vec::new();
    write_line(&Line::Begin { ledger: VERSION, run, sinks: sinks.into() }, &mut text)?;
    if let Err(error) = file.write_all(&text) {
        file.set_len(whole)?;
        return Err(error);
    }
    Ok((file, whole + text.len() as u64))
}

/// Where the last whole take, beginning or end is over.
fn whole_length(file: &mut impl BufRead) -> io::Result<u64> {
    let (mut at, mut whole) = (0, 0);
    let mut line = Vec::new();
    while file.read_until(b'\n', &mut line)? > 0 {
        at += line.len() as u64;
        let closes = [&b"{\"begin\""[..], b"{\"taken\"", b"{\"end\""].iter().any(|start| line.starts_with(start));
        if closes && line.ends_with(b"}\n") {
            whole = at;
        }
        line.clear();
    }
    Ok(whole)
}

/// The files of a ledger by their hours, in order; of two of one hour, the closed one comes last.
fn stored(directory: &Path) -> io::Result<Vec<(Hour, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stamp = name.strip_suffix(".zst").unwrap_or(name).strip_suffix(".ndjson");
        if let Some(hour) = stamp.and_then(Hour::parse) {
            files.push((hour, path));
        }
    }
    files.sort();
    Ok(files)
}

fn is_closed(path: &Path) -> bool {
    path.extension().is_some_and(|ending| ending == "zst")
}

/// Closes the files of hours before this one, and removes those that are too old. Failing at it costs space alone.
fn tidy(directory: &Path, hour: Hour) {
    let tidied = stored(directory).and_then(|files| {
        for (at, path) in files {
            if at < hour.plus(-KEEP) {
                std::fs::remove_file(path)?;
            } else if at < hour && !is_closed(&path) {
                close(&path)?;
            }
        }
        Ok(())
    });
    if let Err(error) = tidied {
        tracing::warn!(directory = %directory.display(), %error, "cannot close older files of the ledger");
    }
}

/// Replaces a file by one of the same rows, added up and compressed.
fn close(path: &Path) -> io::Result<()> {
    let mut read = Ledger::default();
    read.add_file(path, &|_| true)?;
    if let Some(problem) = read.problems.first() {
        // It stays, for whoever wants to know what happened to it.
        tracing::warn!("the ledger is left as it is: {problem}");
        return Ok(());
    }
    let mut text = Vec::new();
    for (run, read) in &read.runs {
        write_line(&Line::Begin { ledger: VERSION, run: *run, sinks: Cow::Borrowed(&read.sinks) }, &mut text)?;
        let lines = write_rows(*run, &read.rows, &mut text)?;
        if let Some((first, last)) = read.takes {
            write_line(&Line::Taken { run: *run, first, last, lines, at: read.known_until.micros() }, &mut text)?;
        }
        if read.ended {
            write_line(&Line::End { run: *run, at: read.known_until.micros() }, &mut text)?;
        }
    }
    let mut closed = path.as_os_str().to_owned();
    closed.push(".zst");
    let mut being_written = closed.clone();
    being_written.push(".tmp");
    let mut out = zstd::Encoder::new(File::create(&being_written)?, LEVEL)?;
    out.write_all(&text)?;
    out.finish()?.sync_data()?;
    std::fs::rename(&being_written, &closed)?;
    std::fs::remove_file(path)
}

#[cfg(test)]
mod tests;
