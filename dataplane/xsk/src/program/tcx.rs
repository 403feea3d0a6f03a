//! One program's links to the tc ingress of devices (tcx, Linux 6.6).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use super::ProgramError;
use super::links::Links;
use crate::{bpf, device};

/// A program with its links.
pub(super) struct TcxLinks {
    program: OwnedFd,
    links: Links,
}

impl TcxLinks {
    /// Opens the links that are pinned in `dir`; stale ones are removed.
    pub(super) fn new(
        name: &'static str,
        program: OwnedFd,
        dir: Option<&Path>,
    ) -> Result<Self, ProgramError> {
        Ok(Self { program, links: Links::open(name, dir, is_on)? })
    }

    /// Devices with a link.
    pub(super) fn devices(&self) -> impl Iterator<Item = u32> {
        self.links.devices()
    }

    /// The program.
    #[cfg(test)]
    pub(super) fn program(&self) -> std::os::fd::BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Attaches to a device, or renews the program there.
    pub(super) fn attach(&mut self, ifindex: u32) -> Result<(), ProgramError> {
        if let Some(link) = self.links.get(ifindex) {
            if is_on(link, ifindex) && bpf::link_update(link.as_fd(), self.program.as_fd()).is_ok() {
                return Ok(());
            }
            self.detach(ifindex);
        }
        let link = bpf::tcx_link_create(self.program.as_fd(), ifindex).map_err(|error| {
            let device = device::name(ifindex).unwrap_or_else(|_| format!("device {ifindex}"));
            ProgramError::Attach { device, reason: format!("tc ingress: {error} (needs Linux 6.6)") }
        })?;
        self.links.insert(ifindex, link)
    }

    /// Detaches from a device, at once; nothing happens when it is not attached.
    pub(super) fn detach(&mut self, ifindex: u32) {
        self.links.detach(ifindex);
    }
}

/// Whether a link is on device `ifindex`; one whose device is gone is on none.
fn is_on(link: &OwnedFd, ifindex: u32) -> bool {
    bpf::link_info(link.as_fd()).is_ok_and(|info| info.ifindex == ifindex)
}
