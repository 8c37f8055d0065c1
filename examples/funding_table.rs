//! Funding of all venues side by side: a row for each base asset of what its perpetuals cost, those first that differ
//! most between venues. Rates are compared by what they come to in a year, since venues exchange funding every hour or
//! every eight.
//!
//!     cargo run --example funding_table
//!     cargo run --example funding_table -- --simulate      (simulated venues)
//!     cargo run --example funding_table -- --play          (all venues, played from their fixtures)
//!
//! All arithmetic is exact; only what is shown is rounded, to 120 columns.

mod common;

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, Write};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use collector::core::event::Funding;
use collector::core::{Batch, Body, Channel, Decimal, Instrument, Market};
use collector::runtime::{Builder, Collector};
use collector::sinks::{Sink, SinkFuture};

const HOURS_A_YEAR: i64 = 365 * 24;
/// What holds where a venue says nothing: those that list intervals list the contracts that have another.
const HOURS_UNLESS_LISTED: u32 = 8;
/// Of several contracts of one base, the one that is settled in the first of these; others come last.
const SETTLED_IN: [&str; 3] = ["USDT", "USDC", "USD"];
/// Venues in one line.
const COLUMNS: usize = 4;
/// A venue that has not answered by then is left out.
const PATIENCE: Duration = Duration::from_mins(1);

/// The last known funding of each contract: `fold` makes each event whole.
type Known = BTreeMap<(String, String), (Arc<Instrument>, Funding)>;

struct FundingSink(Arc<Mutex<Known>>);

impl Sink for FundingSink {
    fn name(&self) -> &'static str {
        "funding:"
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        Box::pin(async move {
            let mut known = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for event in batch.events() {
                if let (Body::Funding(funding), Some(symbol)) = (&event.body, &event.instrument.symbol) {
                    let key = (event.instrument.venue.to_string(), symbol.to_string());
                    known.insert(key, (event.instrument.clone(), funding.clone()));
                }
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

/// What one venue says of one base.
#[derive(Clone)]
struct Cell {
    rate: Decimal,
    hours: u32,
    /// What the rate comes to in a year if it stays as it is: a sum, without interest on interest.
    yearly: Decimal,
    /// Hours and minutes (UTC) of the next settlement.
    next: String,
}

impl Cell {
    fn of(instrument: &Instrument, funding: &Funding) -> Option<Self> {
        let rate = funding.rate.clone()?;
        let listed = instrument.details.as_ref().and_then(|details| details.funding_interval_hours);
        let hours = funding.interval_hours.or(listed).unwrap_or(HOURS_UNLESS_LISTED);
        // One division, at the end: the sum of a year is exact wherever it can be.
        let yearly = rate.checked_mul(&Decimal::from(HOURS_A_YEAR))?.checked_quotient(&Decimal::from(i64::from(hours)))?;
        let next = funding.next_time.and_then(|time| time.to_string().get(11..16).map(ToOwned::to_owned)).unwrap_or_default();
        Some(Self { rate, hours, yearly, next })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (venues, _sim) = common::venues()?;
    let titles: Vec<(String, String)> = venues.iter().map(|venue| (venue.profile.name.clone(), venue.profile.title.clone())).collect();
    let known = Arc::new(Mutex::new(Known::default()));
    let builder = venues.into_iter().fold(Collector::builder(), Builder::venue);
    let builder = builder.markets([Market::Linear, Market::Inverse]).channels([Channel::Funding]).once(true).fold(true);
    let mut collector = builder.sink(Box::new(FundingSink(known.clone()))).start()?;
    let late = tokio::time::timeout(PATIENCE, collector.finished()).await.is_err();
    let summary = collector.stop().await;
    let known = std::mem::take(&mut *known.lock().unwrap_or_else(PoisonError::into_inner));

    let mut columns = Vec::new();
    for (name, title) in titles {
        let problems = summary.venues.get(&name).map(|venue| &venue.problems);
        let why: Vec<String> = problems.into_iter().flatten().map(|(what, why)| format!("{what}: {why}")).collect();
        let why = if why.is_empty() && late { format!("no answer within {PATIENCE:?}") } else { why.join("; ") };
        let any = known.keys().any(|(venue, _)| *venue == name);
        match (any, why.as_str()) {
            (true, "") => {}
            (true, why) => eprintln!("{title}: not everything could be read ({why})"),
            (false, "") => eprintln!("{title}: lists no funding"),
            (false, why) => eprintln!("{title} cannot be reached and is left out ({why})"),
        }
        if any {
            columns.push((name, title));
        }
    }
    anyhow::ensure!(!columns.is_empty(), "no venue answered; `--simulate` or `--play` needs no network");
    match print(&mut io::stdout().lock(), &columns, &rows(&columns, &known)) {
        // Who reads only the beginning, closes.
        Err(error) if error.kind() != ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// A base, how far its highest and lowest yearly rates are apart, and a cell for each venue.
struct Row {
    base: String,
    apart: Option<Decimal>,
    cells: Vec<Option<Cell>>,
}

fn rows(columns: &[(String, String)], known: &Known) -> Vec<Row> {
    /// A contract's rank among those of its base, and what it says.
    type Candidate = Option<(usize, Cell)>;
    let mut best: BTreeMap<&str, Vec<Candidate>> = BTreeMap::new();
    for ((venue, symbol), (instrument, funding)) in known {
        let Some(at) = columns.iter().position(|(name, _)| name == venue) else { continue };
        // The unified symbol alone says what the base is called everywhere: `BTC/USDT:USDT`.
        let Some((base, settle)) = symbol.split_once('/').and_then(|(base, rest)| Some((base, rest.split_once(':')?.1))) else { continue };
        let Some(cell) = Cell::of(instrument, funding) else { continue };
        let rank = SETTLED_IN.iter().position(|known| *known == settle).unwrap_or(SETTLED_IN.len());
        let place = &mut best.entry(base).or_insert_with(|| vec![None; columns.len()])[at];
        if place.as_ref().is_none_or(|(other, _)| rank < *other) {
            *place = Some((rank, cell));
        }
    }
    let row = |(base, cells): (&str, Vec<Candidate>)| {
        let cells: Vec<Option<Cell>> = cells.into_iter().map(|cell| cell.map(|(_, cell)| cell)).collect();
        Row { base: base.to_owned(), apart: apart(&cells), cells }
    };
    let mut rows: Vec<Row> = best.into_iter().map(row).collect();
    rows.sort_by_key(|row| (Reverse(row.apart.clone()), row.base.clone()));
    rows
}

/// Between the highest and the lowest of a year, where there are two.
fn apart(cells: &[Option<Cell>]) -> Option<Decimal> {
    let yearly = || cells.iter().flatten().map(|cell| &cell.yearly);
    let (lowest, highest) = (yearly().min()?.to_rust_decimal()?, yearly().max()?.to_rust_decimal()?);
    (yearly().count() > 1).then(|| (highest - lowest).into())
}

fn print(out: &mut impl Write, columns: &[(String, String)], rows: &[Row]) -> io::Result<()> {
    let across = columns.len().min(COLUMNS);
    for (line, titles) in columns.chunks(COLUMNS).enumerate() {
        write!(out, "{:<12}", if line == 0 { "base" } else { "" })?;
        for (_, title) in titles {
            write!(out, "|{title:<26.26}")?;
        }
        writeln!(out)?;
    }
    writeln!(out, "{:<12}{}", "  apart %", format!("|{:>8} {:>3} {:>7} {:>5}", "rate %", "hrs", "year %", "next").repeat(across))?;
    for Row { base, apart, cells } in rows {
        writeln!(out, "{}", "-".repeat(12 + 27 * across))?;
        let apart = apart.as_ref().map_or_else(String::new, |apart| format!("  {}", percent(apart, 2)));
        let mut labels = [base.as_str(), &apart].into_iter();
        // How far they are apart stands in the second line, also where the venues need but one.
        for cells in cells.chunks(COLUMNS).chain([&[][..]]) {
            let label = labels.next().unwrap_or_default();
            if label.is_empty() && cells.iter().all(Option::is_none) {
                continue;
            }
            write!(out, "{label:<12}")?;
            for cell in cells {
                match cell {
                    Some(cell) => write!(out, "|{:>8} {:>2}h {:>7} {:>5}", percent(&cell.rate, 5), cell.hours, percent(&cell.yearly, 2), cell.next)?,
                    None => write!(out, "|{:<26}", "")?,
                }
            }
            writeln!(out)?;
        }
    }
    Ok(())
}

/// A fraction as a percentage, rounded for the eye.
fn percent(fraction: &Decimal, places: u32) -> String {
    let percent = fraction.checked_mul(&Decimal::from(100)).and_then(|percent| percent.to_rust_decimal());
    percent.map_or_else(|| fraction.to_string(), |percent| format!("{:.*}", places as usize, percent.round_dp(places)))
}
