//! `collector decode`: captures in, events out, no network.

use std::collections::HashMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use exchange_core::{Body, Event, Latest, Offline, Sealer, Venue};

use crate::run::Usage;

/// Events are written when there are so many bytes of them.
const BLOCK: usize = 1 << 18;

/// Decodes files, or standard input without one. `fold` makes each state whole.
pub(crate) fn run(venues: Vec<Venue>, files: &[PathBuf], lenient: bool, fold: bool) -> anyhow::Result<ExitCode> {
    let mut decoder = Decoder {
        offline: Offline::new(venues),
        sealer: Sealer::default(),
        latest: fold.then(Default::default),
        events: Vec::new(),
        lines: Vec::new(),
        out: Vec::new(),
        failed: false,
    };
    files.iter().try_for_each(|path| look_for(path))?;
    // What came before a fault is written all the same: the process that captured may have been killed.
    let read = decoder.read_all(files);
    decoder.write()?;
    read?;
    Ok(if decoder.failed && !lenient { ExitCode::from(3) } else { ExitCode::SUCCESS })
}

/// A name that is wrong shall not be found out after hours of decoding what came before it. (They are not opened all at
/// once: they may be more than a process may have open.)
fn look_for(path: &Path) -> Result<(), Usage> {
    match std::fs::metadata(path) {
        Ok(file) if file.is_dir() => Err(Usage(format!("{} is a directory: name the captures in it", path.display()))),
        Ok(_) => Ok(()),
        Err(error) => Err(Usage(format!("cannot open {}: {error}", path.display()))),
    }
}

struct Decoder {
    offline: Offline,
    sealer: Sealer,
    /// The last known values of each venue, with `--fold`.
    latest: Option<HashMap<Arc<str>, Latest>>,
    events: Vec<Event>,
    /// For each line that gave events: its number, and how many events there are up to its end.
    lines: Vec<(u64, usize)>,
    out: Vec<u8>,
    failed: bool,
}

impl Decoder {
    fn read_all(&mut self, files: &[PathBuf]) -> anyhow::Result<()> {
        if files.is_empty() {
            self.read(io::stdin().lock(), "standard input")?;
        }
        for path in files {
            let name = path.display().to_string();
            let file = File::open(path).with_context(|| format!("cannot open {name}"))?;
            if path.extension().is_some_and(|ending| ending == "zst") {
                self.read(zstd::Decoder::new(file)?, &name)?;
            } else {
                self.read(file, &name)?;
            }
        }
        Ok(())
    }

    fn read(&mut self, input: impl Read, name: &str) -> anyhow::Result<()> {
        let mut input = BufReader::with_capacity(BLOCK, input);
        let mut line = Vec::new();
        let mut number = 0;
        loop {
            line.clear();
            if input.read_until(b'\n', &mut line).with_context(|| format!("cannot read {name}"))? == 0 {
                return Ok(());
            }
            number += 1;
            if line.trim_ascii().is_empty() {
                continue;
            }
            self.offline.line(line.trim_ascii_end(), &mut self.events);
            self.lines.push((number, self.events.len()));
            if self.events.len() >= 512 {
                self.write()?;
            }
        }
    }

    fn write(&mut self) -> anyhow::Result<()> {
        if let Some(latest) = &mut self.latest {
            for event in &mut self.events {
                let latest = latest.entry(event.instrument.venue.clone()).or_default();
                latest.update(event);
                latest.fold(event);
            }
        }
        self.sealer.seal(&mut self.events);
        let mut from = 0;
        for &(number, to) in &self.lines {
            for event in self.events.get(from..to).unwrap_or_default() {
                self.failed |= matches!(event.body, Body::DecodeError(_));
                event.write_json(Some(number), &mut self.out);
                self.out.push(b'\n');
            }
            from = to;
        }
        self.events.clear();
        self.lines.clear();
        let written = io::stdout().lock().write_all(&self.out);
        self.out.clear();
        written.context("cannot write to standard output")
    }
}
