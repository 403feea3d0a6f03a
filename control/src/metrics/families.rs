//! The metrics, one family each: name, unit, meaning, where the value comes from.

use std::fmt::Result;

use headrace_api::proto::{
    FlowTableStatus, FrameLedger, PeerCounters, PortCounters, PortStatus, ShortcutStatus, StageCost,
    StatusReply, TablesStatus, WorkerStatus,
};
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::Unit;

use super::histogram::Histogram;
use crate::observe::Snapshot;

/// Writes one scrape.
pub(super) struct Families<'a>(pub(super) DescriptorEncoder<'a>);

/// What a family is, besides its values.
struct Family<'a> {
    name: &'a str,
    unit: Option<Unit>,
    help: &'a str,
}

/// A family of a plain number.
const fn family<'a>(name: &'a str, help: &'a str) -> Family<'a> {
    Family { name, unit: None, help }
}

/// A family in `unit`, which becomes the end of its name.
const fn with_unit<'a>(name: &'a str, unit: Unit, help: &'a str) -> Family<'a> {
    Family { name, unit: Some(unit), help }
}

type PortValue = fn(&PortCounters) -> u64;
type WorkerValue = fn(&WorkerStatus) -> u64;
type LedgerValue = fn(&FrameLedger) -> u64;
type PeerValue = fn(&PeerCounters) -> u64;

/// Counters of ports, seen from the dataplane: received is what the pod or the wire sent.
const PORTS: [(Family<'_>, PortValue); 11] = [
    (family("port_received_frames", "Frames received, a superframe counts once."), |c| c.rx_frames),
    (with_unit("port_received", Unit::Bytes, "Bytes received, with Ethernet headers."), |c| c.rx_bytes),
    (family("port_sent_frames", "Frames sent, a superframe counts once."), |c| c.tx_frames),
    (with_unit("port_sent", Unit::Bytes, "Bytes sent, with Ethernet headers."), |c| c.tx_bytes),
    (family("port_received_superframes", "Frames longer than the wire's that were received."), |c| {
        c.rx_superframes
    }),
    (family("port_sent_superframes", "Frames longer than the wire's that were sent."), |c| c.tx_superframes),
    (family("port_receive_ring_full_frames", "Frames lost in the kernel: the receive ring was full."), |c| {
        c.rx_ring_full
    }),
    (family("port_fill_ring_empty_frames", "Frames lost in the kernel: no memory was lent."), |c| {
        c.fill_ring_empty
    }),
    (family("port_invalid_descriptors", "Descriptors that the kernel would not send."), |c| c.tx_invalid),
    (family("port_transmit_ring_full_frames", "Frames dropped because the transmit ring was full."), |c| {
        c.tx_ring_full
    }),
    (family("port_kicks", "System calls that started transmission."), |c| c.kicks),
];

/// Services that have a series of their own, however many the dataplane names.
const SERVICES: usize = 32;

/// Counters of workers.
const WORKERS: [(Family<'_>, WorkerValue); 13] = [
    (family("worker_loops", "Times around all ports."), |w| w.loops),
    (family("worker_bursts", "Times around all ports that found frames."), |w| w.bursts),
    (family("worker_frames", "Frames received."), |w| w.frames),
    (family("worker_sleeps", "Times it slept for want of work."), |w| w.sleeps),
    (family("worker_to_host_frames", "Frames given back to the node's own stack."), |w| w.to_host),
    (family("worker_icmp_errors_sent", "ICMP errors made for senders."), |w| w.icmp_errors_sent),
    (family("worker_flow_hits", "Packets of known connections."), |w| w.flow_hits),
    (family("worker_flow_misses", "Packets that began a connection, or none."), |w| w.flow_misses),
    (family("worker_service_connections", "Connections to Services that were begun."), |w| {
        w.service_connections
    }),
    (family("worker_icmp_errors_withheld", "ICMP errors that must not be sent, or above the limit."), |w| {
        w.icmp_errors_withheld
    }),
    (family("worker_segments_made", "Segments made of superframes (TSO)."), |w| w.segments_out),
    (family("worker_segments_merged", "Segments merged into superframes (GRO)."), |w| w.segments_in),
    (family("worker_checksums_completed", "Checksums completed for a sender that left them."), |w| {
        w.checksums_completed
    }),
];

/// What is carried to and from other nodes, seen from this one.
const PEERS: [(Family<'_>, PeerValue); 4] = [
    (
        family("peer_received_frames", "Packets that came from the other node, a superframe counts once."),
        |t| t.rx_frames,
    ),
    (with_unit("peer_received", Unit::Bytes, "Bytes of IP packets that came from the other node."), |t| {
        t.rx_bytes
    }),
    (family("peer_sent_frames", "Packets that went to the other node, a superframe counts once."), |t| {
        t.tx_frames
    }),
    (with_unit("peer_sent", Unit::Bytes, "Bytes of IP packets that went to the other node."), |t| t.tx_bytes),
];

/// Where the chunks of a frame area can be.
const PLACES: [(&str, LedgerValue); 5] = [
    ("free", |l| l.free),
    ("fill_ring", |l| l.fill),
    ("transmit", |l| l.tx),
    ("in_hand", |l| l.in_hand),
    ("quarantined", |l| l.quarantined),
];

impl Families<'_> {
    /// What the agent knows without the dataplane.
    pub(super) fn agent(&mut self, snapshot: &Snapshot) -> Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))].as_slice().to_vec();
        self.one(&family("agent_build", "The agent's version."), &Info::new(version))?;
        let up = family("dataplane_up", "1 when the dataplane answers the agent.");
        self.one(&up, &ConstGauge::new(i64::from(snapshot.status.is_ok())))
    }

    pub(super) fn dataplane(&mut self, status: &StatusReply) -> Result {
        let info = Info::new(vec![("version", status.version.clone())]);
        self.one(&family("dataplane_build", "The dataplane's version."), &info)?;
        let uptime = with_unit("dataplane_uptime", Unit::Seconds, "Since the dataplane was started.");
        self.gauge(&uptime, status.uptime_seconds)?;
        self.gauge(
            &family("dataplane_generation", "Generation of the desired state in force."),
            status.generation,
        )?;
        let fed = family("dataplane_fed", "1 while an agent feeds the dataplane.");
        self.gauge(&fed, u64::from(status.state_source == "controller"))?;
        let warnings = family(
            "dataplane_warnings",
            "Things that need an operator's attention; headracectl status says which.",
        );
        self.gauge(&warnings, status.warnings.len() as u64)?;
        let refused = family(
            "dataplane_refused_resources",
            "Resources that the dataplane refused in the last request.",
        );
        self.gauge(&refused, status.last_refusals.len() as u64)?;
        self.gauge(&family("services", "Service ports in the tables."), status.services.into())?;
        self.gauge(
            &family("service_endpoints", "Endpoints of all Services in the tables."),
            status.endpoints.into(),
        )
    }

    pub(super) fn ports(&mut self, status: &StatusReply) -> Result {
        let ready = family("port_ready", "1 when the port carries traffic.");
        self.many(&ready, status.ports.iter().map(|p| (port(p), ConstGauge::new(i64::from(p.ready)))))?;
        let mtu = with_unit("port_mtu", Unit::Bytes, "Longest IP packet of the port's device.");
        self.many(&mtu, status.ports.iter().map(|p| (port(p), ConstGauge::new(i64::from(p.mtu)))))?;
        for (family, value) in &PORTS {
            self.many(
                family,
                status
                    .ports
                    .iter()
                    .map(|p| (port(p), ConstCounter::new(value(&p.counters.unwrap_or_default())))),
            )?;
        }
        let dropped = family(
            "port_dropped_frames",
            "Frames dropped that came in by the port or should have left by it; headracectl drops says why.",
        );
        let sum = |p: &PortStatus| p.drops.iter().map(|drop| drop.count).sum::<u64>();
        self.many(&dropped, status.ports.iter().map(|p| (port(p), ConstCounter::new(sum(p)))))
    }

    pub(super) fn workers(&mut self, status: &StatusReply) -> Result {
        let workers = &status.workers;
        for (family, value) in &WORKERS {
            self.many(family, workers.iter().map(|w| (worker(w).to_vec(), ConstCounter::new(value(w)))))?;
        }
        self.times(workers)?;
        let dropped = workers.iter().flat_map(|w| {
            w.drops.iter().map(|drop| {
                let labels = [worker(w).as_slice(), &[("reason", drop.name.clone())]].concat();
                (labels, ConstCounter::new(drop.count))
            })
        });
        self.many(
            &family("dropped_frames", "Frames dropped, by reason; headracectl drops explains each."),
            dropped,
        )?;
        let chunks = workers.iter().flat_map(|w| w.frames_ledger.iter().map(move |ledger| (w, ledger)));
        let chunks = chunks.flat_map(|(w, ledger)| {
            PLACES.iter().map(move |(place, value)| {
                let area = [("area", ledger.area.clone()), ("place", (*place).to_owned())];
                ([worker(w).as_slice(), &area].concat(), ConstGauge::new(value(ledger) as i64))
            })
        });
        self.many(&family("frame_chunks", "Memory chunks of a frame area, by where they are."), chunks)
    }

    /// True load: a poll-mode worker's CPU time says nothing.
    fn times(&mut self, workers: &[WorkerStatus]) -> Result {
        let seconds = |nanoseconds: u64| ConstCounter::new(nanoseconds as f64 / 1e9);
        let busy = with_unit("worker_busy", Unit::Seconds, "Time with frames in hand.");
        self.many(&busy, workers.iter().map(|w| (worker(w).to_vec(), seconds(w.busy_ns))))?;
        let alive = with_unit(
            "worker_alive",
            Unit::Seconds,
            "Time since the worker was started; busy of alive is its load.",
        );
        self.many(&alive, workers.iter().map(|w| (worker(w).to_vec(), seconds(w.alive_ns))))?;
        let turns = family(
            "worker_turn_duration_seconds",
            "Times around all ports that found frames, by how long they took.",
        );
        self.many(&turns, workers.iter().map(|w| (worker(w).to_vec(), Histogram::of_turns(w))))?;
        let sizes = family("worker_burst_size", "Bursts by the frames in them.");
        self.many(&sizes, workers.iter().map(|w| (worker(w).to_vec(), Histogram::of_bursts(w))))?;
        let stages = || workers.iter().flat_map(|w| w.stages.iter().map(move |stage| (w, stage)));
        let labels =
            |w, stage: &StageCost| [worker(w).as_slice(), &[("stage", stage.stage.clone())]].concat();
        let spent = with_unit(
            "worker_stage",
            Unit::Seconds,
            "Time of the measured bursts in a stage; one of many is measured.",
        );
        self.many(&spent, stages().map(|(w, stage)| (labels(w, stage), seconds(stage.ns))))?;
        let packets = family("worker_stage_packets", "Packets of the measured bursts in a stage.");
        self.many(&packets, stages().map(|(w, stage)| (labels(w, stage), ConstCounter::new(stage.packets))))
    }

    pub(super) fn peers(&mut self, status: &StatusReply) -> Result {
        let reachable = status.peers.iter().map(|peer| {
            let known = !peer.neighbor.starts_with("unresolved") && !peer.neighbor.starts_with("no route");
            (
                vec![("peer", peer.name.clone()), ("path", peer.path.clone())],
                ConstGauge::new(i64::from(known)),
            )
        });
        self.many(&family("peer_next_hop_known", "1 when packets to the node have a next hop."), reachable)?;
        for (family, value) in &PEERS {
            let known = status.peers.iter().filter_map(|peer| Some((peer, peer.traffic?)));
            let counted = known.map(|(peer, traffic)| {
                (vec![("peer", peer.name.clone())], ConstCounter::new(value(&traffic)))
            });
            self.many(family, counted)?;
        }
        Ok(())
    }

    /// The snapshot that workers forward by.
    pub(super) fn tables(&mut self, tables: &TablesStatus) -> Result {
        let updates = family("tables_updates", "Snapshots of the tables that were published.");
        self.one(&updates, &ConstCounter::new(tables.updates))?;
        let age = with_unit("tables_age", Unit::Seconds, "Since the last snapshot was published.");
        self.gauge(&age, tables.age_seconds)?;
        let frontends = family("service_frontends", "Addresses and ports at which Services are reached.");
        self.gauge(&frontends, tables.frontends.into())?;
        let hops = family("next_hops", "Hosts on the uplink's subnets that packets were sent to.");
        self.gauge(&hops, tables.next_hops.into())
    }

    /// The dataplane names the most used only, however many there are.
    pub(super) fn services(&mut self, status: &StatusReply) -> Result {
        let used = family(
            "service_connections",
            "Connections begun to each of the most used Services; headracectl services lists all.",
        );
        let services = status.most_used_services.iter().take(SERVICES);
        self.many(
            &used,
            services.map(|s| (vec![("service", s.name.clone())], ConstCounter::new(s.connections))),
        )
    }

    pub(super) fn flows(&mut self, flows: &FlowTableStatus) -> Result {
        self.gauge(&family("flows", "Entries in the flow table; a connection has two."), flows.live)?;
        self.gauge(&family("flows_capacity", "Entries that the flow table has room for."), flows.capacity)?;
        self.one(&family("flows_inserted", "Entries made."), &ConstCounter::new(flows.inserted))?;
        self.one(&family("flows_expired", "Entries that were over."), &ConstCounter::new(flows.expired))?;
        let evicted = family("flows_evicted", "Entries that made room for new ones.");
        self.one(&evicted, &ConstCounter::new(flows.evicted))
    }

    pub(super) fn shortcut(&mut self, shortcut: &ShortcutStatus) -> Result {
        let ways = family("shortcut_ways", "Directions of flows that the kernel carries past the workers.");
        self.gauge(&ways, shortcut.ways)?;
        let frames = family("shortcut_frames", "Frames carried past the workers, a superframe counts once.");
        self.one(&frames, &ConstCounter::new(shortcut.frames))?;
        let bytes = with_unit("shortcut", Unit::Bytes, "Bytes of IP packets carried past the workers.");
        self.one(&bytes, &ConstCounter::new(shortcut.bytes))
    }

    fn gauge(&mut self, family: &Family<'_>, value: u64) -> Result {
        self.one(family, &ConstGauge::new(value as i64))
    }

    fn one(&mut self, family: &Family<'_>, metric: &impl EncodeMetric) -> Result {
        let Family { name, unit, help } = family;
        metric.encode(self.0.encode_descriptor(name, help, unit.as_ref(), metric.metric_type())?)
    }

    fn many<M: EncodeMetric>(
        &mut self,
        family: &Family<'_>,
        metrics: impl Iterator<Item = (Vec<(&'static str, String)>, M)>,
    ) -> Result {
        let mut metrics = metrics.peekable();
        let Some((_, first)) = metrics.peek() else { return Ok(()) };
        let Family { name, unit, help } = family;
        let mut encoder = self.0.encode_descriptor(name, help, unit.as_ref(), first.metric_type())?;
        for (labels, metric) in metrics {
            metric.encode(encoder.encode_family(&labels)?)?;
        }
        Ok(())
    }
}

fn port(port: &PortStatus) -> Vec<(&'static str, String)> {
    vec![("interface", port.interface.clone()), ("role", port.role.clone()), ("pod", port.label.clone())]
}

fn worker(worker: &WorkerStatus) -> [(&'static str, String); 1] {
    [("worker", worker.id.to_string())]
}
