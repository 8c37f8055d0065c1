//! `redis-server`.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::server::{Kind, Server};
use crate::{program, skipped};

/// Starts a Redis that writes each change to its disk before it answers, so that a kill loses nothing that it confirmed.
pub fn redis() -> Option<Server> {
    redis_with(&["--appendonly", "yes", "--appendfsync", "always"])
}

/// Starts a Redis with these arguments, such as `--requirepass secret`. It keeps nothing beyond its process unless they
/// say so.
pub fn redis_with(arguments: &[&str]) -> Option<Server> {
    let Some(program) = program("redis-server", &[]) else {
        skipped("redis-server");
        return None;
    };
    Some(Server::start(Redis { program, arguments: arguments.iter().map(ToString::to_string).collect() }))
}

struct Redis {
    program: PathBuf,
    arguments: Vec<String>,
}

impl Kind for Redis {
    fn name(&self) -> &'static str {
        "redis"
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = Command::new(&self.program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string(), "--dir"]).arg(folder).args(["--save", ""]).args(&self.arguments);
        command
    }

    /// Anything but `-LOADING`, which it says while it reads its data.
    fn question(&self) -> (&[u8], &[u8]) {
        if self.arguments.iter().any(|argument| argument == "--requirepass") { (b"PING\r\n", b"-NOAUTH") } else { (b"PING\r\n", b"+PONG") }
    }
}
