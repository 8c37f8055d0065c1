//! The sinks by their addresses: `stdout:`, `file:./data`.

use std::fmt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

use crate::address::{Address, masked};
use crate::error::{SinkError, SinkErrorKind};
use crate::sink::Sink;
use crate::{file, null, stdout};

/// What an address names, checked but not opened.
pub(crate) trait Target: fmt::Debug + Send + Sync {
    /// Opens the sink. This may create files, and so block for a moment; it connects to nothing.
    fn open(&self) -> Result<Box<dyn Sink>, SinkError>;

    /// Whether it lasts beyond the run.
    fn lasts(&self) -> bool {
        true
    }

    /// The directory that it writes to, if it writes to one.
    fn directory(&self) -> Option<&Path> {
        None
    }
}

/// Makes out what an address names.
type Read = fn(Address) -> Result<Arc<dyn Target>, SinkError>;

/// A kind of sink.
struct Scheme {
    /// How addresses begin, the usual way first.
    names: &'static [&'static str],
    /// What an address looks like.
    shape: &'static str,
    /// Reads it, where this build has the sink.
    read: Option<Read>,
}

/// The way to read the addresses of a sink that is a cargo feature.
macro_rules! featured {
    ($($name:ident: $feature:literal, $module:ident;)+) => {$(
        #[cfg(feature = $feature)]
        const $name: Option<Read> = Some(crate::$module::target);
        #[cfg(not(feature = $feature))]
        const $name: Option<Read> = None;
    )+};
}

featured! {
    PARQUET: "parquet", parquet;
    POSTGRES: "postgres", postgres;
    REDIS: "redis", redis;
    NATS: "nats", nats;
    KAFKA: "kafka", kafka;
    AMQP: "amqp", amqp;
}

/// All kinds of sinks. Each that is not in every build is a cargo feature of the name of its scheme.
const SCHEMES: [Scheme; 9] = [
    Scheme { names: &["stdout"], shape: "stdout:", read: Some(stdout::target) },
    Scheme { names: &["file"], shape: "file:DIR", read: Some(file::target) },
    Scheme { names: &["null"], shape: "null:", read: Some(null::target) },
    Scheme { names: &["parquet"], shape: "parquet:DIR", read: PARQUET },
    Scheme { names: &["postgres", "postgresql"], shape: "postgres://USER@HOST/DATABASE", read: POSTGRES },
    Scheme { names: &["redis", "rediss"], shape: "redis://HOST", read: REDIS },
    Scheme { names: &["nats"], shape: "nats://HOST", read: NATS },
    Scheme { names: &["kafka"], shape: "kafka://HOST", read: KAFKA },
    Scheme { names: &["amqp", "amqps"], shape: "amqp://HOST", read: AMQP },
];

/// A sink's address, checked but not opened. It may hold a password, and shows none.
#[derive(Clone)]
pub struct SinkUri {
    text: String,
    target: Arc<dyn Target>,
}

impl SinkUri {
    /// Reads an address: `stdout:`, `null:`, or `file:DIR` with, if need be, `?rotate=10m&size=64MiB&level=3` behind it.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`]: what there is instead, and which of it was probably meant.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let Some(address) = Address::parse(text) else { return Err(unknown(text, text)) };
        let Some(scheme) = SCHEMES.iter().find(|scheme| scheme.names.contains(&address.scheme())) else {
            return Err(unknown(text, address.scheme()));
        };
        let Some(read) = scheme.read else {
            let [name, ..] = scheme.names else { return Err(unknown(text, address.scheme())) };
            let what = format!("this build does not have the sink `{name}`: `cargo build --release --features {name}` brings it");
            return Err(config(format!("{what} (there are {})", SinkUri::known())));
        };
        Ok(Self { text: text.to_owned(), target: read(address)? })
    }

    /// Whether this is standard output, which one sink alone can have.
    pub fn is_stdout(&self) -> bool {
        self.text == "stdout:"
    }

    /// What kind of sink it is: `file`, `nats`.
    pub fn scheme(&self) -> &str {
        self.text.split_once(':').map_or("", |(scheme, _)| scheme)
    }

    /// Whether it lasts beyond the run, so that two collectors of one name would be in each other's way.
    pub fn needs_name(&self) -> bool {
        self.target.lasts()
    }

    /// The directory that it writes to, if it writes to one.
    pub fn directory(&self) -> Option<&Path> {
        self.target.directory()
    }

    /// The one name of that directory, however the address spells it: absolute, without detours, links followed as far as they
    /// are there.
    pub fn true_directory(&self) -> Option<PathBuf> {
        self.directory().map(true_path)
    }

    /// Opens the sink. Files are created here, so this may block for a moment; servers are connected to later.
    pub fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        self.target.open()
    }

    /// What addresses of this build's sinks look like: `` `stdout:`, `file:DIR` ``.
    pub fn known() -> String {
        let shapes: Vec<String> = SCHEMES.iter().filter(|scheme| scheme.read.is_some()).map(|scheme| format!("`{}`", scheme.shape)).collect();
        shapes.join(", ")
    }

    /// Whether a word is the scheme of a sink, of this build or not: for lists in which addresses stand side by side.
    pub fn is_scheme(word: &str) -> bool {
        names().any(|name| name == word)
    }
}

/// A path's one name: links are followed as far as there are any, and what is not there yet is taken as it is written.
fn true_path(path: &Path) -> PathBuf {
    // Of the working directory, if there is one.
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let mut found = PathBuf::new();
    for part in absolute.components() {
        match part {
            Component::ParentDir => drop(found.pop()),
            part => {
                found.push(part);
                // Link by link: what `..` leaves is where a link led to.
                found = std::fs::canonicalize(&found).unwrap_or(found);
            }
        }
    }
    found
}

impl PartialEq for SinkUri {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for SinkUri {}

impl fmt::Display for SinkUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.text))
    }
}

impl fmt::Debug for SinkUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SinkUri").field(&masked(&self.text)).finish()
    }
}

fn config(message: String) -> SinkError {
    SinkError::new(SinkErrorKind::Config, message)
}

fn names() -> impl Iterator<Item = &'static str> {
    SCHEMES.iter().flat_map(|scheme| scheme.names).copied()
}

/// What is right instead of an address that is none.
fn unknown(text: &str, scheme: &str) -> SinkError {
    let scheme = scheme.to_ascii_lowercase();
    let near = names().map(|known| (strsim::damerau_levenshtein(known, &scheme), known)).min().filter(|(distance, _)| *distance <= 2);
    let meant = match near {
        Some((_, near)) => format!("did you mean `{near}:`? "),
        None if text.starts_with(['.', '/', '~']) => format!("did you mean `file:{text}`? "),
        None => String::new(),
    };
    config(format!("`{}` is no sink: {meant}(there are {})", masked(text), SinkUri::known()))
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
        assert!(!SinkUri::parse("null:").unwrap().needs_name());
        assert_eq!(SinkUri::parse("file:./data").unwrap().directory(), Some("./data".as_ref()));
        assert_eq!(SinkUri::parse("file:///var/data").unwrap().directory(), Some("/var/data".as_ref()));
        let target = format!("{:?}", SinkUri::parse("file:d?rotate=10m&size=64MiB&level=3").unwrap().target);
        assert!(target.contains("600s, rotate_bytes: 67108864, level: 3"), "{target}");
    }

    #[cfg(unix)]
    #[test]
    fn a_directory_has_one_name() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path().canonicalize().unwrap();
        let of = |text: &str| SinkUri::parse(&format!("file:{}/{text}", root.display())).unwrap().true_directory().unwrap();
        // Also while it is not there yet.
        for text in ["data", "data/", "./data", "other/../data", ".//data/."] {
            assert_eq!(of(text), root.join("data"), "{text}");
        }
        std::fs::create_dir_all(root.join("data/deep")).unwrap();
        std::os::unix::fs::symlink(root.join("data/deep"), root.join("link")).unwrap();
        for text in ["data/deep", "link", "link/", "data/../link", "link/../deep"] {
            assert_eq!(of(text), root.join("data/deep"), "{text}");
        }
        assert_eq!(of("link/new"), root.join("data/deep/new"));
        assert_eq!(SinkUri::parse("file:x").unwrap().true_directory(), Some(std::env::current_dir().unwrap().canonicalize().unwrap().join("x")));
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        assert_eq!(refused("fiel:./data"), format!("`fiel:./data` is no sink: did you mean `file:`? (there are {})", SinkUri::known()));
        assert_eq!(refused("stdout"), format!("`stdout` is no sink: did you mean `stdout:`? (there are {})", SinkUri::known()));
        assert_eq!(refused("./data"), format!("`./data` is no sink: did you mean `file:./data`? (there are {})", SinkUri::known()));
        assert_eq!(refused("mysql://me:secret@host/db"), format!("`mysql://***@host/db` is no sink: (there are {})", SinkUri::known()));
        assert_eq!(refused("file:"), "`file:`: it lacks a directory (such as `file:./data`)");
        assert_eq!(refused("stdout:x"), "`stdout:x`: nothing goes behind `stdout:`");
        assert_eq!(refused("file:d?size=0"), "`file:d?size=0`: `size=0` is no size (such as 64MiB, 1GiB)");
        assert_eq!(refused("file:d?sise=1"), "`file:d?sise=1`: unknown key `sise` (there are `rotate`, `size`, `level`)");
    }

    #[test]
    fn a_sink_that_is_not_built_in_is_told_with_its_feature() {
        for scheme in SCHEMES.iter().filter(|scheme| scheme.read.is_none()) {
            let (scheme, text) = (scheme.names[0], scheme.shape);
            assert_eq!(
                refused(text),
                format!("this build does not have the sink `{scheme}`: `cargo build --release --features {scheme}` brings it (there are {})", SinkUri::known())
            );
        }
    }

    #[test]
    fn every_sink_of_this_build_opens() {
        let directory = tempfile::tempdir().unwrap();
        for scheme in SCHEMES.iter().filter(|scheme| scheme.read.is_some()) {
            let uri = SinkUri::parse(&scheme.shape.replace("DIR", &directory.path().display().to_string())).unwrap();
            assert!(uri.open().unwrap().name().starts_with(scheme.names[0]));
        }
    }
}
