//! What the data contract says of every event line, whatever venue it came from.

use exchange_core::{ErrorKind, Interval, Market};
use serde_json::{Map, Value};

/// The fields of each type; `?` marks those that may be absent.
const TYPES: [(&str, &str); 14] = [
    ("ticker", "last? last_size? bid? bid_size? ask? ask_size? open_24h? high_24h? low_24h? volume_24h? turnover_24h? change_24h?"),
    ("quote", "bid? bid_size? ask? ask_size? seq?"),
    ("mark", "mark? index? basis?"),
    ("funding", "rate? next_time? interval_hours? predicted_rate? cap? floor?"),
    ("funding_settled", "rate time mark?"),
    ("open_interest", "value? value_base? value_quote?"),
    ("trade", "trade_id? price size size_base? side?"),
    ("liquidation", "price size size_base? side? trade_id?"),
    ("book", "kind bids asks seq? prev_seq? checksum?"),
    ("candle", "interval open_time open high low close volume turnover? trades? closed"),
    ("instrument", "kind base quote settle? contract_size? tick_size? lot_size? min_size? expiry? status funding_interval_hours?"),
    ("gap", "channel reason from? to?"),
    ("refill", "gap channel from? to? count complete"),
    ("decode_error", "reason excerpt"),
];

/// The fields that every event has, or may have.
const COMMON: &str = "type venue market venue_symbol? symbol? t et? origin? id line?";

const STATES: [&str; 5] = ["ticker", "quote", "mark", "funding", "open_interest"];

/// 2009 to 2101, in microseconds.
const ERA: std::ops::Range<i64> = 1_230_768_000_000_000..4_133_980_800_000_000;

/// Whether a time is what the contract wants, as far as its size tells: not one of our era read in seconds or
/// milliseconds, nor one in nanoseconds. (Documents' samples have times of 1970.)
fn is_in_microseconds(time: i64) -> bool {
    let misread = |factor: i64| (ERA.start / factor..ERA.end / factor).contains(&time);
    (0..ERA.end).contains(&time) && !misread(1_000) && !misread(1_000_000)
}

/// Checks one event line.
pub(crate) fn check(json: &str) -> Result<Map<String, Value>, String> {
    let Value::Object(event) = serde_json::from_str(json).map_err(|error| format!("not JSON: {error}"))? else { return Err("not an object".into()) };
    let kind = event.get("type").and_then(Value::as_str).unwrap_or_default();
    let own = TYPES.iter().find(|(name, _)| *name == kind).map(|(_, fields)| *fields).ok_or_else(|| format!("`{kind}` is no type"))?;
    let fields: Vec<(&str, bool)> = COMMON.split(' ').chain(own.split(' ')).map(|field| (field.trim_end_matches('?'), field.ends_with('?'))).collect();
    for (name, optional) in &fields {
        if !optional && !event.contains_key(*name) {
            return Err(format!("`{name}` is missing"));
        }
    }
    for (name, value) in &event {
        if !fields.iter().any(|(known, _)| known == name) {
            return Err(format!("`{kind}` has no field `{name}`"));
        }
        if !well_formed(kind, name, value) {
            return Err(format!("`{name}` is {value}"));
        }
    }
    if kind != "decode_error" && !event.contains_key("venue_symbol") {
        return Err("`venue_symbol` is missing".into());
    }
    if STATES.contains(&kind) && !own.split(' ').any(|field| event.contains_key(field.trim_end_matches('?'))) {
        return Err("a state without a field".into());
    }
    names_agree(&event)?;
    Ok(event)
}

/// Whether the value of a field is written as its kind of value is.
fn well_formed(kind: &str, name: &str, value: &Value) -> bool {
    let text = value.as_str().unwrap_or_default();
    match (kind, name) {
        ("decode_error", "excerpt") => value.is_string() && text.chars().count() <= 200,
        ("decode_error", "reason") => ErrorKind::ALL.iter().any(|kind| text.strip_prefix(kind.as_str()).is_some_and(|rest| rest.starts_with(": "))),
        ("gap", "reason") => ["disconnect", "sequence", "checksum", "overflow"].contains(&text),
        ("book", "kind") => ["snapshot", "delta"].contains(&text),
        ("instrument", "kind") => ["spot", "perpetual", "future", "option"].contains(&text),
        (_, "id" | "gap") => text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')),
        (_, "market") => Market::parse(text).is_some(),
        (_, "side") => ["buy", "sell"].contains(&text),
        (_, "status") => ["trading", "halted", "pre_launch", "delisted"].contains(&text),
        (_, "origin") => ["refill", "backfill"].contains(&text),
        (_, "interval") => Interval::parse(text).is_some_and(|interval| interval.to_string() == text),
        (_, "t" | "et" | "time" | "next_time" | "open_time" | "expiry") => value.as_i64().is_some_and(is_in_microseconds),
        (_, "interval_hours" | "funding_interval_hours" | "line") => value.as_u64().is_some_and(|count| count > 0),
        (_, "trades" | "count") => value.is_u64(),
        (_, "closed" | "complete") => value.is_boolean(),
        (_, "bids" | "asks") => value.as_array().is_some_and(|levels| levels.iter().all(is_level)),
        (
            _,
            "type" | "venue" | "venue_symbol" | "symbol" | "trade_id" | "seq" | "prev_seq" | "checksum" | "from" | "to" | "channel" | "base" | "quote"
            | "settle",
        ) => !text.is_empty(),
        // What is left are prices, sizes and rates.
        _ => is_plain_decimal(text),
    }
}

fn is_level(level: &Value) -> bool {
    let plain = |value: &Value| value.as_str().is_some_and(is_plain_decimal);
    matches!(level.as_array().map(Vec::as_slice), Some([price, size]) if plain(price) && plain(size))
}

/// An optional sign, digits, and digits behind a point if there is one: no exponent, no white space.
fn is_plain_decimal(text: &str) -> bool {
    let digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (whole, fraction) = unsigned.split_once('.').unwrap_or((unsigned, "0"));
    digits(whole) && digits(fraction)
}

/// The unified symbol and the instrument's kind say the same as the market.
fn names_agree(event: &Map<String, Value>) -> Result<(), String> {
    let text = |name: &str| event.get(name).and_then(Value::as_str);
    let market = text("market").unwrap_or_default();
    if let Some(symbol) = text("symbol") {
        let (pair, contract) = symbol.split_once(':').map_or((symbol, None), |(pair, contract)| (pair, Some(contract)));
        let parts = contract.map_or(0, |contract| contract.split('-').count());
        let whole = pair.split_once('/').is_some_and(|(base, quote)| !base.is_empty() && !quote.is_empty());
        let fits = match market {
            "spot" => parts == 0,
            "option" => parts == 4,
            _ => parts == 1 || parts == 2,
        };
        if !whole || !fits {
            return Err(format!("`{symbol}` is no symbol of an instrument of the {market} market"));
        }
    }
    if text("type") == Some("instrument") {
        let fits = match text("kind") {
            Some("spot") => market == "spot" && !event.contains_key("settle"),
            Some("option") => market == "option",
            _ => market == "linear" || market == "inverse",
        };
        if !fits {
            return Err(format!("an instrument of that kind is not of the {market} market"));
        }
    }
    Ok(())
}

#[test]
fn notices_what_breaks_the_contract() {
    let mark = r#"{"type":"mark","venue":"x","market":"linear","venue_symbol":"B","symbol":"B/U:U","t":1760352370000000,"mark":"1.50","id":"00000000000000000000000000000000"}"#;
    check(mark).expect("it is as the contract says");
    for (part, other) in [
        (r#""1.50""#, "1.50"),
        (r#""1.50""#, r#""1.5e2""#),
        (r#""1.50""#, r#""""#),
        (r#""1.50""#, r#"".5""#),
        ("1760352370000000", "1760352370000"),
        (r#","mark":"1.50""#, ""),
        (r#""mark":"1.50""#, r#""price":"1.50""#),
        ("B/U:U", "B/U"),
        ("linear", "perp"),
        (r#""venue_symbol":"B","#, ""),
        ("0000\"}", "000G\"}"),
    ] {
        let broken = mark.replacen(part, other, 1);
        assert!(check(&broken).is_err(), "{broken}");
    }
}
