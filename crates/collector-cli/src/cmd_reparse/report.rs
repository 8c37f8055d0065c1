//! The table, or JSON.

use std::fmt::Write as _;
use std::io::{self, Write as _};

use serde_json::{Value, json};

use super::compare::{Comparison, Counts};

/// Prints what differs on standard output.
pub(super) fn print(comparison: &Comparison, as_json: bool) -> anyhow::Result<()> {
    let text = if as_json { format!("{}\n", serde_json::to_string_pretty(&json(comparison))?) } else { table(comparison)? };
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => Ok(written?),
    }
}

fn table(comparison: &Comparison) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    let width = comparison.groups.keys().map(|(venue, _)| venue.len()).chain([5]).max().unwrap_or(5);
    writeln!(text, "{:width$}  {:15}  {:>12}  {:>12}  {:>12}  {:>12}", "VENUE", "CHANNEL", "SAME", "CHANGED", "MISSING", "NEW")?;
    for ((venue, kind), Counts { same, changed, missing, new }) in &comparison.groups {
        writeln!(text, "{venue:width$}  {kind:15}  {same:>12}  {changed:>12}  {missing:>12}  {new:>12}")?;
    }
    for (count, what) in [
        (comparison.outside, "collected at times of which there are no captures: not compared"),
        (comparison.only_live, "known to a live run alone: not compared"),
        (comparison.repeated, "collected more than once: compared once"),
    ] {
        if count > 0 {
            writeln!(text, "{count} events {what}")?;
        }
    }
    if comparison.unpaired {
        writeln!(text, "There are too many differences to find out which of them are changes: the rest is missing or new.")?;
    }
    for (before, now) in comparison.examples.values().flatten() {
        for (sign, line) in [('-', before), ('+', now)] {
            if let Some(line) = line {
                writeln!(text, "{sign} {line}")?;
            }
        }
    }
    Ok(text)
}

fn json(comparison: &Comparison) -> Value {
    let rows: Vec<Value> = comparison
        .groups
        .iter()
        .map(|((venue, kind), Counts { same, changed, missing, new })| {
            json!({"venue": venue, "channel": kind, "same": same, "changed": changed, "missing": missing, "new": new})
        })
        .collect();
    let examples: Vec<Value> = comparison.examples.values().flatten().map(|(before, now)| json!({"collected": before, "now": now})).collect();
    json!({
        "same": !comparison.differs(),
        "rows": rows,
        "outside": comparison.outside,
        "only_live": comparison.only_live,
        "repeated": comparison.repeated,
        "unpaired": comparison.unpaired,
        "examples": examples,
    })
}
