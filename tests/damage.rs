//! What lies in the journal's directory is damaged while the collector is down: flipped bits, a torn end. The next run delivers the
//! rest, tells what is missing by gaps, and goes on.
#![cfg(unix)]

mod support;

use std::fs;
use std::path::{Path, PathBuf};

use rustix::process::Signal;
use serde_json::Value;
use support::{
    Events, FILES, Place, RATE, Running, Sim, Stdout, WRITTEN, eventually, files, goes_on, in_redis, loaded, market, metric, missing_in_gaps, served,
};
use test_servers::Proxy;

/// How a record of the journal begins, and how long what is before its lines is at least.
const MAGIC: [u8; 4] = [0xF7, b'R', b'E', 0xF8];
const FIXED: usize = 56;

/// The files of a directory with this ending.
fn ending(directory: &Path, with: &str) -> Vec<PathBuf> {
    files(directory).into_iter().filter(|path| path.extension().is_some_and(|ending| ending == with)).collect()
}

/// Flips a bit of each of these bytes of a file, which are said by its length.
fn flip(path: &Path, at: impl FnOnce(usize) -> Vec<usize>) {
    let mut bytes = fs::read(path).unwrap();
    for at in at(bytes.len()) {
        bytes[at] ^= 0x10;
    }
    fs::write(path, bytes).unwrap();
}

/// Where the records of a segment begin.
fn records(segment: &Path) -> Vec<usize> {
    let bytes = fs::read(segment).unwrap();
    bytes.windows(MAGIC.len()).enumerate().filter(|(_, window)| *window == MAGIC).map(|(at, _)| at).collect()
}

/// Damages records of the later half of a segment: in one's header, in another's lines, in two that follow each other. How many.
fn damage(segment: &Path) -> u64 {
    let records = records(segment);
    assert!(records.len() > 100, "{}: {} records", segment.display(), records.len());
    let at = |part: usize| records[records.len() * part / 10];
    flip(segment, |_| vec![at(6) + 20, at(7) + FIXED + 100, at(8) + 30, records[records.len() * 8 / 10 + 1] + 2]);
    4
}

#[test]
fn a_damaged_journal_is_delivered_but_for_what_gaps_tell() {
    let _alone = support::alone();
    let Some(server) = test_servers::redis() else { return };
    let (place, network) = (Place::new(), Proxy::to(server.address()));
    let sim = Sim::start(market(3, 2.0 * RATE));
    let redis = format!("redis://{}?maxlen=0&latest=off", network.address());
    let start = || Running::start(loaded(&place, &sim, &[FILES, &redis]).args(["--set", "spool.max_size=16MiB"]), Stdout::Collect);
    let journal = place.path("state/collector/spool/mine");

    // Two segments and more wait for a server that is away.
    let run = start();
    eventually("events in the server", || (run.of_sink(WRITTEN, "redis:") > 1000).then_some(()));
    network.refuse();
    eventually("two segments", || (ending(&journal, "journal").len() >= 2).then_some(()));
    goes_on(&run, 5000);
    run.signal(Signal::KILL);
    drop(run);
    let segments = ending(&journal, "journal");
    let damaged: u64 = segments.iter().map(|segment| damage(segment)).sum();
    let newest = fs::File::options().write(true).open(segments.last().unwrap()).unwrap();
    newest.set_len(newest.metadata().unwrap().len() - 20).unwrap();

    network.heal();
    let run = start();
    goes_on(&run, 2000);
    eventually("the end of the backlog", || (metric(&run.metrics(), "collector_sink_backlog_batches", &[]) == 0).then_some(()));
    assert_eq!(run.of_sink("collector_spool_lost_batches_total", "redis:"), damaged);
    let said = run.stderr();
    for word in ["the journal ended in the middle of a record, which was cut off", "are damaged or missing: their loss is told by gap events"] {
        assert!(said.contains(word), "{word}: {said}");
    }
    run.signal(Signal::KILL);
    drop(run);

    // Nobody knows any more where he stands, nor what was seen.
    for cursor in files(&journal.join("cursors")) {
        flip(&cursor, |length| (20..length).step_by(64).collect());
    }
    let checkpoints = ending(&journal, "checkpoint");
    assert!(!checkpoints.is_empty());
    for checkpoint in checkpoints {
        flip(&checkpoint, |length| vec![length / 2]);
    }
    fs::write(journal.join("lost"), "1 2 3 what\n").unwrap();
    let run = start();
    goes_on(&run, 2000);
    let (_, truth) = sim.end();
    run.settle();
    let ended = run.stop().ok();
    for word in ["a checkpoint is damaged", "this cursor is damaged or of another journal: the sink gets again all that lies here"] {
        assert!(ended.stderr.contains(word), "{word}: {}", ended.stderr);
    }
    assert!(!ended.stderr.contains("panicked") && !ended.stderr.contains("wait in the journal"), "{}", ended.stderr);

    let (seen, stored) = (Events::of_killed(&place.path("out")), in_redis(server.address()));
    // Two losses that are close to each other may be the same gap of a channel of which little came meanwhile.
    let without_gaps: String = stored.lines().filter(|line| line.kind() != "gap").flat_map(|line| [line.text(), "\n"]).collect();
    Events::parse(&without_gaps).assert_once();
    let in_server = missing_in_gaps(seen.lines(), &stored).len();
    let in_files = missing_in_gaps(served(&truth, &seen), &seen).len();
    eprintln!("{damaged} batches damaged: the server lacks {in_server} of {} events; the files lack {in_files} of {}", seen.len(), truth.len());
    assert!(in_server as u64 >= damaged && in_server < seen.len() / 10, "{in_server} missing");

    // That it was killed is what is wrong with the ledger, and nothing else.
    let audit = place.run("audit --json");
    assert_eq!(audit.status, Some(1), "{}", audit.stderr);
    let told: Value = serde_json::from_str(&audit.stdout).unwrap();
    let ledger = &told["ledgers"][0];
    assert!(ledger["problems"].as_array().unwrap().iter().all(|problem| problem.as_str().unwrap().contains("was killed")), "{}", ledger["problems"]);
}
