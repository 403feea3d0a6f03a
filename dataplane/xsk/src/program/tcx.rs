//! One program's links to the tc ingress of devices (tcx, Linux 6.6): made, pinned, taken over from an earlier process,
//! removed.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::ProgramError;
use crate::{bpf, device};

/// A program with its links.
///
/// Unpinned, all devices are free again when this is dropped; pinned, the program stays there.
pub(super) struct TcxLinks {
    name: &'static str,
    program: OwnedFd,
    dir: Option<PathBuf>,
    links: BTreeMap<u32, OwnedFd>,
}

impl TcxLinks {
    /// Opens the links that are pinned in `dir`; stale ones are removed.
    pub(super) fn new(
        name: &'static str,
        program: OwnedFd,
        dir: Option<&Path>,
    ) -> Result<Self, ProgramError> {
        let mut links = Self { name, program, dir: dir.map(Into::into), links: BTreeMap::new() };
        if let Some(dir) = dir {
            links.adopt(dir).map_err(|source| ProgramError::Pin { path: dir.into(), source })?;
        }
        Ok(links)
    }

    /// Devices with a link.
    pub(super) fn devices(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// The program.
    #[cfg(test)]
    pub(super) fn program(&self) -> std::os::fd::BorrowedFd<'_> {
        self.program.as_fd()
    }

    /// Attaches to a device, or renews the program there.
    pub(super) fn attach(&mut self, ifindex: u32) -> Result<(), ProgramError> {
        if let Some(link) = self.links.get(&ifindex) {
            if is_on(link, ifindex) && bpf::link_update(link.as_fd(), self.program.as_fd()).is_ok() {
                return Ok(());
            }
            self.detach(ifindex);
        }
        let link = bpf::tcx_link_create(self.program.as_fd(), ifindex).map_err(|error| {
            let device = device::name(ifindex).unwrap_or_else(|_| format!("device {ifindex}"));
            ProgramError::Attach { device, reason: format!("tc ingress: {error} (needs Linux 6.6)") }
        })?;
        if let Some(path) = self.pin_of(ifindex) {
            // What may be there is a link we know to be stale.
            let _ = std::fs::remove_file(&path);
            bpf::pin(link.as_fd(), &path).map_err(|source| ProgramError::Pin { path, source })?;
        }
        self.links.insert(ifindex, link);
        Ok(())
    }

    /// Detaches from a device, at once; nothing happens when it is not attached.
    pub(super) fn detach(&mut self, ifindex: u32) {
        if let Some(link) = self.links.remove(&ifindex) {
            // A link whose device is gone has nothing to detach.
            let _ = bpf::link_detach(link.as_fd());
        }
        if let Some(pin) = self.pin_of(ifindex) {
            let _ = std::fs::remove_file(pin);
        }
    }

    fn adopt(&mut self, dir: &Path) -> io::Result<()> {
        let prefix = format!("{}-link-", self.name);
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let index = name.to_str().and_then(|n| n.strip_prefix(&prefix)?.parse().ok());
            let Some(ifindex) = index else { continue };
            match bpf::pinned(&entry.path()) {
                Ok(link) if is_on(&link, ifindex) => drop(self.links.insert(ifindex, link)),
                _ => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    fn pin_of(&self, ifindex: u32) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{}-link-{ifindex}", self.name)))
    }
}

/// Whether a link is on device `ifindex`; one whose device is gone is on none.
fn is_on(link: &OwnedFd, ifindex: u32) -> bool {
    bpf::link_info(link.as_fd()).is_ok_and(|info| info.ifindex == ifindex)
}
