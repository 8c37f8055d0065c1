//! `kafka://` produces events into a topic, one message each, keyed by instrument: an instrument's events keep their order.
//!
//! The producer is idempotent and asks all replicas: what it sends again after a lost connection or a change of leaders is
//! stored once. What a collector sends again after its own death is stored twice, and told by its id (`collector tail`
//! merges by it). `Ok` of a flush means that every message's delivery was reported.

mod client;
mod options;
mod source;

use std::collections::VecDeque;

use exchange_core::event::SCHEMA;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::{Header, OwnedHeaders};
use rdkafka::producer::{BaseRecord, Producer as _, ThreadedProducer};
use tokio::sync::mpsc;

use crate::error::{SinkError, SinkErrorKind};
use crate::queue::{Answer, Message, Queue, Server};
use crate::registry::Target;
use crate::sink::Sink;
use client::{Context, News};
use options::Options;
pub(crate) use options::target;
pub(crate) use source::origin;

impl Target for Options {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Queue::new(&self.name, Kafka::new(self.clone()))))
    }
}

struct Link {
    producer: ThreadedProducer<Context>,
    news: mpsc::UnboundedReceiver<News>,
}

struct Kafka {
    options: Options,
    link: Option<Link>,
    /// Messages that the client would not even send.
    refused: VecDeque<(u64, Answer)>,
    /// What the client said last of its brokers.
    trouble: Option<String>,
}

impl Kafka {
    fn new(options: Options) -> Self {
        Self { options, link: None, refused: VecDeque::new(), trouble: None }
    }

    fn error(&self, what: &str) -> SinkError {
        SinkError::new(SinkErrorKind::Retryable, format!("`{}`: {what}", self.options.name))
    }
}

impl Server for Kafka {
    /// The client connects, and connects again, by itself: only one that gave up is replaced.
    async fn connect(&mut self) -> Result<bool, SinkError> {
        if let Some(link) = &self.link {
            let Some((_, why)) = link.producer.client().fatal_error() else { return Ok(false) };
            tracing::warn!(sink = %self.options.name, why, "the producer gave up: starting another");
        }
        self.refused.clear();
        self.leave().await;
        let (context, news) = Context::new();
        let producer = self.options.producer()?.create_with_context(context);
        let producer = producer.map_err(|error| SinkError::new(SinkErrorKind::Config, format!("`{}`: {error}", self.options.name)))?;
        self.link = Some(Link { producer, news });
        Ok(true)
    }

    async fn send(&mut self, message: Message) -> Result<(), SinkError> {
        let Some(link) = &self.link else { return Err(self.error("there is no producer")) };
        let event = message.event();
        let instrument = &event.instrument;
        let key = format!("{}:{}:{}", instrument.venue, instrument.market, instrument.venue_symbol);
        let id = event.id.to_string();
        let headers = OwnedHeaders::new_with_capacity(3)
            .insert(Header { key: "id", value: Some(&id) })
            .insert(Header { key: "type", value: Some(event.body.kind()) })
            .insert(Header { key: "schema", value: Some(SCHEMA_TEXT) });
        let record = BaseRecord::with_opaque_to(&self.options.topic, Box::new(message.number))
            .key(&key)
            .payload(message.line())
            .timestamp(event.received.micros() / 1000)
            .headers(headers);
        match link.producer.send(record) {
            Ok(()) => Ok(()),
            Err((KafkaError::MessageProduction(RDKafkaErrorCode::MessageSizeTooLarge | RDKafkaErrorCode::InvalidMessageSize), _)) => {
                self.refused
                    .push_back((message.number, Answer::Refused(format!("larger than the client's `message_bytes` of {}", self.options.message_bytes))));
                Ok(())
            }
            Err((error, _)) => Err(self.error(&error.to_string())),
        }
    }

    async fn answer(&mut self) -> Result<(u64, Answer), SinkError> {
        if let Some(answer) = self.refused.pop_front() {
            return Ok(answer);
        }
        while let Some(link) = &mut self.link {
            match link.news.recv().await {
                Some(News::Delivered(number)) => {
                    self.trouble = None;
                    return Ok((number, Answer::Safe));
                }
                Some(News::Failed(number, RDKafkaErrorCode::MessageSizeTooLarge, why)) => return Ok((number, Answer::Refused(why))),
                Some(News::Failed(number, _, why)) => return Ok((number, Answer::Later(self.error(&format!("not delivered: {why}"))))),
                Some(News::Trouble { all_down, why }) => {
                    tracing::debug!(sink = %self.options.name, why, "the client is in trouble");
                    self.trouble = Some(why);
                    if all_down {
                        return Err(self.silent());
                    }
                }
                None => break,
            }
        }
        Err(self.error("the producer ended"))
    }

    /// The client goes on trying, and what it holds it still delivers.
    fn silent(&mut self) -> SinkError {
        self.error(&format!("no deliveries: {}", self.trouble.as_deref().unwrap_or("the brokers do not answer")))
    }

    async fn close(&mut self) {
        self.leave().await;
    }
}

impl Kafka {
    /// Ends the producer. It waits for its thread, and so does this, elsewhere.
    async fn leave(&mut self) {
        if let Some(link) = self.link.take() {
            // It cannot fail but by a panic in the client.
            let _ = tokio::task::spawn_blocking(|| drop(link)).await;
        }
    }
}

const SCHEMA_TEXT: &str = "1";
const _: () = assert!(SCHEMA == 1, "the header says so, too");

#[cfg(test)]
mod tests;
