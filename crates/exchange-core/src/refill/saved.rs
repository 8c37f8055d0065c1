//! What a [`Track`] knows, as it outlives the process: what came last, and what was missed and not refilled yet.
//!
//! A hole is asked for anew after a restart, from its beginning; what of it had come already is known by name.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::hole::{Hole, Missed};
use super::{Track, name};
use crate::event::{Channel, Event, EventId, Ident};
use crate::instrument::Instrument;
use crate::time::Time;

/// A track's content. Times are in microseconds.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Saved {
    channel: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    span: Option<(i64, i64)>,
    recent: Vec<(i64, u64)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    gaps: Vec<SavedGap>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    known: Vec<(i64, u64)>,
}

#[derive(Debug, Serialize, Deserialize)]
struct SavedGap {
    gap: [u8; 16],
    last: i64,
    anchored: bool,
    low: i64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    first: Option<i64>,
    count: u64,
}

/// Differs between programs that name the same record differently: then names that were saved say nothing.
pub(crate) fn naming() -> u64 {
    name(&Ident::Text("a record".into()))
}

impl Track {
    /// What is to be kept of it.
    pub(crate) fn save(&self) -> Saved {
        let gap = |missed: &Missed| SavedGap {
            gap: missed.gap.0,
            last: missed.last.micros(),
            anchored: missed.anchored,
            low: missed.low.micros(),
            first: missed.first.map(Time::micros),
            count: missed.count,
        };
        let hole = self.hole.as_deref();
        Saved {
            channel: self.channel.to_string(),
            span: self.span.map(|(first, last)| (first.micros(), last.micros())),
            recent: self.recent.iter().map(|(time, name)| (time.micros(), *name)).collect(),
            gaps: hole.map_or_else(Vec::new, |hole| hole.gaps.iter().map(gap).collect()),
            known: hole.map_or_else(Vec::new, |hole| hole.known.iter().map(|(name, time)| (time.micros(), *name)).collect()),
        }
    }

    /// The track as it was; `None` where that is of no channel.
    pub(crate) fn restore(saved: Saved, instrument: &Arc<Instrument>) -> Option<Self> {
        let mut track = Self::new(Channel::parse(&saved.channel)?, instrument.clone());
        let time = Time::from_micros;
        track.span = saved.span.map(|(first, last)| (time(first), time(last)));
        track.recent.extend(saved.recent.into_iter().take(super::RECENT).map(|(at, name)| (time(at), name)));
        if !saved.gaps.is_empty() {
            let mut hole = Hole::new(instrument.clone());
            hole.known = saved.known.into_iter().map(|(at, name)| (name, time(at))).collect();
            let missed = |gap: SavedGap| Missed {
                gap: EventId(gap.gap),
                last: time(gap.last),
                anchored: gap.anchored,
                low: time(gap.low),
                first: gap.first.map(time),
                covered: false,
                count: gap.count,
            };
            hole.gaps = saved.gaps.into_iter().map(missed).collect();
            track.hole = Some(Box::new(hole));
        }
        Some(track)
    }

    /// A record that came was lost again: it counts as missed.
    pub(crate) fn forget(&mut self, event: &Event) {
        let Some((_, Some(name))) = super::place(event) else { return };
        self.recent.retain(|(_, known)| *known != name);
        if let Some(hole) = &mut self.hole {
            hole.known.remove(&name);
        }
    }

    /// A gap is over, as a `refill` says. Whether the hole is, too.
    pub(crate) fn close(&mut self, gap: EventId) -> bool {
        let Some(hole) = &mut self.hole else { return false };
        hole.gaps.retain(|missed| missed.gap != gap);
        let over = hole.gaps.is_empty();
        if over {
            self.hole = None;
        }
        over
    }
}
