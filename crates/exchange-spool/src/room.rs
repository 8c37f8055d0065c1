//! Room: at the size that was set, or when the disk is full, the oldest segment goes.
//!
//! What is lost with it is found by going over its headers. That is done beforehand where room is scarce, by a thread of its
//! own, and never while the journal is held: who appends does not wait for it, unless the disk was filled up suddenly.

use std::fs::File;
use std::sync::{Arc, PoisonError};
use std::thread;

use crate::loss::{Losses, Stock};
use crate::segment::Segment;
use crate::spool::Shared;

/// Who makes room, one at a time.
#[derive(Debug, Default)]
pub(crate) struct Room {
    /// What the segment holds that goes next.
    stock: Option<Stock>,
    /// Whether the disk was full once: it may be again, whatever size was set.
    was_full: bool,
}

impl Shared {
    /// Lets the oldest segment go, unless another has done so since it began with the number `seen`. `false` if none may go.
    pub(crate) fn make_room(&self, seen: Option<u64>, is_full: bool) -> bool {
        let mut room = self.room.lock().unwrap_or_else(PoisonError::into_inner);
        room.was_full |= is_full;
        if self.lock().oldest() != seen {
            return true;
        }
        let Some((oldest, is_unread)) = self.lock().first_to_go() else { return false };
        if is_unread {
            room.look_over(oldest.clone());
        }
        let mut inner = self.lock();
        // It may have been read to its end meanwhile.
        let Some((_, is_unread)) = inner.first_to_go().filter(|(first, _)| first.first == oldest.first) else { return true };
        inner.segments.pop_front();
        let lost = match room.stock.take().filter(|stock| is_unread && stock.is_of(oldest.first)) {
            Some(stock) => {
                inner.lose(&stock);
                Some(inner.losses.text())
            }
            None => None,
        };
        let directory = inner.directory.clone();
        drop(inner);
        let save = |text: &String| Losses::save(&directory, text);
        // Where there is no room for it, there is when the segment has gone.
        let unsaved = lost.filter(|text| save(text).is_err());
        // A reader may have it open: cut, it takes no room all the same.
        let _ = File::options().write(true).open(&oldest.path).and_then(|file| file.set_len(0));
        oldest.delete();
        self.lock().gone(&oldest);
        if let Some(Err(error)) = unsaved.as_ref().map(save) {
            tracing::warn!(%error, "cannot keep what is known of lost batches; it is known until the end of this run");
        }
        true
    }

    /// A segment was begun: where room is scarce, the oldest is looked over before it has to go.
    pub(crate) fn look_ahead(self: &Arc<Self>) {
        let (shared, room) = (Arc::downgrade(self), self.room.clone());
        let look = move || {
            let mut room = room.lock().unwrap_or_else(PoisonError::into_inner);
            // Whoever ends the journal does not wait for this.
            let oldest = shared.upgrade().and_then(|shared| shared.scarce(room.was_full));
            if let Some(oldest) = oldest {
                room.look_over(oldest);
            }
        };
        // Without it, somebody waits.
        let _ = thread::Builder::new().name("journal room".to_owned()).spawn(look);
    }

    /// The segment that is about to go unread.
    fn scarce(&self, was_full: bool) -> Option<Segment> {
        let mut inner = self.lock();
        let is_scarce = was_full || inner.bytes.saturating_add(2 * self.options.most()) > self.options.max_bytes;
        let goes = inner.segments.len() > 1 && is_scarce;
        goes.then(|| inner.first_to_go()).flatten().and_then(|(oldest, is_unread)| is_unread.then_some(oldest))
    }
}

impl Room {
    fn look_over(&mut self, segment: Segment) {
        if self.stock.as_ref().is_some_and(|stock| stock.is_of(segment.first)) {
            return;
        }
        let path = segment.path.clone();
        self.stock = match Stock::take(segment) {
            Ok(stock) => Some(stock),
            Err(error) => {
                tracing::error!(file = %path.display(), %error, "cannot say what is lost with this segment");
                None
            }
        };
    }
}

#[cfg(test)]
mod tests {
    use std::future::Future as _;
    use std::task::{Context, Waker};

    use exchange_core::event::{Ident, Quote};
    use exchange_core::{Batch, Body, Event, Instrument, Market, Time};

    use super::*;
    use crate::{Options, Read, Spool, Sync};

    fn batch(number: u64) -> Batch {
        let instrument = Arc::new(Instrument::named(&"bybit".into(), Market::Linear, "BTCUSDT", None));
        let quote = Quote { seq: Some(Ident::Number(number)), ..Quote::default() };
        Batch::new(vec![Event::new(instrument, Time::from_micros(number.cast_signed()), None, Body::Quote(quote))])
    }

    #[test]
    fn while_a_segment_is_looked_over_others_append_and_read() {
        let place = tempfile::tempdir().unwrap();
        let options = Options { segment_bytes: 2000, max_bytes: 20_000, sync: Sync::Never };
        let spool = Spool::open(place.path(), options).unwrap().spool;
        let mut reader = spool.reader("a").unwrap();
        // As long as there is room, nobody asks who makes it.
        let room = spool.shared.room.lock().unwrap();
        let many = (0..1000).take_while(|number| spool.append(batch(*number)).is_ok() && spool.shared.lock().bytes < 19_000).count() as u64 + 1;
        assert!((0..many).all(|number| matches!(reader.next(), Some(Read::Batch(found)) if found.events() == batch(number).events())));
        drop(room);
        // It was scarce when the last segments were begun: what goes next is known before it goes.
        let is_known = || spool.shared.room.lock().unwrap().stock.as_ref().is_some_and(|stock| stock.is_of(1));
        while !is_known() {
            thread::yield_now();
        }
        for number in many..2 * many {
            spool.append(batch(number)).unwrap();
        }
        assert!(spool.shared.lock().oldest() > Some(1) && reader.next().is_some());
    }

    #[test]
    fn what_is_put_is_read_once_it_is_settled_and_blocks_nobody() {
        let place = tempfile::tempdir().unwrap();
        let spool = Spool::open(place.path(), Options { sync: Sync::Always, ..Options::default() }).unwrap().spool;
        let mut reader = spool.reader("a").unwrap();
        // The disk takes its time.
        let disk = spool.shared.synced.lock().unwrap();
        let put: Vec<Arc<Batch>> = (0..5).map(|number| spool.put(batch(number)).unwrap()).collect();
        let mut settled = std::pin::pin!(spool.settled(spool.last()));
        let waits = settled.as_mut().poll(&mut Context::from_waker(Waker::noop())).is_pending();
        assert!(waits && reader.next().is_none(), "nothing is handed on that a power cut would take");
        drop(disk);
        tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(settled);
        for batch in put {
            assert!(matches!(reader.next(), Some(Read::Batch(found)) if Arc::ptr_eq(&found, &batch)), "in order");
        }
        assert!(reader.next().is_none());
    }
}
