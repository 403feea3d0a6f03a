//! What the kernel knows of this node's network, kept current, and the few things that it is told.
//!
//! Two rtnetlink sockets: one for requests, one that hears of changes. A change of a link, address or route is only taken
//! as the news that its table is out of date; the table is then read again as a whole. Neighbours change all the time, so
//! their news are carried out as they come. When messages were lost, which the kernel reports, everything is read again.

mod listeners;
mod messages;
mod neighbors;
#[cfg(test)]
mod tests;
mod view;

use std::time::Duration;

use futures::StreamExt;
use futures::channel::mpsc::UnboundedReceiver;
use rtnetlink::packet_core::{NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::{AddressFamily, RouteNetlinkMessage};
use rtnetlink::sys::SocketAddr;
use rtnetlink::{Handle, MulticastGroup};
use tokio::time::Instant;

pub use listeners::{ListenersError, listening};
pub use neighbors::Resolver;
pub use view::{Link, Neighbor, NeighborState, View};

/// News that come together are handled together: a new pod alone causes a dozen.
const SETTLE: Duration = Duration::from_millis(5);

/// Changes that the kernel tells.
const GROUPS: [MulticastGroup; 4] =
    [MulticastGroup::Link, MulticastGroup::Ipv4Ifaddr, MulticastGroup::Ipv4Route, MulticastGroup::Neigh];

/// A request to the kernel failed.
#[derive(Debug, thiserror::Error)]
pub enum KernelError {
    /// No netlink socket.
    #[error("cannot open a netlink socket: {0}")]
    Socket(#[from] std::io::Error),
    /// The kernel refused.
    #[error("cannot {action}: {source}; the dataplane needs CAP_NET_ADMIN")]
    Request {
        /// What was tried.
        action: String,
        /// The kernel's answer.
        source: rtnetlink::Error,
    },
    /// The socket that hears of changes broke.
    #[error("the kernel's stream of changes ended")]
    Ended,
}

impl KernelError {
    pub(super) fn at(action: impl Into<String>) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| Self::Request { action: action.into(), source }
    }
}

/// Tables of the view: those that are out of date, or those that are others now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Parts {
    /// Network devices.
    pub links: bool,
    /// Addresses.
    pub addresses: bool,
    /// Routes.
    pub routes: bool,
    /// Neighbours.
    pub neighbors: bool,
}

impl Parts {
    const ALL: Self = Self { links: true, addresses: true, routes: true, neighbors: true };

    /// Whether there is any.
    pub fn any(self) -> bool {
        self != Self::default()
    }

    /// Whether there is any but neighbours.
    pub fn beyond_neighbors(self) -> bool {
        Self { neighbors: false, ..self }.any()
    }
}

/// The kernel's network state in the namespace of the thread that opened it.
pub struct Kernel {
    handle: Handle,
    news: UnboundedReceiver<(NetlinkMessage<RouteNetlinkMessage>, SocketAddr)>,
    /// To be read again.
    stale: Parts,
    /// Others than when [`Kernel::refresh`] was last called.
    changed: Parts,
    /// When the news that have come may be handled.
    settled: Option<Instant>,
    view: View,
}

impl Kernel {
    /// Opens both sockets and reads everything. Needs a tokio runtime.
    ///
    /// # Errors
    /// [`KernelError`] names what could not be read.
    pub async fn open() -> Result<Self, KernelError> {
        let (connection, _, news) = rtnetlink::new_multicast_connection(&GROUPS)?;
        tokio::spawn(connection);
        let (connection, handle, _) = rtnetlink::new_connection()?;
        tokio::spawn(connection);
        let (stale, changed) = (Parts::ALL, Parts::default());
        let mut kernel = Self { handle, news, stale, changed, settled: None, view: View::default() };
        kernel.refresh().await?;
        Ok(kernel)
    }

    /// For requests.
    pub fn handle(&self) -> &Handle {
        &self.handle
    }

    /// The state as it was last read.
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Has the devices read again at the next refresh: somebody says that there is a new one, of which the kernel's news
    /// may still be under way.
    pub fn expect_links(&mut self) {
        self.stale.links = true;
    }

    /// Waits until the view is out of date, or was changed by news. May be dropped and called again.
    ///
    /// # Errors
    /// [`KernelError::Ended`]: without news the view would rot.
    pub async fn changed(&mut self) -> Result<(), KernelError> {
        while !self.stale.any() && !self.changed.any() {
            let (message, _) = self.news.next().await.ok_or(KernelError::Ended)?;
            self.note(&message);
        }
        // Kept over calls: a caller with much else to do must get here in the end.
        tokio::time::sleep_until(*self.settled.get_or_insert(Instant::now() + SETTLE)).await;
        Ok(())
    }

    /// Reads what is out of date. Returns which parts of the view are others than after the call before.
    ///
    /// # Errors
    /// [`KernelError`] names what could not be read; it is read again the next time.
    pub async fn refresh(&mut self) -> Result<Parts, KernelError> {
        while let Ok((message, _)) = self.news.try_recv() {
            self.note(&message);
        }
        if self.stale.links {
            self.changed.links |= self.view.set_links(self.dump_links().await?);
        }
        if self.stale.addresses {
            self.changed.addresses |= self.view.set_addresses(self.dump_addresses().await?);
        }
        if self.stale.routes {
            self.changed.routes |= self.view.set_routes(self.dump_routes().await?);
        }
        if self.stale.neighbors {
            self.changed.neighbors |= self.view.set_neighbors(self.dump_neighbors().await?);
        }
        self.stale = Parts::default();
        self.settled = None;
        Ok(std::mem::take(&mut self.changed))
    }

    /// Takes note of a message.
    fn note(&mut self, message: &NetlinkMessage<RouteNetlinkMessage>) {
        use RouteNetlinkMessage as M;
        let stale = &mut self.stale;
        let NetlinkPayload::InnerMessage(inner) = &message.payload else {
            // An overrun: messages were lost.
            *stale = Parts::ALL;
            return;
        };
        match inner {
            // Routes and neighbours may go silently with their link.
            M::NewLink(_) | M::DelLink(_) => {
                (stale.links, stale.routes, stale.neighbors) = (true, true, true);
            }
            M::NewAddress(_) | M::DelAddress(_) => (stale.addresses, stale.routes) = (true, true),
            M::NewRoute(_) | M::DelRoute(_) => stale.routes = true,
            M::NewNeighbour(message) => {
                let neighbor = messages::neighbor(message);
                self.changed.neighbors |= neighbor.is_some_and(|n| self.view.set_neighbor(n));
            }
            M::DelNeighbour(message) => {
                let neighbor = messages::neighbor(message);
                self.changed.neighbors |= neighbor.is_some_and(|n| self.view.remove_neighbor(&n));
            }
            _ => {}
        }
    }

    async fn dump_links(&self) -> Result<Vec<Link>, KernelError> {
        let mut stream = Box::pin(self.handle.link().get().execute());
        let mut links = Vec::new();
        while let Some(message) = stream.next().await {
            links.extend(messages::link(&message.map_err(KernelError::at("list network devices"))?));
        }
        Ok(links)
    }

    async fn dump_addresses(&self) -> Result<Vec<view::Address>, KernelError> {
        let mut stream = Box::pin(self.handle.address().get().execute());
        let mut addresses = Vec::new();
        while let Some(message) = stream.next().await {
            addresses.extend(messages::address(&message.map_err(KernelError::at("list addresses"))?));
        }
        Ok(addresses)
    }

    async fn dump_routes(&self) -> Result<Vec<view::Route>, KernelError> {
        let request = rtnetlink::RouteMessageBuilder::<std::net::Ipv4Addr>::new().build();
        let mut stream = Box::pin(self.handle.route().get(request).execute());
        let mut routes = Vec::new();
        while let Some(message) = stream.next().await {
            routes.extend(messages::routes(&message.map_err(KernelError::at("list routes"))?));
        }
        Ok(routes)
    }

    async fn dump_neighbors(&self) -> Result<Vec<Neighbor>, KernelError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let mut stream = Box::pin(request.execute());
        let mut neighbors = Vec::new();
        while let Some(message) = stream.next().await {
            neighbors.extend(messages::neighbor(&message.map_err(KernelError::at("list neighbours"))?));
        }
        Ok(neighbors)
    }
}
