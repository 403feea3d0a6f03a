//! A hash of a packet's 5-tuple, for spreading flows.
//!
//! It is not a secret-keeping hash: the seed keeps two nodes from spreading alike and makes collisions hard to
//! aim at. Both directions of a flow hash differently.

use std::net::Ipv4Addr;

use crate::ipv4::Protocol;
use crate::parse::Ipv4Packet;

/// Odd constants with well-mixed bits: the fractional parts of the golden ratio and of the square root of 2.
const MIX: [u64; 2] = [0x9e37_79b9_7f4a_7c15, 0x6a09_e667_f3bc_c909];

/// The hash of the flow that a packet belongs to.
///
/// Fragments are hashed without ports, the first as well, so that all of a datagram stay in order on one path.
#[inline]
pub fn flow_hash(seed: u64, packet: &Ipv4Packet) -> u32 {
    let ports = if packet.is_fragment() { None } else { packet.l4.ports() };
    let (src_port, dst_port) = ports.unwrap_or_default();
    hash_tuple(seed, packet.src, packet.dst, packet.protocol, (src_port, dst_port))
}

/// The hash of a 5-tuple; `ports` are source and destination.
#[inline]
pub fn hash_tuple(seed: u64, src: Ipv4Addr, dst: Ipv4Addr, protocol: Protocol, ports: (u16, u16)) -> u32 {
    let addresses = u64::from(src.to_bits()) << 32 | u64::from(dst.to_bits());
    let rest = u64::from(ports.0) << 32 | u64::from(ports.1) << 16 | u64::from(protocol.0);
    let mixed = multiply_fold(addresses ^ seed, MIX[0]);
    let mixed = multiply_fold(mixed ^ rest, MIX[1]);
    (mixed ^ (mixed >> 32)) as u32
}

/// Both halves of the 128-bit product, folded: every input bit reaches the middle of the result.
#[inline]
fn multiply_fold(a: u64, b: u64) -> u64 {
    let product = u128::from(a) * u128::from(b);
    product as u64 ^ (product >> 64) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn neighbouring_flows_spread_evenly() {
        // 64 addresses times 64 ports into 64 buckets by the top bits and by the bottom bits: 64 expected in each.
        for shift in [26, 0] {
            let mut buckets = [0u32; 64];
            for host in 0..64 {
                for port in 0..64 {
                    let src = Ipv4Addr::new(10, 0, 0, host);
                    let dst = Ipv4Addr::new(10, 0, 1, 1);
                    let hash = hash_tuple(7, src, dst, Protocol::TCP, (40_000 + port, 80));
                    buckets[(hash >> shift & 63) as usize] += 1;
                }
            }
            assert!(buckets.iter().all(|&count| (24..=104).contains(&count)), "{buckets:?}");
        }
    }

    #[test]
    fn direction_seed_and_protocol_count() {
        let (a, b) = (Ipv4Addr::new(10, 0, 0, 1), Ipv4Addr::new(10, 0, 0, 2));
        let hash = hash_tuple(1, a, b, Protocol::TCP, (1, 2));
        assert_ne!(hash, hash_tuple(1, b, a, Protocol::TCP, (2, 1)));
        assert_ne!(hash, hash_tuple(2, a, b, Protocol::TCP, (1, 2)));
        assert_ne!(hash, hash_tuple(1, a, b, Protocol::UDP, (1, 2)));
    }
}
