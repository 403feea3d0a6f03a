//! One program's links to devices, by device index: kept while this lives, pinned in a bpffs if wanted, and taken over from
//! an earlier process. What kind of links they are is the caller's.

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use super::ProgramError;
use crate::bpf;

/// Links of one program.
///
/// Unpinned, all devices are free again when this is dropped; pinned, the program stays there.
pub(super) struct Links {
    name: &'static str,
    dir: Option<PathBuf>,
    links: BTreeMap<u32, OwnedFd>,
}

impl Links {
    /// Opens the links that are pinned in `dir`. Those that `is_on` does not find on the device of their name are stale, and
    /// removed.
    pub(super) fn open(
        name: &'static str,
        dir: Option<&Path>,
        is_on: fn(&OwnedFd, u32) -> bool,
    ) -> Result<Self, ProgramError> {
        let mut links = Self { name, dir: dir.map(Into::into), links: BTreeMap::new() };
        if let Some(dir) = dir {
            links.adopt(dir, is_on).map_err(|source| ProgramError::Pin { path: dir.into(), source })?;
        }
        Ok(links)
    }

    /// Devices with a link.
    pub(super) fn devices(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// The link of a device.
    pub(super) fn get(&self, ifindex: u32) -> Option<&OwnedFd> {
        self.links.get(&ifindex)
    }

    /// Keeps a device's new link, pinned where the others are.
    pub(super) fn insert(&mut self, ifindex: u32, link: OwnedFd) -> Result<(), ProgramError> {
        if let Some(path) = self.pin_of(ifindex) {
            // What may be there is a link we know to be stale.
            let _ = std::fs::remove_file(&path);
            bpf::pin(link.as_fd(), &path).map_err(|source| ProgramError::Pin { path, source })?;
        }
        self.links.insert(ifindex, link);
        Ok(())
    }

    /// Detaches from a device, at once; nothing happens when it has no link.
    pub(super) fn detach(&mut self, ifindex: u32) {
        if let Some(link) = self.links.remove(&ifindex) {
            // A link whose device is gone has nothing to detach.
            let _ = bpf::link_detach(link.as_fd());
        }
        if let Some(pin) = self.pin_of(ifindex) {
            let _ = std::fs::remove_file(pin);
        }
    }

    fn adopt(&mut self, dir: &Path, is_on: fn(&OwnedFd, u32) -> bool) -> io::Result<()> {
        let prefix = format!("{}-link-", self.name);
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let Some(index) = name.to_str().and_then(|n| n.strip_prefix(&prefix)) else { continue };
            let live = index.parse().ok().and_then(|ifindex| {
                let link = bpf::pinned(&entry.path()).ok()?;
                is_on(&link, ifindex).then_some((ifindex, link))
            });
            match live {
                Some((ifindex, link)) => drop(self.links.insert(ifindex, link)),
                None => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    fn pin_of(&self, ifindex: u32) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{}-link-{ifindex}", self.name)))
    }
}
