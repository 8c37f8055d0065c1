//! `parquet:DIR` writes a dataset of Parquet files that DuckDB, Polars and pandas read as it lies:
//! `DIR/type=trade/venue=bybit/date=2026-11-21/part-….parquet`.
//!
//! Every file is complete whenever it can be seen: a partition's newest file is written anew with the rows that have come, and
//! takes the old one's place in one step. Its metadata says up to which batch of which journal it holds everything of its
//! partition, so that a batch that comes again after a crash gives no row twice, whichever files had been written by then.

mod compact;
#[cfg(feature = "s3")]
mod compact_s3;
mod covers;
mod dataset;
mod encode;
mod fill;
mod form;
mod merge;
mod partition;
mod rows;
#[cfg(feature = "s3")]
mod s3;
mod source;
mod store;
mod table;
#[cfg(test)]
mod tests;

use std::hash::{BuildHasher as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{RecvTimeoutError, Sender, TryRecvError, channel};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, SystemTime};

use exchange_core::{Batch, Position, Time};

use self::compact::Merger;
pub use self::compact::merge;
use self::dataset::{Dataset, Open, Pace, Safe};
pub use self::merge::{MergeOptions, Merged};
use self::partition::Owner;
pub(crate) use self::source::is_dataset;
use self::store::{Directory, Store};
use crate::address::Address;
use crate::error::SinkError;
use crate::registry::Target;
use crate::sink::{Sink, SinkFuture};
use crate::source::Origin;
use crate::worker::{RETRY, Threaded};

/// When small files are first merged: not while everything begins.
const MERGE_FIRST: Duration = Duration::from_mins(1);
/// And how often after that, in a directory and in an object store.
const MERGE_EVERY: Duration = Duration::from_mins(10);
#[cfg(feature = "s3")]
const MERGE_OBJECTS_EVERY: Duration = Duration::from_hours(1);
/// One time of so many, all days are looked at, and else the newest: in others hardly anything changes.
const MERGE_ALL: u32 = 6;

/// How the files are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParquetOptions {
    /// How long events wait for a file while nobody asks for a flush. Large files are written less often.
    pub every: Duration,
    /// A file that has so many bytes gets no more: the next begins.
    pub file_bytes: u64,
    /// The level of zstd's compression.
    pub level: i32,
    /// Whether small files are merged to large ones, in part while their day lasts, and an hour after it.
    pub merge: bool,
    /// Whether a file is on the disk before what is in it counts as safe. Without that a crash of the collector loses
    /// nothing, one of the machine may.
    pub sync: bool,
}

impl Default for ParquetOptions {
    fn default() -> Self {
        Self { every: Duration::from_secs(1), file_bytes: 4 << 20, level: 1, merge: true, sync: true }
    }
}

/// Reads `parquet:DIR` with, if need be, `?every=1s&size=4MiB&level=1&merge=on&sync=on` behind it, and `parquet:s3://BUCKET/PREFIX`.
pub(crate) fn target(address: Address) -> Result<Arc<dyn Target>, SinkError> {
    Ok(match Named::read(address)? {
        Named::Directory(directory) => Arc::new(directory),
        #[cfg(feature = "s3")]
        Named::Bucket(bucket) => Arc::new(bucket),
    })
}

/// Reads the same, as what is read from.
pub(crate) fn origin(address: Address) -> Result<Arc<dyn Origin>, SinkError> {
    Ok(match Named::read(address)? {
        Named::Directory(directory) => Arc::new(directory),
        #[cfg(feature = "s3")]
        Named::Bucket(bucket) => Arc::new(bucket),
    })
}

/// What an address names.
enum Named {
    Directory(DirectoryTarget),
    #[cfg(feature = "s3")]
    Bucket(s3::Bucket),
}

impl Named {
    fn read(mut address: Address) -> Result<Self, SinkError> {
        let path = address.path().ok_or_else(|| address.wrong("it lacks a directory (such as `parquet:./data`)"))?.to_owned();
        if let Some(place) = path.strip_prefix("s3://") {
            return bucket(place, address);
        }
        if path.contains("://") {
            return Err(address.wrong("it is no directory, and no other object store than `s3://` is known"));
        }
        let default = ParquetOptions::default();
        let every = address.take_duration("every", Duration::from_millis(100))?.unwrap_or(default.every);
        let file_bytes = address.take_bytes("size")?.unwrap_or(default.file_bytes);
        let level = level(&mut address)?.unwrap_or(default.level);
        let merge = switch(&mut address, "merge")?.unwrap_or(default.merge);
        let sync = switch(&mut address, "sync")?.unwrap_or(default.sync);
        address.end()?;
        Ok(Self::Directory(DirectoryTarget { directory: path.into(), options: ParquetOptions { every, file_bytes, level, merge, sync } }))
    }
}

fn level(address: &mut Address) -> Result<Option<i32>, SinkError> {
    Ok(address.take_number("level", 1..=19)?.and_then(|level| i32::try_from(level).ok()))
}

fn switch(address: &mut Address, key: &'static str) -> Result<Option<bool>, SinkError> {
    address.take(key, "switch (`on`, `off`)", |text| (text == "on" || text == "off").then_some(text == "on"))
}

/// Merges the small files of a dataset: as [`merge`] in a directory, and of `s3://BUCKET/PREFIX` (with the keys of the sink's
/// address) those of days that are over. `parquet:` may stand before either.
///
/// # Errors
/// As [`merge`], and [`SinkErrorKind::Config`](crate::SinkErrorKind::Config) for what is no place.
pub fn merge_at(place: &str, options: MergeOptions) -> Result<Merged, SinkError> {
    let place = place.strip_prefix("parquet:").unwrap_or(place);
    if !place.starts_with("s3://") {
        return merge(Path::new(place), options);
    }
    merge_bucket(place, options)
}

#[cfg(feature = "s3")]
fn merge_bucket(place: &str, options: MergeOptions) -> Result<Merged, SinkError> {
    compact_s3::merge(place, options)
}

#[cfg(not(feature = "s3"))]
fn merge_bucket(place: &str, _: MergeOptions) -> Result<Merged, SinkError> {
    match Address::parse(&format!("parquet:{place}")) {
        Some(address) => bucket(place, address).and(Ok(Merged::default())),
        None => Ok(Merged::default()),
    }
}

#[cfg(feature = "s3")]
fn bucket(place: &str, address: Address) -> Result<Named, SinkError> {
    s3::Bucket::read(place, address).map(Named::Bucket)
}

#[cfg(not(feature = "s3"))]
#[expect(clippy::needless_pass_by_value, reason = "as the other one, which needs it")]
fn bucket(_: &str, address: Address) -> Result<Named, SinkError> {
    Err(address.wrong("this build has no object stores: `cargo build --release --features s3` brings them"))
}

#[derive(Debug)]
struct DirectoryTarget {
    directory: PathBuf,
    options: ParquetOptions,
}

impl Target for DirectoryTarget {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(ParquetSink::open(&self.directory, self.options)?))
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.directory)
    }
}

/// Events as rows of Parquet files.
#[derive(Debug)]
pub struct ParquetSink {
    thread: Threaded,
    safe: Safe,
    /// The merging thread ends when this does.
    _merging: Option<Sender<()>>,
}

impl ParquetSink {
    /// Opens a dataset's directory, creating it if need be, so that what is wrong with it shows now.
    pub fn open(directory: &Path, options: ParquetOptions) -> Result<Self, SinkError> {
        let name = format!("parquet:{}", directory.display());
        let store = Directory::open(directory, options.sync)?;
        let root = directory.to_owned();
        let merging: Merging = Box::new(move |pass, open, goes_on| merge_directory(&root, pass, open, goes_on));
        let merging = options.merge.then_some((MERGE_EVERY, merging));
        Self::start(&name, Box::new(store), options, Pace { every: options.every, asked: Duration::ZERO }, merging)
    }

    fn start(name: &str, store: Box<dyn Store>, options: ParquetOptions, pace: Pace, merging: Option<(Duration, Merging)>) -> Result<Self, SinkError> {
        let owner = Owner { journal: chance(), level: options.level, file_bytes: usize::try_from(options.file_bytes).unwrap_or(usize::MAX) };
        let mut dataset = Dataset::new(name, store, owner, pace);
        let safe = dataset.safe.clone();
        let merging = merging.map(|(every, merging)| merge_now_and_then(every, merging, dataset.open.clone()));
        let thread = Threaded::spawn(name, RETRY, move |post| dataset.serve(post))?;
        Ok(Self { thread, safe, _merging: merging })
    }
}

impl Sink for ParquetSink {
    fn name(&self) -> &str {
        self.thread.name()
    }

    /// How far everything is in files. Before the first batch it is not known, and each file knows it for itself.
    fn position(&mut self, journal: u64) -> SinkFuture<'_, Option<Position>> {
        let safe = *self.safe.lock().unwrap_or_else(PoisonError::into_inner);
        Box::pin(std::future::ready(Ok(safe.filter(|safe| safe.journal == journal))))
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        self.thread.write(batch)
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        self.thread.flush()
    }

    fn close(&mut self) -> SinkFuture<'_> {
        self.thread.close()
    }
}

/// A pass of merging: which it is, which partitions are written to, and whether there is time left.
type Merging = Box<dyn FnMut(u32, &Open, &dyn Fn() -> bool) -> Result<Merged, SinkError> + Send>;

/// Merges small files in a thread of its own, until what is given is dropped.
fn merge_now_and_then(every: Duration, mut merging: Merging, open: Open) -> Sender<()> {
    let (sender, ended) = channel();
    let merge = move || {
        let mut wait = MERGE_FIRST;
        for pass in 0.. {
            if ended.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return;
            }
            if let Err(error) = merging(pass, &open, &|| ended.try_recv() == Err(TryRecvError::Empty)) {
                tracing::warn!(%error, "small files are not merged");
            }
            wait = every;
        }
    };
    if let Err(error) = std::thread::Builder::new().name("merging".to_owned()).spawn(merge) {
        tracing::warn!(%error, "small files are not merged");
    }
    sender
}

fn merge_directory(root: &Path, pass: u32, open: &Open, goes_on: &dyn Fn() -> bool) -> Result<Merged, SinkError> {
    let (options, now) = (MergeOptions::default(), SystemTime::now());
    let today = compact::today(now);
    let yesterday = Time::from_micros(today.micros().saturating_sub(86_400_000_000));
    let since = (!pass.is_multiple_of(MERGE_ALL)).then(|| options.open_date(yesterday));
    let is_open = |partition: &str| open.lock().unwrap_or_else(PoisonError::into_inner).contains(partition);
    Merger { root, options, now, today, since, grace: compact::GRACE, is_open: &is_open, goes_on }.run()
}

/// A number that no other run has drawn.
fn chance() -> u64 {
    std::hash::RandomState::new().build_hasher().finish()
}
