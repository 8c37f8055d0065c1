//! What sinks hold, by the ids of the events.

use std::fs::File;
use std::io::{BufWriter, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use test_servers::Python;

use super::Sinks;

/// The collector's name.
pub(super) const NAME: &str = "stalled";
/// Compares them, and says how many there are.
const COMPARE: &str = include_str!("ids.py");
/// The next so many entries of a stream, in one answer: the last one's name in the stream, then the ids of all.
const NEXT: &str = "\
local rows = redis.call('XRANGE', KEYS[1], ARGV[1], '+', 'COUNT', 20000)
if #rows == 0 then return {} end
local ids = {rows[#rows][1]}
for _, row in ipairs(rows) do
    for at = 1, #row[2], 2 do
        if row[2][at] == 'id' then ids[#ids + 1] = row[2][at + 1] end
    end
end
return ids";

/// Compares the ids in all sinks with each other, with the trades that the simulator served (those that happened since a time of
/// the Unix clock) and with the collector's ledger, and says how many there are.
///
/// # Errors
/// What the difference is.
pub(super) fn compare(
    python: &Python,
    binary: &Path,
    sinks: &Sinks,
    state: &Path,
    (trades, since): (&Path, Duration),
    folder: &Path,
) -> anyhow::Result<String> {
    let (postgres, redis, ledger) = (folder.join("postgres.ids"), folder.join("redis.ids"), folder.join("ledger.json"));
    from_postgres(sinks, &postgres)?;
    from_redis(sinks, &redis)?;
    let audited = Command::new(binary).args(["audit", "--json", "--name", NAME, "--state"]).arg(state).stdout(File::create(&ledger)?).status()?;
    ensure!(audited.success(), "the ledger does not balance");
    let mut command = python.command();
    command.args(["-c", COMPARE]).args([sinks.parquet.as_path(), &postgres, &redis, trades, &ledger, folder]).arg(since.as_micros().to_string());
    Ok(said(&mut command)?.trim().to_owned())
}

fn from_postgres(sinks: &Sinks, file: &Path) -> anyhow::Result<()> {
    let rejected = sql(sinks, "SELECT count(*) FROM collector.rejected")?;
    ensure!(rejected.trim() == "0", "PostgreSQL rejected {rejected} events");
    let tables = sql(sinks, "SELECT relname FROM pg_class WHERE relnamespace = 'collector'::regnamespace AND relkind = 'p'")?;
    let all: Vec<String> = tables.lines().map(|table| format!("SELECT id FROM collector.{table}")).collect();
    let mut command = psql(sinks, &format!("COPY ({}) TO STDOUT", all.join(" UNION ALL ")));
    let status = command.stdout(File::create(file)?).status().context("psql")?;
    ensure!(status.success(), "psql: {status}");
    Ok(())
}

fn from_redis(sinks: &Sinks, file: &Path) -> anyhow::Result<()> {
    let mut file = BufWriter::new(File::create(file)?);
    let keys = redis(sinks, &["--scan", "--pattern", "collector:*"])?;
    // `PREFIX:TYPE`; keys of instruments and journals are longer.
    let is_stream = |key: &&str| key.matches(':').count() == 1;
    for stream in keys.lines().filter(is_stream) {
        let mut from = "-".to_owned();
        loop {
            let answer = redis(sinks, &["EVAL", NEXT, "1", stream, &from])?;
            let Some((last, ids)) = answer.split_once('\n').filter(|(last, _)| !last.is_empty()) else { break };
            file.write_all(ids.as_bytes())?;
            from = format!("({last}");
        }
    }
    file.flush()?;
    Ok(())
}

/// Asks `PostgreSQL`.
pub(super) fn sql(sinks: &Sinks, statement: &str) -> anyhow::Result<String> {
    said(&mut psql(sinks, statement))
}

fn psql(sinks: &Sinks, statement: &str) -> Command {
    let mut command = Command::new("psql");
    command.arg(sinks.postgres_address()).args(["--no-psqlrc", "--tuples-only", "--no-align", "--command", statement]);
    command
}

/// Asks Redis.
pub(super) fn redis(sinks: &Sinks, arguments: &[&str]) -> anyhow::Result<String> {
    said(Command::new("redis-cli").args(["--raw", "-p", &sinks.redis.port().to_string()]).args(arguments))
}

/// What a command says.
fn said(command: &mut Command) -> anyhow::Result<String> {
    let name = command.get_program().display().to_string();
    let output = command.stdin(Stdio::null()).output().with_context(|| name.clone())?;
    ensure!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr).trim());
    String::from_utf8(output.stdout).with_context(|| name)
}
