//! What lets a collector into a server is shown nowhere: not in logs of any level, those of the clients included, not in errors, names,
//! debug output or metrics; whether the server lets it in or not.
//!
//! A process of its own delivers to real servers and prints all that there is to be printed; its output is looked through.

#![cfg(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "postgres", feature = "redis"))]

use std::process::Command;
use std::sync::Arc;

use exchange_core::event::{Ident, Trade};
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Time};
use exchange_sinks::SinkUri;

const CHILD: &str = "SECRETS_TEST_ADDRESSES";
const TEST: &str = "what_lets_us_in_is_shown_nowhere";
/// How every secret here begins, but for keys.
const SECRET: &str = "hunter2";

/// Passes on what libraries tell by `log`.
struct Logger;

impl log::Log for Logger {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, record: &log::Record<'_>) {
        println!("{} {} {}", record.level(), record.target(), record.args());
    }

    fn flush(&self) {}
}

/// In the child: delivers to each of these addresses, and prints whatever there is to be seen of it.
fn deliver(addresses: &str) {
    tracing_subscriber::fmt().with_max_level(tracing_subscriber::filter::LevelFilter::TRACE).with_ansi(false).with_writer(std::io::stdout).init();
    log::set_logger(&Logger).map(|()| log::set_max_level(log::LevelFilter::Trace)).unwrap();
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap();
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", None));
    let trade = Trade { trade_id: Some(Ident::Number(7)), price: Decimal::from(7), size: Decimal::from(1), size_base: None, side: None };
    let batch = Arc::new(Batch::new(vec![Event::new(instrument, Time::from_micros(1), None, Body::Trade(trade))]));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    for address in addresses.split('\n') {
        let uri = SinkUri::parse(address).unwrap();
        let mut sink = uri.open().unwrap();
        let result = runtime.block_on(async {
            sink.write(&batch).await?;
            sink.flush().await?;
            sink.close().await
        });
        println!("== of {} {uri} {uri:?} {result:?}", sink.name());
        if let Err(error) = result {
            println!("{error} {:?}", std::error::Error::source(&error));
        }
    }
    println!("{}", metrics.render());
}

/// What the child prints of these addresses: nothing of any of the secrets, and of each address whether it could be delivered.
fn look_through(addresses: &[String], secrets: &[&str], wanted: &[&str]) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", TEST, "--nocapture"]).env(CHILD, addresses.join("\n")).env("MARKET_PASSWORD", format!("{SECRET}/right"));
    let done = command.output().unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned() + &String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{text}");
    for secret in [SECRET].iter().chain(secrets) {
        let line = text.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
    assert_eq!(text.matches("== of ").count(), addresses.len());
    for wanted in wanted.iter().chain(&["collector_sink_errors_total{sink="]) {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
}

#[test]
fn what_lets_us_in_is_shown_nowhere() {
    if let Ok(addresses) = std::env::var(CHILD) {
        return deliver(&addresses);
    }
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("secret");
    std::fs::write(&file, "hunter2/right\n").unwrap();
    // As it stands in the address, in a file, in the environment; and one that is wrong.
    let forms = |scheme: &str, user: &str, place: &str| {
        let file = file.display();
        [
            format!("{scheme}://{user}:hunter2%2Fright@{place}"),
            format!("{scheme}://{user}@{place}?password_file={file}"),
            format!("{scheme}://{user}@{place}?password_env=MARKET_PASSWORD"),
            format!("{scheme}://{user}:hunter2-wrong@{place}"),
        ]
    };
    #[cfg(feature = "nats")]
    {
        if let Some(server) = test_servers::nats_with("authorization { user: me, password: \"hunter2/right\" }") {
            look_through(&forms("nats", "me", &server.address().to_string()), &[], &["authorization violation", "DEBUG async_nats"]);
        }
        if let Some(server) = test_servers::nats_with("authorization { token: hunter2-token }") {
            let addresses = ["hunter2-token", "hunter2-wrong"].map(|token| format!("nats://{token}@{}", server.address()));
            look_through(&addresses, &[], &["authorization violation"]);
        }
        let key = nkeys::KeyPair::new_user();
        if let Some(server) = test_servers::nats_with(&format!("authorization {{ users: [{{ nkey: {} }}] }}", key.public_key())) {
            let (seed, other) = (key.seed().unwrap(), nkeys::KeyPair::new_user().seed().unwrap());
            let addresses = [("right", &seed), ("wrong", &other)].map(|(name, seed)| {
                std::fs::write(folder.path().join(name), seed).unwrap();
                format!("nats://{}?nkey_file={}", server.address(), folder.path().join(name).display())
            });
            look_through(&addresses, &[&seed, &other], &["authorization violation"]);
        }
    }
    #[cfg(feature = "amqp")]
    if let Some(server) = test_servers::rabbitmq_with("default_user = me\ndefault_pass = hunter2/right") {
        look_through(&forms("amqp", "me", &server.address().to_string()), &[], &["ACCESS_REFUSED", "TRACE lapin"]);
    }
    #[cfg(feature = "redis")]
    if let Some(server) = test_servers::redis_with(&["--requirepass", "hunter2/right"]) {
        look_through(&forms("redis", "default", &server.address().to_string()), &[], &["authentication failed"]);
    }
    #[cfg(feature = "postgres")]
    if let Some(server) = test_servers::postgres() {
        // Another user, whose password is the one of this test.
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let address = format!("postgres://postgres:{}@{}/postgres", test_servers::POSTGRES_PASSWORD, server.address());
            let (client, connection) = tokio_postgres::connect(&address, tokio_postgres::NoTls).await.unwrap();
            tokio::spawn(connection);
            client.batch_execute("CREATE ROLE me LOGIN SUPERUSER PASSWORD 'hunter2/right'").await.unwrap();
        });
        look_through(&forms("postgres", "me", &format!("{}/postgres", server.address())), &[], &["28P01"]);
    }
    // Its client's own cluster knows no users: what is said by one who cannot get through.
    #[cfg(feature = "kafka")]
    look_through(&forms("kafka", "me", &format!("127.0.0.1:{}", test_servers::free_port())), &[], &["no deliveries", "librdkafka"]);
}
