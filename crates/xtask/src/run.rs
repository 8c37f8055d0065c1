//! Running a command as a person would: it is shown, its output goes where ours goes, and it never waits for input.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail};

/// Where cargo puts what it makes.
pub(crate) fn target(root: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder))
}

/// Runs `cargo` with these arguments (separated by spaces) and some more in `folder`.
pub(crate) fn cargo(folder: &Path, arguments: &str, more: &[&str], environment: &[(&str, &str)]) -> anyhow::Result<()> {
    // The cargo that runs this knows the toolchain.
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command.args(arguments.split_whitespace()).args(more).current_dir(folder).envs(environment.iter().copied()).stdin(Stdio::null());
    // What the cargo that runs this says of this package: build scripts would take it for a change, and all that needs their
    // crates would be compiled anew, each time that a chore follows a cargo called by hand.
    let ours = |name: &OsString| name.to_str().is_some_and(|name| name.starts_with("CARGO_PKG_") || name.starts_with("CARGO_MANIFEST_"));
    for (name, _) in std::env::vars_os().filter(|(name, _)| ours(name)) {
        command.env_remove(name);
    }
    let mut shown: Vec<String> = environment.iter().map(|(key, value)| format!("{key}='{value}'")).collect();
    shown.push(format!("cargo {arguments}"));
    shown.extend(more.iter().map(ToString::to_string));
    eprintln!("\n$ {}", shown.join(" "));
    let status = command.status().context("cargo cannot be run")?;
    if !status.success() {
        bail!("cargo {arguments}: {status}");
    }
    Ok(())
}
