//! The paths that are measured.

use std::net::Ipv4Addr;

use crate::plan::{OUTSIDE_FAR, OUTSIDE_NAME};
use crate::traffic::iperf::PORT;
use crate::{Lab, LabError, Service, Space};

/// Where a packet goes on one side, Headrace's or the kernel's.
#[derive(Clone, Debug)]
pub(super) struct Leg {
    /// The client.
    pub(super) client: Space,
    /// The server.
    pub(super) server: Space,
    /// What the client connects to.
    pub(super) address: Ipv4Addr,
    /// The server's own address, which the client pings; none for a Service, which does not answer.
    pub(super) ping: Option<Ipv4Addr>,
    /// The Service that the address belongs to.
    pub(super) service: Option<Service>,
}

/// One path on both sides.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// For people and for the JSON file.
    pub(super) name: &'static str,
    /// Through Headrace.
    pub(super) headrace: Leg,
    /// Through the kernel.
    pub(super) kernel: Leg,
}

/// Lists the paths.
pub(super) fn paths(lab: &Lab) -> Result<[Path; 5], LabError> {
    let headrace = Side { lab, a: "node1", b: "node2", subnet: 10 };
    let kernel = Side { lab, a: "kernel1", b: "kernel2", subnet: 20 };
    let path = |name, leg: fn(&Side<'_>) -> Result<Leg, LabError>| {
        Ok::<_, LabError>(Path { name, headrace: leg(&headrace)?, kernel: leg(&kernel)? })
    };
    Ok([
        path("same node", |side| side.direct(&side.near()))?,
        path("across nodes", |side| side.direct(&side.far()))?,
        path("outside, masqueraded", |side| side.leg(OUTSIDE_NAME, OUTSIDE_FAR, Some(OUTSIDE_FAR), None))?,
        path("ClusterIP, across nodes", |side| side.service(1, &side.far()))?,
        // The last one: its Service slows a kernel node's bridge down (see kernel_node).
        path("ClusterIP, same node", |side| side.service(2, &side.near()))?,
    ])
}

/// A pair of nodes of one kind, with Services of its own: an endpoint of the other kind would be another path.
struct Side<'a> {
    lab: &'a Lab,
    a: &'static str,
    b: &'static str,
    subnet: u8,
}

impl Side<'_> {
    fn near(&self) -> String {
        format!("{}-pod2", self.a)
    }

    fn far(&self) -> String {
        format!("{}-pod1", self.b)
    }

    fn direct(&self, server: &str) -> Result<Leg, LabError> {
        let address = self.lab.address(server)?;
        self.leg(server, address, Some(address), None)
    }

    fn service(&self, number: u8, server: &str) -> Result<Leg, LabError> {
        let last = self.subnet + number;
        let service = Service::new(&format!("demo-{last}"), last, PORT, &[self.lab.address(server)?]);
        self.leg(server, service.cluster_ip, None, Some(service))
    }

    fn leg(
        &self,
        server: &str,
        address: Ipv4Addr,
        ping: Option<Ipv4Addr>,
        service: Option<Service>,
    ) -> Result<Leg, LabError> {
        let client = self.lab.space(&format!("{}-pod1", self.a))?.clone();
        Ok(Leg { client, server: self.lab.space(server)?.clone(), address, ping, service })
    }
}
