//! The order book of one simulated instrument: whole ticks and lots, never crossed, at most [`DEPTH`] levels a side.
//!
//! The depth is smaller than every depth that the venues stream, so that one list of changes is right for all of a
//! venue's book topics, and a client that applies them holds the whole book.

use fastrand::Rng;

/// The most levels of a side.
pub(crate) const DEPTH: usize = 50;
/// Below so many levels, sides are filled up.
const FEW: usize = 30;

/// A price in ticks and the size there in lots.
pub(crate) type Level = (i64, i64);

/// Both sides, best price first.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Book {
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
    /// The last update's number.
    pub(crate) last_id: u64,
}

/// What one update changed: absolute sizes, 0 where the price is gone; each price at most once.
#[derive(Debug, Clone, Default)]
pub(crate) struct Changes {
    pub(crate) bids: Vec<Level>,
    pub(crate) asks: Vec<Level>,
    /// The number of the update before.
    pub(crate) previous_id: u64,
    /// The first and last number of the changes in this one.
    pub(crate) first_id: u64,
    pub(crate) last_id: u64,
    /// Whether the best bid or offer moved.
    pub(crate) top: bool,
}

/// How a venue numbers the updates of a book.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Numbering {
    /// One number for each changed price, without holes.
    EachChange,
    /// One number for each changed price, with holes between updates (other instruments share the counter).
    ChangesWithHoles,
    /// One number for each update.
    Updates,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    Bid,
    Ask,
}

impl Book {
    /// A book around `middle`.
    pub(crate) fn around(middle: i64, last_id: u64, rng: &mut Rng) -> Self {
        let mut book = Self { last_id, ..Self::default() };
        let half = rng.i64(1..4);
        for (side, first) in [(Side::Bid, middle - half), (Side::Ask, middle + half)] {
            let mut price = first;
            for _ in 0..rng.usize(FEW..DEPTH) {
                if price < 1 {
                    break;
                }
                let size = lots(rng);
                book.side_mut(side).push((price, size));
                price += rng.i64(1..4) * outwards(side);
            }
        }
        book
    }

    pub(crate) fn best_bid(&self) -> Option<Level> {
        self.bids.first().copied()
    }

    pub(crate) fn best_ask(&self) -> Option<Level> {
        self.asks.first().copied()
    }

    fn side(&self, side: Side) -> &Vec<Level> {
        if side == Side::Bid { &self.bids } else { &self.asks }
    }

    fn side_mut(&mut self, side: Side) -> &mut Vec<Level> {
        if side == Side::Bid { &mut self.bids } else { &mut self.asks }
    }

    /// Sets the size at a price, and notes it.
    fn set(&mut self, side: Side, price: i64, amount: i64, changes: &mut Changes) {
        let levels = self.side_mut(side);
        let at = levels.partition_point(|&(p, _)| if side == Side::Bid { p > price } else { p < price });
        match levels.get_mut(at) {
            Some(level) if level.0 == price && amount > 0 => level.1 = amount,
            Some(level) if level.0 == price => drop(levels.remove(at)),
            _ if amount > 0 => levels.insert(at, (price, amount)),
            _ => return,
        }
        let noted = if side == Side::Bid { &mut changes.bids } else { &mut changes.asks };
        match noted.iter_mut().find(|(p, _)| *p == price) {
            Some(change) => change.1 = amount,
            None => noted.push((price, amount)),
        }
    }

    /// Changes sizes behind the best prices.
    pub(crate) fn stir(&mut self, numbering: Numbering, rng: &mut Rng, changes: &mut Changes) {
        self.begin(changes);
        for _ in 0..rng.usize(1..5) {
            let side = if rng.bool() { Side::Bid } else { Side::Ask };
            let length = self.side(side).len();
            let Some(&(price, held)) = self.side(side).get(rng.usize(1..length.max(2))) else { continue };
            match rng.u8(0..10) {
                0..6 => self.set(side, price, other_lots(held, rng), changes),
                6..8 if length > FEW => self.set(side, price, 0, changes),
                _ => self.fill(side, rng, changes),
            }
        }
        if changes.bids.is_empty() && changes.asks.is_empty() {
            self.fill(Side::Bid, rng, changes);
            self.fill(Side::Ask, rng, changes);
        }
        self.finish(numbering, rng, changes);
    }

    /// Moves the best bid or offer, in price or in size.
    pub(crate) fn move_top(&mut self, numbering: Numbering, rng: &mut Rng, changes: &mut Changes) {
        self.begin(changes);
        let (Some((bid, bid_size)), Some((ask, ask_size))) = (self.best_bid(), self.best_ask()) else { return };
        let side = if rng.bool() { Side::Bid } else { Side::Ask };
        let (best, held) = if side == Side::Bid { (bid, bid_size) } else { (ask, ask_size) };
        let spread = ask - bid;
        // A wide spread closes, and prices stay well above zero.
        let low = bid < 2 * i64::try_from(DEPTH).unwrap_or(0) * 4;
        match rng.u8(0..10) {
            0..3 if spread > 1 => self.set(side, best - outwards(side), lots(rng), changes),
            _ if spread > 6 => self.set(side, best - outwards(side) * rng.i64(1..spread), lots(rng), changes),
            3..6 if self.side(side).len() > 5 && !(low && side == Side::Bid) => self.set(side, best, 0, changes),
            _ => self.set(side, best, other_lots(held, rng), changes),
        }
        self.fill(side, rng, changes);
        changes.top = true;
        self.finish(numbering, rng, changes);
    }

    /// Adds a level at the far end of a side that has few.
    fn fill(&mut self, side: Side, rng: &mut Rng, changes: &mut Changes) {
        let Some(&(last, held)) = self.side(side).last() else { return };
        let price = last + rng.i64(1..4) * outwards(side);
        if self.side(side).len() < DEPTH.min(FEW + 10) && price > 0 {
            self.set(side, price, lots(rng), changes);
        } else if self.side(side).len() > 1 {
            self.set(side, last, other_lots(held, rng), changes);
        }
    }

    fn begin(&mut self, changes: &mut Changes) {
        changes.bids.clear();
        changes.asks.clear();
        changes.top = false;
        changes.previous_id = self.last_id;
    }

    /// Cuts what is too deep, and numbers the update.
    fn finish(&mut self, numbering: Numbering, rng: &mut Rng, changes: &mut Changes) {
        for side in [Side::Bid, Side::Ask] {
            while let Some(&(price, _)) = self.side(side).get(DEPTH) {
                self.set(side, price, 0, changes);
            }
        }
        let count = u64::try_from(changes.bids.len() + changes.asks.len()).unwrap_or(1).max(1);
        let hole = if numbering == Numbering::ChangesWithHoles { rng.u64(0..400) } else { 0 };
        changes.first_id = self.last_id + hole + 1;
        changes.last_id = if numbering == Numbering::Updates { changes.first_id } else { self.last_id + hole + count };
        self.last_id = changes.last_id;
    }
}

/// The direction away from the other side.
fn outwards(side: Side) -> i64 {
    if side == Side::Bid { -1 } else { 1 }
}

/// A size: mostly small, sometimes large.
pub(crate) fn lots(rng: &mut Rng) -> i64 {
    let most = 1 << rng.u32(4..15);
    rng.i64(1..most)
}

/// A size that is not `size`.
fn other_lots(size: i64, rng: &mut Rng) -> i64 {
    let new = lots(rng);
    if new == size { new + 1 } else { new }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A client's book: applies changes as the venues tell their users to.
    fn apply(side: &mut std::collections::BTreeMap<i64, i64>, changes: &[Level]) {
        for &(price, size) in changes {
            if size == 0 {
                side.remove(&price);
            } else {
                side.insert(price, size);
            }
        }
    }

    #[test]
    fn changes_on_a_snapshot_give_the_later_book() {
        for (seed, numbering) in [(1, Numbering::EachChange), (2, Numbering::ChangesWithHoles), (3, Numbering::Updates)] {
            let mut rng = Rng::with_seed(seed);
            let mut book = Book::around(10_000, 500, &mut rng);
            let (mut bids, mut asks) = (book.bids.iter().copied().collect(), book.asks.iter().copied().collect());
            let mut changes = Changes::default();
            for step in 0..20_000 {
                let (top, last) = ((book.best_bid(), book.best_ask()), book.last_id);
                if step % 2 == 0 {
                    book.stir(numbering, &mut rng, &mut changes);
                } else {
                    book.move_top(numbering, &mut rng, &mut changes);
                }
                apply(&mut bids, &changes.bids);
                apply(&mut asks, &changes.asks);
                assert!(book.bids.iter().eq(bids.iter().rev().map(|(p, s)| (*p, *s)).collect::<Vec<_>>().iter()));
                assert!(book.asks.iter().eq(asks.iter().map(|(p, s)| (*p, *s)).collect::<Vec<_>>().iter()));
                assert!(book.best_bid().unwrap().0 < book.best_ask().unwrap().0, "crossed");
                assert!(book.bids.len() <= DEPTH && book.asks.len() <= DEPTH && book.bids.last().unwrap().0 > 0);
                assert_eq!(changes.top, (book.best_bid(), book.best_ask()) != top, "the top moves when it is said to");
                assert!(changes.previous_id == last && changes.first_id > last && changes.last_id == book.last_id);
                match numbering {
                    Numbering::EachChange => assert_eq!(changes.first_id, last + 1),
                    Numbering::Updates => assert_eq!(changes.last_id, last + 1),
                    Numbering::ChangesWithHoles => {}
                }
            }
            assert_ne!(book.best_bid().unwrap().0, 9_999, "it walks");
        }
    }
}
