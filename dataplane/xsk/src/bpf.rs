//! The bpf(2) calls around links and pins.
//!
//! aya loads the programs and speaks to the maps; links are made here, because aya's attach falls back to
//! netlink, which replaces a foreign program, and because it does not tell a link's device.

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use crate::sys::check;

// Commands and attach type of linux/bpf.h.
const BPF_OBJ_PIN: i64 = 6;
const BPF_OBJ_GET: i64 = 7;
const BPF_PROG_GET_FD_BY_ID: i64 = 13;
const BPF_OBJ_GET_INFO_BY_FD: i64 = 15;
const BPF_LINK_CREATE: i64 = 28;
const BPF_LINK_UPDATE: i64 = 29;
const BPF_LINK_DETACH: i64 = 34;
const BPF_XDP: u32 = 37;
const BPF_TCX_INGRESS: u32 = 46;

/// XDP_FLAGS_SKB_MODE and XDP_FLAGS_DRV_MODE of linux/if_link.h.
pub(crate) const GENERIC: u32 = 1 << 1;
pub(crate) const NATIVE: u32 = 1 << 2;

/// What a link is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct LinkInfo {
    /// Program the link runs.
    pub(crate) program_id: u32,
    /// Device it is on; 0 when the device is gone.
    pub(crate) ifindex: u32,
}

/// What makes two maps interchangeable: type, key size, value size, entries and flags.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub(crate) struct MapShape {
    kind: u32,
    _id: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    flags: u32,
}

/// Attaches a program to a device with a link, never replacing anything.
pub(crate) fn link_create(program: BorrowedFd<'_>, ifindex: u32, flags: u32) -> io::Result<OwnedFd> {
    let attr = [program.as_raw_fd() as u32, ifindex, BPF_XDP, flags];
    // SAFETY: BPF_LINK_CREATE reads these four integers; it returns a new descriptor.
    unsafe { bpf_fd(BPF_LINK_CREATE, &attr) }
}

/// Attaches a program behind what else is at a device's tc ingress.
pub(crate) fn tcx_link_create(program: BorrowedFd<'_>, ifindex: u32) -> io::Result<OwnedFd> {
    let attr = [program.as_raw_fd() as u32, ifindex, BPF_TCX_INGRESS, 0];
    // SAFETY: as in `link_create`.
    unsafe { bpf_fd(BPF_LINK_CREATE, &attr) }
}

/// Replaces the program that a link runs, atomically.
pub(crate) fn link_update(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let attr = [link.as_raw_fd() as u32, program.as_raw_fd() as u32, 0, 0];
    // SAFETY: BPF_LINK_UPDATE reads these four integers.
    unsafe { bpf(BPF_LINK_UPDATE, &attr) }.map(drop)
}

/// Detaches a link from its device at once, whoever still holds it.
pub(crate) fn link_detach(link: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: BPF_LINK_DETACH reads one integer.
    unsafe { bpf(BPF_LINK_DETACH, &[link.as_raw_fd() as u32]) }.map(drop)
}

/// What a link is about.
pub(crate) fn link_info(link: BorrowedFd<'_>) -> io::Result<LinkInfo> {
    // struct bpf_link_info: type, id, prog_id, padding, then the union with xdp.ifindex.
    let mut info = [0u32; 8];
    object_info(link, &mut info)?;
    Ok(LinkInfo { program_id: info[2], ifindex: info[4] })
}

/// The shape of a map.
pub(crate) fn map_shape(map: BorrowedFd<'_>) -> io::Result<MapShape> {
    let mut shape = MapShape::default();
    object_info(map, &mut shape)?;
    shape._id = 0;
    Ok(shape)
}

/// Name of the program with this id.
pub(crate) fn program_name(id: u32) -> io::Result<String> {
    // SAFETY: BPF_PROG_GET_FD_BY_ID reads one integer; it returns a new descriptor.
    let program = unsafe { bpf_fd(BPF_PROG_GET_FD_BY_ID, &[id, 0, 0]) }?;
    // struct bpf_prog_info: `name` is 16 bytes at offset 64.
    let mut info = [0u64; 10];
    object_info(std::os::fd::AsFd::as_fd(&program), &mut info)?;
    let name: Vec<u8> =
        info[8..].iter().flat_map(|word| word.to_ne_bytes()).take_while(|&b| b != 0).collect();
    Ok(String::from_utf8_lossy(&name).into_owned())
}

/// Gives an object a name in a bpffs, which keeps it when its descriptors are closed.
pub(crate) fn pin(object: BorrowedFd<'_>, path: &Path) -> io::Result<()> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let attr = PathAttr { path: name.as_ptr() as u64, fd: object.as_raw_fd() as u32, flags: 0 };
    // SAFETY: BPF_OBJ_PIN reads the attribute and the string, which both live here.
    unsafe { bpf(BPF_OBJ_PIN, &attr) }.map(drop)
}

/// Opens what is pinned at `path`.
pub(crate) fn pinned(path: &Path) -> io::Result<OwnedFd> {
    let name = CString::new(path.as_os_str().as_bytes())?;
    let attr = PathAttr { path: name.as_ptr() as u64, fd: 0, flags: 0 };
    // SAFETY: as in `pin`; BPF_OBJ_GET returns a new descriptor.
    unsafe { bpf_fd(BPF_OBJ_GET, &attr) }
}

#[repr(C)]
struct PathAttr {
    path: u64,
    fd: u32,
    flags: u32,
}

#[repr(C)]
struct InfoAttr {
    fd: u32,
    len: u32,
    info: u64,
}

/// Fills the first `size_of::<T>()` bytes of the object's info struct. `T` is made of integers.
fn object_info<T: Copy>(object: BorrowedFd<'_>, info: &mut T) -> io::Result<()> {
    let attr = InfoAttr {
        fd: object.as_raw_fd() as u32,
        len: size_of::<T>() as u32,
        info: std::ptr::from_mut(info) as u64,
    };
    // SAFETY: the kernel writes at most `len` bytes to `info`, and any bytes are valid integers.
    unsafe { bpf(BPF_OBJ_GET_INFO_BY_FD, &attr) }.map(drop)
}

/// # Safety
/// `attr` must be what `command` reads and its pointers valid; `command` must return a new descriptor.
unsafe fn bpf_fd<T>(command: i64, attr: &T) -> io::Result<OwnedFd> {
    // SAFETY: the caller's promise.
    let fd = unsafe { bpf(command, attr) }?;
    // SAFETY: a descriptor just made for us.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// # Safety
/// `attr` must be (the beginning of) what `command` reads, its pointers valid for what the command does.
unsafe fn bpf<T>(command: i64, attr: &T) -> io::Result<i32> {
    // SAFETY: the kernel reads size_of::<T>() bytes and takes the rest of bpf_attr as zero.
    let rc =
        unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_ref(attr), size_of::<T>()) } as i32;
    check(rc).map(|()| rc)
}
