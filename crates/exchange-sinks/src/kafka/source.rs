//! A topic, read back: all of its partitions, each in its order.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use exchange_core::Batch;
use futures_util::FutureExt as _;
use rdkafka::consumer::{Consumer as _, StreamConsumer};
use rdkafka::error::{KafkaError, KafkaResult};
use rdkafka::message::Message as _;
use rdkafka::{Offset, TopicPartitionList};

use super::client::Context;
use super::options::Options;
use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::sink::SinkFuture;
use crate::source::messages::Messages;
use crate::source::{Origin, Reading, Since, Source};

/// How long a question to the brokers may take.
const QUESTION: Duration = Duration::from_secs(10);

/// Reads `kafka://HOST/TOPIC`.
pub(crate) fn origin(mut address: Address) -> Result<Arc<dyn Origin>, SinkError> {
    let options = Options::take(&mut address)?;
    address.end()?;
    Ok(Arc::new(options))
}

impl Origin for Options {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        Ok(Box::new(KafkaSource { options: self.clone(), reading, messages: Messages::new(reading.from), consumer: None, open: BTreeMap::new(), ended: false }))
    }
}

struct KafkaSource {
    options: Options,
    reading: Reading,
    messages: Messages,
    consumer: Option<StreamConsumer<Context>>,
    /// The partitions that are read, and where each goes on.
    open: BTreeMap<i32, Offset>,
    ended: bool,
}

impl KafkaSource {
    fn failed(&self, error: &KafkaError) -> SinkError {
        SinkError::new(SinkErrorKind::Retryable, format!("`{}`: cannot read the topic `{}`: {error}", self.options.name, self.options.topic))
    }

    /// Asks which partitions there are and where to begin. The client waits for answers in the calling thread, which must
    /// not be the runtime's.
    async fn connect(&mut self) -> Result<(), SinkError> {
        let mut config = self.options.client()?;
        // Nothing is told to the brokers of what was read: the name of the group is a formality.
        config.set("group.id", "collector-tail").set("enable.auto.commit", "false").set("auto.offset.reset", "earliest");
        config.set("enable.partition.eof", if self.reading.follow { "false" } else { "true" });
        let (topic, from, known) = (self.options.topic.clone(), self.reading.from, self.open.clone());
        let asked = tokio::task::spawn_blocking(move || begin(&config, &topic, from, known)).await;
        let (consumer, open) = match asked {
            Ok(answer) => answer.map_err(|error| self.failed(&error))?,
            Err(_) => return Err(SinkError::new(SinkErrorKind::Permanent, format!("`{}`: the client failed", self.options.name))),
        };
        self.ended = open.is_empty();
        (self.consumer, self.open) = (Some(consumer), open);
        Ok(())
    }

    async fn read(&mut self) -> Result<Option<Batch>, SinkError> {
        if !self.reading.follow && self.reading.from == Since::Now {
            return Ok(None);
        }
        while !self.ended && !self.messages.is_full() {
            let Some(consumer) = &self.consumer else {
                // What is wrong with the address or its password will be wrong later.
                self.connect().await.inspect_err(|error| self.ended = !error.is_retryable())?;
                continue;
            };
            // What has come is handed on before anything is waited for.
            let message = match consumer.recv().now_or_never() {
                Some(message) => message,
                None => match self.messages.take() {
                    Some(batch) => return Ok(Some(batch)),
                    None => consumer.recv().await,
                },
            };
            match message {
                Ok(message) => {
                    let (partition, offset) = (message.partition(), message.offset());
                    self.messages.add(&self.options.name, format_args!("{partition}/{offset}"), message.payload().unwrap_or_default());
                    self.open.insert(partition, Offset::Offset(offset + 1));
                }
                Err(KafkaError::PartitionEOF(partition)) => {
                    self.open.remove(&partition);
                    self.ended = self.open.is_empty();
                }
                Err(error) => {
                    let error = self.failed(&error);
                    if self.consumer.as_ref().is_some_and(|consumer| consumer.client().fatal_error().is_some()) {
                        self.consumer = None;
                    }
                    return Err(error);
                }
            }
        }
        Ok(self.messages.take())
    }
}

type Begun = (StreamConsumer<Context>, BTreeMap<i32, Offset>);

/// A consumer that has begun to read; `known` is where it goes on, once that is known.
fn begin(config: &rdkafka::ClientConfig, topic: &str, from: Since, known: BTreeMap<i32, Offset>) -> KafkaResult<Begun> {
    let consumer: StreamConsumer<Context> = config.create_with_context(Context::new().0)?;
    let open = if known.is_empty() { offsets(&consumer, topic, from)? } else { known };
    let mut assigned = TopicPartitionList::new();
    for (partition, offset) in &open {
        assigned.add_partition_offset(topic, *partition, *offset)?;
    }
    consumer.assign(&assigned)?;
    Ok((consumer, open))
}

fn offsets(consumer: &StreamConsumer<Context>, topic: &str, from: Since) -> KafkaResult<BTreeMap<i32, Offset>> {
    let metadata = consumer.fetch_metadata(Some(topic), QUESTION)?;
    let partitions = metadata.topics().iter().filter(|found| found.name() == topic).flat_map(rdkafka::metadata::MetadataTopic::partitions);
    let ids: Vec<i32> = partitions.map(rdkafka::metadata::MetadataPartition::id).collect();
    if ids.is_empty() {
        return Err(KafkaError::MetadataFetch(rdkafka::error::RDKafkaErrorCode::UnknownTopicOrPartition));
    }
    let mut begin = BTreeMap::new();
    match from {
        Since::Start => begin.extend(ids.into_iter().map(|id| (id, Offset::Beginning))),
        // The very offset and not "the end": what comes until the first answer is to be read.
        Since::Now => {
            for id in ids {
                begin.insert(id, Offset::Offset(consumer.fetch_watermarks(topic, id, QUESTION)?.1));
            }
        }
        Since::Time(time) => {
            let mut asked = TopicPartitionList::new();
            for id in ids {
                asked.add_partition_offset(topic, id, Offset::Offset(time.micros() / 1000))?;
            }
            let found = consumer.offsets_for_times(asked, QUESTION)?;
            begin.extend(found.elements().iter().map(|element| (element.partition(), element.offset())));
        }
    }
    Ok(begin)
}

impl Source for KafkaSource {
    fn name(&self) -> &str {
        &self.options.name
    }

    fn next(&mut self) -> SinkFuture<'_, Option<Batch>> {
        Box::pin(self.read())
    }
}
