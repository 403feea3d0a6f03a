//! The wire: every path of a pod's traffic, by each of Headrace's drivers and by the kernel, in one lab and in turns.

use super::figure::Part;
use super::load::{Effort, Load};
use super::turns::{Contender, KERNEL, in_turns};
use super::{BenchError, Run, Scope, forwarder};
use crate::leg::{Leg, Pair, far, near, outside};
use crate::{Lab, LabConfig, LabError, Wire};

/// What flows within a node that the kernel carries are called.
const SHORTCUT: &str = "auto, shortcut";
/// Nodes of the lab that go by AF_XDP everywhere; the others choose for each port.
const AF_XDP_NODES: [&str; 2] = ["node3", "node4"];

/// The node whose dataplane hands flows within it to the kernel.
const SHORTCUT_NODE: &str = "node5";

/// Rounds of the kernel's path against itself.
const ITSELF: u32 = 4;

/// A path on a pair of nodes.
pub(super) type PathLeg = fn(&Pair<'_>) -> Result<Leg, LabError>;

/// Where a path's ends are.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ends {
    /// On one node: the shortcut takes part.
    WithinNode,
    /// Anywhere.
    Apart,
}

/// One path, and what is measured on it.
struct Path {
    name: &'static str,
    leg: PathLeg,
    ends: Ends,
    loads: Vec<Load>,
}

/// Takes the wires one after another, each in a lab of its own.
pub(super) fn run(run: &mut Run<'_>) -> Result<(), BenchError> {
    let wires: &[Wire] = match run.scope {
        Scope::Full => &[Wire::Segmented, Wire::Plain, Wire::Whole],
        _ => &[Wire::Segmented],
    };
    for &wire in wires {
        let mut lab = up(run, wire)?;
        if wire == Wire::Segmented {
            kernel_against_itself(run, &lab)?;
        }
        for path in paths(run, wire) {
            measure(run, &mut lab, &path, wire)?;
        }
        if wire == Wire::Segmented && run.scope != Scope::Smoke {
            forwarder::run(run, &lab)?;
        }
        run.faults.extend(lab.check().err().map(|error| error.to_string()));
        run.faults.extend(lab.long_frames());
        lab.down()?;
    }
    Ok(())
}

/// Two nodes of each kind, and one with the shortcut.
pub(super) fn up(run: &Run<'_>, wire: Wire) -> Result<Lab, BenchError> {
    let with = |node: &str, argument: &str| (node.to_owned(), vec![argument.to_owned()]);
    let af_xdp = AF_XDP_NODES.map(|node| with(node, "--driver=af_xdp"));
    let config = LabConfig {
        name: run.lab_name.clone(),
        nodes: 5,
        kernel_nodes: 2,
        wire,
        node_args: af_xdp.into_iter().chain([with(SHORTCUT_NODE, "--shortcut=on")]).collect(),
        ..LabConfig::default()
    };
    run.say(&format!("a lab with {}", wire_words(wire)));
    Ok(Lab::up(&config, &mut |_| {})?)
}

fn pairs(lab: &Lab) -> [(&'static str, Pair<'_>); 4] {
    [
        ("auto", Pair { lab, a: "node1", b: "node2", subnet: 10 }),
        ("af_xdp", Pair { lab, a: AF_XDP_NODES[0], b: AF_XDP_NODES[1], subnet: 20 }),
        (SHORTCUT, Pair { lab, a: SHORTCUT_NODE, b: SHORTCUT_NODE, subnet: 40 }),
        (KERNEL, Pair { lab, a: "kernel1", b: "kernel2", subnet: 30 }),
    ]
}

/// All of them on one path.
pub(super) fn contenders(lab: &Lab, leg: PathLeg, ends: Ends) -> Result<Vec<Contender>, LabError> {
    let pairs = pairs(lab);
    let take_part = pairs.iter().filter(|(subject, _)| ends == Ends::WithinNode || *subject != SHORTCUT);
    take_part.map(|(subject, pair)| Ok(Contender { subject, leg: leg(pair)? })).collect()
}

/// Ratios that should be 1 tell how much a ratio is worth here.
fn kernel_against_itself(run: &mut Run<'_>, lab: &Lab) -> Result<(), BenchError> {
    let [.., (_, pair)] = pairs(lab);
    let leg = pair.direct(&far(&pair))?;
    let contender = |subject| Contender { subject, leg: leg.clone() };
    run.say("the kernel's path against itself");
    let load = Load::Tcp { streams: 1 };
    let rounds =
        in_turns(&[contender("the same"), contender(KERNEL)], ITSELF, |leg| load.measure(leg, &run.effort));
    let figures = rounds.figures(Part::Wire, "");
    if let Some(ratio) = figures.iter().find_map(|figure| figure.ratio) {
        run.noise.note_path(&ratio);
    }
    Ok(())
}

fn measure(run: &mut Run<'_>, lab: &mut Lab, path: &Path, wire: Wire) -> Result<(), BenchError> {
    let contenders = contenders(lab, path.leg, path.ends)?;
    for service in contenders.iter().filter_map(|contender| contender.leg.service.as_ref()) {
        lab.apply_service(service)?;
    }
    for load in &path.loads {
        let case = format!("{}, {}{}", path.name, load.name(), wire_suffix(wire));
        run.say(&case);
        let effort: Effort = run.effort;
        let rounds = in_turns(&contenders, effort.rounds, |leg| load.measure(leg, &effort));
        run.take(Part::Wire, &case, &rounds);
    }
    Ok(())
}

/// The Services come last: those whose pod is on a kernel node's own bridge slow that bridge down (see `kernel_node`).
fn paths(run: &Run<'_>, wire: Wire) -> Vec<Path> {
    let across: PathLeg = |pair| pair.direct(&far(pair));
    let (one, four) = (Load::Tcp { streams: 1 }, Load::Tcp { streams: 4 });
    if wire != Wire::Segmented {
        return vec![Path { name: "across nodes", leg: across, ends: Ends::Apart, loads: vec![one, four] }];
    }
    let udp = [Load::Udp { length: 64 }, Load::Udp { length: 1400 }];
    let bulk = vec![one, four, Load::BothWays];
    let short = vec![Load::RoundTrips, Load::Loaded, Load::Connections];
    let all = [bulk.as_slice(), &udp, &short].concat();
    let some = [bulk.as_slice(), &[Load::RoundTrips, Load::Connections]].concat();
    let path = |name, leg: PathLeg, loads: &[Load]| Path {
        name,
        leg,
        ends: Ends::Apart,
        loads: run.scope.of(loads),
    };
    let paths = vec![
        Path { ends: Ends::WithinNode, ..path("same node", |pair| pair.direct(&near(pair)), &all) },
        path("across nodes", across, &all),
        path("outside, masqueraded", outside, &some),
        path("ClusterIP, across nodes", |pair| pair.cluster_ip(1, &far(pair)), &all),
        path("NodePort, from outside", |pair| pair.node_port(2, &near(pair)), &some),
    ];
    run.scope.of_paths(paths)
}

/// How the wire is named in a case; the usual one is not.
fn wire_suffix(wire: Wire) -> &'static str {
    match wire {
        Wire::Segmented => "",
        Wire::Plain => ", no GRO",
        Wire::Whole => ", 64 KB frames (no real wire)",
    }
}

fn wire_words(wire: Wire) -> &'static str {
    match wire {
        Wire::Segmented => "a wire of 1500-byte packets that are merged on receipt (GRO)",
        Wire::Plain => "a wire of 1500-byte packets that are not merged on receipt",
        Wire::Whole => "64 KB frames that cross the wire whole, as on no real one",
    }
}
