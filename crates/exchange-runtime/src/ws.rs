//! The driver of a connection: bytes between a socket and a [`Session`], which decides everything.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use exchange_core::capture::Capture;
use exchange_core::circuit::BackOff;
use exchange_core::feed::{Query, Turn};
use exchange_core::liveness::Rhythms;
use exchange_core::session::{Answer, Close, Happened};
use exchange_core::{Channel, Event, Instrument, Market, Session, Topic};
use futures_util::{FutureExt as _, SinkExt as _, StreamExt as _};
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::Instant;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::net::Socket;
use crate::shared::{Numbers, Shared, stopped};

/// Pauses between attempts to connect.
const RECONNECT: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(20));
/// A connection that lasted so long was a good one: the next pause is the first again.
const STABLE: Duration = Duration::from_mins(1);
/// Frames that are decoded before their events go on: enough to hash side by side, few enough not to wait.
const FRAMES_PER_BATCH: usize = 256;

/// What a connection wants asked by HTTP.
pub(crate) struct Ask {
    pub(crate) query: Query,
    pub(crate) answer: mpsc::UnboundedSender<Answered>,
}

/// What became of it.
pub(crate) struct Answered {
    pub(crate) channel: Channel,
    pub(crate) instrument: Arc<Instrument>,
    /// Whether a book's snapshot was wanted.
    pub(crate) is_snapshot: bool,
    pub(crate) answer: Answer,
}

/// One connection, over all its reconnects.
pub(crate) struct Connection {
    pub(crate) shared: Arc<Shared>,
    pub(crate) market: Market,
    pub(crate) url: String,
    /// What it carries, as it is now. When the other end is gone, so is what this connection is for.
    pub(crate) topics: watch::Receiver<Vec<Arc<Topic>>>,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) asks: mpsc::UnboundedSender<Ask>,
    pub(crate) stop: watch::Receiver<bool>,
    pub(crate) seed: u64,
    /// How often its streams spoke before the last reconnect.
    pub(crate) rhythms: Mutex<Rhythms>,
}

/// What two connections of which one relieves the other tell each other.
#[derive(Default)]
struct Post {
    /// The venue's time limit is near.
    due: Notify,
    /// The other one may end.
    ready: Notify,
    /// The other one is ready: this one ends.
    relieved: Notify,
    /// The other one has ended, and this is what it knew.
    before: Mutex<Option<Session>>,
    over: Notify,
}

/// Why a connection ended.
enum End {
    /// Another one carries its topics.
    Relieved,
    /// Everything ends.
    Stopped,
    /// Nothing that it carried is wanted any more.
    Retired,
    /// The session asked for it.
    Closed(Close),
    /// It broke, or the venue closed it.
    Broken(String),
}

impl Connection {
    /// Keeps the connection up until the end.
    pub(crate) async fn run(mut self) {
        let mut pauses = BackOff::new(RECONNECT.0, RECONNECT.1, self.seed, Instant::now().into_std());
        let problem = format!("{} {}", self.market, self.url);
        let reconnects = metrics::counter!("collector_reconnects_total", "venue" => self.shared.name().to_owned());
        loop {
            if !self.may_connect().await {
                return;
            }
            let topics = self.topics.borrow().clone();
            self.shared.resume(&topics).await;
            let began = Instant::now();
            let end = match self.connect().await {
                Ok(socket) => {
                    self.shared.problem(&problem, None);
                    self.shared.health().connections += 1;
                    let end = self.serve_in_turns(socket).await;
                    self.shared.health().connections -= 1;
                    end
                }
                Err(error) => End::Broken(error),
            };
            if began.elapsed() >= STABLE {
                pauses.reset();
            }
            let why = match end {
                End::Stopped | End::Relieved | End::Retired => return,
                // A planned reconnect is no fault, and does not wait.
                End::Closed(Close::Expected) => {
                    pauses.reset();
                    continue;
                }
                End::Closed(Close::Silent) => "nothing arrived for too long".to_owned(),
                End::Closed(Close::Stale) => "nothing arrives of what was subscribed to".to_owned(),
                End::Broken(why) => why,
            };
            reconnects.increment(1);
            let pause = pauses.next_pause();
            tracing::warn!(venue = self.shared.name(), url = self.url, "connection lost, next attempt in {:.1} s: {why}", pause.as_secs_f64());
            self.shared.problem(&problem, Some(why));
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = stopped(&mut self.stop) => return,
                () = retired(self.topics.clone()) => {
                    self.shared.problem(&problem, None);
                    return;
                }
            }
        }
    }

    /// Waits until the venue allows another connection; `false` if that is not needed any more.
    async fn may_connect(&self) -> bool {
        let mut stop = self.stop.clone();
        loop {
            if *self.stop.borrow() || self.topics.has_changed().is_err() {
                return false;
            }
            let Err(at) = self.shared.limits.connect(self.market, &self.url) else { return true };
            tokio::select! {
                () = tokio::time::sleep(self.shared.clock.until(at)) => {}
                () = stopped(&mut stop) => return false,
            }
        }
    }

    async fn connect(&self) -> Result<Box<dyn Socket>, String> {
        let mut stop = self.stop.clone();
        let headers: Vec<(String, String)> = self.shared.venue.profile.headers.clone().into_iter().collect();
        let failed = tokio::select! {
            biased;
            () = stopped(&mut stop) => return Err("stopped".to_owned()),
            connected = self.shared.outside.net.connect(&self.url, &headers) => match connected {
                Ok(socket) => return Ok(socket),
                Err(failure) => failure,
            },
        };
        let labels = [("venue", self.shared.name().to_owned()), ("reason", failed.kind.as_str().to_owned())];
        metrics::counter!("collector_connect_failures_total", &labels).increment(1);
        Err(failed.message)
    }

    /// Serves a connection and, before the venue's time limit ends it, opens the next one, which carries the same topics
    /// before this one ends: nothing is missed between them, and what both bring goes out once.
    async fn serve_in_turns(&self, socket: Box<dyn Socket>) -> End {
        let mut post = Arc::new(Post::default());
        let mut serving = Box::pin(self.serve(socket, post.clone(), false));
        loop {
            tokio::select! {
                biased;
                end = &mut serving => return end,
                () = post.due.notified() => {}
            }
            let next = Arc::new(Post::default());
            let open = async {
                loop {
                    if !self.may_connect().await {
                        return None;
                    }
                    match self.connect().await {
                        Ok(socket) => return Some(socket),
                        Err(why) => tracing::warn!(venue = self.shared.name(), url = self.url, "the next connection cannot be opened yet: {why}"),
                    }
                    tokio::time::sleep(RECONNECT.1).await;
                }
            };
            let opened = tokio::select! {
                biased;
                end = &mut serving => return end,
                opened = open => opened,
            };
            let Some(socket) = opened else { return serving.await };
            let mut relieving = Box::pin(self.serve(socket, next.clone(), true));
            tokio::select! {
                biased;
                end = &mut serving => {
                    if matches!(end, End::Stopped | End::Retired) {
                        return relieving.await;
                    }
                    // It broke before it was relieved: its gaps are told, and the next one goes on.
                }
                // The next one broke: another is opened when this one ends.
                _ = &mut relieving => return serving.await,
                () = next.ready.notified() => {
                    post.relieved.notify_one();
                    serving.await;
                }
            }
            *next.before.lock().unwrap_or_else(PoisonError::into_inner) = post.before.lock().unwrap_or_else(PoisonError::into_inner).take();
            next.over.notify_one();
            (post, serving) = (next, relieving);
        }
    }

    /// Serves a connection to its end. One that `relieves` another takes its topics over once it has all of them.
    async fn serve(&self, mut socket: Box<dyn Socket>, post: Arc<Post>, relieves: bool) -> End {
        let mut topics = self.topics.clone();
        let wanted = topics.borrow_and_update().clone();
        let conn = self.numbers.next();
        let chance = (self.seed ^ conn, Instant::now().into_std());
        let mut session = Session::new(self.shared.venue.clone(), self.market, &self.url, wanted, chance);
        session.remember(&self.rhythms.lock().unwrap_or_else(PoisonError::into_inner));
        if relieves {
            session.relieve();
        }
        let (mut due_told, mut ready_told) = (false, !relieves);
        let mut stop = self.stop.clone();
        let source = format!("ws {}", self.url);
        let mut turn = Turn::default();
        let (answer, mut answers) = mpsc::unbounded_channel();
        let mut told = (0, 0);
        let mut served = false;
        session.handle(self.shared.clock.now(), Happened::Opened { received: self.shared.clock.wall() }, &mut turn);
        let end = loop {
            if let Err(error) = self.carry_out(&mut turn, &mut socket, &answer).await {
                break End::Broken(error.to_string());
            }
            if let Some(close) = session.close() {
                break End::Closed(close);
            }
            told = self.tell_silence(&session, told);
            if session.is_served() && !served {
                self.shared.served(&session.topics());
            }
            served = session.is_served();
            if session.wants_relief() && !due_told {
                due_told = true;
                post.due.notify_one();
            }
            if !ready_told && session.can_take_over() {
                ready_told = true;
                post.ready.notify_one();
            }
            let wake = self.shared.clock.until(session.wake_at());
            tokio::select! {
                biased;
                () = stopped(&mut stop) => break End::Stopped,
                () = post.relieved.notified() => break End::Relieved,
                () = post.over.notified() => {
                    let before = post.before.lock().unwrap_or_else(PoisonError::into_inner).take();
                    session.take_over(self.shared.clock.now(), before.as_ref(), &mut turn);
                    // If the other one broke, its gaps have been told since: what they are about is served here.
                    served = false;
                }
                changed = topics.changed() => {
                    if changed.is_err() {
                        break End::Retired;
                    }
                    let wanted = topics.borrow_and_update().clone();
                    self.shared.resume(&wanted).await;
                    session.want(self.shared.clock.now(), wanted, &mut turn);
                }
                message = socket.next() => {
                    let broken = self.receive(&mut session, message, &mut socket, conn, &source, &mut turn);
                    // A connection that is never idle still has its pings to send.
                    let now = self.shared.clock.now();
                    if session.wake_at() <= now {
                        session.handle(now, Happened::Woken, &mut turn);
                    }
                    if let Some(why) = broken {
                        self.shared.deliver(&mut turn.events, None).await;
                        break End::Broken(why);
                    }
                }
                Some(Answered { channel, instrument, is_snapshot, answer }) = answers.recv() => {
                    session.answered(self.shared.clock.now(), channel, &instrument, is_snapshot, answer);
                }
                () = tokio::time::sleep(wake) => session.handle(self.shared.clock.now(), Happened::Woken, &mut turn),
            }
        };
        self.part_with(session, &end, &post).await;
        // The venue has at most a moment to say good-bye, too.
        let _closed = tokio::time::timeout(Duration::from_millis(100), socket.close()).await;
        end
    }

    /// Makes known how many topics are silent though they should not be, and how many were begun anew for that. `told` is
    /// what was made known before, and what is now comes back.
    fn tell_silence(&self, session: &Session, told: (usize, u64)) -> (usize, u64) {
        let now = (session.stale(), session.healed());
        if now != told {
            metrics::counter!("collector_resubscriptions_total", "venue" => self.shared.name().to_owned()).increment(now.1 - told.1);
            let why = (now.0 > 0).then(|| format!("{} of its topics are silent and were begun anew", now.0));
            self.shared.problem(&self.silence(), why);
        }
        now
    }

    /// What silent topics are called in the venue's health.
    fn silence(&self) -> String {
        format!("{} {} topics", self.market, self.url)
    }

    /// Keeps of a session that has ended what the next one is to know, and tells what is missed from here on.
    async fn part_with(&self, session: Session, end: &End, post: &Post) {
        *self.rhythms.lock().unwrap_or_else(PoisonError::into_inner) = session.rhythms();
        // What was silent is lost now, which is said elsewhere.
        self.shared.problem(&self.silence(), None);
        if matches!(end, End::Relieved) {
            *post.before.lock().unwrap_or_else(PoisonError::into_inner) = Some(session);
        } else if !matches!(end, End::Stopped | End::Retired) {
            let mut gaps: Vec<Event> = Vec::new();
            session.lost(self.shared.clock.wall(), &mut gaps);
            self.shared.deliver(&mut gaps, None).await;
        }
    }

    /// Takes a message, and those that have arrived already. Why the connection broke, if it did.
    fn receive(
        &self,
        session: &mut Session,
        message: Option<Result<Message, WsError>>,
        socket: &mut Box<dyn Socket>,
        conn: u64,
        source: &str,
        turn: &mut Turn,
    ) -> Option<String> {
        let mut next = message;
        for taken in 1.. {
            match next {
                Some(Ok(message)) => self.take(session, &message, conn, source, turn),
                Some(Err(error)) => return Some(error.to_string()),
                None => return Some("the venue closed the connection".to_owned()),
            }
            if taken == FRAMES_PER_BATCH {
                break;
            }
            next = socket.next().now_or_never()?;
        }
        None
    }

    #[inline]
    fn take(&self, session: &mut Session, message: &Message, conn: u64, source: &str, turn: &mut Turn) {
        let payload: &[u8] = match message {
            Message::Text(text) => text.as_bytes(),
            Message::Binary(bytes) => bytes,
            _ => return session.handle(self.shared.clock.now(), Happened::Pulse, turn),
        };
        let received = self.shared.clock.wall();
        session.handle(self.shared.clock.now(), Happened::Frame { received, payload }, turn);
        if let Some(tap) = &self.shared.tap {
            tap.take(Capture {
                received,
                venue: self.shared.name().to_owned(),
                market: Some(self.market),
                conn: Some(conn),
                source: source.to_owned(),
                request: None,
                status: None,
                payload: payload.to_vec(),
            });
        }
    }

    async fn carry_out(&self, turn: &mut Turn, socket: &mut Box<dyn Socket>, answer: &mpsc::UnboundedSender<Answered>) -> Result<(), WsError> {
        for query in turn.ask.drain(..) {
            // The actor outlives its connections; when it ends, so does everything.
            drop(self.asks.send(Ask { query, answer: answer.clone() }));
        }
        if !turn.send.is_empty() {
            for frame in turn.send.drain(..) {
                socket.feed(if frame.is_empty() { Message::Ping(bytes::Bytes::new()) } else { Message::text(frame) }).await?;
            }
            socket.flush().await?;
        }
        self.shared.deliver(&mut turn.events, None).await;
        Ok(())
    }
}

/// Waits until nothing that a connection carries is wanted any more.
async fn retired(mut topics: watch::Receiver<Vec<Arc<Topic>>>) {
    while topics.changed().await.is_ok() {}
}
