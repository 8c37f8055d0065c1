//! The live view on a terminal: a line for each venue instead of scrolling logs.

use std::collections::HashMap;
use std::io;
use std::time::{Duration, Instant};

use exchange_runtime::{Monitor, VenueStatus};
use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

/// How often the lines change.
const EVERY: Duration = Duration::from_millis(500);

/// Shows the venues until the future is dropped.
pub(crate) async fn show(monitor: Monitor, lines: MultiProgress) {
    let mut bars: HashMap<String, (ProgressBar, u64, Instant)> = HashMap::new();
    loop {
        for status in monitor.status() {
            let (bar, events, since) = bars.entry(status.venue.clone()).or_insert_with(|| {
                let bar = lines.add(ProgressBar::new_spinner());
                if let Ok(style) = ProgressStyle::with_template("{wide_msg}") {
                    bar.set_style(style);
                }
                (bar, 0, Instant::now())
            });
            #[expect(clippy::cast_precision_loss, reason = "a display")]
            let rate = (status.counts.events - *events) as f64 / since.elapsed().as_secs_f64().max(0.001);
            (*events, *since) = (status.counts.events, Instant::now());
            bar.set_message(line(&status, rate));
            bar.tick();
        }
        tokio::time::sleep(EVERY).await;
    }
}

fn line(status: &VenueStatus, rate: f64) -> String {
    let counts = &status.counts;
    let circuit = status.health.circuit().as_str();
    let lag = status.health.lag_seconds.map_or_else(|| "-".to_owned(), |lag| format!("{:.0} ms", lag * 1000.0));
    let state = match (status.health.problems.iter().next(), status.health.started) {
        (Some((what, why)), _) => format!("{what}: {why}"),
        (None, false) => "reading instruments".to_owned(),
        (None, true) => String::new(),
    };
    format!(
        "{:<12} {rate:>9.0}/s  events {:>10}  unchanged {:>10}  gaps {:>4}  errors {:>4}  conns {:>3}  circuit {circuit:<9}  lag {lag:>8}  {state}",
        status.venue, counts.events, counts.unchanged, counts.gaps, counts.errors, status.health.connections
    )
}

/// Writes log lines above the live lines instead of through them.
#[derive(Clone)]
pub(crate) struct Above(pub(crate) MultiProgress);

impl io::Write for Above {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.suspend(|| io::stderr().write(bytes))
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush()
    }
}
