//! Packets for scripts, built byte by byte: this shares no code with what it tests.

use std::net::Ipv4Addr;

use super::script::{Built, fix};
use super::world::{GATEWAY_MAC, LOAD_BALANCER, NODE, NODE_VTEP, PEERS, UPLINK_MAC, VNI, VXLAN_PORT};

/// Kinds of packets.
#[allow(dead_code, reason = "names for seeds")]
pub(crate) mod kind {
    pub(crate) const TCP: u8 = 0;
    pub(crate) const UDP: u8 = 1;
    pub(crate) const ECHO_REQUEST: u8 = 2;
    pub(crate) const ECHO_REPLY: u8 = 3;
    pub(crate) const FRAGMENTATION_NEEDED: u8 = 4;
    pub(crate) const PORT_UNREACHABLE: u8 = 5;
    pub(crate) const SCTP: u8 = 6;
    pub(crate) const ARP_REQUEST: u8 = 7;
}

/// What is special about a packet.
#[allow(dead_code, reason = "names for seeds")]
pub(crate) mod style {
    pub(crate) const DONT_FRAGMENT: u16 = 1;
    pub(crate) const MORE_FRAGMENTS: u16 = 1 << 1;
    /// Checksum left to the device.
    pub(crate) const PARTIAL: u16 = 1 << 2;
    /// Router alert, in front of a record route.
    pub(crate) const IP_OPTIONS: u16 = 1 << 3;
    pub(crate) const TIMESTAMPS: u16 = 1 << 4;
    pub(crate) const MSS: u16 = 1 << 5;
    pub(crate) const CONGESTION: u16 = 1 << 6;
    pub(crate) const LAST_HOP: u16 = 1 << 7;
    pub(crate) const WRONG_CHECKSUM: u16 = 1 << 8;
    /// UDP without checksum.
    pub(crate) const NO_CHECKSUM: u16 = 1 << 9;
    /// A quoted packet is UDP, else TCP.
    pub(crate) const QUOTES_UDP: u16 = 1 << 10;
    /// ECN-capable transport.
    pub(crate) const ECN: u16 = 1 << 11;
}

/// Tunnels around a packet on the uplink.
#[allow(dead_code, reason = "names for seeds")]
pub(crate) mod tunnel {
    pub(crate) const NONE: u8 = 0;
    pub(crate) const PEER1: u8 = 1;
    pub(crate) const PEER2: u8 = 2;
    pub(crate) const WRONG_VNI: u8 = 3;
    pub(crate) const WRONG_MAC: u8 = 4;
    pub(crate) const UNKNOWN_PEER: u8 = 5;
    pub(crate) const CONGESTED: u8 = 6;
}

const fn ip(a: u8, b: u8, c: u8, d: u8) -> Ipv4Addr {
    Ipv4Addr::new(a, b, c, d)
}

/// Addresses that scripts name by index.
pub(crate) const ADDRESSES: [Ipv4Addr; 21] = [
    ip(10, 1, 0, 2),    // 0 to 2: the pods of ports 2 to 4
    ip(10, 1, 0, 3),    //
    ip(10, 1, 0, 4),    //
    ip(10, 2, 0, 5),    // 3: pod of peer 1
    ip(10, 3, 0, 5),    // 4: pod of peer 2
    ip(10, 96, 0, 10),  // 5: Service, UDP 53
    ip(10, 96, 0, 11),  // 6: Service, TCP 80, endpoints everywhere
    ip(10, 96, 0, 12),  // 7: Service, TCP 80, no endpoint
    ip(10, 96, 0, 13),  // 8: Service, TCP 80 and UDP 53, the pod of port 2 alone
    ip(10, 96, 0, 99),  // 9: no Service
    ip(203, 0, 113, 9), // 10: outside, by a gateway
    ip(192, 0, 2, 77),  // 11: outside, on the uplink's subnet
    NODE,               // 12
    ip(192, 0, 2, 2),   // 13: peer 1
    ip(10, 1, 0, 0),    // 14: S0
    ip(10, 1, 0, 1),    // 15: the dataplane's own
    ip(169, 254, 1, 1), // 16: the pods' gateway
    ip(10, 1, 0, 200),  // 17: no pod
    ip(127, 0, 0, 1),   // 18
    ip(224, 0, 0, 1),   // 19
    LOAD_BALANCER,      // 20: the Service of 6 again, for local endpoints and some clients
];

/// Ports that scripts name by index; 8 and later are the range of translation.
pub(crate) const L4_PORTS: [u16; 16] = [
    40_000, 40_001, 80, 53, 8080, 6443, VXLAN_PORT, 0, 32_768, 32_769, 32_770, 32_771, 32_772, 32_773,
    32_774, 32_775,
];

/// The frame that a script asks for.
pub(crate) fn frame(b: &Built) -> Vec<u8> {
    let dst_mac = if b.place.port() == 1 { UPLINK_MAC.0 } else { GATEWAY_MAC };
    let mut frame = if b.kind % 8 == kind::ARP_REQUEST {
        arp(b)
    } else {
        let packet = packet(b);
        match b.tunnel % 7 {
            choice if b.place.port() == 1 && choice != tunnel::NONE => tunnelled(choice, &packet),
            _ => [&ethernet(dst_mac, 0x0800), &packet[..]].concat(),
        }
    };
    for (at, value) in &b.patches {
        if let Some(byte) = frame.get_mut(usize::from(*at)) {
            *byte = *value;
        }
    }
    fix(&mut frame, b.fix);
    frame
}

/// Puts the right checksum into an IPv4 header, when its length is possible.
pub(crate) fn fix_ipv4_checksum(packet: &mut [u8]) {
    let len = packet.first().map_or(0, |first| usize::from(first & 15) * 4);
    if len >= 20 && len <= packet.len() {
        packet[10..12].fill(0);
        let checksum = !fold(&packet[..len]);
        packet[10..12].copy_from_slice(&checksum.to_be_bytes());
    }
}

/// The sum of RFC 1071 as plainly as it can be written, not complemented.
pub(crate) fn fold(bytes: &[u8]) -> u16 {
    let word = |pair: &[u8]| u64::from(pair[0]) << 8 | pair.get(1).copied().map_or(0, u64::from);
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The pseudo-header of RFC 768 and RFC 9293.
pub(crate) fn pseudo_header(src: Ipv4Addr, dst: Ipv4Addr, protocol: u8, len: usize) -> Vec<u8> {
    [&src.octets()[..], &dst.octets(), &[0, protocol], &(len as u16).to_be_bytes()].concat()
}

fn address(index: u8) -> Ipv4Addr {
    ADDRESSES[usize::from(index) % ADDRESSES.len()]
}

fn l4_port(index: u8) -> u16 {
    L4_PORTS[usize::from(index) % L4_PORTS.len()]
}

fn ethernet(dst: [u8; 6], ethertype: u16) -> Vec<u8> {
    [&dst[..], &[2, 0, 0, 0, 0, 9], &ethertype.to_be_bytes()].concat()
}

fn arp(b: &Built) -> Vec<u8> {
    let mut frame = ethernet([0xff; 6], 0x0806);
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1, 2, 0, 0, 0, 0, 9]);
    frame.extend(address(b.src).octets());
    frame.extend([0; 6]);
    frame.extend(address(b.dst).octets());
    frame
}

fn packet(b: &Built) -> Vec<u8> {
    let (src, dst) = (address(b.src), address(b.dst));
    let (protocol, mut l4) = match b.kind % 8 {
        kind::TCP => (6, tcp(b)),
        kind::UDP => (17, udp(b)),
        kind::ECHO_REQUEST => (1, echo(b, 8)),
        kind::ECHO_REPLY => (1, echo(b, 0)),
        kind::FRAGMENTATION_NEEDED => (1, icmp_error(b, 4)),
        kind::PORT_UNREACHABLE => (1, icmp_error(b, 3)),
        _ => (132, sctp(b)),
    };
    l4.truncate(65_475);
    settle(b, protocol, src, dst, &mut l4);
    ipv4(b, protocol, src, dst, &l4)
}

fn ipv4(b: &Built, protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, l4: &[u8]) -> Vec<u8> {
    let has = |bit| b.style & bit != 0;
    let options: &[u8] = if has(style::IP_OPTIONS) { &[148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0] } else { &[] };
    let ecn = if has(style::CONGESTION) {
        3
    } else if has(style::ECN) {
        2
    } else {
        0
    };
    let is_error = matches!(b.kind % 8, kind::FRAGMENTATION_NEEDED | kind::PORT_UNREACHABLE);
    let offset = if is_error { 0 } else { u16::from(b.extra) * 8 };
    let dont = if has(style::DONT_FRAGMENT) { 0x4000 } else { 0 };
    let more = if has(style::MORE_FRAGMENTS) { 0x2000 } else { 0 };
    let mut packet = vec![0x45 + (options.len() / 4) as u8, ecn];
    packet.extend(((20 + options.len() + l4.len()) as u16).to_be_bytes());
    packet.extend(u16::from(b.number).to_be_bytes());
    packet.extend((dont | more | offset).to_be_bytes());
    packet.extend([if has(style::LAST_HOP) { 1 } else { 64 }, protocol, 0, 0]);
    packet.extend(src.octets());
    packet.extend(dst.octets());
    packet.extend(options);
    fix_ipv4_checksum(&mut packet);
    packet.extend(l4);
    packet
}

fn tcp(b: &Built) -> Vec<u8> {
    let mut options = Vec::new();
    if b.style & style::MSS != 0 {
        options.extend([2, 4, 2, 24]);
    }
    if b.style & style::TIMESTAMPS != 0 {
        options.extend([1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2]);
    }
    let mut tcp = ports(b).to_vec();
    tcp.extend((u32::from(b.number) * 1000).to_be_bytes());
    tcp.extend([0, 0, 0, 7, (5 + options.len() as u8 / 4) << 4, b.tcp_flags, 0x10, 0, 0, 0, 0, 0]);
    tcp.extend(options);
    tcp.extend(payload(b));
    tcp
}

fn udp(b: &Built) -> Vec<u8> {
    let mut udp = ports(b).to_vec();
    udp.extend((8 + b.payload.min(65_467)).to_be_bytes());
    udp.extend([0, 0]);
    udp.extend(payload(b));
    udp
}

fn sctp(b: &Built) -> Vec<u8> {
    let mut sctp = ports(b).to_vec();
    sctp.extend([0, 0, 0, b.number, 0, 0, 0, 0]);
    sctp.extend(payload(b));
    let wrong = if b.style & style::WRONG_CHECKSUM != 0 { 0x1111 } else { 0 };
    let checksum = crc32c(&sctp) ^ wrong;
    sctp[8..12].copy_from_slice(&checksum.to_le_bytes());
    sctp
}

/// CRC32c of RFC 9260, appendix A, by long division.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in bytes.iter().flat_map(|byte| (0..8).map(move |i| u32::from(byte >> i & 1))) {
        crc = if (crc ^ bit) & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    }
    !crc
}

fn echo(b: &Built, icmp_type: u8) -> Vec<u8> {
    let mut icmp = vec![icmp_type, 0, 0, 0];
    icmp.extend(l4_port(b.src_port).to_be_bytes());
    icmp.extend([0, b.number]);
    icmp.extend(payload(b));
    icmp
}

/// An error about a packet from its receiver to the address of `extra`.
fn icmp_error(b: &Built, code: u8) -> Vec<u8> {
    let is_udp = b.style & style::QUOTES_UDP != 0;
    let quoted = Built {
        kind: if is_udp { kind::UDP } else { kind::TCP },
        src: b.dst,
        dst: b.extra,
        payload: b.payload.min(500),
        extra: 0,
        style: 0,
        ..b.clone()
    };
    let mut icmp = vec![3, code, 0, 0, 0, 0];
    icmp.extend(b.payload.to_be_bytes());
    icmp.extend(packet(&quoted));
    icmp.extend(vec![0; usize::from(b.payload).saturating_sub(500)]);
    icmp
}

fn ports(b: &Built) -> [u8; 4] {
    let [[a, c], [d, e]] = [l4_port(b.src_port), l4_port(b.dst_port)].map(u16::to_be_bytes);
    [a, c, d, e]
}

fn payload(b: &Built) -> Vec<u8> {
    (0..b.payload).map(|i| (i as u8).wrapping_mul(31).wrapping_add(b.number)).collect()
}

/// Writes the transport checksum: complete, partial, none or wrong.
fn settle(b: &Built, protocol: u8, src: Ipv4Addr, dst: Ipv4Addr, l4: &mut [u8]) {
    let field = match protocol {
        1 => 2,
        6 => 16,
        17 => 6,
        _ => return,
    };
    let pseudo = if protocol == 1 { Vec::new() } else { pseudo_header(src, dst, protocol, l4.len()) };
    let checksum = if b.style & style::PARTIAL != 0 && protocol != 1 {
        fold(&pseudo)
    } else if b.style & style::NO_CHECKSUM != 0 && protocol == 17 {
        0
    } else {
        match !fold(&[&pseudo[..], l4].concat()) {
            0 if protocol == 17 => 0xffff,
            sum => sum,
        }
    };
    let wrong = if b.style & style::WRONG_CHECKSUM != 0 { 0x1111 } else { 0 };
    l4[field..field + 2].copy_from_slice(&(checksum ^ wrong).to_be_bytes());
}

fn tunnelled(choice: u8, packet: &[u8]) -> Vec<u8> {
    let peer = if choice == tunnel::PEER2 { PEERS[1].0 } else { PEERS[0].0 };
    let src = if choice == tunnel::UNKNOWN_PEER { ip(192, 0, 2, 66) } else { peer };
    let vni = if choice == tunnel::WRONG_VNI { VNI + 1 } else { VNI };
    let mac = if choice == tunnel::WRONG_MAC { [2, 0, 0, 0, 0, 99] } else { NODE_VTEP.0 };
    let inner = [&ethernet(mac, 0x0800), packet].concat();
    let mut udp = 40_001u16.to_be_bytes().to_vec();
    udp.extend(VXLAN_PORT.to_be_bytes());
    let len = (16 + inner.len()).min(65_515);
    udp.extend((len as u16).to_be_bytes());
    udp.extend([0, 0, 8, 0, 0, 0]);
    udp.extend((vni << 8).to_be_bytes());
    udp.extend(&inner);
    udp.truncate(len);
    let style = if choice == tunnel::CONGESTED { style::CONGESTION } else { 0 };
    let outer = Built { style, ..Built::default() };
    [&ethernet(UPLINK_MAC.0, 0x0800), &ipv4(&outer, 17, src, NODE, &udp)[..]].concat()
}
