//! What to ask a venue for: from what is wanted and the venue's description, without asking anyone.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use crate::event::Channel;
use crate::exchange::percent_encode;
use crate::instrument::{Instrument, Kind, Market, Status};
use crate::profile::{Endpoint, Method, Profile, Stream, Surface, choices};
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

fn interval_of(channel: Channel) -> Option<Interval> {
    if let Channel::Candle(interval) = channel { Some(interval) } else { None }
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
mod tests {
    use super::*;

    fn profile(range: &str) -> Profile {
        let text = r#"
            name = "toy"
            title = "Toy"
            docs = "none"
            [markets.linear]
            rest = "http://toy"
            ws = "ws://toy"
            vars = { most = "60" }
            [limits.all]
            budget = 100
            window = "1s"
            [ws]
            topics_per_frame = 3
            topics_per_connection = 100
            frames = { budget = 2, window = "1s" }
            connects = { budget = 1, window = "1s" }
            silence = "30s"
            [[endpoint]]
            name = "history"
            path = "/history"
            query = "symbol={symbol}&limit=3"
            markets = ["linear"]
            channels = ["trade"]
            limit = "all"
            range_cost = 7
        "#;
        Profile::parse(&format!("{text}\nrange = {range:?}")).unwrap()
    }

    fn ask(template: &str, range: Range) -> Request {
        let profile = profile(template);
        let instrument = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "币USDT", None));
        request_range(&profile, &profile.endpoint[0], Market::Linear, Channel::Trade, &instrument, &range)
    }

    #[test]
    fn a_range_asks_for_what_is_wanted_and_leaves_out_the_rest() {
        let template = "from={since}&to={until}&limit={limit:..1000}&sort=a c";
        let all = Range { since: Some(Time::from_micros(1_500_001)), until: Some(Time::from_micros(2_500_999)), limit: Some(5000) };
        assert_eq!(ask(template, all).target, "/history?symbol=%E5%B8%81USDT&from=1501&to=2500&limit=1000&sort=a%20c");
        assert_eq!(ask(template, all).cost, 7);
        assert_eq!(ask("from={since_s}&to={until_s}", all).target, "/history?symbol=%E5%B8%81USDT&limit=3&from=2&to=2");
        let none = ask(template, Range::default());
        assert_eq!((none.target.as_str(), none.cost), ("/history?symbol=%E5%B8%81USDT&limit=3&sort=a%20c", 1));
        assert!(ask("from={after}&to={before}", all).target.ends_with("&from=1500&to=2501"), "bounds that are left out of the range");
    }

    #[test]
    fn a_range_goes_into_a_body_if_there_is_one() {
        let mut profile = profile("req.from={since:500h}&req.to={until}&n={limit:..most}&sort=a c");
        let endpoint = &mut profile.endpoint[0];
        (endpoint.query, endpoint.body) = (String::new(), Some(r#"{"type":"t","req":{"coin":"{symbol}","from":{ago:2h},"to":{now}}}"#.into()));
        let instrument = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "币", None));
        let ask = |range: Range| {
            let request = request_range(&profile, &profile.endpoint[0], Market::Linear, Channel::Trade, &instrument, &range);
            let at = request.at(Time::from_millis(2_000_000_000));
            (at.target, serde_json::from_str::<serde_json::Value>(&at.body.unwrap()).unwrap(), at.cost)
        };
        let json = |from: i64, to: i64| serde_json::json!({"type": "t", "req": {"coin": "币", "from": from, "to": to}, "sort": "a c"});
        assert_eq!(ask(Range::default()), ("/history".into(), json(200_000_000, 2_000_000_000), 1));
        let range = Range { since: Some(Time::from_micros(1_500_001)), until: Some(Time::from_millis(2500)), limit: None };
        assert_eq!(ask(range), ("/history".into(), json(1501, 2500), 7));
        let (_, limited, _) = ask(Range { limit: Some(9), ..Range::default() });
        assert_eq!(limited["n"], 9);
    }

    #[test]
    fn a_venue_that_wants_a_beginning_gets_one() {
        let mut profile = profile("from={since_s:100i}&to={until_s}");
        profile.intervals = [("1h".into(), "60".into())].into();
        let endpoint = &mut profile.endpoint[0];
        endpoint.query = "i={interval}&from={ago_s:10i}&to={now_s}".into();
        let candles = Channel::Candle(crate::time::Interval::new(1, 'h').unwrap());
        let instrument = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "A", None));
        let planned = request(&profile, &profile.endpoint[0], Market::Linear, candles, Some(&instrument));
        assert_eq!(planned.target, "/history?i=60&from={ago_s:36000s}&to={now_s}", "it does not change until it is sent");
        assert_eq!(planned.at(Time::from_millis(1_000_000_999)).target, "/history?i=60&from=964000&to=1000000");
        let asked = |since: Option<i64>, limit| {
            let range = Range { since: since.map(Time::from_millis), until: None, limit };
            request_range(&profile, &profile.endpoint[0], Market::Linear, candles, &instrument, &range).at(Time::from_millis(1_000_000_999)).target
        };
        assert_eq!(asked(None, Some(3)), "/history?i=60&to=1000000&from=989200");
        assert_eq!(asked(None, Some(5000)), "/history?i=60&to=1000000&from=640000");
        assert_eq!(asked(Some(7000), Some(5000)), "/history?i=60&to=1000000&from=7");
    }

    #[test]
    fn a_limit_is_one_that_the_venue_takes() {
        let limit = |template: &str, limit| ask(template, Range { limit: Some(limit), ..Range::default() }).target.rsplit_once('=').unwrap().1.to_owned();
        let some = "limit={limit:5|10|50}";
        assert_eq!([1, 5, 6, 50, 51].map(|wanted| limit(some, wanted)), ["5", "5", "10", "50", "50"]);
        assert_eq!([0, 59, 60, 61].map(|wanted| limit("limit={limit:..most}", wanted)), ["1", "59", "60", "60"]);
        let most = |template: &str| most_records(&profile(template), &profile(template).endpoint[0], Market::Linear);
        assert_eq!([most(some), most("a={since}&n={limit:..most}"), most("a={since}")], [Some(50), Some(60), None]);
        let mut profile = profile("a={since}");
        profile.endpoint[0].range_most = Some(744);
        assert_eq!(most_records(&profile, &profile.endpoint[0], Market::Linear), Some(744));
    }

    #[test]
    fn an_endpoint_may_have_words_of_its_own_for_intervals() {
        let mut profile = profile("");
        profile.intervals = [("1h".into(), "Min60".into()), ("8h".into(), "Hour8".into())].into();
        let candles = |hours| Channel::Candle(crate::time::Interval::new(hours, 'h').unwrap());
        let endpoint = &mut profile.endpoint[0];
        (endpoint.query, endpoint.channels) =
            ("i={interval}".into(), toml::from_str::<Stream>("topic = \"\"\nmarkets = []\nchannels = [\"candle\"]").unwrap().channels);
        let target = |profile: &Profile| request(profile, &profile.endpoint[0], Market::Linear, candles(1), None).target;
        assert_eq!(target(&profile), "/history?i=Min60");
        profile.endpoint[0].intervals = [("1h".into(), "60m".into())].into();
        assert_eq!(target(&profile), "/history?i=60m");
        assert!(profile.endpoint[0].serves(Market::Linear, candles(1)) && !profile.endpoint[0].serves(Market::Linear, candles(8)));
    }

    #[test]
    fn a_variable_of_several_values_is_a_request_for_each() {
        let mut profile = profile("");
        let surface = profile.markets.get_mut(&Market::Linear).unwrap();
        surface.vars.insert("settle_lower".into(), crate::profile::Values::Any(vec!["usdt".into(), "usd1".into()]));
        profile.limits.get_mut("all").unwrap().per_endpoint = true;
        let endpoint = &mut profile.endpoint[0];
        (endpoint.path, endpoint.query) = ("/{settle_lower}/tickers".into(), String::new());
        let mut sweep = endpoint.clone();
        (sweep.name, sweep.query) = ("sweep".into(), "symbol={symbol}".into());
        profile.stream =
            vec![toml::from_str("topic = \"t.{settle_lower}\"\nws_path = \"/ws/{settle_lower}\"\nmarkets = [\"linear\"]\nchannels = [\"quote\"]").unwrap()];
        let targets: Vec<String> = requests(&profile, &profile.endpoint[0], Market::Linear, Channel::Trade).into_iter().map(|r| r.target).collect();
        assert_eq!(targets, ["/usdt/tickers", "/usd1/tickers"]);
        let details =
            crate::instrument::Details { settle: Some("USD1".into()), ..crate::instrument::Details::new(Kind::Perpetual, "A", "USD1", Status::Trading) };
        let known = Arc::new(Instrument::described(&"toy".into(), Market::Linear, "A_USD1", details));
        let unknown = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "A_USD1", None));
        let of = |instrument| request(&profile, &sweep, Market::Linear, Channel::Trade, Some(instrument));
        assert_eq!([of(&known).target, of(&unknown).target], ["/usd1/tickers?symbol=A_USD1", "/usdt/tickers?symbol=A_USD1"]);
        assert_eq!(of(&known).limit, "all/sweep");
        let want = Want { market: Market::Linear, channels: &[Channel::Quote], mode: Mode::Stream, fallback: false, instruments: &[known] };
        let topics: Vec<(String, String)> = from_profile(&profile, &want).topics.into_iter().map(|topic| (topic.ws_path, topic.name)).collect();
        assert_eq!(topics, [("/ws/usdt".into(), "t.usdt".into()), ("/ws/usd1".into(), "t.usd1".into())]);
    }
}
