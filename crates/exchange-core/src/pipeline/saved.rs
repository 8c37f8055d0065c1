//! What a pipeline knows, as it outlives the process: which ids went out, what came last of what can be refilled and what
//! of it is still missing, and when each channel of each instrument was heard last.
//!
//! A checkpoint is one line of JSON, a line break, and the ids as they are. It stands for a moment; the events that went
//! out since then are [observed](Pipeline::observe) one by one. States are not in it: after a restart each is told once more,
//! as at any beginning, so that whoever reads knows where things stand behind the gap.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::seen::Seen;
use super::{Asked, Pipeline};
use crate::event::{Body, CHANNELS, Channel, Event};
use crate::instrument::{Instrument, Market};
use crate::plan::Topic;
use crate::refill::{self, Track};
use crate::time::{Interval, Time};

/// Raised when an older program would misread it.
const VERSION: u32 = 1;

/// The place of candles of all intervals.
const CANDLE: usize = 9;

/// When each channel of an instrument was heard last, or was begun to be listened to.
#[derive(Debug, Default)]
pub(super) struct Heard {
    at: [Time; CHANNELS],
    /// Of which that was before a restart, and is still to be told (one bit each).
    owed: u16,
    /// The same of candles: each interval is told for itself, once.
    candles: Option<Box<(Time, Vec<Interval>)>>,
}

#[expect(clippy::indexing_slicing, reason = "one slot a channel")]
impl Heard {
    /// Something live came.
    #[inline]
    pub(super) fn note(&mut self, channel: Channel, received: Time) {
        let at = channel.index();
        if self.owed >> at & 1 == 0 {
            self.at[at] = received;
        }
    }

    /// It is listened to from now on. Whether that is news.
    pub(super) fn begin(&mut self, channel: Channel, now: Time) -> bool {
        let at = &mut self.at[channel.index()];
        let new = *at == Time::EPOCH;
        if new {
            *at = now;
        }
        new
    }

    /// What was heard before now was before a restart.
    fn owe(&mut self) {
        self.owed = (0..CHANNELS).filter(|at| self.at[*at] != Time::EPOCH).fold(0, |owed, at| owed | 1 << at);
        if self.owed >> CANDLE & 1 == 1 {
            self.owed &= !(1 << CANDLE);
            self.candles = Some(Box::new((self.at[CANDLE], Vec::new())));
        }
    }

    /// When a channel was heard last before the restart, if nobody was told.
    fn settle(&mut self, channel: Channel) -> Option<Time> {
        if let Channel::Candle(interval) = channel {
            let (before, told) = self.candles.as_deref_mut()?;
            let owed = !told.contains(&interval);
            told.extend(owed.then_some(interval));
            return owed.then_some(*before);
        }
        let at = channel.index();
        let owed = self.owed >> at & 1 == 1;
        self.owed &= !(1 << at);
        owed.then_some(self.at[at])
    }
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

#[derive(Serialize, Deserialize)]
struct Saved<'a> {
    v: u32,
    venue: &'a str,
    /// See [`refill::naming`].
    naming: u64,
    /// How many ids follow.
    ids: (usize, usize),
    instruments: Vec<SavedInstrument>,
}

#[derive(Serialize, Deserialize)]
struct SavedInstrument {
    market: String,
    venue_symbol: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    symbol: Option<String>,
    /// In microseconds, by the channel's word (candles of all intervals are one).
    heard: BTreeMap<String, i64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    tracks: Vec<refill::Saved>,
}

/// Why a checkpoint cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Broken off, of another venue, or something else altogether.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Of another version of this program, which may still use it.
    #[error("it is of another version ({0}, not {VERSION})")]
    Version(u32),
}

impl Asked {
    fn save(&self, market: Market, venue_symbol: &str) -> SavedInstrument {
        let heard = |name: &str| {
            let at = self.heard.at.get(Channel::parse(name)?.index()).filter(|at| **at != Time::EPOCH)?;
            Some((Channel::parse(name)?.as_str().to_owned(), at.micros()))
        };
        SavedInstrument {
            market: market.as_str().to_owned(),
            venue_symbol: venue_symbol.to_owned(),
            symbol: self.symbol.as_deref().map(str::to_owned),
            heard: Channel::NAMES.into_iter().filter_map(heard).collect(),
            tracks: self.tracks.iter().map(Track::save).collect(),
        }
    }
}

#[expect(clippy::indexing_slicing, reason = "one slot a market")]
impl Pipeline {
    /// What [`Pipeline::restore`] needs to go on from here.
    pub fn checkpoint(&self) -> Vec<u8> {
        let of = |market: Market| self.asked[market.index()].iter().map(move |(name, asked)| asked.save(market, name));
        let instruments = Market::ALL.into_iter().flat_map(of).filter(|saved| !saved.heard.is_empty() || !saved.tracks.is_empty());
        let saved = Saved { v: VERSION, venue: &self.venue, naming: refill::naming(), ids: self.seen.len(), instruments: instruments.collect() };
        // Numbers and names: there is nothing in it that JSON could not say.
        let mut bytes = serde_json::to_vec(&saved).unwrap_or_default();
        bytes.push(b'\n');
        self.seen.write(&mut bytes);
        bytes
    }

    /// Takes over a checkpoint, before anything else was processed.
    ///
    /// # Errors
    /// [`Unreadable`]; nothing has changed then.
    pub fn restore(&mut self, checkpoint: &[u8]) -> Result<(), Unreadable> {
        let damaged = |what: &str| Unreadable::Damaged(what.to_owned());
        let mut parts = checkpoint.splitn(2, |byte| *byte == b'\n');
        let (Some(head), Some(ids)) = (parts.next(), parts.next()) else { return Err(damaged("it has no end")) };
        let broken = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let version: Version = serde_json::from_slice(head).map_err(broken)?;
        if version.v != VERSION {
            return Err(Unreadable::Version(version.v));
        }
        let saved: Saved<'_> = serde_json::from_slice(head).map_err(broken)?;
        if *saved.venue != *self.venue {
            return Err(damaged("it is of another venue"));
        }
        self.seen = Seen::read(ids, saved.ids).ok_or_else(|| damaged("its ids are not as many as it says"))?;
        let named = saved.naming == refill::naming();
        for saved in saved.instruments {
            let Some(market) = Market::parse(&saved.market) else { continue };
            let instrument = Arc::new(Instrument::named(&self.venue, market, &saved.venue_symbol, saved.symbol.as_deref()));
            self.ask(&instrument);
            let Some(asked) = self.asked[market.index()].get_mut(&*instrument.venue_symbol) else { continue };
            for (channel, at) in &saved.heard {
                let known = Channel::NAMES.into_iter().filter_map(Channel::parse).find(|known| known.as_str() == channel);
                if let Some(slot) = known.and_then(|channel| asked.heard.at.get_mut(channel.index())) {
                    *slot = Time::from_micros(*at);
                }
            }
            if named {
                asked.tracks = saved.tracks.into_iter().filter_map(|saved| Track::restore(saved, &instrument)).collect();
            }
            let open = asked.tracks.iter().filter(|track| track.is_open()).map(|track| (track.channel(), instrument.clone()));
            self.holes.extend(open);
        }
        Ok(())
    }

    /// Takes note of events that went out before a restart, after the checkpoint.
    pub fn observe(&mut self, events: &[Event]) {
        for event in events {
            self.seen.insert(event.id);
            match &event.body {
                // What it gave up for newer ones has its own line.
                Body::Gap(_) => self.gap_told(event, &mut Vec::new()),
                Body::Refill(refill) => self.gap_closed(&event.instrument, refill.channel, refill.gap),
                _ => {
                    self.look_up(event);
                    if let Some(channel) = event.body.channel().filter(|_| event.origin.is_some())
                        && let Some(track) = self.track(channel, &event.instrument)
                    {
                        track.recovered(std::slice::from_ref(event));
                    }
                }
            }
        }
    }

    /// Everything that was taken over was before a restart: what was missed since is told by [`Pipeline::resume`].
    pub fn restarted(&mut self) {
        for asked in self.asked.iter_mut().flat_map(|of_market| of_market.values_mut()) {
            asked.heard.owe();
        }
        self.woken = false;
    }

    /// These topics are about to be subscribed to: the gaps of those that were collected before a restart, sealed. They begin
    /// when the channel was heard last.
    pub fn resume(&mut self, topics: &[Arc<Topic>], now: Time) -> Vec<Event> {
        let mut gaps = Vec::new();
        for topic in topics {
            for channel in &topic.channels {
                let (instrument, heard) = if let Some(instrument) = &topic.instrument {
                    let asked = self.asked[instrument.market.index()].get_mut(&*instrument.venue_symbol);
                    (instrument.clone(), asked.and_then(|asked| asked.heard.settle(*channel)))
                } else {
                    // One stream brings them all: what came last was the last of it.
                    let all = self.asked[topic.market.index()].values_mut();
                    (Arc::new(Instrument::all(&self.venue, topic.market)), all.filter_map(|asked| asked.heard.settle(*channel)).max())
                };
                let Some(from) = heard else { continue };
                gaps.push(Event::disconnected(instrument, *channel, from, now));
            }
        }
        self.process(&mut gaps);
        gaps
    }

    /// These events did not go out after all: whatever tells the same again is news.
    pub fn forget(&mut self, events: &[Event]) {
        for event in events {
            self.seen.remove(event.id);
            self.latest.forget(event);
            let asked = self.asked[event.instrument.market.index()].get_mut(&*event.instrument.venue_symbol);
            if let Some((asked, channel)) = asked.zip(event.body.channel())
                && let Some(track) = asked.track(channel)
            {
                track.forget(event);
            }
        }
    }
}

#[cfg(test)]
mod tests;
