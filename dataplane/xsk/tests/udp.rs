//! Tunnel sockets on a real veth: datagrams of one size cross together and come apart as they were, whatever their sizes.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::time::{Duration, Instant};

use headrace_xsk::udp::{Envelope, UdpReceiver, UdpSender};
use headrace_xsk::{Area, AreaConfig, AreaHandle};
use support::{Netns, kernel};

const CHUNKS: u32 = 2048;
const HEADROOM: u32 = 300;
const HERE: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 1);
const THERE: SocketAddrV4 = SocketAddrV4::new(Ipv4Addr::new(10, 9, 0, 2), 8472);

fn area() -> Area {
    Area::new(AreaConfig { chunks: CHUNKS, populate: false, ..AreaConfig::default() }).unwrap()
}

/// Two machines on one wire, the second of which merges what comes.
fn wire(tag: &str, mtu: u32) -> [Netns; 2] {
    let machines = [1, 2].map(|n| Netns::new(&format!("{tag}{n}")));
    let [one, two] = &machines;
    one.veth("eth1", two, 2, mtu);
    one.ip("addr add 10.9.0.1/24 dev eth1");
    let offloads = ["-K", "eth0", "gro", "on"];
    assert!(two.command("ethtool").args(offloads).status().unwrap().success());
    machines
}

/// Sends datagrams of these lengths, each filled with its number, in runs of pieces.
struct Sender {
    area: Area,
    socket: UdpSender,
    number: u8,
}

impl Sender {
    fn new() -> Self {
        let area = area();
        let socket = UdpSender::open(&area.handle(), HERE).unwrap();
        Self { area, socket, number: 0 }
    }

    fn send(&mut self, lengths: &[usize]) {
        let envelope = Envelope { other: THERE, tos: 2 };
        let mut chunks = (0..CHUNKS).map(|n| u64::from(n) * 4096);
        for len in lengths {
            let bytes = vec![self.number; *len];
            self.number = self.number.wrapping_add(1);
            let mut pieces = Vec::new();
            for part in bytes.chunks(1000) {
                let addr = chunks.next().unwrap();
                self.area.bytes_mut(addr, part.len() as u32).copy_from_slice(part);
                pieces.push((addr, part.len() as u32));
            }
            assert!(self.socket.queue(envelope, pieces.into_iter()), "no room");
        }
        let sent = self.socket.send(&self.area);
        assert!(sent.refused == 0 && !sent.blocked, "{sent:?}");
        let mut back = Vec::new();
        self.socket.reap(&mut |addr| back.push(addr / 4096));
        assert_eq!(back.len(), lengths.iter().map(|len| len.div_ceil(1000)).sum::<usize>());
        assert!(self.socket.is_empty());
    }
}

struct Receiver {
    area: Area,
    free: Vec<u64>,
    socket: UdpReceiver,
}

impl Receiver {
    fn new() -> Self {
        let area = area();
        let handle: AreaHandle = area.handle();
        let socket = UdpReceiver::open(&[&handle], THERE, HEADROOM).unwrap().pop().unwrap();
        let free = (0..CHUNKS).map(|n| u64::from(n) * 4096).collect();
        let mut receiver = Self { area, free, socket };
        receiver.fill();
        receiver
    }

    fn fill(&mut self) {
        let free = &mut self.free;
        self.socket.fill(&mut std::iter::from_fn(|| free.pop()));
        assert_eq!(self.free.len() as u32 + self.socket.lent(), CHUNKS, "a chunk is missing, or there twice");
    }

    /// Lengths of the next `count` datagrams, whose bytes must be their numbers from `first` on.
    fn expect(&mut self, mut first: u8, count: usize) -> Vec<usize> {
        let deadline = Instant::now() + Duration::from_secs(5);
        let mut lengths = Vec::new();
        while lengths.len() < count {
            assert!(Instant::now() < deadline, "{} of {count} datagrams came", lengths.len());
            self.socket.receive(&mut self.area);
            let mut pieces = Vec::new();
            while let Some(envelope) = self.socket.next(&mut |addr, len| pieces.push((addr, len))) {
                assert_eq!((*envelope.other.ip(), envelope.tos), (HERE, 2));
                assert_eq!(pieces[0].0 % 4096, u64::from(HEADROOM), "room for headers");
                for (addr, len) in &pieces {
                    assert!(self.area.bytes(*addr, *len).iter().all(|byte| *byte == first));
                    self.free.push(addr & !4095);
                }
                lengths.push(pieces.drain(..).map(|(_, len)| len as usize).sum());
                first = first.wrapping_add(1);
            }
            self.fill();
        }
        lengths
    }
}

#[test]
fn datagrams_of_all_sizes_arrive_as_they_were_sent() {
    if !kernel() {
        return;
    }
    for mtu in [1500, 9000] {
        let [one, two] = wire(&format!("udp{mtu}-"), mtu);
        let full = mtu as usize - 28;
        let runs: Vec<Vec<usize>> = vec![
            vec![full],
            vec![100],
            vec![full; 40],
            [vec![full; 44], vec![17]].concat(),
            vec![full; 100],
            vec![60; 64],
            vec![1000; 64],
            [vec![full; 3], vec![200; 5], vec![full; 3]].concat(),
            (1..30).map(|n| n * 20).collect(),
            (1..30).rev().map(|n| n * 20).collect(),
        ];
        let mut receiver = two.spawn(Receiver::new).join().unwrap();
        let mut sender = one.spawn(Sender::new).join().unwrap();
        for run in runs {
            let first = sender.number;
            sender.send(&run);
            assert_eq!(receiver.expect(first, run.len()), run, "MTU {mtu}");
        }
    }
}

#[test]
fn what_cannot_be_sent_is_counted_and_a_full_queue_refused() {
    if !kernel() {
        return;
    }
    let [one, _two] = wire("udpq", 1500);
    one.spawn(|| {
        let area = area();
        let mut socket = UdpSender::open(&area.handle(), HERE).unwrap();
        let nowhere = Envelope { other: SocketAddrV4::new(Ipv4Addr::new(192, 0, 2, 1), 8472), tos: 0 };
        assert!(!socket.queue(nowhere, [(u64::from(CHUNKS) * 4096 - 1, 2)].into_iter()));
        for _ in 0..10 {
            assert!(socket.queue(nowhere, [(0, 100)].into_iter()));
        }
        let mut queued = 10;
        while socket.queue(Envelope { tos: queued as u8, ..nowhere }, [(4096, 100)].into_iter()) {
            queued += 1;
        }
        assert!((20..200).contains(&queued), "{queued}");
        assert_eq!(socket.send(&area).refused, queued);
        let mut back = 0;
        socket.reap(&mut |_| back += 1);
        assert_eq!(back, queued);
    })
    .join()
    .unwrap();
}

#[test]
fn a_port_that_is_taken_is_named() {
    if !kernel() {
        return;
    }
    let [_one, two] = wire("udpt", 1500);
    two.spawn(|| {
        let _other = UdpSocket::bind(THERE).unwrap();
        let area = area();
        let Err(error) = UdpReceiver::open(&[&area.handle()], THERE, HEADROOM) else { panic!("it opened") };
        let text = error.to_string();
        assert!(text.contains("10.9.0.2:8472") && text.contains("in use"), "{text}");
    })
    .join()
    .unwrap();
}
