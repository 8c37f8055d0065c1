//! Capture lines: what a venue sent, byte for byte, as `SCHEMA.md` defines them. Read and written here alone.

use std::borrow::Cow;

use base64::Engine as _;

use crate::encode::write_string;
use crate::instrument::Market;
use crate::profile::Method;
use crate::time::Time;
use crate::wire::{Fault, Ignored, Reader, Wire};

/// One capture line. Reused from line to line: reading into one keeps its buffers.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Capture {
    /// When it was received.
    pub received: Time,
    /// The venue's name.
    pub venue: String,
    /// The surface.
    pub market: Option<Market>,
    /// Number of the WebSocket connection within the run.
    pub conn: Option<u64>,
    /// `ws <url>`, `GET <url>` or `POST <url>`.
    pub source: String,
    /// The body that was sent with a POST.
    pub request: Option<String>,
    /// HTTP status; absent for WebSocket.
    pub status: Option<u16>,
    /// The body or frame.
    pub payload: Vec<u8>,
}

/// Where a capture came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CaptureSource<'a> {
    /// A WebSocket.
    Ws(&'a str),
    /// An HTTP request.
    Http(Method, &'a str),
}

/// A line that is no capture.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a capture line: {0}")]
pub struct NotACapture(String);

impl From<Fault> for NotACapture {
    fn from(fault: Fault) -> Self {
        Self(fault.to_string())
    }
}

impl Capture {
    /// Where it came from.
    pub fn source(&self) -> Option<CaptureSource<'_>> {
        let (kind, url) = self.source.split_once(' ')?;
        if kind == "ws" { Some(CaptureSource::Ws(url)) } else { Some(CaptureSource::Http(Method::parse(kind)?, url)) }
    }

    /// Reads a line into this.
    ///
    /// # Errors
    /// [`NotACapture`] says what is wrong with the line.
    pub fn read(&mut self, line: &[u8]) -> Result<(), NotACapture> {
        let text = simdutf8::basic::from_utf8(line).map_err(|_| NotACapture("it is not UTF-8".into()))?;
        self.venue.clear();
        self.source.clear();
        self.payload.clear();
        (self.market, self.conn, self.request, self.status) = (None, None, None, None);
        let mut received = None;
        let mut encoded = false;
        let mut has_payload = false;
        let mut reader = Reader::new(text);
        let mut more = reader.open_object()?;
        while more {
            match &*reader.key()? {
                "t" => received = Some(i64::read(&mut reader)?),
                "venue" => self.venue.push_str(&reader.string()?),
                "market" => {
                    let market = reader.string()?;
                    self.market = Some(Market::parse(&market).ok_or_else(|| NotACapture(format!("`{market}` is no market")))?);
                }
                "conn" => self.conn = Option::<u64>::read(&mut reader)?,
                "source" => self.source.push_str(&reader.string()?),
                "request" => self.request = Option::<Cow<'_, str>>::read(&mut reader)?.map(Cow::into_owned),
                "status" => {
                    let status = u64::read(&mut reader)?;
                    self.status = Some(u16::try_from(status).map_err(|_| NotACapture(format!("{status} is no HTTP status")))?);
                }
                "payload" => {
                    reader.string_into(&mut self.payload)?;
                    has_payload = true;
                }
                "encoding" => match &*reader.string()? {
                    "base64" => encoded = true,
                    other => return Err(NotACapture(format!("the encoding `{other}` is not known"))),
                },
                _ => drop(Ignored::read(&mut reader)?),
            }
            more = reader.more_in_object()?;
        }
        reader.finish()?;
        let missing = |what: &str| NotACapture(format!("`{what}` is missing"));
        self.received = Time::from_micros(received.ok_or_else(|| missing("t"))?);
        if self.venue.is_empty() {
            return Err(missing("venue"));
        }
        self.market.ok_or_else(|| missing("market"))?;
        if self.source().is_none() {
            return Err(NotACapture("`source` is neither `ws <url>` nor `GET <url>` nor `POST <url>`".into()));
        }
        if !has_payload {
            return Err(missing("payload"));
        }
        if encoded {
            self.payload =
                base64::engine::general_purpose::STANDARD.decode(&self.payload).map_err(|error| NotACapture(format!("the payload is not base64: {error}")))?;
        }
        Ok(())
    }

    /// Appends this as a line, line break included.
    pub fn write(&self, out: &mut Vec<u8>) {
        let number = |key: &str, value: i64, out: &mut Vec<u8>| {
            out.extend_from_slice(key.as_bytes());
            out.extend_from_slice(itoa::Buffer::new().format(value).as_bytes());
        };
        let text = |key: &str, value: &str, out: &mut Vec<u8>| {
            out.extend_from_slice(key.as_bytes());
            write_string(value, out);
        };
        number("{\"t\":", self.received.micros(), out);
        text(",\"venue\":", &self.venue, out);
        text(",\"market\":", self.market.map_or("", Market::as_str), out);
        if let Some(conn) = self.conn {
            number(",\"conn\":", i64::try_from(conn).unwrap_or(i64::MAX), out);
        }
        text(",\"source\":", &self.source, out);
        if let Some(request) = &self.request {
            text(",\"request\":", request, out);
        }
        if let Some(status) = self.status {
            number(",\"status\":", i64::from(status), out);
        }
        if let Ok(payload) = simdutf8::basic::from_utf8(&self.payload) {
            text(",\"payload\":", payload, out);
        } else {
            text(",\"payload\":", &base64::engine::general_purpose::STANDARD.encode(&self.payload), out);
            text(",\"encoding\":", "base64", out);
        }
        out.extend_from_slice(b"}\n");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn captures_round_trip() {
        for payload in [&b"{\"a\":\"x\\n\xc3\xbc\"}\n\t"[..], &[0xff, 0, 1]] {
            let capture = Capture {
                received: Time::from_micros(1_763_640_000_000_001),
                venue: "bybit".into(),
                market: Some(Market::Linear),
                conn: Some(3),
                source: "POST https://x/y?z=1".into(),
                request: Some("{}".into()),
                status: Some(200),
                payload: payload.to_vec(),
            };
            let mut line = Vec::new();
            capture.write(&mut line);
            let mut read = Capture::default();
            read.read(line.trim_ascii_end()).unwrap();
            assert_eq!(read, capture);
        }
    }

    #[test]
    fn says_what_is_wrong() {
        let mut capture = Capture::default();
        for (line, what) in [
            ("", "object"),
            (r#"{"t":1}"#, "`venue` is missing"),
            (r#"{"t":1,"venue":"x","market":"perp","source":"ws u","payload":""}"#, "`perp` is no market"),
            (r#"{"t":1,"venue":"x","market":"spot","source":"ftp u","payload":""}"#, "`source`"),
            (r#"{"t":1,"venue":"x","market":"spot","source":"ws u","payload":"%","encoding":"base64"}"#, "base64"),
        ] {
            let error = capture.read(line.as_bytes()).expect_err(line).to_string();
            assert!(error.contains(what), "{line}: {error}");
        }
    }
}
