//! The chores that are commands in an order.

use std::path::Path;

use crate::ratios;
use crate::run::cargo;
use crate::servers;

/// All features that a Rust toolchain and a C compiler are enough for: TLS of Kafka's client wants OpenSSL's headers.
const FEATURES: &str = "--features amqp,kafka,nats,postgres,redis,s3";

/// All that CI checks, what fails fastest first.
pub(crate) fn check(root: &Path) -> anyhow::Result<()> {
    cargo(root, "fmt --all --check", &[], &[])?;
    cargo(root, "deny check bans licenses sources", &[], &[])?;
    cargo(root, &format!("clippy --workspace --all-targets {FEATURES} --locked -- -D warnings"), &[], &[])?;
    test(root, &[])?;
    cargo(root, &format!("doc --workspace {FEATURES} --no-deps --locked"), &[], &[("RUSTDOCFLAGS", "-D warnings")])
}

/// The tests of all crates with all these features, those in the documentation included, and before them what they need.
pub(crate) fn test(root: &Path, more: &[&str]) -> anyhow::Result<()> {
    servers::prepare(root);
    cargo(root, &format!("test --workspace {FEATURES} --locked"), more, &[])
}

/// Writes what fixtures give beside them. The conformance suite does it: what it compares is what it writes. (Of all
/// packages only one has a test of this name; asking all of them keeps the features of the dependencies, and so what is
/// compiled already.)
pub(crate) fn bless(root: &Path, venue: Option<&str>) -> anyhow::Result<()> {
    let environment = [("COLLECTOR_BLESS", venue.unwrap_or("all"))];
    cargo(root, &format!("test --workspace {FEATURES} --locked --test conformance fixtures_give_their_blessed_events"), &[], &environment)
}

/// The benchmarks, which are the root package's, and how the venues' decoding compares.
pub(crate) fn bench(root: &Path, more: &[&str]) -> anyhow::Result<()> {
    cargo(root, "bench --locked --package collector --bench *", more, &[])?;
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
    ratios::print(&target.join("criterion"));
    Ok(())
}
