//! A memory mapping that is unmapped when dropped: the frame area's pages and the rings of a socket.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

/// Memory obtained from `mmap(2)`, readable and writable, owned.
#[derive(Debug)]
pub(crate) struct Mapping {
    base: NonNull<u8>,
    len: usize,
}

// SAFETY: a Mapping is only an owned address range; whoever dereferences it justifies that on the spot.
unsafe impl Send for Mapping {}
// SAFETY: as above, sharing the address range alone touches no memory.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// `len` bytes of private zeroed memory; `populate` takes all pages now instead of at first use.
    pub(crate) fn anonymous(len: usize, populate: bool) -> io::Result<Self> {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | if populate { libc::MAP_POPULATE } else { 0 };
        Self::map(len, flags, -1, 0)
    }

    /// The same in huge pages of 2 MiB, of which `len` must be a multiple, all taken now: one that is short later would end the
    /// process (SIGBUS).
    pub(crate) fn huge(len: usize) -> io::Result<Self> {
        let pages = libc::MAP_HUGETLB | libc::MAP_HUGE_2MB | libc::MAP_POPULATE;
        Self::map(len, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | pages, -1, 0)
    }

    /// The first `len` bytes behind `offset` of a socket's descriptor, shared with the kernel.
    pub(crate) fn shared(fd: BorrowedFd<'_>, len: usize, offset: libc::off_t) -> io::Result<Self> {
        Self::map(len, libc::MAP_SHARED | libc::MAP_POPULATE, fd.as_raw_fd(), offset)
    }

    fn map(len: usize, flags: libc::c_int, fd: libc::c_int, offset: libc::off_t) -> io::Result<Self> {
        // SAFETY: a new mapping at an address the kernel chooses replaces nothing that exists.
        let address = unsafe {
            libc::mmap(std::ptr::null_mut(), len, libc::PROT_READ | libc::PROT_WRITE, flags, fd, offset)
        };
        if address == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        let base = NonNull::new(address.cast()).ok_or_else(|| io::Error::other("mmap returned address 0"))?;
        Ok(Self { base, len })
    }

    /// First byte of the range. Valid for reads and writes of `len()` bytes as long as `self` lives.
    pub(crate) fn base(&self) -> NonNull<u8> {
        self.base
    }

    /// Bytes mapped.
    pub(crate) fn len(&self) -> usize {
        self.len
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the range came from mmap, is ours alone, and references into it borrow from its owner.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.len) };
    }
}
