//! Sinks that stall for minutes while tens of thousands of events a second come: the collector's memory has a bound, all that
//! waits lies on the disk, and in the end each sink has each event once.
//!
//! A simulator streams to a released collector, which writes to Parquet, `PostgreSQL` and Redis. Both servers are stopped where
//! they are (`SIGSTOP`): connections stay open, and nothing answers. When the load is over they go on, and the backlog drains.
//! Redis keeps all of it in memory: some 6 GB after five minutes.

mod ids;

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, BufWriter, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, ensure};
use test_servers::{POSTGRES_PASSWORD, Server};

use crate::load::{self, Process};
use crate::run::target;

/// The most that the collector may ever have had in memory, its code included, in KiB.
const BOUND: u64 = 128 << 10;
/// Events a second, unless another rate is asked for.
const RATE: &str = "50000";
/// Updates of the simulated markets for each event of [`CHANNELS`]: of a hundred updates, forty are of books, which are not among
/// them, and some of the others are several events.
const UPDATES: f64 = 1.42;
const CHANNELS: &str = "ticker,quote,mark,funding,open_interest,trade";
/// Instruments of each of three markets of both venues.
const SYMBOLS: &str = "200";
/// An event takes at least so many bytes in the journal.
const LEAST: u64 = 150;
/// How long the collector may take until all sinks have something.
const START: Duration = Duration::from_mins(1);
/// How often is looked,
const LOOK: Duration = Duration::from_millis(500);
/// and how often it is said what was seen.
const TELL: Duration = Duration::from_secs(15);
/// What sinks have accepted, they have been asked to confirm after a while.
const CONFIRMED: Duration = Duration::from_secs(3);

/// Stalls for so many minutes (fractions allowed). All of it ends within some three times as long and two minutes, where there is
/// nothing to be compiled.
pub(crate) fn run(root: &Path, minutes: &str, rate: Option<&str>) -> anyhow::Result<()> {
    let minutes: f64 = minutes.parse().context("how many minutes?")?;
    let length = Duration::from_secs_f64(minutes * 60.0);
    let rate: f64 = rate.unwrap_or(RATE).parse().context("how many events a second?")?;
    let binary = load::collector(root)?;
    let folder = Folder::new(target(root).join("stall"))?;
    let missing = "a server is not installed: `cargo xtask servers` does it";
    let python = test_servers::python(&["duckdb"]).context(missing)?;
    let postgres = test_servers::postgres().context(missing)?;
    let redis = test_servers::redis_with(&[]).context(missing)?;
    let sinks = Sinks { parquet: folder.0.join("data"), postgres, redis };

    let (truth, trades) = (folder.0.join("truth"), folder.0.join("trades"));
    let told = truth_into(&truth, &trades)?;
    let updates = (rate * UPDATES).to_string();
    let (simulator, options) = load::simulator(&binary, SYMBOLS, &updates, &["--truth", &truth.to_string_lossy()])?;
    let state = folder.0.join("state");
    let mut watch = Watch::start(&binary, &sinks, &state, &options, &target(root).join("stall.log"))?;
    let began = Instant::now();
    while !sinks.have_begun() {
        watch.look("starting")?;
        ensure!(began.elapsed() < START, "the sinks get nothing: {} says why", watch.log.display());
        std::thread::sleep(LOOK);
    }

    let before = watch.look("stalling")?;
    // What was before is served, too, to one who asks for the last trades.
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?;
    sinks.pause();
    let began = Instant::now();
    while began.elapsed() < length {
        watch.look("stalled")?;
        std::thread::sleep(LOOK);
    }
    let behind = watch.look("stalled")?;
    let seconds = began.elapsed().as_secs_f64();
    simulator.stop("simulator")?;
    // Parquet has had it, the other two have not: it lies there.
    let came = behind.events - before.events;
    ensure!(behind.waiting.min(behind.journal) > came * LEAST, "{came} events came, and {behind:?} is all that waits");
    ensure!(folder_size(&state.join("spool"))? > came * LEAST, "{came} events came, and are not on the disk");
    #[expect(clippy::cast_precision_loss, reason = "for people")]
    let speed = came as f64 / seconds;
    println!("stall: {came} events in {seconds:.0} s of stalling ({speed:.0}/s), {} MiB wait, {} KiB of memory at most", behind.waiting >> 20, watch.most);
    ensure!(speed > rate / 2.0, "less than half of the {rate} events a second that there should be: this machine is too slow or too busy");

    sinks.resume();
    let began = Instant::now();
    while watch.look("draining")?.batches > 0 {
        ensure!(began.elapsed() < length * 2 + START, "the sinks do not catch up: {} says why", watch.log.display());
        std::thread::sleep(LOOK);
    }
    println!("stall: caught up within {} s, {} KiB of memory at most", began.elapsed().as_secs(), watch.most);
    std::thread::sleep(CONFIRMED);
    watch.look("ending")?;
    watch.end()?;
    told.join().map_err(|_| anyhow::anyhow!("the truth was not read"))?.context("the truth cannot be read")?;
    let counts = ids::compare(&python, &binary, &sinks, &state, (&trades, since), &folder.0)?;
    println!("stall: {counts}");
    Ok(())
}

/// Where the events go.
struct Sinks {
    parquet: PathBuf,
    postgres: Server,
    redis: Server,
}

impl Sinks {
    fn addresses(&self) -> [String; 3] {
        [format!("parquet:{}", self.parquet.display()), self.postgres_address(), format!("redis://{}?maxlen=0", self.redis.address())]
    }

    fn postgres_address(&self) -> String {
        format!("postgres://postgres:{POSTGRES_PASSWORD}@{}/postgres", self.postgres.address())
    }

    /// Whether each of them has something.
    fn have_begun(&self) -> bool {
        let rows = ids::sql(self, "SELECT count(*) FROM collector.positions").is_ok_and(|count| count.trim() != "0");
        rows && ids::redis(self, &["--scan", "--pattern", "collector:position:*"]).is_ok_and(|keys| !keys.trim().is_empty()) && self.parquet.is_dir()
    }

    fn pause(&self) {
        self.postgres.pause();
        self.redis.pause();
    }

    fn resume(&self) {
        self.postgres.resume();
        self.redis.resume();
    }
}

/// What a collector says of itself.
#[derive(Debug, Default)]
struct Figures {
    /// Events that were passed on.
    events: u64,
    /// Bytes that the journal has on the disk.
    journal: u64,
    /// Batches that wait for sinks,
    batches: u64,
    /// and their bytes, of the sink for which most waits.
    waiting: u64,
}

/// The collector, and what was seen of it.
struct Watch {
    collector: Process,
    metrics: SocketAddr,
    log: PathBuf,
    /// Its memory at most, in KiB.
    most: u64,
    told: Option<Instant>,
}

impl Watch {
    fn start(binary: &Path, sinks: &Sinks, state: &Path, options: &[String], log: &Path) -> anyhow::Result<Self> {
        let metrics = SocketAddr::from((Ipv4Addr::LOCALHOST, test_servers::free_port()));
        let mut command = Command::new(binary);
        command.args(["run", "--exchanges", "binance,bybit", "--markets", "spot,linear,inverse", "--mode", "stream", "--all-events"]);
        command.args(["--channels", CHANNELS, "--log", "json", "--name", ids::NAME, "--listen", &metrics.to_string(), "--state"]).arg(state);
        command.args(sinks.addresses().iter().flat_map(|address| ["--sink", address])).args(options);
        let collector = Process::start(command.stderr(File::create(log)?))?;
        Ok(Self { collector, metrics, log: log.to_owned(), most: 0, told: None })
    }

    /// Looks at it.
    ///
    /// # Errors
    /// Where it has ended, takes too much, or has lost anything.
    fn look(&mut self, now: &str) -> anyhow::Result<Figures> {
        if let Some(status) = self.collector.ended()? {
            anyhow::bail!("the collector ended with {status}: {} says why", self.log.display());
        }
        self.most = self.collector.memory("VmHWM").context("this system does not tell a process' memory (/proc)")?;
        ensure!(self.most <= BOUND, "it took {} KiB, more than {BOUND}, {now}", self.most);
        let text = match metrics(self.metrics) {
            Ok(text) => text,
            // It takes a moment to begin.
            Err(_) if self.told.is_none() => return Ok(Figures::default()),
            Err(error) => return Err(error).context("the collector does not tell its metrics"),
        };
        let sum = |name| samples(&text, name).sum();
        let lost = [
            ("collector_spool_lost_events_total", sum("collector_spool_lost_events_total")),
            ("collector_events_dropped_total", sum("collector_events_dropped_total")),
        ];
        ensure!(lost.iter().all(|(_, count)| *count == 0), "events are lost: {lost:?}");
        let figures = Figures {
            events: sum("collector_events_total"),
            journal: sum("collector_spool_bytes"),
            batches: sum("collector_sink_backlog_batches"),
            waiting: samples(&text, "collector_sink_backlog_bytes").max().unwrap_or(0),
        };
        if self.told.is_none_or(|told| told.elapsed() >= TELL) {
            self.told = Some(Instant::now());
            eprintln!("{now}: {figures:?}, {} KiB at most", self.most);
        }
        Ok(figures)
    }

    /// Ends it in an orderly way, with nothing left to be delivered.
    fn end(self) -> anyhow::Result<()> {
        self.collector.stop("collector")?;
        let log = fs::read_to_string(&self.log)?;
        ensure!(!log.contains("wait in the journal"), "something was not delivered: {} says what", self.log.display());
        Ok(())
    }
}

/// The collector's metrics.
fn metrics(address: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, START)?;
    stream.set_read_timeout(Some(START))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The values of a metric, whatever its labels.
fn samples<'t>(text: &'t str, name: &'t str) -> impl Iterator<Item = u64> + 't {
    text.lines().filter_map(move |line| {
        let rest = line.strip_prefix(name)?;
        let value = if rest.starts_with('{') { rest.rsplit_once("} ")?.1 } else { rest.strip_prefix(' ')? };
        value.split('.').next()?.parse().ok()
    })
}

/// Reads the simulator's truth as it is written, from a pipe, and keeps the ids and times of trades: all of it would be gigabytes.
fn truth_into(truth: &Path, trades: &Path) -> anyhow::Result<std::thread::JoinHandle<std::io::Result<()>>> {
    let made = Command::new("mkfifo").arg(truth).status().context("mkfifo")?;
    ensure!(made.success(), "mkfifo: {made}");
    let (truth, mut trades) = (truth.to_owned(), BufWriter::new(File::create(trades)?));
    Ok(std::thread::spawn(move || {
        let mut lines = BufReader::with_capacity(1 << 18, File::open(truth)?);
        let mut line = Vec::new();
        while lines.read_until(b'\n', &mut line)? > 0 {
            if let Some((id, time)) = trade(&line) {
                writeln!(trades, "{id},{time}")?;
            }
            line.clear();
        }
        trades.flush()
    }))
}

/// A trade's id, which is what an event line ends with, and its time at the venue.
fn trade(line: &[u8]) -> Option<(&str, &str)> {
    let line = str::from_utf8(line.strip_prefix(br#"{"type":"trade","#)?).ok()?;
    let (front, id) = line.strip_suffix("\"}\n")?.rsplit_once("\"id\":\"")?;
    let (_, behind) = front.split_once("\"et\":")?;
    Some((id, behind.split(',').next()?))
}

fn folder_size(folder: &Path) -> std::io::Result<u64> {
    let mut size = 0;
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        size += if metadata.is_dir() { folder_size(&entry.path())? } else { metadata.len() };
    }
    Ok(size)
}

/// A folder that is gone with this.
struct Folder(PathBuf);

impl Folder {
    fn new(path: PathBuf) -> anyhow::Result<Self> {
        if path.exists() {
            fs::remove_dir_all(&path)?;
        }
        fs::create_dir_all(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{}: {error}", self.0.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_told_from_longer_names() {
        let text = "# HELP a what\na_total 9\na{sink=\"one\"} 3\na{sink=\"two } x\"} 4.0\n";
        assert_eq!(samples(text, "a").collect::<Vec<_>>(), [3, 4]);
        assert_eq!(samples(text, "a_total").sum::<u64>(), 9);
    }

    #[test]
    fn of_the_truth_the_ids_of_trades_are_kept() {
        let line = |kind: &str| format!("{{\"type\":\"{kind}\",\"t\":8,\"et\":7,\"price\":\"1\",\"id\":\"00ff\"}}\n");
        assert_eq!(trade(line("trade").as_bytes()), Some(("00ff", "7")));
        assert_eq!(trade(line("quote").as_bytes()), None);
    }
}
