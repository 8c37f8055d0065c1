//! Against real servers.

use std::path::Path;
use std::time::Duration;

use async_nats::jetstream::consumer::pull::OrderedConfig;
use exchange_core::{Batch, Body, Event, Instrument, Market, Time};
use test_servers::{Proxy, Server};

use super::*;
use crate::SinkUri;
use crate::contract::{self, batch, block_on, insist, said};
use crate::source::{Reading, Since, Source, SourceUri};

fn sink(port: u16, rest: &str) -> Box<dyn Sink> {
    SinkUri::parse(&format!("nats://127.0.0.1:{port}/{rest}")).unwrap().open().unwrap()
}

fn queue(port: u16) -> Queue<Nats> {
    let address = crate::address::Address::parse(&format!("nats://127.0.0.1:{port}")).unwrap();
    Queue::new("nats:", Nats::new(Options::read(address).unwrap()))
}

async fn client(server: &Server) -> Client {
    async_nats::connect(server.address().to_string()).await.unwrap()
}

/// All messages of a stream, in its order.
async fn stored(server: &Server, stream: &str) -> Vec<async_nats::Message> {
    let client = client(server).await;
    let mut stream = jetstream::new(client).get_stream(stream).await.unwrap();
    let count = stream.info().await.unwrap().state.messages;
    let consumer = stream.create_consumer(OrderedConfig::default()).await.unwrap();
    let messages = consumer.messages().await.unwrap();
    messages.take(usize::try_from(count).unwrap()).map(|message| message.unwrap().message).collect().await
}

async fn ids(server: &Server, stream: &str) -> Vec<String> {
    let id = |message: &async_nats::Message| message.headers.as_ref().unwrap().get(async_nats::header::NATS_MESSAGE_ID).unwrap().to_string();
    let mut ids: Vec<String> = stored(server, stream).await.iter().map(id).collect();
    ids.sort_unstable();
    ids
}

fn ids_of(batch: &Batch) -> Vec<String> {
    let mut ids: Vec<String> = batch.events().iter().map(|event| event.id.to_string()).collect();
    ids.sort_unstable();
    ids
}

/// Many small batches, as a collector writes them.
fn small(count: u64) -> impl Iterator<Item = Arc<Batch>> {
    (0..count).step_by(50).map(|at| batch(at..at + 50))
}

#[test]
fn keeps_the_contract() {
    let Some(server) = test_servers::nats() else { return };
    contract::suite(queue(server.port()), |sink| {
        drop(sink);
        let messages = block_on(stored(&server, "events"));
        messages.iter().map(|message| String::from_utf8_lossy(&message.payload).into_owned() + "\n").collect()
    });
}

#[test]
fn a_message_says_what_it_is() {
    let Some(server) = test_servers::nats() else { return };
    block_on(async {
        insist(&mut *sink(server.port(), "ticks?prefix=md.v1"), [batch(0..1)]).await;
        let [message] = &stored(&server, "ticks").await[..] else { panic!("one message") };
        let headers = message.headers.as_ref().unwrap();
        assert_eq!(message.subject.as_str(), "md.v1.trade.bybit.linear.BTCUSDT");
        let header = |name| headers.get(name).unwrap().to_string();
        assert_eq!((header("Nats-Msg-Id"), header("type"), header("schema")), (batch(0..1).events()[0].id.to_string(), "trade".into(), "1".into()));
    });
}

#[test]
fn a_server_killed_under_load_has_each_id_once() {
    let Some(mut server) = test_servers::nats() else { return };
    block_on(async {
        let port = server.port();
        let load = tokio::spawn(async move { insist(&mut *sink(port, ""), small(30_000)).await });
        for _ in 0..3 {
            wait_for(&server, 3_000).await;
            server = tokio::task::spawn_blocking(move || {
                server.restart();
                server
            })
            .await
            .unwrap();
        }
        load.await.unwrap();
        assert!(ids(&server, "events").await == ids_of(&batch(0..30_000)));
    });
}

/// Waits until a server has stored so many more messages.
async fn wait_for(server: &Server, more: u64) {
    let client = client(server).await;
    let mut wanted = None;
    loop {
        if let Ok(mut stream) = jetstream::new(client.clone()).get_stream("events").await {
            let count = stream.info().await.unwrap().state.messages;
            if count >= *wanted.get_or_insert(count + more) || count >= 30_000 {
                return;
            }
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[test]
fn a_network_that_is_cut_loses_and_repeats_nothing() {
    let Some(server) = test_servers::nats() else { return };
    let proxy = Proxy::to(server.address());
    block_on(async {
        let port = proxy.port();
        let mut sink = sink(port, "");
        for (at, turn) in (0..4).map(|turn| (turn * 10_000, turn)) {
            // In the middle of whatever is sent then.
            proxy.cut_after(700_000 + turn * 100_003);
            insist(&mut *sink, (at..at + 10_000).step_by(50).map(|at| batch(at..at + 50))).await;
        }
        sink.close().await.unwrap();
        assert!(ids(&server, "events").await == ids_of(&batch(0..40_000)));
    });
}

#[test]
fn a_server_that_falls_silent_is_left() {
    let Some(server) = test_servers::nats() else { return };
    let proxy = Proxy::to(server.address());
    block_on(async {
        let mut sink = queue(proxy.port()).with_patience(Duration::from_millis(200));
        insist(&mut sink, [batch(0..10)]).await;
        proxy.stall();
        sink.write(&batch(10..20)).await.unwrap();
        let error = sink.flush().await.unwrap_err();
        assert!(error.is_retryable() && error.to_string().contains("no acknowledgement"), "{error}");
        proxy.cut();
        proxy.heal();
        insist(&mut sink, []).await;
        assert!(ids(&server, "events").await == ids_of(&batch(0..20)));
    });
}

/// A batch of events so large that network and client are full before as many as may be are on their way.
fn large(numbers: std::ops::Range<i64>) -> Arc<Batch> {
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "X", None));
    let event = |number: i64| {
        let body = Body::DecodeError(Box::new(exchange_core::event::DecodeFailure { reason: number.to_string(), excerpt: "x".repeat(1100) }));
        let mut event = Event::new(instrument.clone(), Time::from_micros(number), None, body);
        event.id = exchange_core::canonical::id(&event);
        event
    };
    Arc::new(Batch::new(numbers.map(event).collect()))
}

/// More is to be sent than the client has room for, and then the connection is lost: that is said, and not only when the server is back.
#[test]
fn a_lost_connection_is_noticed_by_who_waits_for_room() {
    let Some(server) = test_servers::nats() else { return };
    let proxy = Proxy::to(server.address());
    block_on(async {
        let mut sink = queue(proxy.port());
        insist(&mut sink, [batch(0..10)]).await;
        proxy.stall();
        let mut taken = 0;
        while let Ok(accepted) = tokio::time::timeout(Duration::from_secs(1), sink.write(&large(taken..taken + 50))).await {
            accepted.unwrap();
            taken += 50;
        }
        proxy.refuse();
        let error = tokio::time::timeout(Duration::from_secs(5), sink.flush()).await.expect("an answer").unwrap_err();
        assert!(error.is_retryable() && error.to_string().ends_with("the connection was lost"), "{error}");
        proxy.heal();
        insist(&mut sink, []).await;
        assert_eq!(ids(&server, "events").await.len(), 10 + usize::try_from(taken).unwrap());
    });
}

/// The same, and the connection stays open while nothing passes.
#[test]
fn silence_is_noticed_by_who_waits_for_room() {
    let Some(server) = test_servers::nats() else { return };
    let proxy = Proxy::to(server.address());
    block_on(async {
        let mut sink = queue(proxy.port()).with_patience(Duration::from_secs(1));
        insist(&mut sink, [batch(0..10)]).await;
        proxy.stall();
        let mut taken = 0;
        let error = loop {
            match tokio::time::timeout(Duration::from_secs(10), sink.write(&large(taken..taken + 50))).await.expect("an answer") {
                Ok(()) => taken += 50,
                Err(error) => break error,
            }
        };
        assert!(error.is_retryable() && error.to_string().contains("no acknowledgement"), "{error}");
        proxy.heal();
        insist(&mut sink, []).await;
        assert_eq!(ids(&server, "events").await.len(), 10 + usize::try_from(taken).unwrap());
    });
}

#[test]
fn two_collectors_make_one_stream() {
    let Some(server) = test_servers::nats() else { return };
    block_on(async {
        let port = server.port();
        let one = tokio::spawn(async move { insist(&mut *sink(port, ""), small(10_000)).await });
        let two = tokio::spawn(async move { insist(&mut *sink(port, ""), (2_000..12_000).step_by(20).map(|at| batch(at..at + 20))).await });
        one.await.unwrap();
        two.await.unwrap();
        assert!(ids(&server, "events").await == ids_of(&batch(0..12_000)));
    });
}

/// What a source gives, until it ends or has given so many events.
async fn read(source: &mut dyn Source, most: usize) -> String {
    let (mut lines, mut count) = (String::new(), 0);
    while count < most {
        match source.next().await {
            Ok(Some(batch)) => {
                count += batch.events().len();
                lines += std::str::from_utf8(batch.lines()).unwrap();
            }
            Ok(None) => break,
            Err(error) => {
                assert!(error.is_retryable(), "{error}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    lines
}

#[test]
fn a_stream_is_read_back_over_a_lost_connection() {
    let Some(server) = test_servers::nats() else { return };
    let proxy = Proxy::to(server.address());
    let open = |from, follow| SourceUri::parse(&format!("nats://{}/events", proxy.address())).unwrap().open(Reading { from, follow }).unwrap();
    let text = |ids| String::from_utf8(batch(ids).lines().to_vec()).unwrap();
    block_on(async {
        let mut sink = sink(server.port(), "");
        insist(&mut *sink, [batch(0..5_000)]).await;
        assert!(read(&mut *open(Since::Start, false), usize::MAX).await == text(0..5_000));
        assert_eq!(read(&mut *open(Since::Now, false), usize::MAX).await, "");
        assert_eq!(read(&mut *open(Since::Time(Time::from_micros(2)), false), usize::MAX).await, "", "all were received before");
        let mut following = open(Since::Start, true);
        let mut lines = read(&mut *following, 2_000).await;
        proxy.cut();
        insist(&mut *sink, [batch(5_000..6_000)]).await;
        lines += &read(&mut *following, 6_000 - lines.lines().count()).await;
        assert!(lines == text(0..6_000));
    });
}

#[test]
fn a_stream_that_was_deleted_is_made_again() {
    let Some(server) = test_servers::nats() else { return };
    block_on(async {
        let mut sink = sink(server.port(), "");
        insist(&mut *sink, [batch(0..10)]).await;
        jetstream::new(client(&server).await).delete_stream("events").await.unwrap();
        insist(&mut *sink, [batch(10..20)]).await;
        assert!(ids(&server, "events").await == ids_of(&batch(10..20)));
    });
}

#[test]
fn what_is_too_large_is_refused_alone() {
    let Some(server) = test_servers::nats() else { return };
    block_on(async {
        let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "X", None));
        let body = Body::DecodeError(Box::new(exchange_core::event::DecodeFailure { reason: String::new(), excerpt: "x".repeat(2 << 20) }));
        let mut events = batch(0..5).events().to_vec();
        events.insert(2, Event::new(instrument, Time::from_micros(1), None, body));
        let mut sink = sink(server.port(), "");
        insist(&mut *sink, [Arc::new(Batch::new(events))]).await;
        assert!(ids(&server, "events").await == ids_of(&batch(0..5)));
    });
}

#[test]
fn what_will_not_do_is_told_once_to_who_reads() {
    let secret = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(&secret, "hunter2").unwrap();
    let uri = SourceUri::parse(&format!("nats://me@127.0.0.1:1/x?password_file={}", secret.path().display())).unwrap();
    drop(secret);
    let (lines, errors) = contract::read(uri.open(Reading { from: Since::Start, follow: true }).unwrap());
    assert!(lines.is_empty() && errors.len() == 1 && errors[0].contains("cannot read the password in "), "{errors:?}");
}

#[test]
fn an_error_shows_no_password() {
    let port = test_servers::free_port();
    let mut sink = SinkUri::parse(&format!("nats://me:s3cret@127.0.0.1:{port}/x")).unwrap().open().unwrap();
    let error = block_on(sink.write(&batch(0..1))).unwrap_err();
    assert!(error.is_retryable());
    assert!(error.to_string().starts_with(&format!("`nats://***@127.0.0.1:{port}/x`: cannot connect: ")), "{error}");
    assert!(!format!("{error:?}{}{:?}", sink.name(), SinkUri::parse("nats://me:s3cret@h").unwrap()).contains("s3cret"));
}

/// How a server that wants to know who comes is told so.
const USER: &str = "authorization { user: me, password: \"hunter2/nats\" }";

#[test]
fn a_user_is_let_in_with_its_password_alone() {
    let Some(server) = test_servers::nats_with(USER) else { return };
    let place = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2/nats\n").unwrap();
    let others = ["me:hunter2@", "you:hunter2%2Fnats@", "hunter2-token@", ""].map(|who| format!("nats://{who}{place}"));
    block_on(async {
        contract::is_let_in_only_as(&format!("nats://me:hunter2%2Fnats@{place}"), &others.each_ref().map(String::as_str)).await;
        contract::delivers(&format!("nats://me@{place}?password_file={}", file.display())).await;
    });
}

#[test]
fn a_token_lets_in() {
    let Some(server) = test_servers::nats_with("authorization { token: hunter2-token }") else { return };
    let place = server.address();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("token");
    std::fs::write(&file, "hunter2-token").unwrap();
    block_on(async {
        contract::is_let_in_only_as(&format!("nats://hunter2-token@{place}"), &[&format!("nats://hunter2-wrong@{place}"), &format!("nats://{place}")]).await;
        contract::delivers(&format!("nats://{place}?password_file={}", file.display())).await;
    });
}

#[test]
fn a_password_that_was_changed_holds_from_the_next_connection_on() {
    let Some(mut server) = test_servers::nats_with(USER) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("password");
    std::fs::write(&file, "hunter2/nats").unwrap();
    let mut sink = SinkUri::parse(&format!("nats://me@{}?password_file={}", server.address(), file.display())).unwrap().open().unwrap();
    block_on(async {
        insist(&mut *sink, [batch(0..10)]).await;
        std::fs::write(server.folder().join("nats.conf"), USER.replace("hunter2/nats", "hunter2-new")).unwrap();
        server.restart();
        sink.write(&batch(10..20)).await.ok();
        // Who worked before is not given up, whatever the server says.
        let words = loop {
            let error = sink.flush().await.unwrap_err();
            assert!(error.is_retryable(), "{error}");
            if error.to_string().contains("cannot connect: authorization violation") {
                break error.to_string();
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        assert!(words.ends_with(&format!("({})", crate::trust::LOGIN)), "{words}");
        std::fs::write(&file, "hunter2-new").unwrap();
        insist(&mut *sink, [batch(10..30)]).await;
        // Read back without the server's leave.
        std::fs::write(server.folder().join("nats.conf"), "").unwrap();
        server.restart();
        assert!(ids(&server, "events").await == ids_of(&batch(0..30)));
    });
}

#[test]
fn a_server_is_trusted_only_with_its_certificate_and_name() {
    let folder = tempfile::tempdir().unwrap();
    let (authorities, key) = contract::certificate_files(folder.path());
    let configuration = format!("tls {{ cert_file: \"{}\", key_file: \"{}\" }}", authorities.display(), key.display());
    let Some(server) = test_servers::nats_with(&configuration) else { return };
    let Some(plain) = test_servers::nats() else { return };
    block_on(async {
        // Whether the address asks for it or not: the server does.
        for more in ["?", "?tls=true&"] {
            let more = |file: Option<&Path>| file.map_or_else(|| more.to_owned(), |file| format!("{more}ca_file={}", file.display()));
            let address = |host: &str, file: Option<&Path>| format!("nats://{host}:{}{}", server.port(), more(file));
            contract::is_trusted_only_by_its_certificate(address, &authorities).await;
        }
        let (kind, words) = said(&format!("nats://localhost:{}?tls=true", plain.port())).await;
        assert!(kind == SinkErrorKind::Permanent && words.contains("it does not speak TLS at this port"), "{kind:?} {words}");
    });
    let missing = SinkUri::parse(&format!("nats://h?ca_file={}", key.display())).unwrap_err().to_string();
    assert!(missing.ends_with(&format!("cannot read the certificates in `{}`: there are none", key.display())), "{missing}");
}

#[test]
fn a_key_lets_in() {
    let key = nkeys::KeyPair::new_user();
    let Some(server) = test_servers::nats_with(&format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public_key())) else { return };
    let (folder, place) = (tempfile::tempdir().unwrap(), server.address());
    let file = |name: &str, text: &str| {
        let path = folder.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let right = file("mine.nk", &format!("# of this collector\n{}\n", key.seed().unwrap()));
    let wrong = file("other.nk", &nkeys::KeyPair::new_user().seed().unwrap());
    let none = file("none.nk", "hunter2\n");
    let address = |file: &str| format!("nats://{place}?nkey_file={file}");
    block_on(contract::is_let_in_only_as(&address(&right), &[&address(&wrong), &format!("nats://{place}")]));
    let refused = SinkUri::parse(&address(&none)).unwrap_err().to_string();
    assert!(refused.ends_with(&format!("`{none}` holds no seed of a user's key (`SU…`)")), "{refused}");
    let refused = SinkUri::parse(&format!("nats://me@{place}?nkey_file={right}")).unwrap_err().to_string();
    assert!(refused.ends_with("once is enough") && !refused.contains("hunter2"), "{refused}");
}

/// A token of NATS: claims, signed by a key.
fn signed(by: &nkeys::KeyPair, subject: &str, claims: &serde_json::Value) -> String {
    let part = |text: String| base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, text);
    let body = serde_json::json!({ "jti": subject, "iat": 1_700_000_000, "iss": by.public_key(), "name": "test", "sub": subject, "nats": claims });
    let text = format!("{}.{}", part(r#"{"typ":"JWT","alg":"ed25519-nkey"}"#.to_owned()), part(body.to_string()));
    let signature = by.sign(text.as_bytes()).unwrap();
    format!("{text}.{}", base64::Engine::encode(&base64::engine::general_purpose::URL_SAFE_NO_PAD, signature))
}

#[test]
fn credentials_of_a_user_let_in() {
    use serde_json::json;
    let (operator, system, account, user) =
        (nkeys::KeyPair::new_operator(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_account(), nkeys::KeyPair::new_user());
    let limits = ["subs", "conn", "leaf", "imports", "exports", "data", "payload", "mem_storage", "disk_storage", "streams", "consumer"];
    let limits: serde_json::Map<_, _> = limits.iter().map(|limit| ((*limit).to_owned(), json!(-1))).chain([("wildcards".to_owned(), json!(true))]).collect();
    let of_operator = signed(&operator, &operator.public_key(), &json!({ "type": "operator", "version": 2 }));
    let of_account = signed(&operator, &account.public_key(), &json!({ "type": "account", "version": 2, "limits": limits }));
    let of_system = signed(&operator, &system.public_key(), &json!({ "type": "account", "version": 2 }));
    let configuration = format!(
        "operator: \"{of_operator}\"\nsystem_account: {0}\nresolver: MEMORY\nresolver_preload: {{ {0}: \"{of_system}\", {1}: \"{of_account}\" }}",
        system.public_key(),
        account.public_key()
    );
    let Some(server) = test_servers::nats_with(&configuration) else { return };
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, by: &nkeys::KeyPair, who: &nkeys::KeyPair| {
        let token = signed(by, &who.public_key(), &json!({ "type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1 }));
        let text = format!(
            "-----BEGIN NATS USER JWT-----\n{token}\n------END NATS USER JWT------\n\n-----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
            who.seed().unwrap()
        );
        std::fs::write(folder.path().join(name), text).unwrap();
        format!("nats://{}?credentials_file={}", server.address(), folder.path().join(name).display())
    };
    let right = file("right.creds", &account, &user);
    let wrong = file("wrong.creds", &nkeys::KeyPair::new_account(), &user);
    block_on(contract::is_let_in_only_as(&right, &[&wrong]));
    std::fs::write(folder.path().join("empty.creds"), "hunter2").unwrap();
    let refused = SinkUri::parse(&right.replace("right", "empty")).unwrap_err().to_string();
    assert!(refused.contains("empty.creds` holds no credentials of a user: cannot parse user JWT") && !refused.contains("hunter2"), "{refused}");
}
