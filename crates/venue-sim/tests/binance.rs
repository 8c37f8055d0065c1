//! Binance's wire format over real sockets, compared with the truth.

mod common;

use std::collections::BTreeMap;

use common::{Sim, of_type, same_number};
use serde_json::Value;
use venue_sim::Config;

/// A clock that runs by the updates: no minute ends between two requests.
fn config(rate: f64, events: u64) -> Config {
    let start = exchange_core::Time::from_date(2026, 2, 3);
    Config { start, venues: vec!["binance".into()], symbols: 24, rate, events: Some(events), ..Config::default() }
}

fn rows(value: &Value) -> &Vec<Value> {
    value.as_array().unwrap()
}

#[tokio::test]
async fn everything_is_served_by_request() {
    let sim = Sim::start(config(5000.0, 2000));
    sim.handle.still().await;
    let spot = sim.json("/binance/api/v3/exchangeInfo?showPermissionSets=false").await;
    assert_eq!(rows(&spot["symbols"]).len(), 24);
    assert_eq!(spot["rateLimits"][0]["limit"], 6000);
    assert_eq!(spot["symbols"][23]["status"], "BREAK");
    let linear = sim.json("/binance/fapi/v1/exchangeInfo").await;
    let kinds: Vec<&str> = rows(&linear["symbols"]).iter().map(|row| row["contractType"].as_str().unwrap()).collect();
    assert!(kinds.contains(&"PERPETUAL") && kinds.contains(&"CURRENT_QUARTER") && kinds.contains(&"NEXT_QUARTER"));
    let inverse = sim.json("/binance/dapi/v1/exchangeInfo").await;
    assert_eq!((&inverse["symbols"][0]["symbol"], &inverse["symbols"][0]["contractSize"]), (&"BTCUSD_PERP".into(), &100.into()));
    assert_eq!(inverse["symbols"][1]["contractSize"], 10);

    for (path, count) in [
        ("api/v3/ticker/24hr", 24),
        ("api/v3/ticker/bookTicker", 24),
        ("fapi/v1/ticker/24hr", 24),
        ("fapi/v1/ticker/bookTicker", 24),
        ("fapi/v1/premiumIndex", 24),
        ("dapi/v1/ticker/24hr", 24),
        ("dapi/v1/ticker/bookTicker", 24),
        ("dapi/v1/premiumIndex", 24),
        ("dapi/v1/premiumIndex?pair=BTCUSD", 3),
        ("api/v3/ticker/24hr?symbolStatus=TRADING", 23),
        ("api/v3/trades?symbol=BTCUSDT&limit=3", 3),
        ("fapi/v1/aggTrades?symbol=BTCUSDT&limit=3", 3),
        ("dapi/v1/trades?symbol=BTCUSD_PERP&limit=3", 3),
        ("api/v3/klines?symbol=BTCUSDT&interval=1m&limit=3", 3),
        ("fapi/v1/klines?symbol=BTCUSDT&interval=1h&limit=7", 7),
        ("fapi/v1/fundingRate?symbol=BTCUSDT&limit=5", 5),
        ("fapi/v1/fundingRate", 200),
        ("dapi/v1/fundingRate?symbol=ETHUSD_PERP&limit=2", 2),
    ] {
        let first = sim.json(&format!("/binance/{path}")).await;
        assert_eq!(rows(&first).len(), count, "{path}");
        assert_eq!(sim.json(&format!("/binance/{path}")).await, first, "the market stands still: {path}");
    }
    let depth = sim.json("/binance/fapi/v1/depth?symbol=BTCUSDT&limit=5").await;
    assert_eq!((rows(&depth["bids"]).len(), rows(&depth["asks"]).len()), (5, 5));
    let single = sim.json("/binance/fapi/v1/premiumIndex?symbol=ETHUSDT").await;
    assert_eq!(single["symbol"], "ETHUSDT");
    assert_eq!(sim.json("/binance/dapi/v1/openInterest?symbol=BTCUSD_PERP").await["contractType"], "PERPETUAL");
    let adjusted = sim.json("/binance/fapi/v1/fundingInfo").await;
    assert!((1..24).contains(&rows(&adjusted).len()), "only what was adjusted");

    let (status, _, body) = sim.get("/binance/fapi/v1/openInterest?symbol=NOPEUSDT").await;
    assert_eq!((status, body.as_str()), (400, r#"{"code":-1121,"msg":"Invalid symbol."}"#));
    assert_eq!(sim.get("/binance/fapi/v1/nothing?symbol=BTCUSDT").await.0, 404);
    assert_eq!(sim.get("/nobody/x").await.0, 404);

    let counters = sim.handle.counters();
    assert_eq!(counters.requests["binance/dapi/v1/premiumIndex"], 4);
    let (_, truth) = sim.end().await;
    let dated = of_type(&truth, "mark").find(|event| event["venue_symbol"].as_str().unwrap().contains("USDT_")).unwrap();
    assert!(dated["symbol"].as_str().unwrap().starts_with("BTC/USDT:USDT-") || dated["symbol"].as_str().unwrap().starts_with("ETH/USDT:USDT-"));
    assert!(!of_type(&truth, "funding").any(|event| event["venue_symbol"].as_str().unwrap().contains("USDT_")), "dated futures have none");
    let dead = spot["symbols"][23]["symbol"].as_str().unwrap();
    let ticker = of_type(&truth, "ticker").find(|event| event["venue_symbol"] == dead).unwrap();
    assert!(ticker.get("bid").is_none() && ticker["last"] == "0", "an empty side is absent");
    let mark = of_type(&truth, "mark").find(|event| event["venue_symbol"] == "ETHUSDT").unwrap();
    assert!(same_number(&mark["mark"], &single["markPrice"]) && same_number(&mark["index"], &single["indexPrice"]));
    assert_eq!(mark["et"].as_i64().unwrap(), single["time"].as_i64().unwrap() * 1000);
    let funding = of_type(&truth, "funding").find(|event| event["venue_symbol"] == "ETHUSDT" && event.get("rate").is_some()).unwrap();
    assert!(same_number(&funding["rate"], &single["lastFundingRate"]));
    assert_eq!(funding["next_time"].as_i64().unwrap(), single["nextFundingTime"].as_i64().unwrap() * 1000);
    let change = of_type(&truth, "ticker").find(|event| event["market"] == "inverse").unwrap();
    assert!(change.get("turnover_24h").is_none() && change["change_24h"].as_str().unwrap().parse::<f64>().unwrap().abs() < 0.5);
}

/// A client's side of a book.
fn apply(book: &mut BTreeMap<exchange_core::Decimal, String>, levels: &Value) {
    for level in rows(levels) {
        let (price, size): (exchange_core::Decimal, exchange_core::Decimal) =
            (level[0].as_str().unwrap().parse().unwrap(), level[1].as_str().unwrap().parse().unwrap());
        if size.is_zero() {
            book.remove(&price)
        } else {
            book.insert(price, size.to_string())
        };
    }
}

#[tokio::test]
async fn books_chain_from_their_snapshot() {
    for (base, path, symbol, target) in
        [("api/v3", "stream", "btcusdt", "BTCUSDT"), ("fapi/v1", "public/stream", "btcusdt", "BTCUSDT"), ("dapi/v1", "stream", "btcusd_perp", "BTCUSD_PERP")]
    {
        let sim = Sim::start(config(4000.0, 6000));
        let mut socket = sim.socket(&format!("/binance/{path}?streams={symbol}@depth@100ms")).await;
        socket.json().await;
        let depth = format!("/binance/{base}/depth?symbol={target}&limit=1000");
        let before = sim.json(&depth).await;
        sim.handle.still().await;
        let after = sim.json(&depth).await;
        let last = after["lastUpdateId"].as_u64().unwrap();
        let deltas = socket.until(|frame| frame["data"]["u"] == last).await;

        let (mut bids, mut asks) = (BTreeMap::new(), BTreeMap::new());
        apply(&mut bids, &before["bids"]);
        apply(&mut asks, &before["asks"]);
        let mut previous = before["lastUpdateId"].as_u64().unwrap();
        let mut applied = 0;
        for delta in deltas.iter().map(|frame| &frame["data"]).filter(|delta| delta["u"].as_u64().unwrap() > before["lastUpdateId"].as_u64().unwrap()) {
            let link = if base == "api/v3" { delta["U"].as_u64().unwrap() - 1 } else { delta["pu"].as_u64().unwrap() };
            assert_eq!(link, previous, "{base}");
            previous = delta["u"].as_u64().unwrap();
            apply(&mut bids, &delta["b"]);
            apply(&mut asks, &delta["a"]);
            applied += 1;
        }
        assert!(applied > 10, "{applied}");
        let (mut want_bids, mut want_asks) = (BTreeMap::new(), BTreeMap::new());
        apply(&mut want_bids, &after["bids"]);
        apply(&mut want_asks, &after["asks"]);
        assert_eq!((bids, asks), (want_bids, want_asks), "{base}");

        let (_, truth) = sim.end().await;
        let told = |seq: u64| of_type(&truth, "book").any(|book| book["seq"].as_str() == Some(&*seq.to_string()) && book["kind"] == "delta");
        assert!(deltas.iter().all(|frame| told(frame["data"]["u"].as_u64().unwrap())));
        assert_eq!(of_type(&truth, "book").filter(|book| book["kind"] == "delta").count(), deltas.len() + 1, "nothing but what was sent");
    }
}

#[tokio::test]
async fn streams_have_the_venues_shapes() {
    let sim = Sim::start(config(8000.0, 30_000));
    let mut market = sim.socket("/binance/market/stream").await;
    let streams = [
        "btcusdt@aggTrade",
        "btcusdt@ticker",
        "btcusdt@markPrice@1s",
        "btcusdt@kline_1m",
        "!forceOrder@arr",
        "!markPrice@arr@1s",
        "!ticker@arr",
        "btcusdt@depth@100ms",
        "nope@trade",
    ];
    market.send(&serde_json::json!({"method": "SUBSCRIBE", "params": streams, "id": 7}).to_string()).await;
    assert_eq!(market.json().await, serde_json::json!({"result": null, "id": 7}), "unknown streams are acknowledged, too");
    let mut spot = sim.socket("/binance/stream").await;
    spot.send(r#"{"method":"SUBSCRIBE","params":["btcusdt@trade","btcusdt@bookTicker","btcusd_perp@aggTrade"],"id":1}"#).await;
    let mut seen = BTreeMap::new();
    let frames = market
        .until(|frame| {
            seen.insert(frame["stream"].as_str().unwrap().to_owned(), frame["data"].clone());
            seen.len() == 7
        })
        .await;
    let spot_frames = spot.until(|frame| frame["stream"] == "btcusd_perp@aggTrade").await;
    assert!(frames.iter().all(|frame| frame["stream"] != "btcusdt@depth@100ms"), "the wrong path is silent");
    assert_eq!(seen["!markPrice@arr@1s"].as_array().unwrap().len(), 24);
    assert_eq!(seen["btcusdt@markPrice@1s"]["e"], "markPriceUpdate");
    assert!(seen["btcusdt@ticker"].get("b").is_none(), "futures have no best prices there");
    let quote = spot_frames.iter().find(|frame| frame["stream"] == "btcusdt@bookTicker").unwrap();
    assert!(quote["data"].get("e").is_none() && quote["data"].get("E").is_none(), "spot's has no time");

    market.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":8}"#).await;
    let listed = market.until(|frame| frame["id"] == 8).await;
    assert_eq!(listed.last().unwrap()["result"].as_array().unwrap().len(), streams.len());
    market.send(r#"{"method":"NOPE","id":9}"#).await;
    assert_eq!(market.until(|frame| frame["id"] == 9).await.last().unwrap()["error"]["code"], 2);
    spot.send("{").await;
    assert_eq!(spot.until(|frame| frame.get("code").is_some()).await.last().unwrap()["code"], 3);

    let (summary, truth) = sim.end().await;
    assert!(summary.counters.served > 0);
    for frame in frames.iter().filter(|frame| frame["stream"] == "btcusdt@aggTrade") {
        let (data, id) = (&frame["data"], frame["data"]["a"].to_string());
        let trade = of_type(&truth, "trade").find(|trade| trade["trade_id"] == id && trade["market"] == "linear").unwrap();
        assert!(same_number(&trade["price"], &data["p"]) && same_number(&trade["size"], &data["q"]));
        assert_eq!(trade["side"], if data["m"] == true { "sell" } else { "buy" });
        assert_eq!(trade["et"].as_i64().unwrap(), data["T"].as_i64().unwrap() * 1000);
    }
    let order = &seen["!forceOrder@arr"]["o"];
    let liquidation =
        of_type(&truth, "liquidation").find(|l| l["venue_symbol"] == order["s"] && l["et"].as_i64() == Some(order["T"].as_i64().unwrap() * 1000)).unwrap();
    assert!(same_number(&liquidation["price"], &order["ap"]) && same_number(&liquidation["size"], &order["z"]));
    assert_eq!(liquidation["side"].as_str().unwrap().to_uppercase(), order["S"].as_str().unwrap());
}

#[tokio::test]
async fn raw_streams_have_no_envelope() {
    let sim = Sim::start(config(4000.0, 10_000));
    let mut socket = sim.socket("/binance/market/ws/btcusdt@aggTrade").await;
    assert_eq!(socket.json().await["e"], "aggTrade");
}

#[tokio::test]
async fn too_much_weight_is_refused() {
    let sim = Sim::start(config(10.0, 1));
    let mut refused = 0;
    // Whichever minute they fall into, one of two has 65 of them.
    for _ in 0..130 {
        let (status, headers, body) = sim.get("/binance/fapi/v1/ticker/24hr").await;
        let used: u32 = headers["x-mbx-used-weight-1m"].parse().unwrap();
        let want = if used > 4800 {
            418
        } else if used > 2400 {
            429
        } else {
            200
        };
        assert_eq!(status, want, "{used}: {body}");
        if status != 200 {
            assert!(headers.contains_key("retry-after") && body.contains("-1003"));
            refused += 1;
        }
    }
    assert!(refused > 0);
}

#[tokio::test]
async fn families_are_mixed_where_that_is_asked_for() {
    for mixed_families in [false, true] {
        let sim = Sim::start(Config { mixed_families, ..config(5000.0, 2000) });
        let mut socket = sim.socket("/binance/market/stream?streams=!ticker@arr").await;
        socket.send(r#"{"method":"LIST_SUBSCRIPTIONS","id":1}"#).await;
        let lists = socket.until(|frame| frame["id"] == 1).await;
        let families: std::collections::HashSet<u64> =
            lists.iter().filter_map(|frame| frame["data"].as_array()).flatten().map(|row| row["st"].as_u64().unwrap()).collect();
        assert_eq!(families, if mixed_families { [1, 2].into() } else { [1].into() });
    }
}
