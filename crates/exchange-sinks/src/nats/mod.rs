//! `nats://` publishes events into a `JetStream` stream, one message each.
//!
//! A message's `Nats-Msg-Id` is the event's id: what is sent again within the stream's duplicate window, by this collector
//! after a lost connection or by another that saw the same fact, is acknowledged and not stored again. The stream is made
//! if it is not there; one that is there is checked and left as it is. `Ok` of a flush means that the server has
//! acknowledged every message, which it does once the message is in its store.

mod options;
mod source;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_nats::jetstream::{self, ErrorCode, context::CreateStreamErrorKind, context::GetStreamErrorKind};
use async_nats::{Client, ConnectErrorKind, ConnectOptions, Event, HeaderMap, HeaderName, PublishErrorKind, StatusCode, Subscriber};
use bytes::Bytes;
use exchange_core::event::SCHEMA;
use futures_util::StreamExt as _;
use serde::Deserialize;
use tokio::sync::watch;

use crate::error::{SinkError, SinkErrorKind};
use crate::queue::{Answer, IN_FLIGHT, Message, Queue, Server, subject};
use crate::registry::Target;
use crate::sink::Sink;
use crate::trust::{LOGIN, advised, refused, tls_advice};
use options::Login;
use options::Options;
pub(crate) use options::target;
pub(crate) use source::origin;

impl Target for Options {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Queue::new(&self.login.name, Nats::new(self.clone()))))
    }
}

/// The client reconnects by itself; this is what it told of it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Weather {
    /// How often the connection was lost.
    lost: u64,
    /// Whether it is lost now.
    down: bool,
    /// Why it could not be made anew, the last time that it was tried.
    why: Option<String>,
}

#[derive(Debug)]
struct Link {
    client: Client,
    /// Where acknowledgements arrive: under this subject, a dot, and the message's number.
    inbox: String,
    answers: Subscriber,
    weather: watch::Receiver<Weather>,
    /// How often the connection had been lost when messages were last sent anew.
    lost: u64,
    /// Whether the stream seems not to be there any more.
    doubtful: bool,
}

#[derive(Debug)]
struct Nats {
    options: Options,
    link: Option<Link>,
    worked_before: bool,
    /// Messages that the client would not even send.
    refused: VecDeque<(u64, Answer)>,
    repeats: metrics::Counter,
}

impl Nats {
    fn new(options: Options) -> Self {
        metrics::describe_counter!("collector_sink_repeats_total", "Events that a sink's server had already, by their ids");
        let repeats = metrics::counter!("collector_sink_repeats_total", "sink" => options.login.name.to_string());
        Self { options, link: None, worked_before: false, refused: VecDeque::new(), repeats }
    }

    fn lost(&self) -> SinkError {
        let weather = self.link.as_ref().map(|link| link.weather.borrow().clone()).unwrap_or_default();
        let why = weather.why.map(|why| format!(", and not made anew: {why}")).unwrap_or_default();
        retryable(format!("`{}`: the connection was lost{why}", self.options.login.name))
    }
}

impl Server for Nats {
    async fn connect(&mut self) -> Result<bool, SinkError> {
        let shut_out = |link: &Link| {
            let weather = link.weather.borrow();
            weather.down && weather.why.as_deref().is_some_and(|why| why.contains(SHUT_OUT))
        };
        // The client goes on with the password that it knows: there may be another by now.
        if self.link.as_ref().is_some_and(shut_out) {
            self.link = None;
        }
        let Some(link) = &mut self.link else {
            let (client, weather) = self.options.login.connect(self.worked_before).await?;
            self.options.check_stream(&client).await?;
            let inbox = client.new_inbox();
            let answers = client.subscribe(format!("{inbox}.*")).await.map_err(|error| retryable(format!("`{}`: {error}", self.options.login.name)))?;
            let lost = weather.borrow().lost;
            self.link = Some(Link { client, inbox, answers, weather, lost, doubtful: false });
            self.worked_before = true;
            return Ok(true);
        };
        let (down, lost) = {
            let now = link.weather.borrow();
            (now.down, now.lost)
        };
        if down {
            return Err(self.lost());
        }
        let anew = lost != link.lost;
        if anew || link.doubtful {
            // It may be another server by now, or one that lost its memory.
            self.options.check_stream(&link.client).await?;
            (link.lost, link.doubtful) = (lost, false);
        }
        Ok(anew)
    }

    async fn send(&mut self, message: Message) -> Result<(), SinkError> {
        let Some(link) = &mut self.link else { return Err(self.lost()) };
        let event = message.event();
        let mut headers = HeaderMap::new();
        headers.insert(async_nats::header::NATS_MESSAGE_ID, event.id.to_string());
        headers.insert(TYPE.clone(), event.body.kind());
        headers.insert(SCHEMA_NAME.clone(), SCHEMA_TEXT);
        let reply = format!("{}.{}", link.inbox, message.number);
        let payload = Bytes::copy_from_slice(message.line());
        let known = link.lost;
        let sent = tokio::select! {
            biased;
            sent = link.client.publish_with_reply_and_headers(subject(&self.options.prefix, event), reply, headers, payload) => Some(sent),
            // The client has no more room, and makes none while no server is there.
            _ = link.weather.wait_for(|weather| weather.lost != known) => None,
        };
        match sent.ok_or_else(|| self.lost())? {
            Ok(()) => Ok(()),
            Err(error) if error.kind() == PublishErrorKind::Send => {
                self.link = None;
                Err(self.lost())
            }
            Err(error) => {
                self.refused.push_back((message.number, Answer::Refused(error.to_string())));
                Ok(())
            }
        }
    }

    async fn answer(&mut self) -> Result<(u64, Answer), SinkError> {
        if let Some(answer) = self.refused.pop_front() {
            return Ok(answer);
        }
        while let Some(link) = &mut self.link {
            let lost = link.lost;
            let message = tokio::select! {
                biased;
                message = link.answers.next() => message,
                _ = link.weather.wait_for(|weather| weather.lost != lost) => break,
            };
            let Some(message) = message else {
                self.link = None;
                break;
            };
            let number = message.subject.rsplit_once('.').and_then(|(_, number)| number.parse().ok());
            if let Some(number) = number {
                link.doubtful |= message.status == Some(StatusCode::NO_RESPONDERS);
                return Ok((number, judge(&self.options.login.name, message.status, &message.payload, &self.repeats)));
            }
        }
        Err(self.lost())
    }

    fn silent(&mut self) -> SinkError {
        self.link = None;
        retryable(format!("`{}`: no acknowledgement for long; connecting anew", self.options.login.name))
    }

    async fn close(&mut self) {
        self.link = None;
    }
}

// Names that are made once cost nothing for each message.
static TYPE: HeaderName = HeaderName::from_static("type");
static SCHEMA_NAME: HeaderName = HeaderName::from_static("schema");
const SCHEMA_TEXT: &str = "1";
const _: () = assert!(SCHEMA == 1, "the header says so, too");

/// What the client says where the server does not let it in.
const SHUT_OUT: &str = "authorization violation";

/// What a server says of a message.
#[derive(Deserialize)]
struct Ack {
    error: Option<jetstream::Error>,
    seq: Option<u64>,
    #[serde(default)]
    duplicate: bool,
}

fn judge(name: &str, status: Option<StatusCode>, payload: &[u8], repeats: &metrics::Counter) -> Answer {
    if status == Some(StatusCode::NO_RESPONDERS) {
        return Answer::Later(retryable(format!("`{name}`: no stream takes the messages: it was deleted, or has no leader")));
    }
    match serde_json::from_slice::<Ack>(payload) {
        Ok(Ack { error: Some(error), .. }) if error.error_code() == ErrorCode::STREAM_MESSAGE_EXCEEDS_MAXIMUM => Answer::Refused(error.to_string()),
        Ok(Ack { error: Some(error), .. }) => Answer::Later(retryable(format!("`{name}`: {error}"))),
        Ok(Ack { seq: Some(_), duplicate, .. }) => {
            repeats.increment(duplicate.into());
            Answer::Safe
        }
        _ => Answer::Later(retryable(format!("`{name}`: not understood as an acknowledgement: {}", String::from_utf8_lossy(payload)))),
    }
}

impl Login {
    /// Connects, trying each server once.
    async fn connect(&self, worked_before: bool) -> Result<(Client, watch::Receiver<Weather>), SinkError> {
        let (sender, weather) = watch::channel(Weather::default());
        let mut connect = ConnectOptions::new()
            .name("collector")
            .retain_servers_order()
            .skip_subject_validation(true)
            // More than may be on their way: what the client cannot queue, it throws away.
            .subscription_capacity(2 * IN_FLIGHT + 1024)
            .client_capacity(4096)
            .read_buffer_capacity(u16::MAX)
            .reconnect_delay_callback(|attempts| Duration::from_millis(50 << attempts.min(6)))
            .require_tls(self.tls)
            .tls_client_config(self.trusted.clone())
            .event_callback(move |event| {
                match event {
                    Event::Disconnected => sender.send_modify(|weather| *weather = Weather { lost: weather.lost + 1, down: true, why: None }),
                    Event::Connected => sender.send_modify(|weather| (weather.down, weather.why) = (false, None)),
                    Event::ClientError(error) => sender.send_modify(|weather| weather.why = Some(error.to_string())),
                    _ => {}
                }
                std::future::ready(())
            });
        if let Some(credentials) = &self.credentials {
            connect = credentials.add(connect)?;
        }
        connect = match (self.place.user.clone(), self.place.password.read()?) {
            (Some(user), Some(password)) => connect.user_and_password(user, password.reveal().to_owned()),
            // A server that wants a token has no users.
            (Some(token), None) => connect.token(token),
            (None, Some(token)) => connect.token(token.reveal().to_owned()),
            (None, None) => connect,
        };
        let servers: Result<Vec<async_nats::ServerAddr>, _> = self.place.hosts.iter().map(|host| format!("nats://{}", host.with_port(4222)).parse()).collect();
        let servers = servers.map_err(|error| SinkError::new(SinkErrorKind::Config, format!("`{}`: {error}", self.name)))?;
        let client = connect.connect(servers).await.map_err(|error| {
            let words = error.to_string();
            let (kind, advice) = match error.kind() {
                ConnectErrorKind::ServerParse => (SinkErrorKind::Config, None),
                ConnectErrorKind::Authentication | ConnectErrorKind::AuthorizationViolation => (refused(worked_before), Some(LOGIN)),
                _ => match tls_advice(&words) {
                    Some(advice) => (refused(worked_before), Some(advice)),
                    None => (SinkErrorKind::Retryable, None),
                },
            };
            SinkError::new(kind, format!("`{}`: cannot connect: {}", self.name, advised(&words, advice)))
        })?;
        Ok((client, weather))
    }
}

impl Options {
    /// Makes the stream, or sees whether the one that is there will do.
    async fn check_stream(&self, client: &Client) -> Result<(), SinkError> {
        let name = &self.login.name;
        let context = jetstream::context::ContextBuilder::new().timeout(Duration::from_secs(5)).build(client.clone());
        let config = match context.get_stream(&self.stream).await {
            Ok(stream) => stream.cached_info().config.clone(),
            Err(error) => match error.kind() {
                GetStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NOT_FOUND => {
                    let made = context.create_stream(self.config()).await.map_err(|error| {
                        let kind = match error.kind() {
                            // Made by another collector a moment ago, among others: the next look will tell.
                            CreateStreamErrorKind::JetStream(error) if error.error_code() == ErrorCode::STREAM_NAME_EXIST => SinkErrorKind::Retryable,
                            CreateStreamErrorKind::JetStream(error) if error.code() == 400 => SinkErrorKind::Permanent,
                            _ => SinkErrorKind::Retryable,
                        };
                        SinkError::new(kind, format!("`{name}`: cannot make the stream `{}`: {error}", self.stream))
                    })?;
                    tracing::info!(sink = %name, stream = self.stream, "made the stream");
                    made.cached_info().config.clone()
                }
                _ => return Err(retryable(format!("`{name}`: cannot ask for the stream `{}`: {error} (does the server run with JetStream?)", self.stream))),
            },
        };
        self.check(&config)
    }
}

fn retryable(message: String) -> SinkError {
    SinkError::new(SinkErrorKind::Retryable, Arc::<str>::from(message))
}

#[cfg(test)]
mod tests;
