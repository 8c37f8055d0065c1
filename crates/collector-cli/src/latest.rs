//! `/api/latest` and `/api/funding`: the last known states, for whoever wants one number now.

use std::collections::BTreeMap;

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use exchange_core::fold::STATES;
use exchange_core::{Body, Channel, Event, Instrument, Market};
use exchange_runtime::Monitor;
use serde_json::{Map, Value};

use crate::settings::SymbolFilter;
use crate::suggest;

/// The part of an address behind `?`.
type Keys = Vec<(String, String)>;

/// What is asked for; an empty list is everything.
#[derive(Debug)]
struct Wanted {
    venues: Vec<String>,
    markets: Vec<Market>,
    symbols: Option<SymbolFilter>,
    channels: Vec<Channel>,
}

impl Wanted {
    /// Reads `venue=bybit&symbol=BTC/*`; each value is a list with commas.
    ///
    /// # Errors
    /// What is wrong, and what there is instead.
    fn parse(query: &Keys, known: &[String], channels: &[Channel]) -> Result<Self, String> {
        let mut wanted = Self { venues: Vec::new(), markets: Vec::new(), symbols: None, channels: channels.to_vec() };
        let keys: &[&str] = if channels.len() > 1 { &["venue", "market", "symbol", "channel"] } else { &["venue", "market", "symbol"] };
        for (key, value) in query {
            let words = || value.split(',').map(str::trim).filter(|word| !word.is_empty());
            match key.as_str() {
                "venue" => wanted.venues = words().map(|word| one_of(word, known.iter().map(String::as_str)).map(str::to_owned)).collect::<Result<_, _>>()?,
                "market" => {
                    let read = |word| Market::parse(word).ok_or_else(|| no(word, Market::ALL.map(Market::as_str)));
                    wanted.markets = words().map(read).collect::<Result<_, _>>()?;
                }
                "symbol" => wanted.symbols = Some(SymbolFilter::new(words().map(str::to_owned).collect())),
                "channel" if channels.len() > 1 => {
                    let read = |word| Channel::parse(word).filter(|channel| channels.contains(channel)).ok_or_else(|| no(word, STATES.map(Channel::as_str)));
                    wanted.channels = words().map(read).collect::<Result<_, _>>()?;
                }
                key => return Err(format!("unknown key {}", no(key, keys.iter().copied()))),
            }
        }
        Ok(wanted)
    }

    fn wants(&self, instrument: &Instrument) -> bool {
        let of = |symbols: &SymbolFilter| symbols.matches(instrument.symbol.as_deref().unwrap_or(&instrument.venue_symbol));
        (self.venues.is_empty() || self.venues.iter().any(|venue| **venue == *instrument.venue))
            && (self.markets.is_empty() || self.markets.contains(&instrument.market))
            && self.symbols.as_ref().is_none_or(of)
    }

    /// What is known of it, in the order of the symbols, so that the same instrument of several venues stands together.
    fn find(&self, monitor: &Monitor, channels: &[Channel]) -> Vec<Event> {
        let mut events = monitor.latest(channels, &|instrument| self.wants(instrument));
        events.sort_by(|a, b| order(a).cmp(&order(b)));
        events
    }
}

fn order(event: &Event) -> (&str, &str, Market, &str, &'static str) {
    let instrument = &*event.instrument;
    (instrument.symbol.as_deref().unwrap_or_default(), &*instrument.venue, instrument.market, &instrument.venue_symbol, event.body.kind())
}

fn one_of<'a>(word: &str, mut known: impl Iterator<Item = &'a str> + Clone) -> Result<&'a str, String> {
    known.clone().find(|known| *known == word).ok_or_else(|| no(word, known.by_ref()))
}

fn no<'a>(word: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    format!("`{word}`: {}", suggest::hint(word, known))
}

/// The fields of an event's line; a state that was put together has no id.
fn fields(event: &Event) -> Map<String, Value> {
    let mut line = serde_json::from_str(&event.to_json()).unwrap_or_default();
    let Value::Object(fields) = &mut line else { return Map::new() };
    fields.remove("id");
    std::mem::take(fields)
}

fn answer(monitor: &Monitor, query: &Keys, channels: &[Channel], rows: impl FnOnce(&Wanted) -> Vec<Map<String, Value>>) -> Response {
    let venues: Vec<String> = monitor.status().into_iter().map(|status| status.venue).collect();
    match Wanted::parse(query, &venues, channels) {
        Ok(wanted) => axum::Json(rows(&wanted)).into_response(),
        Err(wrong) => (StatusCode::BAD_REQUEST, format!("{wrong}\n")).into_response(),
    }
}

/// The last known states, whole, with the fields of their event lines. `t` is when one of them changed last.
pub(crate) async fn latest(State(monitor): State<Monitor>, Query(query): Query<Keys>) -> Response {
    answer(&monitor, &query, &STATES, |wanted| wanted.find(&monitor, &wanted.channels).iter().map(fields).collect())
}

/// The running funding rates, each with its instrument's mark and index price.
pub(crate) async fn funding(State(monitor): State<Monitor>, Query(query): Query<Keys>) -> Response {
    answer(&monitor, &query, &[Channel::Funding], |wanted| {
        let marks: BTreeMap<(String, Market, String), Map<String, Value>> =
            wanted.find(&monitor, &[Channel::Mark]).iter().map(|event| (key(event), fields(event))).collect();
        let row = |event: &Event| {
            let mut row = fields(event);
            row.remove("type");
            for price in ["mark", "index"] {
                if let Some(value) = marks.get(&key(event)).and_then(|mark| mark.get(price)) {
                    row.insert(price.to_owned(), value.clone());
                }
            }
            row
        };
        // Some venues say the interval elsewhere than the rate: without one there is nothing to see.
        let has_rate = |event: &&Event| matches!(&event.body, Body::Funding(funding) if funding.rate.is_some());
        wanted.find(&monitor, &[Channel::Funding]).iter().filter(has_rate).map(row).collect()
    })
}

fn key(event: &Event) -> (String, Market, String) {
    (event.instrument.venue.to_string(), event.instrument.market, event.instrument.venue_symbol.to_string())
}
