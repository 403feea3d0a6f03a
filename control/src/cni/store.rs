//! All attachments: on disk, in memory and published, in that order.
//!
//! One JSON file per attachment, named by its host link, and one file with the next port number. A number is never given
//! twice, over restarts too, so that the dataplane cannot take a new pod for an old one.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use headrace_api::state::PortId;
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

/// The directory cannot be read or written.
#[derive(Debug, thiserror::Error)]
#[error("attachments in {}: {cause}; the state directory has to be writable and of this machine alone", path.display())]
pub(crate) struct StoreError {
    path: PathBuf,
    cause: io::Error,
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

    /// Keeps and publishes an attachment.
    pub(crate) fn insert(&mut self, attachment: Attachment) -> Result<(), StoreError> {
        let path = self.path(&attachment.owner);
        let text = serde_json::to_vec_pretty(&attachment).map_err(|e| at(&path)(e.into()))?;
        write_atomically(&path, &text).map_err(at(&path))?;
        self.live.insert(attachment.owner.clone(), attachment);
        self.publish();
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

    fn publish(&self) {
        let ports = self.live.values().map(|a| (a.port, a.to_port())).collect();
        self.publisher.send_replace(Some(Arc::new(ports)));
    }

    fn path(&self, owner: &Owner) -> PathBuf {
        self.dir.join(format!("{}.json", owner.host_link()))
    }
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> StoreError {
    move |cause| StoreError { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests {
    use tempfile::TempDir;
    use tokio::sync::watch;

    use super::super::attachment::mac_of;
    use super::*;

    fn attachment(id: &str, port: PortId) -> Attachment {
        let owner = Owner { container_id: id.to_owned(), ifname: "eth0".to_owned() };
        let address = [10, 244, 1, 2].into();
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
}
