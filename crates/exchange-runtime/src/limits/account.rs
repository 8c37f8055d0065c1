//! The account of one host: its budgets, in memory and, if they are shared, in a file that whoever spends holds a lock on.
//!
//! The lock is the system's, which lets go of it when a process ends, however it ends. It is held for one read and one
//! write of some hundred bytes: tens of microseconds a request. A file that cannot be used, or a lock that is not to be had,
//! is said once; until that changes, this process goes on by what it knows.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::io::{self, Read as _, Seek as _, SeekFrom, Write as _};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, UNIX_EPOCH};

use exchange_core::Time;
use exchange_core::budget::{Allowance, Budgets, Class, Unreadable};
use exchange_core::profile::Limit;

use crate::clock::Clock;

/// How long a lock is waited for. Whoever holds it so long was stopped in the middle of it.
const PATIENCE: Duration = Duration::from_millis(200);
/// No account is so long.
const MOST_BYTES: u64 = 1 << 20;
/// Nothing of an account matters after so long: venues ban for three days at most.
const KEPT: Duration = Duration::from_hours(7 * 24);

#[derive(Debug)]
pub(super) struct Account {
    clock: Clock,
    path: Option<PathBuf>,
    inner: Mutex<Inner>,
}

#[derive(Debug)]
struct Inner {
    budgets: Budgets,
    /// Until when the host is shut by this process's steady clock: a wall clock that is set forward ends no ban.
    shut_until: Time,
    file: Option<File>,
    /// What stood in the file when it was read or written last.
    seen: String,
    /// Whether something is known here that could not be written.
    unsaved: bool,
    /// Whether it was said that the file cannot be used.
    said: bool,
}

/// Why there is nothing to go by but memory.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Io(#[from] io::Error),
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
}

impl Account {
    pub(super) fn new(limits: BTreeMap<String, Limit>, clock: Clock, path: Option<PathBuf>) -> Self {
        let inner = Inner { budgets: Budgets::new(limits), shut_until: Time::EPOCH, file: None, seen: String::new(), unsaved: false, said: false };
        Self { clock, path, inner: Mutex::new(inner) }
    }

    /// Spends, if that is possible now.
    ///
    /// # Errors
    /// When it will be, by the steady clock.
    pub(super) fn spend(&self, name: &str, cost: u32, class: Class) -> Result<(), Time> {
        self.heed_known()?;
        self.steadily(|budgets, wall| budgets.spend(wall, name, cost, class))
    }

    /// The same for a request to another host, of which a ban of this one says nothing.
    pub(super) fn draw(&self, name: &str, cost: u32, class: Class) -> Result<(), Time> {
        self.steadily(|budgets, wall| budgets.draw(wall, name, cost, class))
    }

    /// Whether the host may be asked at all.
    ///
    /// # Errors
    /// When it may be, by the steady clock.
    pub(super) fn heed(&self) -> Result<(), Time> {
        self.heed_known()?;
        self.look_up();
        self.heed_known()
    }

    /// Learns what others know.
    pub(super) fn look_up(&self) {
        self.with(|_, _| ((), false));
    }

    /// How much of a limit is used, after what the venue said.
    pub(super) fn used(&self, name: &str, said: Option<u64>) -> Option<u64> {
        self.with(|budgets, wall| {
            let Some(budget) = budgets.get(name) else { return (None, false) };
            let before = budget.usage(wall).0;
            if let Some(said) = said {
                budget.observe(wall, said);
            }
            let used = budget.usage(wall).0;
            (Some(used), used != before)
        })
    }

    /// From now on, a limit allows so much.
    pub(super) fn allow(&self, said: &Allowance) {
        // How much was spent is what is shared; how much there is, each learns from the venue.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner).budgets.allow(&said.limit, said.budget, said.window);
    }

    pub(super) fn block(&self, name: &str, pause: Duration) {
        self.with(|budgets, wall| {
            budgets.get(name).into_iter().for_each(|budget| budget.block(wall + pause));
            ((), true)
        });
    }

    pub(super) fn ban(&self, pause: Duration) {
        self.with(|budgets, wall| {
            budgets.ban(wall + pause);
            ((), true)
        });
    }

    /// Until when the host is shut by the wall clock, as far as is known.
    pub(super) fn banned_until(&self) -> Option<Time> {
        self.heed_known().err().map(|until| self.clock.wall() + self.clock.until(until))
    }

    /// While a host is known to be shut, there is nothing to look up.
    fn heed_known(&self) -> Result<(), Time> {
        let until = self.inner.lock().unwrap_or_else(PoisonError::into_inner).shut_until;
        if self.clock.now() < until { Err(until) } else { Ok(()) }
    }

    /// Spends by the wall clock, and answers by the steady one.
    fn steadily(&self, spend: impl FnOnce(&mut Budgets, Time) -> Result<(), Time>) -> Result<(), Time> {
        let result = self.with(|budgets, wall| {
            let result = spend(budgets, wall).map_err(|at| at.since(wall));
            (result, result.is_ok())
        });
        result.map_err(|pause| self.clock.now() + pause)
    }

    /// Lets `act` look at the budgets as they are for all, and change them for all if it says so.
    fn with<T>(&self, act: impl FnOnce(&mut Budgets, Time) -> (T, bool)) -> T {
        let mut inner = self.inner.lock().unwrap_or_else(PoisonError::into_inner);
        let inner = &mut *inner;
        let unsaved = inner.unsaved.then(|| inner.budgets.clone());
        let mut held = self.path.as_deref().map(|path| inner.take(path));
        // The time at which the account is held: nobody else writes a later one.
        let wall = self.clock.wall();
        let moved = inner.budgets.set_back(wall);
        let mut news = moved || unsaved.is_some();
        if let Some(unsaved) = unsaved {
            inner.budgets.include(unsaved, wall);
        }
        let (result, changed) = act(&mut inner.budgets, wall);
        news |= changed;
        if let Some(Ok(lost)) = held {
            let kept = if news || lost { inner.put(wall) } else { Ok(()) };
            held = Some(inner.release().and(kept).map(|()| lost).map_err(Trouble::from));
        }
        if let (Some(held), Some(path)) = (held, &self.path) {
            inner.unsaved = news && held.is_err();
            inner.say(path, held.as_ref().err());
        }
        // Never shorter than it was said to be, whatever the wall clock does meanwhile.
        let left = inner.budgets.banned_until().since(wall);
        if !left.is_zero() {
            inner.shut_until = inner.shut_until.max(self.clock.now() + left);
        }
        result
    }
}

impl Inner {
    /// Takes hold of the file, and reads what others have written. Whether what is known here is missing in it.
    fn take(&mut self, path: &Path) -> Result<bool, Trouble> {
        // Where it was taken away in the meantime, another one is made.
        for _ in 0..2 {
            let file = match self.file.take() {
                Some(file) => file,
                None => File::options().create(true).truncate(false).read(true).write(true).open(path)?,
            };
            lock(&file, if self.said { Duration::ZERO } else { PATIENCE })?;
            if !is_there(&file)? {
                continue;
            }
            let read = self.read(&file);
            self.file = Some(file);
            return match read {
                Err(Trouble::Unreadable(error @ Unreadable::Damaged(_))) => {
                    tracing::warn!(path = %path.display(), "what others have spent is lost: {error}");
                    Ok(true)
                }
                Err(trouble) => self.release().map_err(Trouble::from).and(Err(trouble)),
                Ok(lost) => Ok(lost),
            };
        }
        Err(io::Error::from(io::ErrorKind::NotFound).into())
    }

    fn read(&mut self, mut file: &File) -> Result<bool, Trouble> {
        let mut bytes = Vec::with_capacity(self.seen.len() + 256);
        file.seek(SeekFrom::Start(0))?;
        file.take(MOST_BYTES).read_to_end(&mut bytes)?;
        if bytes.is_empty() {
            return Ok(!self.seen.is_empty());
        }
        // The line is whole if it has its end; a longer one may have stood there before.
        let line = bytes.split(|byte| *byte == b'\n').next().filter(|line| line.len() < bytes.len());
        let line = line.and_then(|line| std::str::from_utf8(line).ok()).ok_or_else(|| Unreadable::Damaged("it has no line".to_owned()))?;
        if line != self.seen {
            self.budgets.read(line)?;
            line.clone_into(&mut self.seen);
        }
        Ok(false)
    }

    fn put(&mut self, wall: Time) -> io::Result<()> {
        let Some(mut file) = self.file.as_ref() else { return Ok(()) };
        let mut line = self.budgets.line(wall);
        line.push('\n');
        file.seek(SeekFrom::Start(0))?;
        file.write_all(line.as_bytes())?;
        if line.len() <= self.seen.len() {
            file.set_len(u64::try_from(line.len()).unwrap_or(u64::MAX))?;
        }
        line.pop();
        self.seen = line;
        Ok(())
    }

    fn release(&mut self) -> io::Result<()> {
        let released = self.file.as_ref().map_or(Ok(()), File::unlock);
        if released.is_err() {
            // To close it is to let go of it as well.
            self.file = None;
        }
        released
    }

    /// Says once that the file cannot be used, and again only if it could be in between.
    fn say(&mut self, path: &Path, trouble: Option<&Trouble>) {
        if let Some(trouble) = trouble
            && !self.said
        {
            tracing::warn!(path = %path.display(), "budgets and bans are not shared with other collectors for now: {trouble}");
        }
        self.said = trouble.is_some();
    }
}

/// Takes the lock, or gives up. It is held so shortly that waiting for it is not worth a task's switch.
fn lock(file: &File, patience: Duration) -> io::Result<()> {
    let pause = Duration::from_millis(1);
    let mut waited = Duration::ZERO;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(()),
            Err(TryLockError::Error(error)) => return Err(error),
            Err(TryLockError::WouldBlock) if waited < patience => {
                std::thread::sleep(pause);
                waited += pause;
            }
            Err(TryLockError::WouldBlock) => return Err(io::Error::new(io::ErrorKind::TimedOut, "another process holds it")),
        }
    }
}

/// Whether the file is still the one that others find by its name.
#[cfg(unix)]
fn is_there(file: &File) -> io::Result<bool> {
    Ok(std::os::unix::fs::MetadataExt::nlink(&file.metadata()?) > 0)
}

#[cfg(not(unix))]
fn is_there(_: &File) -> io::Result<bool> {
    Ok(true)
}

/// Removes the accounts of hosts that nobody has asked for a long time: simulators and tests leave one behind for each
/// port. That one stays is no harm.
pub(super) fn clear_out(directory: &Path, clock: Clock) {
    let now = UNIX_EPOCH + clock.wall().since(Time::EPOCH);
    let Ok(entries) = std::fs::read_dir(directory) else { return };
    for path in entries.filter_map(|entry| Some(entry.ok()?.path())).filter(|path| path.extension().is_some_and(|ending| ending == "json")) {
        let is_old = || -> io::Result<bool> { Ok(now.duration_since(std::fs::metadata(&path)?.modified()?).is_ok_and(|age| age > KEPT)) };
        // Nobody is in the middle of it, and whoever has it open finds that it is gone.
        let removed = || -> io::Result<()> {
            let file = File::options().read(true).write(true).open(&path)?;
            lock(&file, Duration::ZERO)?;
            if is_old()? { std::fs::remove_file(&path) } else { Ok(()) }
        };
        if is_old().unwrap_or(false)
            && let Err(error) = removed()
        {
            tracing::debug!(path = %path.display(), %error, "an old account stays");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limits() -> BTreeMap<String, Limit> {
        BTreeMap::from([("all".to_owned(), Limit::new(1000, Duration::from_mins(1)))])
    }

    fn open(path: &Path) -> Account {
        Account::new(limits(), Clock::system(), Some(path.to_owned()))
    }

    fn used(account: &Account) -> u64 {
        account.used("all", None).unwrap()
    }

    fn spend(account: &Account, cost: u32) -> bool {
        account.spend("all", cost, Class::Funding).is_ok()
    }

    /// Many that have the file open at once, as processes would: each unit is spent once.
    #[test]
    fn what_many_spend_at_once_adds_up() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.json");
        let spent: u64 = std::thread::scope(|scope| {
            let one = || (0..200).filter(|_| spend(&open(&path), 1)).count() as u64;
            let other = || {
                let account = open(&path);
                (0..200).filter(|_| spend(&account, 3)).count() as u64 * 3
            };
            let threads = [scope.spawn(one), scope.spawn(other), scope.spawn(other)];
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(spent, used(&open(&path)));
        assert!((898..=900).contains(&spent), "{spent}");
    }

    #[test]
    fn what_is_damaged_is_replaced_by_what_is_known() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.json");
        let account = open(&path);
        assert!(spend(&account, 700));
        let whole = std::fs::read(&path).unwrap();
        for damaged in [&whole[..whole.len() - 1], &whole[..10], b"\0\0\0\n", b"\xff\n"] {
            std::fs::write(&path, damaged).unwrap();
            assert_eq!(used(&open(&path)), 0, "who knows nothing begins anew");
            std::fs::write(&path, damaged).unwrap();
            assert_eq!((used(&account), used(&open(&path))), (700, 700), "{}", String::from_utf8_lossy(damaged));
        }
        // What stood there before may have been longer, and may be there still if the process ended in between.
        std::fs::write(&path, [&whole[..], b"\"spent\":[]}}}\n"].concat()).unwrap();
        assert_eq!(used(&open(&path)), 700);
        for gone in [std::fs::write(&path, ""), std::fs::remove_file(&path), std::fs::remove_dir_all(place.path()).and(std::fs::create_dir(place.path()))] {
            gone.unwrap();
            assert_eq!((used(&account), used(&open(&path))), (700, 700), "an empty one, and one that is gone");
        }
    }

    #[test]
    fn what_cannot_be_shared_is_still_counted() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("a.json");
        let account = open(&path);
        assert!(spend(&account, 300));
        // A process that was stopped while it had the lock.
        let stopped = File::open(&path).unwrap();
        stopped.lock().unwrap();
        assert!(spend(&account, 300) && used(&account) == 600 && !spend(&account, 400));
        drop(stopped);
        assert!(spend(&open(&path), 100));
        assert_eq!((used(&account), used(&open(&path))), (600, 600), "what the venue must have counted by now, for all again");
        // Another version of this program may have written more than this one understands.
        let newer = r#"{"v":9,"at":0}"#.to_owned() + "\n";
        std::fs::write(&path, &newer).unwrap();
        assert!(spend(&account, 300) && used(&account) == 900);
        assert_eq!(std::fs::read_to_string(&path).unwrap(), newer);
        let nowhere = open(&place.path().join("none/a.json"));
        assert!(spend(&nowhere, 900) && !spend(&nowhere, 1));
    }

    #[test]
    fn old_accounts_are_cleared_out() {
        let place = tempfile::tempdir().unwrap();
        let [old, new, other] = ["old.json", "new.json", "other"].map(|name| place.path().join(name));
        let accounts = [&old, &new].map(|path| open(path));
        assert!(accounts.iter().all(|account| spend(account, 5)));
        std::fs::write(&other, "").unwrap();
        for path in [&old, &other] {
            let long_ago = std::time::SystemTime::now() - KEPT - Duration::from_mins(1);
            File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
        }
        clear_out(place.path(), Clock::system());
        assert!(!old.exists() && new.exists() && other.exists());
        assert!(spend(&accounts[0], 5));
        assert_eq!(used(&open(&old)), 10, "whoever has it open makes another one");
    }
}
