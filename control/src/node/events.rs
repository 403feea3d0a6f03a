//! Says when links, addresses or routes have changed.

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute};
use rtnetlink::MulticastGroup;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::sys::SocketAddr;
use tokio::task::JoinHandle;

use super::GATEWAY;
use super::rtnl::RtnlError;

/// Changes come in heaps (a link, its addresses, their routes); one look at the end of a heap is enough.
const SETTLE: Duration = Duration::from_millis(50);

/// A subscription, in the network namespace of the thread that made it.
pub(super) struct Events {
    messages: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    connection: JoinHandle<()>,
}

impl Events {
    /// Subscribes.
    pub(super) fn subscribe() -> Result<Self, RtnlError> {
        let groups = [
            MulticastGroup::Link,
            MulticastGroup::Ipv4Ifaddr,
            MulticastGroup::Ipv4Route,
            MulticastGroup::Neigh,
        ];
        let (connection, _, messages) =
            rtnetlink::new_multicast_connection(&groups).map_err(RtnlError::subscribing)?;
        Ok(Self { messages, connection: tokio::spawn(connection) })
    }

    /// Returns some time after the next change that may concern the host link; lost events count as one.
    pub(super) async fn next(&mut self) {
        loop {
            match self.messages.next().await {
                Some((message, _)) if concerns(&message.payload) => break,
                Some(_) => {}
                // The connection has ended: the caller's own clock is left.
                None => std::future::pending().await,
            }
        }
        tokio::time::sleep(SETTLE).await;
        while self.messages.try_recv().is_ok() {}
    }
}

impl Drop for Events {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

/// Neighbours change all the time on a busy node; only the gateway's entry is kept here.
fn concerns(payload: &NetlinkPayload<RouteNetlinkMessage>) -> bool {
    let gateway = NeighbourAttribute::Destination(NeighbourAddress::Inet(GATEWAY));
    match payload {
        NetlinkPayload::InnerMessage(
            RouteNetlinkMessage::NewNeighbour(neighbour) | RouteNetlinkMessage::DelNeighbour(neighbour),
        ) => neighbour.attributes.contains(&gateway),
        _ => true,
    }
}
