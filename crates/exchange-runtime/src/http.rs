//! Requests over one pooled client: bytes out, bytes in, compression.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use exchange_core::Request;
use exchange_core::profile::{Limit, Method, Profile, ResetUnit};
use reqwest::header::HeaderMap;

use crate::clock::Clock;

/// How long connecting, and a whole request, may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
const REQUEST_TIMEOUT: Duration = Duration::from_secs(15);

/// The client. Cloning shares its pool.
#[derive(Debug, Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
}

/// An answer, whatever its status.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) url: String,
    pub(crate) status: u16,
    /// `Retry-After` in seconds.
    pub(crate) retry_after: Option<u64>,
    /// What the venue says is used of the budget.
    pub(crate) used: Option<u64>,
    pub(crate) body: Bytes,
    pub(crate) took: Duration,
}

impl Http {
    /// # Errors
    /// Where the system's TLS or resolver cannot be set up.
    pub(crate) fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(REQUEST_TIMEOUT)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(90))
            .build()?;
        Ok(Self { client })
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
    /// Why there was no answer, in words.
    pub(crate) async fn send(&self, profile: &Profile, request: &Request) -> Result<Answer, String> {
        let began = Instant::now();
        let url = Self::url(profile, request);
        let mut builder = match request.method {
            Method::Get => self.client.get(&url),
            Method::Post => self.client.post(&url).header("content-type", "application/json").body(request.body.clone().unwrap_or_default()),
        };
        for (name, value) in &profile.headers {
            builder = builder.header(name, value);
        }
        let answer = async {
            let response = builder.send().await?;
            let (status, said) = (response.status().as_u16(), Said::read(response.headers(), profile.limit(&request.limit)));
            Ok((status, said, response.bytes().await?))
        };
        match answer.await {
            Ok((status, said, body)) => Ok(Answer { url, status, retry_after: said.retry_after, used: said.used, body, took: began.elapsed() }),
            Err(error) => Err(explain(&error)),
        }
    }
}

/// What the headers of an answer say about a limit.
struct Said {
    used: Option<u64>,
    retry_after: Option<u64>,
}

impl Said {
    fn read(headers: &HeaderMap, limit: Option<&Limit>) -> Self {
        let header = |name: &String| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
        let named = |name: fn(&Limit) -> &Option<String>| limit.and_then(|limit| header(name(limit).as_ref()?));
        let left = named(|limit| &limit.remaining_header);
        let used = named(|limit| &limit.used_header).or_else(|| Some(u64::from(limit?.budget).saturating_sub(left?)));
        let reset = named(|limit| &limit.reset_header).and_then(|reset| {
            Some(match limit?.reset_unit {
                ResetUnit::S => reset,
                ResetUnit::Ms => reset.div_ceil(1000),
                ResetUnit::Unix => reset.saturating_sub(u64::try_from(Clock::wall().micros() / 1_000_000).unwrap_or(0)),
            })
        });
        Self { used, retry_after: header(&"retry-after".to_owned()).or(reset) }
    }
}

/// A failure in words: what was being done, and the innermost reason.
fn explain(error: &reqwest::Error) -> String {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "cannot connect"
    } else if error.is_body() || error.is_decode() {
        "the answer broke off"
    } else {
        "the request failed"
    };
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    // The outermost text repeats the address, which the caller names.
    if error.source().is_some() { format!("{what}: {inner}") } else { what.to_owned() }
}
