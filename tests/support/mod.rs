//! What the tests of the binary share: a place of its own for each, the binary as a user runs it, simulated venues in
//! another process or in this one, and what to make of the events that went out.
//!
//! Nothing here waits for a time to pass where it could wait for something to happen; [`PATIENCE`] is only when a test
//! gives up.
#![allow(dead_code, unused_imports, reason = "each test file uses its own part")]

mod events;
mod fixtures;
mod gaps;
mod load;
mod played;
mod process;
mod stored;

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use venue_sim::{Config, Handle, Summary};

pub(crate) use self::events::{Events, Line, assert_decoded, assert_same, text, whole_lines};
pub(crate) use self::fixtures::{captures, lines, venues};
pub(crate) use self::gaps::{Gaps, MOMENT, channel_of, missing_in_gaps, place_of};
pub(crate) use self::load::{FILES, RATE, WRITTEN, goes_on, loaded, served};
pub(crate) use self::played::{Played, TYPES};
pub(crate) use self::process::{Finished, Running, Stdout};
pub(crate) use self::stored::{in_parquet, in_postgres, in_redis, tailed};

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Everything that streams.
pub(crate) const STREAMED: &str = "ticker,quote,mark,funding,open_interest,trade,book,liquidation,candle:1m";

/// For tests that need the machine for themselves: they run one after another.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ONE: Mutex<()> = Mutex::new(());
    ONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Asks until there is an answer.
pub(crate) fn eventually<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    within(PATIENCE, what, ask)
}

/// The same, for what may take longer.
pub(crate) fn within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let since = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(since.elapsed() < patience, "{what}: not within {patience:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// One test's directory. The binary runs in it, and finds nothing of the user's.
pub(crate) struct Place(tempfile::TempDir);

impl Place {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    pub(crate) fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.path(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    /// The binary with these arguments, separated by spaces.
    pub(crate) fn collector(&self, arguments: &str) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_collector"));
        command.current_dir(self.0.path()).env_clear().env("HOME", self.0.path()).env("XDG_STATE_HOME", self.path("state"));
        command.args(arguments.split_whitespace());
        command
    }

    /// What it did with these arguments.
    pub(crate) fn run(&self, arguments: &str) -> Finished {
        Running::start(&mut self.collector(arguments), Stdout::Collect).finish()
    }

    /// What `decode` makes of the captures in a directory. Its status is the test's to judge.
    pub(crate) fn decode(&self, captures: &str) -> Finished {
        Running::start(self.collector("decode").args(files(&self.path(captures))), Stdout::Collect).finish()
    }

    /// Simulated venues in a process of their own, and the options that point `run` at them. They end by `--for` or
    /// by a signal.
    pub(crate) fn simulator(&self, arguments: &str) -> (Running, Vec<String>) {
        let mut simulator = Running::start(&mut self.collector(&format!("sim {arguments}")), Stdout::Leave);
        let line = simulator.stdout_line();
        assert!(line.starts_with("--set "), "{line:?}, {}", simulator.stderr());
        (simulator, line.split_whitespace().map(str::to_owned).collect())
    }
}

/// A market of few instruments of each kind that moves at this rate.
pub(crate) fn market(symbols: usize, rate: f64) -> Config {
    Config { symbols, rate, ..Config::default() }
}

/// Simulated venues in this process, with their truth.
pub(crate) struct Sim {
    handle: Option<Handle>,
    dir: tempfile::TempDir,
}

impl Sim {
    pub(crate) fn start(config: Config) -> Self {
        Self::faulty(config, "")
    }

    /// With faults.
    pub(crate) fn faulty(config: Config, faults: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("faults.toml");
        std::fs::write(&path, faults).unwrap();
        let handle = venue_sim::start(&Config { truth: Some(dir.path().join("truth.ndjson")), faults: Some(path), ..config }).unwrap();
        Self { handle: Some(handle), dir }
    }

    pub(crate) fn handle(&self) -> &Handle {
        self.handle.as_ref().unwrap()
    }

    /// The options that point `run` at it.
    pub(crate) fn options(&self) -> Vec<String> {
        self.handle().options()
    }

    /// The address of one venue's HTTP interface.
    pub(crate) fn rest_url(&self, venue: &str) -> String {
        format!("http://{}/{venue}", self.handle().address())
    }

    /// How often a venue's path was asked for.
    pub(crate) fn requests(&self, venue_and_path: &str) -> u64 {
        self.handle().counters().requests.get(venue_and_path).copied().unwrap_or(0)
    }

    /// Waits until the market stands still.
    pub(crate) fn still(&self) {
        block_on(async { tokio::time::timeout(PATIENCE, self.handle().still()).await.expect("the market stands still") });
    }

    /// Ends it; what it did, and what it served.
    pub(crate) fn end(mut self) -> (Summary, Events) {
        let handle = self.handle.take().unwrap();
        let summary = block_on(async { tokio::time::timeout(PATIENCE, handle.shutdown()).await.unwrap().unwrap() });
        (summary, Events::read(&self.dir.path().join("truth.ndjson")))
    }
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// An address at which nobody listens.
pub(crate) fn nobody() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap()
}

/// An answer's status and body.
pub(crate) fn get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n").unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    assert!(!head.to_lowercase().contains("chunked"), "{head}");
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The sum of a metric's samples that have all these labels, in whole numbers.
pub(crate) fn metric(text: &str, name: &str, labels: &[(&str, &str)]) -> u64 {
    let wanted: Vec<String> = labels.iter().map(|(key, value)| format!("{key}=\"{value}\"")).collect();
    let samples = text.lines().filter_map(|line| {
        let rest = line.strip_prefix(name)?;
        let (labels, value) = if rest.starts_with('{') { rest.rsplit_once("} ")? } else { ("", rest.strip_prefix(' ')?) };
        wanted.iter().all(|label| labels.contains(label)).then(|| value.split('.').next().unwrap().parse::<u64>().unwrap())
    });
    samples.sum()
}

/// The files of a directory, oldest first.
pub(crate) fn files(directory: &Path) -> Vec<PathBuf> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}
