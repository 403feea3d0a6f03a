//! ADD: from an address to a port that the dataplane has open.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::os::fd::{AsFd, OwnedFd};

use headrace_cni::options::PodOptions;
use headrace_cni::protocol::Request;
use headrace_cni::result::{Interface, IpConfig, Route};
use headrace_cni::{CniError, CniResult, ErrorCode, NetworkConfig};
use headrace_wire::ethernet::MacAddr;
use headrace_xsk::sysctl;
use ipnetwork::{IpNetwork, Ipv4Network};
use serde_json::{Map, Value};
use tracing::warn;

use super::asked;
use super::attachment::{Attachment, mac_of};
use super::ipam::{Choice, IpamError};
use super::netns::Netns;
use super::owner::Owner;
use super::pod::{EVERYTHING, PodLink};
use super::queues;
use super::server::Server;
use super::store::Store;
use crate::node::rtnl::{VethEnd, VethPair};
use crate::node::{GATEWAY, GATEWAY_MAC, SUPERFRAME_MTU, path_mtu};

/// What is known of a pod before it has an address.
struct Plan {
    owner: Owner,
    network: String,
    ipam: Option<String>,
    options: PodOptions,
    path_mtu: u32,
    queues: NonZeroU32,
    label: String,
}

/// Where a pod's address comes from.
enum Source {
    /// The node's pool.
    Pool(Choice),
    /// An IPAM plugin, which keeps the reservation itself.
    Given(Ipv4Addr),
}

impl Server {
    /// Attaches a pod. Whatever fails, nothing of it is left.
    pub(super) async fn add(
        &self,
        request: &Request,
        config: &NetworkConfig,
        netns: Option<OwnedFd>,
    ) -> Result<CniResult, CniError> {
        let owner = Owner::of(request)?;
        let options = config.pod_options(&request.args)?;
        asked::check(&options)?;
        let missing = || CniError::new(ErrorCode::INVALID_NETNS, "ADD came without a network namespace");
        let netns = Netns::new(netns.ok_or_else(missing)?)?;
        let _turn = self.turns.take(&owner).await;

        let facts = self.facts().await?;
        let range = asked::pod_range(&facts)?;
        let source = match &request.ipam {
            Some(given) => Source::Given(asked::given(given, range)?),
            None => Source::Pool(asked::choice(&options, range)?),
        };
        let plan = Plan {
            network: config.name.clone(),
            ipam: request.ipam.as_ref().and(config.ipam.clone()),
            options,
            path_mtu: path_mtu(&self.rtnl, &facts).await?,
            queues: self.queues().await?,
            label: label(request),
            owner,
        };
        let address = self.reserve(&plan, source).await?;
        let outcome = self.attach(&plan, address, &netns).await;
        if outcome.is_err()
            && let Err(e) = self.tear_down(&plan.owner, &plan.network).await
        {
            warn!("undoing ADD of {} {}: {e} {}", plan.owner, plan.owner.ifname, e.details);
        }
        outcome.map(|attachment| result(&attachment, &plan.options, request))
    }

    /// Queues of a new port. An error says that the dataplane is away.
    pub(super) async fn queues(&self) -> Result<NonZeroU32, CniError> {
        match self.options.queues {
            Some(queues) => Ok(queues),
            None => queues::workers(&self.directories.run).await,
        }
    }

    /// From here on the owner has no other attachment, and gets none.
    async fn reserve(&self, plan: &Plan, source: Source) -> Result<Ipv4Addr, CniError> {
        let (asking, host_ports) = (plan.owner.clone(), plan.options.port_mappings.clone());
        let taken: BTreeSet<_> = self
            .store(move |store| {
                if let Some(attachment) = store.get(&asking) {
                    let address = attachment.address;
                    return Err(CniError::from(IpamError::Duplicate { address, owner: asking }));
                }
                store.check_host_link(&asking)?;
                store.check_host_ports(&asking, &host_ports)?;
                Ok(store.all().map(|attachment| attachment.address).collect())
            })
            .await??;
        let choice = match source {
            Source::Given(address) => return Ok(address),
            Source::Pool(choice) => asked::without(choice, taken),
        };
        let asking = plan.owner.clone();
        Ok(self.pool(&plan.network, move |pool| pool.allocate(&choice, &asking)).await??)
    }

    async fn attach(&self, plan: &Plan, address: Ipv4Addr, netns: &Netns) -> Result<Attachment, CniError> {
        let attachment = Attachment {
            host_link: plan.owner.host_link(),
            owner: plan.owner.clone(),
            network: plan.network.clone(),
            port: self.store(Store::new_port).await??,
            mac: plan.options.mac.map_or_else(|| mac_of(address), MacAddr),
            address,
            superframes: plan.options.superframes.unwrap_or(true),
            path_mtu: plan.path_mtu,
            label: plan.label.clone(),
            host_ports: plan.options.port_mappings.clone(),
            bandwidth: plan.options.bandwidth,
            ipam: plan.ipam.clone(),
        };
        self.make_link(&attachment, netns, plan.queues).await?;
        self.make_port(attachment.clone()).await?;
        Ok(attachment)
    }

    /// The veth pair, one end in the pod, both set up.
    async fn make_link(
        &self,
        attachment: &Attachment,
        netns: &Netns,
        queues: NonZeroU32,
    ) -> Result<(), CniError> {
        let (host, queues) = (&attachment.host_link, queues.get());
        let ifname = &attachment.owner.ifname;
        let mtu = if attachment.superframes { SUPERFRAME_MTU } else { attachment.path_mtu };
        // Generic XDP maps the pod's transmit queue k to receive queue k - 1 here, and 0 to 0: one more serves all.
        let pair = VethPair {
            host: VethEnd { name: host, mac: GATEWAY_MAC, tx_queues: queues, rx_queues: queues },
            pod: VethEnd { name: ifname, mac: attachment.mac, tx_queues: queues + 1, rx_queues: queues },
            netns: netns.as_fd(),
            mtu,
        };
        // The owner has no attachment, so a link of this name is what a killed agent left of an ADD.
        self.rtnl.delete_link(host).await?;
        let pod = pod_link(attachment);
        let asked = pod.ifname.clone();
        if netns.run(|rtnl| async move { rtnl.link(&asked).await }).await??.is_some() {
            return Err(CniError::new(ErrorCode::ATTACH_FAILED, format!("{ifname} is in the pod already")));
        }
        self.rtnl.add_veth(&pair).await?;
        netns.run(|rtnl| async move { pod.configure(&rtnl).await }).await??;
        // The kernel's own chatter on this end is nobody's.
        if let Err(e) = sysctl::set(&format!("ipv6/conf/{host}/disable_ipv6"), "1") {
            warn!("{e}");
        }
        let gone =
            || CniError::new(ErrorCode::ATTACH_FAILED, format!("link {host} vanished while it was set up"));
        let link = self.rtnl.link(host).await?.ok_or_else(gone)?;
        Ok(self.rtnl.bring_up(&link, mtu).await?)
    }

    /// Publishes the port and waits until the dataplane has it open.
    async fn make_port(&self, attachment: Attachment) -> Result<(), CniError> {
        let port = attachment.port;
        self.store(|store| store.insert(attachment)).await??;
        Ok(self.gate.wait_port(port, self.options.port_patience).await?)
    }
}

/// What the pod's end of an attachment has.
pub(super) fn pod_link(attachment: &Attachment) -> PodLink {
    PodLink {
        ifname: attachment.owner.ifname.clone(),
        mac: attachment.mac,
        address: attachment.address,
        path_mtu: attachment.path_mtu,
        superframes: attachment.superframes,
    }
}

/// Namespace and name of the pod, where the runtime tells them.
fn label(request: &Request) -> String {
    match (request.args.get("K8S_POD_NAMESPACE"), request.args.get("K8S_POD_NAME")) {
        (Some(namespace), Some(name)) => format!("{namespace}/{name}"),
        _ => request.container_id.clone(),
    }
}

fn result(attachment: &Attachment, options: &PodOptions, request: &Request) -> CniResult {
    let mtu = if attachment.superframes { SUPERFRAME_MTU } else { attachment.path_mtu };
    let host = Interface {
        name: attachment.host_link.clone(),
        mac: GATEWAY_MAC.to_string(),
        ..Interface::default()
    };
    let pod = Interface {
        name: attachment.owner.ifname.clone(),
        mac: attachment.mac.to_string(),
        mtu: Some(mtu),
        sandbox: request.netns.clone().unwrap_or_default(),
        ..Interface::default()
    };
    let gateway = Some(IpAddr::V4(GATEWAY));
    let address = IpNetwork::V4(Ipv4Network::from(attachment.address));
    let everything = IpNetwork::V4(EVERYTHING);
    CniResult {
        interfaces: vec![host, pod],
        ips: vec![IpConfig { address, gateway, interface: Some(1), other: Default::default() }],
        routes: vec![Route {
            dst: everything,
            gw: gateway,
            mtu: Some(attachment.path_mtu),
            other: Default::default(),
        }],
        other: dns(options, request),
    }
}

/// What the configuration says goes before what an IPAM plugin says.
fn dns(options: &PodOptions, request: &Request) -> Map<String, Value> {
    let given = request.ipam.as_ref().and_then(|result| result.other.get("dns"));
    let dns = options.dns.clone().map(Value::Object).or_else(|| given.cloned());
    dns.map(|dns| ("dns".to_owned(), dns)).into_iter().collect()
}
