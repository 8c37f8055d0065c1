//! The venues' fixtures, as something to play.

use std::path::Path;

use exchange_core::capture::{Capture, CaptureSource};
use exchange_core::exchange::Control;
use exchange_core::feed::{Feed, Turn};
use exchange_core::{Body, Offline, Profile, Venue};

use super::files;

/// All venues, with nothing known of them yet.
pub(crate) fn venues() -> impl Iterator<Item = Venue> {
    exchange_venues::all().iter().map(|exchange| Venue::new(*exchange, Profile::parse(exchange.policy()).unwrap()))
}

/// A venue's fixtures, answers first, without what a venue says when it refuses: a run would leave it alone then.
pub(crate) fn captures(venue: &Venue) -> Vec<Capture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../exchange-venues/src").join(&venue.profile.name).join("fixtures");
    let mut captures = Vec::new();
    for path in files(&folder).iter().filter(|path| !path.to_string_lossy().ends_with(".events.ndjson")) {
        let mut offline = Offline::new([fresh(venue)]);
        for line in super::text(path).lines().filter(|line| !line.trim().is_empty()) {
            let mut capture = Capture::default();
            capture.read(line.as_bytes()).unwrap();
            let mut events = Vec::new();
            offline.capture(&capture, &mut events);
            let refused = !events.is_empty() && events.iter().all(|event| matches!(event.body, Body::DecodeError(_)));
            if !refused && !closes(venue, &capture) {
                captures.push(capture);
            }
        }
    }
    // Of several answers to one request, a run of one cycle sees the first: the fullest.
    let (mut answers, frames): (Vec<Capture>, Vec<Capture>) = captures.into_iter().partition(|capture| capture.status.is_some());
    answers.sort_by_key(|capture| std::cmp::Reverse(capture.payload.len()));
    answers.extend(frames);
    answers
}

/// The lines of a file of captures.
pub(crate) fn lines(captures: &[Capture]) -> Vec<u8> {
    let mut lines = Vec::new();
    for capture in captures {
        capture.write(&mut lines);
    }
    lines
}

/// The venue with nothing known yet.
fn fresh(venue: &Venue) -> Venue {
    Venue::new(venue.exchange, (*venue.profile).clone())
}

/// Whether a frame ends its connection.
fn closes(venue: &Venue, capture: &Capture) -> bool {
    let (Some(CaptureSource::Ws(url)), Some(market)) = (capture.source(), capture.market) else { return false };
    let mut turn = Turn::default();
    Feed::new(fresh(venue), market).frame(capture.received, url, &capture.payload, &mut turn);
    turn.controls.contains(&Control::Closing)
}
