//! The ledger of a run: collects its rows every minute, and keeps them in the state directory.
//!
//! What the rows mean and which sums they must give is [`exchange_core::ledger`]'s. Here: the sinks' side of them
//! (`book`), the files (`file`), and the task that goes round.

mod book;
mod file;

use std::sync::{Arc, Weak};
use std::time::Duration;

use exchange_core::ledger::{Entry, Key};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

pub(crate) use self::book::{Book, Books, Counting};
pub use self::file::{Ledger, Run, names, read};
pub(crate) use self::file::{PART, Writer};
use crate::clock::Clock;
use crate::shared::Shared;

/// How often rows are written. What a killed process did in the last of these is not in its ledger.
pub(crate) const EVERY: Duration = Duration::from_mins(1);
/// How long sinks are waited for to confirm what they accepted. Later is in the next rows.
const CONFIRM: Duration = Duration::from_secs(5);

/// The task that keeps a run's ledger.
pub(crate) struct Keeper {
    stop: oneshot::Sender<()>,
    task: JoinHandle<Writer>,
    books: Books,
    clock: Clock,
}

impl Keeper {
    /// Starts to go round; [`EVERY`] so often, but in tests.
    pub(crate) fn start(writer: Writer, venues: Vec<Weak<Shared>>, books: Books, every: Duration, clock: Clock) -> Self {
        let (stop, stopped) = oneshot::channel();
        Self { stop, task: tokio::spawn(go_round(writer, venues, books.clone(), every, clock, stopped)), books, clock }
    }

    /// Ends the rounds. What happens from here on is in the last rows.
    pub(crate) async fn pause(self) -> Last {
        // A task that is gone already has nothing to stop.
        let _gone = self.stop.send(());
        Last { writer: self.task.await.map_err(|error| format!("its task failed: {error}")), books: self.books, clock: self.clock }
    }

    /// Ends everything at once.
    pub(crate) fn abort(&self) {
        self.task.abort();
    }
}

/// What is left to do at the end of a run.
pub(crate) struct Last {
    writer: Result<Writer, String>,
    books: Books,
    clock: Clock,
}

impl Last {
    /// Writes the last rows, after the sinks have ended.
    ///
    /// # Errors
    /// What kept them, or others before them, from the disk.
    pub(crate) async fn finish(self, entries: Vec<(Key, Entry)>) -> Result<(), String> {
        let mut writer = self.writer?;
        for book in self.books.iter() {
            writer.rows().add_shares(book.name(), book.take());
        }
        writer.rows().add_entries(entries);
        let written = tokio::task::spawn_blocking(move || writer.append(self.clock.wall(), true)).await;
        written.map_err(|error| error.to_string())?.map_err(|error| error.to_string())
    }
}

async fn go_round(mut writer: Writer, venues: Vec<Weak<Shared>>, books: Books, every: Duration, clock: Clock, mut stop: oneshot::Receiver<()>) -> Writer {
    // There from the beginning, for alerts.
    let errors = metrics::counter!("collector_ledger_errors_total");
    loop {
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            // A sender that is gone means the same.
            _ = &mut stop => return writer,
        }
        tokio::select! {
            () = confirm(&books) => {}
            _ = &mut stop => return writer,
        }
        // The sinks first: what they wrote was passed on before, so that a reader of a running collector's ledger finds
        // too little written, perhaps, but never too much.
        for book in books.iter() {
            writer.rows().add_shares(book.name(), book.take());
        }
        for shared in venues.iter().filter_map(Weak::upgrade) {
            writer.rows().add_entries(shared.pipeline().take_ledger());
        }
        let errors = errors.clone();
        let appended = tokio::task::spawn_blocking(move || {
            if let Err(error) = writer.append(clock.wall(), false) {
                errors.increment(1);
                tracing::warn!(%error, "cannot write the ledger, trying again in a minute");
            }
            writer
        });
        match appended.await {
            Ok(back) => writer = back,
            // It took the writer with it: whoever waits for it learns of that.
            Err(error) => std::panic::resume_unwind(error.into_panic()),
        }
    }
}

/// Lets each sink confirm what it has accepted, within bounds.
async fn confirm(books: &[Arc<Book>]) {
    let confirmed: Vec<_> = books.iter().map(|book| book.confirm()).collect();
    let all = async {
        for answer in confirmed {
            // A sink that has ended has nothing more to confirm.
            let _ended = answer.await;
        }
    };
    // What comes too late counts next time.
    let _late = tokio::time::timeout(CONFIRM, all).await;
}

#[cfg(test)]
mod tests {
    use exchange_core::event::Trade;
    use exchange_core::pipeline::Everything;
    use exchange_core::{Body, Decimal, Event, Instrument, Market, Pipeline, Profile, Venue};
    use exchange_sinks::SinkUri;
    use tokio::sync::watch;

    use super::*;
    use crate::net::Outside;
    use crate::output::Output;

    #[tokio::test]
    async fn it_can_be_read_while_it_is_kept_and_balances_at_the_end() {
        let place = tempfile::tempdir().unwrap();
        let state = crate::StateDir::open(place.path()).unwrap().claim("one").unwrap();
        let directory = state.own(PART).unwrap().unwrap();
        let names = vec!["null:".to_owned()];
        let clock = Clock::system();
        let writer = Writer::open(directory, clock.wall(), names.clone()).unwrap();
        let (failed, _) = watch::channel(None);
        let (output, sinks, books) = Output::start(vec![("null:".into(), SinkUri::parse("null:").unwrap().open().unwrap())], &failed, Some(&names), clock);
        let exchange = *exchange_venues::all().first().unwrap();
        let venue = Venue::new(exchange, Profile::parse(exchange.policy()).unwrap());
        let mut pipeline = Pipeline::new(&venue.profile.name, Arc::new(Everything), false, false);
        pipeline.keep_ledger();
        let instrument = Arc::new(Instrument::named(venue.catalog.venue(), Market::Linear, "A", None));
        let limits = crate::limits::Limits::open(&venue.profile, clock, None).unwrap();
        let shared = Arc::new(Shared::new(venue, pipeline, Arc::new(output), limits, None, Outside::real().unwrap()));
        let keeper = Keeper::start(writer, vec![Arc::downgrade(&shared)], books, Duration::from_millis(5), clock);

        let read = || read(place.path(), "one", &|_| true, &|_| true).unwrap();
        let seen = |ledger: &Ledger| ledger.runs.values().flat_map(|run| run.rows.entries.values()).map(|entry| entry.passed).sum::<u64>();
        let (mut sent, mut first) = (0, None);
        // Until rows were taken again after some had been read.
        while first.is_none_or(|first| first >= seen(&read())) {
            let trade = |id: u64| Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
            let mut events = (0..10).map(|n| Event::new(instrument.clone(), clock.wall(), None, Body::Trade(trade(sent + n)))).collect();
            shared.deliver(&mut events, None).await;
            sent += 10;
            let ledger = read();
            assert!(ledger.running && ledger.problems.is_empty(), "{:?}", ledger.problems);
            for (number, run) in &ledger.runs {
                assert!(ledger.is_open(*number));
                assert_eq!(run.rows.differences(true), []);
            }
            first = first.or(Some(seen(&ledger)).filter(|seen| *seen > 0));
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        let last = keeper.pause().await;
        let rows = shared.pipeline().take_ledger();
        drop(shared);
        for sink in sinks {
            sink.await.unwrap().result.unwrap();
        }
        last.finish(rows).await.unwrap();
        drop(state);
        let ledger = read();
        assert_eq!((ledger.running, seen(&ledger), ledger.problems.len()), (false, sent, 0));
        assert!(ledger.runs.values().all(|run| run.ended && run.rows.differences(false).is_empty()));
    }
}
