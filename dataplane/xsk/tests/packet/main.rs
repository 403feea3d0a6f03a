//! Packet sockets on real veths: superframes come and go whole with their checksum state, several sockets share a device's
//! frames, and the guard keeps them from the node's own stack.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod shortcut;
#[path = "../support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::os::fd::BorrowedFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headrace_xsk::packet::{MAX_PIECES, MESSAGES, PacketSocket, VnetHeader};
use headrace_xsk::program::{GuardProgram, LanesProgram};
use headrace_xsk::{Area, AreaConfig, device};
use support::{Netns, kernel, run};

const CHUNKS: u32 = 4096;
const HEADROOM: u32 = 256;

/// A forwarder between two sockets of one area, with the free list as plainly as it can be kept.
struct Forwarder {
    area: Area,
    free: Vec<u64>,
    sockets: [PacketSocket; 2],
    superframes: u64,
    partial: u64,
    frames: u64,
}

impl Forwarder {
    fn new(devices: [&str; 2], filter: Option<BorrowedFd<'_>>) -> Self {
        let area =
            Area::new(AreaConfig { chunks: CHUNKS, populate: false, ..AreaConfig::default() }).unwrap();
        let sockets = devices.map(|name| {
            let ifindex = device::index(name).unwrap();
            let opened = PacketSocket::open(&[&area.handle()], ifindex, MAX_PIECES, HEADROOM, filter);
            opened.unwrap().pop().unwrap()
        });
        let free = (0..CHUNKS).map(|n| u64::from(n) * 4096).collect();
        Self { area, free, sockets, superframes: 0, partial: 0, frames: 0 }
    }

    /// Once around; returns how many frames it has carried so far.
    fn turn(&mut self) -> u64 {
        for from in 0..2 {
            self.fill(from, 32);
            let came = self.sockets[from].receive(&mut self.area, MESSAGES);
            self.frames += came as u64;
            for slot in 0..came {
                let mut pieces = Vec::new();
                let header =
                    self.sockets[from].take(slot, &mut |addr, len| pieces.push((addr, len))).unwrap();
                self.superframes += u64::from(header.segment() > 0);
                self.partial += u64::from(header.partial_checksum().is_some());
                assert!(self.sockets[1 - from].queue(header, pieces.into_iter()));
            }
            while self.sockets[1 - from].queued() > 0 {
                let sent = self.sockets[1 - from].send(&self.area);
                assert_eq!(sent.refused, 0);
                let free = &mut self.free;
                self.sockets[1 - from].reap(&mut |addr| free.push(addr & !4095));
            }
        }
        let lent = self.sockets.iter().map(PacketSocket::lent).sum::<u32>();
        assert_eq!(self.free.len() as u32 + lent, CHUNKS, "a chunk is missing, or there twice");
        self.frames
    }

    fn fill(&mut self, socket: usize, slots: usize) {
        let free = std::cell::RefCell::new(&mut self.free);
        let mut chunks = std::iter::from_fn(|| free.borrow_mut().pop());
        self.sockets[socket].fill(slots, &mut chunks, &mut |addr| free.borrow_mut().push(addr & !4095));
    }
}

fn node(tag: &str) -> (Netns, [Netns; 2]) {
    let node = Netns::new(tag);
    let pods = [1, 2].map(|n| Netns::new(&format!("{tag}{n}")));
    for (n, pod) in pods.iter().enumerate() {
        node.veth(&format!("pod{n}"), pod, n as u8 + 1, 65535);
        pod.ip("route change 10.9.0.0/24 dev eth0 mtu 1450");
        run(&format!("ip netns exec {} ethtool -K eth0 tx-udp-segmentation off", pod.name));
    }
    (node, pods)
}

#[test]
fn a_tcp_stream_crosses_in_superframes_whose_checksums_nobody_completes() {
    if !kernel() {
        return;
    }
    let (node, pods) = node("pkf");
    let stop = Arc::new(AtomicBool::new(false));
    let stopped = Arc::clone(&stop);
    let forwarder = node.spawn(move || {
        let mut guard = GuardProgram::load().unwrap();
        for device in ["pod0", "pod1"] {
            guard.attach(device::index(device).unwrap()).unwrap();
        }
        let mut forwarder = Forwarder::new(["pod0", "pod1"], None);
        while !stopped.load(Ordering::Relaxed) {
            forwarder.turn();
        }
        let leftover: u64 = forwarder.sockets.iter().map(PacketSocket::lost).sum();
        (forwarder.superframes, forwarder.partial, leftover)
    });
    let listener = pods[1].spawn(|| TcpListener::bind("10.9.0.2:5000").unwrap()).join().unwrap();
    let bytes: Vec<u8> = (0..64u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let sent = bytes.clone();
    let sender = pods[0].spawn(move || {
        let deadline = Instant::now() + Duration::from_secs(20);
        let mut stream = loop {
            match TcpStream::connect("10.9.0.2:5000") {
                Ok(stream) => break stream,
                Err(error) => assert!(Instant::now() < deadline, "{error}"),
            }
        };
        stream.write_all(&sent).unwrap();
    });
    let mut received = Vec::new();
    listener.accept().unwrap().0.read_to_end(&mut received).unwrap();
    sender.join().unwrap();
    stop.store(true, Ordering::Relaxed);
    let (superframes, partial, lost) = forwarder.join().unwrap();
    assert!(received == bytes, "bytes differ");
    assert!(superframes > 100 && partial >= superframes, "{superframes} superframes, {partial} partial sums");
    println!("{superframes} superframes, {partial} partial checksums, {lost} lost");
}

#[test]
fn several_sockets_get_every_frame_once_and_the_node_none() {
    if !kernel() {
        return;
    }
    let (node, pods) = node("pks");
    // Without the guard the node itself would answer: it has the address.
    node.ip("addr add 10.9.0.9/24 dev pod0");
    let sender = pods[0].spawn(|| UdpSocket::bind("10.9.0.1:0").unwrap()).join().unwrap();
    pods[0].ip("neigh replace 10.9.0.9 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent");
    node.spawn(move || {
        let here = UdpSocket::bind("10.9.0.9:7").unwrap();
        here.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let ifindex = device::index("pod0").unwrap();
        let mut guard = GuardProgram::load().unwrap();
        guard.attach(ifindex).unwrap();
        let config = AreaConfig { chunks: 256, populate: false, ..AreaConfig::default() };
        let mut areas = [0, 1, 2].map(|_| Area::new(config).unwrap());
        let handles: Vec<_> = areas.iter().map(Area::handle).collect();
        let mut sockets =
            PacketSocket::open(&handles.iter().collect::<Vec<_>>(), ifindex, 1, HEADROOM, None).unwrap();
        for n in 0..90u8 {
            sender.send_to(&[n; 100], ("10.9.0.9", 1000 + u16::from(n))).unwrap();
        }
        let mut seen = Vec::new();
        let mut busy = 0;
        for (socket, area) in sockets.iter_mut().zip(&mut areas) {
            socket.fill(MESSAGES, &mut (0..256).map(|n| n * 4096), &mut |_| ());
            assert_eq!(socket.lent(), 64);
            let came = socket.receive(area, MESSAGES);
            for slot in 0..came {
                socket
                    .take(slot, &mut |addr, len| seen.extend(area.bytes(addr, len).get(42).copied()))
                    .unwrap();
            }
            assert_eq!(socket.lent(), 64 - came as u32);
            busy += u32::from(came > 0);
        }
        seen.sort_unstable();
        assert_eq!(seen, (0..90).collect::<Vec<u8>>());
        assert!(busy > 1, "all flows went to one socket");
        assert!(here.recv_from(&mut [0; 200]).is_err(), "the node's own stack got a frame");
    })
    .join()
    .unwrap();
}

#[test]
fn bulk_has_a_lane_of_its_own_and_nothing_overtakes() {
    if !kernel() {
        return;
    }
    let (node, pods) = node("pkl");
    pods[0].ip("neigh replace 10.9.0.9 lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent");
    let sender = pods[0].spawn(|| UdpSocket::bind("10.9.0.1:0").unwrap()).join().unwrap();
    node.spawn(move || {
        let ifindex = device::index("pod0").unwrap();
        let mut guard = GuardProgram::load().unwrap();
        guard.attach(ifindex).unwrap();
        let config = AreaConfig { chunks: 512, populate: false, ..AreaConfig::default() };
        let mut areas = [0, 1].map(|_| Area::new(config).unwrap());
        let handles: Vec<_> = areas.iter().map(Area::handle).collect();
        let handles: Vec<_> = handles.iter().collect();
        let mut lanes =
            PacketSocket::open_lanes(&handles, ifindex, 1, HEADROOM, &LanesProgram::load().unwrap(), None)
                .unwrap();
        // One flow sends 40 KB at once, forty others 100 bytes each. Who is kept from sending for long sends little.
        let send = |attempt: u16| {
            let start = Instant::now();
            for n in 0..40u8 {
                sender.send_to(&[n; 1000], ("10.9.0.9", 7 + attempt)).unwrap();
                sender.send_to(&[n; 100], ("10.9.0.9", 1000 + u16::from(n))).unwrap();
            }
            start.elapsed() < Duration::from_millis(2)
        };
        let mut take = |is_bulk: bool| {
            let mut frames = Vec::new();
            for (lanes, area) in lanes.iter_mut().zip(&mut areas) {
                let socket = if is_bulk { &mut lanes.bulk } else { &mut lanes.light };
                let first = 64 * u64::from(is_bulk);
                socket.fill(MESSAGES, &mut (first..first + 64).map(|n| n * 4096), &mut |_| ());
                let came = socket.receive(area, MESSAGES);
                for slot in 0..came {
                    socket
                        .take(slot, &mut |addr, len| frames.push((len, area.bytes(addr, len)[42])))
                        .unwrap();
                }
                socket.fill(0, &mut std::iter::empty(), &mut |_| ());
            }
            frames
        };
        let at_once = (0..100).find_map(|attempt| {
            let at_once = send(attempt);
            let frames = [take(false), take(true)];
            at_once.then_some(frames)
        });
        let [light, bulk] = at_once.expect("eighty datagrams take less than 2 ms once in a hundred times");
        let of = |lane: &[(u32, u8)], len| -> Vec<u8> {
            lane.iter().filter(|frame| frame.0 == len).map(|frame| frame.1).collect()
        };
        let mut small = of(&light, 142);
        small.sort_unstable();
        assert_eq!((small, of(&bulk, 142)), ((0..40).collect(), Vec::new()));
        let (first, rest) = (of(&light, 1042), of(&bulk, 1042));
        assert!((10..=35).contains(&first.len()), "{} of 40 before it was bulk", first.len());
        assert_eq!([first, rest].concat(), (0..40).collect::<Vec<_>>(), "the light lane is read first");
    })
    .join()
    .unwrap();
}

#[test]
fn a_full_outbox_and_pieces_outside_the_area_are_refused() {
    if !kernel() {
        return;
    }
    let (node, _pods) = node("pkq");
    node.spawn(|| {
        let area = Area::new(AreaConfig { chunks: 64, populate: false, ..AreaConfig::default() }).unwrap();
        let ifindex = device::index("pod0").unwrap();
        let mut socket = PacketSocket::open(&[&area.handle()], ifindex, MAX_PIECES, HEADROOM, None)
            .unwrap()
            .pop()
            .unwrap();
        let header = VnetHeader::default();
        assert!(!socket.queue(header, [(64 * 4096 - 10, 60)].into_iter()));
        assert!(!socket.queue(header, [(u64::MAX, 60)].into_iter()));
        assert!(!socket.queue(header, (0..19).map(|n| (n * 4096, 60))));
        for n in 0..MESSAGES as u64 {
            assert!(socket.queue(header, [(n % 64 * 4096, if n == 5 { 4 } else { 60 })].into_iter()));
        }
        assert!(!socket.queue(header, [(0, 60)].into_iter()));
        // The sixth is shorter than an Ethernet header.
        let sent = socket.send(&area);
        assert!(sent.refused == 1 && !sent.blocked, "{sent:?}");
        let mut back = Vec::new();
        socket.reap(&mut |addr| back.push(addr / 4096));
        assert_eq!((back, socket.queued()), ((0..64).collect(), 0));
    })
    .join()
    .unwrap();
}
