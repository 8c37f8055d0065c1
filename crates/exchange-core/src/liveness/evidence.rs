//! What a venue's answer says about a stream.

use crate::canonical;
use crate::event::{Body, Channel, Event};
use crate::instrument::Instrument;
use crate::time::Time;

/// Levels of a book by which two answers are compared.
const LEVELS: usize = 5;

/// Trades whose times are kept.
const LATEST: usize = 5;

/// What a REST answer says about a channel of an instrument.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Evidence {
    /// The newest trade's time.
    pub newest: Option<Time>,
    /// The times of the newest trades.
    pub latest: [Option<Time>; LATEST],
    /// Stands for the values, whenever they were asked for.
    pub print: Option<u128>,
}

impl Evidence {
    /// The evidence in an answer's events.
    pub fn of(events: &[Event], channel: Channel, instrument: &Instrument) -> Self {
        let about = |event: &&Event| event.body.channel().is_some_and(|c| c.same_kind(channel)) && event.instrument.venue_symbol == instrument.venue_symbol;
        let mut all = events.iter().filter(about);
        if channel == Channel::Trade {
            let mut times: Vec<Time> = all.filter_map(|event| event.time).collect();
            times.sort_unstable_by(|a, b| b.cmp(a));
            let newest = times.first().copied();
            let latest = std::array::from_fn(|at| times.get(at).copied());
            return Self { newest, latest, print: newest.map(|time| time.micros().unsigned_abs().into()) };
        }
        Self { print: all.next_back().map(print), ..Self::default() }
    }
}

/// Equal for equal values.
fn print(event: &Event) -> u128 {
    let mut event = Event { received: Time::EPOCH, time: None, ..event.clone() };
    match &mut event.body {
        Body::Book(book) => {
            (book.seq, book.prev_seq, book.checksum) = (None, None, None);
            book.bids.truncate(LEVELS);
            book.asks.truncate(LEVELS);
        }
        Body::Quote(quote) => quote.seq = None,
        _ => {}
    }
    u128::from_le_bytes(canonical::id(&event).0)
}
