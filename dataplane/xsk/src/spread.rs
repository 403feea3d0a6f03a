//! How many queues a NIC has, and by what it spreads UDP over them, read and set as `ethtool -l`, `-L` and
//! `-N NAME rx-flow-hash udp4` do (SIOCETHTOOL of linux/ethtool.h), in the calling thread's network namespace.

use std::io;

use crate::offloads::{ethtool, words};

const ETHTOOL_GRXFH: u32 = 0x29;
const ETHTOOL_SRXFH: u32 = 0x2a;
const ETHTOOL_GCHANNELS: u32 = 0x3c;
const ETHTOOL_SCHANNELS: u32 = 0x3d;
/// `struct ethtool_channels` in words: cmd; largest rx, tx, other, combined; the same four as they are.
const CHANNELS: usize = 9;
const UDP_V4_FLOW: u32 = 0x02;
/// RXH_IP_SRC and RXH_IP_DST; RXH_L4_B_0_1 and RXH_L4_B_2_3.
const ADDRESSES: u64 = 1 << 4 | 1 << 5;
const PORTS: u64 = 1 << 6 | 1 << 7;

/// Queues of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queues {
    /// Receive queues now.
    pub now: u32,
    /// The most that it can have.
    pub most: u32,
}

/// By what a device spreads UDP over its receive queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UdpSpread {
    /// Addresses and ports: the flows of a tunnel come by many queues.
    Ports,
    /// Less than these: a peer's tunnel comes by one queue.
    Addresses,
}

/// The queues of device `name`.
///
/// # Errors
/// EOPNOTSUPP when the driver does not tell, ENODEV when there is no such device.
pub fn queues(name: &str) -> io::Result<Queues> {
    channels(name).map(|channels| of_channels(&channels))
}

/// Gives device `name` so many receive queues, and as many to send by. Most drivers reset the link for it.
///
/// # Errors
/// EINVAL when it cannot have so many, EOPNOTSUPP, ENODEV, EPERM without CAP_NET_ADMIN; EBUSY and others from drivers that
/// cannot now, as while AF_XDP sockets are open.
pub fn set_queues(name: &str, queues: u32) -> io::Result<()> {
    let channels = channels(name)?;
    let mut wanted = with_queues(channels, queues).ok_or(io::Error::from_raw_os_error(libc::EINVAL))?;
    if wanted == channels {
        return Ok(());
    }
    wanted[0] = ETHTOOL_SCHANNELS;
    ethtool(name, &mut wanted)
}

/// By what device `name` spreads UDP over IPv4.
///
/// # Errors
/// EOPNOTSUPP when the driver does not tell, ENODEV when there is no such device.
pub fn udp(name: &str) -> io::Result<UdpSpread> {
    fields(name).map(of_fields)
}

/// Has device `name` spread UDP over IPv4 by addresses and ports.
///
/// # Errors
/// EOPNOTSUPP or EINVAL when it cannot, ENODEV, EPERM without CAP_NET_ADMIN.
pub fn spread_udp_by_ports(name: &str) -> io::Result<()> {
    let [low, high] = words(ADDRESSES | PORTS);
    ethtool(name, &mut [ETHTOOL_SRXFH, UDP_V4_FLOW, low, high])
}

fn channels(name: &str) -> io::Result<[u32; CHANNELS]> {
    let mut command = [0; CHANNELS];
    command[0] = ETHTOOL_GCHANNELS;
    ethtool(name, &mut command)?;
    Ok(command)
}

fn of_channels(channels: &[u32; CHANNELS]) -> Queues {
    let [_, most_rx, _, _, most_combined, rx, _, _, combined] = *channels;
    // Where there are both, receive queues of their own come on top of combined ones.
    Queues { now: rx + combined, most: most_rx.max(most_combined) }
}

/// The request for so many queues; `None` when the device cannot have them. A device has queues that receive and send, or
/// some for each.
fn with_queues(mut channels: [u32; CHANNELS], queues: u32) -> Option<[u32; CHANNELS]> {
    let [_, most_rx, most_tx, _, most_combined, ..] = channels;
    if queues == 0 {
        return None;
    }
    if queues <= most_combined {
        channels[5..7].fill(0);
        channels[8] = queues;
    } else if most_combined == 0 && queues <= most_rx && queues <= most_tx {
        channels[5..7].fill(queues);
    } else {
        return None;
    }
    Some(channels)
}

/// The first members of `struct ethtool_rxnfc`: cmd, flow_type, data (u64), which is all that these two commands use.
fn fields(name: &str) -> io::Result<u64> {
    let mut command = [ETHTOOL_GRXFH, UDP_V4_FLOW, 0, 0];
    ethtool(name, &mut command)?;
    let [_, _, low, high] = command.map(u32::to_ne_bytes);
    Ok(u64::from_ne_bytes([low[0], low[1], low[2], low[3], high[0], high[1], high[2], high[3]]))
}

fn of_fields(fields: u64) -> UdpSpread {
    if fields & (ADDRESSES | PORTS) == ADDRESSES | PORTS { UdpSpread::Ports } else { UdpSpread::Addresses }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What drivers answer: maxima of rx, tx, other and combined, then what is.
    const ICE: [u32; CHANNELS] = [ETHTOOL_GCHANNELS, 0, 0, 1, 64, 0, 0, 1, 16];
    const MLX5: [u32; CHANNELS] = [ETHTOOL_GCHANNELS, 0, 0, 0, 32, 0, 0, 0, 32];
    const VETH: [u32; CHANNELS] = [ETHTOOL_GCHANNELS, 4, 4, 0, 0, 4, 4, 0, 0];
    const ICE_ONE_MORE_RX: [u32; CHANNELS] = [ETHTOOL_GCHANNELS, 64, 64, 1, 64, 1, 0, 1, 8];
    const FIXED: [u32; CHANNELS] = [ETHTOOL_GCHANNELS, 0, 0, 0, 1, 0, 0, 0, 1];

    #[test]
    fn queues_are_counted_as_ethtool_l_shows_them() {
        let counts = [ICE, MLX5, VETH, ICE_ONE_MORE_RX, FIXED].map(|channels| of_channels(&channels));
        let found = counts.map(|queues| (queues.now, queues.most));
        assert_eq!(found, [(16, 64), (32, 32), (4, 4), (9, 64), (1, 1)]);
    }

    #[test]
    fn so_many_are_asked_for_and_nothing_else_changes() {
        let with = |channels, queues| with_queues(channels, queues).map(|c| c[1..].to_vec());
        assert_eq!(with(ICE, 2), Some(vec![0, 0, 1, 64, 0, 0, 1, 2]));
        assert_eq!(with(ICE_ONE_MORE_RX, 2), Some(vec![64, 64, 1, 64, 0, 0, 1, 2]));
        assert_eq!(with(VETH, 2), Some(vec![4, 4, 0, 0, 2, 2, 0, 0]));
        for (channels, queues) in [(ICE, 65), (FIXED, 2), (VETH, 5), (ICE, 0), (VETH, 0)] {
            assert_eq!(with(channels, queues), None);
        }
        assert_eq!(with_queues(MLX5, 32), Some(MLX5), "it has them");
    }

    #[test]
    fn a_spread_by_ports_has_all_four_fields() {
        // `ethtool -n NAME rx-flow-hash udp4`: "IP SA, IP DA, L4 bytes 0 & 1, L4 bytes 2 & 3" and "IP SA, IP DA".
        assert_eq!([0xf0, 0xf8, 0x30, 0xc0, 0x70, 0].map(of_fields), {
            use UdpSpread::{Addresses, Ports};
            [Ports, Ports, Addresses, Addresses, Addresses, Addresses]
        });
    }
}
