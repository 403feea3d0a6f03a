//! Versions of the CNI specification that this plugin speaks.

use std::fmt;

/// A supported version. Ordered: a later one is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SpecVersion {
    /// 0.1.0: the result has one address of each family.
    V0_1_0,
    /// 0.2.0 adds VERSION.
    V0_2_0,
    /// 0.3.0: the first with a list of interfaces and addresses.
    V0_3_0,
    /// 0.3.1 mends the wording of 0.3.0.
    V0_3_1,
    /// 0.4.0 adds CHECK and prevResult on DEL.
    V0_4_0,
    /// 1.0.0 drops the family from addresses.
    V1_0_0,
    /// 1.1.0 adds GC, STATUS and more fields of routes and interfaces.
    V1_1_0,
}

impl SpecVersion {
    /// All supported versions, oldest first.
    pub const ALL: [Self; 7] =
        [Self::V0_1_0, Self::V0_2_0, Self::V0_3_0, Self::V0_3_1, Self::V0_4_0, Self::V1_0_0, Self::V1_1_0];

    /// The newest supported version.
    pub const LATEST: Self = Self::V1_1_0;

    /// The version written so, if it is supported.
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|v| v.as_str() == text)
    }

    /// As in `cniVersion`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::V0_1_0 => "0.1.0",
            Self::V0_2_0 => "0.2.0",
            Self::V0_3_0 => "0.3.0",
            Self::V0_3_1 => "0.3.1",
            Self::V0_4_0 => "0.4.0",
            Self::V1_0_0 => "1.0.0",
            Self::V1_1_0 => "1.1.0",
        }
    }
}

impl fmt::Display for SpecVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
