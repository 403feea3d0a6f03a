//! The program that sorts a device's frames over packet sockets (bpf/lanes.bpf.c): flows that send little have sockets of
//! their own, and do not wait behind bulk.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use aya::{Ebpf, EbpfLoader};

use super::ProgramError;
use super::load::{chain, socket_filter};

const NAME: &str = "lanes";

/// The program, one for all devices; sockets that use it keep it.
pub struct LanesProgram {
    fd: OwnedFd,
    /// Its map.
    _ebpf: Ebpf,
}

impl LanesProgram {
    /// Loads the program.
    ///
    /// # Errors
    /// [`ProgramError::Load`].
    pub fn load() -> Result<Self, ProgramError> {
        let object = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/lanes.o"));
        let refused = |e: aya::EbpfError| ProgramError::Load { program: NAME, reason: chain(&e) };
        let mut ebpf = EbpfLoader::new().btf(None).load(object).map_err(refused)?;
        Ok(Self { fd: socket_filter(&mut ebpf, NAME, NAME)?, _ebpf: ebpf })
    }
}

impl AsFd for LanesProgram {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}
