//! The fuzz target over the whole burst function, as a plain function: two workers on ports in memory carry out what the
//! input's bytes say, and after every turn all that came out is checked, at the end also that nothing was lost.
//!
//! [`script`] says what bytes mean, [`packets`] builds well-formed packets for it, [`world`] holds the prepared nodes,
//! [`check`] what must hold. Used by `fuzz_targets/burst.rs` and by the test that replays the corpus.

pub(crate) mod check;
pub(crate) mod packets;
pub(crate) mod script;
pub(crate) mod world;

use std::collections::BTreeSet;

use headrace_dataplane::drop_reason::DropReason;
use script::{Op, Reader};
use world::World;

/// Most operations of one input.
const MOST_OPS: usize = 200;

/// Carries out a script; panics when something does not hold. Returns the reasons for which frames were dropped.
pub(crate) fn run(bytes: &[u8]) -> BTreeSet<DropReason> {
    let mut reader = Reader::new(bytes);
    let mut world = World::new(reader.byte());
    for _ in 0..MOST_OPS {
        let Some(op) = Op::decode(&mut reader) else { break };
        apply(&mut world, op);
    }
    world.end()
}

fn apply(world: &mut World, op: Op) {
    match op {
        Op::Raw(raw) => world.put(raw.place, raw.frame(), raw.split, false),
        Op::Built(built) => world.put(built.place, packets::frame(&built), built.split, built.is_honest()),
        Op::Turn { times } => (0..=times % 4).for_each(|_| world.turn()),
        Op::Advance { seconds } => world.now = world.now.saturating_add(seconds.into()),
        Op::Swap { variant } => world.swap(variant),
        Op::Expire { buckets } => world.expire(buckets.into()),
        Op::Toggle { place } => world.toggle(place),
    }
}
