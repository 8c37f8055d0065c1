//! A thousand forced closes of the connections of two collectors at one address: they come back within the venue's limits and
//! not in step, and what they missed meanwhile is fetched, or is known to be missing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::event::Ident;
use exchange_core::{Body, Channel, Event, Market, Mode, Time};
use venue_sim::Config;

use crate::net::{Sent, glance};
use crate::stage::{Job, Stage, run, venues};

const VENUES: [&str; 2] = ["binance", "bybit"];
const MARKETS: [Market; 3] = [Market::Spot, Market::Linear, Market::Inverse];
/// The connections of one collector: one for each market of each venue.
const CONNECTIONS: usize = 6;
/// When all connections are closed, in seconds: so many times, from then on, so long after each other.
const CLOSES: usize = 90;
const FIRST: usize = 120;
const EVERY: usize = 45;
/// How often it is looked what the venues remember, in seconds: the shortest memory is of 60 trades.
const LOOK: usize = 15;

/// Trades are numbered a few milliseconds out of order of their times.
const OUT_OF_ORDER: Duration = Duration::from_millis(10);

/// An instrument's trades: their ids, and when they were.
type Trades = BTreeMap<(String, Market, String), BTreeMap<String, Time>>;

fn add(trades: &mut Trades, events: &[Event]) {
    for event in events {
        if let (Body::Trade(trade), Some(time)) = (&event.body, event.time) {
            let key = (event.instrument.venue.to_string(), event.instrument.market, event.instrument.venue_symbol.to_string());
            trades.entry(key).or_default().insert(trade.trade_id.as_ref().unwrap().to_string(), time);
        }
    }
}

fn time(ident: Option<&Ident>) -> Time {
    Time::from_micros(i64::try_from(ident.and_then(Ident::as_number).unwrap()).unwrap())
}

/// The most connections that were opened to a venue within a window.
fn most_within(times: &[Duration], window: Duration) -> usize {
    times.iter().enumerate().map(|(at, end)| times[..=at].iter().rev().take_while(|time| end.saturating_sub(**time) < window).count()).max().unwrap_or(0)
}

/// What two collectors went through.
struct Hour {
    /// When each opened a connection, by its address; whether that came about.
    connects: [BTreeMap<String, Vec<(Duration, bool)>>; 2],
    events: [Vec<Event>; 2],
    /// All trades that were served to anybody, or that a venue remembered.
    trades: Trades,
}

impl Hour {
    /// With another limit of connections to each venue in 5 minutes, if there is one.
    fn live(limit: Option<u32>) -> Self {
        run(async {
            let place = tempfile::tempdir().unwrap();
            let mut faults = String::new();
            for at in (0..CLOSES).map(|close| FIRST + close * EVERY) {
                // Shorter than any pause before the next attempt.
                write!(faults, "[[fault]]\naction = \"outage\"\nfrom = \"{at}s\"\nto = \"{}ms\"\n", at * 1000 + 100).unwrap();
            }
            let config = Config { symbols: 1, rate: 8.0, tick: Duration::from_millis(500), ..Config::default() };
            let stage = Stage::new(&config, &faults);
            let start = |seed, name| {
                let mut venues = venues(&VENUES);
                for venue in &mut venues {
                    let connects = &mut Arc::make_mut(&mut venue.profile).ws.connects;
                    assert_eq!(connects.window, Duration::from_mins(5));
                    connects.budget = limit.unwrap_or(connects.budget);
                }
                stage.start(Job {
                    venues,
                    markets: &MARKETS,
                    channels: &[Channel::Trade],
                    mode: Mode::Stream,
                    interval: Duration::from_secs(5),
                    all_events: false,
                    seed,
                    state: (place.path(), name),
                })
            };
            let members = [start(1, "first"), start(2, "second")];
            let (mut trades, end) = (Trades::new(), FIRST + CLOSES * EVERY + 240);
            for second in (LOOK..end).step_by(LOOK) {
                // Not in the moment of a close.
                stage.until(Duration::from_secs(second as u64) + Duration::from_secs(7)).await;
                stage.sim.set_rate(if second + 120 < end { 8.0 } else { 0.0 });
                let known: Vec<_> = trades.keys().cloned().collect();
                for (venue, market, symbol) in known {
                    let path = match (venue.as_str(), market) {
                        ("binance", Market::Spot) => "api/v3/trades?".to_owned(),
                        ("binance", Market::Inverse) => "dapi/v1/aggTrades?".to_owned(),
                        ("binance", _) => "fapi/v1/aggTrades?".to_owned(),
                        (_, market) => format!("v5/market/recent-trade?category={market}&"),
                    };
                    glance(&stage.sim.door(), &format!("/{venue}/{path}symbol={symbol}&limit=1000")).await;
                }
                add(&mut trades, &stage.sim.truth());
            }
            let events = [members[0].events(), members[1].events()];
            let mut connects = [BTreeMap::new(), BTreeMap::new()];
            for (member, connects) in members.into_iter().zip(&mut connects) {
                for sent in member.stop().await.into_values().flatten().filter(|sent: &Sent| sent.socket) {
                    let came_about = sent.answer.is_some_and(|answer| answer.status == 101);
                    connects.entry(sent.target).or_insert_with(Vec::new).push((stage.at(sent.at), came_about));
                }
            }
            Self { connects, events, trades }
        })
    }

    /// How many connections were closed.
    fn closed(&self) -> usize {
        let opened = self.connects.iter().flat_map(BTreeMap::values).flatten().filter(|(_, came_about)| *came_about).count();
        opened - 2 * CONNECTIONS
    }

    /// The most connections to a venue within 5 minutes, by both together.
    fn most(&self, venue: &str) -> usize {
        let own = self.connects.iter().flatten().filter(|(target, _)| target.starts_with(&format!("/{venue}/")));
        let mut times: Vec<Duration> = own.flat_map(|(_, times)| times.iter().map(|(at, _)| *at)).collect();
        times.sort();
        most_within(&times, Duration::from_mins(5))
    }

    /// Whether all that one collector missed is told; how many trades there are, how many of them it has only by refills, and how
    /// many are missing.
    fn account(&self, events: &[Event]) -> (usize, usize, usize) {
        let mut seen = Trades::new();
        add(&mut seen, events);
        let gaps: Vec<&Event> = events.iter().filter(|event| matches!(event.body, Body::Gap(_))).collect();
        let refill = |event: &Event| if let Body::Refill(refill) = &event.body { Some((refill.gap, (event.received, (**refill).clone()))) } else { None };
        let refills: BTreeMap<_, _> = events.iter().filter_map(refill).collect();
        let untold: Vec<&&Event> = gaps.iter().filter(|gap| !refills.contains_key(&gap.id)).collect();
        assert!(untold.is_empty(), "{} of {} gaps without a refill: {:?}", untold.len(), gaps.len(), untold.first());
        let (mut all, mut missing) = (0, 0);
        for (key, trades) in &self.trades {
            let own = &seen[key];
            let first = *own.values().min().unwrap();
            for (id, at) in trades.iter().filter(|(_, at)| **at > first + Duration::from_secs(1)) {
                all += 1;
                if own.contains_key(id) {
                    continue;
                }
                missing += 1;
                let is_told = gaps.iter().any(|gap| {
                    let Body::Gap(body) = &gap.body else { return false };
                    let instrument = (gap.instrument.venue.to_string(), gap.instrument.market, gap.instrument.venue_symbol.to_string());
                    // It lasted until the refill said what is there, and what is not.
                    let (until, refill) = &refills[&gap.id];
                    let is_there = refill.from.is_some() && (time(refill.from.as_ref()) + OUT_OF_ORDER..=time(refill.to.as_ref())).contains(at);
                    instrument == *key && (time(body.from.as_ref())..*until).contains(at) && !refill.complete && !is_there
                });
                assert!(is_told, "{key:?}: trade {id} at {at} is missing, and no gap says so");
            }
        }
        let refilled = events.iter().filter(|event| matches!(event.body, Body::Trade(_)) && event.origin.is_some()).count();
        (all, refilled, missing)
    }
}

#[test]
fn after_a_thousand_closes_no_trade_is_missing_and_nobody_came_back_in_step() {
    let hour = Hour::live(None);
    assert!(hour.closed() >= 1000, "{}", hour.closed());
    for (venue, limit) in VENUES.into_iter().zip([270, 450]) {
        assert!((30..=limit).contains(&hour.most(venue)), "{venue}: {}", hour.most(venue));
    }
    let [first, second] = &hour.connects;
    assert_eq!(first.keys().collect::<Vec<_>>(), second.keys().collect::<Vec<_>>());
    // How long after each close each of them was there again.
    let mut pauses: BTreeMap<usize, Vec<Duration>> = BTreeMap::new();
    for at in first.values().chain(second.values()).flatten().map(|(at, _)| *at) {
        let since = at.saturating_sub(Duration::from_secs(FIRST as u64));
        let close = usize::try_from(since.as_secs()).unwrap() / EVERY;
        if at > Duration::from_secs(FIRST as u64) && close < CLOSES {
            pauses.entry(close).or_default().push(since.saturating_sub(Duration::from_secs((close * EVERY) as u64)));
        }
    }
    assert_eq!(pauses.len(), CLOSES);
    for (close, pauses) in pauses {
        let (shortest, longest) = (pauses.iter().min().unwrap(), pauses.iter().max().unwrap());
        assert!(pauses.len() >= 2 * CONNECTIONS, "close {close}: {pauses:?}");
        assert!(*shortest >= Duration::from_millis(250) && *longest < Duration::from_secs(40), "close {close}: {pauses:?}");
        assert!(*longest > *shortest + *shortest / 5, "close {close}: all within a fifth of the pause: {pauses:?}");
    }
    // Of two pauses of some seconds, to the millisecond, some are the same by chance.
    let both = first.iter().map(|(target, times)| (times, &second[target])).flat_map(|(first, second)| first.iter().zip(second).skip(1));
    let (same, all) = both.fold((0, 0), |(same, all), (first, second)| (same + usize::from(first == second), all + 1));
    assert!(same * 50 < all, "{same} of {all} pauses are the same");
    for events in &hour.events {
        let (all, refilled, missing) = hour.account(events);
        println!("{} closed, {all} trades, {refilled} refilled, {missing} missing", hour.closed());
        assert!(all > 3000 && refilled > 500, "{all}, {refilled}");
        assert_eq!(missing, 0);
    }
}

#[test]
fn a_limit_that_is_too_small_for_that_is_kept_and_what_is_missing_is_told() {
    // Of which 90 % are used: less than the closes ask for.
    let hour = Hour::live(Some(20));
    for venue in VENUES {
        assert_eq!(hour.most(venue), 18, "{venue}");
    }
    for events in &hour.events {
        let (all, refilled, missing) = hour.account(events);
        println!("{} closed, {all} trades, {refilled} refilled, {missing} missing", hour.closed());
        assert!(all > 3000 && refilled > 500 && missing > 50, "{all}, {refilled}, {missing}: some have a short memory");
    }
}
