//! Sockets on real devices: anchors that vanish, busy queues, probed modes, checksums left to the kernel.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::UdpSocket;
use std::time::Duration;

use headrace_xsk::spread::{self, Queues};
use headrace_xsk::{
    Area, AreaConfig, Desc, Kick, Mode, OpenError, Socket, SocketConfig, TxMetadata, device, offloads,
};
use support::{Netns, kernel};

const CONFIG: SocketConfig = SocketConfig {
    mode: Mode::Copy,
    multi_buffer: true,
    rx_ring: 512,
    tx_ring: 512,
    fill_ring: 512,
    completion_ring: 512,
    tx_budget: 512,
    send_buffer: 8 << 20,
};

fn area() -> Area {
    Area::new(AreaConfig { chunks: 64, ..AreaConfig::default() }).unwrap()
}

fn open(area: &Area, ifindex: u32) -> Result<Socket, OpenError> {
    Socket::open(&area.handle(), ifindex, 0, &CONFIG)
}

#[test]
fn an_area_outlives_the_device_of_its_anchor() {
    if !kernel() {
        return;
    }
    let (node, pods) = (Netns::new("anc"), ["aa", "ab", "ac"].map(Netns::new));
    for (n, pod) in pods.iter().enumerate() {
        node.veth(&format!("pod{n}"), pod, n as u8 + 1, 1500);
    }
    node.enter();
    let devices = ["pod0", "pod1", "pod2"].map(|name| device::index(name).unwrap());
    let mut area = area();
    let mut anchor = open(&area, devices[0]).unwrap();
    let second = open(&area, devices[1]).unwrap();
    let busy = open(&area, devices[0]).unwrap_err();
    assert!(busy.is_busy() && busy.to_string().contains("pod0 queue 0"), "{busy}");
    let busy = open(&area, devices[1]).unwrap_err();
    assert!(busy.is_busy() && busy.to_string().contains("pod1 queue 0"), "{busy}");
    node.ip("link del pod0");
    let third = open(&area, devices[2]).unwrap();
    for mut socket in [second, third] {
        // Still works: an Ethernet frame leaves and its chunk comes back.
        let addr = 4096 + 256;
        area.bytes_mut(addr, 14).copy_from_slice(b"\xff\xff\xff\xff\xff\xff\x02\0\0\0\0\x01\x88\xb5");
        socket.transmit(&[Desc::new(addr, 60, false)]).unwrap();
        assert_eq!(socket.kick(), Kick::Done);
        let mut back = Vec::new();
        while socket.reap(&mut |addr| back.push(addr)) == 0 {}
        assert_eq!(back, [addr]);
    }
    let gone = open(&area, devices[0]).unwrap_err();
    assert!(gone.is_gone(), "{gone}");
    assert!(matches!(anchor.kick(), Kick::Error(_)));
}

#[test]
fn a_released_anchor_frees_its_queue() {
    if !kernel() {
        return;
    }
    let (node, pod) = (Netns::new("rel"), Netns::new("rp"));
    node.veth("pod0", &pod, 1, 1500);
    node.enter();
    let (ifindex, first, second) = (device::index("pod0").unwrap(), area(), area());
    drop(open(&first, ifindex).unwrap());
    assert!(open(&second, ifindex).unwrap_err().is_busy());
    first.handle().release();
    open(&second, ifindex).unwrap();
}

#[test]
fn what_is_granted_is_told_and_modes_are_probed() {
    if !kernel() {
        return;
    }
    let (node, pod) = (Netns::new("gra"), Netns::new("gp"));
    node.veth("pod0", &pod, 1, 1500);
    node.enter();
    let ifindex = device::index("pod0").unwrap();
    let open = |config: SocketConfig, tx_metadata| {
        let area = Area::new(AreaConfig { chunks: 64, tx_metadata, ..AreaConfig::default() }).unwrap();
        Socket::open(&area.handle(), ifindex, 0, &config).map(|socket| socket.granted().clone())
    };
    let auto = open(SocketConfig { mode: Mode::Auto, ..CONFIG }, true).unwrap();
    assert!(!auto.zero_copy && auto.multi_buffer);
    assert!(auto.note.unwrap().contains("no zero-copy: "));
    let plain = open(SocketConfig { multi_buffer: false, ..CONFIG }, false).unwrap();
    assert!(!plain.multi_buffer && !plain.tx_metadata);
    let forced = open(SocketConfig { mode: Mode::ZeroCopy, ..CONFIG }, false).unwrap_err();
    assert!(forced.to_string().contains("take mode copy"), "{forced}");
    let uneven = open(SocketConfig { rx_ring: 1000, ..CONFIG }, false).unwrap_err();
    assert!(uneven.to_string().contains("powers of two"), "{uneven}");
    let queue = Socket::open(&area().handle(), ifindex, 99, &CONFIG).unwrap_err();
    assert!(queue.to_string().contains("queue 99") && queue.to_string().contains("ethtool -l"), "{queue}");
}

#[test]
fn a_checksum_left_to_the_kernel_arrives_good() {
    if !kernel() {
        return;
    }
    let (node, pod) = (Netns::new("sum"), Netns::new("sp"));
    node.veth("pod0", &pod, 2, 1500);
    node.enter();
    let receiver = pod.spawn(|| {
        let socket = UdpSocket::bind("10.9.0.2:9000").unwrap();
        socket.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        socket
    });
    let receiver = receiver.join().unwrap();
    let mac = pod.spawn(|| device::mac("eth0").unwrap()).join().unwrap();
    let mut area = area();
    let mut socket = open(&area, device::index("pod0").unwrap()).unwrap();
    if !socket.granted().tx_metadata {
        assert!(std::env::var("CI").as_deref() != Ok("true"), "no TX metadata in CI");
        return eprintln!("SKIPPED: the kernel has no TX metadata");
    }
    let frame = udp_frame(mac, b"partial");
    for (chunk, with_metadata) in [true, false, true].into_iter().enumerate() {
        let addr = area.chunk_start(chunk as u32) + 256;
        area.bytes_mut(addr, frame.len() as u32).copy_from_slice(&frame);
        let mut desc = Desc::new(addr, frame.len() as u32, false);
        if with_metadata {
            assert!(TxMetadata { csum_start: 34, csum_offset: 6 }.attach(&mut area, &mut desc));
        }
        socket.transmit(&[desc]).unwrap();
        assert_eq!(socket.kick(), Kick::Done);
    }
    let mut buffer = [0; 100];
    for _ in 0..2 {
        let (len, _) = receiver.recv_from(&mut buffer).unwrap();
        assert_eq!(&buffer[..len], b"partial");
    }
    // The second frame was the same without metadata: corrupt, and so dropped by the receiver.
    receiver.set_nonblocking(true).unwrap();
    assert!(receiver.recv_from(&mut buffer).is_err());
}

#[test]
fn offloads_of_a_veth_are_switched_by_name() {
    if !kernel() {
        return;
    }
    let (node, pod) = (Netns::new("off"), Netns::new("op"));
    node.veth("pod0", &pod, 1, 1500);
    node.enter();
    assert!(offloads::get("pod0").unwrap()["tx-udp-segmentation"]);
    let wanted = [("tx-udp-segmentation", false), ("rx-gro", true), ("tx-of-the-future", false)];
    let outcome = offloads::set("pod0", &wanted).unwrap();
    assert_eq!((outcome.unknown, outcome.refused), (vec!["tx-of-the-future".to_string()], vec![]));
    let now = offloads::get("pod0").unwrap();
    assert!(!now["tx-udp-segmentation"] && now["rx-gro"] && now["tx-tcp-segmentation"]);
    let fixed = offloads::set("pod0", &[("rx-checksum", false), ("tx-nocache-copy", true)]).unwrap();
    assert!(fixed.unknown.is_empty());
}

/// Ethernet, IPv4 and UDP from 10.9.0.1:9000 to 10.9.0.2:9000 with the pseudo header's sum as checksum.
fn udp_frame(to: [u8; 6], payload: &[u8]) -> Vec<u8> {
    let udp_len = 8 + payload.len() as u16;
    let sum = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|p| u32::from(u16::from_be_bytes([p[0], p.get(1).copied().unwrap_or(0)]))).sum()
    };
    let fold = |sum: u32| ((sum & 0xffff) + (sum >> 16)) as u16;
    let mut ip = [0x45, 0, 0, 0, 0, 0, 0x40, 0, 64, 17, 0, 0, 10, 9, 0, 1, 10, 9, 0, 2];
    ip[2..4].copy_from_slice(&(20 + udp_len).to_be_bytes());
    let header_sum = !fold(sum(&ip));
    ip[10..12].copy_from_slice(&header_sum.to_be_bytes());
    let pseudo = fold(sum(&ip[12..20]) + 17 + u32::from(udp_len));
    let mut frame = [&to[..], &[2, 0, 0, 0, 0, 1, 8, 0], &ip].concat();
    for field in [9000, 9000, udp_len, pseudo] {
        frame.extend(field.to_be_bytes());
    }
    frame.extend(payload);
    frame
}

#[test]
fn a_device_gets_as_many_queues_as_it_can_have() {
    if !kernel() {
        return;
    }
    let node = Netns::new("qcount");
    node.ip("link add nic0 numrxqueues 4 numtxqueues 4 type veth peer name nic1 numrxqueues 4 numtxqueues 4");
    node.enter();
    for queues in [1, 4, 2, 2] {
        spread::set_queues("nic0", queues).unwrap();
        assert_eq!(spread::queues("nic0").unwrap(), Queues { now: queues, most: 4 });
    }
    for queues in [0, 5] {
        assert_eq!(spread::set_queues("nic0", queues).unwrap_err().raw_os_error(), Some(libc::EINVAL));
    }
    assert_eq!(spread::queues("nic0").unwrap().now, 2);
    // What a veth cannot, it says so.
    for unknown in [spread::udp("nic0").map(drop), spread::spread_udp_by_ports("nic0")] {
        assert_eq!(unknown.unwrap_err().kind(), std::io::ErrorKind::Unsupported);
    }
    assert_eq!(spread::queues("nic9").unwrap_err().raw_os_error(), Some(libc::ENODEV));
}
