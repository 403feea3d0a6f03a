//! One AF_XDP socket: a (device, queue) with its four rings.
//!
//! Chunks go round: lent by [`Socket::fill`], come back with data by [`Socket::receive`]; lent by
//! [`Socket::transmit`], come back by [`Socket::reap`]. `lent()` and `in_flight()` count what the kernel has,
//! so that a ledger over all chunks can be kept. After a socket in copy mode is dropped the kernel touches
//! none of them any more; in zero-copy mode the device may until the queue is bound again.
//!
//! Opening and dropping take milliseconds (the kernel waits for a grace period): not on a worker's loop.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::area::AreaHandle;
use crate::bounds::Bounds;
use crate::open::Granted;
use crate::ring::{Consumer, Producer};
use crate::sys;

/// Most descriptors of one frame in copy mode: MAX_SKB_FRAGS + 1.
pub const MAX_CHAIN: u32 = 18;

/// A piece of a frame, `struct xdp_desc` of linux/if_xdp.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Desc {
    /// Offset of the first byte in the area.
    pub addr: u64,
    /// Bytes.
    pub len: u32,
    /// XDP_PKT_CONTD: the frame goes on in the next descriptor. XDP_TX_METADATA: see [`crate::TxMetadata`].
    pub options: u32,
}

impl Desc {
    /// A piece of a frame; `more` says that the frame goes on in the next descriptor.
    pub fn new(addr: u64, len: u32, more: bool) -> Self {
        Self { addr, len, options: if more { libc::XDP_PKT_CONTD } else { 0 } }
    }

    /// Whether the frame goes on in the next descriptor.
    #[inline]
    pub fn more(&self) -> bool {
        self.options & libc::XDP_PKT_CONTD != 0
    }
}

/// Why [`Socket::transmit`] took nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    /// Not that many free entries now; kick, reap, or drop the frame.
    #[error("transmit ring full")]
    Full,
    /// A descriptor the kernel would skip, and never complete: empty, across a chunk's end, outside the area,
    /// without room for metadata, with an unknown option, in a chain that is too long or does not end.
    #[error("invalid descriptor")]
    Invalid,
}

/// What [`Socket::kick`] achieved.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kick {
    /// The transmit ring is empty.
    Done,
    /// Some is left: budget, send buffer or completion ring used up. Reap, then kick again, a bounded number
    /// of times.
    Again,
    /// The kernel refused with this errno; ENETDOWN and ENXIO when the device is down or gone.
    Error(i32),
}

/// The kernel's counters of one socket (XDP_STATISTICS), in packets or descriptors since it was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Received packets dropped for other reasons than those below, such as too long for the chunk.
    pub rx_dropped: u64,
    /// Invalid addresses in the fill ring.
    pub rx_invalid: u64,
    /// Invalid descriptors in the transmit ring.
    pub tx_invalid: u64,
    /// Packets dropped because the receive ring was full: the reader is too slow.
    pub rx_ring_full: u64,
    /// Times the fill ring was empty: too few chunks lent.
    pub fill_ring_empty: u64,
    /// Times the transmit ring was empty when the kernel looked.
    pub tx_ring_empty: u64,
}

/// An open socket. Closed when dropped, without any effect on the area's other sockets.
pub struct Socket {
    rx: Consumer<Desc>,
    tx: Producer<Desc>,
    fill: Producer<u64>,
    completion: Consumer<u64>,
    fd: OwnedFd,
    bounds: Bounds,
    lent: u32,
    in_flight: u32,
    granted: Granted,
}

impl std::fmt::Debug for Socket {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Self { fd, lent, in_flight, granted, .. } = self;
        f.debug_struct("Socket")
            .field("fd", fd)
            .field("lent", lent)
            .field("in_flight", in_flight)
            .field("granted", granted)
            .finish_non_exhaustive()
    }
}

impl Socket {
    pub(crate) fn new(
        fd: OwnedFd,
        rx: Consumer<Desc>,
        tx: Producer<Desc>,
        fill: Producer<u64>,
        completion: Consumer<u64>,
        area: &AreaHandle,
        granted: Granted,
    ) -> Self {
        let bounds = Bounds::new(area, granted.tx_metadata);
        Self { rx, tx, fill, completion, fd, bounds, lent: 0, in_flight: 0, granted }
    }

    /// What this socket got of what was asked for.
    pub fn granted(&self) -> &Granted {
        &self.granted
    }

    /// Hands received descriptors to `sink`, oldest first, and returns how many: at most `max` (at least
    /// [`MAX_CHAIN`]), and whole frames only. A frame whose end is not in the ring yet stays there. The chunks
    /// are the caller's from then on.
    ///
    /// The data begins 256 bytes into its chunk (XDP_PACKET_HEADROOM) in copy mode.
    #[inline]
    pub fn receive(&mut self, max: u32, sink: &mut impl FnMut(Desc)) -> u32 {
        let taken = receive(&mut self.rx, max, sink);
        self.lent = self.lent.saturating_sub(taken);
        taken
    }

    /// Lends chunks for receiving, by any address inside them, as many as fit; returns how many. No more of
    /// `chunks` is drawn than fit.
    #[inline]
    pub fn fill(&mut self, chunks: impl IntoIterator<Item = u64>) -> u32 {
        let added = self.fill.push(chunks);
        self.lent += added;
        added
    }

    /// Chunks in the fill ring that the kernel has not taken yet.
    pub fn fill_level(&self) -> u32 {
        self.fill.level()
    }

    /// Chunks lent for receiving that have not come back: in the fill ring, in the kernel's hands, or waiting
    /// in the receive ring.
    pub fn lent(&self) -> u32 {
        self.lent
    }

    /// Whether received descriptors wait.
    pub fn has_received(&mut self) -> bool {
        self.rx.available() > 0
    }

    /// Whether a zero-copy driver went to sleep for want of chunks; then call [`Socket::wake_receive`] after
    /// filling (poll(2) does the same). Never in copy mode.
    pub fn receive_needs_wakeup(&self) -> bool {
        self.fill.needs_wakeup()
    }

    /// Tells the driver that the fill ring has chunks again. One system call; failing means "not now".
    pub fn wake_receive(&self) {
        let _ = sys::wake_receive(self.fd.as_fd());
    }

    /// Free entries of the transmit ring.
    pub fn tx_free(&mut self) -> u32 {
        self.tx.room()
    }

    /// Adds whole frames to the transmit ring, all or none; they leave at the next [`Socket::kick`]. The chunks
    /// are the kernel's until [`Socket::reap`] returns their addresses.
    ///
    /// # Errors
    /// [`Refused`], with nothing changed.
    #[inline]
    pub fn transmit(&mut self, frames: &[Desc]) -> Result<(), Refused> {
        if !self.bounds.hold(frames) {
            return Err(Refused::Invalid);
        }
        let count = u32::try_from(frames.len()).map_err(|_| Refused::Full)?;
        if !self.tx.has_room(count) {
            return Err(Refused::Full);
        }
        self.in_flight += self.tx.push(frames.iter().copied());
        Ok(())
    }

    /// Whether the transmit ring holds descriptors that only a kick will move.
    #[inline]
    pub fn needs_kick(&self) -> bool {
        self.tx.level() > 0 && self.tx.needs_wakeup()
    }

    /// Makes the kernel transmit: one sendto(2), in copy mode of up to `granted().tx_budget` descriptors.
    pub fn kick(&mut self) -> Kick {
        match sys::wake_transmit(self.fd.as_fd()) {
            Ok(()) if self.tx.level() == 0 => Kick::Done,
            Ok(()) => Kick::Again,
            Err(error) => match error.raw_os_error() {
                Some(libc::EAGAIN | libc::EBUSY | libc::ENOBUFS) => Kick::Again,
                errno => Kick::Error(errno.unwrap_or(libc::EIO)),
            },
        }
    }

    /// Descriptors transmitted and not reaped yet.
    pub fn in_flight(&self) -> u32 {
        self.in_flight
    }

    /// Takes back what has been sent: the addresses as they were transmitted, in any order. Returns how many.
    #[inline]
    pub fn reap(&mut self, sink: &mut impl FnMut(u64)) -> u32 {
        let done = self.completion.available();
        for n in 0..done {
            sink(self.completion.peek(n));
        }
        self.completion.release(done);
        self.in_flight = self.in_flight.saturating_sub(done);
        done
    }

    /// The kernel's counters of this socket; all zero when the kernel does not answer.
    pub fn statistics(&self) -> Statistics {
        // SAFETY: a struct of integers, filled by the kernel for this option.
        let s = unsafe { sys::xdp_option::<libc::xdp_statistics>(self.fd.as_fd(), libc::XDP_STATISTICS) };
        s.map_or_else(
            |_| Statistics::default(),
            |s| Statistics {
                rx_dropped: s.rx_dropped,
                rx_invalid: s.rx_invalid_descs,
                tx_invalid: s.tx_invalid_descs,
                rx_ring_full: s.rx_ring_full,
                fill_ring_empty: s.rx_fill_ring_empty_descs,
                tx_ring_empty: s.tx_ring_empty_descs,
            },
        )
    }
}

impl AsFd for Socket {
    /// For poll(2) and epoll(7), and for the programs' socket maps.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

fn receive(rx: &mut Consumer<Desc>, max: u32, sink: &mut impl FnMut(Desc)) -> u32 {
    let limit = max.max(MAX_CHAIN);
    let waiting = rx.available().min(limit);
    let mut whole = waiting;
    while whole > 0 && rx.peek(whole - 1).more() {
        whole -= 1;
    }
    if whole == 0 && waiting == limit {
        // Longer than any frame: no kernel does this. Take it anyway, or the ring would be stuck for ever.
        whole = limit;
    }
    for n in 0..whole {
        sink(rx.peek(n));
    }
    rx.release(whole);
    whole
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ring;

    fn chains() -> impl Strategy<Value = Vec<u32>> {
        prop::collection::vec(1..=MAX_CHAIN, 0..20)
    }

    fn descs(chains: &[u32]) -> Vec<Desc> {
        let pieces = chains.iter().flat_map(|&n| (0..n).map(move |k| k + 1 < n));
        pieces.enumerate().map(|(n, more)| Desc::new(n as u64 * 4096, 60, more)).collect()
    }

    proptest! {
        #[test]
        fn receive_gives_every_descriptor_once_in_whole_frames(
            chains in chains(), cut in any::<prop::sample::Index>(), max in 0u32..100,
        ) {
            let all = descs(&chains);
            let (mut kernel, mut rx) = ring::pair::<Desc>(512, u32::MAX - 100);
            let (first, second) = all.split_at(cut.index(all.len() + 1));
            let mut got = Vec::new();
            for part in [first, second] {
                prop_assert_eq!(kernel.push(part.iter().copied()), part.len() as u32);
                loop {
                    let before = got.len();
                    let taken = receive(&mut rx, max, &mut |desc| got.push(desc));
                    prop_assert_eq!(taken as usize, got.len() - before);
                    prop_assert!(taken <= max.max(MAX_CHAIN));
                    prop_assert!(!got.last().is_some_and(Desc::more));
                    if taken == 0 {
                        break;
                    }
                }
            }
            prop_assert_eq!(got, all);
        }
    }

    #[test]
    fn a_frame_without_end_does_not_block_the_ring() {
        let (mut kernel, mut rx) = ring::pair::<Desc>(64, 0);
        kernel.push((0..40).map(|n| Desc::new(n * 4096, 60, true)));
        let mut got = 0;
        while receive(&mut rx, 20, &mut |_| got += 1) > 0 {}
        assert_eq!(got, 40);
    }
}
