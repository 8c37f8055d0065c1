//! Why a collector does not start.

use std::path::PathBuf;

use crate::state::StateError;

/// Why a collector could not be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StartError {
    /// The HTTP client could not be set up.
    #[error("cannot set up the HTTP client")]
    Http(#[from] reqwest::Error),
    /// The capture file could not be made.
    #[error("cannot capture into `{}`", path.display())]
    Capture {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The state directory cannot be used.
    #[error(transparent)]
    State(#[from] StateError),
    /// The journal cannot be used.
    #[error("cannot keep a journal in `{}`", path.display())]
    Journal {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: exchange_spool::SpoolError,
    },
    /// The ledger's file could not be made.
    #[error("cannot keep a ledger in `{}`", path.display())]
    Ledger {
        /// The directory.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
}
