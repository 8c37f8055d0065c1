//! What to simulate.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use exchange_core::Time;

/// What to simulate, and how. [`Default`] is a small market of every venue on a port that the system picks.
#[derive(Debug, Clone)]
pub struct Config {
    /// Venues with a seeded market, by name; see [`crate::venues`]. Those that [`Config::play`] has captures of are played.
    pub venues: Vec<String>,
    /// Where to listen. Port 0 lets the system pick one.
    pub listen: SocketAddr,
    /// Instruments of each market of each venue.
    pub symbols: usize,
    /// Market updates a second, over all venues together.
    pub rate: f64,
    /// How often the market moves on.
    pub tick: Duration,
    /// The same seed gives the same market.
    pub seed: u64,
    /// How long each HTTP answer takes, besides what it takes anyway.
    pub latency: Duration,
    /// A file of faults; see [`crate::faults`].
    pub faults: Option<PathBuf>,
    /// Where to write every event that was served, as event lines. Those of captures are read from `FILE.events.ndjson`
    /// beside `FILE.ndjson`.
    pub truth: Option<PathBuf>,
    /// Captures to serve: the venues in them need no seeded market.
    pub play: Vec<PathBuf>,
    /// The time between two captured frames of a connection; with 0, they come at once.
    pub pace: Duration,
    /// After so many updates the market stands still, and goes on being served.
    pub events: Option<u64>,
    /// After so long the market stands still, and goes on being served.
    pub duration: Option<Duration>,
    /// Where the market's clock begins; it then runs by the market's updates, a second for each [`Config::rate`] of
    /// them, so that everything but the time of serving is repeatable. Without it, the market's clock is the wall's.
    pub start: Option<Time>,
    /// Whether requests beyond the venues' budgets are refused, and clients that send too much are cut off.
    pub limits: bool,
    /// Whether Binance's all-market futures streams carry both futures families, as the venue's do since 2026-06-30.
    pub mixed_families: bool,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            venues: crate::venues().map(Into::into).collect(),
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            symbols: 200,
            rate: 1000.0,
            tick: Duration::from_millis(4),
            seed: 1,
            latency: Duration::ZERO,
            faults: None,
            truth: None,
            play: Vec::new(),
            pace: Duration::ZERO,
            events: None,
            duration: None,
            start: None,
            limits: true,
            mixed_families: false,
        }
    }
}

/// Why a simulation cannot start, or failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A venue without a simulated market.
    #[error("`{name}` has no simulated market; there is one of {known}")]
    UnknownVenue {
        /// The name that was asked for.
        name: String,
        /// The names that would do.
        known: String,
    },
    /// A setting that makes no sense.
    #[error("{0}")]
    Setting(String),
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// A file cannot be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: std::io::Error,
    },
    /// A file says what it may not say.
    #[error("{}: {message}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        message: String,
    },
    /// The simulator's thread ended too early.
    #[error("the simulator ended unexpectedly")]
    Ended,
}

impl Config {
    /// Checks what can be checked before anything starts.
    pub(crate) fn check(&self) -> Result<(), Error> {
        if self.venues.is_empty() && !self.play.is_empty() {
            return Ok(());
        }
        if self.venues.is_empty() {
            return Err(Error::Setting("no venue to simulate".into()));
        }
        if !(self.rate.is_finite() && self.rate >= 0.0) {
            return Err(Error::Setting(format!("a rate of {} is not possible", self.rate)));
        }
        if self.tick.is_zero() {
            return Err(Error::Setting("a market has to stand still now and then: the tick is not 0".into()));
        }
        if !(1..=10_000).contains(&self.symbols) {
            return Err(Error::Setting(format!("{} symbols a market are not possible (1 to 10000)", self.symbols)));
        }
        Ok(())
    }
}
