//! What can be asked for by HTTP.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Deserialize;

use super::{ChannelName, KindName, duration, is_of_kind};
use crate::event::Channel;
use crate::instrument::{Instrument, Market};
use crate::time::Interval;

/// What can be asked for by HTTP.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(clippy::struct_excessive_bools, reason = "each is a key of the file")]
pub struct Endpoint {
    /// What the decoder calls it.
    pub name: String,
    /// Verb.
    #[serde(default)]
    pub method: Method,
    /// Path; `{name}` stands for a surface's variable, `{market}` for the market.
    pub path: String,
    /// Query; also `{symbol}`, `{interval}`. With `{symbol}` it serves one instrument a request. A time is relative to the
    /// moment of sending: `{now}` and `{ago:2h}` in milliseconds, `{now_s}` and `{ago_s:2h}` in seconds; `{ago:10i}` is ten
    /// intervals of the candles ago.
    #[serde(default)]
    pub query: String,
    /// Body of a POST, as the query. Where several endpoints share a path, their bodies tell them apart, whatever times
    /// they hold. A number stands bare: `{"from":{ago:2h}}`.
    pub body: Option<String>,
    /// The surface whose host serves it, if not the one that it is asked for.
    pub at: Option<Market>,
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
    /// Never part of a plan by itself: asked when an answer leads to it.
    #[serde(default)]
    pub follow: bool,
    /// Its own words for candle intervals, where they are not the venue's; others it does not serve.
    #[serde(default)]
    pub intervals: BTreeMap<String, String>,
    /// How a part of an instrument's records is asked for: pairs of a query, or of a JSON body, if there is one, whose keys
    /// may then lead inwards (`req.from={since}`). `{since}` and `{until}` are milliseconds, both included; `{after}` and
    /// `{before}` where the venue leaves the bounds out; `{since_s}` and `{until_s}` are seconds. Where the venue wants a
    /// beginning, `{since:500h}` or `{since:1000i}` (intervals of the candles) is so long ago unless one is asked for.
    /// `{limit:..1000}` is how many records at most (a surface's variable may stand for the number), `{limit:5|10|20}` how
    /// many, where only these will do. A pair takes the place of the one of that key; one whose value is not asked for is
    /// left out.
    pub range: Option<String>,
    /// How many records an answer holds at most, where no `{limit:…}` says so.
    pub range_most: Option<usize>,
    /// How much asking for so many records as possible draws, where that is more than `cost`.
    pub range_cost: Option<u32>,
    /// Whether gaps of a stream are refilled from it. Not where its records are others than the stream's, with other ids.
    #[serde(default = "yes")]
    pub refill: bool,
}

impl Endpoint {
    /// Whether its answer holds `channel`.
    pub fn serves(&self, market: Market, channel: Channel) -> bool {
        let worded = !matches!(channel, Channel::Candle(interval) if !self.intervals.is_empty() && self.interval(interval).is_none());
        worded && self.markets.contains(&market) && self.channels.iter().any(|name| name.is(channel))
    }

    /// Whether an instrument is of a kind that has it, as far as that is known.
    pub fn is_for(&self, instrument: &Instrument) -> bool {
        is_of_kind(&self.only, instrument)
    }

    /// Its own word for an interval.
    pub fn interval(&self, interval: Interval) -> Option<&str> {
        self.intervals.get(&interval.to_string()).map(String::as_str)
    }

    /// Whether it serves one instrument a request.
    pub fn per_instrument(&self) -> bool {
        [Some(&self.path), Some(&self.query), self.body.as_ref()].into_iter().flatten().any(|template| template.contains("{symbol"))
    }
}

fn one() -> u32 {
    1
}

fn yes() -> bool {
    true
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

    /// Reads `GET` or `POST`.
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Get, Self::Post].into_iter().find(|method| method.as_str() == text)
    }
}
