//! Giving events their ids, many at a time.
//!
//! An event's canonical form is whole BLAKE3 blocks and nearly always less than a chunk, so the hashes of many events
//! are independent chains of the same length: BLAKE3's own SIMD code for the chunks of one long input computes up to
//! sixteen of them at once. The result is plain BLAKE3 of each event's canonical bytes.

use blake3::platform::Platform;

use crate::canonical::{self, BLOCK};
use crate::event::{Event, EventId};

/// BLAKE3's initial chaining value (the first words of the square roots of the first primes).
const IV: [u32; 8] = [0x6A09_E667, 0xBB67_AE85, 0x3C6E_F372, 0xA54F_F53A, 0x510E_527F, 0x9B05_688C, 0x1F83_D9AB, 0x5BE0_CD19];
/// BLAKE3's domain flags.
const CHUNK_START: u8 = 1;
const CHUNK_END: u8 = 2;
const ROOT: u8 = 8;
/// The longest chains that are hashed side by side: longer ones are rare, and one alone keeps the SIMD lanes busy less
/// badly. (A chunk, beyond which BLAKE3 is a tree, has 16 blocks.)
const MOST_BLOCKS: usize = 8;
/// How many are hashed side by side at most.
const LANES: usize = 16;

/// Seals events. Keeps its buffers.
#[derive(Debug)]
pub struct Sealer {
    platform: Platform,
    canonical: Vec<u8>,
    /// For each number of blocks: the events of that length, and where their bytes begin.
    by_blocks: [Vec<(usize, usize)>; MOST_BLOCKS + 1],
}

impl Default for Sealer {
    fn default() -> Self {
        Self { platform: Platform::detect(), canonical: Vec::new(), by_blocks: Default::default() }
    }
}

#[expect(clippy::indexing_slicing, reason = "offsets and lengths that this wrote itself; what they index was made here")]
impl Sealer {
    /// Fills sizes in base currency and computes the ids.
    pub fn seal(&mut self, events: &mut [Event]) {
        // Buffers of a bounded size, whatever the batch.
        for events in events.chunks_mut(4096) {
            self.seal_chunk(events);
        }
    }

    fn seal_chunk(&mut self, events: &mut [Event]) {
        self.canonical.clear();
        self.by_blocks.iter_mut().for_each(Vec::clear);
        for (at, event) in events.iter_mut().enumerate() {
            event.derive_base_sizes();
            let start = self.canonical.len();
            canonical::write(event, &mut self.canonical);
            let blocks = (self.canonical.len() - start) / BLOCK;
            if blocks <= MOST_BLOCKS {
                self.by_blocks[blocks].push((at, start));
            } else {
                event.id = canonical::id_of(&self.canonical[start..]);
                self.canonical.truncate(start);
            }
        }
        self.hash_lanes::<{ BLOCK }>(events);
        self.hash_lanes::<{ 2 * BLOCK }>(events);
        self.hash_lanes::<{ 3 * BLOCK }>(events);
        self.hash_lanes::<{ 4 * BLOCK }>(events);
        self.hash_lanes::<{ 5 * BLOCK }>(events);
        self.hash_lanes::<{ 6 * BLOCK }>(events);
        self.hash_lanes::<{ 7 * BLOCK }>(events);
        self.hash_lanes::<{ 8 * BLOCK }>(events);
    }

    /// Hashes the events whose canonical form is `BYTES` long.
    fn hash_lanes<const BYTES: usize>(&self, events: &mut [Event]) {
        let mut hashes = [0; LANES * blake3::OUT_LEN];
        for lanes in self.by_blocks[BYTES / BLOCK].chunks(LANES) {
            let mut inputs = [&[0; BYTES]; LANES];
            for (input, &(_, start)) in inputs.iter_mut().zip(lanes) {
                if let Some(bytes) = self.canonical[start..].first_chunk() {
                    *input = bytes;
                }
            }
            let no = blake3::IncrementCounter::No;
            self.platform.hash_many(&inputs[..lanes.len()], &IV, 0, no, 0, CHUNK_START, CHUNK_END | ROOT, &mut hashes);
            for (&(at, _), hash) in lanes.iter().zip(hashes.chunks_exact(blake3::OUT_LEN)) {
                if let Some(id) = hash.first_chunk() {
                    events[at].id = EventId(*id);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::decimal::Decimal;
    use crate::event::{Body, Book, BookKind, Ident, Level, Mark, Side, Ticker, Trade};
    use crate::instrument::{Instrument, Market};
    use crate::time::Time;

    fn event(body: Body, time: Option<Time>) -> Event {
        let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
        Event::new(instrument, Time::from_micros(1_763_640_000_000_000), time, body)
    }

    fn trade(price: &str) -> Event {
        let id = Some(Ident::parse("20f43950-d8dd-5b31-9112-a178eb6023af"));
        let trade = Trade { trade_id: id, price: price.parse().unwrap(), size: "0.001".parse().unwrap(), size_base: None, side: Some(Side::Buy) };
        event(Body::Trade(trade), Some(Time::from_millis(1_672_304_486_865)))
    }

    fn book(levels: usize) -> Event {
        let level = |n: usize| Level { price: Decimal::from(100_000 + i64::try_from(n).unwrap()), size: "0.777".parse().unwrap() };
        let bids = (0..levels).map(level).collect();
        event(
            Body::Book(Book { kind: BookKind::Delta, bids, asks: Vec::new(), seq: Some(7.into()), prev_seq: None, checksum: None }),
            Some(Time::from_millis(1)),
        )
    }

    /// The ids are a promise to everyone who keeps them: these must never change within schema 1.
    #[test]
    fn known_ids() {
        assert_eq!(canonical::id(&trade("16578.50")).to_string(), "fc31a95113220664ec9ee747e79ce63b");
        assert_eq!(
            canonical::id(&event(Body::Mark(Mark { mark: Some(Decimal::ONE), ..Mark::default() }), None)).to_string(),
            "a75130dc4a4177759ca443009c394ebb"
        );
        assert_eq!(canonical::id(&book(3)).to_string(), "b191a22c2da237657506c73f65080a4b");
    }

    #[test]
    fn side_by_side_is_plain_blake3() {
        let mut events: Vec<Event> = (0..40).map(|n| trade(&format!("1{n:04}.5"))).collect();
        events.extend((0..200).map(book));
        events.push(event(Body::Ticker(Ticker { last: Some(Decimal::ONE), ..Ticker::default() }), None));
        let plain: Vec<EventId> = events.iter().map(canonical::id).collect();
        Sealer::default().seal(&mut events);
        assert_eq!(events.iter().map(|event| event.id).collect::<Vec<_>>(), plain);
        let distinct: std::collections::HashSet<EventId> = plain.into_iter().collect();
        assert_eq!(distinct.len(), events.len());
    }

    #[test]
    fn what_an_id_is_blind_to() {
        let id = canonical::id(&trade("16578.50"));
        assert_eq!(canonical::id(&trade("16578.5")), id, "trailing zeros");
        let other = Event { received: Time::EPOCH, origin: Some(crate::event::Origin::Refill), ..trade("16578.5") };
        assert_eq!(canonical::id(&other), id, "when and how it came");
        let mark = |received| canonical::id(&Event { received, ..event(Body::Mark(Mark { mark: Some(Decimal::ONE), ..Mark::default() }), None) });
        assert_ne!(mark(Time::from_micros(1)), mark(Time::from_micros(2)), "a state without a time of its own covers `t`");
        assert_ne!(canonical::id(&Event { ordinal: 1, ..trade("16578.5") }), id, "an equal record of the same message");
    }
}
