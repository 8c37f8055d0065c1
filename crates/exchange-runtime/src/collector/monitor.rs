//! What is to be seen of a running collector.

use std::sync::{Arc, PoisonError, Weak};

use exchange_core::fold::STATES;
use exchange_core::pipeline::Counts;
use exchange_core::{Channel, Event, Instrument, Market};

use crate::delivery::{SinkStatus, Status};
use crate::shared::{Health, Shared};

/// What is to be seen of a running collector.
#[derive(Clone)]
pub struct Monitor {
    venues: Vec<Weak<Shared>>,
    sinks: Vec<Status>,
}

/// One venue, as it is now.
#[derive(Debug, Clone)]
pub struct VenueStatus {
    /// Its name.
    pub venue: String,
    /// Events by their fate.
    pub counts: Counts,
    /// How it is doing.
    pub health: Health,
}

impl VenueStatus {
    /// Whether everything asked for is being delivered.
    pub fn is_ready(&self) -> bool {
        self.health.started && self.health.problems.is_empty()
    }
}

/// The digest of one channel of a market.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest {
    /// The venue.
    pub venue: String,
    /// The market.
    pub market: Market,
    /// The channel.
    pub channel: Channel,
    /// Equal for collectors that know the same.
    pub digest: u128,
}

impl Monitor {
    pub(super) fn new(venues: &[Arc<Shared>], sinks: Vec<Status>) -> Self {
        Self { venues: venues.iter().map(Arc::downgrade).collect(), sinks }
    }

    fn shared(&self) -> impl Iterator<Item = Arc<Shared>> {
        self.venues.iter().filter_map(Weak::upgrade)
    }

    /// Each venue's status.
    pub fn status(&self) -> Vec<VenueStatus> {
        self.shared()
            .map(|shared| VenueStatus { venue: shared.name().to_owned(), counts: shared.pipeline().counts(), health: shared.health().clone() })
            .collect()
    }

    /// How the sinks are doing that have a journal.
    pub fn sinks(&self) -> Vec<SinkStatus> {
        // All venues have the same way out.
        let trouble = self.shared().find_map(|shared| shared.trouble());
        let status = |status: &Status| {
            let status = status.lock().unwrap_or_else(PoisonError::into_inner).clone();
            SinkStatus { problem: status.problem.or_else(|| trouble.clone()), ..status }
        };
        self.sinks.iter().map(status).collect()
    }

    /// Whether every venue's task moves. A venue that does not answer is no reason why it would not.
    pub fn is_alive(&self) -> bool {
        self.shared().all(|shared| shared.pulse.stuck(shared.clock.now()).is_none())
    }

    /// The last known states of these channels, whole: events without an id, received when the state changed last.
    pub fn latest(&self, channels: &[Channel], wants: &dyn Fn(&Instrument) -> bool) -> Vec<Event> {
        let mut all = Vec::new();
        for shared in self.shared() {
            let catalog = &shared.venue.catalog;
            let pipeline = shared.pipeline();
            for market in Market::ALL {
                for channel in channels {
                    for (name, at, body) in pipeline.latest().states(market, *channel) {
                        let instrument = catalog.get(market, name).unwrap_or_else(|| Arc::new(Instrument::named(catalog.venue(), market, name, None)));
                        if wants(&instrument) {
                            all.push(Event::new(instrument, at, None, body));
                        }
                    }
                }
            }
        }
        all
    }

    /// The digests of all states that are known, by venue, market and channel.
    pub fn digests(&self) -> Vec<Digest> {
        let mut all = Vec::new();
        for shared in self.shared() {
            let mut pipeline = shared.pipeline();
            for market in Market::ALL {
                for (channel, digest) in STATES.into_iter().zip(pipeline.digests(market)) {
                    if digest != 0 {
                        all.push(Digest { venue: shared.name().to_owned(), market, channel, digest });
                    }
                }
            }
        }
        all
    }
}
