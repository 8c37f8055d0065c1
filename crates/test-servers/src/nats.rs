//! `nats-server` with `JetStream`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Kind, Server};
use crate::{program, skipped};

/// Starts a NATS server with `JetStream`.
pub fn nats() -> Option<Server> {
    let Some(program) = program("nats-server", &[]) else {
        skipped("nats-server");
        return None;
    };
    Some(Server::start(Nats { program }))
}

struct Nats {
    program: PathBuf,
}

impl Kind for Nats {
    fn name(&self) -> &'static str {
        "nats"
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--addr", "127.0.0.1", "--port", &port.to_string(), "--jetstream", "--store_dir"]).arg(folder);
        command
    }

    fn question(&self) -> (&[u8], &[u8]) {
        (b"", b"INFO ")
    }
}
