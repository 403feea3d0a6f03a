//! At which of its addresses the node answers health checks of Services: as kube-proxy does (NewServiceHealthServer), at
//! those of its interfaces that are in the NodePort ranges, or at all with one socket when a range is everything.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use ipnetwork::IpNetwork;

use crate::node::rtnl::{Rtnl, RtnlError};

/// The node's addresses in the ranges. A range of one address counts as it stands: it is the node's primary one. With
/// the sentence come those that can be had all the same.
pub(super) async fn of(ranges: &[IpNetwork]) -> (BTreeSet<IpAddr>, Option<String>) {
    if ranges.iter().any(|range| range.prefix() == 0) {
        return (BTreeSet::from([Ipv4Addr::UNSPECIFIED.into()]), None);
    }
    let (single, wide): (Vec<IpNetwork>, Vec<IpNetwork>) =
        ranges.iter().partition(|range| range.prefix() == if range.is_ipv4() { 32 } else { 128 });
    let mut addresses: BTreeSet<IpAddr> = single.iter().map(IpNetwork::ip).collect();
    if wide.is_empty() {
        return (addresses, None);
    }
    match local().await {
        Ok(local) => {
            addresses.extend(local.into_iter().filter(|a| wide.iter().any(|range| range.contains(*a))));
            (addresses, None)
        }
        Err(error) => (addresses, Some(format!("health checks are not answered everywhere: {error}"))),
    }
}

async fn local() -> Result<Vec<IpAddr>, RtnlError> {
    Rtnl::connect()?.local_addresses().await
}
