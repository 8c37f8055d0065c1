//! What the socket tests share: a simulation with its truth, requests and sockets to it.
#![allow(dead_code, reason = "each test file uses its own part")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::time::Duration;

use futures_util::{SinkExt as _, StreamExt as _};
use serde_json::Value;
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::{MaybeTlsStream, WebSocketStream};
use venue_sim::{Config, Handle, Summary};

/// Longer than anything here takes; a test that waits so long has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// A simulation that writes its truth.
pub(crate) struct Sim {
    pub(crate) handle: Handle,
    http: reqwest::Client,
    dir: tempfile::TempDir,
}

impl Sim {
    pub(crate) fn start(config: Config) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let truth = config.play.is_empty().then(|| dir.path().join("truth.ndjson"));
        Self::of(&Config { truth, ..config }, dir)
    }

    /// What a configuration says, and the directory in which its files are.
    pub(crate) fn of(config: &Config, dir: tempfile::TempDir) -> Self {
        Self { handle: venue_sim::start(config).unwrap(), http: reqwest::Client::new(), dir }
    }

    /// With faults.
    pub(crate) fn faulty(config: Config, faults: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let path: PathBuf = dir.path().join("faults.toml");
        std::fs::write(&path, faults).unwrap();
        Self::start(Config { faults: Some(path), ..config })
    }

    /// Status, headers, body.
    pub(crate) async fn get(&self, target: &str) -> (u16, HashMap<String, String>, String) {
        let response = self.http.get(format!("http://{}{target}", self.handle.address())).send().await.unwrap();
        let headers = response.headers().iter().map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect();
        (response.status().as_u16(), headers, response.text().await.unwrap())
    }

    /// The address of a target.
    pub(crate) fn url(&self, target: &str) -> String {
        format!("http://{}{target}", self.handle.address())
    }

    /// A body that is JSON, with status 200.
    pub(crate) async fn json(&self, target: &str) -> Value {
        let (status, _, body) = self.get(target).await;
        assert_eq!(status, 200, "{target}: {body}");
        serde_json::from_str(&body).unwrap_or_else(|error| panic!("{target}: {error} in {body}"))
    }

    pub(crate) async fn socket(&self, target: &str) -> Socket {
        let (stream, _) = tokio_tungstenite::connect_async(format!("ws://{}{target}", self.handle.address())).await.unwrap();
        Socket(stream)
    }

    /// Ends the simulation; gives its truth by id.
    pub(crate) async fn end(self) -> (Summary, HashMap<String, Value>) {
        let summary = tokio::time::timeout(PATIENCE, self.handle.shutdown()).await.unwrap().unwrap();
        let text = std::fs::read_to_string(self.dir.path().join("truth.ndjson")).unwrap_or_default();
        assert_eq!(text.lines().count() as u64, summary.truth);
        let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        (summary, lines.map(|line| (line["id"].as_str().unwrap().to_owned(), line)).collect())
    }
}

/// A client's socket.
pub(crate) struct Socket(WebSocketStream<MaybeTlsStream<TcpStream>>);

impl Socket {
    pub(crate) async fn send(&mut self, text: &str) {
        self.0.send(Message::text(text.to_owned())).await.unwrap();
    }

    /// The next text frame; `None` at the end.
    pub(crate) async fn text(&mut self) -> Option<String> {
        loop {
            match tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a frame") {
                Some(Ok(Message::Text(text))) => return Some(text.to_string()),
                Some(Ok(Message::Close(_)) | Err(_)) | None => return None,
                Some(Ok(_)) => {}
            }
        }
    }

    pub(crate) async fn json(&mut self) -> Value {
        let text = self.text().await.expect("a frame");
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error} in {text}"))
    }

    /// Frames until one answers as `done` wants.
    pub(crate) async fn until(&mut self, mut done: impl FnMut(&Value) -> bool) -> Vec<Value> {
        let mut frames = Vec::new();
        loop {
            let frame = self.json().await;
            let last = done(&frame);
            frames.push(frame);
            if last {
                return frames;
            }
        }
    }

    /// Pings, with this text.
    pub(crate) async fn ping(&mut self, text: &'static str) {
        self.0.send(Message::Ping(text.into())).await.unwrap();
    }

    /// Whether nothing at all comes for so long.
    pub(crate) async fn is_silent_for(&mut self, duration: Duration) -> bool {
        tokio::time::timeout(duration, self.0.next()).await.is_err()
    }

    /// The next message, of whatever kind.
    pub(crate) async fn message(&mut self) -> Message {
        tokio::time::timeout(PATIENCE, self.0.next()).await.expect("a message").unwrap().unwrap()
    }
}

/// Numbers as numbers: `"1.50"` is `"1.5"`.
pub(crate) fn same_number(a: &Value, b: &Value) -> bool {
    let number = |value: &Value| value.as_str().and_then(|text| text.parse::<exchange_core::Decimal>().ok());
    number(a).is_some() && number(a) == number(b)
}

/// Events of the truth, by type.
pub(crate) fn of_type<'a>(truth: &'a HashMap<String, Value>, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    truth.values().filter(move |event| event["type"] == kind)
}
