//! Faults: what goes wrong on purpose, as a small TOML file says.
//!
//! ```toml
//! seed = 7                       # of everything that is left to chance; 1 without it
//!
//! [[fault]]
//! action = "status"              # what happens; see below
//! venue = "binance"              # to which venue (all, without it)
//! path = "/fapi/v1/*"            # requests to, or sockets at, a path behind the venue's prefix; `*` is any text
//! topic = "*@depth*"             # frames of a topic
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
//! | `action` | does | with |
//! | --- | --- | --- |
//! | `latency` | answers a request later | `latency = "500ms"` |
//! | `status` | answers a request, or refuses a socket, with an HTTP status | `status`, `retry_after` (seconds), `body`: `json` (default), `html` or `empty` |
//! | `broken_json` | cuts an answer in half | |
//! | `broken_frame` | cuts a frame in half | |
//! | `close` | closes a socket in the place of a frame | `code`: a close code; without it, the connection just ends |
//! | `drop_frame` | leaves a frame out | |
//! | `repeat_frame` | sends a frame twice | |
//!
//! Where several rules apply, the first one does. What is left out or broken is not part of the truth.

use std::path::Path;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use exchange_core::profile::duration;
use fastrand::Rng;
use serde::Deserialize;

use crate::config::Error;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default = "one")]
    seed: u64,
    #[serde(default)]
    fault: Vec<Rule>,
}

fn one() -> u64 {
    1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Action {
    Latency,
    Status,
    BrokenJson,
    BrokenFrame,
    Close,
    DropFrame,
    RepeatFrame,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Page {
    #[default]
    Json,
    Html,
    Empty,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Rule {
    action: Action,
    venue: Option<String>,
    path: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    after: u64,
    #[serde(default = "one")]
    every: u64,
    probability: Option<f64>,
    count: Option<u64>,
    #[serde(default, with = "duration::optional")]
    from: Option<Duration>,
    #[serde(default, with = "duration::optional")]
    to: Option<Duration>,
    #[serde(default, with = "duration::optional")]
    latency: Option<Duration>,
    status: Option<u16>,
    retry_after: Option<u64>,
    body: Option<Page>,
    code: Option<u16>,
    /// How often the rule matched, and how often it was applied.
    #[serde(skip)]
    seen: u64,
    #[serde(skip)]
    applied: u64,
}

/// What happens to a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum RequestFault {
    Latency(Duration),
    Status { status: u16, retry_after: Option<u64>, html: bool, body: String },
    Broken,
}

/// What happens to a frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FrameFault {
    Broken,
    Close(Option<u16>),
    Drop,
    Repeat,
}

/// The rules of a file, and how often each was applied.
#[derive(Debug)]
pub(crate) struct Faults {
    started: Instant,
    /// Whether any rule is about frames: they are many.
    frames: bool,
    inner: Mutex<(Vec<Rule>, Rng)>,
}

impl Faults {
    /// No faults.
    pub(crate) fn none() -> Self {
        Self { started: Instant::now(), frames: false, inner: Mutex::new((Vec::new(), Rng::with_seed(1))) }
    }

    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self, Error> {
        let text = std::fs::read_to_string(path).map_err(|source| Error::File { path: path.into(), source })?;
        Self::parse(&text).map_err(|message| Error::Content { path: path.into(), message })
    }

    fn parse(text: &str) -> Result<Self, String> {
        let file: File = toml::from_str(text).map_err(|error| error.to_string().trim_end().to_owned())?;
        for (at, rule) in file.fault.iter().enumerate() {
            rule.check().map_err(|message| format!("fault {}: {message}", at + 1))?;
        }
        let frames = file.fault.iter().any(|rule| !rule.action.of_requests());
        Ok(Self { started: Instant::now(), frames, inner: Mutex::new((file.fault, Rng::with_seed(file.seed))) })
    }

    /// What happens to a request, or to the opening of a socket.
    pub(crate) fn request(&self, venue: &str, path: &str) -> Option<RequestFault> {
        self.find(true, venue, path, None, |rule| match rule.action {
            Action::Latency => RequestFault::Latency(rule.latency.unwrap_or_default()),
            Action::Status => {
                let status = rule.status.unwrap_or(500);
                let (html, body) = match rule.body.unwrap_or_default() {
                    Page::Html => (true, format!("<html><head><title>{status}</title></head><body><center><h1>{status}</h1></center></body></html>")),
                    Page::Json => (false, format!("{{\"code\":-1003,\"msg\":\"a fault that was asked for: HTTP {status}\"}}")),
                    Page::Empty => (false, String::new()),
                };
                RequestFault::Status { status, retry_after: rule.retry_after, html, body }
            }
            _ => RequestFault::Broken,
        })
    }

    /// Whether frames need to be asked about at all.
    pub(crate) fn of_frames(&self) -> bool {
        self.frames
    }

    /// What happens to a frame.
    pub(crate) fn frame(&self, venue: &str, path: &str, topic: &str) -> Option<FrameFault> {
        self.find(false, venue, path, Some(topic), |rule| match rule.action {
            Action::Close => FrameFault::Close(rule.code),
            Action::DropFrame => FrameFault::Drop,
            Action::RepeatFrame => FrameFault::Repeat,
            _ => FrameFault::Broken,
        })
    }

    fn find<T>(&self, requests: bool, venue: &str, path: &str, topic: Option<&str>, make: impl Fn(&Rule) -> T) -> Option<T> {
        let since = self.started.elapsed();
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let (rules, rng) = &mut *inner;
        rules.iter_mut().filter(|rule| rule.action.of_requests() == requests).find_map(|rule| rule.applies(venue, path, topic, since, rng).then(|| make(rule)))
    }
}

impl Action {
    fn of_requests(self) -> bool {
        matches!(self, Self::Latency | Self::Status | Self::BrokenJson)
    }
}

impl Rule {
    fn check(&self) -> Result<(), String> {
        let only = |there: bool, key: &str, action: Action| {
            if there && self.action != action { Err(format!("`{key}` does not belong to this action")) } else { Ok(()) }
        };
        only(self.latency.is_some(), "latency", Action::Latency)?;
        only(self.status.is_some(), "status", Action::Status)?;
        only(self.retry_after.is_some(), "retry_after", Action::Status)?;
        only(self.body.is_some(), "body", Action::Status)?;
        only(self.code.is_some(), "code", Action::Close)?;
        if self.action == Action::Latency && self.latency.is_none() {
            return Err("`latency` is missing".into());
        }
        if self.action == Action::Status && !self.status.is_some_and(|status| (400..600).contains(&status)) {
            return Err("`status` has to be an HTTP status from 400 to 599".into());
        }
        if self.action.of_requests() && self.topic.is_some() {
            return Err("`topic` is for frames, and this action is for requests".into());
        }
        if self.every == 0 {
            return Err("`every` begins at 1".into());
        }
        if self.probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
            return Err("`probability` is from 0 to 1".into());
        }
        Ok(())
    }

    fn applies(&mut self, venue: &str, path: &str, topic: Option<&str>, since: Duration, rng: &mut Rng) -> bool {
        let matched = self.venue.as_deref().is_none_or(|name| name == venue)
            && self.path.as_deref().is_none_or(|pattern| glob(pattern, path))
            && self.topic.as_deref().is_none_or(|pattern| topic.is_some_and(|topic| glob(pattern, topic)))
            && self.from.is_none_or(|from| since >= from)
            && self.to.is_none_or(|to| since < to);
        if !matched || self.count.is_some_and(|count| self.applied >= count) {
            return false;
        }
        self.seen += 1;
        let turn = self.seen > self.after && (self.seen - self.after).is_multiple_of(self.every);
        let applies = turn && self.probability.is_none_or(|chance| rng.f64() < chance);
        self.applied += u64::from(applies);
        applies
    }
}

/// Whether a pattern, in which `*` is any text, matches.
fn glob(pattern: &str, text: &str) -> bool {
    let mut parts = pattern.split('*');
    let first = parts.next().unwrap_or_default();
    let Some(mut rest) = text.strip_prefix(first) else { return false };
    let Some(last) = parts.next_back() else { return rest.is_empty() };
    for part in parts {
        let Some(at) = rest.find(part) else { return false };
        rest = rest.get(at + part.len()..).unwrap_or_default();
    }
    rest.ends_with(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_apply_when_they_should() {
        let faults =
            Faults::parse("[[fault]]\naction = \"status\"\nstatus = 429\nretry_after = 2\nvenue = \"a\"\npath = \"/x/*\"\nafter = 1\nevery = 2\ncount = 2")
                .unwrap();
        let hits: Vec<bool> = (0..9).map(|_| faults.request("a", "/x/y").is_some()).collect();
        assert_eq!(hits, [false, false, true, false, true, false, false, false, false]);
        assert!(faults.request("b", "/x/y").is_none() && faults.request("a", "/y").is_none() && !faults.of_frames());
    }

    #[test]
    fn frames_are_chosen_by_topic_and_chance() {
        let faults = Faults::parse("seed = 3\n[[fault]]\naction = \"drop_frame\"\ntopic = \"*@depth*\"\nprobability = 0.5").unwrap();
        let dropped = (0..1000).filter(|_| faults.frame("a", "/stream", "btcusdt@depth@100ms") == Some(FrameFault::Drop)).count();
        assert!((400..600).contains(&dropped), "{dropped}");
        assert_eq!(faults.frame("a", "/stream", "btcusdt@trade"), None);
    }

    #[test]
    fn says_what_is_wrong() {
        for (text, what) in [
            ("[[fault]]\naction = \"explode\"", "unknown variant `explode`"),
            ("[[fault]]\naction = \"close\"\nwhen = 3", "unknown field `when`"),
            ("[[fault]]\naction = \"latency\"", "`latency` is missing"),
            ("[[fault]]\naction = \"latency\"\nlatency = \"soon\"", "no duration"),
            ("[[fault]]\naction = \"close\"\nstatus = 500", "does not belong"),
            ("[[fault]]\naction = \"status\"\nstatus = 200", "400 to 599"),
            ("[[fault]]\naction = \"status\"\nstatus = 500\ntopic = \"x\"", "`topic` is for frames"),
        ] {
            let error = Faults::parse(text).expect_err(text);
            assert!(error.contains(what), "{text}: {error}");
        }
    }

    #[test]
    fn patterns_match() {
        for (pattern, text, want) in
            [("a*c", "abc", true), ("*", "", true), ("abc", "abcd", false), ("*b*", "abc", true), ("a*b*c", "axbxc", true), ("a*b", "abx", false)]
        {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
