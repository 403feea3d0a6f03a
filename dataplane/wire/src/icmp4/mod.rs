//! ICMP for IPv4 (RFC 792): the header, the messages a router sends, and translation of those it passes on.

mod build;
mod quote;
#[cfg(test)]
mod tests;

use zerocopy::network_endian::U16;
use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout, Unaligned};

pub use build::{ERROR_MAX_LEN, IcmpError, echo_reply_in_place, may_answer_with_error, write_error};
pub use quote::{Quoted, QuotedL4, quoted, rewrite_quoted};

use crate::Header;

/// Type: echo reply.
pub const ECHO_REPLY: u8 = 0;
/// Type: destination unreachable.
pub const DESTINATION_UNREACHABLE: u8 = 3;
/// Type: source quench (deprecated by RFC 6633).
pub const SOURCE_QUENCH: u8 = 4;
/// Type: redirect.
pub const REDIRECT: u8 = 5;
/// Type: echo request.
pub const ECHO_REQUEST: u8 = 8;
/// Type: time exceeded.
pub const TIME_EXCEEDED: u8 = 11;
/// Type: parameter problem.
pub const PARAMETER_PROBLEM: u8 = 12;

/// Code of [`DESTINATION_UNREACHABLE`]: no route to the network.
pub const NET_UNREACHABLE: u8 = 0;
/// Code of [`DESTINATION_UNREACHABLE`]: the host does not answer ARP.
pub const HOST_UNREACHABLE: u8 = 1;
/// Code of [`DESTINATION_UNREACHABLE`]: no process takes the protocol.
pub const PROTOCOL_UNREACHABLE: u8 = 2;
/// Code of [`DESTINATION_UNREACHABLE`]: no process listens on the port.
pub const PORT_UNREACHABLE: u8 = 3;
/// Code of [`DESTINATION_UNREACHABLE`]: too long for the next hop and DF is set (RFC 1191).
pub const FRAGMENTATION_NEEDED: u8 = 4;
/// Code of [`DESTINATION_UNREACHABLE`]: filtered (RFC 1812, 5.2.7.1).
pub const ADMIN_PROHIBITED: u8 = 13;
/// Code of [`TIME_EXCEEDED`]: in transit.
pub const TTL_EXCEEDED: u8 = 0;

/// The first 8 bytes of any ICMP message in place.
#[derive(Debug, Clone, Copy, PartialEq, Eq, FromBytes, IntoBytes, KnownLayout, Immutable, Unaligned)]
#[repr(C)]
pub struct IcmpHeader {
    /// Type.
    pub icmp_type: u8,
    /// Code, whose meaning depends on the type.
    pub code: u8,
    /// Checksum over the whole ICMP message; there is no pseudo-header.
    pub checksum: U16,
    /// Echo: identifier. Errors: unused, or a length (RFC 4884).
    pub rest_high: U16,
    /// Echo: sequence number. Fragmentation needed: MTU of the next hop (RFC 1191, 4).
    pub rest_low: U16,
}

impl Header for IcmpHeader {}

impl IcmpHeader {
    /// Identifier of an echo request or reply.
    #[inline]
    pub fn echo_id(&self) -> u16 {
        self.rest_high.get()
    }

    /// MTU of the next hop in a fragmentation-needed error, in bytes; 0 from routers older than RFC 1191.
    #[inline]
    pub fn next_hop_mtu(&self) -> u16 {
        self.rest_low.get()
    }
}

/// Whether messages of this type are errors, which quote a packet and must not be answered by errors
/// (RFC 1122, 3.2.2).
#[inline]
pub const fn is_error(icmp_type: u8) -> bool {
    matches!(
        icmp_type,
        DESTINATION_UNREACHABLE | SOURCE_QUENCH | REDIRECT | TIME_EXCEEDED | PARAMETER_PROBLEM
    )
}
