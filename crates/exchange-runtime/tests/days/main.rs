//! A day in a few seconds: the whole collector among simulated venues on bad days, in virtual time, from a seed.
//!
//! Nothing here waits for a real clock, and nothing is left to chance but what the seed decides: a day that fails does so
//! each time. `COLLECTOR_SEED=N` lives that one day and writes down what happened,
//! `COLLECTOR_DAYS=N` lives so many of them.

mod count;
mod day;
mod judge;
mod kept;
mod net;
mod weather;

use std::cell::Cell;
use std::sync::{Once, mpsc};
use std::time::{Duration, Instant};

use day::{Day, Outcome};

/// How many days a run of all tests has.
const DAYS: u64 = 30;
/// A day that takes so long of real time turns on the spot.
const TOO_LONG: Duration = Duration::from_mins(5);

thread_local! {
    static PANICS: Cell<u32> = const { Cell::new(0) };
}

/// Counts panics on each thread: a task's own is not its runtime's.
fn count_panics() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            PANICS.set(PANICS.get() + 1);
            before(info);
        }));
    });
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is a number")))
}

fn live(day: &Day) -> Outcome {
    count_panics();
    let before = PANICS.get();
    let mut outcome = day.live();
    if PANICS.get() > before {
        outcome.faults.push("a task panicked".into());
    }
    outcome
}

/// Lives through days side by side, as many at once as there are cores. What each gave, in the order of their ends.
fn all(days: Vec<Day>) -> Vec<(Day, Outcome)> {
    let cores = std::thread::available_parallelism().map_or(1, Into::into);
    let days = std::sync::Arc::new(std::sync::Mutex::new(days.into_iter()));
    let (done, ends) = mpsc::channel();
    for _ in 0..cores {
        let (days, done) = (days.clone(), done.clone());
        std::thread::spawn(move || {
            loop {
                let next = days.lock().unwrap().next();
                let Some(day) = next else { return };
                let began = Instant::now();
                let outcome = live(&day);
                println!("day {}: {:?}, {}", day.seed, began.elapsed(), summary(&outcome));
                if done.send((day, outcome)).is_err() {
                    return;
                }
            }
        });
    }
    drop(done);
    let mut all = Vec::new();
    loop {
        match ends.recv_timeout(TOO_LONG) {
            Ok(end) => all.push(end),
            Err(mpsc::RecvTimeoutError::Disconnected) => return all,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                panic!("a day does not end; those that did: {:?}", all.iter().map(|(day, _): &(Day, Outcome)| day.seed).collect::<Vec<_>>())
            }
        }
    }
}

fn summary(outcome: &Outcome) -> String {
    let Outcome { events, gaps, errors, requests, connects, reconnects, resubscriptions, .. } = outcome;
    format!(
        "{events} events, {gaps} gaps, {errors} errors, {requests} requests, {connects:?} connects, {reconnects} reconnects, {resubscriptions} resubscriptions"
    )
}

/// Fails with all that is needed to see it again.
#[track_caller]
fn assert_good(day: &Day, outcome: &Outcome, test: &str) {
    if outcome.faults.is_empty() {
        return;
    }
    let Day { seed, weather, .. } = day;
    let again = format!("COLLECTOR_SEED={seed} cargo test -p exchange-runtime --test days -- {test}");
    let lines = |all: &mut dyn Iterator<Item = String>| all.flat_map(|line| ["\n  ".to_owned(), line]).collect::<String>();
    panic!(
        "{} things were wrong with day {seed}:{}\nIt was {day}: {}.\nIts faults:{}\nAs a file:\n{}\nSee it again: {again}",
        outcome.faults.len(),
        lines(&mut outcome.faults.iter().take(20).cloned()),
        summary(outcome),
        lines(&mut weather.episodes.iter().map(ToString::to_string)),
        weather.file,
    );
}

#[test]
fn bad_days_are_lived_through() {
    let seeds = match number("COLLECTOR_SEED") {
        Some(seed) => seed..seed + number("COLLECTOR_DAYS").unwrap_or(1),
        None => 1..1 + number("COLLECTOR_DAYS").unwrap_or(DAYS),
    };
    let diary = number("COLLECTOR_SEED").is_some();
    let days = all(seeds.map(|seed| Day::of(seed, false).with_diary(diary)).collect());
    for (day, outcome) in days.iter().filter(|(_, outcome)| !outcome.faults.is_empty()) {
        println!("wrong with day {}: {:#?}", day.seed, outcome.faults.iter().take(5).collect::<Vec<_>>());
    }
    for (day, outcome) in &days {
        assert_good(day, outcome, "bad_days");
    }
}

#[test]
fn fair_days_raise_no_alarm() {
    let seeds = number("COLLECTOR_SEED").map_or(101..104, |seed| seed..seed + 1);
    for (day, mut outcome) in all(seeds.map(|seed| Day::of(seed, true)).collect()) {
        let Outcome { gaps, errors, reconnects, resubscriptions, .. } = outcome;
        if [gaps, errors, reconnects, resubscriptions] != [0; 4] {
            outcome.faults.push("an alarm without a reason".into());
        }
        assert_good(&day, &outcome, "fair_days");
    }
}

#[test]
fn the_same_seed_gives_the_same_day() {
    let seed = number("COLLECTOR_SEED").unwrap_or(1);
    let digests: Vec<(u64, u64)> = all(vec![Day::of(seed, false), Day::of(seed, false)]).iter().map(|(_, outcome)| (outcome.digest, outcome.events)).collect();
    assert_eq!(digests[0], digests[1], "seed {seed}: two different days");
}
