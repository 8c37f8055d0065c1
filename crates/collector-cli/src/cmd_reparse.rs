//! `collector reparse`: what captures mean today against the events that were collected from them: what a changed decoder
//! makes different.
//!
//! The events are read twice. First for their ids (16 bytes of memory each, whatever they are); then the captures are decoded,
//! and what they give is looked up among the ids; then, if anything differs, the events again, for those that nothing
//! gave. Of the differences a bounded number is kept, to find out which old event became which new one.

mod compare;
mod report;

use std::collections::HashSet;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exchange_core::capture::Capture;
use exchange_core::pipeline::Wanted;
use exchange_core::{Batch, Body, Channel, Event, Instrument, Market, Offline, Pipeline, Sealer, Venue};
use exchange_sinks::{Reading, Since, Sink, SinkUri, SourceUri};

use self::compare::{Comparison, Ids};
use crate::args::ReparseArgs;
use crate::captures::Captures;
use crate::cmd_replay::Chosen;
use crate::logging;
use crate::run::Usage;
use crate::settings::Settings;

/// Decoded events that are compared together.
const TOGETHER: usize = 512;
/// Between attempts to write what a sink refused.
const PAUSE: Duration = Duration::from_secs(1);

/// Compares, prints what differs, and writes what is new or changed to the sinks, if there are any.
pub(crate) fn run(args: &ReparseArgs, settings: &Settings, venues: &[Venue], known: &[&str]) -> anyhow::Result<ExitCode> {
    let captures = Captures::open(&args.files)?;
    let events = source(&args.events)?;
    let sinks: Vec<Box<dyn Sink>> = if args.passing.sink.is_empty() {
        Vec::new()
    } else {
        settings.sinks.iter().map(SinkUri::open).collect::<Result<_, _>>().map_err(|error| Usage(error.to_string()))?
    };
    // What is read from is looked at before hours are spent on decoding.
    drop(events.open(ALL).map_err(|error| Usage(error.to_string()))?);
    logging::start(settings.log, true);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("cannot start the runtime")?;
    runtime.block_on(async {
        let known = known.iter().map(|name| (*name).to_owned()).collect();
        let compared = venues.iter().map(|venue| venue.profile.name.clone()).collect();
        let mut reparse = Reparse { settings, events, known, venues: compared, comparison: Comparison::new(args.examples), sinks };
        let wanted = reparse.read_ids().await?;
        let strange = reparse.decode(venues, captures, Arc::new(wanted)).await?;
        reparse.read_missing().await?;
        for sink in &mut reparse.sinks {
            sink.close().await?;
        }
        let comparison = reparse.comparison;
        report::print(&comparison, args.json)?;
        Ok(match (comparison.differs(), strange) {
            (true, _) => ExitCode::FAILURE,
            (false, 0) => ExitCode::SUCCESS,
            (false, _) => ExitCode::from(3),
        })
    })
}

const ALL: Reading = Reading { from: Since::Start, follow: false };

/// Where the collected events are: a source's address, or a path.
fn source(text: &str) -> Result<SourceUri, Usage> {
    let is_address = text.split_once(':').is_some_and(|(scheme, _)| SinkUri::is_scheme(scheme));
    let source = if is_address { SourceUri::parse(text) } else { SourceUri::of_path(text) };
    source.map_err(|error| Usage(format!("--events: {error}")))
}

/// What is compared: what was asked for, and of the channels, if nobody named any, those that were collected.
struct Compared {
    chosen: Chosen,
    collected: Option<HashSet<(Arc<str>, Market, Channel)>>,
}

impl Wanted for Compared {
    fn wants(&self, channel: Channel, instrument: &Instrument) -> bool {
        let collected = |all: &HashSet<(Arc<str>, Market, Channel)>| all.contains(&(instrument.venue.clone(), instrument.market, channel));
        self.chosen.wants(channel, instrument) && self.collected.as_ref().is_none_or(collected)
    }
}

struct Reparse<'a> {
    settings: &'a Settings,
    events: SourceUri,
    /// The venues that there are.
    known: Vec<String>,
    /// Those that are compared.
    venues: HashSet<String>,
    comparison: Comparison,
    sinks: Vec<Box<dyn Sink>>,
}

impl Reparse<'_> {
    /// Reads the collected events for the first time.
    async fn read_ids(&mut self) -> anyhow::Result<Compared> {
        let chosen = Chosen::of(self.settings);
        let mut collected = HashSet::new();
        let mut ids = Ids::default();
        let mut source = self.events.open(ALL)?;
        while let Some(batch) = source.next().await.with_context(|| format!("cannot read `{}`", self.events))? {
            for event in batch.events().iter().filter(|event| self.is_compared(event, &chosen)) {
                ids.add(event.id);
                if let Some(channel) = event.body.channel() {
                    let key = (event.instrument.venue.clone(), event.instrument.market, channel);
                    if !collected.contains(&key) {
                        collected.insert(key);
                    }
                }
            }
        }
        self.comparison.collected(ids);
        let collected = chosen.channels.is_none().then_some(collected);
        Ok(Compared { chosen, collected })
    }

    /// Decodes the captures; how many lines were none.
    async fn decode(&mut self, venues: &[Venue], mut captures: Captures, wanted: Arc<dyn Wanted>) -> anyhow::Result<u64> {
        let (all_events, fold) = (self.settings.all_events, self.settings.fold);
        let mut offline = Offline::new(venues.iter().cloned());
        let mut ways: Vec<(&str, Pipeline, Vec<Event>)> = venues
            .iter()
            .map(|venue| {
                let name = venue.profile.name.as_str();
                (name, Pipeline::new(name, wanted.clone(), all_events, fold), Vec::new())
            })
            .collect();
        let mut sealer = Sealer::default();
        let mut capture = Capture::default();
        while captures.next_capture(&mut capture, &self.known)? {
            let Some((_, pipeline, events)) = ways.iter_mut().find(|(name, ..)| *name == capture.venue) else { continue };
            self.comparison.captured(&capture.venue, capture.received);
            offline.capture(&capture, events);
            if events.len() >= TOGETHER {
                let news = self.comparison.compare(pipeline, &mut sealer, std::mem::take(events));
                self.write(news).await?;
            }
        }
        for (_, pipeline, events) in &mut ways {
            let news = self.comparison.compare(pipeline, &mut sealer, std::mem::take(events));
            self.write(news).await?;
        }
        Ok(captures.strange())
    }

    /// Reads the collected events again, for those that the captures did not give.
    async fn read_missing(&mut self) -> anyhow::Result<()> {
        if self.comparison.all_found() {
            self.comparison.finish();
            return Ok(());
        }
        let chosen = Chosen::of(self.settings);
        let mut source = self.events.open(ALL)?;
        while let Some(batch) = source.next().await.with_context(|| format!("cannot read `{}`", self.events))? {
            for (event, line) in batch.records() {
                if self.is_compared(event, &chosen)
                    && let Some(corrected) = self.comparison.missing(event, line)
                {
                    self.write(Batch::parse(corrected)?).await?;
                }
            }
        }
        self.comparison.finish();
        Ok(())
    }

    /// Whether an event was asked for.
    fn is_compared(&self, event: &Event, chosen: &Chosen) -> bool {
        let channel = match &event.body {
            Body::Gap(gap) => Some(gap.channel),
            Body::Refill(refill) => Some(refill.channel),
            body => body.channel(),
        };
        self.venues.contains(&*event.instrument.venue) && channel.is_none_or(|channel| chosen.wants(channel, &event.instrument))
    }

    /// Hands events to the sinks.
    async fn write(&mut self, batch: Batch) -> anyhow::Result<()> {
        if batch.events().is_empty() {
            return Ok(());
        }
        let batch = Arc::new(batch);
        for sink in &mut self.sinks {
            while let Err(error) = sink.write(&batch).await {
                if !error.is_retryable() {
                    return Err(error).with_context(|| format!("cannot write to {}", sink.name()));
                }
                tracing::warn!(sink = sink.name(), %error, "cannot write, trying again");
                tokio::time::sleep(PAUSE).await;
            }
        }
        Ok(())
    }
}
