//! The client against simulated venues: everything it fetches and watches is what the simulator says that it served.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::extract::Query;
use axum::routing::get;
use exchange_core::instrument::Kind;
use exchange_core::profile::Surface;
use exchange_core::{ErrorKind, Market, Profile, Time, Venue};
use exchange_runtime::{Client, ClientErrorKind, Record, Watch, WatchError};
use serde_json::{Map, Value};
use tempfile::TempDir;
use venue_sim::{Config, Handle};

/// Longer than anything here takes; a test that waits so long has failed.
const PATIENCE: Duration = Duration::from_secs(20);
const VENUES: [&str; 2] = ["binance", "bybit"];
const DAY: Duration = Duration::from_hours(24);

struct Sim {
    handle: Handle,
    directory: TempDir,
}

/// What an event line is known by: its type, and its id.
type Ids = BTreeSet<(String, String)>;

impl Sim {
    /// A market that has moved for a while and stands still now.
    async fn standing(faults: &str) -> Self {
        let sim = Self::start(Config { symbols: 30, rate: 50_000.0, events: Some(5_000), ..Config::default() }, faults);
        tokio::time::timeout(PATIENCE, sim.handle.still()).await.unwrap();
        sim
    }

    fn start(config: Config, faults: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("faults.toml");
        std::fs::write(&path, faults).unwrap();
        let handle = venue_sim::start(&Config { truth: Some(directory.path().join("truth.ndjson")), faults: Some(path), ..config }).unwrap();
        Self { handle, directory }
    }

    fn client(&self, name: &str) -> Client {
        Client::new(self.venue(name, |_| ())).unwrap()
    }

    fn venue(&self, name: &str, change: impl FnOnce(&mut Profile)) -> Venue {
        let address = self.handle.address();
        let hosts = |surface: &mut Surface| {
            surface.rest = format!("http://{address}/{name}");
            surface.ws = format!("ws://{address}/{name}");
        };
        venue(name, hosts, change)
    }

    fn requests(&self, path: &str) -> u64 {
        self.handle.counters().requests.get(path).copied().unwrap_or(0)
    }

    /// Ends the simulation; gives the truth.
    async fn truth(self) -> Vec<Map<String, Value>> {
        self.handle.shutdown().await.unwrap();
        let text = std::fs::read_to_string(self.directory.path().join("truth.ndjson")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

/// A venue with other hosts, and whatever else is to be changed of it.
fn venue(name: &str, hosts: impl FnMut(&mut Surface), change: impl FnOnce(&mut Profile)) -> Venue {
    let mut all = exchange_venues::all().iter().map(|exchange| (*exchange, Profile::parse(exchange.policy()).unwrap()));
    let (exchange, mut profile) = all.find(|(_, profile)| profile.name == name).unwrap();
    profile.markets.values_mut().for_each(hosts);
    change(&mut profile);
    Venue::new(exchange, profile)
}

/// The time that was so long ago.
fn ago(duration: Duration) -> Time {
    Time::EPOCH + SystemTime::now().duration_since(UNIX_EPOCH).unwrap().saturating_sub(duration)
}

fn text<'a>(line: &'a Map<String, Value>, key: &str) -> &'a str {
    line[key].as_str().unwrap_or_default()
}

fn told<T>(ids: &mut Ids, kind: &str, records: &[Record<T>]) {
    ids.extend(records.iter().map(|record| (kind.to_owned(), record.id.to_string())));
}

#[tokio::test]
async fn everything_fetched_is_what_was_served() {
    for name in VENUES {
        let sim = Sim::standing("").await;
        let client = sim.client(name);
        let since = Some(ago(3 * DAY));
        let mut ids = Ids::new();
        let mut fetched = 0;
        let mut funding = Vec::new();
        for (market, symbol) in [(Market::Spot, "BTC/USDT"), (Market::Linear, "BTC/USDT:USDT"), (Market::Inverse, "BTC/USD:BTC")] {
            let markets = client.fetch_markets(market).await.unwrap();
            assert_eq!(markets.len(), 30, "{name} {market}");
            assert!(markets.iter().any(|record| record.instrument.symbol.as_deref() == Some(symbol) && *record.value.base == *"BTC"));
            let tickers = client.fetch_tickers(market, &[]).await.unwrap();
            // Binance lists a pair that is long dead, and gives no ticker of it.
            assert!(tickers.len() >= 29, "{name} {market}: {} tickers", tickers.len());
            told(&mut ids, "ticker", &tickers);
            let book = client.fetch_order_book(symbol, Some(20)).await.unwrap();
            assert_eq!((book.value.bids.len(), book.value.asks.len()), (20, 20));
            told(&mut ids, "book", &[book]);
            let trades = client.fetch_trades(symbol, Some(50)).await.unwrap();
            assert!(trades.len() > 10 && trades.is_sorted_by_key(|trade| trade.time), "{name} {market}: {} trades", trades.len());
            told(&mut ids, "trade", &trades);
            let candles = client.fetch_ohlcv(symbol, "1h", since, Some(24)).await.unwrap();
            assert_eq!(candles.len(), 24);
            assert!(candles.windows(2).all(|two| two[1].value.open_time.since(two[0].value.open_time) == Duration::from_hours(1)));
            told(&mut ids, "candle", &candles);
            fetched += tickers.len() + 1 + trades.len() + candles.len();
            if market == Market::Spot {
                let error = client.fetch_funding_rates(market, &[]).await.unwrap_err();
                assert_eq!(error.to_string(), format!("{name}: there is no funding to be fetched of the spot market"));
                continue;
            }
            let interest = client.fetch_open_interest(symbol).await.unwrap();
            assert_eq!(interest.instrument.symbol.as_deref(), Some(symbol));
            told(&mut ids, "open_interest", &[interest]);
            let settled = client.fetch_funding_rate_history(symbol, since, None).await.unwrap();
            assert!(settled.len() >= 8 && settled.iter().all(|record| Some(record.value.time) >= since), "{name} {market}: {}", settled.len());
            told(&mut ids, "funding_settled", &settled);
            fetched += 1 + settled.len();
            funding.extend(client.fetch_funding_rates(market, &[]).await.unwrap());
        }
        assert_eq!(ids.len(), fetched, "no record twice");
        let truth = sim.truth().await;
        let served: Ids = truth.iter().map(|line| (text(line, "type").to_owned(), text(line, "id").to_owned())).collect();
        let invented: Vec<_> = ids.difference(&served).collect();
        assert!(invented.is_empty(), "{name}: {} of {} were never served: {invented:?}", invented.len(), ids.len());
        compare_funding(name, &funding, &truth);
    }
}

/// Each rate has all that the venue said of it, wherever it said it.
fn compare_funding(name: &str, funding: &[Record<exchange_core::event::Funding>], truth: &[Map<String, Value>]) {
    let mut known: BTreeMap<(&str, &str), Map<String, Value>> = BTreeMap::new();
    for line in truth.iter().filter(|line| text(line, "type") == "funding") {
        known.entry((text(line, "market"), text(line, "venue_symbol"))).or_default().extend(line.clone());
    }
    known.retain(|_, line| line.contains_key("rate"));
    assert_eq!(funding.len(), known.len(), "{name}");
    assert!(funding.iter().any(|record| record.value.interval_hours.is_some() && record.value.cap.is_some() && record.value.rate.is_some()));
    for record in funding {
        let line = &known[&(record.instrument.market.as_str(), &*record.instrument.venue_symbol)];
        let ours = [("rate", &record.value.rate), ("cap", &record.value.cap), ("floor", &record.value.floor)];
        for (key, value) in ours {
            let theirs = line.get(key).map(|theirs| theirs.as_str().unwrap().parse().unwrap());
            assert_eq!(*value, theirs, "{name} {:?} {key}", record.instrument);
        }
        let number = |key: &str| line.get(key).and_then(Value::as_i64);
        assert_eq!((record.value.interval_hours.map(i64::from), record.value.next_time.map(Time::micros)), (number("interval_hours"), number("next_time")));
    }
}

#[tokio::test]
async fn symbols_choose_and_batches_stay_one_request() {
    for (name, path) in [("binance", "binance/fapi/v1/premiumIndex"), ("bybit", "bybit/v5/market/tickers")] {
        let sim = Sim::standing("").await;
        let client = sim.client(name);
        let some = ["ETH/USDT:USDT", "BTC/USDT:USDT"];
        let rates = client.fetch_funding_rates(Market::Linear, &some).await.unwrap();
        let symbols: BTreeSet<&str> = rates.iter().filter_map(|record| record.instrument.symbol.as_deref()).collect();
        assert_eq!(symbols, some.into());
        assert_eq!(sim.requests(path), 1);
        client.fetch_funding_rates(Market::Linear, &[]).await.unwrap();
        assert_eq!(sim.requests(path), 2);
        // What changes rarely is asked for rarely, and known all the same.
        assert!(sim.requests("binance/fapi/v1/fundingInfo") <= 1);
        assert_eq!(client.fetch_tickers(Market::Linear, &some).await.unwrap().len(), 2);
        let lists = if name == "binance" { "binance/fapi/v1/exchangeInfo" } else { "bybit/v5/market/instruments-info" };
        assert!(sim.requests(lists) <= 2, "instruments are read once: {:?}", sim.handle.counters().requests);
    }
}

#[tokio::test]
async fn a_history_is_read_to_its_end_whichever_end_comes_first() {
    for name in VENUES {
        let sim = Sim::standing("").await;
        let client = sim.client(name);
        let symbol = "BTC/USDT:USDT";
        let since = ago(500 * DAY);
        let all = client.fetch_funding_rate_history(symbol, Some(since), None).await.unwrap();
        // Every eight hours, to a millisecond or so.
        assert_eq!(all.len(), 1500, "{name}");
        let requests = sim.requests("binance/fapi/v1/fundingRate") + sim.requests("bybit/v5/market/funding/history");
        assert!(requests <= if name == "binance" { 3 } else { 8 }, "{name}: {requests}");
        assert!(all.windows(2).all(|two| two[1].value.time.since(two[0].value.time).as_secs().abs_diff(8 * 3600) <= 1), "{name}");
        let first = client.fetch_funding_rate_history(symbol, Some(since), Some(250)).await.unwrap();
        assert_eq!(first, all[..250].iter().zip(&first).map(|(record, first)| Record { received: first.received, ..record.clone() }).collect::<Vec<_>>());
        let last = client.fetch_funding_rate_history(symbol, None, Some(3)).await.unwrap();
        let times = |records: &[Record<_>]| records.iter().map(|record: &Record<exchange_core::event::FundingSettled>| record.value.time).collect::<Vec<_>>();
        assert_eq!(times(&last), times(&all[1497..]));

        // 1,200 hours: two answers of Bybit's.
        let candles = client.fetch_ohlcv(symbol, "1h", Some(ago(50 * DAY)), Some(1200)).await.unwrap();
        assert!(candles.len() >= 1198 && candles.len() <= 1200, "{name}: {}", candles.len());
        assert!(candles.windows(2).all(|two| two[1].value.open_time.since(two[0].value.open_time) == Duration::from_hours(1)), "{name}");
        let days = client.fetch_ohlcv("BTC/USD:BTC", "1d", Some(ago(450 * DAY)), Some(400)).await.unwrap();
        assert_eq!(days.len(), 400, "{name}: more than one window's");
        assert_eq!(client.fetch_ohlcv(symbol, "5m", None, Some(7)).await.unwrap().len(), 7);
    }
}

/// Binance itself fills an answer from the beginning of a window, as its documents say.
#[tokio::test]
async fn a_venue_that_begins_at_the_beginning_is_read_forward() {
    const HOUR: u64 = 3_600_000;
    let list = r#"{"symbols":[{"symbol":"BTCUSDT","pair":"BTCUSDT","contractType":"PERPETUAL","deliveryDate":4133404800000,
        "status":"TRADING","baseAsset":"BTC","quoteAsset":"USDT","marginAsset":"USDT","filters":[]}]}"#;
    let asked = Arc::new(AtomicU64::new(0));
    let count = asked.clone();
    let settled = move |Query(query): Query<BTreeMap<String, String>>| async move {
        count.fetch_add(1, Ordering::Relaxed);
        let number = |key: &str| query[key].parse::<u64>().unwrap();
        let first = number("startTime").div_ceil(HOUR);
        let rows = (first..=number("endTime") / HOUR).take(usize::try_from(number("limit")).unwrap());
        let row = |hour: u64| format!(r#"{{"symbol":"{}","fundingRate":"0.0001","fundingTime":{},"markPrice":""}}"#, query["symbol"], hour * HOUR);
        format!("[{}]", rows.map(row).collect::<Vec<_>>().join(","))
    };
    let router = axum::Router::new().route("/fapi/v1/exchangeInfo", get(move || async move { list })).route("/fapi/v1/fundingRate", get(settled));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let server = tokio::spawn(async move { axum::serve(listener, router).await });

    let client = Client::new(venue("binance", |surface| surface.rest = format!("http://{address}"), |_| ())).unwrap();
    let since = ago(Duration::from_hours(2500));
    let all = client.fetch_funding_rate_history("BTC/USDT:USDT", Some(since), None).await.unwrap();
    assert_eq!(all.len(), 2500);
    assert!(all.windows(2).all(|two| two[1].value.time.since(two[0].value.time) == Duration::from_hours(1)));
    assert_eq!(asked.swap(0, Ordering::Relaxed), 4, "three answers, and once for what could be before the first one");
    let first = client.fetch_funding_rate_history("BTC/USDT:USDT", Some(since), Some(10)).await.unwrap();
    assert!(first.iter().map(|record| record.value.time).eq(all[..10].iter().map(|record| record.value.time)));
    assert_eq!(asked.load(Ordering::Relaxed), 2);
    server.abort();
}

#[tokio::test]
async fn limits_are_those_that_the_venue_takes() {
    for name in VENUES {
        let sim = Sim::standing("").await;
        let client = sim.client(name);
        for symbol in ["BTC/USDT", "BTC/USDT:USDT", "BTC/USD:BTC"] {
            let book = client.fetch_order_book(symbol, Some(7)).await.unwrap();
            assert_eq!((book.value.bids.len(), book.value.asks.len()), (7, 7), "{name} {symbol}");
            assert!(client.fetch_order_book(symbol, None).await.unwrap().value.bids.len() >= 20);
            assert_eq!(client.fetch_trades(symbol, Some(3)).await.unwrap().len(), 3);
        }
    }
}

#[tokio::test]
async fn what_does_not_exist_is_named_with_what_does() {
    let sim = Sim::standing("").await;
    for name in VENUES {
        let client = sim.client(name);
        let config = |error: exchange_runtime::ClientError, words: &str| {
            assert_eq!((error.kind(), error.venue()), (ClientErrorKind::Config, name));
            assert!(error.message().contains(words), "{error}");
        };
        config(
            client.fetch_order_book("BTCC/USDT:USDT", None).await.unwrap_err(),
            "`BTCC/USDT:USDT` is none of the 30 symbols that are known: did you mean `BTC/USDT:USDT`?",
        );
        config(client.fetch_order_book("ETHUSDT", None).await.unwrap_err(), "did you mean `ETH/USDT");
        config(client.fetch_tickers(Market::Linear, &["BTC/USDT:USDT", "NOPE/USDT"]).await.unwrap_err(), "`NOPE/USDT` is none of");
        config(client.fetch_tickers(Market::Linear, &["BTC/USDT"]).await.unwrap_err(), "`BTC/USDT` is of the spot market, not of linear");
        config(client.fetch_tickers(Market::Option, &[]).await.unwrap_err(), "there is no market `option`, but spot, linear, inverse");
        config(client.fetch_ohlcv("BTC/USDT", "7m", None, None).await.unwrap_err(), "`7m` is no interval of candles; there are");
        config(client.fetch_ohlcv("BTC/USDT", "1m", Some(ago(DAY)), Some(1_000_000)).await.unwrap_err(), "more than 100 requests");
        config(client.fetch_open_interest("BTC/USDT").await.unwrap_err(), "there is no open_interest to be fetched of `BTC/USDT`");
        config(client.watch_liquidations(&["BTC/USDT"]).await.map(drop).unwrap_err(), "there is no liquidation of the spot market");
        config(client.watch_tickers(&[]).await.map(drop).unwrap_err(), "at least one symbol");
        let dated = client.fetch_markets(Market::Linear).await.unwrap().into_iter().find(|record| record.value.kind == Kind::Future).unwrap();
        let symbol = dated.instrument.symbol.clone().unwrap();
        config(client.fetch_funding_rate_history(&symbol, None, None).await.unwrap_err(), "there is no funding_settled to be fetched of");
    }
}

fn fault(path: &str, rest: &str) -> String {
    format!("[[fault]]\naction = \"status\"\npath = \"{path}\"\n{rest}\n")
}

#[tokio::test]
async fn what_may_pass_is_tried_again_within_bounds() {
    let faults = fault("*/exchangeInfo", "status = 503\nbody = \"html\"\ncount = 2")
        + &fault("*/ticker/24hr", "status = 429\nretry_after = 1\ncount = 1")
        + &fault("*/premiumIndex", "status = 502\nbody = \"empty\"");
    let sim = Sim::standing(&faults).await;
    let client = sim.client("binance");
    assert!(client.fetch_tickers(Market::Linear, &[]).await.unwrap().len() > 20);
    assert_eq!((sim.requests("binance/fapi/v1/exchangeInfo"), sim.requests("binance/fapi/v1/ticker/24hr")), (3, 2));
    let error = client.fetch_funding_rates(Market::Linear, &[]).await.unwrap_err();
    assert_eq!((error.kind(), error.message()), (ClientErrorKind::Venue(ErrorKind::Transient), "HTTP 502"));
    assert_eq!(sim.requests("binance/fapi/v1/premiumIndex"), 4);
}

#[tokio::test]
async fn a_ban_is_told_at_once_and_kept() {
    let sim = Sim::standing(&fault("*/openInterest", "status = 418\nretry_after = 600\nbody = \"empty\"")).await;
    let client = sim.client("binance");
    for _ in 0..3 {
        let error = client.fetch_open_interest("BTC/USDT:USDT").await.unwrap_err();
        assert_eq!(error.kind(), ClientErrorKind::Venue(ErrorKind::Banned));
        assert!(error.message().contains("HTTP 418") && error.message().contains("(until 2"), "{error}");
    }
    assert!(client.fetch_tickers(Market::Linear, &[]).await.is_err(), "nothing at all is asked any more");
    assert_eq!((sim.requests("binance/fapi/v1/openInterest"), sim.requests("binance/fapi/v1/ticker/24hr")), (1, 0));
}

#[tokio::test]
async fn a_refusal_is_in_the_venues_words() {
    let sim = Sim::standing("").await;
    // As if the venue had forgotten a symbol since it was listed.
    let client = Client::new(sim.venue("bybit", |profile| {
        for endpoint in profile.endpoint.iter_mut().filter(|endpoint| endpoint.name == "orderbook") {
            endpoint.query = "category={market}&symbol=NOPE".into();
        }
    }));
    let error = client.unwrap().fetch_order_book("BTC/USDT:USDT", None).await;
    let error = error.unwrap_err();
    assert_eq!(error.kind(), ClientErrorKind::Venue(ErrorKind::Rejected));
    assert!(error.to_string().starts_with("bybit: rejected: HTTP 200, code 10001: params error"), "{error}");
}

#[tokio::test]
async fn budgets_are_kept_by_waiting() {
    let sim = Sim::standing("").await;
    let client = Client::new(sim.venue("bybit", |profile| {
        let limit = profile.limits.get_mut("ip").unwrap();
        // Nine tenths of it are used: nine requests in half a second.
        (limit.budget, limit.window) = (10, Duration::from_millis(500));
    }))
    .unwrap();
    let began = std::time::Instant::now();
    for _ in 0..28 {
        client.fetch_open_interest("BTC/USDT:USDT").await.unwrap();
    }
    assert!(began.elapsed() >= Duration::from_millis(1500), "{:?}", began.elapsed());
}

/// The next record, past whatever the stream says besides.
async fn next<T>(watch: &mut Watch<T>) -> Record<T> {
    loop {
        if let Ok(record) = tokio::time::timeout(PATIENCE, watch.next()).await.expect("nothing came").expect("it never ends") {
            return record;
        }
    }
}

#[tokio::test]
async fn everything_watched_is_what_was_served() {
    for name in VENUES {
        let sim = Sim::start(Config { symbols: 20, rate: 4000.0, ..Config::default() }, "");
        let client = sim.client(name);
        let symbols = ["BTC/USDT:USDT", "ETH/USDT:USDT"];
        let mut seen: BTreeSet<(String, String)> = BTreeSet::new();
        let mut ids = Ids::new();
        macro_rules! watch {
            ($method:ident, $kind:literal, $symbols:expr) => {
                let mut watch = client.$method($symbols).await.unwrap();
                for _ in 0..5 {
                    let record = next(&mut watch).await;
                    let symbol = record.instrument.symbol.as_deref().unwrap().to_owned();
                    assert!($symbols.contains(&symbol.as_str()), "{symbol} was not asked for");
                    seen.insert(($kind.to_owned(), symbol));
                    // Whole states are not what was sent.
                    if !["ticker", "funding"].contains(&$kind) {
                        told(&mut ids, $kind, &[record]);
                    }
                }
                assert!(watch.status().unwrap().is_ready());
                drop(watch);
            };
        }
        watch!(watch_tickers, "ticker", &symbols);
        watch!(watch_trades, "trade", &symbols);
        watch!(watch_order_book, "book", &symbols);
        watch!(watch_funding_rates, "funding", &symbols);
        watch!(watch_trades, "trade", &["BTC/USDT", "BTC/USD:BTC"]);
        let liquidations: Vec<String> =
            client.fetch_markets(Market::Linear).await.unwrap().iter().filter_map(|record| record.instrument.symbol.as_deref().map(Into::into)).collect();
        let liquidations: Vec<&str> = liquidations.iter().map(String::as_str).collect();
        watch!(watch_liquidations, "liquidation", liquidations.as_slice());
        // Each watch was dropped, and with it its connections.
        let closed = async {
            while sim.handle.counters().connections > 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(PATIENCE, closed).await.expect("connections are left");
        let served: Ids = sim.truth().await.iter().map(|line| (text(line, "type").to_owned(), text(line, "id").to_owned())).collect();
        let invented: Vec<_> = ids.difference(&served).collect();
        assert!(invented.is_empty(), "{name}: {invented:?}");
    }
}

#[tokio::test]
async fn a_lost_connection_is_told_and_the_stream_goes_on() {
    let faults = "[[fault]]\naction = \"close\"\ntopic = \"publicTrade.*\"\nafter = 5\ncount = 1\n";
    let sim = Sim::start(Config { symbols: 20, rate: 4000.0, venues: vec!["bybit".into()], ..Config::default() }, faults);
    let mut trades = sim.client("bybit").watch_trades(&["BTC/USDT:USDT"]).await.unwrap();
    let (mut before, mut missed, mut after) = (0, 0, 0);
    while after == 0 {
        match tokio::time::timeout(PATIENCE, trades.next()).await.unwrap().unwrap() {
            Ok(_) if missed == 0 => before += 1,
            Ok(_) => after += 1,
            Err(error @ WatchError::Missed(_)) => {
                assert_eq!(error.to_string(), "bybit: trade of BTC/USDT:USDT was missed (disconnect)");
                missed += 1;
            }
            Err(error) => panic!("{error}"),
        }
    }
    assert!(before > 0 && missed == 1, "{before} before, {missed} times missed");
}

#[tokio::test]
async fn what_cannot_be_decoded_is_told() {
    let faults = "[[fault]]\naction = \"broken_frame\"\ntopic = \"tickers.*\"\nafter = 5\ncount = 1\n";
    let sim = Sim::start(Config { symbols: 20, rate: 4000.0, venues: vec!["bybit".into()], ..Config::default() }, faults);
    let mut tickers = sim.client("bybit").watch_tickers(&["BTC/USDT:USDT"]).await.unwrap();
    let broken = loop {
        if let Err(error) = tokio::time::timeout(PATIENCE, tickers.next()).await.unwrap().unwrap() {
            break error;
        }
    };
    assert!(matches!(&broken, WatchError::Undecodable(_)) && broken.to_string().starts_with("bybit: malformed: "), "{broken}");
    next(&mut tickers).await;
}
