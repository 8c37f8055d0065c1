//! What a request passes before it is made: its endpoint's circuit, the budget, and a share of it where many ask for the
//! same. A request that is refused by one of them costs nothing at the others.

use std::collections::BTreeMap;
use std::time::Duration;

use exchange_core::budget::{Allowance, Budgets, Class};
use exchange_core::circuit::{Circuit, State};
use exchange_core::profile::{CircuitPolicy, Limit, Profile};
use exchange_core::{Request, Time};

use crate::limits::Limits;

/// What asks for one thing after the other spends at most this part of a budget, evenly.
const SHARE: u32 = 2;
const SLICES: u32 = 20;

/// The slice of a budget, and of its time.
fn slice(budget: u32, window: Duration) -> (u32, Duration) {
    ((budget / SHARE / SLICES).max(1), window / SLICES)
}

/// The circuits of a venue's endpoints, and the budgets' slices.
pub(super) struct Gate {
    policy: CircuitPolicy,
    circuits: BTreeMap<String, Circuit>,
    slices: Budgets,
}

impl Gate {
    pub(super) fn new(profile: &Profile) -> Self {
        let sliced = |(name, limit): (&String, &Limit)| {
            let (budget, window) = slice(limit.budget, limit.window);
            (name.clone(), Limit { budget, window, ..limit.clone() })
        };
        Self { policy: profile.circuit.clone(), circuits: BTreeMap::new(), slices: Budgets::new(profile.limits.iter().map(sliced).collect()) }
    }

    /// The venue says how much it allows.
    pub(super) fn allow(&mut self, said: &Allowance) {
        let (budget, window) = slice(said.budget, said.window);
        self.slices.allow(&said.limit, budget, window);
    }

    /// The circuit of an endpoint.
    pub(super) fn circuit(&mut self, endpoint: &str) -> &mut Circuit {
        self.circuits.entry(endpoint.to_owned()).or_insert_with(|| Circuit::new(&self.policy))
    }

    /// The state of each circuit, by endpoint.
    pub(super) fn states(&self) -> impl Iterator<Item = (&String, State)> {
        self.circuits.iter().map(|(endpoint, circuit)| (endpoint, circuit.state()))
    }

    /// Lets a request through, or not; `spend` takes its cost from the budget.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn pass(&mut self, now: Time, request: &Request, spend: impl FnOnce() -> Result<(), Time>) -> Result<(), Time> {
        let circuit = self.circuit(&request.endpoint);
        circuit.call(now)?;
        // The other way round, each look at a circuit that is not closed would cost.
        spend().inspect_err(|_| circuit.withdraw(now))
    }

    /// Lets a request through as far as its share of the budget reaches.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn pass_in_share(&mut self, now: Time, request: &Request, spend: impl FnOnce() -> Result<(), Time>) -> Result<(), Time> {
        if let Some(slice) = self.slices.get(&request.limit) {
            slice.allows(now, request.cost)?;
        }
        self.pass(now, request, spend)?;
        self.slices.get(&request.limit).map_or(Ok(()), |slice| slice.spend(now, request.cost))
    }
}

/// What was refused within one round of asking, so that nothing less urgent takes what is waited for, and nothing is looked
/// up twice.
#[derive(Default)]
pub(super) struct Short(BTreeMap<String, (Class, Time)>);

impl Short {
    /// Takes a request's cost from the venue's budget.
    ///
    /// # Errors
    /// When to try again.
    pub(super) fn spend(&mut self, limits: &Limits, request: &Request, class: Class) -> Result<(), Time> {
        if let Some((refused, at)) = self.0.get(&request.limit)
            && class.waits_for(*refused)
        {
            return Err(*at);
        }
        limits.spend(request, class).inspect_err(|at| {
            // That its host is shut says nothing of another host's requests for the same limit.
            if limits.banned_until(request).is_none() {
                self.0.insert(request.limit.clone(), (class, *at));
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use exchange_core::Market;
    use exchange_core::profile::Method;

    use super::*;

    const NOW: Time = Time::from_millis(1_763_640_000_000);

    fn profile() -> Profile {
        let mut profile = Profile::parse(exchange_venues::all().first().unwrap().policy()).unwrap();
        profile.limits = BTreeMap::from([("all".to_owned(), Limit::new(80, Duration::from_secs(20)))]);
        profile
    }

    fn request(endpoint: &str) -> Request {
        let endpoint = endpoint.to_owned();
        Request { endpoint, market: Market::Linear, method: Method::Get, target: "/x".into(), body: None, limit: "all".into(), cost: 1, instrument: None }
    }

    /// How many requests pass at once.
    fn passing(gate: &mut Gate, now: Time, endpoint: &str) -> usize {
        (0..100).take_while(|_| gate.pass_in_share(now, &request(endpoint), || Ok(())).is_ok()).count()
    }

    #[test]
    fn what_a_circuit_or_a_budget_refuses_costs_no_share() {
        let all = passing(&mut Gate::new(&profile()), NOW, "well");
        assert!(all > 0 && all < 100, "{all}");

        let mut gate = Gate::new(&profile());
        for _ in 0..profile().circuit.failures {
            gate.circuit("ill").failure(NOW);
        }
        assert_eq!(passing(&mut gate, NOW, "ill"), 0);
        for _ in 0..50 {
            assert!(gate.pass_in_share(NOW, &request("ill"), || Ok(())).is_err());
            assert_eq!(gate.pass_in_share(NOW, &request("well"), || Err(NOW + Duration::from_secs(1))), Err(NOW + Duration::from_secs(1)));
        }
        assert_eq!(passing(&mut gate, NOW, "well"), all, "nothing of it was spent");
    }

    #[test]
    fn what_a_budget_refuses_takes_no_place_in_a_trickle() {
        let mut gate = Gate::new(&profile());
        for _ in 0..profile().circuit.failures {
            gate.circuit("x").failure(NOW);
        }
        let State::Open(until) = gate.circuit("x").state() else { panic!("it is open") };
        let later = until + Duration::from_secs(1);
        for half_open in [true, false] {
            for _ in 0..5 {
                assert_eq!(gate.pass(until, &request("x"), || Err(later)), Err(later), "half open: {half_open}");
            }
            assert_eq!(gate.pass(until, &request("x"), || Ok(())), Ok(()), "half open: {half_open}");
            gate.circuit("x").success();
        }
        assert!(gate.pass(until, &request("x"), || Ok(())).is_err(), "one that passed does");
    }
}
