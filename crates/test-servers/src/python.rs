//! Python with the packages that tests compare with, in `target/python`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::skipped;

/// A Python interpreter that has what was asked for.
#[derive(Debug, Clone)]
pub struct Python(PathBuf);

impl Python {
    /// A command that runs it.
    pub fn command(&self) -> Command {
        Command::new(&self.0)
    }

    /// A program that was installed beside it, such as `moto_server`.
    pub fn program(&self, name: &str) -> PathBuf {
        self.0.with_file_name(name)
    }
}

/// The interpreter of `target/python` if it has these modules.
pub fn python(modules: &[&str]) -> Option<Python> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).ancestors().nth(2)?;
    // Where `cargo xtask test` made it.
    let target = std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| root.join("target"), |folder| root.join(folder));
    let interpreter = target.join("python/bin/python3");
    let found = |module: &&str| Command::new(&interpreter).args(["-c", &format!("import {module}")]).output().is_ok_and(|done| done.status.success());
    if let Some(missing) = modules.iter().find(|module| !found(module)) {
        skipped(&format!("the Python package `{missing}`"));
        return None;
    }
    Some(Python(interpreter))
}
