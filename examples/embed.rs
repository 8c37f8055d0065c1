//! A collector inside a program of one's own: what it collects goes to standard output as event lines.
//!
//!     SIMULATE=1 cargo run --example embed

mod common;

use std::time::Duration;

use collector::core::{Channel, Market};
use collector::runtime::{Builder, Collector};
use collector::sinks::SinkUri;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (venues, _sim) = common::venues()?;
    let builder = venues.into_iter().fold(Collector::builder(), Builder::venue);
    let collector = builder
        .markets([Market::Spot, Market::Linear])
        .channels([Channel::Ticker, Channel::Trade, Channel::Funding])
        // Without it, everything that the venues list.
        .choose(std::sync::Arc::new(|instrument| instrument.symbol.as_deref().is_some_and(|symbol| symbol.starts_with("BTC/"))))
        .sink(SinkUri::parse("stdout:")?.open()?)
        .start()?;

    // The program goes on with its own work; the collector runs on its tokio runtime.
    tokio::time::sleep(Duration::from_secs(5)).await;
    for venue in collector.monitor().status() {
        eprintln!("{}: {} events so far, ready: {}", venue.venue, venue.counts.events, venue.is_ready());
    }

    // What is on its way is written before this returns. To drop the collector stops it, too, without waiting.
    let summary = collector.stop().await;
    for (name, venue) in summary.venues {
        eprintln!("{name}: {} events, {} unchanged, {} gaps", venue.counts.events, venue.counts.unchanged, venue.counts.gaps);
    }
    Ok(())
}
