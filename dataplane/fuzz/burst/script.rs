//! What an input's bytes mean: a world, then operations. Any bytes are a script; [`Op::encode`] writes one.

use super::packets::fix_ipv4_checksum;

/// Reads bytes; behind the end there are zeros.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(crate) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    pub(crate) fn byte(&mut self) -> u8 {
        let Some((first, rest)) = self.rest.split_first() else { return 0 };
        self.rest = rest;
        *first
    }

    fn word(&mut self) -> u16 {
        u16::from_be_bytes([self.byte(), self.byte()])
    }

    fn bytes(&mut self, len: usize) -> &'a [u8] {
        let (taken, rest) = self.rest.split_at(len.min(self.rest.len()));
        self.rest = rest;
        taken
    }
}

/// Where a frame goes in: worker and port. Ports are 0 = host link, 1 = uplink, 2 to 4 = pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place(pub(crate) u8);

/// Ports of a world.
pub(crate) const PORTS: usize = 5;

impl Place {
    pub(crate) fn worker(self) -> usize {
        usize::from(self.0 >> 7)
    }

    pub(crate) fn port(self) -> usize {
        usize::from(self.0 & 0x7f) % PORTS
    }
}

/// How a frame is spread: most bytes of its first chunk and of its others, 0 = whole chunks.
pub(crate) type Split = (u16, u16);

/// A frame as it is, but for lengths and checksums that can be made right.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Raw {
    pub(crate) place: Place,
    pub(crate) split: Split,
    /// Bit 0: the IPv4 header's checksum is made right; bit 1: that of an inner packet, 50 bytes on, too.
    pub(crate) fix: u8,
    /// Bytes of value 0x5a behind the given ones.
    pub(crate) padding: u16,
    pub(crate) bytes: Vec<u8>,
}

/// A well-formed packet of known addresses and ports, perhaps patched afterwards.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Built {
    pub(crate) place: Place,
    pub(crate) split: Split,
    /// One of [`super::packets::kind`].
    pub(crate) kind: u8,
    /// Indexes of [`super::packets::ADDRESSES`].
    pub(crate) src: u8,
    pub(crate) dst: u8,
    /// Indexes of [`super::packets::L4_PORTS`].
    pub(crate) src_port: u8,
    pub(crate) dst_port: u8,
    /// Bits of [`super::packets::style`].
    pub(crate) style: u16,
    pub(crate) tcp_flags: u8,
    /// Identification, and TCP sequence number in units of 1000.
    pub(crate) number: u8,
    /// Fragment offset in units of 64 bytes, or the other address of a quoted packet.
    pub(crate) extra: u8,
    /// One of [`super::packets::tunnel`], on the uplink.
    pub(crate) tunnel: u8,
    pub(crate) payload: u16,
    /// Bytes overwritten: offset in the frame and value.
    pub(crate) patches: Vec<(u16, u8)>,
    /// As [`Raw::fix`], after patching.
    pub(crate) fix: u8,
}

impl Default for Place {
    fn default() -> Self {
        Self(2)
    }
}

/// One operation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Raw(Raw),
    Built(Built),
    Turn { times: u8 },
    Advance { seconds: u16 },
    Swap { variant: u8 },
    Expire { buckets: u8 },
    Toggle { place: Place },
}

impl Op {
    /// The next operation; `None` at the end.
    pub(crate) fn decode(r: &mut Reader<'_>) -> Option<Self> {
        if r.rest.is_empty() {
            return None;
        }
        Some(match r.byte() % 8 {
            0 => {
                let (place, split, fix, padding) =
                    (Place(r.byte()), (r.word(), r.word()), r.byte(), r.word());
                let len = r.word();
                Self::Raw(Raw { place, split, fix, padding, bytes: r.bytes(len.into()).to_vec() })
            }
            1 | 2 => Self::Built(Built::decode(r)),
            3 => Self::Turn { times: r.byte() },
            4 => Self::Advance { seconds: r.word() },
            5 => Self::Swap { variant: r.byte() },
            6 => Self::Expire { buckets: r.byte() },
            _ => Self::Toggle { place: Place(r.byte()) },
        })
    }

    /// The inverse of [`Op::decode`].
    #[allow(dead_code, reason = "the corpus test writes seeds, the fuzz target only reads them")]
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        match self {
            Self::Raw(raw) => {
                out.extend([0, raw.place.0]);
                for word in [raw.split.0, raw.split.1] {
                    out.extend(word.to_be_bytes());
                }
                out.push(raw.fix);
                out.extend(raw.padding.to_be_bytes());
                out.extend((raw.bytes.len() as u16).to_be_bytes());
                out.extend(&raw.bytes);
            }
            Self::Built(built) => built.encode(out),
            Self::Turn { times } => out.extend([3, *times]),
            Self::Advance { seconds } => {
                out.push(4);
                out.extend(seconds.to_be_bytes());
            }
            Self::Swap { variant } => out.extend([5, *variant]),
            Self::Expire { buckets } => out.extend([6, *buckets]),
            Self::Toggle { place } => out.extend([7, place.0]),
        }
    }
}

impl Raw {
    pub(crate) fn frame(&self) -> Vec<u8> {
        let mut frame = self.bytes.clone();
        frame.resize(frame.len() + usize::from(self.padding), 0x5a);
        fix(&mut frame, self.fix);
        frame
    }
}

impl Built {
    /// Whether its checksums are right, or left to its device as a sender on this machine does.
    pub(crate) fn is_honest(&self) -> bool {
        self.patches.is_empty() && self.fix == 0 && self.style & super::packets::style::WRONG_CHECKSUM == 0
    }

    fn decode(r: &mut Reader<'_>) -> Self {
        let mut built = Self {
            place: Place(r.byte()),
            split: (r.word(), r.word()),
            kind: r.byte(),
            src: r.byte(),
            dst: r.byte(),
            src_port: r.byte(),
            dst_port: r.byte(),
            style: r.word(),
            tcp_flags: r.byte(),
            number: r.byte(),
            extra: r.byte(),
            tunnel: r.byte(),
            payload: r.word(),
            patches: Vec::new(),
            fix: 0,
        };
        let count = r.byte() % 8;
        built.patches = (0..count).map(|_| (r.word(), r.byte())).collect();
        built.fix = r.byte();
        built
    }

    #[allow(dead_code, reason = "as Op::encode")]
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend([1, self.place.0]);
        for word in [self.split.0, self.split.1] {
            out.extend(word.to_be_bytes());
        }
        out.extend([self.kind, self.src, self.dst, self.src_port, self.dst_port]);
        out.extend(self.style.to_be_bytes());
        out.extend([self.tcp_flags, self.number, self.extra, self.tunnel]);
        out.extend(self.payload.to_be_bytes());
        out.push(self.patches.len() as u8);
        for (at, value) in &self.patches {
            out.extend(at.to_be_bytes());
            out.push(*value);
        }
        out.push(self.fix);
    }
}

/// Makes header checksums right after bytes were changed.
pub(crate) fn fix(frame: &mut [u8], bits: u8) {
    for (bit, at) in [(2, 64), (1, 14)] {
        if bits & bit != 0
            && let Some(packet) = frame.get_mut(at..)
        {
            fix_ipv4_checksum(packet);
        }
    }
}
