//! One packet into new frames behind an envelope: as it is, or a TCP superframe as segments.
//!
//! What changes from segment to segment is what Linux's tcp_gso_segment changes: sequence number, IP length and
//! identification, FIN and PSH only on the last, CWR only on the first.

use headrace_wire::Header;
use headrace_wire::checksum::{Sum, pseudo_header, sum};
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::ipv4::{Ipv4Header, MAX_HEADER_LEN, Protocol};
use headrace_wire::parse::Ipv4Packet;
use headrace_wire::partial;
use headrace_wire::tcp::{self, TcpFlags, TcpHeader};

use super::envelope::{Envelope, LONGEST};
use crate::frames::{AreaId, Checksum, Cursor, Frame, Pools, Writer};

/// Room for all headers of a packet: envelope, IPv4, TCP.
const HEADERS: usize = LONGEST + MAX_HEADER_LEN + tcp::MAX_HEADER_LEN;

/// What is to be made of a frame.
pub struct Job<'a> {
    /// The packet's headers as parsed; addresses and TTL may have been rewritten in its bytes since.
    pub ip: &'a Ipv4Packet,
    /// Headers of the way out.
    pub envelope: &'a Envelope,
    /// Where the new frames are made.
    pub area: AreaId,
    /// Most payload bytes of a segment; a packet with no more goes as one.
    pub segment: usize,
    /// Whether the port cuts: the packet goes as one that says its segments' size.
    pub by_port: bool,
    /// Whether a partial checksum may stay so in a packet that goes as one.
    pub keep_partial: bool,
}

/// Why nothing, or not everything, could be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Failure {
    /// No chunk was free.
    NoChunk,
    /// A superframe's checksum is wrong.
    BadChecksum,
    /// Larger than the envelope may carry.
    TooBig,
}

/// Makes the frames and hands each to `emit`. The original stays with the caller. Returns how many were made.
///
/// # Errors
/// [`Failure`]; frames handed out before it are on their way.
pub fn run(
    pools: &mut Pools,
    frame: &Frame,
    job: &Job<'_>,
    next_id: &mut impl FnMut() -> u16,
    emit: &mut impl FnMut(&mut Pools, Frame),
) -> Result<usize, Failure> {
    let ip = job.ip;
    let (l3_len, payload) = (ip.payload_offset(), ip.payload_len());
    let count = if job.segment == 0 || job.by_port { 1 } else { payload.div_ceil(job.segment).max(1) };
    if count > 1 && frame.checksum == Checksum::AsSent && !checksum_is_right(pools, frame, ip) {
        return Err(Failure::BadChecksum);
    }
    let mut original = [0; MAX_HEADER_LEN + tcp::MAX_HEADER_LEN];
    let original = &mut original[..l3_len];
    let head = pools.head(frame).get(EthernetHeader::LEN..EthernetHeader::LEN + l3_len);
    original.copy_from_slice(head.ok_or(Failure::BadChecksum)?);

    let mut cursor = Cursor::new(pools.get(frame.area()), frame, EthernetHeader::LEN + l3_len);
    let envelope_len = job.envelope.len();
    let mut done = 0;
    for index in 0..count {
        let len = if count == 1 { payload } else { job.segment.min(payload - done) };
        let mut headers = [0; HEADERS];
        let headers = &mut headers[..envelope_len + l3_len];
        headers[envelope_len..].copy_from_slice(original);
        if count > 1 {
            adjust(&mut headers[envelope_len..], ip, index, count, done, len);
        }
        let written = job.envelope.write(headers, l3_len + len, ip.tos, next_id());
        written.ok_or(Failure::TooBig)?;
        let new = write(pools, frame, job, headers, &mut cursor, len, count).ok_or(Failure::NoChunk)?;
        emit(pools, new);
        done += len;
    }
    Ok(count)
}

/// Copies headers and payload and settles the checksum with the payload's sum.
fn write(
    pools: &mut Pools,
    frame: &Frame,
    job: &Job<'_>,
    headers: &[u8],
    cursor: &mut Cursor,
    len: usize,
    count: usize,
) -> Option<Frame> {
    let l4_at = headers.len() - (job.ip.payload_offset() - job.ip.l4_offset());
    let mut writer = Writer::new(pools.get_mut(job.area), headers)?;
    let Some(payload) = writer.append(pools, frame.area(), cursor, len) else {
        writer.abandon(pools.get_mut(job.area));
        return None;
    };
    let mut checksum = Checksum::AsSent;
    if let Checksum::Partial { offset, .. } = frame.checksum
        && count == 1
        && job.keep_partial
    {
        checksum = Checksum::Partial { start: l4_at as u16, offset };
    } else if count > 1 || frame.checksum != Checksum::AsSent {
        let l4_len = (headers.len() - l4_at + len) as u16;
        let all = writer.headers(pools.get_mut(job.area), headers.len());
        let (before, l4) = all.split_at_mut(l4_at);
        if let Some(ip) = Ipv4Header::of(&before[job.envelope.len()..]) {
            let pseudo = pseudo_header(ip.src(), ip.dst(), job.ip.protocol, l4_len);
            settle(l4, job.ip, pseudo + payload);
        }
    }
    let mut new = writer.finish(pools.get_mut(job.area));
    new.checksum = checksum;
    new.segment = match job {
        Job { by_port: true, segment, .. } => *segment as u16,
        _ if count == 1 => frame.segment,
        _ => 0,
    };
    new.tunnelled = job.envelope.is_tunnel();
    Some(new)
}

/// Writes the complete checksum; `rest` is the sum of everything but the transport header.
fn settle(l4: &mut [u8], ip: &Ipv4Packet, rest: Sum) {
    let Some(at) = ip.l4_checksum_offset().map(|at| at - ip.l4_offset()) else { return };
    l4[at..at + 2].fill(0);
    let checksum = partial::complete(ip.protocol, rest + sum(l4));
    l4[at..at + 2].copy_from_slice(&checksum.to_be_bytes());
}

/// Makes a segment's headers of the superframe's.
fn adjust(l3: &mut [u8], ip: &Ipv4Packet, index: usize, count: usize, done: usize, len: usize) {
    let total_len = (ip.payload_offset() + len) as u16;
    if let Some(header) = Ipv4Header::of_mut(l3) {
        header.set_total_len(total_len);
        header.set_id(ip.id.wrapping_add(index as u16));
    }
    let Some(tcp) = TcpHeader::of_mut(&mut l3[ip.l4_offset()..]) else { return };
    tcp.sequence.set(tcp.sequence.get().wrapping_add(done as u32));
    let mut flags = tcp.flags();
    if index + 1 < count {
        flags = flags.without(TcpFlags(TcpFlags::FIN.0 | TcpFlags::PSH.0));
    }
    if index > 0 {
        flags = flags.without(TcpFlags::CWR);
    }
    tcp.set_flags(flags);
}

fn checksum_is_right(pools: &Pools, frame: &Frame, ip: &Ipv4Packet) -> bool {
    let pool = pools.get(frame.area());
    let Some(header) = Ipv4Header::of(&pool.head(frame)[EthernetHeader::LEN..]) else { return false };
    let pseudo = pseudo_header(header.src(), header.dst(), Protocol(header.protocol), ip.l4_len());
    let start = EthernetHeader::LEN + ip.l4_offset();
    let end = EthernetHeader::LEN + usize::from(ip.total_len);
    super::sum_range(pools, frame, start, end, pseudo).finish() == 0
}
