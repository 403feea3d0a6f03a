//! What is explained is what happens: ten thousand random packets, each explained and then sent.

use headrace_dataplane::random::Random;
use headrace_wire::tcp::TcpFlags;

use crate::walk::World;
use crate::walk::packet::{Packet, ping, syn, tcp, udp};
use crate::walk::place::At;

const PACKETS: usize = 10_000;
/// Packets of one second: below the limit of ICMP errors.
const PER_SECOND: usize = 200;

/// Bytes of Ethernet and IPv4 header, in which a bit may be wrong.
const HEADERS: usize = 34;

const SOURCES: [(At, &str); 9] = [
    (At::PodA, "10.1.0.2"),
    (At::PodB, "10.1.0.3"),
    (At::Plain, "10.1.0.4"),
    (At::PodA, "10.1.0.9"),
    (At::Host, "192.168.7.10"),
    (At::Host, "10.1.0.0"),
    (At::NodeB, "10.1.1.5"),
    (At::NodeC, "10.1.1.6"),
    (At::Wire, "203.0.113.9"),
];

const DESTINATIONS: [&str; 17] = [
    "10.1.0.2",
    "10.1.0.3",
    "10.1.0.4",
    "10.1.0.77",
    "10.1.0.1",
    "169.254.1.1",
    "192.168.7.10",
    "10.1.1.5",
    "10.1.2.5",
    "192.168.7.11",
    "10.96.0.1",
    "10.96.0.2",
    "10.96.0.3",
    "10.96.0.9",
    "203.0.113.9",
    "172.16.3.3",
    "224.0.0.1",
];

#[test]
fn what_is_explained_is_what_happens() {
    let mut random = Random::with_seed(7);
    let mut w = World::with(|d| {
        // One endpoint and one port each: nothing is left to chance.
        d.settings().snat_ports = 61_000..=61_000;
        d.service("tcp 10.96.0.1:80", &["10.1.1.5:8080"]);
        d.service("udp 10.96.0.1:80", &["10.1.0.3:53"]);
        d.service("tcp 10.96.0.2:80", &["10.1.0.2:8080"]);
        d.service("udp 10.96.0.3:80", &[]);
    });
    let (mut verdicts, mut reasons) = (std::collections::BTreeMap::new(), std::collections::BTreeSet::new());
    for number in 0..PACKETS {
        w.now += u32::from(number % PER_SECOND == 0);
        let (from, src) = SOURCES[random.below(SOURCES.len())];
        let packet = packet(src, &mut random);
        let mut frame = from.frame(&packet);
        if random.below(16) == 0 {
            // What else is in a packet, its reader takes for granted.
            let at = random.below(HEADERS);
            frame[at] ^= 1 << random.below(8);
        }
        let explained = w.explain(from, frame.clone());
        let happened = w.send_frames(0, from, vec![frame]);
        let alike = explained.out.len() == happened.out.len()
            && explained.out.iter().zip(&happened.out).all(|((at, told), (to, sent))| {
                at == to && told_of(told, sent, packet.ports.0).describes(sent)
            });
        assert!(
            alike && explained.drops == happened.drops,
            "packet {number} from {from:?}: {packet:?}\nexplained {explained:#?}\nhappened {happened:#?}"
        );
        *verdicts.entry((happened.out.len().min(2), happened.drops.len())).or_insert(0) += 1;
        reasons.extend(happened.drops.into_keys());
    }
    // Forwarded, dropped, and refused with an answer: each often enough to mean something.
    for outcome in [(1, 0), (0, 1), (1, 1)] {
        assert!(verdicts.get(&outcome).is_some_and(|n| *n > PACKETS / 50), "{verdicts:?}");
    }
    assert!(reasons.len() >= 12, "{reasons:?}");
}

/// What is told of a packet, but for what is left to chance: its identification, and the source port where another
/// connection has its own one.
fn told_of(told: &Packet, sent: &Packet, own_port: u16) -> Packet {
    let moved = told.ports.0 != own_port && sent.ports.0 != own_port;
    let source_port = if moved { sent.ports.0 } else { told.ports.0 };
    Packet { id: None, ports: (source_port, told.ports.1), ..told.clone() }
}

fn packet(src: &str, random: &mut Random) -> Packet {
    let dst = DESTINATIONS[random.below(DESTINATIONS.len())];
    let (from, to) =
        (format!("{src}:{}", 4000 + random.below(20)), format!("{dst}:{}", [80, 8080][random.below(2)]));
    let packet = match random.below(6) {
        0 | 1 => syn(&from, &to),
        2 => tcp(&from, &to),
        3 => tcp(&from, &to).flags(TcpFlags::RST).sequence(77),
        4 => udp(&from, &to),
        _ => return ping(src, dst, random.below(20) as u16),
    };
    let packet = if random.below(10) == 0 { packet.ttl(1) } else { packet };
    match random.below(8) {
        0 => packet.data(1 + random.below(4000)),
        1 => packet.data(1 + random.below(4000)).may_be_fragmented(),
        _ => packet,
    }
}
