//! The header behind the IPv4 header: TCP, UDP, SCTP or ICMP.

use super::{Fragment, L4, ParseError};
use crate::Header;
use crate::icmp4::{self, IcmpHeader};
use crate::ipv4::Protocol;
use crate::sctp::SctpHeader;
use crate::tcp::TcpHeader;
use crate::udp::UdpHeader;

/// Reads the header at the front of `bytes`, which are those at hand of `len` in all.
#[inline(always)]
pub(super) fn parse(
    protocol: Protocol,
    fragment: Fragment,
    bytes: &[u8],
    len: usize,
) -> Result<L4, ParseError> {
    let short = match fragment {
        Fragment::Whole => ParseError::TruncatedL4,
        Fragment::First => ParseError::TinyFragment,
        Fragment::Later { .. } => return Ok(L4::Later),
    };
    match protocol {
        Protocol::TCP => tcp(bytes, len, short),
        Protocol::UDP => udp(bytes, len, short, fragment),
        Protocol::ICMP => icmp(bytes, len, short),
        Protocol::SCTP => sctp(bytes, len, short),
        _ => Ok(L4::Other),
    }
}

#[inline(always)]
fn tcp(bytes: &[u8], len: usize, short: ParseError) -> Result<L4, ParseError> {
    let header: &TcpHeader = view(bytes, len, short)?;
    let header_len = header.header_len();
    if header_len < TcpHeader::LEN {
        return Err(ParseError::BadTcpHeaderLength);
    }
    if header_len > len {
        // A first fragment may end within the options of a segment that is all right.
        return Err(if short == ParseError::TinyFragment { short } else { ParseError::BadTcpHeaderLength });
    }
    if header_len > bytes.len() {
        return Err(ParseError::HeaderSplit);
    }
    Ok(L4::Tcp {
        src_port: header.src_port.get(),
        dst_port: header.dst_port.get(),
        flags: header.flags(),
        header_len: header_len as u8,
    })
}

#[inline(always)]
fn udp(bytes: &[u8], len: usize, short: ParseError, fragment: Fragment) -> Result<L4, ParseError> {
    let header: &UdpHeader = view(bytes, len, short)?;
    let length = header.length.get();
    let beyond_end = fragment == Fragment::Whole && usize::from(length) > len;
    if usize::from(length) < UdpHeader::LEN || beyond_end {
        return Err(ParseError::BadUdpLength);
    }
    Ok(L4::Udp { src_port: header.src_port.get(), dst_port: header.dst_port.get(), length })
}

#[inline]
fn sctp(bytes: &[u8], len: usize, short: ParseError) -> Result<L4, ParseError> {
    let header: &SctpHeader = view(bytes, len, short)?;
    Ok(L4::Sctp { src_port: header.src_port.get(), dst_port: header.dst_port.get() })
}

#[inline]
fn icmp(bytes: &[u8], len: usize, short: ParseError) -> Result<L4, ParseError> {
    let header: &IcmpHeader = view(bytes, len, short)?;
    let (icmp_type, code) = (header.icmp_type, header.code);
    Ok(match icmp_type {
        icmp4::ECHO_REQUEST | icmp4::ECHO_REPLY => {
            L4::IcmpEcho { request: icmp_type == icmp4::ECHO_REQUEST, id: header.echo_id() }
        }
        _ if icmp4::is_error(icmp_type) => L4::IcmpError { icmp_type, code },
        _ => L4::Icmp { icmp_type, code },
    })
}

/// The header at the front; `short` when the packet is too short for it, as opposed to the bytes at hand.
#[inline(always)]
fn view<H: Header>(bytes: &[u8], len: usize, short: ParseError) -> Result<&H, ParseError> {
    if len < H::LEN {
        return Err(short);
    }
    H::of(bytes).ok_or(ParseError::HeaderSplit)
}
