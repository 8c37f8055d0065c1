//! `collector decode`: captures in, events out, no network.

use std::collections::HashMap;
use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use exchange_core::{Body, Event, Latest, Offline, Sealer, Venue};

use crate::captures::{Captures, Line};
use crate::logging::say;

/// Events are written when there are so many of them.
const TOGETHER: usize = 512;

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
    let mut captures = Captures::open(files)?;
    // What can be read is decoded, whatever stands between: the process that captured may have been killed.
    let mut complete = true;
    loop {
        match captures.next() {
            Ok(Some(line)) => decoder.take(line)?,
            Ok(None) => break,
            Err(error) => {
                say!("{error:#}");
                complete = false;
            }
        }
    }
    decoder.write()?;
    Ok(match (complete && captures.torn() == 0, decoder.failed && !lenient) {
        (false, _) => ExitCode::FAILURE,
        (true, failed) => ExitCode::from(if failed { 3 } else { 0 }),
    })
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
    fn take(&mut self, line: Line<'_>) -> anyhow::Result<()> {
        self.offline.line(line.text, &mut self.events);
        self.lines.push((line.number, self.events.len()));
        if self.events.len() >= TOGETHER { self.write() } else { Ok(()) }
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
