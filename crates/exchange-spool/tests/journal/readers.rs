//! Sinks that come and go, each at its own pace.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, SystemTime};

use exchange_core::Batch;
use exchange_spool::{Backlog, Options, Read, Spool, SpoolError, Sync};

use crate::support::{Found, append, batch, drain, open, options, segments, which};

#[test]
fn every_reader_gets_every_batch_in_order_and_goes_on_where_it_acknowledged() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let (mut a, mut b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    assert!(a.next().is_none());
    append(&spool, 0..10);
    assert_eq!(drain(&mut a).batches, (0..10).collect::<Vec<_>>());
    a.acknowledge(a.position()).unwrap();
    let third = (0..3).map(|_| b.next().unwrap().into_batch()).last().unwrap();
    assert_eq!(which(&third), 2);
    b.acknowledge(third.position().unwrap()).unwrap();
    // Behind what was read, not acknowledged, a killed process begins again.
    b.next().unwrap();
    assert!(a.next().is_none());
    assert_eq!((a.backlog().batches, b.backlog().batches), (0, 6));
    drop((a, b, spool));

    let spool = open(place.path()).spool;
    let (mut a, mut b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    append(&spool, 10..12);
    assert_eq!(drain(&mut a).batches, [10, 11]);
    assert_eq!(drain(&mut b).batches, (3..12).collect::<Vec<_>>());
    assert_eq!(b.backlog(), Backlog::default());
}

#[test]
fn numbers_grow_and_are_never_given_twice() {
    let place = tempfile::tempdir().unwrap();
    let mut last = None;
    for run in 0..4 {
        let spool = open(place.path()).spool;
        for n in 0..run {
            let position = spool.append(batch(n)).unwrap().position();
            assert!(position > last, "{position:?} after {last:?}");
            assert_eq!(Some(spool.last()), position);
            last = position;
        }
        assert_eq!(spool.last().journal, last.map_or(spool.last().journal, |last| last.journal), "it is the same journal");
    }
}

#[test]
fn a_sink_that_knows_more_than_the_journal_gets_what_is_new() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let mut reader = spool.reader("a").unwrap();
    append(&spool, 0..5);
    let mut position = spool.last();
    position.number += 1000;
    reader.seek(position);
    assert!(reader.next().is_none());
    append(&spool, 5..7);
    assert_eq!(drain(&mut reader).batches, [5, 6]);
    assert!(spool.last() > position);
    // Back to where the sink says, and of another journal nothing.
    position.number -= 1000;
    position.number -= 2;
    reader.seek(position);
    position.journal += 1;
    reader.seek(position);
    reader.acknowledge(position).unwrap();
    assert_eq!(drain(&mut reader).batches, [3, 4, 5, 6]);
    assert_eq!(drain(&mut reader).lost_batches(), 0);
}

#[test]
fn a_new_name_begins_at_the_end_but_the_first_at_the_beginning() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    append(&spool, 0..3);
    assert_eq!(drain(&mut spool.reader("first").unwrap()).batches, [0, 1, 2]);
    let mut second = spool.reader("second").unwrap();
    append(&spool, 3..4);
    assert_eq!(drain(&mut second).batches, [3]);
    assert!(matches!(spool.reader("second"), Err(SpoolError::Attached(name)) if name == "second"));
    drop(second);
    assert_eq!(drain(&mut spool.reader("second").unwrap()).batches, [3], "nothing was acknowledged");
}

#[test]
fn a_damaged_cursor_gives_everything_again() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let mut reader = spool.reader("a").unwrap();
    append(&spool, 0..3);
    drain(&mut reader);
    reader.acknowledge(spool.last()).unwrap();
    drop((reader, spool));
    std::fs::write(place.path().join("cursors/a.cursor"), [7; 128]).unwrap();
    let spool = open(place.path()).spool;
    assert_eq!(drain(&mut spool.reader("a").unwrap()).batches, [0, 1, 2]);
}

#[test]
fn readers_that_fall_behind_memory_read_the_disk_and_come_back() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let (mut a, mut b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    let large = |n: u64| Batch::new((0..1000).flat_map(|m| batch(n * 1000 + m).events().to_vec()).collect());
    let mut read = 0;
    for n in 0..24 {
        spool.append(large(n)).unwrap();
        drain_large(&mut a);
        // One that is slower by half.
        for _ in 0..n % 2 {
            assert_eq!(b.next().unwrap().into_batch().lines(), large(read).lines());
            read += 1;
        }
    }
    while let Some(Read::Batch(batch)) = b.next() {
        assert_eq!(batch.lines(), large(read).lines());
        read += 1;
    }
    assert_eq!(read, 24);
}

fn drain_large(reader: &mut exchange_spool::Reader) {
    let Some(Read::Batch(batch)) = reader.next() else { panic!("a batch") };
    assert_eq!(batch.events().len(), 3000);
    assert!(reader.next().is_none());
}

#[test]
fn segments_go_when_all_sinks_and_two_checkpoints_are_past_them() {
    let place = tempfile::tempdir().unwrap();
    let small = Options { segment_bytes: 2000, ..options() };
    let spool = Spool::open(place.path(), small.clone()).unwrap().spool;
    let (mut a, b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    assert!(!spool.wants_checkpoint());
    append(&spool, 0..50);
    assert!(spool.wants_checkpoint(), "segments were begun");
    let all = segments(place.path()).len();
    assert!(all > 10);
    drain(&mut a);
    a.acknowledge(spool.last()).unwrap();
    b.acknowledge(spool.last()).unwrap();
    assert_eq!(segments(place.path()).len(), all, "a restart needs them");
    spool.checkpoint(b"one").unwrap();
    assert!(!spool.wants_checkpoint());
    assert_eq!(segments(place.path()).len(), all, "the only checkpoint may be damaged");
    append(&spool, 50..52);
    spool.checkpoint(b"two").unwrap();
    let left = segments(place.path()).len();
    assert!(left <= 2, "{left}");
    // The older of the two is what a damaged newer one leaves; what lies behind it is still there.
    let two = std::fs::read_dir(place.path()).unwrap().map(|entry| entry.unwrap().path());
    let mut two: Vec<_> = two.filter(|path| path.extension().is_some_and(|extension| extension == "checkpoint")).collect();
    two.sort();
    drop((a, b, spool));
    let opened = open(place.path());
    let (position, bytes) = opened.checkpoint.unwrap();
    assert_eq!(bytes, b"two");
    assert!(opened.spool.replay(Some(position)).next().is_none());
    std::fs::write(&two[1], b"broken").unwrap();
    let opened = open(place.path());
    let (position, bytes) = opened.checkpoint.unwrap();
    assert_eq!(bytes, b"one");
    let behind: Found = opened.spool.replay(Some(position)).collect();
    assert_eq!((behind.batches, behind.lost.len()), (vec![50, 51], 0));
}

#[test]
fn a_sink_that_is_gone_for_long_holds_nothing() {
    let place = tempfile::tempdir().unwrap();
    let spool = Spool::open(place.path(), Options { segment_bytes: 2000, ..options() }).unwrap().spool;
    let (a, b) = (spool.reader("a").unwrap(), spool.reader("b").unwrap());
    drop(b);
    append(&spool, 0..50);
    a.acknowledge(spool.last()).unwrap();
    spool.checkpoint(b"").unwrap();
    append(&spool, 50..51);
    spool.checkpoint(b"").unwrap();
    assert!(segments(place.path()).len() > 10, "`b` may come back");
    let age = |days: u64| {
        let file = std::fs::File::options().write(true).open(place.path().join("cursors/b.cursor")).unwrap();
        file.set_modified(SystemTime::now() - Duration::from_hours(days * 24)).unwrap();
    };
    age(6);
    append(&spool, 51..70);
    assert!(segments(place.path()).len() > 10);
    age(8);
    let before = segments(place.path()).len();
    append(&spool, 70..80);
    a.acknowledge(spool.last()).unwrap();
    assert!(segments(place.path()).len() < before - 10);
    // It is new again.
    let mut b = spool.reader("b").unwrap();
    assert!(b.next().is_none());
}

#[test]
fn checkpoints_of_elsewhere_are_refused() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    append(&spool, 0..1);
    let mut position = spool.last();
    position.number += 1;
    assert!(matches!(spool.checkpoint_at(position, b""), Err(SpoolError::Foreign(_))));
}

#[test]
fn a_newer_format_is_refused_by_name() {
    let place = tempfile::tempdir().unwrap();
    append(&open(place.path()).spool, 0..1);
    let path = &segments(place.path())[0];
    let mut bytes = std::fs::read(path).unwrap();
    bytes[12] = 2;
    let crc = crc32c::crc32c(&bytes[12..32]);
    bytes[8..12].copy_from_slice(&crc.to_le_bytes());
    // Of a newer format even the end is not judged.
    bytes.truncate(50);
    std::fs::write(path, &bytes).unwrap();
    let error = Spool::open(place.path(), options()).unwrap_err();
    assert!(matches!(error, SpoolError::Newer { version: 2, .. }) && error.to_string().contains("use the release that wrote it"), "{error}");
    assert_eq!(std::fs::read(path).unwrap(), bytes);
}

#[test]
fn every_policy_of_syncing_delivers() {
    for sync in [Sync::Every(Duration::from_millis(1)), Sync::Always, Sync::Never] {
        let place = tempfile::tempdir().unwrap();
        let spool = Spool::open(place.path(), Options { sync, ..Options::default() }).unwrap().spool;
        let mut reader = spool.reader("a").unwrap();
        std::thread::scope(|scope| {
            for part in 0..4 {
                let spool = spool.clone();
                scope.spawn(move || append(&spool, part * 25..part * 25 + 25));
            }
        });
        spool.sync().unwrap();
        let mut found = drain(&mut reader).batches;
        // Each thread's are in its order.
        found.sort_by_key(|n| n / 25);
        assert_eq!(found, (0..100).collect::<Vec<_>>());
    }
}

#[tokio::test]
async fn a_reader_is_ready_when_there_is_something() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let mut reader = spool.reader("a").unwrap();
    let waiting = tokio::spawn(async move {
        reader.ready().await;
        which(&reader.next().unwrap().into_batch())
    });
    tokio::task::yield_now().await;
    append(&spool, 4..5);
    assert_eq!(waiting.await.unwrap(), 4);
}

#[test]
fn what_is_being_written_is_read_whole_or_not_at_all() {
    let place = tempfile::tempdir().unwrap();
    let spool = Spool::open(place.path(), Options { segment_bytes: 200_000, ..options() }).unwrap().spool;
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        // Nobody is attached, so that all of this comes from the files.
        for _ in 0..2 {
            scope.spawn(|| {
                while !done.load(Ordering::Relaxed) {
                    let found: Found = spool.replay(None).collect();
                    assert!(found.lost.is_empty() && found.batches.iter().copied().eq(0..found.batches.len() as u64), "{:?}", found.lost);
                }
            });
        }
        append(&spool, 0..1000);
        done.store(true, Ordering::Relaxed);
    });
    assert_eq!(spool.replay(None).count(), 1000);
}

#[test]
fn an_empty_batch_has_its_place() {
    let place = tempfile::tempdir().unwrap();
    let spool = open(place.path()).spool;
    let position = spool.append(Batch::default()).unwrap().position();
    append(&spool, 0..1);
    let read: Vec<_> = spool.replay(None).map(|read| (read.clone().into_batch().position(), read.into_batch().events().len())).collect();
    assert_eq!((read[0], read[1].1), ((position, 0), 3));
}
