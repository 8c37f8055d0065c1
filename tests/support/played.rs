//! Venues that are played from their fixtures: what has to come of what was served.

use std::collections::{HashMap, HashSet};
use std::path::{Path, PathBuf};

use exchange_core::capture::{Capture, CaptureSource};
use exchange_core::{Channel, Market, Mode, Offline, Sealer, Venue, Want};

use super::{Events, Line, captures, lines};

/// What streams and answers say of the present.
pub(crate) const TYPES: [&str; 8] = ["ticker", "quote", "mark", "funding", "open_interest", "trade", "book", "liquidation"];

/// What makes an event the same fact, whatever else is known of its instrument, and whether it counts how often it comes.
fn fact(line: Line<'_>) -> (String, bool) {
    let (fact, counted) = line.fact();
    let Some(at) = fact.find("\"symbol\":\"") else { return (fact, counted) };
    let rest = fact[at..].split_once("\",").map_or("", |(_, rest)| rest);
    (format!("{}{rest}", &fact[..at]), counted)
}

/// The facts of a venue, how often each came, and a line of each.
fn facts<'a>(events: &'a Events, venue: &str) -> HashMap<String, (usize, Line<'a>)> {
    let mut facts = HashMap::new();
    for line in events.of(&TYPES).filter(|line| line.is_of(venue) && !line.text().contains("\"market\":\"option\"")) {
        let (fact, counted) = fact(line);
        let known = facts.entry(fact).or_insert((0, line));
        known.0 = if counted { known.0 + 1 } else { 1 };
    }
    facts
}

/// A played venue: its file, and what only such answers say as are asked for to know whether a stream is well.
pub(crate) struct Played {
    name: String,
    pub(crate) file: PathBuf,
    asked: HashSet<String>,
}

impl Played {
    /// Writes its fixtures, and what they say, into a directory.
    pub(crate) fn prepare(directory: &Path, venue: &Venue) -> Self {
        let (name, captures) = (&venue.profile.name, captures(venue));
        let file = directory.join(format!("{name}.ndjson"));
        std::fs::write(&file, lines(&captures)).unwrap();
        let mut offline = Offline::new([venue.clone()]);
        let mut sealer = Sealer::default();
        // As event lines, each with the number of its capture.
        let decode = |(at, capture): (usize, &Capture)| {
            let (mut events, mut lines) = (Vec::new(), Vec::new());
            offline.capture(capture, &mut events);
            sealer.seal(&mut events);
            for event in &events {
                event.write_json(Some(at as u64 + 1), &mut lines);
                lines.push(b'\n');
            }
            String::from_utf8(lines).unwrap()
        };
        let decoded: Vec<String> = captures.iter().enumerate().map(decode).collect();
        std::fs::write(directory.join(format!("{name}.events.ndjson")), decoded.concat()).unwrap();
        // What is not asked for again and again is asked for when a stream says too little.
        // What is not asked for again and again is asked for when a stream says too little.
        let channels: Vec<Channel> = TYPES.into_iter().filter_map(Channel::parse).collect();
        let planned = |market: Market| {
            let instruments = venue.catalog.list(market);
            let want = Want { market, channels: &channels, mode: Mode::Auto, fallback: false, instruments: &instruments };
            venue.exchange.plan(&venue.profile, &want).polls.into_iter().map(move |poll| (market, poll.request.endpoint))
        };
        let planned: HashSet<(Market, String)> = venue.profile.markets.keys().copied().flat_map(planned).collect();
        let is_question = |capture: &Capture| match (capture.source(), capture.market) {
            (Some(CaptureSource::Http(method, url)), Some(market)) => {
                let endpoint = venue.profile.endpoint_at(market, method, url, capture.request.as_deref());
                endpoint.is_none_or(|endpoint| !planned.contains(&(market, endpoint.name.clone())))
            }
            _ => false,
        };
        let facts = |questions: bool| {
            let own = captures.iter().zip(&decoded).filter(|(capture, _)| is_question(capture) == questions);
            let events = Events::parse(&own.map(|(_, lines)| lines.as_str()).collect::<String>());
            events.of(&TYPES).map(|line| fact(line).0).collect::<HashSet<_>>()
        };
        let asked = &facts(true) - &facts(false);
        Self { name: name.clone(), file, asked }
    }

    /// What was played and is missing, and what was not played and is there. Whether each came as often as it was played is
    /// only asked for if it `counts`: of equal states, those of one moment are one.
    pub(crate) fn wrong(&self, truth: &Events, seen: &Events, counts: bool) -> Vec<String> {
        let facts = |events| {
            let mut facts = facts(events, &self.name);
            facts.values_mut().filter(|_| !counts).for_each(|(times, _)| *times = 1);
            facts
        };
        let (told, found) = (facts(truth), facts(seen));
        assert!(told.len() > 10, "{}: {}", self.name, told.len());
        let lost = told.iter().filter(|(fact, (times, _))| found.get(*fact).is_none_or(|(there, _)| there < times) && !self.asked.contains(*fact));
        let invented = found.iter().filter(|(fact, (times, _))| told.get(*fact).is_none_or(|(there, _)| there < times));
        let shown = |word: &str, (_, (times, line)): (&String, &(usize, Line<'_>))| format!("{word}, {times} times: {}", line.text());
        lost.map(|fact| shown("lost", fact)).chain(invented.map(|fact| shown("invented", fact))).collect()
    }
}
