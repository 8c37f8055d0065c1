//! Where a server is, and who we are there: `//USER:PASSWORD@HOST:PORT,HOST:PORT/PATH` of an address.

use std::borrow::Cow;
use std::fmt;
use std::fs;
use std::path::PathBuf;

use percent_encoding::percent_decode_str;

use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};

/// What stands behind the scheme of a server's address, percent signs resolved.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    /// The servers of one service, at least one.
    pub(crate) hosts: Vec<Host>,
    pub(crate) user: Option<String>,
    pub(crate) password: Password,
    /// What stands behind the host's slash, if anything does: a database, a stream, a topic.
    pub(crate) path: Option<String>,
}

/// A server's name or number, and its port if it is not the usual one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Host {
    pub(crate) name: String,
    pub(crate) port: Option<u16>,
}

/// Where the password is. It is read anew for each connection, so that one that was changed holds from then on.
#[derive(Clone)]
pub(crate) enum Password {
    None,
    Given(Secret),
    File(PathBuf),
    Environment(String),
}

/// A text that is shown to nobody.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secret(String);

impl Secret {
    /// The text, for the server alone.
    pub(crate) fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Given(secret) => secret.fmt(f),
            Self::File(path) => write!(f, "in {}", path.display()),
            Self::Environment(name) => write!(f, "in ${name}"),
        }
    }
}

impl Password {
    /// Reads it. A line's end behind it is none of its own.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`] where there is none, though the address says where it is.
    pub(crate) fn read(&self) -> Result<Option<Secret>, SinkError> {
        let config = |message: String| SinkError::new(SinkErrorKind::Config, message);
        let secret = match self {
            Self::None => return Ok(None),
            Self::Given(secret) => return Ok(Some(secret.clone())),
            Self::File(path) => {
                let text = fs::read_to_string(path).map_err(|error| {
                    let error = SinkError::io(&format!("cannot read the password in `{}`", path.display()), error);
                    config(error.to_string())
                })?;
                text.trim_end_matches(['\r', '\n']).to_owned()
            }
            Self::Environment(name) => {
                let text = std::env::var(name);
                text.map_err(|_| config(format!("there is no password in the environment variable `{name}`: set it")))?
            }
        };
        if secret.is_empty() { Err(config(format!("the password ({self:?}) is empty"))) } else { Ok(Some(Secret(secret))) }
    }
}

impl Place {
    /// Takes what an address names apart, and its keys `password_file` and `password_env`.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`]: what is wrong with it, without what is secret in it.
    pub(crate) fn of(address: &mut Address) -> Result<Self, SinkError> {
        let file = address.take_text("password_file")?;
        let variable = address.take_text("password_env")?;
        let Some(rest) = address.rest().strip_prefix("//") else {
            return Err(address.wrong(&format!("it lacks a host (such as `{}://localhost`)", address.scheme())));
        };
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        let (who, hosts) = authority.rsplit_once('@').map_or((None, authority), |(who, hosts)| (Some(who), hosts));
        let (user, given) = who.map_or((None, None), |who| who.split_once(':').map_or((Some(who), None), |(user, password)| (Some(user), Some(password))));
        let plain = |text: &str| {
            let decoded = percent_decode_str(text).decode_utf8();
            decoded.map(Cow::into_owned).map_err(|_| address.wrong("percent signs in it stand for no text (a `%` itself is written `%25`)"))
        };
        let hosts = hosts.split(',').map(|host| Host::parse(host).ok_or_else(|| address.wrong(WRONG_HOST))).collect::<Result<_, _>>()?;
        let password = match (given.filter(|given| !given.is_empty()), file, variable) {
            (None, None, None) => Password::None,
            (Some(given), None, None) => Password::Given(Secret(plain(given)?)),
            (None, Some(file), None) => Password::File(file.into()),
            (None, None, Some(name)) => Password::Environment(name),
            _ => return Err(address.wrong("it has more than one of a password, `password_file` and `password_env`: one is enough")),
        };
        // What is missing shows now, not when the first batch is written.
        password.read().map_err(|error| address.wrong(&error.to_string()))?;
        let user = user.filter(|user| !user.is_empty()).map(plain).transpose()?;
        let path = Some(path).filter(|path| !path.is_empty()).map(plain).transpose()?;
        Ok(Self { hosts, user, password, path })
    }

    /// The one host, where a sink takes no others.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`] if there are more.
    #[cfg_attr(not(any(feature = "postgres", feature = "redis")), allow(dead_code, reason = "no sink of this build asks"))]
    pub(crate) fn only_host(&self, address: &Address) -> Result<&Host, SinkError> {
        match self.hosts.as_slice() {
            [host] => Ok(host),
            _ => Err(address.wrong("it names more than one host, and this sink takes one")),
        }
    }
}

const WRONG_HOST: &str = "it lacks a host, or its port is no number up to 65535 (such as `localhost:5432`; a `/`, `@` or `:` in a \
                          password is written `%2F`, `%40`, `%3A`)";

impl Host {
    /// `name:port`, as most clients take it.
    #[cfg_attr(not(any(feature = "kafka", feature = "nats")), allow(dead_code, reason = "no sink of this build asks"))]
    pub(crate) fn with_port(&self, usual: u16) -> String {
        let port = self.port.unwrap_or(usual);
        if self.name.contains(':') { format!("[{}]:{port}", self.name) } else { format!("{}:{port}", self.name) }
    }

    /// Reads `name`, `name:port`, `[::1]:port`.
    fn parse(text: &str) -> Option<Self> {
        let (name, port) = match text.strip_prefix('[') {
            Some(rest) => {
                let (name, behind) = rest.split_once(']')?;
                (name, if behind.is_empty() { None } else { Some(behind.strip_prefix(':')?) })
            }
            None => text.split_once(':').map_or((text, None), |(name, port)| (name, Some(port))),
        };
        let port = port.map(str::parse).transpose().ok()?;
        let plain = !name.is_empty() && !name.contains(|c: char| c.is_whitespace() || matches!(c, '@' | '/' | '[' | ']' | '%'));
        plain.then(|| Self { name: name.to_owned(), port })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(text: &str) -> Result<Place, String> {
        let mut address = Address::parse(text).unwrap();
        let place = Place::of(&mut address).map_err(|error| error.to_string())?;
        address.end().map_err(|error| error.to_string())?;
        Ok(place)
    }

    fn given(place: &Place) -> Option<String> {
        place.password.read().unwrap().map(|secret| secret.reveal().to_owned())
    }

    #[test]
    fn an_address_is_taken_apart() {
        let found = place("postgres://me:p%2Fw%40%25@db.example:5433/market%20data").unwrap();
        assert_eq!(found.hosts, [Host { name: "db.example".to_owned(), port: Some(5433) }]);
        assert_eq!((found.user.as_deref(), found.path.as_deref(), given(&found).as_deref()), (Some("me"), Some("market data"), Some("p/w@%")));
        let found = place("kafka://a:1,[::1]:2,c/t").unwrap();
        let hosts: Vec<_> = found.hosts.iter().map(|host| (host.name.as_str(), host.port)).collect();
        assert_eq!(hosts, [("a", Some(1)), ("::1", Some(2)), ("c", None)]);
        assert_eq!((found.user, given(&place("redis://:secret@h").unwrap()).as_deref()), (None, Some("secret")));
    }

    #[test]
    fn a_password_comes_from_a_file_or_the_environment() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("password");
        let text = format!("redis://h?password_file={}", file.display());
        let missing = place(&text).unwrap_err();
        assert!(missing.ends_with(&format!("cannot read the password in `{}`: No such file or directory", file.display())), "{missing}");
        fs::write(&file, "hunter2\n").unwrap();
        let found = place(&text).unwrap();
        assert_eq!(given(&found).as_deref(), Some("hunter2"));
        fs::write(&file, "changed").unwrap();
        assert_eq!(given(&found).as_deref(), Some("changed"), "it is read when it is needed");
        fs::write(&file, "\n").unwrap();
        assert!(place(&text).unwrap_err().ends_with("is empty"));
        // Some variable that every test run has.
        assert_eq!(given(&place("redis://h?password_env=CARGO_PKG_NAME").unwrap()), std::env::var("CARGO_PKG_NAME").ok());
        let missing = place("redis://h?password_env=COLLECTOR_NO_SUCH").unwrap_err();
        assert!(missing.ends_with("there is no password in the environment variable `COLLECTOR_NO_SUCH`: set it"), "{missing}");
        assert!(place("redis://u:p@h?password_env=CARGO_PKG_NAME").unwrap_err().ends_with("one is enough"));
    }

    #[test]
    fn no_message_and_no_form_shows_a_password() {
        for text in
            ["redis://u:hunter2@", "redis://u:hun/ter2@h", "redis://u:hunter2%ff@h", "redis://u:hunter2@h:99999", "redis://u:a@hunter2@h", "redis:u:hunter2@h"]
        {
            let shown = place(text).map_or_else(|error| error, |place| format!("{place:?}"));
            assert!(!shown.contains("hunter2") && !shown.contains("hun/") && !shown.contains("ter2"), "{text}: {shown}");
        }
        assert!(!format!("{:?}", place("redis://u:hunter2@h").unwrap()).contains("hunter2"));
    }
}
