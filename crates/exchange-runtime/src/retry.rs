//! Writing to a sink that has no journal: what it refuses is tried again, since it is nowhere else.

use std::sync::Arc;
use std::time::Duration;

use exchange_core::Batch;
use exchange_sinks::{Sink, SinkError};

/// The first pause between attempts, which doubles from one to the next, and the longest.
const PAUSES: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Writes a batch, as often as it takes. Once `is_ending`, a sink in trouble has one more attempt.
///
/// # Errors
/// The sink's last: it cannot take the batch, or everything ends.
pub(crate) async fn write(sink: &mut dyn Sink, name: &str, batch: &Arc<Batch>, is_ending: impl Fn() -> bool) -> Result<(), SinkError> {
    let mut pause = PAUSES.0;
    while let Err(error) = sink.write(batch).await {
        // On the way out there is nobody left to wait for.
        if !error.is_retryable() || (is_ending() && pause > PAUSES.0) {
            return Err(error);
        }
        tracing::warn!(sink = name, %error, "cannot write, trying again");
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSES.1);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use exchange_sinks::{SinkErrorKind, SinkFuture};
    use tokio::time::Instant;

    use super::*;

    /// Refuses what is written to it so often, with this.
    struct Refusing(u32, SinkErrorKind);

    impl Sink for Refusing {
        fn name(&self) -> &'static str {
            "refusing"
        }

        fn write<'a>(&'a mut self, _: &'a Arc<Batch>) -> SinkFuture<'a> {
            let refuses = self.0 > 0;
            self.0 = self.0.saturating_sub(1);
            Box::pin(std::future::ready(if refuses { Err(SinkError::new(self.1, "not now")) } else { Ok(()) }))
        }

        fn flush(&mut self) -> SinkFuture<'_> {
            Box::pin(std::future::ready(Ok(())))
        }

        fn close(&mut self) -> SinkFuture<'_> {
            self.flush()
        }
    }

    /// Whether a sink that refuses so often gets a batch, how often it would still refuse, and how many milliseconds it took.
    async fn written(times: u32, kind: SinkErrorKind, is_ending: bool) -> (bool, u32, u128) {
        let mut sink = Refusing(times, kind);
        let began = Instant::now();
        let result = write(&mut sink, "refusing", &Arc::new(Batch::new(Vec::new())), || is_ending).await;
        (result.is_ok(), sink.0, began.elapsed().as_millis())
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_pass_is_waited_for_longer_and_longer() {
        assert_eq!(written(0, SinkErrorKind::Retryable, false).await, (true, 0, 0));
        assert_eq!(written(3, SinkErrorKind::Retryable, false).await, (true, 0, 200 + 400 + 800));
        let doubled: u128 = (0..6).map(|n| 200 << n).sum();
        assert_eq!(written(8, SinkErrorKind::Retryable, false).await, (true, 0, doubled + 10_000 + 10_000));
    }

    #[tokio::test(start_paused = true)]
    async fn what_does_not_pass_and_what_ends_is_not_waited_for() {
        assert_eq!(written(3, SinkErrorKind::Permanent, false).await, (false, 2, 0));
        assert_eq!(written(3, SinkErrorKind::Retryable, true).await, (false, 1, 200), "one more attempt");
        assert_eq!(written(1, SinkErrorKind::Retryable, true).await, (true, 0, 200));
    }
}
