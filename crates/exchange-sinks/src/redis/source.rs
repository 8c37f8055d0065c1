//! The streams, read back: each in its order, and between them about in the order in which they were written.
//!
//! A stream of bounded length may lose entries before they are read, of which Redis says nothing. So each question for what is
//! new asks, in one transaction, whether the entry that was read last is still there: only then nothing is missing behind it.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::{Batch, Body};
use redis::aio::MultiplexedConnection;
use redis::{Cmd, ErrorKind, RedisError, Value};

use super::Server;
use crate::address::Address;
use crate::buffered::within;
use crate::error::{SinkError, SinkErrorKind};
use crate::sink::SinkFuture;
use crate::source::messages::{Messages, SKEW_MICROS};
use crate::source::{Origin, Reading, Since, Source};

/// Entries of each stream that are asked for at once.
const ENTRIES: usize = 256;
/// How long the server is asked to wait for more: shorter than its silence is borne with.
const WAIT: Duration = Duration::from_secs(5);

/// Reads `redis://HOST`, `rediss://HOST`, as the sink does.
pub(crate) fn origin(address: Address) -> Result<Arc<dyn Origin>, SinkError> {
    Ok(Arc::new(Server::read(address)?))
}

impl Origin for Server {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        Ok(Box::new(RedisSource {
            server: self.clone(),
            reading,
            messages: Messages::new(reading.from),
            trimmed: VecDeque::new(),
            connection: None,
            worked_before: false,
            streams: None,
            ended: !reading.follow && reading.from == Since::Now,
        }))
    }
}

/// The place of an entry in its stream: the server's milliseconds since 1970, and a number among those of the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
struct Place(u64, u64);

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.0, self.1)
    }
}

impl FromStr for Place {
    type Err = RedisError;

    fn from_str(text: &str) -> Result<Self, RedisError> {
        let parts = text.split_once('-').and_then(|(time, number)| Some(Self(time.parse().ok()?, number.parse().ok()?)));
        parts.ok_or_else(|| RedisError::from((ErrorKind::UnexpectedReturnType, "no id of an entry", text.to_owned())))
    }
}

/// A stream, and how far it was read.
#[derive(Debug)]
struct Stream {
    key: String,
    /// Reading goes on behind this.
    after: Place,
    /// Whether there was an entry at that place.
    entered: bool,
    /// The last entry that is to be read, if it is not followed.
    end: Option<Place>,
}

impl Stream {
    fn is_open(&self) -> bool {
        self.end.is_none_or(|end| self.after < end)
    }
}

/// An answer to `XREAD`: streams, their entries, the fields of these.
type Answer = Option<Vec<(String, Vec<(String, HashMap<String, Value>)>)>>;

struct RedisSource {
    server: Server,
    reading: Reading,
    messages: Messages,
    /// What is missing in front of the messages.
    trimmed: VecDeque<SinkError>,
    /// None while something is asked: whoever drops a future in the middle leaves a connection with answers to come.
    connection: Option<MultiplexedConnection>,
    worked_before: bool,
    /// Known once there was a connection.
    streams: Option<Vec<Stream>>,
    ended: bool,
}

impl RedisSource {
    async fn read(&mut self) -> Result<Option<Batch>, SinkError> {
        loop {
            if let Some(trimmed) = self.trimmed.pop_front() {
                return Err(trimmed);
            }
            if let Some(batch) = self.messages.take() {
                return Ok(Some(batch));
            }
            if self.ended {
                return Ok(None);
            }
            // Who is not let in will not be let in later.
            self.read_some().await.inspect_err(|error| self.ended = !error.is_retryable())?;
        }
    }

    /// Takes what is new; waits for it if there is nothing.
    async fn read_some(&mut self) -> Result<(), SinkError> {
        let (server, follow, worked_before) = (&self.server, self.reading.follow, self.worked_before);
        let mut connection = match self.connection.take() {
            Some(connection) => connection,
            None => within(server.patience, &server.shown, server.connect(worked_before)).await?,
        };
        let told = |error: RedisError| server.told(&error, worked_before);
        let streams = match &mut self.streams {
            Some(streams) => streams,
            unknown => {
                let streams = within(server.patience, &server.shown, async { begin(server, self.reading, &mut connection).await.map_err(told) }).await?;
                if streams.iter().all(|stream| !follow && stream.end == Some(Place::default())) {
                    let what = format!(
                        "{}: there is no stream `{}`, nor of any other type: is it another database or `prefix=`?",
                        server.shown,
                        server.stream("trade")
                    );
                    return Err(SinkError::new(SinkErrorKind::Permanent, what));
                }
                unknown.insert(streams)
            }
        };
        if !streams.iter().any(Stream::is_open) {
            self.ended = true;
            return Ok(());
        }
        let (gone, answer) = within(server.patience, &server.shown, async { news(streams, &mut connection).await.map_err(told) }).await?;
        self.worked_before = true;
        for stream in streams.iter_mut().filter(|stream| gone.contains(&stream.key)) {
            let what = format!(
                "{}: the stream `{}` was trimmed beyond its entry {}, which was the last that was read: what stood behind it may be missing (a larger `maxlen=` of the sink keeps more)",
                server.shown, stream.key, stream.after
            );
            stream.entered = false;
            self.trimmed.push_back(SinkError::new(SinkErrorKind::Permanent, what));
        }
        if take(answer, streams, &server.shown, &mut self.messages).map_err(told)? == 0 {
            if follow {
                let wait = WAIT.min(server.patience / 2);
                within(server.patience, &server.shown, async { more(streams, wait, &mut connection).await.map_err(told) }).await?;
            } else {
                self.ended = true;
            }
        }
        self.connection = Some(connection);
        Ok(())
    }
}

/// Where to begin in each stream, and where to end.
async fn begin(server: &Server, reading: Reading, connection: &mut MultiplexedConnection) -> Result<Vec<Stream>, RedisError> {
    let keys = Body::KINDS.map(|kind| server.stream(kind));
    let mut newest = redis::pipe();
    for key in &keys {
        newest.cmd("XREVRANGE").arg(key).arg("+").arg("-").arg("COUNT").arg(1);
    }
    let newest: Vec<Vec<(String, Value)>> = newest.query_async(connection).await?;
    let mut streams = Vec::with_capacity(keys.len());
    for (key, newest) in keys.into_iter().zip(newest) {
        let newest: Option<Place> = newest.first().map(|(place, _)| place.parse()).transpose()?;
        let (after, entered) = match reading.from {
            Since::Start => (Place::default(), false),
            // The very entry and not "what comes": what does until the first question is to be read.
            Since::Now => (newest.unwrap_or_default(), newest.is_some()),
            Since::Time(time) => (Place(u64::try_from(time.micros().saturating_sub(SKEW_MICROS) / 1000).unwrap_or_default(), 0), false),
        };
        let end = (!reading.follow).then(|| newest.unwrap_or_default());
        streams.push(Stream { key, after, entered, end });
    }
    Ok(streams)
}

/// The streams of which the last entry that was read is gone, and what there is behind those.
async fn news(streams: &[Stream], connection: &mut MultiplexedConnection) -> Result<(Vec<String>, Answer), RedisError> {
    let entered: Vec<&Stream> = streams.iter().filter(|stream| stream.is_open() && stream.entered).collect();
    let mut question = redis::pipe();
    question.atomic();
    for stream in &entered {
        let place = stream.after.to_string();
        question.cmd("XRANGE").arg(&stream.key).arg(&place).arg(&place);
    }
    question.add_command(ask(streams, ENTRIES, None));
    let mut answers: Vec<Value> = question.query_async(connection).await?;
    let answer = redis::from_redis_value(answers.pop().unwrap_or(Value::Nil))?;
    let gone = entered.iter().zip(answers).filter(|(_, there)| matches!(there, Value::Array(entries) if entries.is_empty()));
    Ok((gone.map(|(stream, _)| stream.key.clone()).collect(), answer))
}

/// Waits until there is more.
async fn more(streams: &[Stream], wait: Duration, connection: &mut MultiplexedConnection) -> Result<(), RedisError> {
    ask(streams, 1, Some(wait)).exec_async(connection).await
}

/// Asks for so many entries of each stream.
fn ask(streams: &[Stream], entries: usize, wait: Option<Duration>) -> Cmd {
    let mut question = redis::cmd("XREAD");
    question.arg("COUNT").arg(entries);
    if let Some(wait) = wait {
        question.arg("BLOCK").arg(u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
    }
    let open: Vec<&Stream> = streams.iter().filter(|stream| stream.is_open()).collect();
    let keys: Vec<&str> = open.iter().map(|stream| stream.key.as_str()).collect();
    let places: Vec<String> = open.iter().map(|stream| stream.after.to_string()).collect();
    question.arg("STREAMS").arg(keys).arg(places);
    question
}

/// Takes the events of an answer, the oldest first; how many entries there were to be read.
fn take(answer: Answer, streams: &mut [Stream], source: &str, messages: &mut Messages) -> Result<usize, RedisError> {
    let mut entries = Vec::new();
    for (key, found) in answer.unwrap_or_default() {
        let Some(stream) = streams.iter_mut().find(|stream| stream.key == key) else { continue };
        for (place, fields) in found {
            let place: Place = place.parse()?;
            if stream.end.is_some_and(|end| place > end) {
                stream.after = place;
                break;
            }
            (stream.after, stream.entered) = (place, true);
            entries.push((place, key.clone(), fields));
        }
    }
    // Those of one stream stay in its order.
    entries.sort_by_key(|(place, ..)| place.0);
    for (place, key, fields) in &entries {
        let place = format_args!("{key}/{place}");
        if let Some(Value::BulkString(line)) = fields.get("line") {
            messages.add(source, place, line);
        } else {
            tracing::warn!(source, %place, "left out: an entry without a `line`");
        }
    }
    Ok(entries.len())
}

impl Source for RedisSource {
    fn name(&self) -> &str {
        &self.server.shown
    }

    fn next(&mut self) -> SinkFuture<'_, Option<Batch>> {
        Box::pin(self.read())
    }
}

#[cfg(test)]
mod tests;
