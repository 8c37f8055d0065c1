//! From a socket to events, and from a request to the last event of a cycle: the runtime against bare clients.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::hint::black_box;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener};
use std::sync::mpsc::{Receiver, channel};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use collector::core::event::BookKind;
use collector::core::feed::Turn;
use collector::core::ledger::EventCounts;
use collector::core::pipeline::Everything;
use collector::core::session::Happened;
use collector::core::{Batch, Body, Channel, Decimal, Event, Market, Pipeline, Session, Time};
use collector::runtime::Collector;
use collector::sinks::{Sink, SinkFuture};
use cpu_time::{ProcessTime, ThreadTime};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use futures_util::{FutureExt as _, StreamExt as _};
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::handshake::derive_accept_key;

/// How the server hands its frames to the kernel.
#[derive(Clone, Copy, PartialEq)]
enum Sending {
    /// As much as the socket takes.
    Bulk,
    /// Each frame by a write of its own, and only when the one before has been read.
    Singly,
}

/// Between two frames that are sent singly: long enough for the client to fall asleep again.
const PAUSE: Duration = Duration::from_micros(25);

/// A server that renders its WebSocket frames once, and sends all of them to every client.
fn serve(messages: &[String], sending: Sending) -> SocketAddr {
    let mut frames: Vec<Vec<u8>> = Vec::with_capacity(messages.len());
    for message in messages {
        let mut frame = vec![0x81];
        match u16::try_from(message.len()).expect("a frame of at most 64 KiB") {
            short @ 0..126 => frame.push(u8::try_from(short).expect("below 126")),
            long => {
                frame.push(126);
                frame.extend_from_slice(&long.to_be_bytes());
            }
        }
        frame.extend_from_slice(message.as_bytes());
        frames.push(frame);
    }
    let bulk = frames.concat();
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = listener.local_addr().expect("an address");
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.expect("a client");
            stream.set_nodelay(true).expect("nodelay");
            let mut request = Vec::new();
            while !request.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).expect("a request");
                request.push(byte[0]);
            }
            let request = String::from_utf8(request).expect("text");
            let key = request
                .lines()
                .find_map(|line| line.to_ascii_lowercase().starts_with("sec-websocket-key:").then(|| line[18..].trim().to_owned()))
                .expect("a key");
            let accept = derive_accept_key(key.as_bytes());
            write!(stream, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: {accept}\r\n\r\n")
                .expect("an answer");
            // A client that has counted enough goes away; that is no fault.
            let _gone = match sending {
                Sending::Bulk => stream.write_all(&bulk),
                Sending::Singly => frames.iter().try_for_each(|frame| {
                    let sent = stream.write_all(frame);
                    let began = Instant::now();
                    while began.elapsed() < PAUSE {
                        std::hint::spin_loop();
                    }
                    sent
                }),
            };
            // Until the client has read everything.
            let _closed = stream.read(&mut [0; 16]);
        }
    });
    address
}

type Books = HashMap<String, [BTreeMap<Decimal, Decimal>; 2]>;

fn keep(books: &mut Books, event: &Event) {
    let Body::Book(book) = &event.body else { return };
    if !books.contains_key(&*event.instrument.venue_symbol) {
        books.insert(event.instrument.venue_symbol.to_string(), Default::default());
    }
    let sides = books.get_mut(&*event.instrument.venue_symbol).expect("just inserted");
    for (side, levels) in sides.iter_mut().zip([&book.bids, &book.asks]) {
        if book.kind == BookKind::Snapshot {
            side.clear();
        }
        for level in levels {
            if level.size.is_zero() {
                side.remove(&level.price);
            } else {
                side.insert(level.price.clone(), level.size.clone());
            }
        }
    }
}

async fn count(address: SocketAddr, messages: usize) {
    let (mut socket, _) = tokio_tungstenite::connect_async(format!("ws://{address}/")).await.expect("a connection");
    let mut seen = 0;
    while seen < messages {
        if let Message::Text(text) = socket.next().await.expect("a frame").expect("a frame") {
            black_box(text.len());
            seen += 1;
        }
    }
}

/// What a connection of the runtime does, up to the events; `Singly` is about that alone.
async fn decode(address: SocketAddr, messages: usize, expected: Option<&Books>) {
    let url = format!("ws://{address}/public/stream");
    let config = collector::runtime::websocket_config();
    let (mut socket, _) = tokio_tungstenite::connect_async_with_config(&url, Some(config), true).await.expect("a connection");
    let venue = support::venue("binance", 200);
    let mut session = Session::new(venue, Market::Linear, &url, Vec::new(), (1, std::time::Instant::now()));
    let mut turn = Turn::default();
    let mut books = Books::new();
    let mut seen = 0;
    let mut next = socket.next().await;
    while seen < messages {
        match next {
            Some(Ok(Message::Text(text))) => {
                let now = Time::from_millis(1_767_225_600_000);
                session.handle(now, Happened::Frame { received: now, payload: text.as_bytes() }, &mut turn);
                seen += 1;
            }
            other => drop(other.expect("a frame").expect("a frame")),
        }
        next = match socket.next().now_or_never() {
            Some(next) if turn.events.len() < 512 => next,
            other => {
                if expected.is_some() {
                    turn.events.iter().for_each(|event| keep(&mut books, event));
                }
                black_box(&turn.events);
                turn.events.clear();
                turn.fetch.clear();
                match other {
                    Some(next) => next,
                    None if seen < messages => socket.next().await,
                    None => break,
                }
            }
        };
    }
    turn.events.iter().for_each(|event| keep(&mut books, event));
    if let Some(expected) = expected {
        assert!(books == *expected, "the books are those of the messages");
    }
}

fn ingest(c: &mut Criterion) {
    let messages = support::mix("binance");
    let messages = &messages[..100_000];
    let mut expected = Books::new();
    let mut feed = collector::core::Feed::new(support::venue("binance", 200), Market::Linear);
    for message in messages {
        let mut turn = Turn::default();
        feed.frame(Time::EPOCH, "ws://x/public/stream", message.as_bytes(), &mut turn);
        turn.events.iter().for_each(|event| keep(&mut expected, event));
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut group = c.benchmark_group("ingest");
    group.throughput(Throughput::Elements(messages.len() as u64)).sample_size(10);
    let address = serve(messages, Sending::Bulk);
    group.bench_function("count_tungstenite", |b| b.iter(|| runtime.block_on(count(address, messages.len()))));
    group.bench_function("decode_books", |b| b.iter(|| runtime.block_on(decode(address, messages.len(), Some(&expected)))));
    let few = &messages[..20_000];
    let address = serve(few, Sending::Singly);
    group.throughput(Throughput::Elements(few.len() as u64));
    // CPU of the client's thread alone: how long the server takes to send is not its business.
    let cpu = |iterations: u64, run: &dyn Fn()| {
        let began = ThreadTime::now();
        (0..iterations).for_each(|_| run());
        began.elapsed()
    };
    group.bench_function("singly/count_tungstenite", |b| b.iter_custom(|n| cpu(n, &|| runtime.block_on(count(address, few.len())))));
    group.bench_function("singly/decode", |b| b.iter_custom(|n| cpu(n, &|| runtime.block_on(decode(address, few.len(), None)))));
    group.finish();
}

/// What the pipeline makes of decoded events, and what the ledger adds to it and to each sink.
fn process(c: &mut Criterion) {
    let messages = support::mix("binance");
    let mut feed = collector::core::Feed::new(support::venue("binance", support::SYMBOLS), Market::Linear);
    let mut turn = Turn::default();
    for message in &messages[..100_000] {
        feed.frame(Time::EPOCH, "ws://x/public/stream", message.as_bytes(), &mut turn);
    }
    let batches: Vec<Vec<Event>> = turn.events.chunks(256).map(<[Event]>::to_vec).collect();
    let mut group = c.benchmark_group("process");
    group.throughput(Throughput::Elements(turn.events.len() as u64)).sample_size(20);
    for (label, ledger) in [("plain", false), ("ledger", true)] {
        let run = |batches: Vec<Vec<Event>>| {
            let mut pipeline = Pipeline::new("binance", Arc::new(Everything), false, false);
            if ledger {
                pipeline.keep_ledger();
            }
            for mut batch in batches {
                pipeline.process(&mut batch);
                black_box(batch);
            }
            pipeline
        };
        assert_eq!(run(batches.clone()).take_ledger().is_empty(), !ledger);
        group.bench_function(label, |b| b.iter_batched(|| batches.clone(), run, BatchSize::LargeInput));
    }
    group.bench_function("sink_counts", |b| {
        b.iter(|| {
            let mut counts = EventCounts::default();
            for batch in &batches {
                counts.count(batch);
            }
            counts
        });
    });
    group.finish();
}

/// A sink that only notes when its last batch came.
struct Noting(Arc<Mutex<Option<Instant>>>);

impl Sink for Noting {
    fn name(&self) -> &'static str {
        "noting"
    }
    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        black_box(batch.events().len());
        *self.0.lock().expect("no panic") = Some(Instant::now());
        Box::pin(std::future::ready(Ok(())))
    }
    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// Time between cycles; a cycle is over well before.
const INTERVAL: Duration = Duration::from_millis(400);
/// When nothing has come for so long, a cycle is over.
const QUIET: Duration = Duration::from_millis(150);

/// Both venues' bodies behind a delay; tells when each request of a cycle came, and what CPU the server itself took.
fn slow_server(latency: Duration, server_cpu: Arc<Mutex<Duration>>) -> (SocketAddr, Receiver<Instant>) {
    let bodies = support::polled_bodies();
    let (told, arrivals) = channel();
    let (address, bound) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        runtime.block_on(async move {
            let turn = Arc::new(std::sync::atomic::AtomicUsize::new(0));
            let bodies = Arc::new(bodies);
            let handler = move |uri: axum::http::Uri| {
                let (told, turn, bodies, server_cpu) = (told.clone(), turn.clone(), bodies.clone(), server_cpu.clone());
                async move {
                    let variants = bodies.iter().find(|(path, _)| uri.path().ends_with(path)).map(|(_, variants)| variants).expect("a known path");
                    if variants.len() > 1 {
                        let _over = told.send(Instant::now());
                    }
                    let at = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
                    tokio::time::sleep(latency).await;
                    *server_cpu.lock().expect("no panic") = ThreadTime::now().as_duration();
                    variants[at / 3 % variants.len()].clone()
                }
            };
            let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
            address.send(listener.local_addr().expect("an address")).expect("someone waits");
            axum::serve(listener, axum::Router::new().fallback(handler)).await.expect("a server");
        });
    });
    (bound.recv().expect("an address"), arrivals)
}

fn cycle(c: &mut Criterion) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().expect("a runtime");
    let server_cpu = Arc::default();
    let (address, arrivals) = slow_server(Duration::from_millis(100), Arc::clone(&server_cpu));
    let last = Arc::new(Mutex::new(None));
    let running = runtime.block_on(async {
        let mut builder =
            Collector::builder().channels([Channel::Ticker, Channel::Mark, Channel::Funding]).interval(INTERVAL).sink(Box::new(Noting(last.clone())));
        for name in ["binance", "bybit"] {
            builder = builder.venue(support::venue_at(name, &format!("http://{address}/{name}")));
        }
        builder.start().expect("a collector")
    });
    // The instruments, and the first cycles, in which everything is news.
    std::thread::sleep(Duration::from_secs(2));
    let mut group = c.benchmark_group("cycle");
    group.sample_size(20).measurement_time(Duration::from_secs(10));
    let one = || {
        while arrivals.try_recv().is_ok() {}
        let first = arrivals.recv().expect("a request");
        loop {
            std::thread::sleep(Duration::from_millis(5));
            let last = last.lock().expect("no panic").filter(|last| *last > first);
            if let Some(last) = last.filter(|last| last.elapsed() > QUIET) {
                return last - first;
            }
        }
    };
    group.bench_function("binance_bybit_linear", |b| b.iter_custom(|n| (0..n).map(|_| one()).sum()));
    // The process' CPU without the server's: the collector's own (and a little of this loop's).
    let own_cpu = || ProcessTime::now().as_duration().saturating_sub(*server_cpu.lock().expect("no panic"));
    group.bench_function("binance_bybit_linear_cpu", |b| {
        b.iter_custom(|n| {
            let began = own_cpu();
            for _ in 0..n {
                one();
            }
            own_cpu().saturating_sub(began)
        });
    });
    group.finish();
    runtime.block_on(running.stop());
}

criterion_group!(benches, ingest, process, cycle);
criterion_main!(benches);
