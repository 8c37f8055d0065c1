//! `parquet:s3://BUCKET/PREFIX`: the same files in an object store, under the same names.
//!
//! An object is there as a whole or not at all, so a file is written anew as it is in a directory; only less often, since each time
//! costs money and the way there. Objects are merged only where that was asked for: see `compact_s3`.

use std::path::PathBuf;
use std::time::{Duration, SystemTime};

use ::parquet::errors::ParquetError;
use ::parquet::file::metadata::{ParquetMetaData, ParquetMetaDataReader};
use ::parquet::file::reader::{FileReader, SerializedFileReader};
use bytes::Bytes;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt as _, PutPayload, RetryConfig};
use tokio::runtime::{Builder, Runtime};

use super::dataset::Pace;
use super::source::{self, Shelf};
use super::store::{Store, broken};
use super::{MERGE_OBJECTS_EVERY, MergeOptions, Merging, ParquetOptions, ParquetSink, level};
use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::registry::Target;
use crate::sink::Sink;
use crate::source::{Origin, Reading, Source};

/// How long events wait for an object.
const EVERY: Duration = Duration::from_mins(1);
/// An object that has so many bytes gets no more.
const OBJECT_BYTES: u64 = 16 << 20;
/// So much of an object's end is read for its metadata at first.
const END_BYTES: u64 = 64 << 10;
/// A request is tried again for so long; after that the sink says that it is in trouble, and goes on trying.
const PATIENCE: Duration = Duration::from_secs(10);

impl Bucket {
    /// Reads what stands behind `parquet:s3://`: `BUCKET/PREFIX`, and keys.
    pub(super) fn read(place: &str, mut address: Address) -> Result<Self, SinkError> {
        let (bucket, prefix) = place.split_once('/').unwrap_or((place, ""));
        if bucket.is_empty() || bucket.contains('@') {
            return Err(address.wrong("it lacks a bucket (such as `parquet:s3://my-bucket/data`; keys are taken from the environment or `secret_file=`)"));
        }
        let (container, prefix) = (bucket.to_owned(), prefix.trim_matches('/').to_owned());
        let name = address.shown();
        let every = address.take_duration("every", Duration::from_secs(1))?.unwrap_or(EVERY);
        let file_bytes = address.take_bytes("size")?.unwrap_or(OBJECT_BYTES);
        let level = level(&mut address)?.unwrap_or(ParquetOptions::default().level);
        let endpoint = address.take_text("endpoint")?;
        let region = address.take_text("region")?;
        let access_key = address.take_text("access_key")?;
        let secret_file = address.take_text("secret_file")?.map(PathBuf::from);
        if access_key.is_some() != secret_file.is_some() {
            return Err(address.wrong("`access_key` and `secret_file` belong together"));
        }
        let merge = super::switch(&mut address, "merge")?.unwrap_or(false);
        address.end()?;
        let options = ParquetOptions { every, file_bytes, level, merge, sync: true };
        Ok(Self { name, container, prefix, endpoint, region, access_key, secret_file, options })
    }
}

/// A dataset in an object store, as its address says.
#[derive(Debug, Clone)]
pub(super) struct Bucket {
    /// What the sink is called.
    name: String,
    container: String,
    prefix: String,
    endpoint: Option<String>,
    region: Option<String>,
    access_key: Option<String>,
    secret_file: Option<PathBuf>,
    options: ParquetOptions,
}

impl Target for Bucket {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(self.sink()?))
    }
}

impl Bucket {
    fn sink(&self) -> Result<ParquetSink, SinkError> {
        let pace = Pace { every: self.options.every, asked: self.options.every };
        let mut merging = None;
        if self.options.merge {
            let objects = self.objects()?;
            let pass: Merging = Box::new(move |_, _, goes_on| objects.merge(MergeOptions::default(), SystemTime::now(), goes_on));
            merging = Some((MERGE_OBJECTS_EVERY, pass));
        }
        ParquetSink::start(&self.name, Box::new(self.objects()?), self.options, pace, merging)
    }

    pub(super) fn objects(&self) -> Result<Objects, SinkError> {
        // Keys, a region and whatever else the user's other programs go by.
        let mut builder =
            AmazonS3Builder::from_env().with_bucket_name(&self.container).with_retry(RetryConfig { retry_timeout: PATIENCE, ..RetryConfig::default() });
        if let Some(endpoint) = &self.endpoint {
            builder = builder.with_endpoint(endpoint).with_allow_http(endpoint.starts_with("http://"));
        }
        if let Some(region) = &self.region {
            builder = builder.with_region(region);
        }
        if let (Some(key), Some(file)) = (&self.access_key, &self.secret_file) {
            let secret = std::fs::read_to_string(file).map_err(|error| SinkError::io(&format!("cannot read `{}`", file.display()), error))?;
            builder = builder.with_access_key_id(key).with_secret_access_key(secret.trim());
        }
        let wrong = |error: &dyn std::fmt::Display| SinkError::new(SinkErrorKind::Config, format!("`{}`: {error}", self.name));
        let store = builder.build().map_err(|error| wrong(&error))?;
        Ok(Objects { store, prefix: self.prefix.clone(), name: format!("s3://{}", self.container), runtime: None.into() })
    }
}

impl Origin for Bucket {
    fn open(&self, reading: Reading) -> Result<Box<dyn Source>, SinkError> {
        let bucket = self.clone();
        source::start(&self.name, reading, move || bucket.objects())
    }
}

/// Objects of a bucket. Only the sink's own thread asks for them, and waits.
pub(super) struct Objects {
    pub(super) store: AmazonS3,
    pub(super) prefix: String,
    name: String,
    /// Made by the thread that waits, since it must be dropped there as well.
    runtime: std::sync::Mutex<Option<Runtime>>,
}

impl Objects {
    pub(super) fn path(&self, path: &str) -> Path {
        if self.prefix.is_empty() { Path::from(path) } else { Path::from(format!("{}/{path}", self.prefix)) }
    }

    pub(super) fn wait<T>(&self, what: &str, path: &str, future: impl Future<Output = Result<T, Error>>) -> Result<Option<T>, SinkError> {
        let mut runtime = self.runtime.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let running = match runtime.take() {
            Some(running) => running,
            None => Builder::new_current_thread().enable_all().build().map_err(|error| SinkError::io("cannot start a runtime", error))?,
        };
        let result = running.block_on(future);
        *runtime = Some(running);
        match result {
            Ok(done) => Ok(Some(done)),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(SinkError::new(kind(&error), format!("cannot {what} `{}`: {}", Store::shown(self, path), error.to_string().replace('\n', " ")))),
        }
    }
}

fn kind(error: &Error) -> SinkErrorKind {
    match error {
        Error::PermissionDenied { .. } | Error::Unauthenticated { .. } | Error::InvalidPath { .. } | Error::NotSupported { .. } => SinkErrorKind::Permanent,
        _ => SinkErrorKind::Retryable,
    }
}

impl Store for Objects {
    fn list(&self, partition: &str) -> Result<Vec<String>, SinkError> {
        let prefix = self.path(partition);
        let listed = self.wait("list", partition, self.store.list_with_delimiter(Some(&prefix)))?;
        let objects = listed.into_iter().flat_map(|listed| listed.objects);
        Ok(objects.filter_map(|object| object.location.filename().map(str::to_owned)).collect())
    }

    fn read(&self, path: &str) -> Result<Option<Bytes>, SinkError> {
        let at = self.path(path);
        self.wait("read", path, async { self.store.get(&at).await?.bytes().await })
    }

    fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError> {
        let at = self.path(path);
        let Some(size) = self.wait("read", path, self.store.head(&at))?.map(|object| object.size) else { return Ok(None) };
        let mut reader = ParquetMetaDataReader::new();
        let mut wanted = END_BYTES;
        // What stands at an object's end says how much of it that is.
        loop {
            let end = self.wait("read", path, self.store.get_range(&at, size.saturating_sub(wanted)..size))?;
            let Some(end) = end else { return Ok(None) };
            match reader.try_parse_sized(&end, size) {
                Err(ParquetError::NeedMoreData(needed)) if (needed as u64) > wanted => wanted = needed as u64,
                parsed => return Ok(parsed.and_then(|()| reader.finish()).ok()),
            }
        }
    }

    fn replace(&self, path: &str, content: Vec<u8>) -> Result<(), SinkError> {
        let at = self.path(path);
        let put = self.wait("write", path, self.store.put(&at, PutPayload::from(content)))?;
        // There is no such bucket; or not yet.
        put.map(drop).ok_or_else(|| SinkError::new(SinkErrorKind::Retryable, format!("cannot write `{}`: there is no such bucket", Store::shown(self, path))))
    }

    fn shown(&self, path: &str) -> String {
        format!("{}/{}", self.name, self.path(path))
    }
}

impl Shelf for Objects {
    fn folders(&self, path: &str) -> Result<Vec<String>, SinkError> {
        let prefix = self.path(path);
        let listed = self.wait("list", path, self.store.list_with_delimiter(Some(&prefix)))?;
        let prefixes = listed.into_iter().flat_map(|listed| listed.common_prefixes);
        Ok(prefixes.filter_map(|prefix| prefix.filename().map(str::to_owned)).collect())
    }

    fn files(&self, path: &str) -> Result<Vec<String>, SinkError> {
        self.list(path)
    }

    fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError> {
        Store::metadata(self, path)
    }

    /// Fetches it whole: one that was merged may be 256 MiB.
    fn open(&self, path: &str) -> Result<Box<dyn FileReader>, SinkError> {
        let what = format!("cannot read `{}`", Store::shown(self, path));
        let content = self.read(path)?.ok_or_else(|| SinkError::new(SinkErrorKind::Permanent, format!("{what}: it is not there any more")))?;
        Ok(Box::new(SerializedFileReader::new(content).map_err(|error| broken(&what, &error))?))
    }

    fn shown(&self, path: &str) -> String {
        Store::shown(self, path)
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::fs;
    use std::sync::Arc;

    use exchange_core::{Batch, Position};
    use test_servers::Server;

    use super::super::tests::{all_lines, trades};
    use super::*;
    use crate::contract::{self, block_on};
    use crate::registry::SinkUri;

    /// Where the tests' data goes.
    pub(in super::super) struct Place {
        server: Server,
        secret: tempfile::NamedTempFile,
    }

    impl Place {
        pub(in super::super) fn start() -> Option<Self> {
            let server = test_servers::s3("market")?;
            let secret = tempfile::NamedTempFile::new().unwrap();
            fs::write(&secret, "hunter2\n").unwrap();
            Some(Self { server, secret })
        }

        fn address(&self, bucket: &str, more: &str) -> String {
            let (endpoint, secret) = (self.server.address(), self.secret.path().display());
            format!("parquet:s3://{bucket}/some/data?endpoint=http://{endpoint}&access_key=me&secret_file={secret}{more}")
        }

        pub(in super::super) fn bucket(&self, bucket: &str, more: &str) -> Bucket {
            Bucket::read(&format!("{bucket}/some/data"), Address::parse(&self.address(bucket, more)).unwrap()).unwrap()
        }

        pub(in super::super) fn sink(&self, bucket: &str, more: &str) -> ParquetSink {
            self.bucket(bucket, more).sink().unwrap()
        }

        /// All rows of all objects as lines.
        pub(in super::super) fn lines(&self) -> String {
            all_lines(&self.address("market", ""))
        }
    }

    pub(in super::super) fn at(ids: std::ops::Range<u64>, number: u64) -> Arc<Batch> {
        Arc::new(Batch::new(trades(ids, 1)).at(Position { journal: 7, number }))
    }

    #[test]
    fn keeps_the_contract() {
        let Some(place) = Place::start() else { return };
        contract::suite(place.sink("market", "&every=1s&size=20kB"), |_| place.lines());
    }

    #[test]
    fn a_batch_that_comes_again_gives_no_row_twice() {
        let Some(place) = Place::start() else { return };
        block_on(async {
            for (from, to) in [(1, 4), (3, 6), (1, 8)] {
                let mut sink = place.sink("market", "");
                for number in from..to {
                    sink.write(&at(number * 10..number * 10 + 10, number)).await.unwrap();
                }
                sink.close().await.unwrap();
            }
        });
        assert_eq!(place.lines().as_bytes(), Batch::new(trades(10..80, 1)).lines());
    }

    #[test]
    fn a_server_that_is_away_for_a_while_costs_nothing() {
        let Some(place) = Place::start() else { return };
        block_on(async {
            let mut sink = place.sink("market", "&every=1s");
            sink.write(&at(0..10, 1)).await.unwrap();
            sink.flush().await.unwrap();
            assert_eq!(place.lines().lines().count(), 10);
            // What it held is in memory, so it is stopped and not killed.
            place.server.pause();
            sink.write(&at(10..20, 2)).await.unwrap();
            let flushed = tokio::time::timeout(Duration::from_secs(2), sink.flush()).await;
            assert!(!matches!(flushed, Ok(Ok(()))), "nothing is confirmed that nobody took");
            place.server.resume();
            while sink.flush().await.is_err() {
                tokio::task::yield_now().await;
            }
            sink.close().await.unwrap();
        });
        assert_eq!(place.lines().as_bytes(), Batch::new(trades(0..20, 1)).lines());
    }

    #[test]
    fn a_bucket_that_is_not_there_is_named_and_no_secret_is() {
        let Some(place) = Place::start() else { return };
        block_on(async {
            let mut sink = place.sink("nowhere", "&every=1s");
            assert_eq!(sink.name(), "parquet:s3://nowhere/some/data");
            sink.write(&at(0..10, 1)).await.unwrap();
            let error = sink.flush().await.unwrap_err();
            assert!(error.is_retryable());
            assert!(error.to_string().contains("NoSuchBucket"), "{error}");
            assert!(!error.to_string().contains("hunter2"), "{error}");
        });
    }

    #[test]
    fn a_wrong_address_is_told_what_is_right() {
        for (text, expected) in [
            ("parquet:s3://", "it lacks a bucket"),
            ("parquet:s3://me:secret@bucket/x", "it lacks a bucket"),
            ("parquet:s3://bucket?access_key=me", "`access_key` and `secret_file` belong together"),
            ("parquet:s3://bucket?sync=off", "unknown key `sync`"),
            ("parquet:gs://bucket", "no other object store than `s3://`"),
        ] {
            let error = SinkUri::parse(text).unwrap_err().to_string();
            assert!(error.contains(expected) && !error.contains("secret@"), "{error}");
        }
    }
}
