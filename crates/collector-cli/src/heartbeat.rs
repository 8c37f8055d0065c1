//! Signs of life for whoever watches the process: a file, and systemd where it is there.
//!
//! They say that the process moves, not that its venues answer: to start a collector anew because a venue is down would
//! only lose what is in flight.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exchange_runtime::Monitor;
use sd_notify::NotifyState;

/// How often the file is written, and systemd told where it asks for nothing shorter.
const EVERY: Duration = Duration::from_secs(5);

/// Gives signs of life until the runtime ends.
pub(crate) async fn keep(monitor: Monitor, file: Option<PathBuf>) {
    // systemd wants one in each interval; two, so that one may be late.
    let every = sd_notify::watchdog_enabled().map_or(EVERY, |interval| (interval / 2).min(EVERY));
    let mut ready = false;
    loop {
        if !ready && monitor.status().iter().all(|status| status.health.started) {
            ready = true;
            notify(&[NotifyState::Ready]);
        }
        if monitor.is_alive() {
            notify(&[NotifyState::Watchdog]);
            if let Some(path) = &file
                && let Err(error) = write(path)
            {
                tracing::warn!(path = %path.display(), %error, "cannot write the heartbeat");
            }
        }
        tokio::time::sleep(if ready { every } else { every.min(Duration::from_millis(500)) }).await;
    }
}

/// The orderly stop begins.
pub(crate) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

fn notify(states: &[NotifyState<'_>]) {
    // Without systemd there is nobody to tell, which is no error.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd cannot be told");
    }
}

/// The time in seconds since the Unix epoch, in a file that is there whole or not at all.
fn write(path: &Path) -> std::io::Result<()> {
    let seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let mut name = path.as_os_str().to_owned();
    name.push(".new");
    std::fs::write(&name, format!("{seconds}\n"))?;
    std::fs::rename(&name, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_says_when() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("beat");
        write(&path).unwrap();
        let first: u64 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        write(&path).unwrap();
        let second: u64 = std::fs::read_to_string(&path).unwrap().trim().parse().unwrap();
        assert!(second >= first && first > 1_700_000_000);
        assert_eq!(std::fs::read_dir(place.path()).unwrap().count(), 1);
        assert!(write(&place.path().join("nowhere/beat")).is_err());
    }
}
