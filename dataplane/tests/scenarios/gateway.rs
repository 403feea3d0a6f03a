//! The pods' gateway itself: ARP, echo, and nothing else.

use headrace_dataplane::drop_reason::DropReason;
use headrace_wire::ethernet::MacAddr;

use crate::walk::World;
use crate::walk::packet::{PORT_UNREACHABLE, error, icmp, ping, tcp, udp};
use crate::walk::place::At::{self, Host, NodeB, PodA, Wire};
use crate::walk::place::ethernet;

fn arp(at: At, operation: u16, sender: [u8; 4], target: [u8; 4]) -> Vec<u8> {
    use etherparse::{ArpEthIpv4Packet, ArpOperation, ArpPacket};
    let sender_mac = if at == Host { crate::walk::place::HOST_MAC } else { at.pod_mac() };
    let packet = ArpEthIpv4Packet {
        operation: ArpOperation(operation),
        sender_mac: sender_mac.0,
        sender_ipv4: sender,
        target_mac: [0; 6],
        target_ipv4: target,
    };
    ethernet(sender_mac, MacAddr::BROADCAST, 0x0806, &ArpPacket::from(packet).to_bytes())
}

#[test]
fn arp_for_the_gateway_is_answered_and_all_else_ignored() {
    let mut w = World::new();
    let (a, gateway, own) = ([10, 1, 0, 2], [169, 254, 1, 1], [10, 1, 0, 1]);
    for (at, sender) in [(PodA, a), (Host, [10, 1, 0, 0])] {
        for target in [gateway, own] {
            let before = w.frames_out(at);
            w.send_frames(0, at, vec![arp(at, 1, sender, target)]).is(&[], &[]);
            assert_eq!(w.frames_out(at), before + 1, "{at:?} {target:?}");
        }
        w.drop_frame(at, arp(at, 1, sender, [10, 1, 0, 3]), DropReason::ArpIgnored);
        w.drop_frame(at, arp(at, 2, sender, gateway), DropReason::ArpIgnored);
        w.drop_frame(at, arp(at, 1, sender, gateway)[..40].to_vec(), DropReason::ArpIgnored);
    }
    w.drop_frame(Wire, arp(PodA, 1, a, gateway), DropReason::NotIpv4);
}

#[test]
fn the_gateway_answers_ping_from_everywhere() {
    let mut w = World::new();
    for (at, source) in [(PodA, "10.1.0.2"), (Host, "10.1.0.0"), (Host, "192.168.7.10"), (NodeB, "10.1.1.9")]
    {
        for gateway in ["169.254.1.1", "10.1.0.1"] {
            let request = ping(source, gateway, 5);
            w.pass(at, &request, at, &request.back());
            w.pass(at, &request.data(1400).ttl(1), at, &request.data(1400).back());
        }
    }
}

#[test]
fn the_gateway_has_no_other_service() {
    let mut w = World::new();
    for sent in [udp("10.1.0.2:9", "169.254.1.1:53"), tcp("10.1.0.2:9", "10.1.0.1:80")] {
        let answer = error("10.1.0.1", "10.1.0.2", PORT_UNREACHABLE, 0, &sent);
        w.refuse(PodA, &sent, DropReason::ToGateway, &answer);
    }
    w.drop(PodA, &icmp("10.1.0.2", "169.254.1.1", 13, 0, [0; 4]).data(12), DropReason::ToGateway);
}
