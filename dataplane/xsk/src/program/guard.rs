//! The program that keeps frames of packet sockets' ports from the kernel's own stack (bpf/guard.bpf.c), attached at tc
//! ingress.

use std::os::fd::OwnedFd;
use std::path::Path;

use aya::EbpfLoader;

use super::ProgramError;
use super::load::{chain, classifier};
use super::tcx::TcxLinks;

const NAME: &str = "guard";

/// The program with its links.
///
/// Unpinned, all devices are free again when this is dropped; pinned, they stay guarded.
pub struct GuardProgram(TcxLinks);

impl GuardProgram {
    /// Loads the program, without pins.
    ///
    /// # Errors
    /// [`ProgramError::Load`].
    pub fn load() -> Result<Self, ProgramError> {
        Self::new(None)
    }

    /// Another program in its place, which must be as strict; links as with [`GuardProgram::load_or_take_over`].
    ///
    /// # Errors
    /// [`ProgramError::Pin`].
    pub fn with(program: OwnedFd, dir: Option<&Path>) -> Result<Self, ProgramError> {
        TcxLinks::new(NAME, program, dir).map(Self)
    }

    /// Loads the program with its links pinned in `dir`, inside a bpffs, and takes over those that are pinned there.
    ///
    /// # Errors
    /// [`ProgramError::Load`], [`ProgramError::Pin`].
    pub fn load_or_take_over(dir: &Path) -> Result<Self, ProgramError> {
        Self::new(Some(dir))
    }

    /// Devices that are guarded, with those taken over.
    pub fn devices(&self) -> impl Iterator<Item = u32> {
        self.0.devices()
    }

    /// Guards device `ifindex`, or renews the program there.
    ///
    /// # Errors
    /// [`ProgramError::Attach`], with what to do on a kernel without tcx; [`ProgramError::Pin`].
    pub fn attach(&mut self, ifindex: u32) -> Result<(), ProgramError> {
        self.0.attach(ifindex)
    }

    /// Lets device `ifindex` go, at once; nothing happens when it is not guarded.
    pub fn detach(&mut self, ifindex: u32) {
        self.0.detach(ifindex);
    }

    fn new(dir: Option<&Path>) -> Result<Self, ProgramError> {
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/guard.o"));
        let refused = |e: aya::EbpfError| ProgramError::Load { program: NAME, reason: chain(&e) };
        let mut ebpf = EbpfLoader::new().btf(None).load(object).map_err(refused)?;
        Self::with(classifier(&mut ebpf, NAME, NAME)?, dir)
    }
}
