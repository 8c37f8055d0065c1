//! What is asked next: the most urgent first, as far as budgets, circuits and places allow.

use exchange_core::Request;
use exchange_core::Time;
use exchange_core::budget::Class;
use exchange_core::pipeline::Next;

use super::gate::Short;
use super::scheduled::Scheduled;
use super::{Done, Purpose, VenueActor};

/// Requests under way at once.
const CONCURRENCY: usize = 16;
/// How many of them may be sweeps: the others must find a place.
const SWEEPING: usize = 8;
/// How many may be for what was missed.
const REFILLING: usize = 4;
/// How many holes are looked at when budgets do not allow to ask for the first: another's may.
const REFILLS_LOOKED_AT: usize = 16;

impl VenueActor {
    /// Starts what is due; when to look again.
    pub(super) async fn launch(&mut self) -> Option<Time> {
        let now = self.shared.clock.now();
        if now < self.asleep_until {
            return Some(self.asleep_until);
        }
        let mut wake: Option<Time> = None;
        let mut later = |at: Option<Time>| wake = [wake, at].into_iter().flatten().min();
        later(self.fading.values().copied().min());
        let mut short = Short::default();
        for class in Class::ALL {
            later(self.launch_urgent(now, class, &mut short));
            later(self.launch_due(now, class, &mut short));
            if class == Class::Rest {
                later(self.launch_sweeps(now, &mut short));
            }
            if class == Class::Backfill {
                later(self.launch_refills(now, &mut short).await);
            }
        }
        // With all places taken, the next answer wakes us.
        wake.filter(|_| self.running.len() < CONCURRENCY)
    }

    /// Asks for what was missed: behind everything that is due, and out of the sweeps' part of the budgets.
    async fn launch_refills(&mut self, now: Time, short: &mut Short) -> Option<Time> {
        let mut earliest: Option<Time> = None;
        for _ in 0..REFILLS_LOOKED_AT {
            if self.running.len() >= CONCURRENCY || self.refilling >= REFILLING {
                return None;
            }
            let next = self.shared.pipeline().next_refill(now, self.shared.clock.wall());
            let (channel, instrument, request) = match next? {
                Next::Wait(at) => return Some(at),
                Next::Tell(mut events) => {
                    self.shared.count_refills(&events);
                    self.shared.deliver(&mut events, None).await;
                    continue;
                }
                Next::Ask(channel, instrument, request) => (channel, instrument, request),
            };
            let refused = self.gate.pass_in_share(now, &request, || short.spend(&self.shared.limits, &request, Class::Backfill)).err();
            self.shared.pipeline().refill_asked(channel, &instrument, refused);
            match refused {
                Some(at) => earliest = Some(earliest.map_or(at, |earliest| earliest.min(at))),
                None => self.ask(Purpose::Refill(channel, instrument), request, false),
            }
        }
        earliest.or(Some(now))
    }

    /// Asks what connections and further pages wait for.
    fn launch_urgent(&mut self, now: Time, class: Class, short: &mut Short) -> Option<Time> {
        let mut wake: Option<Time> = None;
        for _ in 0..self.urgent.len() {
            let Some((purpose, request, page)) = self.urgent.pop_front() else { break };
            if self.running.len() < CONCURRENCY && self.class(&purpose) == class {
                match self.may_ask(now, &request, class, short) {
                    Ok(()) => {
                        self.ask(purpose, request, page);
                        continue;
                    }
                    Err(at) => wake = Some(wake.map_or(at, |wake| wake.min(at))),
                }
            }
            // Once around, and the order is as before.
            self.urgent.push_back((purpose, request, page));
        }
        wake
    }

    fn launch_due(&mut self, now: Time, class: Class, short: &mut Short) -> Option<Time> {
        let is_due = |s: &Scheduled| !s.poll.sweep && s.running == 0 && !s.is_over(self.options.once) && s.class() == class;
        let due: Vec<(Time, String)> = self.schedule.iter().filter(|(_, s)| is_due(s)).map(|(key, s)| (s.due, key.clone())).collect();
        let mut wake: Option<Time> = None;
        for (due, key) in due {
            let Some(scheduled) = self.schedule.get(&key) else { continue };
            let mut at = due.max(now);
            if due <= now && self.running.len() < CONCURRENCY {
                let request = scheduled.poll.request.clone();
                match self.may_ask(now, &request, class, short) {
                    Ok(()) => {
                        self.start(now, &key);
                        continue;
                    }
                    Err(refused) => at = refused,
                }
            }
            wake = Some(wake.map_or(at, |wake| wake.min(at)));
        }
        wake
    }

    fn launch_sweeps(&mut self, now: Time, short: &mut Short) -> Option<Time> {
        let mut wake: Option<Time> = None;
        let sooner = |wake: Option<Time>, at: Time| Some(wake.map_or(at, |wake| wake.min(at)));
        let mut place = 0;
        while let Some(key) = self.sweep.get(place).cloned() {
            if self.running.len() >= CONCURRENCY || (self.sweeping >= SWEEPING && !self.options.once) {
                return wake;
            }
            let Some(scheduled) = self.schedule.get(&key).filter(|s| !s.is_over(self.options.once)) else {
                self.sweep.remove(place);
                continue;
            };
            if scheduled.running > 0 {
                place += 1;
                continue;
            }
            if scheduled.due > now {
                wake = sooner(wake, scheduled.due);
                if scheduled.attempts > 0 {
                    // The others need not wait for one that is tried again.
                    place += 1;
                    continue;
                }
                // The rest is due later still.
                return wake;
            }
            let request = scheduled.poll.request.clone();
            let spend = || short.spend(&self.shared.limits, &request, Class::Rest);
            let passed = if self.options.once { self.gate.pass(now, &request, spend) } else { self.gate.pass_in_share(now, &request, spend) };
            if let Err(at) = passed {
                wake = sooner(wake, at);
                if self.gate.circuit(&request.endpoint).lets_all_through() {
                    return wake;
                }
                // What other endpoints are asked need not wait for one that is ill.
                place += 1;
                continue;
            }
            self.sweep.remove(place);
            self.sweep.push_back(key.clone());
            self.start(now, &key);
        }
        wake
    }

    /// How urgent a request is.
    fn class(&self, purpose: &Purpose) -> Class {
        match purpose {
            Purpose::Ask(_, _, class, _) => *class,
            Purpose::Refill(..) => Class::Backfill,
            Purpose::Poll(key) => self.schedule.get(key).map_or(Class::Rest, Scheduled::class),
        }
    }

    /// Whether the circuit and the budget let a request through; if so, its cost is spent.
    fn may_ask(&mut self, now: Time, request: &Request, class: Class, short: &mut Short) -> Result<(), Time> {
        self.gate.pass(now, request, || short.spend(&self.shared.limits, request, class))
    }

    fn start(&mut self, now: Time, key: &str) {
        let Some(scheduled) = self.schedule.get_mut(key) else { return };
        let every = scheduled.poll.every.unwrap_or_default().max(self.options.interval);
        // On the grid of its own beginning: a slow answer does not shift the cycles after it.
        scheduled.due = if scheduled.poll.sweep || now.since(scheduled.due) >= every { now + every } else { scheduled.due + every };
        let request = scheduled.poll.request.clone();
        self.roster.began(key);
        self.ask(Purpose::Poll(key.to_owned()), request, false);
    }

    fn ask(&mut self, purpose: Purpose, request: Request, page: bool) {
        let mut sweep = false;
        if let Purpose::Poll(key) = &purpose
            && let Some(scheduled) = self.schedule.get_mut(key)
        {
            scheduled.running += u32::from(!page);
            sweep = scheduled.poll.sweep;
            self.sweeping += usize::from(sweep);
        }
        self.refilling += usize::from(matches!(purpose, Purpose::Refill(..)));
        let profile = self.shared.venue.profile.clone();
        let http = self.http.clone();
        let known = self.latencies.get(&request.endpoint).cloned().unwrap_or_default();
        let timeout = known.timeout(profile.http.timeout_min, profile.http.timeout_max);
        let wall = self.shared.clock.wall();
        self.running.spawn(async move {
            let request = request.at(wall);
            let result = http.send(&profile, &request, timeout).await;
            Done { purpose, request, page, sweep, result }
        });
    }
}
