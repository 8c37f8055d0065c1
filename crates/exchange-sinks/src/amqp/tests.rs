//! Against a real broker. It takes seconds to start, and so the tests share what they can.

use std::path::Path;
use std::sync::Arc;

use exchange_core::Batch;
use futures_util::StreamExt as _;
use lapin::options::{BasicConsumeOptions, QueueDeleteOptions, QueuePurgeOptions};
use test_servers::{Proxy, Server};

use super::*;
use crate::SinkUri;
use crate::contract::{self, batch, block_on, insist, said};

fn queue(port: u16, rest: &str) -> Queue<Amqp> {
    let address = crate::address::Address::parse(&format!("amqp://127.0.0.1:{port}{rest}")).unwrap();
    Queue::new("amqp:", Amqp::new(Options::read(address).unwrap()))
}

async fn channel(server: &Server) -> (Connection, Channel) {
    let connection = Connection::connect(&format!("amqp://guest:guest@{}/%2f", server.address()), ConnectionProperties::default()).await.unwrap();
    let channel = connection.create_channel().await.unwrap();
    (connection, channel)
}

/// All messages of a queue, which is empty then.
async fn stored(server: &Server, queue: &str) -> Vec<lapin::message::Delivery> {
    let (_connection, channel) = channel(server).await;
    let there =
        channel.queue_declare(queue.into(), QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() }, FieldTable::default()).await.unwrap();
    let options = BasicConsumeOptions { no_ack: true, ..BasicConsumeOptions::default() };
    let consumer = channel.basic_consume(queue.into(), "".into(), options, FieldTable::default()).await.unwrap();
    consumer.take(there.message_count() as usize).map(|message| message.unwrap()).collect().await
}

async fn ids(server: &Server, queue: &str) -> Vec<String> {
    let messages = stored(server, queue).await;
    let mut ids: Vec<String> = messages.iter().map(|message| message.properties.message_id().as_ref().unwrap().to_string()).collect();
    ids.sort_unstable();
    ids
}

fn ids_of(batch: &Batch) -> Vec<String> {
    let mut ids: Vec<String> = batch.events().iter().map(|event| event.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

fn lines(messages: &[lapin::message::Delivery]) -> String {
    messages.iter().map(|message| String::from_utf8_lossy(&message.data).into_owned() + "\n").collect()
}

#[test]
fn keeps_the_contract_and_survives_its_broker() {
    let Some(mut server) = test_servers::rabbitmq() else { return };
    contract::suite(queue(server.port(), "?queue=contract"), |sink| {
        drop(sink);
        lines(&block_on(stored(&server, "contract")))
    });
    says_what_it_is(&server);
    without_a_queue(&server);
    a_deleted_queue(&server);
    refused(&server);
    cut(&server);
    killed(&mut server);
}

fn says_what_it_is(server: &Server) {
    block_on(async {
        insist(&mut queue(server.port(), "?exchange=x&queue=said&prefix=md.v1"), [batch(0..1)]).await;
        let [message] = &stored(server, "said").await[..] else { panic!("one message") };
        let properties = &message.properties;
        assert_eq!((message.routing_key.as_str(), message.exchange.as_str()), ("md.v1.trade.bybit.linear.BTCUSDT", "x"));
        assert_eq!(properties.message_id().as_ref().unwrap().as_str(), batch(0..1).events()[0].id.to_string());
        assert_eq!((properties.kind().as_ref().unwrap().as_str(), properties.delivery_mode()), ("trade", &Some(PERSISTENT)));
    });
}

/// Nobody listens: that is counted and no trouble.
fn without_a_queue(server: &Server) {
    block_on(async {
        let mut sink = queue(server.port(), "?exchange=unheard");
        sink.write(&batch(0..10)).await.unwrap();
        sink.flush().await.unwrap();
        sink.close().await.unwrap();
    });
}

fn a_deleted_queue(server: &Server) {
    block_on(async {
        let mut sink = queue(server.port(), "?exchange=deleted&queue=deleted");
        insist(&mut sink, [batch(0..10)]).await;
        let (_connection, channel) = channel(server).await;
        channel.queue_delete("deleted".into(), QueueDeleteOptions::default()).await.unwrap();
        sink.write(&batch(10..20)).await.unwrap();
        assert!(sink.flush().await.unwrap_err().to_string().contains("the queue `deleted` does not get the messages any more"));
        insist(&mut sink, []).await;
        let mut found = ids(server, "deleted").await;
        found.dedup();
        assert_eq!(found, ids_of(&batch(10..20)));
    });
}

/// A login or an exchange that will not do.
fn refused(server: &Server) {
    block_on(async {
        let uri = SinkUri::parse(&format!("amqp://me:s3cret@127.0.0.1:{}", server.port())).unwrap();
        let mut sink = uri.open().unwrap();
        let error = sink.write(&batch(0..1)).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Permanent, "{error}");
        assert!(!format!("{error}{error:?}{uri:?}{uri}{}", sink.name()).contains("s3cret"));
        let error = queue(server.port(), "?exchange=amq.direct").write(&batch(0..1)).await.unwrap_err();
        assert_eq!(error.kind(), SinkErrorKind::Permanent, "{error}");
    });
}

/// The network breaks in the middle of whatever is sent then.
fn cut(server: &Server) {
    let proxy = Proxy::to(server.address());
    block_on(async {
        let mut sink = queue(proxy.port(), "?queue=cut&exchange=cut");
        for at in [0, 5_000, 10_000] {
            proxy.cut_after(700_000 + at);
            insist(&mut sink, (at..at + 5_000).step_by(50).map(|at| batch(at..at + 50))).await;
        }
        // Repetitions are told by their ids, and nothing is missing.
        let mut found = ids(server, "cut").await;
        found.dedup();
        assert!(found == ids_of(&batch(0..15_000)));
    });
}

fn killed(server: &mut Server) {
    block_on(async {
        let mut sink = queue(server.port(), "?queue=killed&exchange=killed");
        insist(&mut sink, [batch(0..1)]).await;
        let (_connection, other) = channel(server).await;
        other.queue_purge("killed".into(), QueuePurgeOptions::default()).await.unwrap();
        for batch in (0..4_000).step_by(50).map(|at| batch(at..at + 50)) {
            sink.write(&batch).await.unwrap();
        }
        server.kill();
        assert!(sink.flush().await.unwrap_err().is_retryable());
    });
    server.restart();
    block_on(async {
        // Of another runtime, in which the sink finds its way.
        let mut sink = queue(server.port(), "?queue=killed&exchange=killed");
        insist(&mut sink, (0..4_000).step_by(50).map(|at| batch(at..at + 50))).await;
        let mut found = ids(server, "killed").await;
        found.dedup();
        assert!(found == ids_of(&batch(0..4_000)));
    });
}

#[test]
fn a_broker_is_trusted_and_lets_in_only_who_it_should() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, key) = contract::certificate_files(folder.path());
    let port = test_servers::free_port();
    let configuration = format!(
        "default_user = collector\ndefault_pass = hunter2/rabbit\nlisteners.ssl.default = 127.0.0.1:{port}\nssl_options.certfile = {0}\n\
         ssl_options.cacertfile = {0}\nssl_options.keyfile = {1}\nssl_options.verify = verify_none\nssl_options.fail_if_no_peer_cert = false",
        authorities.display(),
        key.display()
    );
    let Some(server) = test_servers::rabbitmq_with(&configuration) else { return };
    block_on(async {
        let plain = format!("127.0.0.1:{}", server.port());
        let right = format!("amqp://collector:hunter2%2Frabbit@{plain}");
        // The last is the usual guest, whom this broker does not know.
        let others = [format!("amqp://collector:hunter2@{plain}"), format!("amqp://somebody:hunter2%2Frabbit@{plain}"), format!("amqp://{plain}")];
        contract::is_let_in_only_as(&right, &others.each_ref().map(String::as_str)).await;
        let (kind, words) = said(&format!("{right}/nowhere")).await;
        assert!(kind == SinkErrorKind::Permanent && words.contains("vhost nowhere not found"), "{kind:?} {words}");
        let address = |host: &str, file: Option<&Path>| {
            let more = file.map_or_else(String::new, |file| format!("?ca_file={}", file.display()));
            format!("amqps://collector:hunter2%2Frabbit@{host}:{port}{more}")
        };
        contract::is_trusted_only_by_its_certificate(address, &authorities).await;
        let (kind, words) = said(&right.replace("amqp:", "amqps:")).await;
        assert!(kind == SinkErrorKind::Permanent && words.contains("it does not speak TLS at this port"), "{kind:?} {words}");
    });
}

#[test]
fn without_a_broker_it_says_so() {
    let port = test_servers::free_port();
    let error = block_on(async { queue(port, "").write(&Arc::new(Batch::new(Vec::new()))).await }).unwrap_err();
    assert!(error.is_retryable() && error.to_string().starts_with(&format!("`amqp://127.0.0.1:{port}`: cannot connect: ")), "{error}");
}
