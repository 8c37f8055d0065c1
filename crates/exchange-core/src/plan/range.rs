//! How a part of an instrument's records is asked for.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use super::{Request, interval_of, request};
use crate::event::Channel;
use crate::exchange::percent_encode;
use crate::instrument::{Instrument, Market};
use crate::profile::{Endpoint, Profile, Surface};
use crate::template;
use crate::time::{Interval, Time};

/// Which of an instrument's records are wanted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Range {
    /// None before this time.
    pub since: Option<Time>,
    /// None after this time.
    pub until: Option<Time>,
    /// So many at most. A venue that takes only some numbers is asked for the next that is enough.
    pub limit: Option<usize>,
}

/// The request that asks an endpoint for a part of an instrument's records: [`request`], its query or its body extended by
/// what the endpoint's `range` says.
pub fn request_range(profile: &Profile, endpoint: &Endpoint, market: Market, channel: Channel, instrument: &Arc<Instrument>, range: &Range) -> Request {
    let mut request = request(profile, endpoint, market, channel, Some(instrument));
    let surface = profile.markets.get(&market);
    let pairs: Vec<(&str, Cow<'_, str>)> = endpoint
        .range
        .iter()
        .flat_map(|range| range.split('&'))
        .filter_map(|pair| pair.split_once('='))
        .filter_map(|(key, value)| match value.strip_prefix('{').and_then(|value| value.strip_suffix('}')) {
            Some(name) => Some((key, bound(name, range, interval_of(channel), surface)?.into())),
            None if request.body.is_some() => Some((key, value.into())),
            None => Some((key, percent_encode(value))),
        })
        .collect();
    if pairs.is_empty() {
        return request;
    }
    if let Some(body) = &mut request.body {
        *body = template::with_values(body, pairs.iter().map(|(key, value)| (*key, &**value)));
    } else {
        let (path, query) = request.target.split_once('?').unwrap_or((&request.target, ""));
        let kept = query.split('&').filter(|pair| !pair.is_empty() && !pairs.iter().any(|(key, _)| pair.split('=').next() == Some(*key)));
        let query: Vec<String> = kept.map(ToOwned::to_owned).chain(pairs.iter().map(|(key, value)| format!("{key}={value}"))).collect();
        request.target = format!("{path}?{}", query.join("&"));
    }
    if range.limit.is_some() || range.since.is_some() {
        request.cost = request.cost.max(endpoint.range_cost.unwrap_or_default());
    }
    request
}

/// What a name in an endpoint's `range` stands for, if that is asked for.
fn bound(name: &str, range: &Range, interval: Option<Interval>, surface: Option<&Surface>) -> Option<String> {
    let (word, rest) = name.split_once(':').unwrap_or((name, ""));
    // Records at the very edge belong to the range: its first millisecond or second is rounded up, its last one down.
    let since = |rounding| range.since.map(|since| (since + Duration::from_micros(rounding)).millis());
    let until = || range.until.map(Time::millis);
    let number = match word {
        "since" => since(999),
        "until" => until(),
        // The same for venues whose bounds are no part of the range.
        "after" => since(999).map(|since| since - 1),
        "before" => until().map(|until| until + 1),
        "since_s" => since(999_999).map(|since| since.div_euclid(1000)),
        "until_s" => until().map(|until| until.div_euclid(1000)),
        "limit" => return Some(Limit::parse(rest, surface)?.at_least(range.limit?).to_string()),
        _ => None,
    };
    let ago = || {
        let word = match word {
            "since" | "after" => "ago",
            "since_s" => "ago_s",
            _ => return None,
        };
        (!rest.is_empty()).then(|| format!("{{{word}:{}}}", template::length(rest, interval, range.limit)))
    };
    number.map(|number| number.to_string()).or_else(ago)
}

/// How many records an endpoint gives at most, where its description says so.
pub fn most_records(profile: &Profile, endpoint: &Endpoint, market: Market) -> Option<usize> {
    let limit = || {
        let (_, rest) = endpoint.range.as_deref()?.split_once("{limit:")?;
        Limit::parse(rest.split('}').next().unwrap_or_default(), profile.markets.get(&market)).map(|limit| limit.at_least(usize::MAX))
    };
    endpoint.range_most.or_else(limit)
}

/// How many records may be asked for.
enum Limit {
    UpTo(usize),
    OneOf(Vec<usize>),
}

impl Limit {
    /// Reads `..1000`, `..variable` or `5|10|20`.
    fn parse(text: &str, surface: Option<&Surface>) -> Option<Self> {
        match text.strip_prefix("..") {
            Some(most) => most.parse().ok().or_else(|| surface?.vars.get(most)?.first()?.parse().ok()).map(Self::UpTo),
            None => text.split('|').map(|one| one.parse().ok()).collect::<Option<_>>().map(Self::OneOf),
        }
    }

    /// The smallest possible number that is enough; the largest, if none is.
    fn at_least(&self, wanted: usize) -> usize {
        match self {
            Self::UpTo(most) => wanted.clamp(1, (*most).max(1)),
            Self::OneOf(all) => all.iter().copied().filter(|one| *one >= wanted).min().or_else(|| all.iter().copied().max()).unwrap_or(wanted),
        }
    }
}
