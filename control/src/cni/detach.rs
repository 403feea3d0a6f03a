//! DEL and GC: everything of an attachment goes, in whatever state it is.

use std::collections::BTreeSet;
use std::time::Duration;

use headrace_cni::protocol::Request;
use headrace_cni::{CniError, NetworkConfig};
use tracing::{debug, info};

use super::owner::{Owner, is_host_link};
use super::server::Server;

/// How long the dataplane may take to let go of a port. It gets along without: the link goes all the same.
const PORT_PATIENCE: Duration = Duration::from_secs(2);

impl Server {
    /// Detaches a pod; one that is not attached is fine.
    pub(super) async fn del(&self, request: &Request, config: &NetworkConfig) -> Result<(), CniError> {
        let owner = Owner::of(request)?;
        let _turn = self.turns.take(&owner).await;
        self.tear_down(&owner, &config.name).await
    }

    /// Detaches every pod of this network that is not among the valid ones, and goes on when one cannot be.
    pub(super) async fn collect(&self, config: &NetworkConfig) -> Result<(), CniError> {
        let listed = config.valid_attachments()?;
        let mut valid: BTreeSet<_> =
            listed.into_iter().map(|a| Owner { container_id: a.container_id, ifname: a.ifname }).collect();
        let network = config.name.clone();
        let attached: Vec<_> = self
            .store(move |s| s.all().filter(|a| a.network == network).map(|a| a.owner.clone()).collect())
            .await?;
        let mut outcome = Ok(());
        for owner in attached.iter().filter(|owner| !valid.contains(owner)) {
            let _turn = self.turns.take(owner).await;
            outcome = outcome.and(self.tear_down(owner, &config.name).await);
        }
        // One that is being attached has its address already, and the runtime does not know of it yet.
        valid.extend(self.turns.busy());
        let reservations = self.pool(&config.name, move |pool| pool.retain(&valid)).await?;
        outcome.and(Ok(reservations?)).and(self.remove_orphans().await)
    }

    /// Links that belong to no attachment of any network and to none that is being made: what a killed agent left.
    async fn remove_orphans(&self) -> Result<(), CniError> {
        let links = self.rtnl.links().await?;
        let mut owned: BTreeSet<_> = self.store(|s| s.all().map(|a| a.host_link.clone()).collect()).await?;
        owned.extend(self.turns.busy().iter().map(Owner::host_link));
        for link in links.iter().filter(|l| is_host_link(&l.name) && !owned.contains(&l.name)) {
            info!("link {} belongs to no pod: removed", link.name);
            self.rtnl.delete_link(&link.name).await?;
        }
        Ok(())
    }

    /// Port, link, record, address. The address comes last: until then nobody else may have it. A step that fails does not
    /// keep the next ones from being tried.
    pub(super) async fn tear_down(&self, owner: &Owner, network: &str) -> Result<(), CniError> {
        let gone = owner.clone();
        let withdrawn = self.store(move |store| store.withdraw(&gone)).await?;
        // The list's name may be another now than when the pod was attached.
        let network = withdrawn.as_ref().map_or(network, |attachment| &attachment.network).to_owned();
        if let Some(attachment) = &withdrawn
            && let Err(e) = self.gate.wait_port_gone(attachment.port, PORT_PATIENCE).await
        {
            debug!("{}: {e}; its link is removed all the same", attachment.label);
        }
        let link = self.rtnl.delete_link(&owner.host_link()).await;
        let gone = owner.clone();
        let record = self.store(move |store| store.forget(&gone)).await?;
        link?;
        record?;
        let gone = owner.clone();
        Ok(self.pool(&network, move |pool| pool.release(&gone)).await??)
    }
}
