//! `collector tail`: what sinks hold, to standard output, as it comes: of several (two collectors that run side by side),
//! each event once.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exchange_core::ledger::Hour;
use exchange_core::pipeline::Seen;
use exchange_core::profile::duration;
use exchange_core::{Batch, EventId, Time};
use exchange_sinks::{Reading, Since, SinkErrorKind, SinkUri, Source, SourceUri};
use tokio::sync::mpsc;

use crate::args::TailArgs;
use crate::cmd_audit::hour;
use crate::logging::{self, say};
use crate::run::{Signals, Usage};
use crate::settings::Settings;

/// Batches that wait to be merged.
const QUEUE: usize = 16;
/// After trouble that may pass, the first time and at most: each time that it has not passed, twice as long as before.
const PAUSES: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(16));

/// Prints events until the sources end, a signal comes, or nobody reads any more.
pub(crate) fn run(args: &TailArgs, settings: &Settings, now: Time) -> anyhow::Result<ExitCode> {
    let usage = |error: &dyn std::fmt::Display| Usage(error.to_string());
    let uris: Vec<SourceUri> = args.sources.iter().map(|text| SourceUri::parse(text)).collect::<Result<_, _>>().map_err(|error| usage(&error))?;
    let reading = Reading { from: since(args.from.as_deref().unwrap_or(if args.no_follow { "start" } else { "now" }), now)?, follow: !args.no_follow };
    // What a source has to say, it may say as soon as it is open.
    logging::start(settings.log, true);
    let sources = uris.iter().map(|uri| uri.open(reading)).collect::<Result<Vec<_>, _>>().map_err(|error| usage(&error))?;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().context("cannot start the runtime")?;
    let status = runtime.block_on(tail(sources, usize::try_from(args.window).unwrap_or(usize::MAX)));
    runtime.shutdown_background();
    status
}

/// Reads `start`, `now`, `2026-01-05T13`, `2026-01-05`, or how long ago it was.
fn since(text: &str, now: Time) -> Result<Since, Usage> {
    let ago = || {
        let micros = i64::try_from(duration::parse(text).ok()?.as_micros()).ok()?;
        Some(Time::from_micros(now.micros().saturating_sub(micros)))
    };
    match text {
        "start" => Ok(Since::Start),
        "now" => Ok(Since::Now),
        _ => ago()
            .or_else(|| hour(text, 0, now).map(Hour::start))
            .map(Since::Time)
            .ok_or_else(|| Usage(format!("--from: `{text}` is no time (such as start, now, 2026-01-05T13, 2026-01-05, or 24h ago: 24h)"))),
    }
}

async fn tail(sources: Vec<Box<dyn Source>>, window: usize) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut sink = SinkUri::parse("stdout:").and_then(|uri| uri.open())?;
    let (sender, mut batches) = mpsc::channel(QUEUE);
    let readers: Vec<_> = sources.into_iter().map(|source| tokio::spawn(read(source, sender.clone()))).collect();
    drop(sender);
    let mut merge = Merge::new(window);
    let mut interrupted = false;
    let printed = loop {
        let batch = tokio::select! {
            _ = signals.next() => {
                interrupted = true;
                break Ok(());
            }
            batch = batches.recv() => batch,
        };
        let Some(batch) = batch else { break Ok(()) };
        let batch = Arc::new(batch.filtered(|event| merge.is_new(event.id)));
        tokio::select! {
            _ = signals.next() => {
                interrupted = true;
                break Ok(());
            }
            written = sink.write(&batch) => if let Err(error) = written {
                break Err(error);
            }
        }
    };
    // From here on a second signal ends everything at once.
    tokio::spawn(async move {
        let status = signals.next().await;
        std::process::exit(status);
    });
    let printed = match printed {
        Ok(()) => sink.close().await,
        failed => failed,
    };
    let mut failed = false;
    for reader in readers {
        if interrupted || printed.is_err() {
            reader.abort();
        } else {
            failed |= !reader.await.context("a reader failed")?;
        }
    }
    say!("{} events, {} repetitions left out", merge.new, merge.repetitions);
    match printed {
        Err(error) if error.kind() != SinkErrorKind::Closed => Err(error.into()),
        _ => Ok(ExitCode::from(u8::from(failed))),
    }
}

/// Reads a source to its end. Whether all of it could be read.
async fn read(mut source: Box<dyn Source>, batches: mpsc::Sender<Batch>) -> bool {
    let mut complete = true;
    let mut pause = PAUSES.0;
    loop {
        match source.next().await {
            Ok(None) => return complete,
            Ok(Some(batch)) => {
                pause = PAUSES.0;
                if batches.send(batch).await.is_err() {
                    return complete;
                }
            }
            Err(error) if error.is_retryable() => {
                tracing::warn!(source = source.name(), %error, "cannot read, trying again");
                tokio::time::sleep(pause).await;
                pause = PAUSES.1.min(pause * 2);
            }
            Err(error) => {
                tracing::error!(source = source.name(), %error, "not everything can be read");
                complete = false;
            }
        }
    }
}

/// Tells what was seen before, and counts.
struct Merge {
    seen: Seen,
    new: u64,
    repetitions: u64,
}

impl Merge {
    fn new(window: usize) -> Self {
        Self { seen: Seen::new(window), new: 0, repetitions: 0 }
    }

    fn is_new(&mut self, id: EventId) -> bool {
        let new = self.seen.insert(id);
        *(if new { &mut self.new } else { &mut self.repetitions }) += 1;
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_named_or_so_long_ago() {
        let now = Time::from_date(2026, 1, 5).unwrap();
        let read = |text| since(text, now).map_err(|error| error.to_string());
        assert_eq!((read("start"), read("now")), (Ok(Since::Start), Ok(Since::Now)));
        assert_eq!(read("24h"), Ok(Since::Time(Time::from_date(2026, 1, 4).unwrap())));
        assert_eq!(read("2026-01-04"), Ok(Since::Time(Time::from_date(2026, 1, 4).unwrap())));
        assert!(read("yesterday").unwrap_err().starts_with("--from: `yesterday` is no time"));
    }
}
