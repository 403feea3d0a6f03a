//! Where a packet is on its way through a worker.

use std::fmt;

use crate::pipeline;

/// A stage of a turn, in the order in which packets pass them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct StageId(u8);

impl StageId {
    /// The port hands frames over.
    pub const RECEIVE: Self = Self(0);
    /// [`pipeline::ingress`].
    pub const INGRESS: Self = Self(1);
    /// [`pipeline::output`].
    pub const OUTPUT: Self = Self(2 + pipeline::STAGES.len() as u8);
    /// Rings are flushed.
    pub const TRANSMIT: Self = Self(Self::OUTPUT.0 + 1);
    /// How many there are.
    pub const COUNT: usize = Self::TRANSMIT.0 as usize + 1;

    /// The stage of that number in [`pipeline::STAGES`].
    #[inline]
    pub fn of_pipeline(number: usize) -> Self {
        Self(2 + number as u8)
    }

    /// All of them.
    pub fn all() -> impl Iterator<Item = Self> {
        (0..Self::COUNT as u8).map(Self)
    }

    /// Its place among them.
    #[inline]
    pub fn index(self) -> usize {
        usize::from(self.0)
    }
}

impl fmt::Display for StageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match *self {
            Self::RECEIVE => "receive",
            Self::INGRESS => "ingress",
            Self::OUTPUT => "output",
            Self::TRANSMIT => "transmit",
            Self(number) => pipeline::STAGES[usize::from(number) - 2].0,
        })
    }
}
