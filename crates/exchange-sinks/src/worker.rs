//! A sink's own thread. It stands between async callers and blocking output: a queue bounded by the number of events,
//! big writes out of small batches, and trouble that passes sat out here, so that what was accepted is not lost.
//!
//! It is a plain thread and not one of the runtime's: a runtime waits for its blocking tasks at its end, and a reader
//! of standard output that stopped reading would keep the process from exiting.

use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, TryRecvError, channel};
use std::thread;
use std::time::Duration;

use exchange_core::Batch;
use metrics::Counter;
use tokio::sync::{Semaphore, oneshot, watch};

use crate::error::{SinkError, SinkErrorKind};
use crate::sink::{Sink, SinkFuture};

/// Events that may wait for the thread: some 5 MB of them.
const QUEUE_EVENTS: u32 = 8192;
/// Lines are gathered to writes of about this size, as far as they are there.
const WRITE_BYTES: usize = 256 * 1024;
/// How long trouble is left alone before the next attempt.
pub(crate) const RETRY: Duration = Duration::from_secs(1);

/// What blocks. Every method may be called again after an error, and goes on where it stopped.
pub(crate) trait Output: Send + 'static {
    /// Takes whole lines, cutting off the front of `lines` what it has taken.
    fn write(&mut self, lines: &mut &[u8]) -> Result<(), SinkError>;

    /// Makes what was taken readable for others.
    fn flush(&mut self) -> Result<(), SinkError>;

    /// Flushes and ends.
    fn finish(&mut self) -> Result<(), SinkError>;

    /// After how long [`Output::tick`] wants to be called if nothing else happens.
    fn wake_after(&self) -> Option<Duration> {
        None
    }

    /// Does what is due.
    fn tick(&mut self) -> Result<(), SinkError> {
        Ok(())
    }
}

/// A sink's counters.
pub(crate) struct Meter {
    sink: Arc<str>,
    events: Counter,
    bytes: Counter,
    errors: Counter,
}

impl Meter {
    pub(crate) fn new(sink: &str) -> Self {
        metrics::describe_counter!("collector_sink_events_total", "Events written to a sink");
        metrics::describe_counter!(
            "collector_sink_bytes_total",
            metrics::Unit::Bytes,
            "What was written to a sink: event lines before compression; of Parquet, by how much its files have grown"
        );
        metrics::describe_counter!("collector_sink_errors_total", "Failed attempts to write to a sink");
        let sink: Arc<str> = sink.into();
        Self {
            events: metrics::counter!("collector_sink_events_total", "sink" => sink.to_string()),
            bytes: metrics::counter!("collector_sink_bytes_total", "sink" => sink.to_string()),
            errors: metrics::counter!("collector_sink_errors_total", "sink" => sink.to_string()),
            sink,
        }
    }

    pub(crate) fn sink(&self) -> &str {
        &self.sink
    }

    /// An attempt to write failed.
    pub(crate) fn failed(&self) {
        self.errors.increment(1);
    }

    pub(crate) fn written(&self, events: usize, bytes: usize) {
        self.events.increment(events as u64);
        self.bytes.increment(bytes as u64);
    }
}

impl std::fmt::Debug for Meter {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Meter").field(&self.sink).finish()
    }
}

/// What is asked of a sink's thread.
pub(crate) enum Command {
    Write(Arc<Batch>),
    Flush(oneshot::Sender<()>),
    Close(oneshot::Sender<()>),
}

/// How the thread is doing: `Some` while an attempt failed and was not made good, and for ever after the end.
type Trouble = Option<SinkError>;

/// The async side of a sink that has a thread.
#[derive(Debug)]
pub(crate) struct Threaded {
    name: Arc<str>,
    commands: Sender<Command>,
    room: Arc<Semaphore>,
    trouble: watch::Receiver<Trouble>,
    closed: bool,
}

impl Threaded {
    /// Starts the thread.
    pub(crate) fn start(name: &str, output: impl Output) -> Result<Self, SinkError> {
        Self::start_with(name, output, RETRY)
    }

    fn start_with(name: &str, output: impl Output, retry: Duration) -> Result<Self, SinkError> {
        let serve = move |post: &mut Post| Worker { output, post, next: None, lines: Vec::new(), done: 0, events: 0, permits: 0 }.serve();
        Self::spawn(name, retry, serve)
    }

    /// Starts a thread that serves the commands in a way of its own, until it is closed, or nobody is left, or an error
    /// that does not pass.
    pub(crate) fn spawn(name: &str, retry: Duration, serve: impl FnOnce(&mut Post) -> Result<(), SinkError> + Send + 'static) -> Result<Self, SinkError> {
        let (commands, receiver) = channel();
        let (sender, trouble) = watch::channel(None);
        let room = Arc::new(Semaphore::new(QUEUE_EVENTS as usize));
        let mut post = Post { commands: receiver, meter: Meter::new(name), trouble: sender, room: room.clone(), retry, held: 0 };
        thread::Builder::new()
            .name(format!("sink {name}"))
            .spawn(move || {
                let end = serve(&mut post);
                post.end(end);
            })
            .map_err(|error| SinkError::io("cannot start a sink's thread", error))?;
        Ok(Self { name: name.into(), commands, room, trouble, closed: false })
    }

    /// Completes when the thread is in trouble, which may be at once.
    async fn failed(trouble: &mut watch::Receiver<Trouble>, name: &str) -> SinkError {
        match trouble.wait_for(Option::is_some).await {
            Ok(trouble) => trouble.clone().unwrap_or_else(|| SinkError::ended(name)),
            Err(_) => SinkError::ended(name),
        }
    }

    /// Sends a command and waits for its answer, or for trouble.
    async fn ask(&mut self, command: impl FnOnce(oneshot::Sender<()>) -> Command) -> Result<(), SinkError> {
        if self.closed {
            return Err(SinkError::ended(&self.name));
        }
        let (sender, mut answer) = oneshot::channel();
        if self.commands.send(command(sender)).is_err() {
            return Err(Self::failed(&mut self.trouble, &self.name).await);
        }
        tokio::select! {
            biased;
            Ok(()) = &mut answer => Ok(()),
            // The thread ends behind its last answer: it may have given it a moment ago.
            error = Self::failed(&mut self.trouble, &self.name) => answer.try_recv().map_err(|_| error),
        }
    }
}

impl Sink for Threaded {
    fn name(&self) -> &str {
        &self.name
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        Box::pin(async move {
            if self.closed {
                return Err(SinkError::ended(&self.name));
            }
            let permits = permits(batch);
            let room = tokio::select! {
                biased;
                error = Self::failed(&mut self.trouble, &self.name) => return Err(error),
                room = self.room.acquire_many(permits) => room,
            };
            if let Ok(room) = room
                && self.commands.send(Command::Write(batch.clone())).is_ok()
            {
                room.forget();
                return Ok(());
            }
            Err(Self::failed(&mut self.trouble, &self.name).await)
        })
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(self.ask(Command::Flush))
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async move {
            let result = self.ask(Command::Close).await;
            self.closed = true;
            result
        })
    }
}

/// How much of the queue a batch takes: a batch larger than the queue must fit as well.
pub(crate) fn permits(batch: &Batch) -> u32 {
    u32::try_from(batch.events().len()).unwrap_or(u32::MAX).clamp(1, QUEUE_EVENTS)
}

impl SinkError {
    /// Somebody wrote to a sink after its end.
    pub(crate) fn ended(name: &str) -> Self {
        Self::new(SinkErrorKind::Permanent, format!("`{name}` was closed already"))
    }
}

/// The thread's side: what is asked of it, and where it says how it is doing.
pub(crate) struct Post {
    pub(crate) commands: Receiver<Command>,
    pub(crate) meter: Meter,
    /// Events that were taken and are not safe: what is lost if this ends badly.
    pub(crate) held: usize,
    trouble: watch::Sender<Trouble>,
    room: Arc<Semaphore>,
    retry: Duration,
}

impl Post {
    /// Makes room in the queue for as much as what was taken out of it.
    pub(crate) fn make_room(&self, permits: usize) {
        self.room.add_permits(permits);
    }

    /// Tries until it works, the error is no passing one, or nobody waits for it any more.
    pub(crate) fn attempt<T>(&self, mut work: impl FnMut() -> Result<T, SinkError>) -> Result<T, SinkError> {
        loop {
            let error = match work() {
                Ok(done) => {
                    if self.trouble.send_if_modified(|trouble| trouble.take().is_some()) {
                        tracing::info!(sink = self.meter.sink(), "writing again");
                    }
                    return Ok(done);
                }
                Err(error) => error,
            };
            if error.kind() != SinkErrorKind::Closed {
                self.meter.failed();
            }
            if !error.is_retryable() || self.trouble.receiver_count() == 0 {
                return Err(error);
            }
            if self.trouble.borrow().is_none() {
                tracing::warn!(sink = self.meter.sink(), %error, "trying again");
            }
            self.trouble.send_replace(Some(error));
            thread::sleep(self.retry);
        }
    }

    fn end(self, end: Result<(), SinkError>) {
        if let Err(error) = &end {
            self.end_badly(error);
        }
        // Writers that wait for room learn of the end by this, and why from the trouble.
        self.trouble.send_replace(Some(end.err().unwrap_or_else(|| SinkError::ended(self.meter.sink()))));
        self.room.close();
    }

    /// Says what is lost: after the end, only this thread knows.
    fn end_badly(&self, error: &SinkError) {
        if error.kind() == SinkErrorKind::Closed {
            return;
        }
        let waiting = self.commands.try_iter().map(|command| if let Command::Write(batch) = command { batch.events().len() } else { 0 }).sum::<usize>();
        tracing::error!(sink = self.meter.sink(), %error, lost_events = self.held + waiting, "given up");
    }
}

struct Worker<'a, O> {
    output: O,
    post: &'a mut Post,
    /// A command that was met while gathering lines.
    next: Option<Command>,
    /// Lines on their way out, of which `done` bytes are out.
    lines: Vec<u8>,
    done: usize,
    /// What the lines stand for.
    events: usize,
    permits: usize,
}

impl<O: Output> Worker<'_, O> {
    fn serve(mut self) -> Result<(), SinkError> {
        loop {
            match self.receive() {
                Ok(Command::Write(batch)) => {
                    self.gather(&batch);
                    self.write()?;
                }
                Ok(Command::Flush(answer)) => {
                    self.attempt(O::flush)?;
                    // Whoever asked may have gone.
                    let _ = answer.send(());
                }
                Ok(Command::Close(answer)) => {
                    self.attempt(O::finish)?;
                    let _ = answer.send(());
                    return Ok(());
                }
                Err(RecvTimeoutError::Timeout) => self.attempt(O::tick)?,
                // Dropped without a word: the files are ended properly all the same.
                Err(RecvTimeoutError::Disconnected) => return self.attempt(O::finish),
            }
        }
    }

    fn receive(&mut self) -> Result<Command, RecvTimeoutError> {
        if let Some(command) = self.next.take() {
            return Ok(command);
        }
        match self.output.wake_after() {
            Some(wait) => self.post.commands.recv_timeout(wait),
            None => self.post.commands.recv().map_err(|_| RecvTimeoutError::Disconnected),
        }
    }

    /// Takes the lines of a batch, and of those that wait behind it: frames with one event each are many, and a
    /// system call for each would cost more than its event.
    fn gather(&mut self, batch: &Arc<Batch>) {
        self.take(batch);
        while self.lines.len() < WRITE_BYTES {
            match self.post.commands.try_recv() {
                Ok(Command::Write(batch)) => self.take(&batch),
                Ok(other) => {
                    self.next = Some(other);
                    break;
                }
                Err(TryRecvError::Empty | TryRecvError::Disconnected) => break,
            }
        }
    }

    fn take(&mut self, batch: &Arc<Batch>) {
        self.lines.extend_from_slice(batch.lines());
        self.events += batch.events().len();
        self.post.held += batch.events().len();
        self.permits += permits(batch) as usize;
    }

    fn write(&mut self) -> Result<(), SinkError> {
        let lines = std::mem::take(&mut self.lines);
        let result = self.attempt_with(|output, done| {
            let mut rest = lines.get(*done..).unwrap_or_default();
            let result = output.write(&mut rest);
            *done = lines.len() - rest.len();
            result
        });
        self.lines = lines;
        result?;
        self.post.meter.written(self.events, self.lines.len());
        self.post.make_room(self.permits);
        self.post.held = 0;
        self.lines.clear();
        self.lines.shrink_to(2 * WRITE_BYTES);
        (self.done, self.events, self.permits) = (0, 0, 0);
        Ok(())
    }

    fn attempt(&mut self, mut work: impl FnMut(&mut O) -> Result<(), SinkError>) -> Result<(), SinkError> {
        self.attempt_with(|output, _| work(output))
    }

    fn attempt_with(&mut self, mut work: impl FnMut(&mut O, &mut usize) -> Result<(), SinkError>) -> Result<(), SinkError> {
        let Self { output, post, done, .. } = self;
        post.attempt(|| work(output, done))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::io;
    use std::sync::Mutex;

    use super::*;
    use crate::contract::{batch, block_on};

    /// Takes a few bytes at a time, and fails as told.
    struct Moody {
        taken: Arc<Mutex<Vec<u8>>>,
        moods: VecDeque<Option<io::ErrorKind>>,
    }

    impl Output for Moody {
        fn write(&mut self, lines: &mut &[u8]) -> Result<(), SinkError> {
            while !lines.is_empty() {
                if let Some(Some(kind)) = self.moods.pop_front() {
                    return Err(SinkError::io("cannot write", kind.into()));
                }
                let (now, later) = lines.split_at(lines.len().min(7));
                self.taken.lock().unwrap().extend_from_slice(now);
                *lines = later;
            }
            Ok(())
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            Ok(())
        }

        fn finish(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    fn moody(moods: &[Option<io::ErrorKind>]) -> (Threaded, Arc<Mutex<Vec<u8>>>) {
        let taken = Arc::default();
        let output = Moody { taken: Arc::clone(&taken), moods: moods.iter().copied().collect() };
        (Threaded::start_with("moody:", output, Duration::from_millis(1)).unwrap(), taken)
    }

    #[test]
    fn a_full_disk_loses_and_repeats_nothing() {
        let full = Some(io::ErrorKind::StorageFull);
        let (mut sink, taken) = moody(&[None, None, full, full, None, full]);
        let batches = [batch(0..3), batch(3..5)];
        block_on(async {
            for batch in &batches {
                while let Err(error) = sink.write(batch).await {
                    assert!(error.is_retryable());
                    tokio::task::yield_now().await;
                }
            }
            while sink.flush().await.is_err() {
                tokio::task::yield_now().await;
            }
            sink.close().await.unwrap();
        });
        assert_eq!(*taken.lock().unwrap(), [batches[0].lines(), batches[1].lines()].concat());
    }

    #[test]
    fn what_will_not_pass_ends_the_sink_and_everyone_is_told_why() {
        let (mut sink, _) = moody(&[Some(io::ErrorKind::PermissionDenied)]);
        block_on(async {
            sink.write(&batch(0..1)).await.unwrap();
            assert_eq!(sink.flush().await.unwrap_err().to_string(), "cannot write: permission denied");
            assert_eq!(sink.write(&batch(1..2)).await.unwrap_err().kind(), SinkErrorKind::Permanent);
            assert_eq!(sink.close().await.unwrap_err().kind(), SinkErrorKind::Permanent);
        });
    }

    /// Takes nothing until it is let go.
    struct Stuck(Receiver<()>);

    impl Output for Stuck {
        fn write(&mut self, lines: &mut &[u8]) -> Result<(), SinkError> {
            let _ = self.0.recv();
            *lines = &[];
            Ok(())
        }

        fn flush(&mut self) -> Result<(), SinkError> {
            Ok(())
        }

        fn finish(&mut self) -> Result<(), SinkError> {
            Ok(())
        }
    }

    #[test]
    fn the_queue_is_bounded() {
        let (go, stuck) = channel();
        let mut sink = Threaded::start("stuck:", Stuck(stuck)).unwrap();
        let size = u64::from(QUEUE_EVENTS);
        block_on(async {
            sink.write(&batch(0..size)).await.unwrap();
            let more = batch(0..1);
            let waiting = sink.write(&more);
            assert!(futures_poll(waiting).await, "the queue is full");
            drop(go);
            sink.write(&more).await.unwrap();
            sink.flush().await.unwrap();
        });
    }

    /// Whether a future still waits after having been asked once.
    async fn futures_poll(mut future: SinkFuture<'_>) -> bool {
        std::future::poll_fn(|context| std::task::Poll::Ready(future.as_mut().poll(context).is_pending())).await
    }
}
