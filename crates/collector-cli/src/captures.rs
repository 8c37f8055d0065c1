//! Files of captures, read one after another: whole ones, and those that a killed collector left behind.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use exchange_core::capture::Capture;
use exchange_sinks::{Lines, Rest};

use crate::logging::say;
use crate::run::Usage;

/// Lines that are no captures are named one by one up to this number, then counted.
const NAMED: u64 = 10;

/// The lines of files, or of standard input without one.
pub(crate) struct Captures {
    /// Those that come next.
    files: VecDeque<PathBuf>,
    current: Option<Current>,
    /// Whole lines of the current file, and how far they were given.
    lines: Vec<u8>,
    at: usize,
    /// Files that end within a block.
    torn: usize,
    /// Lines that are no captures, or of venues that are not known.
    strange: u64,
}

struct Current {
    name: String,
    lines: Lines<Box<dyn Read + Send>>,
    /// The lines that were given.
    count: u64,
    ended: bool,
}

/// A line of a file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Line<'a> {
    /// The file's name.
    pub(crate) file: &'a str,
    /// Counted from 1.
    pub(crate) number: u64,
    /// Without its end; never empty.
    pub(crate) text: &'a [u8],
}

impl Captures {
    /// The files of these names; of a directory, all its captures in the order of their names, which is that of their
    /// times. Standard input if there is no name at all.
    ///
    /// # Errors
    /// A name that is wrong: it shall not be found out after hours of decoding what came before it. (They are not opened all
    /// at once: they may be more than a process may have open.)
    pub(crate) fn open(names: &[PathBuf]) -> Result<Self, Usage> {
        let mut files = VecDeque::new();
        for name in names {
            match std::fs::metadata(name) {
                Ok(file) if file.is_dir() => {
                    let found = in_directory(name).map_err(|error| Usage(format!("cannot read {}: {error}", name.display())))?;
                    if found.is_empty() {
                        return Err(Usage(format!("there are no captures in {} (`*.ndjson`, `*.ndjson.zst`)", name.display())));
                    }
                    files.extend(found);
                }
                Ok(_) => files.push_back(name.clone()),
                Err(error) => return Err(Usage(format!("cannot open {}: {error}", name.display()))),
            }
        }
        let current = files.is_empty().then(|| Current::new("standard input".into(), Box::new(io::stdin())));
        Ok(Self { files, current, lines: Vec::new(), at: 0, torn: 0, strange: 0 })
    }

    /// How many files ended within a block so far: their writers were killed, or still write.
    pub(crate) fn torn(&self) -> usize {
        self.torn
    }

    /// How many lines were no captures of known venues so far.
    pub(crate) fn strange(&self) -> u64 {
        self.strange
    }

    /// Reads the next capture of a `known` venue; `false` at the end. Lines that are none are named on standard error, the first
    /// of them.
    ///
    /// # Errors
    /// As [`Captures::next`].
    pub(crate) fn next_capture(&mut self, capture: &mut Capture, known: &[String]) -> anyhow::Result<bool> {
        loop {
            let Some(line) = self.next()? else { return Ok(false) };
            let what = match capture.read(line.text) {
                Ok(()) if known.contains(&capture.venue) => return Ok(true),
                Ok(()) => format!("{}:{}: `{}` is no venue that is known here ({})", line.file, line.number, capture.venue, known.join(", ")),
                Err(error) => format!("{}:{}: {error}", line.file, line.number),
            };
            self.strange += 1;
            if self.strange <= NAMED {
                say!("{what}");
            }
        }
    }

    /// The next line that is not empty; `None` at the end of the last file.
    ///
    /// # Errors
    /// A file that cannot be read: the next call goes on with the one behind it.
    pub(crate) fn next(&mut self) -> anyhow::Result<Option<Line<'_>>> {
        let (start, end) = loop {
            let rest = self.lines.get(self.at..).unwrap_or_default();
            let Some(length) = memchr::memchr(b'\n', rest) else {
                if !self.read()? {
                    return Ok(None);
                }
                continue;
            };
            let start = self.at;
            self.at += length + 1;
            if let Some(current) = &mut self.current {
                current.count += 1;
            }
            if !rest.get(..length).unwrap_or_default().trim_ascii().is_empty() {
                break (start, start + length);
            }
        };
        let text = self.lines.get(start..end).unwrap_or_default().trim_ascii_end();
        Ok(self.current.as_ref().map(|current| Line { file: &current.name, number: current.count, text }))
    }

    /// Reads on. `false` at the end of everything.
    fn read(&mut self) -> anyhow::Result<bool> {
        self.lines.clear();
        self.at = 0;
        if self.current.as_ref().is_none_or(|current| current.ended) {
            let Some(path) = self.files.pop_front() else { return Ok(false) };
            self.current = None;
            let name = path.display().to_string();
            let file = File::open(&path).with_context(|| format!("cannot open {name}"))?;
            self.current = Some(Current::new(name, Box::new(file)));
        }
        let Some(current) = &mut self.current else { return Ok(false) };
        match current.lines.read(&mut self.lines) {
            Ok(true) => {}
            Ok(false) => {
                current.ended = true;
                match current.lines.rest() {
                    Rest::Nothing => {}
                    Rest::Line(line) => {
                        self.lines.extend(line);
                        self.lines.push(b'\n');
                    }
                    Rest::Torn => {
                        self.torn += 1;
                        say!("{}: ends within a block, behind line {}: its writer was killed, or still writes", current.name, current.count);
                    }
                }
            }
            Err(error) => {
                current.ended = true;
                return Err(error).with_context(|| format!("cannot read {} beyond line {}", current.name, current.count));
            }
        }
        Ok(true)
    }
}

impl Current {
    fn new(name: String, input: Box<dyn Read + Send>) -> Self {
        Self { name, lines: Lines::new(input), count: 0, ended: false }
    }
}

/// The captures of a directory, oldest first.
fn in_directory(path: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(path)?.map(|entry| entry.map(|entry| entry.path())).collect::<Result<_, _>>()?;
    files.retain(|file| file.file_name().is_some_and(|name| [".ndjson", ".ndjson.zst"].iter().any(|end| name.to_string_lossy().ends_with(end))));
    files.sort();
    Ok(files)
}
