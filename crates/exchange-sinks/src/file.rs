//! `file:DIR` writes event lines to files, compressed with zstd: `events-20260724T101500Z-000.ndjson.zst`.
//!
//! A file has its final name from the beginning, and is readable from the beginning: once a second, and at each
//! [`Sink::flush`], what arrived becomes a block that any streaming zstd decoder reads, up to the last whole record,
//! also after `kill -9`. Files are rotated by age and size. None is ever overwritten. [`Sink::close`] ends the
//! frame and syncs it to the disk, as rotation does.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use exchange_core::{Batch, Time};
use zstd::Encoder;

use crate::address::Address;
use crate::error::{SinkError, SinkErrorKind};
use crate::registry::Target;
use crate::sink::{Sink, SinkFuture};
use crate::worker::{Output, Threaded};

/// How often what arrived becomes readable.
const BLOCK_EVERY: Duration = Duration::from_secs(1);
/// Files of one second. More than one is rare: a restart within it, or a size limit for tests.
const FILES_PER_SECOND: u32 = 1000;

/// How files are rotated and compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileOptions {
    /// A file takes events for this long. Files end at whole multiples since midnight, so that hours are hours.
    pub rotate_every: Duration,
    /// A file takes this many bytes of lines, before compression. The last write may exceed it.
    pub rotate_bytes: u64,
    /// The level of zstd's compression. Each step costs CPU: 1 takes 200 MB/s and more on one core.
    pub level: i32,
}

impl Default for FileOptions {
    fn default() -> Self {
        Self { rotate_every: Duration::from_hours(1), rotate_bytes: 256 << 20, level: 1 }
    }
}

/// Reads `file:DIR` with, if need be, `?rotate=10m&size=64MiB&level=3` behind it.
pub(crate) fn target(mut address: Address) -> Result<Arc<dyn Target>, SinkError> {
    let directory = address.path().ok_or_else(|| address.wrong("it lacks a directory (such as `file:./data`)"))?.into();
    let default = FileOptions::default();
    let rotate_every = address.take_duration("rotate", Duration::from_secs(1))?.unwrap_or(default.rotate_every);
    let rotate_bytes = address.take_bytes("size")?.unwrap_or(default.rotate_bytes);
    let level = address.take_number("level", 1..=19)?.and_then(|level| i32::try_from(level).ok()).unwrap_or(default.level);
    address.end()?;
    Ok(Arc::new(FileTarget { directory, options: FileOptions { rotate_every, rotate_bytes, level } }))
}

#[derive(Debug)]
struct FileTarget {
    directory: PathBuf,
    options: FileOptions,
}

impl Target for FileTarget {
    fn open(&self) -> Result<Box<dyn Sink>, SinkError> {
        Ok(Box::new(FileSink::open(&self.directory, self.options)?))
    }

    fn directory(&self) -> Option<&Path> {
        Some(&self.directory)
    }
}

/// Event lines in compressed files.
#[derive(Debug)]
pub struct FileSink(Threaded);

impl FileSink {
    /// Creates the directory, if need be, and the first file in it, so that what is wrong with it shows now.
    pub fn open(directory: &Path, options: FileOptions) -> Result<Self, SinkError> {
        let mut files = Files { place: Directory(directory.to_owned()), options, current: None };
        files.place.prepare()?;
        files.open()?;
        Threaded::start(&format!("file:{}", directory.display()), files).map(Self)
    }
}

impl Sink for FileSink {
    fn name(&self) -> &str {
        self.0.name()
    }

    fn write<'a>(&'a mut self, batch: &'a Arc<Batch>) -> SinkFuture<'a> {
        self.0.write(batch)
    }

    fn flush(&mut self) -> SinkFuture<'_> {
        self.0.flush()
    }

    fn close(&mut self) -> SinkFuture<'_> {
        self.0.close()
    }
}

/// Where files are, and what time it is there: tests have their own.
trait Place: Send + 'static {
    type File: Write + Send + 'static;

    fn now(&self) -> Time;

    /// Creates a file that is not there yet.
    fn create(&mut self, name: &str) -> io::Result<Self::File>;

    fn remove(&mut self, name: &str) -> io::Result<()>;

    fn sync(file: &Self::File) -> io::Result<()>;

    /// A file's path, for people.
    fn path(&self, name: &str) -> String;
}

struct Directory(PathBuf);

impl Directory {
    fn prepare(&self) -> Result<(), SinkError> {
        fs::create_dir_all(&self.0).map_err(|error| SinkError::io(&format!("cannot create the directory `{}`", self.0.display()), error))
    }
}

impl Place for Directory {
    type File = File;

    fn now(&self) -> Time {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Time::EPOCH + since
    }

    fn create(&mut self, name: &str) -> io::Result<File> {
        // Somebody may have removed it while nothing was written.
        fs::create_dir_all(&self.0)?;
        OpenOptions::new().write(true).create_new(true).open(self.0.join(name))
    }

    fn remove(&mut self, name: &str) -> io::Result<()> {
        fs::remove_file(self.0.join(name))
    }

    fn sync(file: &File) -> io::Result<()> {
        file.sync_all()
    }

    fn path(&self, name: &str) -> String {
        self.0.join(name).display().to_string()
    }
}

struct Files<P: Place> {
    place: P,
    options: FileOptions,
    current: Option<Current<P::File>>,
}

/// The file that is being written.
struct Current<F: Write> {
    encoder: Encoder<'static, F>,
    name: String,
    ends: Time,
    bytes: u64,
    /// Since when there is something that no block holds yet.
    unflushed: Option<Time>,
    /// Whether the last write was interrupted by an error, so that its rest belongs to this file.
    broken_off: bool,
    /// Whether the frame's end was begun: from there on, nothing can be added.
    ending: bool,
}

impl<P: Place> Files<P> {
    fn open(&mut self) -> Result<&mut Current<P::File>, SinkError> {
        let now = self.place.now();
        let (name, file) = self.create(now)?;
        let encoder = Encoder::new(file, self.options.level).map_err(|error| SinkError::io("cannot compress", error))?;
        let ends = next_multiple(now, self.options.rotate_every);
        Ok(self.current.insert(Current { encoder, name, ends, bytes: 0, unflushed: None, broken_off: false, ending: false }))
    }

    fn create(&mut self, now: Time) -> Result<(String, P::File), SinkError> {
        let stamp: String = now.to_string().chars().filter(|c| !matches!(c, '-' | ':')).take_while(|c| *c != '.').collect();
        for number in 0..FILES_PER_SECOND {
            let name = format!("events-{stamp}Z-{number:03}.ndjson.zst");
            match self.place.create(&name) {
                Ok(file) => return Ok((name, file)),
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
                Err(error) => return Err(SinkError::io(&format!("cannot create `{}`", self.place.path(&name)), error)),
            }
        }
        let path = self.place.path(&format!("events-{stamp}Z-*"));
        Err(SinkError::new(SinkErrorKind::Retryable, format!("there are {FILES_PER_SECOND} files of `{path}`: the limits for rotation are too small")))
    }

    /// Runs on the current file, and names it where that fails.
    fn on_current<T>(&mut self, work: impl FnOnce(&mut Current<P::File>, Time) -> io::Result<T>) -> Result<Option<T>, SinkError> {
        let now = self.place.now();
        let Some(current) = &mut self.current else { return Ok(None) };
        work(current, now).map(Some).map_err(|error| SinkError::io(&format!("cannot write `{}`", self.place.path(&current.name)), error))
    }

    fn is_due(&self) -> bool {
        let due = |current: &Current<_>| current.ending || self.place.now() >= current.ends || current.bytes >= self.options.rotate_bytes;
        self.current.as_ref().is_some_and(|current| !current.broken_off && due(current))
    }

    /// Ends the current file. One into which nothing was written is not left behind.
    fn end_file(&mut self) -> Result<(), SinkError> {
        self.on_current(|current, _| {
            current.ending = true;
            current.encoder.do_finish()?;
            P::sync(current.encoder.get_ref())
        })?;
        if let Some(empty) = self.current.take().filter(|current| current.bytes == 0) {
            self.place.remove(&empty.name).map_err(|error| SinkError::io(&format!("cannot remove `{}`", self.place.path(&empty.name)), error))?;
        }
        Ok(())
    }
}

impl<P: Place> Output for Files<P> {
    fn write(&mut self, lines: &mut &[u8]) -> Result<(), SinkError> {
        if self.is_due() {
            self.end_file()?;
        }
        if self.current.is_none() {
            self.open()?;
        }
        self.on_current(|current, now| {
            current.broken_off = true;
            current.unflushed.get_or_insert(now);
            // An encoder that fails has taken nothing: it writes out what it holds before it takes more.
            while !lines.is_empty() {
                let count = current.encoder.write(lines)?;
                *lines = lines.get(count..).unwrap_or_default();
                current.bytes += count as u64;
            }
            current.broken_off = false;
            current.flush_if_due(now)
        })?;
        Ok(())
    }

    fn flush(&mut self) -> Result<(), SinkError> {
        self.on_current(|current, _| current.flush()).map(drop)
    }

    fn finish(&mut self) -> Result<(), SinkError> {
        self.end_file()
    }

    fn wake_after(&self) -> Option<Duration> {
        let current = self.current.as_ref()?;
        let block = current.unflushed.map(|since| since + BLOCK_EVERY);
        let next = block.map_or(current.ends, |block| block.min(current.ends));
        Some(next.since(self.place.now()))
    }

    fn tick(&mut self) -> Result<(), SinkError> {
        // A quiet file ends on time as well: whoever waits for the hour may have it.
        if self.is_due() {
            return self.end_file();
        }
        self.on_current(Current::flush_if_due).map(drop)
    }
}

impl<F: Write> Current<F> {
    fn flush_if_due(&mut self, now: Time) -> io::Result<()> {
        // A clock that was set back must not postpone it.
        let due = |since: Time| now < since || now.since(since) >= BLOCK_EVERY;
        if self.unflushed.is_some_and(due) { self.flush() } else { Ok(()) }
    }

    fn flush(&mut self) -> io::Result<()> {
        if self.unflushed.is_some() {
            self.encoder.flush()?;
            self.unflushed = None;
        }
        Ok(())
    }
}

/// The end of the period that `now` is in, periods being counted from 1970.
fn next_multiple(now: Time, every: Duration) -> Time {
    let every = i64::try_from(every.as_micros()).unwrap_or(i64::MAX).max(1);
    let end = now.micros().div_euclid(every).checked_add(1).and_then(|count| count.checked_mul(every));
    end.map_or(Time::MAX, Time::from_micros)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::io::Read as _;
    use std::sync::Mutex;

    use super::*;
    use crate::contract::{self, batch, block_on};

    /// The lines of a file that may lack its end, up to the last whole one.
    fn whole_lines(bytes: &[u8]) -> String {
        let mut text = Vec::new();
        let mut decoder = zstd::stream::read::Decoder::new(bytes).unwrap();
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = decoder.read(&mut buffer) {
            text.extend_from_slice(&buffer[..count]);
        }
        text.truncate(text.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1));
        String::from_utf8(text).unwrap()
    }

    /// All files of a directory in the order of their names.
    fn read_all(directory: &Path) -> Vec<String> {
        let mut paths: Vec<PathBuf> = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        paths.sort();
        paths.iter().map(|path| whole_lines(&fs::read(path).unwrap())).collect()
    }

    fn text(ids: std::ops::Range<u64>) -> String {
        String::from_utf8(batch(ids).lines().to_vec()).unwrap()
    }

    /// A disk in memory, which may be full, and a clock that is set by hand.
    #[derive(Clone, Default)]
    struct Desk(Arc<Mutex<State>>);

    #[derive(Default)]
    struct State {
        now: Time,
        free: Option<usize>,
        files: BTreeMap<String, Vec<u8>>,
    }

    struct Sheet(Desk, String);

    impl Write for Sheet {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut state = self.0.0.lock().unwrap();
            let count = bytes.len().min(state.free.unwrap_or(usize::MAX));
            if count == 0 {
                return Err(io::ErrorKind::StorageFull.into());
            }
            state.free = state.free.map(|free| free - count);
            state.files.get_mut(&self.1).unwrap().extend_from_slice(&bytes[..count]);
            Ok(count)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl Place for Desk {
        type File = Sheet;

        fn now(&self) -> Time {
            self.0.lock().unwrap().now
        }

        fn create(&mut self, name: &str) -> io::Result<Sheet> {
            let taken = self.0.lock().unwrap().files.insert(name.to_owned(), Vec::new());
            assert_eq!(taken, None, "a file is never overwritten");
            Ok(Sheet(self.clone(), name.to_owned()))
        }

        fn remove(&mut self, name: &str) -> io::Result<()> {
            self.0.lock().unwrap().files.remove(name).map(drop).ok_or(io::ErrorKind::NotFound.into())
        }

        fn sync(_: &Sheet) -> io::Result<()> {
            Ok(())
        }

        fn path(&self, name: &str) -> String {
            format!("desk/{name}")
        }
    }

    impl Desk {
        fn files(&self, options: FileOptions) -> Files<Self> {
            Files { place: self.clone(), options, current: None }
        }

        fn at(&self, seconds: u64) {
            self.0.lock().unwrap().now = Time::from_date(2026, 7, 24).unwrap() + Duration::from_secs(seconds);
        }

        fn free(&self, bytes: Option<usize>) {
            self.0.lock().unwrap().free = bytes;
        }

        fn lines(&self) -> Vec<(String, String)> {
            self.0.lock().unwrap().files.iter().map(|(name, bytes)| (name.clone(), whole_lines(bytes))).collect()
        }
    }

    #[test]
    fn what_arrived_is_readable_after_a_second_at_most() {
        let desk = Desk::default();
        desk.at(36_900);
        let mut files = desk.files(FileOptions::default());
        files.write(&mut batch(0..5).lines()).unwrap();
        assert_eq!(files.wake_after(), Some(BLOCK_EVERY));
        desk.at(36_901);
        files.tick().unwrap();
        assert_eq!(desk.lines(), [("events-20260724T101500Z-000.ndjson.zst".to_owned(), text(0..5))]);
        files.write(&mut batch(5..6).lines()).unwrap();
        files.flush().unwrap();
        assert_eq!(desk.lines()[0].1, text(0..6));
    }

    #[test]
    fn files_end_with_the_hour_and_at_their_size() {
        let desk = Desk::default();
        desk.at(3_590);
        let mut files = desk.files(FileOptions { rotate_bytes: 500, ..FileOptions::default() });
        files.write(&mut batch(0..1).lines()).unwrap();
        desk.at(3_600);
        assert_eq!(files.wake_after(), Some(Duration::ZERO));
        files.tick().unwrap();
        files.write(&mut batch(1..5).lines()).unwrap();
        desk.at(3_601);
        files.write(&mut batch(5..6).lines()).unwrap();
        files.finish().unwrap();
        let names = ["events-20260724T005950Z-000.ndjson.zst", "events-20260724T010000Z-000.ndjson.zst", "events-20260724T010001Z-000.ndjson.zst"];
        let wanted: Vec<_> = names.map(str::to_owned).into_iter().zip([text(0..1), text(1..5), text(5..6)]).collect();
        assert_eq!(desk.lines(), wanted);
    }

    #[test]
    fn a_full_disk_is_named_and_nothing_is_lost_or_repeated_once_there_is_room() {
        let desk = Desk::default();
        let mut files = desk.files(FileOptions { rotate_bytes: 1, ..FileOptions::default() });
        // Enough to fill zstd's own buffers many times.
        let lines = (0..40_000_u64).fold(String::new(), |text, n| text + &format!("{:x}\n", n.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
        let mut rest = lines.as_bytes();
        let mut failures = 0;
        desk.free(Some(10_000));
        while let Err(error) = files.write(&mut rest) {
            assert!(error.is_retryable());
            assert_eq!(error.to_string(), "cannot write `desk/events-19700101T000000Z-000.ndjson.zst`: no storage space");
            failures += 1;
            desk.free(Some(50_000));
        }
        desk.free(Some(3));
        while files.finish().is_err() {
            failures += 1;
            desk.free(Some(10_000));
        }
        assert!(failures > 3, "it failed while writing and while ending");
        assert_eq!(desk.lines(), [("events-19700101T000000Z-000.ndjson.zst".to_owned(), lines)]);
    }

    #[test]
    fn a_restart_does_not_overwrite() {
        let directory = tempfile::tempdir().unwrap();
        block_on(async {
            for id in 0..3 {
                let mut sink = FileSink::open(directory.path(), FileOptions::default()).unwrap();
                sink.write(&batch(id..id + 1)).await.unwrap();
                sink.close().await.unwrap();
            }
        });
        assert_eq!(read_all(directory.path()).concat(), text(0..3));
    }

    #[test]
    fn a_run_without_events_leaves_no_file() {
        let directory = tempfile::tempdir().unwrap();
        block_on(async { FileSink::open(directory.path(), FileOptions::default()).unwrap().close().await.unwrap() });
        assert_eq!(read_all(directory.path()), [""; 0]);
    }

    #[test]
    fn a_directory_that_cannot_be_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, "").unwrap();
        let error = FileSink::open(&file.join("data"), FileOptions::default()).unwrap_err();
        assert_eq!(error.to_string(), format!("cannot create the directory `{}/data`: Not a directory", file.display()));
        assert_eq!(error.kind(), SinkErrorKind::Permanent);
    }

    /// Root may write everywhere but where the kernel says no.
    #[cfg(target_os = "linux")]
    #[test]
    fn a_directory_without_write_permission_is_named() {
        let error = FileSink::open(Path::new("/proc/self"), FileOptions::default()).unwrap_err();
        assert!(error.to_string().starts_with("cannot create `/proc/self/events-"), "{error}");
        assert_eq!(error.kind(), SinkErrorKind::Permanent);
    }

    #[test]
    fn keeps_the_contract() {
        let directory = tempfile::tempdir().unwrap();
        let sink = FileSink::open(directory.path(), FileOptions::default()).unwrap();
        contract::suite(sink, |_| read_all(directory.path()).concat());
    }

    #[test]
    fn keeps_the_contract_when_it_rotates_all_the_time() {
        let directory = tempfile::tempdir().unwrap();
        let options = FileOptions { rotate_bytes: 1, ..FileOptions::default() };
        let sink = FileSink::open(directory.path(), options).unwrap();
        contract::suite(sink, |_| read_all(directory.path()).concat());
    }
}
