//! A packet as a walk speaks of it: built and read by etherparse, which shares no code with the dataplane.

use std::fmt;
use std::net::{Ipv4Addr, SocketAddrV4};

use etherparse::{
    IpFragOffset, IpHeaders, IpNumber, Ipv4Header, Ipv4Options, PacketBuilder, TcpHeader, UdpHeader,
};
use headrace_wire::tcp::TcpFlags;

/// An IPv4 packet from its header on.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Packet {
    pub(crate) src: Ipv4Addr,
    pub(crate) dst: Ipv4Addr,
    pub(crate) ttl: u8,
    pub(crate) tos: u8,
    /// `None` in an expectation: any.
    pub(crate) id: Option<u16>,
    pub(crate) dont_fragment: bool,
    pub(crate) options: Vec<u8>,
    /// Offset in bytes, and whether more fragments follow.
    pub(crate) fragment: (u16, bool),
    /// Source and destination port of TCP and UDP.
    pub(crate) ports: (u16, u16),
    pub(crate) body: Body,
    pub(crate) data: Vec<u8>,
    pub(crate) checksum: Sum,
}

/// What the packet carries, but for its data.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    Udp,
    Tcp {
        sequence: u32,
        flags: TcpFlags,
        options: Vec<u8>,
    },
    Icmp {
        icmp_type: u8,
        code: u8,
        rest: [u8; 4],
    },
    /// A verification tag, and chunks as data.
    Sctp {
        tag: u32,
    },
    /// Fragments and other protocols.
    Other(u8),
}

/// State of the transport checksum.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Sum {
    Right,
    Wrong,
    /// Just the pseudo-header's sum.
    Partial,
    /// UDP without.
    Absent,
}

/// Acknowledgment number and window of every segment.
const ACKNOWLEDGMENT: u32 = 77;
const WINDOW: u16 = 500;
/// Identification of a packet for which none is chosen.
const ID: u16 = 0x4242;

fn packet(src: SocketAddrV4, dst: SocketAddrV4, body: Body) -> Packet {
    Packet {
        src: *src.ip(),
        dst: *dst.ip(),
        ttl: 64,
        tos: 0,
        id: Some(ID),
        dont_fragment: true,
        options: Vec::new(),
        fragment: (0, false),
        ports: (src.port(), dst.port()),
        body,
        data: Vec::new(),
        checksum: Sum::Right,
    }
}

/// "address:port", or an address alone.
fn end(text: &str) -> SocketAddrV4 {
    match text.parse() {
        Ok(end) => end,
        Err(_) => SocketAddrV4::new(text.parse().unwrap(), 0),
    }
}

pub(crate) fn udp(src: &str, dst: &str) -> Packet {
    packet(end(src), end(dst), Body::Udp).data(11)
}

/// An SCTP packet with some chunks.
pub(crate) fn sctp(src: &str, dst: &str) -> Packet {
    packet(end(src), end(dst), Body::Sctp { tag: 0x1234_5678 }).data(20)
}

/// A segment that acknowledges.
pub(crate) fn tcp(src: &str, dst: &str) -> Packet {
    let body = Body::Tcp { sequence: 1000, flags: TcpFlags::ACK, options: Vec::new() };
    packet(end(src), end(dst), body)
}

/// The first packet of a connection.
pub(crate) fn syn(src: &str, dst: &str) -> Packet {
    tcp(src, dst).flags(TcpFlags::SYN)
}

/// The answer to it.
pub(crate) fn syn_ack(src: &str, dst: &str) -> Packet {
    tcp(src, dst).flags(TcpFlags::SYN | TcpFlags::ACK)
}

pub(crate) fn ping(src: &str, dst: &str, id: u16) -> Packet {
    icmp(src, dst, 8, 0, [(id >> 8) as u8, id as u8, 0, 1]).data(40)
}

pub(crate) fn icmp(src: &str, dst: &str, icmp_type: u8, code: u8, rest: [u8; 4]) -> Packet {
    packet(end(src), end(dst), Body::Icmp { icmp_type, code, rest })
}

/// An ICMP error about `quote` as a router sends it: 576 bytes at most, precedence 6, any identification.
pub(crate) fn error(src: &str, dst: &str, (icmp_type, code): (u8, u8), mtu: u16, quote: &Packet) -> Packet {
    let mut data = quote.bytes();
    data.truncate(576 - 28);
    let rest = [0, 0, (mtu >> 8) as u8, mtu as u8];
    Packet { data, tos: 0xc0, id: None, dont_fragment: false, ..icmp(src, dst, icmp_type, code, rest) }
}

/// ICMP destination unreachable, port unreachable.
pub(crate) const PORT_UNREACHABLE: (u8, u8) = (3, 3);
/// ICMP destination unreachable, host unreachable.
pub(crate) const HOST_UNREACHABLE: (u8, u8) = (3, 1);
/// ICMP destination unreachable, fragmentation needed.
pub(crate) const FRAGMENTATION_NEEDED: (u8, u8) = (3, 4);
/// ICMP time exceeded in transit.
pub(crate) const TIME_EXCEEDED: (u8, u8) = (11, 0);

impl Packet {
    /// After one router.
    pub(crate) fn hop(&self) -> Self {
        self.ttl(self.ttl - 1)
    }

    pub(crate) fn ttl(&self, ttl: u8) -> Self {
        Self { ttl, ..self.clone() }
    }

    pub(crate) fn tos(&self, tos: u8) -> Self {
        Self { tos, ..self.clone() }
    }

    pub(crate) fn id(&self, id: u16) -> Self {
        Self { id: Some(id), ..self.clone() }
    }

    pub(crate) fn may_be_fragmented(&self) -> Self {
        Self { dont_fragment: false, ..self.clone() }
    }

    pub(crate) fn ip_options(&self, options: &[u8]) -> Self {
        Self { options: options.to_vec(), ..self.clone() }
    }

    /// With so many bytes of data, all different from their neighbours.
    pub(crate) fn data(&self, len: usize) -> Self {
        Self { data: (0..len).map(|i| (i % 251) as u8).collect(), ..self.clone() }
    }

    pub(crate) fn checksum(&self, checksum: Sum) -> Self {
        Self { checksum, ..self.clone() }
    }

    /// From elsewhere: "address:port"; an address alone keeps the port.
    pub(crate) fn from(&self, src: &str) -> Self {
        let src = end(src);
        let port = if src.port() == 0 { self.ports.0 } else { src.port() };
        Self { src: *src.ip(), ports: (port, self.ports.1), ..self.clone() }
    }

    /// To elsewhere: "address:port"; an address alone keeps the port.
    pub(crate) fn to(&self, dst: &str) -> Self {
        let dst = end(dst);
        let port = if dst.port() == 0 { self.ports.1 } else { dst.port() };
        Self { dst: *dst.ip(), ports: (self.ports.0, port), ..self.clone() }
    }

    /// The echo identifier of an ICMP echo.
    pub(crate) fn echo_id(&self, id: u16) -> Self {
        let Body::Icmp { icmp_type, code, rest } = self.body.clone() else { panic!("{self:?} is no echo") };
        let rest = [(id >> 8) as u8, id as u8, rest[2], rest[3]];
        Self { body: Body::Icmp { icmp_type, code, rest }, ..self.clone() }
    }

    /// What the other end sends back: addresses, ports, and an echo reply for a request.
    pub(crate) fn back(&self) -> Self {
        let body = match &self.body {
            Body::Icmp { icmp_type: 8, code, rest } => Body::Icmp { icmp_type: 0, code: *code, rest: *rest },
            body => body.clone(),
        };
        let ports = (self.ports.1, self.ports.0);
        Self { src: self.dst, dst: self.src, ports, ttl: 64, body, ..self.clone() }
    }

    pub(crate) fn flags(&self, flags: TcpFlags) -> Self {
        self.tcp(|_, f, _| *f = flags)
    }

    pub(crate) fn sequence(&self, sequence: u32) -> Self {
        self.tcp(|s, _, _| *s = sequence)
    }

    /// TCP options, padded to words.
    pub(crate) fn tcp_options(&self, options: &[u8]) -> Self {
        self.tcp(|_, _, o| {
            *o = options.to_vec();
            o.resize(o.len().next_multiple_of(4), 1);
        })
    }

    /// The MSS option of a SYN.
    pub(crate) fn mss(&self, mss: u16) -> Self {
        self.tcp_options(&[2, 4, (mss >> 8) as u8, mss as u8])
    }

    /// The timestamps option, 12 bytes with its padding.
    pub(crate) fn timestamps(&self) -> Self {
        self.tcp_options(&[1, 1, 8, 10, 0, 0, 0, 5, 0, 0, 0, 6])
    }

    fn tcp(&self, change: impl FnOnce(&mut u32, &mut TcpFlags, &mut Vec<u8>)) -> Self {
        let mut new = self.clone();
        let Body::Tcp { sequence, flags, options } = &mut new.body else { panic!("{self:?} is no TCP") };
        change(sequence, flags, options);
        new
    }

    /// Whether `got` is what this packet describes.
    pub(crate) fn describes(&self, got: &Self) -> bool {
        let id = self.id.and(got.id);
        *self == Self { id, ..got.clone() }
    }

    /// Its bytes from the IPv4 header on.
    pub(crate) fn bytes(&self) -> Vec<u8> {
        let (header, data) = (self.ip_header(), &self.data);
        let mut bytes = Vec::new();
        let field = header.header_len();
        let ip = || PacketBuilder::ip(IpHeaders::Ipv4(header.clone(), Default::default()));
        match &self.body {
            Body::Udp => {
                ip().udp(self.ports.0, self.ports.1).write(&mut bytes, data).unwrap();
                self.spoil_checksum(&mut bytes, field + 6);
            }
            Body::Tcp { sequence, flags, options } => {
                let tcp = tcp_header(self.ports, *sequence, *flags, options);
                ip().tcp_header(tcp).write(&mut bytes, data).unwrap();
                self.spoil_checksum(&mut bytes, field + 16);
            }
            Body::Icmp { icmp_type, code, rest } => {
                ip().icmpv4_raw(*icmp_type, *code, *rest).write(&mut bytes, data).unwrap();
            }
            Body::Sctp { tag } => write_raw(&mut bytes, header, &self.sctp_bytes(*tag)),
            Body::Other(_) => write_raw(&mut bytes, header, data),
        }
        bytes
    }

    /// Reads a packet. Its IPv4 header must be right; the state of its transport checksum is found out.
    pub(crate) fn read(bytes: &[u8]) -> Self {
        let (ip, _) = Ipv4Header::from_slice(bytes).unwrap();
        assert_eq!(ip.header_checksum, ip.calc_header_checksum(), "IPv4 header checksum");
        let l4 = &bytes[ip.header_len()..usize::from(ip.total_len)];
        let body = Body::Other(ip.protocol.0);
        let (src, dst) =
            (SocketAddrV4::new(ip.source.into(), 0), SocketAddrV4::new(ip.destination.into(), 0));
        let mut read = packet(src, dst, body);
        read.ttl = ip.time_to_live;
        read.tos = ip.dscp.value() << 2 | ip.ecn.value();
        read.id = Some(ip.identification);
        read.dont_fragment = ip.dont_fragment;
        read.options = ip.options.as_slice().to_vec();
        read.fragment = (ip.fragment_offset.value() * 8, ip.more_fragments);
        read.data = l4.to_vec();
        if !ip.is_fragmenting_payload() {
            read.read_l4(&ip, l4);
        }
        read
    }

    fn read_l4(&mut self, ip: &Ipv4Header, l4: &[u8]) {
        let partial = partial_sum(ip.source, ip.destination, ip.protocol.0, l4.len());
        let state = |stored, right| match stored {
            0 if ip.protocol == IpNumber::UDP => Sum::Absent,
            _ if stored == right => Sum::Right,
            _ if stored == partial => Sum::Partial,
            _ => Sum::Wrong,
        };
        match ip.protocol {
            IpNumber::UDP => {
                let (udp, data) = UdpHeader::from_slice(l4).unwrap();
                let right = udp.calc_checksum_ipv4_raw(ip.source, ip.destination, data).unwrap();
                self.ports = (udp.source_port, udp.destination_port);
                (self.body, self.data, self.checksum) =
                    (Body::Udp, data.to_vec(), state(udp.checksum, right));
            }
            IpNumber::TCP => {
                let (tcp, data) = TcpHeader::from_slice(l4).unwrap();
                let right = tcp.calc_checksum_ipv4_raw(ip.source, ip.destination, data).unwrap();
                assert_eq!((tcp.acknowledgment_number, tcp.window_size), (ACKNOWLEDGMENT, WINDOW));
                self.ports = (tcp.source_port, tcp.destination_port);
                let (flags, options) = (flags_of(&tcp), tcp.options.as_slice().to_vec());
                self.body = Body::Tcp { sequence: tcp.sequence_number, flags, options };
                (self.data, self.checksum) = (data.to_vec(), state(tcp.checksum, right));
            }
            IpNumber::SCTP => {
                let word = |at| u16::from_be_bytes([l4[at], l4[at + 1]]);
                (self.ports, self.data) = ((word(0), word(2)), l4[12..].to_vec());
                let tag = u32::from_be_bytes([l4[4], l4[5], l4[6], l4[7]]);
                self.body = Body::Sctp { tag };
                self.checksum = if self.sctp_bytes(tag) == l4 { Sum::Right } else { Sum::Wrong };
            }
            IpNumber::ICMP => {
                let rest = [l4[4], l4[5], l4[6], l4[7]];
                self.body = Body::Icmp { icmp_type: l4[0], code: l4[1], rest };
                self.data = l4[8..].to_vec();
                self.checksum = if naive_sum(l4) == 0xffff { Sum::Right } else { Sum::Wrong };
            }
            _ => {}
        }
    }

    fn ip_header(&self) -> Ipv4Header {
        let protocol = match self.body {
            Body::Udp => IpNumber::UDP,
            Body::Tcp { .. } => IpNumber::TCP,
            Body::Icmp { .. } => IpNumber::ICMP,
            Body::Sctp { .. } => IpNumber::SCTP,
            Body::Other(protocol) => IpNumber(protocol),
        };
        let mut ip = Ipv4Header::new(0, self.ttl, protocol, self.src.octets(), self.dst.octets()).unwrap();
        ip.dscp = (self.tos >> 2).try_into().unwrap();
        ip.ecn = (self.tos & 3).try_into().unwrap();
        ip.identification = self.id.unwrap_or(ID);
        ip.dont_fragment = self.dont_fragment;
        ip.more_fragments = self.fragment.1;
        ip.fragment_offset = IpFragOffset::try_new(self.fragment.0 / 8).unwrap();
        ip.options = Ipv4Options::try_from(self.options.as_slice()).unwrap();
        ip
    }

    /// The packet from its SCTP header on.
    fn sctp_bytes(&self, tag: u32) -> Vec<u8> {
        let ports = [self.ports.0.to_be_bytes(), self.ports.1.to_be_bytes()].concat();
        let mut bytes = [&ports[..], &tag.to_be_bytes(), &[0; 4], &self.data].concat();
        let checksum = crc32c(&bytes) ^ if self.checksum == Sum::Wrong { 1 } else { 0 };
        bytes[8..12].copy_from_slice(&checksum.to_le_bytes());
        bytes
    }

    fn spoil_checksum(&self, bytes: &mut [u8], at: usize) {
        let ip_len = 20 + self.options.len();
        let protocol = bytes[9];
        let value = match self.checksum {
            Sum::Right => return,
            Sum::Wrong => u16::from_be_bytes([bytes[at], bytes[at + 1]]) ^ 0x5a5a,
            Sum::Partial => partial_sum(self.src.octets(), self.dst.octets(), protocol, bytes.len() - ip_len),
            Sum::Absent => 0,
        };
        bytes[at..at + 2].copy_from_slice(&value.to_be_bytes());
    }
}

impl AsRef<[Self]> for Packet {
    fn as_ref(&self) -> &[Self] {
        std::slice::from_ref(self)
    }
}

impl fmt::Debug for Packet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { src, dst, ports: (from, to), ttl, tos, fragment, body, data, checksum, .. } = self;
        write!(f, "{src}:{from} > {dst}:{to} {body:?} ttl {ttl} tos {tos:#x} id {:x?}", self.id)?;
        write!(f, " df {} fragment {fragment:?} options {:?}", self.dont_fragment, self.options)?;
        write!(f, " {checksum:?}, {} bytes {:02x?}", data.len(), &data[..data.len().min(48)])
    }
}

/// Sum of the pseudo-header: what a sender leaves in the field when its device shall do the rest.
fn partial_sum(src: [u8; 4], dst: [u8; 4], protocol: u8, len: usize) -> u16 {
    let len = (len as u16).to_be_bytes();
    naive_sum(&[src.as_slice(), &dst, &[0, protocol], &len].concat())
}

/// One's complement sum, as plainly as it can be written.
fn naive_sum(bytes: &[u8]) -> u16 {
    let word = |c: &[u8]| u64::from(c[0]) << 8 | u64::from(c.get(1).copied().unwrap_or(0));
    let mut sum: u64 = bytes.chunks(2).map(word).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// CRC32c of RFC 9260, appendix A, by long division.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for bit in bytes.iter().flat_map(|byte| (0..8).map(move |i| u32::from(byte >> i & 1))) {
        crc = if (crc ^ bit) & 1 == 1 { crc >> 1 ^ 0x82f6_3b78 } else { crc >> 1 };
    }
    !crc
}

fn write_raw(bytes: &mut Vec<u8>, mut header: Ipv4Header, payload: &[u8]) {
    header.set_payload_len(payload.len()).unwrap();
    header.write(bytes).unwrap();
    bytes.extend(payload);
}

fn tcp_header(ports: (u16, u16), sequence: u32, flags: TcpFlags, options: &[u8]) -> TcpHeader {
    let mut tcp = TcpHeader::new(ports.0, ports.1, sequence, WINDOW);
    tcp.acknowledgment_number = ACKNOWLEDGMENT;
    let has = |flag| flags.contains(flag);
    (tcp.fin, tcp.syn, tcp.rst) = (has(TcpFlags::FIN), has(TcpFlags::SYN), has(TcpFlags::RST));
    (tcp.psh, tcp.ack, tcp.urg) = (has(TcpFlags::PSH), has(TcpFlags::ACK), has(TcpFlags::URG));
    (tcp.ece, tcp.cwr, tcp.ns) = (has(TcpFlags::ECE), has(TcpFlags::CWR), has(TcpFlags::AE));
    tcp.set_options_raw(options).unwrap();
    tcp
}

fn flags_of(tcp: &TcpHeader) -> TcpFlags {
    let all = [
        (tcp.fin, TcpFlags::FIN),
        (tcp.syn, TcpFlags::SYN),
        (tcp.rst, TcpFlags::RST),
        (tcp.psh, TcpFlags::PSH),
        (tcp.ack, TcpFlags::ACK),
        (tcp.urg, TcpFlags::URG),
        (tcp.ece, TcpFlags::ECE),
        (tcp.cwr, TcpFlags::CWR),
        (tcp.ns, TcpFlags::AE),
    ];
    all.into_iter().filter(|(set, _)| *set).fold(TcpFlags::NONE, |flags, (_, flag)| flags | flag)
}
