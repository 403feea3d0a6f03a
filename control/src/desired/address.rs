//! Text to addresses that the dataplane accepts.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

use crate::objects::sloppy_ipv4;

/// An address of one host, IPv4 or IPv6: what the contract accepts as an address. Leading zeros are skipped.
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    let address = text.parse().ok().or_else(|| sloppy_ipv4(text));
    usable(address.ok_or_else(|| no_address(text))?)
}

/// An address at which a host can be reached from another.
pub(super) fn usable(address: IpAddr) -> Result<IpAddr, String> {
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
        return Err(format!("{address} is no address at which a host can be reached from another"));
    }
    Ok(address)
}

/// What is wrong with text that is no address.
pub(super) fn no_address(text: &str) -> String {
    format!("{text:?} is no IP address; write it like 10.0.0.1")
}

/// A range of addresses; bits behind its length are cleared.
pub(super) fn range(text: &str) -> Result<IpNetwork, String> {
    let wrong = || format!("{text:?} is no range of addresses; write it like 10.244.1.0/24");
    // IpNetwork would take a bare address for a range of one.
    let (address, length) = text.split_once('/').ok_or_else(wrong)?;
    let address = address.parse().ok().or_else(|| sloppy_ipv4(address)).ok_or_else(wrong)?;
    let network = IpNetwork::new(address, length.parse().map_err(|_| wrong())?).map_err(|_| wrong())?;
    IpNetwork::new(network.network(), network.prefix()).map_err(|_| wrong())
}

/// The range of one address.
pub(super) fn alone(address: IpAddr) -> IpNetwork {
    address.into()
}
