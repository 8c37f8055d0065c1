//! Kafka, as its client's library mocks it: brokers in the test's own process, on real sockets of the loopback, so that other
//! processes can be their clients.
//!
//! What a partition holds is in memory, and bounded: 5 MB, the oldest goes first.

use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Duration;

use rdkafka::consumer::{BaseConsumer, Consumer as _};
use rdkafka::error::KafkaError;
use rdkafka::message::{BorrowedMessage, Headers as _, Message as _};
use rdkafka::mocking::MockCluster;
use rdkafka::producer::DefaultProducerContext;
use rdkafka::{Offset, TopicPartitionList};

/// How long a test waits for a message.
const PATIENCE: Duration = Duration::from_secs(20);

/// Three brokers. They do what the library's own mock can do.
pub struct Kafka {
    cluster: MockCluster<'static, DefaultProducerContext>,
    topic: String,
    partitions: i32,
}

/// Starts three brokers with a topic of so many partitions in three copies.
///
/// # Panics
/// If they cannot be started.
pub fn kafka(topic: &str, partitions: i32) -> Kafka {
    let cluster = MockCluster::new(3).expect("brokers");
    cluster.create_topic(topic, partitions, 3).expect("a topic");
    Kafka { cluster, topic: topic.to_owned(), partitions }
}

impl Kafka {
    /// What `look` makes of all messages of the topic, partition by partition.
    ///
    /// # Panics
    /// If they cannot be read.
    pub fn stored<T>(&self, mut look: impl FnMut(&BorrowedMessage<'_>) -> T) -> Vec<T> {
        let consumer: BaseConsumer = rdkafka::ClientConfig::new()
            .set("bootstrap.servers", self.cluster.bootstrap_servers())
            .set("group.id", "test")
            .set("enable.partition.eof", "true")
            .create()
            .expect("a consumer");
        let mut all = TopicPartitionList::new();
        for partition in 0..self.partitions {
            all.add_partition_offset(&self.topic, partition, Offset::Beginning).expect("a partition");
        }
        consumer.assign(&all).expect("assigned");
        let mut found: BTreeMap<i32, Vec<T>> = BTreeMap::new();
        let mut ended = 0;
        while ended < self.partitions {
            match consumer.poll(PATIENCE).expect("the end of each partition") {
                Ok(message) => found.entry(message.partition()).or_default().push(look(&message)),
                Err(KafkaError::PartitionEOF(_)) => ended += 1,
                Err(error) => panic!("{error}"),
            }
        }
        found.into_values().flatten().collect()
    }
}

impl Deref for Kafka {
    type Target = MockCluster<'static, DefaultProducerContext>;

    fn deref(&self) -> &Self::Target {
        &self.cluster
    }
}

/// A message's header.
///
/// # Panics
/// If it has none such, or it is no text.
pub fn kafka_header(message: &BorrowedMessage<'_>, name: &str) -> String {
    let headers = message.headers().expect("headers");
    let found = headers.iter().find(|header| header.key == name).expect("a header of this name");
    String::from_utf8(found.value.expect("a value").to_vec()).expect("text")
}
