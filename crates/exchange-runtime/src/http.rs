//! Requests over one pooled client: bytes out, bytes in, compression.

use std::error::Error as _;
use std::time::{Duration, Instant};

use bytes::Bytes;
use exchange_core::Request;
use exchange_core::profile::{Method, Profile};

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
        let host = profile.markets.get(&request.market).map_or("", |surface| surface.rest.trim_end_matches('/'));
        format!("{host}{}", request.target)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// Why there was no answer, in words.
    pub(crate) async fn send(&self, url: String, request: &Request, used_header: Option<&str>) -> Result<Answer, String> {
        let began = Instant::now();
        let builder = match request.method {
            Method::Get => self.client.get(&url),
            Method::Post => self.client.post(&url).header("content-type", "application/json").body(request.body.clone().unwrap_or_default()),
        };
        let answer = async {
            let response = builder.send().await?;
            let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok()).and_then(|value| value.trim().parse().ok());
            let (status, retry_after, used) = (response.status().as_u16(), header("retry-after"), used_header.and_then(header));
            Ok((status, retry_after, used, response.bytes().await?))
        };
        match answer.await {
            Ok((status, retry_after, used, body)) => Ok(Answer { url, status, retry_after, used, body, took: began.elapsed() }),
            Err(error) => Err(explain(&error)),
        }
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
