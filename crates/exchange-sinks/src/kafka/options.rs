//! What an address of a Kafka cluster says.

use std::path::PathBuf;
use std::sync::Arc;

use rdkafka::ClientConfig;

use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::place::Place;
use crate::queue::IN_FLIGHT;
use crate::registry::Target;

/// The topic if the address names none.
const TOPIC: &str = "events";

/// A topic, and how to come to it.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    /// The address as it may be shown.
    pub(crate) name: Arc<str>,
    place: Place,
    pub(crate) topic: String,
    compression: String,
    /// The largest message that is sent.
    pub(crate) message_bytes: u64,
    tls: bool,
    authority: Option<PathBuf>,
    mechanism: String,
}

/// Reads `kafka://HOST,HOST/TOPIC`.
pub(crate) fn target(mut address: Address) -> Result<Arc<dyn Target>, SinkError> {
    let options = Options::take(&mut address)?;
    address.end()?;
    Ok(Arc::new(options))
}

impl Options {
    pub(crate) fn take(address: &mut Address) -> Result<Self, SinkError> {
        let place = Place::of(address)?;
        let topic = place.path.clone().unwrap_or_else(|| TOPIC.to_owned());
        let valid = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
        if topic.len() > 249 || !topic.chars().all(valid) || matches!(topic.as_str(), "." | "..") {
            return Err(address.wrong(&format!("`{topic}` is no name of a topic (letters, digits, `.`, `_` and `-`)")));
        }
        let among = |words: &'static [&'static str]| move |text: &str| words.contains(&text).then(|| text.to_owned());
        let options = Self {
            name: address.shown().into(),
            place,
            topic,
            compression: address
                .take("compression", "compression (`zstd`, `lz4`, `snappy`, `none`)", among(&["zstd", "lz4", "snappy", "none"]))?
                .unwrap_or_else(|| "lz4".to_owned()),
            message_bytes: address.take_bytes("message_bytes")?.unwrap_or(1_000_000).clamp(1000, 1_000_000_000),
            tls: address.take("tls", "yes or no (`true`, `false`)", |text| text.parse().ok())?.unwrap_or(false),
            authority: address.take_text("ca_file")?.map(PathBuf::from),
            mechanism: address
                .take("sasl", "mechanism (`PLAIN`, `SCRAM-SHA-256`, `SCRAM-SHA-512`)", among(&["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"]))?
                .unwrap_or_else(|| "PLAIN".to_owned()),
        };
        if !cfg!(kafka_tls) && (options.tls || options.authority.is_some() || options.mechanism != "PLAIN") {
            return Err(address.wrong(
                "TLS and SCRAM need OpenSSL, which this build does not have: `RUSTFLAGS=\"--cfg kafka_tls\" cargo build --release --features kafka` brings it",
            ));
        }
        Ok(options)
    }

    /// What all clients of the cluster go by.
    pub(crate) fn client(&self) -> Result<ClientConfig, SinkError> {
        let hosts: Vec<String> = self.place.hosts.iter().map(|host| host.with_port(9092)).collect();
        let mut config = ClientConfig::new();
        config.set("bootstrap.servers", hosts.join(",")).set("client.id", "collector");
        let password = self.place.password.read()?;
        config.set(
            "security.protocol",
            match (self.place.user.is_some(), self.tls) {
                (false, false) => "plaintext",
                (false, true) => "ssl",
                (true, false) => "sasl_plaintext",
                (true, true) => "sasl_ssl",
            },
        );
        if let Some(user) = &self.place.user {
            let Some(password) = password else {
                return Err(SinkError::new(SinkErrorKind::Config, format!("`{}`: the user has no password", self.name)));
            };
            config.set("sasl.mechanism", &self.mechanism).set("sasl.username", user).set("sasl.password", password.reveal());
        }
        if let Some(file) = &self.authority {
            config.set("ssl.ca.location", file.display().to_string());
        }
        // A broker that is back is found within a second.
        config.set("reconnect.backoff.ms", "50").set("reconnect.backoff.max.ms", "1000");
        // An idle broker that closes its connection is no trouble.
        config.set("log.connection.close", "false");
        Ok(config)
    }

    /// What the producer goes by.
    pub(crate) fn producer(&self) -> Result<ClientConfig, SinkError> {
        let mut config = self.client()?;
        config
            .set("enable.idempotence", "true")
            .set("acks", "all")
            // It never gives up: to try again is what the idempotent producer does best, and whoever waits is told meanwhile.
            .set("message.timeout.ms", "0")
            .set("compression.type", &self.compression)
            .set("linger.ms", "5")
            .set("batch.num.messages", "10000")
            .set("message.max.bytes", self.message_bytes.to_string())
            .set("queue.buffering.max.messages", (2 * IN_FLIGHT).to_string());
        Ok(config)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(text: &str) -> Result<Options, String> {
        let mut address = Address::parse(text).unwrap();
        let options = Options::take(&mut address).map_err(|error| error.to_string())?;
        address.end().map_err(|error| error.to_string())?;
        Ok(options)
    }

    #[test]
    fn a_producer_is_as_its_address_says() {
        let options = take("kafka://me:s3cret@one,two:99/ticks?compression=zstd&message_bytes=2MiB").unwrap();
        assert_eq!((options.topic.as_str(), &*options.name), ("ticks", "kafka://***@one,two:99/ticks"));
        let config = options.producer().unwrap();
        for (key, value) in [
            ("bootstrap.servers", "one:9092,two:99"),
            ("security.protocol", "sasl_plaintext"),
            ("sasl.password", "s3cret"),
            ("compression.type", "zstd"),
            ("message.max.bytes", "2097152"),
            ("acks", "all"),
        ] {
            assert_eq!(config.get(key), Some(value), "{key}");
        }
        assert!(!format!("{options:?}").contains("s3cret"));
        assert_eq!(take("kafka://h").unwrap().topic, "events");
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        assert_eq!(take("kafka://h/a b").unwrap_err(), "`kafka://h/a b`: `a b` is no name of a topic (letters, digits, `.`, `_` and `-`)");
        assert!(take("kafka://h?compression=rar").unwrap_err().contains("`compression=rar` is no compression (`zstd`, "));
        assert!(take("kafka://me@h").unwrap().producer().unwrap_err().to_string().contains("the user has no password"));
    }

    #[cfg(not(kafka_tls))]
    #[test]
    fn what_brings_tls_is_told() {
        assert!(take("kafka://h?tls=true").unwrap_err().contains("--cfg kafka_tls"));
    }
}
