//! The sinks by their addresses: `stdout:`, `file:./data`.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

use exchange_core::profile::duration;

use crate::error::{SinkError, SinkErrorKind};
use crate::file::{FileOptions, FileSink};
use crate::null::NullSink;
use crate::sink::Sink;
use crate::stdout::StdoutSink;

/// The sinks of this build, as a user writes them.
const HERE: [(&str, &str); 3] = [("stdout", "stdout:"), ("file", "file:DIR"), ("null", "null:")];
/// Sinks whose addresses are fixed but which this build does not have.
const NOT_YET: [&str; 7] = ["parquet", "redis", "nats", "kafka", "amqp", "postgres", "s3"];

/// A sink's address, checked but not opened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SinkUri {
    text: String,
    target: Target,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Target {
    Stdout,
    Null,
    File(PathBuf, FileOptions),
}

impl SinkUri {
    /// Reads an address: `stdout:`, `null:`, or `file:DIR` with, if need be, `?rotate=10m&size=64MiB&level=3` behind it.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`]: what there is instead, and which of it was probably meant.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let Some((scheme, rest)) = text.split_once(':') else { return Err(unknown(text, text)) };
        let target = match scheme {
            "stdout" if rest.is_empty() => Target::Stdout,
            "null" if rest.is_empty() => Target::Null,
            "stdout" | "null" => return Err(config(format!("nothing goes behind `{scheme}:` (found `{text}`)"))),
            "file" => file(text, rest)?,
            _ if NOT_YET.contains(&scheme) => return Err(config(format!("this build does not have the sink `{scheme}` yet; it has {}", here()))),
            _ => return Err(unknown(text, scheme)),
        };
        Ok(Self { text: text.to_owned(), target })
    }

    /// Whether this is standard output, which one sink alone can have.
    pub fn is_stdout(&self) -> bool {
        self.target == Target::Stdout
    }

    /// Whether it lasts beyond the run, so that two collectors of one name would be in each other's way.
    pub fn needs_name(&self) -> bool {
        matches!(self.target, Target::File(..))
    }

    /// The directory that it writes to, if it writes to one.
    pub fn directory(&self) -> Option<&std::path::Path> {
        match &self.target {
            Target::File(directory, _) => Some(directory),
            Target::Stdout | Target::Null => None,
        }
    }

    /// Opens the sink. Files are created here, so this may block for a moment.
    pub fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(match &self.target {
            Target::Stdout => Box::new(StdoutSink::open()?),
            Target::Null => Box::new(NullSink::new()),
            Target::File(directory, options) => Box::new(FileSink::open(directory, *options)?),
        })
    }

    /// Whether a word is the scheme of a sink, of this build or not: for lists in which addresses stand side by side.
    pub fn is_scheme(word: &str) -> bool {
        schemes().any(|scheme| scheme == word)
    }
}

impl fmt::Display for SinkUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn file(text: &str, rest: &str) -> Result<Target, SinkError> {
    let (path, query) = rest.split_once('?').unwrap_or((rest, ""));
    // `file:///var/data` is how other programs write `file:/var/data`.
    let path = path.strip_prefix("//").filter(|path| path.starts_with('/')).unwrap_or(path);
    if path.is_empty() {
        return Err(config(format!("`{text}` lacks a directory: `file:./data`")));
    }
    let mut options = FileOptions::default();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let wrong = |what: &str| config(format!("`{text}`: `{value}` is no {what}"));
        match key {
            "rotate" => options.rotate_every = pause(value).ok_or_else(|| wrong("time between files (such as 10m, 1h)"))?,
            "size" => options.rotate_bytes = bytes(value).ok_or_else(|| wrong("size (such as 64MiB, 1GiB)"))?,
            "level" => options.level = level(value).ok_or_else(|| wrong("level of compression (1 to 19)"))?,
            _ => return Err(config(format!("`{text}`: unknown key `{key}` (there are `rotate`, `size` and `level`)"))),
        }
    }
    Ok(Target::File(path.into(), options))
}

fn pause(text: &str) -> Option<Duration> {
    duration::parse(text).ok().filter(|every| *every >= Duration::from_secs(1))
}

fn level(text: &str) -> Option<i32> {
    text.parse().ok().filter(|level| (1..=19).contains(level))
}

/// Reads `64MiB`.
fn bytes(text: &str) -> Option<u64> {
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

fn config(message: String) -> SinkError {
    SinkError::new(SinkErrorKind::Config, message)
}

fn here() -> String {
    HERE.map(|(_, shape)| format!("`{shape}`")).join(", ")
}

fn schemes() -> impl Iterator<Item = &'static str> {
    HERE.iter().map(|(scheme, _)| *scheme).chain(NOT_YET).chain(["rediss", "postgresql"])
}

/// What is right instead of an address that is none.
fn unknown(text: &str, scheme: &str) -> SinkError {
    let scheme = scheme.to_ascii_lowercase();
    let near = schemes().map(|known| (strsim::damerau_levenshtein(known, &scheme), known)).min().filter(|(distance, _)| *distance <= 2);
    let meant = match near {
        Some((_, near)) => format!("did you mean `{near}:`? "),
        None if text.starts_with(['.', '/', '~']) => format!("did you mean `file:{text}`? "),
        None => String::new(),
    };
    config(format!("`{}` is no sink: {meant}(there are {})", masked(text), here()))
}

/// The address without its user and password, which do not belong in a log.
fn masked(text: &str) -> String {
    match text.split_once("://") {
        Some((scheme, rest)) => match rest.split('/').next().and_then(|authority| authority.rsplit_once('@')) {
            Some((user, _)) => format!("{scheme}://***{}", rest.get(user.len()..).unwrap_or_default()),
            None => text.to_owned(),
        },
        None => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(text: &str) -> String {
        SinkUri::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn addresses_name_their_sinks() {
        assert!(SinkUri::parse("stdout:").unwrap().is_stdout());
        assert_eq!(SinkUri::parse("null:").unwrap().target, Target::Null);
        assert_eq!(SinkUri::parse("file:./data").unwrap().target, Target::File("./data".into(), FileOptions::default()));
        assert_eq!(SinkUri::parse("file:///var/data").unwrap().directory(), Some("/var/data".as_ref()));
        let options = FileOptions { rotate_every: Duration::from_mins(10), rotate_bytes: 64 << 20, level: 3 };
        assert_eq!(SinkUri::parse("file:d?rotate=10m&size=64MiB&level=3").unwrap().target, Target::File("d".into(), options));
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        assert_eq!(refused("fiel:./data"), "`fiel:./data` is no sink: did you mean `file:`? (there are `stdout:`, `file:DIR`, `null:`)");
        assert_eq!(refused("stdout"), "`stdout` is no sink: did you mean `stdout:`? (there are `stdout:`, `file:DIR`, `null:`)");
        assert_eq!(refused("./data"), "`./data` is no sink: did you mean `file:./data`? (there are `stdout:`, `file:DIR`, `null:`)");
        assert_eq!(refused("mysql://me:secret@host/db"), "`mysql://***@host/db` is no sink: (there are `stdout:`, `file:DIR`, `null:`)");
        assert_eq!(refused("file:"), "`file:` lacks a directory: `file:./data`");
        assert_eq!(refused("stdout:x"), "nothing goes behind `stdout:` (found `stdout:x`)");
        assert_eq!(refused("file:d?size=0"), "`file:d?size=0`: `0` is no size (such as 64MiB, 1GiB)");
        assert_eq!(refused("file:d?sise=1"), "`file:d?sise=1`: unknown key `sise` (there are `rotate`, `size` and `level`)");
    }

    #[test]
    fn sinks_to_come_are_known() {
        for text in ["parquet:./data", "redis://h", "nats://h", "kafka://h", "amqp://h", "postgres://u:p@h", "s3://b"] {
            let (scheme, _) = text.split_once(':').unwrap();
            assert_eq!(refused(text), format!("this build does not have the sink `{scheme}` yet; it has `stdout:`, `file:DIR`, `null:`"));
        }
    }

    #[test]
    fn every_sink_of_this_build_opens() {
        let directory = tempfile::tempdir().unwrap();
        for (scheme, shape) in HERE {
            let uri = SinkUri::parse(&shape.replace("DIR", &directory.path().display().to_string())).unwrap();
            assert!(uri.open().unwrap().name().starts_with(scheme));
        }
    }
}
