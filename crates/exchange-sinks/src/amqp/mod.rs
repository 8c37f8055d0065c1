//! `amqp://` publishes events to an exchange of a `RabbitMQ` (or another AMQP 0-9-1 broker), one message each.
//!
//! Messages are persistent, say the event's id as their `message_id`, and go to a topic exchange by their subject; a durable
//! queue is declared and bound on demand. `Ok` of a flush means that the broker has confirmed every message. The protocol has
//! no way to leave out repetitions: what is sent again after a lost connection may come twice, and the id tells.

mod options;

use std::collections::VecDeque;
use std::future::Future;
use std::pin::Pin;
use std::time::Duration;

use exchange_core::event::SCHEMA;
use futures_util::FutureExt as _;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, ExchangeDeclareOptions, QueueBindOptions, QueueDeclareOptions};
use lapin::protocol::{AMQPErrorKind, AMQPHardError, AMQPSoftError};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Channel, Confirmation, Connection, ConnectionProperties, ErrorKind, ExchangeKind};

use crate::error::{SinkError, SinkErrorKind};
use crate::queue::{Answer, Message, Queue, Server, subject};
use crate::registry::Target;
use crate::sink::Sink;
use crate::trust::{LOGIN, advised, refused, tls_advice};
use options::Options;
pub(crate) use options::target;

/// How long connecting to one host, and each of the steps behind it, may take.
const CONNECT: Duration = Duration::from_secs(10);
/// What the broker says to whom it does not let in.
const SHUT_OUT: &str = "ACCESS_REFUSED - Login was refused";
/// What the broker keeps over its own restart.
const PERSISTENT: u8 = 2;

impl Target for Options {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(Queue::new(&self.name, Amqp::new(self.clone()))))
    }
}

/// A message whose confirmation is awaited.
type Confirming = Pin<Box<dyn Future<Output = lapin::Result<Confirmation>> + Send>>;

enum Sent {
    Confirming(Confirming),
    Over(Box<lapin::Result<Confirmation>>),
}

struct Link {
    connection: Connection,
    channel: Channel,
    /// In the order in which they were sent, by their numbers.
    sent: VecDeque<(u64, Sent)>,
}

struct Amqp {
    options: Options,
    link: Option<Link>,
    worked_before: bool,
    unrouted: metrics::Counter,
    /// Whether a message without a receiver was told of on this connection.
    told: bool,
}

impl Amqp {
    fn new(options: Options) -> Self {
        metrics::describe_counter!("collector_sink_unrouted_total", "Events that a broker took and for which it had no queue");
        let unrouted = metrics::counter!("collector_sink_unrouted_total", "sink" => options.name.to_string());
        Self { options, link: None, worked_before: false, unrouted, told: false }
    }

    fn judge(&mut self, result: lapin::Result<Confirmation>) -> Result<Answer, SinkError> {
        match result {
            Ok(Confirmation::Ack(None)) => Ok(Answer::Safe),
            Ok(Confirmation::Ack(Some(returned))) => {
                if let Some(queue) = &self.options.queue {
                    // Somebody deleted the queue or its binding: declared again with the next connection.
                    let why = format!("`{}`: the queue `{queue}` does not get the messages any more ({})", self.options.name, returned.reply_text);
                    self.link = None;
                    return Err(SinkError::new(SinkErrorKind::Retryable, why));
                }
                self.unrouted.increment(1);
                if !std::mem::replace(&mut self.told, true) {
                    let (sink, exchange, subject) = (&self.options.name, &self.options.exchange, &returned.delivery.routing_key);
                    tracing::warn!(%sink, %exchange, %subject, "no queue is bound for this subject: the broker drops such events");
                }
                Ok(Answer::Safe)
            }
            Ok(Confirmation::Nack(_)) => Ok(Answer::Later(SinkError::new(
                SinkErrorKind::Retryable,
                format!("`{}`: the broker could not store a message (a full queue, an error of its own)", self.options.name),
            ))),
            Ok(Confirmation::NotRequested) => Err(SinkError::new(SinkErrorKind::Permanent, format!("`{}`: the broker confirms nothing", self.options.name))),
            Err(error) => {
                self.link = None;
                Err(self.options.error("the connection was lost", &error, true))
            }
        }
    }
}

impl Options {
    fn error(&self, what: &str, error: &lapin::Error, worked_before: bool) -> SinkError {
        let words = error.to_string();
        let advice = if words.contains(SHUT_OUT) { Some(LOGIN) } else { tls_advice(&words) };
        let kind = if advice.is_none() && will_pass(error) { SinkErrorKind::Retryable } else { refused(worked_before) };
        SinkError::new(kind, format!("`{}`: {what}: {}", self.name, advised(&words, advice)))
    }

    async fn dial(&self, worked_before: bool) -> Result<Connection, SinkError> {
        let mut last = None;
        for host in 0..self.hosts() {
            let uri = self.uri(host)?;
            let properties = ConnectionProperties::default().with_connection_name("collector".into());
            let runtime = lapin::runtime::default_runtime().map_err(|error| self.error("cannot connect", &error, worked_before))?;
            let connecting = Connection::connect_uri_with_config(uri, properties, self.tls()?, runtime);
            match tokio::time::timeout(CONNECT, connecting).await {
                Ok(Ok(connection)) => return Ok(connection),
                Ok(Err(error)) => last = Some(self.error("cannot connect", &error, worked_before)),
                Err(_) => last = Some(self.silent_for("cannot connect")),
            }
        }
        Err(last.unwrap_or_else(|| self.silent_for("cannot connect")))
    }

    fn silent_for(&self, what: &str) -> SinkError {
        SinkError::new(SinkErrorKind::Retryable, format!("`{}`: {what}: the broker does not answer", self.name))
    }

    /// Declares what the address asks for. What is there already must be the same.
    async fn declare(&self, connection: &Connection, worked_before: bool) -> Result<Channel, SinkError> {
        let options = self;
        let steps = async {
            let channel = connection.create_channel().await?;
            let durable = ExchangeDeclareOptions { durable: true, ..ExchangeDeclareOptions::default() };
            channel.exchange_declare(options.exchange.clone(), ExchangeKind::Topic, durable, FieldTable::default()).await?;
            if let Some(queue) = &options.queue {
                let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
                channel.queue_declare(queue.clone(), durable, FieldTable::default()).await?;
                let all = format!("{}.#", options.prefix);
                channel.queue_bind(queue.clone(), options.exchange.clone(), all.into(), QueueBindOptions::default(), FieldTable::default()).await?;
            }
            channel.confirm_select(ConfirmSelectOptions::default()).await?;
            Ok(channel)
        };
        match tokio::time::timeout(CONNECT, steps).await {
            Ok(result) => result.map_err(|error| self.error("cannot declare the exchange and the queue", &error, worked_before)),
            Err(_) => Err(self.silent_for("cannot declare the exchange and the queue")),
        }
    }
}

impl Server for Amqp {
    async fn connect(&mut self) -> Result<bool, SinkError> {
        if self.link.as_ref().is_some_and(|link| link.connection.status().connected() && link.channel.status().connected()) {
            return Ok(false);
        }
        self.link = None;
        let connection = self.options.dial(self.worked_before).await?;
        let channel = self.options.declare(&connection, self.worked_before).await?;
        (self.told, self.worked_before) = (false, true);
        self.link = Some(Link { connection, channel, sent: VecDeque::new() });
        Ok(true)
    }

    /// Never waits: the client takes a message when its future is first asked, and the window bounds what it holds.
    async fn send(&mut self, message: Message) -> Result<(), SinkError> {
        let Some(link) = &mut self.link else { return Err(self.options.silent_for("cannot publish")) };
        let event = message.event();
        let mut headers = FieldTable::default();
        headers.insert("schema".into(), AMQPValue::LongUInt(SCHEMA));
        let properties = BasicProperties::default()
            .with_message_id(event.id.to_string().into())
            .with_type(event.body.kind().into())
            .with_content_type("application/json".into())
            .with_delivery_mode(PERSISTENT)
            .with_timestamp(u64::try_from(event.received.micros()).unwrap_or_default() / 1_000_000)
            .with_headers(headers);
        let (channel, exchange, subject) = (link.channel.clone(), self.options.exchange.clone(), subject(&self.options.prefix, event));
        let number = message.number;
        let mut publishing: Confirming = Box::pin(async move {
            let mandatory = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            channel.basic_publish(exchange, subject.into(), mandatory, message.line(), properties).await?.await
        });
        let sent = match (&mut publishing).now_or_never() {
            Some(over) => Sent::Over(Box::new(over)),
            None => Sent::Confirming(publishing),
        };
        link.sent.push_back((number, sent));
        Ok(())
    }

    async fn answer(&mut self) -> Result<(u64, Answer), SinkError> {
        let Some(link) = &mut self.link else { return Err(self.options.silent_for("cannot publish")) };
        let Some((_, first)) = link.sent.front_mut() else { return std::future::pending().await };
        if let Sent::Confirming(confirming) = first {
            *first = Sent::Over(Box::new(confirming.await));
        }
        let Some((number, Sent::Over(result))) = link.sent.pop_front() else { return std::future::pending().await };
        Ok((number, self.judge(*result)?))
    }

    fn silent(&mut self) -> SinkError {
        if self.link.as_ref().is_some_and(|link| link.connection.status().blocked()) {
            // It is alive, and short of memory or disk: another connection would fare no better.
            return self.options.silent_for("blocked by an alarm (memory, disk)");
        }
        self.link = None;
        self.options.silent_for("no confirmation for long; connecting anew")
    }

    async fn close(&mut self) {
        if let Some(link) = self.link.take() {
            // All is confirmed: the goodbye is a courtesy.
            let _ = tokio::time::timeout(Duration::from_secs(1), link.connection.close(200, "bye".into())).await;
        }
    }
}

/// Whether an error passes by itself: a refused login, or another exchange of that name, does not.
fn will_pass(error: &lapin::Error) -> bool {
    let ErrorKind::ProtocolError(error) = error.kind() else { return true };
    !matches!(
        error.kind(),
        AMQPErrorKind::Soft(AMQPSoftError::ACCESSREFUSED | AMQPSoftError::PRECONDITIONFAILED)
            | AMQPErrorKind::Hard(AMQPHardError::NOTALLOWED | AMQPHardError::INVALIDPATH)
    )
}

#[cfg(test)]
mod tests;
