//! Reading a ledger, whatever became of its files.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;
use std::sync::Arc;

use exchange_core::ledger::{Account, Hour, Key, Kind};
use exchange_core::{Market, Time};

use super::{Line, PART, VERSION, is_closed, stored};
use crate::state::StateDir;

/// A collector's ledger, as it was read.
#[derive(Debug, Default)]
pub struct Ledger {
    /// Its runs, by their numbers.
    pub runs: BTreeMap<i64, Run>,
    /// What is wrong with the files: rows are missing or cannot be understood.
    pub problems: Vec<String>,
    /// What was left out, and is no sign of harm.
    pub notes: Vec<String>,
    /// Whether the collector is running: its last run goes on.
    pub running: bool,
}

/// One run of a collector.
#[derive(Debug, Default)]
pub struct Run {
    /// The names of its sinks.
    pub sinks: Vec<String>,
    /// Its rows.
    pub rows: Account,
    /// Rows that were added up under the name `*` because they balance.
    pub settled: Account,
    /// Until when its rows are known.
    pub known_until: Time,
    /// Whether it ended in an orderly way.
    pub ended: bool,
    /// The takes of rows that were read.
    pub(super) takes: Option<(u64, u64)>,
}

/// The names of the collectors that have a ledger in this state directory.
///
/// # Errors
/// Where the directory cannot be read.
pub fn names(state: &Path) -> io::Result<Vec<String>> {
    let entries = match std::fs::read_dir(state.join(PART)) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry?;
        if let (true, Some(name)) = (entry.file_type()?.is_dir(), entry.file_name().to_str()) {
            names.push(name.to_owned());
        }
    }
    names.sort();
    Ok(names)
}

/// Reads a collector's ledger. Only rows of `hours` are read, and only those that are to be `seen` one by one keep their
/// names once they balance: the rest of a long ledger would not fit into memory.
///
/// # Errors
/// Where a file cannot be read.
pub fn read(state: &Path, name: &str, hours: &dyn Fn(Hour) -> bool, seen: &dyn Fn(&Key) -> bool) -> io::Result<Ledger> {
    let directory = state.join(PART).join(name);
    let mut ledger = Ledger { running: StateDir::is_running(state, name), ..Ledger::default() };
    let files = stored(&directory)?;
    for (at, (hour, path)) in files.iter().enumerate() {
        // The closed file of an hour has all that the other has, which is about to be removed.
        if files.get(at + 1).is_some_and(|(next, _)| next == hour) {
            continue;
        }
        match ledger.add_file(path, hours) {
            Err(error) if error.kind() == io::ErrorKind::NotFound && !is_closed(path) => {
                // It was closed in the meantime.
                ledger.add_file(&path.with_extension("ndjson.zst"), hours)?;
            }
            added => added?,
        }
        // Rows may come an hour late, if they came at its end; a sink in trouble may be later still, but until then its
        // rows do not balance.
        for run in ledger.runs.values_mut() {
            run.rows.settle(hour.plus(-1), &mut run.settled, seen);
        }
    }
    // It may have begun while its files were read.
    ledger.running |= StateDir::is_running(state, name);
    Ok(ledger)
}

impl Ledger {
    /// The run that goes on.
    pub fn is_open(&self, run: i64) -> bool {
        self.running && self.runs.last_key_value().is_some_and(|(last, read)| *last == run && !read.ended)
    }

    /// Adds what a file says of these hours.
    pub(super) fn add_file(&mut self, path: &Path, hours: &dyn Fn(Hour) -> bool) -> io::Result<()> {
        let file = File::open(path)?;
        let mut lines: Box<dyn BufRead> = if is_closed(path) { Box::new(BufReader::new(zstd::Decoder::new(file)?)) } else { Box::new(BufReader::new(file)) };
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut reading = Reading { ledger: self, hours, name, number: 0, rows: Account::default(), count: 0 };
        let mut line = Vec::new();
        loop {
            line.clear();
            reading.number += 1;
            match lines.read_until(b'\n', &mut line) {
                Ok(0) => break,
                Ok(_) => {}
                Err(error) if is_closed(path) => {
                    reading.wrong(&error);
                    return Ok(());
                }
                Err(error) => return Err(error),
            }
            if !reading.line(&line) {
                return Ok(());
            }
        }
        reading.end();
        Ok(())
    }
}

/// A file that is being read.
struct Reading<'l> {
    ledger: &'l mut Ledger,
    hours: &'l dyn Fn(Hour) -> bool,
    /// The file's name, and the number of the line, for what is wrong with it.
    name: String,
    number: u64,
    /// The rows of a take, until it is known to be whole, and how many lines they have.
    rows: Account,
    count: u64,
}

impl Reading<'_> {
    fn wrong(&mut self, what: &dyn fmt::Display) {
        self.ledger.problems.push(format!("{}:{}: {what}", self.name, self.number));
    }

    /// Takes a line; whether this program understands those that follow.
    fn line(&mut self, line: &[u8]) -> bool {
        let parsed = match serde_json::from_slice::<Line<'_>>(line) {
            Ok(parsed) if line.ends_with(b"\n") => parsed,
            Err(error) if line.ends_with(b"\n") => {
                self.wrong(&format_args!("not a row of a ledger: {error}"));
                return true;
            }
            // Nothing can follow.
            _ => {
                self.count += 1;
                return true;
            }
        };
        match parsed {
            Line::Begin { ledger, .. } if ledger != VERSION => {
                self.wrong(&format_args!("written in version {ledger} of the format, and this program knows version {VERSION}"));
                return false;
            }
            Line::Begin { run, sinks, .. } => self.begin(run, sinks.into_owned()),
            Line::Venue { hour, venue, market, channel, counts, .. } => {
                if let Some(key) = self.row(group(&hour, &venue, &market, &channel)) {
                    self.rows.add_entries(named(&key, counts));
                }
            }
            Line::Sink { sink, hour, venue, market, channel, counts, .. } => {
                if let Some(key) = self.row(group(&hour, &venue, &market, &channel)) {
                    self.rows.add_shares(&sink, named(&key, counts));
                }
            }
            Line::Taken { run, first, last, lines, at } => self.taken(run, (first, last), lines, at),
            Line::End { run, at } => {
                let known = self.ledger.runs.entry(run).or_default();
                known.ended = true;
                known.known_until = known.known_until.max(Time::from_micros(at));
            }
        }
        true
    }

    fn begin(&mut self, run: i64, sinks: Vec<String>) {
        let left = std::mem::take(&mut self.count);
        if left > 0 {
            self.wrong(&format_args!("{left} rows before it belong to no take"));
            self.rows = Account::default();
        }
        let known = self.ledger.runs.entry(run).or_default();
        known.known_until = known.known_until.max(Time::from_micros(run));
        for sink in &sinks {
            known.rows.add_shares(sink, []);
        }
        known.sinks = sinks;
    }

    /// Counts a line of rows; their key, if they are of an hour that is asked for.
    fn row(&mut self, key: Option<Key>) -> Option<Key> {
        self.count += 1;
        if key.is_none() {
            self.wrong(&"not a row of a ledger: its hour, market or channel is none");
        }
        key.filter(|key| (self.hours)(key.hour))
    }

    /// The rows so far are those of these takes.
    fn taken(&mut self, run: i64, (first, last): (u64, u64), lines: u64, at: i64) {
        let (rows, count) = (std::mem::take(&mut self.rows), std::mem::take(&mut self.count));
        if lines != count {
            self.wrong(&format_args!("{count} rows were read where {lines} were written"));
        }
        let Some(known) = self.ledger.runs.get_mut(&run) else {
            return self.wrong(&"rows of a run that has no beginning");
        };
        let before = known.takes;
        known.takes = Some((before.map_or(first, |(first, _)| first), last));
        known.known_until = known.known_until.max(Time::from_micros(at));
        known.rows.add(rows);
        if let Some((_, before)) = before.filter(|(_, before)| first != before + 1) {
            self.wrong(&format_args!("takes {} to {} of rows are missing", before + 1, first.saturating_sub(1)));
        }
    }

    fn end(self) {
        // Where the collector runs, the rest of it is being written.
        if self.count > 0 && !self.ledger.running {
            self.ledger.notes.push(format!("{}: its last {} lines are half a take of rows, and are left out", self.name, self.count));
        }
    }
}

/// The key of a line's rows, but for their names.
fn group(hour: &str, venue: &str, market: &str, channel: &str) -> Option<Key> {
    Some(Key { hour: Hour::parse(hour)?, venue: venue.into(), kind: Kind::parse(channel)?, market: Market::parse(market)?, name: Arc::from("") })
}

fn named<T>(key: &Key, counts: BTreeMap<Cow<'_, str>, T>) -> impl Iterator<Item = (Key, T)> {
    counts.into_iter().map(|(name, counts)| (Key { name: (&*name).into(), ..key.clone() }, counts))
}
