//! Rate budgets: never more than a venue allows in any window, wherever the window begins.
//!
//! A venue counts by address, not by process. [`Budgets`] are therefore what may be written down ([`Budgets::line`]) and
//! read by another process or a later one; how that is shared is not decided here.

mod saved;

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

pub use saved::Unreadable;

use crate::event::Channel;
use crate::profile::Limit;
use crate::time::Time;

/// How much of a venue's budget is used at most, in percent: its count and ours may differ.
const SHARE: u64 = 90;
/// Spendings are kept in so many slots a window: finer costs memory, coarser wastes budget.
const SLOTS: i64 = 100;
/// No venue counts so far: what is beyond it is an error of whoever said so.
const MOST: u64 = u32::MAX as u64;

/// What a request is for, the most urgent first. Where a budget is short, what is less urgent waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Class {
    /// A snapshot for a book that is stopped without it.
    Snapshot,
    /// Funding, and the instruments on which everything else depends.
    Funding,
    /// What is asked for all the time.
    Rest,
    /// What could as well be asked for later: history, and whether something quiet is stale.
    Backfill,
}

impl Class {
    /// All of them, the most urgent first.
    pub const ALL: [Self; 4] = [Self::Snapshot, Self::Funding, Self::Rest, Self::Backfill];

    /// The class of a request that serves these channels.
    pub fn of(channels: &[Channel]) -> Self {
        let funding = |channel: &Channel| matches!(channel, Channel::Instrument | Channel::Funding | Channel::FundingSettled);
        if channels.iter().any(funding) { Self::Funding } else { Self::Rest }
    }

    /// Whether this waits where a request of the `other` class was one too many for the budget: it would otherwise use up,
    /// bit by bit, what the other one waits for.
    pub fn waits_for(self, other: Self) -> bool {
        // Funding has a part of its own, which no snapshot can take.
        self >= other && (self, other) != (Self::Funding, Self::Snapshot)
    }

    /// Up to how much of a budget this class may fill it, in percent. All books that begin anew at once take minutes of a
    /// budget: funding goes on meanwhile in its last tenth, and nothing else takes so much that books could not begin.
    fn ceiling(self) -> u64 {
        match self {
            Self::Snapshot => 90,
            Self::Funding => 100,
            Self::Rest => 80,
            Self::Backfill => 50,
        }
    }
}

/// How much a limit allows, by the venue's own word.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Allowance {
    /// The limit's name in the venue's description.
    pub limit: String,
    /// Units: requests, or weight.
    pub budget: u32,
    /// The window in which so many may be spent.
    pub window: Duration,
}

impl Allowance {
    /// Whether this leaves less room than another one in the long run.
    pub(crate) fn is_tighter_than(&self, other: &Self) -> bool {
        u128::from(self.budget) * other.window.as_micros() < u128::from(other.budget) * self.window.as_micros()
    }
}

/// One budget. All times are the caller's.
#[derive(Debug, Clone)]
pub struct Budget {
    capacity: u64,
    window: i64,
    /// When each slot of time ends, and what was spent in it.
    spent: VecDeque<(i64, u64)>,
    used: u64,
    blocked_until: Time,
}

impl Budget {
    /// A budget of which nothing is used.
    pub fn new(limit: &Limit) -> Self {
        let capacity = (u64::from(limit.budget) * SHARE / 100).max(1);
        Self {
            capacity,
            window: i64::try_from(limit.window.as_micros()).unwrap_or(i64::MAX).max(1),
            spent: VecDeque::new(),
            used: 0,
            blocked_until: Time::EPOCH,
        }
    }

    /// A budget that may be used up: for client frames, where the venue counts as we do.
    pub fn exact(limit: &Limit) -> Self {
        Self { capacity: u64::from(limit.budget).max(1), ..Self::new(limit) }
    }

    /// From now on, this is the limit. What was spent stays spent.
    fn allow(&mut self, limit: &Limit) {
        let Self { capacity, window, .. } = Self::new(limit);
        (self.capacity, self.window) = (capacity, window);
    }

    /// Spends `cost` if that is possible now.
    ///
    /// # Errors
    /// The time at which it will be possible, if nothing else is spent until then.
    pub fn spend(&mut self, now: Time, cost: u32) -> Result<(), Time> {
        self.spend_up_to(now, cost, self.capacity)
    }

    /// Whether [`Budget::spend`] would.
    ///
    /// # Errors
    /// As there.
    pub fn allows(&mut self, now: Time, cost: u32) -> Result<(), Time> {
        self.allows_up_to(now, cost, self.capacity)
    }

    /// Spends `cost` if no more than `ceiling` is used then.
    fn spend_up_to(&mut self, now: Time, cost: u32, ceiling: u64) -> Result<(), Time> {
        self.allows_up_to(now, cost, ceiling)?;
        let cost = u64::from(cost).min(self.capacity);
        let slot = self.slot_end(now);
        match self.spent.back_mut() {
            Some((end, spent)) if *end >= slot => *spent += cost,
            _ => self.spent.push_back((slot, cost)),
        }
        self.used += cost;
        Ok(())
    }

    fn allows_up_to(&mut self, now: Time, cost: u32, ceiling: u64) -> Result<(), Time> {
        if now < self.blocked_until {
            return Err(self.blocked_until);
        }
        self.expire(now);
        let cost = u64::from(cost).min(self.capacity);
        // What costs more than everything waits until nothing is used.
        let ceiling = ceiling.clamp(cost, self.capacity);
        if self.used + cost <= ceiling {
            return Ok(());
        }
        let mut used = self.used;
        for &(end, spent) in &self.spent {
            used -= spent;
            if used + cost <= ceiling {
                return Err(Time::from_micros(end.saturating_add(self.window)));
            }
        }
        Err(now + Duration::from_micros(self.window.unsigned_abs()))
    }

    /// The venue says how much of the current window is used: what it counts beyond ours (another process, another
    /// way of counting) counts here, too.
    pub fn observe(&mut self, now: Time, used: u64) {
        self.expire(now);
        let used = used.min(MOST);
        if used > self.used {
            let more = used - self.used;
            let slot = self.slot_end(now);
            self.spent.push_back((slot.max(self.spent.back().map_or(0, |(end, _)| *end)), more));
            self.used += more;
        }
    }

    /// Nothing is spent before `until`.
    pub fn block(&mut self, until: Time) {
        self.blocked_until = self.blocked_until.max(until);
    }

    /// Until when nothing is spent.
    pub fn blocked_until(&self) -> Time {
        self.blocked_until
    }

    /// How much of the window that ends now is used, and how much there is.
    pub fn usage(&mut self, now: Time) -> (u64, u64) {
        self.expire(now);
        (self.used, self.capacity)
    }

    /// A slot's spendings count from the slot's end: late rather than early.
    fn slot_end(&self, now: Time) -> i64 {
        let slot = (self.window / SLOTS).max(1);
        (now.micros().div_euclid(slot) + 1).saturating_mul(slot)
    }

    fn expire(&mut self, now: Time) {
        while let Some(&(end, spent)) = self.spent.front() {
            if end.saturating_add(self.window) > now.micros() {
                break;
            }
            self.used -= spent;
            self.spent.pop_front();
        }
    }
}

/// A host's budgets by the names that requests have for them, made when they are first asked for: where each endpoint has
/// its own, there are many. And until when the host wants to hear nothing at all.
#[derive(Debug, Clone, Default)]
pub struct Budgets {
    limits: BTreeMap<String, Limit>,
    made: BTreeMap<String, Budget>,
    banned_until: Time,
    /// The time of the state that was written or read last.
    written: Time,
}

impl Budgets {
    /// Budgets of which nothing is used.
    pub fn new(limits: BTreeMap<String, Limit>) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The budget of that name: `limit`, or `limit/endpoint`.
    pub fn get(&mut self, name: &str) -> Option<&mut Budget> {
        if !self.made.contains_key(name) {
            let budget = Budget::new(self.limit(name)?);
            self.made.insert(name.to_owned(), budget);
        }
        self.made.get_mut(name)
    }

    /// The limit of that name is another one from now on: budgets that were made of it follow, and what was spent stays
    /// spent. Nothing happens to a name that has no limit.
    pub fn allow(&mut self, name: &str, budget: u32, window: Duration) {
        let Some(limit) = self.limits.get_mut(root(name)) else { return };
        (limit.budget, limit.window) = (budget, window);
        for (_, made) in self.made.iter_mut().filter(|(made, _)| root(made) == root(name)) {
            made.allow(limit);
        }
    }

    fn limit(&self, name: &str) -> Option<&Limit> {
        self.limits.get(root(name))
    }

    /// Spends `cost` of the budget of that name, as far as the class may fill it. What has no budget is free.
    ///
    /// # Errors
    /// The time at which it will be possible, if nothing else is spent until then.
    pub fn spend(&mut self, now: Time, name: &str, cost: u32, class: Class) -> Result<(), Time> {
        if now < self.banned_until {
            return Err(self.banned_until);
        }
        self.draw(now, name, cost, class)
    }

    /// [`Budgets::spend`] for a request to another host, of which this one's ban says nothing: some limits are of several.
    ///
    /// # Errors
    /// As there.
    pub fn draw(&mut self, now: Time, name: &str, cost: u32, class: Class) -> Result<(), Time> {
        // Nothing more urgent draws on an endpoint's own budget.
        let own = self.limit(name).is_some_and(|limit| limit.per_endpoint) && class != Class::Backfill;
        let Some(budget) = self.get(name) else { return Ok(()) };
        let ceiling = if own { budget.capacity } else { (budget.capacity * class.ceiling()).div_ceil(100) };
        budget.spend_up_to(now, cost, ceiling)
    }

    /// Nothing is spent of any before `until`.
    pub fn ban(&mut self, until: Time) {
        self.banned_until = self.banned_until.max(until);
    }

    /// Until when nothing is spent of any.
    pub fn banned_until(&self) -> Time {
        self.banned_until
    }
}

/// The limit of a name: `limit`, or `limit/endpoint`.
fn root(name: &str) -> &str {
    name.split('/').next().unwrap_or(name)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit(budget: u32, seconds: u64) -> Limit {
        Limit::new(budget, Duration::from_secs(seconds))
    }

    /// Whatever is asked for and whenever, no window holds more than the budget.
    #[test]
    fn no_window_exceeds_its_budget() {
        for seed in 0..50 {
            let mut rng = fastrand::Rng::with_seed(seed);
            let mut budget = Budget::new(&limit(100, 10));
            let mut now = Time::from_micros(1_763_640_000_000_000);
            let mut spent: Vec<(Time, u64)> = Vec::new();
            for _ in 0..2000 {
                let cost = rng.u32(1..40);
                match budget.spend(now, cost) {
                    Ok(()) => spent.push((now, u64::from(cost))),
                    Err(at) => {
                        assert!(at > now, "a refusal names a later time");
                        if rng.bool() {
                            now = at;
                            assert_eq!(budget.spend(now, cost), Ok(()), "and keeps its word");
                            spent.push((now, u64::from(cost)));
                        }
                    }
                }
                now = now + Duration::from_millis(rng.u64(0..700));
            }
            for (at, (end, _)) in spent.iter().enumerate() {
                let window: u64 = spent[..=at].iter().filter(|(time, _)| end.since(*time) < Duration::from_secs(10)).map(|(_, cost)| cost).sum();
                assert!(window <= 90, "seed {seed}: {window} in a window");
            }
        }
    }

    #[test]
    fn the_venues_count_goes_before_ours() {
        let mut budget = Budget::new(&limit(100, 10));
        let now = Time::from_millis(1000);
        budget.observe(now, 85);
        assert!(budget.spend(now, 6).is_err());
        assert_eq!(budget.spend(now, 5), Ok(()));
        assert_eq!(budget.usage(now), (90, 90));
        assert_eq!(budget.usage(now + Duration::from_secs(11)), (0, 90));
    }

    #[test]
    fn a_blocked_budget_spends_nothing() {
        let mut budget = Budget::new(&limit(100, 10));
        let until = Time::from_millis(120_000);
        budget.block(until);
        budget.block(Time::from_millis(60_000));
        assert_eq!(budget.spend(Time::from_millis(119_999), 1), Err(until));
        assert_eq!(budget.spend(until, 1), Ok(()));
    }

    #[test]
    fn what_the_venue_allows_holds_at_once_and_what_was_spent_stays_spent() {
        let mut budgets = Budgets::new(BTreeMap::from([("all".to_owned(), limit(100, 10)), ("each".to_owned(), limit(100, 10))]));
        let now = Time::from_millis(1_000_000);
        let spend = |budgets: &mut Budgets, now, name: &str, cost| budgets.spend(now, name, cost, Class::Funding);
        for name in ["all", "each/a"] {
            assert_eq!(spend(&mut budgets, now, name, 50), Ok(()));
        }
        budgets.allow("all", 60, Duration::from_secs(20));
        assert_eq!(spend(&mut budgets, now, "all", 4), Ok(()));
        assert!(spend(&mut budgets, now, "all", 1).is_err(), "54 of 60");
        assert!(spend(&mut budgets, now + Duration::from_secs(19), "all", 1).is_err(), "the window is longer, too");
        assert_eq!(spend(&mut budgets, now + Duration::from_secs(21), "all", 54), Ok(()));
        budgets.allow("each/a", 1000, Duration::from_secs(10));
        for (name, cost) in [("each/a", 850), ("each/b", 900)] {
            assert_eq!(spend(&mut budgets, now, name, cost), Ok(()), "{name}");
            assert!(spend(&mut budgets, now, name, 1).is_err(), "{name}");
        }
        budgets.allow("none", 1, Duration::from_secs(1));
        assert_eq!(spend(&mut budgets, now, "none", 1000), Ok(()), "what has no limit gets none");
    }

    #[test]
    fn each_endpoint_may_have_its_own() {
        let mut budgets = Budgets::new(BTreeMap::from([("each".to_owned(), limit(10, 1))]));
        let now = Time::from_millis(1_000_000);
        for name in ["each/a", "each/b"] {
            assert_eq!(budgets.get(name).unwrap().spend(now, 9), Ok(()), "{name}");
        }
        assert!(budgets.get("each/a").unwrap().spend(now, 1).is_err());
        assert!(budgets.get("none").is_none());
        for name in ["each/c", "none"] {
            assert_eq!(budgets.spend(now, name, 1, Class::Snapshot), Ok(()), "{name}");
        }
        let until = now + Duration::from_secs(9);
        budgets.ban(until);
        budgets.ban(now);
        for name in ["each/a", "each/d", "none"] {
            assert_eq!(budgets.spend(now, name, 1, Class::Snapshot), Err(until), "{name}");
        }
        assert_eq!(budgets.spend(until, "each/d", 1, Class::Snapshot), Ok(()));
    }

    #[test]
    fn what_is_less_urgent_leaves_something() {
        let now = Time::from_millis(1_000_000);
        let fill = |budgets: &mut Budgets, name: &str, class| (0..1000).take_while(|_| budgets.spend(now, name, 1, class).is_ok()).count();
        let limits = BTreeMap::from([("all".to_owned(), limit(200, 1)), ("each".to_owned(), Limit { per_endpoint: true, ..limit(200, 1) })]);
        let mut budgets = Budgets::new(limits.clone());
        let filled = [Class::Backfill, Class::Rest, Class::Snapshot, Class::Funding].map(|class| fill(&mut budgets, "all", class));
        assert_eq!(filled, [90, 54, 18, 18]);
        let filled = [Class::Backfill, Class::Rest, Class::Snapshot].map(|class| fill(&mut budgets, "each/x", class));
        assert_eq!(filled, [90, 90, 0], "but of its own budget");
        let mut budgets = Budgets::new(limits);
        assert_eq!(budgets.spend(now, "all", 500, Class::Backfill), Ok(()), "what costs more than its part waits until nothing is used");
        let later = budgets.spend(now, "all", 100, Class::Backfill).unwrap_err();
        assert_eq!(budgets.spend(later, "all", 100, Class::Backfill), Ok(()));
    }

    /// All of a venue's books begin anew at once, by two processes, beside what is asked for every few seconds: no window
    /// is overdrawn, each snapshot comes, funding goes on.
    #[test]
    fn all_books_at_once_stay_within_the_budget() {
        let start = Time::from_micros(1_763_640_000_000_000);
        let mut budgets = Budgets::new(BTreeMap::from([("linear".to_owned(), limit(2400, 60))]));
        let mut spent: Vec<(Time, u64)> = Vec::new();
        let (mut waiting, mut funding, mut rest) = ([250, 250], 0, 0);
        for tick in 0..60_000 {
            let now = start + Duration::from_millis(10 * tick);
            let process = usize::from(tick % 2 == 0);
            if waiting[process] > 0 && budgets.spend(now, "linear", 20, Class::Snapshot).is_ok() {
                waiting[process] -= 1;
                spent.push((now, 20));
            }
            if tick % 500 == 0 {
                assert_eq!(budgets.spend(now, "linear", 10, Class::Funding), Ok(()), "at {now}");
                funding += 1;
                spent.push((now, 10));
                if budgets.spend(now, "linear", 40, Class::Rest).is_ok() {
                    rest += 1;
                    spent.push((now, 40));
                }
            }
        }
        assert_eq!((waiting, funding), ([0, 0], 120));
        assert!(rest > 0);
        for (at, (end, _)) in spent.iter().enumerate() {
            let window: u64 = spent[..=at].iter().rev().take_while(|(time, _)| end.since(*time) < Duration::from_mins(1)).map(|(_, cost)| cost).sum();
            assert!(window <= 2160, "{window} in the minute before {end}");
        }
    }
}
