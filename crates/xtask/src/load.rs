//! What runs under load have in common: a collector as it is released, simulated venues in another process, and what a
//! process takes of the memory.

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::run::{cargo, target};

/// How long a process may take to an orderly end.
const END: Duration = Duration::from_secs(30);
/// How often is looked whether it came.
const LOOK: Duration = Duration::from_millis(50);

/// Builds the collector as it is released, with the sinks that a stall is about: one build serves all of these chores.
pub(crate) fn collector(root: &Path) -> anyhow::Result<PathBuf> {
    cargo(root, "build --release --locked --bin collector --features postgres,redis", &[], &[])?;
    Ok(target(root).join("release/collector"))
}

/// Starts simulated Binance and Bybit, with so many instruments in each of three markets. The second is what points a
/// collector at them.
pub(crate) fn simulator(collector: &Path, symbols: &str, rate: &str, more: &[&str]) -> anyhow::Result<(Process, Vec<String>)> {
    let mut command = Command::new(collector);
    command.args(["sim", "--exchanges", "binance,bybit", "--symbols", symbols, "--rate", rate]).args(more).stdout(Stdio::piped());
    let mut simulator = Process::start(&mut command)?;
    let mut options = String::new();
    BufReader::new(simulator.0.stdout.take().context("no output")?).read_line(&mut options)?;
    ensure!(!options.is_empty(), "the simulator does not say where it is");
    Ok((simulator, options.split_whitespace().map(str::to_owned).collect()))
}

/// A process that does not outlive this one's interest in it.
pub(crate) struct Process(Child);

impl Process {
    pub(crate) fn start(command: &mut Command) -> anyhow::Result<Self> {
        command.stdin(Stdio::null()).spawn().map(Self).with_context(|| format!("cannot start {}", command.get_program().display()))
    }

    /// How it ended, if it has.
    pub(crate) fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.0.try_wait()?)
    }

    /// A figure of its memory in KiB, as the system calls it: `VmHWM` is the most that it ever had, code included; `RssAnon`
    /// is what it has now without code, which the system may drop and read again. `None` once it has ended.
    pub(crate) fn memory(&self, figure: &str) -> Option<u64> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.0.id())).ok()?;
        status.lines().find_map(|line| line.strip_prefix(figure)?.strip_prefix(':')?.trim().strip_suffix("kB")?.trim().parse().ok())
    }

    /// Asks it to stop in an orderly way, and waits until it has.
    ///
    /// # Errors
    /// Where it does not end, or not well.
    pub(crate) fn stop(mut self, name: &str) -> anyhow::Result<()> {
        kill_process(Pid::from_child(&self.0), Signal::TERM)?;
        let began = Instant::now();
        while began.elapsed() < END {
            if let Some(status) = self.ended()? {
                ensure!(status.success(), "the {name} ended with {status}");
                return Ok(());
            }
            std::thread::sleep(LOOK);
        }
        bail!("the {name} does not end");
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
