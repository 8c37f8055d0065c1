//! Captures back into events: the same feeds as live, one for each connection that the captures name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use crate::capture::{Capture, CaptureSource};
use crate::error::ErrorKind;
use crate::event::{Body, DecodeFailure, Event};
use crate::exchange::excerpt;
use crate::feed::{Feed, Reply, Turn, Venue};
use crate::instrument::{Instrument, Market};
use crate::time::Time;

/// More connections than are open at once: those of months would fill the memory.
const MANY: usize = 256;
/// A connection that was silent for so long is over.
const OVER: Duration = Duration::from_hours(1);

/// Decodes captures of any venues, in their order.
pub struct Offline {
    /// In order: an error names them, and the same bytes give the same events.
    venues: BTreeMap<String, Venue>,
    /// Each with the time of its last frame.
    sockets: HashMap<SocketKey, (Feed, Time)>,
    surfaces: HashMap<(String, Market), Feed>,
    turn: Turn,
    capture: Capture,
    key: SocketKey,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct SocketKey {
    venue: String,
    market: Market,
    conn: Option<u64>,
    /// Only where no connection is named: then one per source.
    source: String,
}

impl Offline {
    /// A decoder for captures of these venues.
    pub fn new(venues: impl IntoIterator<Item = Venue>) -> Self {
        Self {
            venues: venues.into_iter().map(|venue| (venue.profile.name.clone(), venue)).collect(),
            sockets: HashMap::new(),
            surfaces: HashMap::new(),
            turn: Turn::default(),
            capture: Capture::default(),
            key: SocketKey { venue: String::new(), market: Market::Spot, conn: None, source: String::new() },
        }
    }

    /// Decodes one capture line; what it means is appended to `events`, not sealed.
    pub fn line(&mut self, line: &[u8], events: &mut Vec<Event>) {
        let mut capture = std::mem::take(&mut self.capture);
        match capture.read(line) {
            Ok(()) => self.capture(&capture, events),
            Err(error) => events.push(failure("", Market::Spot, Time::EPOCH, &error.to_string(), line)),
        }
        self.capture = capture;
    }

    /// Decodes one capture.
    pub fn capture(&mut self, capture: &Capture, events: &mut Vec<Event>) {
        let market = capture.market.unwrap_or(Market::Spot);
        let fail = |reason: &str| failure(&capture.venue, market, capture.received, reason, &capture.payload);
        let Some(venue) = self.venues.get(&capture.venue) else {
            let known: Vec<&str> = self.venues.keys().map(String::as_str).collect();
            return events.push(fail(&format!("`{}` is no venue that is known here ({})", capture.venue, known.join(", "))));
        };
        if !venue.profile.markets.contains_key(&market) {
            return events.push(fail(&format!("{} has no {market} market", capture.venue)));
        }
        match capture.source() {
            Some(CaptureSource::Ws(url)) => {
                self.key.venue.clone_from(&capture.venue);
                self.key.market = market;
                self.key.conn = capture.conn;
                self.key.source.clear();
                if capture.conn.is_none() {
                    self.key.source.push_str(&capture.source);
                }
                if !self.sockets.contains_key(&self.key) {
                    if self.sockets.len() >= MANY {
                        self.sockets.retain(|_, (_, last)| capture.received.since(*last) < OVER);
                    }
                    self.sockets.insert(self.key.clone(), (Feed::new(venue.clone(), market), capture.received));
                }
                if let Some((feed, last)) = self.sockets.get_mut(&self.key) {
                    *last = capture.received;
                    feed.frame(capture.received, url, &capture.payload, &mut self.turn);
                }
            }
            Some(CaptureSource::Http(method, url)) => {
                let feed = self.surfaces.entry((capture.venue.clone(), market)).or_insert_with(|| Feed::new(venue.clone(), market));
                let request = capture.request.as_deref();
                let reply = Reply { method, url, request, status: capture.status.unwrap_or(200), retry_after: None, payload: &capture.payload, memo: None };
                // The refusal is among the events; there is nothing to retry here.
                let _refusal = feed.reply(capture.received, &reply, &mut self.turn);
            }
            None => events.push(fail("the source is neither a WebSocket nor a request")),
        }
        events.append(&mut self.turn.events);
        self.turn.controls.clear();
        self.turn.send.clear();
        self.turn.fetch.clear();
        self.turn.resync.clear();
        self.turn.ask.clear();
        self.turn.allowances.clear();
    }
}

/// A capture line that no venue's decoder can be asked about.
fn failure(venue: &str, market: Market, received: Time, reason: &str, text: &[u8]) -> Event {
    let instrument = Arc::new(Instrument::named(&venue.into(), market, "", None));
    let body = DecodeFailure { reason: format!("{}: {reason}", ErrorKind::Malformed), excerpt: excerpt(&String::from_utf8_lossy(text)) };
    Event::new(instrument, received, None, Body::DecodeError(Box::new(body)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exchange::{Decoder, Exchange, Input, Op, Out};
    use crate::plan::Topic;
    use crate::profile::Profile;

    /// Counts the frames of each connection.
    struct Counting;

    impl Exchange for Counting {
        fn policy(&self) -> &'static str {
            r#"
            name = "counting"
            title = "Counting"
            docs = "none"
            [markets.linear]
            rest = "http://h"
            ws = "ws://h"
            [limits.all]
            budget = 100
            window = "1s"
            [ws]
            topics_per_frame = 3
            topics_per_connection = 100
            frames = { budget = 2, window = "1s" }
            connects = { budget = 1, window = "1s" }
            silence = "30s"
            "#
        }

        fn subscribe(&self, _: Op, _: &[&Topic], _: u64, _: Time) -> String {
            String::new()
        }

        fn decoder(&self, _: Market) -> Box<dyn Decoder> {
            let mut frames = 0_u64;
            Box::new(move |_: &Input<'_>, out: &mut Out<'_>| {
                frames += 1;
                out.bad(Market::Linear, None, format_args!("{frames}"), "");
                Ok(())
            })
        }
    }

    #[test]
    fn connections_that_are_over_do_not_fill_the_memory() {
        let venue = Venue::new(&Counting, Profile::parse(Counting.policy()).unwrap());
        let mut offline = Offline::new([venue]);
        let mut frame = |conn: u64, minutes: i64| {
            let received = Time::from_micros(minutes * 60_000_000);
            let capture = Capture {
                venue: "counting".into(),
                market: Some(Market::Linear),
                conn: Some(conn),
                source: "ws ws://h".into(),
                received,
                ..Capture::default()
            };
            let mut events = Vec::new();
            offline.capture(&capture, &mut events);
            let Body::DecodeError(error) = &events[0].body else { panic!("{events:?}") };
            (error.reason.clone(), offline.sockets.len())
        };
        for conn in 0..10_000 {
            let minute = i64::try_from(conn).unwrap();
            let (_, open) = frame(conn, minute);
            assert!(open <= MANY + 1, "{open}");
            let (first, _) = frame(1 << 40, minute);
            assert!(first.ends_with(&format!("{}", minute + 1)), "a connection that goes on is the same: {first}");
        }
    }
}
