//! Small objects of days that are over become large ones.
//!
//! An object store has no step in which one object takes the place of many. So the new one is put first, and then those are
//! deleted that it was made of, in one request: in between, some tenths of a second, a reader finds their rows twice, and the
//! `id` tells. What an object replaces is said in its metadata: after a crash in the middle, the next pass ends what was begun. Its name is
//! made of theirs, so that two who merge the same give one object. What a sink may still write, the last object of a journal, is
//! left as it is.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::io::{self, Read as _, Write as _};
use std::path::PathBuf;
use std::time::SystemTime;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use object_store::path::Path;
use object_store::{Error, ObjectMeta, ObjectStore as _, ObjectStoreExt as _, PutPayload, WriteMultipart};

use super::compact::today;
use super::encode;
use super::merge::{Listed, MergeOptions, Merged, Source, closed, sources, table_and_venue, write};
use super::partition::{MERGED, SUFFIX};
use super::s3::{Bucket, Objects};
use super::store::{Store as _, broken};
use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};

/// Parts of an object that is put piece by piece, and how many are under way at once.
const PART_BYTES: usize = 8 << 20;
const PARTS: usize = 2;

/// Merges the objects of `s3://BUCKET/PREFIX?key=value`.
pub(super) fn merge(place: &str, options: MergeOptions) -> Result<Merged, SinkError> {
    let text = format!("parquet:{place}");
    let address = Address::parse(&text).ok_or_else(|| SinkError::new(SinkErrorKind::Config, format!("`{place}` is no address")))?;
    let bucket = address.path().and_then(|path| path.strip_prefix("s3://")).unwrap_or_default().to_owned();
    Bucket::read(&bucket, address)?.objects()?.merge(options, SystemTime::now(), &|| true)
}

impl Objects {
    /// Merges what there is to merge. The first error that occurred; the other partitions are merged all the same.
    pub(super) fn merge(&self, options: MergeOptions, now: SystemTime, goes_on: &dyn Fn() -> bool) -> Result<Merged, SinkError> {
        let (mut merged, mut first_error) = (Merged::default(), None);
        let open_date = options.open_date(today(now));
        for (partition, files) in self.partitions("")? {
            if !goes_on() {
                break;
            }
            if partition.rsplit('/').next().is_none_or(|date| *date >= *open_date) || !options.is_quiet(&files, now) {
                continue;
            }
            match self.partition(&partition, files, options) {
                Ok(more) => merged += more,
                Err(error) => {
                    tracing::warn!(partition, %error, "its objects are not merged");
                    first_error.get_or_insert(error);
                }
            }
        }
        first_error.map_or(Ok(merged), Err)
    }

    /// The objects of all partitions, or of one.
    fn partitions(&self, inside: &str) -> Result<BTreeMap<String, Vec<Listed>>, SinkError> {
        let prefix = Some(self.path(inside)).filter(|prefix| !prefix.as_ref().is_empty());
        let objects: Vec<ObjectMeta> = self.wait("list", inside, self.store.list(prefix.as_ref()).try_collect())?.unwrap_or_default();
        let mut partitions: BTreeMap<String, Vec<Listed>> = BTreeMap::new();
        for object in objects {
            let path = object.location.as_ref().strip_prefix(&self.prefix).unwrap_or_default().trim_start_matches('/');
            let Some((partition, name)) = path.rsplit_once('/').filter(|(partition, _)| table_and_venue(partition).is_some()) else { continue };
            let listed = Listed { name: name.to_owned(), bytes: object.size, modified: object.last_modified.into() };
            partitions.entry(partition.to_owned()).or_default().push(listed);
        }
        for files in partitions.values_mut() {
            files.sort();
        }
        Ok(partitions)
    }

    fn partition(&self, partition: &str, mut files: Vec<Listed>, options: MergeOptions) -> Result<Merged, SinkError> {
        let Some(kind) = table_and_venue(partition) else { return Ok(Merged::default()) };
        let mut merged = Merged::default();
        if closed(&options.small(&files)).iter().all(|file| file.name.starts_with(MERGED)) {
            return Ok(merged);
        }
        self.end_what_was_begun(partition, &mut files)?;
        let small = closed(&options.small(&files));
        if small.len() < 2 {
            return Ok(merged);
        }
        let failed = |error| SinkError::io(&format!("cannot merge `{}`", self.shown(partition)), error);
        let aside = Aside::new().map_err(failed)?;
        for file in &small {
            self.fetch(&format!("{partition}/{}", file.name), &aside.0.join(&file.name))?;
        }
        let sources = sources(&aside.0, &small, kind.0).map_err(failed)?;
        for together in options.together(&sources).filter(|together| together.len() > 1) {
            let replaces = together.iter().map(|source| &*source.listed.name).collect::<Vec<_>>().join(" ");
            let new = aside.0.join("new");
            write(&new, kind, options.level, together, Some(&replaces))
                .map_err(|error| broken(&format!("cannot merge `{}`", self.shown(partition)), &error))?;
            let mut hash = DefaultHasher::new();
            replaces.hash(&mut hash);
            let name = format!("{MERGED}{:016x}{SUFFIX}", hash.finish());
            self.check(partition, &files, together)?;
            self.put(&format!("{partition}/{name}"), &new)?;
            self.delete(partition, together.iter().map(|source| &source.listed.name))?;
            merged.files_before += together.len() as u64;
            merged.bytes_before += together.iter().map(|source| source.listed.bytes).sum::<u64>();
            merged.files_after += 1;
            merged.bytes_after += fs::metadata(&new).map_err(failed)?.len();
            merged.partitions = 1;
            files.retain(|file| !together.iter().any(|source| source.listed == *file));
            tracing::info!(partition, objects = together.len(), "merged");
        }
        Ok(merged)
    }

    /// Deletes what is in a merged object: who put it came to no end.
    fn end_what_was_begun(&self, partition: &str, files: &mut Vec<Listed>) -> Result<(), SinkError> {
        let mut left = Vec::new();
        for file in files.iter().filter(|file| file.name.starts_with(MERGED)) {
            let metadata = self.metadata(&format!("{partition}/{}", file.name))?;
            let replaced = metadata.iter().flat_map(encode::replaces);
            left.extend(replaced.filter(|name| files.iter().any(|file| file.name == *name)).map(str::to_owned));
        }
        files.retain(|file| !left.contains(&file.name));
        self.delete(partition, left.iter())
    }

    /// Whether what is merged is still there, and nobody else has merged it.
    fn check(&self, partition: &str, before: &[Listed], together: &[Source]) -> Result<(), SinkError> {
        let files = self.partitions(partition)?.remove(partition).unwrap_or_default();
        let there = together.iter().all(|source| files.contains(&source.listed));
        let others = files.iter().filter(|file| file.name.starts_with(MERGED) && !before.contains(file));
        if !there || others.count() > 0 {
            return Err(SinkError::new(SinkErrorKind::Retryable, format!("cannot merge `{}`: somebody else is at it", self.shown(partition))));
        }
        Ok(())
    }

    fn fetch(&self, path: &str, to: &std::path::Path) -> Result<(), SinkError> {
        let at = self.path(path);
        let fetched = self.wait("read", path, async {
            let mut file = File::create(to).map_err(generic)?;
            let mut chunks = self.store.get(&at).await?.into_stream();
            while let Some(chunk) = chunks.try_next().await? {
                file.write_all(&chunk).map_err(generic)?;
            }
            Ok(())
        })?;
        fetched.ok_or_else(|| SinkError::new(SinkErrorKind::Retryable, format!("`{}` is gone: somebody else merges", self.shown(path))))
    }

    fn put(&self, path: &str, from: &std::path::Path) -> Result<(), SinkError> {
        let at = self.path(path);
        let put = self.wait("write", path, async {
            let mut file = File::open(from).map_err(generic)?;
            let mut next = || {
                let mut part = Vec::new();
                io::Read::by_ref(&mut file).take(PART_BYTES as u64).read_to_end(&mut part).map_err(generic).map(|_| part)
            };
            let first = next()?;
            if first.len() < PART_BYTES {
                return self.store.put(&at, PutPayload::from(first)).await.map(drop);
            }
            let mut upload = WriteMultipart::new_with_chunk_size(self.store.put_multipart(&at).await?, PART_BYTES);
            let sent = async {
                let mut part = first;
                while !part.is_empty() {
                    upload.wait_for_capacity(PARTS).await?;
                    upload.put(part.into());
                    part = next()?;
                }
                Ok(())
            };
            match sent.await {
                Ok(()) => upload.finish().await.map(drop),
                // Parts that belong to nothing cost money.
                Err(error) => upload.abort().await.and(Err(error)),
            }
        })?;
        put.ok_or_else(|| SinkError::new(SinkErrorKind::Retryable, format!("cannot write `{}`: there is no such bucket", self.shown(path))))
    }

    fn delete<'n>(&self, partition: &str, names: impl Iterator<Item = &'n String>) -> Result<(), SinkError> {
        let paths: Vec<Result<Path, Error>> = names.map(|name| Ok(self.path(&format!("{partition}/{name}")))).collect();
        self.wait("delete from", partition, self.store.delete_stream(stream::iter(paths).boxed()).try_for_each(|_| std::future::ready(Ok(())))).map(drop)
    }
}

fn generic(error: io::Error) -> Error {
    Error::Generic { store: "a file of the merging", source: Box::new(error) }
}

/// A directory for the time of a merge.
struct Aside(PathBuf);

impl Aside {
    fn new() -> io::Result<Self> {
        let path = std::env::temp_dir().join(format!("collector-merge-{}-{:016x}", std::process::id(), super::chance()));
        fs::create_dir(&path)?;
        Ok(Self(path))
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // What is left is in the way of nobody.
        let _ = fs::remove_dir_all(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use exchange_core::Batch;

    use super::super::s3::tests::{Place, at};
    use super::super::tests::trades;
    use super::*;
    use crate::contract::block_on;
    use crate::sink::Sink as _;

    const DAY: &str = "type=trade/venue=bybit/date=2026-03-01";

    /// Each batch into an object of its own.
    fn write(place: &Place, numbers: std::ops::Range<u64>) {
        for number in numbers {
            block_on(async {
                let mut sink = place.sink("market", "&size=1");
                sink.write(&at(number * 10..number * 10 + 10, number)).await.unwrap();
                sink.close().await.unwrap();
            });
        }
    }

    fn pass(objects: &Objects) -> Merged {
        let options = MergeOptions { file_bytes: 1 << 20, level: 3, quiet: Duration::ZERO };
        objects.merge(options, SystemTime::now() + Duration::from_secs(2), &|| true).unwrap()
    }

    fn names(objects: &Objects) -> Vec<String> {
        objects.partitions("").unwrap().remove(DAY).unwrap_or_default().into_iter().map(|file| file.name).collect()
    }

    fn sorted(lines: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = lines.lines().collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn days_that_are_over_have_few_objects_of_the_same_rows() {
        let Some(place) = Place::start() else { return };
        let objects = place.bucket("market", "").objects().unwrap();
        write(&place, 1..7);
        let young = MergeOptions::default();
        assert_eq!(objects.merge(young, SystemTime::now(), &|| true).unwrap(), Merged::default(), "they were written a moment ago");
        let merged = pass(&objects);
        assert_eq!((merged.partitions, merged.files_before, merged.files_after), (1, 5, 1));
        let left = names(&objects);
        assert!(left.len() == 2 && left[0].starts_with("merged-") && left[1].ends_with("-000000000006.parquet"), "{left:?}");
        assert_eq!(sorted(&place.lines()), sorted(std::str::from_utf8(Batch::new(trades(10..70, 1)).lines()).unwrap()));
        assert_eq!(pass(&objects), Merged::default());
        // What they cover is known.
        write(&place, 1..9);
        assert_eq!(sorted(&place.lines()), sorted(std::str::from_utf8(Batch::new(trades(10..90, 1)).lines()).unwrap()));
        assert_eq!(pass(&objects).files_before, 3, "the merged one, and two more");
        assert_eq!(sorted(&place.lines()), sorted(std::str::from_utf8(Batch::new(trades(10..90, 1)).lines()).unwrap()));
    }

    /// Killed before the new object was there, before any was deleted, or after some were.
    #[test]
    fn what_was_broken_off_is_ended() {
        let Some(place) = Place::start() else { return };
        let objects = place.bucket("market", "").objects().unwrap();
        write(&place, 1..6);
        let all = Batch::new(trades(10..60, 1));
        let expected = sorted(std::str::from_utf8(all.lines()).unwrap());
        let before: Vec<(String, bytes::Bytes)> =
            names(&objects).iter().map(|name| format!("{DAY}/{name}")).map(|path| (path.clone(), objects.read(&path).unwrap().unwrap())).collect();
        pass(&objects);
        for left in [4, 1, 2] {
            // As it was before these were deleted: their rows are there twice, until the next pass.
            for (path, content) in &before[..left] {
                objects.replace(path, content.to_vec()).unwrap();
            }
            assert_eq!(place.lines().lines().count(), 50 + left * 10);
            assert_eq!(pass(&objects), Merged::default(), "nothing is merged again");
            assert_eq!(sorted(&place.lines()), expected);
        }
    }

    #[test]
    fn what_is_large_goes_in_parts() {
        let Some(place) = Place::start() else { return };
        let objects = place.bucket("market", "").objects().unwrap();
        let noise: Vec<u8> = std::iter::repeat_with(|| fastrand::u8(..)).take(PART_BYTES * 2 + 7).collect();
        let file = tempfile::NamedTempFile::new().unwrap();
        fs::write(file.path(), &noise).unwrap();
        objects.put("large", file.path()).unwrap();
        assert!(objects.read("large").unwrap().unwrap() == noise);
        objects.fetch("large", file.path()).unwrap();
        assert!(fs::read(file.path()).unwrap() == noise);
        assert!(objects.fetch("none", file.path()).is_err());
    }
}
