//! What can go wrong with a spool.

use std::io;
use std::path::{Path, PathBuf};

/// Why a spool cannot do what it was asked for.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolError {
    /// There is no room, even after all that may be deleted was. It may pass.
    #[error("no room for `{}`: {source}. Nothing older is left that could be deleted: free some space on that disk", path.display())]
    Full {
        /// What was being written.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The file system refuses.
    #[error("cannot {doing} `{}`: {source}", path.display())]
    Io {
        /// What was tried: `write`, `sync`, ….
        doing: &'static str,
        /// With what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A newer release wrote it.
    #[error("`{}` has version {version} of the journal's format, this release knows up to {known}: use the release that wrote it, or move the directory away (what it holds is then not delivered)", path.display(), known = crate::segment::VERSION)]
    Newer {
        /// Which file.
        path: PathBuf,
        /// Its version.
        version: u32,
    },
    /// A batch of more than 4 GiB.
    #[error("a batch of {0} bytes is too large for a journal: at most 4 GiB")]
    TooLarge(usize),
    /// Two readers would move the same cursor.
    #[error("the sink `{0}` reads this journal already: name one of the two otherwise")]
    Attached(String),
    /// A checkpoint for a position in another journal.
    #[error("{0} is no position in this journal")]
    Foreign(exchange_core::Position),
}

/// A batch that could not be appended. Nothing of it lies in the journal.
#[derive(Debug, thiserror::Error)]
#[error("{error}")]
pub struct Refused {
    /// The batch.
    pub batch: exchange_core::Batch,
    /// Why.
    pub error: SpoolError,
}

impl SpoolError {
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |source| Self::Io { doing, path: path.to_owned(), source }
    }

    /// Whether the same may work later without anybody's doing.
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Full { .. } | Self::Io { .. })
    }
}

/// Whether an error says that the disk, or a quota on it, is full.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}
