//! Memory under a long stream: thousands of instruments from a simulator in another process, for minutes or hours.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};

use crate::load::{self, Process};
use crate::run::target;

/// The most that the collector may ever have had in memory, its code included, in KiB.
const BOUND: u64 = 64 << 10;
/// How much may come in the second half: windows of ids and allocators' reserves fill up, leaks go on.
const GROWTH: u64 = 8 << 10;
/// Instruments of each of three markets of both venues: 4,300 in all, and more derivatives than spot, which carry more.
const SYMBOLS: &str = "717";
const RATE: &str = "10000";
/// How often is looked.
const LOOK: Duration = Duration::from_millis(250);

/// Streams for so many minutes (fractions allowed), and compares the collector's memory with its bounds.
pub(crate) fn run(root: &Path, minutes: &str) -> anyhow::Result<()> {
    let minutes: f64 = minutes.parse().context("how many minutes?")?;
    let length = Duration::from_secs_f64(minutes * 60.0);
    let binary = load::collector(root)?;
    let (_simulator, options) = load::simulator(&binary, SYMBOLS, RATE, &[])?;
    let mut command = Command::new(&binary);
    command.args(["run", "--exchanges", "binance,bybit", "--markets", "spot,linear,inverse", "--mode", "stream"]);
    command.args(["--channels", "ticker,mark,funding,open_interest,trade,quote", "--sink", "null:", "--listen", "off", "--log", "json"]);
    command.args(["--for", &format!("{}s", length.as_secs()), "--state"]).arg(target(root).join("soak")).args(&options);
    let mut collector = Process::start(&mut command)?;
    let began = Instant::now();
    let (mut early, mut now, mut most) = (0, 0, 0);
    let status = loop {
        if let Some(status) = collector.ended()? {
            break status;
        }
        most = collector.memory("VmHWM").unwrap_or(most);
        if let Some(memory) = collector.memory("RssAnon") {
            now = memory;
            if began.elapsed() < length / 2 {
                early = memory;
            }
        }
        std::thread::sleep(LOOK);
    };
    println!("soak: {minutes} min, {most} KiB at most; code aside, {early} KiB at half time, {now} KiB at the end");
    ensure!(status.success(), "the collector ended with {status}");
    ensure!(most > 0, "this system does not tell a process' memory (/proc)");
    ensure!(most <= BOUND, "more than {BOUND} KiB");
    ensure!(now <= early + GROWTH, "the memory grows");
    Ok(())
}
