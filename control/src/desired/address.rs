//! Text to addresses that the dataplane accepts.

use std::net::IpAddr;

use ipnetwork::IpNetwork;

/// An address of one host, IPv4 or IPv6: what the contract accepts as an address.
pub(super) fn host(text: &str) -> Result<IpAddr, String> {
    let address: IpAddr =
        text.parse().map_err(|_| format!("{text:?} is no IP address; write it like 10.0.0.1"))?;
    let broadcast = matches!(address, IpAddr::V4(a) if a.is_broadcast());
    if address.is_unspecified() || address.is_loopback() || address.is_multicast() || broadcast {
        return Err(format!("{address} is no address at which a host can be reached from another"));
    }
    Ok(address)
}

/// A pod range; bits behind its length are cleared.
pub(super) fn range(text: &str) -> Result<IpNetwork, String> {
    let wrong = || format!("{text:?} is no range of addresses; write it like 10.244.1.0/24");
    // IpNetwork would take a bare address for a range of one.
    if !text.contains('/') {
        return Err(wrong());
    }
    let network: IpNetwork = text.parse().map_err(|_| wrong())?;
    IpNetwork::new(network.network(), network.prefix()).map_err(|_| wrong())
}
