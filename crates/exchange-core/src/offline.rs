//! Captures back into events: the same feeds as live, one for each connection that the captures name.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use crate::capture::{Capture, CaptureSource};
use crate::error::ErrorKind;
use crate::event::{Body, DecodeFailure, Event};
use crate::exchange::excerpt;
use crate::feed::{Feed, Reply, Turn, Venue};
use crate::instrument::{Instrument, Market};
use crate::time::Time;

/// Decodes captures of any venues, in their order.
pub struct Offline {
    /// In order: an error names them, and the same bytes give the same events.
    venues: BTreeMap<String, Venue>,
    sockets: HashMap<SocketKey, Feed>,
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
                    self.sockets.insert(self.key.clone(), Feed::new(venue.clone(), market));
                }
                if let Some(feed) = self.sockets.get_mut(&self.key) {
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
    }
}

/// A capture line that no venue's decoder can be asked about.
fn failure(venue: &str, market: Market, received: Time, reason: &str, text: &[u8]) -> Event {
    let instrument = Arc::new(Instrument::named(&venue.into(), market, "", None));
    let body = DecodeFailure { reason: format!("{}: {reason}", ErrorKind::Malformed), excerpt: excerpt(&String::from_utf8_lossy(text)) };
    Event::new(instrument, received, None, Body::DecodeError(Box::new(body)))
}
