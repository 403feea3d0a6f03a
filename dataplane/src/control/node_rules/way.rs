//! The way of marked packets to the host link: one policy rule and a routing table of one route.

use futures::TryStreamExt;
use rtnetlink::packet_route::route::{RouteAttribute, RouteProtocol};
use rtnetlink::packet_route::rule::{RuleAction, RuleAttribute, RuleMessage};
use rtnetlink::{Handle, IpVersion, RouteMessageBuilder};

use std::net::Ipv4Addr;

use crate::tables::POD_GATEWAY;

/// The bit of the packet and connection mark. Others use 0x4000 and 0x8000 (kubelet, kube-proxy), 0xf00 (Cilium), and what
/// lies above 0xffff (Calico, Tailscale).
pub(super) const MARK: u32 = 0x1000;
/// The routing table.
const TABLE: u32 = 7272;
/// Preference of the rule: behind the table of local addresses, before everybody else's.
const PREFERENCE: u32 = 72;
/// `rtm_protocol` of what is made here (rtnetlink(7)).
const PROTOCOL: u8 = 72;

/// Routes could not be changed.
#[derive(Debug, thiserror::Error)]
#[error("cannot {action} for packets marked {MARK:#x}: {source}; the dataplane needs CAP_NET_ADMIN")]
pub struct WayError {
    action: &'static str,
    source: rtnetlink::Error,
}

impl WayError {
    fn at(action: &'static str) -> impl FnOnce(rtnetlink::Error) -> Self {
        move |source| Self { action, source }
    }
}

/// Makes rule and route, or leaves them as they are.
///
/// # Errors
/// [`WayError`].
pub(super) async fn ensure(handle: &Handle, link: u32) -> Result<(), WayError> {
    let route = RouteMessageBuilder::<Ipv4Addr>::new()
        .table_id(TABLE)
        .protocol(RouteProtocol::Other(PROTOCOL))
        .output_interface(link)
        .gateway(POD_GATEWAY)
        .onlink()
        .build();
    handle.route().add(route).replace().execute().await.map_err(WayError::at("add a route"))?;
    if rules(handle).await?.is_empty() {
        let mut request = handle.rule().add().v4().table_id(TABLE).priority(PREFERENCE).fw_mark(MARK);
        let message = request.message_mut();
        message.header.action = RuleAction::ToTable;
        message.attributes.push(RuleAttribute::FwMask(MARK));
        request.execute().await.map_err(WayError::at("add a rule"))?;
    }
    Ok(())
}

/// Removes rule and route.
///
/// # Errors
/// [`WayError`].
pub(super) async fn remove(handle: &Handle) -> Result<(), WayError> {
    for rule in rules(handle).await? {
        handle.rule().del(rule).execute().await.map_err(WayError::at("remove the rule"))?;
    }
    let request = RouteMessageBuilder::<Ipv4Addr>::new().build();
    let routes: Vec<_> =
        handle.route().get(request).execute().try_collect().await.map_err(WayError::at("list routes"))?;
    let ours = |attribute: &RouteAttribute| *attribute == RouteAttribute::Table(TABLE);
    for route in routes.into_iter().filter(|route| route.attributes.iter().any(ours)) {
        handle.route().del(route).execute().await.map_err(WayError::at("remove the route"))?;
    }
    Ok(())
}

/// The rules that lead to our table.
async fn rules(handle: &Handle) -> Result<Vec<RuleMessage>, WayError> {
    let all: Vec<RuleMessage> = handle
        .rule()
        .get(IpVersion::V4)
        .execute()
        .try_collect()
        .await
        .map_err(WayError::at("list the rules"))?;
    let ours = |attribute: &RuleAttribute| *attribute == RuleAttribute::Table(TABLE);
    Ok(all.into_iter().filter(|rule| rule.attributes.iter().any(ours)).collect())
}
