//! What becomes of packets that are cut or put together, as plainly as it can be written.

use headrace_wire::tcp::TcpFlags;

use super::packet::{Body, Packet};

/// The segments of a superframe, each with `size` bytes of data at most.
pub(crate) fn segments(whole: &Packet, size: usize) -> Vec<Packet> {
    let Body::Tcp { sequence, flags, options } = &whole.body else { panic!("{whole:?} is no TCP") };
    let count = whole.data.len().div_ceil(size);
    let segment = |(i, data): (usize, &[u8])| {
        let mut own = *flags;
        if i > 0 {
            own = own.without(TcpFlags::CWR);
        }
        if i + 1 < count {
            own = own.without(TcpFlags::FIN | TcpFlags::PSH);
        }
        let sequence = sequence.wrapping_add((i * size) as u32);
        Packet {
            id: whole.id.map(|id| id.wrapping_add(i as u16)),
            body: Body::Tcp { sequence, flags: own, options: options.clone() },
            data: data.to_vec(),
            ..whole.clone()
        }
    };
    whole.data.chunks(size).enumerate().map(segment).collect()
}

/// The fragments of a packet, each with `size` bytes behind the IPv4 header at most, a multiple of 8.
pub(crate) fn fragments(whole: &Packet, size: usize) -> Vec<Packet> {
    assert_eq!(size % 8, 0, "fragments are multiples of 8 bytes");
    let bytes = whole.bytes();
    let (protocol, l4) = (bytes[9], &bytes[20 + whole.options.len()..]);
    let count = l4.len().div_ceil(size);
    let fragment = |(i, data): (usize, &[u8])| Packet {
        fragment: ((i * size) as u16, i + 1 < count),
        ports: (0, 0),
        body: Body::Other(protocol),
        data: data.to_vec(),
        ..whole.clone()
    };
    l4.chunks(size).enumerate().map(fragment).collect()
}

/// The datagram that fragments in order make.
pub(crate) fn reassembled(fragments: &[Packet]) -> Packet {
    let mut whole = fragments[0].clone();
    whole.data.clear();
    for (i, fragment) in fragments.iter().enumerate() {
        let more = i + 1 < fragments.len();
        assert_eq!(fragment.fragment, (whole.data.len() as u16, more), "fragment {i}");
        assert_eq!(fragment.id, whole.id, "fragment {i}");
        whole.data.extend(&fragment.data);
    }
    whole.fragment = (0, false);
    Packet::read(&whole.bytes())
}
