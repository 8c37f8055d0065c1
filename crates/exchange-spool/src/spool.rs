//! The door to the journal: opening it, appending, syncing, checkpoints.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use exchange_core::{Batch, Position};
use tokio::sync::watch;

use crate::checkpoint::{self, sync_directory};
use crate::cursor;
use crate::error::{Refused, SpoolError, is_full};
use crate::inner::{Cursor, Inner};
use crate::loss::Losses;
use crate::record::Header;
use crate::room::Room;
use crate::segment::{Segment, read_head, scan};
use crate::{Options, Sync};

/// How much is appended between two checkpoints: what a restart has to read.
const CHECKPOINT_BYTES: u64 = 16 << 20;
/// How many segments may hold something that a process did not come to sync.
const UNSYNCED_SEGMENTS: usize = 8;
/// How far numbers skip ahead when a spool is opened: more than can have been given and not synced before a power cut.
pub(crate) const SKIP: u64 = 1_000_000_000;

/// A journal of batches in a directory. Clones are the same.
#[derive(Debug, Clone)]
pub struct Spool {
    pub(crate) shared: Arc<Shared>,
}

/// A spool that was opened, and what was found in it.
#[derive(Debug)]
pub struct Opened {
    /// The spool.
    pub spool: Spool,
    /// The newest checkpoint that is whole: its position, its bytes.
    pub checkpoint: Option<(Position, Vec<u8>)>,
    /// What had to be mended.
    pub repaired: Option<Repaired>,
}

/// A record that was not written to its end, because the process or the machine stopped. It was cut off.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Repaired {
    /// The segment.
    pub file: PathBuf,
    /// Bytes that were cut off.
    pub bytes: u64,
}

#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) journal: u64,
    pub(crate) options: Options,
    inner: Mutex<Inner>,
    /// The number of the last batch that was given to the world.
    pub(crate) last: watch::Sender<u64>,
    /// The number up to which everything is on the disk. Held while syncing.
    pub(crate) synced: Mutex<u64>,
    /// Bytes appended since the last checkpoint; very many when a segment was begun.
    unchecked: AtomicU64,
    /// Held by whoever makes room, before the rest.
    pub(crate) room: Arc<Mutex<Room>>,
    /// Asks the thread that syncs, which ends when this goes.
    committing: Option<SyncSender<()>>,
}

impl Spool {
    /// Opens the spool in a directory, and makes it where there is none. Its time and memory do not depend on how much
    /// lies there: the directory is listed, and the newest segment's headers are read.
    ///
    /// # Errors
    /// [`SpoolError::Io`], [`SpoolError::Newer`].
    pub fn open(directory: &Path, options: Options) -> Result<Opened, SpoolError> {
        describe_metrics();
        let cursors = directory.join("cursors");
        fs::create_dir_all(&cursors).map_err(SpoolError::io("create", &cursors))?;
        let (mut segments, mut checkpoints) = list(directory)?;
        let repaired = mend_newest(&mut segments)?;
        checkpoints.sort_unstable();
        let named = segments.iter().rev().find_map(|segment| read_head(&segment.path).transpose()).transpose()?;
        // The process before may have been killed before it synced, and the one before that.
        let unsynced = segments.iter().rev().take(UNSYNCED_SEGMENTS).rev().map(|segment| segment.path.clone()).collect();
        let mut positions: Vec<(String, Option<Position>)> = Vec::new();
        for entry in fs::read_dir(&cursors).map_err(SpoolError::io("list", &cursors))?.filter_map(Result::ok) {
            positions.extend(entry.file_name().into_string().ok().map(|name| (name, cursor::read(&entry.path()))));
        }
        let checkpoint = checkpoints.iter().rev().find_map(|number| read_checkpoint(&checkpoint::path(directory, *number)));
        let elsewhere = || positions.iter().find_map(|(_, position)| *position).or(checkpoint.as_ref().map(|(position, _)| *position));
        let known = named.or_else(|| elsewhere().map(|position| position.journal));
        let journal = known.unwrap_or_else(|| fastrand::u64(1..));
        let here = |position: Position| (position.journal == journal).then_some(position.number);
        let checkpoint = checkpoint.filter(|(position, _)| here(*position).is_some());
        // What a sink or a checkpoint knows may be newer than what a power cut has left of the segments.
        let numbers = positions.iter().filter_map(|(_, position)| position.and_then(here)).chain(checkpoint.as_ref().map(|(position, _)| position.number));
        let last = numbers.chain(segments.last().map(|segment| segment.last)).max().unwrap_or(0);
        let there = segments.last().map_or(0, |newest| newest.last);
        let beginning = segments.first().map_or(last, |oldest| oldest.previous);
        let cursors = positions.into_iter().map(|(name, position)| {
            let acknowledged = position.and_then(here).unwrap_or(beginning);
            (name, Cursor { acknowledged, reader: None })
        });
        let inner = Inner {
            directory: directory.to_owned(),
            journal,
            cursors: cursors.collect(),
            active: None,
            unsynced,
            unsynced_names: true,
            last,
            next: if known.is_some() || last > 0 { last.saturating_add(SKIP).next_multiple_of(SKIP) + 1 } else { 1 },
            ring: std::collections::VecDeque::new(),
            ring_bytes: 0,
            checkpoints,
            losses: Losses::load(directory),
            bytes: segments.iter().map(|segment| segment.bytes).sum(),
            segments: segments.into(),
            gauge: metrics::gauge!("collector_spool_bytes", "spool" => directory.file_name().unwrap_or_default().to_string_lossy().into_owned()),
        };
        let sync = options.sync;
        let (committing, asked) = (sync != Sync::Never).then(|| sync_channel(1)).unzip();
        let shared = Arc::new(Shared {
            journal,
            options,
            inner: Mutex::new(inner),
            last: watch::Sender::new(there),
            synced: Mutex::new(0),
            unchecked: AtomicU64::new(0),
            room: Arc::default(),
            committing,
        });
        if let Some(asked) = asked {
            let shared = Arc::downgrade(&shared);
            let work = move || {
                while wait(&asked, sync) != Err(RecvTimeoutError::Disconnected)
                    && let Some(shared) = shared.upgrade()
                {
                    shared.commit();
                }
            };
            thread::Builder::new().name("journal sync".to_owned()).spawn(work).map_err(SpoolError::io("start a thread for", directory))?;
        }
        Ok(Opened { spool: Self { shared }, checkpoint, repaired })
    }

    /// Appends a batch, and gives it with its position. When this returns, the batch outlives the process; whether it
    /// outlives the machine is [`Options::sync`]'s to say. After an error nothing of it lies there.
    ///
    /// # Errors
    /// The batch, and [`SpoolError::Full`] where there is no room although nothing older is left, [`SpoolError::Io`], [`SpoolError::TooLarge`].
    pub fn append(&self, batch: Batch) -> Result<Arc<Batch>, Box<Refused>> {
        let batch = self.shared.append(batch)?;
        if self.shared.options.sync == Sync::Always {
            self.shared.commit();
        }
        Ok(batch)
    }

    /// As [`Spool::append`], but with [`Sync::Always`] for those who must not block: the disk is waited for by
    /// [`Spool::settled`], and nobody reads the batch before. One that is never waited for is settled all the same.
    ///
    /// # Errors
    /// As [`Spool::append`].
    pub fn put(&self, batch: Batch) -> Result<Arc<Batch>, Box<Refused>> {
        let batch = self.shared.append(batch)?;
        if let Some(committing) = self.shared.committing.as_ref().filter(|_| self.shared.options.sync == Sync::Always) {
            // Where one waits to be taken, it is for this batch as well.
            let _ = committing.try_send(());
        }
        Ok(batch)
    }

    /// Waits until the batches up to a position are as safe as [`Options::sync`] asks for.
    pub async fn settled(&self, position: Position) {
        if position.journal == self.shared.journal && *self.shared.last.borrow() < position.number {
            // The sender lives as long as this does.
            let _ = self.shared.last.subscribe().wait_for(|last| *last >= position.number).await;
        }
    }

    /// The position of the last batch that was ever appended, settled or not; number 0 if none was.
    pub fn last(&self) -> Position {
        Position { journal: self.shared.journal, number: self.shared.lock().last }
    }

    /// Forces to the disk what was appended.
    ///
    /// # Errors
    /// [`SpoolError::Io`].
    pub fn sync(&self) -> Result<(), SpoolError> {
        self.shared.sync()
    }

    /// Keeps bytes that stand for all that has been appended.
    ///
    /// # Errors
    /// As [`Spool::checkpoint_at`].
    pub fn checkpoint(&self, bytes: &[u8]) -> Result<(), SpoolError> {
        self.checkpoint_at(self.last(), bytes)
    }

    /// Keeps bytes that stand for all batches up to a position: one that was taken before the bytes were made, if
    /// batches may be appended meanwhile. The journal is synced first, since a checkpoint must not know more.
    ///
    /// # Errors
    /// [`SpoolError::Foreign`], [`SpoolError::Io`].
    pub fn checkpoint_at(&self, position: Position, bytes: &[u8]) -> Result<(), SpoolError> {
        self.sync()?;
        let (directory, last) = {
            let inner = self.shared.lock();
            (inner.directory.clone(), inner.last)
        };
        if position.journal != self.shared.journal || position.number > last {
            return Err(SpoolError::Foreign(position));
        }
        checkpoint::write(&directory, position, bytes).map_err(SpoolError::io("write", &checkpoint::path(&directory, position.number)))?;
        self.shared.unchecked.store(0, Ordering::Relaxed);
        let mut inner = self.shared.lock();
        inner.checkpoints.retain(|number| *number != position.number);
        inner.checkpoints.push(position.number);
        inner.checkpoints.sort_unstable();
        while inner.checkpoints.len() > 2 {
            let oldest = inner.checkpoints.remove(0);
            if let Err(error) = fs::remove_file(checkpoint::path(&directory, oldest)) {
                tracing::warn!(%error, number = oldest, "cannot delete an old checkpoint");
            }
        }
        inner.retire();
        Ok(())
    }

    /// Whether it is time for a checkpoint: a segment was begun, or 16 MiB were appended since the last.
    pub fn wants_checkpoint(&self) -> bool {
        self.shared.unchecked.load(Ordering::Relaxed) >= CHECKPOINT_BYTES
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, Inner> {
        // What panics under this lock leaves at most one batch untold.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Writes a batch, whoever must go for it. With [`Sync::Always`] it is not given to the world yet.
    fn append(self: &Arc<Self>, batch: Batch) -> Result<Arc<Batch>, Box<Refused>> {
        let (mut header, places) = match Header::of(&batch) {
            Ok(parts) => parts,
            Err(error) => return Err(Box::new(Refused { batch, error })),
        };
        let mut batch = batch;
        loop {
            let mut inner = self.lock();
            let (oldest, newest) = (inner.oldest(), inner.segments.back().map(|segment| segment.first));
            if inner.bytes.saturating_add(header.bytes()) > self.options.max_bytes {
                drop(inner);
                if self.make_room(oldest, false) {
                    continue;
                }
                inner = self.lock();
            }
            match inner.append(&self.options, (&mut header, &places), batch) {
                Ok(appended) => {
                    let rolled = newest.is_some() && inner.segments.back().map(|segment| segment.first) != newest;
                    let last = inner.last;
                    drop(inner);
                    self.unchecked.fetch_add(if rolled { CHECKPOINT_BYTES } else { appended.lines().len() as u64 }, Ordering::Relaxed);
                    if rolled {
                        self.look_ahead();
                    }
                    if self.options.sync != Sync::Always {
                        self.give(last);
                    }
                    return Ok(appended);
                }
                Err(refused) => {
                    drop(inner);
                    let Refused { batch: again, error } = *refused;
                    match error {
                        SpoolError::Io { source, path, .. } if is_full(&source) => {
                            if !self.make_room(oldest, true) {
                                return Err(Box::new(Refused { batch: again, error: SpoolError::Full { path, source } }));
                            }
                            batch = again;
                        }
                        error => return Err(Box::new(Refused { batch: again, error })),
                    }
                }
            }
        }
    }

    /// Gives the batches up to a number to the world.
    fn give(&self, number: u64) {
        // Two that append may come here in the other order.
        self.last.send_if_modified(|known| std::mem::replace(known, number.max(*known)) < number);
    }

    /// Forces all to the disk that was appended, and gives it to the world. Should that fail it is in the journal all the same,
    /// whatever becomes of the machine: to say otherwise would bring it twice.
    fn commit(&self) {
        let last = self.lock().last;
        if let Err(error) = self.sync_up_to(last) {
            metrics::counter!("collector_spool_sync_errors_total").increment(1);
            tracing::error!(%error, "what was journaled outlives this process, but not a power cut");
        }
        self.give(last);
    }

    fn sync(&self) -> Result<(), SpoolError> {
        let last = self.lock().last;
        self.sync_up_to(last)
    }

    /// Waits until a batch is on the disk: whoever waits for another's sync finds itself synced, too.
    fn sync_up_to(&self, number: u64) -> Result<(), SpoolError> {
        let mut synced = self.synced.lock().unwrap_or_else(PoisonError::into_inner);
        if *synced >= number {
            return Ok(());
        }
        let mut inner = self.lock();
        let segments = std::mem::take(&mut inner.unsynced);
        let names = std::mem::take(&mut inner.unsynced_names);
        let (last, directory) = (inner.last, inner.directory.clone());
        drop(inner);
        let done = segments.iter().try_for_each(|path| sync_segment(path)).and_then(|()| if names { sync_directory(&directory) } else { Ok(()) });
        if let Err(error) = done {
            // Tried again with the next. What the system has dropped meanwhile is found by the checksums.
            let mut inner = self.lock();
            inner.unsynced.splice(0..0, segments);
            inner.unsynced_names |= names;
            return Err(SpoolError::io("sync", &directory)(error));
        }
        *synced = last;
        Ok(())
    }
}

/// Waits until it is time to sync.
fn wait(asked: &Receiver<()>, sync: Sync) -> Result<(), RecvTimeoutError> {
    match sync {
        Sync::Every(interval) => asked.recv_timeout(interval.max(Duration::from_millis(1))),
        Sync::Always | Sync::Never => asked.recv().map_err(|_| RecvTimeoutError::Disconnected),
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        if self.options.sync != Sync::Never
            && let Err(error) = self.sync()
        {
            tracing::error!(%error, "the end of the journal is not on the disk yet");
        }
    }
}

/// Forces a segment to the disk, if it is still there. What any handle of a file has written is synced by each of them.
fn sync_segment(path: &Path) -> io::Result<()> {
    match File::open(path) {
        Ok(file) => file.sync_data(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error),
    }
}

/// The segments of a directory in order, and the numbers of its checkpoints.
fn list(directory: &Path) -> Result<(Vec<Segment>, Vec<u64>), SpoolError> {
    let (mut segments, mut checkpoints) = (Vec::new(), Vec::new());
    for entry in fs::read_dir(directory).map_err(SpoolError::io("list", directory))? {
        let entry = entry.map_err(SpoolError::io("list", directory))?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Some(mut segment) = Segment::named(directory, &name) {
            segment.bytes = entry.metadata().map_err(SpoolError::io("read", &segment.path))?.len();
            if segment.bytes == 0 {
                // It was being deleted, or begun.
                let _ = fs::remove_file(&segment.path);
            } else {
                segments.push(segment);
            }
        } else if let Some(number) = checkpoint::number(&name) {
            checkpoints.push(number);
        } else if entry.path().extension().is_some_and(|extension| extension == "new") {
            // Half of a replacement that was interrupted.
            let _ = fs::remove_file(entry.path());
        }
    }
    segments.sort_unstable_by_key(|segment| segment.first);
    let lasts: Vec<u64> = segments.iter().skip(1).map(|next| next.previous).collect();
    segments.iter_mut().zip(lasts).for_each(|(segment, last)| segment.last = last);
    Ok((segments, checkpoints))
}

/// Finds the end of the newest segment, and cuts off what was not written to its end. Segments without a record go.
fn mend_newest(segments: &mut Vec<Segment>) -> Result<Option<Repaired>, SpoolError> {
    let mut repaired = None;
    while let Some(newest) = segments.last_mut() {
        // What a newer release wrote is not to be cut.
        read_head(&newest.path)?;
        let found = scan(newest, newest.bytes).map_err(SpoolError::io("read", &newest.path))?;
        if found.end < newest.bytes {
            repaired = Some(Repaired { file: newest.path.to_path_buf(), bytes: newest.bytes - found.end });
            let file = File::options().write(true).open(&newest.path).map_err(SpoolError::io("open", &newest.path))?;
            file.set_len(found.end).map_err(SpoolError::io("cut", &newest.path))?;
        }
        (newest.bytes, newest.last) = (found.end, found.last);
        if !newest.is_empty() {
            break;
        }
        // Also where it is the only one: cursors and checkpoints know the journal as well, and without any nobody does.
        fs::remove_file(&newest.path).map_err(SpoolError::io("delete", &newest.path))?;
        segments.pop();
    }
    if let Some(Repaired { file, bytes }) = &repaired {
        tracing::warn!(file = %file.display(), bytes, "the journal ended in the middle of a record, which was cut off");
    }
    Ok(repaired)
}

fn read_checkpoint(path: &Path) -> Option<(Position, Vec<u8>)> {
    match checkpoint::read(path) {
        Ok(Some(checkpoint)) => return Some(checkpoint),
        Ok(None) => tracing::warn!(file = %path.display(), "a checkpoint is damaged: the one before it is used"),
        Err(error) => tracing::warn!(file = %path.display(), %error, "cannot read a checkpoint: the one before it is used"),
    }
    None
}

fn describe_metrics() {
    metrics::describe_gauge!("collector_spool_bytes", metrics::Unit::Bytes, "What the journal takes of the disk");
    metrics::describe_counter!(
        "collector_spool_lost_events_total",
        "Events that a sink does not get, as far as they are known: dropped for want of room, or damaged"
    );
    metrics::describe_counter!("collector_spool_lost_batches_total", "Batches that a sink does not get");
    metrics::describe_counter!("collector_spool_sync_errors_total", "Failed attempts to force the journal to the disk");
    metrics::counter!("collector_spool_sync_errors_total").increment(0);
}
