//! Holes against a simulated venue: what its past holds, how its answers are filled, what its stream leaves out.

use super::hole::{ATTEMPTS, DELAY, LAG, MOST_GAPS};
use super::*;
use crate::decimal::Decimal;
use crate::event::{Candle, Origin, Trade};
use crate::instrument::Market;
use crate::pipeline::{Everything, Next, Pipeline};
use crate::plan::Topic;
use crate::time::Interval;

const NEWEST: &str = r#"
    [[endpoint]]
    name = "newest"
    path = "/newest"
    query = "symbol={symbol}"
    range = "limit={limit:..5}"
    markets = ["linear"]
    channels = ["trade"]
    limit = "all"
"#;
const SPANS: &str = r#"
    [[endpoint]]
    name = "spans"
    path = "/spans"
    query = "symbol={symbol}"
    range = "from={since}&to={until}&limit={limit:..5}"
    markets = ["linear"]
    channels = ["trade"]
    limit = "all"
    history = true
"#;
const CANDLES: &str = r#"
    [[endpoint]]
    name = "candles"
    path = "/candles"
    query = "symbol={symbol}&interval={interval}&limit=3"
    range = "from={since}&to={until}&limit={limit:..4}"
    markets = ["linear"]
    channels = ["candle"]
    limit = "all"
"#;
/// When everything begins, in milliseconds.
const START: i64 = 1_760_000_000_000;
const MINUTE: i64 = 60_000;

fn at(ms: i64) -> Time {
    Time::from_millis(START + ms)
}

fn minute() -> Interval {
    Interval::new(1, 'm').unwrap()
}

fn instrument(name: &str) -> Arc<Instrument> {
    Arc::new(Instrument::named(&"toy".into(), Market::Linear, name, None))
}

/// Trade number n, at 10 n milliseconds.
fn nth(id: u64) -> Event {
    trade(id, id.cast_signed() * 10)
}

fn trade(id: u64, ms: i64) -> Event {
    let trade = Trade { trade_id: Some(id.into()), price: Decimal::ONE, size: Decimal::ONE, size_base: None, side: None };
    Event::new(instrument("A"), at(ms), Some(at(ms)), Body::Trade(trade))
}

fn candle(minutes: i64, closed: bool) -> Event {
    let one = Decimal::ONE;
    let open_time = at(minutes * MINUTE);
    let candle = Candle {
        interval: minute(),
        open_time,
        open: one.clone(),
        high: one.clone(),
        low: one.clone(),
        close: one.clone(),
        volume: one,
        turnover: None,
        trades: None,
        closed,
    };
    Event::new(instrument("A"), open_time, None, Body::Candle(candle))
}

/// Gap, from, to (in milliseconds since the start), count and whether it is complete.
type Told = (EventId, Option<i64>, Option<i64>, u64, bool);

/// A collector of one venue.
struct Rig {
    pipeline: Pipeline,
    now: Time,
    /// What the venue's REST interface knows, in order.
    past: Vec<Event>,
    /// From which end it fills an answer.
    forward: bool,
    asked: Vec<String>,
    out: Vec<Event>,
}

impl Rig {
    fn new(endpoints: &[&str]) -> Self {
        let text = r#"
            name = "toy"
            title = "Toy"
            docs = "none"
            markets.linear = { rest = "http://toy", ws = "ws://toy" }
            limits.all = { budget = 100, window = "1s" }
            intervals = { 1m = "1" }
            ws = { topics_per_frame = 1, topics_per_connection = 1, frames = { budget = 1, window = "1s" }, connects = { budget = 1, window = "1s" }, silence = "30s" }
        "#;
        let profile = Profile::parse(&format!("{text}{}", endpoints.concat())).unwrap();
        let pipeline = Pipeline::new("toy", Arc::new(Everything), false, false).with_refills(Arc::new(profile));
        Self { pipeline, now: at(0), past: Vec::new(), forward: true, asked: Vec::new(), out: Vec::new() }
    }

    fn stream(&mut self, event: Event) {
        self.now = self.now.max(event.received);
        let mut events = vec![event];
        self.pipeline.process(&mut events);
        self.out.append(&mut events);
    }

    /// The stream's trades, which the venue remembers, too.
    fn trades(&mut self, ids: impl IntoIterator<Item = u64>) {
        for id in ids {
            self.missed([id]);
            self.stream(nth(id));
        }
    }

    /// Trades that the stream leaves out: number n at 10 n milliseconds.
    fn missed(&mut self, ids: impl IntoIterator<Item = u64>) {
        self.past.extend(ids.into_iter().map(nth));
    }

    fn gap(&mut self, channel: Channel, name: &str, from: i64) -> EventId {
        let gap = Gap { channel, reason: GapReason::Disconnect, from: Ident::of_time(at(from)), to: None };
        self.stream(Event::new(instrument(name), at(from), None, Body::Gap(Box::new(gap))));
        self.out.last().unwrap().id
    }

    fn served(&mut self, channel: Channel) {
        let topic =
            Topic { name: "t".into(), market: Market::Linear, ws_path: String::new(), channels: vec![channel], instrument: Some(instrument("A")), stream: 0 };
        self.pipeline.served(&[Arc::new(topic)], self.now);
    }

    /// What the venue answers to a request.
    fn answer(&self, target: &str) -> Vec<Event> {
        let value = |key: &str| target.split(['?', '&']).find_map(|pair| pair.strip_prefix(key)?.strip_prefix('=')?.parse::<i64>().ok());
        let (from, to, limit) = (value("from").unwrap_or(i64::MIN), value("to").unwrap_or(i64::MAX), usize::try_from(value("limit").unwrap_or(5)).unwrap());
        let when = |event: &Event| place(event).map_or(0, |(time, _)| time.millis());
        let inside: Vec<Event> = self.past.iter().filter(|event| (from..=to).contains(&when(event))).cloned().collect();
        let first = if self.forward && value("from").is_some() { 0 } else { inside.len().saturating_sub(limit) };
        inside.into_iter().skip(first).take(limit).map(|event| Event { received: self.now, ..event }).collect()
    }

    /// Asks until there is nothing left to ask for now or later.
    fn refill(&mut self) {
        self.refill_by(|rig, target| Some(rig.answer(target)));
    }

    /// The same, with another venue: it may fail.
    fn refill_by(&mut self, mut venue: impl FnMut(&mut Self, &str) -> Option<Vec<Event>>) {
        while let Some(next) = self.pipeline.next_refill(self.now, self.now) {
            match next {
                Next::Wait(at) => self.now = at,
                Next::Tell(mut told) => {
                    self.pipeline.process(&mut told);
                    self.out.append(&mut told);
                }
                Next::Ask(channel, instrument, request) => {
                    self.pipeline.refill_asked(channel, &instrument, None);
                    self.asked.push(request.target.clone());
                    assert!(self.asked.len() < 200, "it ends: {:?}", &self.asked[190..]);
                    let answer = venue(self, &request.target);
                    let outcome = if answer.is_some() { Outcome::Answered } else { Outcome::Failed(ErrorKind::Transient, self.now + LAG) };
                    let mut events = answer.unwrap_or_default();
                    self.pipeline.refilled((self.now, self.now), channel, &instrument, outcome, &mut events);
                    self.out.append(&mut events);
                }
            }
        }
    }

    /// The trades that went out, in their order, and those of them that were refilled.
    fn ids(&self) -> (Vec<u64>, Vec<u64>) {
        let id = |event: &Event| if let Body::Trade(trade) = &event.body { trade.trade_id.as_ref()?.as_number() } else { None };
        let mut all: Vec<u64> = self.out.iter().filter_map(id).collect();
        all.sort_unstable();
        (all, self.out.iter().filter(|event| event.origin == Some(Origin::Refill)).filter_map(id).collect())
    }

    /// What the `refill` events say.
    fn refills(&self) -> Vec<Told> {
        let ms = |ident: &Option<Ident>| ident.as_ref().and_then(Ident::as_number).map(|micros| micros.cast_signed() / 1000 - START);
        let of = |event: &Event| {
            if let Body::Refill(refill) = &event.body { Some((refill.gap, ms(&refill.from), ms(&refill.to), refill.count, refill.complete)) } else { None }
        };
        self.out.iter().filter_map(of).collect()
    }
}

/// After three trades, some were missed; then the stream goes on with number `on`.
fn interrupted(rig: &mut Rig, on: u64) -> EventId {
    rig.trades(1..=3);
    let gap = rig.gap(Channel::Trade, "A", 31);
    rig.missed(4..on);
    rig.trades([on]);
    gap
}

#[test]
fn what_was_missed_comes_once_and_says_so() {
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 6);
    rig.refill();
    assert_eq!(rig.ids(), (vec![1, 2, 3, 4, 5, 6], vec![4, 5]));
    assert_eq!(rig.refills(), [(gap, Some(30), Some(60), 2, true)]);
    assert_eq!(rig.asked, ["/newest?symbol=A&limit=5"]);
    assert_eq!(rig.pipeline.counts().duplicates, 0, "what had come is not even looked up");
}

#[test]
fn a_past_that_is_too_short_is_told_to_be() {
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 20);
    rig.refill();
    assert_eq!(rig.ids().1, [16, 17, 18, 19]);
    assert_eq!(rig.refills(), [(gap, Some(160), Some(200), 4, false)]);
    // All that is remembered came after the hole.
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 20);
    rig.past.extend((100..110).map(nth));
    rig.refill();
    assert_eq!(rig.refills(), [(gap, None, None, 0, false)]);
}

#[test]
fn what_one_answer_does_not_hold_is_read_span_by_span() {
    for forward in [true, false] {
        let mut rig = Rig::new(&[NEWEST, SPANS]);
        rig.forward = forward;
        let gap = interrupted(&mut rig, 60);
        rig.refill();
        assert_eq!(rig.ids(), ((1..=60).collect(), rig.ids().1));
        assert_eq!(rig.refills(), [(gap, Some(30), Some(600), 56, true)], "{:?}", rig.asked);
        assert!(rig.asked.len() < 30, "{:?}", rig.asked);
    }
}

#[test]
fn a_past_that_was_forgotten_meanwhile_is_no_answer() {
    let mut rig = Rig::new(&[NEWEST, SPANS]);
    let gap = interrupted(&mut rig, 60);
    rig.past.retain(|event| event.time >= Some(at(400)));
    rig.refill();
    assert_eq!(rig.refills(), [(gap, Some(400), Some(600), 20, false)]);
}

#[test]
fn nothing_is_asked_before_the_stream_is_served() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    let gap = rig.gap(Channel::Trade, "A", 31);
    rig.missed([4]);
    rig.refill();
    assert!(rig.asked.is_empty() && !rig.pipeline.take_woken());
    rig.served(Channel::Trade);
    assert!(rig.pipeline.take_woken());
    let before = rig.now;
    rig.refill();
    assert_eq!(rig.now, before + DELAY);
    assert_eq!(rig.refills(), [(gap, Some(30), Some(before.millis() - START + 6000), 1, true)], "nothing new came yet: up to the question");
    rig.trades([5]);
    assert_eq!(rig.ids(), (vec![1, 2, 3, 4, 5], vec![4]));
}

#[test]
fn a_trade_of_the_hole_that_comes_late_comes_once() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    rig.gap(Channel::Trade, "A", 31);
    rig.missed([4, 5]);
    // The stream tells number 6 before number 5.
    rig.trades([6]);
    rig.stream(trade(5, 50));
    rig.refill();
    rig.stream(trade(4, 40));
    assert_eq!(rig.ids(), (vec![1, 2, 3, 4, 5, 6], vec![4]));
}

#[test]
fn two_gaps_in_a_row_are_told_apart() {
    let mut rig = Rig::new(&[NEWEST, SPANS]);
    let first = interrupted(&mut rig, 6);
    let second = rig.gap(Channel::Trade, "A", 61);
    rig.missed(7..9);
    rig.trades([9]);
    rig.refill();
    assert_eq!(rig.ids(), ((1..=9).collect(), vec![5, 7, 8, 4]));
    assert_eq!(rig.refills(), [(first, Some(30), Some(60), 2, true), (second, Some(60), Some(90), 2, true)]);
    // Nothing came between the two.
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    let gaps = [rig.gap(Channel::Trade, "A", 31), rig.gap(Channel::Trade, "A", 45)];
    rig.missed(4..6);
    rig.trades([6]);
    rig.refill();
    assert_eq!(rig.ids(), ((1..=6).collect(), vec![4, 5]));
    assert_eq!(rig.refills().iter().map(|refill| (refill.0, refill.4)).collect::<Vec<_>>(), gaps.map(|gap| (gap, true)));
}

#[test]
fn a_gap_while_another_is_asked_for_is_asked_for_again() {
    let mut rig = Rig::new(&[NEWEST]);
    let first = interrupted(&mut rig, 6);
    let mut second = None;
    rig.refill_by(|rig, target| {
        let answer = rig.answer(target);
        second = second.or_else(|| {
            let gap = rig.gap(Channel::Trade, "A", 61);
            rig.missed([7]);
            Some(gap)
        });
        Some(answer)
    });
    assert_eq!((rig.ids().1, rig.refills().len()), (vec![4, 5], 0), "what came goes out, but nothing is over");
    rig.trades([8]);
    rig.refill();
    assert_eq!(rig.ids(), ((1..=8).collect(), vec![4, 5, 7]));
    assert_eq!(rig.refills().iter().map(|refill| (refill.0, refill.3, refill.4)).collect::<Vec<_>>(), [(first, 2, true), (second.unwrap(), 1, true)]);
}

#[test]
fn an_old_trade_does_not_go_out_again_however_much_came_since() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    let far = |n: u64| Event { instrument: instrument("B"), ..trade(n, n.cast_signed()) };
    for n in 0..140_000 {
        rig.stream(far(n));
    }
    rig.out.clear();
    rig.gap(Channel::Trade, "A", 140_000);
    rig.served(Channel::Trade);
    rig.refill();
    assert_eq!(rig.ids(), (vec![], vec![]));
    assert_eq!(rig.refills().len(), 1);
    assert!(rig.refills()[0].4);
}

#[test]
fn an_answer_behind_the_stream_is_asked_for_again() {
    let mut rig = Rig::new(&[NEWEST]);
    interrupted(&mut rig, 6);
    let mut behind = rig.past.clone();
    behind.truncate(4);
    let mut answers = vec![behind];
    rig.refill_by(|rig, target| Some(answers.pop().unwrap_or_else(|| rig.answer(target))));
    assert_eq!((rig.ids().1, rig.asked.len()), (vec![4, 5], 2));
    assert!(rig.refills()[0].4);
}

#[test]
fn failures_are_few_enough_or_told() {
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 6);
    let mut failures = 3;
    rig.refill_by(|rig, target| {
        failures -= 1;
        (failures < 0).then(|| rig.answer(target))
    });
    assert_eq!(rig.refills(), [(gap, Some(30), Some(60), 2, true)]);
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 6);
    rig.refill_by(|_, _| None);
    assert_eq!((rig.refills(), rig.asked.len()), (vec![(gap, None, None, 0, false)], ATTEMPTS as usize));
}

#[test]
fn records_of_another_kind_are_not_taken() {
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 6);
    // The same trades under other numbers.
    rig.refill_by(|_, _| Some((1..7).map(|id| trade(1000 + id, id.cast_signed() * 10)).collect()));
    assert_eq!((rig.ids().1, rig.refills()), (vec![], vec![(gap, None, None, 0, false)]));
    // Or under none.
    let mut rig = Rig::new(&[NEWEST]);
    let gap = interrupted(&mut rig, 6);
    let nameless = |id: i64| {
        let mut event = trade(1, id * 10);
        if let Body::Trade(trade) = &mut event.body {
            trade.trade_id = None;
        }
        event
    };
    rig.refill_by(|_, _| Some((1..7).map(nameless).collect()));
    assert_eq!((rig.ids().1, rig.refills()), (vec![], vec![(gap, None, None, 0, false)]));
}

#[test]
fn a_venue_without_a_past_is_not_asked() {
    for endpoints in [vec![], vec![NEWEST.replace("limit = \"all\"", "limit = \"all\"\nrefill = false")]] {
        let mut rig = Rig::new(&endpoints.iter().map(String::as_str).collect::<Vec<_>>());
        interrupted(&mut rig, 6);
        rig.served(Channel::Trade);
        rig.refill();
        assert_eq!((rig.asked.len(), rig.refills().len()), (0, 0));
    }
}

#[test]
fn a_gap_of_all_instruments_is_one_of_each() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    rig.stream(Event { instrument: instrument("B"), ..trade(1, 31) });
    let gap = rig.gap(Channel::Trade, "*", 31);
    rig.missed([4]);
    let everything = Topic { name: "all".into(), market: Market::Linear, ws_path: String::new(), channels: vec![Channel::Trade], instrument: None, stream: 0 };
    rig.pipeline.served(&[Arc::new(everything)], rig.now);
    rig.refill_by(|rig, target| Some(if target.contains("symbol=A") { rig.answer(target) } else { Vec::new() }));
    let told: Vec<(EventId, bool)> = rig.refills().into_iter().map(|refill| (refill.0, refill.4)).collect();
    assert_eq!((rig.ids().1, told.len()), (vec![4], 2));
    assert!(told.contains(&(gap, true)) && told.contains(&(gap, false)), "the answer for B does not even hold what is known");
}

#[test]
fn an_instrument_of_which_nothing_is_known_begins_with_its_gap() {
    let mut rig = Rig::new(&[NEWEST]);
    let gap = rig.gap(Channel::Trade, "A", 35);
    rig.past = vec![trade(4, 40), trade(5, 50)];
    rig.served(Channel::Trade);
    rig.refill();
    assert_eq!(rig.ids().1, [4, 5]);
    assert_eq!((rig.refills()[0].0, rig.refills()[0].1, rig.refills()[0].4), (gap, Some(35), true), "there is nothing before an answer that has room left");
    // Not where the answer is full.
    let mut rig = Rig::new(&[NEWEST]);
    rig.gap(Channel::Trade, "A", 35);
    rig.missed(4..20);
    rig.served(Channel::Trade);
    rig.refill();
    assert!(!rig.refills()[0].4);
}

#[test]
fn candles_that_ended_unseen_are_fetched_whole() {
    for missed in [2, 9] {
        let mut rig = Rig::new(&[CANDLES]);
        rig.stream(candle(0, true));
        rig.stream(candle(1, false));
        let gap = rig.gap(Channel::Candle(minute()), "A", MINUTE + 5000);
        rig.stream(candle(1 + missed, false));
        rig.past = (0..=1 + missed).map(|n| candle(n, n <= missed)).collect();
        rig.refill();
        let refilled = rig.out.iter().filter(|event| event.origin.is_some());
        let opened: Vec<i64> = refilled
            .filter_map(|event| if let Body::Candle(candle) = &event.body { Some((candle.open_time.millis() - START) / MINUTE) } else { None })
            .collect();
        let mut sorted = opened.clone();
        sorted.sort_unstable();
        assert_eq!(sorted, (1..=missed).collect::<Vec<_>>(), "neither the one that had ended nor the one that runs: {:?}", rig.asked);
        assert_eq!(rig.refills(), [(gap, Some(MINUTE), Some((1 + missed) * MINUTE), missed.unsigned_abs(), true)]);
    }
}

#[test]
fn no_candle_is_asked_for_where_none_ended() {
    let mut rig = Rig::new(&[CANDLES]);
    rig.stream(candle(1, false));
    let gap = rig.gap(Channel::Candle(minute()), "A", MINUTE + 5000);
    rig.stream(candle(1, false));
    rig.refill();
    let second = rig.gap(Channel::Candle(minute()), "A", MINUTE + 9000);
    rig.served(Channel::Candle(minute()));
    rig.refill();
    assert!(rig.asked.is_empty());
    assert_eq!(rig.refills().iter().map(|refill| (refill.0, refill.4)).collect::<Vec<_>>(), [(gap, true), (second, true)]);
}

#[test]
fn many_gaps_without_an_answer_stay_few() {
    let mut rig = Rig::new(&[NEWEST]);
    rig.trades(1..=3);
    for n in 0..i64::try_from(MOST_GAPS).unwrap() + 10 {
        rig.gap(Channel::Trade, "A", 31 + n);
    }
    assert_eq!(rig.refills().iter().filter(|refill| !refill.4).count(), 10);
    rig.trades([4]);
    rig.refill();
    assert_eq!(rig.refills().iter().filter(|refill| refill.4).count(), MOST_GAPS);
}

mod restart;
