//! What is missing, and how it is told: as `gap` events, one a place.
//!
//! A segment that goes unread leaves a piece of knowledge behind: of which places it held something, and from when to
//! when. The pieces lie in the file `lost`, a line each, so that a sink that comes back later is told exactly as one
//! that is there:
//!
//! ```text
//! AFTER LAST BATCHES EVENTS VENUE/MARKET/CHANNEL@FROM..TO … #CRC32C
//! ```

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::Path;
use std::sync::Arc;

use exchange_core::event::{Gap, GapReason, Ident};
use exchange_core::{Batch, Body, Channel, Event, Instrument, Market, Position, Time, canonical};

use crate::checkpoint::replace;
use crate::record::Place;
use crate::segment::{HEAD, Records, Segment};

/// Why batches are missing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Cause {
    /// They cannot be read any more, or a power cut took them.
    Damaged,
    /// There was no room for them.
    Dropped,
}

impl Cause {
    /// The word for it in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Damaged => "damaged",
            Self::Dropped => "dropped",
        }
    }
}

/// Batches that a reader does not get.
#[derive(Debug, Clone)]
pub struct Lost {
    /// The `gap` events that tell of it (reason `overflow`, for all instruments of a market and channel), at the position of the last
    /// lost batch. They are the same, with the same ids, when the same loss is met again. None where all that is missing was
    /// about no channel, or nothing is known.
    pub batch: Arc<Batch>,
    /// How many batches.
    pub batches: u64,
    /// How many events, as far as it is known.
    pub events: u64,
    /// Why.
    pub cause: Cause,
}

impl Lost {
    pub(crate) fn new(position: Position, batches: u64, events: u64, cause: Cause, spans: &Spans) -> Self {
        Self { batch: Arc::new(Batch::new(spans.gaps()).at(position)), batches, events, cause }
    }
}

/// From when (if that is known) to when something is missing.
type Span = (Option<Time>, Time);

/// The same of each place.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Spans(BTreeMap<Place, Span>);

impl Spans {
    pub(crate) fn add(&mut self, place: Place, from: Option<Time>, to: Time) {
        let span = self.0.entry(place).or_insert((from, to));
        *span = (span.0.min(from), span.1.max(to));
    }

    pub(crate) fn of(places: impl IntoIterator<Item = Place>, from: Option<Time>, to: Time) -> Self {
        Self(places.into_iter().map(|place| (place, (from, to))).collect())
    }

    pub(crate) fn places(self) -> impl Iterator<Item = Place> {
        self.0.into_keys()
    }

    fn merge(&mut self, other: &Self) {
        other.0.iter().for_each(|(place, (from, to))| self.add(place.clone(), *from, *to));
    }

    fn gaps(&self) -> Vec<Event> {
        let ident = |time: Time| u64::try_from(time.micros()).ok().map(Ident::Number);
        let gap = |(place, (from, to)): (&Place, &Span)| {
            let instrument = Arc::new(Instrument::named(&place.venue, place.market, "*", None));
            let gap = Gap { channel: place.channel, reason: GapReason::Overflow, from: from.and_then(ident), to: ident(*to) };
            // Its time is no clock's: the same loss is the same event whenever it is told.
            let mut event = Event::new(instrument, *to, None, Body::Gap(Box::new(gap)));
            event.id = canonical::id(&event);
            event
        };
        self.0.iter().map(gap).collect()
    }
}

/// What is known of batches that were deleted unread: those behind `after`, up to `last`.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Piece {
    pub(crate) after: u64,
    pub(crate) last: u64,
    pub(crate) batches: u64,
    pub(crate) events: u64,
    pub(crate) spans: Spans,
}

/// What a segment holds, without its lines: enough to tell whoever has not read it what is lost with it.
#[derive(Debug)]
pub(crate) struct Stock {
    segment: Segment,
    records: Vec<Entry>,
    /// Of which places records are: few combinations, many records.
    places: Vec<Vec<Place>>,
}

/// A record whose header is whole.
#[derive(Debug)]
struct Entry {
    number: u64,
    received: (Time, Time),
    events: u32,
    /// Which of the combinations; `None` where that is damaged.
    places: Option<u32>,
}

impl Stock {
    /// Goes over a segment that nobody writes to any more.
    pub(crate) fn take(segment: Segment) -> io::Result<Self> {
        let mut found = Records::open(&segment.path, HEAD)?;
        let (mut records, mut known) = (Vec::new(), BTreeMap::new());
        while let Some(header) = found.next(segment.bytes)? {
            let next = u32::try_from(known.len()).unwrap_or(u32::MAX);
            let places = found.places(&header)?.map(|places| *known.entry(places).or_insert(next));
            records.push(Entry { number: header.number, received: header.received, events: header.events, places });
        }
        let mut places: Vec<(Vec<Place>, u32)> = known.into_iter().collect();
        places.sort_unstable_by_key(|(_, number)| *number);
        Ok(Self { segment, records, places: places.into_iter().map(|(places, _)| places).collect() })
    }

    /// Whether it is of the segment that begins with this number.
    pub(crate) fn is_of(&self, first: u64) -> bool {
        self.segment.first == first
    }

    /// The segment, cut at the positions that readers have, so that each is told of no more than it has not read.
    pub(crate) fn pieces(&self, mut cuts: Vec<u64>) -> Vec<Piece> {
        let segment = &self.segment;
        cuts.retain(|cut| (segment.first..segment.last).contains(cut));
        cuts.push(segment.last);
        cuts.sort_unstable();
        cuts.dedup();
        let mut records = self.records.as_slice();
        let (mut after, mut next, mut time) = (segment.previous, segment.first, None);
        let mut pieces = Vec::new();
        for last in cuts {
            let mut piece = Piece { after, last, batches: last + 1 - next, ..Piece::default() };
            let mut spans: Vec<Option<Span>> = vec![None; self.places.len()];
            // Of records whose header or places are damaged: they may be of any place.
            let mut unknown: Option<Span> = None;
            loop {
                let number = records.first().map_or(last + 1, |record| record.number.min(last + 1));
                if number > next {
                    let to = records.first().map(|record| record.received.0).or(time).unwrap_or_default();
                    widen(&mut unknown, time, to);
                    next = number;
                }
                let Some((record, rest)) = records.split_first().filter(|(record, _)| record.number <= last) else { break };
                let (from, to) = record.received;
                let span = record.places.and_then(|places| spans.get_mut(places as usize)).unwrap_or(&mut unknown);
                widen(span, Some(from), to);
                piece.events += u64::from(record.events);
                (records, next, time) = (rest, record.number + 1, time.max(Some(to)));
            }
            let known = self.places.iter().zip(spans).filter_map(|(places, span)| Some((places, span?)));
            let all = unknown.into_iter().flat_map(|span| self.places.iter().map(move |places| (places, span)));
            for (places, (from, to)) in known.chain(all) {
                for place in places {
                    piece.spans.add(place.clone(), from, to);
                }
            }
            pieces.push(piece);
            after = last;
        }
        pieces
    }
}

fn widen(span: &mut Option<Span>, from: Option<Time>, to: Time) {
    let (start, end) = span.unwrap_or((from, to));
    *span = Some((start.min(from), end.max(to)));
}

/// All pieces, in order.
#[derive(Debug, Default)]
pub(crate) struct Losses(Vec<Piece>);

impl Losses {
    pub(crate) fn load(directory: &Path) -> Self {
        let text = std::fs::read_to_string(directory.join("lost")).unwrap_or_default();
        Self(text.lines().filter_map(read_piece).collect())
    }

    /// The text of the file.
    pub(crate) fn text(&self) -> String {
        self.0.iter().map(write_piece).collect()
    }

    /// Writes the file.
    pub(crate) fn save(directory: &Path, text: &str) -> io::Result<()> {
        replace(&directory.join("lost"), &[text.as_bytes()])
    }

    /// Adds pieces; neighbours that every reader needs both or none of become one.
    pub(crate) fn add(&mut self, pieces: Vec<Piece>, cursors: &[u64]) {
        for piece in pieces {
            match self.0.last_mut() {
                Some(before) if before.last == piece.after && !cursors.contains(&piece.after) => {
                    before.last = piece.last;
                    before.batches += piece.batches;
                    before.events += piece.events;
                    before.spans.merge(&piece.spans);
                }
                _ => self.0.push(piece),
            }
        }
    }

    /// Forgets what everybody was told. The file does when it is written next.
    pub(crate) fn forget(&mut self, up_to: u64) {
        self.0.retain(|piece| piece.last > up_to);
    }

    /// What lay behind `after`, up to `last`; `None` if it is not known of all.
    pub(crate) fn between(&self, after: u64, last: u64) -> Option<Piece> {
        let mut sum = Piece { after, last: after, ..Piece::default() };
        for piece in self.0.iter().filter(|piece| piece.last > after && piece.after < last) {
            if piece.after > sum.last {
                return None;
            }
            sum.last = piece.last;
            sum.batches += piece.batches;
            sum.events += piece.events;
            sum.spans.merge(&piece.spans);
        }
        (sum.last >= last).then_some(sum)
    }
}

fn write_piece(piece: &Piece) -> String {
    let mut line = format!("{} {} {} {}", piece.after, piece.last, piece.batches, piece.events);
    for (place, (from, to)) in &piece.spans.0 {
        let from = from.map(|from| from.micros().to_string()).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = write!(line, " {}/{}/{}@{from}..{}", place.venue, place.market, place.channel, to.micros());
    }
    let crc = crc32c::crc32c(line.as_bytes());
    line + &format!(" #{crc:08x}\n")
}

fn read_piece(line: &str) -> Option<Piece> {
    let (line, crc) = line.rsplit_once(" #")?;
    if u32::from_str_radix(crc, 16).ok()? != crc32c::crc32c(line.as_bytes()) {
        return None;
    }
    let mut words = line.split(' ');
    let mut number = || words.next()?.parse().ok();
    let mut piece = Piece { after: number()?, last: number()?, batches: number()?, events: number()?, spans: Spans::default() };
    for word in words {
        let (place, span) = word.rsplit_once('@')?;
        let mut parts = place.splitn(3, '/');
        let place = Place { venue: parts.next()?.into(), market: Market::parse(parts.next()?)?, channel: Channel::parse(parts.next()?)? };
        let (from, to) = span.split_once("..")?;
        let time = |text: &str| text.parse().ok().map(Time::from_micros);
        piece.spans.add(place, time(from), time(to)?);
    }
    Some(piece)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(channel: &str) -> Place {
        Place { venue: "bybit".into(), market: Market::Linear, channel: Channel::parse(channel).unwrap() }
    }

    fn piece(after: u64, last: u64) -> Piece {
        let time = |number: u64| Time::from_micros(number.cast_signed());
        let spans = Spans::of(vec![place("trade"), place("candle:1m")], Some(time(after)), time(last));
        Piece { after, last, batches: last - after, events: 10, spans }
    }

    #[test]
    fn pieces_are_read_as_they_were_written() {
        let mut unknown = piece(9, 12);
        unknown.spans.add(place("book"), None, Time::from_micros(5));
        for piece in [piece(3, 9), unknown, Piece::default()] {
            let line = write_piece(&piece);
            assert_eq!(read_piece(line.trim_end()), Some(piece), "{line}");
            assert_eq!(read_piece(&line.trim_end().replacen('1', "2", 1).replacen('0', "3", 1)), None);
        }
    }

    #[test]
    fn each_reader_is_told_of_what_it_has_not_read() {
        let mut losses = Losses::default();
        losses.add(vec![piece(0, 4), piece(4, 7)], &[4]);
        losses.add(vec![piece(7, 9)], &[4]);
        assert_eq!(losses.0.len(), 2, "nobody stands at 7");
        assert_eq!(losses.between(0, 9).map(|sum| (sum.batches, sum.events)), Some((9, 30)));
        assert_eq!(losses.between(4, 9), Some(Piece { events: 20, ..piece(4, 9) }));
        losses.add(vec![piece(11, 12)], &[]);
        assert_eq!(losses.between(4, 12), None, "of 10 and 11 nothing is known");
        losses.forget(9);
        assert_eq!(losses.0, [piece(11, 12)]);
    }
}
