//! What is told of a venue's health: bans, circuits, and problems that fade.

use std::time::Duration;

use exchange_core::circuit::State;

use super::VenueActor;

impl VenueActor {
    /// Makes known which hosts are shut, by whomever that was found out.
    pub(super) fn tell_bans(&mut self) {
        for (host, until) in self.shared.limits.bans() {
            // What is left is measured anew each time, and may differ by a moment.
            let is_news = self.bans.get(&host).is_none_or(|told| match (told, until) {
                (Some(told), Some(until)) => until.since(*told).max(told.since(until)) >= Duration::from_secs(1),
                (told, until) => told.is_some() != until.is_some(),
            });
            if !is_news {
                continue;
            }
            #[expect(clippy::cast_precision_loss, reason = "a gauge")]
            let seconds = until.map_or(0.0, |until| until.micros() as f64 / 1e6);
            metrics::gauge!("collector_banned_until_seconds", "venue" => self.shared.name().to_owned(), "host" => host.clone()).set(seconds);
            if let Some(until) = until {
                tracing::warn!(venue = self.shared.name(), host, "nothing is asked of this host until {until}");
            }
            self.shared.problem(&host, until.map(|until| format!("nothing is asked of it until {until}")));
            self.bans.insert(host, until);
        }
    }

    pub(super) fn tell_health(&mut self) {
        self.tell_bans();
        let now = self.shared.clock.now();
        for (problem, _) in self.fading.extract_if(.., |_, until| *until <= now) {
            self.shared.problem(&problem, None);
        }
        let mut health = self.shared.health();
        for (endpoint, state) in self.gate.states() {
            if health.circuits.get(endpoint) == Some(&state) {
                continue;
            }
            let value = match state {
                State::Closed => 0.0,
                State::HalfOpen => 1.0,
                State::Open(_) => 2.0,
            };
            let labels = [("venue", self.shared.name().to_owned()), ("endpoint", endpoint.clone())];
            metrics::gauge!("collector_circuit_state", &labels).set(value);
            health.circuits.insert(endpoint.clone(), state);
        }
    }
}
