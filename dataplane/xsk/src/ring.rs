//! The single-producer, single-consumer rings that user space and kernel share (Documentation/networking/af_xdp.rst).
//!
//! Two free-running 32-bit cursors, `producer` and `consumer`, and a power-of-two array of entries. The kernel
//! has the other end of each. Entries are written before the producer cursor is stored with Release, and
//! read after it is loaded with Acquire; the consumer cursor hands entries back the same way. Each end keeps
//! its last sight of the other's cursor and looks again only when that does not suffice.

use std::ptr::NonNull;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::mapping::Mapping;

/// Where the parts of one ring lie.
struct Parts<T> {
    producer: NonNull<AtomicU32>,
    consumer: NonNull<AtomicU32>,
    flags: NonNull<AtomicU32>,
    entries: NonNull<T>,
    size: u32,
    /// Keeps the memory behind the pointers.
    _memory: Arc<Mapping>,
}

// SAFETY: the pointers lead into `_memory`, which moves along; cursors are atomics, entries are plain data
// touched by one end at a time (module rules). Each end is used through `&mut`, by one thread at a time.
unsafe impl<T: Copy + Send> Send for Parts<T> {}

impl<T: Copy> Parts<T> {
    /// # Safety
    /// At the offsets of `at`, `memory` must hold the cursors, flags and `size` entries of one ring, aligned, and
    /// at most one `Producer` and one `Consumer` (or the kernel in place of either) may ever use it.
    unsafe fn new(memory: Arc<Mapping>, at: &libc::xdp_ring_offset, size: u32) -> Option<Self> {
        let end = at.desc as usize + size as usize * size_of::<T>();
        if !size.is_power_of_two() || end > memory.len() {
            return None;
        }
        let place = |offset: u64| {
            // SAFETY: the caller vouches for the offsets, which lie below the checked end.
            unsafe { memory.base().add(offset as usize) }
        };
        Some(Self {
            producer: place(at.producer).cast(),
            consumer: place(at.consumer).cast(),
            flags: place(at.flags).cast(),
            entries: place(at.desc).cast(),
            size,
            _memory: Arc::clone(&memory),
        })
    }

    fn producer(&self) -> &AtomicU32 {
        // SAFETY: valid for as long as `_memory`, by the contract of `new`.
        unsafe { self.producer.as_ref() }
    }

    fn consumer(&self) -> &AtomicU32 {
        // SAFETY: as above.
        unsafe { self.consumer.as_ref() }
    }

    fn flags(&self) -> u32 {
        // SAFETY: as above.
        unsafe { self.flags.as_ref() }.load(Ordering::Relaxed)
    }

    fn entry(&self, cursor: u32) -> NonNull<T> {
        // SAFETY: the mask keeps the index below `size`, the number of entries that `new` was promised.
        unsafe { self.entries.add((cursor & (self.size - 1)) as usize) }
    }
}

/// The end that adds: our side of the fill and transmit rings.
pub(crate) struct Producer<T> {
    parts: Parts<T>,
    head: u32,
    seen: u32,
}

impl<T: Copy> Producer<T> {
    /// # Safety
    /// As for `Parts::new`. `None` when `size` is no power of two or the ring exceeds `memory`.
    pub(crate) unsafe fn new(memory: Arc<Mapping>, at: &libc::xdp_ring_offset, size: u32) -> Option<Self> {
        // SAFETY: the caller's promise, passed on.
        let parts = unsafe { Parts::new(memory, at, size) }?;
        let (head, seen) =
            (parts.producer().load(Ordering::Relaxed), parts.consumer().load(Ordering::Acquire));
        Some(Self { parts, head, seen })
    }

    /// Entries added and not yet taken by the other end.
    pub(crate) fn level(&self) -> u32 {
        self.head.wrapping_sub(self.parts.consumer().load(Ordering::Acquire)).min(self.parts.size)
    }

    /// Whether `wanted` entries fit; loads the other end's cursor only if its last sight says no.
    #[inline]
    pub(crate) fn has_room(&mut self, wanted: u32) -> bool {
        if self.room_seen() < wanted {
            self.seen = self.parts.consumer().load(Ordering::Acquire);
        }
        self.room_seen() >= wanted
    }

    /// Free entries now.
    pub(crate) fn room(&mut self) -> u32 {
        self.seen = self.parts.consumer().load(Ordering::Acquire);
        self.room_seen()
    }

    /// Adds as many of `items` as fit, shows them to the other end, and returns how many.
    #[inline]
    pub(crate) fn push(&mut self, items: impl IntoIterator<Item = T>) -> u32 {
        let room = self.room();
        let mut added = 0;
        // `zip` with the range first, so that no item is drawn that does not fit.
        for (n, item) in (0..room).zip(items) {
            // SAFETY: the slot is between our head and the consumer's cursor plus size: ours until published.
            unsafe { self.parts.entry(self.head.wrapping_add(n)).write(item) };
            added = n + 1;
        }
        self.publish(added);
        added
    }

    /// Whether the other end asked to be woken (XDP_RING_NEED_WAKEUP).
    pub(crate) fn needs_wakeup(&self) -> bool {
        self.parts.flags() & libc::XDP_RING_NEED_WAKEUP != 0
    }

    fn room_seen(&self) -> u32 {
        self.parts.size.saturating_sub(self.head.wrapping_sub(self.seen))
    }

    fn publish(&mut self, added: u32) {
        if added > 0 {
            self.head = self.head.wrapping_add(added);
            self.parts.producer().store(self.head, Ordering::Release);
        }
    }
}

/// The end that takes: our side of the receive and completion rings.
pub(crate) struct Consumer<T> {
    parts: Parts<T>,
    tail: u32,
    seen: u32,
}

impl<T: Copy> Consumer<T> {
    /// # Safety
    /// As for `Parts::new`. `None` when `size` is no power of two or the ring exceeds `memory`.
    pub(crate) unsafe fn new(memory: Arc<Mapping>, at: &libc::xdp_ring_offset, size: u32) -> Option<Self> {
        // SAFETY: the caller's promise, passed on.
        let parts = unsafe { Parts::new(memory, at, size) }?;
        let (tail, seen) =
            (parts.consumer().load(Ordering::Relaxed), parts.producer().load(Ordering::Acquire));
        Some(Self { parts, tail, seen })
    }

    /// Entries that wait now.
    #[inline]
    pub(crate) fn available(&mut self) -> u32 {
        self.seen = self.parts.producer().load(Ordering::Acquire);
        self.seen.wrapping_sub(self.tail).min(self.parts.size)
    }

    /// The entry `n` behind the oldest; `n` below the last [`Consumer::available`].
    #[inline]
    pub(crate) fn peek(&self, n: u32) -> T {
        // SAFETY: the index is masked into the array and every bit pattern of an entry is a valid one (integers
        // only); below `available` the producer has published it and writes it no more until released.
        unsafe { self.parts.entry(self.tail.wrapping_add(n)).read() }
    }

    /// Hands the oldest `n` entries back to the producer.
    #[inline]
    pub(crate) fn release(&mut self, n: u32) {
        if n > 0 {
            self.tail = self.tail.wrapping_add(n);
            self.parts.consumer().store(self.tail, Ordering::Release);
        }
    }
}

/// Both ends of one ring in plain memory, cursors beginning at `start`: the tests' stand-in for the kernel.
#[cfg(test)]
pub(crate) fn pair<T: Copy>(size: u32, start: u32) -> (Producer<T>, Consumer<T>) {
    let memory = Arc::new(Mapping::anonymous(4096 + size as usize * size_of::<T>(), false).unwrap());
    let at = libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 4096 };
    for offset in [at.producer, at.consumer] {
        // SAFETY: inside the fresh mapping, aligned, and nobody else knows it.
        unsafe { memory.base().add(offset as usize).cast::<AtomicU32>().as_ref() }
            .store(start, Ordering::Relaxed);
    }
    // SAFETY: the layout is the one just made, with one producer and one consumer.
    unsafe {
        (Producer::new(Arc::clone(&memory), &at, size).unwrap(), Consumer::new(memory, &at, size).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    #[derive(Clone, Debug)]
    enum Step {
        Push(Vec<u64>),
        Take(u32),
    }

    fn steps() -> impl Strategy<Value = Vec<Step>> {
        let push = prop::collection::vec(any::<u64>(), 0..40).prop_map(Step::Push);
        prop::collection::vec(prop_oneof![push, (0u32..40).prop_map(Step::Take)], 1..60)
    }

    proptest! {
        #[test]
        fn a_ring_is_a_bounded_queue_wherever_its_cursors_begin(
            start in prop_oneof![Just(0u32), Just(u32::MAX - 5), any::<u32>()],
            steps in steps(),
        ) {
            let (mut producer, mut consumer) = pair::<u64>(32, start);
            let mut oracle = VecDeque::new();
            for step in steps {
                match step {
                    Step::Push(items) => {
                        let fits = items.len().min(32 - oracle.len());
                        prop_assert_eq!(producer.has_room(items.len() as u32), fits == items.len());
                        prop_assert_eq!(producer.push(items.iter().copied()), fits as u32);
                        oracle.extend(&items[..fits]);
                    }
                    Step::Take(wanted) => {
                        prop_assert_eq!(consumer.available(), oracle.len() as u32);
                        let taken = wanted.min(oracle.len() as u32);
                        for n in 0..taken {
                            prop_assert_eq!(Some(consumer.peek(n)), oracle.pop_front());
                        }
                        consumer.release(taken);
                    }
                }
                prop_assert_eq!(producer.level(), oracle.len() as u32);
            }
        }
    }

    #[test]
    fn entries_cross_threads_in_order() {
        let (mut producer, mut consumer) = pair::<u64>(64, u32::MAX - 1000);
        let writer = std::thread::spawn(move || {
            let mut next = 0u64;
            while next < 100_000 {
                let end = (next + 7).min(100_000);
                next += u64::from(producer.push(next..end));
            }
        });
        let mut expected = 0u64;
        while expected < 100_000 {
            let available = consumer.available();
            for n in 0..available {
                assert_eq!(consumer.peek(n), expected);
                expected += 1;
            }
            consumer.release(available);
        }
        writer.join().unwrap();
    }

    #[test]
    fn a_ring_that_exceeds_its_memory_is_refused() {
        let memory = Arc::new(Mapping::anonymous(4096, false).unwrap());
        let at = libc::xdp_ring_offset { producer: 0, consumer: 64, flags: 128, desc: 192 };
        // SAFETY: refused before anything is touched.
        assert!(unsafe { Producer::<u64>::new(Arc::clone(&memory), &at, 512) }.is_none());
        // SAFETY: as above, 100 is no power of two.
        assert!(unsafe { Consumer::<u64>::new(memory, &at, 100) }.is_none());
    }
}
