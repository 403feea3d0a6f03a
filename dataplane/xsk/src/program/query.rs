//! Which XDP program is on a device: RTM_GETLINK of rtnetlink(7), attribute IFLA_XDP.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

use super::ProgramError;
use super::attach::XdpMode;
use crate::bpf;
use crate::sys::{check, socket};

/// Attributes and values of linux/if_link.h.
const IFLA_XDP: u16 = 43;
const IFLA_XDP_ATTACHED: u16 = 2;
const IFLA_XDP_PROG_ID: u16 = 4;
const XDP_ATTACHED_SKB: u8 = 2;
const NLA_F_NESTED: u16 = 1 << 15;

/// An XDP program found on a device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OnDevice {
    /// The kernel's id of the program (`bpftool prog show id ID`).
    pub id: u32,
    /// Name of its function.
    pub name: String,
    /// How it runs.
    pub mode: XdpMode,
}

/// The XDP program on device `ifindex` of the calling thread's network namespace, whoever put it there.
///
/// # Errors
/// [`ProgramError::Query`], with ENODEV when there is no such device.
pub fn program_on(ifindex: u32) -> Result<Option<OnDevice>, ProgramError> {
    let found = ask(ifindex).map_err(|source| ProgramError::Query { ifindex, source })?;
    Ok(found.map(|(id, mode)| {
        let name = bpf::program_name(id).unwrap_or_else(|_| "unnamed".into());
        OnDevice { id, name, mode }
    }))
}

/// Id and mode of the program on a device.
pub(super) fn ask(ifindex: u32) -> io::Result<Option<(u32, XdpMode)>> {
    let netlink = socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let request = get_link(ifindex);
    let mut answer = vec![0u8; 1 << 15];
    // SAFETY: a buffer and its length.
    let sent = unsafe { libc::send(netlink.as_fd().as_raw_fd(), request.as_ptr().cast(), request.len(), 0) };
    check(if sent < 0 { -1 } else { 0 })?;
    // SAFETY: a buffer and its length, of which the kernel fills at most that.
    let got = unsafe { libc::recv(netlink.as_fd().as_raw_fd(), answer.as_mut_ptr().cast(), answer.len(), 0) };
    check(if got < 0 { -1 } else { 0 })?;
    parse(answer.get(..got as usize).unwrap_or_default())
}

/// nlmsghdr (16 bytes) and ifinfomsg (16 bytes).
fn get_link(ifindex: u32) -> [u8; 32] {
    let mut message = [0u8; 32];
    message[0..4].copy_from_slice(&32u32.to_ne_bytes());
    message[4..6].copy_from_slice(&libc::RTM_GETLINK.to_ne_bytes());
    message[6..8].copy_from_slice(&(libc::NLM_F_REQUEST as u16).to_ne_bytes());
    message[20..24].copy_from_slice(&ifindex.to_ne_bytes());
    message
}

fn parse(message: &[u8]) -> io::Result<Option<(u32, XdpMode)>> {
    let truncated = || io::Error::from(io::ErrorKind::UnexpectedEof);
    if u16_at(message, 4).ok_or_else(truncated)? == libc::NLMSG_ERROR as u16 {
        let errno = i32::from_ne_bytes(array(message, 16).ok_or_else(truncated)?);
        return Err(io::Error::from_raw_os_error(-errno));
    }
    let Some(xdp) = attributes(message.get(32..).unwrap_or_default()).find(|a| a.0 == IFLA_XDP) else {
        return Ok(None);
    };
    let inner = |kind| attributes(xdp.1).find(|a| a.0 == kind).map(|a| a.1);
    let id = inner(IFLA_XDP_PROG_ID).and_then(|v| array(v, 0)).map(u32::from_ne_bytes);
    let generic = inner(IFLA_XDP_ATTACHED).and_then(|v| v.first()) == Some(&XDP_ATTACHED_SKB);
    Ok(id.map(|id| (id, if generic { XdpMode::Generic } else { XdpMode::Native })))
}

/// (type, value) of each netlink attribute.
fn attributes(mut rest: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let len = usize::from(u16_at(rest, 0)?);
        let kind = u16_at(rest, 2)? & !NLA_F_NESTED;
        let value = rest.get(4..len)?;
        rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    array(bytes, at).map(u16::from_ne_bytes)
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_device_without_program_has_none_and_a_missing_one_is_an_error() {
        assert_eq!(program_on(crate::device::index("lo").unwrap()).unwrap(), None);
        assert!(matches!(program_on(u32::MAX >> 1), Err(ProgramError::Query { .. })));
    }

    #[test]
    fn truncated_answers_are_no_panic() {
        let mut message = get_link(1).to_vec();
        message.extend([12, 0, 43, 0x80, 8, 0, 4, 0, 7, 0, 0, 0]);
        assert_eq!(parse(&message).unwrap(), Some((7, XdpMode::Native)));
        for len in 0..message.len() {
            let _ = parse(&message[..len]);
        }
    }
}
