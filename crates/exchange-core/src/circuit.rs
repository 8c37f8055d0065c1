//! Circuit breaking and back-off, without a clock.
//!
//! The policies and curves are `failsafe`'s and `backoff`'s; the state machine is ours, since `failsafe`'s reads the
//! system's clock and lets every call through when it is half open, and `backoff`'s jitter cannot be seeded.
//! (`backoff` is marked unmaintained, RUSTSEC-2025-0012; this module is its only user.)

use std::time::{Duration, Instant};

use backoff::backoff::Backoff as _;
use failsafe::FailurePolicy as _;

use crate::profile::CircuitPolicy;
use crate::time::Time;

/// A trickle that lets a request through in so short a time is the full load.
const FULL: Duration = Duration::from_millis(20);

/// Whether calls go through.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// They do.
    Closed,
    /// None does until that time.
    Open(Time),
    /// One does, to see.
    HalfOpen,
}

impl State {
    /// As metrics and people see it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open(_) => "open",
            Self::HalfOpen => "half_open",
        }
    }
}

type Policy = failsafe::failure_policy::ConsecutiveFailures<failsafe::backoff::Exponential>;

/// A circuit.
#[derive(Debug)]
pub struct Circuit {
    state: State,
    policy: Policy,
    settings: CircuitPolicy,
    /// Whether the probe of a half-open circuit is under way.
    probing: bool,
    /// After it was open: how far apart calls are let through, and when the next one may.
    trickle: Option<(Duration, Time)>,
}

impl Circuit {
    /// A closed circuit.
    pub fn new(settings: &CircuitPolicy) -> Self {
        let pauses = failsafe::backoff::exponential(settings.open, settings.open_max.max(settings.open));
        Self {
            state: State::Closed,
            policy: failsafe::failure_policy::consecutive_failures(settings.failures.max(1), pauses),
            settings: settings.clone(),
            probing: false,
            trickle: None,
        }
    }

    /// Whether a call may go through now.
    ///
    /// # Errors
    /// The time at which to ask again.
    pub fn call(&mut self, now: Time) -> Result<(), Time> {
        if let State::Open(until) = self.state {
            if now < until {
                return Err(until);
            }
            self.state = State::HalfOpen;
            self.probing = false;
        }
        if self.state == State::HalfOpen {
            if self.probing {
                return Err(now + Duration::from_millis(200));
            }
            self.probing = true;
        }
        if let Some((apart, next)) = &mut self.trickle {
            if now < *next {
                return Err(*next);
            }
            *next = now + *apart;
        }
        Ok(())
    }

    /// A call went well.
    pub fn success(&mut self) {
        if self.state == State::Closed {
            self.trickle = self.trickle.map(|(apart, next)| (apart / 2, next)).filter(|(apart, _)| *apart > FULL);
        } else {
            self.policy.revived();
            self.trickle = Some((self.settings.trickle, Time::EPOCH)).filter(|(apart, _)| *apart > FULL);
        }
        self.policy.record_success();
        self.state = State::Closed;
        self.probing = false;
    }

    /// A call failed in a way that speaks against the venue.
    pub fn failure(&mut self, now: Time) {
        let opened = self.policy.mark_dead_on_failure();
        if let Some(pause) = opened {
            self.state = State::Open(now + pause);
        } else if self.state == State::HalfOpen {
            self.state = State::Open(now + self.settings.open);
        }
        self.probing = false;
    }

    /// A call ended without telling anything about the venue (it was refused for its own sake).
    pub fn neutral(&mut self) {
        self.probing = false;
    }

    /// What [`Circuit::call`] let through just now was not made after all.
    pub fn withdraw(&mut self, now: Time) {
        self.probing = false;
        if let Some((_, next)) = &mut self.trickle {
            *next = now;
        }
    }

    /// Whether it holds nothing back.
    pub fn lets_all_through(&self) -> bool {
        self.state == State::Closed && self.trickle.is_none()
    }

    /// The state.
    pub fn state(&self) -> State {
        self.state
    }
}

/// The clock that `backoff` asks for and whose answer, without a limit of elapsed time, decides nothing.
#[derive(Debug)]
struct NoClock(Instant);

impl backoff::Clock for NoClock {
    fn now(&self) -> Instant {
        self.0
    }
}

/// Growing pauses between attempts, drawn from a seeded generator: two processes never draw the same.
#[derive(Debug)]
pub struct BackOff {
    curve: backoff::exponential::ExponentialBackoff<NoClock>,
    rng: fastrand::Rng,
}

impl BackOff {
    /// Pauses from `first` to `most`. `epoch` is any instant; it is only compared with itself.
    pub fn new(first: Duration, most: Duration, seed: u64, epoch: Instant) -> Self {
        let curve = backoff::exponential::ExponentialBackoff {
            current_interval: first,
            initial_interval: first,
            randomization_factor: 0.0,
            multiplier: 2.0,
            max_interval: most,
            start_time: epoch,
            max_elapsed_time: None,
            clock: NoClock(epoch),
        };
        Self { curve, rng: fastrand::Rng::with_seed(seed) }
    }

    /// The next pause: between a half and the whole of the curve's.
    pub fn next_pause(&mut self) -> Duration {
        let whole = self.curve.next_backoff().unwrap_or(self.curve.max_interval);
        whole.mul_f64(0.5 + self.rng.f64() / 2.0)
    }

    /// After success: the next pause is the first again.
    pub fn reset(&mut self) {
        self.curve.current_interval = self.curve.initial_interval;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn opens_probes_and_closes() {
        let policy = CircuitPolicy::default();
        let mut circuit = Circuit::new(&policy);
        let mut now = Time::from_millis(1000);
        for _ in 0..policy.failures {
            assert_eq!(circuit.call(now), Ok(()));
            circuit.failure(now);
        }
        let State::Open(until) = circuit.state() else { panic!("{:?}", circuit.state()) };
        assert_eq!(circuit.call(now), Err(until));
        now = until;
        assert_eq!(circuit.call(now), Ok(()), "one goes through");
        assert!(circuit.call(now).is_err(), "and no other");
        circuit.failure(now);
        assert!(matches!(circuit.state(), State::Open(later) if later > now));
        let State::Open(until) = circuit.state() else { panic!("{:?}", circuit.state()) };
        assert_eq!(circuit.call(until), Ok(()));
        circuit.success();
        assert_eq!(circuit.state(), State::Closed);
        assert_eq!(circuit.call(until), Ok(()));
        assert_eq!(circuit.call(until), Err(until + policy.trickle), "a trickle first");
    }

    #[test]
    fn the_load_returns_step_by_step() {
        let policy = CircuitPolicy { failures: 1, ..CircuitPolicy::default() };
        let mut circuit = Circuit::new(&policy);
        let mut now = Time::from_millis(1000);
        circuit.failure(now);
        let State::Open(until) = circuit.state() else { panic!("{:?}", circuit.state()) };
        now = until;
        assert_eq!(circuit.call(now), Ok(()));
        circuit.success();
        let mut let_through = Vec::new();
        let back = now;
        while now < back + 3 * Duration::from_secs(1) {
            if circuit.call(now).is_ok() {
                circuit.success();
                let_through.push(now.since(back).as_millis());
            }
            now = now + Duration::from_millis(10);
        }
        let_through.truncate(6);
        assert_eq!(let_through, [0, 1000, 1500, 1750, 1880, 1950], "half as far apart each time");
        let before = now;
        assert!((0..100).all(|_| circuit.call(before).is_ok()), "and then all of it");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "any instant will do")]
    fn pauses_grow_within_bounds_and_differ_by_seed() {
        let draw = |seed| {
            let mut back_off = BackOff::new(Duration::from_millis(500), Duration::from_secs(30), seed, Instant::now());
            (0..12).map(|_| back_off.next_pause()).collect::<Vec<_>>()
        };
        let pauses = draw(1);
        assert!(pauses[0] >= Duration::from_millis(250) && pauses[0] <= Duration::from_millis(500));
        assert!(pauses[11] >= Duration::from_secs(15) && pauses[11] <= Duration::from_secs(30));
        assert_ne!(pauses, draw(2));
        assert_eq!(pauses, draw(1));
    }
}
