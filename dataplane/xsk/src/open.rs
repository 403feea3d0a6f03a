//! Opening a socket: what is asked for, what the kernel grants, and the ladder between the two.
//!
//! What a kernel or driver can do is found by trying, never by its version. The first socket of an area
//! registers the memory and becomes its anchor; the others inherit the anchor's mode, since the kernel allows
//! no flags on a shared bind.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;
use std::time::Duration;

use crate::area::{Anchor, AreaHandle, TxMetadata};
use crate::error::{BIND, Failed, OpenError};
use crate::mapping::Mapping;
use crate::ring::{Consumer, Producer};
use crate::socket::{Desc, Socket};
use crate::sys;

/// Who copies between the device and the area.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// The kernel copies: works on every device.
    Copy,
    /// The device reads and writes the area; fails where the driver cannot.
    ZeroCopy,
    /// Zero-copy if the driver can, else copy.
    #[default]
    Auto,
}

/// What to ask for. Mode and multi-buffer count for an area's anchor; the others inherit them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SocketConfig {
    /// Copy or zero-copy.
    pub mode: Mode,
    /// Frames longer than a chunk as chains of descriptors (XDP_USE_SG).
    pub multi_buffer: bool,
    /// Entries of the receive ring, a power of two. Ring memory is pinned: 16 bytes an entry.
    pub rx_ring: u32,
    /// Entries of the transmit ring, a power of two.
    pub tx_ring: u32,
    /// Entries of the fill ring, a power of two; 8 bytes an entry.
    pub fill_ring: u32,
    /// Entries of the completion ring, a power of two. It bounds the descriptors in flight.
    pub completion_ring: u32,
    /// Descriptors one kick moves in copy mode (XDP_MAX_TX_SKB_BUDGET): 32 to `tx_ring`, capped to that.
    pub tx_budget: u32,
    /// Bytes the kernel may hold in copies of frames being sent (SO_SNDBUFFORCE); 64 KB frames need room.
    pub send_buffer: u32,
}

impl Default for SocketConfig {
    /// Auto, multi-buffer, rings of 4096, budget 1024, send buffer of 8 MiB.
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            multi_buffer: true,
            rx_ring: 4096,
            tx_ring: 4096,
            fill_ring: 4096,
            completion_ring: 4096,
            tx_budget: 1024,
            send_buffer: 8 << 20,
        }
    }
}

/// What a socket got.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Granted {
    /// The device itself reads and writes the area.
    pub zero_copy: bool,
    /// Chains of descriptors are received and may be sent.
    pub multi_buffer: bool,
    /// [`TxMetadata`] may be attached to frames.
    pub tx_metadata: bool,
    /// Descriptors one kick moves in copy mode.
    pub tx_budget: u32,
    /// Why it is less than what was asked for, if it is.
    pub note: Option<String>,
}

/// Budget of kernels without XDP_MAX_TX_SKB_BUDGET, TX_BATCH_SIZE of net/xdp/xsk.c.
const DEFAULT_TX_BUDGET: u32 = 32;

/// A closed socket's queue is freed by a kernel work queue under the network configuration's lock (`xp_release_deferred`
/// takes rtnl_lock), which others may hold for hundreds of milliseconds: wait 3 s for it.
const BUSY_TRIES: u32 = 1500;
const BUSY_WAIT: Duration = Duration::from_millis(2);

impl Socket {
    /// Opens a socket on queue `queue` of device `ifindex` of the calling thread's network namespace. The first
    /// one of an area registers the memory. Packets arrive once an XDP program redirects them here and
    /// [`Socket::fill`] has lent chunks.
    ///
    /// A socket must not be the area's second on one queue. May wait up to 3 s for the queue of a socket just
    /// closed.
    ///
    /// # Errors
    /// [`OpenError`] with device, queue, errno and remedy.
    pub fn open(
        area: &AreaHandle,
        ifindex: u32,
        queue: u32,
        config: &SocketConfig,
    ) -> Result<Self, OpenError> {
        let mut anchor = area.anchor();
        if let Some(of) = anchor.as_ref() {
            match share(area, of, ifindex, queue, config) {
                // The anchor's device is gone (xsk_bind: EBADF when it is not bound). The same memory may be
                // registered again, so this socket becomes the new anchor.
                Err(failed) if failed.errno() == libc::EBADF => *anchor = None,
                result => return result.map_err(|failed| OpenError::new(ifindex, queue, failed)),
            }
        }
        let register = || {
            let socket = register(area, ifindex, queue, config)?;
            let fd = socket.as_fd().try_clone_to_owned().map_err(Failed::at("copy the descriptor"))?;
            Ok((Anchor { fd, ifindex, queue, granted: socket.granted().clone() }, socket))
        };
        let (made, socket) = register().map_err(|failed| OpenError::new(ifindex, queue, failed))?;
        *anchor = Some(made);
        Ok(socket)
    }
}

/// Binds to the anchor's registration.
fn share(
    area: &AreaHandle,
    anchor: &Anchor,
    ifindex: u32,
    queue: u32,
    config: &SocketConfig,
) -> Result<Socket, Failed> {
    if (anchor.ifindex, anchor.queue) == (ifindex, queue) {
        return Err(Failed { step: BIND, source: std::io::Error::from_raw_os_error(libc::EBUSY) });
    }
    let prepared = Prepared::new(config)?;
    let mut granted =
        Granted { tx_budget: prepared.tx_budget, note: prepared.note.clone(), ..anchor.granted.clone() };
    prepared.bind(ifindex, queue, libc::XDP_SHARED_UMEM, anchor.fd.as_fd())?;
    if granted.note.is_none() {
        granted.note.clone_from(&anchor.granted.note);
    }
    Ok(prepared.into_socket(area, granted))
}

/// Registers the area with a new socket, trying the best mode first.
fn register(area: &AreaHandle, ifindex: u32, queue: u32, config: &SocketConfig) -> Result<Socket, Failed> {
    let mut notes = Vec::new();
    for (zero_copy, multi_buffer) in ladder(config) {
        let prepared = Prepared::new(config)?;
        let tx_metadata = prepared.register(area)?;
        let flags = libc::XDP_USE_NEED_WAKEUP
            | if zero_copy { libc::XDP_ZEROCOPY } else { libc::XDP_COPY }
            | if multi_buffer { libc::XDP_USE_SG } else { 0 };
        match prepared.bind(ifindex, queue, flags, prepared.fd.as_fd()) {
            Ok(()) => {
                notes.extend(prepared.note.clone());
                if area.config().tx_metadata && !tx_metadata {
                    notes.push("no TX metadata: the kernel does not know XDP_UMEM_TX_METADATA_LEN".into());
                }
                let note = (!notes.is_empty()).then(|| notes.join("; "));
                let tx_budget = prepared.tx_budget;
                let granted = Granted { zero_copy, multi_buffer, tx_metadata, tx_budget, note };
                return Ok(prepared.into_socket(area, granted));
            }
            Err(failed) if lower_rung_may_help(&failed) && (zero_copy || multi_buffer) => {
                notes.push(format!("no {}: {}", rung(zero_copy, multi_buffer), failed.source));
            }
            Err(failed) => return Err(failed),
        }
    }
    let source = std::io::Error::from_raw_os_error(libc::EOPNOTSUPP);
    Err(Failed { step: "bind in zero-copy mode", source })
}

/// (zero-copy, multi-buffer), best first.
fn ladder(config: &SocketConfig) -> impl Iterator<Item = (bool, bool)> {
    let SocketConfig { mode, multi_buffer, .. } = *config;
    [(true, true), (true, false), (false, true), (false, false)].into_iter().filter(
        move |&(zero_copy, sg)| {
            (multi_buffer || !sg) && (mode == Mode::Auto || zero_copy == (mode == Mode::ZeroCopy))
        },
    )
}

fn rung(zero_copy: bool, multi_buffer: bool) -> &'static str {
    match (zero_copy, multi_buffer) {
        (true, true) => "zero-copy with multi-buffer",
        (true, false) => "zero-copy",
        (false, _) => "multi-buffer",
    }
}

fn lower_rung_may_help(failed: &Failed) -> bool {
    matches!(failed.errno(), libc::EOPNOTSUPP | libc::EINVAL)
}

/// A socket with its rings, not yet bound.
struct Prepared {
    fd: OwnedFd,
    rx: Consumer<Desc>,
    tx: Producer<Desc>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    tx_budget: u32,
    note: Option<String>,
}

impl Prepared {
    fn new(config: &SocketConfig) -> Result<Self, Failed> {
        let fd = sys::socket(libc::AF_XDP, libc::SOCK_RAW, 0).map_err(Failed::at("socket"))?;
        for (option, size) in [
            (libc::XDP_UMEM_FILL_RING, config.fill_ring),
            (libc::XDP_UMEM_COMPLETION_RING, config.completion_ring),
            (libc::XDP_RX_RING, config.rx_ring),
            (libc::XDP_TX_RING, config.tx_ring),
        ] {
            sys::set_option(fd.as_fd(), libc::SOL_XDP, option, &size)
                .map_err(Failed::at("make the rings"))?;
        }
        // SAFETY: a struct of integers, filled by the kernel for this option.
        let at: libc::xdp_mmap_offsets = unsafe { sys::xdp_option(fd.as_fd(), libc::XDP_MMAP_OFFSETS) }
            .map_err(Failed::at("get the rings' layout"))?;
        let (tx_budget, note) = set_tx_budget(fd.as_fd(), config);
        // Without CAP_NET_ADMIN the default stays; frames then wait for one another, none is lost.
        let _ = sys::set_option(fd.as_fd(), libc::SOL_SOCKET, libc::SO_SNDBUFFORCE, &config.send_buffer);
        let fill_at = libc::XDP_UMEM_PGOFF_FILL_RING as libc::off_t;
        let completion_at = libc::XDP_UMEM_PGOFF_COMPLETION_RING as libc::off_t;
        Ok(Self {
            rx: consumer(fd.as_fd(), &at.rx, config.rx_ring, libc::XDP_PGOFF_RX_RING)?,
            tx: producer(fd.as_fd(), &at.tx, config.tx_ring, libc::XDP_PGOFF_TX_RING)?,
            fill: producer(fd.as_fd(), &at.fr, config.fill_ring, fill_at)?,
            completion: consumer(fd.as_fd(), &at.cr, config.completion_ring, completion_at)?,
            fd,
            tx_budget,
            note,
        })
    }

    /// Registers the area's memory (XDP_UMEM_REG); returns whether with TX metadata, which kernels before 6.8
    /// answer with EINVAL.
    fn register(&self, area: &AreaHandle) -> Result<bool, Failed> {
        let with = |tx_metadata: bool| libc::xdp_umem_reg {
            addr: area.memory().base().as_ptr() as u64,
            len: area.memory().len() as u64,
            chunk_size: area.config().chunk_size,
            headroom: 0,
            flags: if tx_metadata { libc::XDP_UMEM_TX_METADATA_LEN } else { 0 },
            tx_metadata_len: if tx_metadata { TxMetadata::LEN } else { 0 },
        };
        let set = |value| sys::set_option(self.fd.as_fd(), libc::SOL_XDP, libc::XDP_UMEM_REG, &value);
        if area.config().tx_metadata {
            match set(with(true)) {
                Ok(()) => return Ok(true),
                Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {}
                Err(error) => return Err(Failed::at("register the frame area")(error)),
            }
        }
        set(with(false)).map(|()| false).map_err(Failed::at("register the frame area"))
    }

    /// Binds, waiting for a queue whose last socket was just closed.
    fn bind(&self, ifindex: u32, queue: u32, flags: u16, shared: BorrowedFd<'_>) -> Result<(), Failed> {
        use std::os::fd::AsRawFd;
        let shares = flags & libc::XDP_SHARED_UMEM != 0;
        let address = libc::sockaddr_xdp {
            sxdp_family: libc::AF_XDP as u16,
            sxdp_flags: flags,
            sxdp_ifindex: ifindex,
            sxdp_queue_id: queue,
            sxdp_shared_umem_fd: if shares { shared.as_raw_fd() as u32 } else { 0 },
        };
        let mut tries = BUSY_TRIES;
        loop {
            match sys::bind(self.fd.as_fd(), &address) {
                Err(error) if error.raw_os_error() == Some(libc::EBUSY) && tries > 0 => {
                    tries -= 1;
                    std::thread::sleep(BUSY_WAIT);
                }
                result => return result.map_err(Failed::at(BIND)),
            }
        }
    }

    fn into_socket(self, area: &AreaHandle, granted: Granted) -> Socket {
        let Self { fd, rx, tx, fill, completion, .. } = self;
        Socket::new(fd, rx, tx, fill, completion, area, granted)
    }
}

/// Raises the transmit budget; the note says why it stayed at the default.
fn set_tx_budget(fd: BorrowedFd<'_>, config: &SocketConfig) -> (u32, Option<String>) {
    let wanted = config.tx_budget.min(config.tx_ring);
    match sys::set_option(fd, libc::SOL_XDP, sys::XDP_MAX_TX_SKB_BUDGET, &wanted) {
        Ok(()) => (wanted, None),
        Err(error) => {
            let note = format!("{DEFAULT_TX_BUDGET} descriptors per kick: XDP_MAX_TX_SKB_BUDGET: {error}");
            (DEFAULT_TX_BUDGET, Some(note))
        }
    }
}

fn producer<T: Copy>(
    fd: BorrowedFd<'_>,
    at: &libc::xdp_ring_offset,
    size: u32,
    offset: libc::off_t,
) -> Result<Producer<T>, Failed> {
    let memory = ring_memory::<T>(fd, at, size, offset)?;
    // SAFETY: the kernel gave the layout of this very mapping, and has the consumer's end; mapped once.
    unsafe { Producer::new(memory, at, size) }.ok_or_else(bad_layout)
}

fn consumer<T: Copy>(
    fd: BorrowedFd<'_>,
    at: &libc::xdp_ring_offset,
    size: u32,
    offset: libc::off_t,
) -> Result<Consumer<T>, Failed> {
    let memory = ring_memory::<T>(fd, at, size, offset)?;
    // SAFETY: as in `producer`, with the ends exchanged.
    unsafe { Consumer::new(memory, at, size) }.ok_or_else(bad_layout)
}

fn ring_memory<T>(
    fd: BorrowedFd<'_>,
    at: &libc::xdp_ring_offset,
    size: u32,
    offset: libc::off_t,
) -> Result<Arc<Mapping>, Failed> {
    let len = at.desc as usize + size as usize * size_of::<T>();
    Mapping::shared(fd, len, offset).map(Arc::new).map_err(Failed::at("map the rings"))
}

fn bad_layout() -> Failed {
    Failed { step: "map the rings", source: std::io::Error::from_raw_os_error(libc::EINVAL) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ladder_goes_from_best_to_plain_and_keeps_to_the_mode() {
        let rungs = |mode, multi_buffer| {
            ladder(&SocketConfig { mode, multi_buffer, ..SocketConfig::default() }).collect::<Vec<_>>()
        };
        assert_eq!(rungs(Mode::Auto, true), [(true, true), (true, false), (false, true), (false, false)]);
        assert_eq!(rungs(Mode::Auto, false), [(true, false), (false, false)]);
        assert_eq!(rungs(Mode::Copy, true), [(false, true), (false, false)]);
        assert_eq!(rungs(Mode::ZeroCopy, false), [(true, false)]);
    }
}
