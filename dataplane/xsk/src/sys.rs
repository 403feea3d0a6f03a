//! The few system calls on sockets, with their unsafe parts; nothing here decides anything.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_void, socklen_t};

/// XDP_MAX_TX_SKB_BUDGET of linux/if_xdp.h: descriptors one sendto() moves in copy mode. Linux 6.17.
pub(crate) const XDP_MAX_TX_SKB_BUDGET: c_int = 9;

/// `socket(2)`, close-on-exec.
pub(crate) fn socket(domain: c_int, kind: c_int, protocol: c_int) -> io::Result<OwnedFd> {
    // SAFETY: takes no pointers.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    check(fd)?;
    // SAFETY: a descriptor just made, owned by nobody else.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// `setsockopt(2)` with a plain C value.
pub(crate) fn set_option<T: Copy>(
    fd: BorrowedFd<'_>,
    level: c_int,
    option: c_int,
    value: &T,
) -> io::Result<()> {
    let value = std::ptr::from_ref(value).cast::<c_void>();
    // SAFETY: the kernel reads size_of::<T>() bytes, which `value` has.
    let rc = unsafe { libc::setsockopt(fd.as_raw_fd(), level, option, value, size_of::<T>() as socklen_t) };
    check(rc)
}

/// `getsockopt(2)` at level SOL_XDP into a zeroed C struct; the kernel may fill less of it than all.
///
/// # Safety
/// As for [`get_option`].
pub(crate) unsafe fn xdp_option<T: Copy>(fd: BorrowedFd<'_>, option: c_int) -> io::Result<T> {
    // SAFETY: the caller's promise.
    unsafe { get_option(fd, libc::SOL_XDP, option) }
}

/// `getsockopt(2)` into a zeroed C struct; the kernel may fill less of it than all.
///
/// # Safety
/// All-zero and whatever the kernel writes for `option` must be valid as `T`.
pub(crate) unsafe fn get_option<T: Copy>(fd: BorrowedFd<'_>, level: c_int, option: c_int) -> io::Result<T> {
    // SAFETY: the caller says zero is a valid T.
    let mut value: T = unsafe { std::mem::zeroed() };
    let mut len = size_of::<T>() as socklen_t;
    let into = std::ptr::from_mut(&mut value).cast::<c_void>();
    // SAFETY: the kernel writes at most `len` bytes into `value` and the new length into `len`.
    check(unsafe { libc::getsockopt(fd.as_raw_fd(), level, option, into, &raw mut len) })?;
    Ok(value)
}

/// `bind(2)` of an AF_XDP socket.
pub(crate) fn bind(fd: BorrowedFd<'_>, address: &libc::sockaddr_xdp) -> io::Result<()> {
    let len = size_of::<libc::sockaddr_xdp>() as socklen_t;
    // SAFETY: `address` is a whole sockaddr_xdp and `len` its size.
    check(unsafe { libc::bind(fd.as_raw_fd(), std::ptr::from_ref(address).cast(), len) })
}

/// An empty non-blocking `sendto(2)`: transmit what the ring holds.
pub(crate) fn wake_transmit(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: no buffer and no address, lengths 0.
    let rc =
        unsafe { libc::sendto(fd.as_raw_fd(), std::ptr::null(), 0, libc::MSG_DONTWAIT, std::ptr::null(), 0) };
    check(if rc < 0 { -1 } else { 0 })
}

/// An empty non-blocking `recvfrom(2)`: tells a zero-copy driver that the fill ring has entries again.
pub(crate) fn wake_receive(fd: BorrowedFd<'_>) -> io::Result<()> {
    let null = std::ptr::null_mut();
    // SAFETY: no buffer and no address, lengths 0.
    let rc = unsafe {
        libc::recvfrom(fd.as_raw_fd(), null, 0, libc::MSG_DONTWAIT, null.cast(), std::ptr::null_mut())
    };
    check(if rc < 0 { -1 } else { 0 })
}

/// Puts a filter (socket(7)) on a socket that takes nothing.
pub(crate) fn refuse_all(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut refuse = libc::sock_filter { code: (libc::BPF_RET | libc::BPF_K) as u16, jt: 0, jf: 0, k: 0 };
    let program = libc::sock_fprog { len: 1, filter: &raw mut refuse };
    set_option(fd, libc::SOL_SOCKET, libc::SO_ATTACH_FILTER, &program)
}

/// Turns a -1 into the thread's errno.
pub(crate) fn check(rc: c_int) -> io::Result<()> {
    if rc < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}

/// Waits until a socket takes more, `milliseconds` at most; false when it does not.
pub(crate) fn wait_writable(fd: BorrowedFd<'_>, milliseconds: libc::c_int) -> bool {
    let mut wanted = libc::pollfd { fd: fd.as_raw_fd(), events: libc::POLLOUT, revents: 0 };
    // SAFETY: one pollfd.
    unsafe { libc::poll(&raw mut wanted, 1, milliseconds) > 0 }
}
