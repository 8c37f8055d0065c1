//! Streams that speak, fall silent and come back, second by second.

use super::rhythm::LEARNED;
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
    let found = pass(&mut liveness, &mut now, 30, |now| Some(Evidence { newest: Some(now), print: Some(1), ..Evidence::default() }));
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
                    liveness.answered(now, *channel, instrument, Some(Evidence { newest: Some(now), print: None, ..Evidence::default() }));
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

fn other() -> Arc<Instrument> {
    Arc::new(Instrument::named(&"toy".into(), Market::Linear, "B", None))
}

/// One stream tells something each five seconds, the other one each hundred, until both are dead. One trade later the night
/// begins for the first: whether it lives again after it was begun anew, nobody can say. A third one may live.
#[test]
fn a_connection_that_is_dead_in_a_quiet_market_is_replaced_as_a_whole() {
    const DEAD: u64 = 1200;
    for third_lives in [false, true] {
        let mut liveness = watching(Channel::Trade);
        liveness.watch(1, Channel::Trade, Some(other()), None, true);
        liveness.began(START, START, 1);
        liveness.watch(2, Channel::Ticker, None, None, false);
        liveness.began(START, START, 2);
        let (mut found, mut newest) = (Vec::new(), [None, None]);
        for second in 1..=DEAD + 200 {
            let now = START + Duration::from_secs(second);
            let happens = [second % 5 == 0 && second < DEAD + 10, second % 100 == 0];
            for which in (0..2).filter(|which| happens[*which]) {
                newest[which] = Some(now);
                if second <= DEAD {
                    let event = trade(now);
                    liveness.heard(now, &[if which == 0 { event } else { Event { instrument: other(), ..event } }]);
                }
            }
            if third_lives && second % 20 == 0 {
                liveness.heard(now, &[Event::new(instrument(), now, None, Body::Ticker(crate::event::Ticker::default()))]);
            }
            for finding in liveness.check(now) {
                match finding {
                    Finding::Ask(channel, instrument) => {
                        let newest = newest[usize::from(*instrument.venue_symbol == *"B")];
                        liveness.answered(now, channel, &instrument, Some(Evidence { newest, print: None, ..Evidence::default() }));
                    }
                    Finding::Stale { topic, .. } => found.push((second - DEAD, Some(topic))),
                    Finding::Reconnect => found.push((second - DEAD, None)),
                }
            }
        }
        let which: Vec<Option<usize>> = found.iter().map(|(_, which)| *which).collect();
        assert_eq!(which[..2], [Some(0), if third_lives { Some(1) } else { None }], "{found:?}");
        assert!(found[0].0 <= 10 && found[1].0 <= 110, "{found:?}");
    }
}

#[test]
fn what_may_be_missed_begins_where_a_stream_was_last_heard_of() {
    let mut liveness = watching(Channel::Trade);
    liveness.watch(0, Channel::Ticker, None, None, false);
    assert_eq!(liveness.last_heard(Channel::Ticker, None), None, "it was not begun");
    liveness.began(START, START, 0);
    assert_eq!(liveness.last_heard(Channel::Ticker, None), Some(START));
    let heard = START + SECOND;
    liveness.heard(heard, &[trade(heard)]);
    let last = |liveness: &Liveness| liveness.last_heard(Channel::Trade, Some(&instrument())).unwrap();
    assert_eq!(last(&liveness), heard);
    let mut now = heard;
    let found = pass(&mut liveness, &mut now, 45, |_| Some(Evidence::of(&[trade(heard)], Channel::Trade, &instrument())));
    assert!(matches!(found[..], [(31, Finding::Ask(..))]), "{found:?}");
    assert_eq!(last(&liveness), (START + 31 * SECOND).earlier(ON_ITS_WAY), "the venue knew of no more then");
    now = now + 60 * SECOND;
    liveness.heard(now, &[trade(now)]);
    assert_eq!(last(&liveness), (START + 31 * SECOND).earlier(ON_ITS_WAY), "what was in the pause is not known yet");
    assert!(matches!(liveness.check(now)[..], [Finding::Ask(..)]));
    liveness.answered(now, Channel::Trade, &instrument(), Some(Evidence::of(&[trade(heard), trade(now)], Channel::Trade, &instrument())));
    assert_eq!(last(&liveness), now, "nothing was");
    assert_eq!(liveness.last_heard(Channel::Ticker, None), Some(START), "and what nobody can ask about was not heard of since");
}

#[test]
fn a_slow_stream_is_asked_about_at_its_own_pace() {
    let mut liveness = watching(Channel::Trade);
    let (mut now, mut last, mut asked) = (START, START, Vec::new());
    for _ in 0..30 {
        let found = pass(&mut liveness, &mut now, 300, |_| Some(Evidence::of(&[trade(last)], Channel::Trade, &instrument())));
        asked.push(found.len());
        last = now;
        liveness.heard(now, &[trade(now)]);
    }
    assert!(asked[0] > 2, "nothing is known at first: {asked:?}");
    assert!(asked[10..].iter().all(|asked| *asked == 1), "what comes when it is expected is asked about when it has come: {asked:?}");
    let died = now;
    let found = pass(&mut liveness, &mut now, 700, |now| Some(Evidence::of(&[trade(now)], Channel::Trade, &instrument())));
    let first = stale(&found)[0] - died.since(START).as_secs();
    assert!(first <= 2 * 300 + 30, "and is found dead within twice its cadence: after {first} s");
}

#[test]
fn a_market_that_moves_again_is_asked_about_what_is_still_silent() {
    for wakes in [false, true] {
        let mut liveness = watching(Channel::Trade);
        liveness.watch(1, Channel::Quote, Some(instrument()), None, true);
        liveness.began(START, START, 1);
        let quote = |now| Event::new(instrument(), now, Some(now), Body::Quote(crate::event::Quote::default()));
        let mut now = START;
        for _ in 0..20 {
            now = now + 5 * SECOND;
            liveness.heard(now, &[trade(now), quote(now)]);
        }
        let last = now;
        // Three hours of night, in which the stream of trades dies.
        pass(&mut liveness, &mut now, 3 * 3600, |_| Some(Evidence { newest: Some(last), print: Some(1), ..Evidence::default() }));
        let moved = Some(now);
        if wakes {
            liveness.heard(now, &[quote(now)]);
        }
        let morning = now.since(START).as_secs();
        let mut found = None;
        for _ in 0..3600 {
            now = now + SECOND;
            for finding in liveness.check(now) {
                match finding {
                    Finding::Ask(Channel::Trade, instrument) => {
                        liveness.answered(now, Channel::Trade, &instrument, Some(Evidence { newest: moved, print: None, ..Evidence::default() }));
                    }
                    Finding::Ask(channel, instrument) => {
                        liveness.answered(now, channel, &instrument, Some(Evidence { newest: None, print: Some(1), ..Evidence::default() }));
                    }
                    Finding::Stale { topic: 0, .. } => _ = found.get_or_insert(now.since(START).as_secs() - morning),
                    _ => {}
                }
            }
        }
        assert_eq!(found.is_some_and(|after| after <= 2 * 6), wakes, "found after {found:?} s");
    }
}

#[test]
fn the_next_connection_knows_what_was_learned() {
    let mut before = watching(Channel::Trade);
    for second in 1..20 {
        before.heard(START + Duration::from_secs(2 * second), &[trade(START)]);
    }
    let mut now = START;
    let first = |liveness: &mut Liveness, now: &mut Time| pass(liveness, now, 40, |_| None)[0].0;
    assert_eq!(first(&mut watching(Channel::Trade), &mut now), 30);
    let mut after = watching(Channel::Trade);
    after.remember(&before.rhythms());
    now = START;
    assert_eq!(first(&mut after, &mut now), 3);
}

/// A trade each hundred seconds, of which the stream leaves one out and then goes on as if nothing had been.
#[test]
fn a_stream_that_came_back_by_itself_is_asked_what_it_left_out() {
    for (left_out, answers) in [(false, true), (true, true), (true, false)] {
        let mut liveness = watching(Channel::Trade);
        let (mut now, mut trades, mut found, mut failures) = (START, Vec::new(), Vec::new(), 0);
        for at in 1..=20 {
            let rest = |trades: &[Event]| Some(Evidence::of(&trades[trades.len().saturating_sub(5)..], Channel::Trade, &instrument()));
            // The first question of each pause is not answered, or it is.
            let answer = |trades: &[Event], failures: &mut u32| {
                *failures += 1;
                if answers || failures.is_multiple_of(2) { rest(trades) } else { None }
            };
            found.extend(pass(&mut liveness, &mut now, 100, |_| answer(&trades, &mut failures)));
            trades.push(trade(now));
            if at != 15 || !left_out {
                liveness.heard(now, &[trade(now)]);
            }
        }
        let missed: Vec<u64> = found
            .iter()
            .filter_map(|(_, finding)| if let Finding::Stale { since, .. } = finding { Some(since.since(START).as_secs()) } else { None })
            .collect();
        assert_eq!(missed.len(), usize::from(left_out), "{found:?}");
        assert!(missed.iter().all(|since| (1400..1500).contains(since)), "{missed:?}");
        assert_eq!((liveness.stale(), found.iter().any(|(_, finding)| *finding == Finding::Reconnect)), (0, false));
    }
}
