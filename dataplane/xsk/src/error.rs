//! Why a socket could not be opened: which device and queue, at which step, and what helps.

use std::io;

use crate::device;

/// A socket that could not be opened. Its text names device, queue, step, errno and remedy.
#[derive(Debug, thiserror::Error)]
#[error("AF_XDP socket on {device} queue {queue}: {step}: {source}; {remedy}")]
pub struct OpenError {
    /// Name of the device, or its index when it has none (any more).
    pub device: String,
    /// Queue of the device.
    pub queue: u32,
    /// What was being done.
    pub step: &'static str,
    /// What to do about it.
    pub remedy: &'static str,
    /// The kernel's answer.
    pub source: io::Error,
}

impl OpenError {
    pub(crate) fn new(ifindex: u32, queue: u32, Failed { step, source }: Failed) -> Self {
        let device = device::name(ifindex).unwrap_or_else(|_| format!("device {ifindex}"));
        let remedy = remedy(step, source.raw_os_error().unwrap_or(0));
        Self { device, queue, step, remedy, source }
    }

    /// Another socket holds the queue.
    pub fn is_busy(&self) -> bool {
        self.source.raw_os_error() == Some(libc::EBUSY)
    }

    /// The device is gone, or was never in this network namespace.
    pub fn is_gone(&self) -> bool {
        matches!(self.source.raw_os_error(), Some(libc::ENODEV | libc::ENXIO))
    }
}

/// One system call that failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) step: &'static str,
    pub(crate) source: io::Error,
}

impl Failed {
    pub(crate) fn at(step: &'static str) -> impl FnOnce(io::Error) -> Self {
        move |source| Self { step, source }
    }

    pub(crate) fn errno(&self) -> i32 {
        self.source.raw_os_error().unwrap_or(0)
    }
}

fn remedy(step: &str, errno: i32) -> &'static str {
    match errno {
        libc::EBUSY => "another AF_XDP socket is on this queue; close it, or take another queue",
        libc::ENODEV | libc::ENXIO => "the device does not exist in this network namespace; check the name",
        libc::ENETDOWN => "set the device up (ip link set dev DEVICE up)",
        libc::EOPNOTSUPP => "the driver cannot do this mode; take mode copy, and generic XDP",
        libc::EPERM | libc::EACCES => "run with CAP_NET_RAW, CAP_NET_ADMIN and CAP_BPF (as root)",
        libc::ENOBUFS | libc::ENOMEM => {
            "raise RLIMIT_MEMLOCK (systemd: LimitMEMLOCK=infinity) or use fewer chunks"
        }
        libc::EAFNOSUPPORT => "the kernel is built without CONFIG_XDP_SOCKETS",
        libc::EINVAL if step == BIND => {
            "the queue does not exist (see ethtool -l), or the area's anchor is on it"
        }
        libc::EINVAL => "ring sizes must be powers of two, chunks no larger than a page",
        _ => "no known remedy; the kernel log may say more",
    }
}

/// Step name of bind(2), where EINVAL speaks of the queue.
pub(crate) const BIND: &str = "bind";
