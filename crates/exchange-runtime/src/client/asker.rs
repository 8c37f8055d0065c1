//! Asking a venue by HTTP on a caller's behalf: within the budgets, patiently where that helps, to the last page.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use exchange_core::budget::Class;
use exchange_core::circuit::BackOff;
use exchange_core::error::{Reaction, Refusal};
use exchange_core::feed::{Reply, Turn};
use exchange_core::{ErrorKind, Event, Feed, Request, Sealer, Time, Venue};

use super::error::ClientError;
use crate::clock::Clock;
use crate::http::Http;
use crate::limits::Limits;
use crate::net::Outside;

/// How long a request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);
/// How often a request is tried.
const ATTEMPTS: u32 = 4;
/// Pauses between attempts.
const RETRY: (Duration, Duration) = (Duration::from_millis(250), Duration::from_secs(5));
/// A venue that wants to be left alone for longer is left alone: its caller is told instead of kept waiting.
const PATIENCE: Duration = Duration::from_mins(1);
/// No list has so many pages. (Bybit's longest has three.)
const MOST_PAGES: usize = 100;

/// Asks one venue.
pub(super) struct Asker {
    venue: Venue,
    http: Http,
    clock: Clock,
    limits: Limits,
    /// Until when which limit or host is not to be asked, and why: longer than a caller should be kept waiting.
    shut: Mutex<BTreeMap<String, (Time, Refusal)>>,
}

impl Asker {
    pub(super) fn new(venue: Venue, outside: &Outside, limits: Limits) -> Self {
        Self { venue, http: Http::new(outside), clock: outside.clock, limits, shut: Mutex::default() }
    }

    /// The events of an answer, all its pages together, sealed.
    pub(super) async fn ask(&self, request: Request) -> Result<Vec<Event>, ClientError> {
        let mut feed = Feed::new(self.venue.clone(), request.market);
        let mut events = Vec::new();
        let mut waiting = VecDeque::from([request]);
        let mut pages = 0;
        while let Some(request) = waiting.pop_front() {
            pages += 1;
            if pages > MOST_PAGES {
                return Err(ClientError::malformed(self.name(), format!("there is no end to the pages of {}", request.endpoint)));
            }
            let turn = self.ask_page(&mut feed, &request).await?;
            events.extend(turn.events);
            waiting.extend(turn.fetch);
        }
        Sealer::default().seal(&mut events);
        Ok(events)
    }

    /// The wall clock's time.
    pub(super) fn now(&self) -> Time {
        self.clock.wall()
    }

    fn name(&self) -> &str {
        &self.venue.profile.name
    }

    /// One answer. What may pass by itself is tried again.
    async fn ask_page(&self, feed: &mut Feed, request: &Request) -> Result<Turn, ClientError> {
        let mut pauses = BackOff::new(RETRY.0, RETRY.1, fastrand::u64(..), Instant::now());
        let mut attempts = 0;
        loop {
            self.wait_for_room(request).await?;
            let mut turn = Turn::default();
            let Err(refusal) = self.send(feed, request, &mut turn).await else { return Ok(turn) };
            attempts += 1;
            let pause = self.react(request, &refusal, &mut pauses).filter(|_| attempts < ATTEMPTS);
            let Some(pause) = pause else { return Err(ClientError::refused(self.name(), &refusal)) };
            tracing::debug!(venue = self.name(), endpoint = request.endpoint, "trying again in {:.1} s: {refusal}", pause.as_secs_f64());
            tokio::time::sleep(pause).await;
        }
    }

    async fn send(&self, feed: &mut Feed, request: &Request, turn: &mut Turn) -> Result<(), Refusal> {
        let profile = &self.venue.profile;
        let request = &request.at(self.clock.wall());
        let answer = self.http.send(profile, request, REQUEST_TIMEOUT).await;
        let answer = answer.map_err(|failure| Refusal { kind: ErrorKind::Transient, message: failure.message, until: None })?;
        if answer.used.is_some() {
            self.limits.used(&request.limit, answer.used);
        }
        let reply = Reply {
            method: request.method,
            url: &answer.url,
            request: request.body.as_deref(),
            status: answer.status,
            retry_after: answer.retry_after,
            payload: &answer.body,
            memo: None,
        };
        let replied = feed.reply(self.clock.wall(), &reply, turn);
        for said in turn.allowances.drain(..) {
            self.limits.learn(self.venue.exchange, &said);
        }
        replied
    }

    /// Waits until the budget has room for a request, whose cost is spent then. A venue that wants to be left alone is
    /// not asked at all.
    async fn wait_for_room(&self, request: &Request) -> Result<(), ClientError> {
        loop {
            if let Some(refusal) = self.shut(request) {
                return Err(ClientError::refused(self.name(), &refusal));
            }
            let Err(at) = self.limits.spend(request, Class::Rest) else { return Ok(()) };
            if self.shut(request).is_none() {
                tokio::time::sleep(self.clock.until(at)).await;
            }
        }
    }

    /// Why a request is not made now, nor soon.
    fn shut(&self, request: &Request) -> Option<Refusal> {
        let host = self.limits.host_of(request);
        let now = self.clock.now();
        let known = {
            let shut = self.shut.lock().unwrap_or_else(PoisonError::into_inner);
            [&host, &request.limit].into_iter().find_map(|name| shut.get(name).filter(|(until, _)| now < *until).map(|(_, refusal)| refusal.clone()))
        };
        known.or_else(|| {
            // Another process was told so, or an earlier one.
            let until = self.limits.banned_until(request).filter(|until| until.since(self.clock.wall()) > PATIENCE)?;
            Some(Refusal { kind: ErrorKind::Banned, message: format!("{host} wants to be left alone"), until: Some(until) })
        })
    }

    /// Does what the one table of reactions says; how long to wait before the next attempt, if another one may help.
    fn react(&self, request: &Request, refusal: &Refusal, pauses: &mut BackOff) -> Option<Duration> {
        let wall = self.clock.wall();
        let pause = |default: Duration| refusal.until.map_or(default, |until| until.since(wall));
        let (name, pause, until) = match refusal.kind.reaction() {
            Reaction::BackOff => return Some(pauses.next_pause()),
            Reaction::Wait(default) => (request.limit.clone(), pause(default), self.limits.block(&request.limit, pause(default))),
            Reaction::Sleep(default) => (self.limits.host_of(request), pause(default), self.limits.ban(request, pause(default))),
            Reaction::Stop | Reaction::Drop | Reaction::GoOn => return None,
        };
        if pause > PATIENCE {
            let refusal = Refusal { until: Some(wall + pause), ..refusal.clone() };
            self.shut.lock().unwrap_or_else(PoisonError::into_inner).insert(name, (until, refusal));
        }
        // The blocked budget is what makes the next attempt wait.
        (pause <= PATIENCE).then_some(Duration::ZERO)
    }
}
