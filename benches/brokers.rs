//! What brokers take, each with a real server on this machine: 100,000 trades in batches of 250, to the last acknowledgement.
//!
//! Beside each sink `bare`: a loop that does nothing but publish the same messages through the same client. And beside NATS the
//! server's own limit: bytes that were made beforehand, written to its socket, the acknowledgements only counted, so that
//! the client costs next to nothing; over one connection, over two, and without a stream.
//!
//! Only what the build has features for is measured.

#![cfg_attr(not(any(feature = "amqp", feature = "kafka", feature = "nats")), allow(unused, reason = "nothing is measured"))]

use std::sync::Arc;
use std::time::Duration;

use criterion::{BatchSize, BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main, measurement::WallTime};
use exchange_core::event::{Ident, Side, Trade};
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Sealer, Time};
use exchange_sinks::SinkUri;
use tokio::runtime::Runtime;

type Group<'a> = BenchmarkGroup<'a, WallTime>;

const EVENTS: u64 = 100_000;
const BATCH: u64 = 250;
/// Messages that may be without an acknowledgement, as with the sinks.
#[cfg(any(feature = "amqp", feature = "nats"))]
const IN_FLIGHT: usize = 16_384;

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

/// Measures what `run` takes of `made`, which is made anew each time and not measured.
fn each<T>(group: &mut Group<'_>, name: &str, mut made: impl FnMut() -> T, mut run: impl FnMut(T)) {
    group.bench_function(name, |bencher| bencher.iter_batched(&mut made, &mut run, BatchSize::PerIteration));
}

fn sink(group: &mut Group<'_>, runtime: &Runtime, name: &str, address: &str) {
    let mut next = 0;
    let mut sink = Some(SinkUri::parse(address).unwrap().open().unwrap());
    each(
        group,
        name,
        || fresh(&mut next),
        |batches| {
            let mut used = sink.take().unwrap();
            // A task, as the collector's deliveries are.
            let task = runtime.spawn(async move {
                for batch in &batches {
                    while let Err(error) = used.write(batch).await {
                        assert!(error.is_retryable(), "{error}");
                    }
                }
                while let Err(error) = used.flush().await {
                    assert!(error.is_retryable(), "{error}");
                }
                used
            });
            sink = Some(runtime.block_on(task).unwrap());
        },
    );
}

/// Makes what the sink at this address would make, for those that are measured without it.
#[cfg(any(feature = "amqp", feature = "nats"))]
fn prepare(runtime: &Runtime, address: &str) {
    let mut sink = SinkUri::parse(address).unwrap().open().unwrap();
    runtime.block_on(async { sink.write(&Arc::default()).await }).unwrap();
}

#[cfg(feature = "nats")]
mod nats {
    use std::io::{Read as _, Write as _};
    use std::net::{SocketAddr, TcpStream};
    use std::sync::{Condvar, Mutex};

    use futures_util::StreamExt as _;

    use super::{Batch, Event, Group, IN_FLIGHT, Runtime, each, fresh, prepare, sink};

    pub(super) fn all(group: &mut Group<'_>, runtime: &Runtime) {
        let Some(server) = test_servers::nats() else { return };
        let address = format!("nats://{}", server.address());
        let stream = format!("{address}/events?max_bytes=2GiB");
        prepare(runtime, &stream);
        sink(group, runtime, "nats/sink", &stream);
        bare(group, runtime, &address);
        raw(group, "nats/server", server.address(), 1, "events");
        raw(group, "nats/server_by_two_connections", server.address(), 2, "events");
        raw(group, "nats/server_without_stream", server.address(), 1, "none");
    }

    fn subject(prefix: &str, event: &Event) -> String {
        format!("{prefix}.trade.bybit.linear.{}", event.instrument.venue_symbol)
    }

    /// Publishes the same messages with as many in flight, and only counts the acknowledgements.
    fn bare(group: &mut Group<'_>, runtime: &Runtime, address: &str) {
        let mut next = 1 << 40;
        let (client, inbox, answers) = runtime.block_on(async {
            let client = async_nats::ConnectOptions::new().subscription_capacity(1 << 17).client_capacity(4096).connect(address).await.unwrap();
            let inbox = client.new_inbox();
            let answers = client.subscribe(format!("{inbox}.*")).await.unwrap();
            (client, inbox, answers)
        });
        let message = |(event, line): (&Event, &[u8])| {
            let mut headers = async_nats::HeaderMap::new();
            headers.insert("Nats-Msg-Id", event.id.to_string());
            headers.insert("type", "trade");
            headers.insert("schema", "1");
            (subject("events", event), headers, line.to_vec())
        };
        let mut answers = Some(answers);
        each(
            group,
            "nats/bare",
            || fresh(&mut next).iter().flat_map(|batch| batch.records().map(message).collect::<Vec<_>>()).collect::<Vec<_>>(),
            |messages| {
                let (client, inbox, mut used) = (client.clone(), inbox.clone(), answers.take().unwrap());
                let task = runtime.spawn(async move {
                    let mut open = 0;
                    for (subject, headers, line) in messages {
                        client.publish_with_reply_and_headers(subject, format!("{inbox}.1"), headers, line.into()).await.unwrap();
                        open += 1;
                        while open >= IN_FLIGHT {
                            used.next().await.unwrap();
                            open -= 1;
                        }
                    }
                    for _ in 0..open {
                        used.next().await.unwrap();
                    }
                    used
                });
                answers = Some(runtime.block_on(task).unwrap());
            },
        );
    }

    /// Messages as they stand on the wire, in pieces, and how many each piece holds.
    type Wire = Vec<(Vec<u8>, usize)>;

    fn wire(batch: &Batch, prefix: &str, inbox: usize) -> (Vec<u8>, usize) {
        let mut bytes = Vec::new();
        for (event, line) in batch.records() {
            let headers = format!("NATS/1.0\r\nNats-Msg-Id: {}\r\ntype: trade\r\nschema: 1\r\n\r\n", event.id);
            let (subject, whole) = (subject(prefix, event), headers.len() + line.len());
            // Messages of no stream are answered by nobody.
            let reply = if prefix == "events" { format!("raw{inbox}.1 ") } else { String::new() };
            write!(bytes, "HPUB {subject} {reply}{} {whole}\r\n{headers}", headers.len()).unwrap();
            bytes.extend_from_slice(line);
            bytes.extend_from_slice(b"\r\n");
        }
        (bytes, batch.events().len())
    }

    fn connect(address: SocketAddr, inbox: usize) -> TcpStream {
        let mut stream = TcpStream::connect(address).unwrap();
        stream.set_nodelay(true).unwrap();
        let hello = "CONNECT {\"verbose\":false,\"headers\":true,\"no_responders\":true,\"protocol\":1}";
        write!(stream, "{hello}\r\nSUB raw{inbox}.* 1\r\nPING\r\n").unwrap();
        count(&stream, b"PONG\r\n", 1, |_| ());
        stream
    }

    /// Reads until a word has come so often.
    fn count(mut stream: &TcpStream, word: &[u8], wanted: usize, mut told: impl FnMut(usize)) {
        let (mut buffer, mut kept, mut found) = (vec![0; 1 << 18], 0, 0);
        while found < wanted {
            let read = stream.read(&mut buffer[kept..]).unwrap();
            assert!(read > 0, "the server left");
            let end = kept + read;
            let now = memchr::memmem::find_iter(&buffer[..end], word).count();
            // A word that is not whole yet.
            kept = end.min(word.len() - 1);
            buffer.copy_within(end - kept..end, 0);
            found += now;
            told(now);
        }
    }

    fn raw(group: &mut Group<'_>, name: &str, address: SocketAddr, connections: usize, prefix: &str) {
        // Ids that nobody else had.
        let mut next = (1 << 41) + (name.len() as u64) * (1 << 36);
        let acknowledged = prefix == "events";
        each(
            group,
            name,
            || {
                let mut wires: Vec<(TcpStream, Wire)> = (0..connections).map(|inbox| (connect(address, inbox), Vec::new())).collect();
                for (at, batch) in fresh(&mut next).iter().enumerate() {
                    let inbox = at % connections;
                    wires[inbox].1.push(wire(batch, prefix, inbox));
                }
                wires
            },
            |wires| {
                std::thread::scope(|scope| {
                    for (stream, wire) in wires {
                        scope.spawn(move || publish(&stream, &wire, acknowledged));
                    }
                });
            },
        );
    }

    fn publish(mut stream: &TcpStream, wire: &Wire, acknowledged: bool) {
        let messages = wire.iter().map(|(_, count)| count).sum();
        let (open, less) = (Mutex::new(0), Condvar::new());
        std::thread::scope(|scope| {
            if acknowledged {
                scope.spawn(|| {
                    count(stream, b"MSG raw", messages, |now| {
                        *open.lock().unwrap() -= now;
                        less.notify_one();
                    });
                });
            }
            for (bytes, count) in wire {
                if acknowledged {
                    *less.wait_while(open.lock().unwrap(), |open| *open + count > IN_FLIGHT).unwrap() += count;
                }
                stream.write_all(bytes).unwrap();
            }
            if !acknowledged {
                stream.write_all(b"PING\r\n").unwrap();
                count(stream, b"PONG\r\n", 1, |_| ());
            }
        });
    }
}

#[cfg(feature = "amqp")]
mod amqp {
    use std::collections::VecDeque;

    use futures_util::FutureExt as _;
    use lapin::options::{BasicPublishOptions, ConfirmSelectOptions};
    use lapin::types::{AMQPValue, FieldTable};
    use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};

    use super::{Batch, Event, Group, IN_FLIGHT, Runtime, each, fresh, prepare, sink};

    pub(super) fn all(group: &mut Group<'_>, runtime: &Runtime) {
        let Some(server) = test_servers::rabbitmq() else { return };
        let queue = format!("amqp://{}?queue=events", server.address());
        prepare(runtime, &queue);
        sink(group, runtime, "amqp/sink", &queue);
        bare(group, runtime, &format!("amqp://guest:guest@{}/%2f", server.address()));
    }

    type Ready = (String, BasicProperties, Vec<u8>);

    /// Publishes the same messages, to the exchange and the queue that the sink declared, with as many in flight.
    fn bare(group: &mut Group<'_>, runtime: &Runtime, address: &str) {
        let mut next = 1 << 40;
        let (_connection, channel) = runtime.block_on(async {
            let connection = Connection::connect(address, ConnectionProperties::default()).await.unwrap();
            let channel = connection.create_channel().await.unwrap();
            channel.confirm_select(ConfirmSelectOptions::default()).await.unwrap();
            (connection, channel)
        });
        let message = |(event, line): (&Event, &[u8])| {
            let mut headers = FieldTable::default();
            headers.insert("schema".into(), AMQPValue::LongUInt(1));
            let properties = BasicProperties::default()
                .with_message_id(event.id.to_string().into())
                .with_type("trade".into())
                .with_content_type("application/json".into())
                .with_delivery_mode(2)
                .with_timestamp(1_795_216_284)
                .with_headers(headers);
            (format!("events.trade.bybit.linear.{}", event.instrument.venue_symbol), properties, line.to_vec())
        };
        let messages = |batch: &std::sync::Arc<Batch>| batch.records().map(message).collect::<Vec<Ready>>();
        each(
            group,
            "amqp/bare",
            || fresh(&mut next).iter().flat_map(messages).collect::<Vec<Ready>>(),
            |messages| runtime.block_on(runtime.spawn(publish(channel.clone(), messages))).unwrap(),
        );
    }

    async fn publish(channel: Channel, messages: Vec<Ready>) {
        let mut confirming = VecDeque::new();
        for (subject, properties, line) in messages {
            let channel = channel.clone();
            let mut one = Box::pin(async move {
                let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
                let confirmed = channel.basic_publish("collector".into(), subject.into(), options, &line, properties).await.unwrap().await.unwrap();
                assert!(confirmed.is_ack());
            });
            // The client takes it when it is first asked.
            if (&mut one).now_or_never().is_none() {
                confirming.push_back(one);
            }
            if confirming.len() >= IN_FLIGHT
                && let Some(first) = confirming.pop_front()
            {
                first.await;
            }
        }
        for one in confirming {
            one.await;
        }
    }
}

fn brokers(criterion: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let mut group = criterion.benchmark_group("brokers");
    group.throughput(Throughput::Elements(EVENTS)).sample_size(10).measurement_time(Duration::from_secs(10)).warm_up_time(Duration::from_secs(1));
    #[cfg(feature = "nats")]
    nats::all(&mut group, &runtime);
    #[cfg(feature = "kafka")]
    {
        let cluster = rdkafka::mocking::MockCluster::new(3).unwrap();
        cluster.create_topic("events", 8, 3).unwrap();
        sink(&mut group, &runtime, "kafka/mock", &format!("kafka://{}", cluster.bootstrap_servers()));
    }
    #[cfg(feature = "amqp")]
    amqp::all(&mut group, &runtime);
    group.finish();
}

criterion_group!(benches, brokers);
criterion_main!(benches);
