//! A collector under load, with files beside the sinks that are tested.

use std::process::Command;

use super::{Events, Line, MOMENT, Place, Running, STREAMED, Sim, eventually};

/// The sink that is always well: files beside the others.
pub(crate) const FILES: &str = "file:out";
/// Events a second that the venues serve.
pub(crate) const RATE: f64 = 2500.0;

/// What a sink has written.
pub(crate) const WRITTEN: &str = "collector_sink_events_total";

/// A collector of two venues with these sinks.
pub(crate) fn loaded(place: &Place, sim: &Sim, sinks: &[&str]) -> Command {
    let mut command = place.collector("run --exchanges binance,bybit --markets linear,inverse --mode stream --all-events --listen 127.0.0.1:0 --name mine");
    command.args(["--channels", STREAMED]).args(sinks.iter().flat_map(|sink| ["--sink", sink])).args(sim.options());
    command
}

/// Waits until so many more events are in the files.
pub(crate) fn goes_on(run: &Running, events: u64) {
    let before = run.of_sink(WRITTEN, FILES);
    eventually("more in the files", || (run.of_sink(WRITTEN, FILES) >= before + events).then_some(()));
}

/// What the venues served, whose ids are known, from a moment after the first that was seen to a moment before the last.
pub(crate) fn served<'a>(truth: &'a Events, seen: &Events) -> impl Iterator<Item = Line<'a>> {
    let first = seen.lines().map(Line::received).min().unwrap() + 2 * MOMENT;
    let last = seen.of(&["quote", "trade", "book"]).map(Line::received).max().unwrap() - MOMENT;
    truth.of(&["quote", "trade", "book", "mark", "liquidation"]).filter(move |line| line.is_known_by_id() && (first..last).contains(&line.received()))
}
