//! What was missed: which holes there are, when each is asked for, and what goes out of the answers.

use std::sync::Arc;

use hashbrown::HashMap;

use super::{Asked, Next, Pipeline};
use crate::canonical;
use crate::event::{Body, Channel, Event, EventId, GapReason};
use crate::instrument::Instrument;
use crate::plan::Topic;
use crate::profile::Profile;
use crate::refill::{self, Outcome, Sources, Track};
use crate::time::Time;

#[expect(clippy::indexing_slicing, reason = "one slot a market")]
impl Pipeline {
    /// A gap is told: it may be asked for.
    #[cold]
    pub(super) fn gap_told(&mut self, event: &Event, refills: &mut Vec<Event>) {
        if let Some(profile) = self.refilling.clone() {
            self.open_holes(&profile, event, refills);
        }
    }

    /// A gap was closed, as far as it could be.
    #[cold]
    pub(super) fn gap_closed(&mut self, instrument: &Instrument, channel: Channel, gap: EventId) {
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
    pub fn served(&mut self, topics: &[Arc<Topic>], now: Time) -> bool {
        for (channel, instrument) in &self.holes {
            let of = |topic: &Arc<Topic>| {
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

    pub(super) fn track(&mut self, channel: Channel, instrument: &Instrument) -> Option<&mut Track> {
        self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol)?.track(channel)
    }
}
