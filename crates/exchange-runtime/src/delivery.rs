//! From the journal into a sink, at the sink's own pace.
//!
//! What a sink has accepted is acknowledged in the journal when the sink has confirmed it. A sink in trouble is tried again,
//! less and less often; nobody else waits for it, and what it has not got stays in the journal, also for the next run.

use std::convert::Infallible;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exchange_core::circuit::BackOff;
use exchange_core::{Batch, Position};
use exchange_sinks::{Sink, SinkError, SinkErrorKind};
use exchange_spool::{Backlog, Read, Reader, Spool, SpoolError};
use tokio::sync::{Notify, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::clock::Clock;
use crate::journal::Journal;
use crate::ledger::{Book, Counting};
use crate::output::SinkEnd;

/// How often a sink is asked to confirm, while batches come;
const CONFIRM: Duration = Duration::from_secs(1);
/// and after how many events at the latest.
const CONFIRM_EVENTS: usize = 65_536;
/// Pauses between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(20));
/// A sink that has not answered for so long counts as in trouble. It is waited for all the same. (An object store is written to
/// once a minute.)
const SLOW: Duration = Duration::from_secs(90);
/// At the end of a run, nobody waits for a sink that is in trouble for so long; what is there for it stays in the journal.
const LAST_PATIENCE: Duration = Duration::from_secs(10);
/// How often it is told what waits for a sink that is behind.
const TELL: Duration = Duration::from_millis(250);
/// What a sink has to end in, once its time is up.
const CLOSE: Duration = Duration::from_millis(200);

/// How long deliveries go on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Until {
    /// More may come.
    Stopped,
    /// Nothing more comes: until everything is delivered, or a sink is in trouble for too long.
    Delivered,
    /// Nothing more comes, and what is not delivered then stays in the journal.
    Deadline(Instant),
}

/// How a sink with a journal is doing.
#[derive(Debug, Clone, Default)]
pub struct SinkStatus {
    /// Its name: its address without anything secret.
    pub name: String,
    /// Why it gets nothing at the moment; `None` if all is well.
    pub problem: Option<String>,
    /// Whether it failed for good: what waits for it is kept for the next run.
    pub ended: bool,
    /// Batches that wait for it in the journal.
    pub batches: u64,
    /// What they take there, about.
    pub bytes: u64,
}

/// The status, shared by the task and those who look.
pub(crate) type Status = Arc<Mutex<SinkStatus>>;

/// Those of several sinks that have not failed for good: when none is left, nobody gets anything.
struct Working {
    count: AtomicUsize,
    failed: watch::Sender<Option<SinkError>>,
}

impl Working {
    fn one_less(&self, error: &SinkError) {
        if self.count.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.failed.send_replace(Some(error.clone()));
        }
    }
}

/// What all deliveries of a run have in common.
pub(crate) struct Start<'a> {
    pub(crate) failed: &'a watch::Sender<Option<SinkError>>,
    pub(crate) until: watch::Receiver<Until>,
    pub(crate) has_ledger: bool,
    pub(crate) soon: Arc<Notify>,
    pub(crate) clock: Clock,
    pub(crate) seed: u64,
}

/// The deliveries of a run, and the way into their journal.
#[derive(Default)]
pub(crate) struct Deliveries {
    pub(crate) journal: Option<Journal>,
    pub(crate) tasks: Vec<JoinHandle<SinkEnd>>,
    pub(crate) books: Vec<Arc<Book>>,
    pub(crate) statuses: Vec<Status>,
}

impl Start<'_> {
    /// Starts a delivery for each sink, by these names.
    ///
    /// # Errors
    /// Where the sink's place in the journal cannot be read.
    pub(crate) fn deliveries(self, spool: &Spool, sinks: Vec<(String, Box<dyn Sink>)>, names: &[String]) -> Result<Deliveries, SpoolError> {
        // All of them, before anything is appended: a sink that is new begins here.
        let readers = names.iter().map(|name| spool.reader(name)).collect::<Result<Vec<Reader>, _>>()?;
        let working = Arc::new(Working { count: AtomicUsize::new(names.len()), failed: self.failed.clone() });
        let before = spool.last();
        let mut deliveries = Deliveries::default();
        for (number, (((_, sink), name), reader)) in (1..).zip(sinks.into_iter().zip(names).zip(readers)) {
            let (book, counting) = Book::open(self.has_ledger.then(|| name.clone()));
            deliveries.books.extend(book);
            let status = Status::new(Mutex::new(SinkStatus { name: name.clone(), ..SinkStatus::default() }));
            deliveries.statuses.push(status.clone());
            let seed = self.seed.wrapping_add(number);
            let delivery = Delivery { name: name.clone(), sink, reader, before, counting, working: working.clone(), status, until: self.until.clone(), seed };
            deliveries.tasks.push(tokio::spawn(delivery.run()));
        }
        deliveries.journal = Some(Journal::new(spool.clone(), names, deliveries.books.clone(), self.soon, self.clock));
        Ok(deliveries)
    }
}

/// What a sink's task has.
struct Delivery {
    name: String,
    sink: Box<dyn Sink>,
    reader: Reader,
    /// The last batch of earlier runs.
    before: Position,
    counting: Counting,
    working: Arc<Working>,
    status: Status,
    until: watch::Receiver<Until>,
    seed: u64,
}

struct Meters {
    up: metrics::Gauge,
    batches: metrics::Gauge,
    bytes: metrics::Gauge,
    retries: metrics::Counter,
}

/// What a sink is asked to do.
enum Call<'b> {
    /// How far it is by its own books, of this journal.
    Position(u64),
    Write(&'b Arc<Batch>),
    Flush,
}

/// What came of it.
enum Answer {
    Done,
    Position(Option<Position>),
    /// Time is up.
    Late,
}

/// Why nothing more is delivered.
enum End {
    /// Everything is.
    Delivered,
    /// Time is up.
    Late,
}

impl Delivery {
    /// Delivers until the end.
    async fn run(self) -> SinkEnd {
        let sink = self.name.clone();
        let meters = Meters {
            up: metrics::gauge!("collector_sink_up", "sink" => sink.clone()),
            batches: metrics::gauge!("collector_sink_backlog_batches", "sink" => sink.clone()),
            bytes: metrics::gauge!("collector_sink_backlog_bytes", "sink" => sink.clone()),
            retries: metrics::counter!("collector_sink_retries_total", "sink" => sink),
        };
        meters.up.set(1.0);
        let pauses = BackOff::new(RETRY.0, RETRY.1, self.seed, Instant::now().into_std());
        let mut task = Task { delivery: self, meters, pauses, pending: None, batches: 0, events: 0, has_worked: false, down: None, told: None };
        let result = task.deliver().await;
        task.end(result).await
    }
}

struct Task {
    delivery: Delivery,
    meters: Meters,
    pauses: BackOff,
    /// What was accepted last and is not confirmed, and since when something is not.
    pending: Option<(Position, Instant)>,
    /// Batches that were read and events that were accepted and are not confirmed.
    batches: u64,
    events: usize,
    /// Whether it has confirmed anything in this run.
    has_worked: bool,
    /// Since when the sink is in trouble.
    down: Option<Instant>,
    /// When it was told last what waits.
    told: Option<Instant>,
}

impl Task {
    async fn deliver(&mut self) -> Result<End, SinkError> {
        let journal = self.delivery.reader.position().journal;
        let Answer::Position(position) = self.ask(Call::Position(journal)).await? else { return Ok(End::Late) };
        if let Some(position) = position {
            self.pass(position);
        }
        loop {
            // Often enough for whoever looks, and not for each batch.
            if self.told.is_none_or(|told| told.elapsed() >= TELL) {
                self.tell_backlog();
            }
            let due = self.pending.map(|(_, since)| since + CONFIRM);
            if self.events >= CONFIRM_EVENTS || due.is_some_and(|due| due <= Instant::now()) {
                let Answer::Done = self.confirm().await? else { return Ok(End::Late) };
            }
            let until = *self.delivery.until.borrow_and_update();
            if matches!(until, Until::Deadline(at) if at <= Instant::now()) {
                return Ok(End::Late);
            }
            if let Some(read) = self.delivery.reader.next() {
                let lost = matches!(read, Read::Lost(_));
                let batch = self.told(read);
                self.batches += 1;
                let Answer::Done = self.ask(Call::Write(&batch)).await? else { return Ok(End::Late) };
                self.accepted(&batch, lost);
                // The journal and the sink may both be so quick that nobody else on this thread gets a turn.
                tokio::task::coop::consume_budget().await;
                continue;
            }
            if until != Until::Stopped {
                let Answer::Done = self.confirm().await? else { return Ok(End::Late) };
                return Ok(End::Delivered);
            }
            self.tell_backlog();
            tokio::select! {
                () = self.delivery.reader.ready() => {}
                () = reached(due) => {}
                changed = self.delivery.until.changed() => if changed.is_err() {
                    return Ok(End::Late);
                },
                Some(answer) = self.delivery.counting.asked() => {
                    let confirmed = self.confirm().await;
                    // Whoever asked may have stopped waiting.
                    let _gone = answer.send(());
                    let Answer::Done = confirmed? else { return Ok(End::Late) };
                }
            }
        }
    }

    /// What the sink has by its own books is delivered, whatever the journal knows of it.
    fn pass(&mut self, position: Position) {
        let reader = &mut self.delivery.reader;
        if position.journal != reader.position().journal || position <= reader.position() {
            return;
        }
        while reader.position() < position {
            let Some(read) = reader.next() else {
                // More than lies here: this is an older copy of the journal.
                reader.seek(position);
                break;
            };
            let batch = read.into_batch();
            let earlier = batch.position().is_none_or(|position| position <= self.delivery.before);
            self.delivery.counting.accepted(batch.events(), earlier);
        }
        self.acknowledge(position);
    }

    /// A batch, or the one that tells of a loss.
    fn told(&mut self, read: Read) -> Arc<Batch> {
        match read {
            Read::Batch(batch) => batch,
            Read::Lost(lost) => {
                tracing::warn!(sink = self.delivery.name, batches = lost.batches, events = lost.events, cause = ?lost.cause, "what waited in the journal is lost");
                self.delivery.counting.lost_in_journal(lost.batch.events(), lost.events);
                lost.batch
            }
        }
    }

    fn accepted(&mut self, batch: &Batch, lost: bool) {
        let earlier = !lost && batch.position().is_none_or(|position| position <= self.delivery.before);
        self.delivery.counting.accepted(batch.events(), earlier);
        self.events += batch.events().len().max(1);
        let since = self.pending.map_or_else(Instant::now, |(_, since)| since);
        self.pending = Some((batch.position().unwrap_or_else(|| self.delivery.reader.position()), since));
    }

    /// Lets the sink confirm what it has accepted.
    async fn confirm(&mut self) -> Result<Answer, SinkError> {
        let Some((position, _)) = self.pending else { return Ok(Answer::Done) };
        let Answer::Done = self.ask(Call::Flush).await? else { return Ok(Answer::Late) };
        (self.pending, self.batches, self.events) = (None, 0, 0);
        self.has_worked = true;
        self.acknowledge(position);
        Ok(Answer::Done)
    }

    fn acknowledge(&mut self, position: Position) {
        self.delivery.counting.written();
        if let Err(error) = self.delivery.reader.acknowledge(position) {
            // The next acknowledgement says it, too. Until then a restart would deliver it again.
            tracing::warn!(sink = self.delivery.name, %error, "cannot keep how far the sink is");
        }
    }

    /// Asks the sink until it answers, fails for good, or time is up.
    async fn ask(&mut self, call: Call<'_>) -> Result<Answer, SinkError> {
        loop {
            let sink = &mut self.delivery.sink;
            let mut asked = Box::pin(async {
                match call {
                    Call::Position(journal) => sink.position(journal).await.map(Answer::Position),
                    Call::Write(batch) => sink.write(batch).await.map(|()| Answer::Done),
                    Call::Flush => sink.flush().await.map(|()| Answer::Done),
                }
            });
            let mut until = self.delivery.until.clone();
            let slow = Instant::now() + SLOW;
            let mut told = false;
            let result = loop {
                tokio::select! {
                    biased;
                    result = &mut asked => break result,
                    () = late(&mut until, self.down) => return Ok(Answer::Late),
                    never = keep_telling(&self.delivery.reader, &self.delivery.status, &self.meters) => match never {},
                    () = sleep_until(slow), if !told => {
                        told = true;
                        self.down.get_or_insert_with(Instant::now);
                        trouble(&self.delivery.name, &self.delivery.status, &self.meters, &format!("it has not answered for {} s", SLOW.as_secs()));
                    }
                }
            };
            drop(asked);
            match result {
                Ok(answer) => {
                    if self.down.take().is_some() {
                        tracing::info!(sink = self.delivery.name, "the sink takes events again");
                        self.delivery.status.lock().unwrap_or_else(PoisonError::into_inner).problem = None;
                        self.meters.up.set(1.0);
                        self.pauses.reset();
                    }
                    return Ok(answer);
                }
                Err(error) if !self.may_pass(&error) => return Err(error),
                Err(error) => {
                    let down = *self.down.get_or_insert_with(Instant::now);
                    self.meters.retries.increment(1);
                    let pause = self.pauses.next_pause();
                    tracing::warn!(sink = self.delivery.name, %error, "cannot write, next attempt in {:.1} s", pause.as_secs_f64());
                    trouble(&self.delivery.name, &self.delivery.status, &self.meters, &error.to_string());
                    self.tell_backlog();
                    tokio::select! {
                        () = sleep(pause) => {}
                        never = keep_telling(&self.delivery.reader, &self.delivery.status, &self.meters) => match never {},
                        () = late(&mut until, Some(down)) => return Ok(Answer::Late),
                    }
                }
            }
        }
    }

    /// Whether the sink is asked again. What its address says was right once: a file with a password, say, is being replaced.
    fn may_pass(&self, error: &SinkError) -> bool {
        error.is_retryable() || (self.has_worked && error.kind() == SinkErrorKind::Config)
    }

    fn tell_backlog(&mut self) {
        self.told = Some(Instant::now());
        tell_backlog(&self.delivery.reader, &self.delivery.status, &self.meters);
    }

    async fn end(mut self, result: Result<End, SinkError>) -> SinkEnd {
        let mut result = match result {
            Ok(End::Delivered) => self.delivery.sink.close().await,
            // One that answered until now ends what it began: files have an end.
            Ok(End::Late) if self.down.is_none() => match timeout(CLOSE, self.delivery.sink.close()).await {
                Ok(Ok(())) => {
                    if let Some((position, _)) = self.pending.take() {
                        self.batches = 0;
                        self.acknowledge(position);
                    }
                    Ok(())
                }
                Ok(Err(error)) => Err(error),
                Err(_) => Ok(()),
            },
            Ok(End::Late) => Ok(()),
            Err(error) => {
                self.delivery.working.one_less(&error);
                Err(error)
            }
        };
        self.meters.up.set(0.0);
        self.tell_backlog();
        if let Err(error) = &result {
            let mut status = self.delivery.status.lock().unwrap_or_else(PoisonError::into_inner);
            (status.problem, status.ended) = (Some(error.to_string()), true);
            drop(status);
            // What it has not got is in the journal; that it waits is told.
            if error.is_retryable() {
                result = Ok(());
            }
        }
        SinkEnd { name: self.delivery.name, result, reader: Some(self.delivery.reader), unconfirmed: self.batches }
    }
}

fn tell_backlog(reader: &Reader, status: &Status, meters: &Meters) {
    let Backlog { batches, bytes } = reader.backlog();
    #[expect(clippy::cast_precision_loss, reason = "gauges")]
    {
        meters.batches.set(batches as f64);
        meters.bytes.set(bytes as f64);
    }
    let mut status = status.lock().unwrap_or_else(PoisonError::into_inner);
    (status.batches, status.bytes) = (batches, bytes);
}

/// Tells what waits while the sink does not answer: it grows.
async fn keep_telling(reader: &Reader, status: &Status, meters: &Meters) -> Infallible {
    loop {
        sleep(TELL).await;
        tell_backlog(reader, status, meters);
    }
}

fn trouble(name: &str, status: &Status, meters: &Meters, what: &str) {
    meters.up.set(0.0);
    let before = status.lock().unwrap_or_else(PoisonError::into_inner).problem.replace(what.to_owned());
    if before.is_none() {
        tracing::error!(sink = name, "the sink gets nothing at the moment, what comes is kept in the journal: {what}");
    }
}

/// Waits until the time of a sink is up that is in trouble since then, if it is.
async fn late(until: &mut watch::Receiver<Until>, down: Option<Instant>) {
    loop {
        let at = match *until.borrow_and_update() {
            Until::Deadline(at) => Some(at),
            // A sink that works may take its time.
            Until::Delivered => down.map(|since| since + LAST_PATIENCE),
            Until::Stopped => None,
        };
        tokio::select! {
            () = reached(at) => return,
            changed = until.changed() => if changed.is_err() { return },
        }
    }
}

/// Waits until that time, or forever if there is none.
async fn reached(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
