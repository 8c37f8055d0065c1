//! What fixtures cannot show: made-up messages, and units held against each other.

use exchange_core::{Body, Decimal, Event, Feed};

use super::*;
use crate::kucoin::Kucoin;
use crate::testing;

fn feed(market: Market) -> Feed {
    testing::feed(&Kucoin, market)
}

fn get(feed: &mut Feed, target: &str, data: &str) -> Vec<Event> {
    let payload = format!(r#"{{"code":"200000","data":{data}}}"#);
    testing::answer(feed, Time::from_millis(1_790_985_600_000), &format!("https://proxy/kucoin{target}"), None, &payload).events
}

fn controls(text: &str) -> Vec<Control> {
    testing::frame(&mut feed(Market::Spot), Time::EPOCH, "wss://x", text).controls
}

/// `a` is `b`, within a percent.
fn about(a: &Decimal, b: &Decimal) -> bool {
    let quotient = a.checked_quotient(b).unwrap();
    quotient > "0.99".parse().unwrap() && quotient < "1.01".parse().unwrap()
}

/// `KuCoin` publishes no open interest in USD: what it publishes in USD is held against the same units.
#[test]
fn lots_and_base_agree_with_what_the_venue_says_in_other_units() {
    let rows = r#"[{"symbol":"XBTUSDTM","type":"FFWCSX","baseCurrency":"XBT","quoteCurrency":"USDT","settleCurrency":"USDT","multiplier":0.001,
        "isInverse":false,"openInterest":"6748176","turnoverOf24h":1034643198.3,"volumeOf24h":12069.225,"markPrice":86378.69},
        {"symbol":"XBTUSDM","type":"FFWCSX","baseCurrency":"XBT","quoteCurrency":"USD","settleCurrency":"XBT","multiplier":-1.0,
        "isInverse":true,"openInterest":"18157442","turnoverOf24h":68.02716403,"volumeOf24h":1124530.0,"markPrice":16537.95}]"#;
    let events = get(&mut feed(Market::Inverse), "/api/v1/contracts/active", rows);
    let decimal = |text: &str| text.parse::<Decimal>().unwrap();
    let mut checked = 0;
    for event in &events {
        match (&event.body, event.instrument.market) {
            (Body::OpenInterest(oi), Market::Linear) => assert_eq!(oi.value_base, Some(decimal("6748.176"))),
            (Body::OpenInterest(oi), _) => {
                let usd = oi.value_base.as_ref().unwrap().checked_mul(&decimal("16537.95")).unwrap();
                assert!(about(&usd, oi.value.as_ref().unwrap()), "a lot is a dollar");
            }
            (Body::Ticker(ticker), Market::Linear) => {
                let usd = ticker.volume_24h.as_ref().unwrap().checked_mul(&decimal("86378.69")).unwrap();
                assert!(about(&usd, ticker.turnover_24h.as_ref().unwrap()), "the volume is in base");
            }
            (Body::Ticker(ticker), _) => {
                let base = ticker.volume_24h.as_ref().unwrap().checked_quotient(&decimal("16537.95")).unwrap();
                assert!(about(&base, &decimal("68.02716403")) && ticker.turnover_24h.is_none(), "the turnover is in base");
            }
            _ => continue,
        }
        checked += 1;
    }
    assert_eq!(checked, 4);
}

#[test]
fn a_contracts_market_is_the_listings_then_the_names() {
    let mut feed = feed(Market::Inverse);
    let listed = r#"[{"symbol":"ODDUSDM","type":"FFWCSX","baseCurrency":"ODD","quoteCurrency":"USDT","settleCurrency":"USDT","isInverse":false}]"#;
    get(&mut feed, "/api/v1/contracts/active", listed);
    let mut market = |name: &str| get(&mut feed, "/api/v1/ticker", &format!(r#"{{"symbol":"{name}","price":"1"}}"#))[0].instrument.market;
    assert_eq!(["ODDUSDM", "XBTUSDTM", "XBTUSDCM"].map(&mut market), [Market::Linear; 3]);
    assert_eq!(["XBTUSDM", "XBTMZ26", "SOMETHING"].map(&mut market), [Market::Inverse; 3]);
}

#[test]
fn a_countdown_is_no_time() {
    let row = r#"[{"symbol":"X","type":"FFWCSX","baseCurrency":"X","quoteCurrency":"USDT","settleCurrency":"USDT","fundingFeeRate":5.2E-5,"nextFundingRateTime":21031525}]"#;
    let events = get(&mut feed(Market::Linear), "/api/v1/contracts/active", row);
    let Some(Body::Funding(funding)) = events.first().map(|event| &event.body) else { panic!("{events:?}") };
    assert_eq!((funding.rate.as_ref().unwrap().to_string().as_str(), funding.next_time), ("0.000052", None));
}

#[test]
fn minutes_are_intervals() {
    let mut feed = feed(Market::Linear);
    let mut interval = |minutes: &str| {
        let target = format!("/api/v1/kline/query?symbol=X&granularity={minutes}");
        let Body::Candle(candle) = &get(&mut feed, &target, "[[1714824000000,1,1,1,1,1]]")[0].body else { panic!("no candle") };
        candle.interval.to_string()
    };
    assert_eq!(["1", "240", "1440", "10080"].map(&mut interval), ["1m", "4h", "1d", "1w"]);
}

#[test]
fn answers_are_told_apart() {
    for alive in [r#"{"id":"x","type":"welcome"}"#, r#"{"sessionId":"s","message":"welcome","pingInterval":18000}"#, r#"{"type":"pong","id":"0","ts":1}"#] {
        assert_eq!(controls(alive), [Control::Alive]);
    }
    assert_eq!(controls(r#"{"id":"12","result":true}"#), [Control::Ack { id: Some(12) }]);
    assert_eq!(controls(r#"{"id":"12","type":"ack"}"#), [Control::Ack { id: Some(12) }]);
    let rejected = |reason: &str| [Control::Rejected { id: Some(3), topic: None, reason: reason.into() }];
    assert_eq!(controls(r#"{"id":"3","result":false,"message":"no"}"#), rejected("no"));
    assert_eq!(controls(r#"{"id":"3","type":"error","code":404,"data":"topic /x is not found"}"#), rejected("code 404: topic /x is not found"));
}
