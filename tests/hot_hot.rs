//! Two collectors side by side, one of which dies: what they leave in a broker has every event, and is read each once, with the
//! binary as a user runs it and real servers.
#![cfg(all(unix, any(feature = "kafka", feature = "nats", feature = "redis")))]

mod support;

use std::collections::BTreeSet;
#[cfg(any(feature = "kafka", feature = "redis"))]
use std::io::BufRead as _;

use rustix::process::Signal;
use support::{Events, Place, Running, Stdout};

fn ids(events: &Events) -> BTreeSet<String> {
    events.lines().map(|line| line.id().to_owned()).collect()
}

/// Two collectors of one market, each into its own files and into the sink of `address(name)`; one is killed. What the other one saw.
fn pair(place: &Place, address: impl Fn(&str) -> String) -> BTreeSet<String> {
    let (simulator, options) = place.simulator("--exchanges bybit,binance --symbols 5 --rate 2000 --for 60s");
    let run = |name: &str| {
        let mut command = place.collector(&format!(
            "run --exchanges bybit,binance --channels trade,mark,funding --listen 127.0.0.1:0 --log json --name {name} --sink file:{name} --sink {}",
            address(name)
        ));
        Running::start(command.args(&options), Stdout::Collect)
    };
    let (one, other) = (run("one"), run("other"));
    one.wait_for_events(1_000);
    other.wait_for_events(1_000);
    one.signal(Signal::KILL);
    drop(one);
    other.wait_for_events(3_000);
    other.stop().ok();
    drop(simulator);
    let (one, other) = (ids(&Events::of_killed(&place.path("one"))), ids(&Events::of_sink(&place.path("other"))));
    assert!(one.intersection(&other).count() > 100, "they saw the same");
    other
}

#[cfg(feature = "nats")]
#[test]
fn two_collectors_make_one_clean_stream() {
    let Some(server) = test_servers::nats() else { return };
    let place = Place::new();
    let address = format!("nats://{}/ticks", server.address());
    let survivor = pair(&place, |_| address.clone());
    let tail = place.run(&format!("tail {address} --no-follow")).ok();
    let events = Events::parse(&tail.stdout);
    // Nothing was left out: it is the stream itself that has each once.
    assert!(tail.stderr.contains(&format!("{} events, 0 repetitions left out", events.len())), "{}", tail.stderr);
    events.assert_once();
    let stream = ids(&events);
    assert!(stream.is_superset(&survivor), "{} are missing", survivor.difference(&stream).count());
}

#[cfg(feature = "nats")]
#[test]
fn what_two_streams_hold_is_merged() {
    let Some(server) = test_servers::nats() else { return };
    let place = Place::new();
    let address = |name: &str| format!("nats://{}/{name}", server.address());
    let survivor = pair(&place, address);
    let tail = place.run(&format!("tail {} {} --no-follow", address("one"), address("other"))).ok();
    let events = Events::parse(&tail.stdout);
    assert!(!tail.stderr.contains(" 0 repetitions left out"), "they saw the same: {}", tail.stderr);
    events.assert_once();
    let all = ids(&events);
    assert!(all.is_superset(&survivor), "{} are missing", survivor.difference(&all).count());
}

#[cfg(feature = "nats")]
#[test]
fn shares_are_disjoint_and_together_everything() {
    let Some(server) = test_servers::nats() else { return };
    let place = Place::new();
    let address = format!("nats://{}/shares", server.address());
    let (simulator, options) = place.simulator("--exchanges bybit,binance --symbols 20 --rate 100 --for 60s");
    let symbols = |share: &str, sink: &str| {
        let mut command = place
            .collector(&format!("run --exchanges bybit,binance --channels ticker --once --shard {share} --name {sink} --sink file:{sink} --sink {address}"));
        Running::start(command.args(&options), Stdout::Collect).finish().ok();
        let named = |line: support::Line<'_>| ["venue", "venue_symbol"].map(|key| line.json()[key].to_string());
        Events::of_sink(&place.path(sink)).of(&["ticker"]).map(named).collect::<BTreeSet<_>>()
    };
    let shares = [symbols("0/3", "first"), symbols("1/3", "second"), symbols("2/3", "third")];
    assert!(shares.iter().all(|share| !share.is_empty()), "{shares:?}");
    let together: BTreeSet<_> = shares.iter().flatten().cloned().collect();
    assert_eq!(shares.iter().map(BTreeSet::len).sum::<usize>(), together.len(), "an instrument of two");
    assert_eq!(together, symbols("0/1", "all"));
    drop(simulator);
    let stream = Events::parse(&place.run(&format!("tail {address} --no-follow")).ok().stdout);
    let found: BTreeSet<_> = stream.of(&["ticker"]).map(|line| ["venue", "venue_symbol"].map(|key| line.json()[key].to_string())).collect();
    assert_eq!(found, together);
}

/// Two collectors that write into one place, which keeps both: who follows it meanwhile, and who reads it afterwards, has each once. All ids.
#[cfg(any(feature = "kafka", feature = "redis"))]
fn one_place(address: &str) -> (BTreeSet<String>, usize) {
    let place = Place::new();
    let mut tail = Running::start(&mut place.collector(&format!("tail {address} --from start")), Stdout::Leave);
    let survivor = pair(&place, |_| address.to_owned());
    let whole = place.run(&format!("tail {address} --no-follow")).ok();
    let events = Events::parse(&whole.stdout);
    events.assert_once();
    let all = ids(&events);
    assert!(all.is_superset(&survivor), "{} are missing", survivor.difference(&all).count());
    let counted = whole.stderr.lines().find_map(|line| line.strip_prefix(&format!("{} events, ", all.len()))?.strip_suffix(" repetitions left out"));
    let repetitions: usize = counted.unwrap_or_else(|| panic!("{}", whole.stderr)).parse().unwrap();
    assert!(repetitions > 100, "both wrote what they saw: {repetitions}");
    let mut lines = tail.take_stdout().lines();
    let mut followed = BTreeSet::new();
    while followed.len() < all.len() {
        let line = lines.next().expect("not all was printed").unwrap();
        assert!(followed.insert(Events::parse(&line).lines().next().unwrap().id().to_owned()), "twice: {line}");
    }
    assert_eq!(followed, all);
    tail.stop().ok();
    (all, repetitions)
}

#[cfg(feature = "kafka")]
#[test]
fn what_two_producers_wrote_to_a_topic_is_merged() {
    let brokers = test_servers::kafka("ticks", 12);
    let (all, repetitions) = one_place(&format!("kafka://{}/ticks", brokers.bootstrap_servers()));
    let stored = brokers.stored(|message| test_servers::kafka_header(message, "id"));
    assert_eq!(stored.len(), all.len() + repetitions);
    assert_eq!(stored.into_iter().collect::<BTreeSet<_>>(), all);
}

#[cfg(feature = "redis")]
#[test]
fn what_two_wrote_to_the_streams_of_redis_is_merged() {
    let Some(server) = test_servers::redis() else { return };
    one_place(&format!("redis://{}", server.address()));
}
