//! Which venues have a seeded market, and which are played.

use std::sync::{Arc, Mutex};

use crate::clock::Wall;
use crate::config::{Config, Error};
use crate::faults::Faults;
use crate::play::Player;
use crate::world::World;

/// Where answers come from.
pub(crate) struct Source {
    /// A seeded market of some venues, if any has one.
    pub(crate) market: Option<Box<Mutex<World>>>,
    /// Captures of others.
    pub(crate) player: Player,
    /// All of their names.
    pub(crate) venues: Vec<String>,
}

impl Source {
    /// What a configuration asks for. `telling` says whether anybody wants the truth.
    pub(crate) fn new(config: &Config, faults: &Arc<Faults>, wall: Wall, telling: bool) -> Result<Self, Error> {
        let player = Player::load(&config.play, telling)?;
        let seeded: Vec<String> = config.venues.iter().filter(|name| !player.plays(name)).cloned().collect();
        if faults.lack_a_market(|name| name.map_or(!seeded.is_empty(), |name| !player.plays(name))) {
            return Err(Error::Setting("captures have neither subscriptions nor a clock: faults of those (`silent_topic`, `clock_jump`) need a market".into()));
        }
        let venues = seeded.iter().chain(player.venues()).cloned().collect();
        let seed = |venues| World::new(&Config { venues, ..config.clone() }, faults.clone(), wall, telling).map(|world| Box::new(Mutex::new(world)));
        let market = (!seeded.is_empty()).then(|| seed(seeded)).transpose()?;
        Ok(Self { market, player, venues })
    }
}
