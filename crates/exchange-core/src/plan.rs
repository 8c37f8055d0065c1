//! What to ask a venue for: from what is wanted and the venue's description, without asking anyone.

mod range;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

pub use self::range::{Range, most_records, request_range};
use crate::event::Channel;
use crate::exchange::percent_encode;
use crate::instrument::{Instrument, Kind, Market, Status};
use crate::profile::{Endpoint, Method, Profile, Stream, choices};
use crate::template::{self, fill};
use crate::time::{Interval, Time};

/// How data is to be had.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// By REST.
    Poll,
    /// By WebSocket.
    Stream,
    /// `trade`, `book`, `quote`, `liquidation` and `candle` by stream, the others by poll where one request serves
    /// many instruments, else by stream; what a channel's first choice does not serve, by the other.
    #[default]
    Auto,
}

/// What is wanted of one of a venue's markets.
#[derive(Debug, Clone, Copy)]
pub struct Want<'a> {
    /// The market.
    pub market: Market,
    /// The channels.
    pub channels: &'a [Channel],
    /// How they are to be had.
    pub mode: Mode,
    /// Whether the other way will do for a channel that the mode's way does not serve. (`run` says so only for
    /// [`Mode::Auto`].)
    pub fallback: bool,
    /// The instruments, all of the market's known ones or those that were chosen.
    pub instruments: &'a [Arc<Instrument>],
}

/// What to ask for.
#[derive(Debug, Clone, Default)]
pub struct Plan {
    /// Requests of a cycle.
    pub polls: Vec<Poll>,
    /// Subscriptions.
    pub topics: Vec<Topic>,
    /// Channels that the venue does not serve in this market and mode.
    pub unserved: Vec<Channel>,
}

/// A request of a cycle.
#[derive(Debug, Clone)]
pub struct Poll {
    /// The request.
    pub request: Request,
    /// The channels that it was planned for.
    pub channels: Vec<Channel>,
    /// Not more often than this.
    pub every: Option<Duration>,
    /// Whether it is one of many that together serve a channel, one for each instrument.
    pub sweep: bool,
    /// Whether records that are byte for byte those of the last answer may be passed over: they are states, and
    /// nothing else feeds them.
    pub memo: bool,
}

/// An HTTP request, its host still to come.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The endpoint's name.
    pub endpoint: String,
    /// The surface.
    pub market: Market,
    /// The verb.
    pub method: Method,
    /// Path and query.
    pub target: String,
    /// Body of a POST.
    pub body: Option<String>,
    /// The budget that it draws on.
    pub limit: String,
    /// How much it draws.
    pub cost: u32,
    /// The instrument that it asks for, if it asks for one.
    pub instrument: Option<Arc<Instrument>>,
}

impl Request {
    /// The request as it is sent at a time of the wall clock: until then, its target and body hold the times that are
    /// relative to that (`{ago:2h}`), so that it stays the same request.
    #[must_use]
    pub fn at(&self, now: Time) -> Self {
        Self { target: template::at(&self.target, now), body: self.body.as_ref().map(|body| template::at(body, now)), ..self.clone() }
    }
}

/// A subscription.
#[derive(Debug, Clone, PartialEq)]
pub struct Topic {
    /// The venue's name of it.
    pub name: String,
    /// The surface.
    pub market: Market,
    /// Path of the WebSocket that serves it.
    pub ws_path: String,
    /// The channels that it was planned for.
    pub channels: Vec<Channel>,
    /// The instrument, if it is one's.
    pub instrument: Option<Arc<Instrument>>,
    /// Which of the profile's streams it is of: a subscribe frame holds topics of one.
    pub stream: usize,
}

/// Whether a channel's events are a stream's by nature.
fn streams_first(channel: Channel) -> bool {
    matches!(channel, Channel::Trade | Channel::Book | Channel::Quote | Channel::Liquidation | Channel::Candle(_))
}

/// Whether there is anything to collect of an instrument.
pub fn is_live(instrument: &Instrument) -> bool {
    instrument.details.as_ref().is_none_or(|details| {
        matches!(details.status, Status::Trading | Status::PreLaunch) && (details.kind != Kind::Option || instrument.market == Market::Option)
    })
}

/// The plan that a venue's description gives.
pub fn from_profile(profile: &Profile, want: &Want<'_>) -> Plan {
    let mut plan = Plan::default();
    for &channel in want.channels {
        let endpoint = profile.endpoint.iter().find(|e| !e.also && !e.history && !e.follow && e.serves(want.market, channel));
        let streams: Vec<(usize, &Stream)> = profile.stream.iter().enumerate().filter(|(_, s)| s.serves(want.market, channel)).collect();
        let interval = if let Channel::Candle(interval) = channel { profile.interval(interval) } else { Some("") };
        let served = interval.is_some();
        let poll_first = match want.mode {
            Mode::Poll => true,
            Mode::Stream => false,
            // A sweep is no first choice where a stream serves the channel.
            Mode::Auto => !streams_first(channel) && endpoint.is_some_and(|e| !e.per_instrument()),
        } || channel == Channel::Instrument;
        let fallback = want.fallback || want.mode == Mode::Auto || channel == Channel::Instrument;
        let by_poll = served && endpoint.is_some() && (poll_first || (streams.is_empty() && fallback));
        let by_stream = served && !streams.is_empty() && !by_poll && (!poll_first || fallback);
        if !by_poll && !by_stream {
            plan.unserved.push(channel);
            continue;
        }
        if by_poll && let Some(endpoint) = endpoint {
            add_polls(&mut plan, profile, want, endpoint, channel);
        }
        if by_stream {
            // The first that serves each instrument: a stream for all before one for each, as the profile orders them.
            if let Some((at, stream)) = streams.first() {
                add_topics(&mut plan, profile, want, (*at, stream), channel);
            }
        }
        for endpoint in profile.endpoint.iter().filter(|e| e.also && e.serves(want.market, channel)) {
            add_polls(&mut plan, profile, want, endpoint, channel);
        }
    }
    let streamed: Vec<Channel> = plan.topics.iter().flat_map(|topic| topic.channels.clone()).collect();
    for poll in &mut plan.polls {
        // A book, trades, candles are happenings: each answer is compared by ids.
        let states = |channel: &Channel| matches!(channel, Channel::Ticker | Channel::Mark | Channel::Funding | Channel::OpenInterest | Channel::Quote);
        poll.memo = !poll.sweep && poll.channels.iter().all(|channel| states(channel) && !streamed.contains(channel));
    }
    plan.merge_topics();
    plan
}

fn add_polls(plan: &mut Plan, profile: &Profile, want: &Want<'_>, endpoint: &Endpoint, channel: Channel) {
    if endpoint.per_instrument() {
        for instrument in want.instruments.iter().filter(|i| is_live(i) && endpoint.is_for(i)) {
            let request = request(profile, endpoint, want.market, channel, Some(instrument));
            plan.polls.push(Poll { request, channels: vec![channel], every: endpoint.every, sweep: true, memo: false });
        }
        return;
    }
    for request in requests(profile, endpoint, want.market, channel) {
        // One request may serve several channels.
        match plan.polls.iter_mut().find(|poll| poll.request == request) {
            Some(poll) if poll.channels.contains(&channel) => {}
            Some(poll) => poll.channels.push(channel),
            None => plan.polls.push(Poll { request, channels: vec![channel], every: endpoint.every, sweep: false, memo: false }),
        }
    }
}

/// The requests that ask an endpoint for a channel of all instruments: one for each value of a variable that has several.
pub fn requests(profile: &Profile, endpoint: &Endpoint, market: Market, channel: Channel) -> Vec<Request> {
    let templates: Vec<&str> = [Some(&endpoint.path), Some(&endpoint.query), endpoint.body.as_ref()].into_iter().flatten().map(String::as_str).collect();
    let choices = choices(&templates, profile.markets.get(&market));
    choices.iter().map(|values| worded(profile, endpoint, market, channel, None, values)).collect()
}

/// The request that asks an endpoint for a channel, of one instrument or of all. Where a variable has several values,
/// it is the instrument's own, or the first.
pub fn request(profile: &Profile, endpoint: &Endpoint, market: Market, channel: Channel, instrument: Option<&Arc<Instrument>>) -> Request {
    worded(profile, endpoint, market, channel, instrument, &[])
}

/// [`request`], with values for variables besides.
pub(crate) fn worded(
    profile: &Profile,
    endpoint: &Endpoint,
    market: Market,
    channel: Channel,
    instrument: Option<&Arc<Instrument>>,
    values: &[(&str, &str)],
) -> Request {
    let surface = profile.markets.get(&market);
    let own = Words::of(profile, Some(endpoint), channel, instrument);
    let encoded: Vec<(&str, Cow<'_, str>)> = own.pairs().chain(values.iter().copied()).map(|(name, value)| (name, percent_encode(value))).collect();
    let encoded: Vec<(&str, &str)> = encoded.iter().map(|(name, value)| (*name, &**value)).collect();
    let counted = |template: &String| template::count_out(template, interval_of(channel));
    let mut target = fill(&counted(&endpoint.path), market, surface, &encoded);
    let query = fill(&counted(&endpoint.query), market, surface, &encoded);
    if !query.is_empty() {
        target = format!("{target}?{query}");
    }
    let plain: Vec<(&str, &str)> = own.pairs().chain(values.iter().copied()).collect();
    Request {
        endpoint: endpoint.name.clone(),
        market,
        method: endpoint.method,
        target,
        body: endpoint.body.as_ref().map(|body| fill(&counted(body), market, surface, &plain)),
        limit: limit_of(profile, endpoint),
        cost: endpoint.cost,
        instrument: instrument.cloned(),
    }
}

/// The budget that an endpoint draws on, as [`Profile::limit`] reads it.
pub(crate) fn limit_of(profile: &Profile, endpoint: &Endpoint) -> String {
    match profile.limits.get(&endpoint.limit) {
        Some(limit) if limit.per_endpoint => format!("{}/{}", endpoint.limit, endpoint.name),
        _ => endpoint.limit.clone(),
    }
}

/// What stands for an instrument and an interval in templates.
struct Words<'a> {
    interval: &'a str,
    /// Name and value.
    own: Vec<(&'static str, Cow<'a, str>)>,
}

impl<'a> Words<'a> {
    fn of(profile: &'a Profile, endpoint: Option<&'a Endpoint>, channel: Channel, instrument: Option<&'a Arc<Instrument>>) -> Self {
        let word = |interval| endpoint.and_then(|endpoint| endpoint.interval(interval)).or_else(|| profile.interval(interval));
        let interval = interval_of(channel).and_then(word).unwrap_or_default();
        let mut own = Vec::new();
        if let Some(instrument) = instrument {
            let symbol = &*instrument.venue_symbol;
            own.push(("symbol", Cow::Borrowed(symbol)));
            own.push(("symbol_lower", Cow::Owned(symbol.to_lowercase())));
            if let Some(details) = &instrument.details {
                own.extend([("base", Cow::Borrowed(&*details.base)), ("quote", Cow::Borrowed(&*details.quote))]);
                if let Some(settle) = &details.settle {
                    own.extend([("settle", Cow::Borrowed(&**settle)), ("settle_lower", Cow::Owned(settle.to_lowercase()))]);
                }
            }
        }
        Self { interval, own }
    }

    fn pairs(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own.iter().map(|(name, value)| (*name, &**value)).chain([("interval", self.interval)])
    }
}

fn interval_of(channel: Channel) -> Option<Interval> {
    if let Channel::Candle(interval) = channel { Some(interval) } else { None }
}

fn add_topics(plan: &mut Plan, profile: &Profile, want: &Want<'_>, (at, stream): (usize, &Stream), channel: Channel) {
    let surface = profile.markets.get(&want.market);
    let ws_path = stream.ws_path.as_ref().or_else(|| surface.map(|s| &s.ws_path)).map_or("", String::as_str);
    let mut add = |instrument: Option<&Arc<Instrument>>, values: &[(&str, &str)]| {
        let words = Words::of(profile, None, channel, instrument);
        let values: Vec<(&str, &str)> = words.pairs().chain(values.iter().copied()).collect();
        let [name, ws_path] = [&stream.topic, ws_path].map(|template| fill(template, want.market, surface, &values));
        plan.topics.push(Topic { name, market: want.market, ws_path, channels: vec![channel], instrument: instrument.cloned(), stream: at });
    };
    if stream.per_instrument() {
        for instrument in want.instruments.iter().filter(|i| is_live(i) && stream.is_for(i)) {
            add(Some(instrument), &[]);
        }
    } else {
        for values in &choices(&[&stream.topic, ws_path], surface) {
            add(None, values);
        }
    }
}

impl Plan {
    /// Joins topics of one name: Bybit's `tickers` serves four channels.
    pub fn merge_topics(&mut self) {
        let mut at = std::collections::HashMap::new();
        let mut merged: Vec<Topic> = Vec::with_capacity(self.topics.len());
        for topic in self.topics.drain(..) {
            let index = *at.entry((topic.market, topic.ws_path.clone(), topic.name.clone())).or_insert(merged.len());
            match merged.get_mut(index) {
                Some(known) => {
                    let more: Vec<Channel> = topic.channels.into_iter().filter(|channel| !known.channels.contains(channel)).collect();
                    known.channels.extend(more);
                }
                None => merged.push(topic),
            }
        }
        self.topics = merged;
    }
}

#[cfg(test)]
mod tests;
