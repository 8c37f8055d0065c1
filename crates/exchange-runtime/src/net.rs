//! What lies outside the collector: the network, the clock, chance. A simulation brings its own.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use exchange_core::profile::Method;
use futures_util::future::BoxFuture;
use futures_util::{Sink, Stream};
use reqwest::header::HeaderMap;
use tokio_tungstenite::tungstenite::client::IntoClientRequest as _;
use tokio_tungstenite::tungstenite::http::{HeaderName, HeaderValue};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use tokio_tungstenite::tungstenite::{Error as WsError, Message};

use crate::clock::Clock;

/// How long opening a connection may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The read buffer is zeroed before each read: larger costs time, smaller costs system calls.
const READ_BUFFER: usize = 16 << 10;

/// The surroundings of a collector.
#[derive(Clone)]
pub struct Outside {
    /// The way to the venues.
    pub net: Arc<dyn Net>,
    /// The time.
    pub clock: Clock,
    /// What everything that is left to chance begins with: two collectors that lose the same venue shall not come
    /// back in step.
    pub seed: u64,
}

impl Outside {
    /// The real ones.
    ///
    /// # Errors
    /// Where the system's TLS or resolver cannot be set up.
    pub fn real() -> Result<Self, reqwest::Error> {
        Ok(Self { net: Arc::new(RealNet::new()?), clock: Clock::system(), seed: fastrand::u64(..) })
    }
}

/// A request as it goes out.
#[derive(Debug, Clone)]
pub struct HttpRequest {
    /// The verb.
    pub method: Method,
    /// The full address.
    pub url: String,
    /// Headers besides those that every request has.
    pub headers: Vec<(String, String)>,
    /// The body of a POST, as JSON.
    pub body: Option<String>,
    /// How long the whole of it may take.
    pub timeout: Duration,
}

/// An answer as it came in, whatever its status.
#[derive(Debug, Clone)]
pub struct HttpAnswer {
    /// The status.
    pub status: u16,
    /// The headers.
    pub headers: HeaderMap,
    /// The body, decompressed.
    pub body: Bytes,
}

/// Why there is no answer, or no connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub kind: FailureKind,
    /// What was being done, and the innermost reason.
    pub message: String,
}

/// What failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum FailureKind {
    /// The host's name could not be resolved.
    Dns,
    /// Nobody listens there.
    Refused,
    /// The host could not be reached in another way.
    Unreachable,
    /// The connection could not be made secure.
    Tls,
    /// It took too long.
    Timeout,
    /// The connection broke off.
    Broken,
    /// The venue answered the handshake with another status than 101.
    Status(u16),
}

impl FailureKind {
    /// All words for metrics.
    pub(crate) const ALL: [&str; 7] = ["dns", "refused", "unreachable", "tls", "timeout", "broken", "status"];

    /// A word for metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Dns => "dns",
            Self::Refused => "refused",
            Self::Unreachable => "unreachable",
            Self::Tls => "tls",
            Self::Timeout => "timeout",
            Self::Broken => "broken",
            Self::Status(_) => "status",
        }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

/// An open WebSocket.
pub trait Socket: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin {}

impl<S: Stream<Item = Result<Message, WsError>> + Sink<Message, Error = WsError> + Send + Unpin> Socket for S {}

/// The way to the venues.
pub trait Net: Send + Sync {
    /// Sends a request and waits for the whole answer.
    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpAnswer, Failure>>;

    /// Opens a WebSocket.
    fn connect<'a>(&'a self, url: &'a str, headers: &'a [(String, String)]) -> BoxFuture<'a, Result<Box<dyn Socket>, Failure>>;
}

/// How the runtime's connections are set up.
pub fn websocket_config() -> WebSocketConfig {
    WebSocketConfig::default().read_buffer_size(READ_BUFFER)
}

/// The request that opens a WebSocket.
///
/// # Errors
/// What is wrong with the address or a header.
pub fn handshake(url: &str, headers: &[(String, String)]) -> Result<tokio_tungstenite::tungstenite::handshake::client::Request, Failure> {
    let fault = |message: String| Failure { kind: FailureKind::Unreachable, message };
    let mut request = url.into_client_request().map_err(|error| fault(format!("cannot connect: {error}")))?;
    for (name, value) in headers {
        let parsed = name.parse::<HeaderName>().ok().zip(value.parse::<HeaderValue>().ok());
        let (name, value) = parsed.ok_or_else(|| fault(format!("`{name}: {value}` is no header")))?;
        request.headers_mut().insert(name, value);
    }
    Ok(request)
}

/// TCP and TLS, through one pooled HTTP client.
#[derive(Debug, Clone)]
struct RealNet {
    client: reqwest::Client,
}

impl RealNet {
    fn new() -> Result<Self, reqwest::Error> {
        let client = reqwest::Client::builder()
            .user_agent(concat!("collector/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(CONNECT_TIMEOUT)
            .tcp_nodelay(true)
            .pool_idle_timeout(Duration::from_secs(90))
            .build()?;
        Ok(Self { client })
    }
}

impl Net for RealNet {
    fn send(&self, request: HttpRequest) -> BoxFuture<'static, Result<HttpAnswer, Failure>> {
        let HttpRequest { method, url, headers, body, timeout } = request;
        let mut builder = match method {
            Method::Get => self.client.get(url),
            Method::Post => self.client.post(url).header("content-type", "application/json").body(body.unwrap_or_default()),
        };
        for (name, value) in headers {
            builder = builder.header(name, value);
        }
        Box::pin(async move {
            let answer = async {
                let mut response = builder.timeout(timeout).send().await?;
                let (status, headers) = (response.status().as_u16(), std::mem::take(response.headers_mut()));
                Ok(HttpAnswer { status, headers, body: response.bytes().await? })
            };
            answer.await.map_err(|error: reqwest::Error| explain(&error))
        })
    }

    fn connect<'a>(&'a self, url: &'a str, headers: &'a [(String, String)]) -> BoxFuture<'a, Result<Box<dyn Socket>, Failure>> {
        Box::pin(async move {
            let request = handshake(url, headers)?;
            let connecting = tokio_tungstenite::connect_async_with_config(request, Some(websocket_config()), true);
            match tokio::time::timeout(2 * CONNECT_TIMEOUT, connecting).await {
                Ok(Ok((socket, _))) => Ok(Box::new(socket) as Box<dyn Socket>),
                Ok(Err(WsError::Http(response))) => {
                    let status = response.status();
                    Err(Failure { kind: FailureKind::Status(status.as_u16()), message: format!("cannot connect: HTTP {status}") })
                }
                Ok(Err(error)) => Err(Failure { kind: kind_of(&error), message: format!("cannot connect: {error}") }),
                Err(_) => Err(Failure { kind: FailureKind::Timeout, message: "no connection in time".into() }),
            }
        })
    }
}

/// A failure in words: what was being done, and the innermost reason.
fn explain(error: &reqwest::Error) -> Failure {
    let (kind, what) = if error.is_timeout() {
        (FailureKind::Timeout, "no answer in time")
    } else if error.is_connect() {
        (kind_of(error), "cannot connect")
    } else if error.is_body() || error.is_decode() {
        (FailureKind::Broken, "the answer broke off")
    } else {
        (FailureKind::Broken, "the request failed")
    };
    let innermost = causes(error).last().map_or_else(String::new, ToString::to_string);
    // The outermost text repeats the address, which the caller names.
    let message = if std::error::Error::source(error).is_some() { format!("{what}: {innermost}") } else { what.to_owned() };
    Failure { kind, message }
}

/// An error and what caused it, outermost first.
fn causes<'e>(error: &'e (dyn std::error::Error + 'static)) -> impl Iterator<Item = &'e (dyn std::error::Error + 'static)> {
    std::iter::successors(Some(error), |error| error.source())
}

/// Why a connection could not be opened.
fn kind_of(error: &(dyn std::error::Error + 'static)) -> FailureKind {
    causes(error).find_map(kind_of_one).unwrap_or(FailureKind::Unreachable)
}

/// What an error by itself says, or what the system's error type wraps: that is not among its causes.
fn kind_of_one(cause: &(dyn std::error::Error + 'static)) -> Option<FailureKind> {
    if cause.downcast_ref::<rustls::Error>().is_some() || matches!(cause.downcast_ref::<WsError>(), Some(WsError::Tls(_))) {
        return Some(FailureKind::Tls);
    }
    let io = cause.downcast_ref::<std::io::Error>();
    if let Some(wrapped) = io.and_then(std::io::Error::get_ref)
        && let Some(kind) = kind_of_one(wrapped)
    {
        return Some(kind);
    }
    match io.map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => return Some(FailureKind::Refused),
        Some(std::io::ErrorKind::TimedOut) => return Some(FailureKind::Timeout),
        Some(std::io::ErrorKind::ConnectionReset | std::io::ErrorKind::UnexpectedEof | std::io::ErrorKind::BrokenPipe) => return Some(FailureKind::Broken),
        _ => {}
    }
    // Neither the system's resolver nor those who wrap its error have a type for it.
    let text = cause.to_string();
    (text.contains("dns error") || text.contains("failed to lookup address")).then_some(FailureKind::Dns)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn failed(url: &str) -> (FailureKind, FailureKind) {
        let net = RealNet::new().unwrap();
        let request = HttpRequest { method: Method::Get, url: format!("http{url}"), headers: Vec::new(), body: None, timeout: Duration::from_millis(500) };
        let by_http = net.send(request).await.unwrap_err().kind;
        let by_socket = net.connect(&format!("ws{url}"), &[]).await.err().unwrap().kind;
        (by_http, by_socket)
    }

    #[tokio::test]
    async fn failures_to_connect_are_told_apart() {
        let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        assert_eq!(failed(&format!("://{free}/")).await, (FailureKind::Refused, FailureKind::Refused));
        assert_eq!(failed("://nobody.invalid/").await, (FailureKind::Dns, FailureKind::Dns));
        // Whoever answers a greeting in plain text has no TLS.
        let plain = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = plain.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut stream, _) = plain.accept().unwrap();
                std::io::Write::write_all(&mut stream, b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n").unwrap();
            }
        });
        assert_eq!(failed(&format!("s://{address}/")).await, (FailureKind::Tls, FailureKind::Tls));
        server.join().unwrap();
    }
}
