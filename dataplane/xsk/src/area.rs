//! The frame area: one memory region cut into equal chunks, which sockets register as their UMEM.
//!
//! An [`Area`] needs no kernel; ports in memory use it as it is. The first socket opened through its
//! [`AreaHandle`] registers the region and becomes the *anchor*; later ones, on any device and queue of the
//! namespace, bind to the anchor with XDP_SHARED_UMEM. Addresses are byte offsets from the region's start.
//!
//! Which chunks the kernel may touch is the caller's ledger (a chunk is in the fill ring, in the transmit
//! ring, or here, never in two places). Bytes of a chunk lent to the kernel may change while they are read:
//! the data is then garbage, every access stays inside the region.

use std::os::fd::OwnedFd;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::mapping::Mapping;
use crate::open::Granted;
use crate::socket::Desc;

/// Shape of a frame area.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AreaConfig {
    /// Number of chunks. Besides the area itself, every socket opened on it costs the kernel 128 bytes of
    /// bookkeeping a chunk (`struct xdp_buff_xsk`): 2 MiB with 16384 chunks.
    pub chunks: u32,
    /// Bytes per chunk: a power of two, 2048 up to the page size (the kernel's rule for aligned chunks).
    pub chunk_size: u32,
    /// Register with room for TX metadata, so that [`TxMetadata`] can be used. Costs [`TxMetadata::LEN`]
    /// bytes in front of the data of *every* transmitted descriptor: the kernel checks each.
    pub tx_metadata: bool,
    /// Take all pages at once (MAP_POPULATE). Registering pins them anyway; in tests it is waste.
    pub populate: bool,
    /// Pages of 2 MiB, which somebody must have reserved (vm.nr_hugepages), instead of the usual ones.
    pub huge: bool,
}

impl Default for AreaConfig {
    /// 16384 chunks of 4096 bytes (64 MiB) with TX metadata.
    fn default() -> Self {
        Self { chunks: 16384, chunk_size: 4096, tx_metadata: true, populate: true, huge: false }
    }
}

/// Why an area could not be made.
#[derive(Debug, thiserror::Error)]
pub enum AreaError {
    /// The chunk size is none that the kernel registers.
    #[error("chunk size {0}: must be a power of two from 2048 to 4096")]
    ChunkSize(u32),
    /// No chunks, or more than the 4 GiB that descriptors of this crate's users can count.
    #[error("{chunks} chunks of {chunk_size} bytes: must be at least one and at most 4 GiB in all")]
    Chunks {
        /// Requested number of chunks.
        chunks: u32,
        /// Requested bytes per chunk.
        chunk_size: u32,
    },
    /// The memory is not to be had.
    #[error("cannot map {bytes} bytes for frames: {source}; lower the number of chunks or free memory")]
    Map {
        /// Bytes asked for.
        bytes: usize,
        /// The error of mmap(2).
        source: std::io::Error,
    },
    /// So many huge pages are not to be had.
    #[error(
        "cannot have {pages} huge pages of 2 MiB for frames: {source}; reserve more of them for every worker \
         (sysctl vm.nr_hugepages), or do without"
    )]
    HugePages {
        /// Pages asked for.
        pages: usize,
        /// The error of mmap(2).
        source: std::io::Error,
    },
}

/// Bytes of a huge page.
const HUGE_PAGE: usize = 2 << 20;

/// One memory region for frames. The only way to its bytes; not cloneable, so that `&mut` means alone.
#[derive(Debug)]
pub struct Area {
    handle: AreaHandle,
}

/// Names an area to [`crate::Socket::open`]; gives no access to bytes. Clone and send it freely.
#[derive(Clone, Debug)]
pub struct AreaHandle {
    region: Arc<Region>,
}

#[derive(Debug)]
struct Region {
    memory: Mapping,
    config: AreaConfig,
    anchor: Mutex<Option<Anchor>>,
}

/// The socket through which the region is known to the kernel, kept open by this copy of its descriptor.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) fd: OwnedFd,
    pub(crate) ifindex: u32,
    pub(crate) queue: u32,
    pub(crate) granted: Granted,
}

impl Area {
    /// Maps a region. No kernel feature beyond mmap is needed.
    ///
    /// # Errors
    /// [`AreaError`] when the shape is none the kernel registers or memory is short.
    pub fn new(config: AreaConfig) -> Result<Self, AreaError> {
        let AreaConfig { chunks, chunk_size, populate, huge, .. } = config;
        if !chunk_size.is_power_of_two() || !(2048..=4096).contains(&chunk_size) {
            return Err(AreaError::ChunkSize(chunk_size));
        }
        let bytes = u64::from(chunks) * u64::from(chunk_size);
        if bytes == 0 || bytes > 1 << 32 {
            return Err(AreaError::Chunks { chunks, chunk_size });
        }
        let bytes = bytes as usize;
        let memory = if huge {
            let pages = bytes.div_ceil(HUGE_PAGE);
            Mapping::huge(pages * HUGE_PAGE).map_err(|source| AreaError::HugePages { pages, source })?
        } else {
            Mapping::anonymous(bytes, populate).map_err(|source| AreaError::Map { bytes, source })?
        };
        let region = Region { memory, config, anchor: Mutex::new(None) };
        Ok(Self { handle: AreaHandle { region: Arc::new(region) } })
    }

    /// The handle by which sockets are opened on this area.
    pub fn handle(&self) -> AreaHandle {
        self.handle.clone()
    }

    /// The shape given to [`Area::new`].
    pub fn config(&self) -> AreaConfig {
        self.handle.region.config
    }

    /// Index of the chunk that holds `addr`; at or above `config().chunks` when `addr` is outside.
    #[inline]
    pub fn chunk_of(&self, addr: u64) -> u32 {
        u32::try_from(addr >> self.config().chunk_size.trailing_zeros()).unwrap_or(u32::MAX)
    }

    /// Address of the first byte of chunk `index`.
    #[inline]
    pub fn chunk_start(&self, index: u32) -> u64 {
        u64::from(index) << self.config().chunk_size.trailing_zeros()
    }

    /// `len` bytes from `addr`; empty when any of them lies outside the area, which parsers read as truncated.
    #[inline]
    pub fn bytes(&self, addr: u64, len: u32) -> &[u8] {
        match self.range(addr, len) {
            // SAFETY: the range lies inside the mapping (checked), which lives as long as `self`; bytes have no
            // invalid values. Nobody in this process writes them while `&self` lives, and the kernel writes
            // only into chunks lent to it (see the module's words on that).
            Some(start) => unsafe { std::slice::from_raw_parts(self.at(start), len as usize) },
            None => &[],
        }
    }

    /// As [`Area::bytes`], for writing; empty when out of bounds, so that a write of more is refused by the slice.
    #[inline]
    pub fn bytes_mut(&mut self, addr: u64, len: u32) -> &mut [u8] {
        match self.range(addr, len) {
            // SAFETY: as in `bytes`; `&mut self` makes it the only reference in this process.
            Some(start) => unsafe { std::slice::from_raw_parts_mut(self.at(start), len as usize) },
            None => &mut [],
        }
    }

    /// `src_len` bytes to read and `dst_len` bytes to write at once, for copies that also sum or rewrite.
    /// `None` when one is out of bounds or they overlap.
    #[inline]
    pub fn split(&mut self, src: u64, src_len: u32, dst: u64, dst_len: u32) -> Option<(&[u8], &mut [u8])> {
        let (from, to) = (self.range(src, src_len)?, self.range(dst, dst_len)?);
        if from < to + dst_len as usize && to < from + src_len as usize {
            return None;
        }
        // SAFETY: both ranges lie inside the mapping and do not overlap (checked), so the shared and the
        // exclusive slice, both bound to `&mut self`, never alias.
        Some(unsafe {
            (
                std::slice::from_raw_parts(self.at(from), src_len as usize),
                std::slice::from_raw_parts_mut(self.at(to), dst_len as usize),
            )
        })
    }

    /// Copies `len` bytes inside the area; ranges may overlap. False (and nothing copied) when out of bounds.
    #[inline]
    #[must_use]
    pub fn copy_within(&mut self, src: u64, dst: u64, len: u32) -> bool {
        let (Some(from), Some(to)) = (self.range(src, len), self.range(dst, len)) else { return false };
        // SAFETY: both ranges lie inside the mapping; `copy` allows them to overlap.
        unsafe { std::ptr::copy(self.at(from), self.at(to), len as usize) };
        true
    }

    /// Offset of `addr` when `len` bytes from it lie inside the region.
    #[inline]
    fn range(&self, addr: u64, len: u32) -> Option<usize> {
        let end = addr.checked_add(u64::from(len))?;
        (end <= self.handle.region.memory.len() as u64).then_some(addr as usize)
    }

    /// Address of the byte at `offset`, which the caller has checked with `range`.
    #[inline]
    fn at(&self, offset: usize) -> *mut u8 {
        self.handle.region.memory.base().as_ptr().wrapping_add(offset)
    }
}

impl AreaHandle {
    /// Forgets the anchor, so that its queue is free once its socket is dropped too; the next socket opened
    /// registers the region again. Sockets that are open stay as they are.
    pub fn release(&self) {
        self.anchor().take();
    }

    pub(crate) fn config(&self) -> AreaConfig {
        self.region.config
    }

    /// Whether this names `area`.
    pub(crate) fn is(&self, area: &Area) -> bool {
        Arc::ptr_eq(&self.region, &area.handle.region)
    }

    pub(crate) fn memory(&self) -> &Mapping {
        &self.region.memory
    }

    /// The anchor, locked: sockets of one area open one after the other.
    pub(crate) fn anchor(&self) -> MutexGuard<'_, Option<Anchor>> {
        self.region.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A checksum the kernel (or the NIC) completes on transmit: `struct xsk_tx_metadata` of linux/if_xdp.h
/// with XDP_TXMD_FLAGS_CHECKSUM. On a veth the packet arrives as CHECKSUM_PARTIAL, so nobody sums it.
///
/// The field at `csum_start + csum_offset` must hold the pseudo header's sum, as in a packet from a pod whose
/// checksum was left to its device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TxMetadata {
    /// First summed byte, counted from the start of the frame: the transport header.
    pub csum_start: u16,
    /// Where the sum goes, counted from `csum_start`: 16 in TCP, 6 in UDP.
    pub csum_offset: u16,
}

impl TxMetadata {
    /// Bytes in front of a descriptor's data, size of `struct xsk_tx_metadata`.
    pub const LEN: u32 = 24;

    /// Writes the metadata in front of `desc`'s data, the first descriptor of a frame, and marks `desc`.
    /// False, with nothing changed, when the area has no metadata or the room in front lies outside the chunk.
    /// Only use it on sockets whose [`Granted::tx_metadata`] is true.
    #[inline]
    #[must_use]
    pub fn attach(self, area: &mut Area, desc: &mut Desc) -> bool {
        let inside = desc.addr & u64::from(area.config().chunk_size - 1);
        if !area.config().tx_metadata || inside < u64::from(Self::LEN) {
            return false;
        }
        let room = area.bytes_mut(desc.addr - u64::from(Self::LEN), Self::LEN);
        if room.len() != Self::LEN as usize {
            return false;
        }
        // flags, then the request half of the union: csum_start, csum_offset, padding, launch_time.
        room.fill(0);
        room[..8].copy_from_slice(&u64::from(libc::XDP_TXMD_FLAGS_CHECKSUM).to_ne_bytes());
        room[8..10].copy_from_slice(&self.csum_start.to_ne_bytes());
        room[10..12].copy_from_slice(&self.csum_offset.to_ne_bytes());
        desc.options |= libc::XDP_TX_METADATA;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn small() -> Area {
        Area::new(AreaConfig { chunks: 4, populate: false, ..AreaConfig::default() }).unwrap()
    }

    #[test]
    fn huge_pages_are_had_or_asked_for() {
        match Area::new(AreaConfig { chunks: 1000, huge: true, ..AreaConfig::default() }) {
            Ok(area) => assert_eq!(area.bytes(999 * 4096, 4096).len(), 4096),
            Err(error) => {
                let text = error.to_string();
                assert!(text.contains("2 huge pages") && text.contains("vm.nr_hugepages"), "{text}");
            }
        }
    }

    #[test]
    fn shapes_the_kernel_would_refuse_are_refused() {
        for chunk_size in [0, 1024, 3000, 8192] {
            assert!(matches!(
                Area::new(AreaConfig { chunk_size, ..AreaConfig::default() }),
                Err(AreaError::ChunkSize(_))
            ));
        }
        for chunks in [0, u32::MAX] {
            let config = AreaConfig { chunks, ..AreaConfig::default() };
            assert!(matches!(Area::new(config), Err(AreaError::Chunks { .. })));
        }
    }

    #[test]
    fn bytes_outside_are_empty_and_never_a_panic() {
        let mut area = small();
        assert_eq!(area.bytes(0, 16384).len(), 16384);
        for (addr, len) in [(0, 16385), (16384, 1), (16383, 2), (u64::MAX, 1), (u64::MAX, u32::MAX)] {
            assert!(area.bytes(addr, len).is_empty());
            assert!(area.bytes_mut(addr, len).is_empty());
            assert!(!area.copy_within(addr, 0, len));
            assert!(!area.copy_within(0, addr, len));
            assert!(area.split(addr, len, 0, 1).is_none());
        }
        assert!(area.chunk_of(u64::MAX) >= 4);
    }

    #[test]
    fn split_gives_disjoint_slices_only() {
        let mut area = small();
        area.bytes_mut(100, 4).copy_from_slice(b"abcd");
        let (src, dst) = area.split(100, 4, 8000, 4).unwrap();
        dst.copy_from_slice(src);
        assert_eq!(area.bytes(8000, 4), b"abcd");
        assert!(area.split(100, 4, 104, 4).is_some());
        assert!(area.split(100, 4, 103, 4).is_none());
        assert!(area.split(103, 4, 100, 4).is_none());
        assert!(area.copy_within(100, 102, 4));
        assert_eq!(area.bytes(100, 6), b"ababcd");
    }

    #[test]
    fn chunk_and_address_are_inverse() {
        let area = small();
        for index in 0..4 {
            assert_eq!(area.chunk_of(area.chunk_start(index) + 4095), index);
        }
    }

    #[test]
    fn metadata_needs_room_in_its_own_chunk() {
        let mut area = small();
        let metadata = TxMetadata { csum_start: 34, csum_offset: 16 };
        let mut cramped = Desc { addr: 4096 + 23, len: 60, options: 0 };
        assert!(!metadata.attach(&mut area, &mut cramped));
        assert_eq!(cramped.options, 0);
        let mut desc = Desc { addr: 4096 + 256, len: 60, options: libc::XDP_PKT_CONTD };
        assert!(metadata.attach(&mut area, &mut desc));
        assert_eq!(desc.options, libc::XDP_PKT_CONTD | libc::XDP_TX_METADATA);
        assert_eq!(area.bytes(4096 + 256 - 24, 12), [2, 0, 0, 0, 0, 0, 0, 0, 34, 0, 16, 0]);
        let mut outside = Desc { addr: 1 << 40 | 256, len: 60, options: 0 };
        assert!(!metadata.attach(&mut area, &mut outside));
    }
}
