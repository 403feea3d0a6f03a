//! One packet into one chunk behind an envelope: all that nearly every packet that is no superframe needs between two areas.
//!
//! It makes what [`segment::run`](super::segment::run) makes of such a packet, byte for byte, in one copy.

use headrace_wire::Header;
use headrace_wire::checksum::sum;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::partial;

use super::segment::Job;
use crate::frames::{Checksum, Frame, Pools};

/// Makes the frame; the original stays with the caller. `None` when this is no such packet, or no chunk is free.
#[inline]
pub fn run(
    pools: &mut Pools,
    frame: &Frame,
    job: &Job<'_>,
    next_id: &mut impl FnMut() -> u16,
) -> Option<Frame> {
    let (ip, envelope) = (job.ip, job.envelope);
    let len = usize::from(ip.total_len);
    let goes_as_one = job.segment == 0 || job.by_port || ip.payload_len() <= job.segment;
    if !goes_as_one || frame.chunks() > 1 {
        return None;
    }
    let (mut new, source, target) =
        pools.copy_of(frame, EthernetHeader::LEN, len, job.area, envelope.len())?;
    let (outer, packet) = target.split_at_mut(envelope.len());
    packet.copy_from_slice(source);
    if envelope.write(outer, len, ip.tos, next_id()).is_none() {
        unreachable!("a chunk is smaller than what a tunnel may carry");
    }
    if let Checksum::Partial { offset, .. } = frame.checksum {
        if job.keep_partial {
            let start = (envelope.len() + ip.l4_offset()) as u16;
            new.checksum = Checksum::Partial { start, offset };
        } else {
            let l4 = &mut packet[ip.l4_offset()..];
            let checksum = partial::complete(ip.protocol, sum(l4));
            let at = usize::from(offset);
            l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
        }
    }
    new.segment = if job.by_port { job.segment as u16 } else { frame.segment };
    new.tunnelled = envelope.is_tunnel();
    Some(new)
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use etherparse::PacketBuilder;
    use headrace_wire::ethernet::MacAddr;
    use headrace_wire::parse::parse_ipv4;
    use headrace_wire::vxlan::{Encap, Tunnel, Vni};
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;
    use crate::frames::AreaId;
    use crate::frames::testing::{assert_all_free, bytes, pools, store};
    use crate::superframe::{Envelope, segment};

    fn envelope(is_tunnel: bool) -> Envelope {
        let (src, dst) = (MacAddr([2, 0, 0, 0, 0, 1]), MacAddr([2, 0, 0, 0, 0, 2]));
        let (ours, theirs) = (Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2));
        let vni = Vni::new(1).unwrap();
        let tunnel = Tunnel { src_mac: src, dst_mac: dst, src: ours, dst: theirs, port: 8472, vni };
        let outer = Encap::new(&tunnel);
        if is_tunnel {
            Envelope::Tunnel { outer, src, dst, flow_hash: 77 }
        } else {
            Envelope::Plain { src, dst }
        }
    }

    proptest! {
        /// The general way is the oracle.
        #[test]
        fn it_makes_what_segmenting_makes(
            (is_tcp, is_tunnel, is_partial) in any::<(bool, bool, bool)>(),
            (keep_partial, by_port, kept) in any::<(bool, bool, u16)>(),
            (from_uplink, to_uplink) in any::<(bool, bool)>(),
            (id, padding, segment) in (any::<u16>(), 0usize..20, 0usize..3000),
            payload in vec(any::<u8>(), 0..3000),
        ) {
            let builder = PacketBuilder::ethernet2([6; 6], [8; 6]).ipv4([10, 1, 0, 2], [10, 2, 0, 3], 64);
            let mut original = Vec::new();
            if is_tcp {
                builder.tcp(4000, 80, 7, 500).ack(9).write(&mut original, &payload).unwrap();
            } else {
                builder.udp(4000, 80).write(&mut original, &payload).unwrap();
            }
            let ip = parse_ipv4(&original[14..], original.len() - 14).unwrap();
            let at = 14 + ip.l4_checksum_offset().unwrap();
            let start = 14 + ip.l4_offset();
            if is_partial {
                let pseudo = partial::pseudo_sum(&ip).unwrap().fold();
                original[at..at + 2].copy_from_slice(&pseudo.to_be_bytes());
            }
            original.resize(original.len() + padding, 0xee);

            let mut pools = pools(40);
            let area = |uplink| if uplink { AreaId::Uplink } else { AreaId::Pods };
            let mut frame = store(pools.get_mut(area(from_uplink)), &original, &[]);
            if is_partial {
                frame.checksum = Checksum::Partial { start: start as u16, offset: (at - start) as u16 };
            }
            frame.segment = kept;
            let envelope = envelope(is_tunnel);
            let area = area(to_uplink);
            let job = Job { ip: &ip, envelope: &envelope, area, segment, by_port, keep_partial };
            let whole = run(&mut pools, &frame, &job, &mut || id);
            let is_one = segment == 0 || by_port || payload.len() <= segment;
            prop_assert_eq!(whole.is_some(), is_one);
            if let Some(whole) = whole {
                let mut made = Vec::new();
                segment::run(&mut pools, &frame, &job, &mut || id, &mut |_, new| made.push(new)).unwrap();
                let oracle = made.pop().unwrap();
                prop_assert_eq!(bytes(pools.get(area), &whole), bytes(pools.get(area), &oracle));
                prop_assert_eq!(
                    (whole.checksum, whole.segment, whole.tunnelled),
                    (oracle.checksum, oracle.segment, oracle.tunnelled)
                );
                pools.free(whole);
                pools.free(oracle);
            }
            pools.free(frame);
            assert_all_free(&pools);
        }
    }

    #[test]
    fn what_does_not_lie_or_fit_in_one_chunk_is_left_alone() {
        let mut pools = pools(40);
        let mut original = Vec::new();
        let builder = PacketBuilder::ethernet2([6; 6], [8; 6]).ipv4([10, 1, 0, 2], [10, 2, 0, 3], 64);
        builder.udp(4000, 80).write(&mut original, &[7; 3780]).unwrap();
        let ip = parse_ipv4(&original[14..], original.len() - 14).unwrap();
        for (split, is_tunnel) in [(&[][..], true), (&[1000][..], false)] {
            let frame = store(&mut pools.pods, &original, split);
            let envelope = envelope(is_tunnel);
            let job = Job {
                ip: &ip,
                envelope: &envelope,
                area: AreaId::Uplink,
                segment: 0,
                by_port: false,
                keep_partial: false,
            };
            assert!(run(&mut pools, &frame, &job, &mut || unreachable!()).is_none());
            pools.free(frame);
        }
        assert_all_free(&pools);
    }
}
