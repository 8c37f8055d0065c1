//! Budgets as one line of text: what another process needs to know of what was spent, and a later one of who is banned.
//!
//! Its times are those of a wall clock, the only one that processes have in common. Where that was set back since the line
//! was written, what was spent and until when is shut counts from now on as it did then: nobody waits for the year from
//! which the clock came back.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Budget, Budgets, MOST};
use crate::time::Time;

/// Raised when an older program would misread the line.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Line<'a> {
    v: u32,
    /// When it was written. This and all other times in microseconds.
    at: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    banned_until: i64,
    #[serde(borrow)]
    limits: BTreeMap<&'a str, Entry>,
}

#[derive(Serialize, Deserialize)]
struct Entry {
    #[serde(default, skip_serializing_if = "is_zero")]
    blocked_until: i64,
    /// The end of each slot of time, and what was spent in it.
    spent: Vec<(i64, u64)>,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// Why a line is not to be had.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unreadable {
    /// Broken off, or something else altogether.
    #[error("it is damaged: {0}")]
    Damaged(String),
    /// Of another version of this program, which may still use it.
    #[error("it is of another version ({0}, not {VERSION})")]
    Version(u32),
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde wants it")]
fn is_zero(time: &i64) -> bool {
    *time == 0
}

impl Budgets {
    /// What is to be known of them, in one line without its end.
    pub fn line(&mut self, now: Time) -> String {
        self.written = now;
        let mut limits = BTreeMap::new();
        for (name, budget) in &mut self.made {
            budget.expire(now);
            let blocked_until = budget.blocked_until.micros();
            if now < budget.blocked_until || !budget.spent.is_empty() {
                limits.insert(name.as_str(), Entry { blocked_until, spent: budget.spent.iter().copied().collect() });
            }
        }
        let line = Line { v: VERSION, at: now.micros(), banned_until: self.banned_until.micros(), limits };
        // Numbers and names: there is nothing in it that JSON could not say.
        serde_json::to_string(&line).unwrap_or_default()
    }

    /// Takes over what a line says in the place of what is known here.
    ///
    /// # Errors
    /// [`Unreadable`]; nothing has changed then.
    pub fn read(&mut self, line: &str) -> Result<(), Unreadable> {
        let damaged = |error: serde_json::Error| Unreadable::Damaged(error.to_string());
        let version: Version = serde_json::from_str(line).map_err(damaged)?;
        if version.v != VERSION {
            return Err(Unreadable::Version(version.v));
        }
        let line: Line<'_> = serde_json::from_str(line).map_err(damaged)?;
        self.made.retain(|name, _| line.limits.contains_key(name.as_str()));
        for (name, entry) in line.limits {
            // A limit that another program has, and this one has not, is not drawn on here.
            let Some(budget) = self.get(name) else { continue };
            budget.restore(entry, line.at);
        }
        self.banned_until = Time::from_micros(line.banned_until);
        self.written = Time::from_micros(line.at);
        Ok(())
    }

    /// Takes over what is known elsewhere and may be missing here, as if the venue had said it.
    pub fn include(&mut self, mut other: Self, now: Time) {
        other.set_back(now);
        self.ban(other.banned_until);
        for (name, known) in &mut other.made {
            if let Some(budget) = self.get(name) {
                budget.observe(now, known.usage(now).0);
                budget.block(known.blocked_until);
            }
        }
    }

    /// Makes up for a clock that was set back since all this was written; whether it was.
    pub fn set_back(&mut self, now: Time) -> bool {
        let by = self.written.since(now);
        if by.is_zero() {
            return false;
        }
        self.banned_until = earlier(self.banned_until, by);
        for budget in self.made.values_mut() {
            budget.blocked_until = earlier(budget.blocked_until, by);
            for (end, _) in &mut budget.spent {
                *end = earlier(Time::from_micros(*end), by).micros();
            }
        }
        self.written = now;
        true
    }
}

impl Budget {
    /// Nothing was spent later than `at`, when this was written, and nobody counts further than the venue.
    fn restore(&mut self, entry: Entry, at: i64) {
        let latest = at.saturating_add(self.window);
        self.blocked_until = Time::from_micros(entry.blocked_until);
        self.spent = entry.spent.into_iter().map(|(end, spent)| (end.min(latest), spent.min(MOST))).collect();
        // It is taken off in the order in which it was spent.
        self.spent.make_contiguous().sort_unstable();
        self.used = self.spent.iter().map(|(_, spent)| spent).sum();
    }
}

fn earlier(time: Time, by: Duration) -> Time {
    Time::from_micros(time.micros().saturating_sub(i64::try_from(by.as_micros()).unwrap_or(i64::MAX)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Class;
    use crate::profile::Limit;

    fn limits() -> BTreeMap<String, Limit> {
        let limit = Limit::new(100, Duration::from_secs(10));
        BTreeMap::from([("one".to_owned(), limit.clone()), ("each".to_owned(), Limit { per_endpoint: true, ..limit })])
    }

    fn budgets() -> Budgets {
        Budgets::new(limits())
    }

    const START: Time = Time::from_micros(1_763_640_000_000_000);

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    #[test]
    fn what_is_written_is_read() {
        let mut first = budgets();
        first.spend(START, "one", 60, Class::Funding).unwrap();
        first.spend(START + seconds(1), "one", 20, Class::Funding).unwrap();
        first.get("each/x").unwrap().block(START + seconds(30));
        first.ban(START + seconds(5));
        let line = first.line(START + seconds(2));
        let mut second = budgets();
        second.get("each/y").unwrap().block(START + seconds(99));
        second.read(&line).unwrap();
        for now in [2, 5, 11, 12, 29, 30].map(|at| START + seconds(at)) {
            for name in ["one", "each/x", "each/y"] {
                assert_eq!(second.spend(now, name, 11, Class::Funding), first.spend(now, name, 11, Class::Funding), "{name} at {now}");
            }
            assert_eq!(first.line(now), second.line(now));
        }
        assert_eq!(budgets().line(START), format!(r#"{{"v":1,"at":{},"limits":{{}}}}"#, START.micros()));
    }

    /// Two processes that write and read in turn, as a lock makes them, are one to the venue; each begins anew at times.
    #[test]
    fn no_window_exceeds_its_budget_between_processes() {
        for seed in 0..30 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut both = [budgets(), budgets()];
            let mut line = budgets().line(START);
            let mut now = START;
            let mut spent: Vec<(Time, u64)> = Vec::new();
            for _ in 0..1000 {
                let process = &mut both[rng.usize(0..2)];
                if rng.u8(0..20) == 0 {
                    *process = budgets();
                }
                process.read(&line).unwrap();
                let cost = rng.u32(1..30);
                if process.spend(now, "one", cost, Class::Funding).is_ok() {
                    line = process.line(now);
                    spent.push((now, u64::from(cost)));
                }
                now = now + Duration::from_millis(rng.u64(0..700));
            }
            assert!(spent.len() > 50);
            for (at, (end, _)) in spent.iter().enumerate() {
                let window: u64 = spent[..=at].iter().filter(|(time, _)| end.since(*time) < seconds(10)).map(|(_, cost)| cost).sum();
                assert!(window <= 90, "seed {seed}: {window} in a window");
            }
        }
    }

    #[test]
    fn what_is_damaged_changes_nothing() {
        let mut written = budgets();
        written.spend(START, "one", 90, Class::Funding).unwrap();
        let line = written.line(START);
        let mut reader = budgets();
        reader.ban(START + seconds(7));
        for end in 0..line.len() {
            assert!(matches!(reader.read(&line[..end]), Err(Unreadable::Damaged(_))), "{end}");
        }
        for other in ["[]", "null", "\0\0\0", r#"{"v":1,"at":0,"limits":{"one":{"spent":[[1]]}}}"#] {
            assert!(matches!(reader.read(other), Err(Unreadable::Damaged(_))), "{other}");
        }
        assert_eq!(reader.read(&line.replacen(":1", ":2", 1)), Err(Unreadable::Version(2)));
        assert_eq!((reader.banned_until(), reader.get("one").unwrap().usage(START)), (START + seconds(7), (0, 90)));
        // Numbers that nobody has written are no reason to fail.
        let huge = format!(
            r#"{{"v":1,"at":{0},"banned_until":{1},"limits":{{"one":{{"blocked_until":{1},"spent":[[{1},{2}],[5,{2}]]}},"gone":{{"spent":[]}}}}}}"#,
            START.micros(),
            i64::MAX,
            u64::MAX
        );
        reader.read(&huge).unwrap();
        assert_eq!(reader.spend(START, "one", 1, Class::Funding), Err(Time::MAX));
        reader.banned_until = Time::EPOCH;
        assert_eq!(reader.spend(START, "one", 1, Class::Funding), Err(Time::MAX));
        reader.get("one").unwrap().blocked_until = Time::EPOCH;
        assert!(reader.spend(START, "one", 1, Class::Funding).is_err());
        reader.get("one").unwrap().observe(START, u64::MAX);
        assert_eq!(reader.spend(START + seconds(20), "one", 1, Class::Funding), Ok(()), "nor to wait for ever");
    }

    #[test]
    fn a_clock_that_was_set_back_prolongs_nothing() {
        let mut budgets = budgets();
        budgets.spend(START, "one", 90, Class::Funding).unwrap();
        budgets.get("each/x").unwrap().block(START + seconds(20));
        budgets.ban(START + seconds(5));
        assert!(!budgets.set_back(START));
        let line = budgets.line(START + seconds(1));
        let hour = earlier(START + seconds(1), seconds(3600));
        budgets.read(&line).unwrap();
        assert!(budgets.set_back(hour) && !budgets.set_back(hour));
        assert_eq!(budgets.banned_until(), hour + seconds(4), "as long as was left of it");
        assert_eq!(budgets.get("each/x").unwrap().blocked_until(), hour + seconds(19));
        assert!(budgets.spend(hour + seconds(8), "one", 1, Class::Funding).is_err());
        assert_eq!(budgets.spend(hour + seconds(10), "one", 90, Class::Funding), Ok(()));
    }
}
