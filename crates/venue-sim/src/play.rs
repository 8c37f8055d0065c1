//! Captures, served as they were captured: a simulated venue without a line of code about it.
//!
//! A request is answered with what was captured for the same method, path, query (in any order) and body, the times in
//! them aside, else for the same path; in captured order, the last one again and again. A socket opened at a captured path gets that path's
//! frames in order, one captured connection for each that is opened; once there are no more, it stays open and silent.

use std::collections::HashMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::http::Uri;
use bytes::Bytes;
use exchange_core::Market;
use exchange_core::capture::{Capture, CaptureSource};

use crate::config::Error;
use crate::hub::{Frame, Item};

/// One captured answer.
pub(crate) type Reply = (u16, Bytes);

/// Decoded pairs of a query, in order.
type Query = Vec<(String, String)>;
/// What tells requests of one path apart: their queries and bodies, without times.
type Question = (Query, String);
/// What one connection was captured under: venue, market, address, number.
type Connection = (String, Option<Market>, String, Option<u64>);
/// Venue, method, path.
type Place = (String, String, String);

/// Answers in captured order, and how many of them were given.
#[derive(Debug, Default)]
struct Replies {
    list: Vec<Reply>,
    given: usize,
}

impl Replies {
    fn next(&mut self) -> Option<Reply> {
        let reply = self.list.get(self.given.min(self.list.len().checked_sub(1)?)).cloned();
        self.given += 1;
        reply
    }
}

/// What was captured of one connection.
#[derive(Debug)]
struct Session {
    venue: String,
    path: String,
    query: Query,
    frames: Vec<Item>,
    taken: bool,
}

/// All that was captured.
#[derive(Debug, Default)]
pub(crate) struct Player {
    exact: Mutex<HashMap<(Place, Question), Replies>>,
    by_path: Mutex<HashMap<Place, Replies>>,
    sessions: Mutex<Vec<Session>>,
    venues: Vec<String>,
}

/// A query's value or a body without the times in it: nobody asks twice for what happened since the same moment.
fn timeless(text: &str) -> String {
    let parts = text.split_inclusive(|c: char| !c.is_ascii_digit());
    parts
        .map(|part| if part.bytes().take_while(u8::is_ascii_digit).count() < 10 { part } else { part.trim_start_matches(|c: char| c.is_ascii_digit()) })
        .collect()
}

fn question(query: Query, body: &str) -> Question {
    (query.into_iter().map(|(key, value)| (key, timeless(&value))).collect(), timeless(body))
}

/// Path and sorted, decoded query of an address. What was captured from a simulator stands under the venue's name there,
/// and here.
fn place(venue: &str, url: &str) -> Option<(String, Query)> {
    let uri: Uri = url.parse().ok()?;
    let own = uri.path().strip_prefix('/').and_then(|path| path.strip_prefix(venue)).filter(|path| path.starts_with('/'));
    Some((own.unwrap_or(uri.path()).to_owned(), sorted(&uri)))
}

/// The pairs of a query, decoded, in order.
pub(crate) fn sorted(uri: &Uri) -> Query {
    let mut pairs = pairs(uri);
    pairs.sort();
    pairs
}

/// The pairs of a query, decoded.
pub(crate) fn pairs(uri: &Uri) -> Query {
    axum::extract::Query::<Query>::try_from_uri(uri).map(|query| query.0).unwrap_or_default()
}

impl Player {
    /// Reads files of captures; those that end in `.zst` are decompressed.
    pub(crate) fn load(files: &[PathBuf]) -> Result<Self, Error> {
        let mut player = Self::default();
        let mut connections = HashMap::new();
        for path in files {
            player.read(path, &mut connections)?;
        }
        Ok(player)
    }

    fn read(&mut self, path: &Path, connections: &mut HashMap<Connection, usize>) -> Result<(), Error> {
        let fault = |source| Error::File { path: path.into(), source };
        let file = std::fs::File::open(path).map_err(fault)?;
        let mut reader: Box<dyn BufRead> = if path.extension().is_some_and(|end| end == "zst") {
            Box::new(BufReader::new(zstd::Decoder::new(file).map_err(fault)?))
        } else {
            Box::new(BufReader::new(file))
        };
        let mut line = Vec::new();
        let mut capture = Capture::default();
        for number in 1.. {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(fault)? == 0 {
                break;
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            capture.read(text).map_err(|error| Error::Content { path: path.into(), message: format!("line {number}: {error}") })?;
            self.add(&capture, connections);
        }
        Ok(())
    }

    fn add(&mut self, capture: &Capture, connections: &mut HashMap<Connection, usize>) {
        let venue = capture.venue.clone();
        if !self.venues.contains(&venue) {
            self.venues.push(venue.clone());
        }
        let payload = Bytes::copy_from_slice(&capture.payload);
        match capture.source() {
            Some(CaptureSource::Http(method, url)) => {
                let Some((path, query)) = place(&venue, url) else { return };
                let reply = (capture.status.unwrap_or(200), payload);
                let place = (venue, method.as_str().to_owned(), path);
                let exact = self.exact.get_mut().unwrap_or_else(PoisonError::into_inner);
                exact.entry((place.clone(), question(query, capture.request.as_deref().unwrap_or_default()))).or_default().list.push(reply.clone());
                self.by_path.get_mut().unwrap_or_else(PoisonError::into_inner).entry(place).or_default().list.push(reply);
            }
            Some(CaptureSource::Ws(url)) => {
                let Some((path, query)) = place(&venue, url) else { return };
                let item = match std::str::from_utf8(&payload) {
                    Ok(text) => Item::Push(Frame::new(text.into(), 0, Vec::new())),
                    Err(_) => Item::Binary(payload),
                };
                let sessions = self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner);
                let at = *connections.entry((venue.clone(), capture.market, url.to_owned(), capture.conn)).or_insert(sessions.len());
                match sessions.get_mut(at) {
                    Some(session) => session.frames.push(item),
                    None => sessions.push(Session { venue, path, query, frames: vec![item], taken: false }),
                }
            }
            None => {}
        }
    }

    /// The venues that were captured.
    pub(crate) fn venues(&self) -> &[String] {
        &self.venues
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, venue: &str, method: &str, path: &str, query: Query, body: &str) -> Option<Reply> {
        let place = (venue.to_owned(), method.to_owned(), path.to_owned());
        let mut exact = self.exact.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(replies) = exact.get_mut(&(place.clone(), question(query, body))) {
            return replies.next();
        }
        self.by_path.lock().unwrap_or_else(PoisonError::into_inner).get_mut(&place)?.next()
    }

    /// The frames for a new connection; `None` if nothing was captured at that path.
    pub(crate) fn connect(&self, venue: &str, path: &str, query: &[(String, String)]) -> Option<Vec<Item>> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |session: &Session| session.venue == venue && session.path == path;
        let exact = sessions.iter().position(|s| here(s) && !s.taken && s.query == query);
        let chosen = exact.or_else(|| sessions.iter().position(|s| here(s) && !s.taken));
        match chosen.and_then(|at| sessions.get_mut(at)) {
            Some(session) => {
                session.taken = true;
                Some(std::mem::take(&mut session.frames))
            }
            None => sessions.iter().any(here).then(Vec::new),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn player(lines: &[&str], name: &str) -> Player {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(name);
        let text = lines.join("\n");
        let bytes = if name.ends_with("zst") { zstd::encode_all(text.as_bytes(), 1).unwrap() } else { text.into_bytes() };
        std::fs::write(&path, bytes).unwrap();
        Player::load(&[path]).unwrap()
    }

    fn pair(key: &str, value: &str) -> (String, String) {
        (key.into(), value.into())
    }

    #[test]
    fn requests_are_answered_in_captured_order() {
        let lines = [
            r#"{"t":1,"venue":"x","market":"spot","source":"GET https://h/p?b=2&a=1","status":200,"payload":"one"}"#,
            r#"{"t":2,"venue":"x","market":"spot","source":"GET https://h/p?a=1&b=2","status":500,"payload":"two"}"#,
            r#"{"t":3,"venue":"x","market":"spot","source":"POST https://h/p","request":"{}","status":200,"payload":"three"}"#,
        ];
        for name in ["a.ndjson", "a.ndjson.zst"] {
            let player = player(&lines, name);
            let query = || vec![pair("a", "1"), pair("b", "2")];
            let text = |reply: Option<Reply>| reply.map(|(status, body)| (status, String::from_utf8(body.to_vec()).unwrap()));
            assert_eq!(text(player.answer("x", "GET", "/p", query(), "")), Some((200, "one".into())));
            for _ in 0..2 {
                assert_eq!(text(player.answer("x", "GET", "/p", query(), "")), Some((500, "two".into())));
            }
            assert_eq!(text(player.answer("x", "GET", "/p", vec![], "")), Some((200, "one".into())), "another query of the same path");
            assert_eq!(text(player.answer("x", "POST", "/p", vec![], "{}")), Some((200, "three".into())));
            assert_eq!(player.answer("x", "GET", "/q", vec![], ""), None);
            assert_eq!(player.answer("y", "GET", "/p", query(), ""), None);
        }
    }

    #[test]
    fn another_time_is_no_other_request() {
        let lines = [
            r#"{"t":1,"venue":"x","market":"spot","source":"GET https://h/p?s=A&from=1760000000&to=1760000000123","status":200,"payload":"a"}"#,
            r#"{"t":2,"venue":"x","market":"spot","source":"GET https://h/p?s=B&from=1760000000&to=1760000000123","status":200,"payload":"b"}"#,
            r#"{"t":3,"venue":"x","market":"spot","source":"POST https://h/p","request":"{\"s\":\"A\",\"from\":1760000000000}","status":200,"payload":"c"}"#,
            r#"{"t":4,"venue":"x","market":"spot","source":"POST https://h/p","request":"{\"s\":\"B\",\"from\":1760000000000}","status":200,"payload":"d"}"#,
        ];
        let player = player(&lines, "a.ndjson");
        let text = |reply: Option<Reply>| reply.map(|(_, body)| String::from_utf8(body.to_vec()).unwrap());
        let query = vec![pair("from", "1770000000"), pair("s", "B"), pair("to", "1770000000000")];
        assert_eq!(text(player.answer("x", "GET", "/p", query, "")).as_deref(), Some("b"));
        assert_eq!(text(player.answer("x", "POST", "/p", vec![], r#"{"s":"B","from":1770000000000}"#)).as_deref(), Some("d"));
        assert_eq!(timeless("a1234567890b123,99999999999"), "ab123,");
    }

    #[test]
    fn each_connection_gets_its_frames() {
        let lines = [
            r#"{"t":1,"venue":"x","market":"spot","conn":4,"source":"ws wss://h/s","payload":"a"}"#,
            r#"{"t":2,"venue":"x","market":"spot","conn":5,"source":"ws wss://h/s","payload":"/wAB","encoding":"base64"}"#,
            r#"{"t":3,"venue":"x","market":"spot","conn":4,"source":"ws wss://h/s","payload":"b"}"#,
        ];
        let player = player(&lines, "a.ndjson");
        let lengths: Vec<_> = (0..3).map(|_| player.connect("x", "/s", &[]).map(|frames| frames.len())).collect();
        assert_eq!(lengths, [Some(2), Some(1), Some(0)], "the third stays silent");
        assert!(player.connect("x", "/other", &[]).is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.ndjson");
        std::fs::write(&path, "\n{\"t\":1}\n").unwrap();
        let error = Player::load(&[path]).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("venue"), "{error}");
    }
}
