//! Faults: what goes wrong on purpose, as a small TOML file says. `examples/faults` has a file for each kind of bad day.
//!
//! ```toml
//! seed = 7                       # of everything that is left to chance; 1 without it
//!
//! [[fault]]
//! action = "status"              # what happens; see below
//! venue = "binance"              # to which venue (all, without it)
//! path = "/fapi/v1/*"            # requests to, or sockets at, a path behind the venue's prefix; `*` is any text
//! topic = "*@depth*"             # frames of a topic, or subscriptions to it
//! after = 10                     # not the first ten that match,
//! every = 3                      # then each third,
//! probability = 0.5              # of these each second one, by chance,
//! count = 5                      # five times in all,
//! from = "5s"                    # and only from five
//! to = "10s"                     # to ten seconds after the start
//! status = 429                   # details of the action
//! retry_after = 2
//! ```
//!
//! What is matched and counted is an answer to a request, the opening of a socket, a frame of data or a subscription:
//!
//! | `action` | of | does | with |
//! | --- | --- | --- | --- |
//! | `latency` | answers, openings | answers later | `latency = "500ms"` |
//! | `status` | answers, openings | answers with an HTTP status: a refusal, a ban, a CDN's 403 page; a socket is refused | `status`, `retry_after` (seconds), `body`: `json` (default), `html` or `empty` |
//! | `broken_json` | answers | cuts the body in half; the length is that of the half | |
//! | `truncate_body` | answers | ends the connection in the middle of the body, of which the length promised more | `bytes` that come (half of them) |
//! | `stall_body` | answers | sends the head and a part of the body, then nothing | `bytes` that come (half of them), `latency` until the connection ends (never) |
//! | `drip` | answers | sends the whole body, little by little | `latency` before each `bytes` (64) |
//! | `garbage` | answers, frames | sends random bytes in the place of a body or frame; a `topic` means frames alone | `form`: `text` (default, UTF-8) or `binary`, `bytes` (as many as there were) |
//! | `broken_frame` | frames | cuts a frame in half | |
//! | `drop_frame` | frames | leaves a frame out | |
//! | `repeat_frame` | frames | sends a frame twice | |
//! | `reorder_frames` | frames | sends a frame after the next one of its topic | |
//! | `close` | frames | closes the socket in the place of a frame | `code`: a close code; without it, the connection just ends |
//! | `only_pongs` | openings | a connection on which pings and requests are answered, and no data comes | `latency`: it is in order for so long (0) |
//! | `zero_frames` | openings | a connection on which nothing comes at all: no data, no acknowledgement, no pong | `latency`: it is in order for so long (0) |
//! | `silent_topic` | subscriptions | acknowledges a subscription and serves nothing for it, while `from` and `to` last | `resubscribe_heals`: each topic once, whoever subscribes to it again is served (default); `false`: each subscription |
//! | `clock_jump` | the venue's clock | event times and server times are off; candles and settlements keep theirs | `by = "5s"`, `by = "-5s"` |
//! | `outage` | all of a venue | nothing is answered, and open sockets go down with it | `manner`: `close` (default: connections just end) or `hang` (they are silent, and end with the outage) |
//!
//! Where several rules are of the same thing, the first one that applies does. `clock_jump` and `outage` are a matter of
//! `from` and `to` alone: nothing is counted. What is left out or broken is not part of the truth; what is late, repeated
//! or out of order is. Captures that are played have neither subscriptions nor a clock,
//! and all of their frames are data.
//!
//! Nothing here looks at a clock: who asks says how long ago the start was.

mod rule;

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use fastrand::Rng;

use self::rule::{Action, File, Form, Manner, Page, Place, Rule};
use crate::config::Error;

/// Bytes that a body drips by.
const DROP: usize = 64;

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RequestFault {
    /// It is answered later.
    Latency(Duration),
    /// It is refused.
    Refused(Refusal),
    /// The answer's body is not what it should be.
    Body(BodyFault),
}

/// An answer in the place of the right one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Its status.
    pub status: u16,
    /// When to come again, in seconds.
    pub retry_after: Option<u64>,
    /// Its content type.
    pub kind: &'static str,
    /// Its body.
    pub body: String,
}

/// What happens to an answer's body.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BodyFault {
    /// Half of it is the answer.
    Broken,
    /// So many bytes come (or half of them), and the connection ends.
    Truncated(Option<usize>),
    /// So many bytes come (or half of them), then nothing, until the connection ends after a while or never.
    Stalled(Option<usize>, Option<Duration>),
    /// So many bytes come at a time.
    Drip(usize, Duration),
    /// Something else comes.
    Garbage(Noise),
}

/// What happens to a socket that is opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OpeningFault {
    /// It is opened later.
    Latency(Duration),
    /// It is refused.
    Refused(Refusal),
    /// After so long, it carries no data.
    OnlyPongs(Duration),
    /// After so long, it carries nothing at all.
    ZeroFrames(Duration),
}

/// What happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FrameFault {
    /// Half of it is sent.
    Broken,
    /// The connection is closed, with this code.
    Close(Option<u16>),
    /// It is left out.
    Drop,
    /// It is sent twice.
    Repeat,
    /// It is sent after the next one of its topic.
    Reorder,
    /// Something else is sent.
    Garbage(Noise),
}

/// Random bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    /// Whether they are any bytes; else, they are UTF-8.
    pub binary: bool,
    bytes: Option<usize>,
    seed: u64,
}

impl Noise {
    /// The bytes that stand in the place of so many others.
    pub fn instead_of(self, length: usize) -> Vec<u8> {
        let length = self.bytes.unwrap_or(length);
        let mut rng = Rng::with_seed(self.seed);
        let mut bytes = vec![0; length];
        if self.binary {
            rng.fill(&mut bytes);
            return bytes;
        }
        bytes.clear();
        while bytes.len() < length {
            // Mostly what could be JSON, now and then of any script; the last ones have to fit.
            let any = rng.u8(0..8) == 0;
            let char = if any { rng.char('\u{1}'..) } else { rng.char(' '..='~') };
            let char = if bytes.len() + char.len_utf8() > length { '{' } else { char };
            bytes.extend_from_slice(char.encode_utf8(&mut [0; 4]).as_bytes());
        }
        bytes
    }

    /// The same as text, if it is text.
    pub fn text_instead_of(self, length: usize) -> Option<String> {
        if self.binary { None } else { String::from_utf8(self.instead_of(length)).ok() }
    }
}

/// A subscription that is acknowledged and not served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// Until so long after the start; to its end, without it.
    pub until: Option<Duration>,
}

/// A time in which a venue does not answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outage {
    /// It begins so long after the start,
    pub from: Duration,
    /// and ends then, if it does.
    pub to: Option<Duration>,
    /// Whether connections hang while it lasts; else, they end at once.
    pub hangs: bool,
}

/// The rules of a file, and how often each was applied.
///
/// Each question comes with the time since the start, so that any clock may drive them.
#[derive(Debug)]
pub struct Faults {
    /// Whether any rule is about frames, subscriptions, clocks: they are asked for often.
    frames: bool,
    subscriptions: bool,
    clocks: bool,
    inner: Mutex<(Vec<Rule>, Rng)>,
}

impl Faults {
    /// No faults.
    pub fn none() -> Self {
        Self::of(Vec::new(), 1)
    }

    /// Reads a file.
    pub fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })?;
        Self::parse(&text).map_err(|message| Error::Content { path: path.into(), message })
    }

    /// Reads what a file says, or tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        for (at, rule) in file.fault.iter().enumerate() {
            rule.check().map_err(|message| format!("fault {}: {message}", at + 1))?;
        }
        Ok(Self::of(file.fault, file.seed))
    }

    fn of(rules: Vec<Rule>, seed: u64) -> Self {
        let any = |place: Place| rules.iter().any(|rule| rule.action.at(place));
        let (frames, subscriptions, clocks) = (any(Place::Frame), any(Place::Subscription), any(Place::Clock));
        Self { frames, subscriptions, clocks, inner: Mutex::new((rules, Rng::with_seed(seed))) }
    }

    /// What happens to a request.
    pub fn request(&self, venue: &str, path: &str, since: Duration) -> Option<RequestFault> {
        self.find(Place::Request, venue, path, None, since, |rule, rng| match rule.action {
            Action::Latency => RequestFault::Latency(rule.latency.unwrap_or_default()),
            Action::Status => RequestFault::Refused(refusal(rule)),
            Action::TruncateBody => RequestFault::Body(BodyFault::Truncated(rule.bytes)),
            Action::StallBody => RequestFault::Body(BodyFault::Stalled(rule.bytes, rule.latency)),
            Action::Drip => RequestFault::Body(BodyFault::Drip(rule.bytes.unwrap_or(DROP), rule.latency.unwrap_or_default())),
            Action::Garbage => RequestFault::Body(BodyFault::Garbage(noise(rule, rng))),
            _ => RequestFault::Body(BodyFault::Broken),
        })
    }

    /// What happens to a socket that is to be opened.
    pub fn opening(&self, venue: &str, path: &str, since: Duration) -> Option<OpeningFault> {
        self.find(Place::Opening, venue, path, None, since, |rule, _| {
            let latency = rule.latency.unwrap_or_default();
            match rule.action {
                Action::Latency => OpeningFault::Latency(latency),
                Action::OnlyPongs => OpeningFault::OnlyPongs(latency),
                Action::ZeroFrames => OpeningFault::ZeroFrames(latency),
                _ => OpeningFault::Refused(refusal(rule)),
            }
        })
    }

    /// Whether frames need to be asked about at all.
    pub fn of_frames(&self) -> bool {
        self.frames
    }

    /// What happens to a frame.
    pub fn frame(&self, venue: &str, path: &str, topic: &str, since: Duration) -> Option<FrameFault> {
        self.find(Place::Frame, venue, path, Some(topic), since, |rule, rng| match rule.action {
            Action::Close => FrameFault::Close(rule.code),
            Action::DropFrame => FrameFault::Drop,
            Action::RepeatFrame => FrameFault::Repeat,
            Action::ReorderFrames => FrameFault::Reorder,
            Action::Garbage => FrameFault::Garbage(noise(rule, rng)),
            _ => FrameFault::Broken,
        })
    }

    /// Whether a subscription is served.
    pub fn subscription(&self, venue: &str, path: &str, topic: &str, since: Duration) -> Option<Silence> {
        if !self.subscriptions {
            return None;
        }
        self.find(Place::Subscription, venue, path, Some(topic), since, |rule, _| Silence { until: rule.to })
    }

    /// Whether a rule is about subscriptions or clocks of a venue that has none: of such that are told by name, and of whichever
    /// has them. `has_market` says so of a name; without one, whether any venue has.
    pub(crate) fn lack_a_market(&self, has_market: impl Fn(Option<&str>) -> bool) -> bool {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let mut rules = inner.0.iter().filter(|rule| rule.action.at(Place::Subscription) || rule.action.at(Place::Clock));
        rules.any(|rule| !has_market(rule.venue.as_deref()))
    }

    /// How far a venue's clock is off, in milliseconds.
    pub fn shift(&self, venue: &str, since: Duration) -> i64 {
        if !self.clocks {
            return 0;
        }
        self.find(Place::Clock, venue, "", None, since, |rule, _| rule.by.unwrap_or_default()).unwrap_or_default()
    }

    /// The outage that a path is in, or else the next one that is known to come.
    pub fn outage(&self, venue: &str, path: &str, since: Duration) -> Option<Outage> {
        let inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let outages = inner.0.iter().filter(|rule| rule.action == Action::Outage && rule.is_of(venue, path));
        let outages = outages.map(|rule| Outage { from: rule.from.unwrap_or_default(), to: rule.to, hangs: rule.manner == Some(Manner::Hang) });
        // The first rule that holds; of those to come, the soonest.
        outages.filter(|outage| outage.to.is_none_or(|to| since < to)).min_by_key(|outage| outage.from.max(since))
    }

    fn find<T>(&self, place: Place, venue: &str, path: &str, topic: Option<&str>, since: Duration, mut make: impl FnMut(&Rule, &mut Rng) -> T) -> Option<T> {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (rules, rng) = &mut *inner;
        let mut of_place = rules.iter_mut().filter(|rule| rule.action.at(place));
        of_place.find_map(|rule| rule.applies(venue, path, topic, since, rng).then(|| make(rule, rng)))
    }
}

impl Outage {
    /// Whether it has begun; an [`Outage`] that was given has not ended.
    pub fn holds(&self, since: Duration) -> bool {
        self.from <= since
    }
}

fn refusal(rule: &Rule) -> Refusal {
    let status = rule.status.unwrap_or(500);
    let (kind, body) = match rule.body.unwrap_or_default() {
        Page::Html => ("text/html", format!("<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>")),
        Page::Json => ("application/json", format!("{{\"code\":-1003,\"msg\":\"a fault that was asked for: HTTP {status}\"}}")),
        Page::Empty => ("application/json", String::new()),
    };
    Refusal { status, retry_after: rule.retry_after, kind, body }
}

fn noise(rule: &Rule, rng: &mut Rng) -> Noise {
    Noise { binary: rule.form == Some(Form::Binary), bytes: rule.bytes, seed: rng.u64(..) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: Duration = Duration::ZERO;

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn parse(text: &str) -> Faults {
        Faults::parse(&format!("[[fault]]\n{text}")).unwrap()
    }

    #[test]
    fn rules_apply_when_they_should() {
        let faults = parse("action = \"status\"\nstatus = 429\nretry_after = 2\nvenue = \"a\"\npath = \"/x/*\"\nafter = 1\nevery = 2\ncount = 2");
        let hits: Vec<bool> = (0..9).map(|_| faults.request("a", "/x/y", START).is_some()).collect();
        assert_eq!(hits, [false, false, true, false, true, false, false, false, false]);
        assert!(faults.request("b", "/x/y", START).is_none() && faults.request("a", "/y", START).is_none() && !faults.of_frames());
    }

    #[test]
    fn time_is_what_the_caller_says() {
        let faults = parse("action = \"status\"\nstatus = 503\nfrom = \"1h\"\nto = \"2h\"");
        let hits: Vec<bool> = [0, 3599, 3600, 7199, 7200, 3600].into_iter().map(|at| faults.request("a", "/", seconds(at)).is_some()).collect();
        assert_eq!(hits, [false, false, true, true, false, true]);
    }

    #[test]
    fn frames_are_chosen_by_topic_and_chance() {
        let faults = Faults::parse("seed = 3\n[[fault]]\naction = \"drop_frame\"\ntopic = \"*@depth*\"\nprobability = 0.5").unwrap();
        let dropped = (0..1000).filter(|_| faults.frame("a", "/stream", "btcusdt@depth@100ms", START) == Some(FrameFault::Drop)).count();
        assert!((400..600).contains(&dropped), "{dropped}");
        assert_eq!(faults.frame("a", "/stream", "btcusdt@trade", START), None);
    }

    #[test]
    fn a_rule_counts_only_what_it_is_of() {
        let faults = parse("action = \"broken_json\"\ncount = 1");
        assert_eq!(faults.opening("a", "/ws", START), None, "a socket has no body");
        assert_eq!(faults.request("a", "/", START), Some(RequestFault::Body(BodyFault::Broken)));
        assert_eq!(faults.request("a", "/", START), None);
        let faults = parse("action = \"only_pongs\"\nlatency = \"3s\"\nevery = 2");
        assert_eq!(faults.request("a", "/", START), None);
        assert_eq!(faults.opening("a", "/", START), None);
        assert_eq!(faults.opening("a", "/", START), Some(OpeningFault::OnlyPongs(seconds(3))));
        let faults = parse("action = \"garbage\"\ntopic = \"x\"");
        assert!(faults.request("a", "/", START).is_none() && faults.frame("a", "/", "x", START).is_some());
    }

    #[test]
    fn silence_is_healed_by_subscribing_again_or_not() {
        let faults = parse("action = \"silent_topic\"\ntopic = \"trades.*\"\nto = \"9s\"");
        assert_eq!(faults.subscription("a", "/", "book.x", START), None);
        assert_eq!(faults.subscription("a", "/", "trades.x", START), Some(Silence { until: Some(seconds(9)) }));
        assert_eq!(faults.subscription("a", "/", "trades.x", START), None, "again");
        assert!(faults.subscription("a", "/", "trades.y", START).is_some() && faults.subscription("a", "/2", "trades.x", START).is_some(), "another");
        assert_eq!(faults.subscription("a", "/", "trades.z", seconds(9)), None, "it is over");
        let faults = parse("action = \"silent_topic\"\ncount = 2\nresubscribe_heals = false");
        let silent: Vec<bool> = (0..3).map(|_| faults.subscription("a", "/", "trades.x", START).is_some()).collect();
        assert_eq!(silent, [true, true, false]);
    }

    #[test]
    fn clocks_jump_while_the_rule_holds() {
        let faults = Faults::parse(
            "fault = [{action = \"clock_jump\", venue = \"a\", by = \"-1.5s\", to = \"5s\"}, {action = \"clock_jump\", by = \"2m\", from = \"4s\"}]",
        );
        let faults = faults.unwrap();
        let of = |venue: &str| [0, 4, 5].map(|at| faults.shift(venue, seconds(at)));
        assert_eq!((of("a"), of("b")), ([-1500, -1500, 120_000], [0, 120_000, 120_000]));
    }

    #[test]
    fn outages_are_known_before_they_come() {
        let text = "fault = [{action = \"outage\", from = \"20s\", to = \"30s\", path = \"/f*\", manner = \"hang\"}, {action = \"outage\", from = \"5s\", to = \"9s\"}]";
        let faults = Faults::parse(text).unwrap();
        let of = |path: &str, at: u64| faults.outage("a", path, seconds(at)).map(|outage| (outage.from.as_secs(), outage.hangs, outage.holds(seconds(at))));
        assert_eq!(
            [0, 5, 8, 9, 20, 30].map(|at| of("/f", at)),
            [Some((5, false, false)), Some((5, false, true)), Some((5, false, true)), Some((20, true, false)), Some((20, true, true)), None]
        );
        assert_eq!(of("/x", 9), None);
    }

    #[test]
    fn noise_is_as_long_as_it_should_be_and_the_same_again() {
        for form in ["text", "binary"] {
            for seed in 0..50 {
                let text = format!("seed = {seed}\n[[fault]]\naction = \"garbage\"\nform = \"{form}\"");
                let noise = |faults: &Faults| match faults.request("a", "/", START) {
                    Some(RequestFault::Body(BodyFault::Garbage(noise))) => noise,
                    other => panic!("{other:?}"),
                };
                let (a, b) = (Faults::parse(&text).unwrap(), Faults::parse(&text).unwrap());
                let first = noise(&a);
                assert_eq!(first.instead_of(77), noise(&b).instead_of(77));
                assert_ne!(first.instead_of(77), noise(&a).instead_of(77), "another time, other bytes");
                assert_eq!(first.instead_of(77).len(), 77);
                assert_eq!(first.text_instead_of(77).is_some(), form == "text");
            }
        }
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, what) in [
            ("action = \"explode\"", "unknown variant `explode`"),
            ("action = \"close\"\nwhen = 3", "unknown field `when`"),
            ("action = \"latency\"", "`latency` is missing"),
            ("action = \"drip\"", "`latency` is missing"),
            ("action = \"drip\"\nlatency = \"1ms\"\nbytes = 0", "`bytes` begin at 1"),
            ("action = \"latency\"\nlatency = \"soon\"", "no duration"),
            ("action = \"close\"\nstatus = 500", "`status` does not belong"),
            ("action = \"close\"\nbytes = 5", "`bytes` does not belong"),
            ("action = \"status\"\nstatus = 200", "400 to 599"),
            ("action = \"status\"\nstatus = 500\ntopic = \"x\"", "`topic` does not belong"),
            ("action = \"clock_jump\"", "`by` is missing"),
            ("action = \"clock_jump\"\nby = \"-x\"", "no duration"),
            ("action = \"clock_jump\"\nby = \"1s\"\npath = \"/\"", "`path` does not belong"),
            ("action = \"clock_jump\"\nby = \"1s\"\ncount = 2", "`from` and `to` alone"),
            ("action = \"outage\"\nprobability = 0.5", "`from` and `to` alone"),
            ("action = \"outage\"\nfrom = \"5s\"\nto = \"5s\"", "`to` comes after `from`"),
        ] {
            let error = Faults::parse(&format!("[[fault]]\n{text}")).expect_err(text);
            assert!(error.contains(what), "{text}: {error}");
        }
    }
}
