//! Streams that speak, fall silent and come back, second by second.

use super::*;
use crate::decimal::Decimal;
use crate::event::{Body, Book, BookKind, Level, Trade};
use crate::instrument::Market;

const SECOND: Duration = Duration::from_secs(1);
const START: Time = Time::from_millis(1_763_640_000_000);

fn instrument() -> Arc<Instrument> {
    Arc::new(Instrument::named(&"toy".into(), Market::Linear, "A", None))
}

fn trade(at: Time) -> Event {
    let trade = Trade { trade_id: None, price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
    Event::new(instrument(), at, Some(at), Body::Trade(trade))
}

fn book(price: i64, seq: u64) -> Event {
    let bids = vec![Level { price: price.into(), size: Decimal::ONE }];
    let book = Book { kind: BookKind::Snapshot, bids, asks: Vec::new(), seq: Some(seq.into()), prev_seq: None, checksum: None };
    Event::new(instrument(), START, Some(START + Duration::from_secs(seq)), Body::Book(book))
}

fn watching(channel: Channel) -> Liveness {
    let mut liveness = Liveness::new();
    liveness.watch(0, channel, Some(instrument()), None, true);
    liveness.began(START, START, 0);
    liveness
}

/// Lets time pass second by second; what was found, and when.
fn pass(liveness: &mut Liveness, now: &mut Time, seconds: u64, mut rest: impl FnMut(Time) -> Option<Evidence>) -> Vec<(u64, Finding)> {
    let mut all = Vec::new();
    for _ in 0..seconds {
        *now = *now + SECOND;
        for finding in liveness.check(*now) {
            if let Finding::Ask(channel, instrument) = &finding {
                liveness.answered(*now, *channel, instrument, rest(*now));
            }
            all.push((now.since(START).as_secs(), finding));
        }
    }
    all
}

fn stale(found: &[(u64, Finding)]) -> Vec<u64> {
    found.iter().filter(|(_, finding)| matches!(finding, Finding::Stale { .. })).map(|(at, _)| *at).collect()
}

#[test]
fn a_market_that_trades_once_an_hour_is_quiet_and_rarely_asked_about() {
    let mut liveness = watching(Channel::Trade);
    let (mut now, mut last, mut asked) = (START, START, 0);
    for _ in 0..24 {
        let found = pass(&mut liveness, &mut now, 3600, |_| Some(Evidence::of(&[trade(last)], Channel::Trade, &instrument())));
        asked += found.len();
        assert_eq!(stale(&found), [0; 0]);
        last = now;
        liveness.heard(now, &[trade(now)]);
    }
    assert!(asked < 24 * 8, "{asked} requests in a day");
}

#[test]
fn a_dead_stream_of_trades_is_found_within_two_cadences() {
    let mut liveness = watching(Channel::Trade);
    let mut now = START;
    for _ in 0..20 {
        now = now + 5 * SECOND;
        liveness.heard(now, &[trade(now)]);
        assert!(liveness.check(now).is_empty());
    }
    let died = now.since(START).as_secs();
    let found = pass(&mut liveness, &mut now, 60, |now| Some(Evidence::of(&[trade(now)], Channel::Trade, &instrument())));
    let first = stale(&found)[0];
    assert!(first - died <= 2 * 6, "found after {} s", first - died);
    assert_eq!(liveness.stale(), 1);
    liveness.heard(now, &[trade(now)]);
    liveness.check(now + 2 * SECOND);
    assert_eq!(liveness.stale(), 0);
}

#[test]
fn a_stream_that_never_told_what_happened_since_it_began_is_dead() {
    for (after, is_stale) in [(-60, false), (3, false), (15, true)] {
        let mut liveness = watching(Channel::Trade);
        let happened = Time::from_micros(START.micros() + after * 1_000_000);
        let found = pass(&mut liveness, &mut { START }, 60, |_| Some(Evidence::of(&[trade(happened)], Channel::Trade, &instrument())));
        assert_eq!(!stale(&found).is_empty(), is_stale, "a trade {after} s after the beginning: {found:?}");
    }
}

#[test]
fn a_trade_that_is_on_its_way_is_no_alarm() {
    let mut liveness = watching(Channel::Trade);
    let mut now = START;
    let found = pass(&mut liveness, &mut now, 30, |now| Some(Evidence { newest: Some(now), print: Some(1) }));
    assert!(matches!(found[..], [(30, Finding::Ask(..))]), "{found:?}");
    assert!(pass(&mut liveness, &mut now, 1, |_| None).is_empty());
    liveness.heard(now, &[trade(now)]);
    assert!(stale(&pass(&mut liveness, &mut now, 20, |_| None)).is_empty());
}

#[test]
fn a_book_is_stale_if_it_changed_between_two_answers() {
    for (second, expected) in [(1, 0), (2, 1)] {
        let mut liveness = watching(Channel::Book);
        let (mut now, mut asked) = (START, 0);
        let found = pass(&mut liveness, &mut now, 100, |_| {
            asked += 1;
            // The number moves on with other books, too.
            Some(Evidence::of(&[book(if asked == 1 { 1 } else { second }, asked)], Channel::Book, &instrument()))
        });
        assert_eq!(stale(&found).len(), expected, "{found:?}");
    }
}

#[test]
fn what_never_speaks_again_costs_the_connection() {
    let mut liveness = Liveness::new();
    liveness.watch(0, Channel::Quote, None, Some(3 * SECOND), false);
    let mut now = START;
    assert!(pass(&mut liveness, &mut now, 60, |_| None).is_empty(), "not subscribed to yet");
    liveness.began(now, now, 0);
    let began = now.since(START).as_secs();
    let found = pass(&mut liveness, &mut now, 120, |_| None);
    let times: Vec<u64> = stale(&found).into_iter().map(|at| at - began).collect();
    let given_up = found.iter().position(|(_, finding)| *finding == Finding::Reconnect).unwrap();
    assert!(times[0] <= 7 && given_up == 3, "{times:?}");
}

#[test]
fn where_nothing_speaks_the_connection_is_dead() {
    let other = || Arc::new(Instrument::named(&"toy".into(), Market::Linear, "B", None));
    for other_speaks in [true, false] {
        let mut liveness = watching(Channel::Trade);
        liveness.watch(1, Channel::Trade, Some(other()), None, true);
        liveness.began(START, START, 1);
        let mut now = START;
        let mut found = Vec::new();
        for second in 0..60 {
            now = now + SECOND;
            if second < 20 {
                liveness.heard(now, &[trade(now)]);
            }
            if second < 20 || other_speaks {
                liveness.heard(now, &[Event { instrument: other(), ..trade(now) }]);
            }
            for finding in liveness.check(now) {
                if let Finding::Ask(channel, instrument) = &finding {
                    liveness.answered(now, *channel, instrument, Some(Evidence { newest: Some(now), print: None }));
                }
                found.push((now.since(START).as_secs(), finding));
            }
        }
        let reconnects = found.iter().filter(|(_, finding)| *finding == Finding::Reconnect).count();
        assert_eq!(reconnects > 0, !other_speaks, "{found:?}");
        let wanted = |finding: &Finding| if other_speaks { matches!(finding, Finding::Stale { .. }) } else { *finding == Finding::Reconnect };
        let first = found.iter().find(|(_, finding)| wanted(finding)).unwrap().0;
        assert!(first <= 20 + 6 + 1, "{first}");
    }
}

#[test]
fn what_never_spoke_is_expected_as_often_as_others_of_its_kind() {
    let other = || Arc::new(Instrument::named(&"toy".into(), Market::Linear, "B", None));
    let mut liveness = watching(Channel::Trade);
    liveness.watch(1, Channel::Trade, Some(other()), None, true);
    liveness.began(START, START, 1);
    let mut now = START;
    let mut first = None;
    while first.is_none() {
        now = now + SECOND;
        liveness.heard(now, &[trade(now)]);
        first = liveness
            .check(now)
            .into_iter()
            .find_map(|finding| if let Finding::Ask(_, of) = finding { Some((now.since(START).as_secs(), of.venue_symbol.to_string())) } else { None });
    }
    assert_eq!(first, Some((u64::from(LEARNED), "B".to_owned())), "as soon as the others are known");
}

#[test]
fn an_answer_that_never_comes_is_given_up() {
    let mut liveness = watching(Channel::Trade);
    let mut asked = 0;
    let mut now = START;
    for _ in 0..400 {
        now = now + SECOND;
        asked += liveness.check(now).len();
    }
    assert!((3..6).contains(&asked), "{asked}");
}
