//! The other way round: what a sink wrote, read back. A [`Source`] gives batches; [`SourceUri`] opens the one that an address
//! names.

pub(crate) mod background;
mod files;
#[cfg(any(feature = "kafka", feature = "nats", feature = "redis"))]
pub(crate) mod messages;

use std::fmt;
use std::sync::Arc;

use exchange_core::{Batch, Time};

use crate::address::{Address, masked};
use crate::error::{SinkError, SinkErrorKind};
use crate::sink::SinkFuture;

/// Where events come from again.
pub trait Source: Send {
    /// What it is called in logs: its address without anything secret.
    fn name(&self) -> &str;

    /// The next events, in the order in which they were written; they may be of several venues. `None` at the end. Waits for
    /// more where it follows what is being written. Futures may be dropped: nothing is lost with one. A retryable error may
    /// pass, and the next call goes on behind what was given last; after any other, it goes on behind what cannot be read, or
    /// gives `None`.
    fn next(&mut self) -> SinkFuture<'_, Option<Batch>>;
}

/// What is read of a source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Where it begins.
    pub from: Since,
    /// Whether it goes on with what is written later, instead of ending with what is there.
    pub follow: bool,
}

/// Where reading begins.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Since {
    /// With the oldest that is kept.
    Start,
    /// With what is written from now on.
    Now,
    /// With events that were received at this time or later.
    Time(Time),
}

impl Since {
    /// Whether an event that was received then is to be read.
    pub fn includes(self, received: Time) -> bool {
        !matches!(self, Self::Time(time) if received < time)
    }
}

/// What an address names, checked but not opened.
pub(crate) trait Origin: fmt::Debug + Send + Sync {
    /// Opens the source. This may look at files; it connects to nothing before it is asked for events.
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError>;
}

/// A kind of source.
struct Scheme {
    /// How addresses begin.
    names: &'static [&'static str],
    /// What an address looks like.
    shape: &'static str,
    /// Makes out what an address names.
    read: fn(Address) -> Result<Arc<dyn Origin>, SinkError>,
}

/// All kinds of sources of this build.
const SCHEMES: &[Scheme] = &[
    Scheme { names: &["file"], shape: "file:DIR", read: files::directory },
    Scheme { names: &["stdin"], shape: "stdin:", read: files::stdin },
    #[cfg(feature = "parquet")]
    Scheme { names: &["parquet"], shape: "parquet:DIR", read: crate::parquet::origin },
    #[cfg(feature = "nats")]
    Scheme { names: &["nats"], shape: "nats://HOST/STREAM", read: crate::nats::origin },
    #[cfg(feature = "kafka")]
    Scheme { names: &["kafka"], shape: "kafka://HOST/TOPIC", read: crate::kafka::origin },
    #[cfg(feature = "redis")]
    Scheme { names: &["redis", "rediss"], shape: "redis://HOST", read: crate::redis::origin },
];

/// A source's address, checked but not opened. It may hold a password, and shows none.
#[derive(Clone)]
pub struct SourceUri {
    text: String,
    origin: Arc<dyn Origin>,
}

impl SourceUri {
    /// Reads an address, such as `file:DIR`, `file:FILE` or `stdin:`.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`]: what there is instead.
    pub fn parse(text: &str) -> Result<Self, SinkError> {
        let address = Address::parse(text);
        let known = |scheme: &&Scheme| address.as_ref().is_some_and(|address| scheme.names.contains(&address.scheme()));
        let (Some(scheme), Some(address)) = (SCHEMES.iter().find(known), Address::parse(text)) else {
            let shapes: Vec<String> = SCHEMES.iter().map(|scheme| format!("`{}`", scheme.shape)).collect();
            let message = format!("`{}` is nothing that this build reads events from: there are {}", masked(text), shapes.join(", "));
            return Err(SinkError::new(SinkErrorKind::Config, message));
        };
        Ok(Self { text: text.to_owned(), origin: (scheme.read)(address)? })
    }

    /// What a path holds: a dataset, or event lines.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`]: where it is a directory that holds both.
    pub fn of_path(path: &str) -> Result<Self, SinkError> {
        #[cfg(feature = "parquet")]
        if crate::parquet::is_dataset(path.as_ref()) {
            if files::list(path.as_ref()).is_ok_and(|lines| !lines.is_empty()) {
                let message = format!("`{path}` holds event lines and a dataset: say which of them, `file:{path}` or `parquet:{path}`");
                return Err(SinkError::new(SinkErrorKind::Config, message));
            }
            return Self::parse(&format!("parquet:{path}"));
        }
        Self::parse(&format!("file:{path}"))
    }

    /// Opens the source.
    ///
    /// # Errors
    /// Where there is nothing to be read.
    pub fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        self.origin.open(reading)
    }
}

impl fmt::Display for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&masked(&self.text))
    }
}

impl fmt::Debug for SourceUri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("SourceUri").field(&masked(&self.text)).finish()
    }
}
