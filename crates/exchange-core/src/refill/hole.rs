//! What was missed of a channel of an instrument, until it has come or is given up.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use hashbrown::{HashMap, HashSet};

use super::{SKEW, Sources, end, place};
use crate::error::ErrorKind;
use crate::event::{Body, Channel, Event, EventId, Ident, Origin, Refill};
use crate::history::Walk;
use crate::instrument::Instrument;
use crate::plan::{Range, Request, most_records, request_range};
use crate::profile::Profile;
use crate::time::Time;

/// And ends so long behind the stream's first new one.
const JITTER: Duration = Duration::from_millis(100);

/// Between the acknowledgement of a subscription and the question what was missed before it: REST may lag behind, and what
/// happens later than this is certainly the stream's to tell.
pub(super) const DELAY: Duration = Duration::from_secs(SKEW.as_secs() + 1);

/// An answer that does not reach up to the stream's first new record is asked for again after so long,
pub(super) const LAG: Duration = Duration::from_secs(1);

/// so often.
const LAGS: u32 = 10;

/// No span of trades that is asked for at once is longer: some venues refuse an hour.
const LONGEST: Duration = Duration::from_mins(59);

/// Answers that are read for one hole.
const MOST_PAGES: u32 = 60;

/// Failures after which a hole is given up.
pub(super) const ATTEMPTS: u32 = 8;

/// Gaps that wait for one answer; a further one gives up the first.
pub(super) const MOST_GAPS: usize = 64;

/// Names that a hole remembers.
const MOST_KNOWN: usize = 1 << 14;

type Known = HashMap<u64, Time, foldhash::fast::FixedState>;

/// One or several gaps that are asked for together.
#[derive(Debug)]
pub(super) struct Hole {
    instrument: Arc<Instrument>,
    pub(super) gaps: Vec<Missed>,
    /// What came already, where it could be taken for missed.
    pub(super) known: Known,
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
    /// Answers that were read.
    pages: u32,
    /// Answers that did not reach up to the stream.
    lags: u32,
    /// Failures in a row.
    attempts: u32,
}

/// One gap.
#[derive(Debug)]
pub(super) struct Missed {
    pub(super) gap: EventId,
    /// The last time that is known to be covered.
    pub(super) last: Time,
    /// Whether a record of that time is known.
    pub(super) anchored: bool,
    /// No record before this belongs to the hole.
    pub(super) low: Time,
    /// The stream's first new record.
    pub(super) first: Option<Time>,
    /// Whether one answer held all of it.
    pub(super) covered: bool,
    /// Events that were recovered.
    pub(super) count: u64,
}

/// Whether it can be asked for.
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

/// What it is asked for with.
#[derive(Debug)]
enum Step {
    /// Nothing yet.
    Begin,
    /// The newest records, so many of them where that can be said.
    Newest(Option<usize>),
    /// Spans that are still to be read, and the window of them that was asked for.
    Spans { later: Vec<Walk>, walk: Walk, window: (Time, Time) },
}

/// What an answer held before it was sifted.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Page {
    /// Records of the channel and instrument.
    count: usize,
    /// The first and the last of them.
    span: Option<(Time, Time)>,
    /// Something could not be decoded.
    lossy: bool,
    /// They are others than the stream's.
    foreign: bool,
}

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
    pub(super) fn new(instrument: Arc<Instrument>) -> Self {
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

    /// Takes note of what is known when a gap is told: the instrument, and its last records by name.
    pub(super) fn knows(&mut self, instrument: &Arc<Instrument>, recent: &VecDeque<(Time, u64)>) {
        // After a restart only its name was known.
        if self.instrument.details.is_none() {
            self.instrument = instrument.clone();
        }
        self.known.extend(recent.iter().map(|(time, name)| (*name, *time)));
    }

    pub(super) fn open(&mut self, missed: Missed, channel: Channel, received: Time, refills: &mut Vec<Event>) {
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
    pub(super) fn note(&mut self, channel: Channel, time: Time, name: Option<u64>, live: bool) -> bool {
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

    pub(super) fn served(&mut self) -> bool {
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

    /// When it is to be asked for, if its stream is served.
    pub(super) fn due(&mut self, channel: Channel, now: Time) -> Option<Time> {
        if self.stage == Stage::Served {
            // Who has the first new record in hand sees whether the answer reaches up to it. Candles are final only a while
            // after their end.
            let at_once = channel == Channel::Trade && self.gaps.last().is_some_and(|missed| missed.first.is_some());
            self.stage = Stage::Due(if at_once { now } else { now + DELAY });
        }
        if let Stage::Due(at) = self.stage { Some(at) } else { None }
    }

    /// The request is on its way.
    pub(super) fn asked(&mut self) {
        self.stage = Stage::Asked;
    }

    /// If it is to be asked for, then not before that time.
    pub(super) fn wait(&mut self, until: Time) {
        if matches!(self.stage, Stage::Due(_)) {
            self.stage = Stage::Due(until);
        }
    }

    /// What to ask for next, if there is anything to ask.
    pub(super) fn request(&mut self, profile: &Profile, channel: Channel, wall: Time) -> Option<Request> {
        if self.is_nothing(channel, wall) {
            (self.reached, self.asked) = (Some(Time::EPOCH), wall);
            return None;
        }
        let sources = Sources::of(profile, channel, &self.instrument)?;
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

    pub(super) fn sift(&mut self, channel: Channel, events: &mut Vec<Event>) -> Page {
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

    /// These events, sealed, went out of those that [`Hole::sift`] left.
    pub(super) fn recovered(&mut self, channel: Channel, events: &[Event]) {
        for event in events.iter().filter(|event| event.origin == Some(Origin::Refill) && event.body.channel() == Some(channel)) {
            let Some((time, _)) = place(event) else { continue };
            let of = self.gaps.iter().rposition(|missed| missed.last <= time).unwrap_or(0);
            if let Some(missed) = self.gaps.get_mut(of) {
                missed.count += 1;
            }
        }
    }

    /// Whether the hole is over.
    pub(super) fn answered(&mut self, profile: &Profile, channel: Channel, now: Time, page: &Page) -> bool {
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

    pub(super) fn failed(&mut self, kind: ErrorKind, again: Time) -> bool {
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
    pub(super) fn tell(&self, channel: Channel, wall: Time) -> Vec<Event> {
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
