//! Small files of a directory become large ones: of a day that is over all, of one that is not those that nobody writes any more.
//!
//! A partition is merged aside, as a directory of its own, and then the two directories trade places: one step of the kernel's, so
//! that whoever lists the partition sees the old files or the new ones, and a crash at any time leaves one of the two in
//! its place. What is aside afterwards is removed, a while later: who was listing it comes to its end. Where the system knows no such
//! step, nothing is merged.
//!
//! A reader that listed the partition before and opens a file of it after does not find it, and has to ask again. A pattern that
//! goes through hidden directories as well (`DIR/**` instead of `DIR/type=…/**`) may for some seconds see both.

use std::fs::{self, File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use exchange_core::Time;

use super::merge::{Listed, MergeOptions, Merged, Source, closed, growing, sources, table_and_venue, write};
use super::partition::{MERGED, SUFFIX};
use super::store::{UNFINISHED, broken, lock, sync_directory};
use crate::error::{SinkError, SinkErrorKind};

/// Who merges holds this lock.
const MERGING: &str = ".merging";
/// How the directories are called that are merged aside.
const ASIDE: &str = "merge";
/// How long the old files stay aside: longer than it takes to list them.
pub(super) const GRACE: Duration = Duration::from_secs(2);

/// Merges the small files of a dataset, also while collectors write to it.
///
/// # Errors
/// The first that occurred; the other partitions are merged all the same. [`SinkErrorKind::Retryable`] if somebody else is at it.
pub fn merge(directory: &Path, options: MergeOptions) -> Result<Merged, SinkError> {
    let now = SystemTime::now();
    Merger { root: directory, options, now, today: today(now), since: None, grace: GRACE, is_open: &|_| false, goes_on: &|| true }.run()
}

/// The same moment, as events have it.
pub(super) fn today(now: SystemTime) -> Time {
    Time::EPOCH + now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default()
}

/// A pass over a dataset.
pub(super) struct Merger<'a> {
    pub(super) root: &'a Path,
    pub(super) options: MergeOptions,
    pub(super) now: SystemTime,
    pub(super) today: Time,
    /// Dates before this one (`date=2026-11-20`) are left alone.
    pub(super) since: Option<String>,
    pub(super) grace: Duration,
    /// Whether somebody in this process writes to a partition.
    pub(super) is_open: &'a dyn Fn(&str) -> bool,
    /// Whether there is time left.
    pub(super) goes_on: &'a dyn Fn() -> bool,
}

impl Merger<'_> {
    pub(super) fn run(&self) -> Result<Merged, SinkError> {
        let at = self.root.join(MERGING);
        let one = File::options().create(true).append(true).open(&at).map_err(|error| SinkError::io(&format!("cannot create `{}`", at.display()), error))?;
        match one.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => {
                return Err(SinkError::new(SinkErrorKind::Retryable, format!("somebody else merges the files of `{}`", self.root.display())));
            }
            Err(TryLockError::Error(error)) => return Err(SinkError::io(&format!("cannot lock `{}`", at.display()), error)),
        }
        let unfinished = self.root.join(UNFINISHED);
        // What was begun and not ended, by whomever.
        folders(&unfinished, ASIDE).iter().try_for_each(|left| remove(&unfinished.join(left)))?;
        let (mut merged, mut first_error, mut aside) = (Merged::default(), None, Vec::new());
        for (number, partition) in self.partitions().iter().enumerate() {
            if !(self.goes_on)() {
                return first_error.map_or(Ok(merged), Err);
            }
            let new = unfinished.join(format!("{ASIDE}-{number}"));
            match self.partition(partition, &new) {
                Ok(more) => merged += more,
                Err(error) => {
                    tracing::warn!(partition, %error, "its files are not merged");
                    first_error.get_or_insert(error);
                }
            }
            if new.exists() {
                aside.push((Instant::now(), new));
            }
            for (_, old) in aside.extract_if(.., |(since, _)| since.elapsed() >= self.grace) {
                remove(&old)?;
            }
        }
        for (since, old) in aside {
            std::thread::sleep(self.grace.saturating_sub(since.elapsed()));
            remove(&old)?;
        }
        first_error.map_or(Ok(merged), Err)
    }

    /// The paths of partitions.
    fn partitions(&self) -> Vec<String> {
        let mut found = Vec::new();
        for kind in folders(self.root, "type=") {
            for venue in folders(&self.root.join(&kind), "venue=") {
                let dates = folders(&self.root.join(&kind).join(&venue), "date=").into_iter();
                found.extend(dates.filter(|date| self.since.as_ref().is_none_or(|since| date >= since)).map(|date| format!("{kind}/{venue}/{date}")));
            }
        }
        found
    }

    fn partition(&self, partition: &str, aside: &Path) -> Result<Merged, SinkError> {
        let path = self.root.join(partition);
        let failed = |error| SinkError::io(&format!("cannot merge `{}`", path.display()), error);
        let files = listed(&path).map_err(failed)?;
        let is_over = partition.rsplit('/').next().is_some_and(|date| *date < *self.options.open_date(self.today))
            && self.options.is_quiet(&files, self.now)
            && !(self.is_open)(partition);
        let mut small = self.options.small(&files);
        if !is_over {
            small = closed(&small);
        }
        let Some(kind) = table_and_venue(partition).filter(|_| small.len() >= 2) else { return Ok(Merged::default()) };
        let mut sources = sources(&path, &small, kind.0).map_err(failed)?;
        if !is_over {
            sources = growing(sources);
        }
        if sources.len() < 2 {
            return Ok(Merged::default());
        }
        fs::create_dir_all(aside).map_err(failed)?;
        let mut merged = Merged { partitions: 1, ..Merged::default() };
        let mut made = Vec::new();
        for together in self.options.together(&sources) {
            if !(self.goes_on)() {
                return Ok(Merged::default());
            }
            let name = free_name(&files, &made);
            let unfinished = aside.join(format!("{name}.unfinished"));
            write(&unfinished, kind, self.options.level, together, None).map_err(|error| broken(&format!("cannot merge `{}`", path.display()), &error))?;
            merged.files_before += together.len() as u64;
            merged.bytes_before += together.iter().map(|source| source.listed.bytes).sum::<u64>();
            merged.files_after += 1;
            merged.bytes_after += fs::metadata(&unfinished).map_err(failed)?.len();
            made.push(name);
        }
        self.swap(&path, aside, &sources, &made).map_err(failed)?;
        tracing::info!(partition, files = merged.files_before, now = merged.files_after, "merged");
        Ok(merged)
    }

    /// Puts the new directory in the place of the old, if nobody has changed what was merged.
    fn swap(&self, path: &Path, aside: &Path, sources: &[Source], made: &[String]) -> io::Result<()> {
        let nobody = lock(self.root).map_err(|error| io::Error::other(error.to_string()))?;
        // Whoever gives a file its name holds this in common with others.
        nobody.lock()?;
        let files = listed(path)?;
        if !sources.iter().all(|source| files.contains(&source.listed)) {
            return Err(io::Error::other("somebody writes to it"));
        }
        // All else stays as it is, in the new directory as well.
        for file in files.iter().filter(|file| !sources.iter().any(|source| source.listed.name == file.name)) {
            fs::hard_link(path.join(&file.name), aside.join(&file.name))?;
        }
        for name in made {
            fs::rename(aside.join(format!("{name}.unfinished")), aside.join(name))?;
        }
        sync_directory(aside)?;
        exchange(aside, path)?;
        path.parent().map_or(Ok(()), sync_directory)
    }
}

/// Two directories trade places.
#[cfg(any(target_os = "linux", target_os = "android", target_vendor = "apple"))]
fn exchange(one: &Path, other: &Path) -> io::Result<()> {
    use rustix::fs::{CWD, RenameFlags, renameat_with};
    Ok(renameat_with(CWD, one, CWD, other, RenameFlags::EXCHANGE)?)
}

#[cfg(not(any(target_os = "linux", target_os = "android", target_vendor = "apple")))]
fn exchange(_: &Path, _: &Path) -> io::Result<()> {
    Err(io::Error::new(io::ErrorKind::Unsupported, "this system cannot let two directories trade places"))
}

/// The files of a partition, in the order of their names.
fn listed(path: &Path) -> io::Result<Vec<Listed>> {
    let listed = fs::read_dir(path)?.map(|entry| {
        let entry = entry?;
        let metadata = entry.metadata()?;
        Ok(Listed { name: entry.file_name().to_string_lossy().into_owned(), bytes: metadata.len(), modified: metadata.modified()? })
    });
    let mut files = listed.collect::<io::Result<Vec<_>>>()?;
    files.sort();
    Ok(files)
}

/// The names of directories that begin so.
fn folders(path: &Path, beginning: &str) -> Vec<String> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten().filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()));
    let mut names: Vec<String> = entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).filter(|name| name.starts_with(beginning)).collect();
    names.sort();
    names
}

fn free_name(files: &[Listed], made: &[String]) -> String {
    let taken = |name: &String| made.contains(name) || files.iter().any(|file| file.name == *name);
    (0..u64::MAX).map(|number| format!("{MERGED}{number:06}{SUFFIX}")).find(|name| !taken(name)).unwrap_or_default()
}

fn remove(aside: &PathBuf) -> Result<(), SinkError> {
    match fs::remove_dir_all(aside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(SinkError::io(&format!("cannot remove `{}`", aside.display()), error)),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use exchange_core::{Batch, Event, Position};

    use super::super::tests::{files, lines, merged_while_written, noon, trades};
    use super::super::{ParquetOptions, ParquetSink};
    use super::*;
    use crate::contract::block_on;
    use crate::sink::Sink as _;

    const AT_ONCE: MergeOptions = MergeOptions { file_bytes: 1 << 20, level: 3, quiet: Duration::ZERO };

    /// Each batch into a file of its own.
    fn write(root: &Path, batches: Vec<(u64, Vec<Event>)>) {
        write_to(root, 1, batches);
    }

    fn write_to(root: &Path, file_bytes: u64, batches: Vec<(u64, Vec<Event>)>) {
        block_on(async {
            let options = ParquetOptions { every: Duration::from_millis(1), file_bytes, merge: false, ..ParquetOptions::default() };
            let mut sink = ParquetSink::open(root, options).unwrap();
            for (number, events) in batches {
                sink.write(&Arc::new(Batch::new(events).at(Position { journal: 7, number }))).await.unwrap();
                sink.flush().await.unwrap();
            }
            sink.close().await.unwrap();
        });
    }

    fn merge_on(root: &Path, day: u32, is_open: &dyn Fn(&str) -> bool) -> Result<Merged, SinkError> {
        let now = SystemTime::now() + Duration::from_secs(1);
        Merger { root, options: AT_ONCE, now, today: noon(day), since: None, grace: Duration::ZERO, is_open, goes_on: &|| true }.run()
    }

    fn day(root: &Path, day: u32) -> PathBuf {
        root.join(format!("type=trade/venue=bybit/date=2026-03-{day:02}"))
    }

    #[test]
    fn days_that_are_over_have_few_files_of_the_same_rows() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..9).map(|n| (n, trades(n * 10..n * 10 + 10, if n < 6 { 1 } else { 2 }))).collect());
        let before = lines(root);
        let merged = merge_on(root, 2, &|_| false).unwrap();
        assert_eq!((merged.partitions, merged.files_before, merged.files_after), (1, 5, 1));
        assert!(merged.bytes_after < merged.bytes_before, "{merged:?}");
        assert_eq!(lines(root), before);
        assert_eq!((files(&day(root, 1)).len(), files(&day(root, 2)).len()), (1, 3), "the second is not over");
        assert_eq!(files(&root.join(UNFINISHED)), Vec::<PathBuf>::new());
        // What they cover is known: a batch that comes again, late, is not written again, and one that is new is.
        write(root, (3..6).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).chain([(9, trades(100..110, 1))]).collect());
        assert_eq!(sorted(&lines(root)), sorted(&(before + &lines_of(trades(100..110, 1)))));
        assert_eq!(merge_on(root, 2, &|_| false).unwrap().files_before, 2);
        assert_eq!(merge_on(root, 2, &|_| false).unwrap(), Merged::default(), "there is nothing left to do");
    }

    fn lines_of(events: Vec<Event>) -> String {
        String::from_utf8(Batch::new(events).lines().to_vec()).unwrap()
    }

    fn sorted(lines: &str) -> Vec<&str> {
        let mut lines: Vec<&str> = lines.lines().collect();
        lines.sort_unstable();
        lines
    }

    #[test]
    fn what_was_broken_off_is_begun_anew() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..4).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).collect());
        let before = lines(root);
        // The end came before the directories had traded places: the new one is not whole. Or after it: the old one is aside.
        for _ in 0..2 {
            let aside = root.join(UNFINISHED).join("merge");
            fs::create_dir_all(&aside).unwrap();
            for path in files(&day(root, 1)) {
                fs::copy(&path, aside.join("merged-000000.parquet")).unwrap();
            }
            merge_on(root, 2, &|_| false).unwrap();
            assert!(!aside.exists());
            assert_eq!(lines(root), before);
        }
    }

    #[test]
    fn what_is_written_to_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..4).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).collect());
        assert_eq!(merge_on(root, 2, &|partition| partition == "type=trade/venue=bybit/date=2026-03-01").unwrap(), Merged::default());
        assert_eq!(merge(root, MergeOptions::default()).unwrap(), Merged::default(), "it was written a moment ago");
        // Somebody adds a file while others are merged, or changes one of them.
        let more = |_: &str| {
            write(root, vec![(4, trades(40..50, 1))]);
            false
        };
        assert_eq!(merge_on(root, 2, &more).unwrap().files_before, 3);
        assert_eq!((lines(root).lines().count(), files(&day(root, 1)).len()), (40, 2));
        let changes = |_: &str| {
            write_to(root, 1 << 20, vec![(5, trades(50..60, 1))]);
            false
        };
        let error = merge_on(root, 2, &changes).unwrap_err();
        assert!(error.to_string().ends_with("date=2026-03-01`: somebody writes to it"), "{error}");
        assert_eq!((lines(root).lines().count(), files(&day(root, 1)).len()), (50, 2));
    }

    #[test]
    fn files_double_while_their_day_lasts_and_the_last_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        let (mut most, mut written) = (0, 0);
        for number in 1..=32 {
            write(root, vec![(number, trades(number * 20..number * 20 + 20, 1))]);
            let before = files(&day(root, 1));
            let merged = merged_while_written(root, AT_ONCE).unwrap();
            let after = files(&day(root, 1));
            assert!(after.contains(before.last().unwrap()), "a sink may go on with it");
            assert!(merged.files_before == 0 || merged.files_before >= 4);
            (most, written) = (most.max(after.len()), written + merged.bytes_before);
        }
        assert_eq!(sorted(&lines(root)), sorted(&lines_of(trades(20..660, 1))));
        assert!(most <= 12, "{most} files");
        let all: u64 = files(root).iter().map(|path| fs::metadata(path).unwrap().len()).sum();
        assert!(written < 10 * all, "each row is written again a few times: {written} bytes of {all}");
        assert_eq!(merged_while_written(root, MergeOptions { file_bytes: 2, ..AT_ONCE }).unwrap(), Merged::default(), "what is large stays");
        // The process that went on with the last file finds everything.
        write_to(root, 1 << 20, (1..=34).map(|number| (number, trades(number * 20..number * 20 + 20, 1))).collect());
        assert_eq!(sorted(&lines(root)), sorted(&lines_of(trades(20..700, 1))));
    }

    #[test]
    fn a_file_that_cannot_be_merged_stays() {
        let directory = tempfile::tempdir().unwrap();
        let root = directory.path();
        write(root, (1..4).map(|n| (n, trades(n * 10..n * 10 + 10, 1))).collect());
        let strange = day(root, 1).join("part-strange.parquet");
        fs::write(&strange, "no parquet").unwrap();
        assert_eq!(merge_on(root, 2, &|_| false).unwrap().files_after, 1);
        assert_eq!(fs::read_to_string(&strange).unwrap(), "no parquet");
        fs::remove_file(&strange).unwrap();
        assert_eq!(lines(root).lines().count(), 30);
    }

    #[test]
    fn one_at_a_time() {
        let directory = tempfile::tempdir().unwrap();
        let other = File::create(directory.path().join(MERGING)).unwrap();
        other.lock().unwrap();
        assert!(merge(directory.path(), MergeOptions::default()).unwrap_err().is_retryable());
    }
}
