//! Captures through the whole pipeline into sinks: by the same door as a live run, at a pace of its own.
//!
//! What a live run passed on while it captured comes out again, with the same ids: the pipeline meets the same events in the
//! same order. What only a live run knows is not there (gaps of `disconnect` and `overflow`, and the refills of them). Nothing
//! is in a hurry here, so no event is ever given up: the slowest sink sets the pace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use exchange_core::capture::Capture;
use exchange_core::ledger::{EventCounts, Share};
use exchange_core::pipeline::Wanted;
use exchange_core::{Batch, Event, Offline, Pipeline, Venue};
use exchange_sinks::{Sink, SinkError};
use tokio::sync::watch;

use crate::clock::Clock;
use crate::collector::{StartError, Summary, VenueSummary};
use crate::ledger::{self, Writer};
use crate::output::distinct;
use crate::retry;
use crate::state::StateDir;

/// Events of one venue that go out together at most, but for those of a single capture.
const TOGETHER: usize = 512;

/// What of the events is passed on.
#[derive(Clone)]
pub struct Passing {
    /// Which channels and instruments.
    pub wanted: Arc<dyn Wanted>,
    /// Unchanged states, too.
    pub all_events: bool,
    /// Each state whole.
    pub fold: bool,
}

/// Captures on their way into sinks.
///
/// ```no_run
/// # async fn example(venue: exchange_core::Venue, sink: Box<dyn exchange_sinks::Sink>, captures: Vec<exchange_core::capture::Capture>)
/// # -> Result<(), Box<dyn std::error::Error>> {
/// use std::sync::Arc;
///
/// use exchange_core::pipeline::Everything;
/// use exchange_runtime::{Passing, Replay};
///
/// let (_stop, stopped) = tokio::sync::watch::channel(false);
/// let passing = Passing { wanted: Arc::new(Everything), all_events: false, fold: false };
/// let mut replay = Replay::new(&[venue], &passing, vec![sink], stopped);
/// for capture in &captures {
///     replay.take(capture).await?;
/// }
/// let summary = replay.finish().await;
/// # Ok(())
/// # }
/// ```
pub struct Replay {
    offline: Offline,
    venues: BTreeMap<String, Way>,
    outlets: Vec<Outlet>,
    stop: watch::Receiver<bool>,
    clock: Clock,
    ledger: Option<Books>,
}

/// One venue's way to the sinks.
struct Way {
    pipeline: Pipeline,
    /// Decoded and not passed on.
    decoded: Vec<Event>,
}

/// A sink, and what the ledger knows of it.
struct Outlet {
    name: String,
    sink: Box<dyn Sink>,
    /// Accepted and not confirmed.
    accepted: EventCounts,
    dropped: EventCounts,
    error: Option<SinkError>,
}

struct Books {
    writer: Writer,
    written: Instant,
    trouble: Option<String>,
    /// Its name is claimed until the last row is written.
    _state: StateDir,
}

impl Replay {
    /// Of captures of these venues, what is to be passed on. From when on `stop` says so, a sink in trouble is given up.
    pub fn new(venues: &[Venue], passing: &Passing, sinks: Vec<Box<dyn Sink>>, stop: watch::Receiver<bool>) -> Self {
        let way = |venue: &Venue| {
            let pipeline = Pipeline::new(&venue.profile.name, passing.wanted.clone(), passing.all_events, passing.fold);
            (venue.profile.name.clone(), Way { pipeline, decoded: Vec::new() })
        };
        let names: Vec<String> = sinks.iter().map(|sink| sink.name().to_owned()).collect();
        let outlet = |(sink, name)| Outlet { name, sink, accepted: EventCounts::default(), dropped: EventCounts::default(), error: None };
        Self {
            offline: Offline::new(venues.iter().cloned()),
            venues: venues.iter().map(way).collect(),
            outlets: sinks.into_iter().zip(distinct(names.iter())).map(outlet).collect(),
            stop,
            clock: Clock::system(),
            ledger: None,
        }
    }

    /// Keeps a ledger from here on, if a name was claimed in this directory.
    ///
    /// # Errors
    /// Where its file cannot be made.
    pub fn with_ledger(mut self, state: StateDir) -> Result<Self, StartError> {
        if let Some(path) = state.own(ledger::PART)? {
            let names = self.outlets.iter().map(|outlet| outlet.name.clone()).collect();
            let writer = Writer::open(path.clone(), self.clock.wall(), names).map_err(|source| StartError::Ledger { path, source })?;
            self.ledger = Some(Books { writer, written: Instant::now(), trouble: None, _state: state });
            self.venues.values_mut().for_each(|way| way.pipeline.keep_ledger());
        }
        Ok(self)
    }

    /// Takes a capture. What it means goes out now or with what comes next; captures of other venues are passed over.
    ///
    /// # Errors
    /// A sink that failed for good, or has had enough.
    pub async fn take(&mut self, capture: &Capture) -> Result<(), SinkError> {
        let Some(way) = self.venues.get_mut(&capture.venue) else { return Ok(()) };
        self.offline.capture(capture, &mut way.decoded);
        if way.decoded.len() < TOGETHER { Ok(()) } else { self.pass_on().await }
    }

    /// Passes on everything that was decoded. Not to be dropped before it is done: sinks would lack what others have.
    ///
    /// # Errors
    /// As [`Replay::take`].
    pub async fn pass_on(&mut self) -> Result<(), SinkError> {
        let counted = self.ledger.is_some();
        for way in self.venues.values_mut().filter(|way| !way.decoded.is_empty()) {
            way.pipeline.process(&mut way.decoded);
            if way.decoded.is_empty() {
                continue;
            }
            let batch = Arc::new(Batch::new(std::mem::take(&mut way.decoded)));
            for outlet in &mut self.outlets {
                outlet.write(&batch, &self.stop, counted).await;
            }
        }
        if self.ledger.as_ref().is_some_and(|books| books.written.elapsed() >= ledger::EVERY) {
            self.confirm().await;
            self.account(false);
        }
        self.outlets.iter().find_map(|outlet| outlet.error.clone()).map_or(Ok(()), Err)
    }

    /// Passes on the rest, and waits until the sinks have everything.
    pub async fn finish(mut self) -> Summary {
        // A sink that failed is in the summary.
        let _failed = self.pass_on().await;
        for outlet in &mut self.outlets {
            if outlet.error.is_none()
                && let Err(error) = outlet.sink.close().await
            {
                outlet.error = Some(error);
            }
        }
        self.account(true);
        let mut summary = Summary { ledger_error: self.ledger.and_then(|books| books.trouble), ..Summary::default() };
        summary.sink_errors = self.outlets.into_iter().filter_map(|outlet| Some((outlet.name, outlet.error?))).collect();
        for (name, way) in self.venues {
            summary.venues.insert(name, VenueSummary { counts: way.pipeline.counts(), ..VenueSummary::default() });
        }
        summary
    }

    /// Lets the sinks confirm what they accepted.
    async fn confirm(&mut self) {
        for outlet in self.outlets.iter_mut().filter(|outlet| outlet.error.is_none()) {
            // In trouble it has not written yet: what it accepted stays in its account.
            if outlet.sink.flush().await.is_ok()
                && let Some(books) = &mut self.ledger
            {
                outlet.settle(&mut books.writer, |written| Share { written, ..Share::default() });
            }
        }
    }

    /// Writes the ledger's rows; at the `last`, what was accepted is written, or lost where the sink failed.
    fn account(&mut self, last: bool) {
        let Some(books) = &mut self.ledger else { return };
        for outlet in &mut self.outlets {
            if last {
                let failed = outlet.error.is_some();
                let share = |count| if failed { Share { dropped: count, ..Share::default() } } else { Share { written: count, ..Share::default() } };
                outlet.settle(&mut books.writer, share);
            }
            let dropped = outlet.dropped.take().into_iter().map(|(key, dropped)| (key, Share { dropped, ..Share::default() }));
            books.writer.rows().add_shares(&outlet.name, dropped);
        }
        for way in self.venues.values_mut() {
            books.writer.rows().add_entries(way.pipeline.take_ledger());
        }
        books.written = Instant::now();
        books.trouble = books.writer.append(self.clock.wall(), last).err().map(|error| error.to_string());
    }
}

impl Outlet {
    /// Writes a batch, as often as it takes; a sink that failed for good gets nothing more.
    async fn write(&mut self, batch: &Arc<Batch>, stop: &watch::Receiver<bool>, counted: bool) {
        if self.error.is_none() {
            self.error = retry::write(&mut *self.sink, &self.name, batch, || *stop.borrow()).await.err();
        }
        if counted {
            let fate = if self.error.is_none() { &mut self.accepted } else { &mut self.dropped };
            fate.count(batch.events());
        }
    }

    /// Moves what was accepted to the ledger.
    fn settle(&mut self, writer: &mut Writer, share: impl Fn(u64) -> Share) {
        let rows = self.accepted.take().into_iter().map(|(key, count)| (key, share(count)));
        writer.rows().add_shares(&self.name, rows);
    }
}
