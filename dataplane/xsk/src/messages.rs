//! Messages of one sendmmsg(2) or recvmmsg(2), each gathered from or scattered over pieces of a frame area.
//!
//! The kernel touches the memory only during the call, and the call borrows the area: shared to send, alone to receive.
//! What stands between two calls are addresses that were checked against the region, which this keeps mapped.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use crate::area::{Area, AreaHandle};

/// Pieces of memory of one region, as the kernel takes them.
pub(crate) struct Vectors {
    region: AreaHandle,
    list: Vec<libc::iovec>,
}

// SAFETY: the pointers are into the region that `region` keeps mapped, or null; nobody follows them but the kernel in
// `send` and `receive`, which justify that on the spot.
unsafe impl Send for Vectors {}

impl Vectors {
    /// None yet; `room` of them take no allocation.
    pub(crate) fn with_capacity(region: &AreaHandle, room: usize) -> Self {
        Self { region: region.clone(), list: Vec::with_capacity(room) }
    }

    /// `count` empty ones.
    pub(crate) fn empty(region: &AreaHandle, count: usize) -> Self {
        Self { region: region.clone(), list: vec![EMPTY; count] }
    }

    /// How many there are.
    pub(crate) fn len(&self) -> usize {
        self.list.len()
    }

    /// Whether there is room for `more` without an allocation.
    pub(crate) fn has_room(&self, more: usize) -> bool {
        self.list.capacity() - self.list.len() >= more
    }

    /// Appends the piece of `len` bytes at `addr`; false when it lies outside the region.
    pub(crate) fn push(&mut self, addr: u64, len: u32) -> bool {
        let vector = self.vector(addr, len);
        self.list.extend(vector);
        vector.is_some()
    }

    /// Puts a piece at position `at`; false when it lies outside the region.
    pub(crate) fn set(&mut self, at: usize, addr: u64, len: u32) -> bool {
        let Some(vector) = self.vector(addr, len) else { return false };
        self.list[at] = vector;
        true
    }

    /// Takes the piece at position `at` away and returns its address; `None` when there is none.
    pub(crate) fn take(&mut self, at: usize) -> Option<u64> {
        let addr = self.addr(at)?;
        self.list[at] = EMPTY;
        Some(addr)
    }

    /// Address of the piece at position `at`; `None` when it is empty.
    pub(crate) fn addr(&self, at: usize) -> Option<u64> {
        let base = self.list[at].iov_base as usize;
        (base != 0).then(|| (base - self.region.memory().base().as_ptr() as usize) as u64)
    }

    /// Bytes of the piece at position `at`.
    pub(crate) fn bytes_of(&self, at: usize) -> usize {
        self.list[at].iov_len
    }

    /// Forgets the pieces behind `len`.
    pub(crate) fn truncate(&mut self, len: usize) {
        self.list.truncate(len);
    }

    /// Forgets the first `count` pieces.
    pub(crate) fn drain_front(&mut self, count: usize) {
        self.list.drain(..count);
    }

    fn vector(&self, addr: u64, len: u32) -> Option<libc::iovec> {
        let memory = self.region.memory();
        let end = addr.checked_add(u64::from(len))?;
        (end <= memory.len() as u64).then(|| libc::iovec {
            iov_base: memory.base().as_ptr().wrapping_add(addr as usize).cast(),
            iov_len: len as usize,
        })
    }
}

const EMPTY: libc::iovec = libc::iovec { iov_base: std::ptr::null_mut(), iov_len: 0 };

/// What a message has besides its pieces.
#[derive(Clone, Copy)]
pub(crate) struct Extra {
    /// Position of its first piece.
    pub(crate) first: usize,
    /// How many pieces it has.
    pub(crate) count: usize,
    /// Bytes that stand before its pieces, such as a virtio-net header: pointer and length, null for none.
    pub(crate) prefix: (*mut u8, usize),
    /// Address of the other end.
    pub(crate) name: (*mut libc::sockaddr_in, usize),
    /// Control message.
    pub(crate) control: (*mut u8, usize),
    /// Bytes for what does not fit the pieces.
    pub(crate) overflow: (*mut u8, usize),
}

impl Extra {
    /// A message of pieces alone.
    pub(crate) fn pieces(first: usize, count: usize) -> Self {
        let none = std::ptr::null_mut();
        let bytes = (none, 0);
        Self { first, count, prefix: bytes, name: (std::ptr::null_mut(), 0), control: bytes, overflow: bytes }
    }
}

/// Room to put messages together in, of one size for ever.
pub(crate) struct Assembly {
    vectors: Vec<libc::iovec>,
    messages: Vec<libc::mmsghdr>,
}

// SAFETY: what its pointers point to is only followed within `send` and `receive`, which fill them anew.
unsafe impl Send for Assembly {}

impl Assembly {
    /// For up to `messages` messages of `pieces` pieces in all.
    pub(crate) fn new(messages: usize, pieces: usize) -> Self {
        Self { vectors: Vec::with_capacity(pieces + 2 * messages), messages: Vec::with_capacity(messages) }
    }

    /// Sends the messages; returns how many were taken.
    ///
    /// # Safety
    /// The pointers of `extras` must be null or valid for their lengths.
    pub(crate) unsafe fn send(
        &mut self,
        fd: BorrowedFd<'_>,
        pieces: &Vectors,
        _area: &Area,
        extras: impl Iterator<Item = Extra>,
    ) -> io::Result<usize> {
        let messages = self.put_together(pieces, extras);
        // SAFETY: every pointer is valid for its length: pieces lie in a mapped region, which nobody writes while the area
        // is borrowed; extras by the caller's promise. The kernel only reads them.
        let sent = unsafe {
            libc::sendmmsg(fd.as_raw_fd(), messages.as_mut_ptr(), messages.len() as u32, libc::MSG_DONTWAIT)
        };
        if sent < 0 { Err(io::Error::last_os_error()) } else { Ok(sent as usize) }
    }

    /// Receives into the messages and calls `came` for each with its number, length, flags and length of its control data.
    /// Returns how many came.
    ///
    /// # Safety
    /// As for [`Assembly::send`], and nobody else may hold a reference to what the pointers point to.
    pub(crate) unsafe fn receive(
        &mut self,
        fd: BorrowedFd<'_>,
        pieces: &Vectors,
        area: &mut Area,
        extras: impl Iterator<Item = Extra>,
        came: &mut impl FnMut(usize, usize, libc::c_int, usize),
    ) -> usize {
        if !pieces.region.is(area) {
            return 0;
        }
        let messages = self.put_together(pieces, extras);
        let (head, none) = (messages.as_mut_ptr(), std::ptr::null_mut());
        // SAFETY: as in `send`; the area is borrowed alone, so the kernel may write to its memory.
        let got =
            unsafe { libc::recvmmsg(fd.as_raw_fd(), head, messages.len() as u32, libc::MSG_DONTWAIT, none) };
        let got = usize::try_from(got).unwrap_or(0);
        for (n, message) in messages.iter().take(got).enumerate() {
            let header = &message.msg_hdr;
            came(n, message.msg_len as usize, header.msg_flags, header.msg_controllen);
        }
        got
    }

    fn put_together(
        &mut self,
        pieces: &Vectors,
        extras: impl Iterator<Item = Extra>,
    ) -> &mut [libc::mmsghdr] {
        self.vectors.clear();
        self.messages.clear();
        for extra in extras.take(self.messages.capacity()) {
            let count = extra.count + 2;
            if self.vectors.capacity() - self.vectors.len() < count {
                break;
            }
            let start = self.vectors.len();
            let vector = |(base, len): (*mut u8, usize)| libc::iovec { iov_base: base.cast(), iov_len: len };
            if extra.prefix.1 > 0 {
                self.vectors.push(vector(extra.prefix));
            }
            self.vectors.extend_from_slice(&pieces.list[extra.first..extra.first + extra.count]);
            if extra.overflow.1 > 0 {
                self.vectors.push(vector(extra.overflow));
            }
            // SAFETY: all-zero is a valid mmsghdr: integers and null pointers.
            let mut message: libc::mmsghdr = unsafe { std::mem::zeroed() };
            let header = &mut message.msg_hdr;
            header.msg_iov = self.vectors[start..].as_mut_ptr();
            header.msg_iovlen = self.vectors.len() - start;
            header.msg_name = extra.name.0.cast();
            header.msg_namelen = extra.name.1 as libc::socklen_t;
            header.msg_control = extra.control.0.cast();
            header.msg_controllen = extra.control.1;
            self.messages.push(message);
        }
        &mut self.messages
    }
}
