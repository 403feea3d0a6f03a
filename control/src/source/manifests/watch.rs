//! Notices of changes in a directory, by inotify(7).
//!
//! Only that something changed is told; what, the reader finds out by reading. So no event can be misread, and an
//! overflow of the kernel's queue is one more change.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::inotify::{self, CreateFlags, ReadFlags, Reader, WatchFlags};
use rustix::io::Errno;

/// Changes often come in bursts: quiet of this length ends one.
const QUIET: Duration = Duration::from_millis(20);
/// A burst is cut here, so that steady writing cannot keep changes back.
const LONGEST_BURST: Duration = Duration::from_millis(60);

/// A watch on one directory.
pub(super) struct DirectoryWatch {
    inotify: OwnedFd,
}

/// What a wait ended with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Notice {
    /// Nothing in the time given.
    Quiet,
    /// Something in the directory is different.
    Changed,
    /// The directory was deleted, moved away or unmounted: open a new watch.
    Gone,
}

impl DirectoryWatch {
    /// Fails when there is no such directory.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let inotify = inotify::init(CreateFlags::NONBLOCK | CreateFlags::CLOEXEC)?;
        let of_files = WatchFlags::CREATE
            | WatchFlags::MODIFY
            | WatchFlags::ATTRIB
            | WatchFlags::CLOSE_WRITE
            | WatchFlags::MOVE
            | WatchFlags::DELETE;
        let of_itself = WatchFlags::DELETE_SELF | WatchFlags::MOVE_SELF | WatchFlags::ONLYDIR;
        inotify::add_watch(&inotify, path, of_files | of_itself)?;
        Ok(Self { inotify })
    }

    /// Waits for a change, at most `longest`, and then for the burst of changes around it to end.
    pub(super) fn settled(&self, longest: Duration) -> Notice {
        let mut notice = self.wait(longest);
        let end = Instant::now() + LONGEST_BURST;
        while notice == Notice::Changed {
            let left = end.saturating_duration_since(Instant::now());
            match self.wait(QUIET.min(left)) {
                Notice::Changed if !left.is_zero() => {}
                Notice::Changed | Notice::Quiet => break,
                Notice::Gone => notice = Notice::Gone,
            }
        }
        notice
    }

    /// Waits for events and takes all there are.
    fn wait(&self, longest: Duration) -> Notice {
        let longest = Timespec::try_from(longest).ok();
        match poll(&mut [PollFd::new(&self.inotify, PollFlags::IN)], longest.as_ref()) {
            Ok(0) | Err(Errno::INTR) => Notice::Quiet,
            Ok(_) => self.take(),
            Err(_) => Notice::Gone,
        }
    }

    fn take(&self) -> Notice {
        let mut notice = Notice::Changed;
        let mut buffer = [MaybeUninit::uninit(); 4096];
        let mut reader = Reader::new(&self.inotify, &mut buffer);
        let gone = ReadFlags::DELETE_SELF | ReadFlags::MOVE_SELF | ReadFlags::UNMOUNT | ReadFlags::IGNORED;
        loop {
            match reader.next() {
                Ok(event) if event.events().intersects(gone) => notice = Notice::Gone,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::WOULDBLOCK) => return notice,
                Err(_) => return Notice::Gone,
            }
        }
    }
}
