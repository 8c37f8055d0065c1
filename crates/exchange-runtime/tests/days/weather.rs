//! What goes wrong in a day: drawn from its seed, as a file of faults that `collector sim` would take as well.

use std::fmt::{self, Write as _};

use fastrand::Rng;

/// Seconds of a day.
pub(crate) const DAY: u64 = 24 * 3600;
/// Nothing goes wrong before, so that there is something to lose,
pub(crate) const BEGINS: u64 = 15 * 60;
/// and after this, so that everything has come back at the end.
pub(crate) const ENDS: u64 = DAY - 40 * 60;
/// What a stream left out in a quiet market is noticed when the venue is next asked whether it told everything, which is
/// less and less often.
const NOTICED: u64 = 8 * 3600;

/// A venue's bad time.
#[derive(Debug, Clone)]
pub(crate) struct Episode {
    pub(crate) venue: &'static str,
    /// Seconds since the day began.
    pub(crate) from: u64,
    pub(crate) to: u64,
    /// Until then, a subscription that left something out, or died, may still be found and begun anew.
    pub(crate) noticed: u64,
    /// What happens, in a word.
    pub(crate) what: &'static str,
}

impl Episode {
    /// Whether something may be left out without anybody's knowing, or it is not known when it happened.
    pub(crate) fn leaves_out(&self) -> bool {
        LOSSY.contains(&self.what) || self.what == "clock jump"
    }
}

impl fmt::Display for Episode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {} from {} to {} s", self.venue, self.what, self.from, self.to)
    }
}

/// All of a day's faults.
#[derive(Debug, Clone, Default)]
pub(crate) struct Weather {
    pub(crate) episodes: Vec<Episode>,
    /// As a file.
    pub(crate) file: String,
}

const KINDS: [&str; 23] = [
    "errors",
    "html",
    "ban",
    "rate limit",
    "broken json",
    "truncated bodies",
    "stalled bodies",
    "slow drip",
    "garbage",
    "latency",
    "broken frames",
    "dropped frames",
    "repeated frames",
    "reordered frames",
    "closed sockets",
    "garbage frames",
    "refused sockets",
    "only pongs",
    "zero frames",
    "silent topics",
    "clock jump",
    "outage",
    "hanging outage",
];

/// Of these, a stream alone does not say that it left something out.
const LOSSY: [&str; 5] = ["broken frames", "dropped frames", "reordered frames", "garbage frames", "garbage"];

impl Weather {
    /// A day without faults.
    pub(crate) fn fair() -> Self {
        Self::default()
    }

    /// A bad day for each of the venues.
    pub(crate) fn bad(rng: &mut Rng, venues: &[&'static str]) -> Self {
        let mut weather = Self { episodes: Vec::new(), file: format!("seed = {}\n", rng.u32(..)) };
        for &venue in venues {
            let mut from = BEGINS + rng.u64(0..3600);
            while from < ENDS - 1200 {
                let mut kind = rng.choice(KINDS).unwrap();
                // What is noticed late comes early.
                while from > DAY - NOTICED && ["only pongs", "zero frames", "silent topics"].contains(&kind) {
                    kind = rng.choice(KINDS).unwrap();
                }
                let episode = weather.episode(rng, venue, from, kind);
                from = episode.to.max(if rng.bool() { episode.noticed } else { 0 }) + 300 + rng.u64(0..7200);
                weather.episodes.push(episode);
            }
        }
        weather
    }

    fn rule(&mut self, action: &str, venue: &str, from: u64, to: u64, more: &str) {
        // Writing to a string cannot fail.
        let _ = write!(self.file, "\n[[fault]]\naction = \"{action}\"\nvenue = \"{venue}\"\nfrom = \"{from}s\"\nto = \"{to}s\"\n{more}");
    }

    /// Faults of openings and subscriptions need some.
    fn reconnect(&mut self, venue: &str, from: u64) {
        self.rule("outage", venue, from, from + 1, "");
    }

    fn episode(&mut self, rng: &mut Rng, venue: &'static str, from: u64, what: &'static str) -> Episode {
        let length = [rng.u64(5..60), rng.u64(60..300), rng.u64(300..600)][rng.usize(0..3)];
        let mut to = from + length;
        let mut noticed = to;
        let chance = format!("probability = {}\n", ["0.1", "0.5", "1.0"][rng.usize(0..3)]);
        match what {
            "errors" => {
                let status = rng.choice([500, 502, 503, 504]).unwrap();
                self.rule("status", venue, from, to, &format!("status = {status}\n{chance}"));
            }
            "html" => self.rule("status", venue, from, to, &format!("status = 503\nbody = \"html\"\n{chance}")),
            "ban" => {
                let (status, seconds) = (if venue == "binance" { 418 } else { 403 }, rng.u64(5..600));
                to = from + 90;
                self.rule("status", venue, from, to, &format!("status = {status}\nretry_after = {seconds}\ncount = 1\n"));
                to += seconds;
            }
            "rate limit" => {
                let seconds = rng.u64(1..120);
                self.rule("status", venue, from, to, &format!("status = 429\nretry_after = {seconds}\n{chance}"));
                to += seconds;
            }
            "broken json" => self.rule("broken_json", venue, from, to, &chance),
            "truncated bodies" => self.rule("truncate_body", venue, from, to, &chance),
            "stalled bodies" => self.rule("stall_body", venue, from, to, &chance),
            "slow drip" => self.rule("drip", venue, from, to, &format!("bytes = {}\nlatency = \"500ms\"\n{chance}", rng.u32(64..2000))),
            // Of bodies and frames.
            "garbage" => {
                let form = ["text", "binary"][rng.usize(0..2)];
                self.rule("garbage", venue, from, to, &format!("form = \"{form}\"\n{chance}"));
            }
            "latency" => self.rule("latency", venue, from, to, &format!("latency = \"{}ms\"\n{chance}", rng.u32(100..20_000))),
            "broken frames" => self.rule("broken_frame", venue, from, to, &chance),
            "dropped frames" => self.rule("drop_frame", venue, from, to, &chance),
            "repeated frames" => self.rule("repeat_frame", venue, from, to, &chance),
            "reordered frames" => self.rule("reorder_frames", venue, from, to, &chance),
            "closed sockets" => {
                let code = ["", "code = 1001\n", "code = 1008\n", "code = 1012\n"][rng.usize(0..4)];
                self.rule("close", venue, from, to, &format!("{code}{chance}"));
            }
            "garbage frames" => {
                let form = ["text", "binary"][rng.usize(0..2)];
                self.rule("garbage", venue, from, to, &format!("topic = \"*\"\nform = \"{form}\"\n{chance}"));
            }
            "refused sockets" => {
                self.reconnect(venue, from);
                let status = rng.choice([403, 429, 500, 503]).unwrap();
                // Of requests, too: who refuses one refuses the other.
                self.rule("status", venue, from, to, &format!("path = \"*{}*\"\nstatus = {status}\n", if venue == "binance" { "stream" } else { "public" }));
            }
            "only pongs" | "zero frames" => {
                self.reconnect(venue, from);
                let after = rng.u64(0..60);
                self.rule(if what == "only pongs" { "only_pongs" } else { "zero_frames" }, venue, from, to, &format!("latency = \"{after}s\"\n{chance}"));
                noticed = to + NOTICED;
            }
            "silent topics" => {
                self.reconnect(venue, from);
                let heals = rng.bool();
                self.rule("silent_topic", venue, from, to, &format!("resubscribe_heals = {heals}\n{chance}"));
                noticed = to + NOTICED;
            }
            "clock jump" => {
                let by = [rng.u64(1..10), rng.u64(10..600)][rng.usize(0..2)];
                self.rule("clock_jump", venue, from, to, &format!("by = \"{}{by}s\"\n", if rng.bool() { "-" } else { "" }));
            }
            "outage" => {
                // One, or one after the other.
                let pieces = [1, rng.u64(2..6)][rng.usize(0..2)];
                for piece in 0..pieces {
                    self.rule("outage", venue, from + piece * length / pieces, from + piece * length / pieces + (length / pieces / 2).max(1), "");
                }
            }
            _ => self.rule("outage", venue, from, to, "manner = \"hang\"\n"),
        }
        if LOSSY.contains(&what) {
            noticed = to + NOTICED;
        }
        Episode { venue, from, to, noticed, what }
    }
}
