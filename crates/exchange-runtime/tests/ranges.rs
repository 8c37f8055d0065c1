//! Requests for a span of time, against a venue that serves nothing else: what is asked for, and that nothing is missed.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::State;
use axum::routing::post;
use exchange_core::{Channel, Interval, Market, Mode, Profile, Time, Venue};
use exchange_runtime::{Client, Collector, Record};
use serde_json::{Value, json};

const HOUR: u64 = 3_600_000;
const MINUTE: u64 = 60_000;

/// Hyperliquid with one contract, as far as its documents describe it: answers are filled from the beginning of a span,
/// which must be named, and settlements are some milliseconds late.
#[derive(Clone, Default)]
struct Server {
    asked: Arc<Mutex<Vec<Value>>>,
}

impl Server {
    async fn start() -> (Self, Venue) {
        Self::start_with(|_| ()).await
    }

    async fn start_with(change: impl FnOnce(&mut Profile)) -> (Self, Venue) {
        let server = Self::default();
        let router = axum::Router::new().route("/info", post(answer)).with_state(server.clone());
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        let exchange = exchange_venues::all().iter().find(|exchange| exchange.policy().contains("name = \"hyperliquid\"")).unwrap();
        let mut profile = Profile::parse(exchange.policy()).unwrap();
        profile.markets.values_mut().for_each(|surface| surface.rest = format!("http://{address}"));
        change(&mut profile);
        (server, Venue::new(*exchange, profile))
    }

    /// The requests of a type since the last call.
    fn asked(&self, kind: &str) -> Vec<Value> {
        self.asked.lock().unwrap().extract_if(.., |body| body["type"] == kind).collect()
    }
}

async fn answer(State(server): State<Server>, body: String) -> String {
    let body: Value = serde_json::from_str(&body).unwrap();
    let span = |from: &Value, to: &Value| from.as_u64().expect("a beginning must be named")..=to.as_u64().unwrap_or_else(now);
    let answer = match body["type"].as_str().unwrap() {
        "metaAndAssetCtxs" => json!([{"universe": [{"name": "BTC", "szDecimals": 5}], "collateralToken": 0}, [{"markPx": "1", "openInterest": "12.5"}]]),
        "perpDexs" => json!([null]),
        "spotMeta" => json!({"universe": [], "tokens": [{"name": "USDC", "index": 0}]}),
        "fundingHistory" => {
            let span = span(&body["startTime"], &body["endTime"]);
            let hours = (span.start() / HOUR..).map(|hour| hour * HOUR + 76).skip_while(|time| time < span.start()).take_while(|time| span.contains(time));
            hours.take(500).map(|time| json!({"coin": "BTC", "fundingRate": "0.0000125", "premium": "0", "time": time})).collect()
        }
        "candleSnapshot" => {
            let span = span(&body["req"]["startTime"], &body["req"]["endTime"]);
            // The candle that was running is in it as well.
            let minutes = (span.start() / MINUTE..=span.end() / MINUTE).take(5000).map(|minute| minute * MINUTE);
            let row = |time: u64| json!({"t": time, "T": time + MINUTE - 1, "s": "BTC", "i": "1m", "o": "1", "c": "1", "h": "1", "l": "1", "v": "0", "n": 0});
            minutes.map(row).collect()
        }
        other => panic!("nobody asks for {other}"),
    };
    server.asked.lock().unwrap().push(body);
    answer.to_string()
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

fn ago(millis: u64) -> Time {
    Time::from_millis((now() - millis).try_into().unwrap())
}

/// How long ago a time in a request was, in units of so many milliseconds.
fn units_ago(time: &Value, unit: u64) -> u64 {
    now().saturating_sub(time.as_u64().unwrap()) / unit
}

fn evenly<T>(records: &[Record<T>], time: impl Fn(&T) -> Time, step: u64) -> bool {
    records.windows(2).all(|two| time(&two[1].value).since(time(&two[0].value)) == Duration::from_millis(step))
}

const SYMBOL: &str = "BTC/USDC:USDC";

#[tokio::test]
async fn past_funding_is_read_by_the_body() {
    let (server, venue) = Server::start().await;
    let client = Client::new(venue).unwrap();
    let all = client.fetch_funding_rate_history(SYMBOL, Some(ago(1200 * HOUR)), None).await.unwrap();
    assert_eq!(all.len(), 1200);
    assert!(evenly(&all, |settled| settled.time, HOUR));
    assert_eq!(server.asked("fundingHistory").len(), 4, "three answers, and once for what could be before the first one");
    let first = client.fetch_funding_rate_history(SYMBOL, Some(ago(1200 * HOUR)), Some(3)).await.unwrap();
    assert!(first.iter().map(|record| record.value.time).eq(all[..3].iter().map(|record| record.value.time)));

    server.asked("fundingHistory");
    let last = client.fetch_funding_rate_history(SYMBOL, None, Some(3)).await.unwrap();
    assert!(last.iter().map(|record| record.value.time).eq(all[1197..].iter().map(|record| record.value.time)));
    let asked = server.asked("fundingHistory");
    assert_eq!((asked.len(), units_ago(&asked[0]["startTime"], HOUR)), (1, 500), "as long ago as one answer reaches");
}

#[tokio::test]
async fn candles_are_read_by_the_body() {
    let (server, venue) = Server::start().await;
    let client = Client::new(venue).unwrap();
    let since = ago(6000 * MINUTE);
    let candles = client.fetch_ohlcv(SYMBOL, "1m", Some(since), Some(5500)).await.unwrap();
    assert_eq!(candles.len(), 5500);
    assert!(candles[0].value.open_time >= since && evenly(&candles, |candle| candle.open_time, MINUTE));
    assert_eq!(server.asked("candleSnapshot").len(), 2);

    let asked_at = ago(0);
    let last = client.fetch_ohlcv(SYMBOL, "1m", None, Some(7)).await.unwrap();
    assert_eq!(last.len(), 7);
    assert!(last[6].value.interval.end(last[6].value.open_time) > asked_at, "the running one is the last");
    let asked = server.asked("candleSnapshot");
    assert_eq!((asked.len(), units_ago(&asked[0]["req"]["startTime"], MINUTE)), (1, 7), "no more than is wanted");
    assert!(client.fetch_ohlcv(SYMBOL, "1m", None, None).await.unwrap().len() >= 4999);
}

#[tokio::test]
async fn what_is_so_now_is_asked_of_whoever_says_it_now() {
    let (server, venue) = Server::start_with(|profile| {
        let named = |profile: &Profile, name: &str| profile.endpoint.iter().position(|endpoint| endpoint.name == name).unwrap();
        // One that only an answer leads to comes first, and a history of the same channel has a range.
        let (followed, history) = (named(profile, "dex_ctxs"), named(profile, "funding_history"));
        profile.endpoint[followed].history = false;
        let mut past = profile.endpoint[history].clone();
        (past.history, past.channels) = (true, profile.endpoint[followed].channels.clone());
        profile.endpoint.push(past);
    })
    .await;
    let client = Client::new(venue).unwrap();
    client.load_markets(Market::Linear).await.unwrap();
    server.asked("metaAndAssetCtxs");
    let interest = client.fetch_open_interest(SYMBOL).await.unwrap();
    assert_eq!(interest.value.value, Some("12.5".parse().unwrap()));
    assert_eq!(server.asked("metaAndAssetCtxs"), [json!({"type": "metaAndAssetCtxs"})]);
    assert!(server.asked("fundingHistory").is_empty());
}

#[tokio::test]
async fn polls_ask_for_the_time_before_they_are_sent() {
    let (server, venue) = Server::start().await;
    let began = now();
    let minute = Interval::parse("1m").map(Channel::Candle).unwrap();
    let sink = exchange_sinks::SinkUri::parse("null:").unwrap().open().unwrap();
    let builder = Collector::builder().venue(venue).markets([Market::Linear]).channels([Channel::FundingSettled, minute]);
    let mut collector = builder.mode(Mode::Poll).once(true).sink(sink).start().unwrap();
    tokio::time::timeout(Duration::from_secs(20), collector.finished()).await.unwrap();
    let summary = collector.stop().await;
    let venue = &summary.venues["hyperliquid"];
    assert_eq!((venue.failed, venue.counts.events), (0, 24 + 31), "{:?}", venue.problems);

    let (funding, candles) = (server.asked("fundingHistory"), server.asked("candleSnapshot"));
    assert_eq!((funding.len(), candles.len()), (1, 1));
    assert_eq!(units_ago(&funding[0]["startTime"], HOUR), 24);
    let (from, to) = (candles[0]["req"]["startTime"].as_u64().unwrap(), candles[0]["req"]["endTime"].as_u64().unwrap());
    assert_eq!(to - from, 30 * MINUTE);
    assert!((began..=now()).contains(&to));
    let keys: BTreeSet<&str> = candles[0]["req"].as_object().unwrap().keys().map(String::as_str).collect();
    assert_eq!(keys, ["coin", "endTime", "interval", "startTime"].into());
}
