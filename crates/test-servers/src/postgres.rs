//! `postgres`, as a user of its own where the test is run by root, whom it refuses.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::process::{Signal, geteuid};

use crate::server::{Kind, Server};
use crate::{program, skipped};

/// The password of the user `postgres`, and one that no message may show.
pub const POSTGRES_PASSWORD: &str = "hunter2-postgres";

/// Starts a `PostgreSQL`, with a database `postgres`, whose user `postgres` has [`POSTGRES_PASSWORD`]. A kill loses nothing
/// that it confirmed, as long as the machine stays up.
pub fn postgres() -> Option<Server> {
    let versions = versions();
    let (Some(server), Some(init)) = (program("postgres", &versions), program("initdb", &versions)) else {
        skipped("postgresql");
        return None;
    };
    let user = geteuid().is_root().then(unprivileged);
    Some(Server::start(Postgres { server, init, user }))
}

/// Where Debian keeps the servers, newest first.
fn versions() -> Vec<PathBuf> {
    let mut found: Vec<(u32, PathBuf)> = fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .filter_map(|entry| {
            let entry = entry.ok()?;
            Some((entry.file_name().to_str()?.parse().ok()?, entry.path().join("bin")))
        })
        .collect();
    found.sort_by(|a, b| b.cmp(a));
    found.into_iter().map(|(_, folder)| folder).collect()
}

/// The numbers of a user and group with no rights.
fn unprivileged() -> (u32, u32) {
    let users = fs::read_to_string("/etc/passwd").unwrap_or_default();
    let numbers = |name: &str| {
        let mut fields = users.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?.split(':').skip(1);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    numbers("postgres").or_else(|| numbers("nobody")).expect("a user `postgres` or `nobody`")
}

struct Postgres {
    server: PathBuf,
    init: PathBuf,
    user: Option<(u32, u32)>,
}

impl Postgres {
    fn run(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        if let Some((user, group)) = self.user {
            command.uid(user).gid(group);
        }
        // The test's folder may not be readable for that user.
        command.current_dir("/").env("LC_ALL", "C.UTF-8");
        command
    }
}

impl Kind for Postgres {
    fn name(&self) -> &'static str {
        "postgres"
    }

    fn prepare(&self, folder: &Path) {
        let password = folder.join("password");
        fs::write(&password, POSTGRES_PASSWORD).expect("a file");
        if let Some((user, group)) = self.user {
            for path in [folder, &password] {
                std::os::unix::fs::chown(path, Some(user), Some(group)).expect("another owner");
            }
        }
        let mut command = self.run(&self.init);
        command.args(["--username", "postgres", "--auth", "scram-sha-256", "--encoding", "UTF8", "--no-sync", "--pgdata"]).arg(folder.join("data"));
        let done = command.arg("--pwfile").arg(&password).stdin(Stdio::null()).output().expect("initdb");
        assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
    }

    fn command(&self, folder: &Path, port: u16) -> Command {
        let mut command = self.run(&self.server);
        command.args(["-h", "127.0.0.1", "-p", &port.to_string(), "-F", "-c", "unix_socket_directories=", "-c", "shared_buffers=64MB", "-D"]);
        command.arg(folder.join("data"));
        command
    }

    /// A start-up message: the server answers with what it wants to know (`R`) once it takes connections.
    fn question(&self) -> (&[u8], &[u8]) {
        (b"\x00\x00\x00\x17\x00\x03\x00\x00user\x00postgres\x00\x00", b"R")
    }

    /// A fast shutdown, that does not wait for clients to leave.
    fn stop(&self) -> Signal {
        Signal::INT
    }
}
