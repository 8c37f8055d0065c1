//! The latest state of each instrument, as fields of a hash: of many events, what remains.

use std::collections::HashMap;
use std::sync::Arc;

use exchange_core::{Body, Event, Instrument};
use redis::Pipeline;

use crate::fields::{self, Value};

type Fields<'a> = HashMap<(&'static str, &'static str), Value<'a>>;

/// The last values of instruments, in the order in which they were first seen.
#[derive(Default)]
pub(super) struct Latest<'a> {
    instruments: Vec<(&'a Instrument, Fields<'a>)>,
    /// Where each is, by the address of its handle.
    places: HashMap<usize, usize>,
}

impl<'a> Latest<'a> {
    /// Notes what an event says, if it says what is so now. A field that a venue left out stays as it was.
    pub(super) fn see(&mut self, event: &'a Event) {
        // Fetched later than it happened: not the latest.
        if event.origin.is_some() || !(event.body.is_state() || matches!(event.body, Body::Trade(_))) {
            return;
        }
        let instruments = &mut self.instruments;
        let place = *self.places.entry(Arc::as_ptr(&event.instrument) as usize).or_insert_with(|| {
            instruments.push((&event.instrument, HashMap::new()));
            instruments.len() - 1
        });
        let Some((_, known)) = instruments.get_mut(place) else { return };
        let kind = event.body.kind();
        fields::each(&event.body, |name, value| {
            if let Some(value) = value {
                known.insert((kind, name), value);
            }
        });
        known.insert((kind, "t"), Value::Time(event.received));
        if let Some(time) = event.time {
            known.insert((kind, "et"), Value::Time(time));
        }
    }

    /// Writes it to the hashes.
    pub(super) fn add(&self, prefix: &str, transaction: &mut Pipeline) {
        for (instrument, known) in &self.instruments {
            let key = format!("{prefix}:latest:{}:{}:{}", instrument.venue, instrument.market, instrument.venue_symbol);
            let command = transaction.cmd("HSET").arg(key);
            for ((kind, name), value) in known {
                command.arg(format!("{kind}.{name}")).arg(shown(value));
            }
        }
    }
}

/// A value as the data contract writes it, without quotes.
fn shown(value: &Value<'_>) -> String {
    match value {
        Value::Decimal(number) => number.to_string(),
        Value::Time(time) => time.micros().to_string(),
        Value::Whole(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Text(text) => text.to_string(),
        // Of books, which are no state that an event holds whole.
        Value::Levels(_) => String::new(),
    }
}
