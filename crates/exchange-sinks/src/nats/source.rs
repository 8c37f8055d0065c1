//! A stream, read back in its order.
//!
//! The client's ordered consumer begins anew behind the last message where something was lost on the way; where it gives
//! up, this connects again and goes on behind what it handed on.

use std::sync::Arc;

use async_nats::datetime::from_nanos;
use async_nats::jetstream::consumer::DeliverPolicy;
use async_nats::jetstream::consumer::pull::{Ordered, OrderedConfig};
use exchange_core::Batch;
use futures_util::{FutureExt as _, StreamExt as _};

use super::{Options, jetstream, retryable};
use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::sink::SinkFuture;
use crate::source::messages::{Messages, SKEW_MICROS};
use crate::source::{Origin, Reading, Since, Source};

/// Reads `nats://HOST/STREAM`.
pub(crate) fn origin(address: Address) -> Result<Arc<dyn Origin>, SinkError> {
    Options::read(address).map(|options| Arc::new(options) as Arc<dyn Origin>)
}

impl Origin for Options {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        Ok(Box::new(NatsSource { options: self.clone(), reading, messages: Messages::new(reading.from), link: None, last: None, ended: false }))
    }
}

struct Link {
    stream: Ordered,
    /// The last message that there was when reading began, by its sequence number.
    end: u64,
}

struct NatsSource {
    options: Options,
    reading: Reading,
    messages: Messages,
    link: Option<Link>,
    /// The sequence number of the last message that was taken.
    last: Option<u64>,
    ended: bool,
}

impl NatsSource {
    async fn connect(&mut self) -> Result<Option<Link>, SinkError> {
        let options = &self.options;
        let (client, _) = options.login.connect(self.last.is_some()).await?;
        let context = jetstream::new(client);
        let stream = context.get_stream(&options.stream).await.map_err(|error| {
            let why = format!("`{}`: cannot read the stream `{}`: {error}", options.login.name, options.stream);
            SinkError::new(SinkErrorKind::Retryable, why)
        })?;
        let end = stream.cached_info().state.last_sequence;
        let deliver_policy = match (self.last, self.reading.from) {
            (Some(last), _) => DeliverPolicy::ByStartSequence { start_sequence: last + 1 },
            (None, Since::Start) => DeliverPolicy::All,
            (None, Since::Now) => DeliverPolicy::New,
            (None, Since::Time(time)) => match from_nanos(i128::from(time.micros().saturating_sub(SKEW_MICROS)) * 1000) {
                Ok(start_time) => DeliverPolicy::ByStartTime { start_time },
                Err(_) => DeliverPolicy::All,
            },
        };
        let config = OrderedConfig { filter_subject: format!("{}.>", options.prefix), deliver_policy, ..OrderedConfig::default() };
        let failed = |error: &dyn std::fmt::Display| retryable(format!("`{}`: cannot read the stream `{}`: {error}", options.login.name, options.stream));
        let consumer = stream.create_consumer(config).await.map_err(|error| failed(&error))?;
        if !self.reading.follow && consumer.cached_info().num_pending == 0 {
            return Ok(None);
        }
        let stream = consumer.messages().await.map_err(|error| failed(&error))?;
        Ok(Some(Link { stream, end }))
    }

    async fn read(&mut self) -> Result<Option<Batch>, SinkError> {
        if !self.reading.follow && self.reading.from == Since::Now {
            return Ok(None);
        }
        while !self.ended && !self.messages.is_full() {
            let Some(link) = &mut self.link else {
                // Who is not let in will not be let in later.
                self.link = self.connect().await.inspect_err(|error| self.ended = !error.is_retryable())?;
                self.ended = self.link.is_none();
                continue;
            };
            // What has come is handed on before anything is waited for.
            let message = match link.stream.next().now_or_never() {
                Some(message) => message,
                None => match self.messages.take() {
                    Some(batch) => return Ok(Some(batch)),
                    None => link.stream.next().await,
                },
            };
            let why = match message {
                Some(Ok(message)) => match message.info().map(|info| (info.stream_sequence, info.pending)) {
                    Ok((sequence, pending)) => {
                        self.messages.add(&self.options.login.name, sequence, &message.payload);
                        self.last = Some(sequence);
                        self.ended = !self.reading.follow && (pending == 0 || sequence >= link.end);
                        continue;
                    }
                    Err(error) => error.to_string(),
                },
                Some(Err(error)) => error.to_string(),
                None => "the connection was lost".to_owned(),
            };
            self.link = None;
            return Err(retryable(format!("`{}`: {why}", self.options.login.name)));
        }
        Ok(self.messages.take())
    }
}

impl Source for NatsSource {
    fn name(&self) -> &str {
        &self.options.login.name
    }

    fn next(&mut self) -> SinkFuture<'_, Option<Batch>> {
        Box::pin(self.read())
    }
}
