//! What must hold of everything that leaves, whatever came in.

use std::collections::HashSet;
use std::net::Ipv4Addr;

use headrace_dataplane::flows::{Flow, FlowKey, Flows, Kind};
use headrace_dataplane::frames::Checksum;
use headrace_dataplane::port::Capabilities;
use headrace_dataplane::port::memory::Sent;
use headrace_wire::ipv4::is_valid_source;
use headrace_wire::parse::{Fragment, Ipv4Packet, L4, parse_ipv4};
use headrace_wire::sctp::crc32c;

use super::packets::{fold, pseudo_header};
use super::world::{
    GATEWAY_MAC, HOST_MAC, LOAD_BALANCER, NODE, NODE_VTEP, PEERS, UPLINK_MAC, VNI, VXLAN_PORT, pod_address,
    pod_mac,
};

/// What came in, and what follows from it for what may go out.
pub(crate) struct Seen {
    uplink_mtu: u16,
    /// Sources of packets from the node's stack and of plain ones from the wire, who may be forwarded for.
    strangers: HashSet<Ipv4Addr>,
    /// All checksums that came in were right: then all that go out are.
    honest: bool,
}

impl Seen {
    pub(crate) fn new(uplink_mtu: u16) -> Self {
        Self { uplink_mtu, strangers: HashSet::new(), honest: true }
    }

    pub(crate) fn came_in(&mut self, port: usize, frame: &[u8], honest: bool) {
        self.honest &= honest;
        if port < 2
            && let Some(source) = frame.get(26..30)
        {
            self.strangers.insert(Ipv4Addr::new(source[0], source[1], source[2], source[3]));
        }
    }

    /// Checks one frame that left by `port`.
    pub(crate) fn goes_out(&self, port: usize, capabilities: Capabilities, sent: &Sent) {
        let bytes = &sent.bytes[..];
        assert!(bytes.len() >= 14, "shorter than an Ethernet header");
        if sent.checksum != Checksum::AsSent {
            assert!(capabilities.partial_checksums, "the port cannot complete a checksum");
        }
        let (dst, src, ethertype) = (&bytes[..6], &bytes[6..12], &bytes[12..14]);
        if ethertype == [8, 6] {
            assert!(port != 1 && src == GATEWAY_MAC, "an answer to ARP on the uplink or for another");
            return;
        }
        assert_eq!(ethertype, [8, 0], "neither IPv4 nor ARP");
        let ip = self.packet(&bytes[14..], sent.checksum);
        // What is handed back to the node's stack is as it came.
        assert!(ip.ttl > 0 || port == 0, "no time to live");
        match port {
            1 => {
                assert_eq!(src, UPLINK_MAC.0, "not from the uplink's MAC address");
                self.on_the_wire(&bytes[14..], &ip);
            }
            0 => assert_eq!((dst, src), (&HOST_MAC.0[..], &GATEWAY_MAC[..])),
            pod => {
                assert_eq!((dst, src), (&pod_mac(pod).0[..], &GATEWAY_MAC[..]));
                assert_eq!(ip.dst, pod_address(pod), "not this pod's");
                assert!(is_valid_source(ip.src), "from {}", ip.src);
                assert!(
                    capabilities.superframes || ip.total_len <= self.uplink_mtu - 50,
                    "too large for the pod"
                );
            }
        }
    }

    fn on_the_wire(&self, packet: &[u8], ip: &Ipv4Packet) {
        assert!(ip.total_len <= self.uplink_mtu, "{} bytes on the wire", ip.total_len);
        let is_ours = |address: Ipv4Addr| {
            // Services answer from their own addresses.
            let of_service = is_service(address) || address == LOAD_BALANCER;
            of_service || address == NODE || address.octets()[..3] == [10, 1, 0]
        };
        let is_tunnel = ip.src == NODE
            && PEERS.iter().any(|peer| peer.0 == ip.dst)
            && matches!(ip.l4, L4::Udp { dst_port: VXLAN_PORT, .. })
            && packet.get(28..32) == Some(&[8, 0, 0, 0]);
        if !is_tunnel {
            let allowed = is_ours(ip.src) || self.strangers.contains(&ip.src);
            assert!(allowed, "{} is no source of ours", ip.src);
            assert!(!is_service(ip.dst), "to a Service untranslated");
            return;
        }
        let (_, range, mac) = PEERS.iter().find(|peer| peer.0 == ip.dst).unwrap();
        assert_eq!(packet[32..36], (VNI << 8).to_be_bytes());
        let inner = &packet[36..];
        assert_eq!((&inner[..6], &inner[6..12]), (&mac.0[..], &NODE_VTEP.0[..]));
        assert_eq!(inner[12..14], [8, 0]);
        let inner = self.packet(&inner[14..], Checksum::AsSent);
        let allowed = is_ours(inner.src) || self.strangers.contains(&inner.src);
        assert!(allowed, "{} is no inner source of ours", inner.src);
        assert!(!is_service(inner.dst), "to a Service untranslated");
        let is_theirs = inner.dst == ip.dst || inner.dst.octets()[..3] == [10, *range, 0];
        assert!(is_theirs, "{} is not that peer's", inner.dst);
    }

    /// Parses a packet, which must be well-formed and end where its frame does.
    fn packet(&self, bytes: &[u8], checksum: Checksum) -> Ipv4Packet {
        let ip = match parse_ipv4(bytes, bytes.len()) {
            Ok(ip) => ip,
            Err(error) => panic!("malformed: {error}: {:02x?}", &bytes[..bytes.len().min(80)]),
        };
        assert_eq!(usize::from(ip.total_len), bytes.len(), "bytes behind the packet");
        if self.honest && ip.fragment == Fragment::Whole {
            transport(bytes, &ip, checksum);
        }
        ip
    }
}

/// The checksum must be right, or what is left of it must be what the device expects.
fn transport(bytes: &[u8], ip: &Ipv4Packet, checksum: Checksum) {
    let l4 = &bytes[ip.l4_offset()..];
    let pseudo = pseudo_header(ip.src, ip.dst, ip.protocol.0, l4.len());
    let whole = [&pseudo[..], l4].concat();
    match (ip.l4, checksum) {
        (L4::Udp { .. }, Checksum::AsSent) if l4[6..8] == [0, 0] => {}
        (L4::Tcp { .. } | L4::Udp { .. }, Checksum::Partial { start, offset }) => {
            assert_eq!(usize::from(start), 14 + ip.l4_offset());
            let at = usize::from(offset);
            let stored = u16::from_be_bytes([l4[at], l4[at + 1]]);
            assert_eq!(stored, fold(&pseudo), "partial checksum");
        }
        (L4::Tcp { .. } | L4::Udp { .. }, Checksum::AsSent) => {
            assert_eq!(fold(&whole), 0xffff, "transport checksum: {:02x?}", &bytes[..bytes.len().min(80)]);
        }
        (L4::IcmpEcho { .. } | L4::IcmpError { .. } | L4::Icmp { .. }, _) => {
            assert_eq!(fold(l4), 0xffff, "ICMP checksum: {:02x?}", &bytes[..bytes.len().min(80)]);
        }
        (L4::Sctp { .. }, _) => {
            let mut without = l4.to_vec();
            without[8..12].fill(0);
            assert_eq!(crc32c(&without).to_le_bytes(), l4[8..12], "SCTP checksum");
        }
        (L4::Other | L4::Later, _) => {}
    }
}

fn is_service(address: Ipv4Addr) -> bool {
    address.octets()[..2] == [10, 96]
}

/// Every connection has both its entries.
pub(crate) fn flows(flows: &Flows) {
    for entry in flows.map().iter() {
        let key = FlowKey::unpack(&entry.key).unwrap();
        if key.kind != Kind::Ports {
            continue;
        }
        let partner = Flow::unpack(entry.slot, entry.value).partner_key(&key);
        let packed = partner.pack();
        let found = flows.map().lookup(&packed, flows.map().hash(&packed));
        let back = found.map(|found| Flow::unpack(found.slot, found.value).rewrite);
        assert_eq!(back, Some(key.tuple.reversed()), "{key:?} without {partner:?}");
    }
}
