//! The ICMP messages that a router sends: echo replies and errors (RFC 792, RFC 1812 section 4.3).

use std::net::Ipv4Addr;

use zerocopy::network_endian::U16;

use super::{
    ADMIN_PROHIBITED, DESTINATION_UNREACHABLE, ECHO_REPLY, FRAGMENTATION_NEEDED, HOST_UNREACHABLE,
    IcmpHeader, NET_UNREACHABLE, PORT_UNREACHABLE, PROTOCOL_UNREACHABLE, TIME_EXCEEDED, TTL_EXCEEDED,
};
use crate::checksum::{Delta, copy_and_sum, sum};
use crate::ipv4::{Ipv4Header, NewHeader, Protocol, is_valid_source};
use crate::parse::{Fragment, Ipv4Packet, L4, ParseError};
use crate::{Header, NoRoom};

/// Longest ICMP error, IPv4 header included, in bytes: it quotes "as much of the original datagram as possible
/// without the length of the ICMP datagram exceeding 576 bytes" (RFC 1812, 4.3.2.3).
pub const ERROR_MAX_LEN: usize = 576;

/// Time to live of packets that the dataplane itself sends (RFC 1340).
const TTL: u8 = 64;
/// Precedence 6, internetwork control: "ICMP error messages SHOULD have their IP Precedence field set" to it
/// (RFC 1812, 4.3.2.5).
const ERROR_TOS: u8 = 0xc0;

/// An error that a router tells the sender of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IcmpError {
    /// There is no route to the destination.
    NetUnreachable,
    /// The destination does not answer on its network.
    HostUnreachable,
    /// Nothing takes the packet's protocol.
    ProtocolUnreachable,
    /// Nothing listens on the packet's port; also a Service without endpoints.
    PortUnreachable,
    /// The packet is too long for the next hop and may not be fragmented.
    FragmentationNeeded {
        /// Longest packet that the next hop takes, IPv4 header included, in bytes.
        next_hop_mtu: u16,
    },
    /// A policy forbids the packet.
    AdminProhibited,
    /// The packet's time to live ran out.
    TimeExceeded,
}

impl IcmpError {
    fn header(self) -> IcmpHeader {
        let (icmp_type, code) = match self {
            Self::NetUnreachable => (DESTINATION_UNREACHABLE, NET_UNREACHABLE),
            Self::HostUnreachable => (DESTINATION_UNREACHABLE, HOST_UNREACHABLE),
            Self::ProtocolUnreachable => (DESTINATION_UNREACHABLE, PROTOCOL_UNREACHABLE),
            Self::PortUnreachable => (DESTINATION_UNREACHABLE, PORT_UNREACHABLE),
            Self::FragmentationNeeded { .. } => (DESTINATION_UNREACHABLE, FRAGMENTATION_NEEDED),
            Self::AdminProhibited => (DESTINATION_UNREACHABLE, ADMIN_PROHIBITED),
            Self::TimeExceeded => (TIME_EXCEEDED, TTL_EXCEEDED),
        };
        let mtu = match self {
            Self::FragmentationNeeded { next_hop_mtu } => next_hop_mtu,
            _ => 0,
        };
        IcmpHeader { icmp_type, code, checksum: U16::ZERO, rest_high: U16::ZERO, rest_low: U16::new(mtu) }
    }
}

/// Whether an ICMP error may be sent about a packet (RFC 1122, 3.2.2; RFC 1812, 4.3.2.7).
///
/// Never about an ICMP error, a fragment other than the first, a packet to many receivers (`link_broadcast`
/// says that the frame came as link-layer broadcast or multicast), or from a source that is not one host.
pub fn may_answer_with_error(packet: &Ipv4Packet, link_broadcast: bool) -> bool {
    let to_many = link_broadcast || packet.dst.is_multicast() || packet.dst.is_broadcast();
    let about_error = matches!(packet.l4, L4::IcmpError { .. });
    let later = matches!(packet.fragment, Fragment::Later { .. });
    !to_many && !about_error && !later && is_valid_source(packet.src)
}

/// Writes an ICMP error from `from` to the sender of `offending`, and gives its length in bytes.
///
/// `packet` is what the parser said of `offending`, whose bytes from the IPv4 header on are quoted as far as
/// they are at hand. `id` is the identification of the new packet. Ask [`may_answer_with_error`] first.
///
/// # Errors
/// [`NoRoom`] when `out` is too short; [`ERROR_MAX_LEN`] bytes always suffice.
pub fn write_error(
    out: &mut [u8],
    error: IcmpError,
    from: Ipv4Addr,
    id: u16,
    packet: &Ipv4Packet,
    offending: &[u8],
) -> Result<usize, NoRoom> {
    const HEADERS: usize = Ipv4Header::LEN + IcmpHeader::LEN;
    let quote_len = offending.len().min(usize::from(packet.total_len)).min(ERROR_MAX_LEN - HEADERS);
    let len = HEADERS + quote_len;
    let have = out.len();
    let out = out.get_mut(..len).ok_or(NoRoom { need: len, have })?;

    let ip = NewHeader {
        src: from,
        dst: packet.src,
        protocol: Protocol::ICMP,
        tos: ERROR_TOS,
        ttl: TTL,
        id,
        total_len: len as u16,
    };
    Ipv4Header::from(ip).put(out)?;
    let (header, quote) = out[Ipv4Header::LEN..].split_at_mut(IcmpHeader::LEN);
    error.header().put(header)?;
    let checksum = (sum(header) + copy_and_sum(quote, &offending[..quote_len])).finish();
    if let Some(icmp) = IcmpHeader::of_mut(header) {
        icmp.checksum.set(checksum);
    }
    Ok(len)
}

/// Makes the reply of an echo request in its own bytes: addresses swapped, a fresh time to live, all else kept
/// (RFC 792: "the data received in the echo message must be returned").
///
/// `bytes` begin with the IPv4 header that the parser described as `packet`; data may go on elsewhere.
///
/// # Errors
/// [`ParseError::HeaderSplit`] when the headers are not in `bytes`; nothing is changed then.
pub fn echo_reply_in_place(bytes: &mut [u8], packet: &Ipv4Packet) -> Result<(), ParseError> {
    if bytes.len() < packet.payload_offset() {
        return Err(ParseError::HeaderSplit);
    }
    let (header, message) = bytes.split_at_mut(packet.l4_offset());
    let icmp = IcmpHeader::of_mut(message).ok_or(ParseError::HeaderSplit)?;
    let ip = Ipv4Header::of_mut(header).ok_or(ParseError::HeaderSplit)?;
    // A sum does not care about the order of its terms, so the swap leaves the header checksum right.
    ip.set_addresses(packet.dst, packet.src, Delta::NONE);
    ip.set_ttl(TTL);
    let word = |icmp_type| u16::from_be_bytes([icmp_type, icmp.code]);
    let delta = Delta::new(word(icmp.icmp_type), word(ECHO_REPLY));
    icmp.checksum.set(delta.apply(icmp.checksum.get()));
    icmp.icmp_type = ECHO_REPLY;
    Ok(())
}
