//! ICMP errors to the senders of refused packets.

use headrace_wire::Header;
use headrace_wire::ethernet::{EtherType, EthernetHeader, MacAddr};
use headrace_wire::icmp4::{ERROR_MAX_LEN, IcmpError, may_answer_with_error, write_error};
use headrace_wire::parse::{parse_ethernet, parse_ipv4};

use super::Context;
use super::route::{self, Transit};
use crate::burst::{Burst, Packet, Verdict};
use crate::drop_reason::DropReason;
use crate::flows::Seconds;
use crate::frames::{Checksum, Frame, Writer};

/// ICMP errors that a worker may send in a second, as Linux's net.ipv4.icmp_msgs_per_sec.
const PER_SECOND: u32 = 1000;

/// How many ICMP errors may still be sent in this second.
#[derive(Default)]
pub struct Budget {
    second: Seconds,
    spent: u32,
}

impl Budget {
    fn take(&mut self, now: Seconds) -> bool {
        if self.second != now {
            *self = Self { second: now, spent: 0 };
        }
        self.spent += 1;
        self.spent <= PER_SECOND
    }
}

/// Turns refused packets into the error that goes back, where one may be sent.
pub fn run(burst: &mut Burst, cx: &mut Context<'_>) {
    for packet in burst.iter_mut() {
        let Verdict::Refuse(error, reason) = packet.verdict else { continue };
        packet.verdict = answer(packet, error, reason, cx).unwrap_or_else(|| {
            cx.stats.hot().icmp_errors_withheld.add(1);
            Verdict::Drop(reason)
        });
    }
}

fn answer(
    packet: &mut Packet,
    error: IcmpError,
    reason: DropReason,
    cx: &mut Context<'_>,
) -> Option<Verdict> {
    if !may_answer_with_error(&packet.ip, false) {
        return None;
    }
    let way = route::resolved(route::towards(packet.ip.src, Transit::Allowed, cx), cx);
    let out = match way {
        Verdict::Forward(out) => out,
        Verdict::Wait(_) => return Some(way),
        _ => return None,
    };
    if !cx.state.icmp_budget.take(cx.now) {
        return None;
    }
    let frame = write(packet, error, cx)?;
    let refused = std::mem::replace(&mut packet.frame, frame);
    cx.stats.carries(packet);
    cx.stats.end(packet.port, cx.pools, refused, reason);
    let bytes = cx.pools.head(&packet.frame);
    let ether = parse_ethernet(bytes, packet.frame.len()).ok()?;
    packet.ip = parse_ipv4(&bytes[EthernetHeader::LEN..], ether.l3_len).ok()?;
    packet.flow = None;
    cx.stats.hot().icmp_errors_sent.add(1);
    Some(Verdict::Reply(out))
}

/// A frame with the error; MAC addresses are filled in when it leaves.
fn write(packet: &Packet, error: IcmpError, cx: &mut Context<'_>) -> Option<Frame> {
    let from = match packet.ip.src {
        _ if route::came_plain(packet) => cx.node.address,
        // The node's stack takes packets to a loopback address only from one.
        src if src.is_loopback() => packet.ip.dst,
        _ => cx.node.own,
    };
    let mut buffer = [0; EthernetHeader::LEN + ERROR_MAX_LEN];
    let ether = EthernetHeader::new(MacAddr::ZERO, MacAddr::ZERO, EtherType::IPV4);
    ether.put(&mut buffer).ok()?;
    let id = cx.state.next_ip_id();
    let offending = &cx.pools.head(&packet.frame)[EthernetHeader::LEN..];
    let len = write_error(&mut buffer[EthernetHeader::LEN..], error, from, id, &packet.ip, offending).ok()?;
    let pool = cx.pools.get_mut(packet.frame.area());
    let writer = Writer::new(pool, &buffer[..EthernetHeader::LEN + len])?;
    let mut frame = writer.finish(pool);
    frame.checksum = Checksum::AsSent;
    Some(frame)
}
