//! `collector venues` and `collector instruments`: what there is to collect.

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write as _};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use exchange_core::plan::Poll;
use exchange_core::{Channel, Instrument, Market, Mode, Profile, Venue, Want};
use exchange_runtime::Collector;
use exchange_sinks::SinkUri;
use serde_json::{Value, json};

use crate::settings::Settings;

/// How a venue serves a channel, as `--mode auto` uses it.
fn how(venue: &Venue, market: Market, channel: Channel) -> Option<&'static str> {
    let plan = |mode| {
        let named = Arc::new(Instrument::named(venue.catalog.venue(), market, "X", None));
        venue.exchange.plan(&venue.profile, &Want { market, channels: &[channel], mode, fallback: false, instruments: &[named] })
    };
    let auto = plan(Mode::Auto);
    if !auto.unserved.is_empty() {
        return None;
    }
    let other = |mode| plan(mode).unserved.is_empty();
    Some(match (auto.topics.is_empty(), auto.polls.iter().any(|poll| poll.sweep)) {
        (false, _) if other(Mode::Poll) => "stream, poll",
        (false, _) => "stream",
        (true, true) if other(Mode::Stream) => "sweep, stream",
        (true, true) => "sweep",
        (true, false) if channel != Channel::Instrument && other(Mode::Stream) => "poll, stream",
        (true, false) => "poll",
    })
}

/// The requests of one cycle of the default channels, by polling.
#[derive(Debug, Default, PartialEq)]
struct Cycle {
    /// Those that serve all instruments, by address and body: what serves several markets is asked once.
    plain: BTreeSet<String>,
    /// How many there are besides for each instrument.
    each: usize,
}

impl Cycle {
    const CHANNELS: [Channel; 4] = [Channel::Ticker, Channel::Mark, Channel::Funding, Channel::OpenInterest];

    fn of(venue: &Venue, market: Market) -> Self {
        let named = Arc::new(Instrument::named(venue.catalog.venue(), market, "X", None));
        let want = Want { market, channels: &Self::CHANNELS, mode: Mode::Poll, fallback: false, instruments: &[named] };
        let mut cycle = Self::default();
        for Poll { request, sweep, .. } in venue.exchange.plan(&venue.profile, &want).polls {
            let host = venue.profile.host(market, &request.endpoint);
            if sweep {
                cycle.each += 1;
            } else {
                cycle.plain.insert(format!("{host}{} {}", request.target, request.body.unwrap_or_default()));
            }
        }
        cycle
    }
}

/// The requests of one cycle of all markets together, what is for each instrument aside.
fn requests_in_all(venue: &Venue) -> usize {
    collected(venue).flat_map(|market| Cycle::of(venue, market).plain).collect::<BTreeSet<_>>().len()
}

impl fmt::Display for Cycle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.each {
            0 => f.pad(&self.plain.len().to_string()),
            each => f.pad(&format!("{} + {each} each", self.plain.len())),
        }
    }
}

fn channels() -> impl Iterator<Item = Channel> {
    Channel::NAMES.into_iter().filter_map(Channel::parse)
}

/// Lists the venues: what each serves, and how (`auto` takes the first way that is named).
pub(crate) fn venues(venues: &[Venue], as_json: bool) -> anyhow::Result<ExitCode> {
    let mut out = io::stdout().lock();
    if as_json {
        let all: Vec<Value> = venues.iter().map(venue_json).collect();
        writeln!(out, "{}", serde_json::to_string_pretty(&all)?)?;
        return Ok(ExitCode::SUCCESS);
    }
    for venue in venues {
        let profile = &venue.profile;
        writeln!(out, "{} ({}, {})", profile.name, profile.title, profile.docs)?;
        let markets: Vec<Market> = collected(venue).collect();
        write!(out, "  {:<16}", "")?;
        for market in &markets {
            write!(out, "{market:<16}")?;
        }
        writeln!(out)?;
        for channel in channels() {
            write!(out, "  {:<16}", channel.as_str())?;
            for market in &markets {
                write!(out, "{:<16}", how(venue, *market, channel).unwrap_or("-"))?;
            }
            writeln!(out)?;
        }
        write!(out, "  {:<16}", "requests/cycle")?;
        for market in &markets {
            write!(out, "{:<16}", Cycle::of(venue, *market))?;
        }
        writeln!(out, "in all {}\n", requests_in_all(venue))?;
    }
    writeln!(out, "poll: one request serves all instruments; sweep: one request an instrument, as fast as the rate limit allows; stream: WebSocket.")?;
    writeln!(out, "`--mode auto` takes the first way. requests/cycle: of ticker, mark, funding and open_interest, by polling; in all: what serves")?;
    writeln!(out, "several markets once. `each`: so many for each instrument besides. (What an answer leads to, further pages, is not counted.)")?;
    Ok(ExitCode::SUCCESS)
}

/// The markets that `run` offers.
fn collected(venue: &Venue) -> impl Iterator<Item = Market> {
    venue.profile.markets.keys().copied().filter(|market| *market != Market::Option)
}

fn venue_json(venue: &Venue) -> Value {
    let markets: serde_json::Map<String, Value> = collected(venue)
        .map(|market| {
            let served: serde_json::Map<String, Value> =
                channels().filter_map(|channel| Some((channel.as_str().to_owned(), how(venue, market, channel)?.split(", ").collect()))).collect();
            let cycle = Cycle::of(venue, market);
            (market.as_str().to_owned(), json!({"channels": served, "requests_per_cycle": cycle.plain.len(), "requests_per_instrument": cycle.each}))
        })
        .collect();
    let Profile { name, title, docs, .. } = &*venue.profile;
    json!({"name": name, "title": title, "docs": docs, "requests_per_cycle": requests_in_all(venue), "markets": markets})
}

/// Reads the venues' instruments once, and lists those that were asked for.
pub(crate) fn instruments(settings: &Settings, venues: &[Venue], as_json: bool) -> anyhow::Result<ExitCode> {
    crate::logging::start(crate::settings::Log::Text, true);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")?;
    let summary = runtime.block_on(async {
        let mut builder =
            Collector::builder().markets(settings.markets.iter().copied()).channels([Channel::Instrument]).once(true).sink(SinkUri::parse("null:")?.open()?);
        for venue in venues {
            builder = builder.venue(venue.clone());
        }
        let mut collector = builder.start()?;
        // Someone waits: what takes longer has failed.
        let _late = tokio::time::timeout(Duration::from_secs(30), collector.finished()).await;
        anyhow::Ok(collector.stop().await)
    })?;
    runtime.shutdown_background();
    let mut rows = Vec::new();
    for venue in venues {
        for &market in &settings.markets {
            let chosen = |i: &Instrument| settings.symbols.is_all() || i.symbol.as_deref().is_some_and(|symbol| settings.symbols.matches(symbol));
            rows.extend(venue.catalog.list(market).into_iter().filter(|instrument| chosen(instrument)));
        }
    }
    let mut out = io::stdout().lock();
    let written = if as_json { print_json(&mut out, &rows) } else { print_table(&mut out, &rows) };
    match written {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
        other => other?,
    }
    let failed = summary.venues.values().any(|venue| venue.failed > 0 || !venue.problems.is_empty());
    Ok(ExitCode::from(u8::from(failed)))
}

fn print_json(out: &mut impl io::Write, rows: &[Arc<Instrument>]) -> io::Result<()> {
    let rows: Vec<Value> = rows
        .iter()
        .filter_map(|instrument| {
            let d = instrument.details.as_deref()?;
            let text = |value: &Option<exchange_core::Decimal>| value.as_ref().map(ToString::to_string);
            let mut row = json!({
                "venue": &*instrument.venue, "market": instrument.market.as_str(), "venue_symbol": instrument.venue_symbol, "symbol": instrument.symbol,
                "kind": d.kind.as_str(), "base": d.base, "quote": d.quote, "settle": d.settle, "contract_size": text(&d.contract_size),
                "tick_size": text(&d.tick_size), "lot_size": text(&d.lot_size), "min_size": text(&d.min_size),
                "expiry": d.expiry.map(exchange_core::Time::micros), "status": d.status.as_str(), "funding_interval_hours": d.funding_interval_hours,
            });
            if let Some(object) = row.as_object_mut() {
                object.retain(|_, value| !value.is_null());
            }
            Some(row)
        })
        .collect();
    writeln!(out, "{}", serde_json::to_string_pretty(&rows)?)
}

fn print_table(out: &mut impl io::Write, rows: &[Arc<Instrument>]) -> io::Result<()> {
    writeln!(
        out,
        "{:<12} {:<8} {:<24} {:<28} {:<10} {:<10} {:>14} {:>14} {:>14}",
        "VENUE", "MARKET", "SYMBOL", "VENUE SYMBOL", "KIND", "STATUS", "TICK", "LOT", "CONTRACT"
    )?;
    for instrument in rows {
        let Some(d) = instrument.details.as_deref() else { continue };
        let text = |value: &Option<exchange_core::Decimal>| value.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string);
        let symbol = instrument.symbol.as_deref().unwrap_or("-");
        writeln!(
            out,
            "{:<12} {:<8} {symbol:<24} {:<28} {:<10} {:<10} {:>14} {:>14} {:>14}",
            instrument.venue,
            instrument.market,
            instrument.venue_symbol,
            d.kind.as_str(),
            d.status.as_str(),
            text(&d.tick_size),
            text(&d.lot_size),
            text(&d.contract_size)
        )?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_serves_several_markets_is_counted_once() {
        let mut shared = 0;
        for exchange in exchange_venues::all() {
            let venue = Venue::new(*exchange, Profile::parse(exchange.policy()).unwrap());
            let cycles: Vec<Cycle> = collected(&venue).map(|market| Cycle::of(&venue, market)).collect();
            let (sum, most) = (cycles.iter().map(|cycle| cycle.plain.len()).sum(), cycles.iter().map(|cycle| cycle.plain.len()).max());
            let all = requests_in_all(&venue);
            assert!(all <= sum && Some(all) >= most && all > 0, "{}: {all} of {cycles:?}", venue.profile.name);
            // A path that is filled for each value of a variable is as many requests.
            assert!(cycles.iter().flat_map(|cycle| &cycle.plain).all(|request| !request.split(' ').next().unwrap().contains('{')), "{cycles:?}");
            shared += usize::from(all < sum);
        }
        assert!(shared > 0);
    }
}
