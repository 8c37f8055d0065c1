//! Topics that come and go while the connection lives.

use super::*;

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
