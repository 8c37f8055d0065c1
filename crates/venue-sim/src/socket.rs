//! One WebSocket connection: the client's frames to the market, the market's pushes to the client, in bulk.

use std::collections::{BTreeMap, VecDeque};
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, Utf8Bytes, WebSocket};
use bytes::Bytes;
use futures_util::SinkExt as _;
use tokio::time::Instant;

use crate::faults::FrameFault;
use crate::hub::{ConnId, Frame, Item, Queue};
use crate::line::Hold;
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
    /// Captured frames, and the number of their connection.
    Play(usize, VecDeque<Item>),
}

/// A connection on which less comes than was asked for, after so long.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Quiet {
    /// No data.
    OnlyPongs(Duration),
    /// Nothing at all.
    ZeroFrames(Duration),
}

/// What becomes of a connection at a time that is known from the beginning.
#[derive(Debug, Clone, Copy)]
enum Change {
    /// It carries no data any more.
    NoData,
    /// It carries nothing any more.
    Mute,
    /// It ends, without a word.
    End,
}

/// Why a connection ends.
enum End {
    /// The client went, or its network did.
    Gone,
    /// We close, with this code.
    Close(u16),
}

/// Serves a connection to its end.
pub(crate) async fn serve(app: Arc<App>, venue: String, path: String, driver: Driver, mut socket: WebSocket, hold: Hold, quiet: Option<Quiet>) {
    app.open.fetch_add(1, Ordering::Relaxed);
    let mut conn = Conn::open(&app, &venue, &path, driver, hold, quiet);
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
    /// The number of the captured connection, if there is one, and its frames that were not sent yet.
    captured: (usize, VecDeque<Item>),
    /// When the next of them is due.
    due: Instant,
    /// Whether any was sent.
    playing: bool,
    /// Frames of the client in the second that began then.
    second: (Instant, u32),
    hold: Hold,
    /// So long after the start, in order.
    changes: VecDeque<(Duration, Change)>,
    /// Whether no data, and nothing at all, is carried any more.
    no_data: bool,
    mute: bool,
    /// Frames that wait for the next one of their topic.
    held: BTreeMap<String, Arc<Frame>>,
}

impl<'a> Conn<'a> {
    fn open(app: &'a Arc<App>, venue: &'a str, path: &'a str, driver: Driver, hold: Hold, quiet: Option<Quiet>) -> Self {
        let mut conn = Self {
            app,
            venue,
            path,
            queue: Arc::default(),
            market: None,
            captured: (0, VecDeque::new()),
            due: Instant::now() + FIRST_FRAME,
            playing: false,
            second: (Instant::now(), 0),
            hold,
            changes: changes(app, venue, path, quiet),
            no_data: false,
            mute: false,
            held: BTreeMap::new(),
        };
        match driver {
            Driver::Play(number, frames) => conn.captured = (number, frames),
            Driver::Market { wire, route, query } => {
                if let Some(mut world) = app.world() {
                    let (id, queue) = world.hub.open(route, venue, path);
                    (conn.queue, conn.market) = (queue, Some((wire, id, route)));
                    world.opened(wire, id, path, &query);
                }
            }
        }
        conn
    }

    fn leave(&mut self) {
        if let (Some((_, id, _)), Some(mut world)) = (self.market, self.app.world()) {
            world.close(id);
        }
        if let (number, left @ [_, ..]) = (self.captured.0, self.captured.1.make_contiguous()) {
            self.app.give_back(number, left);
        }
        self.queue.room.notify_one();
    }

    async fn run(&mut self, socket: &mut WebSocket) -> End {
        let mut stop = self.app.stop.clone();
        let queue = self.queue.clone();
        let pings = self.market.map_or(Some(PLAYED_PING), |(wire, ..)| wire.ping_every());
        let every = pings.unwrap_or(Duration::from_hours(1));
        let mut ping = tokio::time::interval_at(Instant::now() + every, every);
        let mut items = Vec::new();
        loop {
            // Before anything is read: a connection that is to be mute shall not answer first.
            while self.changes.front().is_some_and(|(at, _)| *at <= self.app.since()) {
                if let Some(end) = self.change() {
                    return end;
                }
            }
            let change = self.changes.front().map_or(Duration::MAX, |(at, _)| *at);
            let change = tokio::time::sleep(change.saturating_sub(self.app.since()));
            // In this order, so that the same seed gives the same day; what is rarest comes first.
            tokio::select! {
                biased;
                () = change, if !self.changes.is_empty() => {}
                () = crate::server::stopped(&mut stop) => {
                    if self.mute { return End::Gone }
                    queue.take(&mut items);
                    let sent = tokio::time::timeout(Duration::from_millis(500), self.send(socket, &items)).await;
                    return sent.ok().flatten().unwrap_or(End::Close(1001));
                }
                _ = ping.tick(), if pings.is_some() && !self.mute => {
                    let payload = self.app.wall.now().millis().to_string();
                    if socket.send(Message::Ping(Bytes::from(payload))).await.is_err() { return End::Gone }
                }
                () = tokio::time::sleep_until(self.due), if !self.captured.1.is_empty() => self.release(),
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
            }
        }
    }

    /// What was to come comes.
    fn change(&mut self) -> Option<End> {
        match self.changes.pop_front()?.1 {
            Change::NoData => self.no_data = true,
            Change::Mute => {
                self.mute = true;
                self.hold.mute();
            }
            Change::End => return Some(End::Gone),
        }
        None
    }

    /// Captured frames follow the client's first frame, all at once or one after the other.
    fn release(&mut self) {
        self.playing = true;
        let captured = &mut self.captured.1;
        let now = if self.app.pace.is_zero() { captured.len() } else { captured.len().min(1) };
        self.queue.append(&mut captured.drain(..now).collect());
        self.due = Instant::now() + self.app.pace;
    }

    fn received(&mut self, message: &Message) -> Option<End> {
        if let Message::Close(_) = message {
            return Some(End::Gone);
        }
        if self.mute {
            return None;
        }
        let Some((wire, id, route)) = self.market else {
            if matches!(message, Message::Text(_) | Message::Binary(_)) && !self.playing {
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
            world.frame(wire, id, text.as_str());
        }
        None
    }

    /// Sends items in bulk, with the faults that were asked for, and tells the truth of what was sent.
    async fn send(&mut self, socket: &mut WebSocket, items: &[Item]) -> Option<End> {
        if self.mute {
            return None;
        }
        let since = self.app.since();
        let (mut sent, mut captured) = (Vec::new(), Vec::new());
        let mut messages = Vec::new();
        let mut end = None;
        for item in items {
            match item {
                Item::Push(_) | Item::Binary(..) if self.no_data => {}
                Item::Push(frame) => {
                    end = self.push(frame, since, &mut messages, &mut sent);
                    if end.is_some() {
                        break;
                    }
                }
                Item::Answer(text) => messages.push(Message::Text(text.as_str().into())),
                Item::Binary(bytes, lines) => {
                    messages.push(Message::Binary(bytes.clone()));
                    captured.push(lines.clone());
                }
            }
        }
        for message in messages {
            if socket.feed(message).await.is_err() {
                return Some(End::Gone);
            }
        }
        if socket.flush().await.is_err() {
            return Some(End::Gone);
        }
        self.app.truth.frames(sent).await;
        self.app.truth.lines(captured).await;
        end
    }

    /// What is sent for a push, and which pushes that is.
    fn push(&mut self, frame: &Arc<Frame>, since: Duration, messages: &mut Vec<Message>, sent: &mut Vec<Arc<Frame>>) -> Option<End> {
        let raw = self.market.is_some_and(|(_, _, route)| route.raw);
        let text = |frame: &Frame| if raw { Utf8Bytes::from(frame.payload()) } else { frame.text.clone() };
        let mut whole = |frame: &Arc<Frame>| {
            messages.push(Message::Text(text(frame)));
            if self.app.truth.wanted() {
                sent.push(frame.clone());
            }
        };
        if !self.app.faults.of_frames() {
            whole(frame);
            return None;
        }
        match self.app.faults.frame(self.venue, self.path, frame.topic(), since) {
            Some(FrameFault::Drop) => {}
            Some(FrameFault::Close(code)) => return Some(code.map_or(End::Gone, End::Close)),
            Some(FrameFault::Broken) => {
                let text = text(frame);
                let half = (0..=text.len() / 2).rev().find(|at| text.as_str().is_char_boundary(*at)).unwrap_or(0);
                messages.push(Message::Text(text.as_str().get(..half).unwrap_or_default().into()));
            }
            Some(FrameFault::Garbage(noise)) => {
                let length = text(frame).len();
                messages.push(match noise.text_instead_of(length) {
                    Some(text) => Message::Text(text.into()),
                    None => Message::Binary(noise.instead_of(length).into()),
                });
            }
            Some(FrameFault::Reorder) if !self.held.contains_key(frame.topic()) => drop(self.held.insert(frame.topic().into(), frame.clone())),
            fault => {
                whole(frame);
                if fault == Some(FrameFault::Repeat) {
                    whole(frame);
                }
                if let Some(earlier) = self.held.remove(frame.topic()) {
                    whole(&earlier);
                }
            }
        }
        None
    }
}

/// What becomes of a connection that is opened now, and when.
fn changes(app: &App, venue: &str, path: &str, quiet: Option<Quiet>) -> VecDeque<(Duration, Change)> {
    let since = app.since();
    let mut changes = Vec::new();
    match quiet {
        Some(Quiet::OnlyPongs(after)) => changes.push((since + after, Change::NoData)),
        Some(Quiet::ZeroFrames(after)) => changes.push((since + after, Change::Mute)),
        None => {}
    }
    if let Some(outage) = app.faults.outage(venue, path, since) {
        if outage.hangs {
            changes.push((outage.from, Change::Mute));
            changes.extend(outage.to.map(|to| (to, Change::End)));
        } else {
            changes.push((outage.from, Change::End));
        }
    }
    changes.sort_by_key(|(at, _)| *at);
    changes.into()
}

/// Sends, unless the connection is cut off for reading too slowly.
async fn cut_short(queue: &Queue, sent: impl Future<Output = Option<End>>) -> Option<End> {
    tokio::select! {
        biased;
        end = sent => end,
        () = queue.cut.notified() => Some(End::Gone),
    }
}
