//! What decoding gives: events, and what is wanted done in return.

use std::borrow::Cow;
use std::fmt::Display;
use std::sync::Arc;
use std::time::Duration;

use super::{Control, Exchange, Input, Source, percent_encode};
use crate::budget::Allowance;
use crate::error::ErrorKind;
use crate::event::{Body, Channel, DecodeFailure, Event};
use crate::instrument::{Details, Instrument, Lookup, Market};
use crate::plan::{self, Request};
use crate::time::Time;
use crate::wire::BadRow;

/// What decoding gives.
pub struct Out<'o> {
    pub(crate) exchange: &'o dyn Exchange,
    pub(crate) events: &'o mut Vec<Event>,
    pub(crate) lookup: &'o mut Lookup,
    pub(crate) controls: &'o mut Vec<Control>,
    pub(crate) replies: &'o mut Vec<String>,
    pub(crate) fetches: &'o mut Vec<Request>,
    pub(crate) allowances: &'o mut Vec<Allowance>,
    pub(crate) received: Time,
    /// Where the events of this message begin.
    pub(crate) start: usize,
}

impl Out<'_> {
    /// The shared handle of an instrument.
    #[inline]
    pub fn instrument(&mut self, market: Market, venue_symbol: &str) -> Arc<Instrument> {
        self.lookup.get(market, venue_symbol, || self.exchange.parse_symbol(market, venue_symbol))
    }

    /// The market among `candidates` in which the venue has described an instrument of that name: where one stream
    /// carries several markets.
    pub fn market_of(&self, candidates: &[Market], venue_symbol: &str) -> Option<Market> {
        candidates.iter().copied().find(|market| self.lookup.catalog().get(*market, venue_symbol).is_some())
    }

    /// A fact. A state that carries no field is none, and is left out.
    #[inline]
    pub fn emit(&mut self, instrument: &Arc<Instrument>, time: Option<Time>, body: Body) {
        if body.is_empty() {
            return;
        }
        if instrument.venue_symbol.is_empty() {
            return self.nameless(instrument.market);
        }
        let mut event = Event::new(instrument.clone(), self.received, time, body);
        if matches!(&event.body, Body::Trade(trade) if trade.trade_id.is_none()) || matches!(&event.body, Body::Liquidation(l) if l.trade_id.is_none()) {
            let equal = |other: &Event| other.time == event.time && other.body == event.body && other.instrument == event.instrument;
            event.ordinal = u16::try_from(self.events.iter().skip(self.start).filter(|other| equal(other)).count()).unwrap_or(u16::MAX);
        }
        let interval = if let Body::Funding(funding) = &event.body { funding.interval_hours } else { None };
        self.events.push(event);
        if let Some(hours) = interval
            && instrument.details.as_ref().is_some_and(|details| details.funding_interval_hours != Some(hours))
        {
            self.interval(instrument, time, hours);
        }
    }

    /// The funding interval is a fact of the contract, too, which some venues leave out where they describe it.
    #[cold]
    fn interval(&mut self, instrument: &Arc<Instrument>, time: Option<Time>, hours: u32) {
        let changed = self.lookup.catalog().learn_interval(instrument.market, &instrument.venue_symbol, hours);
        if let Some((instrument, details)) = changed.and_then(|changed| changed.details.clone().map(|details| (changed, details))) {
            self.events.push(Event::new(instrument, self.received, time, Body::Instrument(details)));
        }
    }

    /// An instrument as the venue describes it now: an event, and the catalog learns it.
    pub fn describe(&mut self, market: Market, venue_symbol: &str, time: Option<Time>, details: Details) {
        if venue_symbol.is_empty() {
            return self.nameless(market);
        }
        if details.base.is_empty() || details.quote.is_empty() {
            return self.bad(market, Some(venue_symbol), "an instrument without base or quote", "");
        }
        let (instrument, _) = self.lookup.catalog().learn(market, venue_symbol, details);
        // The event carries what the message said, which the catalog may know more about.
        let Some(details) = instrument.details.clone() else { return };
        self.emit(&instrument, time, Body::Instrument(details));
    }

    /// The handle of an instrument as the venue describes it now, for a record that says more than that: the instrument's
    /// own event comes after those, by [`Out::describe`] with the same details.
    pub fn learn(&mut self, market: Market, venue_symbol: &str, details: &Details) -> Arc<Instrument> {
        self.lookup.catalog().learn(market, venue_symbol, details.clone()).0
    }

    /// Sets the time of all events of this message that have none: for envelopes whose time stands behind their list.
    pub fn stamp(&mut self, time: Option<Time>) {
        for event in self.events.iter_mut().skip(self.start).filter(|event| event.body.channel().is_some()) {
            event.time = event.time.or(time);
        }
    }

    /// A record that could not be decoded, in a message that otherwise can.
    #[cold]
    pub fn bad(&mut self, market: Market, venue_symbol: Option<&str>, reason: impl Display, text: &str) {
        let instrument = self.instrument(market, venue_symbol.unwrap_or_default());
        let body = DecodeFailure { reason: format!("{}: {reason}", ErrorKind::Malformed), excerpt: excerpt(text) };
        self.events.push(Event::new(instrument, self.received, None, Body::DecodeError(Box::new(body))));
    }

    /// A record that names no instrument. It may have given several events: the error is one.
    #[cold]
    fn nameless(&mut self, market: Market) {
        let known = |event: &Event| event.instrument.venue_symbol.is_empty() && event.body.channel().is_none();
        if !self.events.iter().skip(self.start).next_back().is_some_and(known) {
            self.bad(market, None, "a record names no instrument", "");
        }
    }

    /// A record that did not even parse; `symbol_key` is where such records have their name.
    #[cold]
    pub fn bad_row(&mut self, market: Market, symbol_key: &str, row: &BadRow<'_>) {
        let name = crate::wire::peek_str(row.text, symbol_key).ok().flatten();
        self.bad(market, name.as_deref(), row.fault, row.text);
    }

    /// What the message says about the connection.
    pub fn control(&mut self, control: Control) {
        self.controls.push(control);
    }

    /// A frame to be sent in answer.
    pub fn reply(&mut self, frame: String) {
        self.replies.push(frame);
    }

    /// The venue says how much the limit of the endpoint that answers allows in a window. Where it says so of several
    /// windows, the tightest in the long run counts. What says "nothing", or "in no time", is no limit.
    pub fn allows(&mut self, input: &Input<'_>, budget: u64, window: Duration) {
        let Source::Http { endpoint, .. } = input.source else { return };
        let budget = u32::try_from(budget).unwrap_or(u32::MAX);
        if budget == 0 || window.is_zero() {
            return;
        }
        let said = Allowance { limit: endpoint.limit.clone(), budget, window };
        match self.allowances.iter_mut().find(|other| other.limit == said.limit) {
            Some(other) if said.is_tighter_than(other) => *other = said,
            Some(_) => {}
            None => self.allowances.push(said),
        }
    }

    /// Asks another endpoint of the same market, by its name, with these values for its variables: where an answer
    /// leads to further ones.
    pub fn ask(&mut self, input: &Input<'_>, endpoint: &str, values: &[(&str, &str)]) {
        let found = input.profile.endpoint.iter().find(|e| e.name == endpoint && e.markets.contains(&input.market));
        // What its answer holds matters to no template but that of candles, which are asked for one by one.
        if let Some(endpoint) = found {
            self.fetches.push(plan::worded(input.profile, endpoint, input.market, Channel::Instrument, None, values));
        }
    }

    /// Asks for the next page of the answer that is being decoded: the same request with `key=value` in its query.
    pub fn next_page(&mut self, input: &Input<'_>, key: &str, value: &str) {
        let Source::Http { endpoint, url, request } = input.source else { return };
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        let kept = query.split('&').filter(|pair| !pair.is_empty() && pair.split('=').next() != Some(key));
        let query: Vec<Cow<'_, str>> = kept.map(Cow::Borrowed).chain([Cow::Owned(format!("{key}={}", percent_encode(value)))]).collect();
        let prefix = input.profile.host(input.market, &endpoint.name);
        let target = format!("{}?{}", path.strip_prefix(prefix).unwrap_or(path), query.join("&"));
        self.fetches.push(Request {
            endpoint: endpoint.name.clone(),
            market: input.market,
            method: endpoint.method,
            target,
            body: request.map(Into::into),
            limit: plan::limit_of(input.profile, endpoint),
            cost: endpoint.cost,
            instrument: None,
        });
    }
}

/// The first 200 characters of a text.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}
