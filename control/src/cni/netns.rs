//! Work inside a pod's network namespace.
//!
//! A thread enters it, does its work with a netlink socket of its own and ends: a thread that has moved never serves
//! anything else, so that nothing of the node's is done in a pod's namespace by accident.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};
use tokio::sync::oneshot;

use crate::node::rtnl::{Rtnl, RtnlError};

/// `f_type` of a namespace's file (linux/magic.h).
const NSFS_MAGIC: u64 = 0x6e73_6673;

/// The namespace cannot be worked in.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NetnsError {
    /// A file, a socket, a directory.
    #[error("the file descriptor of CNI_NETNS is not a namespace")]
    NotANamespace,
    /// It would take the node's own links for the pod's.
    #[error("CNI_NETNS is the node's own network namespace; want the pod's")]
    OwnNamespace,
    /// Another kind of namespace, or no right to enter it.
    #[error("entering CNI_NETNS: {0}; want a network namespace")]
    Enter(io::Error),
    /// Inside.
    #[error(transparent)]
    Rtnl(#[from] RtnlError),
    /// No thread, no runtime.
    #[error("a thread in CNI_NETNS: {0}")]
    Thread(io::Error),
}

/// A pod's network namespace.
#[derive(Debug)]
pub(crate) struct Netns(OwnedFd);

impl Netns {
    /// Checks that the descriptor is a namespace and not this thread's.
    pub(crate) fn new(fd: OwnedFd) -> Result<Self, NetnsError> {
        let kind = rustix::fs::fstatfs(&fd).map_err(|e| NetnsError::Enter(e.into()))?;
        if u64::try_from(kind.f_type) != Ok(NSFS_MAGIC) {
            return Err(NetnsError::NotANamespace);
        }
        let given = rustix::fs::fstat(&fd).map_err(|e| NetnsError::Enter(e.into()))?;
        let own = rustix::fs::stat(Path::new("/proc/thread-self/ns/net"))
            .map_err(|e| NetnsError::Enter(e.into()))?;
        if (given.st_dev, given.st_ino) == (own.st_dev, own.st_ino) {
            return Err(NetnsError::OwnNamespace);
        }
        Ok(Self(fd))
    }

    /// Runs `job` on a thread inside, with a netlink connection to the namespace.
    pub(crate) async fn run<J, F, T>(&self, job: J) -> Result<T, NetnsError>
    where
        J: FnOnce(Rtnl) -> F + Send + 'static,
        F: Future<Output = T>,
        T: Send + 'static,
    {
        let fd = self.0.try_clone().map_err(NetnsError::Thread)?;
        let (sender, receiver) = oneshot::channel();
        let thread = move || {
            // The receiver is gone only when the agent ends.
            let _ = sender.send(inside(fd.as_fd(), job));
        };
        std::thread::Builder::new().name("pod-netns".to_owned()).spawn(thread).map_err(NetnsError::Thread)?;
        receiver.await.map_err(|e| NetnsError::Thread(io::Error::other(e)))?
    }
}

impl AsFd for Netns {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

fn inside<J, F, T>(fd: BorrowedFd<'_>, job: J) -> Result<T, NetnsError>
where
    J: FnOnce(Rtnl) -> F,
    F: Future<Output = T>,
{
    move_into_link_name_space(fd, Some(LinkNameSpaceType::Network))
        .map_err(|e| NetnsError::Enter(e.into()))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(NetnsError::Thread)?;
    runtime.block_on(async { Ok(job(Rtnl::connect()?).await) })
}
