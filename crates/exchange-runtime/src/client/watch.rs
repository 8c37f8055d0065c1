//! Streams for embedders: a collector of one channel whose sink is the caller.

use std::collections::HashSet;
use std::sync::Arc;

use exchange_core::event::{DecodeFailure, Gap};
use exchange_core::{Batch, Body, Channel, Event, Instrument, Market, Mode, Venue};
use exchange_sinks::{Sink, SinkError, SinkErrorKind, SinkFuture};
use tokio::sync::mpsc;

use super::Record;
use super::error::ClientError;
use crate::collector::{Collector, VenueStatus, unserved};
use crate::state::StateDir;

/// Batches that wait for a caller. What waits beyond that waits in the collector's own queue, which is bounded, too.
const WAITING: usize = 64;

/// Records as they come. Dropping it closes the connections behind it.
///
/// ```no_run
/// # async fn example(client: exchange_runtime::Client) -> Result<(), exchange_runtime::ClientError> {
/// let mut trades = client.watch_trades(&["BTC/USDT:USDT"]).await?;
/// while let Some(next) = trades.next().await {
///     match next {
///         Ok(trade) => println!("{} {} at {}", trade.instrument.venue_symbol, trade.value.size, trade.value.price),
///         // What was missed stays missed; the stream goes on.
///         Err(error) => eprintln!("{error}"),
///     }
/// }
/// # Ok(())
/// # }
/// ```
pub struct Watch<T> {
    batches: mpsc::Receiver<Arc<Batch>>,
    /// The batch that is being handed out, and how much of it was.
    current: (Arc<Batch>, usize),
    value: fn(&Body) -> Option<T>,
    collector: Collector,
}

/// What a stream tells besides its records. It goes on after each of them.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum WatchError {
    /// Something was missed: the connection was lost, a book's sequence broke, or the caller was too slow. The
    /// instrument is `*` where all of a market's are concerned.
    #[error("{}: {} of {} was missed ({})", .0.instrument.venue, .0.value.channel, .0.instrument.symbol.as_deref().unwrap_or(&.0.instrument.venue_symbol), .0.value.reason.as_str())]
    Missed(Box<Record<Gap>>),
    /// The venue sent what could not be decoded, or refused a subscription; in the venue's words.
    #[error("{}: {}", .0.instrument.venue, .0.value.reason)]
    Undecodable(Box<Record<DecodeFailure>>),
}

impl<T> Watch<T> {
    /// Starts to collect `channel` of some instruments.
    pub(super) fn start(
        venue: Venue,
        state: Option<StateDir>,
        channel: Channel,
        instruments: &[Arc<Instrument>],
        value: fn(&Body) -> Option<T>,
    ) -> Result<Self, ClientError> {
        let name = venue.profile.name.clone();
        let wanted: HashSet<(Market, Box<str>)> = instruments.iter().map(|instrument| (instrument.market, instrument.venue_symbol.clone())).collect();
        if wanted.is_empty() {
            return Err(ClientError::config(&name, "a stream needs at least one symbol"));
        }
        let markets: HashSet<Market> = wanted.iter().map(|(market, _)| *market).collect();
        let without = |mode| markets.iter().copied().find(|market| !unserved(&venue, *market, &[channel], mode).is_empty());
        let mode = if without(Mode::Stream).is_none() { Mode::Stream } else { Mode::Auto };
        if let Some(market) = without(mode) {
            return Err(ClientError::config(&name, format!("there is no {channel} of the {market} market")));
        }
        let (sender, batches) = mpsc::channel(WAITING);
        let chosen = move |instrument: &Instrument| wanted.contains(&(instrument.market, instrument.venue_symbol.clone()));
        let collector = Collector::builder()
            .venue(venue)
            .markets(markets.iter().copied())
            .channels([channel])
            .mode(mode)
            // Each state whole: a venue may send only what changed of it.
            .fold(true)
            .choose(Arc::new(chosen))
            .sink(Box::new(Caller { sender }))
            .state(state)
            .start()
            .map_err(|error| ClientError::config(&name, error.to_string()))?;
        Ok(Self { batches, current: (Arc::default(), 0), value, collector })
    }

    /// The next record, or what was missed before it. Waits for it; may be dropped while it waits.
    pub async fn next(&mut self) -> Option<Result<Record<T>, WatchError>> {
        loop {
            let (batch, at) = &mut self.current;
            while let Some(event) = batch.events().get(*at) {
                *at += 1;
                if let Some(next) = hand_out(event, self.value) {
                    return Some(next);
                }
            }
            self.current = (self.batches.recv().await?, 0);
        }
    }

    /// How the venue is doing: whether it was reached, and what keeps it from delivering.
    pub fn status(&self) -> Option<VenueStatus> {
        self.collector.monitor().status().into_iter().next()
    }
}

/// What an event is to the caller, if it is anything.
fn hand_out<T>(event: &Event, value: fn(&Body) -> Option<T>) -> Option<Result<Record<T>, WatchError>> {
    Some(match &event.body {
        Body::Gap(gap) => Err(WatchError::Missed(Box::new(Record::of(event, (**gap).clone())))),
        Body::DecodeError(failure) => Err(WatchError::Undecodable(Box::new(Record::of(event, (**failure).clone())))),
        body => Ok(Record::of(event, value(body)?)),
    })
}

/// The sink behind a stream.
struct Caller {
    sender: mpsc::Sender<Arc<Batch>>,
}

impl Sink for Caller {
    fn name(&self) -> &'static str {
        "watch:"
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        Box::pin(async {
            let room = self.sender.reserve().await.map_err(|_| SinkError::new(SinkErrorKind::Closed, "nobody watches any more"))?;
            room.send(batch.clone());
            Ok(())
        })
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}
