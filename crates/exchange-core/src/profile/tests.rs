//! A made-up `venue.toml`.

use super::*;

fn profile(rest: &str) -> Profile {
    let head = r#"
        name = "toy"
        title = "Toy"
        docs = "none"
        headers = { x-size = "1" }
        [markets.spot]
        rest = "https://spot.toy/"
        ws = "wss://toy"
        [markets.linear]
        rest = "https://linear.toy"
        ws = "wss://toy"
        vars = { settle_lower = ["usdt", "usd1"], most = "60" }
        ws_policy = { topics_per_connection = 30, silence = "9s" }
        [limits.each]
        budget = 100
        window = "1s"
        per_endpoint = true
        [ws]
        topics_per_frame = 3
        topics_per_connection = 100
        frames = { budget = 2, window = "1s" }
        connects = { budget = 1, window = "1s" }
        silence = "30s"
    "#;
    Profile::parse(&format!("{head}\n{rest}")).unwrap()
}

#[test]
fn a_surface_may_want_its_sockets_treated_otherwise() {
    let profile = profile("");
    let (spot, linear) = (profile.ws_of(Market::Spot), profile.ws_of(Market::Linear));
    assert_eq!(spot, profile.ws);
    assert_eq!((linear.topics_per_connection, linear.silence, linear.topics_per_frame), (30, Duration::from_secs(9), 3));
}

#[test]
fn one_path_is_told_apart_by_what_was_sent() {
    let endpoint = |name: &str, body: &str| {
        format!(
            "[[endpoint]]\nname = {name:?}\nmethod = \"POST\"\npath = \"/info\"\nbody = {body:?}\nmarkets = [\"spot\"]\nchannels = [\"book\"]\nlimit = \"each\"\n"
        )
    };
    let profile = profile(
        &[
            endpoint("dex", r#"{"type":"all","dex":"{dex}"}"#),
            endpoint("all", r#"{"type":"all"}"#),
            endpoint("book", r#"{"type":"book","req":{"coin":"{symbol}"}}"#),
        ]
        .concat(),
    );
    let named = |body| profile.endpoint_at(Market::Spot, Method::Post, "https://elsewhere/info", body).map(|endpoint| endpoint.name.as_str());
    assert_eq!(named(Some(r#"{ "dex": "x", "type": "all" }"#)), Some("dex"));
    assert_eq!(named(Some(r#"{"type":"all","more":1}"#)), Some("all"));
    assert_eq!(named(Some(r#"{"type":"book","req":{"coin":"A","n":1}}"#)), Some("book"));
    assert_eq!([named(Some(r#"{"type":"other"}"#)), named(Some("{")), named(None)], [None; 3]);
}

#[test]
fn a_symbol_in_a_path_is_any_part() {
    let profile =
        profile("[[endpoint]]\nname = \"deals\"\npath = \"/deals/{symbol}\"\nmarkets = [\"spot\"]\nchannels = [\"trade\"]\nlimit = \"each\"\nat = \"linear\"");
    let named = |url| profile.endpoint_at(Market::Spot, Method::Get, url, None).map(|endpoint| endpoint.name.as_str());
    assert_eq!([named("https://h/v1/deals/A_B?limit=1"), named("https://h/v1/deals"), named("https://h/deals/")], [Some("deals"), None, None]);
    assert_eq!([profile.host(Market::Spot, "deals"), profile.host(Market::Spot, "other")], ["https://linear.toy", "https://spot.toy"]);
}
