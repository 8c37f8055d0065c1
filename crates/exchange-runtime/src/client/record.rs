//! What a client answers with: records out of events.

use std::collections::HashSet;
use std::sync::Arc;

use exchange_core::event::{Book, Candle, Funding, FundingSettled, Liquidation, OpenInterest, Ticker, Trade};
use exchange_core::instrument::Details;
use exchange_core::{Body, Event, EventId, Instrument, Market, Time};

/// A fact, and whose it is.
#[derive(Debug, Clone, PartialEq)]
pub struct Record<T> {
    /// Whose.
    pub instrument: Arc<Instrument>,
    /// When it arrived.
    pub received: Time,
    /// The venue's own time of it, where it says one.
    pub time: Option<Time>,
    /// The id that a collector's event of the same fact has.
    pub id: EventId,
    /// What it says.
    pub value: T,
}

impl<T> Record<T> {
    pub(super) fn of(event: &Event, value: T) -> Self {
        Self { instrument: event.instrument.clone(), received: event.received, time: event.time, id: event.id, value }
    }
}

/// Leaves what is about these instruments; everything, if none is named.
pub(super) fn keep(events: &mut Vec<Event>, chosen: &[Arc<Instrument>]) {
    if chosen.is_empty() {
        return;
    }
    let names: HashSet<(Market, &str)> = chosen.iter().map(|instrument| (instrument.market, &*instrument.venue_symbol)).collect();
    events.retain(|event| names.contains(&(event.instrument.market, &*event.instrument.venue_symbol)));
}

/// Leaves the first records, or the last ones, of those that are more than was asked for.
pub(super) fn cut<T>(records: &mut Vec<T>, limit: Option<usize>, first: bool) {
    let Some(more) = limit.and_then(|limit| records.len().checked_sub(limit)) else { return };
    if first {
        records.truncate(records.len() - more);
    } else {
        records.drain(..more);
    }
}

/// Makes the function that takes a value out of an event.
macro_rules! value {
    ($($name:ident: $variant:ident($value:ty),)+) => {
        $(pub(super) fn $name(body: &Body) -> Option<$value> {
            if let Body::$variant(value) = body { Some(value.clone()) } else { None }
        })+
    };
}

value! {
    ticker: Ticker(Ticker),
    funding: Funding(Funding),
    settled: FundingSettled(FundingSettled),
    open_interest: OpenInterest(OpenInterest),
    trade: Trade(Trade),
    liquidation: Liquidation(Liquidation),
    book: Book(Book),
    candle: Candle(Candle),
}

pub(super) fn details(body: &Body) -> Option<Details> {
    if let Body::Instrument(details) = body { Some((**details).clone()) } else { None }
}
