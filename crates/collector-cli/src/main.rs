//! `collector`: the command line of the exchange market-data collector.

#![warn(clippy::print_stderr)]

mod args;
mod captures;
mod cmd_audit;
mod cmd_check;
#[cfg(feature = "parquet")]
mod cmd_compact;
mod cmd_completions;
mod cmd_reparse;
mod cmd_replay;
mod cmd_tail;
mod config;
mod decode;
mod heartbeat;
mod latest;
mod listing;
mod live;
mod logging;
mod run;
mod serve;
mod settings;
mod sim;
mod suggest;

use std::io;
use std::process::ExitCode;
use std::time::{SystemTime, UNIX_EPOCH};

use clap::Parser as _;
use exchange_core::{Profile, Time, Venue};

use crate::args::{Cli, Command};
use crate::config::{Config, Environment, Given};
use crate::logging::say;
use crate::settings::{Need, Settings};

fn main() -> ExitCode {
    let cli = Cli::parse();
    match dispatch(&cli.command) {
        Ok(status) => status,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            say!("{error:#}");
            ExitCode::from(if error.is::<run::Usage>() || error.is::<config::Problems>() { 2 } else { 1 })
        }
    }
}

/// A reader that closed standard output has had enough, which is no failure.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| cause.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe))
}

fn dispatch(command: &Command) -> anyhow::Result<ExitCode> {
    let profiles: Vec<Profile> = exchange_venues::all().iter().map(|exchange| Profile::parse(exchange.policy())).collect::<Result<_, _>>()?;
    let policies: Vec<(&str, &str)> =
        profiles.iter().zip(exchange_venues::all()).map(|(profile, exchange)| (profile.name.as_str(), exchange.policy())).collect();
    let environment = Environment::of_process();
    let resolve = |given: &Given, need: Need| Settings::resolve(&Config::load(&policies, given, &environment), &policies, need);
    // The venues as configured, in the order in which they were asked for.
    let configured = |profiles: &[Profile]| -> Vec<Venue> { profiles.iter().filter_map(|profile| venue(profile.clone())).collect() };
    let known: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
    match command {
        Command::Run(args) => {
            let settings = resolve(&args.given(), Need::Exchanges)?;
            run::run(&settings, &configured(&settings.profiles))
        }
        Command::Decode(args) => decode::run(configured(&profiles), &args.files, args.lenient, args.fold),
        Command::Replay(args) => {
            let settings = resolve(&args.given(), Need::Nothing)?;
            // All of them, where none was named.
            let venues = configured(if settings.profiles.is_empty() { &profiles } else { &settings.profiles });
            cmd_replay::run(args, &settings, &venues, &known)
        }
        Command::Reparse(args) => {
            let settings = resolve(&args.given(), Need::Nothing)?;
            let venues = configured(if settings.profiles.is_empty() { &profiles } else { &settings.profiles });
            cmd_reparse::run(args, &settings, &venues, &known)
        }
        Command::Sim(args) => sim::run(&resolve(&args.given(), Need::Nothing)?),
        Command::Instruments(args) => {
            let settings = resolve(&args.given(), Need::Exchanges)?;
            let venues = configured(&settings.profiles);
            listing::instruments(&settings, &venues, args.json)
        }
        Command::Venues(args) => listing::venues(&configured(&profiles), args.json),
        Command::Check(args) => Ok(ExitCode::from(cmd_check::run(args, &policies, &environment, &mut io::stdout().lock(), &mut io::stderr().lock())?)),
        Command::Audit(args) => cmd_audit::run(args, &resolve(&args.given(), Need::Nothing)?, now()),
        Command::Tail(args) => cmd_tail::run(args, &resolve(&args.config.given(), Need::Nothing)?, now()),
        #[cfg(feature = "parquet")]
        Command::Compact(args) => cmd_compact::run(args, &mut io::stderr().lock()).map(|()| ExitCode::SUCCESS),
        Command::Completions(args) => cmd_completions::run(args, &mut io::stdout().lock()).map(|()| ExitCode::SUCCESS).map_err(Into::into),
    }
}

/// The system's time.
fn now() -> Time {
    Time::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// The venue that a description belongs to.
fn venue(profile: Profile) -> Option<Venue> {
    let named = |exchange: &&&'static dyn exchange_core::Exchange| Profile::parse(exchange.policy()).is_ok_and(|known| known.name == profile.name);
    exchange_venues::all().iter().find(named).map(|exchange| Venue::new(*exchange, profile))
}
