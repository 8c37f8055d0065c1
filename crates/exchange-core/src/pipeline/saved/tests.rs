use super::*;
use crate::decimal::Decimal;
use crate::event::{Ticker, Trade};
use crate::pipeline::Everything;

fn pipeline() -> Pipeline {
    Pipeline::new("x", Arc::new(Everything), false, false)
}

fn event(body: Body, received: i64) -> Event {
    Event::new(Arc::new(Instrument::named(&"x".into(), Market::Linear, "A", Some("A/B"))), Time::from_micros(received), None, body)
}

fn trade(id: u64) -> Event {
    let trade = Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
    event(Body::Trade(trade), 1)
}

fn ticker(last: i64, received: i64) -> Event {
    event(Body::Ticker(Ticker { last: Some(Decimal::from(last)), ..Ticker::default() }), received)
}

fn pass(pipeline: &mut Pipeline, events: impl IntoIterator<Item = Event>) -> Vec<Event> {
    let mut events = events.into_iter().collect();
    pipeline.process(&mut events);
    events
}

#[test]
fn candles_have_their_place() {
    assert_eq!(Channel::parse("candle:1m").unwrap().index(), CANDLE);
}

#[test]
fn what_went_nowhere_is_news_when_it_comes_again() {
    let mut pipeline = pipeline();
    assert_eq!(pass(&mut pipeline, [trade(1), ticker(1, 1)]).len(), 2);
    let lost = pass(&mut pipeline, [trade(2), ticker(2, 2)]);
    assert_eq!(pass(&mut pipeline, [trade(1), trade(2), ticker(2, 3)]).len(), 0);
    let digest = pipeline.digests(Market::Linear);
    pipeline.forget(&lost);
    assert_eq!(pipeline.digests(Market::Linear), digest, "what the venue said is known all the same");
    let again = pass(&mut pipeline, [trade(1), trade(2), ticker(2, 4)]);
    assert_eq!(again.len(), 2);
    assert_eq!(again[0].id, lost[0].id);
    assert_eq!(pass(&mut pipeline, [trade(2), ticker(2, 5)]).len(), 0);
}

#[test]
fn a_restart_knows_what_went_out() {
    let mut before = pipeline();
    pass(&mut before, (0..70_000).map(trade));
    let mut after = pipeline();
    after.restore(&before.checkpoint()).unwrap();
    assert_eq!(pass(&mut after, (10_000..70_001).map(trade)).len(), 1);
    // What is told of states again is told once.
    assert_eq!(pass(&mut after, [ticker(1, 1), ticker(1, 2)]).len(), 1);
}

#[test]
fn a_checkpoint_that_is_not_whole_is_not_used() {
    let mut before = pipeline();
    pass(&mut before, (0..3).map(trade).chain([ticker(1, 1)]));
    let checkpoint = before.checkpoint();
    let untouched = |pipeline: &mut Pipeline| assert_eq!(pass(pipeline, (0..3).map(trade)).len(), 3);
    for length in 0..checkpoint.len() {
        let mut pipeline = pipeline();
        assert!(matches!(pipeline.restore(&checkpoint[..length]), Err(Unreadable::Damaged(_))), "{length}");
        untouched(&mut pipeline);
    }
    let text = |from: &str, to: &str| {
        let at = checkpoint.windows(from.len()).position(|window| window == from.as_bytes()).unwrap();
        [&checkpoint[..at], to.as_bytes(), &checkpoint[at + from.len()..]].concat()
    };
    let mut pipeline = pipeline();
    assert_eq!(pipeline.restore(&text("\"v\":1", "\"v\":2")), Err(Unreadable::Version(2)));
    assert_eq!(pipeline.restore(&text("\"x\"", "\"y\"")), Err(Unreadable::Damaged("it is of another venue".into())));
    untouched(&mut pipeline);
}
