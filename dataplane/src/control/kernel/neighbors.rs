//! Keeps the MAC addresses of next hops known.
//!
//! The kernel asks only for hosts that it sends to itself, and the dataplane's packets pass it by. So every wanted host gets
//! a managed entry (NTF_EXT_MANAGED of linux/neighbour.h, Linux 5.16), which the kernel resolves and refreshes for ever.
//! Where it does not know that flag, wanted hosts are asked for with NTF_USE again and again. Entries of ours carry a
//! protocol number, by which a later process finds those that nobody wants any more.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr};

use rtnetlink::Handle;
use rtnetlink::packet_route::AddressFamily;
use rtnetlink::packet_route::neighbour::{
    NeighbourAddress, NeighbourAttribute, NeighbourExtFlags, NeighbourFlags, NeighbourMessage, NeighbourState,
};

use super::messages::OURS;
use super::view::{NeighborState, View};

/// Makes the kernel resolve hosts.
#[derive(Debug)]
pub struct Resolver {
    managed: bool,
}

impl Resolver {
    /// Begins with managed entries; finds out by trying whether the kernel takes them.
    pub fn new() -> Self {
        Self { managed: true }
    }

    /// Asks again and again, as for a kernel without managed entries.
    #[cfg(test)]
    pub(super) fn asking() -> Self {
        Self { managed: false }
    }

    /// Whether the kernel keeps entries fresh by itself; otherwise [`Resolver::resolve`] must be called now and then.
    pub fn managed(&self) -> bool {
        self.managed
    }

    /// Makes the kernel know `wanted` on the device, and forget what an earlier call wanted and this one does not.
    /// Entries of an administrator stay as they are. Returns what the kernel refused, in sentences.
    pub async fn resolve(
        &mut self,
        handle: &Handle,
        view: &View,
        link: Option<u32>,
        wanted: &BTreeSet<Ipv4Addr>,
    ) -> Vec<String> {
        let mut faults = Vec::new();
        for old in view.all_neighbors().filter(|n| n.ours) {
            if Some(old.link) != link || !wanted.contains(&old.address) {
                // Another one may have been faster.
                let _ = handle.neighbours().del(message(old.link, old.address)).execute().await;
            }
        }
        let Some(link) = link else { return faults };
        for address in wanted {
            let entry = view.neighbor(link, *address);
            let settled = entry.is_some_and(|e| {
                e.state == NeighborState::Permanent
                    || e.ours && self.managed
                    || !self.managed && e.state == NeighborState::Reachable
            });
            if !settled && let Err(error) = self.ask(handle, link, *address).await {
                faults.push(format!("cannot ask for the MAC address of {address}: {error}"));
            }
        }
        faults
    }

    async fn ask(&mut self, handle: &Handle, link: u32, address: Ipv4Addr) -> Result<(), rtnetlink::Error> {
        if self.managed {
            match self.request(handle, link, address).await {
                Ok(()) => return Ok(()),
                Err(error) if is_refusal(&error) => self.managed = false,
                Err(error) => return Err(error),
            }
        }
        self.request(handle, link, address).await
    }

    async fn request(&self, handle: &Handle, link: u32, address: Ipv4Addr) -> Result<(), rtnetlink::Error> {
        let mut request = handle.neighbours().add(link, IpAddr::V4(address)).replace();
        let message = request.message_mut();
        // With NTF_USE or NTF_EXT_MANAGED the kernel keeps the entry's state and begins to resolve it.
        message.header.state = NeighbourState::None;
        message.attributes.push(NeighbourAttribute::Protocol(OURS));
        if self.managed {
            message.attributes.push(NeighbourAttribute::ExtFlags(NeighbourExtFlags::Managed));
        } else {
            message.header.flags = NeighbourFlags::Use;
        }
        request.execute().await
    }
}

impl Default for Resolver {
    fn default() -> Self {
        Self::new()
    }
}

/// Names an entry, for its deletion.
fn message(link: u32, address: Ipv4Addr) -> NeighbourMessage {
    let mut message = NeighbourMessage::default();
    message.header.family = AddressFamily::Inet;
    message.header.ifindex = link;
    message.attributes.push(NeighbourAttribute::Destination(NeighbourAddress::Inet(address)));
    message
}

/// Whether the kernel does not know what it was asked for, as opposed to a device that went away.
fn is_refusal(error: &rtnetlink::Error) -> bool {
    match error {
        rtnetlink::Error::NetlinkError(message) => {
            let errno = message.raw_code().abs();
            [rustix::io::Errno::INVAL, rustix::io::Errno::OPNOTSUPP].iter().any(|e| e.raw_os_error() == errno)
        }
        _ => false,
    }
}
