//! Events as rows of the table of their type.

use std::collections::BTreeSet;
use std::ops::Range;
use std::sync::Arc;

use bytes::Bytes;
use exchange_core::event::Origin;
use exchange_core::{Batch, Body, Event, Time};

use super::binary::{HEADER, Row, TRAILER, Unfit};
use crate::fields::{self, Value};

/// Columns that all tables have, before those of their own.
const COMMON: [&str; 9] = ["at", "id", "venue", "market", "venue_symbol", "symbol", "t", "et", "origin"];
/// Microseconds of a day.
const DAY: i64 = 86_400_000_000;
/// A fact this much older than its receipt goes where no day has a table of its own: a backfill of years would make
/// thousands of them.
const OLD_DAYS: i64 = 31;

/// Where an event lies in what is being stored: the number of its batch, and its own in that.
pub(super) type Place = (usize, usize);

/// The rows of one table.
#[derive(Debug)]
pub(super) struct Rows {
    pub(super) table: &'static str,
    pub(super) columns: Vec<&'static str>,
    data: Vec<u8>,
    /// Where each row ends.
    ends: Vec<usize>,
    pub(super) places: Vec<Place>,
    /// Days since the epoch for which the table needs a partition.
    pub(super) days: BTreeSet<i64>,
    /// The days of the last row's fact and of its receipt.
    last_days: Option<(i64, i64)>,
}

/// Rows by table, and the events that cannot be rows.
#[derive(Debug, Default)]
pub(super) struct Tables {
    pub(super) tables: Vec<Rows>,
    pub(super) unfit: Vec<(Place, String)>,
}

impl Tables {
    pub(super) fn of(batches: &[Arc<Batch>]) -> Self {
        let mut tables = Self::default();
        for (number, batch) in batches.iter().enumerate() {
            for (at, event) in batch.events().iter().enumerate() {
                tables.add(event, (number, at));
            }
        }
        tables
    }

    fn add(&mut self, event: &Event, place: Place) {
        let table = event.body.kind();
        let at = self.tables.iter().position(|rows| rows.table == table).unwrap_or_else(|| {
            self.tables.push(Rows::new(&event.body));
            self.tables.len() - 1
        });
        if let Some(rows) = self.tables.get_mut(at)
            && let Err(Unfit(why)) = rows.add(event, place)
        {
            self.unfit.push((place, why.to_owned()));
        }
    }
}

impl Rows {
    fn new(body: &Body) -> Self {
        let mut columns = COMMON.to_vec();
        fields::each(body, |name, _| columns.push(name));
        Self { table: body.kind(), columns, data: Vec::new(), ends: Vec::new(), places: Vec::new(), days: BTreeSet::new(), last_days: None }
    }

    fn add(&mut self, event: &Event, place: Place) -> Result<(), Unfit> {
        let before = self.data.len();
        write(event, self.columns.len(), &mut self.data).inspect_err(|_| self.data.truncate(before))?;
        self.ends.push(self.data.len());
        self.places.push(place);
        let (day, today) = (day(at(event)), day(event.received));
        // Nearly all are of the same day as the one before.
        if self.last_days != Some((day, today)) {
            self.last_days = Some((day, today));
            if (today - OLD_DAYS..=today + 1).contains(&day) {
                self.days.insert(day);
            }
            // Made a day ahead, midnight waits for no table.
            self.days.insert(today + 1);
        }
        Ok(())
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    /// A part of the rows, as `COPY` takes them.
    pub(super) fn stream(&self, part: Range<usize>) -> Bytes {
        let end = |rows: usize| rows.checked_sub(1).and_then(|last| self.ends.get(last)).copied().unwrap_or_default();
        let rows = self.data.get(end(part.start)..end(part.end)).unwrap_or_default();
        [HEADER, rows, TRAILER].concat().into()
    }

    /// The columns' names, in a list.
    pub(super) fn columns(&self) -> String {
        self.columns.iter().map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(", ")
    }
}

/// When the fact was.
fn at(event: &Event) -> Time {
    event.time.unwrap_or(event.received)
}

fn day(time: Time) -> i64 {
    time.micros().div_euclid(DAY)
}

/// The first moment of a day.
pub(super) fn midnight(day: i64) -> Time {
    Time::from_micros(day.saturating_mul(DAY))
}

fn write(event: &Event, columns: usize, out: &mut Vec<u8>) -> Result<(), Unfit> {
    let mut row = Row::begin(columns, out)?;
    let instrument = &event.instrument;
    row.time(at(event))?;
    row.uuid(event.id.0)?;
    row.text(&instrument.venue)?;
    row.text(instrument.market.as_str())?;
    text(&mut row, Some(&*instrument.venue_symbol).filter(|name| !name.is_empty()))?;
    text(&mut row, instrument.symbol.as_deref())?;
    row.time(event.received)?;
    match event.time {
        Some(time) => row.time(time)?,
        None => row.null(),
    }
    let origin = event.origin.map(|origin| match origin {
        Origin::Refill => "refill",
        Origin::Backfill => "backfill",
    });
    text(&mut row, origin)?;
    let mut result = Ok(());
    fields::each(&event.body, |_, value| {
        if result.is_ok() {
            result = field(&mut row, value);
        }
    });
    result
}

fn text(row: &mut Row<'_>, value: Option<&str>) -> Result<(), Unfit> {
    field(row, value.map(|text| Value::Text(text.into())))
}

fn field(row: &mut Row<'_>, value: Option<Value<'_>>) -> Result<(), Unfit> {
    match value {
        None => {
            row.null();
            Ok(())
        }
        Some(Value::Decimal(number)) => row.decimal(number),
        Some(Value::Time(time)) => row.time(time),
        Some(Value::Whole(number)) => row.whole(number),
        Some(Value::Flag(flag)) => row.flag(flag),
        Some(Value::Text(value)) => row.text(&value),
        Some(Value::Levels(levels)) => row.levels(levels),
    }
}
