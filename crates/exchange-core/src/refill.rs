//! Closing gaps: what a stream missed is asked for by REST, where the venue keeps it. No clock, no socket.
//!
//! Trades, candles and settlements are happenings: what is missed stays missed unless somebody asks. A [`Track`] remembers
//! the last of them that are known of one channel of one instrument. A `gap` opens a hole behind them; it ends with the
//! first that the stream brings again. As soon as the stream is served again, the hole is asked for: the newest records
//! first, which mostly reach back far enough, then span by span. What was missed goes out with its origin, what had come
//! already does not, and a `refill` event says how far it went.
//!
//! A record is known again by what the venue calls it (a trade's id, a candle's and a settlement's time), not by the event's
//! id: a reply may word the same fact with a field more. So each edge of a hole is exact, however long ago it was.
//! Records that are others than the stream's (single trades where it joins them) must not go out beside them: endpoints
//! that have such ones say so (`refill = false`), and an answer that knows none of the known trades of its own time is not
//! trusted.
//!
//! Each gap has one `refill` event; a gap for `*` has one of each instrument that was known. Where the venue has nothing to ask
//! (no endpoint of one instrument's history), none comes: such a gap stays open, as one that the end of a run overtakes.

mod hole;
mod saved;

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

pub(crate) use self::hole::Page;
use self::hole::{Hole, Missed};
pub(crate) use self::saved::{Saved, naming};
use crate::error::ErrorKind;
use crate::event::{Body, Channel, Event, EventId, Gap, GapReason, Ident};
use crate::instrument::Instrument;
use crate::plan::Request;
use crate::profile::{Endpoint, Profile};
use crate::time::Time;

/// Records of an instrument that are remembered by their names.
const RECENT: usize = 16;
/// A hole begins so long before the last known record: venues do not always tell records in their order.
const MARGIN: Duration = Duration::from_secs(1);
/// Venue's clock and ours may differ by so much.
pub(crate) const SKEW: Duration = Duration::from_secs(5);

/// Whether what is missed of a channel can be asked for later.
#[inline]
pub fn can_refill(channel: Channel) -> bool {
    matches!(channel, Channel::Trade | Channel::Candle(_) | Channel::FundingSettled)
}

/// Where the past of a channel of an instrument is to be had.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Sources<'p> {
    /// The newest records.
    newest: Option<&'p Endpoint>,
    /// Those of a span of time.
    spans: Option<&'p Endpoint>,
}

impl<'p> Sources<'p> {
    /// What the venue's description names, if anything.
    pub fn of(profile: &'p Profile, channel: Channel, instrument: &Instrument) -> Option<Self> {
        if !can_refill(channel) || matches!(channel, Channel::Candle(interval) if profile.interval(interval).is_none()) {
            return None;
        }
        let all = || {
            let fits = |e: &&Endpoint| e.refill && !e.also && !e.follow && e.per_instrument() && e.serves(instrument.market, channel) && e.is_for(instrument);
            profile.endpoint.iter().filter(fits)
        };
        // What is only there for a past wants to know which.
        let newest = all().find(|endpoint| !endpoint.history);
        let bounds = |range: &str| (range.contains("{since") || range.contains("{after")) && (range.contains("{until") || range.contains("{before"));
        let spans = all().filter(|endpoint| endpoint.range.as_deref().is_some_and(bounds)).min_by_key(|endpoint| endpoint.history);
        (newest.is_some() || spans.is_some()).then_some(Self { newest, spans })
    }
}

/// What is known of a channel of an instrument, and what was missed of it.
#[derive(Debug)]
pub struct Track {
    channel: Channel,
    instrument: Arc<Instrument>,
    /// The first and the last record that came.
    span: Option<(Time, Time)>,
    /// The last ones by name, in the order of their coming.
    recent: VecDeque<(Time, u64)>,
    hole: Option<Box<Hole>>,
}

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// It was answered.
    Answered,
    /// It was not, for a reason of this kind, and may be made again then.
    Failed(ErrorKind, Time),
}

/// When a record happened, and the venue's name of it: none for a candle that is still open.
#[inline]
fn place(event: &Event) -> Option<(Time, Option<u64>)> {
    #[expect(clippy::cast_sign_loss, reason = "a name")]
    match &event.body {
        Body::Trade(trade) => Some((event.time?, Some(name(trade.trade_id.as_ref()?)))),
        Body::Candle(candle) => Some((candle.open_time, candle.closed.then_some(candle.open_time.micros() as u64))),
        Body::FundingSettled(settled) => Some((settled.time, Some(settled.time.micros() as u64))),
        _ => None,
    }
}

#[inline]
fn name(id: &Ident) -> u64 {
    if let Ident::Number(number) = id {
        return *number;
    }
    foldhash::fast::FixedState::default().hash_one(id)
}

/// When a record of that time is over.
fn end(channel: Channel, time: Time) -> Time {
    if let Channel::Candle(interval) = channel { interval.end(time) } else { time }
}

impl Track {
    /// A channel of which nothing is known.
    pub fn new(channel: Channel, instrument: Arc<Instrument>) -> Self {
        Self { channel, instrument, span: None, recent: VecDeque::with_capacity(RECENT), hole: None }
    }

    /// The channel.
    pub fn channel(&self) -> Channel {
        self.channel
    }

    /// The instrument, as it was known first.
    pub fn instrument(&self) -> Arc<Instrument> {
        self.instrument.clone()
    }

    /// Takes note of a record that came. Whether that was what a hole waited for.
    #[inline]
    pub fn note(&mut self, event: &Event) -> bool {
        let Some((time, name)) = place(event) else { return false };
        let live = event.origin.is_none();
        let mut wakes = false;
        if let Some(hole) = &mut self.hole {
            wakes = hole.note(self.channel, time, name, live);
        }
        // What is fetched comes late: it is the last known only where the stream has not brought more since.
        if !live && self.span.is_some_and(|(_, last)| time <= last) {
            return wakes;
        }
        self.span = Some(self.span.map_or((time, time), |(first, last)| (first.min(time), last.max(time))));
        if let Some(name) = name {
            if self.recent.len() == RECENT {
                self.recent.pop_front();
            }
            self.recent.push_back((time, name));
        }
        wakes
    }

    /// A gap was told. Whether a hole was opened, where there was none.
    pub fn open(&mut self, id: EventId, gap: &Gap, received: Time, instrument: &Arc<Instrument>, refills: &mut Vec<Event>) -> bool {
        let told = gap.from.as_ref().filter(|_| gap.reason == GapReason::Disconnect).and_then(Ident::as_time);
        let known = self.span.filter(|(_, last)| told.is_none_or(|told| *last <= told + SKEW));
        let last = known.map(|(_, last)| last).or(told).unwrap_or(received);
        let length = if matches!(self.channel, Channel::Candle(_)) { end(self.channel, last).since(last) } else { MARGIN };
        let low = last.earlier(length).max(known.map_or(Time::EPOCH, |(first, _)| first));
        // What was forgotten by name may have come.
        let forgotten = self.recent.iter().map(|(time, _)| *time).min().filter(|_| self.recent.len() == RECENT && known.is_some());
        let low = low.max(forgotten.unwrap_or(Time::EPOCH).min(last));
        let missed = Missed { gap: id, last, anchored: known.is_some(), low, first: None, covered: false, count: 0 };
        let opens = self.hole.is_none();
        let hole = self.hole.get_or_insert_with(|| Box::new(Hole::new(instrument.clone())));
        hole.knows(instrument, &self.recent);
        hole.open(missed, self.channel, received, refills);
        opens
    }

    /// The stream is served again. Whether that was what a hole waited for.
    pub fn served(&mut self) -> bool {
        let Some(hole) = &mut self.hole else { return false };
        hole.served()
    }

    /// When a hole is to be asked for, if there is one and its stream is served.
    pub fn due(&mut self, now: Time) -> Option<Time> {
        self.hole.as_mut()?.due(self.channel, now)
    }

    /// What to ask for next; `wall` is the wall clock. The hole is not asked for until [`Track::asked`] says so.
    ///
    /// # Errors
    /// The `refill` events of a hole of which there is nothing to ask.
    pub fn request(&mut self, profile: &Profile, wall: Time) -> Result<Request, Vec<Event>> {
        let request = self.hole.as_mut().and_then(|hole| hole.request(profile, self.channel, wall));
        request.ok_or_else(|| self.end(wall))
    }

    /// The request is on its way.
    pub fn asked(&mut self) {
        if let Some(hole) = &mut self.hole {
            hole.asked();
        }
    }

    /// The hole is not asked for before then.
    pub fn wait(&mut self, until: Time) {
        if let Some(hole) = &mut self.hole {
            hole.wait(until);
        }
    }

    /// Leaves in an answer's events what was missed, with its origin, and what could not be decoded.
    pub(crate) fn sift(&mut self, events: &mut Vec<Event>) -> Page {
        let Some(hole) = &mut self.hole else {
            events.clear();
            return Page::default();
        };
        hole.sift(self.channel, events)
    }

    /// These events, sealed, went out of those that [`Track::sift`] left.
    pub(crate) fn recovered(&mut self, events: &[Event]) {
        if let Some(hole) = &mut self.hole {
            hole.recovered(self.channel, events);
        }
    }

    /// What the answer means for the hole; `refill` events, if it is over.
    pub(crate) fn proceed(&mut self, profile: &Profile, now: Time, wall: Time, outcome: Outcome, page: &Page) -> Vec<Event> {
        let Some(hole) = &mut self.hole else { return Vec::new() };
        let over = match outcome {
            Outcome::Answered => hole.answered(profile, self.channel, now, page),
            Outcome::Failed(kind, again) => hole.failed(kind, again),
        };
        if over { self.end(wall) } else { Vec::new() }
    }

    /// The hole is over: its `refill` events.
    fn end(&mut self, wall: Time) -> Vec<Event> {
        self.hole.take().map_or_else(Vec::new, |hole| hole.tell(self.channel, wall))
    }

    /// Whether there is a hole.
    pub fn is_open(&self) -> bool {
        self.hole.is_some()
    }
}

#[cfg(test)]
mod tests;
