use std::collections::BTreeMap;

use headrace_wire::checksum::sum;
use proptest::collection::vec;
use proptest::prelude::*;

use super::testing::{assert_all_free, bytes, pools, store, take};
use super::*;
use crate::port::PortIndex;

const CHUNKS: u32 = 24;
const CHUNK: u64 = 4096;

/// Who has a chunk, as plainly as it can be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Owner {
    InHand,
    Fill(u16),
    Tx(u16),
    Quarantined,
}

#[derive(Clone, Debug)]
enum Step {
    Take,
    GiveBack(usize),
    Assemble(usize),
    Trim(usize, usize),
    Free(usize),
    Fill(u16),
    Untake(usize),
    Receive(usize),
    Send(usize, u16),
    Complete(u64, u16),
    Reclaim(u16, bool),
    Release,
}

fn step() -> impl Strategy<Value = Step> {
    let port = 0u16..3;
    prop_oneof![
        4 => Just(Step::Take),
        1 => any::<usize>().prop_map(Step::GiveBack),
        3 => (0usize..20).prop_map(Step::Assemble),
        1 => (any::<usize>(), 0usize..9000).prop_map(|(which, len)| Step::Trim(which, len)),
        1 => any::<usize>().prop_map(Step::Free),
        3 => port.clone().prop_map(Step::Fill),
        1 => any::<usize>().prop_map(Step::Untake),
        2 => any::<usize>().prop_map(Step::Receive),
        2 => (any::<usize>(), port.clone()).prop_map(|(which, port)| Step::Send(which, port)),
        3 => (prop_oneof![0..u64::from(CHUNKS) * CHUNK, any::<u64>()], port.clone())
            .prop_map(|(addr, port)| Step::Complete(addr, port)),
        1 => (port, any::<bool>()).prop_map(|(port, zero_copy)| Step::Reclaim(port, zero_copy)),
        1 => Just(Step::Release),
    ]
}

/// A pool and what the oracle knows of it.
struct Bench {
    pool: Pool,
    owners: BTreeMap<u64, Owner>,
    pieces: Vec<Piece>,
    frames: Vec<Frame>,
}

impl Bench {
    fn new() -> Self {
        let pool = Pool::new(AreaId::Pods, CHUNKS).unwrap();
        Self { pool, owners: BTreeMap::new(), pieces: Vec::new(), frames: Vec::new() }
    }

    fn run(&mut self, step: &Step) {
        match *step {
            Step::Take => match self.pool.take() {
                Some(piece) => {
                    assert_eq!(self.owners.insert(chunk(piece), Owner::InHand), None);
                    self.pieces.push(piece);
                }
                None => assert_eq!(self.owners.len(), CHUNKS as usize),
            },
            Step::GiveBack(which) => {
                if let Some(piece) = pick(&mut self.pieces, which) {
                    self.owners.remove(&chunk(piece));
                    self.pool.give_back(piece);
                }
            }
            Step::Assemble(count) => self.assemble(count),
            Step::Trim(which, len) => self.trim(which, len),
            Step::Free(which) => {
                if let Some(frame) = pick(&mut self.frames, which) {
                    self.own(&frame, None);
                    self.pool.free(frame);
                }
            }
            Step::Fill(port) => match self.pool.take_for_fill(PortIndex(port)) {
                Some(addr) => assert_eq!(self.owners.insert(addr / CHUNK, Owner::Fill(port)), None),
                None => assert_eq!(self.owners.len(), CHUNKS as usize),
            },
            Step::Untake(which) => {
                if let Some((chunk, _)) = self.filled(which) {
                    self.owners.remove(&chunk);
                    self.pool.untake(chunk * CHUNK);
                }
            }
            Step::Receive(which) => {
                if let Some((chunk, _)) = self.filled(which) {
                    let piece = self.pool.received(chunk * CHUNK + 300, 5000);
                    assert_eq!((u64::from(piece.addr), piece.len), (chunk * CHUNK + 300, 4096 - 300));
                    self.owners.insert(chunk, Owner::InHand);
                    self.pieces.push(piece);
                }
            }
            Step::Send(which, port) => {
                if let Some(frame) = pick(&mut self.frames, which) {
                    self.own(&frame, Some(Owner::Tx(port)));
                    self.pool.sent(frame, PortIndex(port));
                }
            }
            Step::Complete(addr, port) => {
                let chunk = (addr / CHUNK).min(u64::from(CHUNKS) - 1);
                if self.owners.get(&chunk) == Some(&Owner::Tx(port)) {
                    self.owners.remove(&chunk);
                }
                self.pool.completed(addr, PortIndex(port));
            }
            Step::Reclaim(port, zero_copy) => self.reclaim(port, zero_copy),
            Step::Release => {
                self.owners.retain(|_, owner| *owner != Owner::Quarantined);
                self.pool.release_quarantine();
            }
        }
        self.check();
    }

    fn assemble(&mut self, count: usize) {
        let count = count.min(self.pieces.len());
        let pieces: Vec<_> = self.pieces.drain(..count).collect();
        let frame = self.pool.assemble(&pieces);
        assert_eq!(frame.is_some(), (1..=MAX_CHUNKS).contains(&count));
        match frame {
            Some(frame) => self.frames.push(frame),
            None => self.owners.retain(|owned, _| pieces.iter().all(|piece| chunk(*piece) != *owned)),
        }
    }

    fn trim(&mut self, which: usize, len: usize) {
        let Some(mut frame) = pick(&mut self.frames, which) else { return };
        let before = bytes(&self.pool, &frame);
        self.own(&frame, None);
        self.pool.trim(&mut frame, len);
        self.own(&frame, Some(Owner::InHand));
        assert_eq!(bytes(&self.pool, &frame), before[..len.clamp(1, before.len())]);
        self.frames.push(frame);
    }

    fn reclaim(&mut self, port: u16, zero_copy: bool) {
        let of_port = |owner: &Owner| [Owner::Fill(port), Owner::Tx(port)].contains(owner);
        if zero_copy {
            self.owners.values_mut().filter(|o| of_port(o)).for_each(|o| *o = Owner::Quarantined);
        } else {
            self.owners.retain(|_, owner| !of_port(owner));
        }
        self.pool.reclaim(PortIndex(port), zero_copy);
        assert_eq!(self.pool.filled(PortIndex(port)), 0);
    }

    /// One of the chunks lent to a port.
    fn filled(&self, which: usize) -> Option<(u64, Owner)> {
        let filled: Vec<_> = self.owners.iter().filter(|(_, o)| matches!(o, Owner::Fill(_))).collect();
        let (chunk, owner) = filled.get(which.checked_rem(filled.len())?)?;
        Some((**chunk, **owner))
    }

    fn own(&mut self, frame: &Frame, owner: Option<Owner>) {
        for piece in self.pool.pieces(frame) {
            match owner {
                Some(owner) => self.owners.insert(chunk(piece), owner),
                None => self.owners.remove(&chunk(piece)),
            };
        }
    }

    fn check(&self) {
        let count = |of: fn(&Owner) -> bool| self.owners.values().filter(|o| of(o)).count() as u32;
        let expected = Ledger {
            total: CHUNKS,
            free: CHUNKS - self.owners.len() as u32,
            fill: count(|o| matches!(o, Owner::Fill(_))),
            tx: count(|o| matches!(o, Owner::Tx(_))),
            in_hand: count(|o| *o == Owner::InHand),
            quarantined: count(|o| *o == Owner::Quarantined),
        };
        assert_eq!(self.pool.ledger(), expected);
        assert_eq!(self.pool.available(), expected.free as usize);
    }
}

fn chunk(piece: Piece) -> u64 {
    u64::from(piece.addr) / CHUNK
}

fn pick<T>(list: &mut Vec<T>, which: usize) -> Option<T> {
    let at = which.checked_rem(list.len())?;
    Some(list.swap_remove(at))
}

proptest! {
    #[test]
    fn the_ledger_says_where_every_chunk_is(steps in vec(step(), 0..300)) {
        let mut bench = Bench::new();
        steps.iter().for_each(|step| bench.run(step));
    }

    #[test]
    fn a_copy_has_the_bytes_and_their_sum(
        payload in vec(any::<u8>(), 1..20_000), split in vec(1usize..3000, 0..6),
        headers in 0usize..200, skip in 0usize..100, across in any::<bool>(),
    ) {
        let mut pools = pools(40);
        let frame = store(&mut pools.pods, &payload, &split);
        let skip = skip.min(payload.len() - 1);
        let to = if across { AreaId::Uplink } else { AreaId::Pods };
        let mut writer = Writer::new(pools.get_mut(to), &vec![7; headers]).unwrap();
        let mut cursor = Cursor::new(&pools.pods, &frame, skip);
        let mark = writer.mark();
        prop_assert!(writer.append(&mut pools, AreaId::Pods, &mut cursor, payload.len() - skip).is_some());
        prop_assert!(writer.append(&mut pools, AreaId::Pods, &mut cursor, 1).is_none(), "the source has ended");
        writer.cut_back(pools.get_mut(to), mark);
        prop_assert_eq!(writer.len(), headers);
        // Once more, in two parts.
        let mut cursor = Cursor::new(&pools.pods, &frame, skip);
        let rest = &payload[skip..];
        let (one, two) = rest.split_at(rest.len() / 3);
        for part in [one, two] {
            let copied = writer.append(&mut pools, AreaId::Pods, &mut cursor, part.len()).unwrap();
            prop_assert_eq!(copied.fold() % 0xffff, sum(part).fold() % 0xffff);
        }
        let copy = writer.finish(pools.get_mut(to));
        prop_assert_eq!(take(&mut pools, copy), [&vec![7; headers][..], rest].concat());
        pools.free(frame);
        assert_all_free(&pools);
    }
}

#[test]
fn a_writer_without_chunks_gives_back_what_it_has() {
    let mut pools = pools(6);
    let frame = store(&mut pools.pods, &[1; 12_000], &[]);
    let mut writer = Writer::new(&mut pools.pods, &[0; 54]).unwrap();
    let mut cursor = Cursor::new(&pools.pods, &frame, 0);
    assert!(writer.append(&mut pools, AreaId::Pods, &mut cursor, 12_000).is_none());
    writer.abandon(&mut pools.pods);
    pools.free(frame);
    assert_all_free(&pools);
}

#[test]
fn a_frame_longer_than_a_chain_is_refused_and_its_chunks_are_free() {
    let mut pools = pools(40);
    let frame = store(&mut pools.uplink, &[1; 65_000], &[]);
    let mut writer = Writer::new(&mut pools.pods, &[0; 1]).unwrap();
    for _ in 0..3 {
        let mut cursor = Cursor::new(&pools.uplink, &frame, 0);
        if writer.append(&mut pools, AreaId::Uplink, &mut cursor, 65_000).is_none() {
            writer.abandon(&mut pools.pods);
            pools.free(frame);
            return assert_all_free(&pools);
        }
    }
    panic!("195 000 bytes in {MAX_CHUNKS} chunks");
}

#[test]
fn pulling_never_takes_the_last_byte_of_the_first_chunk() {
    let mut pools = pools(4);
    let mut frame = store(&mut pools.pods, &[1, 2, 3, 4, 5], &[3]);
    assert!(!frame.pull(3));
    assert!(frame.pull(2));
    assert_eq!((frame.len(), frame.head_len()), (3, 1));
    assert_eq!(take(&mut pools, frame), [3, 4, 5]);
}
