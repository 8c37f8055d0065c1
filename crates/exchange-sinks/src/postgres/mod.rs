//! `postgres://USER@HOST/DATABASE` writes events into a table for each type, and each event once.
//!
//! Rows and the position of their last batch in the journal are stored in one transaction: what is written again after a
//! crash is recognised by the position, and what two collectors saw by its `id`. Tables, which this sink makes itself,
//! are divided by days. A row that the server does not take goes to the table `rejected`, with the reason and its line of
//! JSON; the others of its batch are stored.

mod binary;
mod fault;
mod migrate;
mod rows;
mod session;
#[cfg(test)]
mod tests;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Batch, Position};
use rustls::ClientConfig;
use tokio_postgres::config::SslMode;
use tokio_postgres_rustls::MakeRustlsConnect;

use self::fault::Fault;
use self::session::Session;
use crate::address::Address;
use crate::buffered::{Buffered, Store, within};
use crate::error::SinkError;
use crate::place::Place;
use crate::registry::Target;
use crate::sink::Sink;
use crate::tls;

/// How long a connection may take.
const CONNECT: Duration = Duration::from_secs(10);
/// How long a step may take before the network is taken for dead.
const PATIENCE: Duration = Duration::from_mins(1);
/// Where the tables are.
const SCHEMA: &str = "collector";

/// Reads `postgres://USER@HOST/DATABASE`.
pub(crate) fn target(mut address: Address) -> Result<Arc<dyn Target>, SinkError> {
    let place = Place::of(&mut address)?;
    let host = place.only_host(&address)?;
    if place.user.is_none() || place.path.is_none() {
        return Err(address.wrong("it lacks a user or a database (such as `postgres://me@localhost/market`)"));
    }
    let near = matches!(host.name.as_str(), "localhost" | "::1") || host.name.starts_with("127.");
    let mode = |text: &str| match text {
        "disable" => Some(false),
        "require" | "verify-ca" | "verify-full" => Some(true),
        _ => None,
    };
    let encrypted = address.take("sslmode", "mode (`disable`, or `require`, which always verifies the server)", mode)?.unwrap_or(!near);
    let authorities: Option<PathBuf> = address.take_text("ca_file")?.map(PathBuf::from);
    let schema = address.take("schema", "name of a schema (letters, digits and `_`)", name)?.unwrap_or_else(|| SCHEMA.to_owned());
    let patience = address.take_duration("timeout", Duration::from_secs(1))?.unwrap_or(PATIENCE);
    let tls = encrypted.then(|| tls::config(authorities.as_deref())).transpose().map_err(|error| address.wrong(&error.to_string()))?;
    let shown = address.shown();
    address.end()?;
    Ok(Arc::new(Server { place, tls, schema, patience, shown }))
}

fn name(text: &str) -> Option<String> {
    let plain = !text.is_empty() && text.len() <= 63 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    plain.then(|| text.to_owned())
}

/// A server and what is ours there.
#[derive(Debug, Clone)]
struct Server {
    place: Place,
    tls: Option<ClientConfig>,
    schema: String,
    patience: Duration,
    shown: String,
}

impl Target for Server {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Buffered::new(&self.shown, Postgres::new(self.clone()))))
    }
}

impl Server {
    /// A configuration with the password of now.
    fn config(&self) -> Result<tokio_postgres::Config, SinkError> {
        let mut config = tokio_postgres::Config::new();
        config.application_name("collector").connect_timeout(CONNECT).keepalives_idle(Duration::from_secs(30));
        config.ssl_mode(if self.tls.is_some() { SslMode::Require } else { SslMode::Disable });
        for host in &self.place.hosts {
            config.host(&host.name).port(host.port.unwrap_or(5432));
        }
        config.user(self.place.user.as_deref().unwrap_or_default()).dbname(self.place.path.as_deref().unwrap_or_default());
        if let Some(secret) = self.place.password.read()? {
            config.password(secret.reveal());
        }
        Ok(config)
    }
}

/// The sink's side of a server.
struct Postgres {
    server: Server,
    /// None while something is being done: whoever drops a future in the middle leaves a session that nobody knows.
    session: Option<Session>,
    worked_before: bool,
}

impl Postgres {
    fn new(server: Server) -> Self {
        Self { server, session: None, worked_before: false }
    }

    /// Runs on a session, a new one if there is none. One that failed is not used again.
    async fn with<T>(&mut self, work: impl AsyncFnOnce(&mut Session) -> Result<T, Fault>) -> Result<T, SinkError> {
        let (server, patience, worked_before) = (&self.server, self.server.patience, self.worked_before);
        let told = |fault: Fault| fault.told(&server.shown, worked_before);
        let mut session = if let Some(session) = self.session.take().filter(|session| !session.is_closed()) {
            session
        } else {
            let config = server.config()?;
            // Boxed, since it is large and rare.
            let connect = Box::pin(async {
                let session = match &server.tls {
                    Some(tls) => Session::open(&config, MakeRustlsConnect::new(tls.clone()), &server.schema).await,
                    None => Session::open(&config, tokio_postgres::NoTls, &server.schema).await,
                };
                session.map_err(told)
            });
            within(patience, &server.shown, connect).await?
        };
        self.worked_before = true;
        let result = within(patience, &server.shown, async { work(&mut session).await.map_err(told) }).await?;
        self.session = Some(session);
        Ok(result)
    }
}

impl Store for Postgres {
    const STEP_EVENTS: usize = 2048;

    async fn position(&mut self, journal: u64) -> Result<Option<Position>, SinkError> {
        self.with(async |session| session.position(journal).await).await
    }

    async fn store(&mut self, batches: &[Arc<Batch>]) -> Result<(), SinkError> {
        let shown = self.server.shown.clone();
        let rejected = self.with(async |session| session.store(batches).await).await?;
        if let Some(reason) = rejected.first() {
            tracing::warn!(sink = shown, rows = rejected.len(), reason, "rows that the server does not take are in the table `rejected`");
            metrics::counter!("collector_sink_rejected_total", "sink" => shown).increment(rejected.len() as u64);
        }
        Ok(())
    }

    async fn close(&mut self) {
        if let Some(session) = self.session.take() {
            session.close().await;
        }
    }
}
