//! What an address of an AMQP broker says.

use std::path::PathBuf;
use std::sync::Arc;

use lapin::tcp::OwnedTLSConfig;
use lapin::types::ShortString;
use lapin::uri::{AMQPAuthority, AMQPQueryString, AMQPScheme, AMQPUri, AMQPUserInfo};

use crate::address::Address;
use crate::error::SinkError;
use crate::place::Place;
use crate::registry::Target;

/// An exchange, and how to come to it.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The address as it may be shown.
    pub(crate) name: Arc<str>,
    place: Place,
    tls: bool,
    authority: Option<PathBuf>,
    pub(crate) exchange: ShortString,
    /// A queue that is declared and bound to all subjects.
    pub(crate) queue: Option<ShortString>,
    /// How subjects begin.
    pub(crate) prefix: String,
}

/// Reads `amqp://HOST/VHOST`.
pub(crate) fn target(address: Address) -> Result<Arc<dyn Target>, SinkError> {
    Options::read(address).map(|options| Arc::new(options) as Arc<dyn Target>)
}

impl Options {
    pub(crate) fn read(mut address: Address) -> Result<Self, SinkError> {
        let place = Place::of(&mut address)?;
        let short = |text: &str| (!text.is_empty() && text.len() <= 127).then(|| ShortString::from(text));
        let options = Self {
            name: address.shown().into(),
            place,
            tls: address.scheme() == "amqps",
            authority: address.take_text("ca_file")?.map(PathBuf::from),
            exchange: address.take("exchange", "name of an exchange (1 to 127 bytes)", short)?.unwrap_or_else(|| "collector".into()),
            queue: address.take("queue", "name of a queue (1 to 127 bytes)", short)?,
            prefix: address
                .take("prefix", "beginning of subjects (no wildcards or spaces, at most 60 bytes)", |text| {
                    let plain = |word: &str| !word.is_empty() && !word.contains(|c: char| matches!(c, '*' | '#') || c.is_whitespace());
                    (text.len() <= 60 && text.split('.').all(plain)).then(|| text.to_owned())
                })?
                .unwrap_or_else(|| "events".to_owned()),
        };
        address.end()?;
        Ok(options)
    }

    /// How many hosts there are to be tried.
    pub(crate) fn hosts(&self) -> usize {
        self.place.hosts.len()
    }

    /// Where one of the hosts is, and who we are there.
    pub(crate) fn uri(&self, host: usize) -> Result<AMQPUri, SinkError> {
        let (scheme, port) = if self.tls { (AMQPScheme::AMQPS, 5671) } else { (AMQPScheme::AMQP, 5672) };
        let host = self.place.hosts.get(host);
        // Whoever names no user is the broker's guest, whom it takes from its own machine alone.
        let password = self.place.password.read()?;
        let userinfo = AMQPUserInfo {
            username: self.place.user.clone().unwrap_or_else(|| "guest".to_owned()),
            password: password.map_or_else(|| "guest".to_owned(), |password| password.reveal().to_owned()),
        };
        Ok(AMQPUri {
            scheme,
            authority: AMQPAuthority {
                userinfo,
                host: host.map(|host| host.name.clone()).unwrap_or_default(),
                port: host.and_then(|host| host.port).unwrap_or(port),
            },
            vhost: self.place.path.clone().unwrap_or_else(|| "/".to_owned()),
            query: AMQPQueryString::default(),
        })
    }

    /// Whom we trust besides the usual authorities.
    pub(crate) fn tls(&self) -> Result<OwnedTLSConfig, SinkError> {
        let read = |path: &PathBuf| std::fs::read_to_string(path).map_err(|error| SinkError::io(&format!("cannot read `{}`", path.display()), error));
        Ok(OwnedTLSConfig { identity: None, cert_chain: self.authority.as_ref().map(read).transpose()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Options, String> {
        Options::read(Address::parse(text).unwrap()).map_err(|error| error.to_string())
    }

    #[test]
    fn an_address_is_taken_apart() {
        let options = read("amqps://me:s3cret@one,two:99/md?exchange=x&queue=q&prefix=md.v1").unwrap();
        assert_eq!((options.exchange.as_str(), options.queue.as_ref().map(ShortString::as_str), options.prefix.as_str()), ("x", Some("q"), "md.v1"));
        let (one, two) = (options.uri(0).unwrap(), options.uri(1).unwrap());
        assert_eq!((one.scheme, one.authority.port, two.authority.host.as_str(), two.authority.port), (AMQPScheme::AMQPS, 5671, "two", 99));
        assert_eq!((one.authority.userinfo.password.as_str(), one.vhost.as_str()), ("s3cret", "md"));
        assert!(!format!("{options:?}").contains("s3cret"));
        let uri = read("amqp://h").unwrap().uri(0).unwrap();
        assert_eq!((uri.authority.port, uri.vhost.as_str(), uri.authority.userinfo.username.as_str()), (5672, "/", "guest"));
        // As other programs write the first virtual host.
        assert_eq!(read("amqp://h/%2f").unwrap().uri(0).unwrap().vhost, "/");
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        assert!(read("amqp://h?prefix=a.%23").unwrap_err().contains("is no beginning of subjects"));
        assert!(read("amqp://h?queue=").unwrap_err().contains("is no name of a queue"));
        assert!(read("amqp://h?topic=x").unwrap_err().contains("unknown key `topic`"));
    }
}
