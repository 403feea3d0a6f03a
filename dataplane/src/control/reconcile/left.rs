//! Connections of pods that are gone. Most have said goodbye, but would be remembered for minutes, and those of a pod that was
//! killed for a day; they end a moment after it, when nothing of it is under way any more.

use std::collections::{BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Reconciler;

/// How long connections outlive their pod: whoever talks to it still gets the answer that it is gone.
const LINGER: Duration = Duration::from_secs(10);
/// Added to the nice(2) value of the thread that looks through the table.
const LOWEST: i32 = 19;

/// Addresses of gone pods, and when their connections end.
#[derive(Default)]
pub(super) struct Left(VecDeque<(Instant, Vec<IpAddr>)>);

impl Left {
    /// Takes note of addresses whose ports are gone now.
    pub(super) fn add(&mut self, addresses: &[IpAddr]) {
        if !addresses.is_empty() {
            self.0.push_back((Instant::now() + LINGER, addresses.to_vec()));
        }
    }

    fn due(&mut self, now: Instant) -> BTreeSet<Ipv4Addr> {
        let mut all = BTreeSet::new();
        while let Some((_, addresses)) = self.0.pop_front_if(|(due, _)| *due <= now) {
            all.extend(addresses.into_iter().filter_map(|address| match address {
                IpAddr::V4(address) => Some(address),
                IpAddr::V6(_) => None,
            }));
        }
        all
    }
}

impl Reconciler {
    /// Ends connections of pods that have been gone long enough. An address that another pod has got meanwhile is left alone:
    /// the connections may be its own.
    pub(super) fn end_connections_of_left_pods(&mut self) {
        let mut gone = self.left.due(Instant::now());
        for port in self.desired.ports().values() {
            gone.retain(|address| !port.addresses.contains(&IpAddr::V4(*address)));
        }
        if gone.is_empty() {
            return;
        }
        let shared = Arc::clone(&self.flows.shared);
        let end = move || {
            // nice(2) is of the calling thread on Linux. Without it looking only costs more.
            let _ = rustix::process::nice(LOWEST);
            let ended = shared.flows.end_of(&gone);
            tracing::debug!("{ended} flows of {} pods that are gone have ended", gone.len());
        };
        if let Err(error) = std::thread::Builder::new().name("flow-sweep".into()).spawn(end) {
            tracing::warn!(
                "no thread to end connections of pods that are gone: {error}; they expire by themselves"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_due_a_while_after_their_pods_went() {
        let mut left = Left::default();
        left.add(&[]);
        left.add(&["10.244.1.2".parse().unwrap(), "fd00::2".parse().unwrap()]);
        let now = Instant::now();
        assert!(left.due(now).is_empty());
        assert_eq!(left.due(now + LINGER), BTreeSet::from(["10.244.1.2".parse().unwrap()]));
        assert!(left.due(now + LINGER).is_empty() && left.0.is_empty());
    }
}
