//! The project's chores, the same by hand and in CI: `cargo xtask check`, `test`, `servers`, `bless`, `new-venue`, `demo-venue`,
//! `soak`, `stall`, `bench`.
//!
//! Hardly a dependency: whoever clones the repository waits for this to compile before anything is checked.

mod chores;
mod demo;
mod load;
mod new_venue;
mod ratios;
mod run;
mod servers;
mod soak;
mod stall;

use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};

const USAGE: &str = "\
Usage: cargo xtask <CHORE>

  check                all that CI checks: fmt, clippy, test, docs, deny
  test [ARGS]          the tests of all crates, their documentation's included, after `servers`
  servers              install the servers and Python packages that tests need, where that can be done
  bless [VENUE]        write what the fixtures of a venue (of all) give as what they must give; review the difference
  new-venue NAME       a sketch of a venue that works: its folder, its fixtures, its line in the registry
  demo-venue           `new-venue` in a copy of the tree below target/, where it must build and conform
  soak MINUTES         memory of a released collector under a long stream of thousands of simulated instruments
  stall MINUTES [RATE] memory of a released collector whose sinks stall at so many events/s, and what they have in the end
  bench [ARGS]         the benchmarks, and how the venues' decoding compares
";

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match chore(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn chore(arguments: &[String]) -> anyhow::Result<()> {
    let root = root()?;
    let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match arguments.as_slice() {
        ["check"] => chores::check(&root),
        ["servers"] => {
            servers::prepare(&root);
            Ok(())
        }
        ["test", more @ ..] => chores::test(&root, more),
        ["bless"] => chores::bless(&root, None),
        ["bless", venue] => chores::bless(&root, Some(venue)),
        ["new-venue", name] => new_venue::add(&root, name).and_then(|()| chores::bless(&root, Some(name))),
        ["demo-venue"] => demo::run(&root),
        ["soak", minutes] => soak::run(&root, minutes),
        ["stall", minutes] => stall::run(&root, minutes, None),
        ["stall", minutes, rate] => stall::run(&root, minutes, Some(rate)),
        ["bench", more @ ..] => chores::bench(&root, more),
        [] | ["help" | "--help" | "-h"] => {
            eprint!("{USAGE}");
            Ok(())
        }
        other => bail!("`{}` is no chore\n\n{USAGE}", other.join(" ")),
    }
}

/// The repository, whatever folder this is called in.
fn root() -> anyhow::Result<PathBuf> {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().nth(2).map(Path::to_owned).context("xtask is not in crates/xtask")
}
