//! A NIC that suits its workers: a queue for each, and tunnels spread over them.
//!
//! All packets of a tunnel between two nodes have the same addresses, so a NIC that looks at no ports puts them on one queue,
//! and one worker carries them all.

use std::io;

use headrace_xsk::spread::{self, UdpSpread};

/// Gives device `name` a queue for each of its workers; what an operator should know when it cannot be.
pub(super) fn fit(name: &str, workers: u32) -> Vec<String> {
    [queues(name, workers), udp(name, workers)].into_iter().flatten().collect()
}

fn queues(name: &str, workers: u32) -> Option<String> {
    let queues = match spread::queues(name) {
        Ok(queues) => queues,
        Err(error) => return Some(format!("{name} does not tell how many queues it has: {error}")),
    };
    if queues.now == workers {
        return None;
    }
    if queues.most < workers {
        return Some(format!(
            "{name} has at most {} queues for {workers} workers; run no more workers than that",
            queues.most
        ));
    }
    match spread::set_queues(name, workers) {
        Ok(()) => {
            tracing::info!("{name} has {workers} queues now, one for each worker; before {}", queues.now);
            None
        }
        Err(error) => Some(format!(
            "{name} keeps its {} queues for {workers} workers: {error}; try `ethtool -L {name} combined {workers}` while \
             the dataplane does not run",
            queues.now
        )),
    }
}

fn udp(name: &str, workers: u32) -> Option<String> {
    let told = spread::udp(name);
    if workers == 1 || matches!(told, Ok(UdpSpread::Ports)) {
        return None;
    }
    match told.and_then(|_| spread::spread_udp_by_ports(name)) {
        Ok(()) => {
            tracing::info!("{name} spreads UDP by addresses and ports now");
            None
        }
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            tracing::info!("{name} has no say in how it spreads UDP");
            None
        }
        Err(error) => {
            Some(format!("{name} spreads UDP by addresses only, a peer's tunnel to one worker: {error}"))
        }
    }
}
