//! The journal against bare system calls with the same bytes: appending under each policy of syncing, reading back from
//! the disk (the page cache, that is) and from memory.

mod support;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use collector::core::feed::Turn;
use collector::core::{Batch, Event, Feed, Market, Sealer, Time};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use exchange_spool::{Options, Spool, Sync};
use tempfile::TempDir;

/// Events of a batch: what a busy connection reads at once.
const TOGETHER: usize = 256;
/// Who appends at the same time.
const TASKS: usize = 8;
/// Less than a reader finds in memory.
const IN_MEMORY: usize = 8_000;

fn events() -> Vec<Event> {
    let mut feed = Feed::new(support::venue("binance", support::SYMBOLS), Market::Linear);
    let mut turn = Turn::default();
    for message in &support::mix("binance")[..50_000] {
        feed.frame(Time::from_millis(1_767_225_600_000), "wss://fstream.binance.com/public/stream", message.as_bytes(), &mut turn);
    }
    Sealer::default().seal(&mut turn.events);
    turn.events
}

/// Batches, their lines written already unless that is to be measured, too.
fn batches(events: &[Event], together: usize, encoded: bool) -> Vec<Batch> {
    let batches: Vec<Batch> = events.chunks(together).map(|events| Batch::new(events.to_vec())).collect();
    if encoded {
        assert!(batches.iter().all(|batch| !batch.lines().is_empty()));
    }
    batches
}

/// On the disk that holds the target directory, not in a file system in memory.
fn directory() -> TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).expect("a directory")
}

fn spool(sync: Sync) -> (Spool, TempDir) {
    let place = directory();
    (Spool::open(place.path(), Options { sync, ..Options::default() }).expect("a journal").spool, place)
}

fn fill(spool: &Spool, batches: Vec<Batch>) -> Vec<Arc<Batch>> {
    batches.into_iter().map(|batch| spool.append(batch).expect("room")).collect()
}

fn throughput(events: &[Event]) -> Throughput {
    let bytes = batches(events, TOGETHER, true).iter().map(|batch| batch.lines().len()).sum::<usize>() as u64;
    Throughput::ElementsAndBytes { elements: events.len() as u64, bytes }
}

fn append(c: &mut Criterion) {
    let all = events();
    for (name, events, together) in [("append", all.as_slice(), TOGETHER), ("append_singly", &all[..20_000], 1)] {
        let mut group = c.benchmark_group(format!("journal/{name}"));
        group.throughput(throughput(events)).sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
        for (label, sync) in [("write", false), ("write_and_sync", true)] {
            let raw = || {
                let place = directory();
                (File::create(place.path().join("file")).expect("a file"), place, batches(events, together, true))
            };
            group.bench_function(label, |b| {
                b.iter_batched(
                    raw,
                    |(mut file, place, batches)| {
                        for batch in &batches {
                            file.write_all(batch.lines()).expect("room");
                        }
                        if sync {
                            file.sync_data().expect("a disk");
                        }
                        (file, place, batches)
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        let policies = [("never", Sync::Never, true), ("every_second", Sync::Every(Duration::from_secs(1)), true), ("never_with_encoding", Sync::Never, false)];
        for (label, sync, encoded) in policies {
            group.bench_function(label, |b| {
                b.iter_batched(
                    || (spool(sync), batches(events, together, encoded)),
                    |(spool, batches)| {
                        let appended = fill(&spool.0, batches);
                        (spool, appended)
                    },
                    BatchSize::PerIteration,
                );
            });
        }
        group.finish();
    }
    // A disk that syncs takes its time: fewer of them.
    let few = &all[..TOGETHER * 20];
    let mut group = c.benchmark_group("journal/append_always");
    group.throughput(throughput(few)).sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    group.bench_function("write_and_sync_each", |b| {
        b.iter_batched(
            || (directory(), batches(few, TOGETHER, true)),
            |(place, batches)| {
                let mut file = File::create(place.path().join("file")).expect("a file");
                for batch in &batches {
                    file.write_all(batch.lines()).expect("room");
                    file.sync_data().expect("a disk");
                }
                (place, batches)
            },
            BatchSize::PerIteration,
        );
    });
    group.bench_function("always", |b| {
        b.iter_batched(
            || (spool(Sync::Always), batches(few, TOGETHER, true)),
            |(spool, batches)| {
                let appended = fill(&spool.0, batches);
                (spool, appended)
            },
            BatchSize::PerIteration,
        );
    });
    // As the connections of a collector do it, on one thread: while the disk takes some, the others go on.
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    group.bench_function(format!("always_{TASKS}_tasks"), |b| {
        b.iter_batched(
            || (spool(Sync::Always), batches(few, TOGETHER, true)),
            |(spool, batches)| {
                runtime.block_on(async {
                    let mut batches = batches.into_iter();
                    let tasks = tokio::task::LocalSet::new();
                    while !batches.as_slice().is_empty() {
                        let (spool, own) = (spool.0.clone(), batches.by_ref().take(20_usize.div_ceil(TASKS)).collect::<Vec<_>>());
                        tasks.spawn_local(async move {
                            for batch in own {
                                let batch = spool.put(batch).expect("room");
                                spool.settled(batch.position().expect("it was appended")).await;
                            }
                        });
                    }
                    tasks.await;
                });
                spool
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

fn read(c: &mut Criterion) {
    let events = events();
    let mut group = c.benchmark_group("journal/read");
    group.throughput(throughput(&events)).sample_size(10).warm_up_time(Duration::from_millis(500)).measurement_time(Duration::from_secs(3));
    let written = spool(Sync::Never);
    fill(&written.0, batches(&events, TOGETHER, true));
    let paths = || std::fs::read_dir(written.1.path()).expect("a directory").map(|entry| entry.expect("a file").path());
    let segment = paths().find(|path| path.extension().is_some_and(|extension| extension == "journal")).expect("a segment");
    group.bench_function("bytes", |b| {
        let mut bytes = Vec::new();
        b.iter(|| {
            bytes.clear();
            File::open(&segment).and_then(|mut file| file.read_to_end(&mut bytes)).expect("a segment")
        });
    });
    // With every event made.
    group.bench_function("disk", |b| b.iter(|| assert_eq!(written.0.replay(None).count(), events.len().div_ceil(TOGETHER))));
    group.finish();

    let few = &events[..IN_MEMORY];
    let mut group = c.benchmark_group("journal/read_memory");
    group.throughput(throughput(few));
    group.bench_function("memory", |b| {
        b.iter_batched(
            || {
                let spool = spool(Sync::Never);
                let reader = spool.0.reader("sink").expect("a reader");
                fill(&spool.0, batches(few, TOGETHER, true));
                (spool, reader)
            },
            |(spool, mut reader)| {
                assert_eq!(std::iter::from_fn(|| reader.next()).count(), few.len().div_ceil(TOGETHER));
                (spool, reader)
            },
            BatchSize::PerIteration,
        );
    });
    group.finish();
}

criterion_group!(benches, append, read);
criterion_main!(benches);
