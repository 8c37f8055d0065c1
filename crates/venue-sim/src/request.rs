//! What becomes of a request: a refusal, a socket, or an answer, whole or spoilt.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use axum::body::Body;
use axum::extract::{ConnectInfo, FromRequestParts, Request, State, WebSocketUpgrade};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use exchange_core::Market;

use crate::body;
use crate::faults::{BodyFault, OpeningFault, Refusal, RequestFault};
use crate::line::Hold;
use crate::play::{self, Reply, pairs, sorted};
use crate::server::App;
use crate::socket::{self, Driver, Quiet};
use crate::truth::Facts;
use crate::wire::{self, ALL, Wire};

/// A body that a client may send.
const MOST_BYTES: usize = 1 << 20;

/// Answers a request.
pub(crate) async fn handle(State(app): State<Arc<App>>, ConnectInfo(hold): ConnectInfo<Hold>, request: Request) -> Response {
    let Some((venue, market, path)) = play::named(request.uri().path()).map(|(venue, market, path)| (venue.to_owned(), market, path)) else {
        return (StatusCode::NOT_FOUND, "no venue is named").into_response();
    };
    app.count(format!("{venue}{path}"));
    if app.refusing.load(Ordering::Relaxed) {
        return (StatusCode::SERVICE_UNAVAILABLE, "nothing is answered any more").into_response();
    }
    let since = app.since();
    if let Some(outage) = app.faults.outage(&venue, &path, since).filter(|outage| outage.holds(since)) {
        if outage.hangs {
            match outage.to {
                Some(to) => tokio::time::sleep(to.saturating_sub(since)).await,
                None => std::future::pending().await,
            }
        }
        hold.cut();
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let asked = Asked { since, venue, market, path };
    let wants_socket = request.headers().get(header::UPGRADE).is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if wants_socket { open_socket(app, asked, request, hold).await } else { answer(app, asked, request).await }
}

/// What a request is about.
struct Asked {
    /// When it came, by the clock of the faults.
    since: Duration,
    venue: String,
    market: Option<Market>,
    path: String,
}

async fn open_socket(app: Arc<App>, Asked { since, venue, market, path }: Asked, request: Request, hold: Hold) -> Response {
    let mut parts = request.into_parts().0;
    let quiet = match app.faults.opening(&venue, &path, since) {
        Some(OpeningFault::Refused(refusal)) => return refuse(refusal),
        Some(OpeningFault::Latency(latency)) => {
            tokio::time::sleep(latency).await;
            None
        }
        Some(OpeningFault::OnlyPongs(after)) => Some(Quiet::OnlyPongs(after)),
        Some(OpeningFault::ZeroFrames(after)) => Some(Quiet::ZeroFrames(after)),
        None => None,
    };
    // Paths may be percent-encoded, as queries are.
    let decoded = exchange_core::exchange::query(&format!("?path={path}"), "path").map_or_else(|| path.clone(), std::borrow::Cow::into_owned);
    let Some(driver) = connect(&app, &venue, market, &decoded, &parts.uri) else { return (StatusCode::NOT_FOUND, "404 page not found").into_response() };
    match WebSocketUpgrade::from_request_parts(&mut parts, &()).await {
        Ok(upgrade) => {
            app.opened.fetch_add(1, Ordering::Relaxed);
            upgrade.on_upgrade(move |socket| socket::serve(app, venue, decoded, driver, socket, hold, quiet))
        }
        Err(refused) => refused.into_response(),
    }
}

async fn answer(app: Arc<App>, Asked { since, venue, path, .. }: Asked, request: Request) -> Response {
    let fault = match app.faults.request(&venue, &path, since) {
        Some(RequestFault::Refused(refusal)) => return refuse(refusal),
        Some(RequestFault::Latency(latency)) => {
            tokio::time::sleep(latency).await;
            None
        }
        Some(RequestFault::Body(fault)) => Some(fault),
        None => None,
    };
    if !app.latency.is_zero() {
        tokio::time::sleep(app.latency).await;
    }
    let (parts, body) = request.into_parts();
    let player = &app.source.player;
    let (status, headers, body, facts) = if player.plays(&venue) {
        let body = axum::body::to_bytes(body, MOST_BYTES).await.unwrap_or_default();
        let reply = player.answer(&venue, parts.method.as_str(), &path, sorted(&parts.uri), std::str::from_utf8(&body).unwrap_or_default());
        match reply {
            Some(Reply { status, body, lines }) => (status, Vec::new(), body, Facts::Lines(lines)),
            None => return respond(404, "application/json", Vec::new(), "{\"error\":\"nothing was captured for this request\"}"),
        }
    } else {
        let request = wire::Request { query: pairs(&parts.uri), path, wall: app.wall.now() };
        match (simulated(&app, &venue), app.world()) {
            (Some(wire), Some(mut world)) => {
                let answer = world.answer(wire, &request);
                (answer.status, answer.headers, Bytes::from(answer.body), Facts::Events(answer.events))
            }
            _ => return (StatusCode::NOT_FOUND, "this venue is not simulated").into_response(),
        }
    };
    let (kind, length) = (kind(&body), body.len());
    let Some(fault) = fault else {
        app.truth.facts(facts).await;
        return respond(status, kind, headers, body);
    };
    let is_promised_whole = !matches!(fault, BodyFault::Broken | BodyFault::Garbage(_));
    let mut response = respond(status, kind, headers, spoilt(&app, &fault, &body, facts));
    if is_promised_whole {
        response.headers_mut().insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    response
}

/// A body as a fault leaves it. Only one that comes whole in the end tells the truth its facts.
fn spoilt(app: &Arc<App>, fault: &BodyFault, body: &Bytes, facts: Facts) -> Body {
    match *fault {
        BodyFault::Broken => Body::from(body::part(body, None)),
        BodyFault::Garbage(ref noise) => Body::from(noise.instead_of(body.len())),
        BodyFault::Truncated(bytes) => body::unfinished(body::part(body, bytes), Some(Duration::ZERO)),
        BodyFault::Stalled(bytes, hold) => body::unfinished(body::part(body, bytes), hold),
        BodyFault::Drip(bytes, every) => {
            let app = app.clone();
            body::dripping(body.clone(), bytes, every, async move { app.truth.facts(facts).await })
        }
    }
}

/// The venue of that name, if it is one of those that were asked for.
fn simulated(app: &App, name: &str) -> Option<&'static dyn Wire> {
    app.world()?.venue(name)?;
    ALL.iter().copied().find(|wire| wire.name() == name)
}

/// What drives a new connection.
fn connect(app: &App, venue: &str, market: Option<Market>, path: &str, uri: &axum::http::Uri) -> Option<Driver> {
    if app.source.player.plays(venue) {
        let (number, frames) = app.source.player.connect(venue, market, path, &sorted(uri))?;
        return Some(Driver::Play(number, frames));
    }
    let wire = simulated(app, venue)?;
    Some(Driver::Market { wire, route: wire.route(path)?, query: pairs(uri) })
}

fn kind(body: &[u8]) -> &'static str {
    if body.trim_ascii_start().starts_with(b"<") { "text/html" } else { "application/json" }
}

fn refuse(refusal: Refusal) -> Response {
    let headers = refusal.retry_after.map(|seconds| ("retry-after", seconds.to_string())).into_iter().collect();
    respond(refusal.status, refusal.kind, headers, refusal.body)
}

fn respond(status: u16, kind: &'static str, headers: Vec<(&'static str, String)>, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    for (name, value) in headers {
        if let Ok(value) = HeaderValue::from_str(&value) {
            response.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    response
}
