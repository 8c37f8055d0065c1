//! Where the files lie. Each has its whole content, or is not there: a name is given to what is complete.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use ::parquet::file::metadata::ParquetMetaData;
use bytes::Bytes;

use super::encode;
use crate::error::{SinkError, SinkErrorKind};

/// Files that are not complete have no name that a reader would look for.
pub(super) const UNFINISHED: &str = ".unfinished";
/// Who reads holds this lock in common with others, who swaps directories holds it alone.
pub(super) const LOCK: &str = ".lock";
/// A file that is so old has its lock, if somebody still writes it.
const STALE: Duration = Duration::from_secs(5);

/// Files by their paths in a dataset: `type=trade/venue=bybit/date=2026-11-21/part-….parquet`.
pub(super) trait Store: Send {
    /// The names of the files of a partition; none if it is not there.
    fn list(&self, partition: &str) -> Result<Vec<String>, SinkError>;

    /// A file's content; `None` if it is not there.
    fn read(&self, path: &str) -> Result<Option<Bytes>, SinkError>;

    /// A file's metadata, without its content. `None` if it cannot be made out, since the file is damaged or not there.
    fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError>;

    /// Gives a file its content, in one step: a reader sees what was there before, or this. It is safe when this returns.
    fn replace(&self, path: &str, content: Vec<u8>) -> Result<(), SinkError>;

    /// How a file is called to people.
    fn shown(&self, path: &str) -> String;
}

/// A directory.
#[derive(Debug)]
pub(super) struct Directory {
    root: PathBuf,
    /// Whether content is on the disk, and not only with the system, before it counts as safe.
    sync: bool,
    lock: File,
    /// Beginning of the names of this process' unfinished files.
    own: String,
}

impl Directory {
    /// Opens a dataset's directory, creating it if need be, and removes what a process that died left unfinished in it.
    pub(super) fn open(root: &Path, sync: bool) -> Result<Self, SinkError> {
        let unfinished = root.join(UNFINISHED);
        fs::create_dir_all(&unfinished).map_err(|error| SinkError::io(&format!("cannot create the directory `{}`", root.display()), error))?;
        let lock = lock(root)?;
        let own = format!("{}-{:016x}", std::process::id(), super::chance());
        let this = Self { root: root.to_owned(), sync, lock, own };
        // What is wrong with the directory shows now.
        let probe = unfinished.join(&this.own);
        File::create(&probe).map_err(|error| SinkError::io(&format!("cannot create `{}`", probe.display()), error))?;
        remove(&probe)?;
        Self::tidy(&unfinished);
        Ok(this)
    }

    /// Removes what was left unfinished: whoever still writes a file holds its lock. That it fails is no harm.
    fn tidy(unfinished: &Path) {
        for entry in fs::read_dir(unfinished).into_iter().flatten().flatten() {
            let age = entry.metadata().and_then(|metadata| metadata.modified()).ok().and_then(|at| SystemTime::now().duration_since(at).ok());
            let abandoned = age.is_some_and(|age| age > STALE) && File::open(entry.path()).is_ok_and(|file| file.try_lock().is_ok());
            if abandoned {
                let _ = fs::remove_file(entry.path());
            }
        }
    }

    fn write(&self, path: &Path, content: &[u8]) -> Result<(), SinkError> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let unfinished = self.root.join(UNFINISHED).join(format!("{}-{name}", self.own));
        let result = self.publish(&unfinished, path, content);
        if result.is_err() {
            let _ = fs::remove_file(&unfinished);
        }
        result.map_err(|error| SinkError::io(&format!("cannot write `{}`", path.display()), error))
    }

    fn publish(&self, unfinished: &Path, path: &Path, content: &[u8]) -> io::Result<()> {
        // Somebody may have removed it.
        if let Some(parent) = unfinished.parent() {
            fs::create_dir_all(parent)?;
        }
        let mut file = File::create(unfinished)?;
        file.lock()?;
        file.write_all(content)?;
        if self.sync {
            file.sync_all()?;
        }
        // Directories are not swapped while this lock is held: see `compact`.
        self.lock.lock_shared()?;
        let renamed = self.rename(unfinished, path);
        self.lock.unlock()?;
        renamed
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let Some(parent) = to.parent() else { return Err(io::ErrorKind::InvalidInput.into()) };
        let made = if parent.is_dir() { Vec::new() } else { make(&self.root, parent)? };
        fs::rename(from, to)?;
        if self.sync {
            sync_directory(parent)?;
            made.iter().try_for_each(|directory| sync_directory(directory))?;
        }
        Ok(())
    }
}

/// The lock of a dataset, not taken.
pub(super) fn lock(root: &Path) -> Result<File, SinkError> {
    let path = root.join(LOCK);
    let open = File::options().create(true).append(true).open(&path);
    open.map_err(|error| SinkError::io(&format!("cannot create `{}`", path.display()), error))
}

/// Creates a directory in `root`: gives those in which one was created.
fn make(root: &Path, directory: &Path) -> io::Result<Vec<PathBuf>> {
    fs::create_dir_all(directory)?;
    Ok(directory.ancestors().skip(1).take_while(|above| above.starts_with(root)).map(Path::to_owned).collect())
}

/// Makes the names in a directory safe.
pub(super) fn sync_directory(directory: &Path) -> io::Result<()> {
    // Other systems have no such thing: there, a name is safe with its file.
    if cfg!(unix) { File::open(directory)?.sync_all() } else { Ok(()) }
}

fn remove(path: &Path) -> Result<(), SinkError> {
    fs::remove_file(path).map_err(|error| SinkError::io(&format!("cannot remove `{}`", path.display()), error))
}

impl Store for Directory {
    fn list(&self, partition: &str) -> Result<Vec<String>, SinkError> {
        let directory = self.root.join(partition);
        let failed = |error| SinkError::io(&format!("cannot list `{}`", directory.display()), error);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(failed(error)),
        };
        entries.map(|entry| entry.map(|entry| entry.file_name().to_string_lossy().into_owned()).map_err(failed)).collect()
    }

    fn read(&self, path: &str) -> Result<Option<Bytes>, SinkError> {
        let path = self.root.join(path);
        match fs::read(&path) {
            Ok(content) => Ok(Some(content.into())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SinkError::io(&format!("cannot read `{}`", path.display()), error)),
        }
    }

    fn metadata(&self, path: &str) -> Result<Option<ParquetMetaData>, SinkError> {
        let path = self.root.join(path);
        match File::open(&path) {
            Ok(file) => Ok(encode::metadata(&file).ok()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(SinkError::io(&format!("cannot read `{}`", path.display()), error)),
        }
    }

    fn replace(&self, path: &str, content: Vec<u8>) -> Result<(), SinkError> {
        self.write(&self.root.join(path), &content)
    }

    fn shown(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }
}

/// What the format's library said of a file.
pub(super) fn broken(what: &str, error: &parquet::errors::ParquetError) -> SinkError {
    SinkError::new(SinkErrorKind::Permanent, format!("{what}: {error}"))
}
