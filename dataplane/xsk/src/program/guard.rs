//! The program that keeps frames of packet sockets' ports from the kernel's own stack (bpf/guard.bpf.c), attached at tc
//! ingress by tcx links (Linux 6.6).

use std::collections::BTreeMap;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use aya::EbpfLoader;
use aya::programs::SchedClassifier;

use super::ProgramError;
use super::load::chain;
use crate::{bpf, device};

const NAME: &str = "guard";

/// The program with its links.
///
/// Unpinned, all devices are free again when this is dropped; pinned, they stay guarded.
pub struct GuardProgram {
    program: OwnedFd,
    dir: Option<PathBuf>,
    links: BTreeMap<u32, OwnedFd>,
}

impl GuardProgram {
    /// Loads the program, without pins.
    ///
    /// # Errors
    /// [`ProgramError::Load`].
    pub fn load() -> Result<Self, ProgramError> {
        Ok(Self { program: load()?, dir: None, links: BTreeMap::new() })
    }

    /// Loads the program with its links pinned in `dir`, inside a bpffs, and takes over those that are pinned there.
    ///
    /// # Errors
    /// [`ProgramError::Load`], [`ProgramError::Pin`].
    pub fn load_or_take_over(dir: &Path) -> Result<Self, ProgramError> {
        let mut guard = Self { program: load()?, dir: Some(dir.into()), links: BTreeMap::new() };
        guard.adopt(dir).map_err(|source| ProgramError::Pin { path: dir.into(), source })?;
        Ok(guard)
    }

    /// Devices that are guarded, with those taken over.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.links.keys().copied()
    }

    /// Guards device `ifindex`, or renews the program there.
    ///
    /// # Errors
    /// [`ProgramError::Attach`], with what to do on a kernel without tcx; [`ProgramError::Pin`].
    pub fn attach(&mut self, ifindex: u32) -> Result<(), ProgramError> {
        if let Some(link) = self.links.get(&ifindex) {
            if is_on(link.as_fd(), ifindex) && bpf::link_update(link.as_fd(), self.program.as_fd()).is_ok() {
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

    /// Lets device `ifindex` go, at once; nothing happens when it is not guarded.
    pub fn detach(&mut self, ifindex: u32) {
        if let Some(link) = self.links.remove(&ifindex) {
            // A link whose device is gone has nothing to detach.
            let _ = bpf::link_detach(link.as_fd());
        }
        if let Some(pin) = self.pin_of(ifindex) {
            let _ = std::fs::remove_file(pin);
        }
    }

    fn adopt(&mut self, dir: &Path) -> io::Result<()> {
        for entry in std::fs::read_dir(dir)? {
            let entry = entry?;
            let name = entry.file_name();
            let index =
                name.to_str().and_then(|n| n.strip_prefix(NAME)?.strip_prefix("-link-")?.parse().ok());
            let Some(ifindex) = index else { continue };
            match bpf::pinned(&entry.path()) {
                Ok(link) if is_on(link.as_fd(), ifindex) => drop(self.links.insert(ifindex, link)),
                _ => std::fs::remove_file(entry.path())?,
            }
        }
        Ok(())
    }

    fn pin_of(&self, ifindex: u32) -> Option<PathBuf> {
        self.dir.as_ref().map(|dir| dir.join(format!("{NAME}-link-{ifindex}")))
    }
}

/// Whether a link is on device `ifindex`; one whose device is gone is on none.
fn is_on(link: BorrowedFd<'_>, ifindex: u32) -> bool {
    bpf::link_info(link).is_ok_and(|info| info.ifindex == ifindex)
}

fn load() -> Result<OwnedFd, ProgramError> {
    let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/guard.o"));
    let failed = |error: &dyn std::error::Error| ProgramError::Load { program: NAME, reason: chain(error) };
    let mut ebpf = EbpfLoader::new().btf(None).load(object).map_err(|e| failed(&e))?;
    let missing = || ProgramError::Load { program: NAME, reason: format!("no program {NAME} in it") };
    let program = ebpf.program_mut(NAME).ok_or_else(missing)?;
    let program: &mut SchedClassifier = program.try_into().map_err(|e| failed(&e))?;
    program.load().map_err(|e| failed(&e))?;
    let fd = program.fd().map_err(|e| failed(&e))?;
    fd.as_fd().try_clone_to_owned().map_err(|e| failed(&e))
}
