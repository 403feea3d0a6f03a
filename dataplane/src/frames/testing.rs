//! Frames for tests: bytes into chains of chunks and back.

use super::{AreaId, Frame, Ledger, Piece, Pool, Pools};

/// Two areas of `chunks` chunks each.
pub(crate) fn pools(chunks: u32) -> Pools {
    Pools {
        pods: Pool::new(AreaId::Pods, chunks).unwrap(),
        uplink: Pool::new(AreaId::Uplink, chunks).unwrap(),
    }
}

/// A frame of `bytes`, whose first chunks hold as many as `split` says and the others as many as fit.
pub(crate) fn store(pool: &mut Pool, bytes: &[u8], split: &[usize]) -> Frame {
    let mut pieces = Vec::new();
    let (mut rest, mut split) = (bytes, split.iter());
    while !rest.is_empty() {
        let chunk = pool.take().unwrap();
        let len = split.next().copied().unwrap_or(usize::MAX).min(rest.len()).min(chunk.len as usize);
        let piece = Piece { addr: chunk.addr, len: len as u32 };
        pool.bytes_mut(piece).copy_from_slice(&rest[..len]);
        pieces.push(piece);
        rest = &rest[len..];
    }
    pool.assemble(&pieces).unwrap()
}

/// All bytes of a frame.
pub(crate) fn bytes(pool: &Pool, frame: &Frame) -> Vec<u8> {
    let bytes: Vec<u8> = pool.pieces(frame).flat_map(|piece| pool.bytes(piece)).copied().collect();
    assert_eq!((bytes.len(), pool.pieces(frame).count()), (frame.len(), frame.chunks()));
    bytes
}

/// Takes a frame's bytes and ends it.
pub(crate) fn take(pools: &mut Pools, frame: Frame) -> Vec<u8> {
    let bytes = bytes(pools.get(frame.area()), &frame);
    pools.free(frame);
    bytes
}

/// Panics unless every chunk of both areas is free.
pub(crate) fn assert_all_free(pools: &Pools) {
    for pool in [&pools.pods, &pools.uplink] {
        let total = pool.ledger().total;
        assert_eq!(pool.ledger(), Ledger { total, free: total, ..Ledger::default() });
    }
}
