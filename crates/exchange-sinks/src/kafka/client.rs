//! What the client says from its own threads.

use rdkafka::ClientContext;
use rdkafka::config::RDKafkaLogLevel;
use rdkafka::consumer::ConsumerContext;
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::message::DeliveryResult;
use rdkafka::producer::ProducerContext;
use tokio::sync::mpsc;

/// What happened in the client.
#[derive(Debug)]
pub(crate) enum News {
    /// A message is stored, by its number.
    Delivered(u64),
    /// A message was given up, and why.
    Failed(u64, RDKafkaErrorCode, String),
    /// Something that concerns no single message, such as a broker that cannot be reached.
    Trouble { all_down: bool, why: String },
}

/// Passes on what the client says.
#[derive(Debug)]
pub(crate) struct Context {
    news: mpsc::UnboundedSender<News>,
}

impl Context {
    pub(crate) fn new() -> (Self, mpsc::UnboundedReceiver<News>) {
        let (news, receiver) = mpsc::unbounded_channel();
        (Self { news }, receiver)
    }

    fn tell(&self, news: News) {
        // Nobody listens any more where the sink is gone.
        let _ = self.news.send(news);
    }
}

impl ClientContext for Context {
    /// Trouble is told by `error`, once and by those who wait: the client's own words are for whoever looks closely.
    fn log(&self, level: RDKafkaLogLevel, fac: &str, log_message: &str) {
        tracing::debug!(target: "librdkafka", ?level, fac, "{log_message}");
    }

    fn error(&self, error: KafkaError, reason: &str) {
        let all_down = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        self.tell(News::Trouble { all_down, why: reason.to_owned() });
    }
}

impl ProducerContext for Context {
    type DeliveryOpaque = Box<u64>;

    fn delivery(&self, result: &DeliveryResult<'_>, number: Box<u64>) {
        self.tell(match result {
            Ok(_) => News::Delivered(*number),
            Err((error, _)) => News::Failed(*number, error.rdkafka_error_code().unwrap_or(RDKafkaErrorCode::Fail), error.to_string()),
        });
    }
}

impl ConsumerContext for Context {}
