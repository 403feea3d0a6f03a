//! Verdicts of the compiled program on crafted packets (BPF_PROG_TEST_RUN), whole and cut at every length.

mod frontends;

use std::os::fd::{AsFd, AsRawFd, BorrowedFd};

use super::*;
use crate::testing::{Netns, kernel};
use crate::{Area, AreaConfig, Socket, SocketConfig, device};

const NODE: [u8; 4] = [192, 168, 0, 1];
const OTHER_OWN: [u8; 4] = [192, 168, 0, 9];
const PEER: [u8; 4] = [192, 168, 0, 2];
const POD: [u8; 4] = [10, 244, 1, 5];
const PEER_POD: [u8; 4] = [10, 244, 2, 7];
const OUTSIDE: [u8; 4] = [8, 8, 8, 8];
const BALANCER: [u8; 4] = [203, 0, 113, 5];

const TCP: u8 = 6;
const UDP: u8 = 17;
const SCTP: u8 = 132;
const ICMP: u8 = 1;

fn config() -> UplinkConfig {
    UplinkConfig {
        addresses: vec![NODE.into(), OTHER_OWN.into()],
        node_port_addresses: vec![NODE.into()],
        vxlan_port: Some(8472),
        pods: None,
        direct: false,
        snat: Some(Snat { address: NODE.into(), first: 32768, last: 40959 }),
        take_fragments: false,
    }
}

fn direct() -> UplinkConfig {
    let pods = Prefix { address: [10, 244, 1, 77].into(), len: 24 };
    UplinkConfig { pods: Some(pods), direct: true, vxlan_port: None, ..config() }
}

fn fragments() -> UplinkConfig {
    UplinkConfig { take_fragments: true, ..config() }
}

#[test]
fn only_what_is_ours_is_stolen() {
    with_program(|uplink| {
        for (what, config, packet, stolen) in table() {
            uplink.configure(&config).unwrap();
            for (variant, program) in variants(uplink) {
                assert_eq!(run(program, &packet), stolen, "{what} ({variant})");
            }
            let stopped = if stolen { DROP } else { PASS };
            // BPF_PROG_TEST_RUN makes no socket buffer longer than a page.
            if packet.len() < 3000 {
                assert_eq!(verdicts_on_skb(uplink, &packet), (stopped, stolen), "{what} (tc)");
            }
        }
    });
}

#[test]
fn truncated_packets_pass_until_the_rule_can_be_sure() {
    with_program(|uplink| {
        for (what, config, packet, stolen) in table() {
            uplink.configure(&config).unwrap();
            for (variant, program) in variants(uplink) {
                let verdicts: Vec<bool> =
                    (14..=packet.len().min(200)).map(|len| run(program, &packet[..len])).collect();
                let first = verdicts.iter().position(|v| *v).unwrap_or(verdicts.len());
                assert!(first >= 20, "{what} ({variant}): no IPv4 header and yet stolen");
                assert!(verdicts[first..].iter().all(|v| *v), "{what} ({variant}): {verdicts:?}");
                assert_eq!(first < verdicts.len(), stolen, "{what} ({variant})");
            }
        }
    });
}

#[test]
fn nothing_is_stolen_before_it_is_configured() {
    with_program(|uplink| {
        let packet = ip(UDP, PEER, NODE, &ports(5000, 8472));
        let (_, program) = variants(uplink)[0];
        uplink.configure(&config()).unwrap();
        assert!(run(program, &packet));
        uplink.config.remove(&0).unwrap();
        let (_, program) = variants(uplink)[0];
        assert!(!run(program, &packet));
    });
}

#[test]
fn a_dead_dataplane_leaves_the_node_its_own_and_keeps_resets_from_connections_that_will_go_on() {
    with_program(|uplink| {
        uplink.configure(&UplinkConfig { pods: direct().pods, ..fragments() }).unwrap();
        uplink.sockets.unset(0).unwrap();
        let (_, program) = variants(uplink)[0];
        let cases = [
            ("tunnel", ip(UDP, PEER, NODE, &ports(5000, 8472)), DROP),
            ("masqueraded TCP", ip(TCP, OUTSIDE, NODE, &ports(443, 33000)), DROP),
            ("masqueraded UDP", ip(UDP, OUTSIDE, NODE, &ports(53, 33000)), DROP),
            ("NodePort", ip(TCP, OUTSIDE, NODE, &ports(5000, 30080)), DROP),
            ("NodePort over SCTP", ip(SCTP, OUTSIDE, NODE, &ports(5000, 30132)), DROP),
            ("load balancer", ip(TCP, OUTSIDE, BALANCER, &ports(5000, 443)), DROP),
            ("fragment to the node", fragment(ip(UDP, OUTSIDE, NODE, &ports(5000, 8053)), 100), PASS),
            ("a pod's", ip(TCP, OUTSIDE, [10, 244, 1, 7], &ports(443, 33000)), PASS),
            ("the node's", ip(TCP, OUTSIDE, NODE, &ports(5000, 22)), PASS),
        ];
        for (what, packet, expected) in cases {
            assert_eq!(verdict(program, &packet), expected, "{what}");
            assert_eq!(verdicts_on_skb(uplink, &packet).0, expected, "{what} (tc)");
        }
        let to_a_pod = ip(TCP, OUTSIDE, [10, 244, 1, 7], &ports(443, 33000));
        uplink.take_by_packet_sockets().unwrap();
        assert_eq!(verdicts_on_skb(uplink, &to_a_pod), (DROP, true), "alive");
        uplink.detach_from_tc(1);
        assert_eq!(verdicts_on_skb(uplink, &to_a_pod).0, PASS, "dead again");
        // A process of the node may have had a port of the range before it was reserved.
        let socket = std::net::UdpSocket::bind(("0.0.0.0", 33001)).unwrap();
        assert_eq!(verdict(program, &ip(UDP, OUTSIDE, NODE, &ports(53, 33001))), PASS);
        drop(socket);
        assert_eq!(verdict(program, &ip(UDP, OUTSIDE, NODE, &ports(53, 33001))), DROP);
    });
}

#[test]
fn counters_tell_what_was_seen() {
    with_program(|uplink| {
        uplink.configure(&config()).unwrap();
        for (_, program) in variants(uplink) {
            run(program, &ip(UDP, PEER, NODE, &ports(5000, 8472)));
            run(program, &ip(TCP, OUTSIDE, NODE, &ports(443, 33000)));
            run(program, &ip(TCP, OUTSIDE, NODE, &ports(5000, 22)));
            run(program, &ip(TCP, OUTSIDE, NODE, &ports(5000, 30080)));
        }
        let expected =
            UplinkCounters { passed: 2, vxlan: 2, snat: 2, frontend: 2, ..UplinkCounters::default() };
        assert_eq!(uplink.counters(), expected);
    });
}

#[test]
fn peer_prefixes_are_replaced_by_difference() {
    with_program(|uplink| {
        uplink.configure(&direct()).unwrap();
        let packet = ip(TCP, [10, 244, 9, 1], NODE, &ports(80, 6000));
        let (whole, half) = (prefix([10, 244, 9, 0], 24), prefix([10, 244, 9, 128], 25));
        for (prefixes, stolen) in
            [(&[whole][..], true), (&[half], false), (&[whole, half], true), (&[], false)]
        {
            uplink.set_peer_pods(prefixes).unwrap();
            assert_eq!(run(variants(uplink)[0].1, &packet), stolen, "{prefixes:?}");
        }
    });
}

/// What, under which configuration, the packet, whether it is stolen.
fn table() -> Vec<(&'static str, UplinkConfig, Vec<u8>, bool)> {
    [vxlan_and_snat(), icmp(), direct_routing(), frontends::rows(), others()].concat()
}

type Rows = Vec<(&'static str, UplinkConfig, Vec<u8>, bool)>;

fn vxlan_and_snat() -> Rows {
    let udp = |to, dest| ip(UDP, PEER, to, &ports(5000, dest));
    let tcp = |to, dest| ip(TCP, OUTSIDE, to, &ports(443, dest));
    vec![
        ("VXLAN", config(), udp(NODE, 8472), true),
        ("VXLAN to another own address", config(), udp(OTHER_OWN, 8472), true),
        ("VXLAN with IP options", config(), options(udp(NODE, 8472), 60), true),
        ("VXLAN of 9000 bytes", config(), [udp(NODE, 8472), vec![0; 9000]].concat(), true),
        ("another UDP port", config(), udp(NODE, 8473), false),
        ("the VXLAN port over TCP", config(), tcp(NODE, 8472), false),
        ("VXLAN to a foreign address", config(), udp(PEER, 8472), false),
        ("VXLAN when it is off", UplinkConfig { vxlan_port: None, ..config() }, udp(NODE, 8472), false),
        ("UDP port 0 when VXLAN is off", UplinkConfig { vxlan_port: None, ..config() }, udp(NODE, 0), false),
        ("TCP reply, first port", config(), tcp(NODE, 32768), true),
        ("TCP reply, last port", config(), tcp(NODE, 40959), true),
        ("UDP reply", config(), udp(NODE, 33333), true),
        ("below the range", config(), tcp(NODE, 32767), false),
        ("above the range", config(), tcp(NODE, 40960), false),
        ("in the range, to another own address", config(), tcp(OTHER_OWN, 33333), false),
        ("no SNAT", UplinkConfig { snat: None, ..config() }, tcp(NODE, 33333), false),
        ("no SNAT, no address", UplinkConfig { snat: None, ..config() }, tcp([0; 4], 0), false),
        ("SCTP with ports in the range", config(), ip(132, OUTSIDE, NODE, &ports(1, 33333)), false),
        ("ssh", config(), tcp(NODE, 22), false),
        ("the API server", config(), tcp(NODE, 6443), false),
    ]
}

fn icmp() -> Rows {
    let echo = |kind, to, id: u16| {
        ip(ICMP, OUTSIDE, to, &[&[kind, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat())
    };
    let error = |kind: u8, quoted: Vec<u8>| {
        ip(ICMP, OUTSIDE, NODE, &[&[kind, 4, 0, 0, 0, 0, 5, 0], &quoted[14..42]].concat())
    };
    let about = |protocol, to, source, dest| ip(protocol, NODE, to, &ports(source, dest));
    let long = options(about(UDP, PEER, 777, 8472), 60);
    vec![
        ("echo reply to a masqueraded id", config(), echo(0, NODE, 33333), true),
        ("echo reply to the node's own", config(), echo(0, NODE, 7), false),
        ("echo reply to another own address", config(), echo(0, OTHER_OWN, 33333), false),
        ("echo request", config(), echo(8, NODE, 33333), false),
        ("too big: VXLAN", config(), error(3, about(UDP, PEER, 777, 8472)), true),
        ("time exceeded: VXLAN", config(), error(11, about(UDP, PEER, 777, 8472)), true),
        ("parameter problem: VXLAN", config(), error(12, about(UDP, PEER, 777, 8472)), true),
        ("redirect: VXLAN", config(), error(5, about(UDP, PEER, 777, 8472)), false),
        ("too big: masqueraded TCP", config(), error(3, about(TCP, OUTSIDE, 33333, 443)), true),
        ("too big: masqueraded UDP", config(), error(3, about(UDP, OUTSIDE, 33333, 53)), true),
        ("too big: the node's TCP", config(), error(3, about(TCP, OUTSIDE, 5000, 443)), false),
        ("too big: masqueraded echo", config(), error(3, echo_from(NODE, 33333)), true),
        ("too big: the node's echo", config(), error(3, echo_from(NODE, 33)), false),
        (
            "too big: a packet that is not from here",
            config(),
            error(3, ip(TCP, PEER, OUTSIDE, &ports(33333, 1))),
            false,
        ),
        (
            "too big: a quoted later fragment",
            config(),
            error(3, fragment(about(UDP, PEER, 777, 8472), 100)),
            false,
        ),
        (
            "too big: a quoted first fragment",
            config(),
            error(3, fragment(about(UDP, PEER, 777, 8472), 0x2000)),
            true,
        ),
        (
            "too big: quoted IP options",
            config(),
            ip(ICMP, OUTSIDE, NODE, &[&[3, 4, 0, 0, 0, 0, 5, 0], &long[14..]].concat()),
            true,
        ),
    ]
}

fn echo_from(from: [u8; 4], id: u16) -> Vec<u8> {
    ip(ICMP, from, OUTSIDE, &[&[8, 0, 0, 0][..], &id.to_be_bytes(), &[0, 1]].concat())
}

fn direct_routing() -> Rows {
    let to_pod = ip(TCP, OUTSIDE, POD, &ports(1, 2));
    let from_peer_pod = ip(UDP, PEER_POD, NODE, &ports(53, 1000));
    let error =
        |to, quoted: &[u8]| ip(ICMP, PEER, to, &[&[3, 4, 0, 0, 0, 0, 5, 0], &quoted[14..42]].concat());
    vec![
        ("to an own pod", direct(), to_pod.clone(), true),
        ("to an own pod, with VXLAN", config(), to_pod.clone(), false),
        ("fragment to an own pod", direct(), fragment(to_pod.clone(), 100), true),
        ("empty packet to an own pod", direct(), ip(59, PEER_POD, POD, &[]), true),
        ("to a pod of another node", direct(), ip(TCP, OUTSIDE, PEER_POD, &ports(1, 2)), false),
        ("peer's pod to the node", direct(), from_peer_pod.clone(), true),
        ("peer's pod to the node, with VXLAN", config(), from_peer_pod.clone(), false),
        ("unknown pod to the node", direct(), ip(UDP, [10, 244, 3, 7], NODE, &ports(53, 1000)), false),
        ("peer's pod to a foreign address", direct(), ip(UDP, PEER_POD, PEER, &ports(53, 1000)), false),
        (
            "error about a packet of our pod",
            direct(),
            error(NODE, &ip(TCP, POD, PEER_POD, &ports(1, 2))),
            true,
        ),
        ("error about a packet to our pod", direct(), error(NODE, &ip(TCP, NODE, POD, &ports(1, 2))), true),
        (
            "error about a packet to a peer's pod",
            direct(),
            error(NODE, &ip(TCP, NODE, PEER_POD, &ports(1, 2))),
            true,
        ),
        (
            "error about the node's own packet",
            direct(),
            error(NODE, &ip(TCP, NODE, PEER, &ports(1, 2))),
            false,
        ),
        (
            "error about a pod's packet, with VXLAN",
            config(),
            error(NODE, &ip(TCP, POD, PEER_POD, &ports(1, 2))),
            false,
        ),
        ("VXLAN when direct", direct(), ip(UDP, PEER, NODE, &ports(1, 8472)), false),
    ]
}

fn others() -> Rows {
    let vxlan = ip(UDP, PEER, NODE, &ports(5000, 8472));
    let edit = |at: usize, byte: u8| {
        let mut packet = vxlan.clone();
        packet[at] = byte;
        packet
    };
    let tagged = [&vxlan[..12], &[0x81, 0, 0, 5], &vxlan[12..]].concat();
    vec![
        ("first fragment", config(), fragment(vxlan.clone(), 0x2000), false),
        ("first fragment, taken", fragments(), fragment(vxlan.clone(), 0x2000), true),
        ("later fragment, taken", fragments(), fragment(vxlan.clone(), 100), true),
        ("don't fragment", config(), fragment(vxlan.clone(), 0x4000), true),
        ("fragment to a foreign address", fragments(), fragment(ip(UDP, NODE, PEER, &[0; 8]), 100), false),
        ("VLAN tagged", config(), tagged, false),
        ("ARP", config(), edit(13, 6), false),
        ("IPv6", config(), [&edit(12, 0x86)[..13], &[0xdd], &[0; 60]].concat(), false),
        ("IP version 6 in an IPv4 frame", config(), edit(14, 0x65), false),
        ("header length 4", config(), edit(14, 0x44), false),
        ("header length 0", config(), edit(14, 0x40), false),
        ("header longer than the packet", config(), edit(14, 0x4f), false),
    ]
}

/// Ethernet and IPv4 around a transport header.
fn ip(protocol: u8, from: [u8; 4], to: [u8; 4], payload: &[u8]) -> Vec<u8> {
    let header = [0x45, 0, 0, 20 + payload.len() as u8, 0, 0, 0, 0, 64, protocol, 0, 0];
    [&[2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 8, 0][..], &header, &from, &to, payload].concat()
}

/// A UDP header, or the beginning of a TCP one.
fn ports(source: u16, dest: u16) -> Vec<u8> {
    [&source.to_be_bytes()[..], &dest.to_be_bytes(), &[0, 8, 0, 0]].concat()
}

/// Lengthens the IPv4 header with NOP options.
fn options(packet: Vec<u8>, header: usize) -> Vec<u8> {
    let mut longer = [&packet[..34], &vec![1; header - 20], &packet[34..]].concat();
    longer[14] = 0x40 | (header / 4) as u8;
    longer
}

/// Sets flags and fragment offset.
fn fragment(mut packet: Vec<u8>, field: u16) -> Vec<u8> {
    packet[20..22].copy_from_slice(&field.to_be_bytes());
    packet
}

fn prefix(address: [u8; 4], len: u8) -> Prefix {
    Prefix { address: address.into(), len }
}

/// Calls `test` with a program that has a real socket for queue 0 and one known peer podCIDR.
fn with_program(test: impl FnOnce(&mut UplinkProgram)) {
    if !kernel() {
        return;
    }
    let node = Netns::new("uplink");
    node.ip("link add v0 type veth peer name v1");
    node.enter();
    let area = Area::new(AreaConfig { chunks: 64, ..AreaConfig::default() }).unwrap();
    let ifindex = device::index("v0").unwrap();
    let socket = Socket::open(&area.handle(), ifindex, 0, &SocketConfig::default()).unwrap();
    let mut uplink = UplinkProgram::load().unwrap();
    uplink.set_socket(0, &socket).unwrap();
    uplink.set_peer_pods(&[prefix(PEER_POD, 24), prefix([10, 250, 0, 0], 16)]).unwrap();
    uplink.change_frontends(&[], &frontends::served()).unwrap();
    test(&mut uplink);
}

/// The program with and without multi-buffer support.
fn variants(uplink: &UplinkProgram) -> [(&'static str, i32); 2] {
    let programs = uplink.attachments.programs();
    [
        ("with frags", programs.frags.as_ref().unwrap().as_raw_fd()),
        ("plain", programs.plain.as_fd().as_raw_fd()),
    ]
}

/// What the program at tc ingress and the filter of packet sockets answer, in words of the one at XDP.
fn verdicts_on_skb(uplink: &UplinkProgram, packet: &[u8]) -> (u32, bool) {
    const TC_ACT_SHOT: u32 = 2;
    const TC_ACT_UNSPEC: u32 = u32::MAX;
    // BPF_PROG_TEST_RUN takes one Ethernet header off before a socket filter, which a packet socket does not.
    let behind_another = [&[0; 14], packet].concat();
    let taken = verdict(uplink.filter().as_raw_fd(), &behind_another) != 0;
    let stopped = match verdict(uplink.tc.program().as_raw_fd(), packet) {
        TC_ACT_SHOT => DROP,
        TC_ACT_UNSPEC => PASS,
        other => panic!("verdict {other}"),
    };
    (stopped, taken)
}

/// `union bpf_attr` of BPF_PROG_TEST_RUN.
#[repr(C)]
#[derive(Default)]
struct TestRun {
    program: u32,
    verdict: u32,
    data_len: u32,
    out_len: u32,
    data: u64,
    out: u64,
    repeat: u32,
    duration: u32,
    rest: [u64; 6],
}

/// Whether the program redirects the packet; if not it must pass it.
fn run(program: i32, packet: &[u8]) -> bool {
    match verdict(program, packet) {
        PASS => false,
        REDIRECT => true,
        other => panic!("verdict {other}"),
    }
}

const DROP: u32 = 1;
const PASS: u32 = 2;
const REDIRECT: u32 = 4;

fn verdict(program: i32, packet: &[u8]) -> u32 {
    const BPF_PROG_TEST_RUN: i64 = 10;
    // SAFETY: the tests keep the program open.
    let program = unsafe { BorrowedFd::borrow_raw(program) };
    let mut attr = TestRun {
        program: program.as_raw_fd() as u32,
        data_len: packet.len() as u32,
        data: packet.as_ptr() as u64,
        repeat: 1,
        ..TestRun::default()
    };
    // SAFETY: the attribute is as long as said and points to the packet, which the kernel only reads.
    let rc = unsafe { libc::syscall(libc::SYS_bpf, BPF_PROG_TEST_RUN, &raw mut attr, size_of::<TestRun>()) };
    assert_eq!(rc, 0, "{}", std::io::Error::last_os_error());
    attr.verdict
}
