//! One WebSocket connection: the client's frames to the market, the market's pushes to the client, in bulk.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;

use crate::faults::FrameFault;
use crate::hub::{ConnId, Frame, Item, Queue};
use crate::server::App;
use crate::wire::{Route, Wire};

/// How long captures wait for the client's first frame: some venues are told by the address what to send.
const FIRST_FRAME: Duration = Duration::from_millis(200);
/// A played venue has no more to say than was captured, but it lives.
const PLAYED_PING: Duration = Duration::from_secs(10);

/// What a connection is served from.
pub(crate) enum Driver {
    /// A seeded market.
    Market {
        /// The venue.
        wire: &'static dyn Wire,
        /// The surface.
        route: Route,
        /// Of the connection's address.
        query: Vec<(String, String)>,
    },
    /// Captured frames.
    Play(Vec<Item>),
}

/// Why a connection ends.
enum End {
    /// The client went, or its network did.
    Gone,
    /// We close, with this code.
    Close(u16),
}

/// Serves a connection to its end.
pub(crate) async fn serve(app: Arc<App>, venue: String, path: String, driver: Driver, mut socket: WebSocket) {
    app.open.fetch_add(1, Ordering::Relaxed);
    let mut conn = Conn::open(&app, &venue, &path, driver);
    let end = conn.run(&mut socket).await;
    conn.leave();
    if let End::Close(code) = end {
        let frame = CloseFrame { code, reason: Utf8Bytes::default() };
        drop(tokio::time::timeout(Duration::from_millis(500), socket.send(Message::Close(Some(frame)))).await);
    }
    app.open.fetch_sub(1, Ordering::Relaxed);
}

struct Conn<'a> {
    app: &'a Arc<App>,
    venue: &'a str,
    path: &'a str,
    queue: Arc<Queue>,
    /// The venue and the connection's place in its market.
    market: Option<(&'static dyn Wire, ConnId, Route)>,
    /// Captured frames that were not sent yet.
    captured: Vec<Item>,
    /// Frames of the client in the second that began then.
    second: (Instant, u32),
}

impl<'a> Conn<'a> {
    fn open(app: &'a Arc<App>, venue: &'a str, path: &'a str, driver: Driver) -> Self {
        let mut conn = Self { app, venue, path, queue: Arc::default(), market: None, captured: Vec::new(), second: (Instant::now(), 0) };
        match driver {
            Driver::Play(frames) => conn.captured = frames,
            Driver::Market { wire, route, query } => {
                if let Some(mut world) = app.world() {
                    let (id, queue) = world.hub.open(route);
                    (conn.queue, conn.market) = (queue, Some((wire, id, route)));
                    wire.opened(&mut world, id, path, &query);
                    world.hub.flush();
                }
            }
        }
        conn
    }

    fn leave(&self) {
        if let (Some((_, id, _)), Some(mut world)) = (self.market, self.app.world()) {
            world.close(id);
        }
        self.queue.room.notify_one();
    }

    async fn run(&mut self, socket: &mut WebSocket) -> End {
        let mut stop = self.app.stop.clone();
        let queue = self.queue.clone();
        let pings = self.market.map_or(Some(PLAYED_PING), |(wire, ..)| wire.ping_every());
        let every = pings.unwrap_or(Duration::from_hours(1));
        let mut ping = tokio::time::interval_at(tokio::time::Instant::now() + every, every);
        let begun = Instant::now();
        let mut items = Vec::new();
        loop {
            let first_frame = tokio::time::sleep(FIRST_FRAME.saturating_sub(begun.elapsed()));
            tokio::select! {
                message = socket.recv() => match message {
                    Some(Ok(message)) => if let Some(end) = self.received(&message) { return end },
                    Some(Err(_)) | None => return End::Gone,
                },
                () = queue.wake.notified() => {
                    queue.take(&mut items);
                    let sent = self.send(socket, &items);
                    if let Some(end) = cut_short(&queue, sent).await { return end }
                    queue.room.notify_one();
                }
                _ = ping.tick(), if pings.is_some() => {
                    let payload = crate::server::wall().millis().to_string();
                    if socket.send(Message::Ping(Bytes::from(payload))).await.is_err() { return End::Gone }
                }
                () = first_frame, if !self.captured.is_empty() => self.release(),
                () = crate::server::stopped(&mut stop) => {
                    queue.take(&mut items);
                    let sent = tokio::time::timeout(Duration::from_millis(500), self.send(socket, &items)).await;
                    return sent.ok().flatten().unwrap_or(End::Close(1001));
                }
            }
        }
    }

    /// Captured frames follow the client's first frame.
    fn release(&mut self) {
        self.queue.append(&mut self.captured);
    }

    fn received(&mut self, message: &Message) -> Option<End> {
        if let Message::Close(_) = message {
            return Some(End::Gone);
        }
        let Some((wire, id, route)) = self.market else {
            if matches!(message, Message::Text(_) | Message::Binary(_)) {
                self.release();
            }
            return None;
        };
        if self.second.0.elapsed() >= Duration::from_secs(1) {
            self.second = (Instant::now(), 0);
        }
        self.second.1 += 1;
        if self.app.limits && self.second.1 > wire.frames_per_second(route) {
            return Some(End::Close(1008));
        }
        if let (Message::Text(text), Some(mut world)) = (message, self.app.world()) {
            wire.frame(&mut world, id, text.as_str());
            world.hub.flush();
        }
        None
    }

    /// Sends items in bulk, with the faults that were asked for, and tells the truth of what was sent.
    async fn send(&self, socket: &mut WebSocket, items: &[Item]) -> Option<End> {
        let raw = self.market.is_some_and(|(_, _, route)| route.raw);
        let mut sent: Vec<Arc<Frame>> = Vec::new();
        let mut end = None;
        for item in items {
            let message = match item {
                Item::Push(frame) => {
                    let text = if raw { Utf8Bytes::from(frame.payload()) } else { frame.text.clone() };
                    let fault = if self.app.faults.of_frames() { self.app.faults.frame(self.venue, self.path, frame.topic()) } else { None };
                    match fault {
                        Some(FrameFault::Drop) => continue,
                        Some(FrameFault::Close(code)) => {
                            end = Some(code.map_or(End::Gone, End::Close));
                            break;
                        }
                        Some(FrameFault::Broken) => {
                            let half = (0..=text.len() / 2).rev().find(|at| text.as_str().is_char_boundary(*at)).unwrap_or(0);
                            Message::Text(text.as_str().get(..half).unwrap_or_default().into())
                        }
                        Some(FrameFault::Repeat) => {
                            if socket.feed(Message::Text(text.clone())).await.is_err() {
                                return Some(End::Gone);
                            }
                            sent.push(frame.clone());
                            Message::Text(text)
                        }
                        None => {
                            if self.app.truth.wanted() {
                                sent.push(frame.clone());
                            }
                            Message::Text(text)
                        }
                    }
                }
                Item::Answer(text) => Message::Text(text.as_str().into()),
                Item::Binary(bytes) => Message::Binary(bytes.clone()),
            };
            if socket.feed(message).await.is_err() {
                return Some(End::Gone);
            }
        }
        if socket.flush().await.is_err() {
            return Some(End::Gone);
        }
        self.app.truth.frames(sent).await;
        end
    }
}

/// Sends, unless the connection is cut off for reading too slowly.
async fn cut_short(queue: &Queue, sent: impl Future<Output = Option<End>>) -> Option<End> {
    tokio::select! {
        end = sent => end,
        () = queue.cut.notified() => Some(End::Gone),
    }
}
