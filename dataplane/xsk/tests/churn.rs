//! A port that comes and goes beside traffic: no busy queue, no lost chunk, no leaked descriptor. The only test of
//! its process, since it counts that process's descriptors.

#![allow(clippy::unwrap_used, reason = "helpers of tests")]

mod support;

use std::net::UdpSocket;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use headrace_xsk::program::PodProgram;
use headrace_xsk::{Area, AreaConfig, Desc, Kick, Mode, Socket, SocketConfig, device, offloads};
use support::{Netns, kernel};

/// Who has a chunk.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
enum Owner {
    Free,
    Lent(usize),
    InFlight(usize),
}

/// A few ports on one area, with the owner of each chunk written down.
struct Node {
    area: Area,
    owners: Vec<Owner>,
    free: Vec<u64>,
    ports: [Option<Socket>; 3],
}

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

impl Node {
    fn new() -> Self {
        let area = Area::new(AreaConfig { chunks: 2048, ..AreaConfig::default() }).unwrap();
        let free = (0..2048).map(|chunk| area.chunk_start(chunk)).collect();
        Self { area, owners: vec![Owner::Free; 2048], free, ports: [const { None }; 3] }
    }

    fn open(&mut self, port: usize, ifindex: u32) {
        // Namespaces of earlier tests that are being cleaned up hold the lock under which a queue is freed, for seconds at times.
        let deadline = Instant::now() + Duration::from_secs(30);
        let socket = loop {
            match Socket::open(&self.area.handle(), ifindex, 0, &CONFIG) {
                Err(error) if error.is_busy() && Instant::now() < deadline => {}
                opened => break opened.unwrap(),
            }
        };
        self.ports[port] = Some(socket);
        self.fill(port);
    }

    fn close(&mut self, port: usize) {
        self.ports[port] = None;
        for (chunk, owner) in self.owners.iter_mut().enumerate() {
            if matches!(*owner, Owner::Lent(of) | Owner::InFlight(of) if of == port) {
                *owner = Owner::Free;
                self.free.push(self.area.chunk_start(chunk as u32));
            }
        }
    }

    fn fill(&mut self, port: usize) {
        let Some(socket) = &mut self.ports[port] else { return };
        while socket.fill_level() < 256 {
            let Some(addr) = self.free.pop() else { return };
            assert_eq!(socket.fill([addr]), 1);
            self.owners[self.area.chunk_of(addr) as usize] = Owner::Lent(port);
        }
    }

    /// Forwards a burst from one port to another, or drops it when there is none.
    fn pump(&mut self, from: usize, to: Option<usize>) {
        for port in 0..3 {
            if let Some(socket) = &mut self.ports[port] {
                let area = &self.area;
                socket.reap(&mut |addr| {
                    let owner = &mut self.owners[area.chunk_of(addr) as usize];
                    assert_eq!(std::mem::replace(owner, Owner::Free), Owner::InFlight(port));
                    self.free.push(area.chunk_start(area.chunk_of(addr)));
                });
            }
        }
        let mut burst: Vec<Desc> = Vec::new();
        if let Some(socket) = &mut self.ports[from] {
            socket.receive(64, &mut |desc| burst.push(desc));
        }
        for frame in burst.split_inclusive(|desc| !desc.more()) {
            let out = to.and_then(|port| self.ports[port].as_mut());
            let sent = out.is_some_and(|socket| socket.transmit(frame).is_ok());
            for desc in frame {
                let chunk = self.area.chunk_of(desc.addr);
                let owner = &mut self.owners[chunk as usize];
                assert_eq!(*owner, Owner::Lent(from), "received what was lent, once");
                *owner = if sent { Owner::InFlight(to.unwrap()) } else { Owner::Free };
                if !sent {
                    self.free.push(self.area.chunk_start(chunk));
                }
            }
        }
        if let Some(socket) = to.and_then(|port| self.ports[port].as_mut()) {
            for _ in 0..8 {
                if !socket.needs_kick() || socket.kick() != Kick::Again {
                    break;
                }
            }
        }
        self.fill(from);
    }

    /// Every chunk has one owner, and the sockets count the same.
    fn check(&self) {
        let count = |owner| self.owners.iter().filter(|o| **o == owner).count();
        assert_eq!(count(Owner::Free), self.free.len());
        for (port, socket) in self.ports.iter().enumerate() {
            let (lent, in_flight) =
                socket.as_ref().map_or((0, 0), |s| (s.lent() as usize, s.in_flight() as usize));
            assert_eq!((count(Owner::Lent(port)), count(Owner::InFlight(port))), (lent, in_flight));
        }
    }
}

fn open_files() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn a_port_opens_and_closes_300_times_beside_traffic() {
    if !kernel() {
        return;
    }
    let (node, pods) = (Netns::new("cyc"), ["ca", "cb", "cc"].map(Netns::new));
    for (n, pod) in pods.iter().enumerate() {
        node.veth(&format!("pod{n}"), pod, n as u8 + 1, 1500);
        // Nobody completes checksums on this way.
        pod.spawn(|| offloads::set("eth0", &[("tx-checksum-ip-generic", false)]).unwrap()).join().unwrap();
    }
    node.enter();
    let devices = ["pod0", "pod1", "pod2"].map(|name| device::index(name).unwrap());
    let (mut ports, mut program) = (Node::new(), PodProgram::load(1).unwrap());
    for (port, ifindex) in devices.into_iter().enumerate() {
        program.attach(ifindex).unwrap();
        ports.open(port, ifindex);
        program.set_socket(ifindex, 0, ports.ports[port].as_ref().unwrap()).unwrap();
    }
    let stop = Arc::new(AtomicBool::new(false));
    let echo = pods[1].spawn(echo_server(&stop));
    let client = pods[0].spawn(echo_client(&stop));
    let noise = pods[2].spawn(noise(&stop));
    let mut files = 0;
    for cycle in 0..300 {
        if cycle == 20 {
            files = open_files(); // with the sockets of the threads above
        }
        ports.close(2);
        ports.pump(0, Some(1));
        ports.pump(1, Some(0));
        ports.open(2, devices[2]);
        program.set_socket(devices[2], 0, ports.ports[2].as_ref().unwrap()).unwrap();
        for _ in 0..5 {
            ports.pump(0, Some(1));
            ports.pump(1, Some(0));
            ports.pump(2, if cycle % 2 == 0 { Some(0) } else { None });
            std::thread::sleep(Duration::from_micros(200));
        }
        ports.check();
    }
    assert_eq!(open_files(), files);
    stop.store(true, Ordering::Relaxed);
    while !client.is_finished() || !echo.is_finished() || !noise.is_finished() {
        ports.pump(0, Some(1));
        ports.pump(1, Some(0));
    }
    let (sent, answered) = client.join().unwrap();
    println!("{answered} of {sent} echoes during 300 cycles");
    assert!(answered > 300 && answered * 10 >= sent * 9, "{answered} of {sent}");
    for port in 0..3 {
        ports.close(port);
    }
    assert_eq!(ports.free.len(), 2048);
}

fn echo_server(stop: &Arc<AtomicBool>) -> impl FnOnce() + Send + 'static {
    let stop = Arc::clone(stop);
    move || {
        let socket = UdpSocket::bind("10.9.0.2:7").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(50))).unwrap();
        let mut buffer = [0; 2000];
        while !stop.load(Ordering::Relaxed) {
            if let Ok((len, from)) = socket.recv_from(&mut buffer) {
                let _ = socket.send_to(&buffer[..len], from);
            }
        }
    }
}

fn echo_client(stop: &Arc<AtomicBool>) -> impl FnOnce() -> (u32, u32) + Send + 'static {
    let stop = Arc::clone(stop);
    move || {
        let socket = UdpSocket::bind("10.9.0.1:0").unwrap();
        socket.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let (mut sent, mut answered, mut buffer) = (0u32, 0, [0; 2000]);
        while !stop.load(Ordering::Relaxed) {
            let message = [sent as u8; 1200];
            let _ = socket.send_to(&message, "10.9.0.2:7");
            sent += 1;
            if let Ok((len, _)) = socket.recv_from(&mut buffer) {
                answered += u32::from(buffer[..len] == message);
            }
        }
        (sent, answered)
    }
}

/// Broadcasts, which reach the third port whether or not it is open.
fn noise(stop: &Arc<AtomicBool>) -> impl FnOnce() + Send + 'static {
    let stop = Arc::clone(stop);
    move || {
        let socket = UdpSocket::bind("10.9.0.3:0").unwrap();
        socket.set_broadcast(true).unwrap();
        while !stop.load(Ordering::Relaxed) {
            let _ = socket.send_to(&[0; 900], "10.9.0.255:9");
            std::thread::sleep(Duration::from_micros(50));
        }
    }
}
