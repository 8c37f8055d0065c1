//! A bounded window of ids.

use hashbrown::HashSet;

use crate::event::EventId;

/// How many ids a pipeline remembers at least: as many as a table of 65,536 places takes. A few more would take twice the memory.
const WINDOW: usize = 7 << 13;
/// The bytes of an id.
const BYTES: usize = 16;

/// The ids that were seen last: a given number of them at least, and twice as many at most.
#[derive(Debug)]
pub struct Seen {
    window: usize,
    current: HashSet<EventId, IdHasher>,
    previous: HashSet<EventId, IdHasher>,
}

impl Default for Seen {
    /// The window of a pipeline.
    fn default() -> Self {
        Self::new(WINDOW)
    }
}

/// An id is a hash already.
#[derive(Debug, Default, Clone, Copy)]
struct IdHasher(u64);

impl std::hash::BuildHasher for IdHasher {
    type Hasher = Self;
    fn build_hasher(&self) -> Self {
        Self(0)
    }
}

impl std::hash::Hasher for IdHasher {
    fn write(&mut self, bytes: &[u8]) {
        if let Some(first) = bytes.first_chunk() {
            self.0 = u64::from_le_bytes(*first);
        }
    }
    // The length that goes before an array's bytes says nothing.
    fn write_usize(&mut self, _: usize) {}
    fn finish(&self) -> u64 {
        self.0
    }
}

impl Seen {
    /// A window of so many ids.
    pub fn new(window: usize) -> Self {
        Self { window, current: HashSet::default(), previous: HashSet::default() }
    }

    /// Whether the id is new.
    #[inline]
    pub fn insert(&mut self, id: EventId) -> bool {
        if self.previous.contains(&id) || !self.current.insert(id) {
            return false;
        }
        if self.current.len() >= self.window {
            std::mem::swap(&mut self.current, &mut self.previous);
            self.current.clear();
        }
        true
    }

    /// The id is as new as if it had never been seen.
    pub(super) fn remove(&mut self, id: EventId) {
        self.current.remove(&id);
        self.previous.remove(&id);
    }

    /// How many ids are known, older and newer ones.
    pub(super) fn len(&self) -> (usize, usize) {
        (self.previous.len(), self.current.len())
    }

    /// Appends all ids, the older ones first.
    pub(super) fn write(&self, out: &mut Vec<u8>) {
        out.reserve((self.previous.len() + self.current.len()) * BYTES);
        for id in self.previous.iter().chain(&self.current) {
            out.extend_from_slice(&id.0);
        }
    }

    /// Reads what [`Seen::write`] wrote of so many ids of a pipeline's window; `None` where the bytes are not those of so many.
    pub(super) fn read(bytes: &[u8], (older, newer): (usize, usize)) -> Option<Self> {
        let (ids, rest) = bytes.as_chunks::<BYTES>();
        if !rest.is_empty() || older.checked_add(newer)? != ids.len() || older.max(newer) > WINDOW {
            return None;
        }
        let (older, newer) = ids.split_at_checked(older)?;
        let all = |ids: &[[u8; BYTES]]| ids.iter().copied().map(EventId).collect();
        Some(Self { window: WINDOW, current: all(newer), previous: all(older) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(number: u64) -> EventId {
        let mut id = [0; BYTES];
        id[..8].copy_from_slice(&number.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
        EventId(id)
    }

    #[test]
    fn the_window_of_ids_is_bounded_and_holds_what_it_says() {
        for window in [1, 100, WINDOW] {
            let mut seen = Seen::new(window);
            let last = window as u64 - 1;
            for n in 0..4 * window as u64 {
                assert!(seen.insert(id(n)));
                assert!(!seen.insert(id(n)));
                assert!(n < last || !seen.insert(id(n - last)), "the last {window} are remembered");
                assert!(seen.current.len() + seen.previous.len() <= 2 * window);
            }
            assert!(seen.insert(id(0)), "what was long ago is forgotten");
        }
    }

    #[test]
    fn it_is_read_as_it_was_written() {
        let mut seen = Seen::default();
        for n in 0..WINDOW as u64 + 100 {
            seen.insert(id(n));
        }
        seen.remove(id(7));
        let mut bytes = Vec::new();
        seen.write(&mut bytes);
        let mut read = Seen::read(&bytes, seen.len()).unwrap();
        assert_eq!(read.len(), (WINDOW - 1, 100));
        for n in 0..WINDOW as u64 + 101 {
            assert_eq!(read.insert(id(n)), n == 7 || n == WINDOW as u64 + 100, "{n}");
        }
        for (bytes, lengths) in [(&bytes[1..], seen.len()), (&bytes, (1, 2)), (&bytes[..], (usize::MAX, 1))] {
            assert!(Seen::read(bytes, lengths).is_none());
        }
    }
}
