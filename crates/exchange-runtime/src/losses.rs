//! What was given up because there was no room for it, until it can be told.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use exchange_core::event::{Gap, GapReason, Ident};
use exchange_core::{Body, Channel, Event, Instrument, Time, canonical};

/// Since when events of a channel of an instrument were given up.
#[derive(Default)]
pub(crate) struct Losses {
    any: AtomicBool,
    since: Mutex<Since>,
}

/// By the address of the instrument's handle, which names it well enough while the handle is kept.
type Since = HashMap<(Channel, usize), (Arc<Instrument>, Time)>;

impl Losses {
    /// Whether something was given up that was not told.
    pub(crate) fn any(&self) -> bool {
        self.any.load(Ordering::Relaxed)
    }

    /// These are given up. Whether they are the first.
    pub(crate) fn note(&self, events: &[Event]) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        for event in events {
            // What is not told of a gap is one that is not told either.
            let gap = if let Body::Gap(gap) = &event.body { Some(gap.channel) } else { None };
            if let Some(channel) = event.body.channel().or(gap) {
                since.entry((channel, Arc::as_ptr(&event.instrument) as usize)).or_insert_with(|| (event.instrument.clone(), event.received));
            }
        }
        !self.any.swap(true, Ordering::Relaxed)
    }

    /// These gaps, which were taken, could not be told.
    pub(crate) fn note_again(&self, gaps: &[Event]) {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        for event in gaps {
            let Body::Gap(gap) = &event.body else { continue };
            let from = gap.from.as_ref().and_then(Ident::as_time).unwrap_or(event.received);
            let lost = since.entry((gap.channel, Arc::as_ptr(&event.instrument) as usize)).or_insert_with(|| (event.instrument.clone(), from));
            lost.1 = lost.1.min(from);
        }
        self.any.store(true, Ordering::Relaxed);
    }

    /// One gap for each channel and instrument, sealed; it is told from here on.
    pub(crate) fn take(&self, now: Time) -> Vec<Event> {
        let since = {
            let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
            self.any.store(false, Ordering::Relaxed);
            std::mem::take(&mut *since)
        };
        since
            .into_iter()
            .map(|((channel, _), (instrument, since))| {
                let gap = Gap { channel, reason: GapReason::Overflow, from: Ident::of_time(since), to: Ident::of_time(now) };
                let mut event = Event::new(instrument, now, None, Body::Gap(Box::new(gap)));
                event.id = canonical::id(&event);
                event
            })
            .collect()
    }
}
