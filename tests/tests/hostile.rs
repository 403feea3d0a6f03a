//! Frames that lie, on a real wire: counted by reason, and nothing else happens.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use etherparse::PacketBuilder;
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Ping, datagram};
use headrace_lab::{Lab, LabConfig};

use crate::findings::Findings;
use crate::support;

/// flannel's port.
const VXLAN: u16 = 8472;
/// VXLAN header of network 1 (RFC 7348).
const HEADER: [u8; 8] = [8, 0, 0, 0, 0, 0, 1, 0];
/// Random datagrams, behind a good VXLAN header and without one.
const RANDOM: u64 = 2000;

#[test]
fn lies_inside_a_tunnel_are_counted_and_nothing_else() -> Result<()> {
    tunnel_lies_are_counted(LabConfig::default())
}

#[test]
fn lies_inside_a_tunnel_are_counted_and_nothing_else_over_af_xdp() -> Result<()> {
    tunnel_lies_are_counted(support::over_af_xdp(LabConfig::default()))
}

fn tunnel_lies_are_counted(config: LabConfig) -> Result<()> {
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    let ours = lab.address("node1-pod1")?;
    let theirs = lab.address("node2-pod1")?;
    let good = inner(&lab, theirs, ours)?;
    let wrong_network = [&[8, 0, 0, 0, 0, 0, 2, 0], &good[..]].concat();
    let no_network = [&[0; 8], &good[..]].concat();
    let behind = |frame: &[u8]| [&HEADER, frame].concat();
    let damaged = |at: usize, byte: u8| {
        let mut frame = good.clone();
        frame[at] = byte;
        behind(&frame)
    };
    let cases = [
        ("node2", "another network", wrong_network, "wrong_vni"),
        ("node2", "no network", no_network, "bad_vxlan_header"),
        ("node2", "nothing but a VXLAN header", HEADER.to_vec(), "truncated"),
        ("node2", "half a VXLAN header", HEADER[..5].to_vec(), "bad_vxlan_header"),
        ("node2", "another MAC address", damaged(5, 0x99), "wrong_inner_mac"),
        ("node2", "half an IPv4 header", behind(&good[..24]), "truncated"),
        ("node2", "a header length of 4 words", damaged(14, 0x44), "bad_ipv4_header"),
        ("node2", "a total length beyond the end", damaged(16, 0xff), "bad_ipv4_header"),
        ("node2", "a wrong checksum", damaged(24, 0x55), "bad_ipv4_checksum"),
        ("node2", "our own pod as source", behind(&inner(&lab, ours, ours)?), "foreign_inner_source"),
        (
            "node2",
            "the outside as destination",
            behind(&inner(&lab, theirs, lab.address("outside")?)?),
            "tunnel_transit",
        ),
        ("outside", "an unknown sender", behind(&good), "unknown_peer"),
    ];
    for (from, what, bytes, reason) in cases {
        findings.check(what, dropped(&lab, from, &bytes, reason));
    }
    findings.check("random bytes", random(&lab, &good));
    let pong = Ping::new(theirs).run(lab.space("node1-pod1")?);
    findings.check(
        "traffic goes on",
        pong.map_err(anyhow::Error::from).and_then(|pong| {
            ensure!(pong.received == pong.sent, "{}", pong.text);
            Ok(())
        }),
    );
    findings.finish(lab)
}

#[test]
fn a_pod_speaks_only_for_itself() -> Result<()> {
    pods_speak_only_for_themselves(LabConfig::default())
}

#[test]
fn a_pod_speaks_only_for_itself_over_af_xdp() -> Result<()> {
    pods_speak_only_for_themselves(support::over_af_xdp(LabConfig::default()))
}

fn pods_speak_only_for_themselves(config: LabConfig) -> Result<()> {
    let Some(lab) = support::lab(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    let pod = lab.space("node1-pod1")?;
    let target = lab.address("node2-pod1")?;
    for address in [lab.address("node1-pod2")?, lab.address("node1")?, Ipv4Addr::new(8, 8, 8, 8)] {
        let before = drops(&lab, "spoofed_source")?;
        pod.run(&format!("ip address add {address}/32 dev lo"))?;
        // Nobody answers, so ping fails.
        let _ = pod.run(&format!("ping -c 2 -i 0.1 -W 1 -I {address} {target}"));
        pod.run(&format!("ip address del {address}/32 dev lo"))?;
        let counted = wait_until(Duration::from_secs(3), || {
            drops(&lab, "spoofed_source").is_ok_and(|now| now >= before + 2)
        });
        findings.equal(format!("as {address}"), &counted, &true);
    }
    findings.check("as itself", Ping::new(target).run(pod).map_err(anyhow::Error::from));
    findings.finish(lab)
}

/// An inner frame from node2's tunnel end to node1's.
fn inner(lab: &Lab, from: Ipv4Addr, to: Ipv4Addr) -> Result<Vec<u8>> {
    let mac = |node| anyhow::Ok(mac(&lab.node(node)?.plan.vtep_mac())?);
    let mut frame = Vec::new();
    PacketBuilder::ethernet2(mac("node2")?, mac("node1")?)
        .ipv4(from.octets(), to.octets(), 64)
        .udp(4000, 4001)
        .write(&mut frame, b"hello")?;
    Ok(frame)
}

fn mac(text: &str) -> Result<[u8; 6]> {
    let bytes: Result<Vec<u8>, _> = text.split(':').map(|byte| u8::from_str_radix(byte, 16)).collect();
    bytes?.try_into().ok().context("a MAC address has 6 bytes")
}

fn dropped(lab: &Lab, from: &str, datagram: &[u8], reason: &str) -> Result<()> {
    let before = drops(lab, reason)?;
    send(lab, from, &[datagram.to_vec()])?;
    let counted = wait_until(Duration::from_secs(3), || drops(lab, reason).is_ok_and(|now| now > before));
    ensure!(counted, "not counted as {reason}: {:?}", lab.dataplane("node1")?.workers[0].drops);
    Ok(())
}

fn random(lab: &Lab, good: &[u8]) -> Result<()> {
    let mut state = 0x9e37_79b9_7f4a_7c15u64;
    let mut word = move || {
        state = state.wrapping_mul(0xd129_0a2d_3b4c_5e6f).wrapping_add(0x1234_5677) ^ (state >> 29);
        state
    };
    let datagrams: Vec<Vec<u8>> = (0..RANDOM)
        .map(|number| {
            let mut bytes: Vec<u8> = [&HEADER[..], good].concat();
            bytes.resize(30 + (word() % 1300) as usize, 0);
            // Some lie from the first byte on, others only behind the inner Ethernet header.
            let from = if number % 3 == 0 { 0 } else { 22 };
            for _ in 0..=word() % 20 {
                let at = from + (word() as usize) % (bytes.len() - from);
                bytes[at] = word() as u8;
            }
            bytes
        })
        .collect();
    send(lab, "node2", &datagrams)
}

fn send(lab: &Lab, from: &str, datagrams: &[Vec<u8>]) -> Result<()> {
    let socket = datagram::bind(lab.space(from)?, Ipv4Addr::UNSPECIFIED, 0)?;
    let target = SocketAddrV4::new(lab.address("node1")?, VXLAN);
    for datagram in datagrams {
        socket.send_to(datagram, target)?;
    }
    Ok(())
}

fn drops(lab: &Lab, reason: &str) -> Result<u64> {
    let workers = lab.dataplane("node1")?.workers;
    let counts = workers.iter().flat_map(|worker| &worker.drops);
    Ok(counts.filter(|count| count.name == reason).map(|count| count.count).sum())
}
