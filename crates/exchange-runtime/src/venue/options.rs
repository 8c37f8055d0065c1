//! What is asked of each venue.

use std::sync::Arc;
use std::time::Duration;

use exchange_core::pipeline::Wanted;
use exchange_core::{Channel, Instrument, Market, Mode};

/// Decides which instruments are collected.
pub type Chooser = Arc<dyn Fn(&Instrument) -> bool + Send + Sync>;

/// What is asked of each venue.
#[derive(Clone)]
pub(crate) struct VenueOptions {
    pub(crate) markets: Vec<Market>,
    pub(crate) channels: Vec<Channel>,
    pub(crate) mode: Mode,
    pub(crate) interval: Duration,
    pub(crate) once: bool,
    pub(crate) all_events: bool,
    pub(crate) chooser: Option<Chooser>,
}

impl VenueOptions {
    pub(crate) fn chosen(&self, instrument: &Instrument) -> bool {
        self.chooser.as_ref().is_none_or(|chooser| chooser(instrument))
    }
}

impl Wanted for VenueOptions {
    fn wants(&self, channel: Channel, instrument: &Instrument) -> bool {
        self.markets.contains(&instrument.market) && self.channels.contains(&channel) && self.chosen(instrument)
    }
}
