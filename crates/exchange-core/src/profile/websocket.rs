//! How a venue's `WebSockets` want to be treated.

use std::time::Duration;

use serde::Deserialize;

use super::{Limit, duration};

/// How a venue's `WebSockets` want to be treated.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WsPolicy {
    /// What the client sends to keep the connection open; without it, only the venue's pings are answered.
    pub ping: Option<Ping>,
    /// Text frames to begin with, before any subscription, worded as a ping's text.
    #[serde(default)]
    pub hello: Vec<String>,
    /// Topics in one subscribe frame.
    pub topics_per_frame: usize,
    /// Topics of one connection.
    pub topics_per_connection: usize,
    /// Frames that a client may send, pings included.
    pub frames: Limit,
    /// Connections that a client may open.
    pub connects: Limit,
    /// After how long the venue closes a connection.
    #[serde(default, with = "duration::optional")]
    pub life: Option<Duration>,
    /// A connection on which nothing at all arrives for so long is dead.
    #[serde(with = "duration")]
    pub silence: Duration,
}

/// What differs on one surface; what is not named is the venue's.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
#[expect(missing_docs, reason = "as in `WsPolicy`")]
pub struct WsOverride {
    pub ping: Option<Ping>,
    pub hello: Option<Vec<String>>,
    pub topics_per_frame: Option<usize>,
    pub topics_per_connection: Option<usize>,
    pub frames: Option<Limit>,
    pub connects: Option<Limit>,
    #[serde(default, with = "duration::optional")]
    pub life: Option<Duration>,
    #[serde(default, with = "duration::optional")]
    pub silence: Option<Duration>,
}

impl WsPolicy {
    /// This, but for what a surface wants otherwise.
    #[must_use]
    pub(super) fn with(&self, other: &WsOverride) -> Self {
        let WsOverride { ping, hello, topics_per_frame, topics_per_connection, frames, connects, life, silence } = other.clone();
        Self {
            ping: ping.or_else(|| self.ping.clone()),
            hello: hello.unwrap_or_else(|| self.hello.clone()),
            topics_per_frame: topics_per_frame.unwrap_or(self.topics_per_frame),
            topics_per_connection: topics_per_connection.unwrap_or(self.topics_per_connection),
            frames: frames.unwrap_or_else(|| self.frames.clone()),
            connects: connects.unwrap_or_else(|| self.connects.clone()),
            life: life.or(self.life),
            silence: silence.unwrap_or(self.silence),
        }
    }
}

/// A client's ping.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ping {
    /// How often.
    #[serde(with = "duration")]
    pub every: Duration,
    /// The text frame, with `{time}` (Unix seconds) and the surface's variables; a protocol ping without it.
    pub text: Option<String>,
}
