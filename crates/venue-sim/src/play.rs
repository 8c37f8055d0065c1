//! Captures, served as they were captured: a simulated venue without a line of code about it.
//!
//! A request is answered with what was captured for the same method, path, query (in any order) and body (as JSON), the
//! times in them aside; in captured order, the last one again and again. What was asked in other words is answered with
//! what comes nearest at the same path, as long as the two differ in numbers alone (how much, since when) or in what only
//! one of them says: nobody is given one instrument's trades for another's. A socket opened at a captured path gets that
//! path's frames in order (at once, or by a [pace](crate::Config::pace)), one captured connection for each that is opened; what a
//! connection that ended did not get, the next one gets. Once there are no more, it stays open and silent. Where one path
//! carries several markets, `/NAME.MARKET` in place of `/NAME` stands for one of them.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use axum::http::Uri;
use bytes::Bytes;
use exchange_core::Market;
use exchange_core::capture::{Capture, CaptureSource};
use serde_json::Value;

use crate::config::Error;
use crate::hub::{Frame, Item};
use crate::truth::Lines;

/// One captured answer.
#[derive(Debug, Clone)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) body: Bytes,
    /// What it says, if anybody wants to know.
    pub(crate) lines: Lines,
}

/// Decoded pairs of a query, in order.
type Query = Vec<(String, String)>;
/// What one connection was captured under: venue, market, address, number.
type Connection = (String, Option<Market>, String, Option<u64>);
/// Venue, method, path.
type Place = (String, String, String);

/// Keys of which a number says what was asked for, not how much of it.
const KINDS: [&str; 4] = ["interval", "resolution", "granularity", "period"];
/// Keys that say which page is asked for: an answer that is not that page would lead to it again and again.
const PAGES: [&str; 4] = ["cursor", "page", "offset", "fromid"];

/// What was asked at a path, without times.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Asked {
    query: Query,
    /// The values of a JSON body by their places; a body that is none, as it is.
    body: Query,
}

impl Asked {
    fn new(query: Query, body: &str) -> Self {
        let mut values = Vec::new();
        match serde_json::from_str(body) {
            Ok(json) => leaves(&json, "", &mut values),
            Err(_) if body.is_empty() => {}
            Err(_) => values.push((String::new(), body.to_owned())),
        }
        values.sort();
        let timeless = |all: Query| all.into_iter().map(|(key, value)| (key, timeless(&value))).collect();
        Self { query: timeless(query), body: timeless(values) }
    }

    /// How near an answer to `other` comes to one to this; `None` where it would be an answer to something else.
    fn likeness(&self, other: &Self) -> Option<(usize, std::cmp::Reverse<usize>)> {
        let named = |(key, value): &&(String, String)| !is_amount(key, value);
        // A body's texts say what is asked for at all, so none of them may be left out.
        if !self.body.iter().filter(named).eq(other.body.iter().filter(named)) {
            return None;
        }
        let page = |(key, _): &&(String, String)| is_of(key, &PAGES) && !is_of(key, &["size"]);
        if !self.query.iter().filter(page).eq(other.query.iter().filter(page)) {
            return None;
        }
        let mut same = 0;
        for (key, value) in &self.query {
            match other.query.iter().find(|(theirs, _)| theirs == key) {
                Some((_, theirs)) if theirs == value => same += 1,
                Some((_, theirs)) if !(is_amount(key, value) && is_amount(key, theirs)) => return None,
                _ => {}
            }
        }
        same += self.body.iter().filter(|pair| other.body.contains(pair)).count();
        Some((same, std::cmp::Reverse(other.query.len() + other.body.len())))
    }
}

/// Whether a value is a number that says how much or since when.
fn is_amount(key: &str, value: &str) -> bool {
    // (Nothing is left of a time.)
    let number = value.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    number && !is_of(key, &KINDS)
}

fn is_of(key: &str, words: &[&str]) -> bool {
    let key = key.to_ascii_lowercase();
    words.iter().any(|word| key.contains(word))
}

/// The values in a JSON text, each with its place.
fn leaves(json: &Value, at: &str, into: &mut Query) {
    match json {
        Value::Null => {}
        Value::Object(all) => all.iter().for_each(|(key, value)| leaves(value, &format!("{at}.{key}"), into)),
        Value::Array(all) => all.iter().enumerate().for_each(|(key, value)| leaves(value, &format!("{at}.{key}"), into)),
        Value::String(text) => into.push((at.to_owned(), text.clone())),
        other => into.push((at.to_owned(), other.to_string())),
    }
}

/// Answers in captured order, and how many of them were given.
#[derive(Debug)]
struct Replies {
    asked: Asked,
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
    market: Option<Market>,
    path: String,
    query: Query,
    frames: VecDeque<Item>,
    taken: bool,
}

/// All that was captured.
#[derive(Debug, Default)]
pub(crate) struct Player {
    replies: Mutex<HashMap<Place, Vec<Replies>>>,
    sessions: Mutex<Vec<Session>>,
    venues: Vec<String>,
    markets: BTreeSet<(String, Market)>,
}

/// A value without the times in it: nobody asks twice for what happened since the same moment.
fn timeless(text: &str) -> String {
    let parts = text.split_inclusive(|c: char| !c.is_ascii_digit());
    parts
        .map(|part| if part.bytes().take_while(u8::is_ascii_digit).count() < 10 { part } else { part.trim_start_matches(|c: char| c.is_ascii_digit()) })
        .collect()
}

/// Path and sorted, decoded query of an address. What was captured from a simulator stands under the venue's name there,
/// and here.
fn place(venue: &str, url: &str) -> Option<(String, Query)> {
    let uri: Uri = url.parse().ok()?;
    let own = named(uri.path()).filter(|(name, _, _)| *name == venue).map(|(_, _, path)| path);
    Some((own.unwrap_or_else(|| uri.path().to_owned()), sorted(&uri)))
}

/// Takes `/NAME/path` or `/NAME.MARKET/path` apart.
pub(crate) fn named(path: &str) -> Option<(&str, Option<Market>, String)> {
    let path = path.strip_prefix('/').filter(|path| !path.is_empty())?;
    let (name, rest) = path.split_once('/').unwrap_or((path, ""));
    let (venue, market) = name.split_once('.').and_then(|(venue, market)| Some((venue, Some(Market::parse(market)?)))).unwrap_or((name, None));
    Some((venue, market, format!("/{rest}")))
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

/// What a file of captures says, by the numbers of its lines: `FILE.events.ndjson`, beside it.
fn said(path: &Path) -> Result<HashMap<u64, String>, Error> {
    let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
    let stem = name.trim_end_matches(".zst").trim_end_matches(".ndjson");
    let beside = path.with_file_name(format!("{stem}.events.ndjson"));
    let fault = |message| Error::Content { path: beside.clone(), message };
    let text = std::fs::read_to_string(&beside).map_err(|error| {
        let make = format!("collector decode --lenient {name} > {stem}.events.ndjson");
        fault(format!("{error}: the truth of captures is what stands there (`{make}` writes it)"))
    })?;
    let mut all: HashMap<u64, String> = HashMap::new();
    for (at, line) in text.lines().enumerate() {
        // As `decode` writes it: the last field is the number of the capture's line.
        let parts = line.strip_suffix('}').and_then(|line| line.rsplit_once(",\"line\":"));
        let (event, number) = parts
            .and_then(|(event, number)| Some((event, number.parse().ok()?)))
            .ok_or_else(|| fault(format!("line {} is no event line that ends with `line`, the number of its capture", at + 1)))?;
        let known = all.entry(number).or_default();
        known.push_str(event);
        known.push_str("}\n");
    }
    Ok(all)
}

impl Player {
    /// Reads files of captures; those that end in `.zst` are decompressed, and files of events beside them are passed over.
    /// What captures say is read, too, if it is `told`.
    pub(crate) fn load(files: &[PathBuf], told: bool) -> Result<Self, Error> {
        let mut player = Self::default();
        let mut connections = HashMap::new();
        for path in files.iter().filter(|path| !path.to_string_lossy().ends_with(".events.ndjson")) {
            player.read(path, told, &mut connections)?;
        }
        Ok(player)
    }

    fn read(&mut self, path: &Path, told: bool, connections: &mut HashMap<Connection, usize>) -> Result<(), Error> {
        let fault = |source| Error::File { path: path.into(), source };
        let said = if told { said(path)? } else { HashMap::new() };
        let file = std::fs::File::open(path).map_err(fault)?;
        let mut reader: Box<dyn BufRead> = if path.extension().is_some_and(|end| end == "zst") {
            Box::new(BufReader::new(zstd::Decoder::new(file).map_err(fault)?))
        } else {
            Box::new(BufReader::new(file))
        };
        let mut line = Vec::new();
        let mut capture = Capture::default();
        for number in 1u64.. {
            line.clear();
            if reader.read_until(b'\n', &mut line).map_err(fault)? == 0 {
                break;
            }
            let text = line.trim_ascii();
            if text.is_empty() {
                continue;
            }
            capture.read(text).map_err(|error| Error::Content { path: path.into(), message: format!("line {number}: {error}") })?;
            let lines = said.get(&number).map_or_else(Lines::default, |lines| lines.as_str().into());
            self.add(&capture, lines, connections);
        }
        Ok(())
    }

    fn add(&mut self, capture: &Capture, lines: Lines, connections: &mut HashMap<Connection, usize>) {
        let venue = capture.venue.clone();
        if !self.venues.contains(&venue) {
            self.venues.push(venue.clone());
        }
        self.markets.extend(capture.market.map(|market| (venue.clone(), market)));
        let payload = Bytes::copy_from_slice(&capture.payload);
        match capture.source() {
            Some(CaptureSource::Http(method, url)) => {
                let Some((path, query)) = place(&venue, url) else { return };
                let reply = Reply { status: capture.status.unwrap_or(200), body: payload, lines };
                let place = (venue, method.as_str().to_owned(), path);
                let asked = Asked::new(query, capture.request.as_deref().unwrap_or_default());
                let all = self.replies.get_mut().unwrap_or_else(PoisonError::into_inner).entry(place).or_default();
                match all.iter_mut().find(|known| known.asked == asked) {
                    Some(known) => known.list.push(reply),
                    None => all.push(Replies { asked, list: vec![reply], given: 0 }),
                }
            }
            Some(CaptureSource::Ws(url)) => {
                let Some((path, query)) = place(&venue, url) else { return };
                let item = match std::str::from_utf8(&payload) {
                    Ok(text) => Item::Push(Frame::captured(text, lines)),
                    Err(_) => Item::Binary(payload, lines),
                };
                let sessions = self.sessions.get_mut().unwrap_or_else(PoisonError::into_inner);
                let at = *connections.entry((venue.clone(), capture.market, url.to_owned(), capture.conn)).or_insert(sessions.len());
                match sessions.get_mut(at) {
                    Some(session) => session.frames.push_back(item),
                    None => sessions.push(Session { venue, market: capture.market, path, query, frames: VecDeque::from([item]), taken: false }),
                }
            }
            None => {}
        }
    }

    /// The venues that were captured.
    pub(crate) fn venues(&self) -> &[String] {
        &self.venues
    }

    /// The markets of a venue of which something was captured.
    pub(crate) fn markets(&self, venue: &str) -> impl Iterator<Item = Market> {
        self.markets.iter().filter(move |(known, _)| known == venue).map(|(_, market)| *market)
    }

    /// The answer to a request.
    pub(crate) fn answer(&self, venue: &str, method: &str, path: &str, query: Query, body: &str) -> Option<Reply> {
        let asked = Asked::new(query, body);
        let mut replies = self.replies.lock().unwrap_or_else(PoisonError::into_inner);
        let all = replies.get_mut(&(venue.to_owned(), method.to_owned(), path.to_owned()))?;
        if let Some(known) = all.iter_mut().find(|known| known.asked == asked) {
            return known.next();
        }
        // Of several that are equally near, the first that was captured. Who asks in these words begins at its beginning.
        let near = |(at, known): (usize, &Replies)| Some((asked.likeness(&known.asked)?, std::cmp::Reverse(at)));
        let (_, std::cmp::Reverse(at)) = all.iter().enumerate().filter_map(near).max()?;
        let list = all.get(at)?.list.clone();
        let mut replies = Replies { asked, list, given: 0 };
        let reply = replies.next();
        all.push(replies);
        reply
    }

    /// Whether the venue is one of those that were captured.
    pub(crate) fn plays(&self, venue: &str) -> bool {
        self.venues.iter().any(|known| known == venue)
    }

    /// The frames for a new connection, of one market or of any, and the number of the captured one; `None` if nothing was
    /// captured at that path.
    pub(crate) fn connect(&self, venue: &str, market: Option<Market>, path: &str, query: &[(String, String)]) -> Option<(usize, VecDeque<Item>)> {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        let here = |session: &Session| session.venue == venue && session.path == path;
        let open = |session: &Session| here(session) && !session.taken && (market.is_none() || session.market == market);
        let exact = sessions.iter().position(|s| open(s) && s.query == query);
        let chosen = exact.or_else(|| sessions.iter().position(open));
        match chosen.and_then(|at| Some((at, sessions.get_mut(at)?))) {
            Some((at, session)) => {
                session.taken = true;
                Some((at, std::mem::take(&mut session.frames)))
            }
            None => sessions.iter().any(here).then(Default::default),
        }
    }

    /// What a connection did not get is another one's.
    pub(crate) fn give_back(&self, number: usize, frames: &[Item]) {
        let mut sessions = self.sessions.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(session) = sessions.get_mut(number) {
            session.frames = frames.iter().cloned().collect();
            session.taken = false;
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
        Player::load(&[path], false).unwrap()
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
            let text = |reply: Option<Reply>| reply.map(|reply| (reply.status, String::from_utf8(reply.body.to_vec()).unwrap()));
            assert_eq!(text(player.answer("x", "GET", "/p", query(), "")), Some((200, "one".into())));
            for _ in 0..2 {
                assert_eq!(text(player.answer("x", "GET", "/p", query(), "")), Some((500, "two".into())));
            }
            assert_eq!(text(player.answer("x", "GET", "/p", vec![], "")), Some((200, "one".into())), "another query of the same path");
            assert_eq!(text(player.answer("x", "POST", "/p", vec![], "{}")), Some((200, "three".into())));
            assert!(player.answer("x", "GET", "/q", vec![], "").is_none());
            assert!(player.answer("y", "GET", "/p", query(), "").is_none());
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
        let text = |reply: Option<Reply>| reply.map(|reply| String::from_utf8(reply.body.to_vec()).unwrap());
        let query = vec![pair("from", "1770000000"), pair("s", "B"), pair("to", "1770000000000")];
        assert_eq!(text(player.answer("x", "GET", "/p", query, "")).as_deref(), Some("b"));
        assert_eq!(text(player.answer("x", "POST", "/p", vec![], r#"{"s":"B","from":1770000000000}"#)).as_deref(), Some("d"));
        assert_eq!(timeless("a1234567890b123,99999999999"), "ab123,");
    }

    #[test]
    fn other_words_for_the_same_are_understood() {
        let get = |query: &str, payload: &str| format!(r#"{{"t":1,"venue":"x","market":"spot","source":"GET https://h/p{query}","payload":"{payload}"}}"#);
        let post = |body: &str, payload: &str| {
            let body = serde_json::json!(body);
            format!(r#"{{"t":1,"venue":"x","market":"spot","source":"POST https://h/info","request":{body},"payload":"{payload}"}}"#)
        };
        let lines = [
            get("?symbol=A&limit=5", "A"),
            get("?symbol=B&interval=1&limit=5", "B"),
            post(r#"{"type":"all"}"#, "all"),
            post(r#"{"coin":"A","type":"book","levels":null}"#, "book"),
            post(r#"{"type":"candles","req":{"coin":"A","startTime":1}}"#, "candles"),
        ];
        let player = player(&lines.each_ref().map(String::as_str), "a.ndjson");
        let text = |reply: Option<Reply>| reply.map(|reply| String::from_utf8(reply.body.to_vec()).unwrap());
        let get = |query: &[(String, String)]| text(player.answer("x", "GET", "/p", query.to_vec(), ""));
        assert_eq!(get(&[pair("limit", "1000"), pair("symbol", "A")]).as_deref(), Some("A"));
        assert_eq!(get(&[pair("interval", "1"), pair("limit", "9"), pair("symbol", "B")]).as_deref(), Some("B"));
        assert_eq!(get(&[pair("symbol", "C")]), None, "not what another instrument was answered");
        assert_eq!(get(&[pair("interval", "60"), pair("symbol", "B")]), None, "nor candles of another length");
        assert_eq!(get(&[pair("cursor", "next"), pair("symbol", "A")]), None, "nor another page");
        assert_eq!(get(&[]).as_deref(), Some("A"), "the first of those that are equally near");
        let post = |body: &str| text(player.answer("x", "POST", "/info", vec![], body));
        assert_eq!(post(r#"{ "type": "book", "coin": "A" }"#).as_deref(), Some("book"));
        assert_eq!(post(r#"{"type":"all"}"#).as_deref(), Some("all"));
        assert_eq!(post(r#"{"type":"candles","req":{"coin":"A","startTime":7,"endTime":9}}"#).as_deref(), Some("candles"));
        assert_eq!([post(r#"{"type":"book","coin":"B"}"#), post(r#"{"type":"all","dex":"y"}"#), post("")], [None, None, None]);
    }

    #[test]
    fn one_path_may_carry_several_markets() {
        let lines = [
            r#"{"t":1,"venue":"x","market":"spot","source":"ws wss://h/s","payload":"a"}"#,
            r#"{"t":1,"venue":"x","market":"linear","source":"ws ws://127.0.0.1:1/x.linear/s","payload":"b"}"#,
        ];
        let player = player(&lines, "a.ndjson");
        assert_eq!(player.markets("x").collect::<Vec<_>>(), [Market::Spot, Market::Linear]);
        let frame = |market| match player.connect("x", market, "/s", &[]).unwrap().1.make_contiguous() {
            [Item::Push(frame)] => frame.text.as_str().to_owned(),
            frames => frames.len().to_string(),
        };
        assert_eq!([Some(Market::Linear), Some(Market::Inverse), None].map(frame), ["b", "0", "a"]);
        assert_eq!(named("/x"), Some(("x", None, "/".into())));
        assert_eq!(named("/x.spot/a/b"), Some(("x", Some(Market::Spot), "/a/b".into())));
        assert_eq!(named("/"), None);
    }

    #[test]
    fn each_connection_gets_its_frames() {
        let lines = [
            r#"{"t":1,"venue":"x","market":"spot","conn":4,"source":"ws wss://h/s","payload":"a"}"#,
            r#"{"t":2,"venue":"x","market":"spot","conn":5,"source":"ws wss://h/s","payload":"/wAB","encoding":"base64"}"#,
            r#"{"t":3,"venue":"x","market":"spot","conn":4,"source":"ws wss://h/s","payload":"b"}"#,
        ];
        let player = player(&lines, "a.ndjson");
        let connect = || player.connect("x", None, "/s", &[]).map(|(number, frames)| (number, Vec::from(frames)));
        let [first, second, third] = [(); 3].map(|()| connect().unwrap());
        assert_eq!([&first, &second, &third].map(|(_, frames)| frames.len()), [2, 1, 0], "the third stays silent");
        player.give_back(first.0, &first.1[1..]);
        assert_eq!([(); 2].map(|()| connect().unwrap().1.len()), [1, 0], "what the first did not get");
        assert!(player.connect("x", None, "/other", &[]).is_none());
    }

    #[test]
    fn a_bad_line_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.ndjson");
        std::fs::write(&path, "\n{\"t\":1}\n").unwrap();
        let error = Player::load(&[path], false).unwrap_err().to_string();
        assert!(error.contains("line 2") && error.contains("venue"), "{error}");
    }
}
