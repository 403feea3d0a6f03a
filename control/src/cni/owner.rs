//! Whose interface it is, and the names that follow from that.

use std::fmt;

use headrace_cni::env::{check_identifier, check_ifname};
use headrace_cni::protocol::Request;
use headrace_cni::{CniError, ErrorCode};
use serde::{Deserialize, Serialize};

/// One interface of one container; both parts are checked, safe in file names and as names of links.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub(crate) struct Owner {
    /// `CNI_CONTAINERID`.
    pub(crate) container_id: String,
    /// `CNI_IFNAME`.
    pub(crate) ifname: String,
}

impl Owner {
    /// Checks the names of a request: whoever reaches the socket need not be our plugin.
    pub(crate) fn of(request: &Request) -> Result<Self, CniError> {
        let wrong = |msg| CniError::new(ErrorCode::INVALID_ENVIRONMENT, msg);
        check_identifier("CNI_CONTAINERID", &request.container_id).map_err(wrong)?;
        check_ifname(&request.ifname).map_err(wrong)?;
        Ok(Self { container_id: request.container_id.clone(), ifname: request.ifname.clone() })
    }

    /// Name of the link's end on the host: "hr" and 12 hexadecimal digits, always the same for one owner. With 48 bits, two
    /// of 250 pods share a name once in 10^10 nodes; the second one is refused.
    pub(crate) fn host_link(&self) -> String {
        let hash = fnv1a(self.container_id.bytes().chain([0]).chain(self.ifname.bytes()));
        format!("hr{:012x}", (hash >> 48) ^ (hash & 0xffff_ffff_ffff))
    }
}

/// Whether a link has a name that [`Owner::host_link`] gives.
pub(crate) fn is_host_link(name: &str) -> bool {
    let digits = name.strip_prefix("hr").filter(|digits| digits.len() == 12);
    digits.is_some_and(|digits| digits.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f')))
}

impl fmt::Display for Owner {
    /// As `host-local` names an owner.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.container_id)
    }
}

/// FNV-1a, 64 bits (draft-eastlake-fnv): stable over releases, which the standard library's hashers are not.
fn fnv1a(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_links_have_stable_distinct_names_that_fit() {
        let name = |id: &str, ifname: &str| {
            Owner { container_id: id.to_owned(), ifname: ifname.to_owned() }.host_link()
        };
        assert_eq!(name("c1", "eth0"), name("c1", "eth0"));
        assert!(is_host_link(&name("c1", "eth0")));
        for other in ["headrace0", "hr0123456789aB", "hr0123456789abc", "hr", "eth0"] {
            assert!(!is_host_link(other), "{other}");
        }
        let names: std::collections::BTreeSet<_> = (0..10_000)
            .flat_map(|n| [name(&format!("c{n}"), "eth0"), name(&format!("c{n}"), "eth1")])
            .collect();
        assert_eq!(names.len(), 20_000);
        assert_ne!(name("c1e", "th0"), name("c1", "eth0"));
    }
}
