//! From decoded events to those that go out: what was asked for, what is news, each with its id, each once.

mod saved;
mod seen;

use std::sync::Arc;

use hashbrown::HashMap;

use self::saved::Heard;
pub use self::saved::Unreadable;
use self::seen::Seen;
use crate::canonical;
use crate::event::{Body, CHANNELS, Channel, Event, EventId, GapReason};
use crate::fold::Latest;
use crate::instrument::{Instrument, Market};
use crate::ledger::{Entry, Fate, Key, Kind, Mark, Tallies};
use crate::plan::{Request, Topic};
use crate::profile::Profile;
use crate::refill::{self, Outcome, Sources, Track};
use crate::seal::Sealer;
use crate::time::Time;

/// How many instruments are remembered at most (and those of one batch): names that a venue made up must not fill the memory.
const MOST_INSTRUMENTS: usize = 1 << 16;

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
    /// Where the ledger counts it.
    mark: Mark,
    /// What can be refilled of it.
    tracks: Vec<Track>,
    /// When it was heard last.
    heard: Heard,
}

impl Asked {
    #[inline]
    fn track(&mut self, channel: Channel) -> Option<&mut Track> {
        self.tracks.iter_mut().find(|track| track.channel() == channel)
    }

    /// Takes note of an event that can be refilled. Whether a hole waited for it.
    #[inline]
    fn note(&mut self, channel: Channel, event: &Event) -> bool {
        if let Some(track) = self.track(channel) {
            return track.note(event);
        }
        let mut track = Track::new(channel, event.instrument.clone());
        track.note(event);
        // Of most instruments there is one; thousands have none to spare.
        self.tracks.reserve_exact(1);
        self.tracks.push(track);
        false
    }
}

/// What is to be done next about what was missed.
#[derive(Debug)]
pub enum Next {
    /// The venue is to be asked for a channel of an instrument.
    Ask(Channel, Arc<Instrument>, Request),
    /// Nothing is to be asked, and this is to be told.
    Tell(Vec<Event>),
    /// Nothing before then.
    Wait(Time),
}

/// Records that were passed over, because they were the bytes of the last answer.
#[derive(Debug, Clone, Copy)]
pub struct Skipped<'a> {
    /// When the answer arrived.
    pub received: Time,
    /// Whose they are.
    pub market: Market,
    /// The states that each of them holds.
    pub channels: &'a [Channel],
    /// How many.
    pub records: u64,
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
    ledger: Option<Tallies>,
    /// Of the events that are being processed, where the ledger counts them.
    marks: Vec<Mark>,
    /// The venue's description, where what is missed is asked for.
    refilling: Option<Arc<Profile>>,
    /// What has holes, in the order of their gaps.
    holes: Vec<(Channel, Arc<Instrument>)>,
    /// Whether a hole can be asked for now that could not before.
    woken: bool,
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
            ledger: None,
            marks: Vec::new(),
            refilling: None,
            holes: Vec::new(),
            woken: false,
        }
    }

    /// Keeps a ledger from here on, for [`Pipeline::take_ledger`].
    pub fn keep_ledger(&mut self) {
        self.asked = Default::default();
        self.ledger = Some(Tallies::new(self.venue.clone()));
    }

    /// The ledger's rows since the last time.
    pub fn take_ledger(&mut self) -> Vec<(Key, Entry)> {
        self.ledger.as_mut().map(Tallies::take).unwrap_or_default()
    }

    /// Also keeps account of what is missed, so that it can be asked for.
    #[must_use]
    pub fn with_refills(mut self, profile: Arc<Profile>) -> Self {
        self.refilling = Some(profile);
        self
    }

    /// Leaves in `events` what goes out, sealed.
    pub fn process(&mut self, events: &mut Vec<Event>) {
        self.make_room();
        self.marks.clear();
        let mut refills = Vec::new();
        events.retain_mut(|event| {
            let (wanted, mark) = self.look_up(event);
            if let Some(ledger) = &mut self.ledger {
                ledger.arrived(mark, event.received);
            }
            if !wanted {
                self.note(mark, event, Fate::NotAsked);
                return false;
            }
            if matches!(event.body, Body::Gap(_)) {
                self.gap_told(event, &mut refills);
            }
            let news = self.latest.update(event);
            if !news && !self.all_events {
                self.counts.unchanged += 1;
                self.note(mark, event, Fate::Unchanged);
                return false;
            }
            self.marks.push(mark);
            if self.fold {
                self.latest.fold(event);
            }
            true
        });
        self.sealer.seal(events);
        let marks = std::mem::take(&mut self.marks);
        let mut next = marks.iter().copied();
        events.retain(|event| {
            let mark = next.next().unwrap_or_default();
            if !self.seen.insert(event.id) {
                self.counts.duplicates += 1;
                self.note(mark, event, Fate::Duplicate);
                return false;
            }
            if let Some(ledger) = &mut self.ledger {
                ledger.passed(mark, event);
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
        self.marks = marks;
        if !refills.is_empty() {
            // Of gaps that were given up for newer ones.
            self.process(&mut refills);
            events.append(&mut refills);
        }
    }

    /// Takes note of states that were passed over.
    pub fn skipped(&mut self, skipped: &Skipped<'_>) {
        self.counts.unchanged += skipped.records * skipped.channels.len() as u64;
        if let Some(ledger) = self.ledger.as_mut().filter(|_| skipped.records > 0) {
            for channel in skipped.channels {
                ledger.passed_over(skipped.market, *channel, skipped.received, skipped.records);
            }
        }
    }

    #[inline]
    fn note(&mut self, mark: Mark, event: &Event, fate: Fate) {
        if let Some(ledger) = &mut self.ledger {
            ledger.fate(mark, event.received, fate);
        }
    }

    /// Forgets what was asked for when that has become too much; it is only worked out anew.
    fn make_room(&mut self) {
        let known: usize = self.asked.iter().map(HashMap::len).sum();
        if known.max(self.ledger.as_ref().map_or(0, Tallies::len)) > MOST_INSTRUMENTS {
            self.asked = Default::default();
            // What they missed is forgotten with them: only made-up names come in such numbers.
            self.holes.clear();
            if let Some(ledger) = &mut self.ledger {
                ledger.clear();
            }
        }
    }

    /// Whether an event was asked for, and where the ledger counts it.
    #[inline]
    fn look_up(&mut self, event: &Event) -> (bool, Mark) {
        let channel = event.body.channel();
        // What the collector itself says is for everyone.
        if channel.is_none() && self.ledger.is_none() {
            return (true, Mark::default());
        }
        let instrument = &*event.instrument;
        let refills = self.refilling.is_some() && channel.is_some_and(refill::can_refill);
        if let Some(asked) = self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol)
            && asked.symbol == instrument.symbol
        {
            let wanted = match channel {
                None => true,
                // Candles are asked for by interval, too.
                Some(channel @ Channel::Candle(_)) => self.wanted.wants(channel, instrument),
                Some(channel) => asked.channels >> channel.index() & 1 == 1,
            };
            if let Some(channel) = channel.filter(|_| wanted) {
                if event.origin.is_none() {
                    asked.heard.note(channel, event.received);
                }
                if refills {
                    self.woken |= asked.note(channel, event);
                }
            }
            return (wanted, asked.mark.of(Kind::of(&event.body)));
        }
        self.ask(instrument);
        self.look_up(event)
    }

    /// Asks what of an instrument is wanted.
    #[cold]
    fn ask(&mut self, instrument: &Instrument) {
        let mut channels = 0;
        for name in Channel::NAMES {
            // Candles are asked about by interval.
            if let Some(channel) = Channel::parse(name).filter(|channel| !matches!(channel, Channel::Candle(_))) {
                channels |= u16::from(self.wanted.wants(channel, instrument)) << channel.index();
            }
        }
        let mark = self.ledger.as_mut().map(|ledger| ledger.add(instrument)).unwrap_or_default();
        let unknown = || Asked { channels: 0, symbol: None, mark, tracks: Vec::new(), heard: Heard::default() };
        let asked = self.asked[instrument.market.index()].entry(instrument.venue_symbol.clone()).or_insert_with(unknown);
        (asked.channels, asked.symbol, asked.mark) = (channels, instrument.symbol.clone(), mark);
    }

    /// A gap is told: it may be asked for.
    #[cold]
    fn gap_told(&mut self, event: &Event, refills: &mut Vec<Event>) {
        if let Some(profile) = self.refilling.clone() {
            self.open_holes(&profile, event, refills);
        }
    }

    /// A gap was closed, as far as it could be.
    #[cold]
    fn gap_closed(&mut self, instrument: &Instrument, channel: Channel, gap: EventId) {
        if self.track(channel, instrument).is_some_and(|track| track.close(gap)) {
            self.holes.retain(|(other, of)| *other != channel || !of.is_same(instrument));
        }
    }

    /// What of a gap can be asked for later is kept in mind, of one instrument or, for `*`, of all that are known.
    fn open_holes(&mut self, profile: &Profile, event: &Event, refills: &mut Vec<Event>) {
        let Body::Gap(gap) = &event.body else { return };
        let (channel, instrument) = (gap.channel, &event.instrument);
        if !refill::can_refill(channel) || !matches!(gap.reason, GapReason::Disconnect | GapReason::Sequence) {
            return;
        }
        let id = canonical::id(event);
        if !instrument.is_all() && !self.asked[instrument.market.index()].contains_key(&*instrument.venue_symbol) {
            self.ask(instrument);
        }
        let holes = &mut self.holes;
        let mut open = |track: &mut Track, instrument: &Arc<Instrument>| {
            if Sources::of(profile, channel, instrument).is_some() && track.open(id, gap, event.received, instrument, refills) {
                holes.push((channel, instrument.clone()));
            }
        };
        if instrument.is_all() {
            for asked in self.asked[instrument.market.index()].values_mut() {
                if let Some(track) = asked.track(channel) {
                    let instrument = track.instrument();
                    open(track, &instrument);
                }
            }
            return;
        }
        if !self.wanted.wants(channel, instrument) {
            return;
        }
        let Some(asked) = self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol) else { return };
        if asked.track(channel).is_none() {
            asked.tracks.push(Track::new(channel, instrument.clone()));
        }
        if let Some(track) = asked.track(channel) {
            open(track, instrument);
        }
    }

    /// The streams of these topics are served from `now` on: what was missed of them before can be asked for. Whether one
    /// of them is new to a checkpoint.
    pub fn served(&mut self, topics: &[Topic], now: Time) -> bool {
        for (channel, instrument) in &self.holes {
            let of = |topic: &Topic| {
                let this = topic.instrument.as_ref().map_or(topic.market == instrument.market, |own| own.is_same(instrument));
                this && topic.channels.contains(channel)
            };
            if topics.iter().any(of) {
                let asked = self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol);
                self.woken |= asked.and_then(|asked| asked.track(*channel)).is_some_and(Track::served);
            }
        }
        // What is quiet is collected as well.
        let mut new = false;
        for topic in topics {
            let all = || Arc::new(Instrument::all(&self.venue, topic.market));
            let instrument = topic.instrument.clone().unwrap_or_else(all);
            if !self.asked[instrument.market.index()].contains_key(&*instrument.venue_symbol) {
                self.ask(&instrument);
            }
            if let Some(asked) = self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol) {
                for channel in &topic.channels {
                    new |= asked.heard.begin(*channel, now);
                }
            }
        }
        new
    }

    /// Whether a hole can be asked for that could not when this was asked last.
    pub fn take_woken(&mut self) -> bool {
        std::mem::take(&mut self.woken)
    }

    /// What to do next about what was missed; nothing, if nothing was or no stream is served yet.
    pub fn next_refill(&mut self, now: Time, wall: Time) -> Option<Next> {
        let profile = self.refilling.clone()?;
        let due = |asked: &mut [HashMap<Box<str>, Asked, foldhash::fast::RandomState>; 4], (channel, instrument): &(Channel, Arc<Instrument>)| {
            asked[instrument.market.index()].get_mut(&*instrument.venue_symbol)?.track(*channel)?.due(now)
        };
        let all = self.holes.iter().enumerate().filter_map(|(place, hole)| Some((due(&mut self.asked, hole)?, place)));
        let (at, place) = all.min()?;
        if at > now {
            return Some(Next::Wait(at));
        }
        let (channel, instrument) = self.holes.get(place)?.clone();
        match self.track(channel, &instrument)?.request(&profile, wall) {
            Ok(request) => Some(Next::Ask(channel, instrument, request)),
            Err(told) => {
                self.holes.remove(place);
                Some(Next::Tell(told))
            }
        }
    }

    /// What [`Next::Ask`] wants is on its way; or it cannot be asked for before `later`.
    pub fn refill_asked(&mut self, channel: Channel, instrument: &Instrument, later: Option<Time>) {
        if let Some(track) = self.track(channel, instrument) {
            match later {
                Some(later) => track.wait(later),
                None => track.asked(),
            }
        }
    }

    /// What [`Next::Ask`] wanted was answered. Leaves in `events` what goes out, sealed.
    pub fn refilled(&mut self, (now, wall): (Time, Time), channel: Channel, instrument: &Instrument, outcome: Outcome, events: &mut Vec<Event>) {
        let Some(profile) = self.refilling.clone() else { return };
        let Some(sifted) = self.track(channel, instrument).map(|track| track.sift(events)) else { return events.clear() };
        self.process(events);
        let Some(track) = self.track(channel, instrument) else { return };
        track.recovered(events);
        let mut told = track.proceed(&profile, now, wall, outcome, &sifted);
        if !track.is_open() {
            self.holes.retain(|(other, of)| *other != channel || !of.is_same(instrument));
        }
        self.process(&mut told);
        events.append(&mut told);
    }

    fn track(&mut self, channel: Channel, instrument: &Instrument) -> Option<&mut Track> {
        self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol)?.track(channel)
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
    use crate::event::{self, DecodeFailure, Gap, GapReason, Ticker, Trade};
    use crate::ledger::{Account, Hour};

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
        let mark = event(Body::Mark(event::Mark { mark: Some(Decimal::ONE), ..event::Mark::default() }), 1, None);
        assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), mark, trade(1)]), 1);
    }

    #[test]
    fn the_ledger_says_what_became_of_everything() {
        struct NoTrades;
        impl Wanted for NoTrades {
            fn wants(&self, channel: Channel, _: &Instrument) -> bool {
                channel != Channel::Trade
            }
        }
        let hour = 3_600_000_000;
        let mut pipeline = Pipeline::new("x", Arc::new(NoTrades), false, false);
        pipeline.keep_ledger();
        let gap = Gap { channel: Channel::Book, reason: GapReason::Sequence, from: None, to: None };
        let failure = || Body::DecodeError(Box::new(DecodeFailure { reason: "malformed: x".into(), excerpt: String::new() }));
        pass(
            &mut pipeline,
            [
                ticker(1, 1, None),
                ticker(1, 2, None),
                trade(1),
                // Across the hour, in the order in which two connections may bring it.
                ticker(2, hour, None),
                ticker(3, hour - 1, None),
                event(Body::Gap(Box::new(gap)), 3, None),
                event(failure(), 4, None),
                event(failure(), 4, None),
            ],
        );
        pipeline.skipped(&Skipped { received: Time::from_micros(5), market: Market::Linear, channels: &[Channel::Ticker, Channel::Mark], records: 3 });

        let mut account = Account::default();
        account.add_entries(pipeline.take_ledger());
        assert_eq!(account.differences(false), []);
        let counts = pipeline.counts();
        let sum = |of: fn(&Entry) -> u64| account.entries.values().map(of).sum::<u64>();
        assert_eq!(sum(|e| e.passed), counts.events);
        assert_eq!(sum(|e| e.unchanged + e.passed_over), counts.unchanged);
        assert_eq!((sum(|e| e.duplicate), sum(|e| e.gaps), sum(|e| e.undecodable)), (counts.duplicates, counts.gaps, 2));
        let entry = |name: &str, kind: &str, at| {
            let key =
                Key { hour: Hour::of(Time::from_micros(at)), venue: "x".into(), kind: Kind::parse(kind).unwrap(), market: Market::Linear, name: name.into() };
            account.entries[&key]
        };
        assert_eq!(entry("A", "ticker", 0), Entry { received: 3, decoded: 3, unchanged: 1, passed: 2, ..Entry::default() });
        assert_eq!(entry("A", "ticker", hour), Entry { received: 1, decoded: 1, passed: 1, ..Entry::default() });
        assert_eq!(entry("A", "trade", 0), Entry { received: 1, decoded: 1, not_asked: 1, ..Entry::default() });
        assert_eq!(entry("A", "gap", 0), Entry { made: 1, passed: 1, ..Entry::default() });
        assert_eq!(entry("A", "book", 0), Entry { gaps: 1, ..Entry::default() });
        assert_eq!(entry("A", "decode_error", 0), Entry { received: 2, undecodable: 2, made: 2, passed: 1, duplicate: 1, ..Entry::default() });
        assert_eq!(entry("*", "mark", 0), Entry { received: 3, passed_over: 3, ..Entry::default() });
        assert!(pipeline.take_ledger().is_empty());
    }

    #[test]
    fn made_up_names_do_not_fill_the_memory() {
        let mut pipeline = Pipeline::new("x", Arc::new(Everything), true, false);
        pipeline.keep_ledger();
        let mut account = Account::default();
        for n in 0..6 {
            let named = |m: usize| Arc::new(Instrument::named(&"x".into(), Market::Linear, &format!("{n}-{m}"), None));
            let mut events: Vec<Event> = (0..MOST_INSTRUMENTS / 4).map(|m| Event { instrument: named(m), ..ticker(1, 1, None) }).collect();
            pipeline.process(&mut events);
            assert!(pipeline.asked[Market::Linear.index()].len() <= MOST_INSTRUMENTS * 5 / 4);
            account.add_entries(pipeline.take_ledger());
        }
        assert_eq!((account.differences(false), account.entries.len()), (Vec::new(), 6 * (MOST_INSTRUMENTS / 4)));
    }
}
