//! From decoded events to those that go out: what was asked for, what is news, each with its id, each once.

mod missed;
mod saved;
mod seen;

use std::sync::Arc;

use hashbrown::HashMap;

use self::saved::Heard;
pub use self::saved::Unreadable;
pub use self::seen::Seen;
use crate::event::{Body, CHANNELS, Channel, Event};
use crate::fold::Latest;
use crate::instrument::{Instrument, Market};
use crate::ledger::{Entry, Fate, Key, Kind, Mark, Tallies};
use crate::plan::Request;
use crate::profile::Profile;
use crate::refill::{self, Track};
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
mod tests;
