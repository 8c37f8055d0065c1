//! Memory under a long stream: thousands of instruments from a simulator in another process, for minutes or hours.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail, ensure};

use crate::run::cargo;

/// The most that the collector may ever have held, in KiB, without its own code: 64 MiB in all with the code that a released
/// one has in memory, which is less than half of what an unoptimised one has.
const BOUND: u64 = 50 << 10;
/// How much may come in the second half: windows of ids and allocators' reserves fill up, leaks go on.
const GROWTH: u64 = 8 << 10;
/// Instruments of each of three markets of both venues: 4,300 in all, and more derivatives than spot, which carry more.
const SYMBOLS: &str = "717";
const RATE: &str = "10000";

/// Streams for so many minutes (fractions allowed), and compares the collector's memory with its bounds.
pub(crate) fn run(root: &Path, minutes: &str) -> anyhow::Result<()> {
    let minutes: f64 = minutes.parse().context("how many minutes?")?;
    let length = Duration::from_secs_f64(minutes * 60.0);
    cargo(root, "build --workspace --locked --bin collector", &[], &[])?;
    let binary = root.join("target/debug/collector");
    let seconds = |length: Duration| format!("{}s", length.as_secs());
    let mut simulator = Killed(
        Command::new(&binary)
            .args(["sim", "--exchanges", "binance,bybit", "--symbols", SYMBOLS, "--rate", RATE, "--for", &seconds(length + Duration::from_mins(1))])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("the simulator does not start")?,
    );
    let mut options = String::new();
    BufReader::new(simulator.0.stdout.take().context("no output")?).read_line(&mut options)?;
    let state = root.join("target/soak");
    let mut collector = Killed(
        Command::new(&binary)
            .args([
                "run",
                "--exchanges",
                "binance,bybit",
                "--markets",
                "spot,linear,inverse",
                "--mode",
                "stream",
                "--sink",
                "null:",
                "--listen",
                "off",
                "--log",
                "json",
            ])
            .args(["--channels", "ticker,mark,funding,open_interest,trade,quote", "--for", &seconds(length), "--state"])
            .arg(&state)
            .args(options.split_whitespace())
            .stdin(Stdio::null())
            .spawn()
            .context("the collector does not start")?,
    );
    let began = Instant::now();
    let (mut early, mut now, mut most) = (0, 0, 0);
    while collector.0.try_wait()?.is_none() {
        if let Some(memory) = memory(collector.0.id()) {
            now = memory;
            most = most.max(memory);
            if began.elapsed() < length / 2 {
                early = memory;
            }
        }
        std::thread::sleep(Duration::from_millis(500));
    }
    let status = collector.0.wait()?;
    println!("soak: {minutes} min, {most} KiB at most, {early} KiB at half time, {now} KiB at the end, code aside");
    if !status.success() {
        bail!("the collector ended with {status}");
    }
    ensure!(most > 0, "this system does not tell a process' memory (/proc)");
    ensure!(most <= BOUND, "more than {BOUND} KiB");
    ensure!(now <= early + GROWTH, "the memory grows");
    Ok(())
}

/// What a process holds of its own, in KiB: not its code, which the system may drop and read again.
fn memory(process: u32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{process}/status")).ok()?;
    status.lines().find_map(|line| line.strip_prefix("RssAnon:")?.trim().strip_suffix("kB")?.trim().parse().ok())
}

/// A process that does not outlive this one's interest in it.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ended = self.0.kill();
        let _reaped = self.0.wait();
    }
}
