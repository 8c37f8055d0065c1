//! `collector replay`: captures through the whole pipeline into sinks, as fast as they came or as fast as it goes.

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exchange_core::capture::Capture;
use exchange_core::pipeline::Wanted;
use exchange_core::{Channel, Instrument, Market, Time, Venue};
use exchange_runtime::{Chooser, Passing, Replay};
use exchange_sinks::{SinkError, SinkErrorKind, SinkUri};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

use crate::args::ReplayArgs;
use crate::captures::Captures;
use crate::logging::{self, say};
use crate::run::{self, Signals, Usage};
use crate::settings::Settings;

/// Captures that wait to be replayed.
const QUEUE: usize = 256;

/// What becomes of the captures' own times.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Speed {
    /// As fast as it goes.
    Max,
    /// So many times as fast as they came.
    Times(f64),
}

impl Speed {
    /// Reads `1x`, `0.5x`, `max`.
    fn parse(text: &str) -> Result<Self, Usage> {
        if text == "max" {
            return Ok(Self::Max);
        }
        let times = text.strip_suffix('x').and_then(|times| times.parse().ok()).filter(|times: &f64| times.is_finite() && *times > 0.0);
        times.map(Self::Times).ok_or_else(|| Usage(format!("--speed: `{text}` is no speed (such as 1x, 10x, 0.5x, max)")))
    }
}

/// What was asked for; everything, where nothing was said.
pub(crate) struct Chosen {
    pub(crate) channels: Option<Vec<Channel>>,
    markets: Option<Vec<Market>>,
    chooser: Option<Chooser>,
}

impl Chosen {
    pub(crate) fn of(settings: &Settings) -> Self {
        Self {
            channels: (!settings.channels_are_default).then(|| settings.channels.clone()),
            markets: (!settings.markets_are_default).then(|| settings.markets.clone()),
            chooser: run::chooser(settings),
        }
    }
}

impl Wanted for Chosen {
    fn wants(&self, channel: Channel, instrument: &Instrument) -> bool {
        self.channels.as_ref().is_none_or(|channels| channels.contains(&channel))
            && self.markets.as_ref().is_none_or(|markets| markets.contains(&instrument.market))
            && self.chooser.as_ref().is_none_or(|chooser| chooser(instrument))
    }
}

/// Replays until the captures end, a signal comes, or a sink has had enough.
pub(crate) fn run(args: &ReplayArgs, settings: &Settings, venues: &[Venue], known: &[&str]) -> anyhow::Result<ExitCode> {
    let speed = Speed::parse(&args.speed)?;
    let captures = Captures::open(&args.files)?;
    logging::start(settings.log, settings.sinks.iter().any(SinkUri::is_stdout));
    // Its ledger would say of another run's events that they came twice: there is one if it has a name of its own.
    let state = if args.name.is_some() { run::claim(settings)? } else { None };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let status = runtime.block_on(async {
        let sinks = settings.sinks.iter().map(SinkUri::open).collect::<Result<Vec<_>, _>>().map_err(|error| Usage(error.to_string()))?;
        let passing = Passing { wanted: Arc::new(Chosen::of(settings)), all_events: settings.all_events, fold: settings.fold };
        let (stop, stopped) = watch::channel(false);
        let mut replay = Replay::new(venues, &passing, sinks, stopped);
        if let Some(state) = state {
            replay = replay.with_ledger(state).map_err(|error| Usage(format!("{:#}", anyhow::Error::from(error))))?;
        }
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        play(settings, replay, Read::start(captures, known)?, speed, stop).await
    });
    runtime.shutdown_background();
    status
}

async fn play(settings: &Settings, mut replay: Replay, mut read: Read, speed: Speed, stop: watch::Sender<bool>) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new()?;
    let mut ended = stop.subscribe();
    // The first signal ends the captures; what was decoded of them still goes out. The second ends everything at once.
    tokio::spawn(async move {
        signals.next().await;
        stop.send_replace(true);
        let status = signals.next().await;
        std::process::exit(status);
    });
    let mut pace = Pace { speed, began: None };
    let mut failure = None;
    while failure.is_none() {
        let next = if let Ok(capture) = read.captures.try_recv() {
            Some(capture)
        } else {
            // Nothing waits in here while nothing comes.
            failure = replay.pass_on().await.err();
            tokio::select! {
                next = read.captures.recv() => next,
                _ = ended.wait_for(|ended| *ended) => None,
            }
        };
        let Some(capture) = next.filter(|_| !*ended.borrow()) else { break };
        if let Some(due) = pace.due(capture.received, Instant::now()).filter(|due| *due > Instant::now()) {
            failure = replay.pass_on().await.err();
            tokio::select! {
                () = tokio::time::sleep_until(due) => {}
                _ = ended.wait_for(|ended| *ended) => break,
            }
        }
        if failure.is_none() {
            failure = replay.take(&capture).await.err();
        }
    }
    let interrupted = *ended.borrow();
    drop(read.captures);
    let summary = replay.finish().await;
    let failed = failure.as_ref().is_some_and(|error: &SinkError| error.kind() != SinkErrorKind::Closed);
    let status = run::report(settings, &summary, interrupted, failed);
    if interrupted || failure.is_some() {
        // The reader may wait for standard input.
        return Ok(status);
    }
    let told = read.thread.join().map_err(|_| anyhow::anyhow!("the captures' reader failed"))?;
    Ok(match told {
        _ if status != ExitCode::SUCCESS => status,
        Told { unreadable: 0, strange: 0 } => status,
        Told { unreadable: 0, strange } => {
            say!("{strange} lines were no captures of a venue that is known here");
            ExitCode::from(3)
        }
        Told { .. } => ExitCode::FAILURE,
    })
}

/// When captures are due.
struct Pace {
    speed: Speed,
    /// The time of the first capture, and when it was replayed.
    began: Option<(Time, Instant)>,
}

impl Pace {
    /// When a capture is due that is read now.
    fn due(&mut self, received: Time, now: Instant) -> Option<Instant> {
        let Speed::Times(times) = self.speed else { return None };
        let (first, began) = *self.began.get_or_insert((received, now));
        // A pause of more than centuries is none that anyone waits for.
        let after = Duration::try_from_secs_f64(received.since(first).as_secs_f64() / times).ok()?;
        began.checked_add(after)
    }
}

/// The thread that reads captures: files block.
struct Read {
    captures: mpsc::Receiver<Capture>,
    thread: std::thread::JoinHandle<Told>,
}

/// What was said about the captures on standard error.
#[derive(Debug, Default)]
struct Told {
    /// Files that could not be read to their end.
    unreadable: u64,
    /// Lines that are no captures, or of a venue that is not known.
    strange: u64,
}

impl Read {
    fn start(mut captures: Captures, known: Vec<String>) -> anyhow::Result<Self> {
        let (sender, receiver) = mpsc::channel(QUEUE);
        let thread = std::thread::Builder::new().name("captures".into()).spawn(move || {
            let mut unreadable = 0;
            loop {
                let mut capture = Capture::default();
                match captures.next_capture(&mut capture, &known) {
                    // Nobody may want it any more.
                    Ok(more) if !more || sender.blocking_send(capture).is_err() => break,
                    Ok(_) => {}
                    Err(error) => {
                        unreadable += 1;
                        say!("{error:#}");
                    }
                }
            }
            Told { unreadable, strange: captures.strange() }
        })?;
        Ok(Self { captures: receiver, thread })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn speeds_are_factors_or_none_at_all() {
        let read = |text| Speed::parse(text).map_err(|error| error.to_string());
        assert_eq!((read("max"), read("1x"), read("0.5x")), (Ok(Speed::Max), Ok(Speed::Times(1.0)), Ok(Speed::Times(0.5))));
        for text in ["", "x", "10", "-1x", "0x", "infx", "nanx"] {
            assert_eq!(read(text).unwrap_err(), format!("--speed: `{text}` is no speed (such as 1x, 10x, 0.5x, max)"));
        }
    }

    #[test]
    fn the_pace_is_that_of_the_captures() {
        let (now, at) = (Instant::now(), |seconds: i64| Time::from_micros(seconds * 1_000_000));
        let mut pace = Pace { speed: Speed::Times(10.0), began: None };
        assert_eq!(pace.due(at(100), now), Some(now));
        let later = now + Duration::from_secs(1);
        assert_eq!(pace.due(at(400), later), Some(now + Duration::from_secs(30)));
        assert_eq!(pace.due(at(50), later), Some(now), "an earlier one is due at once");
        assert_eq!(Pace { speed: Speed::Max, began: None }.due(at(1), now), None);
    }
}
