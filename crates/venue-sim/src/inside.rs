//! A simulation inside the caller's own tokio runtime: no thread, no socket and no clock but tokio's.
//!
//! Clients come in by pipes, behind which the same server speaks the same HTTP and WebSocket. With tokio's clock paused, it
//! advances whenever everything waits: a day passes in seconds, and the same seed gives the same day.

use std::sync::Arc;

use exchange_core::{Event, Time};
use tokio::io::DuplexStream;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::clock::Wall;
use crate::config::{Config, Error};
use crate::faults::Faults;
use crate::handle::Counters;
use crate::line::Pipes;
use crate::server::{self, App};
use crate::source::Source;
use crate::truth::Truth;

/// Bytes that may wait in a pipe: as much as a system keeps for a connection.
const PIPE: usize = 1 << 20;

/// A running simulation. Dropping it ends the simulation, without waiting for that.
pub struct Inside {
    app: Arc<App>,
    door: mpsc::UnboundedSender<DuplexStream>,
    stop: watch::Sender<bool>,
    task: JoinHandle<()>,
}

/// Where a client comes in.
#[derive(Debug, Clone)]
pub struct Door(mpsc::UnboundedSender<DuplexStream>);

impl Door {
    /// A connection to the server, which serves each venue under `/NAME`. Once the simulation has ended, it is one that
    /// nobody answers and that ends at once.
    pub fn dial(&self) -> DuplexStream {
        let (ours, theirs) = tokio::io::duplex(PIPE);
        // What is not taken is dropped, and that ends the connection.
        drop(self.0.send(theirs));
        ours
    }
}

impl Inside {
    /// Starts a seeded market whose clock shows `began` now and moves with tokio's, and plays captures. Their truth is kept in
    /// memory; of the configuration, the address and the files of faults and truth play no part.
    ///
    /// # Errors
    /// What cannot be simulated.
    pub fn start(config: &Config, faults: Faults, began: Time) -> Result<Self, Error> {
        config.check()?;
        let wall = Wall::Virtual(began, Instant::now());
        let faults = Arc::new(faults);
        let source = Source::new(config, &faults, wall, true)?;
        let (stop, stopped) = watch::channel(false);
        let (app, _) = App::new(config, source, faults, wall, Truth::kept(), stopped);
        let app = Arc::new(app);
        let (door, pipes) = mpsc::unbounded_channel();
        let task = tokio::spawn(server::run(app.clone(), Pipes(pipes)));
        Ok(Self { app, door, stop, task })
    }

    /// The way in.
    pub fn door(&self) -> Door {
        Door(self.door.clone())
    }

    /// What the seeded markets served since the last call, in order, as events with their ids.
    pub fn truth(&self) -> Vec<Event> {
        self.app.truth.take()
    }

    /// What was played since the last call, in order: the event lines of each capture that was served.
    pub fn played(&self) -> Vec<Arc<str>> {
        self.app.truth.take_lines()
    }

    /// What happened so far.
    pub fn counters(&self) -> Counters {
        self.app.counters()
    }

    /// From now on, so many updates a second; with 0, only the clock brings something about.
    pub fn set_rate(&self, rate: f64) {
        *self.app.rate() = rate;
    }

    /// Sends what waits, closes the connections, and ends.
    ///
    /// # Errors
    /// If the simulation had ended by itself.
    pub async fn shutdown(mut self) -> Result<Counters, Error> {
        self.stop.send_replace(true);
        (&mut self.task).await.map_err(|_| Error::Ended)?;
        Ok(self.app.counters())
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.stop.send_replace(true);
    }
}
