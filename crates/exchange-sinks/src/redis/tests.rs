//! Against a real server.

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;

use exchange_core::event::{Funding, Ticker};
use exchange_core::{Batch, Body, Event, Instrument, Market, Time, canonical};
use redis::streams::StreamRangeReply;
use test_servers::{Proxy, Server};

use crate::contract::{self, batch, block_on, said};
use crate::error::SinkErrorKind;
use crate::registry::SinkUri;
use crate::sink::Sink;
use crate::source::{Reading, Since, SourceUri};

fn address(port: u16, more: &str) -> String {
    format!("redis://127.0.0.1:{port}{more}")
}

fn open(address: &str) -> Box<dyn Sink> {
    SinkUri::parse(address).unwrap().open().unwrap()
}

/// Asks the server for something.
async fn ask<T: redis::FromRedisValue>(server: &Server, words: &[&str]) -> T {
    let client = redis::Client::open(format!("redis://{}/", server.address())).unwrap();
    let mut connection = client.get_multiplexed_async_connection().await.unwrap();
    redis::cmd(words[0]).arg(&words[1..]).query_async(&mut connection).await.unwrap()
}

/// The ids of the stream of trades, in its order.
async fn ids(server: &Server) -> Vec<String> {
    let entries: StreamRangeReply = ask(server, &["XRANGE", "collector:trade", "-", "+"]).await;
    entries.ids.iter().map(|entry| entry.get("id").unwrap()).collect()
}

#[test]
fn keeps_the_contract() {
    let Some(server) = test_servers::redis() else { return };
    block_on(async {
        contract::suite_by_ids(&mut *open(&address(server.port(), "")), async || ids(&server).await).await;
        let entries: StreamRangeReply = ask(&server, &["XRANGE", "collector:trade", "-", "+", "COUNT", "1"]).await;
        let entry = &entries.ids[0];
        let line = batch(0..1).events()[0].to_json();
        assert_eq!(entry.get::<String>("type").unwrap(), "trade");
        assert_eq!(entry.get::<String>("line").unwrap(), line);
        assert_eq!(entry.map.len(), 3);
    });
}

#[test]
fn begins_again_where_it_stood() {
    let Some(server) = test_servers::redis() else { return };
    block_on(contract::resumes(|| open(&address(server.port(), "")), async || ids(&server).await));
}

#[test]
fn a_killed_server_loses_and_repeats_nothing() {
    let Some(server) = test_servers::redis() else { return };
    let address = address(server.port(), "");
    block_on(contract::survives_its_server(server, || open(&address), async |server| ids(server).await));
}

#[test]
fn a_network_that_is_cut_anywhere_loses_and_repeats_nothing() {
    let Some(server) = test_servers::redis() else { return };
    let proxy = Proxy::to(server.address());
    block_on(contract::survives_its_network(&proxy, 25_000, || open(&address(proxy.port(), "")), async || ids(&server).await));
}

#[test]
fn a_server_that_hangs_is_left_and_does_later_what_it_was_told_but_once() {
    let Some(server) = test_servers::redis() else { return };
    block_on(contract::leaves_a_server_that_hangs(&server, open(&address(server.port(), "?timeout=1s")), async || ids(&server).await));
}

#[test]
fn streams_are_bounded_and_keys_begin_as_one_likes() {
    let Some(server) = test_servers::redis() else { return };
    block_on(async {
        let mut sink = open(&address(server.port(), "/3?prefix=mine&maxlen=1000&latest=off"));
        sink.write(&batch(0..20_000)).await.unwrap();
        sink.close().await.unwrap();
        let client = redis::Client::open(format!("redis://{}/3", server.address())).unwrap();
        let mut connection = client.get_multiplexed_async_connection().await.unwrap();
        let length: u64 = redis::cmd("XLEN").arg("mine:trade").query_async(&mut connection).await.unwrap();
        assert!((1000..1200).contains(&length), "{length}");
        let keys: Vec<String> = redis::cmd("KEYS").arg("*").query_async(&mut connection).await.unwrap();
        assert_eq!(keys, ["mine:trade"]);
    });
}

#[test]
fn the_latest_state_is_what_was_said_last() {
    let Some(server) = test_servers::redis() else { return };
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let event = |t: i64, body: Body| {
        let mut event = Event::new(instrument.clone(), Time::from_micros(t), Some(Time::from_micros(t - 1)), body);
        event.id = canonical::id(&event);
        event
    };
    let number = |text: &str| Some(text.parse().unwrap());
    block_on(async {
        let mut sink = open(&address(server.port(), ""));
        let whole = Ticker { last: number("1.5"), bid: number("1.4"), ..Ticker::default() };
        let first =
            [event(10, Body::Ticker(whole)), event(20, Body::Funding(Funding { rate: number("-0.0001"), interval_hours: Some(8), ..Funding::default() }))];
        sink.write(&Arc::new(Batch::new(first.into()))).await.unwrap();
        sink.flush().await.unwrap();
        let delta = [
            event(30, Body::Ticker(Ticker { last: number("1.6"), ..Ticker::default() })),
            event(40, Body::Ticker(Ticker { last: number("1.7"), ..Ticker::default() })),
        ];
        sink.write(&Arc::new(Batch::new(delta.into()))).await.unwrap();
        sink.close().await.unwrap();
        let found: HashMap<String, String> = ask(&server, &["HGETALL", "collector:latest:bybit:linear:BTCUSDT"]).await;
        let wanted = [
            ("ticker.last", "1.7"),
            ("ticker.bid", "1.4"),
            ("ticker.t", "40"),
            ("ticker.et", "39"),
            ("funding.rate", "-0.0001"),
            ("funding.interval_hours", "8"),
            ("funding.t", "20"),
            ("funding.et", "19"),
        ];
        assert_eq!(found, wanted.map(|(name, value)| (name.to_owned(), value.to_owned())).into());
    });
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let Some(server) = test_servers::redis_with(&["--requirepass", "hunter2-redis"]) else { return };
    let port = server.port();
    let right = format!("redis://:hunter2-redis@127.0.0.1:{port}");
    block_on(async {
        let (_, words) = said(&format!("redis://:hunter2-wrong@127.0.0.1:{port}")).await;
        assert!(words.contains("authentication failed"), "{words}");
        let others = [&format!("redis://:hunter2-wrong@127.0.0.1:{port}"), &format!("redis://somebody:hunter2-redis@127.0.0.1:{port}"), &*address(port, "")];
        contract::is_let_in_only_as(&right, &others).await;
        drop(server);
        let (kind, words) = said(&right).await;
        assert!(kind == SinkErrorKind::Retryable && words.contains("refused"), "{kind:?} {words}");
    });
}

#[test]
fn a_key_of_somebody_else_is_left_alone() {
    let Some(server) = test_servers::redis() else { return };
    block_on(async {
        let () = ask(&server, &["SET", "collector:trade", "mine"]).await;
        let (kind, words) = said(&address(server.port(), "")).await;
        assert!(
            kind == SinkErrorKind::Permanent && words.ends_with("the key `collector:trade` is a string and no stream: remove it, or take another `prefix=`"),
            "{words}"
        );
    });
}

#[test]
fn a_server_is_trusted_only_with_its_certificate_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, key) = contract::certificate_files(folder.path());
    let port = test_servers::free_port();
    let (certificate, key, encrypted) = (authorities.display().to_string(), key.display().to_string(), port.to_string());
    let arguments = ["--tls-port", &encrypted, "--tls-auth-clients", "no", "--tls-cert-file", &certificate, "--tls-key-file", &key];
    let Some(server) = test_servers::redis_with(&arguments) else { return };
    block_on(async {
        let more = |file: Option<&Path>| file.map_or_else(String::new, |file| format!("?ca_file={}", file.display()));
        contract::is_trusted_only_by_its_certificate(|host, file| format!("rediss://{host}:{port}{}", more(file)), &authorities).await;
        contract::same_ids(&ids(&server).await, 0..10);
        let source = SourceUri::parse(&format!("rediss://localhost:{port}?ca_file={}", authorities.display())).unwrap();
        let mut source = source.open(Reading { from: Since::Start, follow: false }).unwrap();
        assert_eq!(contract::read_lines(&mut source, 10).await.as_bytes(), contract::at(1).lines());
    });
}
