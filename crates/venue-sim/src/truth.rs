//! The truth: what was served, as event lines, out of the market and not out of what was sent.
//!
//! Of captures, it is what stands beside them: `FILE.events.ndjson`, as `collector decode FILE.ndjson` wrote it and somebody read
//! it. Each time that a captured line is served, its events are told, as they stand there: `t` is the time of the capture, and so
//! are the ids that cover it.
//!
//! Ids and lines are made on a thread of their own. Its queue is bounded: a connection whose events find no room waits,
//! and with it, in the end, the market. Nothing is left out.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;

use exchange_core::{Event, canonical};
use tokio::sync::mpsc::{self, Receiver, Sender};

use crate::config::Error;
use crate::hub::Frame;

/// Batches that may wait.
const WAITING: usize = 256;

/// Events that were served.
enum Told {
    Frames(Vec<Arc<Frame>>),
    Events(Vec<Event>),
    Lines(Vec<Lines>),
}

/// What a captured line says, as event lines with their ends.
pub(crate) type Lines = Arc<str>;

/// What an answer says.
#[derive(Debug)]
pub(crate) enum Facts {
    /// Out of a market.
    Events(Vec<Event>),
    /// Of a capture.
    Lines(Lines),
}

/// What is kept in memory instead of a file.
#[derive(Debug, Default)]
struct Kept {
    events: Vec<Event>,
    lines: Vec<Lines>,
}

/// The way in.
#[derive(Default)]
pub(crate) struct Truth {
    sender: Mutex<Option<Sender<Told>>>,
    kept: Option<Mutex<Kept>>,
    wanted: bool,
}

/// The writer's thread. It gives the number of lines, or why there are not more.
pub(crate) type Writer = JoinHandle<std::io::Result<u64>>;

impl Truth {
    /// Begins a file of truth; an older one is replaced.
    pub(crate) fn create(path: &Path) -> Result<(Self, Writer), Error> {
        let fault = |source| Error::File { path: path.into(), source };
        let file = File::create(path).map_err(fault)?;
        let (sender, receiver) = mpsc::channel(WAITING);
        let writer = std::thread::Builder::new().name("venue-sim-truth".into()).spawn(move || write(receiver, file)).map_err(fault)?;
        Ok((Self { sender: Mutex::new(Some(sender)), kept: None, wanted: true }, writer))
    }

    /// Keeps the truth in memory.
    pub(crate) fn kept() -> Self {
        Self { kept: Some(Mutex::default()), wanted: true, ..Self::default() }
    }

    /// The events out of a market that were kept since the last call.
    pub(crate) fn take(&self) -> Vec<Event> {
        self.memory().map(|mut kept| std::mem::take(&mut kept.events)).unwrap_or_default()
    }

    /// The same for those of captures.
    pub(crate) fn take_lines(&self) -> Vec<Lines> {
        self.memory().map(|mut kept| std::mem::take(&mut kept.lines)).unwrap_or_default()
    }

    fn memory(&self) -> Option<MutexGuard<'_, Kept>> {
        self.kept.as_ref().map(|kept| kept.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether anybody wants to know.
    pub(crate) fn wanted(&self) -> bool {
        self.wanted
    }

    /// Nothing more will come: the writer ends.
    pub(crate) fn end(&self) {
        self.sender.lock().unwrap_or_else(PoisonError::into_inner).take();
    }

    /// Pushes that were sent; those whose events are known already are taken out.
    pub(crate) async fn frames(&self, mut frames: Vec<Arc<Frame>>) {
        crate::hub::untold(&mut frames);
        let captured = frames.iter().filter_map(|frame| frame.lines.clone()).collect();
        self.tell(Told::Frames(frames)).await;
        self.lines(captured).await;
    }

    /// What an answer said that was given.
    pub(crate) async fn facts(&self, facts: Facts) {
        match facts {
            Facts::Events(events) => self.tell(Told::Events(events)).await,
            Facts::Lines(lines) => self.lines(vec![lines]).await,
        }
    }

    /// What captured lines said that were served.
    pub(crate) async fn lines(&self, lines: Vec<Lines>) {
        self.tell(Told::Lines(lines)).await;
    }

    async fn tell(&self, told: Told) {
        let nothing = match &told {
            Told::Frames(frames) => frames.is_empty(),
            Told::Events(events) => events.is_empty(),
            Told::Lines(lines) => lines.iter().all(|lines| lines.is_empty()),
        };
        if nothing {
            return;
        }
        if let Some(mut kept) = self.memory() {
            return match told {
                Told::Frames(frames) => kept.events.extend(frames.iter().flat_map(|frame| frame.events.iter().map(known))),
                Told::Events(events) => kept.events.extend(events.iter().map(known)),
                Told::Lines(lines) => kept.lines.extend(lines),
            };
        }
        let sender = self.sender.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(sender) = sender {
            // The writer ends early only by an error, which `shutdown` reports.
            drop(sender.send(told).await);
        }
    }
}

/// An event with all that a collector adds to it.
fn known(event: &Event) -> Event {
    let mut event = event.clone();
    event.derive_base_sizes();
    event.id = canonical::id(&event);
    event
}

fn write(mut receiver: Receiver<Told>, file: File) -> std::io::Result<u64> {
    let mut file = BufWriter::with_capacity(1 << 18, file);
    let mut lines = 0;
    let mut text = Vec::new();
    let mut line = |event: &Event, file: &mut BufWriter<File>| {
        text.clear();
        known(event).write_json(None, &mut text);
        text.push(b'\n');
        file.write_all(&text).map(|()| 1)
    };
    while let Some(told) = receiver.blocking_recv() {
        match told {
            Told::Frames(frames) => {
                for event in frames.iter().flat_map(|frame| &frame.events) {
                    lines += line(event, &mut file)?;
                }
            }
            Told::Events(events) => {
                for event in &events {
                    lines += line(event, &mut file)?;
                }
            }
            Told::Lines(all) => {
                for text in all {
                    lines += u64::try_from(text.lines().count()).unwrap_or(u64::MAX);
                    file.write_all(text.as_bytes())?;
                }
            }
        }
        // Who reads along shall not wait for a buffer to fill.
        if receiver.is_empty() {
            file.flush()?;
        }
    }
    file.flush()?;
    Ok(lines)
}
