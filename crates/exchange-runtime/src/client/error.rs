//! Why a client could not do what it was asked for.

use std::fmt;

use exchange_core::ErrorKind;
use exchange_core::error::Refusal;

/// What kind of error a [`ClientError`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ClientErrorKind {
    /// What was asked for does not exist: an unknown symbol or interval, a channel that the venue does not serve. The
    /// venue was not asked.
    Config,
    /// The venue did not answer, refused, or answered with something else; the kind says what may help.
    Venue(ErrorKind),
}

impl fmt::Display for ClientErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Config => f.write_str("config"),
            Self::Venue(kind) => kind.fmt(f),
        }
    }
}

/// Why a client could not do what it was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientError {
    kind: ClientErrorKind,
    venue: String,
    message: String,
}

impl ClientError {
    pub(super) fn config(venue: &str, message: impl Into<String>) -> Self {
        Self { kind: ClientErrorKind::Config, venue: venue.to_owned(), message: message.into() }
    }

    pub(super) fn refused(venue: &str, refusal: &Refusal) -> Self {
        let until = refusal.until.map_or_else(String::new, |until| format!(" (until {until})"));
        Self { kind: ClientErrorKind::Venue(refusal.kind), venue: venue.to_owned(), message: format!("{}{until}", refusal.message) }
    }

    pub(super) fn malformed(venue: &str, message: impl Into<String>) -> Self {
        Self { kind: ClientErrorKind::Venue(ErrorKind::Malformed), venue: venue.to_owned(), message: message.into() }
    }

    /// What kind of error this is.
    pub fn kind(&self) -> ClientErrorKind {
        self.kind
    }

    /// The venue's name.
    pub fn venue(&self) -> &str {
        &self.venue
    }

    /// What is wrong; the venue's own words, where it said some.
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            ClientErrorKind::Config => write!(f, "{}: {}", self.venue, self.message),
            ClientErrorKind::Venue(kind) => write!(f, "{}: {kind}: {}", self.venue, self.message),
        }
    }
}

impl std::error::Error for ClientError {}
