//! Packets larger than their way, where the sender allows it: IPv4 fragments (RFC 791 3.2).

use headrace_wire::Header;
use headrace_wire::ethernet::EthernetHeader;
use headrace_wire::fragment::{FragmentError, FragmentPlan};
use headrace_wire::ipv4::MAX_HEADER_LEN;

use super::envelope::LONGEST;
use super::segment::{Failure, Job};
use crate::frames::{Cursor, Frame, Pools, Writer};

/// Makes fragments of at most `mtu` bytes and hands each to `emit`. The frame's checksum must be complete. The original
/// stays with the caller. Returns how many were made.
///
/// # Errors
/// [`Failure`]; frames handed out before it are on their way.
pub fn run(
    pools: &mut Pools,
    frame: &Frame,
    job: &Job<'_>,
    mtu: usize,
    next_id: &mut impl FnMut() -> u16,
    emit: &mut impl FnMut(&mut Pools, Frame),
) -> Result<usize, Failure> {
    let header_len = job.ip.l4_offset();
    let l3 = pools.head(frame).get(EthernetHeader::LEN..EthernetHeader::LEN + header_len);
    let plan = FragmentPlan::new(l3.ok_or(Failure::TooBig)?, job.ip.l4_len().into(), mtu);
    let plan = plan.map_err(|_: FragmentError| Failure::TooBig)?;
    let mut cursor = Cursor::new(pools.get(frame.area()), frame, EthernetHeader::LEN + header_len);
    let mut made = 0;
    for piece in plan.clone() {
        let mut headers = [0; LONGEST + MAX_HEADER_LEN];
        let headers = &mut headers[..job.envelope.len() + piece.header_len];
        let written = job.envelope.write(headers, piece.header_len + piece.len, job.ip.tos, next_id());
        written.ok_or(Failure::TooBig)?;
        let header = plan.write_header(&piece, &mut headers[job.envelope.len()..]);
        header.map_err(|_| Failure::TooBig)?;
        let mut writer = Writer::new(pools.get_mut(job.area), headers).ok_or(Failure::NoChunk)?;
        if writer.append(pools, frame.area(), &mut cursor, piece.len).is_none() {
            writer.abandon(pools.get_mut(job.area));
            return Err(Failure::NoChunk);
        }
        let mut new = writer.finish(pools.get_mut(job.area));
        new.tunnelled = job.envelope.is_tunnel();
        emit(pools, new);
        made += 1;
    }
    Ok(made)
}
