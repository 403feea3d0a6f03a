//! How often a Service and each of its endpoints were given a connection.

use super::Endpoint;
use crate::stats::Total;

/// Connections begun since the process runs. Snapshots of one Service share the counts.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    all: Total,
    /// In order.
    endpoints: Box<[(Endpoint, Total)]>,
}

impl Hits {
    /// None yet, of these endpoints in any order.
    pub fn of(endpoints: impl Iterator<Item = Endpoint>) -> Self {
        let mut list: Vec<_> = endpoints.collect();
        list.sort_unstable();
        list.dedup();
        let endpoints = list.into_iter().map(|endpoint| (endpoint, Total::default())).collect();
        Self { all: Total::default(), endpoints }
    }

    /// Goes on with the counts of the same Service in a snapshot before.
    #[must_use]
    pub fn after(mut self, before: &Self) -> Self {
        self.all = before.all.clone();
        for (endpoint, total) in &mut self.endpoints {
            if let Some(before) = before.total(*endpoint) {
                *total = before.clone();
            }
        }
        self
    }

    /// An endpoint is given a connection.
    pub fn add(&self, endpoint: Endpoint) {
        self.all.add(1);
        if let Some(total) = self.total(endpoint) {
            total.add(1);
        }
    }

    /// Connections of the Service, also those to endpoints that are gone.
    pub fn all(&self) -> u64 {
        self.all.get()
    }

    /// Connections of one endpoint.
    pub fn of_endpoint(&self, endpoint: Endpoint) -> u64 {
        self.total(endpoint).map_or(0, Total::get)
    }

    fn total(&self, endpoint: Endpoint) -> Option<&Total> {
        let at = self.endpoints.binary_search_by_key(&endpoint, |(endpoint, _)| *endpoint).ok()?;
        Some(&self.endpoints[at].1)
    }
}
