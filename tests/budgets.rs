//! A venue counts by address: what one process spends, and what it is banned for, holds for all on this machine, and for
//! those that come after it.
#![cfg(unix)]

mod support;

use std::path::Path;
use std::time::{Duration, Instant};

use rustix::process::Signal;
use support::{Place, Running, Sim, Stdout, eventually, get, market, metric};
use venue_sim::Config;

/// How often a venue was asked for anything, sockets included.
fn requests_of(sim: &Sim, venue: &str) -> u64 {
    sim.handle().counters().requests.iter().filter(|(path, _)| path.starts_with(&format!("{venue}/"))).map(|(_, count)| count).sum()
}

/// How often a run had an answer of a kind.
fn answers(run: &Running, venue: &str, outcome: &str) -> u64 {
    metric(&run.metrics(), "collector_http_requests_total", &[("venue", venue), ("outcome", outcome)])
}

fn collecting(place: &Place, sim: &Sim, arguments: &str) -> Running {
    let mut command = place.collector(&format!("run --sink null: --listen 127.0.0.1:0 {arguments}"));
    Running::start(command.args(sim.options()), Stdout::Collect)
}

#[test]
fn a_ban_holds_for_every_process_and_after_a_restart() {
    let place = Place::new();
    let fault = "[[fault]]\naction = \"status\"\nstatus = 418\nretry_after = 5\nvenue = \"binance\"\npath = \"/fapi/v1/premiumIndex\"\nafter = 4\ncount = 1";
    let sim = Sim::faulty(market(5, 500.0), fault);
    let start = |name: &str| {
        let what = "--exchanges binance,bybit --markets spot,linear --channels ticker,mark,funding --mode poll --interval 250ms";
        collecting(&place, &sim, &format!("{what} {name}"))
    };
    let (first, second) = (start("--name first"), start("--name second"));
    let both = [&first, &second];
    eventually("the refusal", || both.iter().any(|run| answers(run, "binance", "banned") == 1).then_some(()));
    let since = Instant::now();
    // What was under way at that moment comes in, too.
    std::thread::sleep(Duration::from_millis(250));
    let (banned, open) = (requests_of(&sim, "binance"), requests_of(&sim, "bybit"));

    first.signal(Signal::KILL);
    first.finish();
    // Nothing is claimed without a name; what holds against the machine is known all the same.
    let again = start("--sink stdout:");
    let until = eventually("what it knows", || {
        let until = metric(&again.metrics(), "collector_banned_until_seconds", &[("venue", "binance")]);
        (until > 0).then_some(until)
    });
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    assert!(until >= now && until <= now + 5, "{until}, and it is {now}");
    assert_eq!(metric(&again.metrics(), "collector_banned_until_seconds", &[("venue", "bybit")]), 0);
    let (status, said) = get(again.address(), "/readyz");
    assert!(status == 503 && said.contains("nothing is asked of it until 20"), "{said}");
    while since.elapsed() < Duration::from_millis(4700) {
        assert_eq!(requests_of(&sim, "binance"), banned, "after {:?}", since.elapsed());
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(requests_of(&sim, "bybit") > open + 20, "which has nothing to do with it");
    assert!(answers(&again, "bybit", "ok") > 4 && answers(&second, "bybit", "ok") > 4);

    for run in [&again, &second] {
        let before = answers(run, "binance", "ok");
        eventually("its next request", || (answers(run, "binance", "ok") > before).then_some(()));
    }
    assert!(since.elapsed() < Duration::from_secs(8), "{:?}", since.elapsed());
    eventually("the end of the ban", || (metric(&again.metrics(), "collector_banned_until_seconds", &[]) == 0).then_some(()));
    assert_eq!(sim.handle().counters().requests["binance/fapi/v1/exchangeInfo"], 3, "one for each process, none too early");
    again.stop().ok();
    second.stop().ok();
}

#[test]
fn two_collectors_and_the_next_one_share_a_budget() {
    let (place, sim) = (Place::new(), Sim::start(market(5, 100.0)));
    // Of which nobody learns from the venue: a ticker costs 40, a premium index 10, of 360 in 8 seconds.
    let limit =
        "--set venues.binance.limits.linear.budget=400 --set venues.binance.limits.linear.window=8s --set venues.binance.limits.linear.used_header=x-none";
    let start = || collecting(&place, &sim, &format!("--sink stdout: --exchanges binance --channels ticker,mark --mode poll --interval 250ms {limit}"));
    let spent = || {
        let path = |path: &str| sim.requests(&format!("binance/fapi/v1/{path}"));
        40 * path("ticker/24hr") + 10 * path("premiumIndex") + path("exchangeInfo")
    };
    let both = [start(), start()];
    for run in &both {
        // Before either has used up all of it.
        eventually("its first answers", || (answers(run, "binance", "ok") >= 2).then_some(()));
    }
    let since = Instant::now();
    eventually("all of it", || (spent() >= 280).then_some(()));
    for run in &both {
        let used = metric(&run.metrics(), "collector_limit_used", &[("limit", "linear")]);
        assert!(used > 100 && used <= 360, "{used}");
    }
    let before = spent();
    for run in both {
        run.signal(Signal::KILL);
        run.finish();
    }
    let third = start();
    while since.elapsed() < Duration::from_secs(5) {
        assert!(spent() <= 360, "{} after {:?}", spent(), since.elapsed());
        std::thread::sleep(Duration::from_millis(20));
    }
    assert!(answers(&third, "binance", "ok") >= 1 && spent() - before <= 80, "it knows what is left");
    // The window goes on, and so does it.
    eventually("more", || (spent() > 400).then_some(()));
    third.stop().ok();
}

#[test]
fn five_hundred_books_at_once_stay_within_the_budget() {
    // A book that begins anew asks for its snapshot when it changes for the first time.
    let (place, sim) = (Place::new(), Sim::start(Config { venues: vec!["binance".into()], ..market(500, 2000.0) }));
    let run = collecting(&place, &sim, "--exchanges binance --channels book,mark,funding --interval 500ms");
    let (snapshots, funding) = (|| sim.requests("binance/fapi/v1/depth"), || sim.requests("binance/fapi/v1/premiumIndex"));
    // 90 % of 2400 a minute, of which a tenth is left to funding; a snapshot costs 20, a premium index 10.
    eventually("as many as there may be", || (20 * snapshots() + 10 * funding() >= 1920).then_some(()));
    let (of_books, begun, since) = (snapshots(), funding(), Instant::now());
    eventually("funding goes on", || (funding() >= begun + 3).then_some(()));
    std::thread::sleep(Duration::from_secs(2).saturating_sub(since.elapsed()));
    assert!(of_books > 60 && snapshots() <= of_books + 1, "{of_books}, then {}", snapshots());
    assert!(20 * snapshots() + 10 * funding() <= 2160);
    let metrics = run.metrics();
    for outcome in ["rate_limited", "banned"] {
        assert_eq!(metric(&metrics, "collector_http_requests_total", &[("outcome", outcome)]), 0, "{outcome}");
    }
    let used = metric(&metrics, "collector_limit_used", &[("limit", "linear")]);
    assert!((1900..=2160).contains(&used), "{used}");
    run.stop().ok();
}

#[test]
fn what_the_venue_says_that_it_allows_is_what_is_spent() {
    let place = Place::new();
    // The venue as it was captured, but that it allows a quarter of what its description says.
    let captured = std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("../exchange-venues/src/binance/fixtures/linear.ndjson")).unwrap();
    let (described, said) = (r#"\"intervalNum\":1,\"limit\":2400"#, r#"\"intervalNum\":1,\"limit\":600"#);
    assert!(captured.contains(described));
    let file = place.write("captured.ndjson", &captured.replace(described, said));
    let sim = venue_sim::start(&Config { venues: Vec::new(), play: vec![file], ..Config::default() }).unwrap();
    let spent = || {
        let requests = sim.counters().requests;
        let cost = |path: &str, cost: u64| requests.get(&format!("binance/fapi/v1/{path}")).copied().unwrap_or(0) * cost;
        cost("ticker/24hr", 40) + cost("premiumIndex", 10) + cost("exchangeInfo", 1)
    };
    let mut command = place.collector("run --sink null: --listen 127.0.0.1:0 --exchanges binance --channels ticker,mark --mode poll --interval 100ms");
    let run = Running::start(command.args(sim.options()), Stdout::Collect);
    // 90 % of 600 a minute, of which a fifth is left to what is more urgent.
    eventually("as much as there may be", || (spent() >= 390).then_some(()));
    std::thread::sleep(Duration::from_secs(2));
    assert!(spent() <= 433, "{}", spent());
    assert!(answers(&run, "binance", "ok") >= 8);
    let finished = run.stop().ok();
    assert!(finished.stderr.contains("the venue's limit is another one than known"), "{}", finished.stderr);
}
