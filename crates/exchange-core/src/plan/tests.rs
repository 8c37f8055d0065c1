//! Requests and topics of a made-up venue.

use super::*;

fn profile(range: &str) -> Profile {
    let text = r#"
        name = "toy"
        title = "Toy"
        docs = "none"
        [markets.linear]
        rest = "http://toy"
        ws = "ws://toy"
        vars = { most = "60" }
        [limits.all]
        budget = 100
        window = "1s"
        [ws]
        topics_per_frame = 3
        topics_per_connection = 100
        frames = { budget = 2, window = "1s" }
        connects = { budget = 1, window = "1s" }
        silence = "30s"
        [[endpoint]]
        name = "history"
        path = "/history"
        query = "symbol={symbol}&limit=3"
        markets = ["linear"]
        channels = ["trade"]
        limit = "all"
        range_cost = 7
    "#;
    Profile::parse(&format!("{text}\nrange = {range:?}")).unwrap()
}

fn ask(template: &str, range: Range) -> Request {
    let profile = profile(template);
    let instrument = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "币USDT", None));
    request_range(&profile, &profile.endpoint[0], Market::Linear, Channel::Trade, &instrument, &range)
}

#[test]
fn a_range_asks_for_what_is_wanted_and_leaves_out_the_rest() {
    let template = "from={since}&to={until}&limit={limit:..1000}&sort=a c";
    let all = Range { since: Some(Time::from_micros(1_500_001)), until: Some(Time::from_micros(2_500_999)), limit: Some(5000) };
    assert_eq!(ask(template, all).target, "/history?symbol=%E5%B8%81USDT&from=1501&to=2500&limit=1000&sort=a%20c");
    assert_eq!(ask(template, all).cost, 7);
    assert_eq!(ask("from={since_s}&to={until_s}", all).target, "/history?symbol=%E5%B8%81USDT&limit=3&from=2&to=2");
    let none = ask(template, Range::default());
    assert_eq!((none.target.as_str(), none.cost), ("/history?symbol=%E5%B8%81USDT&limit=3&sort=a%20c", 1));
    assert!(ask("from={after}&to={before}", all).target.ends_with("&from=1500&to=2501"), "bounds that are left out of the range");
}

#[test]
fn a_range_goes_into_a_body_if_there_is_one() {
    let mut profile = profile("req.from={since:500h}&req.to={until}&n={limit:..most}&sort=a c");
    let endpoint = &mut profile.endpoint[0];
    (endpoint.query, endpoint.body) = (String::new(), Some(r#"{"type":"t","req":{"coin":"{symbol}","from":{ago:2h},"to":{now}}}"#.into()));
    let instrument = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "币", None));
    let ask = |range: Range| {
        let request = request_range(&profile, &profile.endpoint[0], Market::Linear, Channel::Trade, &instrument, &range);
        let at = request.at(Time::from_millis(2_000_000_000));
        (at.target, serde_json::from_str::<serde_json::Value>(&at.body.unwrap()).unwrap(), at.cost)
    };
    let json = |from: i64, to: i64| serde_json::json!({"type": "t", "req": {"coin": "币", "from": from, "to": to}, "sort": "a c"});
    assert_eq!(ask(Range::default()), ("/history".into(), json(200_000_000, 2_000_000_000), 1));
    let range = Range { since: Some(Time::from_micros(1_500_001)), until: Some(Time::from_millis(2500)), limit: None };
    assert_eq!(ask(range), ("/history".into(), json(1501, 2500), 7));
    let (_, limited, _) = ask(Range { limit: Some(9), ..Range::default() });
    assert_eq!(limited["n"], 9);
}

#[test]
fn a_venue_that_wants_a_beginning_gets_one() {
    let mut profile = profile("from={since_s:100i}&to={until_s}");
    profile.intervals = [("1h".into(), "60".into())].into();
    let endpoint = &mut profile.endpoint[0];
    endpoint.query = "i={interval}&from={ago_s:10i}&to={now_s}".into();
    let candles = Channel::Candle(crate::time::Interval::new(1, 'h').unwrap());
    let instrument = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "A", None));
    let planned = request(&profile, &profile.endpoint[0], Market::Linear, candles, Some(&instrument));
    assert_eq!(planned.target, "/history?i=60&from={ago_s:36000s}&to={now_s}", "it does not change until it is sent");
    assert_eq!(planned.at(Time::from_millis(1_000_000_999)).target, "/history?i=60&from=964000&to=1000000");
    let asked = |since: Option<i64>, limit| {
        let range = Range { since: since.map(Time::from_millis), until: None, limit };
        request_range(&profile, &profile.endpoint[0], Market::Linear, candles, &instrument, &range).at(Time::from_millis(1_000_000_999)).target
    };
    assert_eq!(asked(None, Some(3)), "/history?i=60&to=1000000&from=989200");
    assert_eq!(asked(None, Some(5000)), "/history?i=60&to=1000000&from=640000");
    assert_eq!(asked(Some(7000), Some(5000)), "/history?i=60&to=1000000&from=7");
}

#[test]
fn a_limit_is_one_that_the_venue_takes() {
    let limit = |template: &str, limit| ask(template, Range { limit: Some(limit), ..Range::default() }).target.rsplit_once('=').unwrap().1.to_owned();
    let some = "limit={limit:5|10|50}";
    assert_eq!([1, 5, 6, 50, 51].map(|wanted| limit(some, wanted)), ["5", "5", "10", "50", "50"]);
    assert_eq!([0, 59, 60, 61].map(|wanted| limit("limit={limit:..most}", wanted)), ["1", "59", "60", "60"]);
    let most = |template: &str| most_records(&profile(template), &profile(template).endpoint[0], Market::Linear);
    assert_eq!([most(some), most("a={since}&n={limit:..most}"), most("a={since}")], [Some(50), Some(60), None]);
    let mut profile = profile("a={since}");
    profile.endpoint[0].range_most = Some(744);
    assert_eq!(most_records(&profile, &profile.endpoint[0], Market::Linear), Some(744));
}

#[test]
fn an_endpoint_may_have_words_of_its_own_for_intervals() {
    let mut profile = profile("");
    profile.intervals = [("1h".into(), "Min60".into()), ("8h".into(), "Hour8".into())].into();
    let candles = |hours| Channel::Candle(crate::time::Interval::new(hours, 'h').unwrap());
    let endpoint = &mut profile.endpoint[0];
    (endpoint.query, endpoint.channels) =
        ("i={interval}".into(), toml::from_str::<Stream>("topic = \"\"\nmarkets = []\nchannels = [\"candle\"]").unwrap().channels);
    let target = |profile: &Profile| request(profile, &profile.endpoint[0], Market::Linear, candles(1), None).target;
    assert_eq!(target(&profile), "/history?i=Min60");
    profile.endpoint[0].intervals = [("1h".into(), "60m".into())].into();
    assert_eq!(target(&profile), "/history?i=60m");
    assert!(profile.endpoint[0].serves(Market::Linear, candles(1)) && !profile.endpoint[0].serves(Market::Linear, candles(8)));
}

#[test]
fn a_variable_of_several_values_is_a_request_for_each() {
    let mut profile = profile("");
    let surface = profile.markets.get_mut(&Market::Linear).unwrap();
    surface.vars.insert("settle_lower".into(), crate::profile::Values::Any(vec!["usdt".into(), "usd1".into()]));
    profile.limits.get_mut("all").unwrap().per_endpoint = true;
    let endpoint = &mut profile.endpoint[0];
    (endpoint.path, endpoint.query) = ("/{settle_lower}/tickers".into(), String::new());
    let mut sweep = endpoint.clone();
    (sweep.name, sweep.query) = ("sweep".into(), "symbol={symbol}".into());
    profile.stream =
        vec![toml::from_str("topic = \"t.{settle_lower}\"\nws_path = \"/ws/{settle_lower}\"\nmarkets = [\"linear\"]\nchannels = [\"quote\"]").unwrap()];
    let targets: Vec<String> = requests(&profile, &profile.endpoint[0], Market::Linear, Channel::Trade).into_iter().map(|r| r.target).collect();
    assert_eq!(targets, ["/usdt/tickers", "/usd1/tickers"]);
    let details = crate::instrument::Details { settle: Some("USD1".into()), ..crate::instrument::Details::new(Kind::Perpetual, "A", "USD1", Status::Trading) };
    let known = Arc::new(Instrument::described(&"toy".into(), Market::Linear, "A_USD1", details));
    let unknown = Arc::new(Instrument::named(&"toy".into(), Market::Linear, "A_USD1", None));
    let of = |instrument| request(&profile, &sweep, Market::Linear, Channel::Trade, Some(instrument));
    assert_eq!([of(&known).target, of(&unknown).target], ["/usd1/tickers?symbol=A_USD1", "/usdt/tickers?symbol=A_USD1"]);
    assert_eq!(of(&known).limit, "all/sweep");
    let want = Want { market: Market::Linear, channels: &[Channel::Quote], mode: Mode::Stream, fallback: false, instruments: &[known] };
    let topics: Vec<(String, String)> = from_profile(&profile, &want).topics.into_iter().map(|topic| (topic.ws_path, topic.name)).collect();
    assert_eq!(topics, [("/ws/usdt".into(), "t.usdt".into()), ("/ws/usd1".into(), "t.usd1".into())]);
}
