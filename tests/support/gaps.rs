//! What the gaps among some events say is missing.

use std::collections::{HashMap, HashSet};

use serde_json::Value;

use super::{Events, Line};

/// What is served happened a moment before it arrived, and what arrives later may have been served before.
pub(crate) const MOMENT: i64 = 1_000_000;

/// Whose events they are: venue, market and name.
pub(crate) type Place3 = [String; 3];

pub(crate) fn place_of(event: &Value) -> Place3 {
    ["venue", "market", "venue_symbol"].map(|key| event[key].as_str().unwrap().to_owned())
}

/// The channel that an event belongs to, or that it tells of.
pub(crate) fn channel_of(event: &Value) -> String {
    match (event["channel"].as_str(), event["type"].as_str().unwrap()) {
        (Some(told), "gap" | "refill") => told.to_owned(),
        (_, "candle") => format!("candle:{}", event["interval"].as_str().unwrap()),
        (_, kind) => kind.to_owned(),
    }
}

/// From when to when something of a channel was missed, by whose it is; `*` is everybody of the market.
#[derive(Default)]
pub(crate) struct Gaps(HashMap<(Place3, String), Vec<(i64, i64)>>);

impl Gaps {
    /// A gap is over when it says so, for what was missing for want of room; else with the first of its channel that came live afterwards.
    pub(crate) fn of(seen: &Events) -> Self {
        let mut came: HashMap<(Place3, String), Vec<i64>> = HashMap::new();
        let mut told = Vec::new();
        for line in seen.lines() {
            let event = line.json();
            if event["type"] == "gap" {
                told.push(event);
            } else if event["origin"].is_null() && event["type"] != "refill" && event["type"] != "decode_error" {
                came.entry((place_of(&event), channel_of(&event))).or_default().push(line.received());
            }
        }
        for times in came.values_mut() {
            times.sort_unstable();
        }
        let mut gaps = Self::default();
        for gap in told {
            let at = gap["t"].as_i64().unwrap();
            let channel = gap["channel"].as_str().unwrap().to_owned();
            let full = gap["reason"] == "overflow";
            // Of what is lost in a journal, it may not be known when it began.
            let unknown = if full { i64::MIN } else { at };
            let from = gap["from"].as_str().filter(|_| gap["reason"] != "sequence").map_or(unknown, |from| from.parse().unwrap());
            let place = place_of(&gap);
            let resumed = came.get(&(place.clone(), channel.clone())).and_then(|times| times.iter().copied().find(|time| *time > at));
            let told = gap["to"].as_str().filter(|_| full).map(|to| to.parse().unwrap());
            let to = told.or(if place[2] == "*" { None } else { resumed });
            gaps.0.entry((place, channel)).or_default().push((from, to.unwrap_or(i64::MAX)));
        }
        gaps
    }

    /// Whether something of a channel that arrived then was missed.
    pub(crate) fn hold(&self, place: &Place3, channel: &str, at: i64) -> bool {
        let inside = |place: Place3| {
            self.0
                .get(&(place, channel.to_owned()))
                .is_some_and(|spans| spans.iter().any(|(from, to)| from.saturating_sub(MOMENT) <= at && at <= to.saturating_add(MOMENT)))
        };
        let all = [place[0].clone(), place[1].clone(), "*".to_owned()];
        inside(place.clone()) || inside(all)
    }
}

/// Of these lines, those that are not there, each of which lies inside a gap.
#[track_caller]
pub(crate) fn missing_in_gaps<'a>(wanted: impl Iterator<Item = Line<'a>>, seen: &Events) -> Vec<Line<'a>> {
    let ids: HashSet<&str> = seen.lines().map(Line::id).collect();
    let gaps = Gaps::of(seen);
    let missing: Vec<Line<'a>> = wanted.filter(|line| !ids.contains(line.id())).collect();
    for line in &missing {
        let event = line.json();
        assert!(gaps.hold(&place_of(&event), &channel_of(&event), line.received()), "in no gap: {line:?}");
    }
    missing
}
