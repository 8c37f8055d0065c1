//! The way to the simulated venues: HTTP and WebSocket over pipes, in virtual time, and a log of what went over them.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use exchange_core::event::BookKind;
use exchange_core::profile::Method;
use exchange_core::{Body, Event, Time};
use exchange_runtime::{Clock, Failure, FailureKind, HttpAnswer, HttpRequest, Net, Socket, handshake, websocket_config};
use futures_util::future::BoxFuture;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use tokio_tungstenite::tungstenite::Error as WsError;
use venue_sim::Door;

/// How long a handshake may take, as over a real network.
const CONNECT: Duration = Duration::from_secs(10);

/// Where the simulated venues are.
pub(crate) const HOST: &str = "://venues.sim";

/// A request that was sent, or a socket that was opened.
#[derive(Debug, Clone)]
pub(crate) struct Sent {
    pub(crate) at: Time,
    /// The address behind the host: the venue, then the venue's own path.
    pub(crate) target: String,
    pub(crate) socket: bool,
    /// When the answer came, its status, its `Retry-After`, and what it says is used of the budget.
    pub(crate) answer: Option<Answer>,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Answer {
    pub(crate) at: Time,
    pub(crate) status: u16,
    pub(crate) retry_after: Option<u64>,
    pub(crate) used: Option<u64>,
}

impl Sent {
    pub(crate) fn venue(&self) -> &str {
        self.target.trim_start_matches('/').split('/').next().unwrap()
    }

    /// Whether it asks for the newest few records of an instrument, to know whether a silent stream is well.
    pub(crate) fn is_question(&self) -> bool {
        self.target.ends_with("&limit=5")
    }

    /// Whether an event may be a part of the answer.
    pub(crate) fn is_answered_by(&self, event: &Event) -> bool {
        let Some(answer) = self.answer else { return false };
        let named = || self.target.contains(&format!("symbol={}&", event.instrument.venue_symbol));
        let kind = match &event.body {
            Body::Book(book) => book.kind == BookKind::Snapshot,
            Body::Trade(_) => true,
            _ => false,
        };
        kind && (self.at..=answer.at).contains(&event.received) && self.venue() == &*event.instrument.venue && named()
    }
}

/// The network of a day.
pub(crate) struct SimNet {
    door: Door,
    clock: Clock,
    log: Arc<Mutex<Vec<Sent>>>,
}

impl SimNet {
    pub(crate) fn new(door: Door, clock: Clock) -> Self {
        Self { door, clock, log: Arc::default() }
    }

    /// What was sent so far.
    pub(crate) fn log(&self) -> Arc<Mutex<Vec<Sent>>> {
        self.log.clone()
    }

    /// Takes note of something sent; its place in the log.
    fn sent(&self, url: &str, socket: bool) -> (String, usize) {
        let target = url.split_once(HOST).unwrap_or_else(|| panic!("`{url}` is outside of the simulation")).1.to_owned();
        let mut log = self.log.lock().unwrap();
        log.push(Sent { at: self.clock.wall(), target: target.clone(), socket, answer: None });
        (target, log.len() - 1)
    }
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure { kind: FailureKind::Broken, message: error.to_string() }
}

fn late(_: tokio::time::error::Elapsed) -> Failure {
    Failure { kind: FailureKind::Timeout, message: "no answer in time".into() }
}

async fn exchange(stream: tokio::io::DuplexStream, target: String, request: HttpRequest) -> Result<HttpAnswer, Failure> {
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(broken)?;
    let method = if request.method == Method::Get { hyper::Method::GET } else { hyper::Method::POST };
    let mut outgoing = hyper::Request::builder().method(method).uri(target).header("host", "venues.sim");
    for (name, value) in &request.headers {
        outgoing = outgoing.header(name, value);
    }
    let outgoing = outgoing.body(Full::new(Bytes::from(request.body.unwrap_or_default()))).map_err(broken)?;
    let answer = async {
        let (parts, body) = sender.send_request(outgoing).await.map_err(broken)?.into_parts();
        let body = body.collect().await.map_err(broken)?.to_bytes();
        Ok(HttpAnswer { status: parts.status.as_u16(), headers: parts.headers, body })
    };
    // The connection's end is told to the answer, too.
    let driven = async {
        let _ended = connection.await;
        std::future::pending().await
    };
    tokio::select! {
        biased;
        answer = answer => answer,
        answer = driven => answer,
    }
}

/// Asks by the way, unseen by the collector; nothing has to come of it.
pub(crate) async fn glance(door: &Door, target: &str) {
    let request = HttpRequest { method: Method::Get, url: String::new(), headers: Vec::new(), body: None, timeout: CONNECT };
    exchange(door.dial(), target.to_owned(), request).await.unwrap();
}

impl Net for SimNet {
    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpAnswer, Failure>> {
        let (target, place) = self.sent(&request.url, false);
        let (stream, log, clock) = (self.door.dial(), self.log.clone(), self.clock);
        Box::pin(async move {
            let answer = tokio::time::timeout(request.timeout, exchange(stream, target, request)).await.map_err(late)??;
            let number = |name: &str| answer.headers.get(name)?.to_str().ok()?.parse().ok();
            let (retry_after, used) = (number("retry-after"), number("x-mbx-used-weight-1m"));
            log.lock().unwrap()[place].answer = Some(Answer { at: clock.wall(), status: answer.status, retry_after, used });
            Ok(answer)
        })
    }

    fn connect<'a>(&'a self, url: &'a str, headers: &'a [(String, String)]) -> BoxFuture<'a, Result<Box<dyn Socket>, Failure>> {
        let (_, place) = self.sent(url, true);
        Box::pin(async move {
            let opening = tokio_tungstenite::client_async_with_config(handshake(url, headers)?, self.door.dial(), Some(websocket_config()));
            let (answer, status) = match tokio::time::timeout(CONNECT, opening).await.map_err(late)? {
                Ok((socket, _)) => (Ok(Box::new(socket) as Box<dyn Socket>), 101),
                Err(WsError::Http(response)) => {
                    let status = response.status().as_u16();
                    (Err(Failure { kind: FailureKind::Status(status), message: format!("HTTP {status}") }), status)
                }
                Err(error) => return Err(broken(error)),
            };
            self.log.lock().unwrap()[place].answer = Some(Answer { at: self.clock.wall(), status, retry_after: None, used: None });
            answer
        })
    }
}
