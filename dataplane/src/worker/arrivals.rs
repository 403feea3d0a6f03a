//! Which ports may have something, of those that only a system call can tell: one call a turn for all of them.
//!
//! Without it an idle pod would cost a busy worker a call in every turn.

use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};
use rustix::time::Timespec;

use crate::port::PortIndex;

/// Ports that are told of in one turn; others have theirs in the next.
const EVENTS: usize = 64;

/// Ports that are watched, and what is known of them in this turn.
pub(super) struct Arrivals {
    /// `None` when it cannot be had: all ports are asked then.
    epoll: Option<OwnedFd>,
    watched: Vec<PortIndex>,
    /// By slot: whether the port is watched and has nothing.
    silent: Vec<bool>,
}

impl Default for Arrivals {
    fn default() -> Self {
        let epoll = epoll::create(CreateFlags::CLOEXEC).ok();
        Self { epoll, watched: Vec::new(), silent: Vec::new() }
    }
}

impl Arrivals {
    /// Watches a port by a descriptor that is readable while it has something; closing it ends that.
    pub(super) fn watch(&mut self, index: PortIndex, fd: BorrowedFd<'_>) {
        let Some(epoll) = &self.epoll else { return };
        let data = EventData::new_u64(index.0.into());
        if epoll::add(epoll, fd, data, EventFlags::IN).is_ok() {
            self.watched.push(index);
            self.silent.resize(self.silent.len().max(usize::from(index.0) + 1), false);
        }
    }

    /// Forgets a port.
    pub(super) fn forget(&mut self, index: PortIndex) {
        self.watched.retain(|watched| *watched != index);
        if let Some(silent) = self.silent.get_mut(usize::from(index.0)) {
            *silent = false;
        }
    }

    /// Begins a turn.
    pub(super) fn look(&mut self) {
        const NOW: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
        let Some(epoll) = &self.epoll else { return };
        if self.watched.is_empty() {
            return;
        }
        let mut events: [MaybeUninit<Event>; EVENTS] = [const { MaybeUninit::uninit() }; EVENTS];
        let told = epoll::wait(epoll, &mut events, Some(&NOW));
        for index in &self.watched {
            self.silent[usize::from(index.0)] = told.is_ok();
        }
        for event in told.map_or(&mut [][..], |(events, _)| events) {
            if let Some(silent) = self.silent.get_mut(event.data.u64() as usize) {
                *silent = false;
            }
        }
    }

    /// Whether a port may have something in this turn.
    pub(super) fn may_have(&self, index: PortIndex) -> bool {
        !self.silent.get(usize::from(index.0)).is_some_and(|silent| *silent)
    }
}

#[cfg(test)]
mod tests {
    use std::os::fd::AsFd;

    use rustix::event::{EventfdFlags, eventfd};

    use super::*;

    #[test]
    fn only_ports_with_something_are_asked() {
        let fds: Vec<_> = (0..10).map(|_| eventfd(0, EventfdFlags::NONBLOCK).unwrap()).collect();
        let mut arrivals = Arrivals::default();
        let ports = |arrivals: &mut Arrivals| -> Vec<u16> {
            arrivals.look();
            (0..12).filter(|port| arrivals.may_have(PortIndex(*port))).collect()
        };
        assert_eq!(ports(&mut arrivals).len(), 12);
        for (port, fd) in (0..10).zip(&fds) {
            arrivals.watch(PortIndex(port), fd.as_fd());
        }
        assert_eq!(ports(&mut arrivals), [10, 11], "those that are not watched are always asked");
        for port in [3, 7] {
            rustix::io::write(&fds[port], &1u64.to_ne_bytes()).unwrap();
        }
        assert_eq!(ports(&mut arrivals), [3, 7, 10, 11]);
        rustix::io::read(&fds[3], &mut [0; 8]).unwrap();
        assert_eq!(ports(&mut arrivals), [7, 10, 11]);
        arrivals.forget(PortIndex(5));
        assert_eq!(ports(&mut arrivals), [5, 7, 10, 11]);
    }
}
