//! The truth: what was served, as event lines, out of the market and not out of what was sent.
//!
//! Ids and lines are made on a thread of their own. Its queue is bounded: a connection whose events find no room waits,
//! and with it, in the end, the market. Nothing is left out.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
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
}

/// The way in.
#[derive(Default)]
pub(crate) struct Truth {
    sender: Mutex<Option<Sender<Told>>>,
    /// What is kept in memory instead of a file.
    kept: Option<Mutex<Vec<Event>>>,
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

    /// What was kept since the last call.
    pub(crate) fn take(&self) -> Vec<Event> {
        self.kept.as_ref().map(|kept| std::mem::take(&mut *kept.lock().unwrap_or_else(PoisonError::into_inner))).unwrap_or_default()
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
        self.tell(Told::Frames(frames)).await;
    }

    /// Records of an answer that was given.
    pub(crate) async fn events(&self, events: Vec<Event>) {
        self.tell(Told::Events(events)).await;
    }

    async fn tell(&self, told: Told) {
        if matches!(&told, Told::Frames(frames) if frames.is_empty()) || matches!(&told, Told::Events(events) if events.is_empty()) {
            return;
        }
        if let Some(kept) = &self.kept {
            let mut kept = kept.lock().unwrap_or_else(PoisonError::into_inner);
            return match told {
                Told::Frames(frames) => kept.extend(frames.iter().flat_map(|frame| frame.events.iter().map(known))),
                Told::Events(events) => kept.extend(events.iter().map(known)),
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
        lines += 1;
        file.write_all(&text)
    };
    while let Some(told) = receiver.blocking_recv() {
        match told {
            Told::Frames(frames) => frames.iter().flat_map(|frame| &frame.events).try_for_each(|event| line(event, &mut file))?,
            Told::Events(events) => events.iter().try_for_each(|event| line(event, &mut file))?,
        }
        // Who reads along shall not wait for a buffer to fill.
        if receiver.is_empty() {
            file.flush()?;
        }
    }
    file.flush()?;
    Ok(lines)
}
