//! The abstraction over venues: what to ask for, how to word it, what the answer means. Pure and synchronous.
//!
//! A venue is a description ([`Profile`], from its `venue.toml`) and an [`Exchange`]. Its [`Decoder`] is the one door
//! for bytes, whether they come from a socket, from a capture or from a test. What a decoder wants done in return
//! (answer a ping, fetch the next page) it gives back through [`Out`]; whoever called it carries that out.

use std::borrow::Cow;
use std::fmt::{Display, Write as _};
use std::sync::Arc;
use std::time::Duration;

use crate::budget::Allowance;
use crate::error::{DecodeError, ErrorKind};
use crate::event::{Body, Channel, DecodeFailure, Event};
use crate::instrument::{Details, Instrument, Lookup, Market};
use crate::memo::Memo;
use crate::plan::{self, Plan, Request, Topic, Want};
use crate::profile::{Endpoint, Method, Profile};
use crate::time::{Interval, Time};
use crate::wire::{BadRow, Reader};

/// A venue.
pub trait Exchange: Send + Sync {
    /// The venue's `venue.toml`: the lowest layer of the configuration.
    fn policy(&self) -> &'static str;

    /// What to ask for. What the description says is enough for most venues.
    fn plan(&self, profile: &Profile, want: &Want<'_>) -> Plan {
        plan::from_profile(profile, want)
    }

    /// The frame that subscribes to or unsubscribes from topics: of one stream of the profile, and never more than that
    /// allows in one frame. `id` comes back in the acknowledgement where the venue has such a thing; `time` is the
    /// wall clock's.
    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, time: Time) -> String;

    /// A decoder for one connection, or for one polled surface.
    fn decoder(&self, market: Market) -> Box<dyn Decoder>;

    /// The unified symbol, where a venue's names carry their parts and the instrument was not described yet.
    fn parse_symbol(&self, _market: Market, _venue_symbol: &str) -> Option<String> {
        None
    }
}

/// What a subscribe frame does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(missing_docs, reason = "as they say")]
pub enum Op {
    Subscribe,
    Unsubscribe,
}

/// What bytes mean. Implemented for plain functions: most venues need no state of their own.
pub trait Decoder: Send {
    /// Decodes one frame or one answer. Error answers (by the profile's `errors`) do not come here.
    ///
    /// # Errors
    /// A [`DecodeError`] where the whole message is bad: what was emitted of it is taken back. A single bad record
    /// is [`Out::bad`] and costs only itself.
    fn decode(&mut self, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError>;
}

impl<F: FnMut(&Input<'_>, &mut Out<'_>) -> Result<(), DecodeError> + Send> Decoder for F {
    fn decode(&mut self, input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        self(input, out)
    }
}

/// Bytes that arrived, and what is known about them without looking at them.
#[derive(Debug, Clone, Copy)]
pub struct Input<'a> {
    /// The venue's description.
    pub profile: &'a Profile,
    /// The surface that this came from. Where one serves several markets, the instrument's own may differ.
    pub market: Market,
    /// Where this came from.
    pub source: Source<'a>,
    /// When it arrived.
    pub received: Time,
    /// The frame or body, after decompression.
    pub payload: &'a [u8],
    /// The last answer to the same request, where only changed records are wanted.
    pub memo: Option<&'a Memo>,
}

/// Where bytes came from.
#[derive(Debug, Clone, Copy)]
pub enum Source<'a> {
    /// A WebSocket frame.
    Ws {
        /// The connection's address.
        url: &'a str,
    },
    /// An HTTP answer with a status of 2xx.
    Http {
        /// What was asked, by the endpoint table.
        endpoint: &'a Endpoint,
        /// The full address, query included.
        url: &'a str,
        /// The body that was sent.
        request: Option<&'a str>,
    },
}

impl<'a> Input<'a> {
    /// The payload as text.
    ///
    /// # Errors
    /// A [`DecodeError`] where it is not UTF-8.
    #[inline]
    pub fn text(&self) -> Result<&'a str, DecodeError> {
        simdutf8::basic::from_utf8(self.payload).map_err(|_| DecodeError::malformed("the payload is not UTF-8 text"))
    }

    /// A reader at the beginning of the payload.
    ///
    /// # Errors
    /// A [`DecodeError`] where it is not UTF-8.
    #[inline]
    pub fn reader(&self) -> Result<Reader<'a>, DecodeError> {
        let mut reader = Reader::new(self.text()?);
        reader.memo = self.memo;
        Ok(reader)
    }

    /// The value of a key in the request's query, percent-decoded.
    pub fn query(&self, key: &str) -> Option<Cow<'a, str>> {
        let Source::Http { url, .. } = self.source else { return None };
        query(url, key)
    }

    /// The interval for the venue's word, as the profile's `intervals` say it.
    ///
    /// # Errors
    /// A [`DecodeError`] where it is none of those.
    pub fn interval(&self, word: &str) -> Result<Interval, DecodeError> {
        self.profile.interval_named(word).ok_or_else(|| DecodeError::unknown("interval", word))
    }
}

/// The value of a key in an address' query, percent-decoded.
pub fn query<'a>(url: &'a str, key: &str) -> Option<Cow<'a, str>> {
    let value = url.split_once('?')?.1.split('&').find_map(|pair| pair.split_once('=').filter(|(name, _)| *name == key))?.1;
    if !value.contains(['%', '+']) {
        return Some(Cow::Borrowed(value));
    }
    let mut bytes = Vec::with_capacity(value.len());
    let mut rest = value.as_bytes();
    while let [first, tail @ ..] = rest {
        let hex = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok()).and_then(|two| u8::from_str_radix(two, 16).ok());
        match (first, hex) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    Some(Cow::Owned(String::from_utf8_lossy(&bytes).into_owned()))
}

/// Percent-encodes a value for a query.
pub fn percent_encode(value: &str) -> Cow<'_, str> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-_.~".contains(&b);
    if value.bytes().all(plain) {
        return Cow::Borrowed(value);
    }
    let mut out = String::with_capacity(value.len() + 8);
    for byte in value.bytes() {
        if plain(byte) {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
    Cow::Owned(out)
}

/// What a message says about the connection rather than the market.
#[derive(Debug, Clone, PartialEq)]
pub enum Control {
    /// A subscribe frame was accepted.
    Ack {
        /// Its id, if the acknowledgement carries it.
        id: Option<u64>,
    },
    /// One topic of a frame was accepted: where each has an acknowledgement of its own.
    AckTopic {
        /// The frame's id, if the acknowledgement carries it.
        id: Option<u64>,
        /// The topic's name.
        topic: String,
    },
    /// These topics of a frame were accepted, and no others.
    AckOnly {
        /// The frame's id, if the acknowledgement carries it.
        id: Option<u64>,
        /// The topics' names.
        topics: Vec<String>,
    },
    /// A subscribe frame was refused, in whole or in part.
    Rejected {
        /// Its id, if the refusal carries it.
        id: Option<u64>,
        /// The one topic that was the reason, if the refusal names it.
        topic: Option<String>,
        /// The venue's words.
        reason: String,
    },
    /// An answer to our ping, a greeting, a heartbeat: the connection lives, nothing else.
    Alive,
    /// The venue is about to close: reconnect now.
    Closing,
}

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

impl Body {
    /// Whether this is a state that carries no field.
    #[inline]
    pub fn is_empty(&self) -> bool {
        match self {
            Self::Ticker(t) => [
                &t.last,
                &t.bid,
                &t.ask,
                &t.volume_24h,
                &t.open_24h,
                &t.high_24h,
                &t.low_24h,
                &t.turnover_24h,
                &t.change_24h,
                &t.last_size,
                &t.bid_size,
                &t.ask_size,
            ]
            .into_iter()
            .all(Option::is_none),
            Self::Quote(q) => q.bid.is_none() && q.ask.is_none() && q.bid_size.is_none() && q.ask_size.is_none(),
            Self::Mark(m) => m.mark.is_none() && m.index.is_none() && m.basis.is_none(),
            Self::Funding(f) => {
                f.rate.is_none() && f.next_time.is_none() && f.interval_hours.is_none() && f.predicted_rate.is_none() && f.cap.is_none() && f.floor.is_none()
            }
            Self::OpenInterest(v) => v.value.is_none() && v.value_base.is_none() && v.value_quote.is_none(),
            _ => false,
        }
    }
}

/// The first 200 characters of a text.
pub(crate) fn excerpt(text: &str) -> String {
    text.chars().take(200).collect()
}

impl Method {
    /// Reads `GET` or `POST`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Get, Self::Post].into_iter().find(|method| method.as_str() == text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::event::Funding;
    use crate::feed::{Reply, Turn, Venue};
    use crate::instrument::{Kind, Status};

    struct Toy;

    impl Exchange for Toy {
        fn policy(&self) -> &'static str {
            r#"
            name = "toy"
            title = "Toy"
            docs = "none"
            limits = {}
            [markets.linear]
            rest = "http://toy"
            ws = "ws://toy"
            [ws]
            topics_per_frame = 1
            topics_per_connection = 1
            frames = { budget = 1, window = "1s" }
            connects = { budget = 1, window = "1s" }
            silence = "30s"
            [[endpoint]]
            name = "all"
            path = "/all"
            markets = ["linear"]
            channels = ["instrument", "funding"]
            limit = "none"
            "#
        }

        fn subscribe(&self, _: Op, _: &[&Topic], _: u64, _: Time) -> String {
            String::new()
        }

        fn decoder(&self, _: Market) -> Box<dyn Decoder> {
            Box::new(decode)
        }
    }

    /// `L4` lists the instrument with an interval of four hours, `L` without; `F4` is its funding.
    fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
        for word in input.text()?.split_whitespace() {
            let hours = word.get(1..).and_then(|hours| hours.parse().ok());
            if word.starts_with('L') {
                let details = Details { funding_interval_hours: hours, ..Details::new(Kind::Perpetual, "A", "B", Status::Trading) };
                out.describe(input.market, "A", None, details);
            } else {
                let instrument = out.instrument(input.market, "A");
                out.emit(&instrument, None, Body::Funding(Funding { interval_hours: hours, ..Funding::default() }));
            }
        }
        Ok(())
    }

    /// The intervals of the instrument events that a venue's answers give, one after the other.
    fn told(answers: &[&str]) -> Vec<Vec<Option<u32>>> {
        let venue = Venue::new(&Toy, Profile::parse(Toy.policy()).unwrap());
        let mut feed = crate::feed::Feed::new(venue, Market::Linear);
        let interval = |event: &Event| if let Body::Instrument(details) = &event.body { Some(details.funding_interval_hours) } else { None };
        let mut answer = |payload: &&str| {
            let mut turn = Turn::default();
            let reply =
                Reply { method: Method::Get, url: "http://toy/all", request: None, status: 200, retry_after: None, payload: payload.as_bytes(), memo: None };
            feed.reply(Time::EPOCH, &reply, &mut turn).unwrap();
            turn.events.iter().filter_map(interval).collect()
        };
        answers.iter().map(&mut answer).collect()
    }

    #[test]
    fn a_funding_interval_that_the_list_leaves_out_is_an_instruments_once() {
        let said = told(&["F8", "L", "F8", "F8 F8", "L", "F4 F4", "F", "L"]);
        let (none, eight, four) = (vec![None], vec![Some(8)], vec![Some(4)]);
        assert_eq!(said, [vec![], none, eight.clone(), vec![], eight, four.clone(), vec![], four]);
    }

    #[test]
    fn where_the_list_has_it_the_list_is_what_counts() {
        assert_eq!(told(&["L8", "F4", "L8", "F4", "L4"]), [vec![Some(8)], vec![], vec![Some(8)], vec![], vec![Some(4)]]);
    }
}
