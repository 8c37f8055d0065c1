//! Several collectors side by side, each with its share of the instruments: together they have each of them once.
#![cfg(unix)]

mod support;

use std::collections::BTreeSet;

use support::{Events, Line, Place, Running, STREAMED, Sim, Stdout, assert_same, market};
use venue_sim::Config;

#[test]
fn shares_together_are_everything_once() {
    let (place, sim) = (Place::new(), Sim::start(Config { events: Some(12_000), ..market(8, 3000.0) }));
    // The same sink, the same state directory: they are told apart by their shares.
    let start = |share: &str| {
        let mut command = place.collector("run --exchanges binance,bybit --markets spot,linear --mode stream --all-events --listen 127.0.0.1:0");
        let sink = format!("file:out-{}", &share[..1]);
        Running::start(command.args(["--channels", STREAMED, "--shard", share, "--sink", &sink]).args(sim.options()), Stdout::Collect)
    };
    let shares = ["0/3", "1/3", "2/3"];
    let runs = shares.map(start);
    sim.still();
    for run in runs {
        run.settle();
        run.stop().ok();
    }
    let seen = shares.map(|share| Events::of_sink(&place.path(&format!("out-{}", &share[..1]))));
    let instruments = seen.each_ref().map(|events| {
        let name = |line: Line<'_>| ["venue", "market", "venue_symbol"].map(|key| line.json()[key].as_str().unwrap().to_owned());
        events.lines().map(name).collect::<BTreeSet<_>>()
    });
    assert!(instruments.iter().all(|own| own.len() >= 2), "{instruments:?}");
    let all: BTreeSet<_> = instruments.iter().flatten().cloned().collect();
    assert_eq!(all.len(), instruments.iter().map(BTreeSet::len).sum::<usize>(), "no instrument is in two shares");
    assert_eq!(all.len(), 32, "eight of two markets of two venues");
    let (_, truth) = sim.end();
    let together = Events::parse(&seen.iter().flat_map(Events::lines).flat_map(|line| [line.text(), "\n"]).collect::<String>());
    together.assert_once();
    // One stream brings the tickers and liquidations of all, and was there for one of the three before the others came.
    assert_same(&truth, &together, &["trade", "quote"]);
}
