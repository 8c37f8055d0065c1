//! A run of the binary: its output as it comes, its metrics, its signals, its end.

use std::io::{BufRead as _, BufReader, Read as _};
use std::net::SocketAddr;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use super::{PATIENCE, eventually, get, metric};

/// What becomes of standard output.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stdout {
    /// It is read to the end.
    Collect,
    /// It is the test's to read.
    Leave,
}

/// A process. It does not outlive its handle.
pub(crate) struct Running {
    child: Child,
    stdout: Option<BufReader<ChildStdout>>,
    collector: Option<JoinHandle<String>>,
    stderr: Arc<Mutex<String>>,
    reader: Option<JoinHandle<()>>,
}

/// A process that ended.
#[derive(Debug)]
pub(crate) struct Finished {
    /// The exit status; `None` if a signal ended it.
    pub(crate) status: Option<i32>,
    /// All of standard output that was collected.
    pub(crate) stdout: String,
    /// All of standard error.
    pub(crate) stderr: String,
}

impl Running {
    pub(crate) fn start(command: &mut Command, stdout: Stdout) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let mut output = child.stdout.take().map(BufReader::new);
        let collector = (stdout == Stdout::Collect).then(|| {
            let mut output = output.take().unwrap();
            std::thread::spawn(move || {
                let mut text = String::new();
                output.read_to_string(&mut text).unwrap();
                text
            })
        });
        let stderr = Arc::new(Mutex::new(String::new()));
        let mut errors = BufReader::new(child.stderr.take().unwrap());
        let said = stderr.clone();
        let reader = std::thread::spawn(move || {
            let mut line = String::new();
            while errors.read_line(&mut line).is_ok_and(|bytes| bytes > 0) {
                said.lock().unwrap_or_else(PoisonError::into_inner).push_str(&line);
                line.clear();
            }
        });
        Self { child, stdout: output, collector, stderr, reader: Some(reader) }
    }

    /// Standard error so far.
    pub(crate) fn stderr(&self) -> String {
        self.stderr.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The next line of standard output.
    pub(crate) fn stdout_line(&mut self) -> String {
        let mut line = String::new();
        self.stdout.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Standard output, to be read or closed.
    pub(crate) fn take_stdout(&mut self) -> BufReader<ChildStdout> {
        self.stdout.take().unwrap()
    }

    /// Where it serves metrics and health, as it says in its log.
    pub(crate) fn address(&self) -> SocketAddr {
        eventually("the address of the metrics", || {
            let text = self.stderr();
            let logged = text.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let mut serving = logged.filter(|line| line["message"].as_str().is_some_and(|message| message.starts_with("serving")));
            serving.next().map(|line| line["address"].as_str().unwrap().parse().unwrap())
        })
    }

    /// Its metrics.
    pub(crate) fn metrics(&self) -> String {
        let (status, text) = get(self.address(), "/metrics");
        assert_eq!(status, 200);
        text
    }

    /// A metric of the sinks whose names begin so, in whole numbers.
    pub(crate) fn of_sink(&self, name: &str, sink: &str) -> u64 {
        let (text, label) = (self.metrics(), format!("sink=\"{sink}"));
        let own: Vec<&str> = text.lines().filter(|line| line.contains(&label)).collect();
        metric(&own.join("\n"), name, &[])
    }

    /// Waits until so many events went out.
    pub(crate) fn wait_for_events(&self, count: u64) {
        eventually("events", || (metric(&self.metrics(), "collector_events_total", &[]) >= count).then_some(()));
    }

    /// Waits until nothing more comes: for half a second, no count moves.
    pub(crate) fn settle(&self) {
        let counts = || {
            let text = self.metrics();
            ["collector_events_total", "collector_unchanged_total", "collector_duplicates_total"].map(|name| metric(&text, name, &[]))
        };
        let (mut last, mut since) = (counts(), Instant::now());
        eventually("nothing more", || {
            let now = counts();
            if now != last {
                (last, since) = (now, Instant::now());
            }
            (since.elapsed() >= Duration::from_millis(500)).then_some(())
        });
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Whether it still runs.
    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Asks it to stop in an orderly way.
    pub(crate) fn stop(self) -> Finished {
        self.signal(Signal::TERM);
        self.finish()
    }

    /// How long it takes to its end from now on.
    pub(crate) fn time_to_end(&mut self) -> Duration {
        let since = Instant::now();
        while self.is_running() {
            assert!(since.elapsed() < PATIENCE, "it does not end: {}", self.stderr());
            std::thread::sleep(Duration::from_millis(1));
        }
        since.elapsed()
    }

    /// Waits for its end.
    pub(crate) fn finish(mut self) -> Finished {
        self.time_to_end();
        let status = self.child.wait().unwrap().code();
        let stdout = self.collector.take().map(|collector| collector.join().unwrap()).unwrap_or_default();
        self.reader.take().unwrap().join().unwrap();
        Finished { status, stdout, stderr: self.stderr() }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It has ended already, but where a test failed.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Finished {
    /// Its success is taken for granted.
    #[track_caller]
    pub(crate) fn ok(self) -> Self {
        assert_eq!(self.status, Some(0), "{}", self.stderr);
        self
    }

    /// The numbers of a venue's line at the end of a run, by their words.
    #[track_caller]
    pub(crate) fn summary(&self, venue: &str) -> [u64; 5] {
        let start = format!("{venue}: ");
        let line =
            self.stderr.lines().find_map(|line| line.strip_prefix(&start)?.contains(" events, ").then_some(line)).unwrap_or_else(|| panic!("{}", self.stderr));
        let numbers = line.split_whitespace().filter_map(|word| word.parse().ok()).collect::<Vec<u64>>();
        numbers.try_into().unwrap_or_else(|_| panic!("{line}"))
    }
}
