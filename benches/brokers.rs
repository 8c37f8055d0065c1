//! What brokers take, each with a real server on this machine: 100,000 trades in batches of 250, to the last acknowledgement.
//! Beside `nats` a loop that does nothing but publish the same messages through the same client: the server's own limit.

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use exchange_core::event::{Ident, Side, Trade};
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Sealer, Time};
use exchange_sinks::SinkUri;
use futures_util::StreamExt as _;
use tokio::runtime::Runtime;

const EVENTS: u64 = 100_000;
const BATCH: u64 = 250;

/// Trades that never were before, of forty instruments.
fn fresh(next: &mut u64) -> Vec<Arc<Batch>> {
    let venue: Arc<str> = "bybit".into();
    let named = |n: u64| Arc::new(Instrument::named(&venue, Market::Linear, &format!("COIN{n}USDT"), Some(&format!("COIN{n}/USDT:USDT"))));
    let instruments: Vec<Arc<Instrument>> = (0..40).map(named).collect();
    let mut sealer = Sealer::default();
    let first = *next;
    *next += EVENTS;
    let batches = (first..*next).step_by(usize::try_from(BATCH).unwrap()).map(|at| {
        let trade = |id: u64| {
            let (price, size) = (Decimal::from(i64::try_from(60_000 + id % 1000).unwrap()), Decimal::from(1));
            let body = Body::Trade(Trade { trade_id: Some(Ident::Number(id)), price, size, size_base: None, side: Some(Side::Buy) });
            let instrument = instruments[usize::try_from(id % 40).unwrap()].clone();
            Event::new(instrument, Time::from_micros(1_795_216_284_578_279), Some(Time::from_micros(1_795_216_284_575_000)), body)
        };
        let mut events: Vec<Event> = (at..at + BATCH).map(trade).collect();
        sealer.seal(&mut events);
        let batch = Batch::new(events);
        // The journal has made the lines by then.
        batch.lines();
        Arc::new(batch)
    });
    batches.collect()
}

fn sink(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, name: &str, address: &str) {
    let mut next = 0;
    let mut sink = SinkUri::parse(address).unwrap().open().unwrap();
    group.bench_function(name, |bencher| {
        bencher.iter_batched(
            || fresh(&mut next),
            |batches| {
                runtime.block_on(async {
                    for batch in &batches {
                        while let Err(error) = sink.write(batch).await {
                            assert!(error.is_retryable(), "{error}");
                        }
                    }
                    while let Err(error) = sink.flush().await {
                        assert!(error.is_retryable(), "{error}");
                    }
                });
            },
            BatchSize::PerIteration,
        );
    });
}

/// Publishes the same messages with as many in flight, and only counts the acknowledgements.
fn bare(group: &mut BenchmarkGroup<'_, WallTime>, runtime: &Runtime, address: &str) {
    let mut next = 1 << 40;
    let (client, inbox, mut answers) = runtime.block_on(async {
        let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 17).client_capacity(4096).connect(address).await.unwrap();
        let inbox = client.new_inbox();
        let answers = client.subscribe(format!("{inbox}.*")).await.unwrap();
        (client, inbox, answers)
    });
    group.bench_function("nats/bare", |bencher| {
        bencher.iter_batched(
            || {
                let message = |(event, line): (&Event, &[u8])| {
                    let subject = format!("events.trade.bybit.linear.{}", event.instrument.venue_symbol);
                    let mut headers = async_nats::HeaderMap::new();
                    headers.insert("Nats-Msg-Id", event.id.to_string());
                    (subject, headers, line.to_vec())
                };
                fresh(&mut next).iter().flat_map(|batch| batch.records().map(message).collect::<Vec<_>>()).collect::<Vec<_>>()
            },
            |messages| {
                runtime.block_on(async {
                    let mut open = 0;
                    for (subject, headers, line) in messages {
                        client.publish_with_reply_and_headers(subject, format!("{inbox}.1"), headers, line.into()).await.unwrap();
                        open += 1;
                        while open >= 16_384 {
                            answers.next().await.unwrap();
                            open -= 1;
                        }
                    }
                    for _ in 0..open {
                        answers.next().await.unwrap();
                    }
                });
            },
            BatchSize::PerIteration,
        );
    });
}

fn brokers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("brokers");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10).measurement_time(Duration::from_secs(10)).warm_up_time(Duration::from_secs(1));
    if let Some(server) = test_servers::nats() {
        let address = format!("nats://{}", server.address());
        sink(&mut group, &runtime, "nats/sink", &format!("{address}/events?max_bytes=2GiB"));
        bare(&mut group, &runtime, &address);
    }
    let cluster = rdkafka::mocking::MockCluster::new(3).unwrap();
    cluster.create_topic("events", 8, 3).unwrap();
    sink(&mut group, &runtime, "kafka/mock", &format!("kafka://{}", cluster.bootstrap_servers()));
    if let Some(server) = test_servers::rabbitmq() {
        sink(&mut group, &runtime, "amqp/sink", &format!("amqp://{}?queue=events", server.address()));
    }
    group.finish();
}

criterion_group!(benches, brokers);
criterion_main!(benches);
