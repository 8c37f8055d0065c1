//! Eight venues side by side, of which one has a bad time for ten minutes: the other seven do not notice, and it is back within
//! half a minute. The same over real sockets, and shorter, is `tests/one_of_eight.rs` at the top of the repository.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Channel, Event, EventId, Market, Mode};
use venue_sim::Config;

use crate::net::Sent;
use crate::stage::{Job, Stage, run, venues};
use crate::support::{self, Events, Played, TYPES, assert_same};

const ALL: [&str; 8] = ["binance", "bybit", "deribit", "gate", "hyperliquid", "kucoin", "mexc", "okx"];
/// They have a market; the others are played from their fixtures.
const SEEDED: [&str; 2] = ["binance", "bybit"];
const MARKETS: [Market; 3] = [Market::Spot, Market::Linear, Market::Inverse];
/// When it begins, how long it lasts, and how much is looked at afterwards.
const BEGINS: Duration = Duration::from_mins(4);
const LASTS: Duration = Duration::from_mins(10);
const AFTERWARDS: Duration = Duration::from_mins(2);
const INTERVAL: Duration = Duration::from_secs(15);
/// The venue is back within so long of its recovery.
const BACK: Duration = Duration::from_secs(30);

/// What a venue was asked for and answered well within a time: how often, and when for the first time. Of sockets and of questions
/// about streams, nothing.
fn answered<'a>(sent: &'a [Sent], stage: &Stage, from: Duration, to: Duration) -> BTreeMap<&'a str, (u32, Duration)> {
    let mut answered = BTreeMap::new();
    for one in sent.iter().filter(|sent| !sent.socket && !sent.is_question()) {
        let Some(answer) = one.answer.filter(|answer| answer.status == 200 && (from..to).contains(&stage.at(answer.at))) else { continue };
        answered.entry(one.target.as_str()).or_insert((0, stage.at(answer.at))).0 += 1;
    }
    answered
}

/// One venue has a bad time of this kind.
fn live(victim: &str, what: &str) {
    run(async {
        let place = tempfile::tempdir().unwrap();
        let played: Vec<Played> =
            support::venues().filter(|venue| !SEEDED.contains(&venue.profile.name.as_str())).map(|venue| Played::prepare(place.path(), &venue)).collect();
        let config = Config {
            venues: SEEDED.map(Into::into).into(),
            play: played.iter().map(|played| played.file.clone()).collect(),
            pace: Duration::from_secs(30),
            symbols: 1,
            rate: 5.0,
            tick: Duration::from_millis(500),
            ..Config::default()
        };
        let (from, to) = (BEGINS.as_secs(), (BEGINS + LASTS).as_secs());
        let stage = Stage::new(&config, &format!("[[fault]]\n{what}\nvenue = \"{victim}\"\nfrom = \"{from}s\"\nto = \"{to}s\"\n"));
        let mut all = venues(&ALL);
        for venue in &mut all {
            for (market, surface) in &mut Arc::make_mut(&mut venue.profile).markets {
                if !SEEDED.iter().any(|seeded| surface.ws.ends_with(seeded)) {
                    surface.ws = format!("{}.{market}", surface.ws);
                }
            }
        }
        let channels: Vec<Channel> = TYPES.into_iter().filter_map(Channel::parse).collect();
        let job = Job {
            venues: all,
            markets: &MARKETS,
            channels: &channels,
            mode: Mode::Auto,
            interval: INTERVAL,
            all_events: true,
            seed: 1,
            state: (place.path(), "eight"),
        };
        let member = stage.start(job);
        let (end, mut served, mut told, mut now) = (BEGINS + LASTS + AFTERWARDS, Vec::new(), Vec::new(), Duration::ZERO);
        while now < end {
            now += Duration::from_secs(30);
            if now >= end {
                // Long enough for what is under way, and too short for questions about the silence.
                stage.until(end.saturating_sub(Duration::from_secs(3))).await;
                stage.sim.set_rate(0.0);
            }
            stage.until(now).await;
            served.extend(stage.sim.truth());
            for lines in stage.sim.played() {
                told.extend_from_slice(lines.as_bytes());
            }
        }
        let passed_on = member.events();
        let ids: BTreeSet<EventId> = passed_on.iter().map(|event| event.id).collect();
        let questions: Vec<Sent> = SEEDED.iter().flat_map(|venue| member.sent(venue)).filter(Sent::is_question).collect();
        // What is asked to know whether a stream is well is no source: it went out, or it did not.
        served.retain(|event| ids.contains(&event.id) || !questions.iter().any(|sent| sent.is_answered_by(event)));
        let line = |event: &Event, into: &mut Vec<u8>| {
            event.write_json(None, into);
            into.push(b'\n');
        };
        let mut seen = Vec::new();
        for event in &served {
            line(event, &mut told);
        }
        for event in &passed_on {
            line(event, &mut seen);
        }
        let sent = member.stop().await;
        let [truth, seen] = [told, seen].map(|lines| Events::parse(&String::from_utf8(lines).unwrap()));

        for venue in SEEDED {
            let own =
                |events: &Events| Events::parse(&events.lines().filter(|line| line.is_of(venue)).flat_map(|line| [line.text(), "\n"]).collect::<String>());
            let (truth, seen) = (own(&truth), own(&seen));
            assert_same(&truth.since_first_of(&seen), &seen, &TYPES);
        }
        let wrong: Vec<String> = played.iter().flat_map(|played| played.wrong(&truth, &seen, false)).collect();
        assert!(wrong.is_empty(), "{}:\n{}", wrong.len(), wrong[..wrong.len().min(20)].join("\n"));

        for (venue, sent) in &sent {
            // What is asked for all the time: the same words, four times a minute.
            let minute = |from: u32| answered(sent, &stage, Duration::from_mins(1) * from, Duration::from_mins(1) * (from + 1));
            let often = |from| minute(from).into_iter().filter(|(_, (times, _))| *times >= 3).map(|(target, _)| target).collect::<BTreeSet<_>>();
            let always = &often(2) & &often(3);
            if venue == victim {
                let since = answered(sent, &stage, BEGINS + LASTS, BEGINS + LASTS + BACK);
                let missing: Vec<_> = always.iter().filter(|target| !since.contains_key(*target)).collect();
                assert!(missing.is_empty(), "{victim} is not back: {missing:?}");
                let last = always.iter().filter_map(|target| since.get(target)).map(|(_, at)| at.saturating_sub(BEGINS + LASTS)).max();
                println!("{victim} ({what:?}) answers everything again after {last:?}");
            } else {
                for at in 4..14 {
                    let now = minute(at);
                    let missing: Vec<_> = always.iter().filter(|target| !now.contains_key(*target)).collect();
                    assert!(missing.is_empty(), "while {victim} has a bad time, {venue} is not asked in minute {at}: {missing:?}");
                }
            }
        }
    });
}

#[test]
fn refusals_of_one_cost_the_others_nothing() {
    live("okx", "action = \"status\"\nstatus = 503");
}

#[test]
fn web_pages_of_one_cost_the_others_nothing() {
    live("binance", "action = \"status\"\nstatus = 502\nbody = \"html\"");
}

#[test]
fn noise_of_one_costs_the_others_nothing() {
    live("kucoin", "action = \"garbage\"");
}

#[test]
fn a_slow_drip_of_one_costs_the_others_nothing() {
    live("deribit", "action = \"drip\"\nbytes = 16\nlatency = \"500ms\"");
}

#[test]
fn the_silence_of_one_costs_the_others_nothing() {
    live("bybit", "action = \"outage\"\nmanner = \"hang\"");
}
