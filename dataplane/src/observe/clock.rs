//! A clock for measurements: the processor's own, read in a few nanoseconds.

/// A moment or a duration in ticks of a [`Clock`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticks(pub u64);

impl Ticks {
    /// From an earlier moment to this one; none when it is no earlier.
    #[inline]
    #[must_use]
    pub fn since(self, earlier: Self) -> Self {
        Self(self.0.saturating_sub(earlier.0))
    }
}

/// The processor's time stamp counter, or CLOCK_MONOTONIC where that one cannot be trusted.
pub struct Clock(quanta::Clock);

impl Clock {
    /// The first one of a process is compared with the kernel's clock for some milliseconds.
    pub fn new() -> Self {
        Self(quanta::Clock::new())
    }

    /// The moment.
    #[inline]
    pub fn now(&self) -> Ticks {
        Ticks(self.0.raw())
    }

    /// A duration in nanoseconds.
    #[inline]
    pub fn nanoseconds(&self, duration: Ticks) -> u64 {
        self.0.delta_as_nanos(0, duration.0)
    }
}

impl Default for Clock {
    fn default() -> Self {
        Self::new()
    }
}
