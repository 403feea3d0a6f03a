//! The corpus by name, as scripts. The files under `corpus/burst/` are these, encoded, and inputs that fuzzing has found.

mod flows;
mod frontends;
mod hostile;
mod sizes;

use crate::burst::packets::{kind, style, tunnel};
use crate::burst::script::{Built, Op, Place, Raw};

const HOST: Place = Place(0);
const UPLINK: Place = Place(1);
const POD1: Place = Place(2);
const POD2: Place = Place(3);
const POD3: Place = Place(4);
/// The same ports of the second worker.
const OTHER_POD1: Place = Place(0x82);
const OTHER_POD3: Place = Place(0x84);

const SYN: u8 = 2;
const SYN_ACK: u8 = 0x12;
const ACK: u8 = 0x10;
const PSH_ACK: u8 = 0x18;
const FIN_ACK: u8 = 0x11;
const RST: u8 = 4;

/// Indexes of addresses and ports.
const P1: u8 = 0;
const P2: u8 = 1;
const P3: u8 = 2;
const REMOTE: u8 = 3;
const REMOTE2: u8 = 4;
const DNS: u8 = 5;
const WEB: u8 = 6;
const EMPTY: u8 = 7;
const HAIRPIN: u8 = 8;
const NO_SERVICE: u8 = 9;
const OUTSIDE: u8 = 10;
const NEIGHBOR: u8 = 11;
const NODE: u8 = 12;
const PEER1: u8 = 13;
const GATEWAY: u8 = 16;
const LOOPBACK: u8 = 18;
const MULTICAST: u8 = 19;
const BALANCER: u8 = 20;

const TURN: Op = Op::Turn { times: 0 };

/// Name, world and operations.
pub(crate) type Seed = (&'static str, u8, Vec<Op>);

/// All seeds.
pub(crate) fn all() -> Vec<Seed> {
    let mut seeds = hostile::malformed();
    seeds.extend(hostile::tunnels());
    seeds.extend(hostile::errors());
    seeds.extend(sizes::fragments());
    seeds.extend(sizes::superframes());
    seeds.extend(sizes::limits());
    seeds.extend(flows::services());
    seeds.extend(frontends::all());
    seeds.extend(flows::changes());
    seeds
}

/// A world's number and operations as bytes.
pub(crate) fn encode(world: u8, ops: &[Op]) -> Vec<u8> {
    let mut bytes = vec![world];
    ops.iter().for_each(|op| op.encode(&mut bytes));
    bytes
}

fn op(built: Built) -> Op {
    Op::Built(built)
}

fn raw(place: Place, bytes: Vec<u8>) -> Op {
    Op::Raw(Raw { place, split: (0, 0), fix: 0, padding: 0, bytes })
}

fn padded(built: &Built, padding: u16) -> Op {
    let bytes = crate::burst::packets::frame(built);
    Op::Raw(Raw { place: built.place, split: (0, 0), fix: 0, padding, bytes })
}

fn patched(built: &Built, patches: &[(u16, u8)]) -> Op {
    op(Built { patches: patches.to_vec(), fix: 3, ..built.clone() })
}

/// UDP whose checksum is left to the device, in an IPv4 packet 4 bytes longer than it.
fn short_partial_udp() -> Op {
    let whole = Built { style: style::PARTIAL, payload: 60, ..udp(POD1, P1, P2) };
    patched(&whole, &[(17, 92)])
}

fn tcp(place: Place, src: u8, dst: u8, tcp_flags: u8) -> Built {
    Built { place, kind: kind::TCP, src, dst, src_port: 0, dst_port: 2, tcp_flags, ..Built::default() }
}

fn udp(place: Place, src: u8, dst: u8) -> Built {
    Built { place, kind: kind::UDP, src, dst, src_port: 0, dst_port: 2, payload: 64, ..Built::default() }
}

fn echo(place: Place, src: u8, dst: u8) -> Built {
    Built { kind: kind::ECHO_REQUEST, ..udp(place, src, dst) }
}

fn arp(place: Place, dst: u8) -> Built {
    Built { kind: kind::ARP_REQUEST, ..udp(place, P1, dst) }
}

fn error(place: Place, src: u8, dst: u8, quoted: u8, payload: u16) -> Built {
    Built { kind: kind::FRAGMENTATION_NEEDED, extra: quoted, payload, ..tcp(place, src, dst, ACK) }
}
