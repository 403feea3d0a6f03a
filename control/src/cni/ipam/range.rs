//! Which addresses may be given: parts of the node's pod range, in turn.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;

use super::IpamError;

/// First and last address for pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Range {
    pub(super) first: Ipv4Addr,
    pub(super) last: Ipv4Addr,
}

/// What an owner may get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Choice {
    /// From here, at least one range.
    pub(crate) ranges: Vec<Range>,
    /// This one and no other.
    pub(crate) exact: Option<Ipv4Addr>,
    /// Not these.
    pub(crate) taken: BTreeSet<Ipv4Addr>,
}

impl Range {
    /// What of a node's pod range is for pods.
    ///
    /// # Errors
    /// [`IpamError::TooSmall`].
    pub(crate) fn of(cidr: Ipv4Network) -> Result<Self, IpamError> {
        let (network, broadcast) = (u32::from(cidr.network()), u32::from(cidr.broadcast()));
        if broadcast - network < 3 {
            return Err(IpamError::TooSmall(cidr));
        }
        Ok(Self { first: (network + 2).into(), last: (broadcast - 1).into() })
    }

    /// The part of it from `first` to `last`, if it has any.
    pub(crate) fn narrow(self, first: Ipv4Addr, last: Ipv4Addr) -> Option<Self> {
        let range = Self { first: self.first.max(first), last: self.last.min(last) };
        (range.first <= range.last).then_some(range)
    }

    /// Whether the address is one for pods.
    pub(crate) fn contains(self, address: Ipv4Addr) -> bool {
        (self.first..=self.last).contains(&address)
    }

    fn addresses(self) -> impl Iterator<Item = Ipv4Addr> {
        (u32::from(self.first)..=u32::from(self.last)).map(Ipv4Addr::from)
    }
}

impl fmt::Display for Range {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl Choice {
    /// Any address of a range.
    pub(crate) fn any(range: Range) -> Self {
        Self { ranges: vec![range], exact: None, taken: BTreeSet::new() }
    }

    /// The ranges, for people.
    pub(super) fn described(&self) -> String {
        self.ranges.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
    }

    /// Every address once that may be given: those after `last` first.
    pub(super) fn candidates<'a>(&'a self, last: Option<Ipv4Addr>) -> impl Iterator<Item = Ipv4Addr> + 'a {
        let place = last.and_then(|last| Some((self.ranges.iter().position(|r| r.contains(last))?, last)));
        let (index, last) = place.map_or((0, None), |(index, last)| (index, Some(last)));
        let later = move |address: &Ipv4Addr| last.is_none_or(|last| *address > last);
        let (before, from) = self.ranges.split_at(index);
        let (current, after) = from.split_at(from.len().min(1));
        let all = |ranges: &'a [Range]| ranges.iter().copied().flat_map(Range::addresses);
        all(current)
            .filter(later)
            .chain(all(after))
            .chain(all(before))
            .chain(all(current).filter(move |address| !later(address)))
            .filter(|address| {
                !self.taken.contains(address) && self.exact.is_none_or(|exact| exact == *address)
            })
    }
}
