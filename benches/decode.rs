//! Decoding, against the fastest way to look at the same bytes: `sonic-rs` skipping them; and venues against each other, by
//! the byte of JSON and by the event. `cargo xtask bench` prints how each compares.

mod support;

use std::hint::black_box;
use std::sync::Arc;

use collector::core::feed::{Reply, Turn};
use collector::core::memo::Memo;
use collector::core::pipeline::Everything;
use collector::core::profile::Method;
use collector::core::{Batch, Feed, Interner, Market, Pipeline, Profile, Sealer, Time};
use criterion::{BatchSize, Criterion, Throughput, criterion_group, criterion_main};
use serde::de::IgnoredAny;

/// Messages whose events are sealed together: what a busy connection reads at once.
const TOGETHER: usize = 256;

fn ws(c: &mut Criterion, name: &'static str, url: &str) {
    let messages = support::mix(name);
    let venue = support::venue(name, support::SYMBOLS);
    let mut group = c.benchmark_group(format!("ws/{name}_mix"));
    let bytes = messages.iter().map(String::len).sum::<usize>() as u64;
    group.throughput(Throughput::ElementsAndBytes { elements: messages.len() as u64, bytes }).sample_size(10);
    group.bench_function("skip", |b| {
        b.iter(|| {
            for message in messages {
                black_box(sonic_rs::from_slice::<IgnoredAny>(message.as_bytes()).expect("JSON"));
            }
        });
    });
    for (label, seal) in [("decode", false), ("decode_id", true)] {
        group.bench_function(label, |b| {
            b.iter(|| {
                let mut feed = Feed::new(venue.clone(), Market::Linear);
                let mut sealer = Sealer::default();
                let mut turn = Turn::default();
                let mut events = 0;
                for together in messages.chunks(TOGETHER) {
                    for message in together {
                        feed.frame(Time::from_millis(1), url, message.as_bytes(), &mut turn);
                    }
                    if seal {
                        sealer.seal(&mut turn.events);
                    }
                    events += turn.events.len();
                    black_box(&turn.events);
                    turn.events.clear();
                    turn.controls.clear();
                    turn.resync.clear();
                }
                assert!(events >= messages.len(), "each message is at least one event");
            });
        });
    }
    group.finish();
}

fn mixes(c: &mut Criterion) {
    ws(c, "binance", "wss://fstream.binance.com/public/stream");
    ws(c, "bybit", "wss://stream.bybit.com/v5/public/linear");
    if support::has_generator() {
        ws(c, "okx", "wss://ws.okx.com:8443/ws/v5/public");
    }
}

/// What each venue sends, as its fixtures have it: small messages of every kind.
fn fixtures(c: &mut Criterion) {
    for exchange in collector::venues::all() {
        let name = Profile::parse(exchange.policy()).expect("a description").name;
        let mut group = c.benchmark_group(format!("fixtures/{name}"));
        for (kind, mut sample) in support::fixtures(&name) {
            group.throughput(Throughput::ElementsAndBytes { elements: sample.events as u64, bytes: sample.bytes as u64 });
            let mut turn = Turn::default();
            group.bench_function(kind, |b| {
                b.iter(|| {
                    sample.pass(&mut turn, |turn| {
                        black_box(&turn.events);
                    });
                });
            });
        }
        group.finish();
    }
}

/// Lists of 600 instruments of further venues.
fn lists(c: &mut Criterion) {
    for (name, list, path, body) in support::lists(600) {
        let body = body.trim();
        let mut feed = Feed::new(support::venue(name, 600), Market::Linear);
        let mut sealer = Sealer::default();
        let mut turn = Turn::default();
        let mut group = c.benchmark_group(format!("rest/{name}_{list}"));
        group.throughput(Throughput::Bytes(body.len() as u64));
        group.bench_function("decode_id", |b| {
            b.iter(|| {
                let reply = Reply { method: Method::Get, url: path, request: None, status: 200, retry_after: None, payload: body.as_bytes(), memo: None };
                feed.reply(Time::from_millis(1), &reply, &mut turn).expect("a list");
                sealer.seal(&mut turn.events);
                assert!(turn.events.len() >= 600, "each instrument is at least one event");
                turn.events.clear();
            });
        });
        group.finish();
    }
}

/// The body with another envelope time, and, if asked, 20 of its 600 records changed.
fn variant(body: &str, n: u64, change: bool) -> String {
    let at = body.rfind("\"time\":").expect("an envelope time") + 7;
    let mut text = format!("{}{}}}", &body[..at], 1_767_225_600_000 + n);
    let mut from = 0;
    let mut record = 0;
    while let Some(found) = text[from..].find("\"lastPrice\":\"").filter(|_| change) {
        from += found + 13;
        if record % 30 == 0 {
            text.replace_range(from..=from, &(1 + n % 9).to_string());
        }
        record += 1;
    }
    text
}

fn rest(c: &mut Criterion) {
    let body = support::bybit_tickers(600);
    let body = body.trim();
    let venue = support::venue("bybit", 600);
    let url = "https://api.bybit.com/v5/market/tickers?category=linear";
    let mut group = c.benchmark_group("rest/bybit_tickers");
    group.throughput(Throughput::Bytes(body.len() as u64));
    group.bench_function("skip", |b| b.iter(|| black_box(sonic_rs::from_slice::<IgnoredAny>(body.as_bytes()).expect("JSON"))));
    let mut run = |label: &str, bodies: Vec<String>, incremental: bool| {
        let mut feed = Feed::new(venue.clone(), Market::Linear);
        let mut pipeline = Pipeline::new("bybit", Arc::new(Everything), false, false);
        let mut sealer = Sealer::default();
        let memo = Memo::default();
        let mut turn = Turn::default();
        let mut next = 0;
        group.bench_function(label, |b| {
            b.iter(|| {
                let body = &bodies[next % bodies.len()];
                next += 1;
                let memo = incremental.then_some(&memo);
                let reply = Reply { method: Method::Get, url, request: None, status: 200, retry_after: None, payload: body.as_bytes(), memo };
                feed.reply(Time::from_millis(1), &reply, &mut turn).expect("tickers");
                if let Some(memo) = memo {
                    memo.commit();
                    pipeline.process(&mut turn.events);
                } else {
                    sealer.seal(&mut turn.events);
                }
                black_box(&turn.events);
                turn.events.clear();
            });
        });
    };
    run("decode_id", vec![variant(body, 0, false)], false);
    run("identical", (0..9).map(|n| variant(body, n, false)).collect(), true);
    run("changed_20", (0..9).map(|n| variant(body, n, true)).collect(), true);
    group.finish();
}

/// Event lines, to and fro: what a journal's batch costs besides its file.
fn event_lines(c: &mut Criterion) {
    for name in ["binance", "bybit"] {
        let url = if name == "binance" { "wss://fstream.binance.com/public/stream" } else { "wss://stream.bybit.com/v5/public/linear" };
        let mut feed = Feed::new(support::venue(name, support::SYMBOLS), Market::Linear);
        let mut turn = Turn::default();
        for message in &support::mix(name)[..50_000] {
            feed.frame(Time::from_millis(1_767_225_600_000), url, message.as_bytes(), &mut turn);
        }
        Sealer::default().seal(&mut turn.events);
        let batches: Vec<Batch> = turn.events.chunks(TOGETHER).map(|events| Batch::new(events.to_vec())).collect();
        let bytes = batches.iter().map(|batch| batch.lines().len()).sum::<usize>() as u64;
        let mut group = c.benchmark_group(format!("event_lines/{name}_mix"));
        group.throughput(Throughput::ElementsAndBytes { elements: turn.events.len() as u64, bytes }).sample_size(10);
        group.bench_function("write", |b| {
            let mut out = Vec::new();
            b.iter(|| {
                for event in &turn.events {
                    out.clear();
                    event.write_json(None, &mut out);
                    black_box(&out);
                }
            });
        });
        group.bench_function("parse", |b| {
            let mut interner = Interner::default();
            b.iter_batched(
                || batches.iter().map(|batch| batch.lines().to_vec()).collect::<Vec<_>>(),
                |lines| lines.into_iter().for_each(|lines| drop(black_box(Batch::parse_with(lines, &mut interner).expect("a batch")))),
                BatchSize::LargeInput,
            );
        });
        group.finish();
    }
}

criterion_group!(benches, mixes, rest, lists, fixtures, event_lines);
criterion_main!(benches);
