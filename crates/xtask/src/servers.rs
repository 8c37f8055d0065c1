//! What tests compare with and write to that is no crate: real servers, and Python packages. What is missing is installed
//! where that can be done without asking (root on Debian or Ubuntu); elsewhere it is named, and its tests are skipped.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::run::target;

/// Debian's packages, each with something that it brings: a program, a file or a module of Python.
const PACKAGES: [(&str, Brings); 7] = [
    // Kafka's client is compiled by it.
    ("make", Brings::Program("make")),
    ("redis-server", Brings::Program("redis-server")),
    ("nats-server", Brings::Program("nats-server")),
    // Debian keeps its programs, several versions side by side, outside of the search path.
    ("postgresql", Brings::ProgramOrFolder("postgres", "/usr/lib/postgresql")),
    ("rabbitmq-server", Brings::Program("rabbitmq-server")),
    ("python3", Brings::Program("python3")),
    ("python3-venv", Brings::Module("ensurepip")),
];
/// Python packages in `target/python`, each with the module that it brings.
const MODULES: [(&str, &str); 3] = [("duckdb==1.4.2", "duckdb"), ("moto[server]==5.2.5", "moto"), ("polars==2.1.0", "polars")];
/// Keeps packages from starting their services: tests start their own.
const NO_SERVICES: &str = "/usr/sbin/policy-rc.d";

/// Installs what is missing, as far as that can be done. Never fails: a test that needs what is still missing says so.
pub(crate) fn prepare(root: &Path) {
    packages();
    modules(root);
}

fn packages() {
    let missing: Vec<&str> = PACKAGES.iter().filter(|(_, brings)| !brings.is_there()).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return;
    }
    if !(has_program("apt-get") && is_root()) {
        eprintln!("Tests of these are skipped unless they are installed: {}", missing.join(" "));
        return;
    }
    eprintln!("Tests need servers that are not installed; none of them will be started as a service: {}", missing.join(" "));
    let barrier = NoServices::put_up();
    // The lists of packages may be missing or old; where they cannot be had, what is there may do.
    run(Command::new("apt-get").args(["update", "--quiet=2"]));
    run(Command::new("apt-get").args(["install", "--yes", "--quiet=2", "--no-install-recommends"]).args(&missing).env("DEBIAN_FRONTEND", "noninteractive"));
    drop(barrier);
}

fn modules(root: &Path) {
    let folder = target(root).join("python");
    let python = folder.join("bin/python3");
    let missing: Vec<&str> = MODULES.iter().filter(|(_, module)| !has_module(&python, module)).map(|(package, _)| *package).collect();
    if missing.is_empty() {
        return;
    }
    eprintln!("Tests compare with Python packages, into {}: {}", folder.display(), missing.join(" "));
    let made = python.is_file() || run(Command::new("python3").args(["-m", "venv"]).arg(&folder));
    if !(made && run(Command::new(&python).args(["-m", "pip", "install", "--quiet", "--disable-pip-version-check"]).args(&missing))) {
        eprintln!("Their tests are skipped.");
    }
}

/// The policy that keeps services from starting, while it lives. One that was there before stays as it is.
struct NoServices {
    ours: bool,
}

impl NoServices {
    fn put_up() -> Self {
        if Path::new(NO_SERVICES).exists() {
            return Self { ours: false };
        }
        let written = fs::write(NO_SERVICES, "#!/bin/sh\nexit 101\n").and_then(|()| fs::set_permissions(NO_SERVICES, fs::Permissions::from_mode(0o755)));
        if let Err(error) = &written {
            eprintln!("{NO_SERVICES}: {error}");
        }
        Self { ours: written.is_ok() }
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.ours {
            // What remains only keeps services from starting.
            let _removed = fs::remove_file(NO_SERVICES);
        }
    }
}

/// By what a package is known to be there.
enum Brings {
    Program(&'static str),
    ProgramOrFolder(&'static str, &'static str),
    Module(&'static str),
}

impl Brings {
    fn is_there(&self) -> bool {
        match self {
            Self::Program(name) => has_program(name),
            Self::ProgramOrFolder(name, folder) => has_program(name) || Path::new(folder).is_dir(),
            Self::Module(name) => has_module(Path::new("python3"), name),
        }
    }
}

fn has_program(name: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    // Debian keeps some servers where only root's search path leads.
    std::env::split_paths(&path).chain([PathBuf::from("/usr/sbin")]).any(|folder| folder.join(name).is_file())
}

fn has_module(python: &Path, name: &str) -> bool {
    Command::new(python).args(["-c", &format!("import {name}")]).output().is_ok_and(|done| done.status.success())
}

fn is_root() -> bool {
    Command::new("id").arg("-u").output().is_ok_and(|done| done.stdout.trim_ascii() == b"0")
}

/// Runs a command as a person would; whether it worked is all that matters.
fn run(command: &mut Command) -> bool {
    let words = |command: &Command| {
        let words: Vec<_> = std::iter::once(command.get_program()).chain(command.get_args()).map(|word| word.to_string_lossy().into_owned()).collect();
        words.join(" ")
    };
    eprintln!("\n$ {}", words(command));
    match command.stdin(Stdio::null()).status() {
        Ok(status) if status.success() => true,
        Ok(status) => {
            eprintln!("{}: {status}", words(command));
            false
        }
        Err(error) => {
            eprintln!("{}: {error}", words(command));
            false
        }
    }
}
