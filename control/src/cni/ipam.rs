//! Addresses for pods, by the files and rules of the CNI plugin `host-local` (containernetworking/plugins,
//! backend/disk), so that its tools and an operator's habits go on working.
//!
//! In DIR/NETWORK there is one file per address in use, named by it, which holds `CONTAINER_ID\r\nIFNAME`;
//! `last_reserved_ip.0` holds the address given last, and a lock on the file `lock` is held meanwhile. Addresses are given
//! in turn, so that a freed one rests as long as possible. The network address of the range (the node's S0) and the next one
//! (the dataplane's) are not for pods, nor is the broadcast address.
//!
//! An address file appears with its content or not at all, so nothing is lost when the process is killed.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::net::Ipv4Addr;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use ipnetwork::Ipv4Network;
use rustix::fs::FlockOperation;

mod range;

pub(crate) use self::range::{Choice, Range};
use super::owner::Owner;

const LAST_RESERVED: &str = "last_reserved_ip.0";

/// The half-made address file; there is one at most, since the lock is held.
const HALF_MADE: &str = ".reserving";

/// The reservations of one network on this node.
#[derive(Clone, Debug)]
pub(crate) struct Pool {
    dir: PathBuf,
}

/// Why there is no address.
#[derive(Debug, thiserror::Error)]
pub(crate) enum IpamError {
    /// As host-local says it.
    #[error("{address} has been allocated to {owner}, duplicate allocation is not allowed")]
    Duplicate {
        /// What the owner has.
        address: Ipv4Addr,
        /// Who asked again.
        owner: Owner,
    },
    /// All are in use.
    #[error("no IP addresses available in {ranges}; delete pods of this node or give it a larger podCIDR")]
    Exhausted {
        /// Where from.
        ranges: String,
    },
    /// The one that was asked for does not lie there.
    #[error(
        "requested address {address} is not in {ranges}, the part of this node's podCIDR that is for pods"
    )]
    NotInRange {
        /// What was asked for.
        address: Ipv4Addr,
        /// Where from.
        ranges: String,
    },
    /// The one that was asked for is in use.
    #[error("requested address {address} is not available: it has been allocated to {owner}")]
    Taken {
        /// What was asked for.
        address: Ipv4Addr,
        /// Whose it is.
        owner: String,
    },
    /// No room for a pod.
    #[error(
        "pod range {0} has no address for a pod: its network address, the next one and the last one are taken; want /29 or larger"
    )]
    TooSmall(Ipv4Network),
    /// The directory.
    #[error("{}: {cause}", path.display())]
    Io {
        /// What was read or written.
        path: PathBuf,
        /// Why not.
        cause: io::Error,
    },
}

impl Pool {
    /// The pool of `network`, an identifier that is safe as a file name, below `data_dir`.
    pub(crate) fn new(data_dir: &Path, network: &str) -> Self {
        Self { dir: data_dir.join(network) }
    }

    /// Reserves the next free address, or the one that is asked for.
    ///
    /// # Errors
    /// [`IpamError`]; nothing is reserved then.
    pub(crate) fn allocate(&self, choice: &Choice, owner: &Owner) -> Result<Ipv4Addr, IpamError> {
        let _lock = self.lock()?;
        let mut taken = BTreeMap::new();
        for (address, content) in self.reservations()? {
            if holds(&content, owner) {
                return Err(IpamError::Duplicate { address, owner: owner.clone() });
            }
            taken.insert(address, content);
        }
        let mut candidates = choice.candidates(self.last_reserved());
        let free = candidates.find(|address| !taken.contains_key(address));
        let address = free.ok_or_else(|| none_free(choice, &taken))?;
        self.reserve(address, owner)?;
        let last = self.dir.join(LAST_RESERVED);
        write_private(&last, address.to_string().as_bytes()).map_err(at(&last))?;
        Ok(address)
    }

    /// Gives back what `owner` has; that it has nothing is fine.
    pub(crate) fn release(&self, owner: &Owner) -> Result<(), IpamError> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for (address, content) in self.reservations()? {
            if holds(&content, owner) {
                self.remove(address)?;
            }
        }
        Ok(())
    }

    /// What `owner` has.
    pub(crate) fn find(&self, owner: &Owner) -> Result<Option<Ipv4Addr>, IpamError> {
        let mut all = self.read()?.into_iter();
        Ok(all.find(|(_, content)| holds(content, owner)).map(|(address, _)| address))
    }

    /// Whether [`Self::allocate`] would find an address.
    pub(crate) fn has_free(&self, choice: &Choice) -> Result<bool, IpamError> {
        let taken: BTreeSet<_> = self.read()?.into_iter().map(|(address, _)| address).collect();
        Ok(choice.candidates(None).any(|address| !taken.contains(&address)))
    }

    /// Gives back every address whose owner is not in `valid`.
    pub(crate) fn retain(&self, valid: &BTreeSet<Owner>) -> Result<(), IpamError> {
        if !self.dir.exists() {
            return Ok(());
        }
        let _lock = self.lock()?;
        for (address, content) in self.reservations()? {
            if !valid.iter().any(|owner| holds(&content, owner)) {
                self.remove(address)?;
            }
        }
        Ok(())
    }

    /// Held until dropped; others wait, other processes too.
    fn lock(&self) -> Result<File, IpamError> {
        DirBuilder::new().recursive(true).mode(0o755).create(&self.dir).map_err(at(&self.dir))?;
        let path = self.dir.join("lock");
        let options = OpenOptions::new().create(true).truncate(false).write(true).mode(0o600).open(&path);
        let file = options.map_err(at(&path))?;
        rustix::fs::flock(&file, FlockOperation::LockExclusive)
            .map_err(io::Error::from)
            .map_err(at(&path))?;
        Ok(file)
    }

    /// Addresses with the content of their files; what has no address as its name is none. An empty file is what a crash of
    /// `host-local` leaves behind: nobody's.
    fn reservations(&self) -> Result<Vec<(Ipv4Addr, String)>, IpamError> {
        let mut all = Vec::new();
        for (address, content) in self.read()? {
            if content.trim().is_empty() {
                self.remove(address)?;
            } else {
                all.push((address, content));
            }
        }
        Ok(all)
    }

    fn read(&self) -> Result<Vec<(Ipv4Addr, String)>, IpamError> {
        let entries = match fs::read_dir(&self.dir) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(at(&self.dir)(e)),
        };
        let mut all = Vec::new();
        for entry in entries {
            let entry = entry.map_err(at(&self.dir))?;
            let Some(address) = entry.file_name().to_str().and_then(|n| n.parse().ok()) else { continue };
            match fs::read(entry.path()) {
                Ok(content) => all.push((address, String::from_utf8_lossy(&content).into_owned())),
                // Released between the listing and the reading, by one who holds the lock.
                Err(e) if e.kind() == io::ErrorKind::NotFound => {}
                Err(e) => return Err(at(&entry.path())(e)),
            }
        }
        Ok(all)
    }

    fn last_reserved(&self) -> Option<Ipv4Addr> {
        fs::read_to_string(self.dir.join(LAST_RESERVED)).ok()?.trim().parse().ok()
    }

    /// A link appears whole and only where there is none (link(2)).
    fn reserve(&self, address: Ipv4Addr, owner: &Owner) -> Result<(), IpamError> {
        let half_made = self.dir.join(HALF_MADE);
        let content = format!("{}\r\n{}", owner.container_id, owner.ifname);
        write_private(&half_made, content.as_bytes()).map_err(at(&half_made))?;
        let path = self.dir.join(address.to_string());
        fs::hard_link(&half_made, &path).map_err(at(&path))?;
        fs::remove_file(&half_made).map_err(at(&half_made))
    }

    fn remove(&self, address: Ipv4Addr) -> Result<(), IpamError> {
        let path = self.dir.join(address.to_string());
        fs::remove_file(&path).map_err(at(&path))
    }
}

/// Why none of them could be given.
fn none_free(choice: &Choice, taken: &BTreeMap<Ipv4Addr, String>) -> IpamError {
    let ranges = choice.described();
    match choice.exact {
        None => IpamError::Exhausted { ranges },
        Some(address) if !choice.ranges.iter().any(|range| range.contains(address)) => {
            IpamError::NotInRange { address, ranges }
        }
        Some(address) => {
            let owner = taken.get(&address).and_then(|content| content.lines().next());
            IpamError::Taken { address, owner: owner.unwrap_or("a pod of another network").to_owned() }
        }
    }
}

/// Older versions of `host-local` wrote the id alone.
fn holds(content: &str, owner: &Owner) -> bool {
    let content = content.trim();
    match content.split_once("\r\n") {
        Some((id, ifname)) => id == owner.container_id && ifname == owner.ifname,
        None => content == owner.container_id,
    }
}

/// A new file, never one that is linked elsewhere.
fn write_private(path: &Path, content: &[u8]) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?.write_all(content)
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> IpamError {
    move |cause| IpamError::Io { path: path.to_owned(), cause }
}

#[cfg(test)]
mod tests;
