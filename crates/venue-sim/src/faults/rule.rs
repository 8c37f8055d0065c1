//! One rule of a file: what it may say, and whether it applies.

use std::collections::BTreeSet;
use std::time::Duration;

use exchange_core::profile::duration;
use fastrand::Rng;
use serde::{Deserialize, Deserializer};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct File {
    #[serde(default = "one")]
    pub(super) seed: u64,
    #[serde(default)]
    pub(super) fault: Vec<Rule>,
}

fn one() -> u64 {
    1
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Action {
    Latency,
    Status,
    BrokenJson,
    TruncateBody,
    StallBody,
    Drip,
    Garbage,
    BrokenFrame,
    DropFrame,
    RepeatFrame,
    ReorderFrames,
    Close,
    OnlyPongs,
    ZeroFrames,
    SilentTopic,
    ClockJump,
    Outage,
}

/// What a rule is asked about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    Request,
    Opening,
    Frame,
    Subscription,
    Clock,
}

impl Action {
    /// Whether that can happen there. An outage is everywhere, and asked for by itself.
    pub(super) fn at(self, place: Place) -> bool {
        match self {
            Self::Latency | Self::Status => matches!(place, Place::Request | Place::Opening),
            Self::BrokenJson | Self::TruncateBody | Self::StallBody | Self::Drip => place == Place::Request,
            Self::Garbage => matches!(place, Place::Request | Place::Frame),
            Self::BrokenFrame | Self::DropFrame | Self::RepeatFrame | Self::ReorderFrames | Self::Close => place == Place::Frame,
            Self::OnlyPongs | Self::ZeroFrames => place == Place::Opening,
            Self::SilentTopic => place == Place::Subscription,
            Self::ClockJump => place == Place::Clock,
            Self::Outage => false,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Page {
    #[default]
    Json,
    Html,
    Empty,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Form {
    Text,
    Binary,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Manner {
    Close,
    Hang,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Rule {
    pub(super) action: Action,
    pub(super) venue: Option<String>,
    path: Option<String>,
    topic: Option<String>,
    #[serde(default)]
    after: u64,
    #[serde(default = "one")]
    every: u64,
    probability: Option<f64>,
    count: Option<u64>,
    #[serde(default, with = "duration::optional")]
    pub(super) from: Option<Duration>,
    #[serde(default, with = "duration::optional")]
    pub(super) to: Option<Duration>,
    #[serde(default, with = "duration::optional")]
    pub(super) latency: Option<Duration>,
    pub(super) status: Option<u16>,
    pub(super) retry_after: Option<u64>,
    pub(super) body: Option<Page>,
    pub(super) code: Option<u16>,
    pub(super) bytes: Option<usize>,
    pub(super) form: Option<Form>,
    resubscribe_heals: Option<bool>,
    /// Milliseconds.
    #[serde(default, deserialize_with = "jump")]
    pub(super) by: Option<i64>,
    pub(super) manner: Option<Manner>,
    /// How often the rule matched, and how often it was applied.
    #[serde(skip)]
    seen: u64,
    #[serde(skip)]
    applied: u64,
    /// Topics that were silent once: venue, path, topic.
    #[serde(skip)]
    silenced: BTreeSet<[String; 3]>,
}

/// A duration that may be negative, in milliseconds.
fn jump<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = String::deserialize(deserializer)?;
    let (sign, length) = text.strip_prefix('-').map_or((1, text.as_str()), |length| (-1, length));
    let length = duration::parse(length).map_err(serde::de::Error::custom)?;
    i64::try_from(length.as_millis()).map(|millis| Some(sign * millis)).map_err(serde::de::Error::custom)
}

impl Rule {
    pub(super) fn check(&self) -> Result<(), String> {
        use Action::{ClockJump, Close, Drip, Garbage, Latency, OnlyPongs, Outage, SilentTopic, StallBody, Status, TruncateBody, ZeroFrames};
        let only = |there: bool, key: &str, actions: &[Action]| {
            if there && !actions.contains(&self.action) { Err(format!("`{key}` does not belong to this action")) } else { Ok(()) }
        };
        only(self.latency.is_some(), "latency", &[Latency, StallBody, Drip, OnlyPongs, ZeroFrames])?;
        only(self.status.is_some(), "status", &[Status])?;
        only(self.retry_after.is_some(), "retry_after", &[Status])?;
        only(self.body.is_some(), "body", &[Status])?;
        only(self.code.is_some(), "code", &[Close])?;
        only(self.bytes.is_some(), "bytes", &[StallBody, TruncateBody, Drip, Garbage])?;
        only(self.form.is_some(), "form", &[Garbage])?;
        only(self.resubscribe_heals.is_some(), "resubscribe_heals", &[SilentTopic])?;
        only(self.by.is_some(), "by", &[ClockJump])?;
        only(self.manner.is_some(), "manner", &[Outage])?;
        if self.topic.is_some() && !self.action.at(Place::Frame) && !self.action.at(Place::Subscription) {
            return Err("`topic` does not belong to this action: it is for frames and subscriptions".into());
        }
        if self.path.is_some() && self.action == ClockJump {
            return Err("`path` does not belong to this action: a venue has one clock".into());
        }
        if matches!(self.action, Latency | Drip) && self.latency.is_none() {
            return Err("`latency` is missing".into());
        }
        if self.action == Status && !self.status.is_some_and(|status| (400..600).contains(&status)) {
            return Err("`status` has to be an HTTP status from 400 to 599".into());
        }
        if self.action == Drip && self.bytes == Some(0) {
            return Err("`bytes` begin at 1".into());
        }
        if self.action == ClockJump && self.by.is_none() {
            return Err("`by` is missing".into());
        }
        let counts = self.after != 0 || self.every != 1 || self.count.is_some() || self.probability.is_some();
        if matches!(self.action, ClockJump | Outage) && counts {
            return Err("this action is a matter of `from` and `to` alone: nothing is counted".into());
        }
        if self.to.is_some_and(|to| to <= self.from.unwrap_or_default()) {
            return Err("`to` comes after `from`".into());
        }
        if self.every == 0 {
            return Err("`every` begins at 1".into());
        }
        if self.probability.is_some_and(|chance| !(0.0..=1.0).contains(&chance)) {
            return Err("`probability` is from 0 to 1".into());
        }
        Ok(())
    }

    pub(super) fn is_of(&self, venue: &str, path: &str) -> bool {
        self.venue.as_deref().is_none_or(|name| name == venue) && self.path.as_deref().is_none_or(|pattern| glob(pattern, path))
    }

    pub(super) fn applies(&mut self, venue: &str, path: &str, topic: Option<&str>, since: Duration, rng: &mut Rng) -> bool {
        let matched = self.is_of(venue, path)
            && self.topic.as_deref().is_none_or(|pattern| topic.is_some_and(|topic| glob(pattern, topic)))
            && self.from.is_none_or(|from| since >= from)
            && self.to.is_none_or(|to| since < to);
        if !matched || self.count.is_some_and(|count| self.applied >= count) {
            return false;
        }
        let heals = self.action == Action::SilentTopic && self.resubscribe_heals.unwrap_or(true);
        let key = heals.then(|| [venue, path, topic.unwrap_or_default()].map(str::to_owned));
        if key.as_ref().is_some_and(|key| self.silenced.contains(key)) {
            return false;
        }
        self.seen += 1;
        let turn = self.seen > self.after && (self.seen - self.after).is_multiple_of(self.every);
        let applies = turn && self.probability.is_none_or(|chance| rng.f64() < chance);
        self.applied += u64::from(applies);
        self.silenced.extend(key.filter(|_| applies));
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
    use super::glob;

    #[test]
    fn patterns_match() {
        for (pattern, text, want) in
            [("a*c", "abc", true), ("*", "", true), ("abc", "abcd", false), ("*b*", "abc", true), ("a*b*c", "axbxc", true), ("a*b", "abx", false)]
        {
            assert_eq!(glob(pattern, text), want, "{pattern} {text}");
        }
    }
}
