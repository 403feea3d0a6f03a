//! How a worker spends time without packets: a short spin, then it sleeps on its sockets, unless it shall never sleep.

use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::event::epoll;
use rustix::time::{ClockId, Timespec, clock_gettime};

use crate::config::Poll;

/// Empty turns before a worker sleeps. Longer spinning takes the cores from the pods whose packets it waits for.
const SPINS: u32 = 6;

/// Longest sleep, so that flows expire on an idle node too.
const LONGEST_SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };

/// Sleep while packets wait for a MAC address, which comes with new tables.
const SHORT_SLEEP: Timespec = Timespec { tv_sec: 0, tv_nsec: 1_000_000 };

/// A worker's rest.
pub(super) struct Pace {
    poll: Poll,
    epoll: OwnedFd,
    empty_turns: u32,
}

impl Pace {
    /// Wakes up by `waker` too.
    ///
    /// # Errors
    /// Of epoll_create(2) and epoll_ctl(2).
    pub(super) fn new(poll: Poll, waker: BorrowedFd<'_>) -> rustix::io::Result<Self> {
        let epoll = epoll::create(epoll::CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, waker, epoll::EventData::new_u64(0), epoll::EventFlags::IN)?;
        Ok(Self { poll, epoll, empty_turns: 0 })
    }

    /// Wakes up when the descriptor becomes readable; closing it ends that.
    ///
    /// # Errors
    /// Of epoll_ctl(2).
    pub(super) fn watch(&self, fd: BorrowedFd<'_>) -> rustix::io::Result<()> {
        epoll::add(&self.epoll, fd, epoll::EventData::new_u64(1), epoll::EventFlags::IN)
    }

    /// After a turn: returns at once while there is work, else spins or sleeps, briefly when packets wait for something
    /// that no descriptor tells of. Returns whether it slept.
    pub(super) fn rest(&mut self, busy: bool, waiting: bool) -> bool {
        if busy {
            self.empty_turns = 0;
            return false;
        }
        self.empty_turns = self.empty_turns.saturating_add(1);
        if self.poll == Poll::Always || self.empty_turns < SPINS {
            std::hint::spin_loop();
            return false;
        }
        let mut events: [std::mem::MaybeUninit<epoll::Event>; 4] =
            [const { std::mem::MaybeUninit::uninit() }; 4];
        // An interrupted sleep is a short one.
        let longest = if waiting { SHORT_SLEEP } else { LONGEST_SLEEP };
        let _ = epoll::wait(&self.epoll, &mut events, Some(&longest));
        true
    }
}

/// Time since boot: flows age by it, and it goes on over restarts of the process.
pub(crate) fn uptime() -> Duration {
    let now = clock_gettime(ClockId::Boottime);
    Duration::new(now.tv_sec.unsigned_abs(), now.tv_nsec.unsigned_abs() as u32)
}
