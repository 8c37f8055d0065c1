//! One source of a venue's bytes, from bytes to events: the door by which live runs, captures and tests enter alike.
//!
//! A feed holds everything that decoding one connection (or one polled surface) needs to remember: the venue's
//! decoder, its view of the instruments, and the continuity of its books. What it makes of the same bytes is the same,
//! whenever and wherever they come from.

use std::sync::Arc;

use crate::book::{Books, Verdict};
use crate::budget::Allowance;
use crate::error::{DecodeError, ErrorKind, Refusal, classify};
use crate::event::{Body, Channel, DecodeFailure, Event, Gap, GapReason};
use crate::exchange::{Control, Decoder, Exchange, Input, Out, Source, excerpt};
use crate::instrument::{Catalog, Instrument, Lookup, Market};
use crate::memo::Memo;
use crate::plan::Request;
use crate::profile::{Method, Profile};
use crate::time::Time;

/// What a message gave. Reused from message to message: whoever carries it out empties it.
#[derive(Debug, Default)]
pub struct Turn {
    /// Events, in order, not sealed.
    pub events: Vec<Event>,
    /// What was said about the connection.
    pub controls: Vec<Control>,
    /// Frames to be sent.
    pub send: Vec<String>,
    /// Requests to be made.
    pub fetch: Vec<Request>,
    /// Instruments whose books must begin anew.
    pub resync: Vec<Arc<Instrument>>,
    /// Requests that a connection wants made.
    pub ask: Vec<Query>,
    /// What the venue said of its limits.
    pub allowances: Vec<Allowance>,
}

/// A request that a connection wants made.
#[derive(Debug, Clone, PartialEq)]
pub struct Query {
    /// What of the request's instrument is asked for.
    pub channel: Channel,
    /// The request.
    pub request: Request,
    /// Whether a book waits for it; else it is to tell a quiet market from a dead stream.
    pub is_snapshot: bool,
}

/// A venue as the collector runs it: its code, its description as configured, and what is known of its instruments.
#[derive(Clone)]
pub struct Venue {
    /// The code.
    pub exchange: &'static dyn Exchange,
    /// The description, the user's configuration applied.
    pub profile: Arc<Profile>,
    /// Its instruments.
    pub catalog: Arc<Catalog>,
}

impl std::fmt::Debug for Venue {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Venue").field("name", &self.profile.name).finish_non_exhaustive()
    }
}

impl Venue {
    /// A venue with a description and an empty catalog.
    pub fn new(exchange: &'static dyn Exchange, profile: Profile) -> Self {
        Self { exchange, catalog: Arc::new(Catalog::new(&profile.name)), profile: Arc::new(profile) }
    }
}

/// One connection or one polled surface.
pub struct Feed {
    venue: Venue,
    market: Market,
    decoder: Box<dyn Decoder>,
    lookup: Lookup,
    books: Books,
}

/// An HTTP answer.
#[derive(Debug, Clone, Copy)]
pub struct Reply<'a> {
    /// The verb of the request.
    pub method: Method,
    /// Its full address.
    pub url: &'a str,
    /// The body that was sent.
    pub request: Option<&'a str>,
    /// The status of the answer.
    pub status: u16,
    /// Its `Retry-After`, in seconds.
    pub retry_after: Option<u64>,
    /// Its body.
    pub payload: &'a [u8],
    /// The last answer to the same request, where only changed records are wanted.
    pub memo: Option<&'a Memo>,
}

impl Feed {
    /// A fresh feed of a venue's market.
    pub fn new(venue: Venue, market: Market) -> Self {
        Self {
            decoder: venue.exchange.decoder(market),
            lookup: Lookup::new(venue.catalog.clone()),
            books: Books::new(venue.profile.book.clone()),
            venue,
            market,
        }
    }

    /// The market.
    pub fn market(&self) -> Market {
        self.market
    }

    /// The venue.
    pub fn venue(&self) -> &Venue {
        &self.venue
    }

    /// The books' continuity.
    pub fn books(&self) -> &Books {
        &self.books
    }

    /// The same, to be changed.
    pub(crate) fn books_mut(&mut self) -> &mut Books {
        &mut self.books
    }

    /// Decodes a WebSocket frame.
    #[inline]
    pub fn frame(&mut self, received: Time, url: &str, payload: &[u8], turn: &mut Turn) {
        let start = turn.events.len();
        let controls = turn.controls.len();
        if let Err(error) = self.decode(Source::Ws { url }, received, payload, None, turn) {
            self.fail(&error, received, payload, turn);
        }
        for at in controls..turn.controls.len() {
            if let Some(Control::Rejected { reason, .. }) = turn.controls.get(at) {
                let error = DecodeError { kind: ErrorKind::Rejected, message: reason.clone() };
                self.fail(&error, received, payload, turn);
            }
        }
        self.follow_books(start, turn);
    }

    /// Decodes an HTTP answer. A refusal is a `decode_error` among the events, and is returned for the caller to react.
    ///
    /// # Errors
    /// The venue's refusal, or what is malformed about its answer.
    pub fn reply(&mut self, received: Time, reply: &Reply<'_>, turn: &mut Turn) -> Result<(), Refusal> {
        let profile = self.venue.profile.clone();
        if let Some(refusal) = classify(&profile, reply.status, reply.payload, reply.retry_after, received) {
            let error = DecodeError { kind: refusal.kind, message: refusal.message.clone() };
            self.fail(&error, received, reply.payload, turn);
            return Err(refusal);
        }
        let decoded = match profile.endpoint_at(self.market, reply.method, reply.url, reply.request) {
            Some(endpoint) => {
                let source = Source::Http { endpoint, url: reply.url, request: reply.request };
                self.decode(source, received, reply.payload, reply.memo, turn)
            }
            None => {
                Err(DecodeError::malformed(format_args!("{} {} is no endpoint of {}'s {} market", reply.method.as_str(), reply.url, profile.name, self.market)))
            }
        };
        decoded.map_err(|error| {
            self.fail(&error, received, reply.payload, turn);
            Refusal { kind: error.kind, message: error.message, until: None }
        })
    }

    #[inline]
    fn decode(&mut self, source: Source<'_>, received: Time, payload: &[u8], memo: Option<&Memo>, turn: &mut Turn) -> Result<(), DecodeError> {
        self.lookup.refresh();
        let input = Input { profile: &self.venue.profile, market: self.market, source, received, payload, memo };
        let start = turn.events.len();
        let fetches = turn.fetch.len();
        let mut out = Out {
            exchange: self.venue.exchange,
            events: &mut turn.events,
            lookup: &mut self.lookup,
            controls: &mut turn.controls,
            replies: &mut turn.send,
            fetches: &mut turn.fetch,
            allowances: &mut turn.allowances,
            received,
            start,
        };
        let result = self.decoder.decode(&input, &mut out);
        if result.is_err() {
            // Nothing of a message that is not whole is trusted.
            turn.events.truncate(start);
            turn.fetch.truncate(fetches);
            turn.allowances.clear();
        }
        result
    }

    #[cold]
    fn fail(&mut self, error: &DecodeError, received: Time, payload: &[u8], turn: &mut Turn) {
        let text = String::from_utf8_lossy(payload.get(..payload.len().min(1000)).unwrap_or_default());
        let failure = DecodeFailure { reason: error.to_string(), excerpt: excerpt(&text) };
        let unnamed = self.lookup.get(self.market, "", || None);
        turn.events.push(Event::new(unnamed, received, None, Body::DecodeError(Box::new(failure))));
    }

    #[inline]
    fn follow_books(&mut self, start: usize, turn: &mut Turn) {
        let mut at = start;
        while let Some(event) = turn.events.get(at) {
            at += 1;
            let Body::Book(book) = &event.body else { continue };
            match self.books.follow(&event.instrument, book) {
                Verdict::Follows => {}
                Verdict::First => turn.resync.push(event.instrument.clone()),
                Verdict::Broken { from, to } => {
                    let gap = Gap { channel: Channel::Book, reason: GapReason::Sequence, from: Some(from.into()), to: Some(to.into()) };
                    let gap = Event::new(event.instrument.clone(), event.received, None, Body::Gap(Box::new(gap)));
                    turn.resync.push(event.instrument.clone());
                    turn.events.insert(at - 1, gap);
                    at += 1;
                }
            }
        }
    }
}
