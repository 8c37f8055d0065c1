//! A venue that bans an address is left alone by all that have it, to the second.

use std::path::Path;
use std::time::Duration;

use exchange_core::{Channel, Market, Mode};
use venue_sim::Config;

use crate::net::Sent;
use crate::stage::{Job, Member, Stage, run, venues};

/// How long the venue wants to be left alone.
const BAN: Duration = Duration::from_mins(2);

/// How often each is asked.
const CYCLE: Duration = Duration::from_secs(5);

fn job<'a>(directory: &'a Path, name: &'a str, seed: u64) -> Job<'a> {
    let (markets, channels) = (&[Market::Spot, Market::Linear], &[Channel::Ticker, Channel::Mark, Channel::Funding, Channel::Trade]);
    Job { venues: venues(&["binance", "bybit"]), markets, channels, mode: Mode::Auto, interval: CYCLE, all_events: false, seed, state: (directory, name) }
}

/// When the venue said that it bans us.
fn banned(all: &[&Member], stage: &Stage) -> Option<Duration> {
    let refused = |sent: &Sent| sent.answer.filter(|answer| answer.status == 418).map(|answer| stage.at(answer.at));
    all.iter().find_map(|member| member.sent("binance").iter().find_map(refused))
}

#[test]
fn a_ban_of_two_minutes_is_kept_by_all_and_after_a_restart() {
    run(async {
        let place = tempfile::tempdir().unwrap();
        let config = Config { symbols: 2, rate: 20.0, tick: Duration::from_millis(100), ..Config::default() };
        let fault =
            "[[fault]]\naction = \"status\"\nstatus = 418\nretry_after = 120\nvenue = \"binance\"\npath = \"/fapi/v1/premiumIndex\"\nafter = 9\ncount = 1";
        let stage = Stage::new(&config, fault);
        let (first, second) = (stage.start(job(place.path(), "first", 1)), stage.start(job(place.path(), "second", 2)));
        let mut now = Duration::ZERO;
        let since = loop {
            now += Duration::from_secs(1);
            stage.until(now).await;
            if let Some(since) = banned(&[&first, &second], &stage) {
                break since;
            }
            assert!(now < Duration::from_mins(2), "it never bans");
        };
        let before: Vec<usize> = [&first, &second].iter().map(|member| member.sent("bybit").len()).collect();
        // One goes, comes back under its name, and one is new.
        stage.until(since + Duration::from_secs(30)).await;
        let mut sent = vec![first.stop().await];
        stage.until(since + Duration::from_secs(35)).await;
        let again = stage.start(job(place.path(), "first", 3));
        stage.until(since + Duration::from_secs(70)).await;
        let third = stage.start(job(place.path(), "third", 4));
        stage.until(since + BAN + Duration::from_mins(1)).await;
        let counted: Vec<usize> = [&again, &second, &third].iter().map(|member| member.sent("bybit").len()).collect();
        for member in [again, second, third] {
            sent.push(member.stop().await);
        }

        let bans: usize = sent.iter().flat_map(|sent| &sent["binance"]).filter(|sent| sent.answer.is_some_and(|answer| answer.status == 418)).count();
        assert_eq!(bans, 1);
        let mut came_back = Vec::new();
        for sent in &sent {
            let times: Vec<Duration> = sent["binance"].iter().filter(|sent| !sent.socket).map(|sent| stage.at(sent.at)).collect();
            let early: Vec<&Sent> =
                sent["binance"].iter().filter(|sent| (since..since + BAN).contains(&stage.at(sent.at)) && stage.at(sent.at) > since).collect();
            assert!(early.is_empty(), "banned from {since:?} on: {early:?}");
            came_back.push(times.into_iter().find(|at| *at >= since + BAN).map(|at| at.saturating_sub(since + BAN)));
        }
        assert_eq!(came_back[0], None, "the one that had ended");
        assert!(came_back[1..].iter().all(|back| back.is_some_and(|back| back < Duration::from_secs(6))), "{came_back:?}");
        // Another venue is asked by each of them as if nothing were: several times in each cycle of five seconds.
        assert!(counted[1] - before[1] > 60 && counted[0] > 40 && counted[2] > 30, "{counted:?}, and before {before:?}");
    });
}
