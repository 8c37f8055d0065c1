//! Whoever starts a venue's actor again.

use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Channel, Event, Instrument};
use tokio::sync::watch;

use super::{VenueActor, VenueOptions};
use crate::http::Http;
use crate::shared::{Numbers, Shared};

/// A task that failed is started again after this long.
const RESTART: Duration = Duration::from_secs(1);

/// Runs a venue's actor, and another one in its place should it fail: what it knew of the venue's instruments is not its
/// own, what it had not asked yet is asked anew.
pub(crate) async fn supervise(shared: Arc<Shared>, options: VenueOptions, http: Http, numbers: Arc<Numbers>, stop: watch::Receiver<bool>) {
    loop {
        let actor = VenueActor::new(shared.clone(), options.clone(), http.clone(), numbers.clone(), stop.clone());
        let Err(error) = tokio::spawn(actor.run()).await else { return };
        if error.is_cancelled() || *stop.borrow() {
            return;
        }
        tracing::error!(venue = shared.name(), %error, "the venue's task failed, and is started again");
        metrics::counter!("collector_task_restarts_total", "venue" => shared.name().to_owned()).increment(1);
        // Its connections ended with it, and what they would have brought until they are open again is missed.
        let mut gaps: Vec<Event> = missed(&shared, &options);
        shared.deliver(&mut gaps, None).await;
        tokio::time::sleep(RESTART).await;
    }
}

/// One gap for each channel of each market that was asked for.
fn missed(shared: &Shared, options: &VenueOptions) -> Vec<Event> {
    let now = shared.clock.wall();
    let mut gaps = Vec::new();
    for market in &options.markets {
        let all = Arc::new(Instrument::all(shared.venue.catalog.venue(), *market));
        for channel in options.channels.iter().filter(|channel| **channel != Channel::Instrument) {
            gaps.push(Event::disconnected(all.clone(), *channel, now, now));
        }
    }
    gaps
}
