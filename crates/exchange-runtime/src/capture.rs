//! `--capture`: what the venues sent, byte for byte, into files of capture lines.

use std::fs::{File, OpenOptions};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use exchange_core::Time;
use exchange_core::capture::Capture;

/// Lines that may wait to be written; then the sockets wait.
const CAPACITY: usize = 8192;
/// A reader finds everything up to so long ago, whatever happens to the process.
const FLUSH: Duration = Duration::from_secs(1);
const LEVEL: i32 = 3;

/// The tap that connections and requests feed. Cloning shares the file.
#[derive(Debug, Clone)]
pub(crate) struct Tap {
    lines: SyncSender<Capture>,
}

/// The writing thread, to be joined after every tap was dropped.
#[derive(Debug)]
pub(crate) struct Writer {
    thread: JoinHandle<io::Result<()>>,
}

impl Tap {
    /// Opens a file of its own in `directory`; an existing file is never touched.
    ///
    /// # Errors
    /// Where the directory or the file cannot be made.
    pub(crate) fn open(directory: &Path, now: Time) -> io::Result<(Self, Writer)> {
        std::fs::create_dir_all(directory)?;
        let stamp = now.to_string().replace([':', '-'], "");
        let stamp = stamp.split('.').next().unwrap_or_default().to_owned();
        let (file, path) = create(directory, &stamp)?;
        tracing::info!(path = %path.display(), "capturing");
        let (lines, receiver) = sync_channel(CAPACITY);
        let thread = std::thread::Builder::new().name("capture".into()).spawn(move || write(file, &receiver))?;
        Ok((Self { lines }, Writer { thread }))
    }

    /// Takes a line. Waits where the disk does not keep up: a capture with holes is worth nothing.
    pub(crate) fn take(&self, capture: Capture) {
        if self.lines.send(capture).is_err() {
            tracing::error!("the capture file cannot be written any more");
        }
    }
}

impl Writer {
    /// Waits until everything is on disk.
    ///
    /// # Errors
    /// What kept it from getting there.
    pub(crate) fn finish(self) -> io::Result<()> {
        self.thread.join().unwrap_or_else(|_| Err(io::Error::other("the capture thread ended early")))
    }
}

fn create(directory: &Path, stamp: &str) -> io::Result<(File, PathBuf)> {
    let mut number = 0;
    loop {
        let path = directory.join(format!("captures-{stamp}Z-{number}.ndjson.zst"));
        match OpenOptions::new().write(true).create_new(true).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => number += 1,
            file => return Ok((file?, path)),
        }
    }
}

fn write(file: File, lines: &Receiver<Capture>) -> io::Result<()> {
    let mut out = zstd::Encoder::new(file, LEVEL)?;
    let mut buffer = Vec::with_capacity(1 << 16);
    let mut flushed = Instant::now();
    loop {
        match lines.recv_timeout(FLUSH) {
            Ok(capture) => {
                capture.write(&mut buffer);
                if buffer.len() >= 1 << 16 {
                    out.write_all(&buffer)?;
                    buffer.clear();
                }
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                out.write_all(&buffer)?;
                return out.finish()?.sync_all();
            }
        }
        if flushed.elapsed() >= FLUSH {
            out.write_all(&buffer)?;
            buffer.clear();
            out.flush()?;
            flushed = Instant::now();
        }
    }
}
