//! What a pod gets of what is asked for it: which addresses may be its own, and what this node cannot do.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use headrace_cni::options::{AddressRange, PodOptions};
use headrace_cni::{CniError, CniResult, ErrorCode};
use headrace_wire::ethernet::MacAddr;
use ipnetwork::{IpNetwork, Ipv4Network};

use super::ipam::{Choice, Range};
use crate::node::GATEWAY_MAC;
use crate::seam::NodeFacts;

/// What of the node's first IPv4 pod range is for pods.
pub(super) fn pod_range(facts: &NodeFacts) -> Result<Range, CniError> {
    let cidr: Option<Ipv4Network> = facts.pod_cidrs.iter().find_map(|cidr| v4(*cidr));
    let cidr = cidr.ok_or_else(|| {
        let msg = format!("Node {} has no IPv4 podCIDR; set spec.podCIDR", facts.name);
        CniError::new(ErrorCode::TRY_AGAIN_LATER, msg)
    })?;
    Ok(Range::of(cidr)?)
}

/// From which addresses the pool may choose: the node's, narrowed by `ips` and `ipRanges`.
pub(super) fn choice(options: &PodOptions, range: Range) -> Result<Choice, CniError> {
    let exact = match options.ips[..] {
        [] => None,
        [IpAddr::V4(address)] => Some(address),
        [IpAddr::V6(address)] => {
            return Err(unsupported(format!("ips asks for {address}; pods get an IPv4 address")));
        }
        _ => {
            return Err(unsupported(format!("ips asks for {} addresses; a pod gets one", options.ips.len())));
        }
    };
    let sets: Vec<_> = options.ranges.iter().filter(|set| !set.is_empty()).collect();
    match sets[..] {
        [] => Ok(Choice { exact, ..Choice::any(range) }),
        [set] => {
            let ranges = set.iter().map(|asked| narrow(asked, range)).collect::<Result<_, _>>()?;
            let gateway = |asked: &AddressRange| asked.gateway.and_then(ip4);
            Ok(Choice { ranges, exact, taken: set.iter().filter_map(gateway).collect() })
        }
        _ => Err(unsupported(format!(
            "ipRanges has {} sets; a pod gets one address, from one set",
            sets.len()
        ))),
    }
}

/// The address that an IPAM plugin gave. Other nodes and the dataplane take no other than those of the podCIDR.
pub(super) fn given(result: &CniResult, range: Range) -> Result<Ipv4Addr, CniError> {
    let address = match result.ips.iter().map(|ip| ip.address.ip()).collect::<Vec<_>>()[..] {
        [IpAddr::V4(address)] => address,
        [IpAddr::V6(address)] => {
            return Err(unsupported(format!("ipam gave {address}; pods get an IPv4 address")));
        }
        ref addresses => {
            return Err(unsupported(format!("ipam gave {} addresses; a pod gets one", addresses.len())));
        }
    };
    if range.contains(address) {
        return Ok(address);
    }
    let msg = format!(
        "ipam gave {address}, which is not in {range}, the part of this node's podCIDR that is for pods"
    );
    Err(CniError::new(ErrorCode::INVALID_CONFIG, msg).details("set the subnet in ipam to the node's podCIDR"))
}

/// What the dataplane cannot carry out is said before anything is made.
pub(super) fn check(options: &PodOptions) -> Result<(), CniError> {
    if options.mac.map(MacAddr) == Some(GATEWAY_MAC) {
        let msg = format!("mac {GATEWAY_MAC} is the gateway's; want another one");
        return Err(CniError::new(ErrorCode::INVALID_CONFIG, msg));
    }
    let v6 = options.port_mappings.iter().find(|mapping| mapping.host_ip.is_some_and(|ip| ip.is_ipv6()));
    match v6 {
        Some(mapping) => Err(unsupported(format!("portMappings asks for {mapping}; want an IPv4 address"))),
        None => Ok(()),
    }
}

/// Addresses that no pod may be given a second time.
pub(super) fn without(mut choice: Choice, taken: BTreeSet<Ipv4Addr>) -> Choice {
    choice.taken.extend(taken);
    choice
}

fn narrow(asked: &AddressRange, range: Range) -> Result<Range, CniError> {
    let wrong = |why: &str| {
        let msg = format!("ipRanges asks for {}; {why}", asked.subnet);
        CniError::new(ErrorCode::INVALID_CONFIG, msg)
    };
    let subnet = v4(asked.subnet)
        .ok_or_else(|| unsupported(format!("ipRanges asks for {}; want IPv4", asked.subnet)))?;
    let end = |given: Option<IpAddr>, default: Ipv4Addr| match given {
        None => Ok(default),
        Some(IpAddr::V4(address)) if subnet.contains(address) => Ok(address),
        Some(other) => Err(wrong(&format!("{other} does not lie in it"))),
    };
    let (first, last) = (end(asked.first, subnet.network())?, end(asked.last, subnet.broadcast())?);
    if first > last {
        return Err(wrong(&format!("rangeStart {first} lies behind rangeEnd {last}")));
    }
    range.narrow(first, last).ok_or_else(|| wrong(&format!("this node's pods have {range}")))
}

fn v4(network: IpNetwork) -> Option<Ipv4Network> {
    match network {
        IpNetwork::V4(network) => Some(network),
        IpNetwork::V6(_) => None,
    }
}

fn ip4(address: IpAddr) -> Option<Ipv4Addr> {
    match address {
        IpAddr::V4(address) => Some(address),
        IpAddr::V6(_) => None,
    }
}

fn unsupported(msg: String) -> CniError {
    CniError::new(ErrorCode::UNSUPPORTED_FIELD, msg)
}
