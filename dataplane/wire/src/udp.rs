//! The UDP header (RFC 768).

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

use crate::Header;

/// Offset of the checksum field in the header.
pub const CHECKSUM_OFFSET: usize = 6;

/// A UDP header in place: 8 bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct UdpHeader {
    /// Source port.
    pub src_port: U16,
    /// Destination port.
    pub dst_port: U16,
    /// Length of header and payload, in bytes.
    pub length: U16,
    /// Checksum over pseudo-header, header and payload; 0 when the sender computed none.
    pub checksum: U16,
}

impl Header for UdpHeader {}
