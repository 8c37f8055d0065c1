//! `collector sim`: the simulated venues as a server of their own.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;

use crate::logging::say;
use crate::run::Usage;
use crate::settings::{Settings, Sim};

/// The simulator's configuration.
pub(crate) fn config(sim: &Sim, venues: Vec<String>, duration: Option<Duration>) -> venue_sim::Config {
    venue_sim::Config {
        venues,
        listen: sim.listen,
        symbols: usize::try_from(sim.symbols).unwrap_or(usize::MAX),
        rate: sim.rate,
        seed: sim.seed,
        latency: sim.latency,
        faults: sim.faults.clone(),
        truth: sim.truth.clone(),
        play: sim.play.clone(),
        pace: sim.pace,
        duration,
        ..venue_sim::Config::default()
    }
}

/// Serves until `--for` is over or a signal comes.
pub(crate) fn run(settings: &Settings) -> anyhow::Result<ExitCode> {
    let names: Vec<String> = settings.profiles.iter().map(|profile| profile.name.clone()).collect();
    if names.is_empty() && settings.sim.play.is_empty() {
        return Err(Usage("--exchanges or --play is needed: which venues to simulate, or which captures to serve".into()).into());
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let simulator = venue_sim::start(&config(&settings.sim, names, None)).map_err(|error| Usage(error.to_string()))?;
        println!("{}", simulator.options().join(" "));
        say!("serving on {}; Ctrl-C stops", simulator.address());
        let over = async {
            match settings.stop_after {
                Some(after) => tokio::time::sleep(after).await,
                None => std::future::pending().await,
            }
        };
        let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate()).context("cannot listen for signals")?;
        tokio::select! {
            () = over => {}
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for signals")?,
            _ = terminate.recv() => {}
        }
        simulator.shutdown().await?;
        Ok(ExitCode::SUCCESS)
    })
}
