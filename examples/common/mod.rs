//! The venues that the examples talk to: the real ones; with `SIMULATE=1` (or `--simulate`) simulated ones; with `PLAY=1`
//! (or `--play`) all of them, played from the messages in their folders. For the last two no network is needed.

use std::cmp::Reverse;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use collector::core::capture::Capture;
use collector::core::{Body, Offline, Profile, Venue};

/// The venues, and what stands in for them: it ends when it is dropped.
pub(crate) fn venues() -> anyhow::Result<(Vec<Venue>, Option<venue_sim::Handle>)> {
    let all = collector::venues::all().iter().map(|exchange| anyhow::Ok(Venue::new(*exchange, Profile::parse(exchange.policy())?)));
    let mut venues: Vec<Venue> = all.collect::<Result<_, _>>().context("a venue's description")?;
    let config = if is_wanted("simulate") {
        venue_sim::Config { symbols: 20, ..Default::default() }
    } else if is_wanted("play") {
        venue_sim::Config { venues: Vec::new(), play: captures(&venues)?, ..Default::default() }
    } else {
        return Ok((venues, None));
    };
    let sim = venue_sim::start(&config)?;
    // What is played was read to its end.
    config.play.iter().try_for_each(std::fs::remove_file)?;
    venues.retain(|venue| sim.venues().contains(&venue.profile.name));
    for venue in &mut venues {
        let mut profile = (*venue.profile).clone();
        // A description is data: here its hosts are changed, as for a proxy or a test net.
        for (market, surface) in &mut profile.markets {
            surface.rest = sim.rest_url(&profile.name);
            surface.ws = sim.ws_url(&profile.name, *market);
        }
        *venue = Venue::new(venue.exchange, profile);
    }
    Ok((venues, Some(sim)))
}

/// Whether a flag, or a variable of its name, says so.
fn is_wanted(word: &str) -> bool {
    std::env::var(word.to_uppercase()).is_ok_and(|value| value == "1") || std::env::args().any(|arg| arg == format!("--{word}"))
}

/// Files with what the venues' fixtures captured, their refusals aside: a venue that says no is left alone for a while.
fn captures(venues: &[Venue]) -> anyhow::Result<Vec<PathBuf>> {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut files = Vec::new();
    for venue in venues {
        let name = &venue.profile.name;
        let mut fixtures = Vec::new();
        for entry in repository.join("crates/exchange-venues/src").join(name).join("fixtures").read_dir()? {
            fixtures.push(entry?.path());
        }
        fixtures.sort();
        let mut lines = Vec::new();
        for path in fixtures.iter().filter(|path| !path.to_string_lossy().ends_with(".events.ndjson")) {
            let mut offline = Offline::new([Venue::new(venue.exchange, (*venue.profile).clone())]);
            for line in std::fs::read_to_string(path)?.lines() {
                let mut events = Vec::new();
                offline.line(line.as_bytes(), &mut events);
                if events.iter().any(|event| !matches!(event.body, Body::DecodeError(_))) {
                    let mut capture = Capture::default();
                    capture.read(line.as_bytes())?;
                    lines.push(capture);
                }
            }
        }
        // Of several answers to one request, the fullest first.
        lines.sort_by_key(|capture| Reverse(capture.status.map(|_| capture.payload.len())));
        let mut text = Vec::new();
        for capture in &lines {
            capture.write(&mut text);
        }
        let file = std::env::temp_dir().join(format!("collector-play-{}-{name}.ndjson", std::process::id()));
        std::fs::write(&file, text)?;
        files.push(file);
    }
    Ok(files)
}
