//! Packets and decisions in words.
//!
//! What a stage decided is read off what it left: the verdict and the flow of the packet before and after it. So the words
//! cannot say anything but what has happened.

use std::time::{SystemTime, UNIX_EPOCH};

use headrace_api::proto;
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::Rewrite;
use headrace_wire::parse::{Fragment, Ipv4Packet, L4};

use super::{Directory, Sight};
use crate::burst::Verdict;
use crate::drop_reason::DropReason;
use crate::flows::{Flow, FlowKey};
use crate::observe::tap::{RawStep, Walk};
use crate::observe::{Clock, Ticks, view};
use crate::tables::Tables;
use crate::tables::services::FrontendKey;

/// A walk in words.
pub struct Told {
    /// Each stage that had something to say.
    pub steps: Vec<proto::Step>,
    /// What became of the packet, in one word or two.
    pub verdict: &'static str,
    /// Why it was dropped or refused.
    pub reason: Option<DropReason>,
}

/// A walk in words; `clock` turns its times into nanoseconds.
pub fn walk(walk: &Walk, tables: &Tables, directory: &Directory, clock: Option<&Clock>) -> Told {
    let words = Words { tables, directory };
    let mut before: Option<&RawStep> = None;
    let mut steps = Vec::new();
    for step in &walk.steps {
        steps.push(proto::Step {
            stage: step.stage.to_string(),
            decision: words.decision(step.verdict),
            why: words.why(before, step, &walk.ip),
            nanoseconds: clock.map_or(0, |clock| clock.nanoseconds(step.took)),
            burst: step.burst as u32,
        });
        before = Some(step);
    }
    steps.push(words.end(walk));
    let last = before.map(|step| step.verdict);
    let refused = walk.steps.iter().find_map(|step| reason(step.verdict));
    Told { steps, verdict: verdict(last, refused, walk.dropped), reason: walk.dropped.or(refused) }
}

fn verdict(last: Option<Verdict>, refused: Option<DropReason>, dropped: Option<DropReason>) -> &'static str {
    match last {
        Some(Verdict::Reply(_)) if refused.is_some() => "refuse",
        _ if dropped.is_some() => "drop",
        Some(Verdict::Forward(_)) => "forward",
        Some(Verdict::Reply(_)) => "reply",
        Some(Verdict::Punt) => "to host",
        Some(Verdict::Wait(_) | Verdict::WaitForFirst) => "wait",
        Some(Verdict::Refuse(..)) => "refuse",
        Some(Verdict::Drop(_) | Verdict::Undecided) | None => "drop",
    }
}

fn reason(verdict: Verdict) -> Option<DropReason> {
    match verdict {
        Verdict::Drop(reason) | Verdict::Refuse(_, reason) => Some(reason),
        _ => None,
    }
}

struct Words<'a> {
    tables: &'a Tables,
    directory: &'a Directory,
}

impl Words<'_> {
    fn decision(&self, verdict: Verdict) -> String {
        let way = |out| self.directory.way(out, self.tables);
        match verdict {
            Verdict::Undecided => "undecided".into(),
            Verdict::Forward(out) => format!("forward to {}", way(out)),
            Verdict::Punt => "back to the node's stack".into(),
            Verdict::Reply(out) => format!("answer to {}", way(out)),
            Verdict::WaitForFirst => "wait for the first fragment".into(),
            Verdict::Wait(hop) => format!("wait for the MAC address of {hop}"),
            Verdict::Refuse(_, reason) => format!("refuse {}", reason.label()),
            Verdict::Drop(reason) => format!("drop {}", reason.label()),
        }
    }

    fn why(&self, before: Option<&RawStep>, step: &RawStep, ip: &Ipv4Packet) -> String {
        let verdict_before = before.map_or(Verdict::Undecided, |b| b.verdict);
        let flow_before = before.and_then(|b| b.flow);
        if let Some(reason) = reason(step.verdict).filter(|_| step.verdict != verdict_before) {
            return reason.meaning().into();
        }
        match (flow_before, step.flow) {
            (None, Some((key, flow))) => return self.flow(&key, &flow, step),
            (Some((_, old)), Some((_, new))) if old.out != new.out => {
                return "routes have changed since this connection's last packet".into();
            }
            _ => {}
        }
        if step.verdict == verdict_before {
            return match step.stage.to_string().as_str() {
                "ingress" => "its sender may send this".into(),
                "flow" => "it belongs to no connection".into(),
                "rewrite" if matches!(step.verdict, Verdict::Forward(_)) => self.rewritten(step, ip),
                _ => "nothing to do".into(),
            };
        }
        match step.verdict {
            Verdict::Reply(_) if reason(verdict_before).is_some() => "its sender is told by ICMP".into(),
            Verdict::Reply(_) => "it is answered here".into(),
            Verdict::Forward(_) if step.flow.is_some() => "its connection goes this way".into(),
            Verdict::Forward(_) => "it is carried without a connection".into(),
            Verdict::Wait(_) => "the next hop's MAC address is not known yet".into(),
            Verdict::Punt => "nobody here wants it".into(),
            _ => String::new(),
        }
    }

    fn flow(&self, key: &FlowKey, flow: &Flow, step: &RawStep) -> String {
        let known = step.stage.to_string() == "flow";
        let mut text = match (known, flow.original) {
            (false, _) => "the first packet of a connection".to_owned(),
            (true, true) => "a known connection".to_owned(),
            (true, false) => "the answer of a known connection".to_owned(),
        };
        if flow.original && flow.service {
            text += &match service(self.tables, &key.tuple, key.protocol) {
                Some(name) => format!(" to Service {name}"),
                None => " to a Service".into(),
            };
        }
        if flow.translates(key) {
            text += &format!("; leaves as {}", tuple(&flow.rewrite));
        }
        text
    }

    fn rewritten(&self, step: &RawStep, ip: &Ipv4Packet) -> String {
        let ttl = format!("time to live {}", ip.ttl.saturating_sub(1));
        match &step.flow {
            Some((key, flow)) if flow.translates(key) => {
                format!("{} becomes {}, {ttl}", tuple(&key.tuple), tuple(&flow.rewrite))
            }
            _ => ttl,
        }
    }

    /// What left in the packet's name.
    fn end(&self, walk: &Walk) -> proto::Step {
        let mut by_port: Vec<(String, u64, u64)> = Vec::new();
        for (port, len) in &walk.departures {
            let name = self.directory.port(*port);
            match by_port.iter_mut().find(|(n, ..)| *n == name) {
                Some((_, frames, bytes)) => (*frames, *bytes) = (*frames + 1, *bytes + u64::from(*len)),
                None => by_port.push((name, 1, (*len).into())),
            }
        }
        let sent: Vec<_> = by_port
            .into_iter()
            .map(|(name, frames, bytes)| {
                format!("{frames} frame{} of {bytes} bytes to {name}", plural(frames))
            })
            .collect();
        let last = walk.steps.last().map(|step| step.verdict);
        let (decision, why) = match (walk.dropped, last) {
            (Some(reason), _) if sent.is_empty() => {
                (format!("drop {}", reason.label()), reason.meaning().to_owned())
            }
            (_, Some(Verdict::Wait(_) | Verdict::WaitForFirst)) => {
                ("kept".into(), "until what it waits for comes".into())
            }
            _ if sent.is_empty() => ("merged".into(), "it leaves in one frame with its neighbours".into()),
            _ => ("sent".into(), sent.join(", ")),
        };
        let stage = if walk.steps.is_empty() { "ingress" } else { "output" };
        proto::Step { stage: stage.into(), decision, why, nanoseconds: 0, burst: 0 }
    }
}

/// Name of the Service that a tuple's destination is a frontend of.
pub(super) fn service<'a>(tables: &'a Tables, tuple: &Rewrite, protocol: Protocol) -> Option<&'a str> {
    let key = FrontendKey { address: tuple.dst, port: tuple.dst_port, protocol: protocol.0 };
    let frontend = tables.frontend(tables.node.as_deref()?, key)?;
    Some(&frontend.service.name)
}

fn plural(n: u64) -> &'static str {
    if n == 1 { "" } else { "s" }
}

/// "10.1.0.2:4000 > 10.1.1.2:80".
fn tuple(t: &Rewrite) -> String {
    format!("{}:{} > {}:{}", t.src, t.src_port, t.dst, t.dst_port)
}

/// "10.1.0.2:4000 > 10.1.1.2:80 tcp SA, 60 bytes".
pub fn packet(ip: &Ipv4Packet) -> String {
    let ports = |src: u16, dst: u16| format!("{}:{src} > {}:{dst}", ip.src, ip.dst);
    let plain = || format!("{} > {}", ip.src, ip.dst);
    let what = match ip.l4 {
        L4::Tcp { src_port, dst_port, flags, .. } => {
            format!("{} tcp {}", ports(src_port, dst_port), letters(flags))
        }
        L4::Udp { src_port, dst_port, .. } => format!("{} udp", ports(src_port, dst_port)),
        L4::Sctp { src_port, dst_port } => format!("{} sctp", ports(src_port, dst_port)),
        L4::IcmpEcho { request, id, .. } => {
            format!("{} icmp echo {} {id}", plain(), if request { "request" } else { "reply" })
        }
        L4::IcmpError { icmp_type, code } => format!("{} icmp error {icmp_type}/{code}", plain()),
        L4::Icmp { .. } => format!("{} icmp", plain()),
        L4::Later => format!("{} {}", plain(), protocol(ip.protocol)),
        L4::Other => format!("{} protocol {}", plain(), ip.protocol.0),
    };
    let fragment = match ip.fragment {
        Fragment::Whole => String::new(),
        Fragment::First => format!(", first fragment of {}", ip.id),
        Fragment::Later { offset, .. } => format!(", fragment of {} at {offset}", ip.id),
    };
    format!("{what}, {} bytes{fragment}", ip.total_len)
}

fn protocol(protocol: Protocol) -> String {
    match protocol {
        Protocol::TCP => "tcp".into(),
        Protocol::UDP => "udp".into(),
        Protocol::ICMP => "icmp".into(),
        Protocol(number) => format!("protocol {number}"),
    }
}

fn letters(flags: headrace_wire::tcp::TcpFlags) -> String {
    use headrace_wire::tcp::TcpFlags;
    let all = [
        (TcpFlags::SYN, 'S'),
        (TcpFlags::FIN, 'F'),
        (TcpFlags::RST, 'R'),
        (TcpFlags::PSH, 'P'),
        (TcpFlags::ACK, 'A'),
    ];
    all.into_iter().filter(|(flag, _)| flags.contains(*flag)).map(|(_, letter)| letter).collect()
}

/// A frame in words, as far as it can be read.
pub(super) fn frame(sight: &Sight, bytes: &[u8], len: usize) -> String {
    let port = sight.shared.tables.load().node.as_ref().map_or(0, |node| node.vxlan_port);
    bytes_in_words(bytes, len, port)
}

/// The same, with the tunnel's UDP port.
pub(super) fn bytes_in_words(bytes: &[u8], len: usize, vxlan_port: u16) -> String {
    let Some(inner) = view::packet(bytes, len, vxlan_port) else { return ethernet(bytes) };
    match view::packet(bytes, len, 0) {
        Some(outer) if outer != inner => {
            format!("{} in vxlan {} > {}", packet(&inner), outer.src, outer.dst)
        }
        _ => packet(&inner),
    }
}

fn ethernet(bytes: &[u8]) -> String {
    use headrace_wire::Header;
    use headrace_wire::ethernet::{EtherType, EthernetHeader};
    use headrace_wire::parse::parse_ethernet;
    if let Some(arp) = bytes.get(EthernetHeader::LEN..).and_then(headrace_wire::arp::ArpPacket::parse)
        && parse_ethernet(bytes, bytes.len()).is_ok_and(|ether| ether.ethertype == EtherType::ARP)
    {
        return format!("arp {} asks for {}", arp.sender_ip(), arp.target_ip());
    }
    match parse_ethernet(bytes, bytes.len()) {
        Ok(ether) => format!("{} > {} ethertype {:#06x}", ether.src, ether.dst, ether.ethertype.0),
        Err(_) => "no Ethernet header".into(),
    }
}

/// A worker's moment in nanoseconds since 1970.
pub(super) fn unix_ns(sight: &Sight, at: Ticks) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_nanos() as u64);
    let Some(window) = sight.windows.first() else { return now };
    let clock = window.stats.clock();
    now.saturating_sub(clock.nanoseconds(clock.now().since(at)))
}
