//! What went wrong between the collector and a sink, and what can be done about it.

use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// What an error asks of the caller.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SinkErrorKind {
    /// The address names no sink, or not one that this build has, or a file of which there is none: a person has to change something.
    Config,
    /// May pass (a full disk, one that became read-only, a broken connection): the same batch may be written again.
    Retryable,
    /// Will not pass by itself (no permission): the sink is of no use any more.
    Permanent,
    /// The other side has had enough (the reader of standard output is gone): an orderly end, not a failure.
    Closed,
}

/// An error of a sink. It is cheap to clone, since a sink that fails tells everyone who asks.
#[derive(Debug, Clone)]
pub struct SinkError {
    kind: SinkErrorKind,
    message: Arc<str>,
    source: Option<Arc<dyn Error + Send + Sync>>,
}

impl SinkError {
    /// An error in words.
    pub fn new(kind: SinkErrorKind, message: impl Into<Arc<str>>) -> Self {
        Self { kind, message: message.into(), source: None }
    }

    /// What the operating system said about `what` (such as ``cannot write `data/events.ndjson.zst` ``).
    pub fn io(what: &str, error: io::Error) -> Self {
        let message = format!("{what}: {}", plain(&error));
        Self { kind: kind_of(error.kind()), message: message.into(), source: Some(Arc::new(error)) }
    }

    /// The same error as one that will not pass: nobody tries again.
    pub(crate) fn lasting(self) -> Self {
        Self { kind: SinkErrorKind::Permanent, ..self }
    }

    /// What the error asks of the caller.
    pub fn kind(&self) -> SinkErrorKind {
        self.kind
    }

    /// Whether the same batch may be written again.
    pub fn is_retryable(&self) -> bool {
        self.kind == SinkErrorKind::Retryable
    }
}

impl fmt::Display for SinkError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl Error for SinkError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.source.as_deref().map(|source| source as _)
    }
}

/// The operating system's words, without the number that Rust puts behind them.
fn plain(error: &io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error ") {
        Some((words, _)) => words.to_owned(),
        None => text,
    }
}

fn kind_of(kind: io::ErrorKind) -> SinkErrorKind {
    use io::ErrorKind as E;
    match kind {
        E::BrokenPipe => SinkErrorKind::Closed,
        E::PermissionDenied | E::NotFound | E::NotADirectory | E::IsADirectory | E::InvalidInput | E::InvalidFilename | E::Unsupported => {
            SinkErrorKind::Permanent
        }
        _ => SinkErrorKind::Retryable,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_may_be_tried_again_and_a_missing_permission_not() {
        let full = SinkError::io("cannot write `x`", io::ErrorKind::StorageFull.into());
        assert!(full.is_retryable());
        // Linux makes a disk read-only that fails; whoever looks after the machine makes it writable again.
        assert!(SinkError::io("", io::ErrorKind::ReadOnlyFilesystem.into()).is_retryable());
        assert_eq!(SinkError::io("", io::ErrorKind::PermissionDenied.into()).kind(), SinkErrorKind::Permanent);
        assert_eq!(SinkError::io("", io::ErrorKind::BrokenPipe.into()).kind(), SinkErrorKind::Closed);
        assert!(full.source().is_some());
    }

    #[cfg(unix)]
    #[test]
    fn the_text_is_the_systems_without_its_number() {
        assert_eq!(SinkError::io("cannot write `x`", io::Error::from_raw_os_error(28)).to_string(), "cannot write `x`: No space left on device");
    }
}
