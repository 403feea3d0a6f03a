//! Resource limits the dataplane needs raised.

use std::io;

use crate::sys::check;

/// Raises RLIMIT_MEMLOCK to unlimited. Frame areas and rings are locked memory; kernels before 5.11 count maps
/// too. Not needed with CAP_IPC_LOCK, which is not counted.
///
/// # Errors
/// EPERM without CAP_SYS_RESOURCE.
pub fn unlock_memory() -> io::Result<()> {
    let limit = libc::rlimit { rlim_cur: libc::RLIM_INFINITY, rlim_max: libc::RLIM_INFINITY };
    // SAFETY: reads one struct.
    check(unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &limit) })
}
