//! Frames as pods and the other node send them, and how a template becomes a packet of another flow.

use std::net::Ipv4Addr;

use etherparse::PacketBuilder;
use headrace_dataplane::tables::GATEWAY_MAC;
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::{ENCAP_LEN, Inner, Tunnel, Vni, encap_header};

use crate::{NODE, PEER, PEER_VTEP, POD_MAC, VTEP};

/// Source port of the first flow.
pub const FIRST_SOURCE: u16 = 1024;
/// Flows that differ in their source port alone.
const SOURCES: u32 = 60_000;
/// Destination ports, from the template's on, so that there can be a million flows.
pub const PORTS: u16 = 17;

/// Ethernet and IPv4 header.
const TRANSPORT: usize = 34;
/// Where the checksum lies in the UDP and in the TCP header.
const UDP_SUM: usize = 6;
const TCP_SUM: usize = 16;

/// A frame of a datagram as a pod sends it; `flow` chooses the source port.
///
/// # Panics
/// Never: a vector takes all bytes.
pub fn udp(src: Ipv4Addr, dst: (Ipv4Addr, u16), flow: u16, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(POD_MAC, GATEWAY_MAC.0)
        .ipv4(src.octets(), dst.0.octets(), 64)
        .udp(FIRST_SOURCE + flow, dst.1)
        .write(&mut bytes, &vec![0; payload])
        .expect("a vector takes all bytes");
    bytes
}

/// A frame of a connection's data as a pod sends it.
///
/// # Panics
/// Never: a vector takes all bytes.
pub fn tcp(src: Ipv4Addr, dst: Ipv4Addr, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(POD_MAC, GATEWAY_MAC.0)
        .ipv4(src.octets(), dst.octets(), 64)
        .tcp(4000, 5201, 1, 65535)
        .ack(1)
        .write(&mut bytes, &vec![0; payload])
        .expect("a vector takes all bytes");
    bytes
}

/// The same frame as the other node sends it.
///
/// # Panics
/// Never: the header fits and the VNI is valid.
pub fn tunnelled(mut inner: Vec<u8>) -> Vec<u8> {
    inner[..6].copy_from_slice(&VTEP.0);
    inner[6..12].copy_from_slice(&PEER_VTEP.0);
    let tunnel = Tunnel {
        src_mac: MacAddr([2, 0, 0, 0, 0, 3]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        src: PEER,
        dst: NODE,
        port: 8472,
        vni: Vni::new(1).expect("24 bits"),
    };
    let mut outer = [0; ENCAP_LEN];
    let what = Inner { frame_len: inner.len(), tos: 0, flow_hash: 7, id: 1 };
    encap_header(&mut outer, &tunnel, &what).expect("fits");
    [outer.to_vec(), inner].concat()
}

/// Makes `frame`, a copy of a template whose first header begins at `start`, a datagram of flow `number`.
pub fn set_flow(frame: &mut [u8], start: usize, number: u32) {
    let udp = &mut frame[start + TRANSPORT..];
    let source = FIRST_SOURCE + (number % SOURCES) as u16;
    let target = word(udp, 2) + (number / SOURCES) as u16;
    let sum = [(word(udp, 0), source), (word(udp, 2), target)].into_iter().fold(word(udp, UDP_SUM), update);
    for (at, value) in [(0, source), (2, target), (UDP_SUM, sum)] {
        udp[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

/// Makes `frame` the segment of a connection that begins `bytes` behind the template's.
pub fn set_sequence(frame: &mut [u8], start: usize, bytes: u32) {
    let tcp = &mut frame[start + TRANSPORT..];
    let old = [word(tcp, 4), word(tcp, 6)];
    let sequence = (u32::from(old[0]) << 16 | u32::from(old[1])).wrapping_add(bytes);
    let new = [(sequence >> 16) as u16, sequence as u16];
    let sum = old.into_iter().zip(new).fold(word(tcp, TCP_SUM), update);
    tcp[4..8].copy_from_slice(&sequence.to_be_bytes());
    tcp[TCP_SUM..TCP_SUM + 2].copy_from_slice(&sum.to_be_bytes());
}

/// RFC 1624: HC' = ~(~HC + ~m + m').
fn update(sum: u16, (old, new): (u16, u16)) -> u16 {
    let mut wide = u32::from(!sum) + u32::from(!old) + u32::from(new);
    wide = (wide & 0xffff) + (wide >> 16);
    wide = (wide & 0xffff) + (wide >> 16);
    !(wide as u16)
}

fn word(bytes: &[u8], at: usize) -> u16 {
    u16::from_be_bytes([bytes[at], bytes[at + 1]])
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;
    use crate::{POD, REMOTE};

    #[test]
    fn a_changed_flow_and_a_changed_sequence_number_leave_the_checksum_right() {
        for number in [0, 1, 59_999, 60_000, 999_999] {
            let mut frame = udp(POD, (REMOTE, 80), 0, 22);
            set_flow(&mut frame, 0, number);
            let packet = SlicedPacket::from_ethernet(&frame).unwrap();
            let Some(TransportSlice::Udp(udp)) = packet.transport else { panic!("{packet:?}") };
            let right = udp.to_header().calc_checksum_ipv4_raw(POD.octets(), REMOTE.octets(), udp.payload());
            assert_eq!(udp.checksum(), right.unwrap(), "flow {number}");
        }
        let mut frame = tcp(POD, REMOTE, 100);
        set_sequence(&mut frame, 0, 1_000_000);
        let packet = SlicedPacket::from_ethernet(&frame).unwrap();
        let Some(TransportSlice::Tcp(tcp)) = packet.transport else { panic!("{packet:?}") };
        let right = tcp.to_header().calc_checksum_ipv4_raw(POD.octets(), REMOTE.octets(), tcp.payload());
        assert_eq!((tcp.sequence_number(), tcp.checksum()), (1_000_001, right.unwrap()));
    }
}
