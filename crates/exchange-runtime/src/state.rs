//! The state directory: what must survive a restart, and which part of it is whose.
//!
//! Some of it belongs to the machine (what a venue holds against its address) and is shared by all collectors that use
//! the directory; some belongs to one collector, by its name. A name is held by a lock on `NAME.lock` as long as a
//! [`StateDir`] that has claimed it exists; the system lets go of it when the process ends, however it ends.

use std::fs::{File, TryLockError};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// A state directory. Clones share the claim.
#[derive(Debug, Clone)]
pub struct StateDir {
    path: PathBuf,
    claim: Option<Arc<Claim>>,
}

#[derive(Debug)]
struct Claim {
    name: String,
    /// Held, not read.
    _lock: File,
}

/// Why a state directory cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StateError {
    /// It cannot be made or written to.
    #[error("cannot use `{}` as the state directory: {source}", path.display())]
    Unusable {
        /// What cannot be made.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Another process has claimed the name.
    #[error("a collector named `{0}` is running already")]
    Running(String),
    /// What names a file must not lead out of the directory.
    #[error("`{0}` is no name of a collector")]
    Name(String),
}

impl StateDir {
    /// Opens a state directory, and makes it where there is none.
    ///
    /// # Errors
    /// [`StateError::Unusable`].
    pub fn open(path: impl Into<PathBuf>) -> Result<Self, StateError> {
        let path = path.into();
        make(path.clone())?;
        Ok(Self { path, claim: None })
    }

    /// Claims a collector's name, as long as this and its clones live.
    ///
    /// # Errors
    /// [`StateError::Running`] where another collector has it.
    pub fn claim(self, name: &str) -> Result<Self, StateError> {
        let path = lock_path(&self.path, name).ok_or_else(|| StateError::Name(name.to_owned()))?;
        let unusable = |source| StateError::Unusable { path: self.path.clone(), source };
        let lock = File::options().create(true).truncate(false).write(true).open(path).map_err(unusable)?;
        match lock.try_lock() {
            Ok(()) => Ok(Self { claim: Some(Arc::new(Claim { name: name.to_owned(), _lock: lock })), ..self }),
            Err(TryLockError::WouldBlock) => Err(StateError::Running(name.to_owned())),
            Err(TryLockError::Error(source)) => Err(unusable(source)),
        }
    }

    /// The same directory without the claim, for those who only use what all share.
    #[must_use]
    pub fn unclaimed(&self) -> Self {
        Self { path: self.path.clone(), claim: None }
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The name that was claimed.
    pub fn name(&self) -> Option<&str> {
        self.claim.as_deref().map(|claim| claim.name.as_str())
    }

    /// The directory of a part that all collectors share.
    ///
    /// # Errors
    /// [`StateError::Unusable`].
    pub fn shared(&self, part: &str) -> Result<PathBuf, StateError> {
        make(self.path.join(part))
    }

    /// The directory of a part that is this collector's own; `None` without a name.
    ///
    /// # Errors
    /// [`StateError::Unusable`].
    pub fn own(&self, part: &str) -> Result<Option<PathBuf>, StateError> {
        self.name().map(|name| make(self.path.join(part).join(name))).transpose()
    }

    /// Whether a collector of that name runs on a state directory, without making or changing anything.
    pub fn is_running(path: &Path, name: &str) -> bool {
        let lock = lock_path(path, name).and_then(|path| File::open(path).ok());
        // Shared: whoever looks does not keep another out that looks, too.
        lock.is_some_and(|lock| matches!(lock.try_lock_shared(), Err(TryLockError::WouldBlock)))
    }
}

fn make(path: PathBuf) -> Result<PathBuf, StateError> {
    match std::fs::create_dir_all(&path) {
        Ok(()) => Ok(path),
        Err(source) => Err(StateError::Unusable { path, source }),
    }
}

fn lock_path(path: &Path, name: &str) -> Option<PathBuf> {
    let plain = !name.is_empty() && !name.starts_with('.') && !name.contains(['/', '\\', '\0']);
    plain.then(|| path.join(format!("{name}.lock")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_is_one_collectors_as_long_as_it_lives() {
        let place = tempfile::tempdir().unwrap();
        let open = || StateDir::open(place.path().join("a/b")).unwrap();
        assert!(!StateDir::is_running(open().path(), "one"));
        let one = open().claim("one").unwrap();
        let clone = one.clone();
        assert!(matches!(open().claim("one"), Err(StateError::Running(name)) if name == "one"));
        assert!(StateDir::is_running(one.path(), "one") && !StateDir::is_running(one.path(), "two"));
        open().claim("two").unwrap();
        drop(one);
        assert!(StateDir::is_running(clone.path(), "one"));
        drop(clone);
        open().claim("one").unwrap();
    }

    #[test]
    fn parts_are_shared_or_ones_own() {
        let place = tempfile::tempdir().unwrap();
        let state = StateDir::open(place.path()).unwrap();
        assert_eq!(state.shared("budgets").unwrap(), place.path().join("budgets"));
        assert_eq!(state.own("ledger").unwrap(), None);
        let state = state.claim("one").unwrap();
        assert_eq!(state.own("ledger").unwrap(), Some(place.path().join("ledger/one")));
        assert_eq!(state.unclaimed().own("ledger").unwrap(), None);
        assert!(place.path().join("ledger/one").is_dir());
    }

    #[test]
    fn what_cannot_be_used_is_said() {
        let place = tempfile::tempdir().unwrap();
        std::fs::write(place.path().join("file"), "").unwrap();
        let error = StateDir::open(place.path().join("file/state")).unwrap_err();
        assert!(error.to_string().starts_with(&format!("cannot use `{}` as the state directory: ", place.path().join("file/state").display())), "{error}");
        for name in ["", "../x", ".hidden", "a/b"] {
            assert!(matches!(StateDir::open(place.path()).unwrap().claim(name), Err(StateError::Name(_))), "{name}");
        }
    }
}
