//! All attachments: on disk, in memory and published, in that order.
//!
//! One JSON file per attachment, named by its host link, and one file with the next port number. A number is never given
//! twice, over restarts too, so that the dataplane cannot take a new pod for an old one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headrace_api::state::PortId;
use headrace_cni::options::PortMapping;
use tracing::error;

use super::attachment::Attachment;
use super::owner::Owner;
use crate::files::write_atomically;
use crate::seam::PortsPublisher;

const NEXT_PORT: &str = "next-port";

/// The attachments and where they are kept and published.
#[derive(Debug)]
pub(crate) struct Store {
    dir: PathBuf,
    live: BTreeMap<Owner, Attachment>,
    next: u32,
    publisher: PortsPublisher,
}

/// An attachment cannot be kept.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// The directory cannot be read or written.
    #[error("attachments in {}: {cause}; the state directory has to be writable and of this machine alone", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: io::Error,
    },
    /// A port of the node leads to one pod only.
    #[error("host port {wanted} leads to pod {holder} already ({held}); let one of them use another")]
    HostPortTaken {
        /// What was asked for.
        wanted: PortMapping,
        /// What it meets.
        held: PortMapping,
        /// Whose that is.
        holder: String,
    },
    /// Names of links are short: two owners may come to the same.
    #[error("link {link} belongs to pod {holder} already; delete this pod, its successor gets another name")]
    LinkTaken {
        /// The link.
        link: String,
        /// Whose it is.
        holder: String,
    },
    /// Two networks share the node's range.
    #[error("address {address} has been given to pod {holder} meanwhile")]
    AddressTaken {
        /// The address.
        address: Ipv4Addr,
        /// Whose it is.
        holder: String,
    },
}

impl Store {
    /// Reads what earlier runs left and publishes it. A file that cannot be understood is reported and left as it is.
    pub(crate) fn open(state_dir: &Path, publisher: PortsPublisher) -> Result<Self, StoreError> {
        let dir = state_dir.join("attachments");
        fs::create_dir_all(&dir).map_err(at(&dir))?;
        let mut live = BTreeMap::new();
        for entry in fs::read_dir(&dir).map_err(at(&dir))? {
            let path = entry.map_err(at(&dir))?.path();
            if path.extension().is_none_or(|e| e != "json") {
                continue;
            }
            let text = fs::read(&path).map_err(at(&path))?;
            match serde_json::from_slice::<Attachment>(&text) {
                Ok(attachment) => drop(live.insert(attachment.owner.clone(), attachment)),
                Err(e) => error!("{}: {e}: this pod has no network until it is made anew", path.display()),
            }
        }
        let written = fs::read_to_string(dir.join(NEXT_PORT)).ok().and_then(|t| t.trim().parse().ok());
        let beyond = live.values().map(|a| a.port.get().saturating_add(1)).max();
        let next = written.max(beyond).unwrap_or(1);
        let store = Self { dir, live, next, publisher };
        store.publish();
        Ok(store)
    }

    /// A number that no port has or had.
    pub(crate) fn new_port(&mut self) -> Result<PortId, StoreError> {
        let path = self.dir.join(NEXT_PORT);
        let spent = || {
            at(&path)(io::Error::other("all 2^32 port numbers were used; remove this file on a drained node"))
        };
        let id = PortId::new(self.next).ok_or_else(spent)?;
        let next = self.next.checked_add(1).ok_or_else(spent)?;
        write_atomically(&path, next.to_string().as_bytes()).map_err(at(&path))?;
        self.next = next;
        Ok(id)
    }

    /// Keeps and publishes an attachment, unless another one has its address or a host port of it.
    pub(crate) fn insert(&mut self, attachment: Attachment) -> Result<(), StoreError> {
        self.check_host_ports(&attachment.owner, &attachment.host_ports)?;
        if let Some(other) = self.others(&attachment.owner).find(|a| a.address == attachment.address) {
            let (address, holder) = (attachment.address, other.label.clone());
            return Err(StoreError::AddressTaken { address, holder });
        }
        let path = self.path(&attachment.owner);
        let text = serde_json::to_vec_pretty(&attachment).map_err(|e| at(&path)(e.into()))?;
        write_atomically(&path, &text).map_err(at(&path))?;
        self.live.insert(attachment.owner.clone(), attachment);
        self.publish();
        Ok(())
    }

    /// Whether the link that `owner` would get belongs to nobody else.
    ///
    /// # Errors
    /// [`StoreError::LinkTaken`].
    pub(crate) fn check_host_link(&self, owner: &Owner) -> Result<(), StoreError> {
        let link = owner.host_link();
        match self.others(owner).find(|other| other.host_link == link) {
            Some(other) => Err(StoreError::LinkTaken { link, holder: other.label.clone() }),
            None => Ok(()),
        }
    }

    /// Whether `owner` may have these ports of the node.
    ///
    /// # Errors
    /// [`StoreError::HostPortTaken`].
    pub(crate) fn check_host_ports(&self, owner: &Owner, wanted: &[PortMapping]) -> Result<(), StoreError> {
        for other in self.others(owner) {
            let held = |wanted: &PortMapping| {
                Some((*wanted, *other.host_ports.iter().find(|h| h.collides(wanted))?))
            };
            if let Some((wanted, held)) = wanted.iter().find_map(held) {
                return Err(StoreError::HostPortTaken { wanted, held, holder: other.label.clone() });
            }
        }
        Ok(())
    }

    /// Stops publishing an attachment; its file stays until [`Self::forget`].
    pub(crate) fn withdraw(&mut self, owner: &Owner) -> Option<Attachment> {
        let withdrawn = self.live.remove(owner);
        if withdrawn.is_some() {
            self.publish();
        }
        withdrawn
    }

    /// Removes the file of an attachment that was withdrawn; none is fine.
    pub(crate) fn forget(&self, owner: &Owner) -> Result<(), StoreError> {
        let path = self.path(owner);
        match fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => Err(at(&path)(e)),
            _ => Ok(()),
        }
    }

    /// The attachment of `owner`.
    pub(crate) fn get(&self, owner: &Owner) -> Option<&Attachment> {
        self.live.get(owner)
    }

    /// All of them.
    pub(crate) fn all(&self) -> impl Iterator<Item = &Attachment> {
        self.live.values()
    }

    fn others(&self, owner: &Owner) -> impl Iterator<Item = &Attachment> {
        self.live.values().filter(move |attachment| attachment.owner != *owner)
    }

    fn publish(&self) {
        let ports = self.live.values().map(|a| (a.port, a.to_port())).collect();
        self.publisher.send_replace(Some(Arc::new(ports)));
    }

    fn path(&self, owner: &Owner) -> PathBuf {
        self.dir.join(format!("{}.json", owner.host_link()))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |cause| StoreError::Io { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use headrace_cni::options::{Bandwidth, PortProtocol};
    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::super::attachment::mac_of;
    use super::*;

    fn attachment(id: &str, port: PortId) -> Attachment {
        let owner = Owner { container_id: id.to_owned(), ifname: "eth0".to_owned() };
        let address = Ipv4Addr::from(0x0af4_0100 + port.get());
        Attachment {
            host_link: owner.host_link(),
            owner,
            network: "headrace".to_owned(),
            port,
            mac: mac_of(address),
            address,
            superframes: true,
            path_mtu: 1450,
            label: "default/web".to_owned(),
            host_ports: Vec::new(),
            bandwidth: Bandwidth::default(),
            ipam: None,
        }
    }

    #[test]
    fn attachments_come_back_after_a_restart_and_are_published_at_once() {
        let dir = TempDir::new().unwrap();
        let (publisher, published) = watch::channel(None);
        let mut store = Store::open(dir.path(), publisher).unwrap();
        assert!(published.borrow().as_ref().unwrap().is_empty());
        let kept = attachment("a", store.new_port().unwrap());
        let gone = attachment("b", store.new_port().unwrap());
        store.insert(kept.clone()).unwrap();
        store.insert(gone.clone()).unwrap();
        assert_eq!(published.borrow().as_ref().unwrap().len(), 2);
        store.withdraw(&gone.owner).unwrap();
        store.forget(&gone.owner).unwrap();
        store.forget(&gone.owner).unwrap();
        drop(store);

        let (publisher, published) = watch::channel(None);
        let mut store = Store::open(dir.path(), publisher).unwrap();
        let ports = published.borrow().clone().unwrap();
        assert_eq!(ports.values().collect::<Vec<_>>(), [&kept.to_port()]);
        assert_eq!(store.new_port().unwrap().get(), 3);
    }

    #[test]
    fn numbers_stay_distinct_when_the_counter_is_lost() {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        store.insert(attachment("a", PortId::new(41).unwrap())).unwrap();
        let mut store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        assert_eq!(store.new_port().unwrap().get(), 42);
    }

    #[test]
    fn a_file_that_is_not_an_attachment_costs_only_itself() {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        let kept = attachment("a", store.new_port().unwrap());
        store.insert(kept.clone()).unwrap();
        fs::write(dir.path().join("attachments/hr0.json"), "{").unwrap();
        let store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        assert_eq!(store.get(&kept.owner), Some(&kept));
    }

    #[test]
    fn an_address_and_a_host_port_belong_to_one_attachment() {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        let port = |n| std::num::NonZeroU16::new(n).unwrap();
        let mapping = |host_ip: Option<&str>, protocol| PortMapping {
            host_ip: host_ip.map(|ip| ip.parse().unwrap()),
            host_port: port(80),
            protocol,
            container_port: port(8080),
        };
        let mut first = attachment("a", PortId::new(1).unwrap());
        first.host_ports = vec![mapping(Some("192.0.2.1"), PortProtocol::Tcp)];
        store.insert(first.clone()).unwrap();
        store.insert(first.clone()).unwrap();

        let second = attachment("b", PortId::new(2).unwrap());
        let with = |mapping| Attachment { host_ports: vec![mapping], ..second.clone() };
        let refused = store.insert(with(mapping(None, PortProtocol::Tcp))).unwrap_err().to_string();
        let words = "host port 80/tcp leads to pod default/web already (192.0.2.1:80/tcp)";
        assert!(refused.contains(words), "{refused}");
        let same = Attachment { address: first.address, ..second.clone() };
        assert!(matches!(store.insert(same).unwrap_err(), StoreError::AddressTaken { .. }));
        assert_eq!(store.all().count(), 1);
        store.insert(with(mapping(None, PortProtocol::Udp))).unwrap();
        store.insert(with(mapping(Some("192.0.2.2"), PortProtocol::Tcp))).unwrap();
    }

    #[test]
    fn a_link_of_another_pod_is_never_taken_for_ones_own() {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        let asking = Owner { container_id: "b".to_owned(), ifname: "eth0".to_owned() };
        store.insert(attachment("a", PortId::new(1).unwrap())).unwrap();
        store.check_host_link(&asking).unwrap();
        store
            .insert(Attachment { host_link: asking.host_link(), ..attachment("c", PortId::new(2).unwrap()) })
            .unwrap();
        assert!(matches!(store.check_host_link(&asking).unwrap_err(), StoreError::LinkTaken { .. }));
    }

    #[test]
    fn files_of_the_first_release_are_read() {
        let dir = TempDir::new().unwrap();
        let mut store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        let kept = attachment("a", store.new_port().unwrap());
        store.insert(kept.clone()).unwrap();
        let path = store.path(&kept.owner);
        let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        for key in ["host_ports", "bandwidth", "ipam"] {
            assert!(json.as_object_mut().unwrap().remove(key).is_some(), "{key}");
        }
        fs::write(&path, json.to_string()).unwrap();
        let store = Store::open(dir.path(), watch::channel(None).0).unwrap();
        assert_eq!(store.get(&kept.owner), Some(&kept));
    }
}
