//! Filters and names as they come over the socket.

use std::net::IpAddr;

use headrace_api::filter::{End, Filter, FilterError, Term};
use headrace_api::proto;
use tonic::Status;

use super::Observatory;

impl Observatory {
    /// Reads a filter and finds the names in it.
    pub(super) async fn filter(&self, text: &str) -> Result<Filter, Status> {
        let filter: Filter = text.parse().map_err(|error| wrong(&error))?;
        let services = if text.contains("service") { self.services("").await? } else { Vec::new() };
        let directory = self.sight.directory.load();
        let ends = |term: &Term| match term {
            Term::Pod(name) => {
                let pods = directory.pods.iter().filter(|(_, label)| *label == name);
                let ends = pods.map(|(address, _)| End { address: (*address).into(), port: None });
                some(ends.collect())
            }
            Term::Service(name) => {
                some(services.iter().filter(|s| is_called(&s.name, name)).flat_map(ends_of).collect())
            }
            _ => None,
        };
        filter.resolve(text, &ends).map_err(|error| wrong(&error))
    }
}

fn wrong(error: &FilterError) -> Status {
    Status::invalid_argument(format!("the filter cannot be read: {error}"))
}

fn some(ends: Vec<End>) -> Option<Vec<End>> {
    (!ends.is_empty()).then_some(ends)
}

/// "default/web" stands for all its ports.
pub(super) fn is_called(service: &str, name: &str) -> bool {
    service == name || service.rsplit_once(':').is_some_and(|(before, _)| before == name)
}

fn ends_of(service: &proto::Service) -> Vec<End> {
    let end = |address: &Option<proto::Address>, port: u32| {
        let address = ip(address.as_ref()?)?;
        Some(End { address, port: u16::try_from(port).ok() })
    };
    let frontends = service.frontends.iter().filter_map(|f| end(&f.address, f.port));
    frontends.chain(service.endpoints.iter().filter_map(|e| end(&e.address, e.port))).collect()
}

/// An address of the contract.
pub(super) fn ip(address: &proto::Address) -> Option<IpAddr> {
    let octets = address.octets.as_slice();
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}
