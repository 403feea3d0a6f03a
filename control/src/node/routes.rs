//! IPv4 routes of the main table: read, added and removed as plain values.

use std::net::Ipv4Addr;

use ipnetwork::Ipv4Network;
use netlink_packet_route::route::{
    RouteAddress, RouteAttribute, RouteFlags, RouteHeader, RouteMessage, RouteMetric, RouteProtocol,
    RouteScope, RouteType,
};
use rtnetlink::RouteMessageBuilder;

use super::rtnl::{Rtnl, RtnlError, failed};

/// `rtm_protocol` of the routes made here (rtnetlink(7)): tells them from those of others. Not in use by any known daemon.
pub(crate) const PROTOCOL: u8 = 72;

/// A unicast route.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    /// Where to; 0.0.0.0/0 is the default route.
    pub(crate) destination: Ipv4Network,
    /// Through whom; `None` when the destination is on the link.
    pub(crate) gateway: Option<Ipv4Addr>,
    /// Index of the link.
    pub(crate) link: u32,
    /// Source address of the node's own packets.
    pub(crate) source: Option<Ipv4Addr>,
    /// Largest packet in bytes.
    pub(crate) mtu: Option<u32>,
    /// The gateway is on the link though no route says so.
    pub(crate) onlink: bool,
}

/// A route of the main table with what tells it from others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct KernelRoute {
    /// The route.
    pub(crate) route: Route,
    /// Whether it was made here.
    pub(crate) ours: bool,
    /// Its metric; routes to one destination must differ in it.
    pub(crate) metric: u32,
    message: RouteMessage,
}

impl Rtnl {
    /// All unicast routes of the main table that lead through one link.
    pub(crate) async fn routes(&self) -> Result<Vec<KernelRoute>, RtnlError> {
        let request = self.handle.route().get(RouteMessageBuilder::<Ipv4Addr>::new().build());
        let messages = self.dump(|| request.execute(), || "reading the routes".to_owned()).await?;
        Ok(messages.into_iter().filter_map(read).collect())
    }

    /// Adds a route.
    ///
    /// # Errors
    /// EEXIST when another route has the same destination and metric.
    pub(crate) async fn add_route(&self, route: &Route) -> Result<(), RtnlError> {
        let done = self.handle.route().add(message(route)).execute().await;
        done.map_err(|e| failed(e, format!("adding the route to {}", route.destination)))
    }

    /// Puts a route in the place of one with the same destination and metric, with no moment without either.
    pub(crate) async fn replace_route(&self, route: &Route) -> Result<(), RtnlError> {
        let done = self.handle.route().add(message(route)).replace().execute().await;
        done.map_err(|e| failed(e, format!("replacing the route to {}", route.destination)))
    }

    /// Removes a route that was read.
    pub(crate) async fn delete_route(&self, route: KernelRoute) -> Result<(), RtnlError> {
        let destination = route.route.destination;
        let done = self.handle.route().del(route.message).execute().await;
        done.map_err(|e| failed(e, format!("removing the route to {destination}")))
    }
}

fn message(route: &Route) -> RouteMessage {
    let scope = if route.gateway.is_some() { RouteScope::Universe } else { RouteScope::Link };
    let destination = route.destination;
    let mut builder = RouteMessageBuilder::<Ipv4Addr>::new()
        .destination_prefix(destination.network(), destination.prefix())
        .output_interface(route.link)
        .scope(scope)
        .protocol(RouteProtocol::Other(PROTOCOL));
    if let Some(gateway) = route.gateway {
        builder = builder.gateway(gateway);
    }
    if let Some(source) = route.source {
        builder = builder.pref_source(source);
    }
    if route.onlink {
        builder = builder.onlink();
    }
    if let Some(mtu) = route.mtu {
        builder.get_mut().attributes.push(RouteAttribute::Metrics(vec![RouteMetric::Mtu(mtu)]));
    }
    builder.build()
}

/// `None` for other tables, multipath and special routes (blackhole and the like).
fn read(message: RouteMessage) -> Option<KernelRoute> {
    let header = &message.header;
    let mut table = u32::from(header.table);
    let mut metric = 0;
    let (mut to, mut link) = (Ipv4Addr::UNSPECIFIED, None);
    let (mut gateway, mut source, mut mtu) = (None, None, None);
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Table(number) => table = *number,
            RouteAttribute::Priority(priority) => metric = *priority,
            RouteAttribute::Destination(RouteAddress::Inet(address)) => to = *address,
            RouteAttribute::Oif(index) => link = Some(*index),
            RouteAttribute::Gateway(RouteAddress::Inet(address)) => gateway = Some(*address),
            RouteAttribute::PrefSource(RouteAddress::Inet(address)) => source = Some(*address),
            RouteAttribute::Metrics(metrics) => mtu = mtu.or(metrics.iter().find_map(mtu_of)),
            _ => (),
        }
    }
    if table != u32::from(RouteHeader::RT_TABLE_MAIN) || header.kind != RouteType::Unicast {
        return None;
    }
    let route = Route {
        destination: Ipv4Network::new(to, header.destination_prefix_length).ok()?,
        gateway,
        link: link?,
        source,
        mtu,
        onlink: header.flags.contains(RouteFlags::Onlink),
    };
    let ours = header.protocol == RouteProtocol::Other(PROTOCOL);
    Some(KernelRoute { route, ours, metric, message })
}

fn mtu_of(metric: &RouteMetric) -> Option<u32> {
    match metric {
        RouteMetric::Mtu(mtu) => Some(*mtu),
        _ => None,
    }
}
