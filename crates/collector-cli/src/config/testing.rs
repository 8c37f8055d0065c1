//! Two small venues and surroundings for tests.

use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Environment, VenuePolicy};

const BINANCE: &str = r#"
name = "binance"
title = "Binance"
docs = "https://example.com"
[markets.spot]
rest = "https://api.binance.test"
ws = "wss://stream.binance.test"
[markets.linear]
rest = "https://fapi.binance.test"
ws = "wss://fstream.binance.test"
[limits.weight]
budget = 2400
window = "1m"
[ws]
topics_per_frame = 100
topics_per_connection = 200
frames = { budget = 5, window = "1s" }
connects = { budget = 300, window = "5m" }
silence = "1m"
[errors]
"http:418" = "banned"
[[endpoint]]
name = "ticker"
path = "/ticker"
markets = ["spot", "linear"]
channels = ["ticker"]
limit = "weight"
"#;

const BYBIT: &str = r#"
name = "bybit"
title = "Bybit"
docs = "https://example.com"
[markets.linear]
rest = "https://api.bybit.test"
ws = "wss://stream.bybit.test"
[limits.ip]
budget = 600
window = "5s"
[ws]
topics_per_frame = 10
topics_per_connection = 300
frames = { budget = 10, window = "1s" }
connects = { budget = 500, window = "5m" }
silence = "30s"
"#;

/// The venues.
pub(crate) const VENUES: [VenuePolicy<'static>; 2] = [("binance", BINANCE), ("bybit", BYBIT)];

/// These variables, and a working directory without a file.
pub(crate) fn environment(variables: &[(&str, &str)]) -> Environment {
    let variables = variables.iter().map(|(key, value)| (key.into(), value.into())).collect();
    Environment { variables, directory: PathBuf::from("/nonexistent") }
}

/// A directory of a test's own, removed at its end.
pub(crate) struct Place(PathBuf);

impl Place {
    /// An empty directory.
    pub(crate) fn new() -> Self {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let path = std::env::temp_dir().join(format!("collector-config-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed)));
        std::fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    /// A directory with one file.
    pub(crate) fn with(name: &str, text: &str) -> Self {
        let place = Self::new();
        std::fs::write(place.0.join(name), text).unwrap();
        place
    }

    /// Surroundings in which this is the working directory.
    pub(crate) fn environment(&self, variables: &[(&str, &str)]) -> Environment {
        Environment { directory: self.0.clone(), ..environment(variables) }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // What is left behind in the system's own temporary directory harms nobody.
        let _ = std::fs::remove_dir_all(&self.0);
    }
}
