//! `redis://HOST` writes events to a stream for each type, and keeps the latest state of each instrument in a hash.
//!
//! Events and the position of their last batch in the journal are written in one transaction, which is given up if
//! somebody else moved the position meanwhile: what is written again after a crash is recognised, and nothing is in a
//! stream twice. What is confirmed is as safe as the server's own settings make it (`appendfsync`).
//!
//! | key | type | holds |
//! | --- | --- | --- |
//! | `collector:TYPE` | stream | entries with the fields `id`, `type` and `line`, the event's JSON |
//! | `collector:latest:VENUE:MARKET:VENUE_SYMBOL` | hash | fields such as `ticker.last`, `funding.rate`, `trade.price`, `trade.t` |
//! | `collector:position:JOURNAL` | string | the last batch of a collector's journal that was written |
//!
//! Redis Cluster is not served: a transaction is of one server.

mod latest;
mod source;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Batch, Body, Position};
use redis::aio::{ConnectionLike as _, MultiplexedConnection};
use redis::{
    AsyncConnectionConfig, Client, ConnectionAddr, ErrorKind, IntoConnectionInfo as _, Pipeline, RedisConnectionInfo, RedisError, ServerErrorKind,
    TlsCertificates, Value,
};

use self::latest::Latest;
pub(crate) use self::source::origin;
use crate::address::Address;
use crate::buffered::{Buffered, Store, within};
use crate::error::{SinkError, SinkErrorKind};
use crate::place::Place;
use crate::registry::Target;
use crate::sink::Sink;
use crate::trust::{LOGIN, advised, refused, tls_advice};

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long an answer may take before the network is taken for dead.
const PATIENCE: Duration = Duration::from_mins(1);
/// Entries that a stream keeps: some 100 MB of trades.
const LENGTH: u64 = 250_000;
/// Characters of what a server says that are passed on.
const WORDS: usize = 300;
/// What all keys begin with.
const PREFIX: &str = "collector";

/// Reads `redis://HOST`, `rediss://USER:PASSWORD@HOST:PORT/DATABASE`.
pub(crate) fn target(address: Address) -> Result<Arc<dyn Target>, SinkError> {
    Ok(Arc::new(Server::read(address)?))
}

/// A server and what is ours there.
#[derive(Debug, Clone)]
struct Server {
    place: Place,
    address: ConnectionAddr,
    /// Certificates in PEM, if not Mozilla's.
    authorities: Option<Vec<u8>>,
    database: i64,
    /// Entries that a stream keeps at least; 0 for all.
    length: u64,
    prefix: String,
    /// Whether the latest states are kept.
    latest: bool,
    patience: Duration,
    shown: String,
}

impl Target for Server {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Buffered::new(&self.shown, Redis { server: self.clone(), connection: None, worked_before: false })))
    }
}

impl Server {
    fn read(mut address: Address) -> Result<Self, SinkError> {
        let place = Place::of(&mut address)?;
        let host = place.only_host(&address)?;
        let (name, port) = (host.name.clone(), host.port.unwrap_or(6379));
        let database = match place.path.as_deref() {
            None => 0,
            Some(path) => path.parse().map_err(|_| address.wrong("a database of Redis is a number (such as `redis://localhost/0`)"))?,
        };
        let length = address.take_number("maxlen", 0..=u64::MAX)?.unwrap_or(LENGTH);
        let prefix = address.take_text("prefix")?.unwrap_or_else(|| PREFIX.to_owned());
        let on = |text: &str| match text {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let latest = address.take("latest", "choice (`on`, `off`)", on)?.unwrap_or(true);
        let patience = address.take_duration("timeout", Duration::from_secs(1))?.unwrap_or(PATIENCE);
        let authorities = address.take_text("ca_file")?.map(PathBuf::from);
        let encrypted = address.scheme() == "rediss";
        let authorities = match authorities {
            Some(_) if !encrypted => return Err(address.wrong("`ca_file` is for `rediss:`")),
            Some(path) => Some(std::fs::read(&path).map_err(|error| {
                let what = format!("cannot read the certificates in `{}`", path.display());
                address.wrong(&SinkError::io(&what, error).to_string())
            })?),
            None => None,
        };
        let shown = address.shown();
        address.end()?;
        let server = if encrypted { ConnectionAddr::TcpTls { host: name, port, insecure: false, tls_params: None } } else { ConnectionAddr::Tcp(name, port) };
        Ok(Self { place, address: server, authorities, database, length, prefix, latest, patience, shown })
    }

    /// A client with the password of now.
    fn client(&self) -> Result<Client, SinkError> {
        let mut who = RedisConnectionInfo::default().set_db(self.database);
        if let Some(user) = &self.place.user {
            who = who.set_username(user);
        }
        if let Some(secret) = self.place.password.read()? {
            who = who.set_password(secret.reveal());
        }
        let wrong = |error: RedisError| self.told(&error, false);
        let address = self.address.clone().into_connection_info().map_err(wrong)?.set_redis_settings(who);
        match &self.authorities {
            None => Client::open(address).map_err(wrong),
            Some(root) => Client::build_with_tls(address, TlsCertificates { client_tls: None, root_cert: Some(root.clone()) }).map_err(wrong),
        }
    }

    async fn connect(&self, worked_before: bool) -> Result<MultiplexedConnection, SinkError> {
        let config = AsyncConnectionConfig::new().set_connection_timeout(Some(CONNECT)).set_response_timeout(Some(self.patience));
        let told = |error: RedisError| self.told(&error, worked_before);
        let mut connection = self.client()?.get_multiplexed_async_connection_with_config(&config).await.map_err(told)?;
        // Alone, so that who is not let in is told so once.
        redis::cmd("PING").exec_async(&mut connection).await.map_err(told)?;
        let mut types = redis::pipe();
        for kind in Body::KINDS {
            types.cmd("TYPE").arg(self.stream(kind));
        }
        let types: Vec<String> = types.query_async(&mut connection).await.map_err(told)?;
        // In a transaction it would be too late: Redis carries out the rest of one.
        if let Some((kind, there)) = Body::KINDS.iter().zip(types).find(|(_, there)| !matches!(there.as_str(), "none" | "stream")) {
            let what = format!("{}: the key `{}` is a {there} and no stream: remove it, or take another `prefix=`", self.shown, self.stream(kind));
            return Err(SinkError::new(refused(worked_before), what));
        }
        Ok(connection)
    }

    fn stream(&self, kind: &str) -> String {
        format!("{}:{kind}", self.prefix)
    }

    /// The key of a journal's last position.
    fn position(&self, journal: u64) -> String {
        format!("{}:position:{journal:016x}", self.prefix)
    }

    /// An error in words that hold nothing secret.
    fn told(&self, error: &RedisError, worked_before: bool) -> SinkError {
        use ServerErrorKind as S;
        // Of a transaction, each command may say the same.
        let words: String = error.to_string().chars().take(WORDS).collect();
        let mut advice = tls_advice(&words);
        let kind = match error.kind() {
            ErrorKind::Io if advice.is_some() => refused(worked_before),
            // Said to one who comes when there is no room.
            ErrorKind::Server(S::ResponseError) if error.to_string().contains("max number of clients") => SinkErrorKind::Retryable,
            ErrorKind::AuthenticationFailed => {
                advice = Some(LOGIN);
                refused(worked_before)
            }
            ErrorKind::InvalidClientConfig | ErrorKind::Server(S::NoPerm | S::CrossSlot | S::Moved | S::ResponseError) => refused(worked_before),
            ErrorKind::Extension if matches!(error.code(), Some("NOAUTH" | "WRONGPASS")) => {
                advice = Some(LOGIN);
                refused(worked_before)
            }
            ErrorKind::Extension if error.code() == Some("WRONGTYPE") => refused(worked_before),
            _ => SinkErrorKind::Retryable,
        };
        SinkError::new(kind, format!("{}: {}", self.shown, advised(&words, advice)))
    }
}

/// The sink's side of a server.
struct Redis {
    server: Server,
    /// None while something is being done: whoever drops a future in the middle leaves a connection with answers to come.
    connection: Option<MultiplexedConnection>,
    worked_before: bool,
}

impl Redis {
    /// Runs on a connection, a new one if there is none. One that failed is not used again.
    async fn with<T>(&mut self, work: impl AsyncFnOnce(&Server, &mut MultiplexedConnection) -> Result<T, RedisError>) -> Result<T, SinkError> {
        let (server, worked_before) = (&self.server, self.worked_before);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => within(server.patience, &server.shown, server.connect(worked_before)).await?,
        };
        self.worked_before = true;
        let answer = async { work(server, &mut connection).await.map_err(|error| server.told(&error, true)) };
        let result = within(server.patience, &server.shown, answer).await?;
        self.connection = Some(connection);
        Ok(result)
    }
}

impl Store for Redis {
    /// A transaction is in memory three times: as events, as commands, and as what is sent.
    const STEP_EVENTS: usize = 2048;

    async fn position(&mut self, journal: u64) -> Result<Option<Position>, SinkError> {
        let number = self.with(async |server, connection| redis::cmd("GET").arg(server.position(journal)).query_async::<Option<u64>>(connection).await);
        Ok(number.await?.map(|number| Position { journal, number }))
    }

    async fn store(&mut self, batches: &[Arc<Batch>]) -> Result<(), SinkError> {
        let outcome = self.with(async |server, connection| server.store(connection, batches).await).await?;
        match outcome {
            Outcome::Stored => Ok(()),
            Outcome::Moved => {
                let what = format!("{}: another connection of this collector moved its position: it is read anew", self.server.shown);
                Err(SinkError::new(SinkErrorKind::Retryable, what))
            }
            Outcome::Rejected { commands, reason } => {
                let sink = self.server.shown.clone();
                tracing::error!(sink, commands, reason, "events that the server does not take are lost to it");
                metrics::counter!("collector_sink_rejected_total", "sink" => sink).increment(commands);
                Ok(())
            }
        }
    }

    async fn close(&mut self) {
        self.connection = None;
    }
}

/// What became of a transaction.
enum Outcome {
    Stored,
    /// Nothing: the position is another than it was.
    Moved,
    /// All but some commands.
    Rejected {
        commands: u64,
        reason: String,
    },
}

impl Server {
    async fn store(&self, connection: &mut MultiplexedConnection, batches: &[Arc<Batch>]) -> Result<Outcome, RedisError> {
        let mut lasts: HashMap<u64, u64> = HashMap::new();
        for position in batches.iter().filter_map(|batch| batch.position()) {
            let last = lasts.entry(position.journal).or_default();
            *last = position.number.max(*last);
        }
        // Watched before it is read. A transaction of a connection that was given up, and that the server finds in its
        // buffers only now, moves the position before ours or finds it moved by ours.
        let mut known: HashMap<u64, u64> = HashMap::new();
        for journal in lasts.keys() {
            let key = self.position(*journal);
            let mut read = redis::pipe();
            read.cmd("WATCH").arg(&key).ignore().cmd("GET").arg(&key);
            let (number,): (Option<u64>,) = read.query_async(connection).await?;
            known.insert(*journal, number.unwrap_or_default());
        }
        let is_new = |batch: &&Arc<Batch>| batch.position().is_none_or(|position| known.get(&position.journal).is_none_or(|number| position.number > *number));
        let fresh: Vec<&Arc<Batch>> = batches.iter().filter(is_new).collect();
        if fresh.is_empty() {
            redis::cmd("UNWATCH").exec_async(connection).await?;
            return Ok(Outcome::Stored);
        }
        let events = fresh.iter().map(|batch| batch.events().len()).sum::<usize>();
        let mut transaction = Pipeline::with_capacity(events + 16);
        transaction.atomic();
        self.add_events(&mut transaction, &fresh);
        for (journal, last) in lasts {
            transaction.cmd("SET").arg(self.position(journal)).arg(last);
        }
        let commands = transaction.len();
        let answer = connection.req_packed_commands(&transaction, commands + 1, 1).await?;
        let Some(Value::Array(answers)) = answer.into_iter().next() else { return Ok(Outcome::Moved) };
        let mut errors = answers.into_iter().filter_map(|answer| if let Value::ServerError(error) = answer { Some(error) } else { None });
        Ok(match errors.next() {
            None => Outcome::Stored,
            Some(first) => Outcome::Rejected { reason: RedisError::from(first).to_string(), commands: 1 + errors.count() as u64 },
        })
    }

    fn add_events(&self, transaction: &mut Pipeline, batches: &[&Arc<Batch>]) {
        let mut streams: HashMap<&'static str, String> = HashMap::new();
        let mut latest = Latest::default();
        for batch in batches {
            for (event, line) in batch.records() {
                let kind = event.body.kind();
                let command = transaction.cmd("XADD").arg(streams.entry(kind).or_insert_with(|| self.stream(kind)).as_str());
                if self.length > 0 {
                    command.arg("MAXLEN").arg("~").arg(self.length);
                }
                command.arg("*").arg("id").arg(event.id.to_string()).arg("type").arg(kind).arg("line").arg(line);
                if self.latest {
                    latest.see(event);
                }
            }
        }
        latest.add(&self.prefix, transaction);
    }
}
