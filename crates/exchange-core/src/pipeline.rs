//! From decoded events to those that go out: what was asked for, what is news, each with its id, each once.

use std::sync::Arc;

use hashbrown::{HashMap, HashSet};

use crate::event::{Body, CHANNELS, Channel, Event, EventId};
use crate::fold::Latest;
use crate::instrument::{Instrument, Market};
use crate::seal::Sealer;

/// How many ids are remembered at least (and twice as many at most).
const WINDOW: usize = 1 << 16;

/// A bounded window of ids.
#[derive(Debug, Default)]
struct Seen {
    current: HashSet<EventId, IdHasher>,
    previous: HashSet<EventId, IdHasher>,
}

/// An id is a hash already.
#[derive(Debug, Default, Clone, Copy)]
struct IdHasher(u64);

impl std::hash::BuildHasher for IdHasher {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl std::hash::Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
    // The length that goes before an array's bytes says nothing.
    fn write_usize(&mut self, _: usize) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Seen {
    /// Whether the id is new.
    #[inline]
    fn insert(&mut self, id: EventId) -> bool {
        if self.previous.contains(&id) || !self.current.insert(id) {
            return false;
        }
        if self.current.len() >= WINDOW {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        true
    }
}

/// What was asked for. One request or stream may bring more.
pub trait Wanted: Send + Sync {
    /// Whether events of this channel and instrument were asked for.
    fn wants(&self, channel: Channel, instrument: &Instrument) -> bool;
}

/// Everything.
#[derive(Debug, Clone, Copy)]
pub struct Everything;

impl Wanted for Everything {
    fn wants(&self, _: Channel, _: &Instrument) -> bool {
        true
    }
}

/// What was asked for of an instrument.
struct Asked {
    /// One bit a channel.
    channels: u16,
    /// The symbol for which that holds: it becomes known when the venue describes the instrument.
    symbol: Option<Box<str>>,
}

/// How many events met which fate.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Went out.
    pub events: u64,
    /// States that repeated the last known value.
    pub unchanged: u64,
    /// Ids that had gone out before.
    pub duplicates: u64,
    /// Gaps.
    pub gaps: u64,
    /// Messages or records that could not be decoded.
    pub errors: u64,
    /// Went out, by [`Channel::index`].
    pub by_channel: [u64; CHANNELS],
}

/// One venue's pipeline.
pub struct Pipeline {
    venue: Arc<str>,
    wanted: Arc<dyn Wanted>,
    /// The answers of `wanted`, by market and instrument.
    asked: [HashMap<Box<str>, Asked, foldhash::fast::RandomState>; 4],
    all_events: bool,
    fold: bool,
    latest: Latest,
    seen: Seen,
    sealer: Sealer,
    counts: Counts,
}

#[expect(clippy::indexing_slicing, reason = "one slot a market, one a channel")]
impl Pipeline {
    /// A pipeline that has seen nothing. `all_events` passes on unchanged states; `fold` makes each state whole.
    pub fn new(venue: &str, wanted: Arc<dyn Wanted>, all_events: bool, fold: bool) -> Self {
        Self {
            venue: venue.into(),
            wanted,
            asked: Default::default(),
            all_events,
            fold,
            latest: Latest::default(),
            seen: Seen::default(),
            sealer: Sealer::default(),
            counts: Counts::default(),
        }
    }

    /// Leaves in `events` what goes out, sealed.
    pub fn process(&mut self, events: &mut Vec<Event>) {
        events.retain_mut(|event| {
            if !self.is_wanted(event) {
                return false;
            }
            let news = self.latest.update(event);
            if !news && !self.all_events {
                self.counts.unchanged += 1;
                return false;
            }
            if self.fold {
                self.latest.fold(event);
            }
            true
        });
        self.sealer.seal(events);
        events.retain(|event| {
            if !self.seen.insert(event.id) {
                self.counts.duplicates += 1;
                return false;
            }
            self.counts.events += 1;
            match &event.body {
                Body::Gap(_) => self.counts.gaps += 1,
                Body::DecodeError(_) => self.counts.errors += 1,
                _ => {}
            }
            if let Some(channel) = event.body.channel() {
                self.counts.by_channel[channel.index()] += 1;
            }
            true
        });
    }

    /// Takes note of states that were passed over because their records were the bytes of the last answer.
    pub fn skipped(&mut self, unchanged: u64) {
        self.counts.unchanged += unchanged;
    }

    #[inline]
    fn is_wanted(&mut self, event: &Event) -> bool {
        let Some(channel) = event.body.channel() else { return true };
        let instrument = &*event.instrument;
        let table = &mut self.asked[instrument.market.index()];
        let mask = match table.get(&*instrument.venue_symbol) {
            Some(asked) if asked.symbol == instrument.symbol => asked.channels,
            _ => {
                let one_minute = crate::time::Interval::new(1, 'm').map(Channel::Candle);
                let mut mask = 0;
                for name in Channel::NAMES {
                    if let Some(channel) = Channel::parse(name).filter(|c| Some(*c) != one_minute) {
                        mask |= u16::from(self.wanted.wants(channel, instrument)) << channel.index();
                    }
                }
                table.insert(instrument.venue_symbol.clone(), Asked { channels: mask, symbol: instrument.symbol.clone() });
                mask
            }
        };
        // Candles are asked for by interval, too.
        if matches!(channel, Channel::Candle(_)) { self.wanted.wants(channel, instrument) } else { mask >> channel.index() & 1 == 1 }
    }

    /// How many events met which fate since the beginning.
    pub fn counts(&self) -> Counts {
        self.counts
    }

    /// The last known values.
    pub fn latest(&self) -> &Latest {
        &self.latest
    }

    /// The digests of a market's states, in the order of [`crate::fold::STATES`].
    pub fn digests(&mut self, market: Market) -> [u128; crate::fold::STATES.len()] {
        self.latest.digests(&self.venue, market)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decimal::Decimal;
    use crate::event::{Mark, Ticker, Trade};
    use crate::time::Time;

    fn event(body: Body, received: i64, time: Option<i64>) -> Event {
        let instrument = Arc::new(Instrument::named(&"x".into(), Market::Linear, "A", None));
        Event::new(instrument, Time::from_micros(received), time.map(Time::from_micros), body)
    }

    fn ticker(last: i64, received: i64, time: Option<i64>) -> Event {
        event(Body::Ticker(Ticker { last: Some(Decimal::from(last)), ..Ticker::default() }), received, time)
    }

    fn trade(id: u64) -> Event {
        let trade = Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
        event(Body::Trade(trade), 1, Some(1))
    }

    fn pass(pipeline: &mut Pipeline, events: impl IntoIterator<Item = Event>) -> usize {
        let mut events: Vec<Event> = events.into_iter().collect();
        pipeline.process(&mut events);
        assert!(events.iter().all(|event| event.id != EventId::NONE));
        events.len()
    }

    #[test]
    fn passes_on_news_once() {
        let mut pipeline = Pipeline::new("x", Arc::new(Everything), false, false);
        assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), ticker(1, 2, None), ticker(2, 3, None), ticker(1, 4, None)]), 3);
        assert_eq!(pass(&mut pipeline, [trade(1), trade(2), trade(1)]), 2);
        let counts = pipeline.counts();
        assert_eq!((counts.events, counts.unchanged, counts.duplicates), (5, 1, 1));
        assert_eq!(counts.by_channel[Channel::Trade.index()], 2);
    }

    #[test]
    fn all_events_still_sends_an_id_once() {
        let mut pipeline = Pipeline::new("x", Arc::new(Everything), true, false);
        assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), ticker(1, 2, None)]), 2, "without a time of its own");
        assert_eq!(pass(&mut pipeline, [ticker(1, 3, Some(9)), ticker(1, 4, Some(9))]), 1);
    }

    #[test]
    fn leaves_out_what_was_not_asked_for() {
        struct Tickers;
        impl Wanted for Tickers {
            fn wants(&self, channel: Channel, _: &Instrument) -> bool {
                channel == Channel::Ticker
            }
        }
        let mut pipeline = Pipeline::new("x", Arc::new(Tickers), false, false);
        let mark = event(Body::Mark(Mark { mark: Some(Decimal::ONE), ..Mark::default() }), 1, None);
        assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), mark, trade(1)]), 1);
    }

    #[test]
    fn the_window_of_ids_is_bounded() {
        let mut seen = Seen::default();
        for n in 0..3 * WINDOW as u64 {
            let mut id = [0; 16];
            id[..8].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
            assert!(seen.insert(EventId(id)));
            assert!(!seen.insert(EventId(id)));
        }
        assert!(seen.current.len() + seen.previous.len() <= 2 * WINDOW);
    }
}
