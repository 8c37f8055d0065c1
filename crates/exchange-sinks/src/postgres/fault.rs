//! What a server says when it says no, and what that means.

use std::error::Error as _;
use std::io;

use tokio_postgres::Error;
use tokio_postgres::error::SqlState;

use crate::error::{SinkError, SinkErrorKind};
use crate::trust::{LOGIN, advised, refused, tls_advice};

/// Why something failed.
#[derive(Debug)]
pub(super) enum Fault {
    /// The server or the way to it.
    Server(Error),
    /// The tables are not what they should be.
    Tables(String),
}

impl From<Error> for Fault {
    fn from(error: Error) -> Self {
        Self::Server(error)
    }
}

impl Fault {
    /// The error, in words that hold nothing secret.
    pub(super) fn told(self, server: &str, worked_before: bool) -> SinkError {
        let (kind, words) = match &self {
            Self::Tables(words) => (refused(worked_before), words.clone()),
            Self::Server(error) => (kind(error, worked_before), words(error)),
        };
        SinkError::new(kind, format!("{server}: {words}"))
    }
}

/// Whether a server refuses a row for what is in it, so that others may pass.
pub(super) fn is_of_the_row(error: &Error) -> bool {
    // Data exceptions, broken constraints, limits of size, and what triggers raise.
    let class = |code: &SqlState| code.code().get(..2).is_some_and(|class| matches!(class, "22" | "23" | "44" | "54" | "P0"));
    error.code().is_some_and(class)
}

fn kind(error: &Error, worked_before: bool) -> SinkErrorKind {
    if let Some(code) = error.code() {
        // Who we are, which database, what we may and what there is. The others pass: it starts, is full, is read-only until
        // it becomes the primary.
        let class = code.code().get(..2).unwrap_or_default();
        return if matches!(class, "28" | "3D" | "3F" | "42" | "0A" | "F0") { refused(worked_before) } else { SinkErrorKind::Retryable };
    }
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    // The network; of TLS that it speaks nonsense or is not trusted.
    if io.is_some_and(|io| io.kind() != io::ErrorKind::InvalidData) {
        return SinkErrorKind::Retryable;
    }
    let text = error.to_string();
    // Told by the driver: no password where one is needed, a certificate that is not trusted, no TLS at all.
    let words = ["authentication error", "invalid configuration", "error performing TLS handshake"];
    if words.iter().any(|words| text.starts_with(words)) { refused(worked_before) } else { SinkErrorKind::Retryable }
}

fn words(error: &Error) -> String {
    match error.as_db_error() {
        Some(said) if said.code() == &SqlState::READ_ONLY_SQL_TRANSACTION => {
            format!("the server takes no writes, being a standby or read-only ({})", said.message())
        }
        Some(said) => {
            let words = format!("{} ({})", said.message(), said.code().code());
            // Who we are; the others say themselves what there is not.
            advised(&words, said.code().code().starts_with("28").then_some(LOGIN))
        }
        None => {
            let words = error.source().map_or_else(|| error.to_string(), |source| format!("{error}: {source}"));
            let advice = tls_advice(&words).or_else(|| words.contains("password missing").then_some(LOGIN));
            advised(&words, advice)
        }
    }
}
