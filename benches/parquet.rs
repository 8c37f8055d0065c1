//! Events into a dataset of Parquet files: what of a core an event takes, from the batch to the file in its place.

mod support;

use std::path::Path;
use std::sync::Arc;

use collector::core::feed::Turn;
use collector::core::pipeline::Everything;
use collector::core::{Batch, Feed, Market, Pipeline, Time};
use collector::sinks::{ParquetOptions, ParquetSink, Sink as _};
use cpu_time::ProcessTime;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

/// A mix of a venue's messages as the sinks get it, a message each 100 µs.
fn batches(venue: &'static str, url: &str) -> Vec<Arc<Batch>> {
    let mut feed = Feed::new(support::venue(venue, support::SYMBOLS), Market::Linear);
    let mut turn = Turn::default();
    for (at, message) in support::mix(venue).iter().enumerate() {
        let received = Time::from_micros(1_767_225_600_000_000 + i64::try_from(at).expect("few messages") * 100);
        feed.frame(received, url, message.as_bytes(), &mut turn);
    }
    let mut pipeline = Pipeline::new(venue, Arc::new(Everything), false, false);
    let sealed = turn.events.chunks(256).map(|events| {
        let mut events = events.to_vec();
        pipeline.process(&mut events);
        Arc::new(Batch::new(events))
    });
    sealed.collect()
}

fn bytes(directory: &Path) -> u64 {
    let entries = std::fs::read_dir(directory).expect("a directory").map(|entry| entry.expect("an entry"));
    entries.map(|entry| if entry.path().is_dir() { bytes(&entry.path()) } else { entry.metadata().expect("a size").len() }).sum()
}

fn write(runtime: &tokio::runtime::Runtime, directory: &Path, batches: &[Arc<Batch>]) {
    runtime.block_on(async {
        // How long a disk takes is not its business.
        let options = ParquetOptions { sync: false, merge: false, ..ParquetOptions::default() };
        let mut sink = ParquetSink::open(directory, options).expect("a sink");
        for batch in batches {
            sink.write(batch).await.expect("taken");
        }
        sink.close().await.expect("written");
    });
}

fn parquet(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("parquet");
    for (venue, url) in [("binance", "ws://x/public/stream"), ("bybit", "ws://x/v5/public/linear")] {
        let batches = batches(venue, url);
        let events: usize = batches.iter().map(|batch| batch.events().len()).sum();
        let root = std::env::temp_dir().join(format!("collector-bench-{}-{venue}", std::process::id()));
        write(&runtime, &root, &batches);
        let lines: usize = batches.iter().map(|batch| batch.lines().len()).sum();
        println!("{venue}: {events} events, {} bytes each, {} as a line", bytes(&root) / events as u64, lines / events);
        std::fs::remove_dir_all(&root).expect("removed");
        group.throughput(Throughput::Elements(events as u64)).sample_size(20);
        // CPU of all threads: the sink's own does most of it.
        group.bench_function(format!("{venue}_mix"), |b| {
            b.iter_custom(|iterations| {
                (0..iterations)
                    .map(|_| {
                        let began = ProcessTime::now();
                        write(&runtime, &root, &batches);
                        let took = began.elapsed();
                        std::fs::remove_dir_all(&root).expect("removed");
                        took
                    })
                    .sum()
            });
        });
    }
    group.finish();
}

criterion_group!(benches, parquet);
criterion_main!(benches);
