//! What an address of a NATS server says.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use async_nats::ConnectOptions;
use async_nats::jetstream::stream::{Config, StorageType};
use async_nats::rustls::ClientConfig;

use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::place::{Password, Place};
use crate::registry::Target;
use crate::tls;

/// The stream if the address names none.
const STREAM: &str = "events";
/// How long a server remembers ids unless asked otherwise: an outage of a connection and a restart of a collector lie within.
const DUPLICATE_WINDOW: Duration = Duration::from_mins(2);

/// How to come to a server.
#[derive(Debug, Clone)]
pub(crate) struct Login {
    /// The address as it may be shown.
    pub(crate) name: Arc<str>,
    pub(crate) place: Place,
    pub(crate) tls: bool,
    /// Whom we trust, where the server or the address asks for TLS.
    pub(crate) trusted: ClientConfig,
    pub(crate) credentials: Option<Credentials>,
}

/// A file that says who we are. It is read anew for each connection that is made, as a password is.
#[derive(Debug, Clone)]
pub(crate) enum Credentials {
    /// A token and a key (`.creds`).
    User(PathBuf),
    /// The seed of a key (`.nk`).
    Key(PathBuf),
}

impl Credentials {
    /// Adds them to how we connect.
    ///
    /// # Errors
    /// [`SinkErrorKind::Config`] where they cannot be read, or the file holds something else.
    pub(crate) fn add(&self, connect: ConnectOptions) -> Result<ConnectOptions, SinkError> {
        let (Self::User(path) | Self::Key(path)) = self;
        let shown = path.display();
        let text =
            std::fs::read_to_string(path).map_err(|error| config(SinkError::io(&format!("cannot read the credentials in `{shown}`"), error).to_string()))?;
        match self {
            Self::User(_) => connect.credentials(&text).map_err(|error| config(format!("`{shown}` holds no credentials of a user: {error}"))),
            Self::Key(_) => {
                // What stands beside it (comments, other keys) is for people.
                let seed = text.split_whitespace().find(|word| word.starts_with("SU") && word.len() == SEED_LENGTH);
                seed.map(|seed| connect.nkey(seed.to_owned())).ok_or_else(|| config(format!("`{shown}` holds no seed of a user's key (`SU…`)")))
            }
        }
    }
}

/// Characters of a key's seed.
const SEED_LENGTH: usize = 58;

fn config(message: String) -> SinkError {
    SinkError::new(SinkErrorKind::Config, message)
}

impl Login {
    /// Takes what all addresses of NATS servers may say.
    pub(crate) fn take(address: &mut Address) -> Result<Self, SinkError> {
        let place = Place::of(address)?;
        let tls = address.take("tls", "yes or no (`true`, `false`)", |text| text.parse().ok())?.unwrap_or(false);
        let authorities = address.take_text("ca_file")?.map(PathBuf::from);
        let trusted = tls::config(authorities.as_deref()).map_err(|error| address.wrong(&error.to_string()))?;
        let user = address.take_text("credentials_file")?.map(|path| Credentials::User(path.into()));
        let key = address.take_text("nkey_file")?.map(|path| Credentials::Key(path.into()));
        let named = usize::from(place.user.is_some() || !matches!(place.password, Password::None));
        if named + usize::from(user.is_some()) + usize::from(key.is_some()) > 1 {
            return Err(address.wrong("it says more than once who you are (a user or token, `credentials_file`, `nkey_file`): once is enough"));
        }
        let credentials = user.or(key);
        // What is missing shows now, not when the first batch is written.
        if let Some(credentials) = &credentials {
            credentials.add(ConnectOptions::new()).map_err(|error| address.wrong(&error.to_string()))?;
        }
        Ok(Self { name: address.shown().into(), place, tls, trusted, credentials })
    }

    /// The stream that the address names.
    pub(crate) fn stream(&self, address: &Address) -> Result<String, SinkError> {
        let name = self.place.path.as_deref().unwrap_or(STREAM);
        if is_token(name) { Ok(name.to_owned()) } else { Err(address.wrong(&format!("`{name}` is no name of a stream (letters, digits, `_` and `-`)"))) }
    }
}

/// A stream, and how to come to it.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) login: Login,
    pub(crate) stream: String,
    /// How subjects begin.
    pub(crate) prefix: String,
    duplicate_window: Option<Duration>,
    max_age: Option<Duration>,
    max_bytes: Option<i64>,
    replicas: usize,
    memory: bool,
}

/// Reads `nats://HOST/STREAM`.
pub(crate) fn target(address: Address) -> Result<Arc<dyn Target>, SinkError> {
    Options::read(address).map(|options| Arc::new(options) as Arc<dyn Target>)
}

impl Options {
    pub(crate) fn read(mut address: Address) -> Result<Self, SinkError> {
        let login = Login::take(&mut address)?;
        let stream = login.stream(&address)?;
        let prefix = address.take("prefix", "beginning of subjects (words of letters, digits, `_` and `-` between dots)", |text| {
            text.split('.').all(is_token).then(|| text.to_owned())
        })?;
        let duplicate_window = address.take_duration("duplicate_window", Duration::from_millis(100))?;
        let max_age = address.take_duration("max_age", Duration::from_secs(1))?;
        if let (Some(window), Some(age)) = (duplicate_window, max_age)
            && window > age
        {
            return Err(address.wrong("`duplicate_window` is longer than `max_age`: ids of messages that are gone are forgotten, too"));
        }
        let options = Self {
            prefix: prefix.unwrap_or_else(|| stream.clone()),
            stream,
            login,
            duplicate_window,
            max_age,
            max_bytes: address.take_bytes("max_bytes")?.and_then(|bytes| bytes.try_into().ok()),
            replicas: address.take_number("replicas", 1..=5)?.map_or(1, |number| usize::try_from(number).unwrap_or(1)),
            memory: address.take("storage", "storage (`file`, `memory`)", |text| match text {
                "file" => Some(false),
                "memory" => Some(true),
                _ => None,
            })? == Some(true),
        };
        address.end()?;
        Ok(options)
    }

    fn subjects(&self) -> String {
        format!("{}.>", self.prefix)
    }

    /// The stream as it is made.
    pub(crate) fn config(&self) -> Config {
        let age = self.max_age.unwrap_or_default();
        let window = self.duplicate_window.unwrap_or(if age.is_zero() { DUPLICATE_WINDOW } else { DUPLICATE_WINDOW.min(age) });
        Config {
            name: self.stream.clone(),
            subjects: vec![self.subjects()],
            duplicate_window: window,
            max_age: age,
            max_bytes: self.max_bytes.unwrap_or(-1),
            num_replicas: self.replicas,
            storage: if self.memory { StorageType::Memory } else { StorageType::File },
            description: Some("Market data of the collector: subjects PREFIX.TYPE.VENUE.MARKET.SYMBOL".to_owned()),
            allow_direct: true,
            ..Config::default()
        }
    }

    /// Whether a stream that is there will do. What would break a promise is an error, what is only not as asked a warning.
    pub(crate) fn check(&self, there: &Config) -> Result<(), SinkError> {
        let wrong = |why: String| {
            let how = "change the stream, or name another";
            Err(SinkError::new(SinkErrorKind::Permanent, format!("`{}`: the stream `{}` {why}: {how}", self.login.name, self.stream)))
        };
        let wanted = self.subjects();
        if !there.subjects.iter().any(|subject| *subject == wanted || subject == ">") {
            return wrong(format!("does not take the subjects `{wanted}` (but `{}`)", there.subjects.join("`, `")));
        }
        if there.no_ack {
            return wrong("acknowledges nothing (`no_ack`)".to_owned());
        }
        if let Some(window) = self.duplicate_window
            && there.duplicate_window < window
        {
            return wrong(format!("remembers ids for {:?} only, not for {window:?}", there.duplicate_window));
        }
        let differs =
            [("max_age", self.max_age.is_some_and(|age| age != there.max_age)), ("max_bytes", self.max_bytes.is_some_and(|bytes| bytes != there.max_bytes))];
        for (key, _) in differs.iter().filter(|(_, differs)| *differs) {
            tracing::warn!(sink = %self.login.name, stream = self.stream, key, "the stream was there already, and has another limit");
        }
        Ok(())
    }
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, String> {
        Options::read(Address::parse(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn a_stream_is_as_its_address_says() {
        let options = read("nats://h/ticks?prefix=md.v1&duplicate_window=10m&max_age=1h&max_bytes=1GiB&replicas=3&storage=memory").unwrap();
        let config = options.config();
        assert_eq!((config.name.as_str(), config.subjects.join(" ").as_str()), ("ticks", "md.v1.>"));
        assert_eq!((config.duplicate_window.as_secs(), config.max_age.as_secs(), config.max_bytes, config.num_replicas), (600, 3600, 1 << 30, 3));
        assert_eq!(config.storage, StorageType::Memory);
        let config = read("nats://h").unwrap().config();
        assert_eq!((config.name.as_str(), config.subjects.join(" ").as_str(), config.duplicate_window), ("events", "events.>", DUPLICATE_WINDOW));
        assert_eq!(read("nats://h?max_age=30s").unwrap().config().duplicate_window, Duration::from_secs(30), "no longer than its messages");
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        assert_eq!(read("nats://h/a.b").unwrap_err(), "`nats://h/a.b`: `a.b` is no name of a stream (letters, digits, `_` and `-`)");
        assert!(read("nats://h?prefix=a..b").unwrap_err().contains("is no beginning of subjects"));
        assert!(read("nats://h?duplicate_window=2h&max_age=1h").unwrap_err().contains("longer than `max_age`"));
        assert!(read("nats://me:s3cret@h?x=1").unwrap_err().starts_with("`nats://***@h?x=1`: unknown key `x` (there are `password_file`"));
    }

    #[test]
    fn a_stream_that_is_there_must_keep_the_promises() {
        let options = read("nats://h/ticks?duplicate_window=10m&max_bytes=1MiB").unwrap();
        let fits = options.config();
        options.check(&fits).unwrap();
        options.check(&Config { max_bytes: 5, ..fits.clone() }).unwrap();
        let refused = |config: Config| options.check(&config).unwrap_err().to_string();
        let other = refused(Config { subjects: vec!["other.>".into()], ..fits.clone() });
        assert_eq!(other, "`nats://h/ticks`: the stream `ticks` does not take the subjects `ticks.>` (but `other.>`): change the stream, or name another");
        assert!(refused(Config { no_ack: true, ..fits.clone() }).contains("acknowledges nothing"));
        assert!(refused(Config { duplicate_window: Duration::from_secs(1), ..fits }).contains("remembers ids for 1s only"));
    }
}
