//! Who listens to what, and what waits to be sent to them.
//!
//! A push is rendered once, and shared by all who subscribed to its topic. It waits in the connection's queue, which
//! the connection's own task empties in bulk; the market waits for a queue that is too long, so nothing is dropped.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::ws::Utf8Bytes;
use exchange_core::Event;
use tokio::sync::Notify;

use crate::faults::Faults;
use crate::truth::Lines;
use crate::wire::Route;

/// The most topics that a venue has for one instrument.
pub(crate) const SLOTS: usize = 12;

/// A connection.
pub(crate) type ConnId = usize;

/// Topics that are not one instrument's, as the venue numbers them.
pub(crate) type ArrayTopic = (usize, u8);

/// A push, rendered once.
#[derive(Debug)]
pub(crate) struct Frame {
    pub(crate) text: Utf8Bytes,
    /// Where the payload begins behind its envelope, and ends before the envelope's last brace; 0 without an envelope.
    pub(crate) payload_at: usize,
    /// What it says, as events.
    pub(crate) events: Vec<Event>,
    /// The same of a captured one.
    pub(crate) lines: Option<Lines>,
    /// Whether its events are in the truth already: by another connection.
    pub(crate) told: AtomicBool,
}

impl Frame {
    pub(crate) fn new(text: String, payload_at: usize, events: Vec<Event>) -> Arc<Self> {
        Arc::new(Self { text: text.into(), payload_at, events, lines: None, told: AtomicBool::new(false) })
    }

    /// One that was captured.
    pub(crate) fn captured(text: &str, lines: Lines) -> Arc<Self> {
        Arc::new(Self { text: text.into(), payload_at: 0, events: Vec::new(), lines: Some(lines), told: AtomicBool::new(false) })
    }

    /// The text without its envelope.
    pub(crate) fn payload(&self) -> &str {
        let text = self.text.as_str();
        if self.payload_at == 0 { text } else { text.get(self.payload_at..text.len() - 1).unwrap_or(text) }
    }

    /// The topic, which stands at the beginning of every envelope.
    pub(crate) fn topic(&self) -> &str {
        self.text.as_str().split('"').nth(3).unwrap_or_default()
    }
}

/// Something to send.
#[derive(Debug, Clone)]
pub(crate) enum Item {
    /// A push.
    Push(Arc<Frame>),
    /// An answer to the client.
    Answer(String),
    /// A captured binary frame, and what it says.
    Binary(bytes::Bytes, Lines),
}

/// What waits for one connection.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    items: Mutex<Vec<Item>>,
    /// Something came.
    pub(crate) wake: Notify,
    /// Something was sent.
    pub(crate) room: Notify,
    /// The client does not keep up: the connection ends.
    pub(crate) cut: Notify,
}

impl Queue {
    fn items(&self) -> std::sync::MutexGuard<'_, Vec<Item>> {
        self.items.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes everything that waits.
    pub(crate) fn take(&self, into: &mut Vec<Item>) {
        into.clear();
        std::mem::swap(into, &mut *self.items());
    }

    /// How much waits.
    pub(crate) fn len(&self) -> usize {
        self.items().len()
    }

    /// Appends, and wakes the connection.
    pub(crate) fn append(&self, items: &mut Vec<Item>) {
        self.items().append(items);
        self.wake.notify_one();
    }
}

/// One connection.
#[derive(Debug)]
pub(crate) struct Conn {
    pub(crate) queue: Arc<Queue>,
    pub(crate) route: Route,
    /// Names that it subscribed to, served or silent, and the topics behind them.
    pub(crate) names: BTreeMap<String, Vec<Target>>,
    /// The venue, and the path that it was opened at.
    place: (String, String),
    pending: Vec<Item>,
}

/// What a subscription attaches to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Target {
    /// An instrument and the venue's number of the topic.
    Inst(usize, usize),
    /// A topic of many instruments.
    Array(ArrayTopic),
}

/// A subscription that is acknowledged and not served.
#[derive(Debug)]
struct Silenced {
    id: ConnId,
    name: String,
    until: Option<Duration>,
}

/// All connections.
#[derive(Debug)]
pub(crate) struct Hub {
    conns: Vec<Option<Conn>>,
    topics: Vec<[Vec<ConnId>; SLOTS]>,
    arrays: BTreeMap<ArrayTopic, Vec<ConnId>>,
    /// Connections with something pending.
    touched: BTreeSet<ConnId>,
    /// Whether anybody wants events.
    pub(crate) telling: bool,
    /// Pushes handed to connections.
    pub(crate) served: u64,
    faults: Arc<Faults>,
    /// How long ago the start was.
    since: Duration,
    silenced: Vec<Silenced>,
}

impl Hub {
    pub(crate) fn new(instruments: usize, telling: bool, faults: Arc<Faults>) -> Self {
        Self {
            conns: Vec::new(),
            topics: (0..instruments).map(|_| Default::default()).collect(),
            arrays: BTreeMap::new(),
            touched: BTreeSet::new(),
            telling,
            served: 0,
            faults,
            since: Duration::ZERO,
            silenced: Vec::new(),
        }
    }

    /// So long ago was the start: what was silent until then is served from now on.
    pub(crate) fn at(&mut self, since: Duration) {
        self.since = since;
        while let Some(over) = self.silenced.iter().position(|silenced| silenced.until.is_some_and(|until| since >= until)) {
            let Silenced { id, name, .. } = self.silenced.swap_remove(over);
            let targets = self.conn(id).and_then(|conn| conn.names.get(&name)).cloned().unwrap_or_default();
            self.listen(id, targets);
        }
    }

    pub(crate) fn open(&mut self, route: Route, venue: &str, path: &str) -> (ConnId, Arc<Queue>) {
        let queue = Arc::new(Queue::default());
        let conn = Conn { queue: queue.clone(), route, names: BTreeMap::new(), place: (venue.into(), path.into()), pending: Vec::new() };
        let free = self.conns.iter().position(Option::is_none);
        let id = free.unwrap_or(self.conns.len());
        match free.and_then(|free| self.conns.get_mut(free)) {
            Some(slot) => *slot = Some(conn),
            None => self.conns.push(Some(conn)),
        }
        (id, queue)
    }

    pub(crate) fn close(&mut self, id: ConnId) {
        let names: Vec<String> = self.conn(id).map(|conn| conn.names.keys().cloned().collect()).unwrap_or_default();
        for name in names {
            self.unsubscribe(id, &name);
        }
        self.touched.remove(&id);
        if let Some(slot) = self.conns.get_mut(id) {
            *slot = None;
        }
    }

    pub(crate) fn conn(&self, id: ConnId) -> Option<&Conn> {
        self.conns.get(id)?.as_ref()
    }

    /// Names that are subscribed to, by the connection.
    pub(crate) fn names(&self) -> impl Iterator<Item = &str> {
        self.conns.iter().flatten().flat_map(|conn| conn.names.keys().map(String::as_str))
    }

    /// Queues of all connections.
    pub(crate) fn queues(&self) -> impl Iterator<Item = (ConnId, &Arc<Queue>)> {
        self.conns.iter().enumerate().filter_map(|(id, conn)| Some((id, &conn.as_ref()?.queue)))
    }

    fn listeners(&mut self, target: Target) -> Option<&mut Vec<ConnId>> {
        match target {
            Target::Inst(inst, slot) => self.topics.get_mut(inst)?.get_mut(slot),
            Target::Array(topic) => Some(self.arrays.entry(topic).or_default()),
        }
    }

    /// Subscribes; `false` if nothing is to be pushed for it: that name is subscribed to already, or is to be silent.
    pub(crate) fn subscribe(&mut self, id: ConnId, name: &str, targets: Vec<Target>) -> bool {
        let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) else { return false };
        if conn.names.contains_key(name) {
            return false;
        }
        conn.names.insert(name.into(), targets.clone());
        let (venue, path) = &conn.place;
        if let Some(silence) = self.faults.subscription(venue, path, name, self.since) {
            self.silenced.push(Silenced { id, name: name.into(), until: silence.until });
            return false;
        }
        self.listen(id, targets);
        true
    }

    fn listen(&mut self, id: ConnId, targets: Vec<Target>) {
        for target in targets {
            if let Some(listeners) = self.listeners(target) {
                listeners.push(id);
            }
        }
    }

    /// Unsubscribes; `false` if that name was not subscribed to.
    pub(crate) fn unsubscribe(&mut self, id: ConnId, name: &str) -> bool {
        let Some(targets) = self.conns.get_mut(id).and_then(Option::as_mut).and_then(|conn| conn.names.remove(name)) else { return false };
        self.silenced.retain(|silenced| silenced.id != id || silenced.name != name);
        for target in targets {
            let Some(listeners) = self.listeners(target) else { continue };
            if let Some(at) = listeners.iter().position(|listener| *listener == id) {
                listeners.swap_remove(at);
            }
        }
        true
    }

    /// Whether anybody listens.
    #[inline]
    pub(crate) fn hears(&self, inst: usize, slot: usize) -> bool {
        self.topics.get(inst).and_then(|slots| slots.get(slot)).is_some_and(|listeners| !listeners.is_empty())
    }

    /// Whether anybody listens.
    pub(crate) fn hears_array(&self, topic: ArrayTopic) -> bool {
        self.arrays.get(&topic).is_some_and(|listeners| !listeners.is_empty())
    }

    /// Hands a push to all who listen.
    #[inline]
    pub(crate) fn push(&mut self, inst: usize, slot: usize, frame: &Arc<Frame>) {
        let Some(listeners) = self.topics.get(inst).and_then(|slots| slots.get(slot)) else { return };
        hand(&mut self.conns, &mut self.touched, listeners, frame);
        self.served += listeners.len() as u64;
    }

    /// Hands a push to all who listen.
    pub(crate) fn push_array(&mut self, topic: ArrayTopic, frame: &Arc<Frame>) {
        let Some(listeners) = self.arrays.get(&topic) else { return };
        hand(&mut self.conns, &mut self.touched, listeners, frame);
        self.served += listeners.len() as u64;
    }

    /// Hands something to one connection.
    pub(crate) fn send(&mut self, id: ConnId, item: Item) {
        if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) {
            self.served += u64::from(matches!(item, Item::Push(_)));
            conn.pending.push(item);
            self.touched.insert(id);
        }
    }

    /// Passes on what was handed to connections since the last call.
    pub(crate) fn flush(&mut self) {
        while let Some(id) = self.touched.pop_first() {
            if let Some(conn) = self.conns.get_mut(id).and_then(Option::as_mut) {
                conn.queue.append(&mut conn.pending);
            }
        }
    }
}

fn hand(conns: &mut [Option<Conn>], touched: &mut BTreeSet<ConnId>, listeners: &[ConnId], frame: &Arc<Frame>) {
    for &id in listeners {
        if let Some(conn) = conns.get_mut(id).and_then(Option::as_mut) {
            if conn.pending.is_empty() {
                touched.insert(id);
            }
            conn.pending.push(Item::Push(frame.clone()));
        }
    }
}

/// Marks the events of pushes as told; the rest is those that were not.
pub(crate) fn untold(items: &mut Vec<Arc<Frame>>) {
    items.retain(|frame| (frame.lines.is_some() || !frame.events.is_empty()) && !frame.told.swap(true, Ordering::Relaxed));
}
