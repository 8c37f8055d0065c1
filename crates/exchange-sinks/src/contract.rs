//! What every sink must do, whatever it writes to: run by each sink's own tests.

use std::ops::Range;
use std::sync::Arc;

use exchange_core::event::{Ident, Trade};
use exchange_core::{Batch, Body, Decimal, Event, Instrument, Market, Sealer, Time};

use crate::sink::Sink;

/// Runs a future to its end.
pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// A batch of trades with these ids, sealed.
pub(crate) fn batch(ids: Range<u64>) -> Arc<Batch> {
    let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", Some("BTC/USDT:USDT")));
    let trade = |id: u64| Trade { trade_id: Some(Ident::Number(id)), price: Decimal::from(7), size: Decimal::from(1), size_base: None, side: None };
    let mut events: Vec<Event> = ids.map(|id| Event::new(instrument.clone(), Time::from_micros(1), None, Body::Trade(trade(id)))).collect();
    Sealer::default().seal(&mut events);
    Arc::new(Batch::new(events))
}

/// Writes batches and flushes, again and again while the errors are of the passing kind, as a delivery does.
#[cfg(any(feature = "nats", feature = "kafka", feature = "amqp"))]
pub(crate) async fn insist(sink: &mut dyn Sink, batches: impl IntoIterator<Item = Arc<Batch>>) {
    const PAUSE: std::time::Duration = std::time::Duration::from_millis(20);
    for batch in batches {
        while let Err(error) = sink.write(&batch).await {
            assert!(error.is_retryable(), "{error}");
            tokio::time::sleep(PAUSE).await;
        }
    }
    while let Err(error) = sink.flush().await {
        assert!(error.is_retryable(), "{error}");
        tokio::time::sleep(PAUSE).await;
    }
}

/// Writes to a sink in every way that it must stand, and compares with what `read` finds afterwards.
pub(crate) fn suite<S: Sink>(mut sink: S, read: impl FnOnce(S) -> String) {
    let batches = [batch(0..1), batch(1..1), batch(1..700), batch(700..20_000), batch(20_000..20_001)];
    block_on(async {
        sink.flush().await.expect("there is nothing to flush, which is no error");
        for batch in &batches {
            sink.write(batch).await.expect("accepted");
        }
        sink.flush().await.expect("flushed");
        drop(sink.write(&batches[0]));
        let more = batch(20_001..20_003);
        sink.write(&more).await.expect("accepted after a flush");
        sink.close().await.expect("closed");
        sink.write(&more).await.expect_err("it was closed");
    });
    let found = read(sink);
    let wanted = batch(0..20_003);
    assert!(found.as_bytes() == wanted.lines(), "every line once, in order: {} of {} bytes", found.len(), wanted.lines().len());
}
