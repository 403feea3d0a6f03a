use etherparse::{Ipv4Header, PacketBuilder, TcpHeader, TcpOptionElement, UdpHeader};
use headrace_wire::ethernet::MacAddr;
use headrace_wire::parse::{Ipv4Packet, parse_ipv4};
use headrace_wire::partial;
use headrace_wire::vxlan::{ENCAP_LEN, Encap, Tunnel, Vni};
use proptest::collection::vec;
use proptest::prelude::*;

use super::coalesce::{Finished, Target};
use super::segment::{Failure, Job};
use super::*;
use crate::frames::testing::{assert_all_free, bytes, pools, store, take};
use crate::frames::{AreaId, Pool};
use crate::port::{Capabilities, PortIndex};

const SRC_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 1]);
const DST_MAC: MacAddr = MacAddr([2, 0, 0, 0, 0, 2]);
const PLAIN: Envelope = Envelope::Plain { src: SRC_MAC, dst: DST_MAC };
const CHUNKS: u32 = 600;

fn tunnel() -> Envelope {
    let tunnel = Tunnel {
        src_mac: SRC_MAC,
        dst_mac: DST_MAC,
        src: [192, 0, 2, 1].into(),
        dst: [192, 0, 2, 2].into(),
        port: 8472,
        vni: Vni::new(1).unwrap(),
    };
    Envelope::Tunnel { outer: Encap::new(&tunnel), src: SRC_MAC, dst: DST_MAC, flow_hash: 77 }
}

/// A TCP packet behind an Ethernet header, its checksum complete.
#[derive(Clone, Debug)]
struct Tcp {
    sequence: u32,
    id: u16,
    flags: u8,
    timestamps: bool,
    payload: Vec<u8>,
}

const FIN: u8 = 1;
const PSH: u8 = 8;
const CWR: u8 = 0x80;
const ACK: u8 = 0x10;

impl Tcp {
    fn frame(&self) -> Vec<u8> {
        let mut ip = Ipv4Header::new(0, 64, etherparse::IpNumber::TCP, [10, 1, 0, 2], [10, 2, 0, 3]).unwrap();
        ip.identification = self.id;
        let mut tcp = TcpHeader::new(40_000, 80, self.sequence, 500);
        (tcp.fin, tcp.psh, tcp.cwr, tcp.ack) =
            (self.flags & FIN != 0, self.flags & PSH != 0, self.flags & CWR != 0, self.flags & ACK != 0);
        tcp.acknowledgment_number = 99;
        if self.timestamps {
            tcp.set_options(&[
                TcpOptionElement::Noop,
                TcpOptionElement::Noop,
                TcpOptionElement::Timestamp(7, 9),
            ])
            .unwrap();
        }
        let builder = PacketBuilder::ethernet2(SRC_MAC.0, DST_MAC.0);
        let builder = builder.ip(etherparse::IpHeaders::Ipv4(ip, Default::default())).tcp_header(tcp);
        let mut bytes = Vec::new();
        builder.write(&mut bytes, &self.payload).unwrap();
        bytes
    }
}

fn tcp(sizes: std::ops::Range<usize>) -> impl Strategy<Value = Tcp> {
    (any::<u32>(), any::<u16>(), any::<bool>(), any::<bool>(), vec(any::<u8>(), sizes)).prop_map(
        |(sequence, id, push, timestamps, payload)| {
            let flags = if push { ACK | PSH } else { ACK };
            Tcp { sequence, id, flags, timestamps, payload }
        },
    )
}

fn parsed(frame: &[u8]) -> Ipv4Packet {
    parse_ipv4(&frame[14..], frame.len() - 14).unwrap()
}

/// Leaves the checksum to the device, as a sender on this machine does.
fn make_partial(pool: &mut Pool, frame: &mut Frame) {
    let ip = parsed(&bytes(pool, frame));
    let field = 14 + ip.l4_checksum_offset().unwrap();
    let pseudo = partial::pseudo_sum(&ip).unwrap().fold();
    pool.head_mut(frame)[field..field + 2].copy_from_slice(&pseudo.to_be_bytes());
    let start = (14 + ip.l4_offset()) as u16;
    frame.checksum = Checksum::Partial { start, offset: field as u16 - start };
}

/// Segments a frame into the uplink's area.
fn segments(
    pools: &mut Pools,
    frame: &Frame,
    envelope: &Envelope,
    segment: usize,
) -> Result<Vec<Frame>, Failure> {
    let ip = parsed(&bytes(pools.get(frame.area()), frame));
    let job = Job { ip: &ip, envelope, area: AreaId::Uplink, segment, by_port: false, keep_partial: false };
    let mut made = Vec::new();
    let mut id = 100;
    let mut next_id = || {
        id += 1;
        id
    };
    segment::run(pools, frame, &job, &mut next_id, &mut |_, new| made.push(new))?;
    Ok(made)
}

/// Panics unless etherparse finds both checksums of a TCP packet right. Returns its headers and payload.
fn verified(packet: &[u8]) -> (Ipv4Header, TcpHeader, Vec<u8>) {
    let (ip, l4) = Ipv4Header::from_slice(packet).unwrap();
    assert_eq!(usize::from(ip.total_len), packet.len());
    assert_eq!(ip.header_checksum, ip.calc_header_checksum());
    let (tcp, payload) = TcpHeader::from_slice(l4).unwrap();
    assert_eq!(tcp.checksum, tcp.calc_checksum_ipv4_raw(ip.source, ip.destination, payload).unwrap());
    (ip, tcp, payload.to_vec())
}

/// Gives frames of the uplink's area to a coalescer, as a burst. Those it does not take go out by themselves.
fn coalesced(pools: &mut Pools, frames: Vec<Frame>, partial: bool) -> Vec<Frame> {
    let capabilities = Capabilities { superframes: true, partial_checksums: partial, cuts_segments: false };
    let mut coalescer = Coalescer::default();
    let mut out = Vec::new();
    for frame in frames {
        let ip = parsed(&bytes(&pools.uplink, &frame));
        let target = Target { port: PortIndex(2), capabilities, envelope: &PLAIN };
        let taken = coalescer.offer(pools, &frame, &ip, &target, &mut |_, (_, f): Finished| out.push(f));
        if taken { pools.free(frame) } else { out.push(frame) }
    }
    coalescer.flush(pools, &mut |_, (port, frame): Finished| {
        assert_eq!(port, PortIndex(2));
        out.push(frame);
    });
    out
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn segmenting_and_coalescing_give_back_the_bytes(
        tcp in tcp(1..55_000), segment in 150usize..9000, split in vec(134usize..4000, 0..4),
        is_partial in any::<bool>(), in_tunnel in any::<bool>(), leave_partial in any::<bool>(),
    ) {
        let mut pools = pools(CHUNKS);
        let original = tcp.frame();
        let mut frame = store(&mut pools.pods, &original, &split);
        if is_partial {
            make_partial(&mut pools.pods, &mut frame);
        }
        let envelope = if in_tunnel { tunnel() } else { PLAIN };
        let mut made = segments(&mut pools, &frame, &envelope, segment).unwrap();
        prop_assert_eq!(made.len(), tcp.payload.len().div_ceil(segment));
        pools.free(frame);
        for segment in &mut made {
            if in_tunnel {
                prop_assert!(segment.pull(ENCAP_LEN));
            }
            prop_assert_eq!(segment.checksum, Checksum::AsSent);
        }
        let mut out = coalesced(&mut pools, made, leave_partial);
        prop_assert_eq!(out.len(), 1);
        let mut whole = out.remove(0);
        prop_assert_eq!(whole.checksum != Checksum::AsSent, leave_partial);
        complete_checksum(&mut pools, &mut whole, original.len());
        prop_assert_eq!(take(&mut pools, whole), original);
        assert_all_free(&pools);
    }

    #[test]
    fn every_segment_is_a_packet_of_its_own(
        tcp in tcp(1..20_000), segment in 100usize..3000, split in vec(134usize..4000, 0..4),
        is_partial in any::<bool>(), flags in prop_oneof![Just(ACK), Just(ACK | FIN | PSH), Just(ACK | CWR | PSH)],
    ) {
        let mut pools = pools(CHUNKS);
        let tcp = Tcp { flags, ..tcp };
        let mut frame = store(&mut pools.pods, &tcp.frame(), &split);
        if is_partial {
            make_partial(&mut pools.pods, &mut frame);
        }
        let made = segments(&mut pools, &frame, &PLAIN, segment).unwrap();
        let (last, mut done) = (made.len() - 1, 0);
        for (index, new) in made.into_iter().enumerate() {
            let (ip, header, payload) = verified(&take(&mut pools, new)[14..]);
            prop_assert_eq!(ip.identification, tcp.id.wrapping_add(index as u16));
            prop_assert_eq!(header.sequence_number, tcp.sequence.wrapping_add(done as u32));
            prop_assert_eq!(&payload, &tcp.payload[done..(done + segment).min(tcp.payload.len())]);
            prop_assert_eq!(header.fin, flags & FIN != 0 && index == last);
            prop_assert_eq!(header.psh, flags & PSH != 0 && index == last);
            prop_assert_eq!(header.cwr, flags & CWR != 0 && index == 0);
            prop_assert_eq!(header.options.as_slice().len(), if tcp.timestamps { 12 } else { 0 });
            done += payload.len();
        }
        prop_assert_eq!(done, tcp.payload.len());
        pools.free(frame);
        assert_all_free(&pools);
    }

    /// Segments of two flows, some lost, doubled, swapped or damaged: each flow's bytes come out in the order in which
    /// they went in, and a damaged segment as it was.
    #[test]
    fn coalescing_changes_no_order_and_mends_nothing(
        plan in vec((any::<bool>(), 0u32..12, 1usize..5, any::<bool>(), 0u8..12), 1..40),
    ) {
        let mut pools = pools(CHUNKS);
        let (mut frames, mut expected, mut damaged) = (Vec::new(), [Vec::new(), Vec::new()], Vec::new());
        for (flow, step, size, push, fault) in plan {
            let sequence = step * 700;
            let payload: Vec<u8> = (0..size * 350).map(|i| (i as u32 + sequence) as u8).collect();
            let flags = if push { ACK | PSH } else { ACK };
            let mut bytes = Tcp { sequence, id: 1, flags, timestamps: false, payload }.frame();
            if flow {
                // The same ports the other way round: the sums stay the same.
                let (one, other) = bytes[34..38].split_at_mut(2);
                one.swap_with_slice(other);
            }
            if fault == 0 {
                bytes[60] ^= 0x40;
                damaged.push(bytes.clone());
            }
            expected[usize::from(flow)].push((sequence, bytes[54..].to_vec()));
            frames.push(store(&mut pools.uplink, &bytes, &[]));
        }
        let out = coalesced(&mut pools, frames, false);
        let mut found = [Vec::new(), Vec::new()];
        for frame in out {
            let bytes = take(&mut pools, frame);
            let flow = usize::from(bytes[34..36] == 80u16.to_be_bytes());
            if let Some(at) = damaged.iter().position(|d| d[14..] == bytes[14..]) {
                damaged.remove(at);
            } else {
                verified(&bytes[14..]);
            }
            let sequence = u32::from_be_bytes(bytes[38..42].try_into().unwrap());
            found[flow].push((sequence, bytes[54..].to_vec()));
        }
        prop_assert!(damaged.is_empty(), "a damaged segment was mended");
        for (expected, found) in expected.into_iter().zip(found) {
            prop_assert_eq!(merged(found), merged(expected));
        }
        assert_all_free(&pools);
    }

    #[test]
    fn fragments_put_together_are_the_packet(
        payload in vec(any::<u8>(), 1..20_000), mtu in 100usize..4000, smaller in 80usize..1500,
        options in any::<bool>(), in_tunnel in any::<bool>(), split in vec(134usize..4000, 0..4),
    ) {
        let mut pools = pools(CHUNKS);
        let original = udp_frame(&payload, options);
        let frame = store(&mut pools.pods, &original, &split);
        let envelope = if in_tunnel { tunnel() } else { PLAIN };
        let first = fragments(&mut pools, &frame, &envelope, mtu);
        pools.free(frame);
        let mut pieces = Vec::new();
        for mut frame in first {
            if in_tunnel {
                prop_assert!(frame.pull(ENCAP_LEN));
            }
            // The next router's way is smaller still.
            let again = fragments(&mut pools, &frame, &PLAIN, smaller);
            pools.free(frame);
            pieces.extend(again.into_iter().map(|frame| take(&mut pools, frame)));
        }
        pieces.reverse();
        prop_assert_eq!(reassembled(&pieces, mtu.min(smaller)), &original[14 + if options { 32 } else { 20 }..]);
        assert_all_free(&pools);
    }
}

/// Pieces that follow each other as one.
fn merged(pieces: Vec<(u32, Vec<u8>)>) -> Vec<(u32, Vec<u8>)> {
    let mut merged: Vec<(u32, Vec<u8>)> = Vec::new();
    for (sequence, payload) in pieces {
        match merged.last_mut() {
            Some((begin, bytes)) if *begin + bytes.len() as u32 == sequence => bytes.extend(payload),
            _ => merged.push((sequence, payload)),
        }
    }
    merged
}

fn udp_frame(payload: &[u8], options: bool) -> Vec<u8> {
    let mut ip = Ipv4Header::new(0, 64, etherparse::IpNumber::UDP, [10, 1, 0, 2], [10, 2, 0, 3]).unwrap();
    (ip.identification, ip.dont_fragment) = (4711, false);
    if options {
        // Router alert, which is copied into fragments, and record route, which is not.
        ip.options = [148, 4, 0, 0, 7, 7, 4, 0, 0, 0, 0, 0].into();
    }
    let builder = PacketBuilder::ethernet2(SRC_MAC.0, DST_MAC.0);
    let builder = builder.ip(etherparse::IpHeaders::Ipv4(ip, Default::default())).udp(4000, 53);
    let mut bytes = Vec::new();
    builder.write(&mut bytes, payload).unwrap();
    bytes
}

fn fragments(pools: &mut Pools, frame: &Frame, envelope: &Envelope, mtu: usize) -> Vec<Frame> {
    let ip = parsed(&bytes(pools.get(frame.area()), frame));
    let job =
        Job { ip: &ip, envelope, area: AreaId::Uplink, segment: 0, by_port: false, keep_partial: false };
    let mut made = Vec::new();
    let count = fragment::run(pools, frame, &job, mtu, &mut || 0, &mut |_, new| made.push(new)).unwrap();
    assert_eq!(count, made.len());
    assert!(made.iter().all(|new| new.len() <= envelope.len() + mtu));
    made
}

/// The payload of a datagram, put together as RFC 815 does.
fn reassembled(frames: &[Vec<u8>], mtu: usize) -> Vec<u8> {
    let mut datagram = vec![None; 65_536];
    let mut end = None;
    for frame in frames {
        let (ip, l4) = Ipv4Header::from_slice(&frame[14..]).unwrap();
        assert_eq!((ip.header_checksum, ip.identification), (ip.calc_header_checksum(), 4711));
        assert!(usize::from(ip.total_len) == frame.len() - 14 && frame.len() - 14 <= mtu);
        let at = usize::from(ip.fragment_offset.value()) * 8;
        for (place, byte) in datagram[at..].iter_mut().zip(l4) {
            assert_eq!(place.replace(*byte), None, "fragments overlap");
        }
        if !ip.more_fragments {
            assert_eq!(end.replace(at + l4.len()), None, "two last fragments");
        }
    }
    datagram.into_iter().take(end.unwrap()).map(|byte| byte.expect("a hole")).collect()
}

#[test]
fn a_superframe_with_a_wrong_checksum_is_not_segmented() {
    let mut pools = pools(CHUNKS);
    let tcp = Tcp { sequence: 1, id: 1, flags: ACK, timestamps: false, payload: vec![1; 5000] };
    let mut bytes = tcp.frame();
    bytes[3000] ^= 1;
    let frame = store(&mut pools.pods, &bytes, &[]);
    assert_eq!(segments(&mut pools, &frame, &PLAIN, 1000).unwrap_err(), Failure::BadChecksum);
    // As one packet it goes, and fails at its receiver.
    let made = segments(&mut pools, &frame, &PLAIN, 5000).unwrap().remove(0);
    assert_eq!(take(&mut pools, made)[14..], bytes[14..]);
    pools.free(frame);
    assert_all_free(&pools);
}

#[test]
fn segmenting_without_chunks_loses_none() {
    let mut pools = pools(20);
    let tcp = Tcp { sequence: 1, id: 1, flags: ACK, timestamps: false, payload: vec![1; 50_000] };
    let frame = store(&mut pools.pods, &tcp.frame(), &[]);
    let ip = parsed(&bytes(&pools.pods, &frame));
    let job = Job {
        ip: &ip,
        envelope: &PLAIN,
        area: AreaId::Uplink,
        segment: 1000,
        by_port: false,
        keep_partial: false,
    };
    let mut made = Vec::new();
    let failure = segment::run(&mut pools, &frame, &job, &mut || 0, &mut |_, new| made.push(new));
    assert_eq!((failure, made.len()), (Err(Failure::NoChunk), 20));
    made.into_iter().for_each(|frame| pools.free(frame));
    pools.free(frame);
    assert_all_free(&pools);
}

#[test]
fn a_partial_checksum_is_completed_in_place_over_odd_chunks() {
    let mut pools = pools(CHUNKS);
    for split in [vec![], vec![55], vec![55, 1, 1, 3], vec![100, 333]] {
        let original = udp_frame(&[0xab; 777], false);
        let mut frame = store(&mut pools.pods, &original, &split);
        make_partial(&mut pools.pods, &mut frame);
        complete_checksum(&mut pools, &mut frame, original.len());
        assert_eq!(take(&mut pools, frame), original);
    }
}

#[test]
fn a_superframe_that_the_port_cuts_goes_as_one_with_its_segments_size() {
    let mut pools = pools(CHUNKS);
    let original = Tcp { sequence: 1, id: 2, flags: ACK, timestamps: true, payload: vec![7; 5000] }.frame();
    let mut frame = store(&mut pools.pods, &original, &[1500]);
    make_partial(&mut pools.pods, &mut frame);
    let ip = parsed(&bytes(&pools.pods, &frame));
    let by_port = true;
    let job =
        Job { ip: &ip, envelope: &PLAIN, area: AreaId::Uplink, segment: 1400, by_port, keep_partial: true };
    let mut made = Vec::new();
    let count = segment::run(&mut pools, &frame, &job, &mut || 0, &mut |_, new| made.push(new)).unwrap();
    let new = made.remove(0);
    assert_eq!((count, made.len(), new.segment, new.checksum), (1, 0, 1400, frame.checksum));
    assert_eq!(take(&mut pools, new)[14..], bytes(&pools.pods, &frame)[14..]);
    pools.free(frame);
    assert_all_free(&pools);
}

#[test]
fn a_packet_that_fits_keeps_its_partial_checksum_where_the_port_takes_it() {
    let mut pools = pools(CHUNKS);
    let original = udp_frame(&[1; 100], true);
    let mut frame = store(&mut pools.uplink, &original, &[]);
    make_partial(&mut pools.uplink, &mut frame);
    let ip = parsed(&bytes(&pools.uplink, &frame));
    for keep_partial in [true, false] {
        let job =
            Job { ip: &ip, envelope: &PLAIN, area: AreaId::Pods, segment: 0, by_port: false, keep_partial };
        let mut made = Vec::new();
        segment::run(&mut pools, &frame, &job, &mut || 0, &mut |_, new| made.push(new)).unwrap();
        let mut made = made.remove(0);
        assert_eq!(made.checksum == frame.checksum, keep_partial);
        complete_checksum(&mut pools, &mut made, original.len());
        let packet = take(&mut pools, made);
        let (udp, payload) = UdpHeader::from_slice(&packet[46..]).unwrap();
        let expected = udp.calc_checksum_ipv4_raw([10, 1, 0, 2], [10, 2, 0, 3], payload).unwrap();
        assert_eq!(udp.checksum, expected);
    }
    pools.free(frame);
}

#[test]
fn a_packet_that_must_not_be_fragmented_is_not() {
    let mut pools = pools(CHUNKS);
    let mut original = udp_frame(&[1; 2000], false);
    original[20] |= 0x40;
    let (ip, _) = Ipv4Header::from_slice(&original[14..]).unwrap();
    original[24..26].copy_from_slice(&ip.calc_header_checksum().to_be_bytes());
    let frame = store(&mut pools.pods, &original, &[]);
    let ip = parsed(&original);
    let job = Job {
        ip: &ip,
        envelope: &PLAIN,
        area: AreaId::Uplink,
        segment: 0,
        by_port: false,
        keep_partial: false,
    };
    let made = fragment::run(&mut pools, &frame, &job, 1500, &mut || 0, &mut |_, _| unreachable!());
    assert_eq!(made, Err(Failure::TooBig));
    pools.free(frame);
    assert_all_free(&pools);
}
