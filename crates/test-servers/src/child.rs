//! Processes that end with the one that started them, however that one ends.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

/// How long an orderly end may take.
const PATIENCE: Duration = Duration::from_secs(30);

/// A process, and a guard that kills it when the starting process is gone.
pub(crate) struct Guarded {
    child: Child,
    guard: Child,
}

/// A shell that does something about `$1` when this process is gone, unless it is killed before: it waits for the end of its input,
/// which comes when nobody holds the other end of the pipe any more.
pub(crate) fn guard(last: &str, about: &OsStr) -> Child {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("read line; {last}"), "guard"]).arg(about).process_group(0);
    shell.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("a shell")
}

impl Guarded {
    pub(crate) fn start(mut command: Command) -> Self {
        // In groups of their own: an interrupt of the keyboard is for the test, which then ends them.
        let child = command.stdin(Stdio::null()).process_group(0).spawn().unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
        let guard = guard("kill -KILL \"$1\" 2>/dev/null", child.id().to_string().as_ref());
        Self { child, guard }
    }

    /// Whether it has ended.
    pub(crate) fn has_ended(&mut self) -> bool {
        self.child.try_wait().expect("the process' state").is_some()
    }

    /// Sends a signal to the process and all that descend from it.
    pub(crate) fn signal_all(&self, signal: Signal) {
        let first = self.child.id();
        send(first, signal);
        for process in descendants(first) {
            send(process, signal);
        }
    }

    /// Sends a signal to the process alone and waits for its end; one that does not end is killed.
    pub(crate) fn end(&mut self, signal: Signal) {
        if !self.has_ended() {
            send(self.child.id(), signal);
        }
        let began = Instant::now();
        while !self.has_ended() && began.elapsed() < PATIENCE {
            std::thread::sleep(Duration::from_millis(5));
        }
        self.kill();
    }

    /// Kills the process and all that descend from it.
    pub(crate) fn kill(&mut self) {
        // The guard first: the number that it holds may be another process' soon.
        let _ended = self.guard.kill();
        let _status = self.guard.wait();
        if !self.has_ended() {
            // Stopped first, or it could start more while they are looked for.
            self.signal_all(Signal::STOP);
            let others = descendants(self.child.id());
            // The first one last: those that descend from it are not known as such any more when it is gone.
            for process in others.iter().copied().chain([self.child.id()]) {
                send(process, Signal::KILL);
            }
            let _status = self.child.wait();
            // They are not ours to wait for, and hold on to what they had until they are gone.
            while others.iter().any(|process| is_alive(*process)) {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
    }
}

impl Drop for Guarded {
    fn drop(&mut self) {
        self.kill();
    }
}

fn send(process: u32, signal: Signal) {
    if let Some(pid) = i32::try_from(process).ok().and_then(Pid::from_raw) {
        // It may have ended meanwhile.
        let _gone = kill_process(pid, signal);
    }
}

/// Whether a process holds anything: one that nobody has asked for its status yet does not.
fn is_alive(process: u32) -> bool {
    stat(process).is_some_and(|(state, _)| state != "Z")
}

/// A process' state and its parent.
fn stat(process: u32) -> Option<(String, u32)> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name stands in parentheses and may hold anything.
    let mut behind = stat.rsplit_once(')')?.1.split_whitespace();
    Some((behind.next()?.to_owned(), behind.next()?.parse().ok()?))
}

/// The processes that descend from one, as far as the system tells (where there is `/proc`).
fn descendants(first: u32) -> Vec<u32> {
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let parents: Vec<(u32, u32)> = processes
        .filter_map(|entry| {
            let process: u32 = entry.ok()?.file_name().to_str()?.parse().ok()?;
            Some((process, stat(process)?.1))
        })
        .collect();
    let mut found = vec![first];
    let mut at = 0;
    while let Some(&parent) = found.get(at) {
        found.extend(parents.iter().filter(|(_, of)| *of == parent).map(|(process, _)| *process));
        at += 1;
    }
    found.split_off(1)
}
