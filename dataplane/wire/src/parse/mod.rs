//! The parser: from the first bytes of a frame to a small [`Ipv4Packet`] that says where everything is.
//!
//! Every frame from a pod, the host or the wire goes through here before anything else looks at it, so this is
//! where lying lengths end. A frame may be spread over several chunks: the parser gets the bytes of the first
//! chunk and the length of the whole, and asks only for the headers to be contiguous.
//!
//! What always holds for an [`Ipv4Packet`]: `header_len <= l4 offset <= payload offset <= total_len <= frame`,
//! and all headers lie in the bytes that were given.

mod l4;
mod options;
#[cfg(test)]
mod tests;

use std::net::Ipv4Addr;

use thiserror::Error;

use crate::Header;
use crate::ethernet::{EtherType, EthernetHeader, MacAddr};
use crate::ipv4::{Ipv4Header, Protocol, header_checksum_is_right};
use crate::tcp::{self, TcpFlags};
use crate::udp;

/// What the Ethernet header of a frame says. What it carries begins [`EthernetHeader::LEN`] bytes into the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EtherFrame {
    /// Destination address.
    pub dst: MacAddr,
    /// Source address.
    pub src: MacAddr,
    /// What the frame carries.
    pub ethertype: EtherType,
    /// Length of what it carries, padding included, in bytes.
    pub l3_len: usize,
}

/// What the headers of an IPv4 packet say. All offsets and lengths are in bytes from the IPv4 header on.
///
/// Bytes of the frame behind `total_len` are padding (Ethernet's 60-byte minimum): trim them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Ipv4Packet {
    /// Source address.
    pub src: Ipv4Addr,
    /// Destination address.
    pub dst: Ipv4Addr,
    /// What the packet carries.
    pub protocol: Protocol,
    /// Time to live.
    pub ttl: u8,
    /// Type of service: DSCP and ECN.
    pub tos: u8,
    /// Length of the IPv4 header with its options: 20 to 60.
    pub header_len: u8,
    /// Length of the packet, IPv4 header included.
    pub total_len: u16,
    /// Identification.
    pub id: u16,
    /// Routers may not fragment the packet.
    pub dont_fragment: bool,
    /// Which part of a datagram this is.
    pub fragment: Fragment,
    /// What the header behind the IPv4 header says.
    pub l4: L4,
}

/// Which part of a datagram a packet holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fragment {
    /// All of it.
    Whole,
    /// The beginning, with the complete L4 header; more fragments follow.
    First,
    /// A part without L4 header.
    Later {
        /// Where in the datagram's payload it belongs, in bytes.
        offset: u16,
        /// Whether more fragments follow.
        more: bool,
    },
}

/// What the header behind the IPv4 header says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum L4 {
    /// A TCP segment.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Control bits.
        flags: TcpFlags,
        /// Length of the TCP header with its options: 20 to 60.
        header_len: u8,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Length of the datagram, UDP header included; of all of it when this is its first fragment.
        length: u16,
    },
    /// An SCTP packet.
    Sctp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
    },
    /// An ICMP echo request or reply.
    IcmpEcho {
        /// Request, else reply.
        request: bool,
        /// Identifier.
        id: u16,
    },
    /// An ICMP error, which quotes the packet that it is about: see [`crate::icmp4::quoted`].
    IcmpError {
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
    },
    /// Another ICMP message.
    Icmp {
        /// ICMP type.
        icmp_type: u8,
        /// ICMP code.
        code: u8,
    },
    /// A protocol that is not looked into.
    Other,
    /// No header here: the packet is a later fragment.
    Later,
}

impl L4 {
    /// Source and destination port, by which flows are told apart.
    ///
    /// An ICMP echo identifier stands as the source port of a request and as the destination port of its
    /// reply, the other one being 0, so that swapping both ends of a request gives its reply, as with ports.
    /// `None` where there is neither.
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match *self {
            Self::Tcp { src_port, dst_port, .. }
            | Self::Udp { src_port, dst_port, .. }
            | Self::Sctp { src_port, dst_port } => Some((src_port, dst_port)),
            Self::IcmpEcho { request: true, id } => Some((id, 0)),
            Self::IcmpEcho { request: false, id } => Some((0, id)),
            Self::IcmpError { .. } | Self::Icmp { .. } | Self::Other | Self::Later => None,
        }
    }

    /// Length of the header, in bytes; 0 where none is known.
    #[inline]
    pub const fn header_len(&self) -> usize {
        match *self {
            Self::Tcp { header_len, .. } => header_len as usize,
            Self::Udp { .. } | Self::IcmpEcho { .. } | Self::IcmpError { .. } | Self::Icmp { .. } => 8,
            Self::Sctp { .. } => 12,
            Self::Other | Self::Later => 0,
        }
    }
}

impl Ipv4Packet {
    /// Where the L4 header begins (in a later fragment: the payload).
    #[inline]
    pub const fn l4_offset(&self) -> usize {
        self.header_len as usize
    }

    /// Length of all that follows the IPv4 header.
    #[inline]
    pub const fn l4_len(&self) -> u16 {
        self.total_len - self.header_len as u16
    }

    /// Where the payload of the L4 header begins.
    #[inline]
    pub const fn payload_offset(&self) -> usize {
        self.l4_offset() + self.l4.header_len()
    }

    /// Length of the payload behind the L4 header, by the IPv4 length; UDP's own length may be less.
    #[inline]
    pub const fn payload_len(&self) -> usize {
        self.total_len as usize - self.payload_offset()
    }

    /// Where the checksum field of TCP or UDP lies; `None` for all else.
    #[inline]
    pub const fn l4_checksum_offset(&self) -> Option<usize> {
        match self.l4 {
            L4::Tcp { .. } => Some(self.l4_offset() + tcp::CHECKSUM_OFFSET),
            L4::Udp { .. } => Some(self.l4_offset() + udp::CHECKSUM_OFFSET),
            _ => None,
        }
    }

    /// Whether the packet is a fragment of a datagram.
    #[inline]
    pub fn is_fragment(&self) -> bool {
        self.fragment != Fragment::Whole
    }
}

/// Why a frame is not taken. Each is a reason for a counted drop.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
pub enum ParseError {
    /// The frame is shorter than an Ethernet header.
    #[error("frame shorter than an Ethernet header")]
    TruncatedEthernet,
    /// The headers are spread over several chunks of the frame.
    #[error("headers not contiguous: pull them into the first chunk")]
    HeaderSplit,
    /// The version field is not 4.
    #[error("IP version is not 4")]
    NotIpv4,
    /// The frame ends within the IPv4 header.
    #[error("frame ends within the IPv4 header")]
    TruncatedIpv4,
    /// The header length field is below 5 words (RFC 791, 3.1).
    #[error("IPv4 header length below 20 bytes")]
    BadIhl,
    /// The total length is below the header's or beyond the frame's end.
    #[error("IPv4 total length does not fit header and frame")]
    BadTotalLength,
    /// The header checksum is wrong.
    #[error("wrong IPv4 header checksum")]
    BadIpv4Checksum,
    /// An option's length is wrong (RFC 791, 3.1).
    #[error("malformed IPv4 options")]
    BadOptions,
    /// Loose or strict source routing, which lets a sender go around filters (RFC 7126, 4.3 and 4.4: drop).
    #[error("IPv4 source routing option")]
    SourceRoute,
    /// A fragment that is empty, ends beyond 65535 bytes, or is not the last and not a multiple of 8 bytes long.
    #[error("impossible IPv4 fragment")]
    BadFragment,
    /// A first fragment without the complete TCP, UDP or ICMP header, or a TCP fragment at offset 8, which would
    /// overwrite the flags of one (RFC 1858, 3 and 4).
    #[error("IPv4 fragment cuts the header of what it carries")]
    TinyFragment,
    /// The packet ends within the TCP, UDP or ICMP header.
    #[error("packet ends within the TCP, UDP or ICMP header")]
    TruncatedL4,
    /// The TCP header length is below 20 bytes or beyond the packet's end.
    #[error("TCP header length does not fit the packet")]
    BadTcpHeaderLength,
    /// The UDP length is below 8 or beyond the packet's end.
    #[error("UDP length does not fit the packet")]
    BadUdpLength,
}

/// Reads the Ethernet header of a frame of `frame_len` bytes, of which `first_bytes` are at hand.
///
/// # Errors
/// [`ParseError::TruncatedEthernet`] and [`ParseError::HeaderSplit`].
#[inline]
pub fn parse_ethernet(first_bytes: &[u8], frame_len: usize) -> Result<EtherFrame, ParseError> {
    if frame_len < EthernetHeader::LEN {
        return Err(ParseError::TruncatedEthernet);
    }
    let header = EthernetHeader::of(first_bytes).ok_or(ParseError::HeaderSplit)?;
    Ok(EtherFrame {
        dst: header.dst,
        src: header.src,
        ethertype: header.ethertype(),
        l3_len: frame_len - EthernetHeader::LEN,
    })
}

/// Reads the headers of an IPv4 packet and checks all that they claim.
///
/// `bytes` are those at hand from the IPv4 header on: the headers at least, the packet may go on elsewhere.
/// `l3_len` is the length of the frame from the IPv4 header on, padding and further chunks included.
///
/// # Errors
/// The first of [`ParseError`]'s reasons that applies.
#[inline(always)]
pub fn parse_ipv4(bytes: &[u8], l3_len: usize) -> Result<Ipv4Packet, ParseError> {
    let header = fixed_header(bytes, l3_len)?;
    let header_len = header.header_len();
    let total_len = header.total_len.get();
    let full_header = bytes.get(..header_len).ok_or(ParseError::HeaderSplit)?;
    if !header_checksum_is_right(full_header) {
        return Err(ParseError::BadIpv4Checksum);
    }
    if header_len > Ipv4Header::LEN {
        options::check(&full_header[Ipv4Header::LEN..])?;
    }

    let protocol = Protocol(header.protocol);
    let l4_len = total_len - header_len as u16;
    let fragment = fragment(header, l4_len)?;
    let l4_bytes = &bytes[header_len..bytes.len().min(usize::from(total_len))];
    Ok(Ipv4Packet {
        src: header.src(),
        dst: header.dst(),
        protocol,
        ttl: header.ttl,
        tos: header.tos,
        header_len: header_len as u8,
        total_len,
        id: header.id.get(),
        dont_fragment: header.dont_fragment(),
        fragment,
        l4: l4::parse(protocol, fragment, l4_bytes, usize::from(l4_len))?,
    })
}

/// The fixed header, once its lengths fit each other and the frame.
#[inline(always)]
fn fixed_header(bytes: &[u8], l3_len: usize) -> Result<&Ipv4Header, ParseError> {
    if l3_len < Ipv4Header::LEN {
        return Err(ParseError::TruncatedIpv4);
    }
    let header = Ipv4Header::of(bytes).ok_or(ParseError::HeaderSplit)?;
    if header.version_ihl >> 4 != 4 {
        return Err(ParseError::NotIpv4);
    }
    let header_len = header.header_len();
    if header_len < Ipv4Header::LEN {
        return Err(ParseError::BadIhl);
    }
    if header_len > l3_len {
        return Err(ParseError::TruncatedIpv4);
    }
    let total_len = usize::from(header.total_len.get());
    if total_len < header_len || total_len > l3_len {
        return Err(ParseError::BadTotalLength);
    }
    Ok(header)
}

/// Which fragment the packet is; `len` is that of its payload.
#[inline]
fn fragment(header: &Ipv4Header, len: u16) -> Result<Fragment, ParseError> {
    let (offset, more) = (header.fragment_offset(), header.more_fragments());
    if offset == 0 && !more {
        return Ok(Fragment::Whole);
    }
    // The datagram put together has a header of 20 bytes at least and no more than 65535 bytes in all.
    let beyond_end = usize::from(offset) + usize::from(len) + Ipv4Header::LEN > usize::from(u16::MAX);
    if len == 0 || beyond_end || (more && !len.is_multiple_of(8)) {
        return Err(ParseError::BadFragment);
    }
    if offset == 0 {
        return Ok(Fragment::First);
    }
    if offset == 8 && header.protocol == Protocol::TCP.0 {
        return Err(ParseError::TinyFragment);
    }
    Ok(Fragment::Later { offset, more })
}
