//! What every sink must do, whatever it writes to: run by each sink's own tests.

use std::ops::Range;
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
use std::path::Path;
#[cfg(any(feature = "amqp", feature = "nats", feature = "redis"))]
use std::path::PathBuf;
use std::sync::Arc;

use exchange_core::event::{Ident, Trade};
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Time, canonical};

#[cfg(any(feature = "postgres", feature = "redis"))]
use test_servers::{Proxy, Server};

#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
use crate::error::SinkErrorKind;
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
use crate::registry::SinkUri;
use crate::sink::Sink;
use crate::source::Source;

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A batch of trades with these numbers.
pub(crate) fn batch(ids: Range<u64>) -> Arc<Batch> {
    Arc::new(trades(ids))
}

fn trades(ids: Range<u64>) -> Batch {
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let trade = |id: u64| Trade { trade_id: Some(Ident::Number(id)), price: Decimal::from(7), size: Decimal::from(1), size_base: None, side: None };
    let sealed = |id: u64| {
        let mut event = Event::new(instrument.clone(), Time::from_micros(1), None, Body::Trade(trade(id)));
        event.id = canonical::id(&event);
        event
    };
    Batch::new(ids.map(sealed).collect())
}

/// What a source gives to its end, and the errors on the way.
pub(crate) fn read(source: Box<dyn Source>) -> (String, Vec<String>) {
    block_on(read_on(source))
}

/// The same, of a source that was read before.
pub(crate) async fn read_on(mut source: Box<dyn Source>) -> (String, Vec<String>) {
    let (mut lines, mut errors) = (String::new(), Vec::new());
    loop {
        match source.next().await {
            Ok(None) => return (lines, errors),
            Ok(Some(batch)) => lines += std::str::from_utf8(batch.lines()).expect("lines are text"),
            Err(error) => errors.push(error.to_string()),
        }
    }
}

/// Reads a source until it has given so many lines.
pub(crate) async fn read_lines(source: &mut Box<dyn Source>, count: usize) -> String {
    let mut lines = String::new();
    while lines.lines().count() < count {
        let batch = source.next().await.expect("read").expect("more");
        lines += std::str::from_utf8(batch.lines()).expect("lines are text");
    }
    lines
}

/// Writes batches and flushes, again and again while the errors are of the passing kind, as a delivery does.
#[cfg(any(feature = "nats", feature = "kafka", feature = "amqp"))]
pub(crate) async fn insist(sink: &mut dyn Sink, batches: impl IntoIterator<Item = Arc<Batch>>) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
    for batch in batches {
        while let Err(error) = sink.write(&batch).await {
            assert!(error.is_retryable(), "{error}");
            tokio::time::sleep(PAUSE).await;
        }
    }
    while let Err(error) = sink.flush().await {
        assert!(error.is_retryable(), "{error}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes to a sink in every way that it must stand, and compares with the lines that `read` finds afterwards.
pub(crate) fn suite<S: Sink>(mut sink: S, read: impl FnOnce(S) -> String) {
    block_on(exercise(&mut sink));
    let found = read(sink);
    let wanted = batch(WRITTEN);
    assert!(found.as_bytes() == wanted.lines(), "every line once, in order: {} of {} bytes", found.len(), wanted.lines().len());
}

/// The same for a sink that is asked for the ids of what it has, in order.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn suite_by_ids(sink: &mut dyn Sink, read: impl AsyncFnOnce() -> Vec<String>) {
    exercise(sink).await;
    same_ids(&read().await, WRITTEN);
}

/// Every id once, in order.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) fn same_ids(found: &[String], wanted: Range<u64>) {
    let wanted: Vec<String> = batch(wanted).events().iter().map(|event| event.id.to_string()).collect();
    let repeats = found.len() - found.iter().collect::<std::collections::HashSet<_>>().len();
    assert!(found == wanted, "every event once, in order: {} of {}, {repeats} repeats", found.len(), wanted.len());
}

/// The trades that [`exercise`] writes.
const WRITTEN: Range<u64> = 0..20_003;

/// Writes in every way that a sink must stand, and closes it.
async fn exercise(sink: &mut (impl Sink + ?Sized)) {
    let batches = [batch(0..1), batch(1..1), batch(1..700), batch(700..20_000), batch(20_000..20_001)];
    sink.flush().await.expect("there is nothing to flush, which is no error");
    for batch in &batches {
        sink.write(batch).await.expect("accepted");
    }
    sink.flush().await.expect("flushed");
    drop(sink.write(&batches[0]));
    let more = batch(20_001..20_003);
    sink.write(&more).await.expect("accepted after a flush");
    sink.close().await.expect("closed");
    sink.write(&more).await.expect_err("it was closed");
}

/// The journal of [`at`].
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) const JOURNAL: u64 = 0xfeed;

/// A batch of ten trades at its place in a journal: the first has number 1, and the trades 0 to 9.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) fn at(number: u64) -> Arc<Batch> {
    Arc::new(trades((number - 1) * 10..number * 10).at(exchange_core::Position { journal: JOURNAL, number }))
}

/// A sink that keeps the position with the data holds nothing twice, wherever the collector begins again.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn resumes(open: impl Fn() -> Box<dyn Sink>, read: impl AsyncFnOnce() -> Vec<String>) {
    let mut first = open();
    assert_eq!(first.position(JOURNAL).await.expect("asked"), None, "nothing was written yet");
    for number in 1..=5 {
        first.write(&at(number)).await.expect("accepted");
    }
    first.flush().await.expect("flushed");
    // Accepted and never confirmed: the process is killed here.
    first.write(&at(6)).await.expect("accepted");
    drop(first);
    let mut second = open();
    assert_eq!(second.position(JOURNAL).await.expect("asked"), at(5).position());
    another_collector(&open).await;
    for number in 3..=8 {
        second.write(&at(number)).await.expect("accepted");
        if number % 2 == 0 {
            second.flush().await.expect("flushed");
        }
    }
    // And by one that does not ask.
    let mut third = open();
    for number in 7..=9 {
        third.write(&at(number)).await.expect("accepted");
    }
    third.close().await.expect("closed");
    same_ids(&read().await, 0..90);
}

/// Another collector's journal has a position of its own, and moves none but that.
#[cfg(any(feature = "postgres", feature = "redis"))]
async fn another_collector(open: impl Fn() -> Box<dyn Sink>) {
    let theirs = exchange_core::Position { journal: 0xbeef, number: 700 };
    let mut other = open();
    assert_eq!(other.position(theirs.journal).await.expect("asked"), None, "it wrote nothing yet");
    other.write(&Arc::new(Batch::default().at(theirs))).await.expect("accepted");
    other.close().await.expect("closed");
    let mut asked = open();
    assert_eq!(asked.position(theirs.journal).await.expect("asked"), Some(theirs));
    assert_eq!(asked.position(JOURNAL).await.expect("asked"), at(5).position(), "not the newest of all");
}

/// Writes the batches up to this number as the collector does: what failed is tried again, and after a while the sink is
/// dropped, and a new one is given what was not confirmed. `trouble` is called before each attempt, with how many there were. How many
/// failed.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn deliver(open: impl Fn() -> Box<dyn Sink>, last: u64, mut trouble: impl AsyncFnMut(u64)) -> u64 {
    let mut sink = open();
    let (mut confirmed, mut next, mut attempt, mut failures) = (0, 1, 0, 0);
    while confirmed < last {
        trouble(attempt).await;
        attempt += 1;
        let result = if next <= last { sink.write(&at(next)).await.map(|()| next += 1) } else { Ok(()) };
        let result = match result {
            Ok(()) if next % 7 == 0 || next > last => sink.flush().await.map(|()| confirmed = next - 1),
            other => other,
        };
        if let Err(error) = result {
            assert!(error.is_retryable(), "{error}");
            failures += 1;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            if next % 3 == 0 {
                sink = open();
                next = confirmed + 1;
            }
        }
    }
    failures
}

/// A server that is killed and stopped again and again loses and repeats nothing.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn survives_its_server(mut server: Server, open: impl Fn() -> Box<dyn Sink>, ids: impl AsyncFnOnce(&Server) -> Vec<String>) {
    let trouble = async |attempt: u64| match attempt % 100 {
        40 => server.kill(),
        55 => server.restart(),
        70 => {
            server.stop();
            server.restart();
        }
        _ => {}
    };
    let failures = deliver(open, 300, trouble).await;
    assert!(failures > 3, "there was trouble");
    same_ids(&ids(&server).await, 0..3000);
}

/// A network that is cut somewhere in each `piece` of bytes, the end of a transaction included, and away for a while, loses and repeats
/// nothing.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn survives_its_network(proxy: &Proxy, piece: u64, open: impl Fn() -> Box<dyn Sink>, ids: impl AsyncFnOnce() -> Vec<String>) {
    let trouble = async |attempt: u64| match attempt {
        150 => proxy.refuse(),
        165 => proxy.heal(),
        _ if attempt.is_multiple_of(10) && attempt < 300 => proxy.cut_after(attempt * 97 % piece),
        _ => {}
    };
    let failures = deliver(open, 200, trouble).await;
    assert!(failures > 10, "there was trouble");
    same_ids(&ids().await, 0..2000);
}

/// A server that hangs is left after the patience of its sink, a second, and what it finds in its buffers later it does but once.
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(crate) async fn leaves_a_server_that_hangs(server: &Server, mut sink: Box<dyn Sink>, ids: impl AsyncFnOnce() -> Vec<String>) {
    sink.write(&at(1)).await.expect("accepted");
    sink.flush().await.expect("flushed");
    server.pause();
    sink.write(&at(2)).await.expect("accepted");
    for _ in 0..2 {
        let error = sink.flush().await.expect_err("nobody answers");
        assert!(error.is_retryable(), "{error}");
    }
    server.resume();
    while let Err(error) = sink.flush().await {
        assert!(error.is_retryable(), "{error}");
    }
    sink.write(&at(3)).await.expect("accepted");
    sink.close().await.expect("closed");
    same_ids(&ids().await, 0..30);
}

/// What a new sink at an address says when it shall deliver something. No form of it shows a secret of these tests.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) async fn said(address: &str) -> (SinkErrorKind, String) {
    let uri = SinkUri::parse(address).expect("an address");
    let mut sink = uri.open().expect("a sink");
    let error = match sink.write(&at(1)).await {
        Ok(()) => sink.flush().await.expect_err("it cannot be delivered"),
        Err(error) => error,
    };
    let everything = format!("{error} {error:?} {uri} {uri:?} {}", sink.name());
    assert!(!everything.contains(SECRET), "{everything}");
    (error.kind(), error.to_string())
}

/// Delivers a batch over a new connection.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) async fn delivers(address: &str) {
    let mut sink = SinkUri::parse(address).expect("an address").open().expect("a sink");
    sink.write(&at(1)).await.expect("accepted");
    sink.close().await.expect("delivered");
}

/// How every secret of these tests begins.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) const SECRET: &str = "hunter2";

/// Whoever is not let in by a server is told so, where, and what to do, and does not try again by himself.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) async fn is_let_in_only_as(right: &str, others: &[&str]) {
    for other in others {
        let (kind, words) = said(other).await;
        let shown = SinkUri::parse(other).expect("an address").open().expect("a sink").name().to_owned();
        assert!(kind == SinkErrorKind::Permanent && words.contains(&shown) && words.ends_with(&format!("({})", crate::trust::LOGIN)), "{kind:?} {words}");
    }
    delivers(right).await;
}

/// A server is trusted only with the certificate of an authority that is, and by the name in it. `address` gives the server's, by a
/// name of its host and with a file of authorities.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) async fn is_trusted_only_by_its_certificate(address: impl Fn(&str, Option<&Path>) -> String, authorities: &Path) {
    delivers(&address("localhost", Some(authorities))).await;
    let of = |said: (SinkErrorKind, String), wanted: &[&str]| {
        assert!(said.0 == SinkErrorKind::Permanent && wanted.iter().all(|wanted| said.1.contains(wanted)), "{said:?}");
    };
    of(said(&address("localhost", None)).await, &["localhost:", "UnknownIssuer", "`ca_file=` names the file"]);
    of(said(&address("127.0.0.1", Some(authorities))).await, &["127.0.0.1:", "not valid for name", "name the host in the address as the certificate does"]);
}

/// A certificate of `localhost` that nobody knows, and its key, in PEM.
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) fn certificate() -> (String, String) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).expect("a certificate");
    (made.cert.pem(), made.signing_key.serialize_pem())
}

/// The same in a folder's files `ca.pem` and `key.pem`.
#[cfg(any(feature = "amqp", feature = "nats", feature = "redis"))]
pub(crate) fn certificate_files(folder: &Path) -> (PathBuf, PathBuf) {
    let (certificate, key) = certificate();
    let files = (folder.join("ca.pem"), folder.join("key.pem"));
    std::fs::write(&files.0, certificate).expect("a file");
    std::fs::write(&files.1, key).expect("a file");
    files
}
