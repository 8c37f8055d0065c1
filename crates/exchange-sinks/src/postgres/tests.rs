//! Against a real server.

use std::path::Path;
use std::sync::Arc;

use exchange_core::event::{
    Book, BookKind, Candle, DecodeFailure, Funding, FundingSettled, Gap, GapReason, Ident, Level, Liquidation, Mark, OpenInterest, Origin, Quote, Refill, Side,
    Ticker, Trade,
};
use exchange_core::instrument::{Details, Kind, Status};
use exchange_core::{Batch, Body, Channel, Decimal, Event, EventId, Instrument, Interval, Market, Time, canonical};
use test_servers::{POSTGRES_PASSWORD, Proxy, Server};
use tokio_postgres::{Client, NoTls};

use crate::contract::{self, JOURNAL, at, batch, block_on, said};
use crate::error::SinkErrorKind;
use crate::fields::{self, Value};
use crate::registry::SinkUri;
use crate::sink::Sink;

fn address(port: u16, more: &str) -> String {
    format!("postgres://postgres:{POSTGRES_PASSWORD}@127.0.0.1:{port}/postgres{more}")
}

fn open(address: &str) -> Box<dyn Sink> {
    SinkUri::parse(address).unwrap().open().unwrap()
}

/// Another client of the server.
async fn client(server: &Server) -> Client {
    let (client, connection) = tokio_postgres::connect(&address(server.port(), ""), NoTls).await.unwrap();
    tokio::spawn(connection);
    client.batch_execute("SET search_path TO collector; SET timezone TO 'UTC'").await.unwrap();
    client
}

/// The ids of a table, in the order of the trades' numbers.
async fn ids(server: &Server) -> Vec<String> {
    let rows = client(server).await.query("SELECT replace(id::text, '-', '') FROM trade ORDER BY trade_id::bigint", &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn count(server: &Server, text: &str) -> i64 {
    client(server).await.query_one(text, &[]).await.unwrap().get(0)
}

#[test]
fn keeps_the_contract() {
    let Some(server) = test_servers::postgres() else { return };
    block_on(contract::suite_by_ids(&mut *open(&address(server.port(), "")), async || ids(&server).await));
}

#[test]
fn begins_again_where_it_stood() {
    let Some(server) = test_servers::postgres() else { return };
    block_on(contract::resumes(|| open(&address(server.port(), "")), async || ids(&server).await));
}

#[test]
fn a_killed_server_loses_and_repeats_nothing() {
    let Some(server) = test_servers::postgres() else { return };
    let address = address(server.port(), "");
    block_on(contract::survives_its_server(server, || open(&address), async |server| ids(server).await));
}

#[test]
fn a_network_that_is_cut_anywhere_loses_and_repeats_nothing() {
    let Some(server) = test_servers::postgres() else { return };
    let proxy = Proxy::to(server.address());
    block_on(contract::survives_its_network(&proxy, 5000, || open(&address(proxy.port(), "")), async || ids(&server).await));
}

#[test]
fn a_server_that_hangs_is_left() {
    let Some(server) = test_servers::postgres() else { return };
    block_on(contract::leaves_a_server_that_hangs(&server, open(&address(server.port(), "?timeout=1s")), async || ids(&server).await));
}

#[test]
fn what_two_collectors_saw_is_there_once() {
    let Some(server) = test_servers::postgres() else { return };
    let address = address(server.port(), "");
    block_on(async {
        let (mut one, mut other) = (open(&address), open(&address));
        // Their first connections make the tables at the same time.
        let (a, b) = tokio::join!(one.position(JOURNAL), other.position(JOURNAL));
        assert_eq!((a.unwrap(), b.unwrap()), (None, None));
        for sink in [&mut one, &mut other] {
            sink.write(&batch(0..500)).await.unwrap();
        }
        let (a, b) = tokio::join!(one.flush(), other.flush());
        a.unwrap();
        b.unwrap();
        other.write(&batch(400..900)).await.unwrap();
        other.close().await.unwrap();
        contract::same_ids(&ids(&server).await, 0..900);
    });
}

/// An event of each type with every field that it can have, and some with none.
fn all() -> Vec<Event> {
    let number = |text: &str| text.parse::<Decimal>().unwrap();
    let some = |text: &str| Some(number(text));
    let ident = |text: &str| Some(Ident::parse(text));
    let time = |seconds: i64| Time::from_micros(1_795_216_284_578_279 + seconds * 1_000_000);
    let level = |price: &str, size: &str| Level { price: number(price), size: number(size) };
    let details = Details {
        kind: Kind::Future,
        base: "1000PEPE".into(),
        quote: "USDT".into(),
        settle: Some("USDT".into()),
        contract_size: some("0.001"),
        tick_size: some("0.5"),
        lot_size: some("1"),
        min_size: some("10"),
        expiry: Some(time(86_400)),
        status: Status::PreLaunch,
        funding_interval_hours: Some(8),
        option: None,
    };
    let ticker = Ticker {
        last: some("32141.43"),
        last_size: some("0.00001"),
        bid: some("-0.5"),
        bid_size: some("123456789012345678901234567890.123456789012345"),
        ask: some("79228162514264337593543950335"),
        ask_size: some("0.0000000000000000000000000001"),
        open_24h: some("10000"),
        high_24h: some("100000000"),
        low_24h: some("0"),
        volume_24h: some("120000.5"),
        turnover_24h: some("9999.9999"),
        change_24h: some("-0.01502"),
    };
    let candle = Candle {
        interval: Interval::parse("1m").unwrap(),
        open_time: time(-60),
        open: number("1"),
        high: number("2"),
        low: number("0.5"),
        close: number("1.5"),
        volume: number("7"),
        turnover: some("9"),
        trades: Some(12),
        closed: true,
    };
    let book = |bids: Vec<Level>, asks| Book { kind: BookKind::Delta, bids, asks, seq: ident("12"), prev_seq: ident("11"), checksum: ident("-77") };
    let bodies = [
        Body::Ticker(ticker),
        Body::Ticker(Ticker::default()),
        Body::Quote(Quote { bid: some("1"), bid_size: some("2"), ask: None, ask_size: None, seq: ident("18446744073709551616") }),
        Body::Mark(Mark { mark: some("1"), index: some("2.5"), basis: some("-0.0001") }),
        Body::Funding(Funding {
            rate: some("0.00012661"),
            next_time: Some(time(100)),
            interval_hours: Some(8),
            predicted_rate: some("0.0001"),
            cap: some("0.001875"),
            floor: some("-0.001875"),
        }),
        Body::FundingSettled(FundingSettled { rate: number("0.0001"), time: time(-500), mark: some("5") }),
        Body::OpenInterest(OpenInterest { value: some("5"), value_base: some("6"), value_quote: None }),
        Body::Trade(Trade {
            trade_id: ident("20f43950-d8dd-5b31-9112-a178eb6023af"),
            price: number("7"),
            size: number("1"),
            size_base: some("2"),
            side: Some(Side::Buy),
        }),
        Body::Liquidation(Liquidation { price: number("7"), size: number("1"), size_base: None, side: Some(Side::Sell), trade_id: None }),
        Body::Book(book(vec![level("1", "0"), level("0.5", "12.25")], vec![])),
        Body::Candle(candle),
        Body::Instrument(Box::new(details)),
        Body::Gap(Box::new(Gap { channel: Channel::parse("candle:1m").unwrap(), reason: GapReason::Sequence, from: ident("1"), to: None })),
        Body::Refill(Box::new(Refill { gap: EventId([7; 16]), channel: Channel::Trade, from: None, to: ident("9"), count: 3, complete: false })),
        Body::DecodeError(Box::new(DecodeFailure { reason: "malformed: ß".into(), excerpt: "{\"a\":\n\\".into() })),
    ];
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let sealed = |(n, body)| {
        let mut event = Event::new(instrument.clone(), time(n), (n % 2 == 0).then(|| time(n - 1)), body);
        event.origin = (n % 3 == 0).then_some(Origin::Refill);
        event.id = canonical::id(&event);
        event
    };
    (0..).zip(bodies).map(sealed).collect()
}

/// A value as the server shows it as text.
fn shown(value: &Value<'_>) -> String {
    let level = |level: &Level| format!("{{{},{}}}", level.price, level.size);
    match value {
        Value::Decimal(number) => number.to_string(),
        Value::Time(time) => shown_time(*time),
        Value::Whole(number) => number.to_string(),
        Value::Flag(flag) => flag.to_string(),
        Value::Text(text) => text.to_string(),
        Value::Levels(levels) => format!("{{{}}}", levels.iter().map(level).collect::<Vec<_>>().join(",")),
    }
}

/// `2026-11-21T03:04:44.578279Z` is shown as `2026-11-21 03:04:44.578279+00`.
fn shown_time(time: Time) -> String {
    time.to_string().replace('T', " ").replace('Z', "+00")
}

#[test]
fn every_type_of_event_comes_back_as_it_was() {
    let Some(server) = test_servers::postgres() else { return };
    block_on(async {
        let events = all();
        let mut sink = open(&address(server.port(), "?schema=mine"));
        sink.write(&Arc::new(Batch::new(events.clone()))).await.unwrap();
        sink.close().await.unwrap();
        let client = client(&server).await;
        client.batch_execute("SET search_path TO mine").await.unwrap();
        assert_eq!(count_in(&client, "SELECT count(*) FROM rejected").await, 0);
        let mut types = std::collections::BTreeSet::new();
        for event in &events {
            let mut wanted = vec![
                ("at", Some(shown_time(event.time.unwrap_or(event.received)))),
                ("venue", Some("bybit".to_owned())),
                ("market", Some("linear".to_owned())),
                ("venue_symbol", Some("BTCUSDT".to_owned())),
                ("symbol", Some("BTC/USDT:USDT".to_owned())),
                ("t", Some(shown_time(event.received))),
                ("et", event.time.map(shown_time)),
                ("origin", event.origin.map(|_| "refill".to_owned())),
            ];
            fields::each(&event.body, |name, value| wanted.push((name, value.as_ref().map(shown))));
            let columns: Vec<String> = wanted.iter().map(|(name, _)| format!("\"{name}\"::text")).collect();
            let table = event.body.kind();
            let row =
                client.query_one(&format!("SELECT {} FROM \"{table}\" WHERE id = $1::text::uuid", columns.join(", ")), &[&event.id.to_string()]).await.unwrap();
            for (at, (name, value)) in wanted.into_iter().enumerate() {
                assert_eq!(row.get::<_, Option<String>>(at), value, "{table}.{name}");
            }
            types.insert(table);
        }
        let tables = count_in(&client, "SELECT count(*) FROM pg_class WHERE relkind = 'p' AND relnamespace = 'mine'::regnamespace").await;
        assert_eq!(i64::try_from(types.len()).unwrap(), tables, "all of them were written");
        let days = "SELECT count(*) FROM pg_inherits WHERE inhparent = 'trade'::regclass";
        assert_eq!(count_in(&client, days).await, 3, "the day, the next, and the default");
        assert_eq!(count_in(&client, "SELECT count(*) FROM trade_default").await, 0);
    });
}

async fn count_in(client: &Client, text: &str) -> i64 {
    client.query_one(text, &[]).await.unwrap().get(0)
}

#[test]
fn a_bad_row_costs_only_itself() {
    let Some(server) = test_servers::postgres() else { return };
    let address = address(server.port(), "");
    block_on(async {
        let mut sink = open(&address);
        sink.write(&at(1)).await.unwrap();
        sink.flush().await.unwrap();
        client(&server).await.batch_execute("ALTER TABLE trade ADD CHECK (trade_id NOT IN ('1017', '1500'))").await.unwrap();
        let instrument = Arc::new(Instrument::named(&"by\0bit".into(), Market::Linear, "X", None));
        let mut odd = Event::new(instrument, Time::from_micros(1), None, Body::Mark(Mark::default()));
        odd.id = canonical::id(&odd);
        sink.write(&batch(1000..2000)).await.unwrap();
        sink.write(&Arc::new(Batch::new(vec![odd.clone()]))).await.unwrap();
        sink.flush().await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(count(&server, "SELECT count(*) FROM trade WHERE trade_id::int >= 1000").await, 998);
        let rejected = client(&server).await.query("SELECT type, reason, line FROM rejected ORDER BY line", &[]).await.unwrap();
        let rejected: Vec<(String, String, String)> = rejected.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect();
        assert_eq!(rejected.len(), 3, "{rejected:?}");
        assert!(rejected.iter().any(|(kind, reason, line)| kind == "mark" && reason.contains("NUL") && *line == odd.to_json()), "{rejected:?}");
        for number in [1017, 1500] {
            let line = batch(number..number + 1).events()[0].to_json();
            assert!(rejected.iter().any(|(kind, reason, text)| kind == "trade" && reason.ends_with("(23514)") && *text == line), "{rejected:?}");
        }
    });
}

#[test]
fn who_is_not_let_in_is_told_why() {
    let Some(mut server) = test_servers::postgres() else { return };
    let port = server.port();
    block_on(async {
        let shown = format!("postgres://***@127.0.0.1:{port}");
        let wrong = format!("postgres://postgres:hunter2-wrong@127.0.0.1:{port}/postgres");
        let (_, words) = said(&wrong).await;
        assert!(words.starts_with(&format!("{shown}/postgres: password authentication failed for user \"postgres\" (28P01)")), "{words}");
        let none = format!("postgres://postgres@127.0.0.1:{port}/postgres");
        let nobody = format!("postgres://nobody:hunter2@127.0.0.1:{port}/postgres");
        contract::is_let_in_only_as(&address(port, "?schema=other"), &[&wrong, &none, &nobody]).await;
        let (kind, words) = said(&format!("postgres://postgres:{POSTGRES_PASSWORD}@127.0.0.1:{port}/nowhere")).await;
        assert_eq!((kind, words), (SinkErrorKind::Permanent, format!("{shown}/nowhere: database \"nowhere\" does not exist (3D000)")));
        let (kind, words) = said(&address(port, "?sslmode=require")).await;
        assert_eq!((kind, words), (SinkErrorKind::Permanent, format!("{shown}/postgres: error performing TLS handshake: server does not support TLS")));
        let mut sink = open(&address(port, ""));
        sink.write(&at(1)).await.unwrap();
        sink.flush().await.unwrap();
        client(&server).await.batch_execute("ALTER SYSTEM SET default_transaction_read_only TO on").await.unwrap();
        server.stop();
        server.restart();
        sink.write(&at(2)).await.unwrap();
        let error = loop {
            let error = sink.flush().await.unwrap_err();
            if error.to_string().contains("read-only") {
                break error;
            }
        };
        assert!(error.is_retryable() && error.to_string().contains("the server takes no writes"), "{error}");
        server.stop();
        let (kind, words) = said(&address(port, "")).await;
        assert!(kind == SinkErrorKind::Retryable && words.contains("Connection refused"), "{words}");
    });
}

#[test]
fn timescaledb_divides_its_tables_itself() {
    let Some(server) = test_servers::postgres() else { return };
    block_on(async {
        // Not the extension, which Debian does not have: what is asked of it.
        let stub = "CREATE TABLE public.asked (text text); CREATE FUNCTION public.create_hypertable(t regclass, c name, chunk_time_interval interval) \
                    RETURNS void LANGUAGE sql AS $$ INSERT INTO public.asked VALUES (t || ' ' || c || ' ' || chunk_time_interval) $$";
        let (client, connection) = tokio_postgres::connect(&address(server.port(), ""), NoTls).await.unwrap();
        tokio::spawn(connection);
        client.batch_execute(stub).await.unwrap();
        let mut sink = open(&address(server.port(), ""));
        sink.write(&batch(0..5)).await.unwrap();
        sink.close().await.unwrap();
        assert_eq!(count_in(&client, "SELECT count(*) FROM asked WHERE text LIKE '% at 1 day'").await, 14);
        contract::same_ids(&ids(&server).await, 0..5);
    });
}

#[test]
fn a_server_is_trusted_only_with_its_certificate_and_name() {
    let Some(mut server) = test_servers::postgres() else { return };
    let folder = tempfile::tempdir().unwrap();
    let authorities = folder.path().join("ca.pem");
    let (certificate, key) = contract::certificate();
    std::fs::write(&authorities, &certificate).unwrap();
    block_on(async {
        let (client, connection) = tokio_postgres::connect(&address(server.port(), ""), NoTls).await.unwrap();
        tokio::spawn(connection);
        let data = server.folder().join("data");
        // Written by the server, so that they are its own.
        for (name, text) in [("server.crt", certificate), ("server.key", key)] {
            let lines = format!("SELECT unnest(string_to_array('{}', E'\n'))", text.replace('\r', "").trim_end());
            client.batch_execute(&format!("COPY ({lines}) TO '{}'", data.join(name).display())).await.unwrap();
        }
        let mine = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        std::fs::set_permissions(data.join("server.key"), mine).unwrap();
        client.batch_execute("ALTER SYSTEM SET ssl TO on").await.unwrap();
        server.stop();
        server.restart();
        let address = |host: &str, file: Option<&Path>| {
            let more = file.map_or_else(String::new, |file| format!("&ca_file={}", file.display()));
            address(server.port(), &format!("?sslmode=require{more}")).replace("127.0.0.1", host)
        };
        contract::is_trusted_only_by_its_certificate(address, &authorities).await;
        contract::same_ids(&ids(&server).await, 0..10);
    });
}
