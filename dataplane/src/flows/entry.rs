//! A flow's key and entry, and how they lie in the table's words.

use std::net::Ipv4Addr;
use std::num::NonZeroU64;

use headrace_flowmap::{Key, Slot, Value};
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::{Deltas, Rewrite};
use headrace_wire::parse::{Fragment, Ipv4Packet};
use headrace_wire::tcp::TcpFlags;

use super::deltas;
use crate::tables::routes::Out;

/// What a key's ports stand for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Transport ports or an echo identifier.
    Ports,
    /// The identification of a fragmented datagram: what was decided for its first fragment holds for the later ones.
    Fragments,
}

/// What tells flows apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FlowKey {
    /// Addresses and ports as the packet has them.
    pub tuple: Rewrite,
    /// IP protocol.
    pub protocol: Protocol,
    /// What the ports stand for.
    pub kind: Kind,
}

impl FlowKey {
    /// The key of a packet: by its ports, or a later fragment by its datagram.
    #[inline]
    pub fn of(ip: &Ipv4Packet) -> Self {
        match ip.fragment {
            Fragment::Whole | Fragment::First => {
                Self { tuple: Rewrite::unchanged(ip), protocol: ip.protocol, kind: Kind::Ports }
            }
            Fragment::Later { .. } => Self::of_fragments(ip),
        }
    }

    /// The key of the later fragments of a packet's datagram.
    pub fn of_fragments(ip: &Ipv4Packet) -> Self {
        let tuple = Rewrite { src: ip.src, dst: ip.dst, src_port: ip.id, dst_port: 0 };
        Self { tuple, protocol: ip.protocol, kind: Kind::Fragments }
    }

    /// As two words; the first is never 0, since the kind is not.
    #[inline]
    pub fn pack(&self) -> Key {
        let kind: u64 = match self.kind {
            Kind::Ports => 1,
            Kind::Fragments => 2,
        };
        let t = &self.tuple;
        let first = kind << 40
            | u64::from(self.protocol.0) << 32
            | u64::from(t.src_port) << 16
            | u64::from(t.dst_port);
        let second = u64::from(u32::from(t.src)) << 32 | u64::from(u32::from(t.dst));
        match NonZeroU64::new(first) {
            Some(first) => Key::new(first, second),
            None => unreachable!("the kind's bit is set"),
        }
    }

    /// The inverse of [`FlowKey::pack`]; `None` for words that no key has.
    pub fn unpack(key: &Key) -> Option<Self> {
        let [first, second] = key.words();
        let kind = match first >> 40 {
            1 => Kind::Ports,
            2 => Kind::Fragments,
            _ => return None,
        };
        let tuple = Rewrite {
            src: Ipv4Addr::from((second >> 32) as u32),
            dst: Ipv4Addr::from(second as u32),
            src_port: (first >> 16) as u16,
            dst_port: first as u16,
        };
        Some(Self { tuple, protocol: Protocol((first >> 32) as u8), kind })
    }
}

/// What has been seen of a direction of a connection.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen(pub u8);

impl Seen {
    /// Nothing yet.
    pub const NOTHING: Self = Self(0);
    /// A SYN.
    pub const SYN: Self = Self(1);
    /// A FIN.
    pub const FIN: Self = Self(2);
    /// An RST that fits the connection: nothing but RSTs follow it.
    pub const RST: Self = Self(4);
    /// A packet that is no SYN: TCP is past its handshake in this direction, UDP has sent.
    pub const DATA: Self = Self(8);
    /// The other direction's RST.
    pub const WAS_RESET: Self = Self(16);

    /// What a TCP packet's flags add. RST does not: whether it counts is seen from its sequence number.
    #[inline]
    pub fn of_tcp(flags: TcpFlags) -> Self {
        let mut seen = 0;
        if flags.contains(TcpFlags::SYN) {
            seen |= Self::SYN.0;
        } else {
            seen |= Self::DATA.0;
        }
        if flags.contains(TcpFlags::FIN) {
            seen |= Self::FIN.0;
        }
        Self(seen)
    }

    /// Both together.
    #[inline]
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether all of `other` has been seen.
    #[inline]
    pub const fn has(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }
}

/// What becomes of the packets of one direction of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Flow {
    /// Where the entry lies.
    pub slot: Slot,
    /// Addresses and ports that its packets leave with; those of its key when nothing is translated.
    pub rewrite: Rewrite,
    /// What that does to checksums.
    pub deltas: Deltas,
    /// The way its packets leave, as of `route_generation`.
    pub out: Option<Out>,
    /// Generation of routes in which `out` was found.
    pub route_generation: u32,
    /// Most payload and options of a TCP segment in this direction, 0 = not known.
    pub mss: u16,
    /// What has been seen of this direction.
    pub seen: Seen,
    /// Whether this is the client's direction.
    pub original: bool,
    /// Whether its destination was a Service.
    pub service: bool,
    /// Generation of Services in which its destination was last found right; counts for UDP alone.
    pub service_generation: u32,
    /// Fragments of a datagram that is the node's own: they go to its stack as they came.
    pub punted: bool,
    /// Whether packets of it were carried by others than workers, so that what these know of its sequence numbers is old.
    pub elsewhere: bool,
}

const ORIGINAL: u64 = 1;
const SERVICE: u64 = 2;
const PUNTED: u64 = 4;
const ELSEWHERE: u64 = 8;

impl Flow {
    /// Whether addresses or ports change.
    #[inline]
    pub fn translates(&self, key: &FlowKey) -> bool {
        self.rewrite != key.tuple
    }

    /// Key of the other direction.
    pub fn partner_key(&self, key: &FlowKey) -> FlowKey {
        FlowKey { tuple: self.rewrite.reversed(), ..*key }
    }

    /// That of a datagram which the node's own stack gets.
    pub fn punted(fragments: &FlowKey) -> Self {
        Self {
            slot: Slot::from_raw(0),
            rewrite: fragments.tuple,
            deltas: deltas(0, 0),
            out: Some(Out::Host),
            route_generation: 0,
            mss: 0,
            seen: Seen::NOTHING,
            original: false,
            service: false,
            service_generation: 0,
            punted: true,
            elsewhere: false,
        }
    }

    /// As the table's five words:
    ///
    /// ```text
    /// 0  source address, destination address
    /// 1  source port, destination port, IPv4 delta, L4 delta
    /// 2  way out, generation of routes
    /// 3  mss, flags (8), seen (8), generation of Services
    /// 4  0
    /// ```
    pub fn pack(&self) -> Value {
        let r = &self.rewrite;
        let flag = |is: bool, bit| if is { bit } else { 0 };
        let flags = flag(self.original, ORIGINAL)
            | flag(self.service, SERVICE)
            | flag(self.punted, PUNTED)
            | flag(self.elsewhere, ELSEWHERE);
        Value([
            u64::from(u32::from(r.src)) << 32 | u64::from(u32::from(r.dst)),
            u64::from(r.src_port) << 48
                | u64::from(r.dst_port) << 32
                | u64::from(self.deltas.addresses.to_bits()) << 16
                | u64::from(self.deltas.ports.to_bits()),
            u64::from(self.out.map_or(0, Out::encode)) << 32 | u64::from(self.route_generation),
            u64::from(self.mss) << 48
                | flags << 40
                | u64::from(self.seen.0) << 32
                | u64::from(self.service_generation),
            0,
        ])
    }

    /// The inverse of [`Flow::pack`]. Any words make some flow; a file cannot make this panic.
    #[inline(always)]
    pub fn unpack(slot: Slot, value: Value) -> Self {
        let w = value.0;
        Self {
            slot,
            rewrite: Rewrite {
                src: Ipv4Addr::from((w[0] >> 32) as u32),
                dst: Ipv4Addr::from(w[0] as u32),
                src_port: (w[1] >> 48) as u16,
                dst_port: (w[1] >> 32) as u16,
            },
            deltas: deltas((w[1] >> 16) as u16, w[1] as u16),
            out: Out::decode((w[2] >> 32) as u32),
            route_generation: w[2] as u32,
            mss: (w[3] >> 48) as u16,
            original: w[3] >> 40 & ORIGINAL != 0,
            service: w[3] >> 40 & SERVICE != 0,
            seen: Seen((w[3] >> 32) as u8),
            service_generation: w[3] as u32,
            punted: w[3] >> 40 & PUNTED != 0,
            elsewhere: w[3] >> 40 & ELSEWHERE != 0,
        }
    }
}
