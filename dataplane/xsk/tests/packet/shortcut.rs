//! The shortcut on real veths: chosen flows pass the sockets, everything else does not, and what ends a connection ends its
//! way; without the process nothing passes.

use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use headrace_xsk::device;
use headrace_xsk::program::{GuardProgram, Passed, RecordIndex, ShortcutProgram, Way, WayKey, Ways};

use super::support::{Netns, kernel};
use super::{Forwarder, node};

const GATEWAY_MAC: [u8; 6] = [0xee; 6];
const TCP: u8 = 6;
const UDP: u8 = 17;

/// Two pods with a forwarder between them that has the shortcut. Both pods answer to the gateway's MAC address, so that
/// frames reach them by either way.
struct Bench {
    _node: Netns,
    pods: [Netns; 2],
    ways: Arc<Mutex<Ways>>,
    control: Arc<headrace_xsk::program::ShortcutControl>,
    devices: [u32; 2],
    /// Frames that the forwarder has carried.
    carried: Arc<std::sync::atomic::AtomicU64>,
    stop: Arc<AtomicBool>,
    forwarder: Option<JoinHandle<()>>,
}

impl Bench {
    fn new(tag: &str) -> Self {
        let (node, pods) = node(tag);
        for (pod, other) in [(&pods[0], 2), (&pods[1], 1)] {
            pod.ip("link set eth0 address ee:ee:ee:ee:ee:ee");
            pod.ip(&format!("neigh replace 10.9.0.{other} lladdr ee:ee:ee:ee:ee:ee dev eth0 nud permanent"));
        }
        let stop = Arc::new(AtomicBool::new(false));
        let carried = Arc::new(std::sync::atomic::AtomicU64::new(0));
        let (stopped, counted) = (Arc::clone(&stop), Arc::clone(&carried));
        let (to, from) = std::sync::mpsc::channel();
        let forwarder = node.spawn(move || {
            let devices = ["pod0", "pod1"].map(|name| device::index(name).unwrap());
            let ShortcutProgram { guard, filter, ways, control } = ShortcutProgram::load(3840).unwrap();
            let mut guard = GuardProgram::with(guard, None).unwrap();
            devices.iter().for_each(|device| guard.attach(*device).unwrap());
            let mut forwarder = Forwarder::new(["pod0", "pod1"], Some(filter.as_fd()));
            to.send((ways, control, devices)).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                counted.store(forwarder.turn(), Ordering::Relaxed);
            }
        });
        let (ways, control, devices) = from.recv().unwrap();
        control.set_generations(7, 8);
        let ways = Arc::new(Mutex::new(ways));
        Self { _node: node, pods, ways, control, devices, carried, stop, forwarder: Some(forwarder) }
    }

    /// Both directions of a flow between the pods, by their ports there.
    fn keys(&self, protocol: u8, ports: [u16; 2]) -> [WayKey; 2] {
        let address = |n: usize| Ipv4Addr::new(10, 9, 0, n as u8 + 1);
        [(0, 1), (1, 0)].map(|(from, to)| WayKey {
            ifindex: self.devices[from],
            source: address(from),
            destination: address(to),
            source_port: ports[from],
            destination_port: ports[to],
            protocol,
        })
    }

    fn open(&self, keys: &[WayKey; 2]) {
        for (n, key) in keys.iter().enumerate() {
            let way = Way {
                device: self.devices[1 - n],
                routes: 7,
                services: 8,
                destination_mac: GATEWAY_MAC,
                source_mac: [2, 0, 0, 0, 0, 1],
            };
            self.ways.lock().unwrap().set(key, &way, RecordIndex(n as u32 + 5)).unwrap();
        }
    }

    fn passed(&self) -> [Passed; 2] {
        [5, 6].map(|n| self.ways.lock().unwrap().passed(RecordIndex(n)))
    }

    fn carried(&self) -> u64 {
        self.carried.load(Ordering::Relaxed)
    }

    /// One in each pod, on ports of their own.
    fn sockets(&self) -> [UdpSocket; 2] {
        [("10.9.0.1:0", &self.pods[0]), ("10.9.0.2:0", &self.pods[1])].map(|(address, pod)| {
            let socket = pod.spawn(move || UdpSocket::bind(address).unwrap()).join().unwrap();
            socket.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
            socket
        })
    }

    /// A connection from the first pod to the second.
    fn connect(&self) -> (TcpStream, TcpStream) {
        let listener = self.pods[1].spawn(|| TcpListener::bind("10.9.0.2:0").unwrap()).join().unwrap();
        let to = listener.local_addr().unwrap();
        let client = self.pods[0].spawn(move || TcpStream::connect_timeout(&to, Duration::from_secs(20)));
        let server = listener.accept().unwrap().0;
        (client.join().unwrap().unwrap(), server)
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::Relaxed);
        if let Some(forwarder) = self.forwarder.take() {
            assert!(forwarder.join().is_ok() || std::thread::panicking());
        }
    }
}

fn ports(client: SocketAddr, server: SocketAddr) -> [u16; 2] {
    [client.port(), server.port()]
}

/// Sends `bytes` one way and compares what arrives.
fn exchange(from: &mut TcpStream, to: &mut TcpStream, bytes: &[u8]) {
    std::thread::scope(|scope| {
        scope.spawn(|| from.write_all(bytes).unwrap());
        let mut received = vec![0; bytes.len()];
        to.read_exact(&mut received).unwrap();
        assert!(received == bytes, "bytes differ");
    });
}

#[test]
fn a_connection_in_the_shortcut_passes_the_sockets_and_ends_by_them() {
    if !kernel() {
        return;
    }
    let bench = Bench::new("scf");
    let (mut client, mut server) = bench.connect();
    let bytes: Vec<u8> = (0..64u32 << 20).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
    let began = Instant::now();
    exchange(&mut client, &mut server, &bytes);
    let by_sockets = (bench.carried(), began.elapsed());
    let keys = bench.keys(TCP, ports(client.local_addr().unwrap(), server.local_addr().unwrap()));
    bench.open(&keys);
    // Acknowledgments that were on their way.
    std::thread::sleep(Duration::from_millis(300));
    let before = bench.carried();
    let began = Instant::now();
    exchange(&mut client, &mut server, &bytes);
    println!("64 MiB by sockets: {by_sockets:?}, by the shortcut: {:?}", began.elapsed());
    exchange(&mut server, &mut client, &bytes[..1 << 20]);
    assert_eq!(bench.carried(), before, "frames of the flow came to the sockets");
    let passed = bench.passed();
    assert!(passed[0].bytes > bytes.len() as u64 && passed[1].bytes > 1 << 20, "{passed:?}");
    assert!(passed[0].superframes > 100 && !passed[0].ended && !passed[1].ended, "{passed:?}");
    drop(client);
    assert_eq!(server.read(&mut [0; 1]).unwrap(), 0);
    assert!(bench.passed().iter().all(|passed| passed.ended), "one direction goes on after a FIN");
    let frames = bench.passed().map(|passed| passed.frames);
    drop(server);
    assert_eq!(bench.passed().map(|passed| passed.frames), frames);
    let deadline = Instant::now() + Duration::from_secs(20);
    while bench.carried() == before {
        assert!(Instant::now() < deadline, "no frame of the end came to the sockets");
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(bench.control.lost(), 0);
}

#[test]
fn other_generations_and_pauses_bring_every_packet_to_the_sockets() {
    if !kernel() {
        return;
    }
    let bench = Bench::new("scg");
    let sockets = bench.sockets();
    let to = sockets[1].local_addr().unwrap();
    bench.open(&bench.keys(UDP, ports(sockets[0].local_addr().unwrap(), to)));
    let mut sent = 0u64;
    let mut arrives_by_shortcut = || {
        let before = bench.passed()[0].frames;
        sent += 1;
        sockets[0].send_to(&sent.to_le_bytes(), to).unwrap();
        let mut received = [0; 8];
        sockets[1].recv(&mut received).unwrap();
        assert_eq!(received, sent.to_le_bytes());
        bench.passed()[0].frames > before
    };
    assert!(arrives_by_shortcut());
    bench.control.set_generations(6, 8);
    assert!(!arrives_by_shortcut());
    bench.control.set_generations(7, 9);
    assert!(!arrives_by_shortcut(), "UDP asks its Services");
    bench.control.set_generations(7, 8);
    assert!(arrives_by_shortcut());
    bench.control.pause();
    bench.control.pause();
    bench.control.resume();
    assert!(!arrives_by_shortcut() && bench.control.is_paused());
    bench.control.resume();
    assert!(arrives_by_shortcut());
    // What comes in elsewhere is another's, whatever its addresses.
    let mut ways = bench.ways.lock().unwrap();
    let [key, other] = bench.keys(UDP, ports(sockets[0].local_addr().unwrap(), to));
    ways.remove(&key);
    let device = bench.devices[1];
    let way = Way { device, routes: 7, services: 8, destination_mac: GATEWAY_MAC, source_mac: GATEWAY_MAC };
    ways.set(&WayKey { ifindex: other.ifindex, ..key }, &way, RecordIndex(5)).unwrap();
    drop(ways);
    assert!(!arrives_by_shortcut());
}

#[test]
fn without_the_process_nothing_passes() {
    if !kernel() {
        return;
    }
    let bench = Bench::new("scd");
    let sockets = bench.sockets();
    let to = sockets[1].local_addr().unwrap();
    bench.open(&bench.keys(UDP, ports(sockets[0].local_addr().unwrap(), to)));
    sockets[0].send_to(b"first", to).unwrap();
    assert_eq!(sockets[1].recv(&mut [0; 8]).unwrap(), 5);
    assert_eq!(bench.passed()[0].frames, 1);
    let Bench { ways, .. } = &bench;
    // What the process has: its lease. The tc programs stay, as pinned ones do.
    let ShortcutProgram { ways: others, .. } = ShortcutProgram::load(3840).unwrap();
    drop(std::mem::replace(&mut *ways.lock().unwrap(), others));
    sockets[1].set_read_timeout(Some(Duration::from_millis(300))).unwrap();
    // Another test's fork may hold the descriptor for a moment.
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        sockets[0].send_to(b"second", to).unwrap();
        if sockets[1].recv(&mut [0; 8]).is_err() {
            return;
        }
        assert!(Instant::now() < deadline, "packets pass without the process");
    }
}
