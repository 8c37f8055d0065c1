//! What `venue.toml` may say: a venue's hosts, budgets, endpoints, streams and errors, as data.
//!
//! The file in a venue's folder is the lowest layer of the configuration: a user overrides any key by the same name.
//! A key is born when a second venue needs it; until then, it is code.

pub mod duration;
mod endpoint;
mod websocket;

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;
use serde_json::Value;

pub use self::endpoint::{Endpoint, Method};
pub use self::websocket::{Ping, WsOverride, WsPolicy};
use crate::error::ErrorKind;
use crate::event::Channel;
use crate::instrument::{Instrument, Kind, Market};
use crate::template::{agrees, fill};
use crate::time::{Interval, Time};

/// A venue's description.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Profile {
    /// The name on the command line and in events: lower case.
    pub name: String,
    /// The name as people write it.
    pub title: String,
    /// Where the venue documents what is said here.
    pub docs: String,
    /// Headers that each request and each WebSocket handshake carries.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// The venue's surfaces.
    pub markets: BTreeMap<Market, Surface>,
    /// Rate budgets by name.
    pub limits: BTreeMap<String, Limit>,
    /// How its `WebSockets` want to be treated.
    pub ws: WsPolicy,
    /// How long its answers are waited for.
    #[serde(default)]
    pub http: HttpPolicy,
    /// When its endpoints are left alone for a while.
    #[serde(default)]
    pub circuit: CircuitPolicy,
    /// How its books keep their continuity.
    #[serde(default)]
    pub book: BookPolicy,
    /// Kinds of errors by `http:403`, `code:10006` or `text:part of the body`; a text goes before a code, a code
    /// before a status.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorKind>,
    /// Where an error body has its code and its words.
    pub error_body: Option<ErrorBody>,
    /// How often its lists of instruments are read, if not as often as their endpoints say.
    #[serde(default, with = "duration::optional")]
    pub instruments_every: Option<Duration>,
    /// The venue's word for each candle interval that it serves.
    #[serde(default)]
    pub intervals: BTreeMap<String, String>,
    /// What can be asked for by HTTP; where several serve a channel, the first is asked.
    #[serde(default)]
    pub endpoint: Vec<Endpoint>,
    /// What can be subscribed to.
    #[serde(default)]
    pub stream: Vec<Stream>,
}

/// One of a venue's surfaces.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Surface {
    /// Scheme and host of its REST interface; a proxy's prefix may follow.
    pub rest: String,
    /// Scheme and host of its `WebSockets`.
    pub ws: String,
    /// Path of its WebSocket, where a stream names none.
    #[serde(default)]
    pub ws_path: String,
    /// Values for `{name}` in paths, queries, bodies and topics. Where one has several, a request or topic that is not of
    /// one instrument is made for each of them.
    #[serde(default)]
    pub vars: BTreeMap<String, Values>,
    /// What this surface's `WebSockets` want otherwise than the venue's others.
    #[serde(default)]
    pub ws_policy: WsOverride,
}

/// What a variable stands for.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(untagged)]
pub enum Values {
    /// One text.
    One(String),
    /// Any of these.
    Any(Vec<String>),
}

impl Values {
    /// All of them.
    pub fn all(&self) -> &[String] {
        match self {
            Self::One(value) => std::slice::from_ref(value),
            Self::Any(values) => values,
        }
    }

    /// The one, or the first.
    pub fn first(&self) -> Option<&str> {
        self.all().first().map(String::as_str)
    }
}

/// So many units in so long a window.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limit {
    /// Units: requests, or weight.
    pub budget: u32,
    /// The window, such as `1m`.
    #[serde(with = "duration")]
    pub window: Duration,
    /// Whether each endpoint that names this limit has one of its own.
    #[serde(default)]
    pub per_endpoint: bool,
    /// The header in which the venue says how much of the window is used.
    pub used_header: Option<String>,
    /// The header in which it says how much of the window is left.
    pub remaining_header: Option<String>,
    /// The header in which it says when the window begins anew: heeded when a request was one too many.
    pub reset_header: Option<String>,
    /// How that header counts.
    #[serde(default)]
    pub reset_unit: ResetUnit,
}

/// How a venue writes when a window begins anew.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ResetUnit {
    /// Seconds until then.
    #[default]
    S,
    /// Milliseconds until then.
    Ms,
    /// The time itself, in seconds since the Unix epoch.
    Unix,
}

impl Limit {
    /// So many units in so long a window, and nothing more about it.
    pub fn new(budget: u32, window: Duration) -> Self {
        Self { budget, window, per_endpoint: false, used_header: None, remaining_header: None, reset_header: None, reset_unit: ResetUnit::S }
    }
}

/// How long a venue's answers are waited for: as its latencies suggest, within these bounds.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct HttpPolicy {
    /// Not shorter than this.
    #[serde(with = "duration")]
    pub timeout_min: Duration,
    /// Not longer than this.
    #[serde(with = "duration")]
    pub timeout_max: Duration,
}

impl Default for HttpPolicy {
    fn default() -> Self {
        Self { timeout_min: Duration::from_secs(3), timeout_max: Duration::from_secs(15) }
    }
}

/// When an endpoint is left alone for a while, and how it is taken up again.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CircuitPolicy {
    /// After so many failures in a row,
    pub failures: u32,
    /// for so long at first,
    #[serde(with = "duration")]
    pub open: Duration,
    /// and for so long at most.
    #[serde(with = "duration")]
    pub open_max: Duration,
    /// Then one request in so long a time, and with each that succeeds one in half of it.
    #[serde(with = "duration")]
    pub trickle: Duration,
}

impl Default for CircuitPolicy {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        // At most as long as a venue that is back may be missed for.
        Self { failures: 5, open: seconds(5), open_max: seconds(12), trickle: seconds(1) }
    }
}

/// How a venue's books keep their continuity.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BookPolicy {
    /// How a delta follows its predecessor.
    #[serde(default)]
    pub continuity: Continuity,
    /// Where a book begins, and begins anew after a break.
    #[serde(default)]
    pub snapshot: SnapshotFrom,
}

/// How a delta follows its predecessor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Continuity {
    /// The venue gives no means to tell.
    #[default]
    None,
    /// Its `prev_seq` is the predecessor's `seq`.
    PrevSeq,
    /// Its `seq` is one more than the predecessor's.
    Increment,
}

/// Where a book begins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SnapshotFrom {
    /// The stream sends a snapshot after each subscription.
    #[default]
    Stream,
    /// It is fetched by REST, from the endpoint that polls the book.
    Rest,
}

/// Where an error body has its code and its words.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ErrorBody {
    /// Key of the code; `a.b` for a key inside another, `a|b` where either may be there.
    pub code: String,
    /// Key of the words, likewise.
    pub message: String,
    /// Codes that mean success.
    #[serde(default)]
    pub ok: Vec<String>,
}

/// What can be subscribed to.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stream {
    /// The topic; `{symbol}`, `{symbol_lower}`, `{interval}` and a surface's variables. Without a symbol it serves all.
    pub topic: String,
    /// Which surfaces have it.
    pub markets: Vec<Market>,
    /// What its messages hold.
    pub channels: Vec<ChannelName>,
    /// Path of the WebSocket that serves it, if not the surface's.
    pub ws_path: Option<String>,
    /// Its topics in one subscribe frame, if not as many as of others.
    pub topics_per_frame: Option<usize>,
    /// How often each of its topics says something at least, whatever the market does.
    #[serde(default, with = "duration::optional")]
    pub cadence: Option<Duration>,
    /// The kinds of contracts that have it (all, if none is named).
    #[serde(default)]
    pub only: Vec<KindName>,
}

/// A channel's kind: `candle` stands for candles of any interval.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChannelName(Channel);

impl ChannelName {
    /// Whether `channel` is of this kind.
    pub fn is(self, channel: Channel) -> bool {
        self.0.same_kind(channel)
    }

    /// The contract's word.
    pub fn as_str(self) -> &'static str {
        self.0.as_str()
    }
}

impl<'de> Deserialize<'de> for ChannelName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let channel = if text == "candle" { Interval::new(1, 'm').map(Channel::Candle) } else { Channel::parse(&text) };
        channel.map(Self).ok_or_else(|| serde::de::Error::custom(format!("`{text}` is no channel")))
    }
}

/// A kind of contract in `only`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "named by the contract")]
pub enum KindName {
    Spot,
    Perpetual,
    Future,
    Option,
}

impl KindName {
    /// Whether `kind` is this.
    pub fn is(self, kind: Kind) -> bool {
        matches!((self, kind), (Self::Spot, Kind::Spot) | (Self::Perpetual, Kind::Perpetual) | (Self::Future, Kind::Future) | (Self::Option, Kind::Option))
    }
}

/// Whether an instrument is of one of these kinds, as far as is known; any is, where none is named.
fn is_of_kind(only: &[KindName], instrument: &Instrument) -> bool {
    only.is_empty() || instrument.details.as_ref().is_none_or(|details| only.iter().any(|kind| kind.is(details.kind)))
}

impl Profile {
    /// Reads a `venue.toml`.
    ///
    /// # Errors
    /// What the file says that it may not say, and where.
    pub fn parse(text: &str) -> Result<Self, Box<toml::de::Error>> {
        toml::from_str(text).map_err(Box::new)
    }

    /// The venue's word for an interval.
    pub fn interval(&self, interval: Interval) -> Option<&str> {
        self.intervals.get(&interval.to_string()).map(String::as_str)
    }

    /// The interval for a venue's word.
    pub fn interval_named(&self, word: &str) -> Option<Interval> {
        self.intervals.iter().find(|(_, theirs)| *theirs == word).and_then(|(ours, _)| Interval::parse(ours))
    }

    /// How a surface's `WebSockets` want to be treated.
    pub fn ws_of(&self, market: Market) -> WsPolicy {
        self.markets.get(&market).map_or_else(|| self.ws.clone(), |surface| self.ws.with(&surface.ws_policy))
    }

    /// A frame to keep or begin a connection with, as it is sent at a time of the wall clock.
    pub fn worded(&self, market: Market, template: &str, time: Time) -> String {
        let seconds = (time.micros() / 1_000_000).to_string();
        fill(template, market, self.markets.get(&market), &[("time", &seconds)])
    }

    /// The limit that a request names: `limit`, or `limit/endpoint` where each endpoint has its own.
    pub fn limit(&self, name: &str) -> Option<&Limit> {
        self.limits.get(name.split('/').next().unwrap_or(name))
    }

    /// How many topics of a stream one frame takes.
    pub fn topics_per_frame(&self, market: Market, stream: usize) -> usize {
        let own = self.stream.get(stream).and_then(|stream| stream.topics_per_frame);
        own.unwrap_or_else(|| self.ws_of(market).topics_per_frame).max(1)
    }

    /// Scheme and host of an endpoint.
    pub fn host(&self, market: Market, endpoint: &str) -> &str {
        let at = self.endpoint.iter().find(|e| e.name == endpoint && e.markets.contains(&market)).and_then(|e| e.at).unwrap_or(market);
        self.markets.get(&at).map_or("", |surface| surface.rest.trim_end_matches('/'))
    }

    /// The endpoint of a market that an address names (its host, a proxy's prefix and its query do not matter), and
    /// where several share that, the body that was sent.
    pub fn endpoint_at(&self, market: Market, method: Method, url: &str, body: Option<&str>) -> Option<&Endpoint> {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let surface = self.markets.get(&market);
        let mut sent = None;
        self.endpoint.iter().filter(|endpoint| endpoint.method == method && endpoint.markets.contains(&market)).find(|endpoint| {
            let here = choices(&[&endpoint.path], surface).iter().any(|values| path_matches(&fill(&endpoint.path, market, surface, values), path));
            here && endpoint.body.as_ref().is_none_or(|template| {
                let sent = sent.get_or_insert_with(|| body.and_then(|body| serde_json::from_str(body).ok()).unwrap_or(Value::Null));
                // What the surface's variables stand for is not told apart.
                agrees(template, sent)
            })
        })
    }
}

/// Whether a path ends with that of an endpoint, of which `{symbol}` and the like may be any one part.
fn path_matches(template: &str, path: &str) -> bool {
    if !template.contains('{') {
        return path.ends_with(template);
    }
    let (mut parts, mut wanted) = (path.rsplit('/'), template.trim_start_matches('/').rsplit('/'));
    wanted.all(|wanted| parts.next().is_some_and(|part| wanted == part || (wanted.contains('{') && !part.is_empty())))
}

impl Stream {
    /// Whether its messages hold `channel`.
    pub fn serves(&self, market: Market, channel: Channel) -> bool {
        self.markets.contains(&market) && self.channels.iter().any(|name| name.is(channel))
    }

    /// Whether an instrument is of a kind that has it, as far as that is known.
    pub fn is_for(&self, instrument: &Instrument) -> bool {
        is_of_kind(&self.only, instrument)
    }

    /// Whether it serves one instrument a topic.
    pub fn per_instrument(&self) -> bool {
        self.topic.contains("{symbol")
    }
}

/// The values that a surface's variables take together in these templates: one list where none has several.
pub(crate) fn choices<'s>(templates: &[&str], surface: Option<&'s Surface>) -> Vec<Vec<(&'s str, &'s str)>> {
    let mut all = vec![Vec::new()];
    for (name, values) in surface.into_iter().flat_map(|surface| &surface.vars) {
        let several = values.all().len() > 1 && templates.iter().any(|template| template.contains(&format!("{{{name}}}")));
        if several {
            all = all
                .iter()
                .flat_map(|known| values.all().iter().map(|value| known.iter().copied().chain([(name.as_str(), value.as_str())]).collect()))
                .collect();
        }
    }
    all
}

#[cfg(test)]
mod tests;
