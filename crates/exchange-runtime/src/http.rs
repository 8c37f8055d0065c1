//! Requests in a venue's words: its host, its headers, what its answers say about its limits.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exchange_core::Request;
use exchange_core::profile::{Limit, Profile, ResetUnit};
use reqwest::header::HeaderMap;
use tokio::time::Instant;

use crate::clock::Clock;
use crate::net::{Failure, HttpRequest, Net, Outside};

/// Asks venues. Cloning shares the pool of connections.
#[derive(Clone)]
pub(crate) struct Http {
    net: Arc<dyn Net>,
    clock: Clock,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) status: u16,
    /// In how many seconds the venue wants to be asked again.
    pub(crate) retry_after: Option<u64>,
    /// What the venue says is used of the budget.
    pub(crate) used: Option<u64>,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

impl Http {
    pub(crate) fn new(outside: &Outside) -> Self {
        Self { net: outside.net.clone(), clock: outside.clock }
    }

    /// The full address of a request.
    pub(crate) fn url(profile: &Profile, request: &Request) -> String {
        // A further page names its host already where the address was not under ours.
        let host = if request.target.starts_with("http") { "" } else { profile.host(request.market, &request.endpoint) };
        format!("{host}{}", request.target)
    }

    /// Sends a request to a venue.
    ///
    /// # Errors
    /// Why there was no answer.
    pub(crate) async fn send(&self, profile: &Profile, request: &Request, timeout: Duration) -> Result<Answer, Failure> {
        let began = Instant::now();
        let url = Self::url(profile, request);
        let headers = profile.headers.iter().map(|(name, value)| (name.clone(), value.clone())).collect();
        let asked = HttpRequest { method: request.method, url: url.clone(), headers, body: request.body.clone(), timeout };
        let answer = self.net.send(asked).await?;
        let said = Said::read(&answer.headers, profile.limit(&request.limit), self.clock);
        Ok(Answer { url, status: answer.status, retry_after: said.retry_after, used: said.used, body: answer.body, took: began.elapsed() })
    }
}

/// What the headers of an answer say about a limit.
struct Said {
    used: Option<u64>,
    retry_after: Option<u64>,
}

impl Said {
    fn read(headers: &HeaderMap, limit: Option<&Limit>, clock: Clock) -> Self {
        let header = |name: &String| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let named = |name: fn(&Limit) -> &Option<String>| limit.and_then(|limit| header(name(limit).as_ref()?));
        let left = named(|limit| &limit.remaining_header);
        let used = named(|limit| &limit.used_header).or_else(|| Some(u64::from(limit?.budget).saturating_sub(left?)));
        let reset = named(|limit| &limit.reset_header).and_then(|reset| {
            Some(match limit?.reset_unit {
                ResetUnit::S => reset,
                ResetUnit::Ms => reset.div_ceil(1000),
                ResetUnit::Unix => reset.saturating_sub(u64::try_from(clock.wall().micros() / 1_000_000).unwrap_or(0)),
            })
        });
        Self { used, retry_after: header(&"retry-after".to_owned()).or(reset) }
    }
}
