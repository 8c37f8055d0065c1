//! Descriptions (`venue.toml`) that agree with themselves and with the venue's notes.

use std::collections::BTreeSet;
use std::sync::Arc;

use exchange_core::plan::Range;
use exchange_core::profile::{Endpoint, Limit, SnapshotFrom, Surface};
use exchange_core::{Channel, Instrument, Interval, Market, Profile, Request, Time, plan};

use crate::fixtures::venues;

/// When requests are sent.
const SENT: Time = Time::from_millis(1_760_000_000_000);
/// The largest share of a budget that one request may draw: what is left is for whoever shares the address.
const SHARE: f64 = 0.9;

fn each_profile(check: impl Fn(&Profile, &mut Vec<String>)) {
    let mut wrong = Vec::new();
    for venue in venues() {
        let mut found = Vec::new();
        check(&venue.profile, &mut found);
        wrong.extend(found.into_iter().map(|what| format!("{}: {what}", venue.name())));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// The names in braces; a JSON body has braces of its own, whose content is no name.
fn variables(template: &str) -> impl Iterator<Item = &str> {
    let name = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_');
    template.split('{').skip(1).filter_map(|part| part.split_once('}')).map(|(inside, _)| inside).filter(move |inside| name(inside))
}

/// Whether a template uses names that are not in `known` nor among the surface's variables.
fn unknown_variable<'t>(template: &'t str, surface: &Surface, known: &[&str]) -> Option<&'t str> {
    variables(template).find(|name| !known.contains(name) && !surface.vars.contains_key(*name))
}

#[test]
fn the_registry_is_in_order() {
    let names: Vec<String> = venues().iter().map(|venue| venue.name().to_owned()).collect();
    assert!(names.is_sorted_by(|a, b| a < b), "not in alphabetical order, or twice: {names:?}");
    for venue in venues() {
        let name = venue.name();
        assert!(
            name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_'),
            "`{name}` is no name for a folder and a command line"
        );
        assert!(venue.folder().join("venue.toml").exists(), "{name} has no folder of its name");
    }
}

#[test]
fn surfaces_and_limits_are_whole() {
    each_profile(|profile, wrong| {
        if !profile.docs.starts_with("https://") || profile.title.is_empty() || profile.markets.is_empty() {
            wrong.push("title, docs or markets are missing".into());
        }
        for (market, surface) in &profile.markets {
            if !(surface.rest.starts_with("https://") && surface.ws.starts_with("wss://")) || surface.rest.ends_with('/') || surface.ws.ends_with('/') {
                wrong.push(format!("{market}: hosts are `https://` and `wss://` without a slash at the end"));
            }
            if !(surface.ws_path.is_empty() || surface.ws_path.starts_with('/')) {
                wrong.push(format!("{market}: `{}` is no path", surface.ws_path));
            }
        }
        let limits = profile.limits.iter().map(|(name, limit)| (name.as_str(), limit));
        let all: Vec<(&str, &Limit)> = limits.chain([("ws.frames", &profile.ws.frames), ("ws.connects", &profile.ws.connects)]).collect();
        for (name, limit) in all {
            if limit.budget == 0 || limit.window.is_zero() {
                wrong.push(format!("the limit {name} allows nothing"));
            }
            let headers = [&limit.used_header, &limit.remaining_header, &limit.reset_header];
            if headers.into_iter().flatten().any(|header| header.bytes().any(|byte| byte.is_ascii_uppercase())) {
                wrong.push(format!("the header of the limit {name} is not in lower case, as headers are compared"));
            }
        }
        for ws in std::iter::once(profile.ws.clone()).chain(profile.markets.keys().map(|market| profile.ws_of(*market))) {
            if ws.topics_per_frame == 0 || ws.topics_per_frame > ws.topics_per_connection {
                wrong.push("ws: a frame takes no topic, or more than a connection".into());
            }
            if ws.ping.as_ref().is_some_and(|ping| ping.every >= ws.silence || ping.every.is_zero()) {
                wrong.push("ws: a connection is silent before its first ping".into());
            }
            if ws.life.is_some_and(|life| life <= ws.silence) {
                wrong.push("ws: a connection's life is shorter than its silence".into());
            }
        }
    });
}

#[test]
fn endpoints_are_whole() {
    each_profile(|profile, wrong| {
        let mut names = BTreeSet::new();
        for endpoint in &profile.endpoint {
            let name = &endpoint.name;
            if endpoint.channels.is_empty() || endpoint.markets.is_empty() || !endpoint.path.starts_with('/') {
                wrong.push(format!("{name}: channels or markets are missing, or its path has no slash in front"));
            }
            // Whoever reads a history of several answers must know when one is full.
            if endpoint.range.as_ref().is_some_and(|range| range.contains("{since") && !range.contains("{limit:")) && endpoint.range_most.is_none() {
                wrong.push(format!("{name}: its range does not say how many records an answer holds (`range_most`)"));
            }
            match profile.limits.get(&endpoint.limit) {
                Some(limit) if endpoint.cost > 0 && f64::from(endpoint.cost) <= f64::from(limit.budget) * SHARE => {}
                Some(limit) => wrong.push(format!("{name}: costs {} of {}", endpoint.cost, limit.budget)),
                None => wrong.push(format!("{name}: there is no limit `{}`", endpoint.limit)),
            }
            for market in &endpoint.markets {
                if !names.insert((name, *market)) {
                    wrong.push(format!("{name}: twice in {market}"));
                }
                match profile.markets.get(market) {
                    Some(surface) => wrong.extend(check_templates(profile, endpoint, *market, surface).map(|what| format!("{name} of {market}: {what}"))),
                    None => wrong.push(format!("{name}: there is no market {market}")),
                }
            }
        }
    });
}

/// What stands for something in every template.
const WORDS: &[&str] = &["market", "symbol", "symbol_lower", "interval", "base", "quote", "settle", "settle_lower", "now", "now_s"];

/// Fills an endpoint's templates and looks at the request.
fn check_templates(profile: &Profile, endpoint: &Endpoint, market: Market, surface: &Surface) -> Option<String> {
    for (template, known) in [(&endpoint.path, WORDS), (&endpoint.query, WORDS)] {
        if let Some(name) = unknown_variable(template, surface, known) {
            return Some(format!("`{{{name}}}` stands for nothing"));
        }
    }
    let instrument = Arc::new(Instrument::named(&profile.name.as_str().into(), market, "BTC/USDT", None));
    let interval = profile.intervals.keys().find_map(|name| Interval::parse(name)).map(Channel::Candle);
    for channel in every_channel(interval).into_iter().filter(|channel| endpoint.serves(market, *channel)) {
        let one = endpoint.per_instrument().then_some(&instrument);
        let ranges = [Range::default(), Range { since: Some(SENT), until: Some(SENT), limit: Some(1) }];
        let parts = ranges.iter().filter_map(|range| Some(plan::request_range(profile, endpoint, market, channel, one?, range)));
        let wrong = |request: Request| check_request(profile, endpoint, market, &request);
        if let Some(wrong) = parts.chain([plan::request(profile, endpoint, market, channel, one)]).find_map(wrong) {
            return Some(wrong);
        }
    }
    None
}

/// Looks at a request as it is sent.
fn check_request(profile: &Profile, endpoint: &Endpoint, market: Market, request: &Request) -> Option<String> {
    let request = request.at(SENT);
    if !request.target.bytes().all(|byte| byte.is_ascii_graphic() && !b"{}\"<>\\^`|".contains(&byte)) {
        return Some(format!("`{}` is no target of a request", request.target));
    }
    if request.body.as_ref().is_some_and(|body| serde_json::from_str::<serde_json::Value>(body).is_err()) {
        return Some(format!("its body is no JSON: {:?}", request.body));
    }
    let url = format!("{}{}", profile.host(market, &endpoint.name), request.target);
    let found = profile.endpoint_at(market, endpoint.method, &url, request.body.as_deref());
    if found.is_none_or(|found| (&found.path, &found.body) != (&endpoint.path, &endpoint.body)) {
        return Some(format!("a capture of {url} does not lead back to it"));
    }
    None
}

#[test]
fn streams_are_whole() {
    each_profile(|profile, wrong| {
        for stream in &profile.stream {
            let topic = &stream.topic;
            if stream.channels.is_empty() || stream.markets.is_empty() {
                wrong.push(format!("{topic}: channels or markets are missing"));
            }
            for market in &stream.markets {
                let Some(surface) = profile.markets.get(market) else {
                    wrong.push(format!("{topic}: there is no market {market}"));
                    continue;
                };
                if let Some(name) = unknown_variable(topic, surface, &["market", "symbol", "symbol_lower", "interval"]) {
                    wrong.push(format!("{topic}: `{{{name}}}` stands for nothing"));
                }
                // A fetched book needs someone to fetch it from.
                let fetched = profile.book.snapshot == SnapshotFrom::Rest && stream.serves(*market, Channel::Book);
                if fetched && !profile.endpoint.iter().any(|endpoint| endpoint.per_instrument() && endpoint.serves(*market, Channel::Book)) {
                    wrong.push(format!("{topic}: there is no endpoint for the snapshots of {market}"));
                }
            }
        }
    });
}

#[test]
fn intervals_are_named_one_way() {
    each_profile(|profile, wrong| {
        for (ours, theirs) in &profile.intervals {
            match Interval::parse(ours) {
                Some(interval) if interval.to_string() == *ours && profile.interval_named(theirs) == Some(interval) => {}
                _ => wrong.push(format!("the interval {ours} = {theirs:?} is no interval, not written as ours are, or two have that name")),
            }
        }
        let candles = Interval::new(1, 'm').map(Channel::Candle);
        let listed = |market: &Market| {
            every_channel(candles)
                .last()
                .is_some_and(|c| profile.endpoint.iter().any(|e| e.serves(*market, *c)) || profile.stream.iter().any(|s| s.serves(*market, *c)))
        };
        if profile.intervals.is_empty() && profile.markets.keys().any(listed) {
            wrong.push("candles without an interval".into());
        }
    });
}

#[test]
fn errors_are_told_by_known_marks() {
    each_profile(|profile, wrong| {
        for key in profile.errors.keys() {
            let known = match key.split_once(':') {
                Some(("http", status)) => status.parse().is_ok_and(|status: u16| (100..600).contains(&status)),
                Some(("code", code)) => !code.is_empty() && profile.error_body.is_some(),
                Some(("text", part)) => !part.trim().is_empty(),
                _ => false,
            };
            if !known {
                wrong.push(format!("errors: `{key}` is neither an HTTP status nor a code (of an `error_body`) nor a text"));
            }
        }
    });
}

#[test]
fn notes_speak_of_every_channel() {
    for venue in venues() {
        let notes = std::fs::read_to_string(venue.folder().join("NOTES.md")).unwrap_or_else(|error| panic!("{}/NOTES.md: {error}", venue.name()));
        let absent: String = notes.split("\n\n").filter(|paragraph| paragraph.starts_with("Not served:")).collect();
        for channel in every_channel(Interval::new(1, 'm').map(Channel::Candle)) {
            let named = format!("`{}`", channel.as_str());
            let served = venue.profile.markets.keys().any(|market| {
                venue.profile.endpoint.iter().any(|endpoint| endpoint.serves(*market, channel))
                    || venue.profile.stream.iter().any(|stream| stream.serves(*market, channel))
            });
            assert!(served || absent.contains(&named), "{}: {named} is neither served nor named in a paragraph `Not served:` of NOTES.md", venue.name());
            assert!(notes.contains(&named) && !(served && absent.contains(&named)), "{}: NOTES.md does not say of {named} what venue.toml says", venue.name());
        }
    }
}

/// All kinds of channels; candles of one interval come last, if there is one.
pub(crate) fn every_channel(candles: Option<Channel>) -> Vec<Channel> {
    Channel::NAMES.into_iter().filter(|name| !name.starts_with("candle")).filter_map(Channel::parse).chain(candles).collect()
}
