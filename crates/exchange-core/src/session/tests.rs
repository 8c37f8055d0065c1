//! A connection's life against a toy venue, on a clock that jumps to where the session wants to be woken.

mod books;
mod changing;
mod subscribing;

use serde_json::{Value, json};

use super::subscriptions::ACK_TIMEOUT;
use super::*;
use crate::decimal::Decimal;
use crate::error::DecodeError;
use crate::event::{Book, BookKind, GapReason, Trade};
use crate::exchange::{Decoder, Exchange, Input, Out};
use crate::profile::Profile;

/// A venue whose frames say in plain JSON what they are.
struct Toy;

impl Exchange for Toy {
    fn policy(&self) -> &'static str {
        r#"
        name = "toy"
        title = "Toy"
        docs = "none"
        [markets.linear]
        rest = "http://toy"
        ws = "ws://toy"
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
        name = "depth"
        path = "/depth"
        query = "symbol={symbol}"
        markets = ["linear"]
        channels = ["book"]
        limit = "all"
        "#
    }

    fn subscribe(&self, op: Op, topics: &[&Topic], id: u64, _: Time) -> String {
        let topics: Vec<&str> = topics.iter().map(|topic| topic.name.as_str()).collect();
        json!({"id": id, "on": op == Op::Subscribe, "topics": topics}).to_string()
    }

    fn decoder(&self, _: Market) -> Box<dyn Decoder> {
        Box::new(decode)
    }
}

fn decode(input: &Input<'_>, out: &mut Out<'_>) -> Result<(), DecodeError> {
    let frame: Value = serde_json::from_slice(input.payload).map_err(DecodeError::malformed)?;
    let number = |key: &str| frame[key].as_u64();
    match frame["is"].as_str() {
        Some("ack") if frame["topic"].is_string() => {
            out.control(Control::AckTopic { id: number("id"), topic: frame["topic"].as_str().unwrap().into() });
        }
        Some("ack") if frame["only"].is_array() => {
            let topics = frame["only"].as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().into()).collect();
            out.control(Control::AckOnly { id: number("id"), topics });
        }
        Some("ack") => out.control(Control::Ack { id: number("id") }),
        Some("no") => out.control(Control::Rejected { id: number("id"), topic: frame["topic"].as_str().map(Into::into), reason: "no".into() }),
        Some("pong") => out.control(Control::Alive),
        Some("bye") => out.control(Control::Closing),
        Some("trade") => {
            let instrument = out.instrument(input.market, "A");
            let trade = Trade { trade_id: number("id").map(Into::into), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
            out.emit(&instrument, None, Body::Trade(trade));
        }
        Some(kind) => {
            let kind = if kind == "snapshot" { BookKind::Snapshot } else { BookKind::Delta };
            let instrument = out.instrument(input.market, frame["of"].as_str().unwrap_or_default());
            let book =
                Book { kind, bids: Vec::new(), asks: Vec::new(), seq: number("seq").map(Into::into), prev_seq: number("prev").map(Into::into), checksum: None };
            out.emit(&instrument, None, Body::Book(book));
        }
        None => return Err(DecodeError::malformed("what is it?")),
    }
    Ok(())
}

/// What the session sent.
#[derive(Debug, Clone, PartialEq)]
struct Sent {
    at: Time,
    id: u64,
    on: bool,
    topics: Vec<String>,
}

/// A session, its shell and its venue.
struct Net {
    session: Session,
    now: Time,
    sent: Vec<Sent>,
    pings: Vec<(Time, String)>,
    fetched: Vec<(Time, String)>,
    events: Vec<Event>,
}

const START: Time = Time::from_millis(1_763_640_000_000);

/// A fetched book.
fn snapshot(seq: u64) -> Answer {
    Answer::Given { seq: Some(seq), evidence: Evidence::default() }
}

fn instrument(name: &str) -> Arc<Instrument> {
    Arc::new(Instrument::named(&"toy".into(), Market::Linear, name, None))
}

fn topic(name: &str, channels: &[Channel], of: Option<&str>) -> Topic {
    Topic { name: name.into(), market: Market::Linear, ws_path: String::new(), channels: channels.to_vec(), instrument: of.map(instrument), stream: 0 }
}

fn shared(topics: Vec<Topic>) -> Vec<Arc<Topic>> {
    topics.into_iter().map(Arc::new).collect()
}

fn books(names: &[&str]) -> Vec<Topic> {
    names.iter().map(|name| topic(&format!("book.{name}"), &[Channel::Book], Some(name))).collect()
}

fn venue(change: impl FnOnce(&mut Profile)) -> Venue {
    let mut profile = Profile::parse(Toy.policy()).unwrap();
    change(&mut profile);
    Venue::new(&Toy, profile)
}

#[expect(clippy::disallowed_methods, reason = "any instant will do")]
fn chance() -> (u64, Instant) {
    (1, Instant::now())
}

impl Net {
    /// An open connection.
    fn open(topics: Vec<Topic>, change: impl FnOnce(&mut Profile)) -> Self {
        let session = Session::new(venue(change), Market::Linear, "ws://toy", shared(topics), chance());
        let mut net = Self { session, now: START, sent: Vec::new(), pings: Vec::new(), fetched: Vec::new(), events: Vec::new() };
        net.happens(Happened::Opened { received: START });
        net
    }

    /// An open connection whose topics are all acknowledged.
    fn ready(topics: Vec<Topic>, change: impl FnOnce(&mut Profile)) -> Self {
        let mut net = Self::open(topics, change);
        net.acknowledge();
        net.sent.clear();
        net
    }

    fn happens(&mut self, happened: Happened<'_>) {
        let mut turn = Turn::default();
        self.session.handle(self.now, happened, &mut turn);
        self.carried_out(turn);
    }

    fn carried_out(&mut self, mut turn: Turn) {
        for frame in turn.send {
            match serde_json::from_str::<Value>(&frame) {
                Ok(said) if said["topics"].is_array() => {
                    let topics = said["topics"].as_array().unwrap().iter().map(|topic| topic.as_str().unwrap().to_owned()).collect();
                    self.sent.push(Sent { at: self.now, id: said["id"].as_u64().unwrap(), on: said["on"] == true, topics });
                }
                _ => self.pings.push((self.now, frame)),
            }
        }
        self.fetched.extend(turn.ask.into_iter().map(|query| (self.now, query.request.target)));
        self.events.append(&mut turn.events);
        assert!(turn.controls.is_empty() && turn.resync.is_empty(), "the session sees to these itself");
    }

    #[expect(clippy::needless_pass_by_value, reason = "written as a literal")]
    fn frame(&mut self, frame: Value) {
        self.happens(Happened::Frame { received: self.now, payload: frame.to_string().as_bytes() });
    }

    /// Jumps to where the session wants to be woken, or to `limit` if that is earlier.
    fn wake(&mut self, limit: Time) {
        let at = self.session.wake_at();
        self.now = self.now.max(at.min(limit));
        if at <= self.now {
            self.happens(Happened::Woken);
        }
    }

    /// Lets time pass while the venue says nothing but "here I am".
    fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        while self.now < end && self.session.close().is_none() {
            self.wake(end.min(self.now + 5 * SECOND));
            self.happens(Happened::Pulse);
        }
    }

    /// Answers everything that was sent and will be sent, by `answer`.
    fn answer(&mut self, answer: impl Fn(&Sent) -> Value) {
        let mut answered = 0;
        for _ in 0..1000 {
            while let Some(sent) = self.sent.get(answered).cloned() {
                answered += 1;
                self.frame(answer(&sent));
            }
            if self.session.is_served() {
                return;
            }
            self.wake(Time::MAX);
        }
        panic!("there is no end to it: {:?}", self.sent);
    }

    fn acknowledge(&mut self) {
        self.answer(|sent| json!({"is": "ack", "id": sent.id}));
    }

    /// The topics that are subscribed to, if the venue does as it is told.
    fn subscribed(&self) -> Vec<&str> {
        let mut on: Vec<&str> = Vec::new();
        for sent in &self.sent {
            on.retain(|known| !sent.topics.iter().any(|topic| topic == known));
            if sent.on {
                on.extend(sent.topics.iter().map(String::as_str));
            }
        }
        on.sort_unstable();
        on
    }

    fn want(&mut self, topics: Vec<Topic>) {
        let mut turn = Turn::default();
        self.session.want(self.now, shared(topics), &mut turn);
        self.carried_out(turn);
    }

    fn said(&self) -> Vec<(bool, &[String])> {
        self.sent.iter().map(|sent| (sent.on, sent.topics.as_slice())).collect()
    }
}

fn many(count: usize) -> Vec<Topic> {
    (0..count).map(|n| topic(&format!("t{n:02}"), &[Channel::Trade], Some(&format!("S{n:02}")))).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn a_connection_begins_with_its_greeting() {
    let mut net = Net::open(many(1), |profile| {
        profile.ws.hello = vec!["{\"hello\":{time}}".into()];
        let surface = profile.markets.get_mut(&Market::Linear).unwrap();
        surface.vars.insert("who".into(), crate::profile::Values::One("toy".into()));
        surface.ws_policy.ping = Some(crate::profile::Ping { every: 8 * SECOND, text: Some("{who} {time}".into()) });
    });
    net.acknowledge();
    net.pass(10 * SECOND);
    let said: Vec<&str> = net.pings.iter().map(|(_, frame)| frame.as_str()).collect();
    assert_eq!(said, ["{\"hello\":1763640000}", "toy 1763640008"]);
    assert_eq!(net.sent.len(), 1);
}

#[test]
fn pings_go_out_on_time() {
    for (text, frame) in [(Some("ping"), "ping"), (None, "")] {
        let mut net = Net::ready(many(1), |profile| profile.ws.ping = Some(crate::profile::Ping { every: 8 * SECOND, text: text.map(Into::into) }));
        net.pass(Duration::from_mins(1));
        let times: Vec<u64> = net.pings.iter().map(|(at, _)| at.since(START).as_secs()).collect();
        assert_eq!(times, [8, 16, 24, 32, 40, 48, 56]);
        assert!(net.pings.iter().all(|(_, sent)| sent == frame));
    }
}

#[test]
fn a_busy_connection_still_pings() {
    let mut net = Net::ready(many(1), |profile| profile.ws.ping = Some(crate::profile::Ping { every: 8 * SECOND, text: Some("ping".into()) }));
    for n in 0..60_000 {
        net.now = net.now + Duration::from_millis(1);
        net.frame(json!({"is": "trade", "id": n}));
        if net.session.wake_at() <= net.now {
            net.happens(Happened::Woken);
        }
    }
    assert_eq!(net.pings.len(), 7);
    assert_eq!(net.events.len(), 60_000);
    assert_eq!(net.session.close(), None);
}

#[test]
fn pings_count_for_the_pace_and_go_first() {
    let mut net = Net::open(many(60), |profile| profile.ws.ping = Some(crate::profile::Ping { every: SECOND, text: Some("ping".into()) }));
    net.pass(10 * SECOND);
    assert!(net.pings.len() >= 7, "{:?}", net.pings);
    let mut times: Vec<Time> = net.sent.iter().map(|sent| sent.at).chain(net.pings.iter().map(|(at, _)| *at)).collect();
    times.sort_unstable();
    assert!(times.windows(3).all(|three| three[2].since(three[0]) >= SECOND), "never three in a second");
}

#[test]
fn silence_closes_and_any_sign_of_life_does_not() {
    let mut net = Net::ready(many(1), |_| ());
    net.pass(Duration::from_mins(5));
    assert_eq!(net.session.close(), None, "the venue's own pings are a sign of life");
    let last = net.now;
    while net.session.close().is_none() {
        net.wake(Time::MAX);
    }
    assert_eq!((net.session.close(), net.now.since(last)), (Some(Close::Silent), 30 * SECOND));
}

#[test]
fn it_closes_before_the_venue_does() {
    let life = Duration::from_hours(24);
    let mut net = Net::ready(many(1), |profile| profile.ws.life = Some(life));
    net.pass(2 * life);
    assert_eq!(net.session.close(), Some(Close::Expected));
    assert!(net.now.since(START) < life && net.now.since(START) > life * 9 / 10);

    let mut net = Net::ready(many(1), |_| ());
    net.frame(json!({"is": "bye"}));
    assert_eq!(net.session.close(), Some(Close::Expected), "the venue says so");
}

fn by_stream(profile: &mut Profile) {
    profile.book.continuity = crate::profile::Continuity::Increment;
}

fn by_rest(profile: &mut Profile) {
    profile.book.continuity = crate::profile::Continuity::PrevSeq;
    profile.book.snapshot = SnapshotFrom::Rest;
}

/// A message of book `of` that follows the number before its own.
fn delta(of: &str, seq: u64) -> Value {
    json!({"is": "delta", "of": of, "seq": seq, "prev": seq - 1})
}

fn gaps(events: &[Event]) -> Vec<(&str, GapReason)> {
    events.iter().filter_map(|event| if let Body::Gap(gap) = &event.body { Some((&*event.instrument.venue_symbol, gap.reason)) } else { None }).collect()
}

#[test]
fn a_loss_is_one_gap_for_each_channel_and_instrument() {
    let topics = vec![
        topic("all", &[Channel::Mark, Channel::Funding], None),
        topic("a", &[Channel::Ticker, Channel::Trade], Some("A")),
        // Another topic of the same channel, as where one carries best prices and another the rest.
        topic("a2", &[Channel::Ticker], Some("A")),
        topic("refused", &[Channel::Ticker], Some("B")),
    ];
    let mut net = Net::open(topics, |_| ());
    let mut events = Vec::new();
    net.session.lost(net.now, &mut events);
    assert!(events.is_empty(), "nothing was ever received: nothing is known to be missing");

    net.answer(|sent| {
        let is = if sent.topics.iter().any(|topic| topic == "refused") { "no" } else { "ack" };
        json!({"is": is, "id": sent.id, "topic": "refused"})
    });
    net.pass(10 * SECOND);
    net.frame(json!({"is": "trade", "id": 1}));
    let last = net.now;
    net.now = net.now + 5 * SECOND;
    net.session.lost(net.now, &mut events);
    let told: Vec<(&str, Channel)> = events
        .iter()
        .map(|event| match &event.body {
            Body::Gap(gap) => {
                // What was not heard of since it was begun may have been missed since then.
                let from = if gap.channel == Channel::Trade { last } else { START };
                assert_eq!((gap.reason, gap.from.as_ref(), event.received), (GapReason::Disconnect, Some(&Ident::from(from.micros().unsigned_abs())), net.now));
                (&*event.instrument.venue_symbol, gap.channel)
            }
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(told, [("*", Channel::Mark), ("*", Channel::Funding), ("A", Channel::Ticker), ("A", Channel::Trade)]);
}

/// Whatever the venue does or leaves undone, a session that was woken when it asked to be wants to be woken later next
/// time: it cannot keep a shell busy.
#[test]
fn time_always_moves_on() {
    for seed in 0..8 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let fetched = seed % 2 == 0;
        let (short_lived, pings) = (rng.bool(), rng.bool());
        let change = |profile: &mut Profile| {
            if fetched {
                by_rest(profile);
            } else {
                by_stream(profile);
            }
            profile.ws.life = short_lived.then(|| Duration::from_hours(1));
            profile.ws.ping = pings.then(|| crate::profile::Ping { every: 7 * SECOND, text: None });
        };
        let topics = books(&["A", "B", "C", "D", "E", "F", "G"]);
        let mut net = Net::open(topics.clone(), change);
        let mut seq = 10;
        let mut answered = 0;
        for step in 0..10_000 {
            if net.session.close().is_some() {
                net.session = Session::new(venue(change), Market::Linear, "ws://toy", shared(topics.clone()), chance());
                net.happens(Happened::Opened { received: START });
            }
            let before = net.now;
            net.wake(Time::MAX);
            if net.session.close().is_none() {
                assert!(net.session.wake_at() > net.now, "seed {seed}, step {step}: woken at {before}, and wants to be woken at {}", net.session.wake_at());
            }
            while let Some(sent) = net.sent.get(answered).cloned() {
                answered += 1;
                match rng.u8(0..4) {
                    0 => net.frame(json!({"is": "no", "id": sent.id})),
                    1 => net.frame(json!({"is": "ack", "id": sent.id})),
                    _ => {}
                }
            }
            match rng.u8(0..8) {
                0 => net.happens(Happened::Pulse),
                1..=4 => {
                    seq += rng.u64(0..3);
                    let book = ["A", "B", "C"][rng.usize(0..3)];
                    net.frame(if rng.u8(0..5) == 0 { json!({"is": "snapshot", "of": book, "seq": seq}) } else { delta(book, seq) });
                }
                5 => net.session.answered(net.now, Channel::Book, &instrument("A"), true, snapshot(rng.u64(0..seq))),
                6 => net.session.answered(net.now, Channel::Book, &instrument("B"), true, Answer::Failed),
                _ => {}
            }
        }
        assert!(net.now > START + Duration::from_mins(20), "seed {seed}: only {:?} passed", net.now.since(START));
    }
}

/// A stream that promises something every two seconds.
fn promising(profile: &mut Profile) {
    profile.stream = vec![toml::from_str("topic = \"t{symbol}\"\nmarkets = []\nchannels = []\ncadence = \"2s\"").unwrap()];
}

#[test]
fn a_topic_that_breaks_its_promise_is_begun_anew_alone() {
    let topics = vec![topic("a", &[Channel::Quote], Some("A")), topic("b", &[Channel::Trade], Some("A"))];
    let mut net = Net::ready(topics, promising);
    let began = net.now;
    for _ in 0..50 {
        net.pass(Duration::from_millis(100));
        net.frame(json!({"is": "trade", "id": 1}));
    }
    let first: Vec<_> = net.sent.iter().map(|sent| (sent.on, sent.topics.clone())).collect();
    assert_eq!(first[..2], [(false, vec!["a".to_owned()]), (true, vec!["a".to_owned()])]);
    assert!(net.sent[0].at.since(began) <= 5 * SECOND, "within twice what was promised: {:?}", net.sent[0].at.since(began));
    let gap = net
        .events
        .iter()
        .find_map(|event| if let Body::Gap(gap) = &event.body { Some((event.instrument.venue_symbol.to_string(), gap.channel)) } else { None });
    assert_eq!(gap, Some(("A".to_owned(), Channel::Quote)));
    assert_eq!((net.session.close(), net.session.stale()), (None, 1));
    assert!(net.sent.iter().all(|sent| sent.topics == ["a"]), "the other one is fine");
    net.pass(Duration::from_mins(3));
    assert_eq!(net.session.close(), Some(Close::Stale), "what begins anew and stays silent costs the connection");
}
