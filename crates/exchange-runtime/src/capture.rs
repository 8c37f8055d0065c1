//! `--capture`: what the venues sent, byte for byte, into files of capture lines.
//!
//! What a sink gets is in the captures: whoever passes events on [waits](Tap::settled) until the bytes that they were
//! decoded from are with the operating system, so that the death of this process costs neither. Each group of lines that
//! waited together becomes a block that any zstd decoder reads, also of a file without its end. Files end with the hour or at
//! a size, and are synced to the disk then; what the machine's own death costs is what the system had not written of the
//! last one.
//!
//! A disk that does not take them (it is full) is no reason not to collect: captures are given up then, counted, told
//! once in the log and once at the end, and a new file is begun as soon as there is room.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use exchange_core::Time;
use exchange_core::capture::Capture;
use tokio::sync::watch;
use zstd::Encoder;

/// Lines are written together up to this size.
const GROUP: usize = 1 << 20;
/// A file takes lines for this long, to whole multiples of it.
const ROTATE_EVERY: i64 = 3_600_000_000;
/// A file takes this many bytes of lines, before compression.
const ROTATE_BYTES: usize = 256 << 20;
/// After a failure, how long until the next attempt.
const RETRY: Duration = Duration::from_secs(1);
/// A higher one costs CPU, and gains nothing on lines as short as these.
const LEVEL: i32 = 1;

/// The tap that connections and requests feed. Cloning shares the files.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    lines: Sender<Capture>,
    taken: Arc<AtomicU64>,
    settled: watch::Receiver<u64>,
}

/// The writing thread, to be joined after every tap was dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<Result<(), String>>,
}

impl Tap {
    /// Opens a file of its own in `directory`; an existing file is never touched.
    ///
    /// # Errors
    /// Where the directory or the file cannot be made.
    pub(crate) fn open(directory: &Path, now: Time) -> io::Result<(Self, Writer)> {
        std::fs::create_dir_all(directory)?;
        let directory = directory.to_owned();
        let mut archive = Archive::new(move |now| create(&directory, now), File::sync_all);
        archive.open(now)?;
        let (lines, receiver) = channel();
        let (sender, settled) = watch::channel(0);
        let thread = std::thread::Builder::new().name("capture".into()).spawn(move || write(archive, &receiver, &sender))?;
        Ok((Self { lines, taken: Arc::default(), settled }, Writer { thread }))
    }

    /// Takes a line.
    pub(crate) fn take(&self, capture: Capture) {
        // Counted first: whoever asks now waits for it, if not for more.
        self.taken.fetch_add(1, Ordering::SeqCst);
        if self.lines.send(capture).is_err() {
            tracing::error!("the captures' thread has ended");
        }
    }

    /// Waits until all that was taken is with the operating system, or was given up.
    pub(crate) async fn settled(&self) {
        let taken = self.taken.load(Ordering::SeqCst);
        if *self.settled.borrow() < taken {
            let mut settled = self.settled.clone();
            // A thread that ended early has nothing to wait for.
            let _ended = settled.wait_for(|settled| *settled >= taken).await;
        }
    }
}

impl Writer {
    /// Waits until everything is on disk.
    ///
    /// # Errors
    /// What did not get there, and why.
    pub(crate) fn finish(self) -> Result<(), String> {
        self.thread.join().unwrap_or_else(|_| Err("the captures' thread ended early".into()))
    }
}

fn create(directory: &Path, now: Time) -> io::Result<(File, PathBuf)> {
    let stamp = now.to_string().replace([':', '-'], "");
    let stamp = stamp.split('.').next().unwrap_or_default();
    let mut number = 0;
    loop {
        // Their names are in the order of their times.
        let path = directory.join(format!("captures-{stamp}Z-{number:03}.ndjson.zst"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            file => return Ok((file?, path)),
        }
    }
}

fn write<W: Write>(mut archive: Archive<W>, lines: &Receiver<Capture>, settled: &watch::Sender<u64>) -> Result<(), String> {
    let mut buffer = Vec::new();
    while let Ok(first) = lines.recv() {
        buffer.clear();
        first.write(&mut buffer);
        let mut count = 1;
        // What came meanwhile goes with it.
        while let Some(capture) = (buffer.len() < GROUP).then(|| lines.try_recv().ok()).flatten() {
            capture.write(&mut buffer);
            count += 1;
        }
        archive.put(&buffer, count, first.received);
        settled.send_modify(|settled| *settled += count);
    }
    archive.finish()
}

/// The files, one after another.
struct Archive<W: Write> {
    create: Box<dyn FnMut(Time) -> io::Result<(W, PathBuf)> + Send>,
    sync: fn(&W) -> io::Result<()>,
    current: Option<Current<W>>,
    failed: Option<Instant>,
    lost: Option<Lost>,
}

/// The file that is being written.
struct Current<W: Write> {
    out: Encoder<'static, W>,
    path: PathBuf,
    ends: Time,
    bytes: usize,
}

/// What did not get onto the disk.
struct Lost {
    lines: u64,
    first: Time,
    last: Time,
    why: String,
}

impl<W: Write> Archive<W> {
    fn new(create: impl FnMut(Time) -> io::Result<(W, PathBuf)> + Send + 'static, sync: fn(&W) -> io::Result<()>) -> Self {
        // There from the beginning: an alert on it needs the zero before the first loss.
        metrics::counter!("collector_captures_lost_total").increment(0);
        Self { create: Box::new(create), sync, current: None, failed: None, lost: None }
    }

    fn open(&mut self, now: Time) -> io::Result<()> {
        let (file, path) = (self.create)(now)?;
        let mut out = Encoder::new(file, LEVEL)?;
        out.include_checksum(true)?;
        let ends = Time::from_micros((now.micros().div_euclid(ROTATE_EVERY) + 1).saturating_mul(ROTATE_EVERY));
        tracing::info!(path = %path.display(), "capturing");
        self.current = Some(Current { out, path, ends, bytes: 0 });
        Ok(())
    }

    /// Writes whole lines, or gives them up.
    fn put(&mut self, lines: &[u8], count: u64, now: Time) {
        if self.failed.is_some_and(|failed| failed.elapsed() < RETRY) {
            return self.lose(count, now, None);
        }
        match self.try_put(lines, now) {
            Ok(()) if self.failed.take().is_some() => {
                tracing::warn!(lost = self.lost.as_ref().map(|lost| lost.lines), "captures can be written again");
            }
            Ok(()) => {}
            Err(error) => {
                let what = self.current.take().map_or_else(
                    || "another file of captures".to_owned(),
                    |current| {
                        if current.bytes == 0 {
                            // Attempts shall not litter the directory. If this fails as well, one does.
                            let _litter = std::fs::remove_file(&current.path);
                        }
                        format!("`{}`", current.path.display())
                    },
                );
                let why = format!("cannot write {what}: {error}");
                if self.failed.is_none() {
                    tracing::error!("{why}: captures are lost until there is room");
                }
                self.failed = Some(Instant::now());
                self.lose(count, now, Some(why));
            }
        }
    }

    fn try_put(&mut self, lines: &[u8], now: Time) -> io::Result<()> {
        if self.current.as_ref().is_some_and(|current| now >= current.ends || current.bytes >= ROTATE_BYTES) {
            self.end()?;
        }
        if self.current.is_none() {
            self.open(now)?;
        }
        if let Some(current) = &mut self.current {
            current.out.write_all(lines)?;
            current.out.flush()?;
            current.bytes += lines.len();
        }
        Ok(())
    }

    /// Ends the current file.
    fn end(&mut self) -> io::Result<()> {
        let Some(current) = &mut self.current else { return Ok(()) };
        current.out.do_finish()?;
        (self.sync)(current.out.get_ref())?;
        self.current = None;
        Ok(())
    }

    #[cold]
    fn lose(&mut self, count: u64, now: Time, why: Option<String>) {
        metrics::counter!("collector_captures_lost_total").increment(count);
        let lost = self.lost.get_or_insert_with(|| Lost { lines: 0, first: now, last: now, why: why.unwrap_or_default() });
        lost.lines += count;
        lost.last = now;
    }

    fn finish(mut self) -> Result<(), String> {
        let ended = self.end().map_err(|error| error.to_string());
        match self.lost {
            Some(lost) => Err(format!("up to {} lines from {} to {} were lost: {}", lost.lines, lost.first, lost.last, lost.why)),
            None => ended,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use exchange_core::Market;
    use exchange_sinks::{Lines, Rest};

    use super::*;

    fn capture(second: i64) -> Capture {
        Capture {
            received: Time::from_micros(second * 1_000_000),
            venue: "bybit".into(),
            market: Some(Market::Linear),
            source: "ws wss://h".into(),
            payload: format!("{{\"n\":{second}}}").into_bytes(),
            ..Capture::default()
        }
    }

    fn line(second: i64) -> String {
        let mut line = Vec::new();
        capture(second).write(&mut line);
        String::from_utf8(line).unwrap()
    }

    fn read(bytes: &[u8]) -> (String, Rest) {
        let (mut file, mut lines) = (Lines::new(bytes), Vec::new());
        while file.read(&mut lines).unwrap() {}
        (String::from_utf8(lines).unwrap(), file.rest())
    }

    fn files(directory: &Path) -> Vec<(String, (String, Rest))> {
        let mut files: Vec<PathBuf> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
        files.sort();
        files.iter().map(|path| (path.file_name().unwrap().to_string_lossy().into_owned(), read(&std::fs::read(path).unwrap()))).collect()
    }

    #[tokio::test]
    async fn what_is_settled_is_in_the_file_whatever_happens_to_its_end() {
        let directory = tempfile::tempdir().unwrap();
        let (tap, writer) = Tap::open(directory.path(), capture(5).received).unwrap();
        tap.settled().await;
        let mut wanted = String::new();
        for second in 5..50 {
            tap.take(capture(second));
            tap.clone().settled().await;
            wanted += &line(second);
            assert_eq!(files(directory.path()), [("captures-19700101T000005Z-000.ndjson.zst".into(), (wanted.clone(), Rest::Torn))]);
        }
        drop(tap);
        writer.finish().unwrap();
        assert_eq!(files(directory.path())[0].1, (wanted, Rest::Nothing));
    }

    #[tokio::test]
    async fn files_end_with_the_hour() {
        let directory = tempfile::tempdir().unwrap();
        let (tap, writer) = Tap::open(directory.path(), capture(3599).received).unwrap();
        for second in [3599, 3600, 3601, 7300] {
            tap.take(capture(second));
            tap.settled().await;
        }
        drop(tap);
        writer.finish().unwrap();
        let wanted = [("T005959", line(3599)), ("T010000", line(3600) + &line(3601)), ("T020140", line(7300))];
        let wanted = wanted.map(|(stamp, lines)| (format!("captures-19700101{stamp}Z-000.ndjson.zst"), (lines, Rest::Nothing)));
        assert_eq!(files(directory.path()), wanted);
    }

    /// A disk that holds so many bytes, and its files.
    #[derive(Clone, Default)]
    struct Disk(Arc<Mutex<(usize, Vec<Vec<u8>>)>>);

    struct OnDisk(Disk, usize);

    impl Write for OnDisk {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let mut disk = self.0.0.lock().unwrap();
            let count = bytes.len().min(disk.0);
            disk.0 -= count;
            disk.1[self.1].extend_from_slice(&bytes[..count]);
            if count == 0 { Err(io::ErrorKind::StorageFull.into()) } else { Ok(count) }
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_full_disk_costs_what_comes_meanwhile_and_is_told() {
        let disk = Disk(Arc::new(Mutex::new((1000, Vec::new()))));
        let made = disk.clone();
        let create = move |_| {
            made.0.lock().unwrap().1.push(Vec::new());
            let number = made.0.lock().unwrap().1.len() - 1;
            Ok((OnDisk(made.clone(), number), PathBuf::from(format!("file {number}"))))
        };
        let mut archive = Archive::new(create, |_| Ok(()));
        let put = |archive: &mut Archive<OnDisk>, second| archive.put(line(second).as_bytes(), 1, capture(second).received);
        let mut kept = 0;
        while archive.failed.is_none() {
            put(&mut archive, kept);
            kept += 1;
        }
        put(&mut archive, kept);
        let lost = archive.lost.as_ref().unwrap();
        assert_eq!(lost.lines, 2, "the one that did not fit, and the one after it, which is not even tried");
        disk.0.lock().unwrap().0 = usize::MAX;
        archive.failed = Some(Instant::now().checked_sub(RETRY).unwrap());
        put(&mut archive, 100);
        let why = format!("up to 2 lines from {} to {} were lost: cannot write `file 0`: no storage space", capture(kept - 1).received, capture(kept).received);
        assert_eq!(archive.finish(), Err(why));
        let files: Vec<(String, Rest)> = disk.0.lock().unwrap().1.iter().map(|bytes| read(bytes)).collect();
        let before: String = (0..kept - 1).map(line).collect();
        assert_eq!(files, [(before, Rest::Torn), (line(100), Rest::Nothing)]);
    }
}
