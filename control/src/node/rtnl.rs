//! The few rtnetlink requests (rtnetlink(7)) that pod links and the host link need, IPv4 only.
//!
//! A connection belongs to the network namespace of the thread that opened it. Reading gives plain values that compare
//! equal to what was asked for, so that callers can tell what is missing; errors name the request.

use std::io;
use std::net::{IpAddr, Ipv4Addr};
use std::os::fd::{AsRawFd, BorrowedFd};

use futures::{Stream, TryStreamExt};
use headrace_wire::ethernet::MacAddr;
use ipnetwork::Ipv4Network;
use netlink_packet_route::AddressFamily;
use netlink_packet_route::address::AddressAttribute;
use netlink_packet_route::link::{InfoData, InfoKind, InfoVeth, LinkAttribute, LinkFlags, LinkMessage};
use netlink_packet_route::neighbour::{NeighbourAddress, NeighbourAttribute, NeighbourState};
use rtnetlink::{Handle, LinkMessageBuilder, LinkUnspec, LinkVeth};
use rustix::io::Errno;
use tokio::sync::Mutex;
use tokio::task::JoinHandle;

/// A connection to the kernel; closed when dropped.
pub(crate) struct Rtnl {
    pub(super) handle: Handle,
    connection: JoinHandle<()>,
    dumps: Mutex<()>,
}

/// A request that the kernel did not carry out.
#[derive(Debug, thiserror::Error)]
#[error("{what}: {cause}")]
pub(crate) struct RtnlError {
    what: String,
    cause: io::Error,
}

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// Kernel's number of it.
    pub(crate) index: u32,
    /// Name.
    pub(crate) name: String,
    /// Bytes of an IP packet.
    pub(crate) mtu: u32,
    /// Link-layer address.
    pub(crate) mac: MacAddr,
    /// Administratively up.
    pub(crate) up: bool,
}

/// A veth pair of which the second end is born in another namespace.
pub(crate) struct VethPair<'a> {
    /// This namespace's end.
    pub(crate) host: VethEnd<'a>,
    /// The other end.
    pub(crate) pod: VethEnd<'a>,
    /// Where the other end goes.
    pub(crate) netns: BorrowedFd<'a>,
    /// Both ends' MTU.
    pub(crate) mtu: u32,
}

/// One end of a veth pair.
pub(crate) struct VethEnd<'a> {
    /// Name.
    pub(crate) name: &'a str,
    /// Link-layer address.
    pub(crate) mac: MacAddr,
    /// Transmit queues.
    pub(crate) tx_queues: u32,
    /// Receive queues.
    pub(crate) rx_queues: u32,
}

impl Rtnl {
    /// Opens a connection in the calling thread's network namespace and runs it on the current runtime.
    pub(crate) fn connect() -> Result<Self, RtnlError> {
        let (connection, handle, _) = rtnetlink::new_connection()
            .map_err(|cause| RtnlError { what: "opening a netlink socket".to_owned(), cause })?;
        Ok(Self { handle, connection: tokio::spawn(connection), dumps: Mutex::new(()) })
    }

    /// The link of this name, if there is one.
    pub(crate) async fn link(&self, name: &str) -> Result<Option<Link>, RtnlError> {
        let what = || format!("looking for link {name}");
        absent_as_none(self.handle.link().get().match_name(name).execute().try_next().await, what)
            .map(|message| message.map(|m| link_of(&m)))
    }

    /// All links.
    pub(crate) async fn links(&self) -> Result<Vec<Link>, RtnlError> {
        let what = || "listing links".to_owned();
        let all: Vec<_> = self.dump(|| self.handle.link().get().execute(), what).await?;
        Ok(all.iter().map(link_of).collect())
    }

    /// The link that holds this address, if there is one.
    pub(crate) async fn link_of_address(&self, address: IpAddr) -> Result<Option<Link>, RtnlError> {
        let what = || format!("looking for the link with address {address}");
        let request = self.handle.address().get().set_address_filter(address);
        let Some(holder) = self.dump(|| request.execute(), what).await?.pop() else { return Ok(None) };
        let index = holder.header.index;
        absent_as_none(self.handle.link().get().match_index(index).execute().try_next().await, what)
            .map(|message| message.map(|m| link_of(&m)))
    }

    /// The name of the link with this index, for messages.
    pub(crate) async fn link_name(&self, index: u32) -> Result<String, RtnlError> {
        let what = || format!("looking for link {index}");
        let found = self.handle.link().get().match_index(index).execute().try_next().await;
        Ok(absent_as_none(found, what)?.map_or_else(|| format!("link {index}"), |m| link_of(&m).name))
    }

    /// Makes a veth pair, both ends down.
    ///
    /// # Errors
    /// EEXIST when one of the names is taken in its namespace.
    pub(crate) async fn add_veth(&self, pair: &VethPair<'_>) -> Result<(), RtnlError> {
        let peer = end(LinkMessageBuilder::<LinkUnspec>::new(), &pair.pod, pair.mtu)
            .setns_by_fd(pair.netns.as_raw_fd())
            .build();
        let veth = LinkMessageBuilder::<LinkVeth>::new_with_info_kind(InfoKind::Veth);
        let message =
            end(veth, &pair.host, pair.mtu).set_info_data(InfoData::Veth(InfoVeth::Peer(peer))).build();
        let done = self.handle.link().add(message).execute().await;
        done.map_err(|e| failed(e, format!("making the veth pair {} and {}", pair.host.name, pair.pod.name)))
    }

    /// Deletes the link of this name; `false` when there was none.
    pub(crate) async fn delete_link(&self, name: &str) -> Result<bool, RtnlError> {
        let what = || format!("deleting link {name}");
        let Some(link) = self.link(name).await? else { return Ok(false) };
        absent_as_none(self.handle.link().del(link.index).execute().await.map(Some), what)
            .map(|done| done.is_some())
    }

    /// Sets a link's MTU and brings it up.
    pub(crate) async fn bring_up(&self, link: &Link, mtu: u32) -> Result<(), RtnlError> {
        let message = LinkUnspec::new_with_index(link.index).mtu(mtu).up().build();
        let done = self.handle.link().change(message).execute().await;
        done.map_err(|e| failed(e, format!("bringing {} up with MTU {mtu}", link.name)))
    }

    /// IPv4 addresses of a link, with their prefix lengths.
    pub(crate) async fn addresses(&self, link: &Link) -> Result<Vec<Ipv4Network>, RtnlError> {
        let request = self.handle.address().get().set_link_index_filter(link.index);
        let what = || format!("reading the addresses of {}", link.name);
        let messages = self.dump(|| request.execute(), what).await?;
        let network = |attribute: &AddressAttribute, length| match attribute {
            AddressAttribute::Local(IpAddr::V4(a)) => Ipv4Network::new(*a, length).ok(),
            _ => None,
        };
        Ok(messages
            .iter()
            .filter_map(|m| m.attributes.iter().find_map(|a| network(a, m.header.prefix_len)))
            .collect())
    }

    /// IPv4 addresses of all links.
    pub(crate) async fn local_addresses(&self) -> Result<Vec<IpAddr>, RtnlError> {
        let request = self.handle.address().get();
        let messages = self.dump(|| request.execute(), || "listing the node's addresses".to_owned()).await?;
        let local = |attribute: &AddressAttribute| match attribute {
            AddressAttribute::Local(address @ IpAddr::V4(_)) => Some(*address),
            _ => None,
        };
        Ok(messages.iter().flat_map(|m| m.attributes.iter().filter_map(local)).collect())
    }

    /// Adds an address; one that is there already is fine.
    pub(crate) async fn add_address(&self, link: &Link, address: Ipv4Network) -> Result<(), RtnlError> {
        let request = self.handle.address().add(link.index, IpAddr::V4(address.ip()), address.prefix());
        let done = request.replace().execute().await;
        done.map_err(|e| failed(e, format!("adding address {address} to {}", link.name)))
    }

    /// Takes an address away.
    pub(crate) async fn delete_address(&self, link: &Link, address: Ipv4Network) -> Result<(), RtnlError> {
        let what = || format!("removing address {address} from {}", link.name);
        let request = self.handle.address().get().set_link_index_filter(link.index);
        let request =
            request.set_address_filter(IpAddr::V4(address.ip())).set_prefix_length_filter(address.prefix());
        let Some(message) = self.dump(|| request.execute(), what).await?.pop() else { return Ok(()) };
        self.handle.address().del(message).execute().await.map_err(|e| failed(e, what()))
    }

    /// Sets a permanent neighbour, in place of what was known of it.
    pub(crate) async fn set_neighbour(
        &self,
        link: &Link,
        ip: Ipv4Addr,
        mac: MacAddr,
    ) -> Result<(), RtnlError> {
        let request = self.handle.neighbours().add(link.index, IpAddr::V4(ip));
        let done = request.link_layer_address(&mac.0).replace().execute().await;
        done.map_err(|e| failed(e, format!("setting neighbour {ip} on {}", link.name)))
    }

    /// The permanent neighbour entry of `ip`, if there is one.
    pub(crate) async fn neighbour(&self, link: &Link, ip: Ipv4Addr) -> Result<Option<MacAddr>, RtnlError> {
        let request = self.handle.neighbours().get().set_address_family(AddressFamily::Inet);
        let what = || format!("reading the neighbours of {}", link.name);
        let all = self.dump(|| request.execute(), what).await?;
        let destination = NeighbourAttribute::Destination(NeighbourAddress::Inet(ip));
        let entry = all.iter().find(|m| {
            m.header.ifindex == link.index
                && m.header.state == NeighbourState::Permanent
                && m.attributes.contains(&destination)
        });
        Ok(entry.and_then(|m| {
            m.attributes.iter().find_map(|a| match a {
                NeighbourAttribute::LinkLayerAddress(bytes) => bytes.as_slice().try_into().ok().map(MacAddr),
                _ => None,
            })
        }))
    }

    /// A whole list. The kernel refuses a second dump on a socket while one goes on (EBUSY, `__netlink_dump_start`), so
    /// they take turns, and each is read to its end.
    pub(super) async fn dump<S, T>(
        &self,
        request: impl FnOnce() -> S,
        what: impl FnOnce() -> String,
    ) -> Result<Vec<T>, RtnlError>
    where
        S: Stream<Item = Result<T, rtnetlink::Error>>,
    {
        let _turn = self.dumps.lock().await;
        request().try_collect().await.map_err(|e| failed(e, what()))
    }
}

impl Drop for Rtnl {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

impl RtnlError {
    /// No subscription to the kernel's events.
    pub(super) fn subscribing(cause: io::Error) -> Self {
        Self { what: "subscribing to netlink events".to_owned(), cause }
    }

    /// Whether the kernel said that the thing is there already.
    pub(crate) fn is_exists(&self) -> bool {
        self.cause.raw_os_error() == Some(Errno::EXIST.raw_os_error())
    }
}

/// Names the request in an error of the library.
pub(super) fn failed(error: rtnetlink::Error, what: String) -> RtnlError {
    let cause = match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        other => io::Error::other(other.to_string()),
    };
    RtnlError { what, cause }
}

/// ENODEV, the kernel's answer about a link that is not there, is no error to those who ask for it.
fn absent_as_none<T>(
    outcome: Result<Option<T>, rtnetlink::Error>,
    what: impl FnOnce() -> String,
) -> Result<Option<T>, RtnlError> {
    outcome.or_else(|e| {
        let error = failed(e, what());
        if error.cause.raw_os_error() == Some(Errno::NODEV.raw_os_error()) { Ok(None) } else { Err(error) }
    })
}

fn end<T>(builder: LinkMessageBuilder<T>, end: &VethEnd<'_>, mtu: u32) -> LinkMessageBuilder<T> {
    builder
        .name(end.name)
        .mtu(mtu)
        .address(end.mac.0.to_vec())
        .append_extra_attribute(LinkAttribute::NumTxQueues(end.tx_queues))
        .append_extra_attribute(LinkAttribute::NumRxQueues(end.rx_queues))
}

fn link_of(message: &LinkMessage) -> Link {
    let mut link = Link {
        index: message.header.index,
        name: String::new(),
        mtu: 0,
        mac: MacAddr::ZERO,
        up: message.header.flags.contains(LinkFlags::Up),
    };
    for attribute in &message.attributes {
        match attribute {
            LinkAttribute::IfName(name) => link.name.clone_from(name),
            LinkAttribute::Mtu(mtu) => link.mtu = *mtu,
            LinkAttribute::Address(bytes) => {
                link.mac = bytes.as_slice().try_into().map_or(MacAddr::ZERO, MacAddr);
            }
            _ => (),
        }
    }
    link
}
