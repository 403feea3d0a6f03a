//! Where measured packets go: from a client to a server, on a pair of nodes of one kind.

use std::net::{Ipv4Addr, SocketAddrV4};

use crate::plan::{OUTSIDE_FAR, OUTSIDE_NAME};
use crate::traffic::iperf::PORT;
use crate::{Lab, LabError, Service, Space};

/// First of the node ports; the kernel may not give it away.
const NODE_PORT: u16 = 30_000;

/// Where a packet goes.
#[derive(Clone, Debug)]
pub struct Leg {
    /// The client.
    pub client: Space,
    /// The server, which listens on [`PORT`].
    pub server: Space,
    /// What the client connects to.
    pub address: Ipv4Addr,
    /// The port that the client connects to.
    pub port: u16,
    /// The server's own address, which the client can ping; none for a Service, which does not answer.
    pub ping: Option<Ipv4Addr>,
    /// The Service that the address belongs to.
    pub service: Option<Service>,
}

impl Leg {
    /// What the client connects to.
    #[must_use]
    pub fn target(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.address, self.port)
    }
}

/// A pair of nodes of one kind, with Services of its own: an endpoint of the other kind would be another path.
#[derive(Clone, Copy, Debug)]
pub struct Pair<'a> {
    /// The lab.
    pub lab: &'a Lab,
    /// The node of the client, or that the outside host talks to.
    pub a: &'a str,
    /// The other node.
    pub b: &'a str,
    /// Added to a Service's number to make its address.
    pub subnet: u8,
}

impl Pair<'_> {
    /// Straight to a pod.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`].
    pub fn direct(&self, server: &str) -> Result<Leg, LabError> {
        let address = self.lab.address(server)?;
        self.leg(server, address, Some(address), None)
    }

    /// To a Service of the pod `server`; `number` tells it from others of this pair.
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`].
    pub fn cluster_ip(&self, number: u8, server: &str) -> Result<Leg, LabError> {
        let service = self.service(number, server)?;
        self.leg(server, service.cluster_ip, None, Some(service))
    }

    /// From the outside host to a port of the first node, of a Service as for [`cluster_ip`](Self::cluster_ip).
    ///
    /// # Errors
    /// [`LabError::NoSuchSpace`].
    pub fn node_port(&self, number: u8, server: &str) -> Result<Leg, LabError> {
        let port = NODE_PORT + u16::from(self.subnet + number);
        let service = Service { node_port: Some(port), ..self.service(number, server)? };
        let leg = self.leg(server, self.lab.address(self.a)?, None, Some(service))?;
        Ok(Leg { client: self.lab.space(OUTSIDE_NAME)?.clone(), port, ..leg })
    }

    fn service(&self, number: u8, server: &str) -> Result<Service, LabError> {
        let last = self.subnet + number;
        Ok(Service::new(&format!("measured-{last}"), last, PORT, &[self.lab.address(server)?]))
    }

    fn leg(
        &self,
        server: &str,
        address: Ipv4Addr,
        ping: Option<Ipv4Addr>,
        service: Option<Service>,
    ) -> Result<Leg, LabError> {
        let client = self.lab.space(&format!("{}-pod1", self.a))?.clone();
        let server = self.lab.space(server)?.clone();
        Ok(Leg { client, server, address, port: PORT, ping, service })
    }
}

/// To the outside host's far address.
///
/// # Errors
/// [`LabError::NoSuchSpace`].
pub fn outside(pair: &Pair<'_>) -> Result<Leg, LabError> {
    pair.leg(OUTSIDE_NAME, OUTSIDE_FAR, Some(OUTSIDE_FAR), None)
}

/// The other pod of the first node.
#[must_use]
pub fn near(pair: &Pair<'_>) -> String {
    format!("{}-pod2", pair.a)
}

/// The first pod of the second node.
#[must_use]
pub fn far(pair: &Pair<'_>) -> String {
    format!("{}-pod1", pair.b)
}
