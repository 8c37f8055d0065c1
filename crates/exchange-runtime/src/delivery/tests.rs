//! Journals in real directories, and sinks that do what the tests want.

use std::path::Path;
use std::sync::LazyLock;

use exchange_core::event::Trade;
use exchange_core::ledger::{Account, Entry, EventCounts, Share};
use exchange_core::{Body, Channel, Decimal, Event, Instrument, Market, Time, canonical};
use exchange_sinks::{SinkErrorKind, SinkFuture};
use exchange_spool::{Opened, Options};

use super::*;

/// What a sink does, and what it has; the test's to change while it runs.
#[derive(Default)]
struct Desk {
    /// Refuses everything with this.
    trouble: Option<SinkErrorKind>,
    /// Never answers.
    hangs: bool,
    /// What it says its own books say.
    position: Option<Position>,
    accepted: Vec<u64>,
    /// How many of them are confirmed.
    confirmed: usize,
    closed: bool,
    attempts: usize,
}

#[derive(Clone, Default)]
struct OwnSink(Arc<Mutex<Desk>>);

impl OwnSink {
    fn answer<T: Send + 'static>(&self, work: impl FnOnce(&mut Desk) -> T) -> SinkFuture<'static, T> {
        let mut desk = self.0.lock().unwrap();
        desk.attempts += 1;
        match desk.trouble {
            _ if desk.hangs => Box::pin(std::future::pending()),
            Some(kind) => Box::pin(std::future::ready(Err(SinkError::new(kind, "out of order")))),
            None => Box::pin(std::future::ready(Ok(work(&mut desk)))),
        }
    }

    fn set(&self, change: impl FnOnce(&mut Desk)) {
        change(&mut self.0.lock().unwrap());
    }

    fn has(&self) -> Vec<u64> {
        let desk = self.0.lock().unwrap();
        desk.accepted[..desk.confirmed].to_vec()
    }
}

impl Sink for OwnSink {
    fn name(&self) -> &'static str {
        "own:"
    }

    fn position(&mut self, journal: u64) -> SinkFuture<'_, Option<Position>> {
        self.answer(|desk| desk.position.filter(|position| position.journal == journal))
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        let ids: Vec<u64> = batch.events().iter().map(number).collect();
        self.answer(|desk| desk.accepted.extend(ids))
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        self.answer(|desk| desk.confirmed = desk.accepted.len())
    }

    fn close(&mut self) -> SinkFuture<'_> {
        self.answer(|desk| (desk.confirmed, desk.closed) = (desk.accepted.len(), true))
    }
}

/// A trade's number; 0 for a gap.
fn number(event: &Event) -> u64 {
    if let Body::Trade(trade) = &event.body { trade.trade_id.as_ref().unwrap().as_number().unwrap() } else { 0 }
}

/// Ten trades from this number on.
fn ten(first: u64) -> Vec<Event> {
    static INSTRUMENT: LazyLock<Arc<Instrument>> = LazyLock::new(|| Arc::new(Instrument::named(&"x".into(), Market::Linear, "A", None)));
    let trade = |id: u64| Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
    let sealed = |id| {
        let mut event = Event::new(INSTRUMENT.clone(), Time::from_micros(1), None, Body::Trade(trade(id)));
        event.id = canonical::id(&event);
        event
    };
    (first..first + 10).map(sealed).collect()
}

/// One run: a journal and its sinks.
struct Run {
    journal: Journal,
    tasks: Vec<JoinHandle<SinkEnd>>,
    books: Vec<Arc<Book>>,
    statuses: Vec<Status>,
    until: watch::Sender<Until>,
    failed: watch::Receiver<Option<SinkError>>,
    passed: EventCounts,
}

impl Run {
    fn start(directory: &Path, options: Options, sinks: &[OwnSink]) -> Self {
        let Opened { spool, .. } = Spool::open(directory, options).unwrap();
        let (failed, failing) = watch::channel(None);
        let (until, ending) = watch::channel(Until::Stopped);
        let start = Start { failed: &failed, until: ending, has_ledger: true, soon: Arc::default(), clock: Clock::system(), seed: 1 };
        let names: Vec<String> = (0..sinks.len()).map(|at| format!("own:{at}")).collect();
        let sinks = sinks.iter().map(|sink| ("own:".to_owned(), Box::new(sink.clone()) as Box<dyn Sink>)).collect();
        let Deliveries { journal, tasks, books, statuses } = start.deliveries(&spool, sinks, &names).unwrap();
        Self { journal: journal.unwrap(), tasks, books, statuses, until, failed: failing, passed: EventCounts::default() }
    }

    /// Whether they were kept.
    fn append(&mut self, events: Vec<Event>) -> bool {
        self.passed.count(&events);
        self.journal.append(events).is_ok()
    }

    async fn end(mut self, until: Until) -> (Vec<SinkEnd>, Account) {
        self.until.send_replace(until);
        let mut ends = Vec::new();
        for task in self.tasks {
            ends.push(task.await.unwrap());
        }
        let mut account = Account::default();
        account.add_entries(self.passed.take().into_iter().map(|(key, n)| (key, Entry { received: n, decoded: n, passed: n, ..Entry::default() })));
        for book in &self.books {
            account.add_shares(book.name(), book.take());
        }
        assert_eq!(account.differences(false), []);
        (ends, account)
    }
}

/// The sums of a sink's rows.
fn sums(account: &Account, sink: &str) -> Share {
    account.sinks[sink].values().fold(Share::default(), |mut sum, share| {
        sum += *share;
        sum
    })
}

async fn eventually(what: &str, mut ask: impl FnMut() -> bool) {
    for _ in 0..3000 {
        if ask() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("{what}: not in time");
}

fn numbers(until: u64) -> Vec<u64> {
    (1..=until).collect()
}

#[tokio::test]
async fn a_sink_that_is_dead_for_a_while_gets_everything_in_order_and_holds_up_nobody() {
    let place = tempfile::tempdir().unwrap();
    let (dead, well) = (OwnSink::default(), OwnSink::default());
    dead.set(|desk| desk.trouble = Some(SinkErrorKind::Retryable));
    let mut run = Run::start(place.path(), Options::default(), &[dead.clone(), well.clone()]);
    for batch in 0..50 {
        assert!(run.append(ten(batch * 10 + 1)));
    }
    eventually("the one that is well", || well.has() == numbers(500)).await;
    let status = run.statuses[0].lock().unwrap().clone();
    assert_eq!((status.problem.as_deref(), status.batches, status.ended), (Some("out of order"), 50, false));
    assert!(run.statuses[1].lock().unwrap().problem.is_none());
    let attempts = dead.0.lock().unwrap().attempts;
    assert!(attempts < 20, "less and less often: {attempts}");
    dead.set(|desk| desk.trouble = None);
    eventually("the other one", || dead.has() == numbers(500)).await;
    assert!(run.statuses[0].lock().unwrap().problem.is_none());
    let (ends, account) = run.end(Until::Delivered).await;
    assert!(ends.iter().all(|end| end.result.is_ok() && end.waiting() == Backlog::default()));
    for sink in ["own:0", "own:1"] {
        assert_eq!(sums(&account, sink), Share { kept: 500, written: 500, ..Share::default() });
    }
    assert!(dead.0.lock().unwrap().closed);
}

#[tokio::test]
async fn what_a_run_leaves_the_next_one_delivers_and_both_balance() {
    let place = tempfile::tempdir().unwrap();
    let sink = OwnSink::default();
    let mut run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
    run.append(ten(1));
    eventually("the first", || sink.has() == numbers(10)).await;
    sink.set(|desk| desk.hangs = true);
    for batch in 1..100 {
        run.append(ten(batch * 10 + 1));
    }
    let (ends, first) = run.end(Until::Deadline(Instant::now() + Duration::from_millis(50))).await;
    assert!(ends[0].result.is_ok());
    assert_eq!(ends[0].waiting().batches, 99);
    assert_eq!(sums(&first, "own:0"), Share { kept: 1000, written: 10, ..Share::default() });

    // One that was not confirmed is delivered again.
    sink.set(|desk| desk.hangs = false);
    let mut run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
    run.append(ten(1001));
    let (ends, second) = run.end(Until::Delivered).await;
    assert_eq!(ends[0].waiting(), Backlog::default());
    assert_eq!(sink.has(), numbers(1010));
    assert_eq!(sums(&second, "own:0"), Share { kept: 10, written: 1000, resumed: 990, ..Share::default() });
    let mut both = first;
    both.add(second);
    assert_eq!((both.differences(false), sums(&both, "own:0").waiting()), (Vec::new(), 0));
}

#[tokio::test]
async fn a_sink_in_trouble_is_not_waited_for_for_ever_at_the_end() {
    let place = tempfile::tempdir().unwrap();
    tokio::time::pause();
    let sink = OwnSink::default();
    sink.set(|desk| desk.trouble = Some(SinkErrorKind::Retryable));
    let mut run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
    run.append(ten(1));
    let since = Instant::now();
    let (ends, _) = run.end(Until::Delivered).await;
    assert_eq!((ends[0].result.is_ok(), ends[0].waiting().batches), (true, 1));
    assert!((LAST_PATIENCE..2 * LAST_PATIENCE).contains(&since.elapsed()), "{:?}", since.elapsed());
}

#[tokio::test]
async fn what_waits_for_a_sink_that_does_not_answer_is_told_as_it_grows() {
    let place = tempfile::tempdir().unwrap();
    let sink = OwnSink::default();
    sink.set(|desk| desk.hangs = true);
    let mut run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
    eventually("a question", || sink.0.lock().unwrap().attempts == 1).await;
    for batch in 0..4 {
        run.append(ten(batch * 10 + 1));
        let waiting = || run.statuses[0].lock().unwrap().batches;
        eventually("the backlog", || waiting() == batch + 1).await;
    }
    run.end(Until::Deadline(Instant::now())).await;
}

#[tokio::test]
async fn a_sinks_own_books_win_where_they_are_ahead() {
    let place = tempfile::tempdir().unwrap();
    let sink = OwnSink::default();
    sink.set(|desk| desk.hangs = true);
    let mut run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
    for batch in 0..10 {
        run.append(ten(batch * 10 + 1));
    }
    run.end(Until::Deadline(Instant::now())).await;
    let journal = Spool::open(place.path(), Options::default()).unwrap().spool.last().journal;
    // It has the first four, whatever the journal knows of that.
    sink.set(|desk| (desk.hangs, desk.position, desk.accepted) = (false, Some(Position { journal, number: 4 }), numbers(40)));
    let run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
    let (_, account) = run.end(Until::Delivered).await;
    assert_eq!(sink.has(), numbers(100));
    assert_eq!(sums(&account, "own:0"), Share { written: 100, resumed: 100, ..Share::default() });
    // Of another journal, or older than what was confirmed, it says nothing.
    for position in [Position { journal: journal ^ 1, number: 2 }, Position { journal, number: 2 }] {
        sink.set(|desk| (desk.position, desk.accepted, desk.confirmed) = (Some(position), Vec::new(), 0));
        let mut run = Run::start(place.path(), Options::default(), std::slice::from_ref(&sink));
        run.append(ten(101));
        run.end(Until::Delivered).await;
        assert_eq!(sink.has(), (101..=110).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_sink_that_fails_for_good_ends_alone_and_the_last_one_ends_the_run() {
    let place = tempfile::tempdir().unwrap();
    let sinks = [OwnSink::default(), OwnSink::default()];
    let mut run = Run::start(place.path(), Options::default(), &sinks);
    sinks[0].set(|desk| desk.trouble = Some(SinkErrorKind::Permanent));
    run.append(ten(1));
    eventually("the end of the first", || run.statuses[0].lock().unwrap().ended).await;
    run.append(ten(11));
    eventually("the second goes on", || sinks[1].has() == numbers(20)).await;
    assert!(run.failed.borrow().is_none());
    sinks[1].set(|desk| desk.trouble = Some(SinkErrorKind::Permanent));
    run.append(ten(21));
    eventually("nobody is left", || run.failed.borrow().is_some()).await;
    let (ends, account) = run.end(Until::Delivered).await;
    assert_eq!(ends.iter().map(|end| (end.result.is_err(), end.waiting().batches)).collect::<Vec<_>>(), [(true, 3), (true, 1)]);
    assert_eq!((sums(&account, "own:0").waiting(), sums(&account, "own:1").waiting()), (30, 10));
    // What they have not got is there for the next run.
    for sink in &sinks {
        sink.set(|desk| desk.trouble = None);
    }
    Run::start(place.path(), Options::default(), &sinks).end(Until::Delivered).await;
    assert!(sinks.iter().all(|sink| sink.has() == numbers(30)));
}

#[tokio::test]
async fn an_address_that_was_right_once_may_be_right_again() {
    let place = tempfile::tempdir().unwrap();
    let sinks = [OwnSink::default(), OwnSink::default()];
    sinks[1].set(|desk| desk.trouble = Some(SinkErrorKind::Config));
    let mut run = Run::start(place.path(), Options::default(), &sinks);
    run.append(ten(1));
    eventually("the end of one that never worked", || run.statuses[1].lock().unwrap().ended).await;
    eventually("the first has it", || sinks[0].has() == numbers(10)).await;
    sinks[0].set(|desk| desk.trouble = Some(SinkErrorKind::Config));
    run.append(ten(11));
    eventually("the trouble is told", || run.statuses[0].lock().unwrap().problem.is_some()).await;
    sinks[0].set(|desk| desk.trouble = None);
    eventually("the first has the rest", || sinks[0].has() == numbers(20)).await;
    run.end(Until::Delivered).await;
}

#[tokio::test]
async fn what_has_no_room_is_lost_from_the_oldest_on_and_told() {
    let place = tempfile::tempdir().unwrap();
    let options = Options { segment_bytes: 16 << 10, max_bytes: 64 << 10, ..Options::default() };
    let sink = OwnSink::default();
    sink.set(|desk| desk.trouble = Some(SinkErrorKind::Retryable));
    let mut run = Run::start(place.path(), options, std::slice::from_ref(&sink));
    for batch in 0..100 {
        assert!(run.append(ten(batch * 10 + 1)), "the oldest makes room");
    }
    sink.set(|desk| desk.trouble = None);
    let (_, account) = run.end(Until::Delivered).await;
    let has = sink.has();
    let share = sums(&account, "own:0");
    // The first batch was in the sink's hands already.
    let gaps = has.iter().filter(|number| **number == 0).count() as u64;
    let trades: Vec<u64> = has.iter().copied().filter(|number| *number > 0).collect();
    assert!(gaps >= 1 && trades.len() < 700 && trades.ends_with(&[998, 999, 1000]) && trades.is_sorted(), "{has:?}");
    assert_eq!((share.told, share.lost), (gaps, 1000 - trades.len() as u64));
    assert_eq!(share.waiting(), 0);
}

#[tokio::test]
async fn what_the_journal_refuses_is_told_when_it_takes_events_again() {
    let place = tempfile::tempdir().unwrap();
    let directory = place.path().join("spool");
    let options = Options { segment_bytes: 1, ..Options::default() };
    let sink = OwnSink::default();
    let mut run = Run::start(&directory, options, std::slice::from_ref(&sink));
    assert!(run.append(ten(1)));
    eventually("the first", || sink.has() == numbers(10)).await;
    // Each batch begins a file, which has no place now.
    std::fs::rename(&directory, place.path().join("away")).unwrap();
    assert!(!run.append(ten(11)) && !run.append(ten(21)));
    assert!(run.journal.trouble().unwrap().contains("spool"), "{:?}", run.journal.trouble());
    std::fs::rename(place.path().join("away"), &directory).unwrap();
    assert!(!run.append(ten(21)), "it is left alone for a moment");
    tokio::time::sleep(Duration::from_millis(600)).await;
    assert!(run.append(ten(31)));
    assert_eq!(run.journal.trouble(), None);
    let (_, account) = run.end(Until::Delivered).await;
    let expected: Vec<u64> = (1..=10).chain([0]).chain(31..=40).collect();
    assert_eq!(sink.has(), expected);
    assert_eq!(sums(&account, "own:0"), Share { told: 1, gaps: 1, kept: 21, written: 21, dropped: 30, ..Share::default() });
    let gaps: u64 = account.sinks["own:0"].iter().filter(|(key, _)| key.kind.as_str() == Channel::Trade.as_str()).map(|(_, share)| share.gaps).sum();
    assert_eq!(gaps, 1, "of trades");
}
