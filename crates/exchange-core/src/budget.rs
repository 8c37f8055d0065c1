//! Rate budgets: never more than a venue allows in any window, wherever the window begins.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crate::profile::Limit;
use crate::time::Time;

/// How much of a venue's budget is used at most, in percent: its count and ours may differ.
const SHARE: u64 = 90;
/// Spendings are kept in so many slots a window: finer costs memory, coarser wastes budget.
const SLOTS: i64 = 100;

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

    /// Spends `cost` if that is possible now.
    ///
    /// # Errors
    /// The time at which it will be possible, if nothing else is spent until then.
    pub fn spend(&mut self, now: Time, cost: u32) -> Result<(), Time> {
        if now < self.blocked_until {
            return Err(self.blocked_until);
        }
        self.expire(now);
        // What costs more than everything waits until nothing is used.
        let cost = u64::from(cost).min(self.capacity);
        if self.used + cost <= self.capacity {
            let slot = self.slot_end(now);
            match self.spent.back_mut() {
                Some((end, spent)) if *end >= slot => *spent += cost,
                _ => self.spent.push_back((slot, cost)),
            }
            self.used += cost;
            return Ok(());
        }
        let mut free = self.capacity - self.used;
        for &(end, spent) in &self.spent {
            free += spent;
            if free >= cost {
                return Err(Time::from_micros(end.saturating_add(self.window)));
            }
        }
        Err(now + Duration::from_micros(self.window.unsigned_abs()))
    }

    /// The venue says how much of the current window is used: what it counts beyond ours (another process, another
    /// way of counting) counts here, too.
    pub fn observe(&mut self, now: Time, used: u64) {
        self.expire(now);
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

/// A venue's budgets by the names that requests have for them, made when they are first asked for: where each endpoint has
/// its own, there are many.
#[derive(Debug, Default)]
pub struct Budgets {
    limits: BTreeMap<String, Limit>,
    made: BTreeMap<String, Budget>,
    blocked_until: Time,
}

impl Budgets {
    /// Budgets of which nothing is used.
    pub fn new(limits: BTreeMap<String, Limit>) -> Self {
        Self { limits, ..Self::default() }
    }

    /// The budget of that name: `limit`, or `limit/endpoint`.
    pub fn get(&mut self, name: &str) -> Option<&mut Budget> {
        if !self.made.contains_key(name) {
            let limit = self.limits.get(name.split('/').next().unwrap_or(name))?;
            let mut budget = Budget::new(limit);
            budget.block(self.blocked_until);
            self.made.insert(name.to_owned(), budget);
        }
        self.made.get_mut(name)
    }

    /// Nothing is spent of any before `until`.
    pub fn block(&mut self, until: Time) {
        self.blocked_until = self.blocked_until.max(until);
        for budget in self.made.values_mut() {
            budget.block(until);
        }
    }
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
    fn each_endpoint_may_have_its_own() {
        let mut budgets = Budgets::new(BTreeMap::from([("each".to_owned(), limit(10, 1))]));
        let now = Time::from_millis(1_000_000);
        for name in ["each/a", "each/b"] {
            assert_eq!(budgets.get(name).unwrap().spend(now, 9), Ok(()), "{name}");
        }
        assert!(budgets.get("each/a").unwrap().spend(now, 1).is_err());
        assert!(budgets.get("none").is_none());
        budgets.block(now + Duration::from_secs(9));
        assert_eq!(budgets.get("each/c").unwrap().spend(now, 1), Err(now + Duration::from_secs(9)), "also one that is made later");
    }
}
