//! A killed process, and one that reads a backlog much larger than its memory should be.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Command, Stdio};

use exchange_core::Batch;
use exchange_spool::{Options, Read, Spool, Sync};

use crate::support::{Found, batch, open, options, which};

const CHILD: &str = "SPOOL_TEST_DIRECTORY";

fn child(test: &str, directory: &Path) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, directory).stdout(Stdio::piped());
    command
}

/// In the child: appends until it is killed, and says what has been answered for.
fn append_until_killed(directory: &str) {
    let small = Options { segment_bytes: 20_000, sync: Sync::Every(std::time::Duration::from_millis(5)), ..Options::default() };
    let spool = Spool::open(Path::new(directory), small).unwrap().spool;
    let first = spool.replay(None).count() as u64;
    for n in first.. {
        spool.append(batch(n)).unwrap();
        if n % 100 == 0 {
            println!("appended {n}");
        }
    }
}

#[test]
fn a_killed_process_has_lost_nothing_that_it_answered_for() {
    if let Ok(directory) = std::env::var(CHILD) {
        return append_until_killed(&directory);
    }
    let place = tempfile::tempdir().unwrap();
    for round in 1..=5 {
        let mut child = child("kill::a_killed_process_has_lost_nothing_that_it_answered_for", place.path()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        // The test harness prefixes the first of them with its own words.
        let appended = lines.map_while(Result::ok).filter_map(|line| line.split_once("appended ")?.1.parse::<u64>().ok()).nth(round).unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
        let found: Found = open(place.path()).spool.replay(None).collect();
        assert!(found.batches.len() as u64 > appended, "{} batches, {appended} was answered for", found.batches.len());
        assert!(found.batches.iter().copied().eq(0..found.batches.len() as u64) && found.lost.is_empty(), "each once, in order");
    }
}

const BACKLOG: u64 = 40 << 20;

/// In the child: reads it all, and says how much memory that took.
fn read_backlog(directory: &str) {
    let spool = Spool::open(Path::new(directory), options()).unwrap().spool;
    let mut reader = spool.reader("a").unwrap();
    let backlog = reader.backlog();
    let (mut count, mut bytes) = (0, 0);
    while let Some(Read::Batch(batch)) = reader.next() {
        count += 1;
        bytes += batch.lines().len() as u64;
    }
    assert!(count == backlog.batches && bytes >= BACKLOG && backlog.bytes >= bytes);
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    println!("{}", status.lines().find(|line| line.starts_with("VmHWM")).unwrap());
}

#[cfg(target_os = "linux")]
#[test]
fn reading_a_backlog_takes_no_more_memory_than_a_record() {
    if let Ok(directory) = std::env::var(CHILD) {
        return read_backlog(&directory);
    }
    let place = tempfile::tempdir().unwrap();
    let spool = Spool::open(place.path(), Options { segment_bytes: 4 << 20, ..options() }).unwrap().spool;
    drop(spool.reader("a").unwrap());
    let lines: Vec<u8> = (0..100).flat_map(|n| batch(n).lines().to_vec()).collect();
    assert_eq!(which(&batch(7)), 7);
    for _ in 0..=BACKLOG / lines.len() as u64 {
        spool.append(Batch::parse(lines.clone()).unwrap()).unwrap();
    }
    drop(spool);
    let output = child("kill::reading_a_backlog_takes_no_more_memory_than_a_record", place.path()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let kib: u64 = text.split("VmHWM:").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{text}")).parse().unwrap();
    assert!(kib < 20 << 10, "{kib} KiB for a backlog of {BACKLOG} bytes");
}
