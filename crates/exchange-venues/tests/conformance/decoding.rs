//! Fixtures against what they must mean: blessed events, the contract, ids, coverage.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use exchange_core::capture::{Capture, CaptureSource};
use exchange_core::profile::Endpoint;
use exchange_core::{Body, Event, Interner, Market};
use serde_json::{Map, Value};

use crate::contract;
use crate::fixtures::{Decoded, Fixture, Tested, reversed, to_json, venues};

/// Set by `cargo xtask bless` to a venue's name, or to `all`: events files are then written, not compared.
const BLESS: &str = "COLLECTOR_BLESS";

/// Calls `check` with every fixture, and fails with all that it found.
fn each_fixture(check: impl Fn(&Tested, &Fixture, &mut String)) {
    let mut wrong = String::new();
    for venue in venues() {
        for fixture in venue.fixtures() {
            check(&venue, &fixture, &mut wrong);
        }
    }
    assert!(wrong.is_empty(), "\n{wrong}");
}

#[test]
fn fixtures_give_their_blessed_events() {
    let bless = std::env::var(BLESS).unwrap_or_default();
    each_fixture(|venue, fixture, wrong| {
        let decoded: Vec<String> = fixture.decode(venue).into_iter().map(|decoded| decoded.json).collect();
        if bless == "all" || bless == venue.name() {
            let text = decoded.iter().fold(String::new(), |text, line| text + line + "\n");
            std::fs::write(&fixture.events, text).unwrap_or_else(|error| panic!("{}: {error}", fixture.events.display()));
            return;
        }
        let Ok(blessed) = std::fs::read_to_string(&fixture.events) else {
            writeln!(wrong, "{}/{}: it has no events beside it: cargo xtask bless {}", venue.name(), fixture.name, venue.name()).unwrap();
            return;
        };
        let blessed: Vec<&str> = blessed.lines().collect();
        let diff = differences(&blessed, &decoded);
        if !diff.is_empty() {
            writeln!(wrong, "{}/{}: not the blessed events; if this is right: cargo xtask bless {}\n{diff}", venue.name(), fixture.name, venue.name()).unwrap();
        }
    });
    for venue in venues() {
        for orphan in venue.orphans() {
            if bless == "all" || bless == venue.name() {
                std::fs::remove_file(&orphan).unwrap_or_else(|error| panic!("{}: {error}", orphan.display()));
            } else {
                panic!("{} has no captures beside it", orphan.display());
            }
        }
    }
}

/// What was blessed and is not there, what is there and was not blessed: by capture line, the first few.
fn differences(blessed: &[&str], decoded: &[String]) -> String {
    let by_line = |line: &str| line.rsplit_once("\"line\":").and_then(|(_, end)| end.trim_end_matches('}').parse::<u64>().ok()).unwrap_or(0);
    let mut lines: BTreeMap<u64, (Vec<&str>, Vec<&str>)> = BTreeMap::new();
    for line in blessed {
        lines.entry(by_line(line)).or_default().0.push(line);
    }
    for line in decoded {
        lines.entry(by_line(line)).or_default().1.push(line);
    }
    let mut out = String::new();
    for (number, (blessed, decoded)) in lines.into_iter().filter(|(_, (blessed, decoded))| blessed != decoded).take(5) {
        writeln!(out, "  line {number}:").unwrap();
        blessed.iter().filter(|line| !decoded.contains(line)).for_each(|line| writeln!(out, "  - {line}").unwrap());
        decoded.iter().filter(|line| !blessed.contains(line)).for_each(|line| writeln!(out, "  + {line}").unwrap());
        if blessed.iter().all(|line| decoded.contains(line)) && decoded.iter().all(|line| blessed.contains(line)) {
            writeln!(out, "  the same events in another order or number").unwrap();
        }
    }
    out
}

#[test]
fn events_are_as_the_contract_says() {
    each_fixture(|venue, fixture, wrong| {
        for Decoded { line, json, event } in fixture.decode(venue) {
            let mut fault = contract::check(json.as_str()).err();
            if event.received != line.capture.received {
                fault = Some("`t` is not the capture's".into());
            }
            if *event.instrument.venue != *venue.name() {
                fault = Some("it is another venue's".into());
            }
            if let Some(fault) = fault {
                writeln!(wrong, "{}/{}:{}: {fault}\n  {json}", venue.name(), fixture.name, line.number).unwrap();
            }
        }
    });
}

#[test]
fn event_lines_are_read_as_they_were_written() {
    each_fixture(|venue, fixture, wrong| {
        let mut interner = Interner::default();
        for Decoded { line, json, event } in fixture.decode(venue) {
            let plain = to_json(&event, None);
            // What `decode` writes has the number of the capture line besides, which is no part of the event.
            for text in [&json, &plain] {
                let read = Event::parse_with(text.as_bytes(), &mut interner);
                if !read.as_ref().is_ok_and(|read| to_json(read, None) == plain && read.id == event.id && read.verify()) {
                    writeln!(wrong, "{}/{}:{}: {read:?}\n  {text}", venue.name(), fixture.name, line.number).unwrap();
                }
            }
        }
    });
}

#[test]
fn no_two_instruments_share_a_symbol() {
    for venue in venues() {
        let mut known: HashMap<String, (Market, String)> = HashMap::new();
        for decoded in venue.fixtures().iter().flat_map(|fixture| fixture.decode(&venue)) {
            let instrument = &decoded.event.instrument;
            let Some(symbol) = &instrument.symbol else { continue };
            let this = (instrument.market, instrument.venue_symbol.to_string());
            let first = known.entry(symbol.to_string()).or_insert_with(|| this.clone());
            assert_eq!(*first, this, "{}: two instruments are {symbol}", venue.name());
        }
    }
}

/// What an id covers, as far as an event line shows it.
fn content(decoded: &Decoded<'_>) -> Map<String, Value> {
    let Ok(Value::Object(mut event)) = serde_json::from_str(&decoded.json) else { panic!("not an object: {}", decoded.json) };
    for left_out in ["line", "id", "symbol", "size_base", "value_base", "origin"] {
        event.remove(left_out);
    }
    let dated_by_arrival = decoded.event.body.is_state() || matches!(decoded.event.body, Body::Gap(_) | Body::DecodeError(_));
    if !dated_by_arrival || event.contains_key("et") || event.contains_key("seq") {
        event.remove("t");
    }
    event
}

#[test]
fn one_id_is_one_fact() {
    each_fixture(|venue, fixture, wrong| {
        let mut known = HashMap::new();
        for decoded in fixture.decode(venue) {
            let (id, this) = (decoded.event.id.to_string(), content(&decoded));
            let (first, other) = known.entry(id).or_insert_with(|| (decoded.line.number, this.clone()));
            if *other != this {
                writeln!(wrong, "{}/{}: lines {first} and {} differ but share the id {}", venue.name(), fixture.name, decoded.line.number, decoded.event.id)
                    .unwrap();
            }
        }
    });
}

#[test]
fn one_fact_has_one_id() {
    each_fixture(|venue, fixture, wrong| {
        let mut known = HashMap::new();
        // Equal records of one message are told apart by their ordinal.
        for decoded in fixture.decode(venue).into_iter().filter(|decoded| decoded.event.ordinal == 0) {
            let (id, this) = (decoded.event.id.to_string(), Value::Object(content(&decoded)).to_string());
            let (first, other) = known.entry(this).or_insert_with(|| (decoded.line.number, id.clone()));
            if *other != id {
                writeln!(wrong, "{}/{}: lines {first} and {} say the same with two ids", venue.name(), fixture.name, decoded.line.number).unwrap();
            }
        }
    });
}

#[test]
fn decoding_is_a_function_of_the_bytes() {
    each_fixture(|venue, fixture, wrong| {
        let once: Vec<String> = fixture.decode(venue).into_iter().map(|decoded| decoded.json).collect();
        let again: Vec<String> = fixture.decode(venue).into_iter().map(|decoded| decoded.json).collect();
        if once != again {
            writeln!(wrong, "{}/{}: two runs gave different events", venue.name(), fixture.name).unwrap();
        }
    });
}

#[test]
fn the_order_of_keys_means_nothing() {
    each_fixture(|venue, fixture, wrong| {
        let other_order =
            |capture: &Capture| Capture { payload: reversed(&capture.payload).map_or_else(|| capture.payload.clone(), String::into_bytes), ..capture.clone() };
        // An error quotes the payload, which is another; that there is one, is the same.
        let facts = |decoded: Vec<Decoded<'_>>| {
            let fact = |decoded: &Decoded<'_>| match &decoded.event.body {
                Body::DecodeError(_) => (decoded.line.number, String::new()),
                _ => (decoded.line.number, decoded.json.clone()),
            };
            decoded.iter().map(fact).collect::<Vec<_>>()
        };
        let (sent, turned) = (facts(fixture.decode(venue)), facts(fixture.decode_as(venue, other_order)));
        for (sent, turned) in sent.iter().zip(&turned).filter(|(sent, turned)| sent != turned).take(3) {
            writeln!(wrong, "{}/{}:{}: with its keys in another order\n  - {}\n  + {}", venue.name(), fixture.name, sent.0, sent.1, turned.1).unwrap();
        }
        if sent.len() != turned.len() {
            writeln!(wrong, "{}/{}: with keys in another order {} events instead of {}", venue.name(), fixture.name, turned.len(), sent.len()).unwrap();
        }
    });
}

/// Endpoints of one path and body are one.
fn asked_by(endpoint: &Endpoint) -> String {
    format!("{} {}", endpoint.path, endpoint.body.as_deref().unwrap_or_default())
}

#[test]
fn fixtures_cover_what_the_description_lists() {
    let mut missing = String::new();
    for venue in venues() {
        let mut seen = BTreeSet::new();
        for fixture in venue.fixtures() {
            let decoded = fixture.decode(&venue);
            for line in &fixture.lines {
                let market = line.capture.market.expect("every capture names its market");
                let endpoint = match line.capture.source() {
                    Some(CaptureSource::Http(method, url)) => venue.profile.endpoint_at(market, method, url, line.capture.request.as_deref()),
                    _ => None,
                };
                let over_http = !matches!(line.capture.source(), Some(CaptureSource::Ws(_)));
                let asked = endpoint.map_or_else(|| if over_http { "nothing" } else { "stream" }.to_owned(), asked_by);
                let given: Vec<_> = decoded.iter().filter(|decoded| decoded.line.number == line.number).map(|decoded| decoded.event.body.channel()).collect();
                seen.extend(given.iter().flatten().map(|channel| (asked.clone(), market, channel.as_str())));
                // An answer without a fact may be asked for what it leads to.
                let follows = |channel: &str| {
                    venue.profile.endpoint.iter().any(|e| e.follow && e.markets.contains(&market) && e.channels.iter().any(|name| name.as_str() == channel))
                };
                if let (Some(endpoint), true) = (endpoint, given.is_empty()) {
                    let led_to = endpoint.channels.iter().map(|name| name.as_str()).filter(|channel| follows(channel));
                    seen.extend(led_to.map(|channel| (asked.clone(), market, channel)));
                }
            }
        }
        let endpoints = venue.profile.endpoint.iter().map(|endpoint| (asked_by(endpoint), &endpoint.markets, &endpoint.channels));
        let streams = venue.profile.stream.iter().map(|stream| ("stream".to_owned(), &stream.markets, &stream.channels));
        let listed: BTreeSet<_> = endpoints
            .chain(streams)
            .flat_map(|(asked, markets, channels)| {
                markets.iter().flat_map(move |market| {
                    let asked = asked.clone();
                    channels.iter().map(move |channel| (asked.clone(), *market, channel.as_str()))
                })
            })
            .collect();
        for (asked, market, channel) in listed.difference(&seen) {
            writeln!(missing, "{}: no fixture gives {channel} of {market} by {asked}", venue.name()).unwrap();
        }
    }
    assert!(missing.is_empty(), "\n{missing}");
}
