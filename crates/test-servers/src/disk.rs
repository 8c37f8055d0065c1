//! Disks that are full, and directories that cannot be written to: real file systems, which only root may mount (on Linux).

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::Child;

use tempfile::TempDir;

use crate::{child, missing};

/// A small file system in memory, gone with this, or with the process. What is mounted in it goes first.
#[derive(Debug)]
pub struct Disk {
    mounted: Mounted,
    _folder: TempDir,
}

/// A directory that nothing can be written to, as long as this is there. Files that were open for writing before stay so.
#[derive(Debug)]
pub struct ReadOnly {
    _mounted: Mounted,
}

/// A disk of so many bytes. Where none may be mounted, the test says so and is skipped; in CI it fails.
///
/// # Panics
/// In CI, where none may be mounted.
pub fn disk(bytes: u64) -> Option<Disk> {
    let folder = tempfile::Builder::new().prefix("test-disk-").tempdir().expect("a temporary folder");
    tried(system::disk(folder.path(), bytes))?;
    Some(Disk { mounted: Mounted::at(folder.path()), _folder: folder })
}

/// Makes a directory read-only for whoever opens a file in it from now on, root included.
///
/// # Panics
/// In CI, where that may not be done.
pub fn read_only(directory: &Path) -> Option<ReadOnly> {
    tried(system::read_only(directory))?;
    Some(ReadOnly { _mounted: Mounted::at(directory) })
}

impl Disk {
    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.mounted.path
    }

    /// Takes what room there is, again if some has come back.
    ///
    /// # Panics
    /// If anything but a lack of room stands against it.
    pub fn fill(&self) {
        let mut file = File::options().create(true).append(true).open(self.ballast()).expect("a file");
        let error = loop {
            if let Err(error) = file.write_all(&[0; 4096]) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::StorageFull, "{error}");
    }

    /// Gives the room back.
    ///
    /// # Panics
    /// If it was not filled.
    pub fn free(&self) {
        std::fs::remove_file(self.ballast()).expect("what was filled");
    }

    fn ballast(&self) -> PathBuf {
        self.path().join("ballast")
    }
}

fn tried(mounted: io::Result<()>) -> Option<()> {
    mounted.map_err(|error| missing(&format!("no file system may be mounted here: {error}"))).ok()
}

/// What was mounted, and a guard that unmounts it when the process is gone.
#[derive(Debug)]
struct Mounted {
    path: PathBuf,
    guard: Child,
}

impl Mounted {
    fn at(path: &Path) -> Self {
        Self { path: path.to_owned(), guard: child::guard("umount -l \"$1\" 2>/dev/null", path.as_os_str()) }
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ended = self.guard.kill();
        let _status = self.guard.wait();
        if let Err(error) = system::unmount(&self.path) {
            eprintln!("cannot unmount {}: {error}", self.path.display());
        }
    }
}

#[cfg(target_os = "linux")]
mod system {
    use std::ffi::CString;
    use std::io;
    use std::path::Path;

    use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount};

    pub(super) fn disk(at: &Path, bytes: u64) -> io::Result<()> {
        let size = CString::new(format!("size={bytes}"))?;
        Ok(mount("tmpfs", at, "tmpfs", MountFlags::empty(), &*size)?)
    }

    pub(super) fn read_only(directory: &Path) -> io::Result<()> {
        mount_bind(directory, directory)?;
        let locked = mount_remount(directory, MountFlags::BIND | MountFlags::RDONLY, c"");
        Ok(locked.inspect_err(|_| drop(unmount(directory)))?)
    }

    pub(super) fn unmount(path: &Path) -> io::Result<()> {
        Ok(rustix::mount::unmount(path, UnmountFlags::DETACH)?)
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    use std::io;
    use std::path::Path;

    pub(super) fn disk(_: &Path, _: u64) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn read_only(_: &Path) -> io::Result<()> {
        Err(io::ErrorKind::Unsupported.into())
    }

    pub(super) fn unmount(_: &Path) -> io::Result<()> {
        Ok(())
    }
}
