//! A connection's life against a toy venue, on a clock that jumps to where the session wants to be woken.

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
}

fn many(count: usize) -> Vec<Topic> {
    (0..count).map(|n| topic(&format!("t{n:02}"), &[Channel::Trade], Some(&format!("S{n:02}")))).collect()
}

const SECOND: Duration = Duration::from_secs(1);

#[test]
fn subscribing_is_cut_into_frames_and_paced() {
    let mut net = Net::open(many(20), |_| ());
    net.acknowledge();
    let sizes: Vec<usize> = net.sent.iter().map(|sent| sent.topics.len()).collect();
    assert_eq!(sizes, [3, 3, 3, 3, 3, 3, 2]);
    let all: Vec<String> = net.sent.iter().flat_map(|sent| sent.topics.clone()).collect();
    assert_eq!(all, many(20).into_iter().map(|topic| topic.name).collect::<Vec<_>>());
    for (at, sent) in net.sent.iter().enumerate() {
        let window = net.sent[..=at].iter().filter(|other| sent.at.since(other.at) < SECOND).count();
        assert!(window <= 2, "{window} frames in a second: {:?}", net.sent);
    }
    assert!(net.sent[6].at.since(START) < 4 * SECOND, "no slower than the venue asks for");
}

#[test]
fn an_acknowledged_frame_is_not_sent_again() {
    let mut net = Net::open(many(3), |_| ());
    net.acknowledge();
    net.pass(Duration::from_mins(10));
    assert_eq!(net.sent.len(), 1);
}

#[test]
fn an_acknowledgement_without_an_id_is_for_the_oldest_frame() {
    let mut net = Net::open(many(6), |_| ());
    net.frame(json!({"is": "ack"}));
    net.pass(ACK_TIMEOUT + SECOND);
    let topics: Vec<&[String]> = net.sent.iter().map(|sent| sent.topics.as_slice()).collect();
    assert_eq!(topics, [["t00", "t01", "t02"], ["t03", "t04", "t05"], ["t03", "t04", "t05"]]);
}

#[test]
fn a_frame_that_is_not_acknowledged_is_sent_again_and_given_up() {
    let mut net = Net::open(many(2), |_| ());
    net.pass(Duration::from_mins(10));
    let times: Vec<Duration> = net.sent.iter().map(|sent| sent.at.since(START)).collect();
    assert_eq!(times, [Duration::ZERO, ACK_TIMEOUT, 2 * ACK_TIMEOUT]);
    assert!(net.sent.iter().all(|sent| sent.topics == ["t00", "t01"]));
    let ids: Vec<u64> = net.sent.iter().map(|sent| sent.id).collect();
    assert_eq!(ids, [1, 2, 3], "an answer tells which one it is for");
    assert_eq!(net.session.refused(), 0);
}

#[test]
fn topics_that_are_acknowledged_one_by_one_are_asked_for_again_one_by_one() {
    let mut net = Net::open(many(3), |_| ());
    net.frame(json!({"is": "ack", "topic": "t02"}));
    net.frame(json!({"is": "ack", "id": 1, "topic": "t00"}));
    net.pass(ACK_TIMEOUT + SECOND);
    assert_eq!(net.sent.last().unwrap().topics, ["t01"]);
    net.frame(json!({"is": "ack", "topic": "t01"}));
    net.pass(Duration::from_mins(1));
    assert_eq!(net.sent.len(), 2);
}

#[test]
fn what_an_acknowledgement_leaves_out_was_refused() {
    for id in [json!(1), Value::Null] {
        let mut net = Net::open(many(3), |_| ());
        net.frame(json!({"is": "ack", "id": id, "only": ["t02", "t00"]}));
        net.pass(Duration::from_mins(1));
        assert_eq!((net.session.refused(), net.sent.len()), (1, 1));
    }
}

#[test]
fn a_frame_holds_topics_of_one_stream() {
    let mut topics = many(5);
    topics[3].stream = 1;
    topics[4].stream = 1;
    let mut net = Net::open(topics, |profile| {
        let stream = |most: usize| format!("topic = \"t{{symbol}}\"\nmarkets = []\nchannels = []\ntopics_per_frame = {most}");
        profile.stream = [stream(2), stream(1)].iter().map(|text| toml::from_str(text).unwrap()).collect();
    });
    net.acknowledge();
    let topics: Vec<&[String]> = net.sent.iter().map(|sent| sent.topics.as_slice()).collect();
    assert_eq!(topics, [&["t00", "t01"][..], &["t02"], &["t03"], &["t04"]]);
}

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
fn a_refusal_that_names_its_topic_costs_only_that() {
    let mut net = Net::open(many(6), |_| ());
    net.answer(|sent| match sent.topics.iter().find(|topic| *topic == "t01") {
        Some(guilty) => json!({"is": "no", "id": sent.id, "topic": guilty}),
        None => json!({"is": "ack", "id": sent.id}),
    });
    assert_eq!(net.session.refused(), 1);
    assert_eq!(net.sent.last().unwrap().topics, ["t00", "t02"]);
    assert_eq!(net.sent.len(), 3);
    assert!(matches!(&net.events[..], [Event { body: Body::DecodeError(_), .. }]), "a refusal is told");
}

#[test]
fn a_refusal_without_an_id_is_found_by_its_topic() {
    let mut net = Net::open(many(6), |_| ());
    net.frame(json!({"is": "no", "topic": "t04"}));
    assert_eq!(net.session.refused(), 1);
    net.wake(Time::MAX);
    assert_eq!(net.sent.last().unwrap().topics, ["t03", "t05"]);
}

#[test]
fn a_refusal_that_names_nothing_is_bisected() {
    for guilty in 0..8 {
        let guilty = format!("t{guilty:02}");
        let mut net = Net::open(many(8), |profile| profile.ws.topics_per_frame = 8);
        let accepted = std::cell::RefCell::new(Vec::new());
        net.answer(|sent| {
            if sent.topics.contains(&guilty) {
                return json!({"is": "no", "id": sent.id});
            }
            accepted.borrow_mut().extend(sent.topics.clone());
            json!({"is": "ack", "id": sent.id})
        });
        assert_eq!(net.session.refused(), 1);
        assert_eq!(net.sent.len(), 7, "eight, and twice its halves of four, two, one");
        let mut accepted = accepted.into_inner();
        accepted.sort_unstable();
        let innocent: Vec<String> = many(8).into_iter().map(|topic| topic.name).filter(|name| *name != guilty).collect();
        assert_eq!(accepted, innocent, "each once");
    }
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
fn a_broken_book_is_subscribed_to_anew_and_no_other() {
    let mut net = Net::ready(books(&["A", "B", "C"]), by_stream);
    for book in ["A", "B"] {
        net.frame(json!({"is": "snapshot", "of": book, "seq": 10}));
    }
    net.frame(delta("A", 11));
    net.frame(delta("B", 12));
    assert_eq!(gaps(&net.events), [("B", GapReason::Sequence)]);
    net.pass(2 * SECOND);
    let said: Vec<(bool, &[String])> = net.sent.iter().map(|sent| (sent.on, sent.topics.as_slice())).collect();
    assert_eq!(said, [(false, &["book.B".to_owned()][..]), (true, &["book.B".to_owned()][..])]);
    assert!(net.fetched.is_empty());
    net.acknowledge();
    net.frame(json!({"is": "snapshot", "of": "B", "seq": 20}));
    net.frame(delta("B", 21));
    assert_eq!((gaps(&net.events).len(), net.sent.len()), (1, 2), "it is whole again");
}

#[test]
fn a_broken_book_goes_before_topics_that_wait() {
    let mut topics = books(&["A"]);
    topics.extend(many(30));
    let mut net = Net::open(topics, by_stream);
    net.frame(json!({"is": "snapshot", "of": "A", "seq": 10}));
    net.frame(delta("A", 12));
    net.pass(2 * SECOND);
    let said: Vec<(bool, &str)> = net.sent.iter().skip(2).take(2).map(|sent| (sent.on, sent.topics[0].as_str())).collect();
    assert_eq!(said, [(false, "book.A"), (true, "book.A")]);
}

/// The end of a subscription that is asked for twice would end the one that began in between.
#[test]
fn an_unsubscription_is_not_repeated() {
    let mut net = Net::ready(books(&["A"]), by_stream);
    net.frame(json!({"is": "snapshot", "of": "A", "seq": 10}));
    net.frame(delta("A", 12));
    net.pass(2 * SECOND);
    let on = net.sent.iter().find(|sent| sent.on).unwrap().id;
    net.frame(json!({"is": "ack", "id": on}));
    net.pass(Duration::from_mins(5));
    assert_eq!(net.subscribed(), ["book.A"], "{:?}", net.sent);
}

#[test]
fn a_fetched_book_is_fetched_anew_at_a_pace() {
    let mut net = Net::ready(books(&["A", "B"]), by_rest);
    net.frame(delta("A", 10));
    assert_eq!(net.fetched, [(START, "/depth?symbol=A".to_owned())], "its first message asks for the snapshot");
    // A break every 100 ms, for ten seconds.
    let mut seq = 10;
    for _ in 0..100 {
        net.now = net.now + Duration::from_millis(100);
        seq += 2;
        net.frame(delta("A", seq));
        if net.session.wake_at() <= net.now {
            net.happens(Happened::Woken);
        }
    }
    assert_eq!(gaps(&net.events).len(), 100);
    // (About `B`, of which nothing comes, the venue is asked besides.)
    net.fetched.retain(|(_, target)| target.contains("symbol=A"));
    let times: Vec<Time> = net.fetched.iter().map(|(at, _)| *at).collect();
    assert!(times.windows(2).all(|two| two[1].since(two[0]) >= SECOND), "{times:?}");
    assert_eq!(times.len(), 11, "and no slower");
    assert!(net.fetched.iter().all(|(_, target)| target == "/depth?symbol=A"));
    assert!(net.sent.is_empty(), "the stream goes on");
}

#[test]
fn a_snapshot_that_is_too_old_is_asked_for_again() {
    let mut net = Net::ready(books(&["A"]), by_rest);
    net.frame(delta("A", 10));
    let book = instrument("A");
    net.session.answered(net.now, Channel::Book, &book, true, snapshot(8));
    net.pass(2 * SECOND);
    assert_eq!(net.fetched.len(), 2, "the stream began behind 9");
    net.session.answered(net.now, Channel::Book, &book, true, Answer::Failed);
    net.pass(4 * SECOND);
    assert_eq!(net.fetched.len(), 3, "nor is one that did not come given up");
    net.session.answered(net.now, Channel::Book, &book, true, snapshot(9));
    net.pass(20 * SECOND);
    assert_eq!(net.fetched.len(), 3, "it joins");
    net.pass(20 * SECOND);
    assert_eq!(net.fetched.len(), 4, "but is the stream alive?");
    net.session.answered(net.now, Channel::Book, &book, false, Answer::Failed);
    net.pass(15 * SECOND);
    assert_eq!(net.fetched.len(), 4, "that this is not known is no reason to fetch the book");
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

impl Net {
    fn want(&mut self, topics: Vec<Topic>) {
        let mut turn = Turn::default();
        self.session.want(self.now, shared(topics), &mut turn);
        self.carried_out(turn);
    }

    fn said(&self) -> Vec<(bool, &[String])> {
        self.sent.iter().map(|sent| (sent.on, sent.topics.as_slice())).collect()
    }
}

#[test]
fn topics_come_and_go_and_the_others_do_not_notice() {
    let mut net = Net::ready(many(5), |_| ());
    let mut now_wanted = many(7);
    now_wanted.remove(1);
    net.want(now_wanted.clone());
    net.acknowledge();
    assert_eq!(net.said(), [(false, &["t01".to_owned()][..]), (true, &["t05".to_owned(), "t06".to_owned()])]);
    net.want(now_wanted);
    net.pass(Duration::from_mins(10));
    assert_eq!(net.sent.len(), 2, "that is no news");
    assert_eq!(net.session.close(), None);

    net.frame(json!({"is": "trade", "id": 1}));
    let mut events = Vec::new();
    net.session.lost(net.now, &mut events);
    let told: Vec<&str> = events.iter().map(|event| &*event.instrument.venue_symbol).collect();
    assert_eq!(told, ["S00", "S02", "S03", "S04", "S05", "S06"], "nothing is missed of what nobody wants");
}

#[test]
fn what_comes_back_is_subscribed_to_again_even_if_it_was_refused() {
    let mut net = Net::open(many(3), |_| ());
    net.answer(|sent| match sent.topics.iter().find(|topic| *topic == "t01") {
        Some(guilty) => json!({"is": "no", "id": sent.id, "topic": guilty}),
        None => json!({"is": "ack", "id": sent.id}),
    });
    net.sent.clear();
    net.want(many(3));
    net.pass(SECOND);
    assert_eq!(net.said(), [], "a refusal holds as long as the topic is wanted");
    net.want(many(1));
    net.pass(SECOND);
    assert_eq!(net.said(), [(false, &["t02".to_owned()][..])], "what was refused needs no end");
    net.want(many(3));
    net.pass(SECOND);
    assert_eq!(net.said()[1..], [(true, &["t01".to_owned(), "t02".to_owned()][..])]);
}

#[test]
fn what_waits_to_be_subscribed_to_is_simply_left_out() {
    let mut net = Net::open(many(20), |_| ());
    assert_eq!(net.sent.len(), 2, "the pace allows no more yet");
    let wanted: Vec<Topic> = many(20).into_iter().filter(|topic| topic.name != "t00" && topic.name != "t07").collect();
    net.want(wanted);
    net.acknowledge();
    let ended: Vec<&String> = net.sent.iter().filter(|sent| !sent.on).flat_map(|sent| &sent.topics).collect();
    assert_eq!(ended, ["t00"], "t07 was never begun");
    assert!(!net.subscribed().contains(&"t07") && net.subscribed().len() == 18, "{:?}", net.subscribed());
}

/// Whatever happens to its topics and whatever the venue leaves unanswered, a session ends up with those that are wanted.
#[test]
fn in_the_end_there_is_what_is_wanted() {
    for seed in 0..50 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let all = books(&["A", "B", "C", "D", "E", "F", "G", "H"]);
        let mut net = Net::open(all.clone(), by_stream);
        let (mut wanted, mut answered, mut seq) = (all.clone(), 0, 10);
        for _ in 0..40 {
            if rng.u8(0..3) == 0 {
                wanted = all.iter().filter(|_| rng.bool()).cloned().collect();
                net.want(wanted.clone());
            }
            while let Some(id) = net.sent.get(answered).map(|sent| sent.id) {
                answered += 1;
                if rng.u8(0..4) > 0 {
                    net.frame(json!({"is": "ack", "id": id}));
                }
            }
            let of = ["A", "B"][rng.usize(0..2)];
            seq += rng.u64(1..3);
            net.frame(if rng.bool() { json!({"is": "snapshot", "of": of, "seq": seq}) } else { delta(of, seq) });
            net.pass(Duration::from_millis(rng.u64(1..2000)));
        }
        net.pass(Duration::from_mins(2));
        let names: Vec<&str> = wanted.iter().map(|topic| topic.name.as_str()).collect();
        assert_eq!(net.subscribed(), names, "seed {seed}: {:?}", net.sent);
    }
}

#[test]
fn a_book_that_nobody_wants_is_left_alone() {
    for change in [by_stream as fn(&mut Profile), by_rest] {
        let mut net = Net::ready(books(&["A", "B"]), change);
        net.frame(json!({"is": "snapshot", "of": "A", "seq": 10}));
        net.want(books(&["B"]));
        net.pass(SECOND);
        net.session.answered(net.now, Channel::Book, &instrument("A"), true, Answer::Failed);
        net.frame(delta("A", 20));
        net.pass(Duration::from_mins(1));
        assert_eq!(net.said(), [(false, &["book.A".to_owned()][..])]);
        assert_eq!((net.fetched.iter().filter(|(_, target)| target.ends_with('A')).count(), gaps(&net.events).len()), (0, 0));
        net.want(books(&["A", "B"]));
        net.acknowledge();
        net.frame(json!({"is": "snapshot", "of": "A", "seq": 30}));
        net.frame(delta("A", 31));
        assert!(gaps(&net.events).is_empty(), "it begins anew");
    }
}

#[test]
fn a_topic_that_is_gone_is_not_stale_and_one_that_came_is_watched() {
    let quotes = |names: &[&str]| names.iter().map(|name| topic(name, &[Channel::Quote], Some(name))).collect::<Vec<_>>();
    let mut net = Net::ready(quotes(&["A"]), promising);
    net.want(vec![Topic { stream: 1, ..topic("trades", &[Channel::Trade], None) }]);
    net.acknowledge();
    net.sent.clear();
    net.pass(Duration::from_mins(1));
    assert_eq!((net.said(), net.session.close(), net.session.stale()), (Vec::new(), None, 0));
    net.want(quotes(&["B"]));
    net.pass(10 * SECOND);
    assert!(net.said().contains(&(false, &["B".to_owned()])), "it breaks its promise: {:?}", net.said());
}
