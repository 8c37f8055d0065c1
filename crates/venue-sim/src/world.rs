//! The whole market: all venues' instruments, one generator, one clock, and the order in which things happen.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Instrument, Market, Time};
use fastrand::Rng;

use crate::book::Changes;
use crate::clock::Wall;
use crate::config::{Config, Error};
use crate::faults::Faults;
use crate::hub::{ConnId, Hub};
use crate::listing::listings;
use crate::market::{Inst, MINUTE, Moved, Step};
use crate::num::mix;
use crate::wire::{ALL, Answer, Cost, Push, Request, Wire};

/// What is kept of a venue.
pub(crate) struct Venue {
    pub(crate) wire: &'static dyn Wire,
    /// A number that its instruments share, as its matching engine's.
    pub(crate) seq: u64,
    /// Where its instruments of each market are.
    pub(crate) markets: HashMap<Market, std::ops::Range<usize>>,
    names: HashMap<(Market, String), usize>,
    lower: HashMap<(Market, String), usize>,
    /// What is used of its budgets: since when, and how much.
    used: HashMap<&'static str, (i64, u32)>,
    /// Instruments whose figures changed since the last beat: tickers, premiums.
    pub(crate) changed: [Vec<usize>; 2],
    /// How far its clock is off, in milliseconds.
    shift: i64,
}

/// All simulated venues.
pub(crate) struct World {
    pub(crate) venues: Vec<Venue>,
    pub(crate) insts: Vec<Inst>,
    pub(crate) hub: Hub,
    pub(crate) mixed_families: bool,
    rng: Rng,
    /// Instruments by how often they move.
    chances: Vec<u32>,
    venue_of: Vec<usize>,
    changes: Changes,
    /// Updates so far.
    pub(crate) updates: u64,
    events: Option<u64>,
    /// Whether nothing more happens.
    pub(crate) still: bool,
    limits: bool,
    wall: Wall,
    clock: Clock,
    /// The minute that was last begun, in milliseconds.
    minute: i64,
    faults: Arc<Faults>,
    /// How far the clock of the venue that speaks is off.
    shift: i64,
}

/// The market's clock.
#[derive(Debug, Clone, Copy)]
enum Clock {
    Wall,
    /// Begins at a time, and runs by updates: so many microseconds each.
    Stepped(Time, f64),
}

impl World {
    /// A market by that clock. `telling` says whether anybody wants its events.
    pub(crate) fn new(config: &Config, faults: Arc<Faults>, wall: Wall, telling: bool) -> Result<Self, Error> {
        let start = config.start.unwrap_or_else(|| wall.now());
        let mut world = Self {
            venues: Vec::new(),
            insts: Vec::new(),
            hub: Hub::new(0, false, faults.clone()),
            mixed_families: config.mixed_families,
            rng: Rng::with_seed(config.seed),
            chances: Vec::new(),
            venue_of: Vec::new(),
            changes: Changes::default(),
            updates: 0,
            events: config.events,
            still: config.events == Some(0),
            limits: config.limits,
            wall,
            clock: config.start.map_or(Clock::Wall, |start| Clock::Stepped(start, 1e6 / config.rate.max(1.0))),
            minute: start.millis().div_euclid(MINUTE) * MINUTE,
            faults,
            shift: 0,
        };
        for name in &config.venues {
            let Some(wire) = ALL.iter().find(|wire| wire.name() == name) else {
                return Err(Error::UnknownVenue { name: name.clone(), known: crate::venues().collect::<Vec<_>>().join(", ") });
            };
            if world.venues.iter().any(|venue| venue.wire.name() == name) {
                return Err(Error::Setting(format!("the venue `{name}` is named twice")));
            }
            world.add(*wire, config, start);
        }
        world.chances = chances(&world.insts);
        world.hub = Hub::new(world.insts.len(), telling, world.faults.clone());
        Ok(world)
    }

    fn add(&mut self, wire: &'static dyn Wire, config: &Config, start: Time) {
        let mut venue = Venue {
            wire,
            seq: 1 + mix(config.seed, 9) % 40_000_000_000,
            markets: HashMap::new(),
            names: HashMap::new(),
            lower: HashMap::new(),
            used: HashMap::new(),
            changed: [Vec::new(), Vec::new()],
            shift: 0,
        };
        let name: Arc<str> = wire.name().into();
        for market in [Market::Spot, Market::Linear, Market::Inverse] {
            let first = self.insts.len();
            for listing in listings(wire, market, config.symbols, start) {
                let handle = Arc::new(Instrument::described(&name, market, &listing.venue_symbol, listing.details.clone()));
                let inst = Inst::new(wire, handle, listing, config.seed, start.millis());
                venue.names.insert((market, inst.symbol().into()), self.insts.len());
                venue.lower.insert((market, inst.lower.clone()), self.insts.len());
                self.insts.push(inst);
                self.venue_of.push(self.venues.len());
            }
            venue.markets.insert(market, first..self.insts.len());
        }
        self.venues.push(venue);
    }

    /// So long ago was the start: what of the faults is a matter of time comes and goes.
    pub(crate) fn at(&mut self, since: Duration) {
        self.hub.at(since);
        for venue in &mut self.venues {
            venue.shift = self.faults.shift(venue.wire.name(), since);
        }
    }

    /// A venue speaks, by its own clock.
    fn speaks(&mut self, wire: &dyn Wire) {
        self.shift = self.venues.iter().find(|venue| venue.wire.name() == wire.name()).map_or(0, |venue| venue.shift);
    }

    /// The clock on the wall.
    pub(crate) fn wall(&self) -> Time {
        self.wall.now()
    }

    /// The clock of the venue that speaks.
    pub(crate) fn now(&self, wall: Time) -> i64 {
        self.calendar(wall) + self.shift
    }

    /// The market's clock.
    fn calendar(&self, wall: Time) -> i64 {
        match self.clock {
            Clock::Wall => wall.millis(),
            #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a simulated time, to the millisecond")]
            Clock::Stepped(start, step) => start.millis() + (self.updates as f64 * step / 1000.0) as i64,
        }
    }

    /// Where a venue is.
    pub(crate) fn venue(&self, name: &str) -> Option<usize> {
        self.venues.iter().position(|venue| venue.wire.name() == name)
    }

    /// The instrument of that name.
    pub(crate) fn find(&self, venue: usize, market: Market, symbol: &str) -> Option<usize> {
        self.venues.get(venue)?.names.get(&(market, symbol.to_owned())).copied().filter(|at| self.is_listed(*at))
    }

    /// The instrument of that name in lower case.
    pub(crate) fn find_lower(&self, venue: usize, market: Market, symbol: &str) -> Option<usize> {
        self.venues.get(venue)?.lower.get(&(market, symbol.to_owned())).copied().filter(|at| self.is_listed(*at))
    }

    fn is_listed(&self, index: usize) -> bool {
        self.insts.get(index).is_some_and(|inst| inst.listed)
    }

    /// Takes an instrument off a venue's list, or puts it there again; whether there is such an instrument.
    pub(crate) fn list(&mut self, venue: &str, market: Market, symbol: &str, listed: bool) -> bool {
        let known = self.venues.iter().find(|known| known.wire.name() == venue).and_then(|known| known.names.get(&(market, symbol.to_owned())));
        let Some(inst) = known.and_then(|at| self.insts.get_mut(*at)) else { return false };
        inst.listed = listed;
        self.chances = chances(&self.insts);
        true
    }

    /// A market's instruments, with their places.
    pub(crate) fn listed(&self, venue: usize, market: Market) -> impl Iterator<Item = (usize, &Inst)> {
        let range = self.venues.get(venue).and_then(|venue| venue.markets.get(&market)).cloned().unwrap_or_default();
        let first = range.start;
        self.insts.get(range).unwrap_or_default().iter().enumerate().filter(|(_, inst)| inst.listed).map(move |(at, inst)| (first + at, inst))
    }

    /// Lets so many updates happen, and pushes them.
    pub(crate) fn advance(&mut self, updates: u64, wall: Time) {
        self.pass(wall);
        let until = self.updates + updates;
        while self.updates < until && !self.still {
            self.step(wall);
        }
        self.hub.flush();
    }

    /// What the clock alone brings about.
    fn pass(&mut self, wall: Time) {
        let now = self.calendar(wall);
        let minute = now.div_euclid(MINUTE) * MINUTE;
        if minute <= self.minute {
            return;
        }
        self.minute = minute;
        for (index, inst) in self.insts.iter_mut().enumerate().filter(|(_, inst)| inst.listed) {
            let Some((at, venue)) = self.venue_of.get(index).and_then(|at| Some((*at, self.venues.get_mut(*at)?))) else { continue };
            venue.seq += 1;
            let mut push = Push { hub: &mut self.hub, venue: at, now: now + venue.shift, wall, seq: venue.seq };
            inst.shift = venue.shift;
            let changed = &mut venue.changed;
            inst.pass(&mut self.rng, now, |inst, moved| {
                note(changed, index, moved);
                venue.wire.publish(&mut push, index, inst, moved);
            });
        }
    }

    fn step(&mut self, wall: Time) {
        // A book that moves at the top is one push of the book and one of the quote: of a hundred pushes, 40 are of
        // books, 30 of trades, 20 of quotes, 10 of the rest.
        let (step, weight) = match self.rng.u8(0..80) {
            0..20 => (Step::Book, 1),
            20..40 => (Step::Top, 2),
            40..70 => (Step::Trade, 1),
            _ => (Step::Other, 1),
        };
        let Some(&chosen) = self.chances.get(self.rng.usize(0..self.chances.len().max(1))) else {
            self.still = true;
            return;
        };
        if let Clock::Stepped(..) = self.clock {
            self.pass(wall);
        }
        let now = self.calendar(wall);
        let index = chosen as usize;
        let Some((inst, at)) = self.insts.get_mut(index).zip(self.venue_of.get(index).copied()) else { return };
        let Some(venue) = self.venues.get_mut(at) else { return };
        venue.seq += 1;
        let mut push = Push { hub: &mut self.hub, venue: at, now: now + venue.shift, wall, seq: venue.seq };
        inst.shift = venue.shift;
        let changed = &mut venue.changed;
        inst.step(step, &mut self.rng, now, push.seq, &mut self.changes, |inst, moved| {
            note(changed, index, moved);
            venue.wire.publish(&mut push, index, inst, moved);
        });
        self.updates += weight;
        self.still = self.events.is_some_and(|events| self.updates >= events);
    }

    /// Raises the published last price of an instrument by a tick, and pushes that; whether there is such an instrument.
    pub(crate) fn nudge(&mut self, venue: &str, market: Market, symbol: &str, wall: Time) -> bool {
        let Some(at) = self.venue(venue) else { return false };
        let now = self.calendar(wall);
        let Some(index) = self.find(at, market, symbol) else { return false };
        let (Some(inst), Some(venue)) = (self.insts.get_mut(index), self.venues.get_mut(at)) else { return false };
        venue.seq += 1;
        let before = inst.row;
        let now = now + venue.shift;
        inst.nudge(now);
        let moved = Moved::Ticker(before);
        note(&mut venue.changed, index, &moved);
        venue.wire.publish(&mut Push { hub: &mut self.hub, venue: at, now, wall, seq: venue.seq }, index, inst, &moved);
        self.hub.flush();
        true
    }

    /// What goes out about once a second, whether anything moved or not.
    pub(crate) fn beat(&mut self) {
        for venue in &mut self.venues {
            venue.changed.iter_mut().for_each(|changed| changed.retain(|at| self.insts.get(*at).is_some_and(|inst| inst.listed)));
        }
        for wire in self.venues.iter().map(|venue| venue.wire).collect::<Vec<_>>() {
            self.speaks(wire);
            wire.beat(self);
        }
        for venue in &mut self.venues {
            venue.changed.iter_mut().for_each(Vec::clear);
        }
        self.hub.flush();
    }

    /// Answers a request, or refuses it if it is one too many.
    pub(crate) fn answer(&mut self, wire: &'static dyn Wire, request: &Request) -> Answer {
        self.speaks(wire);
        let cost = wire.cost(request);
        let (used, until) = self.charge(wire, &cost, request.wall);
        let mut answer = if self.limits && used > cost.limit { wire.refused(&cost, used, request.wall, until) } else { wire.rest(self, request) };
        if let Some(header) = cost.header {
            answer.headers.push((header, used.to_string()));
        }
        answer
    }

    /// Draws on a budget. Returns what is used of it, and when it is full again.
    fn charge(&mut self, wire: &dyn Wire, cost: &Cost, wall: Time) -> (u32, Time) {
        let window = wall.micros().div_euclid(cost.seconds * 1_000_000);
        let until = Time::from_micros((window + 1) * cost.seconds * 1_000_000);
        let Some(venue) = self.venues.iter_mut().find(|venue| venue.wire.name() == wire.name()) else { return (0, until) };
        let used = venue.used.entry(cost.budget).or_insert((window, 0));
        if used.0 != window {
            *used = (window, 0);
        }
        used.1 = used.1.saturating_add(cost.units);
        (used.1, until)
    }

    /// A connection was opened.
    pub(crate) fn opened(&mut self, wire: &'static dyn Wire, conn: ConnId, path: &str, query: &[(String, String)]) {
        self.speaks(wire);
        wire.opened(self, conn, path, query);
        self.hub.flush();
    }

    /// A client's text frame.
    pub(crate) fn frame(&mut self, wire: &'static dyn Wire, conn: ConnId, text: &str) {
        self.speaks(wire);
        wire.frame(self, conn, text);
        self.hub.flush();
    }

    /// Ends a connection.
    pub(crate) fn close(&mut self, conn: ConnId) {
        self.hub.close(conn);
    }
}

fn note(changed: &mut [Vec<usize>; 2], index: usize, moved: &Moved<'_>) {
    let [tickers, premiums] = changed;
    match moved {
        Moved::Ticker(_) => tickers.push(index),
        Moved::Premium => premiums.push(index),
        _ => {}
    }
}

/// A table to draw instruments from: the first of a market are much busier than the last, and each comes now and then.
fn chances(insts: &[Inst]) -> Vec<u32> {
    let mut rank = HashMap::new();
    let mut weights = Vec::new();
    for (index, inst) in insts.iter().enumerate().filter(|(_, inst)| inst.moves()) {
        let rank = rank.entry((inst.handle.venue.clone(), inst.market())).or_insert(0u32);
        *rank += 1;
        weights.push((u32::try_from(index).unwrap_or(u32::MAX), 1.0 / f64::from(*rank + 4)));
    }
    let total: f64 = weights.iter().map(|(_, weight)| weight).sum();
    let places = 16.0 * f64::from(u32::try_from(weights.len()).unwrap_or(u32::MAX));
    let mut table = Vec::new();
    for (index, weight) in weights {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of the table, at least one place")]
        let share = (places * weight / total) as usize + 1;
        table.extend(std::iter::repeat_n(index, share));
    }
    table
}
