//! Processes by identity, not by number alone: a process id may have been given to somebody else since.

use std::fs;
use std::io;
use std::time::{Duration, Instant};

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde::{Deserialize, Serialize};

use crate::LabError;
use crate::space::MARK;

/// /proc counts in USER_HZ, which is 100 on every architecture that Linux still runs on.
const MILLISECONDS_PER_TICK: u64 = 10;

/// A process, told from a later one with the same number by the time it started.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// Process id.
    pub pid: i32,
    /// Start time in clock ticks since boot: field 22 of /proc/PID/stat (proc_pid_stat(5)).
    pub started: u64,
}

impl Process {
    /// The process that has this id now.
    ///
    /// # Errors
    /// When there is none.
    pub fn of(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).map_err(io::Error::other)?;
        let (_, started) = stat(pid)?;
        Ok(Self { pid, started })
    }

    /// Whether it still runs. A process that has ended but was not waited for (a zombie) does not.
    #[must_use]
    pub fn alive(&self) -> bool {
        stat(self.pid).is_ok_and(|(state, started)| started == self.started && !matches!(state, 'Z' | 'X'))
    }

    /// Sends `signal`; nothing happens when the process is gone.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn signal(&self, signal: Signal) -> io::Result<()> {
        // The descriptor holds on to one process: after it is open, the identity cannot change any more.
        signal_if(self.pid, signal, || self.alive())
    }

    /// Waits until it has ended, at most `limit`; whether it has.
    #[must_use]
    pub fn wait_gone(&self, limit: Duration) -> bool {
        wait_until(limit, || !self.alive())
    }

    /// Number of open file descriptors.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn open_files(&self) -> io::Result<usize> {
        Ok(fs::read_dir(format!("/proc/{}/fd", self.pid))?.count())
    }

    /// CPU time used so far, user and system.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_time(&self) -> io::Result<Duration> {
        let fields = stat_fields(self.pid)?;
        let ticks: u64 = [11, 12].iter().filter_map(|&i| fields.get(i)?.parse::<u64>().ok()).sum();
        Ok(Duration::from_millis(ticks * MILLISECONDS_PER_TICK))
    }
}

/// Time that all cores together have been busy since boot, the kernel's threads and interrupts included
/// (proc_stat(5): user, nice, system, irq, softirq; what a hypervisor took is not counted).
#[must_use]
pub fn busy_time() -> Duration {
    let stat = fs::read_to_string("/proc/stat").unwrap_or_default();
    let fields: Vec<u64> =
        stat.lines().next().unwrap_or_default().split_whitespace().skip(1).flat_map(str::parse).collect();
    let ticks: u64 = [0, 1, 2, 5, 6].iter().filter_map(|&i| fields.get(i)).sum();
    Duration::from_millis(ticks * MILLISECONDS_PER_TICK)
}

/// Kills every process that carries the mark of lab `name`, whoever started it, and waits until all are gone.
///
/// # Errors
/// [`LabError::Io`] when one cannot be killed.
pub fn kill_marked(name: &str) -> Result<(), LabError> {
    let limit = Instant::now() + Duration::from_secs(10);
    loop {
        let marked = marked(name);
        if marked.is_empty() {
            return Ok(());
        }
        for &pid in &marked {
            let failed = LabError::io(format!("kill process {pid} of lab {name}"));
            signal_if(pid, Signal::KILL, || carries_mark(pid, name)).map_err(failed)?;
        }
        if Instant::now() > limit {
            let cause = io::Error::other("still there after 10 s");
            return Err(LabError::Io { what: format!("kill processes {marked:?} of lab {name}"), cause });
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Ids of the processes that carry the mark of lab `name`, without this one.
#[must_use]
pub fn marked(name: &str) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let Ok(processes) = fs::read_dir("/proc") else { return Vec::new() };
    let ids = processes.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    ids.filter(|&pid: &i32| pid != own && carries_mark(pid, name)).collect()
}

/// Asks `done` every few milliseconds, at most `limit`; its last answer.
pub fn wait_until(limit: Duration, mut done: impl FnMut() -> bool) -> bool {
    let end = Instant::now() + limit;
    loop {
        if done() {
            return true;
        }
        if Instant::now() > end {
            return false;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn signal_if(pid: i32, signal: Signal, still_the_same: impl Fn() -> bool) -> io::Result<()> {
    let Some(id) = Pid::from_raw(pid) else { return Ok(()) };
    let gone = |error: &rustix::io::Errno| *error == rustix::io::Errno::SRCH;
    match pidfd_open(id, PidfdFlags::empty()) {
        Ok(process) if still_the_same() => match pidfd_send_signal(process, signal) {
            Err(error) if !gone(&error) => Err(error.into()),
            _ => Ok(()),
        },
        Err(error) if !gone(&error) => Err(error.into()),
        _ => Ok(()),
    }
}

fn carries_mark(pid: i32, name: &str) -> bool {
    let mark = format!("{MARK}={name}");
    // A zombie's environment is empty, so it does not count.
    fs::read(format!("/proc/{pid}/environ"))
        .is_ok_and(|environment| environment.split(|&byte| byte == 0).any(|entry| entry == mark.as_bytes()))
}

/// State and start time.
fn stat(pid: i32) -> io::Result<(char, u64)> {
    let fields = stat_fields(pid)?;
    let state = fields.first().and_then(|field| field.chars().next());
    let started = fields.get(19).and_then(|field| field.parse().ok());
    state.zip(started).ok_or_else(|| io::Error::other(format!("/proc/{pid}/stat is not readable")))
}

/// The fields after the program's name, from field 3 on; the name may hold blanks and parentheses.
fn stat_fields(pid: i32) -> io::Result<Vec<String>> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let (_, rest) = stat.rsplit_once(')').unwrap_or_default();
    Ok(rest.split_whitespace().map(str::to_owned).collect())
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;

    #[test]
    fn a_process_with_the_same_id_but_another_start_is_somebody_else() {
        let own = Process::of(std::process::id()).unwrap();
        assert!(own.alive());
        let earlier = Process { started: own.started - 1, ..own };
        assert!(!earlier.alive());
        earlier.signal(Signal::KILL).unwrap();
    }

    #[test]
    fn only_processes_with_the_exact_mark_are_ended() {
        let name = format!("mark-{}", std::process::id());
        let mut ours = Command::new("sleep").arg("60").env(MARK, &name).spawn().unwrap();
        let mut other = Command::new("sleep").arg("60").env(MARK, format!("{name}x")).spawn().unwrap();
        // A process that has just begun its program has no environment for a moment.
        let id = i32::try_from(ours.id()).unwrap();
        assert!(wait_until(Duration::from_secs(20), || carries_mark(id, &name)));
        let reaper = std::thread::spawn(move || ours.wait());
        kill_marked(&name).unwrap();
        assert!(!reaper.join().unwrap().unwrap().success());
        assert!(other.try_wait().unwrap().is_none());
        other.kill().unwrap();
        other.wait().unwrap();
    }
}
