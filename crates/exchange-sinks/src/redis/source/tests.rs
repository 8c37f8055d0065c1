//! What the sink wrote, against a real server.

use std::ops::Range;

use exchange_core::event::{Funding, Mark};
use exchange_core::{Body, Event, Instrument, Market, Time, canonical};
use test_servers::{Proxy, Server as Redis};

use super::*;
use crate::contract::{at, batch, block_on, read, read_lines, read_on};
use crate::registry::SinkUri;
use crate::sink::Sink;
use crate::source::SourceUri;

fn address(port: u16, more: &str) -> String {
    format!("redis://127.0.0.1:{port}{more}")
}

fn sink(server: &Redis, more: &str) -> Box<dyn Sink> {
    SinkUri::parse(&address(server.port(), more)).unwrap().open().unwrap()
}

fn source(address: &str, from: Since, follow: bool) -> Box<dyn Source> {
    SourceUri::parse(address).unwrap().open(Reading { from, follow }).unwrap()
}

async fn store(sink: &mut dyn Sink, batch: &Arc<Batch>) {
    sink.write(batch).await.unwrap();
    sink.flush().await.unwrap();
}

fn text(ids: Range<u64>) -> String {
    String::from_utf8(batch(ids).lines().to_vec()).unwrap()
}

/// Of two types by turns.
fn states(numbers: Range<i64>) -> Arc<Batch> {
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let event = |number: i64| {
        let value = number.to_string().parse().ok();
        let body =
            if number % 2 == 0 { Body::Mark(Mark { mark: value, ..Mark::default() }) } else { Body::Funding(Funding { rate: value, ..Funding::default() }) };
        let mut event = Event::new(instrument.clone(), Time::from_micros(number), None, body);
        event.id = canonical::id(&event);
        event
    };
    Arc::new(Batch::new(numbers.map(event).collect()))
}

#[test]
fn all_streams_are_read_to_the_end_that_they_had() {
    let Some(server) = test_servers::redis() else { return };
    let address = address(server.port(), "/2?prefix=mine");
    let (mut whole, now, later) =
        (source(&address, Since::Start, false), source(&address, Since::Now, false), source(&address, Since::Time(Time::from_micros(1000)), false));
    let (lines, errors) = block_on(async {
        let mut sink = sink(&server, "/2?prefix=mine");
        store(&mut *sink, &batch(0..3000)).await;
        store(&mut *sink, &states(0..2000)).await;
        let mut lines = read_lines(&mut whole, 1).await;
        // What comes after reading began is not waited for.
        store(&mut *sink, &batch(3000..3010)).await;
        let (rest, errors) = read_on(whole).await;
        lines += &rest;
        (lines, errors)
    });
    assert_eq!(errors, [""; 0]);
    let of = |kind: &str| lines.lines().filter(|line| line.contains(kind)).flat_map(|line| [line, "\n"]).collect::<String>();
    assert!(of("\"type\":\"trade\"") == text(0..3000), "each in its order");
    let mut others: Vec<&str> = lines.lines().filter(|line| !line.contains("\"type\":\"trade\"")).collect();
    others.sort_by_key(|line| line.split_once("\"t\":").unwrap().1.split(',').next().unwrap().parse::<u64>().unwrap());
    assert!(others.join("\n") + "\n" == std::str::from_utf8(states(0..2000).lines()).unwrap());
    assert_eq!(read(now), (String::new(), Vec::new()));
    assert_eq!(read(later).0.lines().count(), 1000);
}

#[test]
fn what_comes_is_followed_from_now_on_over_lost_connections_and_a_killed_server() {
    let Some(mut server) = test_servers::redis() else { return };
    let proxy = Proxy::to(server.address());
    block_on(async {
        let mut sink = sink(&server, "");
        store(&mut *sink, &batch(0..10)).await;
        let mut now = source(&address(proxy.port(), "?timeout=2s"), Since::Now, true);
        // It begins when it is first asked, and waits.
        assert!(tokio::time::timeout(Duration::from_secs(2), now.next()).await.is_err(), "nothing came since");
        let (mut lines, mut failures) = (String::new(), 0);
        for at in (10..1010).step_by(100) {
            match at {
                310 => {
                    server.kill();
                    server.restart();
                }
                610 => proxy.refuse(),
                _ => proxy.cut_after(at * 37 % 700),
            }
            let more = batch(at..at + 100);
            sink.write(&more).await.unwrap();
            while sink.flush().await.is_err() {}
            let wanted = lines.lines().count() + 100;
            while lines.lines().count() < wanted {
                match now.next().await {
                    Ok(batch) => lines += std::str::from_utf8(batch.expect("more").lines()).unwrap(),
                    Err(error) => {
                        assert!(error.is_retryable(), "{error}");
                        failures += 1;
                        proxy.heal();
                    }
                }
            }
        }
        assert!(lines == text(10..1010), "each once, in order");
        assert!(failures > 3, "there was trouble");
    });
}

#[test]
fn what_was_trimmed_before_it_was_read_is_told_and_nothing_else_is() {
    let Some(server) = test_servers::redis() else { return };
    let address = address(server.port(), "");
    block_on(async {
        let mut sink = sink(&server, "?maxlen=1000");
        store(&mut *sink, &batch(0..10)).await;
        let (mut along, mut behind) = (source(&address, Since::Start, true), source(&address, Since::Start, true));
        let mut lines = read_lines(&mut along, 10).await;
        assert_eq!(read_lines(&mut behind, 10).await, text(0..10));
        for number in 0..20 {
            store(&mut *sink, &batch(10 + number * 500..510 + number * 500)).await;
            lines += &read_lines(&mut along, 500).await;
        }
        assert!(lines == text(0..10_010), "who keeps up misses nothing");
        let error = behind.next().await.unwrap_err();
        let told = error.to_string();
        assert!(!error.is_retryable() && told.starts_with(&format!("{address}: the stream `collector:trade` was trimmed beyond its entry ")), "{told}");
        let mut rest = String::new();
        while !rest.ends_with(&text(10_009..10_010)) {
            rest += &read_lines(&mut behind, 1).await;
        }
        assert!((1000..2000).contains(&rest.lines().count()) && text(0..10_010).ends_with(&rest), "it goes on with what is kept, and tells once");
    });
}

#[test]
fn who_is_not_let_in_is_told_once() {
    let Some(server) = test_servers::redis_with(&["--requirepass", "hunter2-redis"]) else { return };
    let port = server.port();
    block_on(async {
        let mut sink = SinkUri::parse(&format!("redis://:hunter2-redis@127.0.0.1:{port}")).unwrap().open().unwrap();
        store(&mut *sink, &at(1)).await;
    });
    let (lines, errors) = read(source(&format!("redis://:hunter2-wrong@127.0.0.1:{port}"), Since::Start, true));
    assert!(lines.is_empty() && errors.len() == 1 && errors[0].contains("authentication failed") && !errors[0].contains("hunter2"), "{errors:?}");
    assert_eq!(read(source(&format!("redis://:hunter2-redis@127.0.0.1:{port}"), Since::Start, false)).0, text(0..10));
}

#[test]
fn a_wrong_prefix_is_told() {
    let Some(server) = test_servers::redis() else { return };
    block_on(async { store(&mut *sink(&server, ""), &batch(0..10)).await });
    let (lines, errors) = read(source(&address(server.port(), "?prefix=other"), Since::Start, false));
    assert!(lines.is_empty() && errors.len() == 1 && errors[0].contains("there is no stream `other:trade`"), "{errors:?}");
}
