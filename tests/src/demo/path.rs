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
    /// Through Headrace to the same server without the Service; none where there is no Service.
    pub(super) direct: Option<Leg>,
}

impl Path {
    /// Headrace's leg and the kernel's, with their names for error messages.
    pub(super) fn both(&self) -> [(&Leg, &'static str); 2] {
        [(&self.headrace, "Headrace"), (&self.kernel, "kernel")]
    }
}

/// Names of the paths from pod to pod, without a Service.
pub(super) const BETWEEN_PODS: [&str; 2] = ["same node", "across nodes"];

/// Lists the paths.
pub(super) fn paths(lab: &Lab) -> Result<[Path; 5], LabError> {
    let headrace = Side { lab, a: "node1", b: "node2", subnet: 10 };
    let kernel = Side { lab, a: "kernel1", b: "kernel2", subnet: 20 };
    let path = |name, leg: fn(&Side<'_>) -> Result<Leg, LabError>| {
        Ok::<_, LabError>(Path { name, headrace: leg(&headrace)?, kernel: leg(&kernel)?, direct: None })
    };
    let service = |name, number, server: fn(&Side<'_>) -> String| {
        Ok::<_, LabError>(Path {
            name,
            headrace: headrace.service(number, &server(&headrace))?,
            kernel: kernel.service(number, &server(&kernel))?,
            direct: Some(headrace.direct(&server(&headrace))?),
        })
    };
    Ok([
        path(BETWEEN_PODS[0], |side| side.direct(&near(side)))?,
        path(BETWEEN_PODS[1], |side| side.direct(&far(side)))?,
        path("outside, masqueraded", |side| side.leg(OUTSIDE_NAME, OUTSIDE_FAR, Some(OUTSIDE_FAR), None))?,
        service("ClusterIP, across nodes", 1, far)?,
        // The last one: its Service slows a kernel node's bridge down (see kernel_node).
        service("ClusterIP, same node", 2, near)?,
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

/// The other pod of the first node.
fn near(side: &Side<'_>) -> String {
    format!("{}-pod2", side.a)
}

/// The pod of the second node.
fn far(side: &Side<'_>) -> String {
    format!("{}-pod1", side.b)
}
