//! What fixtures cannot show: made-up messages, and units held against each other.

use exchange_core::{Event, Feed, Venue};

use super::*;
use crate::mexc::Mexc;
use crate::testing;

const NOW: Time = Time::from_millis(1_785_542_400_000);

fn venue() -> Venue {
    testing::venue(&Mexc)
}

fn get(venue: &Venue, path: &str, payload: &str) -> Vec<Event> {
    let url = format!("https://contract.mexc.com/api/v1/contract{path}");
    testing::answer(&mut Feed::new(venue.clone(), Market::Linear), NOW, &url, None, payload).events
}

fn controls(market: Market, payload: &str) -> Vec<Control> {
    testing::frame(&mut Feed::new(venue(), market), NOW, "wss://x/ws", payload).controls
}

const DETAIL: &str = r#"{"success":true,"code":0,"data":[
    {"symbol":"BTC_USDT","baseCoin":"BTC","quoteCoin":"USDT","settleCoin":"USDT","contractSize":0.0001,"state":0},
    {"symbol":"BTC_USD","baseCoin":"BTC","quoteCoin":"USD","settleCoin":"BTC","contractSize":100,"state":0}]}"#;

/// The venue sends no open interest in dollars. What was traded, it sends in both units: the documents' own sample
/// agrees with itself within 1 % if contracts are counted so, and open interest is counted as trades are.
#[test]
fn contracts_are_worth_what_their_size_says() {
    let venue = venue();
    get(&venue, "/detail", DETAIL);
    let sample = r#"{"success":true,"code":0,"data":[
        {"symbol":"BTC_USDT","lastPrice":31199,"volume24":40146908,"amount24":124905007.4428,"holdVol":55102960,"fairPrice":31199.5},
        {"symbol":"BTC_USD","lastPrice":31199,"holdVol":623990,"fairPrice":31199.5}]}"#;
    let mut events = get(&venue, "/ticker", sample);
    events.iter_mut().for_each(Event::derive_base_sizes);
    let number = |decimal: &Decimal| decimal.to_string().parse::<f64>().unwrap();
    let held = |event: &Event| match &event.body {
        Body::OpenInterest(OpenInterest { value: Some(value), value_base: Some(base), .. }) => Some((value.to_string(), number(base))),
        _ => None,
    };
    let held: Vec<_> = events.iter().filter_map(held).collect();
    assert_eq!(held, [("55102960".to_owned(), 5510.296), ("623990".to_owned(), 2000.0)]);
    let Body::Ticker(ticker) = &events[0].body else { panic!("{events:?}") };
    let traded = events[0].instrument.base_size(ticker.volume_24h.as_ref().unwrap(), None).unwrap();
    let (here, theirs) = (number(&traded) * 31199.0, number(ticker.turnover_24h.as_ref().unwrap()));
    assert!((here / theirs - 1.0).abs() < 0.01, "{here} {theirs}");
}

#[test]
fn what_the_venue_lists_decides_the_market_before_the_name_does() {
    let venue = venue();
    let market = |venue: &Venue| get(venue, "/index_price/OIL_USD", r#"{"success":true,"code":0,"data":{"indexPrice":1}}"#)[0].instrument.market;
    assert_eq!(market(&venue), Market::Inverse);
    get(&venue, "/detail", r#"{"success":true,"data":{"symbol":"OIL_USD","baseCoin":"OIL","quoteCoin":"USD","settleCoin":"USD","contractSize":1,"state":0}}"#);
    assert_eq!(market(&venue), Market::Linear);
}

#[test]
fn an_address_names_its_contract() {
    for (url, name) in [
        ("https://x/api/v1/contract/depth/BTC_USDT?limit=5", "BTC_USDT"),
        ("https://x/api/v1/contract/depth_commits/BTC_USDT/1000", "BTC_USDT"),
        ("https://x/api/v1/contract/deals/%E5%B8%81_USDT", "币_USDT"),
        ("https://x/api/v1/contract/funding_rate/history?symbol=BTC_USD&page_num=1", "BTC_USD"),
    ] {
        assert_eq!(asked_for(url), name);
    }
}

#[test]
fn what_concerns_the_connection_is_no_event() {
    let topic = |name: &str| Control::AckTopic { id: None, topic: name.into() };
    let refused = |topic: Option<&str>, reason: &str| Control::Rejected { id: None, topic: topic.map(Into::into), reason: reason.into() };
    let spot = |words: &str| controls(Market::Spot, &format!(r#"{{"id":0,"code":0,"msg":"{words}"}}"#));
    assert_eq!(spot("spot@a@X,spot@b@X"), [topic("spot@a@X"), topic("spot@b@X")]);
    assert_eq!(spot("PONG"), [Control::Alive]);
    let blocked = "Not Subscribed successfully! [spot@a@X].  Reason： Blocked!";
    assert_eq!(spot(blocked), [refused(Some("spot@a@X"), blocked)]);
    assert_eq!(spot(&format!("spot@b@X,{blocked}")), [refused(Some("spot@a@X"), &format!("spot@b@X,{blocked}"))]);
    let contract = |payload: &str| controls(Market::Linear, payload);
    assert_eq!(contract(r#"{"channel":"rs.sub.deal","data":"success","ts":1}"#), [Control::Ack { id: None }]);
    assert_eq!(contract(r#"{"channel":"rs.error","data":"no","ts":1}"#), [refused(None, "no")]);
    assert_eq!(contract(r#"{"channel":"pong","data":1587453241453}"#), [Control::Alive]);
}
