//! What all servers have in common: a port, a folder, a process, and a way to ask whether it is ready.

use std::fs::{self, File};
use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::Signal;
use tempfile::TempDir;

use crate::child::Guarded;
use crate::free_port;

/// How long a server may take until it answers. `RabbitMQ` on a busy machine takes a quarter of it.
const START: Duration = Duration::from_mins(2);
/// How often another port is tried if a server ends while it starts: somebody else may have taken the port.
const ATTEMPTS: usize = 3;

/// A kind of server.
pub(crate) trait Kind: Send {
    /// What it is called.
    fn name(&self) -> &'static str;

    /// Prepares its folder, once.
    fn prepare(&self, _folder: &Path) {}

    /// A process that it needs beside it.
    fn companion(&self, _folder: &Path) -> Option<Command> {
        None
    }

    /// How it is started.
    fn command(&self, folder: &Path, port: u16) -> Command;

    /// What it is asked, and how the answer begins once it is ready.
    fn question(&self) -> (&[u8], &[u8]);

    /// What ends it in an orderly way.
    fn stop(&self) -> Signal {
        Signal::TERM
    }
}

/// A running server. Dropping it kills it and removes its data.
pub struct Server {
    kind: Box<dyn Kind>,
    process: Option<Guarded>,
    companion: Option<Guarded>,
    port: u16,
    folder: TempDir,
}

impl Server {
    /// Starts a server and waits until it answers.
    pub(crate) fn start(kind: impl Kind + 'static) -> Self {
        let folder = tempfile::Builder::new().prefix(&format!("test-{}-", kind.name())).tempdir().expect("a temporary folder");
        kind.prepare(folder.path());
        let companion = kind.companion(folder.path()).map(Guarded::start);
        let mut server = Self { kind: Box::new(kind), process: None, companion, port: 0, folder };
        for _ in 0..ATTEMPTS {
            server.port = free_port();
            if server.launch() {
                return server;
            }
        }
        server.give_up();
    }

    /// The port that it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, self.port).into()
    }

    /// The folder of its data.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Kills it as a crash would: no goodbye, nothing written any more.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// Ends it in an orderly way.
    pub fn stop(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.end(self.kind.stop());
        }
    }

    /// Stops its processes where they are: connections stay open, and nothing answers.
    pub fn pause(&self) {
        if let Some(process) = &self.process {
            process.signal_all(Signal::STOP);
        }
    }

    /// Lets its processes go on.
    pub fn resume(&self) {
        if let Some(process) = &self.process {
            process.signal_all(Signal::CONT);
        }
    }

    /// Starts it again, on the same port and data, after having killed it if it still runs.
    ///
    /// # Panics
    /// If it does not come back.
    pub fn restart(&mut self) {
        self.kill();
        if !self.launch() {
            self.give_up();
        }
    }

    /// Starts the process; `false` if it ended instead of answering.
    fn launch(&mut self) -> bool {
        let log = File::options().create(true).append(true).open(self.log()).expect("a log file");
        let mut command = self.kind.command(self.folder.path(), self.port);
        command.stdout(Stdio::from(log.try_clone().expect("a second handle"))).stderr(Stdio::from(log));
        let mut process = Guarded::start(command);
        let began = Instant::now();
        while !self.answers() {
            if process.has_ended() || began.elapsed() > START {
                return false;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.process = Some(process);
        true
    }

    fn answers(&self) -> bool {
        let (question, answer) = self.kind.question();
        let ask = || -> std::io::Result<bool> {
            let mut stream = TcpStream::connect_timeout(&self.address(), Duration::from_secs(1))?;
            stream.set_read_timeout(Some(Duration::from_secs(2)))?;
            stream.write_all(question)?;
            let mut begins = vec![0; answer.len()];
            stream.read_exact(&mut begins)?;
            Ok(begins == answer)
        };
        ask().unwrap_or(false)
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("server.log")
    }

    fn give_up(&self) -> ! {
        let log = fs::read_to_string(self.log()).unwrap_or_default();
        let last: Vec<&str> = log.lines().rev().take(30).collect();
        let last: Vec<&str> = last.into_iter().rev().collect();
        panic!("{} did not start:\n{}", self.kind.name(), last.join("\n"));
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // Before the folder is removed below them.
        self.kill();
        self.companion = None;
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} at {}", self.kind.name(), self.address())
    }
}
