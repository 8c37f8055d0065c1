//! What `venue.toml` may say: a venue's hosts, budgets, endpoints, streams and errors, as data.
//!
//! The file in a venue's folder is the lowest layer of the configuration: a user overrides any key by the same name.
//! A key is born when a second venue needs it; until then, it is code.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use crate::error::ErrorKind;
use crate::event::Channel;
use crate::instrument::{Kind, Market};
use crate::time::Interval;

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
    /// The venue's surfaces.
    pub markets: BTreeMap<Market, Surface>,
    /// Rate budgets by name.
    pub limits: BTreeMap<String, Limit>,
    /// How its `WebSockets` want to be treated.
    pub ws: WsPolicy,
    /// How its books keep their continuity.
    #[serde(default)]
    pub book: BookPolicy,
    /// Kinds of errors by `http:403`, `code:10006` or `text:part of the body`; a text goes before a code, a code
    /// before a status.
    #[serde(default)]
    pub errors: BTreeMap<String, ErrorKind>,
    /// Where an error body has its code and its words.
    pub error_body: Option<ErrorBody>,
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
    /// Values for `{name}` in paths, queries and topics.
    #[serde(default)]
    pub vars: BTreeMap<String, String>,
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
    /// The header in which the venue says how much of the window is used.
    pub used_header: Option<String>,
}

/// How a venue's `WebSockets` want to be treated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WsPolicy {
    /// What the client sends to keep the connection open; without it, only the venue's pings are answered.
    pub ping: Option<Ping>,
    /// Topics in one subscribe frame.
    pub topics_per_frame: usize,
    /// Topics of one connection.
    pub topics_per_connection: usize,
    /// Frames that a client may send, pings included.
    pub frames: Limit,
    /// Connections that a client may open.
    pub connects: Limit,
    /// After how long the venue closes a connection.
    #[serde(default, with = "duration::optional")]
    pub life: Option<Duration>,
    /// A connection on which nothing at all arrives for so long is dead.
    #[serde(with = "duration")]
    pub silence: Duration,
}

/// A client's ping.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// How often.
    #[serde(with = "duration")]
    pub every: Duration,
    /// The text frame; a protocol ping without it.
    pub text: Option<String>,
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
    /// Key of the code.
    pub code: String,
    /// Key of the words.
    pub message: String,
    /// Codes that mean success.
    #[serde(default)]
    pub ok: Vec<String>,
}

/// What can be asked for by HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Endpoint {
    /// What the decoder calls it.
    pub name: String,
    /// Verb.
    #[serde(default)]
    pub method: Method,
    /// Path; `{name}` stands for a surface's variable, `{market}` for the market.
    pub path: String,
    /// Query; also `{symbol}`, `{interval}`. With `{symbol}` it serves one instrument a request.
    #[serde(default)]
    pub query: String,
    /// Body of a POST, as the query.
    pub body: Option<String>,
    /// Which surfaces have it.
    pub markets: Vec<Market>,
    /// What its answer holds; candles as `candle`.
    pub channels: Vec<ChannelName>,
    /// The budget that it draws on.
    pub limit: String,
    /// How much it draws.
    #[serde(default = "one")]
    pub cost: u32,
    /// Not more often than this, where the values change rarely.
    #[serde(default, with = "duration::optional")]
    pub every: Option<Duration>,
    /// Asked besides the endpoint or stream that serves the channel, for what that leaves out.
    #[serde(default)]
    pub also: bool,
    /// The kinds of contracts that have it (all, if none is named).
    #[serde(default)]
    pub only: Vec<KindName>,
    /// Never part of a plan: known for captures and history.
    #[serde(default)]
    pub history: bool,
    /// How a part of an instrument's records is asked for: pairs of a query with `{since}` and `{until}` (milliseconds,
    /// both included) and `{limit:..1000}` (how many records at most; a surface's variable may stand for the number) or
    /// `{limit:5|10|20}` (how many, where only these will do). A pair takes the place of the query's pair of that key;
    /// one whose value is not asked for is left out.
    pub range: Option<String>,
    /// How much asking for so many records as possible draws, where that is more than `cost`.
    pub range_cost: Option<u32>,
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
    /// The kinds of contracts that have it (all, if none is named).
    #[serde(default)]
    pub only: Vec<KindName>,
}

/// The verb of a request.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Method {
    /// Everything in the address.
    #[default]
    Get,
    /// A body is sent.
    Post,
}

impl Method {
    /// `GET` or `POST`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Post => "POST",
        }
    }
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

fn one() -> u32 {
    1
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

    /// The endpoint of a market that an address names (its host, a proxy's prefix and its query do not matter).
    pub fn endpoint_at(&self, market: Market, method: Method, url: &str) -> Option<&Endpoint> {
        let path = url.split(['?', '#']).next().unwrap_or(url);
        let surface = self.markets.get(&market);
        self.endpoint
            .iter()
            .find(|endpoint| endpoint.method == method && endpoint.markets.contains(&market) && path.ends_with(&fill(&endpoint.path, market, surface, &[])))
    }
}

impl Endpoint {
    /// Whether its answer holds `channel`.
    pub fn serves(&self, market: Market, channel: Channel) -> bool {
        self.markets.contains(&market) && self.channels.iter().any(|name| name.is(channel))
    }

    /// Whether it serves one instrument a request.
    pub fn per_instrument(&self) -> bool {
        self.path.contains("{symbol") || self.query.contains("{symbol") || self.body.as_ref().is_some_and(|body| body.contains("{symbol"))
    }
}

impl Stream {
    /// Whether its messages hold `channel`.
    pub fn serves(&self, market: Market, channel: Channel) -> bool {
        self.markets.contains(&market) && self.channels.iter().any(|name| name.is(channel))
    }

    /// Whether it serves one instrument a topic.
    pub fn per_instrument(&self) -> bool {
        self.topic.contains("{symbol")
    }
}

/// Fills `{name}` in a template from `values`, a surface's variables and the market.
pub(crate) fn fill(template: &str, market: Market, surface: Option<&Surface>, values: &[(&str, &str)]) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let Some((name, after)) = after.split_once('}') else {
            out.push('{');
            rest = after;
            continue;
        };
        let value = values.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).or_else(|| surface?.vars.get(name).map(String::as_str));
        match value {
            Some(value) => out.push_str(value),
            None if name == "market" => out.push_str(market.as_str()),
            // JSON bodies have braces of their own.
            None => {
                out.push('{');
                rest = after;
                out.push_str(name);
                out.push('}');
                continue;
            }
        }
        rest = after;
    }
    out + rest
}

/// Durations as people write them: `500ms`, `5s`, `10m`, `24h`.
pub mod duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer};

    /// Reads a duration.
    ///
    /// # Errors
    /// What a duration looks like, if this is none.
    pub fn parse(text: &str) -> Result<Duration, String> {
        let digits = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let seconds = match unit.trim() {
            "ms" => 0.001,
            "s" | "" => 1.0,
            "m" | "min" => 60.0,
            "h" => 3600.0,
            "d" => 86_400.0,
            _ => f64::NAN,
        };
        number
            .parse::<f64>()
            .ok()
            .and_then(|number| Duration::try_from_secs_f64(number * seconds).ok())
            .ok_or_else(|| format!("`{text}` is no duration (such as 500ms, 5s, 10m, 24h)"))
    }

    /// For serde's `with`.
    ///
    /// # Errors
    /// As [`parse`].
    pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
        parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
    }

    /// The same for an `Option`.
    pub mod optional {
        use super::{Deserializer, Duration};

        /// For serde's `with`.
        ///
        /// # Errors
        /// As [`super::parse`].
        pub fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
            super::deserialize(deserializer).map(Some)
        }
    }
}
