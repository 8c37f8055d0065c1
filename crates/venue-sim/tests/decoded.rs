//! The truth against the collector's own decoders: what they make of every frame and answer that was served has the
//! ids of the truth, no more and no fewer. The simulator itself does not know the decoders.

mod common;

use std::collections::{BTreeMap, HashSet};

use common::Sim;
use exchange_core::capture::Capture;
use exchange_core::feed::Venue;
use exchange_core::offline::Offline;
use exchange_core::{Body, Event, Market, Profile, Time, canonical};
use venue_sim::Config;

/// Whether two parties can know the same id: a state without a time of its own has that of its arrival in it, and
/// instruments and gaps are the collector's.
fn comparable(event: &Event) -> bool {
    let timeless = event.body.is_state() && event.time.is_none() && !matches!(&event.body, Body::Quote(quote) if quote.seq.is_some());
    !timeless && !matches!(event.body, Body::Instrument(_) | Body::Gap(_))
}

struct Decoder {
    offline: Offline,
    ids: BTreeMap<String, String>,
}

impl Decoder {
    fn new() -> Self {
        let venues = exchange_venues::all().iter().map(|exchange| Venue::new(*exchange, Profile::parse(exchange.policy()).unwrap()));
        Self { offline: Offline::new(venues), ids: BTreeMap::new() }
    }

    fn take(&mut self, venue: &str, market: Market, source: String, status: Option<u16>, payload: String) {
        let received = Time::from_micros(i64::try_from(std::time::UNIX_EPOCH.elapsed().unwrap().as_micros()).unwrap());
        let capture = Capture { received, venue: venue.into(), market: Some(market), source, status, payload: payload.into_bytes(), ..Capture::default() };
        let mut events = Vec::new();
        self.offline.capture(&capture, &mut events);
        for mut event in events {
            assert!(!matches!(event.body, Body::DecodeError(_)), "{event:?}");
            event.id = canonical::id(&event);
            if comparable(&event) {
                self.ids.insert(event.id.to_string(), event.to_json());
            }
        }
    }
}

/// Compares what was decoded with the truth, and ends the simulation.
async fn compare(sim: Sim, decoder: Decoder, kinds: &[&str]) {
    let (_, truth) = sim.end().await;
    let told: HashSet<&String> =
        truth.iter().filter(|(_, line)| line.get("et").is_some() || line.get("seq").is_some() || !is_state(line)).map(|(id, _)| id).collect();
    for (id, line) in &decoder.ids {
        assert!(truth.contains_key(id), "decoded, and not told: {line}");
    }
    for id in &told {
        assert!(decoder.ids.contains_key(*id), "told, and not decoded: {}", truth[*id]);
    }
    for kind in kinds {
        assert!(truth.values().any(|line| line["type"] == *kind), "{kind}");
    }
}

fn is_state(line: &serde_json::Value) -> bool {
    ["ticker", "quote", "mark", "funding", "open_interest"].iter().any(|kind| line["type"] == *kind)
}

#[tokio::test]
async fn answers_mean_what_the_truth_says() {
    let sim = Sim::start(Config { symbols: 24, rate: 5000.0, events: Some(8000), limits: false, ..Config::default() });
    sim.handle.still().await;
    let mut decoder = Decoder::new();
    let binance = |market, paths: &'static [&'static str]| paths.iter().map(move |path| ("binance", market, *path));
    let bybit = |market, paths: &'static [&'static str]| paths.iter().map(move |path| ("bybit", market, *path));
    let requests = binance(
        Market::Spot,
        &[
            "/api/v3/exchangeInfo?showPermissionSets=false",
            "/api/v3/ticker/24hr?symbolStatus=TRADING",
            "/api/v3/ticker/24hr",
            "/api/v3/ticker/bookTicker",
            "/api/v3/depth?symbol=BTCUSDT&limit=1000",
            "/api/v3/trades?symbol=BTCUSDT&limit=1000",
            "/api/v3/aggTrades?symbol=ETHUSDT&limit=1000",
            "/api/v3/klines?symbol=BTCUSDT&interval=1m&limit=3",
        ],
    )
    .chain(binance(
        Market::Linear,
        &[
            "/fapi/v1/exchangeInfo",
            "/fapi/v1/ticker/24hr",
            "/fapi/v1/ticker/bookTicker",
            "/fapi/v1/premiumIndex",
            "/fapi/v1/fundingInfo",
            "/fapi/v1/fundingRate?limit=1000",
            "/fapi/v1/openInterest?symbol=%E5%B8%81%E5%AE%89%E4%BA%BA%E7%94%9FUSDT",
            "/fapi/v1/depth?symbol=BTCUSDT&limit=1000",
            "/fapi/v1/aggTrades?symbol=BTCUSDT&limit=1000",
            "/fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=3",
        ],
    ))
    .chain(binance(
        Market::Inverse,
        &[
            "/dapi/v1/exchangeInfo",
            "/dapi/v1/ticker/24hr",
            "/dapi/v1/ticker/bookTicker",
            "/dapi/v1/premiumIndex",
            "/dapi/v1/fundingInfo",
            "/dapi/v1/fundingRate?symbol=BTCUSD_PERP&limit=100",
            "/dapi/v1/openInterest?symbol=BTCUSD_PERP",
            "/dapi/v1/depth?symbol=BTCUSD_PERP&limit=1000",
            "/dapi/v1/aggTrades?symbol=BTCUSD_PERP&limit=1000",
            "/dapi/v1/trades?symbol=ETHUSD_PERP&limit=1000",
            "/dapi/v1/klines?symbol=BTCUSD_PERP&interval=1m&limit=3",
        ],
    ))
    .chain(bybit(
        Market::Spot,
        &[
            "/v5/market/instruments-info?category=spot&limit=1000",
            "/v5/market/tickers?category=spot",
            "/v5/market/orderbook?category=spot&symbol=BTCUSDT&limit=50",
            "/v5/market/recent-trade?category=spot&symbol=BTCUSDT&limit=60",
            "/v5/market/kline?category=spot&symbol=BTCUSDT&interval=1&limit=10",
        ],
    ))
    .chain(bybit(
        Market::Linear,
        &[
            "/v5/market/instruments-info?category=linear&limit=1000",
            "/v5/market/tickers?category=linear",
            "/v5/market/orderbook?category=linear&symbol=BTCPERP&limit=50",
            "/v5/market/recent-trade?category=linear&symbol=BTCUSDT&limit=1000",
            "/v5/market/kline?category=linear&symbol=BTCUSDT&interval=60&limit=10",
            "/v5/market/funding/history?category=linear&symbol=BTCUSDT&limit=50",
            "/v5/market/open-interest?category=linear&symbol=BTCUSDT&intervalTime=5min&limit=200",
        ],
    ))
    .chain(bybit(
        Market::Inverse,
        &[
            "/v5/market/instruments-info?category=inverse&limit=1000",
            "/v5/market/tickers?category=inverse",
            "/v5/market/orderbook?category=inverse&symbol=BTCUSD&limit=50",
            "/v5/market/recent-trade?category=inverse&symbol=BTCUSD&limit=1000",
            "/v5/market/kline?category=inverse&symbol=BTCUSD&interval=1&limit=10",
            "/v5/market/funding/history?category=inverse&symbol=BTCUSD&limit=50",
        ],
    ));
    for (venue, market, target) in requests {
        let (status, _, body) = sim.get(&format!("/{venue}{target}")).await;
        decoder.take(venue, market, format!("GET http://127.0.0.1/{venue}{target}"), Some(status), body);
    }
    compare(sim, decoder, &["ticker", "quote", "mark", "funding", "funding_settled", "open_interest", "trade", "book", "candle"]).await;
}

#[tokio::test]
async fn pushes_mean_what_the_truth_says() {
    // A clock that runs by the updates: past a midnight, with its candles and fundings, and not on while this reads.
    let start = Time::from_date(2026, 2, 3).map(|midnight| Time::from_micros(midnight.micros() - 2_000_000));
    let sim = Sim::start(Config { symbols: 12, rate: 10_000.0, events: Some(50_000), limits: false, start, ..Config::default() });
    let mut decoder = Decoder::new();
    for (venue, market, target) in [
        ("binance", Market::Spot, "/api/v3/exchangeInfo"),
        ("binance", Market::Linear, "/fapi/v1/exchangeInfo"),
        ("binance", Market::Inverse, "/dapi/v1/exchangeInfo"),
        ("bybit", Market::Spot, "/v5/market/instruments-info?category=spot&limit=1000"),
        ("bybit", Market::Linear, "/v5/market/instruments-info?category=linear&limit=1000"),
        ("bybit", Market::Inverse, "/v5/market/instruments-info?category=inverse&limit=1000"),
    ] {
        let (status, _, body) = sim.get(&format!("/{venue}{target}")).await;
        decoder.take(venue, market, format!("GET http://127.0.0.1/{venue}{target}"), Some(status), body);
    }
    let per_symbol = |symbols: &[&str], streams: &[&str]| {
        symbols.iter().flat_map(|symbol| streams.iter().map(move |stream| format!("{symbol}@{stream}"))).collect::<Vec<_>>()
    };
    let topics =
        |symbols: &[&str], kinds: &[&str]| symbols.iter().flat_map(|symbol| kinds.iter().map(move |kind| format!("{kind}.{symbol}"))).collect::<Vec<_>>();
    let linear = ["btcusdt", "ethusdt", "solusdt", "btcusdc"];
    let mut market_streams = per_symbol(&linear, &["aggTrade", "ticker", "kline_1m", "markPrice"]);
    market_streams.extend(["!ticker@arr", "!markPrice@arr@1s", "!forceOrder@arr"].map(String::from));
    let mut inverse_streams =
        per_symbol(&["btcusd_perp", "ethusd_perp"], &["aggTrade", "ticker", "kline_1m", "markPrice@1s", "forceOrder", "bookTicker", "depth@100ms"]);
    inverse_streams.push("!forceOrder@arr".into());
    let derivative = ["tickers", "orderbook.1", "orderbook.50", "publicTrade", "kline.1", "allLiquidation"];
    let connections = [
        ("binance", Market::Spot, "/stream", per_symbol(&["btcusdt", "ethusdt"], &["trade", "bookTicker", "ticker", "depth@100ms", "kline_1m"])),
        ("binance", Market::Linear, "/public/stream", per_symbol(&linear, &["bookTicker", "depth@100ms"])),
        ("binance", Market::Linear, "/market/stream", market_streams),
        ("binance", Market::Inverse, "/stream", inverse_streams),
        ("bybit", Market::Spot, "/v5/public/spot", topics(&["BTCUSDT", "ETHUSDT"], &derivative[..5])),
        ("bybit", Market::Linear, "/v5/public/linear", topics(&["BTCUSDT", "ETHUSDT", "SOLUSDT", "BTCPERP"], &derivative)),
        ("bybit", Market::Inverse, "/v5/public/inverse", topics(&["BTCUSD", "ETHUSD"], &derivative)),
    ];
    let mut sockets = Vec::new();
    for (venue, market, path, names) in connections {
        let mut socket = sim.socket(&format!("/{venue}{path}")).await;
        let text = if venue == "binance" {
            serde_json::json!({"method": "SUBSCRIBE", "params": names, "id": 1})
        } else {
            serde_json::json!({"op": "subscribe", "args": names, "req_id": "1"})
        };
        socket.send(&text.to_string()).await;
        sockets.push((venue, market, path, socket));
    }
    sim.handle.still().await;
    for (venue, market, path, mut socket) in sockets {
        // The market stands still: what comes after this answer are lists at most that came before, too.
        let (ask, end) = if venue == "binance" {
            (r#"{"method":"LIST_SUBSCRIPTIONS","id":99}"#, "\"id\":99}")
        } else {
            (r#"{"op":"ping","req_id":"99"}"#, "\"req_id\":\"99\"")
        };
        socket.send(ask).await;
        loop {
            let text = socket.text().await.unwrap();
            if text.contains(end) {
                break;
            }
            decoder.take(venue, market, format!("ws ws://127.0.0.1/{venue}{path}"), None, text);
        }
    }
    compare(sim, decoder, &["ticker", "quote", "mark", "funding", "open_interest", "trade", "liquidation", "book", "candle"]).await;
}
