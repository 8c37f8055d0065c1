//! Sources that are read on a thread of their own behind a small queue, since reading blocks.

use std::thread::{self, JoinHandle};

use exchange_core::{Batch, Interner};
use tokio::sync::mpsc;

use crate::error::{SinkError, SinkErrorKind};
use crate::sink::SinkFuture;
use crate::source::{Since, Source};

/// Batches that wait to be asked for.
const QUEUE: usize = 4;

/// Nobody asks any more.
pub(crate) struct Gone;

/// The thread's end of the queue.
pub(crate) struct Out {
    sender: mpsc::Sender<Result<Batch, SinkError>>,
    interner: Interner,
    from: Since,
}

impl Out {
    /// Hands on a batch, or tells what cannot be read. Reading goes on behind that, so that it is no error which may pass.
    pub(crate) fn give(&mut self, item: Result<Batch, SinkError>) -> Result<(), Gone> {
        self.sender.blocking_send(item.map_err(SinkError::lasting)).map_err(|_| Gone)
    }

    /// Whether nobody asks any more.
    pub(crate) fn is_closed(&self) -> bool {
        self.sender.is_closed()
    }

    /// Hands on the events of these lines of a file, behind so many others. What is no event is named and left out: how many lines these
    /// were.
    pub(crate) fn tell(&mut self, mut lines: Vec<u8>, file: &str, before: usize) -> Result<usize, Gone> {
        let mut removed = 0;
        let batch = loop {
            match Batch::parse_with(lines.clone(), &mut self.interner) {
                Ok(batch) => break batch,
                Err(error) => {
                    let bad = error.line().unwrap_or(1);
                    let (start, end) = nth_line(&lines, bad);
                    // An empty line is nothing to speak of.
                    if lines.get(start..end).is_some_and(|line| !line.trim_ascii().is_empty()) {
                        tracing::warn!(file, line = before + removed + bad, "left out: {error}");
                    }
                    lines.drain(start..end);
                    removed += 1;
                }
            }
        };
        let from = self.from;
        let batch = batch.filtered(|event| from.includes(event.received));
        if !batch.events().is_empty() {
            self.give(Ok(batch))?;
        }
        Ok(removed)
    }
}

/// Where a line begins and ends, its end included; counted from 1.
fn nth_line(lines: &[u8], number: usize) -> (usize, usize) {
    let mut start = 0;
    for (at, end) in memchr::memchr_iter(b'\n', lines).chain([lines.len().saturating_sub(1)]).enumerate() {
        if at + 1 == number {
            return (start, end + 1);
        }
        start = end + 1;
    }
    (0, lines.len())
}

/// What a thread reads.
pub(crate) struct Background {
    name: String,
    batches: mpsc::Receiver<Result<Batch, SinkError>>,
    thread: Option<JoinHandle<()>>,
}

impl Background {
    /// Starts the thread, which reads until `work` ends.
    pub(crate) fn start(name: &str, from: Since, work: impl FnOnce(&mut Out) -> Result<(), Gone> + Send + 'static) -> Result<Box<dyn Source>, SinkError> {
        let (sender, batches) = mpsc::channel(QUEUE);
        let mut out = Out { sender, interner: Interner::default(), from };
        let thread = thread::Builder::new()
            .name(format!("source {name}"))
            .spawn(move || drop(work(&mut out)))
            .map_err(|error| SinkError::io("cannot start a source's thread", error))?;
        Ok(Box::new(Self { name: name.to_owned(), batches, thread: Some(thread) }))
    }

    async fn read(&mut self) -> Result<Option<Batch>, SinkError> {
        if let Some(item) = self.batches.recv().await {
            return item.map(Some);
        }
        // The queue is closed, so that the thread has ended but for a moment. A panic of a library over damaged bytes is no end.
        match self.thread.take().map(JoinHandle::join) {
            Some(Err(_)) => Err(SinkError::new(SinkErrorKind::Permanent, format!("{}: reading failed: not everything was read", self.name))),
            _ => Ok(None),
        }
    }
}

impl Source for Background {
    fn name(&self) -> &str {
        &self.name
    }

    fn next(&mut self) -> SinkFuture<'_, Option<Batch>> {
        Box::pin(self.read())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{batch, read};

    #[test]
    fn what_is_passed_over_is_no_error_that_may_pass() {
        let source = Background::start("test:", Since::Start, |out| out.give(Err(SinkError::new(SinkErrorKind::Retryable, "damaged"))));
        assert!(!crate::contract::block_on(source.unwrap().next()).unwrap_err().is_retryable());
    }

    #[test]
    fn a_thread_that_panics_is_no_end() {
        let source = Background::start("test:", Since::Start, |out| {
            out.tell(batch(0..3).lines().to_vec(), "x", 0)?;
            panic!("damaged");
        });
        let (lines, errors) = read(source.unwrap());
        assert_eq!((lines.as_bytes(), errors), (batch(0..3).lines(), vec!["test:: reading failed: not everything was read".to_owned()]));
    }
}
