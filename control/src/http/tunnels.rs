//! What goes to and comes from each other node, drawn from the connections: both ends of each are known, and so is whose
//! pods they are.

use std::net::IpAddr;

use headrace_api::proto::FlowRecord;
use headrace_api::state::Peer;
use serde::Serialize;

use crate::desired::Peers;
use crate::status::address;

/// The way to one other node.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub(super) struct Tunnel {
    pub(super) peer: String,
    /// Bits of IP packets a second that come from it.
    pub(super) rx_bps: f64,
    /// Bits of IP packets a second that go to it.
    pub(super) tx_bps: f64,
    /// Connections with it.
    pub(super) connections: usize,
}

/// Adds the rates (to the server, to the client) of `flows` up by peer; in the order of `peers`, also those that are idle.
pub(super) fn tunnels<'a>(
    peers: &Peers,
    flows: impl Iterator<Item = (&'a FlowRecord, [f64; 2])>,
) -> Vec<Tunnel> {
    let mut tunnels: Vec<Tunnel> =
        peers.keys().map(|name| Tunnel { peer: name.clone(), ..Tunnel::default() }).collect();
    let peer_of = |address: Option<IpAddr>| {
        let address = address?;
        peers.values().position(|peer| holds(peer, address))
    };
    for (record, [to_server, to_client]) in flows {
        let server = record.server.as_ref().and_then(|tuple| ip(tuple.destination.as_ref()));
        let client = record.client.as_ref().and_then(|tuple| ip(tuple.source.as_ref()));
        let (index, tx, rx) = match (peer_of(server), peer_of(client)) {
            (Some(index), _) => (index, to_server, to_client),
            (None, Some(index)) => (index, to_client, to_server),
            (None, None) => continue,
        };
        let tunnel = &mut tunnels[index];
        tunnel.tx_bps += tx;
        tunnel.rx_bps += rx;
        tunnel.connections += 1;
    }
    tunnels
}

fn holds(peer: &Peer, address: IpAddr) -> bool {
    peer.address == address
        || peer.other_addresses.contains(&address)
        || peer.pod_cidrs.iter().any(|range| range.contains(address))
}

fn ip(of: Option<&headrace_api::proto::Address>) -> Option<IpAddr> {
    address(of?).parse().ok()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use headrace_api::proto::{Address, Tuple};

    use super::*;

    #[test]
    fn a_connection_counts_for_the_node_at_its_other_end() {
        let peers = Peers::from_iter([peer("b", 2), peer("c", 3)]);
        let flows = [
            (flow([10, 244, 1, 5], [10, 244, 2, 9]), [100.0, 7.0]),
            (flow([10, 244, 3, 5], [10, 244, 1, 9]), [50.0, 1.0]),
            (flow([10, 244, 1, 5], [172, 30, 0, 2]), [1.0, 1.0]),
            (flow([10, 244, 1, 5], [198, 51, 100, 7]), [999.0, 999.0]),
        ];
        let tunnels = tunnels(&peers, flows.iter().map(|(flow, rates)| (flow, *rates)));
        let expected =
            [("b", 8.0, 101.0, 2), ("c", 50.0, 1.0, 1)].map(|(peer, rx_bps, tx_bps, connections)| Tunnel {
                peer: peer.into(),
                rx_bps,
                tx_bps,
                connections,
            });
        assert_eq!(tunnels, expected);
    }

    fn peer(name: &str, number: u8) -> (String, Arc<Peer>) {
        let peer = Peer {
            name: name.into(),
            address: [172, 30, 0, number].into(),
            other_addresses: Vec::new(),
            pod_cidrs: vec![format!("10.244.{number}.0/24").parse().unwrap()],
            vtep_mac: format!("02:00:00:00:00:0{number}").parse().unwrap(),
        };
        (name.into(), Arc::new(peer))
    }

    fn flow(client: [u8; 4], server: [u8; 4]) -> FlowRecord {
        let address = |octets: [u8; 4]| Some(Address { octets: octets.to_vec() });
        let tuple = Tuple { source: address(client), destination: address(server), ..Tuple::default() };
        FlowRecord { client: Some(tuple.clone()), server: Some(tuple), ..FlowRecord::default() }
    }
}
