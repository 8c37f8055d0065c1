//! Events with made-up contents, and what goes out of them.

use super::*;
use crate::decimal::Decimal;
use crate::event::{self, DecodeFailure, EventId, Gap, GapReason, Ticker, Trade};
use crate::ledger::{Account, Hour};

fn event(body: Body, received: i64, time: Option<i64>) -> Event {
    let instrument = Arc::new(Instrument::named(&"x".into(), Market::Linear, "A", None));
    Event::new(instrument, Time::from_micros(received), time.map(Time::from_micros), body)
}

fn ticker(last: i64, received: i64, time: Option<i64>) -> Event {
    event(Body::Ticker(Ticker { last: Some(Decimal::from(last)), ..Ticker::default() }), received, time)
}

fn trade(id: u64) -> Event {
    let trade = Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
    event(Body::Trade(trade), 1, Some(1))
}

fn pass(pipeline: &mut Pipeline, events: impl IntoIterator<Item = Event>) -> usize {
    let mut events: Vec<Event> = events.into_iter().collect();
    pipeline.process(&mut events);
    assert!(events.iter().all(|event| event.id != EventId::NONE));
    events.len()
}

#[test]
fn passes_on_news_once() {
    let mut pipeline = Pipeline::new("x", Arc::new(Everything), false, false);
    assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), ticker(1, 2, None), ticker(2, 3, None), ticker(1, 4, None)]), 3);
    assert_eq!(pass(&mut pipeline, [trade(1), trade(2), trade(1)]), 2);
    let counts = pipeline.counts();
    assert_eq!((counts.events, counts.unchanged, counts.duplicates), (5, 1, 1));
    assert_eq!(counts.by_channel[Channel::Trade.index()], 2);
}

#[test]
fn all_events_still_sends_an_id_once() {
    let mut pipeline = Pipeline::new("x", Arc::new(Everything), true, false);
    assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), ticker(1, 2, None)]), 2, "without a time of its own");
    assert_eq!(pass(&mut pipeline, [ticker(1, 3, Some(9)), ticker(1, 4, Some(9))]), 1);
}

#[test]
fn leaves_out_what_was_not_asked_for() {
    struct Tickers;
    impl Wanted for Tickers {
        fn wants(&self, channel: Channel, _: &Instrument) -> bool {
            channel == Channel::Ticker
        }
    }
    let mut pipeline = Pipeline::new("x", Arc::new(Tickers), false, false);
    let mark = event(Body::Mark(event::Mark { mark: Some(Decimal::ONE), ..event::Mark::default() }), 1, None);
    assert_eq!(pass(&mut pipeline, [ticker(1, 1, None), mark, trade(1)]), 1);
}

#[test]
fn the_ledger_says_what_became_of_everything() {
    struct NoTrades;
    impl Wanted for NoTrades {
        fn wants(&self, channel: Channel, _: &Instrument) -> bool {
            channel != Channel::Trade
        }
    }
    let hour = 3_600_000_000;
    let mut pipeline = Pipeline::new("x", Arc::new(NoTrades), false, false);
    pipeline.keep_ledger();
    let gap = Gap { channel: Channel::Book, reason: GapReason::Sequence, from: None, to: None };
    let failure = || Body::DecodeError(Box::new(DecodeFailure { reason: "malformed: x".into(), excerpt: String::new() }));
    pass(
        &mut pipeline,
        [
            ticker(1, 1, None),
            ticker(1, 2, None),
            trade(1),
            // Across the hour, in the order in which two connections may bring it.
            ticker(2, hour, None),
            ticker(3, hour - 1, None),
            event(Body::Gap(Box::new(gap)), 3, None),
            event(failure(), 4, None),
            event(failure(), 4, None),
        ],
    );
    pipeline.skipped(&Skipped { received: Time::from_micros(5), market: Market::Linear, channels: &[Channel::Ticker, Channel::Mark], records: 3 });

    let mut account = Account::default();
    account.add_entries(pipeline.take_ledger());
    assert_eq!(account.differences(false), []);
    let counts = pipeline.counts();
    let sum = |of: fn(&Entry) -> u64| account.entries.values().map(of).sum::<u64>();
    assert_eq!(sum(|e| e.passed), counts.events);
    assert_eq!(sum(|e| e.unchanged + e.passed_over), counts.unchanged);
    assert_eq!((sum(|e| e.duplicate), sum(|e| e.gaps), sum(|e| e.undecodable)), (counts.duplicates, counts.gaps, 2));
    let entry = |name: &str, kind: &str, at| {
        let key = Key { hour: Hour::of(Time::from_micros(at)), venue: "x".into(), kind: Kind::parse(kind).unwrap(), market: Market::Linear, name: name.into() };
        account.entries[&key]
    };
    assert_eq!(entry("A", "ticker", 0), Entry { received: 3, decoded: 3, unchanged: 1, passed: 2, ..Entry::default() });
    assert_eq!(entry("A", "ticker", hour), Entry { received: 1, decoded: 1, passed: 1, ..Entry::default() });
    assert_eq!(entry("A", "trade", 0), Entry { received: 1, decoded: 1, not_asked: 1, ..Entry::default() });
    assert_eq!(entry("A", "gap", 0), Entry { made: 1, passed: 1, ..Entry::default() });
    assert_eq!(entry("A", "book", 0), Entry { gaps: 1, ..Entry::default() });
    assert_eq!(entry("A", "decode_error", 0), Entry { received: 2, undecodable: 2, made: 2, passed: 1, duplicate: 1, ..Entry::default() });
    assert_eq!(entry("*", "mark", 0), Entry { received: 3, passed_over: 3, ..Entry::default() });
    assert!(pipeline.take_ledger().is_empty());
}

#[test]
fn made_up_names_do_not_fill_the_memory() {
    let mut pipeline = Pipeline::new("x", Arc::new(Everything), true, false);
    pipeline.keep_ledger();
    let mut account = Account::default();
    for n in 0..6 {
        let named = |m: usize| Arc::new(Instrument::named(&"x".into(), Market::Linear, &format!("{n}-{m}"), None));
        let mut events: Vec<Event> = (0..MOST_INSTRUMENTS / 4).map(|m| Event { instrument: named(m), ..ticker(1, 1, None) }).collect();
        pipeline.process(&mut events);
        assert!(pipeline.asked[Market::Linear.index()].len() <= MOST_INSTRUMENTS * 5 / 4);
        account.add_entries(pipeline.take_ledger());
    }
    assert_eq!((account.differences(false), account.entries.len()), (Vec::new(), 6 * (MOST_INSTRUMENTS / 4)));
}
