//! `collector audit`: what became of everything that arrived, hour by hour, and whether the sums balance.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::Context as _;
use exchange_core::ledger::{Difference, Entry, Hour, Key, Kind, Share, Sum};
use exchange_core::profile::duration;
use exchange_core::{Market, Time};
use exchange_runtime::ledger::{self, Ledger};
use serde_json::{Value, json};

use crate::args::AuditArgs;
use crate::run::Usage;
use crate::settings::{Settings, SymbolFilter};

/// Differences that are told one by one on standard error; `--json` has all.
const TOLD: usize = 20;

/// Prints one ledger, or all of the state directory. The exit status is 0 if everything balances, 1 if not.
pub(crate) fn run(args: &AuditArgs, settings: &Settings, now: Time) -> anyhow::Result<ExitCode> {
    let hours = Hours::of(args, now)?;
    let symbols = args.symbols.as_deref().map(|list| SymbolFilter::new(list.split(',').map(|pattern| pattern.trim().to_owned()).collect()));
    let mut audits = Vec::new();
    for name in chosen(&settings.state, settings.name.as_deref())? {
        let shown = |key: &Key| symbols.as_ref().is_some_and(|symbols| symbols.is_all() || symbols.matches(&key.name));
        let ledger = ledger::read(&settings.state, &name, &|hour| hours.contains(hour), &shown)
            .with_context(|| format!("cannot read the ledger of `{name}` in `{}`", settings.state.display()))?;
        audits.push(Audit::of(name, &ledger, &hours, symbols.as_ref()));
    }
    let mut text = String::new();
    if args.json {
        let balanced = audits.iter().all(Audit::balances);
        let all: Vec<Value> = audits.iter().map(Audit::json).collect();
        text = format!("{}\n", serde_json::to_string_pretty(&json!({"balanced": balanced, "ledgers": all}))?);
    } else {
        for audit in &audits {
            audit.table(&mut text)?;
        }
    }
    // What is wrong is said, whether anyone reads the table or not.
    for audit in &audits {
        audit.tell(&mut io::stderr().lock())?;
    }
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        written => written?,
    }
    Ok(ExitCode::from(u8::from(!audits.iter().all(Audit::balances))))
}

/// Whose ledgers.
fn chosen(state: &Path, name: Option<&str>) -> anyhow::Result<Vec<String>> {
    let names = ledger::names(state).with_context(|| format!("cannot read `{}`", state.display()))?;
    if names.is_empty() {
        let why = "`collector run` keeps one there, if its sinks last or it has a --name (another directory: --state)";
        return Err(Usage(format!("there is no ledger in `{}`: {why}", state.display())).into());
    }
    match name {
        None => Ok(names),
        Some(name) if names.iter().any(|known| known == name) => Ok(vec![name.to_owned()]),
        Some(name) => Err(Usage(format!("there is no ledger of `{name}` in `{}`: there is {}", state.display(), quoted(&names))).into()),
    }
}

fn quoted(names: &[String]) -> String {
    names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ")
}

/// From the first to the last, both included.
struct Hours(Option<Hour>, Option<Hour>);

impl Hours {
    fn of(args: &AuditArgs, now: Time) -> Result<Self, Usage> {
        let read = |flag: &str, text: &Option<String>, of_day: i64| match text {
            None => Ok(None),
            Some(text) => hour(text, of_day, now)
                .map(Some)
                .ok_or_else(|| Usage(format!("{flag}: `{text}` is no hour (such as 2026-01-05T13, 2026-01-05, or 24h ago: 24h)"))),
        };
        Ok(Self(read("--from", &args.from, 0)?, read("--to", &args.to, 23)?))
    }

    fn contains(&self, hour: Hour) -> bool {
        self.0.is_none_or(|first| first <= hour) && self.1.is_none_or(|last| hour <= last)
    }
}

/// Reads `2026-01-05T13`, `2026-01-05` (its hour `of_day`), or how long ago it was.
pub(crate) fn hour(text: &str, of_day: i64, now: Time) -> Option<Hour> {
    let of_date = || Hour::parse(&format!("{text}T00")).map(|midnight| midnight.plus(of_day));
    let ago = || {
        let micros = i64::try_from(duration::parse(text).ok()?.as_micros()).ok()?;
        Some(Hour::of(Time::from_micros(now.micros().checked_sub(micros)?)))
    };
    Hour::parse(text).or_else(of_date).or_else(ago)
}

/// What a line of the table is about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Group {
    hour: Hour,
    venue: String,
    channel: &'static str,
    /// Only where single instruments were asked for.
    instrument: Option<(Market, String)>,
}

/// One line of the table.
#[derive(Debug, Default)]
struct Totals {
    entry: Entry,
    /// By the places of the sinks' names.
    shares: Vec<Share>,
}

impl Totals {
    /// Over all sinks: what they should have, what they were given, and what was given up.
    fn sinks(&self) -> (u64, u64, u64) {
        let sum = |of: fn(&Share) -> u64| self.shares.iter().map(of).sum::<u64>();
        (self.entry.passed * self.shares.len() as u64 + sum(|share| share.told), sum(|share| share.written), sum(|share| share.dropped))
    }

    fn gaps(&self) -> u64 {
        self.entry.gaps + self.shares.iter().map(|share| share.gaps).sum::<u64>()
    }

    /// In hundredths of a percent, rounded down: what is not complete never says 100 %.
    fn complete(&self) -> Option<u64> {
        let (wanted, written, _) = self.sinks();
        // A run that was killed may have kept what it did not write down that it passed on.
        u64::try_from(u128::from(written.min(wanted)) * 10_000 / u128::from(Some(wanted).filter(|wanted| *wanted > 0)?)).ok()
    }
}

/// One ledger, judged.
struct Audit {
    name: String,
    running: bool,
    sinks: Vec<String>,
    rows: BTreeMap<Group, Totals>,
    differences: Vec<Difference>,
    problems: Vec<String>,
    notes: Vec<String>,
}

impl Audit {
    fn of(name: String, ledger: &Ledger, hours: &Hours, symbols: Option<&SymbolFilter>) -> Self {
        let mut sinks: Vec<String> = ledger.runs.values().flat_map(|run| run.sinks.iter().cloned()).collect();
        sinks.sort();
        sinks.dedup();
        let mut audit = Self {
            name,
            running: ledger.running,
            sinks,
            rows: BTreeMap::new(),
            differences: Vec::new(),
            problems: ledger.problems.clone(),
            notes: ledger.notes.clone(),
        };
        for (number, run) in &ledger.runs {
            let goes_on = ledger.is_open(*number);
            audit.differences.extend(run.rows.differences(goes_on));
            let began = stamp(Time::from_micros(*number));
            if goes_on {
                audit.notes.push(format!("the run of {began} goes on; its rows are known until {}", stamp(run.known_until)));
            } else if !run.ended && hours.contains(Hour::of(run.known_until)) {
                let until = stamp(run.known_until);
                audit.problems.push(format!("the run of {began} was killed: what it did after {until} is not in the ledger"));
            }
            for account in [&run.rows, &run.settled] {
                for (key, entry) in &account.entries {
                    if let Some(totals) = audit.totals(key, symbols) {
                        totals.entry += *entry;
                    }
                }
                for (sink, shares) in &account.sinks {
                    let Some(at) = audit.sinks.iter().position(|name| name == sink) else { continue };
                    for (key, share) in shares {
                        if let Some(of_sink) = audit.totals(key, symbols).and_then(|totals| totals.shares.get_mut(at)) {
                            *of_sink += *share;
                        }
                    }
                }
            }
        }
        audit.spread_losses();
        audit
    }

    /// How many events a sink's journal lost is known better than of which channel they were: what the row that was told of them does not
    /// lack is another's, before anything is said to wait.
    fn spread_losses(&mut self) {
        for at in 0..self.sinks.len() {
            let shares = || self.rows.values().filter_map(|totals| totals.shares.get(at));
            let mut room: u64 = shares().map(Share::waiting).sum();
            let mut moved = 0;
            for share in self.rows.values_mut().filter_map(|totals| totals.shares.get_mut(at)) {
                let excess = (share.written + share.lost).saturating_sub(share.kept).min(share.lost).min(room);
                share.lost -= excess;
                room -= excess;
                moved += excess;
            }
            for share in self.rows.values_mut().filter_map(|totals| totals.shares.get_mut(at)) {
                let more = share.waiting().min(moved);
                share.lost += more;
                moved -= more;
            }
        }
    }

    /// The line that a row belongs to, if it is shown.
    fn totals(&mut self, key: &Key, symbols: Option<&SymbolFilter>) -> Option<&mut Totals> {
        if symbols.is_some_and(|symbols| !symbols.is_all() && !symbols.matches(&key.name)) {
            return None;
        }
        let instrument = symbols.map(|_| (key.market, key.name.to_string()));
        let group = Group { hour: key.hour, venue: key.venue.to_string(), channel: Kind::as_str(key.kind), instrument };
        let sinks = self.sinks.len();
        Some(self.rows.entry(group).or_insert_with(|| Totals { shares: vec![Share::default(); sinks], ..Totals::default() }))
    }

    fn balances(&self) -> bool {
        self.differences.is_empty() && self.problems.is_empty()
    }

    fn table(&self, out: &mut String) -> std::fmt::Result {
        writeln!(out, "{}", self.name)?;
        for (at, sink) in self.sinks.iter().enumerate() {
            writeln!(out, "sink {}: {sink}", at + 1)?;
        }
        let mut head: Vec<String> = ["HOUR", "VENUE", "CHANNEL"].map(str::to_owned).to_vec();
        let by_instrument = self.rows.keys().any(|group| group.instrument.is_some());
        if by_instrument {
            head.extend(["MARKET", "SYMBOL"].map(str::to_owned));
        }
        let words = head.len();
        head.extend(["RECEIVED", "DECODED", "NOT ASKED", "UNCHANGED", "DUPLICATE", "PASSED"].map(str::to_owned));
        for at in 1..=self.sinks.len() {
            let number = if self.sinks.len() > 1 { format!(" {at}") } else { String::new() };
            head.extend([format!("WRITTEN{number}"), format!("WAITING{number}"), format!("DROPPED{number}")]);
        }
        head.extend(["GAPS", "REFILLED", "COMPLETE"].map(str::to_owned));
        let mut lines = vec![head];
        for (group, totals) in &self.rows {
            let e = &totals.entry;
            let mut line = vec![group.hour.to_string(), group.venue.clone(), group.channel.to_owned()];
            if let Some((market, name)) = &group.instrument {
                line.extend([market.to_string(), name.clone()]);
            }
            // A record that was passed over is a state that did not change.
            let counts = [e.received, e.decoded, e.not_asked, e.unchanged + e.passed_over, e.duplicate, e.passed];
            line.extend(counts.map(|count| count.to_string()));
            line.extend(totals.shares.iter().flat_map(|share| [share.written, share.waiting(), share.dropped + share.lost].map(|count| count.to_string())));
            line.extend([totals.gaps().to_string(), e.refilled.to_string()]);
            line.push(totals.complete().map_or_else(|| "-".to_owned(), |part| format!("{}.{:02} %", part / 100, part % 100)));
            lines.push(line);
        }
        write_columns(&lines, words, out)?;
        out.push('\n');
        Ok(())
    }

    fn json(&self) -> Value {
        let rows: Vec<Value> = self.rows.iter().map(|(group, totals)| self.row_json(group, totals)).collect();
        let differences: Vec<Value> = self.differences.iter().map(difference_json).collect();
        json!({
            "name": self.name, "running": self.running, "balanced": self.balances(), "sinks": self.sinks,
            "rows": rows, "differences": differences, "problems": self.problems, "notes": self.notes,
        })
    }

    fn row_json(&self, group: &Group, totals: &Totals) -> Value {
        let e = &totals.entry;
        let (_, written, dropped) = totals.sinks();
        let by_sink: serde_json::Map<String, Value> = self.sinks.iter().zip(&totals.shares).map(|(sink, share)| (sink.clone(), sink_json(share))).collect();
        let mut row = json!({
            "hour": stamp(group.hour.start()), "venue": group.venue, "channel": group.channel,
            "received": e.received, "decoded": e.decoded, "passed_over": e.passed_over, "undecodable": e.undecodable, "made": e.made,
            "not_asked": e.not_asked, "unchanged": e.unchanged, "duplicate": e.duplicate, "passed": e.passed,
            "written": written, "waiting": totals.shares.iter().map(Share::waiting).sum::<u64>(), "dropped": dropped, "gaps": totals.gaps(), "refilled": e.refilled, "sinks": by_sink,
        });
        if let Some(row) = row.as_object_mut() {
            if let Some((market, name)) = &group.instrument {
                row.insert("market".into(), market.as_str().into());
                row.insert("symbol".into(), name.as_str().into());
            }
            if let Some(part) = totals.complete() {
                #[expect(clippy::cast_precision_loss, reason = "at most 10000")]
                row.insert("complete".into(), (part as f64 / 10_000.0).into());
            }
        }
        row
    }

    /// What is wrong, and what is worth knowing, for people.
    fn tell(&self, err: &mut impl Write) -> io::Result<()> {
        let name = &self.name;
        for note in &self.notes {
            writeln!(err, "{name}: {note}")?;
        }
        for problem in &self.problems {
            writeln!(err, "{name}: {problem}")?;
        }
        for difference in self.differences.iter().take(TOLD) {
            writeln!(err, "{name}: {difference}")?;
        }
        if self.differences.len() > TOLD {
            writeln!(err, "{name}: and {} more rows that do not balance (--json has all)", self.differences.len() - TOLD)?;
        }
        Ok(())
    }
}

fn sink_json(share: &Share) -> Value {
    json!({
        "told": share.told, "written": share.written, "waiting": share.waiting(), "dropped": share.dropped,
        "kept": share.kept, "resumed": share.resumed, "lost": share.lost,
    })
}

fn difference_json(difference: &Difference) -> Value {
    let Difference { key, sum, left, right } = difference;
    let (sum, sink) = match sum {
        Sum::Received => ("received", None),
        Sum::Decoded => ("decoded", None),
        Sum::Sink(sink) => ("sink", Some(sink)),
    };
    json!({
        "hour": stamp(key.hour.start()), "venue": &*key.venue, "market": key.market.as_str(), "channel": key.kind.as_str(), "symbol": &*key.name,
        "sum": sum, "sink": sink, "left": left, "right": right, "text": difference.to_string(),
    })
}

/// Words to the left, numbers to the right.
fn write_columns(lines: &[Vec<String>], words: usize, out: &mut String) -> std::fmt::Result {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column: usize| lines.iter().filter_map(|line| line.get(column)).map(|cell| cell.chars().count()).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    for line in lines {
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            let gap = if column == 0 { "" } else { "  " };
            if column < words {
                write!(out, "{gap}{cell:<width$}")?;
            } else {
                write!(out, "{gap}{cell:>width$}")?;
            }
        }
        out.push('\n');
    }
    Ok(())
}

/// A time to the second.
fn stamp(time: Time) -> String {
    let text = time.to_string();
    format!("{}Z", text.split('.').next().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hours_are_named_or_so_long_ago() {
        let now = Hour::parse("2026-01-05T13").unwrap().start();
        let read = |text, of_day| hour(text, of_day, now).map(|hour| hour.to_string());
        assert_eq!(read("2026-01-04T07", 0).as_deref(), Some("2026-01-04T07"));
        assert_eq!(read("2026-01-04", 0).as_deref(), Some("2026-01-04T00"));
        assert_eq!(read("2026-01-04", 23).as_deref(), Some("2026-01-04T23"));
        assert_eq!(read("24h", 0).as_deref(), Some("2026-01-04T13"));
        assert_eq!(read("yesterday", 0), None);
    }

    #[test]
    fn what_the_journal_lost_does_not_wait() {
        let share = |kept, written, lost| Share { kept, written, lost, ..Share::default() };
        let group = |channel| Group { hour: Hour::default(), venue: String::new(), channel, instrument: None };
        let audit = |shares: [Share; 3]| {
            let rows = ["book", "quote", "trade"].into_iter().map(group).zip(shares.map(|share| Totals { shares: vec![share], ..Totals::default() }));
            let (differences, problems, notes) = (Vec::new(), Vec::new(), Vec::new());
            let mut audit = Audit { name: String::new(), running: false, sinks: vec!["redis:".into()], rows: rows.collect(), differences, problems, notes };
            audit.spread_losses();
            audit.rows.into_values().map(|totals| (totals.shares[0].waiting(), totals.shares[0].lost)).collect::<Vec<_>>()
        };
        assert_eq!(audit([share(50, 10, 20), share(20, 15, 20), share(10, 10, 5)]), [(0, 40), (0, 5), (0, 0)], "all that is not written is lost");
        assert_eq!(audit([share(50, 60, 2), share(20, 15, 5), share(10, 10, 0)]), [(0, 2), (0, 5), (0, 0)], "none is forgotten");
        assert_eq!(audit([share(50, 10, 20), share(20, 15, 5), share(10, 10, 0)]), [(20, 20), (0, 5), (0, 0)], "the rest waits");
    }

    #[test]
    fn what_is_not_complete_never_says_that_it_is() {
        let totals = |passed, written| Totals {
            entry: Entry { passed, ..Entry::default() },
            shares: vec![Share { written, dropped: passed - written, ..Share::default() }],
        };
        assert_eq!(totals(1_000_000, 999_999).complete(), Some(9999));
        assert_eq!(totals(5, 5).complete(), Some(10_000));
        assert_eq!(totals(0, 0).complete(), None);
    }
}
