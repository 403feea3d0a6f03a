//! The packet quoted in an ICMP error, and its translation (RFC 5508, 4.2).
//!
//! An error about a translated packet comes to the translator quoting what it sent. The sender of the original
//! packet only recognises the error when the quote says what it had sent itself, so addresses and ports in the
//! quote are translated back, and every checksum that covers them.

use std::net::Ipv4Addr;

use super::{ECHO_REPLY, ECHO_REQUEST, IcmpHeader, is_error};
use crate::Header;
use crate::checksum::Delta;
use crate::ipv4::{Ipv4Header, Protocol};
use crate::nat::Rewrite;
use crate::{tcp, udp};

/// Where the quoted packet begins in an ICMP message.
const QUOTE_OFFSET: usize = IcmpHeader::LEN;
/// What every quote holds of the L4 header (RFC 792: "the first 64 bits of the original datagram's data").
const MIN_L4: usize = 8;
/// Where the identifier lies in an echo message.
const ECHO_ID: usize = 4;

/// The packet quoted in an ICMP error. Offsets are in bytes from the start of the ICMP header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quoted {
    /// Source of the quoted packet, who is the receiver of the error.
    pub src: Ipv4Addr,
    /// Destination of the quoted packet.
    pub dst: Ipv4Addr,
    /// What the quoted packet carries.
    pub protocol: Protocol,
    /// Length of the quoted packet when it was sent; the quote is usually shorter.
    pub total_len: u16,
    /// Where its IPv4 header begins: 8.
    pub header_offset: usize,
    /// Where its L4 header begins.
    pub l4_offset: usize,
    /// What the quote says of its L4 header.
    pub l4: QuotedL4,
    /// Where its L4 checksum lies: `None` when the quote ends before it, when there is none, or for UDP without.
    pub l4_checksum_offset: Option<usize>,
}

/// What the first 8 bytes of a quoted L4 header say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotedL4 {
    /// TCP, UDP or SCTP.
    Ports {
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
    /// Another protocol, a later fragment, or fewer than 8 bytes.
    Other,
}

impl QuotedL4 {
    /// Source and destination port, and echo identifiers in their place, as [`crate::parse::L4::ports`] has them.
    #[inline]
    pub const fn ports(&self) -> Option<(u16, u16)> {
        match *self {
            Self::Ports { src_port, dst_port } => Some((src_port, dst_port)),
            Self::IcmpEcho { request: true, id } => Some((id, 0)),
            Self::IcmpEcho { request: false, id } => Some((0, id)),
            Self::Other => None,
        }
    }
}

/// Reads the packet quoted in the ICMP error `message`, which begins with the ICMP header and is as long as the
/// bytes at hand of the IPv4 payload.
///
/// `None` when the message is no error or does not quote an IPv4 header and, unless the quoted packet is
/// shorter itself, 8 bytes more.
pub fn quoted(message: &[u8]) -> Option<Quoted> {
    IcmpHeader::of(message).filter(|icmp| is_error(icmp.icmp_type))?;
    let quote = &message[QUOTE_OFFSET..];
    let ip = Ipv4Header::of(quote)?;
    let header_len = ip.header_len();
    let total_len = ip.total_len.get();
    let well_formed =
        ip.version_ihl >> 4 == 4 && header_len >= Ipv4Header::LEN && usize::from(total_len) >= header_len;
    if !well_formed {
        return None;
    }
    // What is behind the quoted packet's end is no part of it: RFC 4884 pads and appends.
    let l4 = quote.get(header_len..quote.len().min(usize::from(total_len)))?;
    if l4.len() < MIN_L4.min(usize::from(total_len) - header_len) {
        return None;
    }
    let protocol = Protocol(ip.protocol);
    let l4_offset = QUOTE_OFFSET + header_len;
    let l4_header = if ip.fragment_offset() == 0 { l4_header(protocol, l4) } else { QuotedL4::Other };
    let l4_checksum_offset = match l4_header {
        QuotedL4::Other => None,
        _ => checksum_offset(protocol, l4).map(|offset| l4_offset + offset),
    };
    Some(Quoted {
        src: ip.src(),
        dst: ip.dst(),
        protocol,
        total_len,
        header_offset: QUOTE_OFFSET,
        l4_offset,
        l4: l4_header,
        l4_checksum_offset,
    })
}

/// Rewrites addresses and ports of the quoted packet and updates every checksum that covers them: of the quoted
/// IPv4 header, of the quoted L4 header where it lies in the quote, and of the ICMP error around them.
///
/// `message` is what [`quoted`] described as `quoted`; `new` holds the new values in the quoted packet's own
/// direction. Ports of `new` that the quoted
/// packet does not have are not used. Checksums that were wrong stay so.
pub fn rewrite_quoted(message: &mut [u8], quoted: &Quoted, new: &Rewrite) {
    let address_delta = Delta::of_addr(quoted.src, new.src).and(Delta::of_addr(quoted.dst, new.dst));
    let mut outer = address_delta;
    let Some(ip) = message.get_mut(quoted.header_offset..).and_then(Ipv4Header::of_mut) else {
        return;
    };
    let old_checksum = ip.checksum.get();
    ip.set_addresses(new.src, new.dst, address_delta);
    outer = outer.and(Delta::new(old_checksum, ip.checksum.get()));

    let mut covered = if quoted.protocol == Protocol::ICMP { Delta::NONE } else { address_delta };
    for (offset, old, new) in port_fields(quoted, new).into_iter().flatten() {
        let delta = Delta::new(old, new);
        covered = covered.and(delta);
        outer = outer.and(delta);
        put_word(message, offset, new);
    }
    if let Some(offset) = quoted.l4_checksum_offset {
        let old = word(message, offset);
        let new = if quoted.protocol == Protocol::UDP { covered.apply_udp(old) } else { covered.apply(old) };
        outer = outer.and(Delta::new(old, new));
        put_word(message, offset, new);
    }
    if let Some(icmp) = IcmpHeader::of_mut(message) {
        icmp.checksum.set(outer.apply(icmp.checksum.get()));
    }
}

fn l4_header(protocol: Protocol, l4: &[u8]) -> QuotedL4 {
    if l4.len() < MIN_L4 {
        return QuotedL4::Other;
    }
    match (protocol, l4[0]) {
        (Protocol::TCP | Protocol::UDP | Protocol::SCTP, _) => {
            QuotedL4::Ports { src_port: word(l4, 0), dst_port: word(l4, 2) }
        }
        (Protocol::ICMP, ECHO_REQUEST) => QuotedL4::IcmpEcho { request: true, id: word(l4, ECHO_ID) },
        (Protocol::ICMP, ECHO_REPLY) => QuotedL4::IcmpEcho { request: false, id: word(l4, ECHO_ID) },
        _ => QuotedL4::Other,
    }
}

/// Where in the quoted L4 header its checksum lies, if the quote holds it and it is in use.
fn checksum_offset(protocol: Protocol, l4: &[u8]) -> Option<usize> {
    let offset = match protocol {
        Protocol::TCP => tcp::CHECKSUM_OFFSET,
        Protocol::UDP => udp::CHECKSUM_OFFSET,
        Protocol::ICMP => 2,
        _ => return None,
    };
    let in_use = l4.len() >= offset + 2 && (protocol != Protocol::UDP || word(l4, offset) != 0);
    in_use.then_some(offset)
}

/// The fields that hold ports or an echo identifier, as (offset, old value, new value).
fn port_fields(quoted: &Quoted, new: &Rewrite) -> [Option<(usize, u16, u16)>; 2] {
    let l4 = quoted.l4_offset;
    match quoted.l4 {
        QuotedL4::Ports { src_port, dst_port } => {
            [Some((l4, src_port, new.src_port)), Some((l4 + 2, dst_port, new.dst_port))]
        }
        QuotedL4::IcmpEcho { request, id } => [Some((l4 + ECHO_ID, id, new.echo_id(request))), None],
        QuotedL4::Other => [None, None],
    }
}

fn word(bytes: &[u8], offset: usize) -> u16 {
    match bytes.get(offset..offset + 2) {
        Some(&[high, low]) => u16::from_be_bytes([high, low]),
        _ => 0,
    }
}

fn put_word(bytes: &mut [u8], offset: usize, word: u16) {
    if let Some(field) = bytes.get_mut(offset..offset + 2) {
        field.copy_from_slice(&word.to_be_bytes());
    }
}
