//! The chores that are commands in an order.

use std::path::Path;

use crate::ratios;
use crate::run::{cargo, target};
use crate::servers;

/// All that CI checks, what fails fastest first.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    cargo(root, "fmt --all --check", &[], &[])?;
    cargo(root, "deny check bans licenses sources", &[], &[])?;
    cargo(root, "clippy --workspace --all-targets --all-features --locked -- -D warnings", &[], &[])?;
    test(root, &[])?;
    cargo(root, "doc --workspace --all-features --no-deps --locked", &[], &[("RUSTDOCFLAGS", "-D warnings")])
}

/// The tests of all crates with all their features, those in the documentation included, and before them what they need.
pub(crate) fn test(root: &Path, more: &[&str]) -> anyhow::Result<()> {
    servers::prepare(root);
    cargo(root, "test --workspace --all-features --locked", more, &[])
}

/// Writes what fixtures give beside them. The conformance suite does it: what it compares is what it writes. (Of all
/// packages only one has a test of this name; asking all of them keeps the features of the dependencies, and so what is
/// compiled already.)
pub(crate) fn bless(root: &Path, venue: Option<&str>) -> anyhow::Result<()> {
    let environment = [("COLLECTOR_BLESS", venue.unwrap_or("all"))];
    cargo(root, "test --workspace --all-features --locked --test conformance fixtures_give_their_blessed_events", &[], &environment)
}

/// The benchmarks, which are the root package's, and how the venues' decoding compares.
pub(crate) fn bench(root: &Path, more: &[&str]) -> anyhow::Result<()> {
    cargo(root, "bench --all-features --locked --package collector --bench *", more, &[])?;
    ratios::print(&target(root).join("criterion"));
    Ok(())
}
