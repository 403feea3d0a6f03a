//! CHECK: is all as ADD left it?

use std::net::IpAddr;
use std::os::fd::OwnedFd;
use std::time::Duration;

use headrace_cni::protocol::Request;
use headrace_cni::{CniError, CniResult, ErrorCode, NetworkConfig};

use super::attach::pod_link;
use super::attachment::Attachment;
use super::netns::Netns;
use super::owner::Owner;
use super::server::Server;

/// The dataplane may be opening the port right now.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

impl Server {
    /// Succeeds when record, reservation, link, the pod's end and the dataplane's port agree.
    ///
    /// # Errors
    /// `CHECK_FAILED` with everything that does not.
    pub(super) async fn check(
        &self,
        request: &Request,
        config: &NetworkConfig,
        netns: Option<OwnedFd>,
    ) -> Result<(), CniError> {
        let owner = Owner::of(request)?;
        let missing = || CniError::new(ErrorCode::INVALID_NETNS, "CHECK came without a network namespace");
        let netns = Netns::new(netns.ok_or_else(missing)?)?;
        let _turn = self.turns.take(&owner).await;
        let asked = owner.clone();
        let Some(attachment) = self.store(move |store| store.get(&asked).cloned()).await? else {
            return Err(failed(&owner, &["it is not attached".to_owned()]));
        };
        let mut problems = self.check_node(&attachment).await?;
        let pod = pod_link(&attachment);
        problems.extend(netns.run(|rtnl| async move { pod.verify(&rtnl).await }).await??);
        if let Some(previous) = config.prev_result()? {
            problems.extend(check_previous(&attachment, &previous));
        }
        if problems.is_empty() { Ok(()) } else { Err(failed(&owner, &problems)) }
    }

    /// What is on the node's side.
    async fn check_node(&self, attachment: &Attachment) -> Result<Vec<String>, CniError> {
        let mut problems = Vec::new();
        let (owner, address) = (attachment.owner.clone(), attachment.address);
        let pooled = attachment.ipam.is_none();
        if pooled && self.pool(&attachment.network, move |pool| pool.find(&owner)).await?? != Some(address) {
            problems.push(format!("address {address} is not reserved for it"));
        }
        match self.rtnl.link(&attachment.host_link).await? {
            Some(link) if link.up => {}
            Some(link) => problems.push(format!("link {} is down", link.name)),
            None => problems.push(format!("link {} is gone", attachment.host_link)),
        }
        if let Err(e) = self.gate.wait_port(attachment.port, PORT_PATIENCE).await {
            problems.push(e.to_string());
        }
        Ok(problems)
    }
}

/// Plugins after this one may have added to the result; what this one put in has to be there.
fn check_previous(attachment: &Attachment, previous: &CniResult) -> Option<String> {
    let listed = previous.ips.iter().any(|ip| ip.address.ip() == IpAddr::V4(attachment.address));
    let named = previous.interfaces.iter().any(|i| i.name == attachment.owner.ifname);
    (!listed || !named).then(|| {
        format!("prevResult does not list {} with address {}", attachment.owner.ifname, attachment.address)
    })
}

fn failed(owner: &Owner, problems: &[String]) -> CniError {
    CniError::new(ErrorCode::CHECK_FAILED, format!("{} of {owner} is not as it was attached", owner.ifname))
        .details(problems.join("; "))
}
