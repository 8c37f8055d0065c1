//! What went wrong between a venue and the collector, and what is done about it.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use crate::profile::Profile;
use crate::time::Time;
use crate::wire::{Fault, Reader};

/// The kinds of errors, each named for what it asks of the collector.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum ErrorKind {
    /// A fault that passes by itself (5xx, a time-out, a broken connection): back off, count for the circuit.
    Transient,
    /// Too many requests: wait as told. Not a failure of the venue.
    RateLimited,
    /// The venue shut this address out for a while: no request to it until then.
    Banned,
    /// The venue does not serve this place: stop the venue.
    GeoBlocked,
    /// The venue is closed for maintenance: probe slowly.
    Maintenance,
    /// The venue refuses this one request or topic: drop it, keep the rest.
    Rejected,
    /// An answer that is not what the venue documents: count it, go on.
    Malformed,
}

impl ErrorKind {
    /// All kinds.
    pub const ALL: [Self; 7] = [Self::Transient, Self::RateLimited, Self::Banned, Self::GeoBlocked, Self::Maintenance, Self::Rejected, Self::Malformed];

    /// The contract's word, with which a `decode_error`'s reason begins.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Transient => "transient",
            Self::RateLimited => "rate_limited",
            Self::Banned => "banned",
            Self::GeoBlocked => "geo_blocked",
            Self::Maintenance => "maintenance",
            Self::Rejected => "rejected",
            Self::Malformed => "malformed",
        }
    }
}

impl fmt::Display for ErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for ErrorKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| format!("`{text}` is no kind of error"))
    }
}

impl<'de> serde::Deserialize<'de> for ErrorKind {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        <std::borrow::Cow<'de, str>>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// What is done about an error.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reaction {
    /// Try again after a back-off; the circuit counts a failure.
    BackOff,
    /// Nothing to this limit until the time that the venue named, or for this long.
    Wait(Duration),
    /// Nothing at all to the venue until the time that it named, or for this long.
    Sleep(Duration),
    /// Stop the venue.
    Stop,
    /// Do not ask this again.
    Drop,
    /// Count it and go on.
    GoOn,
}

impl ErrorKind {
    /// The one table of reactions. The durations hold where the venue named no time.
    pub fn reaction(self) -> Reaction {
        match self {
            Self::Transient => Reaction::BackOff,
            Self::RateLimited => Reaction::Wait(Duration::from_secs(10)),
            Self::Banned => Reaction::Sleep(Duration::from_mins(10)),
            Self::GeoBlocked => Reaction::Stop,
            Self::Maintenance => Reaction::Sleep(Duration::from_secs(30)),
            Self::Rejected => Reaction::Drop,
            Self::Malformed => Reaction::GoOn,
        }
    }
}

/// A message that could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct DecodeError {
    /// What kind of error this is.
    pub kind: ErrorKind,
    /// What was wrong, in words.
    pub message: String,
}

impl DecodeError {
    /// A message that is not what the venue documents.
    pub fn malformed(message: impl fmt::Display) -> Self {
        Self { kind: ErrorKind::Malformed, message: message.to_string() }
    }

    /// A name for one of several kinds of things (an endpoint, a channel) that the venue does not document.
    pub fn unknown(what: &str, name: impl fmt::Display) -> Self {
        Self::malformed(format_args!("`{name}` is no {what} that is known"))
    }
}

impl From<Fault> for DecodeError {
    fn from(fault: Fault) -> Self {
        Self::malformed(fault)
    }
}

/// An answer by which a venue refused a request.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{kind}: {message}")]
pub struct Refusal {
    /// What kind of error this is.
    pub kind: ErrorKind,
    /// The venue's words.
    pub message: String,
    /// Until when the venue wants to be left alone, if it said so.
    pub until: Option<Time>,
}

/// Whether an HTTP answer is an error, by its status, by the code in its body, or by its text, as the venue's
/// `errors` table says. `retry_after` is the header's value in seconds.
pub fn classify(profile: &Profile, status: u16, body: &[u8], retry_after: Option<u64>, now: Time) -> Option<Refusal> {
    let success = (200..300).contains(&status);
    let text = std::str::from_utf8(body).unwrap_or_default();
    let html = text.trim_start().starts_with('<');
    let code = (!html).then(|| error_code(profile, text)).flatten();
    if success && !html && code.as_ref().is_none_or(|(_, ok)| *ok) {
        return None;
    }
    let code = code.filter(|(_, ok)| !ok).map(|(code, _)| code);
    let by_text = profile.errors.iter().find_map(|(key, kind)| key.strip_prefix("text:").filter(|part| text.contains(part)).map(|_| *kind));
    let by_code = code.as_deref().and_then(|code| profile.errors.get(&format!("code:{code}")).copied());
    let by_status = profile.errors.get(&format!("http:{status}")).copied();
    // Whoever is shut out is told so by the status: the code may be that of a limit.
    let by_ban = by_status.filter(|_| status == 418);
    let kind = by_text.or(by_ban).or(by_code).or(by_status).unwrap_or(match status {
        418 => ErrorKind::Banned,
        429 => ErrorKind::RateLimited,
        451 => ErrorKind::GeoBlocked,
        408 | 425 | 500.. => ErrorKind::Transient,
        400..500 => ErrorKind::Rejected,
        // A body that says "no" without a code that is known, or a page where JSON was asked for.
        _ if html => ErrorKind::Malformed,
        _ => ErrorKind::Rejected,
    });
    let said = profile.error_body.as_ref().and_then(|shape| peek_text(text, &shape.message)).unwrap_or_default();
    let mut message = format!("HTTP {status}");
    if let Some(code) = code {
        message = format!("{message}, code {code}");
    }
    if html {
        message.push_str(", an HTML page");
    } else if !said.is_empty() {
        message = format!("{message}: {said}");
    }
    let until = matches!(kind, ErrorKind::RateLimited | ErrorKind::Banned | ErrorKind::Maintenance)
        .then(|| retry_after.map(|seconds| now + Duration::from_secs(seconds)).or_else(|| banned_until(&said)))
        .flatten();
    Some(Refusal { kind, message, until })
}

/// The venue's own code in a body, and whether it means success.
fn error_code(profile: &Profile, text: &str) -> Option<(String, bool)> {
    let shape = profile.error_body.as_ref()?;
    let code = peek_text(text, &shape.code)?;
    let ok = shape.ok.contains(&code);
    Some((code, ok))
}

/// The text or number at `key`, at `a.b` or at the first of `a|b` that is there.
fn peek_text(text: &str, key: &str) -> Option<String> {
    let at = |path: &str| path.split('.').try_fold(Reader::new(text), |reader, key| reader.find(key).ok()?);
    key.split('|').find_map(|path| at(path)?.string_or_number().ok().map(Into::into))
}

/// The time in milliseconds that stands in a text such as "IP banned until 1573112112345".
fn banned_until(text: &str) -> Option<Time> {
    let digits = text.split_once("until ")?.1;
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits.get(..end).filter(|d| d.len() == 13)?.parse().ok().map(Time::from_millis)
}
