//! `nats-server` with `JetStream`.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Kind, Server};
use crate::{program, skipped};

/// Starts a NATS server with `JetStream`, into which everybody is let.
pub fn nats() -> Option<Server> {
    nats_with("")
}

/// Starts one with this configuration, such as `authorization { token: "secret" }`.
pub fn nats_with(configuration: &str) -> Option<Server> {
    let Some(program) = program("nats-server", &[]) else {
        skipped("nats-server");
        return None;
    };
    Some(Server::start(Nats { program, configuration: configuration.to_owned() }))
}

struct Nats {
    program: PathBuf,
    configuration: String,
}

impl Kind for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn prepare(&self, folder: &Path) {
        fs::write(folder.join("nats.conf"), &self.configuration).expect("a configuration");
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]).arg(folder);
        command.arg("--config").arg(folder.join("nats.conf"));
        command
    }

    /// It greets before it asks for anything, TLS included.
    fn question(&self) -> (&[u8], &[u8]) {
        (b"", b"INFO ")
    }
}
