//! Templates of `venue.toml`: paths, queries, bodies and topics with `{name}` in them.
//!
//! What stands for an instrument and its surface is filled in when a plan is made. A time that is meant relative to the
//! moment at which a request goes out (`{now}`, `{ago:2h}`) stays until then, so that the plan, and what a request is known
//! by, are the same from one moment to the next.

use std::borrow::Cow;
use std::time::Duration;

use serde_json::{Map, Value};

use crate::instrument::Market;
use crate::profile::{Surface, duration};
use crate::time::{Interval, Time};

/// Puts `value(name)` in the place of each `{name}`; what it knows nothing of stays. (JSON has braces of its own.)
fn replace<'v>(template: &str, value: impl Fn(&str) -> Option<Cow<'v, str>>) -> String {
    let mut out = String::with_capacity(template.len() + 16);
    let mut rest = template;
    while let Some((before, after)) = rest.split_once('{') {
        out.push_str(before);
        let name = after.split('}').next().filter(|name| name.len() < after.len()).unwrap_or_default();
        if let Some(value) = value(name) {
            out.push_str(&value);
            rest = after.get(name.len() + 1..).unwrap_or_default();
        } else {
            out.push('{');
            rest = after;
        }
    }
    out + rest
}

/// Fills `{name}` in a template from `values`, a surface's variables and the market.
pub(crate) fn fill(template: &str, market: Market, surface: Option<&Surface>, values: &[(&str, &str)]) -> String {
    replace(template, |name| {
        let value = values.iter().find(|(key, _)| *key == name).map(|(_, value)| *value).or_else(|| surface?.vars.get(name)?.first());
        value.or((name == "market").then_some(market.as_str())).map(Cow::Borrowed)
    })
}

/// Writes the times of a template that are counted in intervals of candles (`{ago:10i}`) in seconds.
pub(crate) fn count_out(template: &str, interval: Option<Interval>) -> String {
    replace(template, |name| {
        let (word, ago) = name.split_once(':').filter(|(word, _)| matches!(*word, "ago" | "ago_s"))?;
        Some(format!("{{{word}:{}}}", length(ago, interval, None)).into())
    })
}

/// A length of time as it is written, `10i` (ten intervals of the candles) in seconds: with a limit, of so many at most.
pub(crate) fn length(text: &str, interval: Option<Interval>, limit: Option<usize>) -> Cow<'_, str> {
    let count = text.strip_suffix('i').and_then(|count| count.parse::<u32>().ok());
    let Some((count, interval)) = count.zip(interval) else { return Cow::Borrowed(text) };
    let count = limit.and_then(|limit| u32::try_from(limit).ok()).map_or(count, |limit| count.min(limit.max(1)));
    // No month is longer than January.
    let one = interval.end(Time::EPOCH).since(Time::EPOCH);
    Cow::Owned(format!("{}s", one.saturating_mul(count).as_secs()))
}

/// Fills in the times that are relative to `now`.
pub(crate) fn at(template: &str, now: Time) -> String {
    replace(template, |name| {
        let (word, ago) = match name.split_once(':') {
            Some((word @ ("ago" | "ago_s"), ago)) => (word, duration::parse(ago).ok()?),
            None if matches!(name, "now" | "now_s") => (name, Duration::ZERO),
            _ => return None,
        };
        let millis = now.millis().saturating_sub(i64::try_from(ago.as_millis()).unwrap_or(i64::MAX));
        Some(if word.ends_with("_s") { millis.div_euclid(1000) } else { millis }.to_string().into())
    })
}

/// Whether a request's body has all that the template of one says. That says nothing where it has a `{variable}`, and
/// what it has a time for need not be there at all: others may ask for another span, or for none.
pub(crate) fn agrees(template: &str, sent: &Value) -> bool {
    serde_json::from_str(&quoted(template)).is_ok_and(|template| value_agrees(&template, sent))
}

fn value_agrees(template: &Value, sent: &Value) -> bool {
    let is_time = |value: &Value| {
        let name = value.as_str().and_then(|text| text.strip_prefix('{')?.strip_suffix('}'));
        name.is_some_and(|name| matches!(name.trim_start_matches('=').split(':').next(), Some("now" | "now_s" | "ago" | "ago_s")))
    };
    match template {
        Value::String(text) if text.contains('{') => true,
        Value::Object(all) => all.iter().all(|(key, value)| is_time(value) || sent.get(key).is_some_and(|sent| value_agrees(value, sent))),
        Value::Array(all) => sent.as_array().is_some_and(|sent| sent.len() == all.len() && all.iter().zip(sent).all(|(value, sent)| value_agrees(value, sent))),
        other => other == sent,
    }
}

/// A JSON body with other values: each at a key, or at `a.b` for a key inside another. A value is JSON or a time; what is
/// neither is a text. A body that is no JSON stays what it is.
pub(crate) fn with_values<'p>(body: &str, values: impl IntoIterator<Item = (&'p str, &'p str)>) -> String {
    let Ok(mut json) = serde_json::from_str(&quoted(body)) else { return body.to_owned() };
    for (path, value) in values {
        put(&mut json, path, serde_json::from_str(&quoted(value)).unwrap_or_else(|_| value.into()));
    }
    bare(&json.to_string())
}

fn put(at: &mut Value, path: &str, value: Value) {
    if !at.is_object() {
        *at = Value::Object(Map::new());
    }
    let (key, rest) = path.split_once('.').map_or((path, None), |(key, rest)| (key, Some(rest)));
    let Some(place) = at.as_object_mut().map(|object| object.entry(key).or_insert(Value::Null)) else { return };
    match rest {
        Some(rest) => put(place, rest, value),
        None => *place = value,
    }
}

/// The template of a body as JSON: a variable that stands for a bare value (`{"from":{now}}`) becomes a text, marked as
/// `"{=now}"`.
fn quoted(template: &str) -> String {
    let mut out = String::with_capacity(template.len() + 8);
    let mut in_text = false;
    for (at, part) in template.split('"').enumerate() {
        if at > 0 {
            out.push('"');
        }
        if in_text {
            out.push_str(part);
            // A quotation mark behind an odd number of backslashes ends nothing.
            in_text = part.bytes().rev().take_while(|byte| *byte == b'\\').count() % 2 == 1;
        } else {
            let variable = |name: &str| name.starts_with(|c: char| c.is_ascii_lowercase()).then(|| format!("\"{{={name}}}\"").into());
            out.push_str(&replace(part, variable));
            in_text = true;
        }
    }
    out
}

/// Takes back what [`quoted`] did.
fn bare(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, (name, after))) = rest.split_once("\"{=").and_then(|(before, after)| Some((before, after.split_once("}\"")?))) {
        for part in [before, "{", name, "}"] {
            out.push_str(part);
        }
        rest = after;
    }
    out + rest
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Time = Time::from_micros(1_760_000_000_999_999);

    fn interval(text: &str) -> Option<Interval> {
        Interval::parse(text)
    }

    #[test]
    fn times_are_relative_to_the_moment_of_sending() {
        assert_eq!(at("from={ago:2h}&to={now}", NOW), "from=1759992800999&to=1760000000999");
        assert_eq!(at(r#"{"from":{ago_s:500ms},"to":"{now_s}"}"#, NOW), r#"{"from":1760000000,"to":"1760000000"}"#);
        assert_eq!(at("{now}{now}", Time::EPOCH), "00");
        for other in ["{ago}", "{now:1h}", "{ago:x}", "{ago:10i}", "{symbol}", "{", "{}", r#"{"a":{}}"#] {
            assert_eq!(at(other, NOW), other);
        }
    }

    #[test]
    fn a_span_may_be_counted_in_intervals() {
        let hour = interval("1h");
        assert_eq!(count_out("a={ago:10i}&b={ago_s:2d}&c={now}&d={symbol}", hour), "a={ago:36000s}&b={ago_s:2d}&c={now}&d={symbol}");
        assert_eq!(length("2i", interval("1M"), None), "5356800s", "62 days");
        assert_eq!([Some(3), Some(0), Some(500), None].map(|limit| length("10i", hour, limit)), ["10800s", "3600s", "36000s", "36000s"]);
        assert_eq!([length("10i", None, None), length("2h", hour, Some(1))], ["10i", "2h"]);
    }

    #[test]
    fn a_bare_variable_in_a_body_is_a_text_for_a_while() {
        let template = r#"{"a":{now},"b":"{symbol}","c":{"d":[{ago:2h}, 1]},"e":"\"{now}","f":{},"g":"\\"}"#;
        let json = r#"{"a":"{=now}","b":"{symbol}","c":{"d":["{=ago:2h}", 1]},"e":"\"{now}","f":{},"g":"\\"}"#;
        assert_eq!(quoted(template), json);
        assert_eq!(bare(json), template);
        assert_eq!(bare(r#"{"a":"{=now"}"#), r#"{"a":"{=now"}"#);
    }

    #[test]
    fn a_captured_body_may_ask_for_any_time() {
        let sent = |text: &str| serde_json::from_str(text).unwrap();
        let template = r#"{"type":"candles","req":{"coin":"{symbol}","n":{count},"from":{ago:10i},"to":"{now}"}}"#;
        for body in [r#"{"type":"candles","req":{"coin":"A","n":3,"from":1,"to":2}}"#, r#"{"type":"candles","req":{"n":"3","coin":"A"}}"#] {
            assert!(agrees(template, &sent(body)), "{body}");
        }
        for body in [r#"{"type":"candles","req":{"coin":"A","from":1}}"#, r#"{"type":"candles","from":1}"#, r#"{"type":"other","req":{"coin":"A","n":1}}"#] {
            assert!(!agrees(template, &sent(body)), "{body}");
        }
        assert!(!agrees("{", &sent("{}")));
    }

    #[test]
    fn values_are_put_where_a_path_leads() {
        let body = r#"{"type":"candles","req":{"coin":"A","from":{ago:10i},"to":{now}}}"#;
        let changed = with_values(body, [("req.from", "1501"), ("req.sort", "asc"), ("new.deep.er", "{ago:5s}"), ("type.x", "true")]);
        let sent: Value = serde_json::from_str(&at(&changed, Time::from_millis(6001))).unwrap();
        let wanted = r#"{"new":{"deep":{"er":1001}},"req":{"coin":"A","from":1501,"sort":"asc","to":6001},"type":{"x":true}}"#;
        assert_eq!(sent, serde_json::from_str::<Value>(wanted).unwrap());
        assert_eq!(with_values("no JSON", [("a", "1")]), "no JSON");
    }
}
