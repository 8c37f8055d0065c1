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

mod saved;

use std::collections::VecDeque;
use std::hash::BuildHasher as _;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

pub(crate) use self::saved::{Saved, naming};
use crate::error::ErrorKind;
use crate::event::{Body, Channel, Event, EventId, Gap, GapReason, Ident, Origin, Refill};
use crate::history::Walk;
use crate::instrument::Instrument;
use crate::plan::{Range, Request, most_records, request_range};
use crate::profile::{Endpoint, Profile};
use crate::time::Time;

/// Records of an instrument that are remembered by their names.
const RECENT: usize = 16;
/// A hole begins so long before the last known record: venues do not always tell records in their order.
const MARGIN: Duration = Duration::from_secs(1);
/// And ends so long behind the stream's first new one.
const JITTER: Duration = Duration::from_millis(100);
/// Venue's clock and ours may differ by so much.
pub(crate) const SKEW: Duration = Duration::from_secs(5);
/// Between the acknowledgement of a subscription and the question what was missed before it: REST may lag behind, and what
/// happens later than this is certainly the stream's to tell.
const DELAY: Duration = Duration::from_secs(SKEW.as_secs() + 1);
/// An answer that does not reach up to the stream's first new record is asked for again after so long,
const LAG: Duration = Duration::from_secs(1);
/// so often.
const LAGS: u32 = 10;
/// No span of trades that is asked for at once is longer: some venues refuse an hour.
const LONGEST: Duration = Duration::from_mins(59);
/// Answers that are read for one hole.
const MOST_PAGES: u32 = 60;
/// Failures after which a hole is given up.
const ATTEMPTS: u32 = 8;
/// Gaps that wait for one answer; a further one gives up the first.
const MOST_GAPS: usize = 64;
/// Names that a hole remembers.
const MOST_KNOWN: usize = 1 << 14;

type Known = HashMap<u64, Time, foldhash::fast::FixedState>;

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

#[derive(Debug)]
struct Hole {
    instrument: Arc<Instrument>,
    gaps: Vec<Missed>,
    /// What came already, where it could be taken for missed.
    known: Known,
    stage: Stage,
    step: Step,
    /// Behind this everything was read; nothing was, without it.
    reached: Option<Time>,
    /// The first and the last record that was read.
    read: Option<(Time, Time)>,
    /// Up to when there was something to read.
    asked: Time,
    /// A record could not be decoded, or a moment not be read whole.
    lossy: bool,
    pages: u32,
    lags: u32,
    attempts: u32,
}

/// One gap.
#[derive(Debug)]
struct Missed {
    gap: EventId,
    /// The last time that is known to be covered.
    last: Time,
    /// Whether a record of that time is known.
    anchored: bool,
    /// No record before this belongs to the hole.
    low: Time,
    /// The stream's first new record.
    first: Option<Time>,
    /// Whether one answer held all of it.
    covered: bool,
    count: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The stream is not served yet.
    Unserved,
    /// It is, but when was not noted yet.
    Served,
    /// The hole is to be asked for.
    Due(Time),
    /// It is being asked for.
    Asked,
    /// Meanwhile there was another gap; the stream was served again since, or not.
    Outdated(bool),
}

#[derive(Debug)]
enum Step {
    Begin,
    /// The newest records, so many of them where that can be said.
    Newest(Option<usize>),
    /// Spans that are still to be read, and the window of them that was asked for.
    Spans {
        later: Vec<Walk>,
        walk: Walk,
        window: (Time, Time),
    },
}

/// What an answer held.
#[derive(Debug, Clone, Copy, Default)]
struct Page {
    count: usize,
    span: Option<(Time, Time)>,
    lossy: bool,
    foreign: bool,
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
        // After a restart only its name was known.
        if hole.instrument.details.is_none() {
            hole.instrument = instrument.clone();
        }
        hole.known.extend(self.recent.iter().map(|(time, name)| (*name, *time)));
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
        let hole = self.hole.as_mut()?;
        if hole.stage == Stage::Served {
            // Who has the first new record in hand sees whether the answer reaches up to it. Candles are final only a while
            // after their end.
            let at_once = self.channel == Channel::Trade && hole.gaps.last().is_some_and(|missed| missed.first.is_some());
            hole.stage = Stage::Due(if at_once { now } else { now + DELAY });
        }
        if let Stage::Due(at) = hole.stage { Some(at) } else { None }
    }

    /// What to ask for next; `wall` is the wall clock. The hole is not asked for until [`Track::asked`] says so.
    ///
    /// # Errors
    /// The `refill` events of a hole of which there is nothing to ask.
    pub fn request(&mut self, profile: &Profile, wall: Time) -> Result<Request, Vec<Event>> {
        let Some(hole) = &mut self.hole else { return Err(Vec::new()) };
        if hole.is_nothing(self.channel, wall) {
            (hole.reached, hole.asked) = (Some(Time::EPOCH), wall);
        } else if let Some(request) =
            Sources::of(profile, self.channel, &hole.instrument).and_then(|sources| hole.request(profile, sources, self.channel, wall))
        {
            return Ok(request);
        }
        Err(self.hole.take().map_or_else(Vec::new, |hole| hole.tell(self.channel, wall)))
    }

    /// The request is on its way.
    pub fn asked(&mut self) {
        if let Some(hole) = &mut self.hole {
            hole.stage = Stage::Asked;
        }
    }

    /// The hole is not asked for before then.
    pub fn wait(&mut self, until: Time) {
        if let Some(hole) = self.hole.as_mut().filter(|hole| matches!(hole.stage, Stage::Due(_))) {
            hole.stage = Stage::Due(until);
        }
    }

    /// Leaves in an answer's events what was missed, with its origin, and what could not be decoded.
    pub(crate) fn sift(&mut self, events: &mut Vec<Event>) -> Sifted {
        let Some(hole) = &mut self.hole else {
            events.clear();
            return Sifted(Page::default());
        };
        Sifted(hole.sift(self.channel, events))
    }

    /// These events, sealed, went out of those that [`Track::sift`] left.
    pub(crate) fn recovered(&mut self, events: &[Event]) {
        let Some(hole) = &mut self.hole else { return };
        for event in events.iter().filter(|event| event.origin == Some(Origin::Refill) && event.body.channel() == Some(self.channel)) {
            let Some((time, _)) = place(event) else { continue };
            let of = hole.gaps.iter().rposition(|missed| missed.last <= time).unwrap_or(0);
            if let Some(missed) = hole.gaps.get_mut(of) {
                missed.count += 1;
            }
        }
    }

    /// What the answer means for the hole; `refill` events, if it is over.
    pub(crate) fn proceed(&mut self, profile: &Profile, now: Time, wall: Time, outcome: Outcome, page: &Sifted) -> Vec<Event> {
        let Some(hole) = &mut self.hole else { return Vec::new() };
        let over = match outcome {
            Outcome::Answered => hole.answered(profile, self.channel, now, &page.0),
            Outcome::Failed(kind, again) => hole.failed(kind, again),
        };
        if !over {
            return Vec::new();
        }
        self.hole.take().map_or_else(Vec::new, |hole| hole.tell(self.channel, wall))
    }

    /// Whether there is a hole.
    pub fn is_open(&self) -> bool {
        self.hole.is_some()
    }
}

/// What was seen of an answer before it was sifted.
#[derive(Debug)]
pub(crate) struct Sifted(Page);

impl Missed {
    fn holds(&self, channel: Channel, time: Time) -> bool {
        // The candle that the stream began with is told by it to its end.
        let before = |first: Time| if matches!(channel, Channel::Candle(_)) { time < first } else { time <= first + JITTER };
        time >= self.low && self.first.is_none_or(before)
    }

    /// Whether an answer from the one time to the other holds all of it.
    fn is_within(&self, channel: Channel, (first, last): (Time, Time)) -> bool {
        self.anchored && first <= self.last && self.first.is_some_and(|first| first <= end(channel, last))
    }

    fn refill(&self, instrument: &Arc<Instrument>, channel: Channel, wall: Time, (from, to): (Option<Time>, Option<Time>), complete: bool) -> Event {
        let refill = Refill { gap: self.gap, channel, from: from.and_then(Ident::of_time), to: to.and_then(Ident::of_time), count: self.count, complete };
        Event::new(instrument.clone(), wall, None, Body::Refill(Box::new(refill)))
    }
}

impl Hole {
    fn new(instrument: Arc<Instrument>) -> Self {
        Self {
            instrument,
            gaps: Vec::new(),
            known: Known::default(),
            stage: Stage::Unserved,
            step: Step::Begin,
            reached: None,
            read: None,
            asked: Time::EPOCH,
            lossy: false,
            pages: 0,
            lags: 0,
            attempts: 0,
        }
    }

    fn open(&mut self, missed: Missed, channel: Channel, received: Time, refills: &mut Vec<Event>) {
        if let Some(before) = self.gaps.last_mut().filter(|before| before.first.is_none()) {
            // Nothing came between the two: what is missed of both is read at once.
            before.first = Some(missed.last);
        }
        self.gaps.push(missed);
        if self.gaps.len() > MOST_GAPS {
            let first = self.gaps.remove(0);
            refills.push(first.refill(&self.instrument, channel, received, (None, None), false));
        }
        self.stage = if matches!(self.stage, Stage::Asked | Stage::Outdated(_)) { Stage::Outdated(false) } else { Stage::Unserved };
        self.begin();
    }

    /// Reads everything anew.
    fn begin(&mut self) {
        (self.step, self.reached, self.read, self.pages) = (Step::Begin, None, None, 0);
    }

    #[cold]
    fn note(&mut self, channel: Channel, time: Time, name: Option<u64>, live: bool) -> bool {
        let Some(last) = self.gaps.last_mut() else { return false };
        let begins = live && last.first.is_none();
        if begins {
            last.first = Some(time);
        }
        if let Some(name) = name.filter(|_| self.known.len() < MOST_KNOWN && self.gaps.iter().any(|missed| missed.holds(channel, time))) {
            self.known.insert(name, time);
        }
        begins && self.served()
    }

    fn served(&mut self) -> bool {
        let waited = matches!(self.stage, Stage::Unserved | Stage::Outdated(false) | Stage::Due(_));
        self.stage = match self.stage {
            Stage::Unserved => Stage::Served,
            // The first new record came: there is no need to wait any longer.
            Stage::Due(_) if self.attempts == 0 && self.lags == 0 && self.pages == 0 => Stage::Served,
            Stage::Outdated(_) => Stage::Outdated(true),
            stage => stage,
        };
        waited
    }

    /// Whether no candle ended while the stream was not served: then it tells the running one to its end.
    fn is_nothing(&self, channel: Channel, wall: Time) -> bool {
        let continues = |missed: &Missed| missed.anchored && missed.first.map_or(wall < end(channel, missed.last), |first| first <= missed.last);
        matches!(channel, Channel::Candle(_)) && matches!(self.step, Step::Begin) && self.gaps.iter().all(continues)
    }

    /// The first gap of which something is still to be read.
    fn open_gap(&self) -> Option<&Missed> {
        self.gaps.iter().find(|missed| !missed.covered)
    }

    /// Where that begins, and whether a record of that time is known.
    fn begins(&self) -> (Time, bool) {
        self.open_gap().map_or((Time::EPOCH, false), |missed| (missed.last, missed.anchored))
    }

    fn request(&mut self, profile: &Profile, sources: Sources<'_>, channel: Channel, wall: Time) -> Option<Request> {
        let market = self.instrument.market;
        let (last, _) = self.begins();
        if matches!(self.step, Step::Begin | Step::Newest(_)) {
            self.asked = wall;
            self.step = match sources.newest {
                Some(endpoint) => {
                    let most = most_records(profile, endpoint, market);
                    let length = end(channel, last).since(last).as_micros();
                    // As many candles as there were since then; of what comes at any time, as many as there are.
                    let enough = wall.since(last).as_micros().checked_div(length).and_then(|candles| usize::try_from(candles + 3).ok());
                    Step::Newest(most.map(|most| enough.map_or(most, |enough| enough.min(most))))
                }
                None => self.spans(channel, wall)?,
            };
        }
        match &self.step {
            Step::Begin => None,
            Step::Newest(limit) => {
                let endpoint = sources.newest?;
                let range = Range { limit: *limit, ..Range::default() };
                Some(request_range(profile, endpoint, market, channel, &self.instrument, &range))
            }
            Step::Spans { window: (since, until), .. } => {
                let endpoint = sources.spans?;
                let range = Range { since: Some(*since), until: Some(*until), limit: most_records(profile, endpoint, market) };
                Some(request_range(profile, endpoint, market, channel, &self.instrument, &range))
            }
        }
    }

    /// The spans from the beginning of the hole to `until`.
    fn spans(&self, channel: Channel, until: Time) -> Option<Step> {
        // Some venues count in seconds: whole ones have no edge that could be rounded away.
        let second = |time: Time, more: i64| Time::from_millis((time.millis().div_euclid(1000) + more) * 1000);
        let (mut from, until) = (second(self.open_gap()?.low, 0), second(until, 1));
        let mut walks = Vec::new();
        while from < until {
            let to = if channel == Channel::Trade { until.min(from + LONGEST) } else { until };
            walks.push(Walk::new(from, to));
            from = to;
        }
        walks.reverse();
        let mut walk = walks.pop()?;
        let window = walk.next_window()?;
        Some(Step::Spans { later: walks, walk, window })
    }

    fn sift(&mut self, channel: Channel, events: &mut Vec<Event>) -> Page {
        let mut page = Page::default();
        let mut names = HashSet::<u64, foldhash::fast::FixedState>::default();
        let own = |event: &Event| event.body.channel() == Some(channel) && event.instrument.is_same(&self.instrument);
        for event in events.iter() {
            page.lossy |= matches!(event.body, Body::DecodeError(_));
            if !own(event) {
                continue;
            }
            let Some((time, name)) = place(event) else {
                // A trade without an id cannot be told from one that came.
                page.foreign = true;
                continue;
            };
            page.count += 1;
            page.span = Some(page.span.map_or((time, time), |(first, last): (Time, Time)| (first.min(time), last.max(time))));
            names.extend(name);
        }
        if let (Channel::Trade, Some((first, last))) = (channel, page.span) {
            let mut expected = self.known.iter().filter(|(_, time)| **time > first && **time < last).peekable();
            page.foreign |= expected.peek().is_some() && !expected.any(|(name, _)| names.contains(name));
        }
        let (known, gaps) = (&mut self.known, &self.gaps);
        events.retain_mut(|event| {
            if matches!(event.body, Body::DecodeError(_)) {
                return true;
            }
            let Some((time, Some(name))) = place(event).filter(|_| !page.foreign && own(event)) else { return false };
            if known.contains_key(&name) || !gaps.iter().any(|missed| missed.holds(channel, time)) {
                return false;
            }
            known.insert(name, time);
            event.origin = Some(Origin::Refill);
            true
        });
        page
    }

    /// Whether the hole is over.
    fn answered(&mut self, profile: &Profile, channel: Channel, now: Time, page: &Page) -> bool {
        self.lossy |= page.lossy;
        self.pages += 1;
        self.attempts = 0;
        if let Some(span) = page.span.filter(|_| !page.lossy && !page.foreign) {
            for missed in &mut self.gaps {
                missed.covered |= missed.is_within(channel, span);
            }
        }
        if let Stage::Outdated(served) = self.stage {
            self.stage = if served { Stage::Served } else { Stage::Unserved };
            self.begin();
            return false;
        }
        self.stage = Stage::Due(now);
        if page.foreign {
            self.reached = None;
        }
        if page.foreign || self.open_gap().is_none() {
            return true;
        }
        let read = page.span.into_iter().chain(self.read).reduce(|(first, last), (other_first, other_last)| (first.min(other_first), last.max(other_last)));
        self.read = read;
        let (last, anchored) = self.begins();
        let sources = Sources::of(profile, channel, &self.instrument);
        let behind = self.lags < LAGS && self.lags_behind(channel);
        match &mut self.step {
            Step::Begin => return true,
            Step::Newest(limit) => {
                if behind {
                    self.again(now);
                    return false;
                }
                // There is nothing before an answer that has room left, unless something is known to be.
                let has_all = limit.is_some_and(|limit| page.count < limit) && !anchored;
                self.reached = if has_all { Some(Time::EPOCH) } else { page.span.map(|(first, _)| first) };
                let reaches = self.reached.is_some_and(|reached| reached <= last);
                if reaches || sources.is_none_or(|sources| sources.spans.is_none()) {
                    return true;
                }
                match self.spans(channel, self.reached.unwrap_or(self.asked)) {
                    Some(spans) => self.step = spans,
                    None => return true,
                }
            }
            Step::Spans { later, walk, window } => {
                let most = sources.and_then(|sources| most_records(profile, sources.spans?, self.instrument.market));
                let inside = page.span.map(|(first, last)| (first.max(window.0), last.min(window.1))).filter(|(first, last)| first <= last);
                walk.answered(*window, most.is_some_and(|most| page.count >= most), inside);
                self.lossy |= walk.is_cut();
                let next = walk.next_window().or_else(|| {
                    *walk = later.pop()?;
                    walk.next_window()
                });
                if let Some(next) = next {
                    *window = next;
                } else {
                    // What is known to have been there is there, unless the venue has forgotten it.
                    self.reached = if anchored { read.map(|(first, _)| first) } else { Some(last) };
                    if behind {
                        self.again(now);
                        return false;
                    }
                    return true;
                }
            }
        }
        self.pages >= MOST_PAGES
    }

    /// The venue's answers are behind its stream: asks again a little later.
    fn again(&mut self, now: Time) {
        self.lags += 1;
        self.stage = Stage::Due(now + LAG);
        self.begin();
    }

    /// Whether the answers do not reach up to where the stream went on.
    fn lags_behind(&self, channel: Channel) -> bool {
        let Some(first) = self.gaps.last().and_then(|missed| missed.first) else { return false };
        self.read.is_none_or(|(_, newest)| end(channel, newest) < first)
    }

    fn failed(&mut self, kind: ErrorKind, again: Time) -> bool {
        if let Stage::Outdated(served) = self.stage {
            self.stage = if served { Stage::Served } else { Stage::Unserved };
            return false;
        }
        self.stage = Stage::Due(again);
        match kind {
            ErrorKind::Rejected => return true,
            // The venue said when; that is no failure.
            ErrorKind::RateLimited | ErrorKind::Banned | ErrorKind::GeoBlocked | ErrorKind::Maintenance => {}
            _ => self.attempts += 1,
        }
        self.attempts >= ATTEMPTS
    }

    /// How far each gap was closed.
    fn tell(&self, channel: Channel, wall: Time) -> Vec<Event> {
        let behind = self.lags_behind(channel);
        let newest = self.read.map(|(_, newest)| end(channel, newest)).filter(|_| behind);
        let of = |missed: &Missed| {
            // Nothing new came by the stream yet: it is closed up to the question.
            let wanted = missed.first.unwrap_or(self.asked).max(missed.last);
            let to = newest.map_or(wanted, |newest| newest.min(wanted));
            if missed.covered {
                return missed.refill(&self.instrument, channel, wall, (Some(missed.last), Some(wanted)), true);
            }
            let from = self.reached.map(|reached| reached.max(missed.last)).filter(|from| *from <= to);
            let complete = from == Some(missed.last) && to == wanted && !self.lossy;
            missed.refill(&self.instrument, channel, wall, (from, from.map(|_| to)), complete)
        };
        self.gaps.iter().map(of).collect()
    }
}

#[cfg(test)]
mod tests;
