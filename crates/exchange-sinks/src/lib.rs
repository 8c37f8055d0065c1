//! Where events go. A [`Sink`] takes batches in order; [`SinkUri`] opens the one that an address names. And where they come
//! from again: a [`Source`] reads what a sink wrote.
//!
//! Everything that blocks (files, a slow reader of standard output) happens on a sink's own thread behind a bounded
//! queue, so that neither an async worker nor the end of the runtime ever waits for a disk. What a sink cannot take
//! it gives back as an error; it drops nothing by itself. To buffer, to try again and to count what was lost is the
//! caller's part.

#![warn(clippy::expect_used, clippy::indexing_slicing, clippy::panic, clippy::print_stdout, clippy::unwrap_used)]

mod address;
#[cfg(feature = "amqp")]
mod amqp;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod buffered;
#[cfg(test)]
mod contract;
mod error;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod fields;
mod file;
#[cfg(feature = "kafka")]
mod kafka;
mod lines;
#[cfg(feature = "nats")]
mod nats;
mod null;
#[cfg(feature = "parquet")]
mod parquet;
#[cfg_attr(
    not(any(feature = "amqp", feature = "kafka", feature = "nats", feature = "postgres", feature = "redis")),
    allow(dead_code, reason = "no sink of this build has a server")
)]
mod place;
#[cfg(feature = "postgres")]
mod postgres;
#[cfg(any(feature = "amqp", feature = "kafka", feature = "nats"))]
mod queue;
#[cfg(feature = "redis")]
mod redis;
mod registry;
mod sink;
mod source;
mod stdout;
#[cfg(any(feature = "nats", feature = "postgres"))]
mod tls;
#[cfg(any(feature = "amqp", feature = "nats", feature = "postgres", feature = "redis"))]
mod trust;
mod worker;

pub use address::bytes as parse_bytes;
pub use error::{SinkError, SinkErrorKind};
pub use file::{FileOptions, FileSink};
pub use lines::{Lines, Rest};
pub use null::NullSink;
#[cfg(feature = "parquet")]
pub use parquet::{MergeOptions, Merged, ParquetOptions, ParquetSink, merge as merge_parquet, merge_at as merge_parquet_at};
pub use registry::SinkUri;
pub use sink::{Sink, SinkFuture};
pub use source::{Reading, Since, Source, SourceUri};
pub use stdout::StdoutSink;
