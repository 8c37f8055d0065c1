//! Sinks whose servers are real: events a second from a batch to what the server confirmed, beside the server's own
//! limit. What the build has no feature for, and what is not installed, is left out.

use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use collector::core::event::{Ident, Ticker, Trade};
use collector::core::{Batch, Body, Decimal, Event, Instrument, Market, Position, Time, canonical};
use collector::sinks::SinkUri;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tokio::runtime::Runtime;

/// Events of an iteration.
const EVENTS: u64 = 100_000;
/// Events of a batch: of busy frames.
const BATCH: u64 = 50;

/// Batches as they come out of a journal, their lines made already: three trades to a ticker, of 200 instruments.
fn batches(first: u64) -> Vec<Arc<Batch>> {
    let instruments: Vec<_> =
        (0..200).map(|n| Arc::new(Instrument::named(&"bybit".into(), Market::Linear, &format!("C{n}USDT"), Some(&format!("C{n}/USDT:USDT"))))).collect();
    let decimal = |mantissa: u64, scale| Decimal::from_parts(i64::try_from(mantissa).expect("small"), scale).expect("a decimal");
    let event = |n: u64| {
        let body = if n.is_multiple_of(4) {
            let (price, size) = (decimal(3_214_143 + n % 1000, 2), decimal(1 + n % 5000, 3));
            Body::Ticker(Ticker {
                last: Some(price.clone()),
                bid: Some(price.clone()),
                bid_size: Some(size.clone()),
                ask: Some(price.clone()),
                ask_size: Some(size.clone()),
                high_24h: Some(price.clone()),
                low_24h: Some(price),
                volume_24h: Some(size),
                ..Ticker::default()
            })
        } else {
            let (price, size) = (decimal(3_214_143 + n % 1000, 2), decimal(1 + n % 5000, 3));
            Body::Trade(Trade { trade_id: Some(Ident::Number(n)), size_base: Some(size.clone()), price, size, side: None })
        };
        let time = Time::from_millis(1_795_216_284_000 + i64::try_from(n / 100).expect("small"));
        let instrument = instruments[usize::try_from(n % 200).expect("small")].clone();
        let mut event = Event::new(instrument, time, Some(time), body);
        event.id = canonical::id(&event);
        event
    };
    let batch = |number: u64| {
        let events = (number * BATCH..(number + 1) * BATCH).map(event).collect();
        let batch = Batch::new(events).at(Position { journal: 1, number: number + 1 });
        batch.lines();
        Arc::new(batch)
    };
    (first / BATCH..(first + EVENTS) / BATCH).map(batch).collect()
}

/// Writes ever new events.
fn write(criterion: &mut Criterion, name: &str, address: &str) {
    let runtime = Runtime::new().expect("a runtime");
    let mut sink = SinkUri::parse(address).expect("an address").open().expect("a sink");
    let mut first = 0;
    let mut group = criterion.benchmark_group("sinks");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    group.bench_function(name, |bencher| {
        bencher.iter_custom(|iterations| {
            let mut taken = Duration::ZERO;
            for _ in 0..iterations {
                let batches = batches(first);
                first += EVENTS;
                let began = Instant::now();
                runtime.block_on(async {
                    for batch in &batches {
                        sink.write(batch).await.expect("accepted");
                    }
                    sink.flush().await.expect("confirmed");
                });
                taken += began.elapsed();
            }
            taken
        });
    });
    group.finish();
}

fn postgres(criterion: &mut Criterion) {
    if cfg!(not(feature = "postgres")) {
        return;
    }
    let Some(server) = test_servers::postgres() else { return };
    let address = format!("postgres://postgres:{}@{}/postgres", test_servers::POSTGRES_PASSWORD, server.address());
    write(criterion, "postgres", &address);
    // The server alone: the same rows, from a file of its own into the same kind of table.
    let file = server.folder().join("data/rows");
    let sql = |text: &str| {
        let done = Command::new("psql").args([&address, "--quiet", "--command", text]).status();
        assert!(done.is_ok_and(|status| status.success()), "{text}");
    };
    sql(&format!("COPY (SELECT * FROM collector.trade LIMIT {EVENTS}) TO '{}' (FORMAT binary)", file.display()));
    sql("CREATE TABLE bare (LIKE collector.trade INCLUDING ALL)");
    let mut group = criterion.benchmark_group("sinks");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    group.bench_function("postgres/bare_copy", |bencher| {
        bencher.iter_custom(|iterations| {
            let mut taken = Duration::ZERO;
            for _ in 0..iterations {
                sql("TRUNCATE bare");
                let began = Instant::now();
                sql(&format!("COPY bare FROM '{}' (FORMAT binary)", file.display()));
                taken += began.elapsed();
            }
            taken
        });
    });
    group.finish();
}

fn redis(criterion: &mut Criterion) {
    if cfg!(not(feature = "redis")) {
        return;
    }
    let Some(server) = test_servers::redis_with(&[]) else { return };
    write(criterion, "redis", &format!("redis://{}", server.address()));
    // The server alone: its own benchmark, with entries of the same size, as pipelined.
    let line = String::from_utf8_lossy(batches(0)[0].lines().split(|byte| *byte == b'\n').nth(1).expect("a trade")).into_owned();
    let (port, count) = (server.port().to_string(), EVENTS.to_string());
    let connection = ["-p", &port, "-c", "1", "-P", "1000", "-n", &count, "-q"];
    let command = ["XADD", "bare", "MAXLEN", "~", "250000", "*", "id", "8816b7eca15697a0ec2ce04ad86b19bc", "type", "trade", "line", &line];
    let run = || Command::new("redis-benchmark").args(connection).args(command).output();
    if run().is_err() {
        println!("sinks/redis/bare_benchmark: redis-benchmark is not installed");
        return;
    }
    let mut group = criterion.benchmark_group("sinks");
    group.sample_size(10).throughput(Throughput::Elements(EVENTS));
    group.bench_function("redis/bare_benchmark", |bencher| bencher.iter(|| assert!(run().is_ok_and(|done| done.status.success()))));
    group.finish();
}

criterion_group!(benches, postgres, redis);
criterion_main!(benches);
