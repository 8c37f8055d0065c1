//! Books that break and begin anew.

use super::*;

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
