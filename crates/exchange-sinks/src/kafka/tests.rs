//! Against the client library's own cluster, which speaks the protocol over sockets.

use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Batch, Body, Event, Instrument, Market, Time};
use rdkafka::message::Message as _;
use rdkafka::types::{RDKafkaApiKey, RDKafkaRespErr};
use test_servers::{Kafka as Cluster, kafka_header as header};

use super::*;
use crate::SinkUri;
use crate::contract::{self, batch, block_on, insist};
use crate::source::{Reading, Since, SourceUri};

const PARTITIONS: i32 = 4;

/// Three brokers, with a topic of four partitions in three copies.
fn cluster() -> Cluster {
    test_servers::kafka("events", PARTITIONS)
}

fn queue(cluster: &Cluster) -> Queue<Kafka> {
    let mut address = crate::address::Address::parse(&format!("kafka://{}", cluster.bootstrap_servers())).unwrap();
    Queue::new("kafka:", Kafka::new(Options::take(&mut address).unwrap()))
}

fn ids(cluster: &Cluster) -> Vec<String> {
    let mut ids = cluster.stored(|message| header(message, "id"));
    ids.sort_unstable();
    ids
}

fn ids_of(batch: &Batch) -> Vec<String> {
    let mut ids: Vec<String> = batch.events().iter().map(|event| event.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

fn small(count: u64) -> impl Iterator<Item = Arc<Batch>> {
    (0..count).step_by(50).map(|at| batch(at..at + 50))
}

#[test]
fn keeps_the_contract() {
    let cluster = cluster();
    contract::suite(queue(&cluster), |sink| {
        drop(sink);
        // All of one instrument, and so of one partition and in order.
        cluster.stored(|message| String::from_utf8_lossy(message.payload().unwrap()).into_owned() + "\n").concat()
    });
}

#[test]
fn a_message_says_what_it_is() {
    let cluster = cluster();
    block_on(insist(&mut queue(&cluster), [batch(0..1)]));
    let found = cluster.stored(|message| {
        let key = String::from_utf8(message.key().unwrap().to_vec()).unwrap();
        (key, header(message, "id"), header(message, "type"), header(message, "schema"))
    });
    assert_eq!(found, [("bybit:linear:BTCUSDT".into(), batch(0..1).events()[0].id.to_string(), "trade".into(), "1".into())]);
}

#[test]
fn brokers_that_go_and_come_lose_and_repeat_nothing() {
    let cluster = cluster();
    block_on(async {
        let mut sink = queue(&cluster);
        for (broker, at) in [(1, 0), (2, 5_000), (3, 10_000)] {
            for batch in (at..at + 5_000).step_by(50).map(|at| batch(at..at + 50)) {
                sink.write(&batch).await.unwrap();
            }
            cluster.broker_down(broker).unwrap();
            for partition in 0..PARTITIONS {
                cluster.partition_leader("events", partition, Some(broker % 3 + 1)).unwrap();
            }
            insist(&mut sink, []).await;
            cluster.broker_up(broker).unwrap();
        }
        assert!(ids(&cluster) == ids_of(&batch(0..15_000)));
    });
}

#[test]
fn without_any_broker_it_says_so_and_delivers_later() {
    let cluster = cluster();
    block_on(async {
        let mut sink = queue(&cluster);
        insist(&mut sink, [batch(0..10)]).await;
        (1..=3).for_each(|broker| cluster.broker_down(broker).unwrap());
        sink.write(&batch(10..20)).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().starts_with("`kafka://"), "{error}");
        (1..=3).for_each(|broker| cluster.broker_up(broker).unwrap());
        insist(&mut sink, [batch(20..30)]).await;
        assert!(ids(&cluster) == ids_of(&batch(0..30)));
    });
}

#[test]
fn errors_of_requests_are_sat_out() {
    let cluster = cluster();
    let errors = [
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_NOT_ENOUGH_REPLICAS,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR__TRANSPORT,
        RDKafkaRespErr::RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT,
    ];
    block_on(async {
        let mut sink = queue(&cluster);
        insist(&mut sink, [batch(0..10)]).await;
        cluster.request_errors(RDKafkaApiKey::Produce, &errors);
        insist(&mut sink, (10..5_010).step_by(50).map(|at| batch(at..at + 50))).await;
        assert!(ids(&cluster) == ids_of(&batch(0..5_010)));
    });
}

#[test]
fn what_is_too_large_is_refused_alone() {
    let cluster = cluster();
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "X", None));
    let body = Body::DecodeError(Box::new(exchange_core::event::DecodeFailure { reason: String::new(), excerpt: "x".repeat(2 << 20) }));
    let mut events = batch(0..5).events().to_vec();
    events.insert(2, Event::new(instrument, Time::from_micros(1), None, body));
    block_on(insist(&mut queue(&cluster), [Arc::new(Batch::new(events))]));
    assert!(ids(&cluster) == ids_of(&batch(0..5)));
}

#[test]
fn two_collectors_give_each_id_twice_at_most() {
    let cluster = cluster();
    block_on(async {
        let (mut one, mut two) = (queue(&cluster), queue(&cluster));
        tokio::join!(insist(&mut one, small(1_000)), insist(&mut two, small(1_000)));
    });
    let mut found = ids(&cluster);
    assert_eq!(found.len(), 2_000);
    found.dedup();
    assert!(found == ids_of(&batch(0..1_000)));
}

#[test]
fn a_topic_is_read_back() {
    let cluster = cluster();
    let uri = SourceUri::parse(&format!("kafka://{}/events", cluster.bootstrap_servers())).unwrap();
    let text = |ids| String::from_utf8(batch(ids).lines().to_vec()).unwrap();
    block_on(async {
        let mut now = uri.open(Reading { from: Since::Now, follow: true }).unwrap();
        let mut sink = queue(&cluster);
        insist(&mut sink, [batch(0..5_000)]).await;
        let mut whole = uri.open(Reading { from: Since::Start, follow: false }).unwrap();
        let mut lines = String::new();
        while let Some(batch) = whole.next().await.unwrap() {
            lines += std::str::from_utf8(batch.lines()).unwrap();
        }
        assert!(lines == text(0..5_000));
        let mut later = uri.open(Reading { from: Since::Time(Time::from_micros(2_000)), follow: false }).unwrap();
        assert!(later.next().await.unwrap().is_none(), "all were received before");
        // It begins when it is first asked.
        assert!(tokio::time::timeout(Duration::from_secs(2), now.next()).await.is_err(), "nothing came since");
        insist(&mut sink, [batch(5_000..5_001)]).await;
        assert_eq!(std::str::from_utf8(now.next().await.unwrap().unwrap().lines()).unwrap(), text(5_000..5_001));
    });
}

#[test]
fn what_will_not_do_is_told_once_to_who_reads() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "hunter2").unwrap();
    let uri = SourceUri::parse(&format!("kafka://me@127.0.0.1:1/x?password_file={}", secret.path().display())).unwrap();
    drop(secret);
    let (lines, errors) = contract::read(uri.open(Reading { from: Since::Start, follow: true }).unwrap());
    assert!(lines.is_empty() && errors.len() == 1 && errors[0].contains("cannot read the password in "), "{errors:?}");
}

#[test]
fn an_error_shows_no_password() {
    let port = test_servers::free_port();
    let uri = SinkUri::parse(&format!("kafka://me:s3cret@127.0.0.1:{port}/x")).unwrap();
    let mut sink = uri.open().unwrap();
    let error = block_on(async {
        sink.write(&batch(0..1)).await.unwrap();
        sink.flush().await.unwrap_err()
    });
    assert!(error.is_retryable());
    assert!(error.to_string().starts_with(&format!("`kafka://***@127.0.0.1:{port}/x`: no deliveries: ")), "{error}");
    assert!(!format!("{error:?}{uri:?}{uri}{}", sink.name()).contains("s3cret"));
}
