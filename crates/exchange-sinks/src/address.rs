//! A sink's address as a user writes it: a scheme, what it names, and keys behind a question mark.

use std::fmt;
use std::time::Duration;

use exchange_core::profile::duration;

use crate::error::{SinkError, SinkErrorKind};

/// An address in its parts. A sink takes the keys that it knows, and at the [end](Self::end) no other must be left.
pub(crate) struct Address {
    scheme: String,
    rest: String,
    keys: Vec<(String, String)>,
    /// The names of the keys that were asked for.
    known: Vec<&'static str>,
    text: String,
}

impl Address {
    /// Takes `scheme:rest?key=value&key=value` apart; `None` if there is no scheme.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (scheme, behind) = text.split_once(':')?;
        let (rest, query) = behind.split_once('?').unwrap_or((behind, ""));
        let keys = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
        Some(Self { scheme: scheme.to_owned(), rest: rest.to_owned(), keys, known: Vec::new(), text: text.to_owned() })
    }

    /// What stands before the first colon.
    pub(crate) fn scheme(&self) -> &str {
        &self.scheme
    }

    /// The address without its secrets and its keys, for logs and metrics.
    pub(crate) fn shown(&self) -> String {
        let text = masked(&self.text);
        text.split_once('?').map_or(text.as_str(), |(address, _)| address).to_owned()
    }

    /// What stands behind the scheme's colon, without the keys.
    pub(crate) fn rest(&self) -> &str {
        &self.rest
    }

    /// A path: what stands behind the colon. `file:///var/data` is how other programs write `file:/var/data`.
    pub(crate) fn path(&self) -> Option<&str> {
        let path = self.rest.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(&self.rest);
        Some(path).filter(|path| !path.is_empty())
    }

    /// Takes a key's value, as `read` makes it out; `what` it should be completes "is no …" where it cannot.
    pub(crate) fn take<T>(&mut self, key: &'static str, what: &str, read: impl FnOnce(&str) -> Option<T>) -> Result<Option<T>, SinkError> {
        self.known.push(key);
        let Some(at) = self.keys.iter().position(|(name, _)| name == key) else { return Ok(None) };
        let (_, value) = self.keys.remove(at);
        match read(&value) {
            Some(value) => Ok(Some(value)),
            None => Err(self.wrong(&format!("`{key}={value}` is no {what}"))),
        }
    }

    /// Takes a key's text.
    pub(crate) fn take_text(&mut self, key: &'static str) -> Result<Option<String>, SinkError> {
        self.take(key, "text", |text| Some(text.to_owned()).filter(|text| !text.is_empty()))
    }

    /// Takes a span of time such as `10m`, of at least `least`.
    pub(crate) fn take_duration(&mut self, key: &'static str, least: Duration) -> Result<Option<Duration>, SinkError> {
        self.take(key, &format!("time of {least:?} or more (such as 10m, 1h)"), |text| duration::parse(text).ok().filter(|time| *time >= least))
    }

    /// Takes a size such as `64MiB`, in bytes.
    pub(crate) fn take_bytes(&mut self, key: &'static str) -> Result<Option<u64>, SinkError> {
        self.take(key, "size (such as 64MiB, 1GiB)", bytes)
    }

    /// Takes a whole number within bounds.
    pub(crate) fn take_number(&mut self, key: &'static str, bounds: std::ops::RangeInclusive<u64>) -> Result<Option<u64>, SinkError> {
        let what = format!("whole number from {} to {}", bounds.start(), bounds.end());
        self.take(key, &what, |text| text.parse().ok().filter(|number| bounds.contains(number)))
    }

    /// Refuses anything behind the scheme.
    pub(crate) fn nothing_behind(&self) -> Result<(), SinkError> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.wrong(&format!("nothing goes behind `{}:`", self.scheme))) }
    }

    /// Says that the address is wrong.
    pub(crate) fn wrong(&self, why: &str) -> SinkError {
        SinkError::new(SinkErrorKind::Config, format!("`{}`: {why}", masked(&self.text)))
    }

    /// Refuses keys that nobody asked for.
    pub(crate) fn end(self) -> Result<(), SinkError> {
        let Some((key, _)) = self.keys.first() else { return Ok(()) };
        let known: Vec<String> = self.known.iter().map(|known| format!("`{known}`")).collect();
        let there = if known.is_empty() { "there are none".to_owned() } else { format!("there are {}", known.join(", ")) };
        Err(self.wrong(&format!("unknown key `{key}` ({there})")))
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Address").field(&self.shown()).finish()
    }
}

/// Reads a size such as `64MiB`, in bytes.
pub fn bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let unit: u64 = match unit {
        "" | "B" => 1,
        "kB" | "KB" => 1000,
        "MB" => 1_000_000,
        "GB" => 1_000_000_000,
        "KiB" => 1 << 10,
        "MiB" => 1 << 20,
        "GiB" => 1 << 30,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(unit).filter(|bytes| *bytes > 0)
}

/// The address without its user and password, and without what keys say that may be secret: these do not belong in a log.
pub(crate) fn masked(text: &str) -> String {
    let at = text.find("://").map_or_else(|| text.find(':').map_or(0, |at| at + 1), |at| at + 3);
    let (scheme, rest) = text.split_at(at);
    // A path has no user; and a password that holds a slash or a question mark itself ends at the last `@`. Without the
    // slashes it is a wrong address, which may hold a password all the same.
    let has_user = |who: &str| !rest.starts_with('/') && (scheme.ends_with('/') || who.contains(':'));
    let shown = match rest.rsplit_once('@').filter(|(who, _)| has_user(who)) {
        Some((_, host)) => format!("***@{host}"),
        None if scheme.ends_with('/') && !rest.starts_with('/') => without_words_for_ports(rest),
        None => rest.to_owned(),
    };
    let Some((address, query)) = shown.split_once('?') else { return format!("{scheme}{shown}") };
    let pairs = query.split('&').map(|pair| match pair.split_once('=') {
        Some((key, _)) if SECRETS.iter().any(|secret| key.eq_ignore_ascii_case(secret)) => format!("{key}=***"),
        _ => pair.to_owned(),
    });
    format!("{scheme}{address}?{}", pairs.collect::<Vec<_>>().join("&"))
}

/// Hosts, without what stands where a port should and is none: a password, of one who forgot the host behind it.
fn without_words_for_ports(rest: &str) -> String {
    let (hosts, behind) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
    let host = |host: &str| match host.rsplit_once(':') {
        Some((name, port)) if !host.ends_with(']') && !port.bytes().all(|byte| byte.is_ascii_digit()) => format!("{name}:***"),
        _ => host.to_owned(),
    };
    format!("{}{behind}", hosts.split(',').map(host).collect::<Vec<_>>().join(","))
}

/// Keys that no sink takes, and under which somebody may have written what nobody shall see.
const SECRETS: [&str; 6] = ["password", "passwd", "pass", "secret", "token", "key"];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_secret_is_not_shown() {
        for (text, shown) in [
            ("postgres://me:secret@host/db", "postgres://***@host/db"),
            ("postgres://me:se/cr?et@host/db", "postgres://***@host/db"),
            ("postgres://host/db?password=secret&prefix=x", "postgres://host/db?password=***&prefix=x"),
            ("redis:me:secret@host", "redis:***@host"),
            ("redis://me:secret", "redis://me:***"),
            ("kafka://a:1,me:secret,[::1]/t", "kafka://a:1,me:***,[::1]/t"),
            ("file:a@b", "file:a@b"),
            ("file:///data/a@b", "file:///data/a@b"),
        ] {
            assert_eq!(masked(text), shown);
        }
    }
}
