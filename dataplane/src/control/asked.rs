//! Hosts on the uplink's subnets that packets wanted to reach.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::time::Instant;

/// Most hosts that are remembered; the one asked for longest ago goes first. The kernel's neighbour table holds 1024 by
/// default (gc_thresh3), and a pod that scans the subnet must not take it from the node.
const CAPACITY: usize = 256;

/// How long a host without answer is asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// The hosts, with when each was last asked for.
#[derive(Debug, Default)]
pub struct Asked {
    hosts: Vec<(Ipv4Addr, Instant)>,
    set: BTreeSet<Ipv4Addr>,
}

impl Asked {
    /// Remembers a host. Returns whether it is new.
    pub fn add(&mut self, host: Ipv4Addr) -> bool {
        self.add_at(host, Instant::now())
    }

    /// Forgets hosts for which nobody asks any more and that do not answer. Returns whether there were any.
    pub fn expire(&mut self, answers: impl Fn(Ipv4Addr) -> bool) -> bool {
        self.expire_at(Instant::now(), answers)
    }

    /// All hosts.
    pub fn hosts(&self) -> &BTreeSet<Ipv4Addr> {
        &self.set
    }

    fn add_at(&mut self, host: Ipv4Addr, now: Instant) -> bool {
        if let Some((_, when)) = self.hosts.iter_mut().find(|(h, _)| *h == host) {
            *when = now;
            return false;
        }
        if self.hosts.len() >= CAPACITY
            && let Some(oldest) = (0..self.hosts.len()).min_by_key(|i| self.hosts[*i].1)
        {
            let (host, _) = self.hosts.swap_remove(oldest);
            self.set.remove(&host);
        }
        self.hosts.push((host, now));
        self.set.insert(host)
    }

    fn expire_at(&mut self, now: Instant, answers: impl Fn(Ipv4Addr) -> bool) -> bool {
        let before = self.hosts.len();
        self.hosts.retain(|(host, when)| now.duration_since(*when) < PATIENCE || answers(*host));
        self.set = self.hosts.iter().map(|(host, _)| *host).collect();
        self.hosts.len() != before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn host(n: u32) -> Ipv4Addr {
        Ipv4Addr::from(0x0a00_0000 + n)
    }

    #[test]
    fn silent_hosts_are_forgotten_and_answering_ones_stay() {
        let start = Instant::now();
        let mut asked = Asked::default();
        assert!(asked.add_at(host(1), start) && asked.add_at(host(2), start));
        let later = start + PATIENCE;
        assert!(!asked.add_at(host(2), later), "known, and asked for again");
        assert!(asked.add_at(host(3), start));
        assert!(asked.expire_at(later, |h| h == host(3)));
        assert_eq!(asked.hosts().iter().copied().collect::<Vec<_>>(), [host(2), host(3)]);
        assert!(!asked.expire_at(later, |h| h == host(3)));
    }

    #[test]
    fn the_number_of_hosts_is_bounded() {
        let start = Instant::now();
        let mut asked = Asked::default();
        for n in 0..CAPACITY as u32 + 2 {
            asked.add_at(host(n), start + Duration::from_millis(n.into()));
        }
        assert_eq!(asked.hosts().len(), CAPACITY);
        assert!(!asked.hosts().contains(&host(0)) && !asked.hosts().contains(&host(1)));
    }
}
