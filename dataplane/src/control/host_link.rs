//! The host link: a veth pair by which the node's own stack and the dataplane reach each other.
//!
//! The kernel's end gets its addresses and routes from the agent; this module makes the pair, or adopts the one that an
//! earlier run left, so that addresses and routes survive a restart. Queues of a veth are fixed when it is made, so a pair
//! with too few for today's workers is made anew, and the agent configures it again.

use headrace_xsk::sysctl;
use rtnetlink::packet_route::link::{InfoData, InfoVeth, LinkAttribute, LinkMessage};
use rtnetlink::{LinkMessageBuilder, LinkUnspec, LinkVeth};

use super::kernel::{Kernel, KernelError, Link, View};
use crate::config::HostLinkNames;

/// Largest that a veth takes: 64 KiB superframes pass whole.
const MTU: u32 = 65535;

/// Offloads that the kernel's end must not use: only TCP frames may be larger than the MTU of the way ahead, and their
/// checksum is the only one that the dataplane completes.
const OFF: [&str; 8] = [
    "tx-udp-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-sctp-segmentation",
    "tx-gso-list",
    "tx-checksum-sctp",
];

/// The host link cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum HostLinkError {
    /// The kernel refused.
    #[error(transparent)]
    Kernel(#[from] KernelError),
    /// A device of that name is something else.
    #[error(
        "device {name} exists and is no veth pair with {other}; rename it, or choose another name with --host-link-name"
    )]
    Taken {
        /// Its name.
        name: String,
        /// What the other end should be called.
        other: String,
    },
}

/// Makes the pair or adopts it, and sets both ends up. Returns warnings, in sentences.
///
/// # Errors
/// [`HostLinkError`] when there is no usable pair afterwards.
pub async fn ensure(
    kernel: &mut Kernel,
    names: &HostLinkNames,
    workers: u32,
) -> Result<Vec<String>, HostLinkError> {
    let mut warnings = Vec::new();
    if let Some((ours, theirs)) = existing(kernel.view(), names)? {
        if fits(ours, theirs, workers) {
            set_up(kernel, names).await?;
            warnings.extend(tune(names));
            return Ok(warnings);
        }
        warnings.push(format!(
            "host link {} had too few queues for {workers} workers and was made anew; its addresses and routes are \
             missing until the agent has set them again",
            names.kernel
        ));
        delete(kernel, ours.index).await?;
    }
    create(kernel, names, workers).await?;
    kernel.refresh().await?;
    set_up(kernel, names).await?;
    warnings.extend(tune(names));
    Ok(warnings)
}

/// Removes the pair, if it is ours.
///
/// # Errors
/// [`KernelError`] when the kernel refuses.
pub async fn remove(kernel: &Kernel, names: &HostLinkNames) -> Result<bool, KernelError> {
    match existing(kernel.view(), names) {
        Ok(Some((ours, _))) => delete(kernel, ours.index).await.map(|()| true),
        _ => Ok(false),
    }
}

/// Both ends (dataplane's, kernel's) when the pair is there; a half of it, or another device, is an error.
fn existing<'a>(
    view: &'a View,
    names: &HostLinkNames,
) -> Result<Option<(&'a Link, &'a Link)>, HostLinkError> {
    let taken = |name: &str, other: &str| HostLinkError::Taken { name: name.into(), other: other.into() };
    match (view.link(&names.dataplane), view.link(&names.kernel)) {
        (None, None) => Ok(None),
        (Some(ours), Some(theirs))
            if ours.peer == Some(theirs.index) && ours.kind.as_deref() == Some("veth") =>
        {
            Ok(Some((ours, theirs)))
        }
        (Some(_), _) => Err(taken(&names.dataplane, &names.kernel)),
        (None, Some(_)) => Err(taken(&names.kernel, &names.dataplane)),
    }
}

/// Whether every worker has its queue both ways. Generic XDP maps transmit queue k to receive queue k - 1, and both 0
/// and 1 to 0, so the sending end needs one more queue than there are workers.
fn fits(ours: &Link, theirs: &Link, workers: u32) -> bool {
    ours.rx_queues >= workers && ours.tx_queues >= workers && theirs.tx_queues > workers
}

async fn create(kernel: &Kernel, names: &HostLinkNames, workers: u32) -> Result<(), KernelError> {
    let end = |name: &str, rx: u32, tx: u32| {
        LinkMessageBuilder::<LinkUnspec>::new()
            .name(name.to_owned())
            .append_extra_attribute(LinkAttribute::Mtu(MTU))
            .append_extra_attribute(LinkAttribute::NumRxQueues(rx))
            .append_extra_attribute(LinkAttribute::NumTxQueues(tx))
    };
    let theirs: LinkMessage = end(&names.kernel, workers, workers + 1).build();
    let pair = LinkMessageBuilder::<LinkVeth>::new(&names.dataplane, &names.kernel)
        .set_info_data(InfoData::Veth(InfoVeth::Peer(theirs)))
        .append_extra_attribute(LinkAttribute::Mtu(MTU))
        .append_extra_attribute(LinkAttribute::NumRxQueues(workers))
        .append_extra_attribute(LinkAttribute::NumTxQueues(workers))
        .build();
    let action = format!("make the host link {} and {}", names.kernel, names.dataplane);
    kernel.handle().link().add(pair).execute().await.map_err(KernelError::at(action))
}

async fn set_up(kernel: &mut Kernel, names: &HostLinkNames) -> Result<(), KernelError> {
    for name in [&names.dataplane, &names.kernel] {
        let up = kernel.view().link(name).is_some_and(|link| link.up && link.mtu == MTU);
        if !up {
            let message = LinkUnspec::new_with_name(name).mtu(MTU).up().build();
            let action = format!("set {name} up");
            kernel.handle().link().change(message).execute().await.map_err(KernelError::at(action))?;
        }
    }
    kernel.refresh().await?;
    Ok(())
}

async fn delete(kernel: &Kernel, index: u32) -> Result<(), KernelError> {
    kernel.handle().link().del(index).execute().await.map_err(KernelError::at("delete the host link"))
}

/// Settings without which it works too, if not as well.
fn tune(names: &HostLinkNames) -> Vec<String> {
    let kernel = &names.kernel;
    let settings = [
        (format!("ipv6/conf/{kernel}/disable_ipv6"), "1"),
        (format!("ipv6/conf/{}/disable_ipv6", names.dataplane), "1"),
        // Translated answers come from addresses whose route is another device, or which the node itself has (answers of
        // its own NodePorts).
        (format!("ipv4/conf/{kernel}/rp_filter"), "2"),
        (format!("ipv4/conf/{kernel}/accept_local"), "1"),
    ];
    let mut warnings = Vec::new();
    for (key, value) in settings {
        if let Err(error) = sysctl::set(&key, value) {
            warnings.push(error.to_string());
        }
    }
    match headrace_xsk::offloads::set(&names.kernel, &OFF.map(|feature| (feature, false))) {
        Ok(outcome) if outcome.refused.is_empty() => {}
        Ok(outcome) => warnings.push(format!(
            "{} keeps offloads that the dataplane cannot serve: {}",
            names.kernel,
            outcome.refused.join(", ")
        )),
        Err(error) => warnings.push(format!("cannot switch offloads off on {}: {error}", names.kernel)),
    }
    warnings
}

#[cfg(test)]
mod tests;
