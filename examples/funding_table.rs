//! Funding rates of all venues side by side: for each base currency the rate, its interval, what it comes to in a year,
//! and when it is next exchanged. Exact decimals all the way.
//!
//!     cargo run --example funding_table
//!     SIMULATE=1 cargo run --example funding_table

mod common;

use std::collections::BTreeMap;

use collector::core::event::Funding;
use collector::core::{Decimal, Market};
use collector::runtime::{Client, Record};

/// Binance lists the intervals of those contracts alone that do not exchange funding every eight hours.
const HOURS_UNLESS_LISTED: u32 = 8;
const HOURS_A_YEAR: i64 = 365 * 24;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (venues, _sim) = common::venues()?;
    let mut names = Vec::new();
    let mut table: BTreeMap<String, Vec<Option<Record<Funding>>>> = BTreeMap::new();
    for venue in venues {
        let title = venue.profile.title.clone();
        match Client::new(venue)?.fetch_funding_rates(Market::Linear, &[]).await {
            Ok(rates) => {
                for record in rates {
                    let Some(details) = record.instrument.details.as_deref().filter(|details| details.settle.as_deref() == Some("USDT")) else { continue };
                    let row = table.entry(details.base.to_string()).or_default();
                    row.resize(names.len() + 1, None);
                    row[names.len()] = Some(record);
                }
                names.push(title);
            }
            // The others are of use without this one.
            Err(error) => eprintln!("{error}"),
        }
    }
    anyhow::ensure!(!names.is_empty(), "no venue answered");

    print!("{:<14}", "");
    for name in &names {
        print!("| {name:<46}");
    }
    println!();
    let columns = format!("| {:>14} {:>5} {:>14}  {:<9}", "rate %", "every", "a year %", "next").repeat(names.len());
    println!("{:<14}{columns}| {:>14}", "base", "apart %");
    for (base, mut row) in table {
        row.resize(names.len(), None);
        print!("{base:<14}");
        for cell in &row {
            match cell {
                Some(record) => print!("| {}", describe(&record.value)),
                None => print!("| {:<46}", ""),
            }
        }
        let yearly: Vec<Decimal> = row.iter().flatten().filter_map(|record| a_year(&record.value)).collect();
        println!("| {:>14}", apart(&yearly).map_or_else(String::new, |apart| percent(&apart)));
    }
    Ok(())
}

fn hours(funding: &Funding) -> u32 {
    funding.interval_hours.unwrap_or(HOURS_UNLESS_LISTED)
}

fn describe(funding: &Funding) -> String {
    let rate = funding.rate.as_ref().map_or_else(String::new, percent);
    let yearly = a_year(funding).map_or_else(String::new, |yearly| percent(&yearly));
    // Hours and minutes, UTC.
    let next = funding.next_time.map_or_else(String::new, |time| time.to_string().get(11..16).map(|time| format!("{time}Z")).unwrap_or_default());
    format!("{rate:>14} {:>4}h {yearly:>14}  {next:<9}", hours(funding))
}

/// What a rate comes to in a year, if it stayed as it is: a sum, without interest on interest.
fn a_year(funding: &Funding) -> Option<Decimal> {
    let times = Decimal::from(HOURS_A_YEAR).checked_quotient(&Decimal::from(i64::from(hours(funding))))?;
    funding.rate.as_ref()?.checked_mul(&times)
}

/// Between the highest and the lowest, where there are two.
fn apart(yearly: &[Decimal]) -> Option<Decimal> {
    let (lowest, highest) = (yearly.iter().min()?.to_rust_decimal()?, yearly.iter().max()?.to_rust_decimal()?);
    (yearly.len() > 1).then(|| (highest - lowest).into())
}

fn percent(fraction: &Decimal) -> String {
    fraction.checked_mul(&Decimal::from(100)).map_or_else(|| format!("{fraction} x 100"), |percent| percent.to_string())
}
