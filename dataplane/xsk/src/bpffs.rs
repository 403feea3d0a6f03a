//! The BPF file system, where pinned links and maps outlive the process that made them.

use std::ffi::CString;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use crate::sys::check;

/// f_type of a bpffs, BPF_FS_MAGIC of linux/magic.h.
const BPF_FS_MAGIC: u32 = 0xcafe_4a11;

/// The BPF file system cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("no BPF file system at {path}: {source}; mount one there (mount -t bpf bpf {path})")]
pub struct BpffsError {
    /// Where it should be.
    pub path: PathBuf,
    /// What failed: mkdir, statfs or mount.
    pub source: io::Error,
}

/// Makes sure that a BPF file system is mounted at `path` (usually /sys/fs/bpf), making the directory and
/// mounting one if it is not. Returns whether it was mounted now.
///
/// # Errors
/// [`BpffsError`], when `path` cannot be made or mounted on.
pub fn ensure(path: &Path) -> Result<bool, BpffsError> {
    mount_unless_there(path).map_err(|source| BpffsError { path: path.into(), source })
}

fn mount_unless_there(path: &Path) -> io::Result<bool> {
    std::fs::create_dir_all(path)?;
    let at = CString::new(path.as_os_str().as_bytes())?;
    // SAFETY: all-zero is a valid statfs, a struct of integers.
    let mut fs: libc::statfs = unsafe { std::mem::zeroed() };
    // SAFETY: a terminated string and a struct to fill.
    check(unsafe { libc::statfs(at.as_ptr(), &raw mut fs) })?;
    if fs.f_type as u32 == BPF_FS_MAGIC {
        return Ok(false);
    }
    let kind = c"bpf".as_ptr();
    let flags = libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC;
    // SAFETY: terminated strings; the options are a string too.
    check(unsafe { libc::mount(kind, at.as_ptr(), kind, flags, c"mode=0700".as_ptr().cast()) })?;
    Ok(true)
}
