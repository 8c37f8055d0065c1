//! A record: one batch as it lies in a segment.
//!
//! ```text
//! fixed part (56 bytes, little-endian): magic, CRC of what follows, length and CRC of the places, length and CRC of the
//!     lines, number of events, 0, number of the batch, first and last received time (microseconds)
//! places: `bybit linear/trade linear/candle:1m`, the venue and what of it the events belong to
//! lines: the batch's event lines
//! ```
//!
//! The fixed part has a checksum of its own: lengths that can be trusted are what tells a record that was not written to
//! its end from one that was damaged, and lets a reader go on behind the latter. All checksums are CRC32C.

use std::fmt::Write as _;
use std::sync::Arc;

use exchange_core::{Batch, Body, Channel, Market, Time};

use crate::error::SpoolError;

/// Begins every record. It is no UTF-8, so that event lines never hold it.
pub(crate) const MAGIC: [u8; 4] = [0xF7, b'R', b'E', 0xF8];
/// Length of the fixed part.
pub(crate) const FIXED: usize = 56;

/// What a record is, without its lines.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Header {
    pub(crate) number: u64,
    pub(crate) events: u32,
    /// When the first and the last of the events arrived.
    pub(crate) received: (Time, Time),
    places: (u32, u32),
    lines: (u32, u32),
}

/// Of what events are, as far as a `gap` says it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) venue: Arc<str>,
    pub(crate) market: Market,
    pub(crate) channel: Channel,
}

impl Header {
    /// The header of a batch that has no number yet, and the text of its places.
    pub(crate) fn of(batch: &Batch) -> Result<(Self, String), SpoolError> {
        let places = places_of(batch);
        let sum = |bytes: &[u8]| match u32::try_from(bytes.len()) {
            Ok(length) => Ok((length, crc32c::crc32c(bytes))),
            Err(_) => Err(SpoolError::TooLarge(bytes.len())),
        };
        let times = || batch.events().iter().map(|event| event.received);
        let header = Self {
            number: 0,
            events: u32::try_from(batch.events().len()).map_err(|_| SpoolError::TooLarge(batch.lines().len()))?,
            received: (times().min().unwrap_or_default(), times().max().unwrap_or_default()),
            places: sum(places.as_bytes())?,
            lines: sum(batch.lines())?,
        };
        Ok((header, places))
    }

    pub(crate) fn write(&self) -> [u8; FIXED] {
        let mut bytes = [0; FIXED];
        let mut rest = bytes.as_mut_slice();
        let mut put = |value: &[u8]| {
            if let Some((field, tail)) = std::mem::take(&mut rest).split_at_mut_checked(value.len()) {
                field.copy_from_slice(value);
                rest = tail;
            }
        };
        put(&MAGIC);
        put(&[0; 4]);
        for value in [self.places.0, self.places.1, self.lines.0, self.lines.1, self.events, 0] {
            put(&value.to_le_bytes());
        }
        put(&self.number.to_le_bytes());
        put(&self.received.0.micros().to_le_bytes());
        put(&self.received.1.micros().to_le_bytes());
        let crc = bytes.get(8..).map_or(0, crc32c::crc32c).to_le_bytes();
        if let Some(field) = bytes.get_mut(4..8) {
            field.copy_from_slice(&crc);
        }
        bytes
    }

    /// The header at the beginning of some bytes, if it is whole.
    pub(crate) fn read(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..FIXED)?.strip_prefix(&MAGIC)?;
        let (crc, body) = bytes.split_first_chunk()?;
        if crc32c::crc32c(body) != u32::from_le_bytes(*crc) {
            return None;
        }
        let short = |at: usize| body.get(at..)?.first_chunk().copied().map(u32::from_le_bytes);
        let long = |at: usize| body.get(at..)?.first_chunk().copied().map(u64::from_le_bytes);
        let time = |at: usize| long(at).map(u64::cast_signed).map(Time::from_micros);
        Some(Self { places: (short(0)?, short(4)?), lines: (short(8)?, short(12)?), events: short(16)?, number: long(24)?, received: (time(32)?, time(40)?) })
    }

    /// Bytes of the places and the lines behind the fixed part.
    pub(crate) fn rest(&self) -> (usize, usize) {
        (self.places.0 as usize, self.lines.0 as usize)
    }

    /// Bytes of the whole record.
    pub(crate) fn bytes(&self) -> u64 {
        FIXED as u64 + u64::from(self.places.0) + u64::from(self.lines.0)
    }

    /// Whether these are the lines that were written.
    pub(crate) fn has_lines(&self, lines: &[u8]) -> bool {
        crc32c::crc32c(lines) == self.lines.1
    }

    /// The places in a text, if it is the one that was written.
    pub(crate) fn places(&self, text: &[u8]) -> Option<Vec<Place>> {
        let whole = crc32c::crc32c(text) == self.places.1;
        whole.then(|| std::str::from_utf8(text).ok()).flatten().map(read_places)
    }
}

/// The text of a batch's places.
fn places_of(batch: &Batch) -> String {
    let mut text = String::new();
    let mut venue = None;
    let mut seen: Vec<(Market, Channel)> = Vec::new();
    for event in batch.events() {
        let channel = match &event.body {
            Body::Gap(gap) => Some(gap.channel),
            Body::Refill(refill) => Some(refill.channel),
            body => body.channel(),
        };
        let Some(channel) = channel else { continue };
        if venue != Some(&*event.instrument.venue) {
            venue = Some(&event.instrument.venue);
            seen.clear();
            let separator = if text.is_empty() { "" } else { " " };
            text.extend([separator, &event.instrument.venue]);
        }
        let place = (event.market(), channel);
        if !seen.contains(&place) {
            seen.push(place);
            text.extend([" ", place.0.as_str(), "/"]);
            match channel {
                // Writing to a string cannot fail.
                Channel::Candle(_) => drop(write!(text, "{channel}")),
                _ => text.push_str(channel.as_str()),
            }
        }
    }
    text
}

fn read_places(text: &str) -> Vec<Place> {
    let mut venue: Arc<str> = "".into();
    let mut places = Vec::new();
    for word in text.split(' ') {
        match word.split_once('/') {
            None => venue = word.into(),
            Some((market, channel)) => {
                if let (Some(market), Some(channel)) = (Market::parse(market), Channel::parse(channel)) {
                    places.push(Place { venue: venue.clone(), market, channel });
                }
            }
        }
    }
    places
}

#[cfg(test)]
mod tests {
    use exchange_core::event::{Gap, GapReason, Trade};
    use exchange_core::{Decimal, Event, Instrument};

    use super::*;

    fn batch() -> Batch {
        let instrument = |market| Arc::new(Instrument::named(&"bybit".into(), market, "BTCUSDT", None));
        let trade = || Body::Trade(Trade { trade_id: None, price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None });
        let gap = Gap { channel: Channel::parse("candle:1m").unwrap(), reason: GapReason::Disconnect, from: None, to: None };
        Batch::new(vec![
            Event::new(instrument(Market::Linear), Time::from_micros(7), None, trade()),
            Event::new(instrument(Market::Linear), Time::from_micros(5), None, trade()),
            Event::new(instrument(Market::Spot), Time::from_micros(9), None, Body::Gap(Box::new(gap))),
        ])
    }

    #[test]
    fn a_header_is_read_as_it_was_written() {
        let (mut header, places) = Header::of(&batch()).unwrap();
        header.number = 42;
        let bytes = header.write();
        assert_eq!(Header::read(&bytes), Some(header.clone()));
        assert_eq!(places, "bybit linear/trade spot/candle:1m");
        assert_eq!((header.events, header.received), (3, (Time::from_micros(5), Time::from_micros(9))));
        let read: Vec<String> =
            header.places(places.as_bytes()).unwrap().iter().map(|place| format!("{} {}/{}", place.venue, place.market, place.channel)).collect();
        assert_eq!(read, ["bybit linear/trade", "bybit spot/candle:1m"]);
        assert!(header.has_lines(batch().lines()) && !header.has_lines(b"{}\n"));
        assert_eq!(header.places(b"bybit linear/trade spot/candle:1h"), None);
    }

    #[test]
    fn a_header_with_any_bit_flipped_is_none() {
        let bytes = Header::of(&batch()).unwrap().0.write();
        for bit in 0..FIXED * 8 {
            let mut flipped = bytes;
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Header::read(&flipped), None, "bit {bit}");
        }
        for length in 0..FIXED {
            assert_eq!(Header::read(&bytes[..length]), None);
        }
    }
}
