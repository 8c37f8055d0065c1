//! No room: at the size that was set, on a full disk, at the system's limit for a file.

use std::path::Path;
use std::process::Command;

use exchange_core::{Batch, Position};
use exchange_spool::{Cause, Options, Read, Spool, SpoolError};

use crate::support::{Found, append, batch, drain, options, segments, which};

fn size(directory: &Path) -> u64 {
    segments(directory).iter().map(|path| std::fs::metadata(path).unwrap().len()).sum()
}

#[test]
fn beyond_its_size_the_oldest_goes_and_each_reader_is_told_of_what_it_has_not_read() {
    let place = tempfile::tempdir().unwrap();
    let limited = Options { segment_bytes: 3000, max_bytes: 20_000, ..options() };
    let spool = Spool::open(place.path(), limited.clone()).unwrap().spool;
    let (mut fast, mut slow, mut dead) = (spool.reader("fast").unwrap(), spool.reader("slow").unwrap(), spool.reader("dead").unwrap());
    let (mut of_fast, mut of_slow) = (Found::default(), Found::default());
    for n in 0..200 {
        append(&spool, n..n + 1);
        of_fast.batches.push(which(&fast.next().unwrap().into_batch()));
        if n == 4 || n % 40 == 39 {
            let (batches, lost) = (&mut of_slow.batches, &mut of_slow.lost);
            for _ in 0..3 {
                match slow.next().unwrap() {
                    Read::Batch(batch) => batches.push(which(&batch)),
                    Read::Lost(told) => lost.push(told),
                }
            }
        }
        assert!(size(place.path()) <= 20_000);
    }
    let rest = drain(&mut slow);
    of_slow.batches.extend(rest.batches);
    of_slow.lost.extend(rest.lost);
    assert_eq!(of_fast.batches, (0..200).collect::<Vec<_>>());
    let of_dead = drain(&mut dead);
    for found in [&of_slow, &of_dead] {
        let missing: Vec<u64> = (0..200).filter(|n| !found.batches.contains(n)).collect();
        assert!(missing.len() > 50);
        assert_eq!((found.lost_batches(), found.lost_events()), (missing.len() as u64, 3 * missing.len() as u64));
        assert!(missing.iter().all(|n| found.tells(*n)));
        assert!(found.lost.iter().all(|lost| lost.cause == Cause::Dropped));
    }
    assert_eq!(of_dead.lost.len(), 1, "all at once");
    assert!(of_slow.lost.len() > 2 && of_slow.batches.starts_with(&[0, 1, 2]));
    // What it was not told before the end of the process it is told after, with the same ids.
    drop((fast, slow, dead, spool));
    let spool = Spool::open(place.path(), limited).unwrap().spool;
    let again = drain(&mut spool.reader("dead").unwrap());
    assert_eq!(again.batches, of_dead.batches);
    assert_eq!(again.lost[0].batch.lines(), of_dead.lost[0].batch.lines());
    assert_eq!(again.lost[0].batch.position(), of_dead.lost[0].batch.position());
}

/// Readers in the middle of files that are deleted under them: each batch is delivered or told.
#[test]
fn nothing_is_untold_while_the_oldest_goes_under_the_readers() {
    const BATCHES: u64 = 1500;
    let place = tempfile::tempdir().unwrap();
    let limited = Options { segment_bytes: 100_000, max_bytes: 500_000, ..options() };
    let spool = Spool::open(place.path(), limited).unwrap().spool;
    let large = |n: u64| Batch::new((0..10).flat_map(|_| batch(n).events().to_vec()).collect());
    let readers: Vec<_> = ["a", "b", "c"].into_iter().map(|name| spool.reader(name).unwrap()).collect();
    std::thread::scope(|scope| {
        for (number, mut reader) in readers.into_iter().enumerate() {
            let end = Position { number: BATCHES, ..spool.last() };
            scope.spawn(move || {
                let mut random = fastrand::Rng::with_seed(number as u64);
                let (mut found, mut repeated) = (Found::default(), 0);
                while reader.position() < end {
                    match reader.next() {
                        Some(Read::Batch(batch)) => found.batches.push(batch.position().unwrap().number - 1),
                        Some(Read::Lost(lost)) => {
                            assert_eq!(lost.cause, Cause::Dropped, "{lost:?}");
                            found.lost.push(lost);
                            repeated += 1;
                        }
                        None => std::thread::yield_now(),
                    }
                    if random.u8(0..10) == 0 {
                        reader.acknowledge(reader.position()).unwrap();
                        // Slower than what is appended.
                        std::thread::sleep(std::time::Duration::from_micros(random.u64(0..20_000)));
                    }
                }
                assert!(found.batches.is_sorted_by(|a, b| a < b));
                let missing: Vec<u64> = (0..BATCHES).filter(|n| !found.batches.contains(n)).collect();
                assert!(missing.iter().all(|n| found.tells(*n)));
                // What is read while it is deleted may be told as well: one batch each time.
                let told = found.lost_batches();
                assert!((missing.len() as u64..=missing.len() as u64 + repeated).contains(&told), "{} missing, {told} told", missing.len());
                assert!(!missing.is_empty(), "this is about losses");
            });
        }
        for n in 0..BATCHES {
            spool.append(large(n)).unwrap();
        }
    });
}

/// Whoever watches sees the loss when it happens, not when a dead sink comes back to read of it.
#[test]
fn what_is_lost_is_counted_once_for_each_sink() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    let place = tempfile::tempdir().unwrap();
    let missing = metrics::with_local_recorder(&recorder, || {
        let spool = Spool::open(place.path(), Options { segment_bytes: 3000, max_bytes: 20_000, ..options() }).unwrap().spool;
        let (mut fast, mut dead) = (spool.reader("fast").unwrap(), spool.reader("dead").unwrap());
        for n in 0..100 {
            append(&spool, n..n + 1);
            fast.next().unwrap();
        }
        assert_eq!(drain(&mut dead).lost.len(), 1);
        100 - spool.replay(None).count()
    });
    let text = recorder.handle().render();
    for line in [
        format!(r#"collector_spool_lost_events_total{{sink="dead",cause="dropped"}} {}"#, 3 * missing),
        format!(r#"collector_spool_lost_batches_total{{sink="dead",cause="dropped"}} {missing}"#),
        format!(r#"collector_spool_bytes{{spool="{}"}} {}"#, place.path().file_name().unwrap().display(), size(place.path())),
    ] {
        assert!(text.lines().any(|found| found == line), "{line} in {text}");
    }
    // What has not happened is a zero, which an alert needs.
    for zero in [r#"sink="dead",cause="damaged""#, r#"sink="fast",cause="dropped""#, r#"sink="fast",cause="damaged""#] {
        assert!(text.contains(&format!("collector_spool_lost_events_total{{{zero}}} 0\n")), "{text}");
    }
    assert!(text.contains("collector_spool_sync_errors_total 0\n"), "{text}");
}

#[test]
fn on_a_full_disk_the_oldest_goes() {
    let Some(disk) = test_servers::disk(256 * 1024) else { return };
    let place = disk.path().join("journal");
    let spool = Spool::open(&place, Options { segment_bytes: 32 * 1024, ..options() }).unwrap().spool;
    let mut reader = spool.reader("a").unwrap();
    append(&spool, 0..3000);
    let found = drain(&mut reader);
    let missing: Vec<u64> = (0..3000).filter(|n| !found.batches.contains(n)).collect();
    assert!(missing.len() > 1000 && found.batches.len() > 100 && found.batches.ends_with(&[2998, 2999]));
    assert_eq!(found.lost_batches(), missing.len() as u64);
    assert!(missing.iter().all(|n| found.tells(*n)));

    // Somebody else takes the whole disk, again and again: what is left of the room goes round, and what finds none is refused.
    reader.acknowledge(spool.last()).unwrap();
    let (mut taken, mut refused) = (Vec::new(), 0);
    for n in 3000..3300 {
        disk.fill();
        match spool.append(batch(n)) {
            Ok(batch) => taken.push(which(&batch)),
            Err(error) => {
                assert!(matches!(error.error, SpoolError::Full { .. }) && error.error.is_retryable() && which(&error.batch) == which(&batch(n)), "{error}");
                refused += 1;
            }
        }
    }
    assert!(refused > 10 && taken.len() > 10, "{refused} refused, {} taken", taken.len());
    disk.free();
    append(&spool, 5000..5002);
    taken.extend([5000, 5001]);
    let found = drain(&mut reader);
    let missing: Vec<u64> = taken.iter().copied().filter(|n| !found.batches.contains(n)).collect();
    assert!(found.batches.iter().all(|n| taken.contains(n)) && missing.iter().all(|n| found.tells(*n)));
    assert_eq!(found.lost_batches(), missing.len() as u64);
    drop((reader, spool));
    let opened = Spool::open(&place, options()).unwrap();
    assert_eq!(opened.repaired, None);
    let again: Found = opened.spool.replay(None).collect();
    assert!(again.lost.is_empty() && again.batches.ends_with(&found.batches), "{again:?}");
}

const CHILD: &str = "SPOOL_TEST_LIMITED";

/// The system refuses to write a record to its end.
#[test]
fn half_a_record_never_stands_before_whole_ones() {
    if let Ok(directory) = std::env::var(CHILD) {
        let spool = Spool::open(Path::new(&directory), options()).unwrap().spool;
        let large = || Batch::new((0..10).flat_map(|n| batch(n).events().to_vec()).collect());
        let failed = (0..100).find(|_| spool.append(large()).is_err()).unwrap();
        // A smaller one still fits.
        spool.append(batch(0)).unwrap();
        assert!(spool.append(large()).is_err());
        return println!("failed {failed}");
    }
    let place = tempfile::tempdir().unwrap();
    // In blocks of 512 bytes (1024 in some shells); the signal that goes with it is ignored.
    let said = limited("trap '' XFSZ; ulimit -f 50", "room::half_a_record_never_stands_before_whole_ones", place.path());
    let failed: usize = said.split("failed ").nth(1).and_then(|rest| rest.split_whitespace().next()).unwrap_or_else(|| panic!("{said}")).parse().unwrap();
    let opened = Spool::open(place.path(), options()).unwrap();
    assert_eq!(opened.repaired, None);
    let reads: Vec<_> = opened.spool.replay(None).map(|read| read.into_batch().events().len()).collect();
    assert_eq!(reads, [vec![30; failed], vec![3]].concat());
}

/// In the child: no file can be opened for a while. What cannot be read now is not lost.
fn run_out_of_files(directory: &str) {
    let spool = Spool::open(Path::new(directory), options()).unwrap().spool;
    let mut reader = spool.reader("a").unwrap();
    let files: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    assert!(reader.next().is_none() && reader.backlog().batches == 5);
    drop(files);
    let found = drain(&mut reader);
    println!("found {:?}, lost {}", found.batches, found.lost.len());
}

#[test]
fn what_cannot_be_read_now_is_not_lost() {
    if let Ok(directory) = std::env::var(CHILD) {
        return run_out_of_files(&directory);
    }
    let place = tempfile::tempdir().unwrap();
    append(&Spool::open(place.path(), options()).unwrap().spool, 0..5);
    let said = limited("ulimit -n 64", "room::what_cannot_be_read_now_is_not_lost", place.path());
    assert!(said.contains("found [0, 1, 2, 3, 4], lost 0"), "{said}");
}

/// Runs a test in a process of its own under a limit; what it printed.
fn limited(limit: &str, test: &str, directory: &Path) -> String {
    let script = format!("{limit}; exec \"$0\" --exact \"$1\" --nocapture");
    let output = Command::new("sh").args(["-c", &script]).arg(std::env::current_exe().unwrap()).arg(test).env(CHILD, directory).output().unwrap();
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}
