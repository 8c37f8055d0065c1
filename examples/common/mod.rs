//! The venues that the examples talk to: the real ones, or with `SIMULATE=1` (or `--simulate`) simulated ones, for
//! which no network is needed.

use anyhow::Context as _;
use collector::core::{Profile, Venue};

/// All venues, and what simulates them: it ends when it is dropped.
pub(crate) fn venues() -> anyhow::Result<(Vec<Venue>, Option<venue_sim::Handle>)> {
    let wanted = std::env::var("SIMULATE").is_ok_and(|value| value == "1") || std::env::args().any(|arg| arg == "--simulate");
    let sim = wanted.then(|| venue_sim::start(&venue_sim::Config { symbols: 20, ..Default::default() })).transpose()?;
    let mut venues = Vec::new();
    for exchange in collector::venues::all() {
        let mut profile = Profile::parse(exchange.policy()).context("a venue's description")?;
        if let Some(sim) = &sim {
            if !sim.venues().contains(&profile.name) {
                continue;
            }
            // A description is data: here its hosts are changed, as for a proxy or a test net.
            for surface in profile.markets.values_mut() {
                surface.rest = format!("http://{}/{}", sim.address(), profile.name);
                surface.ws = format!("ws://{}/{}", sim.address(), profile.name);
            }
        }
        venues.push(Venue::new(*exchange, profile));
    }
    Ok((venues, sim))
}
