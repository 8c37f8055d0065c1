//! Frames, acknowledgements and refusals.

use super::*;

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
