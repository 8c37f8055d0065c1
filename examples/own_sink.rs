//! A sink of one's own: it keeps the last trade of each instrument, and counts what was missed.
//!
//!     SIMULATE=1 cargo run --example own_sink

mod common;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use collector::core::{Batch, Body, Channel, Decimal, Market};
use collector::runtime::{Builder, Collector};
use collector::sinks::{Sink, SinkFuture};

/// What the sink and the rest of the program share.
#[derive(Default)]
struct Board {
    /// Price of the last trade, by venue and symbol.
    last: BTreeMap<(String, String), Decimal>,
    trades: u64,
    gaps: u64,
}

struct BoardSink(Arc<Mutex<Board>>);

impl Sink for BoardSink {
    fn name(&self) -> &'static str {
        "board:"
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        // `Ok` says that the batch was taken. An error that may pass (`SinkErrorKind::Retryable`) brings it again.
        Box::pin(async move {
            let mut board = self.0.lock().unwrap_or_else(PoisonError::into_inner);
            for event in batch.events() {
                match &event.body {
                    Body::Trade(trade) => {
                        let instrument = &event.instrument;
                        let symbol = instrument.symbol.as_deref().unwrap_or(&instrument.venue_symbol);
                        board.last.insert((instrument.venue.to_string(), symbol.to_owned()), trade.price.clone());
                        board.trades += 1;
                    }
                    // Whatever was missed is an event, too.
                    Body::Gap(_) => board.gaps += 1,
                    _ => {}
                }
            }
            Ok(())
        })
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }

    fn close(&mut self) -> SinkFuture<'_> {
        Box::pin(async { Ok(()) })
    }
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let (venues, _sim) = common::venues()?;
    let board = Arc::new(Mutex::new(Board::default()));
    let builder = venues.into_iter().fold(Collector::builder(), Builder::venue);
    let collector = builder.markets([Market::Linear]).channels([Channel::Trade]).sink(Box::new(BoardSink(board.clone()))).start()?;
    tokio::time::sleep(Duration::from_secs(5)).await;
    collector.stop().await;

    let board = board.lock().unwrap_or_else(PoisonError::into_inner);
    for ((venue, symbol), price) in &board.last {
        println!("{venue:<10} {symbol:<24} {price}");
    }
    println!("{} trades of {} instruments, {} gaps", board.trades, board.last.len(), board.gaps);
    Ok(())
}
