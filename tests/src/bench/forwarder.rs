//! Two-port forwarders side by side: what else carries frames between two veths in userspace, where it is installed. Each has
//! a machine and two clients of its own, with the offloads that it can carry.
//!
//! Poll-mode forwarders take a core as long as they run, so each is stopped while others are measured.

use std::net::Ipv4Addr;
use std::process::Stdio;
use std::time::Duration;

use rustix::process::Signal;

use super::figure::Part;
use super::load::Load;
use super::turns::{Contender, KERNEL, Readings, in_turns};
use super::{BenchError, Run, Scope};
use crate::leg::Leg;
use crate::machine::{Machine, reap};
use crate::plan::NIC;
use crate::process::{Process, wait_until};
use crate::traffic::iperf::PORT;
use crate::traffic::ping::Ping;
use crate::{Lab, LabError, Space, command, standalone};

/// The clients' addresses.
const LEFT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 2);
const RIGHT: Ipv4Addr = Ipv4Addr::new(10, 9, 0, 3);
/// How long a forwarder may take until it forwards.
const LIMIT: Duration = Duration::from_secs(20);

/// Userspace switching in Open vSwitch's own datapath, without a kernel module. /run is the machine's own.
const OPEN_VSWITCH: &str = "
export OVS_RUNDIR=/run/openvswitch OVS_DBDIR=/run/openvswitch OVS_LOGDIR=/run/openvswitch
mkdir -p $OVS_RUNDIR
ovsdb-tool create $OVS_DBDIR/conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server $OVS_DBDIR/conf.db --remote=punix:$OVS_RUNDIR/db.sock --detach --pidfile --log-file
ovs-vsctl --no-wait init
ovs-vswitchd --detach --pidfile --log-file
ovs-vsctl --timeout=10 add-br br0 -- set bridge br0 datapath_type=netdev
ovs-vsctl --timeout=10 add-port br0 left -- add-port br0 right
cat $OVS_RUNDIR/ovs-vswitchd.pid
";

/// Who forwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    /// The kernel's bridge, the yardstick.
    Bridge,
    /// DPDK's testpmd; the name of its driver.
    Testpmd(&'static str),
    /// Open vSwitch with its userspace datapath.
    OpenVswitch,
    /// Headrace without an agent; with what the clients leave to their devices, or without as the others.
    Headrace { offloads: bool },
}

impl Kind {
    const ALL: [Self; 6] = [
        Self::Headrace { offloads: true },
        Self::Headrace { offloads: false },
        Self::Testpmd("net_af_packet"),
        Self::Testpmd("net_af_xdp"),
        Self::OpenVswitch,
        Self::Bridge,
    ];

    fn subject(self) -> &'static str {
        match self {
            Self::Bridge => KERNEL,
            Self::Testpmd("net_af_xdp") => "testpmd-af_xdp",
            Self::Testpmd(_) => "testpmd-af_packet",
            Self::OpenVswitch => "ovs-userspace",
            Self::Headrace { offloads: true } => "headrace",
            Self::Headrace { offloads: false } => "headrace-no-offloads",
        }
    }

    /// The program that it needs, and the package that has it.
    fn needs(self) -> Option<(&'static str, &'static str)> {
        match self {
            Self::Bridge | Self::Headrace { .. } => None,
            Self::Testpmd(_) => Some(("dpdk-testpmd", "dpdk-dev librte-net-af-packet23 librte-net-af-xdp23")),
            Self::OpenVswitch => Some(("ovs-vswitchd", "openvswitch-switch")),
        }
    }
}

/// One that runs.
struct Forwarder {
    kind: Kind,
    leg: Leg,
    process: Option<Process>,
}

/// Measures those that there are, in turns.
pub(super) fn run(run: &mut Run<'_>, lab: &Lab) -> Result<(), BenchError> {
    let mut forwarders = Vec::new();
    for kind in Kind::ALL {
        if let Some((program, package)) = kind.needs()
            && command::find_program(program).is_none()
        {
            run.remark(&format!(
                "{} is not measured: {program} is not installed (apt-get install {package})",
                kind.subject()
            ));
            continue;
        }
        match Forwarder::start(lab, kind) {
            Ok(forwarder) => forwarders.push(forwarder),
            Err(error) => run.remark(&format!("{} is not measured: {error}", kind.subject())),
        }
    }
    if forwarders.len() < 2 {
        return Ok(());
    }
    let contenders: Vec<Contender> =
        forwarders.iter().map(|f| Contender { subject: f.kind.subject(), leg: f.leg.clone() }).collect();
    let loads: &[Load] = match run.scope {
        Scope::Full => &[Load::Tcp { streams: 1 }, Load::Udp { length: 18 }],
        _ => &[Load::Tcp { streams: 1 }],
    };
    for load in loads {
        let case = format!("two-port forwarder, {}", load.name());
        run.say(&case);
        let effort = run.effort;
        let measure = |leg: &Leg| {
            let forwarder = forwarders.iter().find(|f| f.leg.client.mount == leg.client.mount);
            Forwarder::awake(forwarder, || load.measure(leg, &effort))
        };
        let rounds = in_turns(&contenders, effort.rounds, measure);
        run.take(Part::Wire, &case, &rounds);
    }
    Ok(())
}

impl Forwarder {
    fn start(lab: &Lab, kind: Kind) -> Result<Self, LabError> {
        let state = lab.state();
        let machine = Machine::start(&state.config.name, &state.directory, kind.subject())?;
        // Checksums and segments are left to who carries them: the others would lose them.
        let offloads = matches!(kind, Kind::Bridge | Kind::Headrace { offloads: true });
        let client = if matches!(kind, Kind::Headrace { .. }) { standalone::client } else { client };
        let left = client(&machine, "left", LEFT, offloads)?;
        let right = client(&machine, "right", RIGHT, offloads)?;
        let process = match kind {
            Kind::Bridge => {
                machine.space.script(
                    "ip link add br0 type bridge
                     ip link set br0 up
                     ip link set left master br0
                     ip link set right master br0",
                )?;
                None
            }
            Kind::Testpmd(driver) => Some(testpmd(&machine, driver)?),
            Kind::Headrace { .. } => Some(headrace(&machine)?),
            Kind::OpenVswitch => {
                let pid = machine.space.script(OPEN_VSWITCH)?.trim().parse().unwrap_or(0);
                Some(Process::of(pid).map_err(LabError::io("find ovs-vswitchd"))?)
            }
        };
        let address = RIGHT;
        let leg =
            Leg { client: left, server: right, address, port: PORT, ping: Some(address), service: None };
        let forwarder = Self { kind, leg, process };
        forwarder.wait()?;
        forwarder.signal(Signal::STOP)?;
        Ok(forwarder)
    }

    /// Waits until a ping comes back.
    fn wait(&self) -> Result<(), LabError> {
        let ping = Ping { count: 1, ..Ping::new(self.leg.address) };
        let through = || ping.run(&self.leg.client).is_ok_and(|pong| pong.received > 0);
        if wait_until(LIMIT, through) {
            return Ok(());
        }
        Err(LabError::Output {
            tool: self.kind.subject(),
            problem: format!("it forwards nothing after {LIMIT:?}"),
            output: String::new(),
        })
    }

    /// Lets `forwarder` run while `measure` does.
    fn awake(
        forwarder: Option<&Self>,
        measure: impl FnOnce() -> Result<Readings, LabError>,
    ) -> Result<Readings, LabError> {
        let Some(forwarder) = forwarder else { return measure() };
        forwarder.signal(Signal::CONT)?;
        let readings = measure();
        forwarder.signal(Signal::STOP)?;
        readings
    }

    fn signal(&self, signal: Signal) -> Result<(), LabError> {
        let what = format!("send {signal:?} to {}", self.kind.subject());
        self.process.map_or(Ok(()), |process| process.signal(signal)).map_err(LabError::io(what))
    }
}

/// A namespace in the clients' network, whose veth ends on the machine as `name`.
fn client(machine: &Machine, name: &str, address: Ipv4Addr, offloads: bool) -> Result<Space, LabError> {
    let space = standalone::behind_veth(machine, name, offloads)?;
    space.script(&format!(
        "ip address add {address}/24 dev {NIC}
         ip link set {NIC} up"
    ))?;
    Ok(space)
}

/// From one port to the other by their addresses, polling on the last core as testpmd does.
fn headrace(machine: &Machine) -> Result<Process, LabError> {
    let ports = [standalone::port(1, "left", LEFT), standalone::port(2, "right", RIGHT)].concat();
    let state = format!(
        "settings: {{node-addresses: [192.0.2.1], pod-cidrs: [10.9.0.0/24], cluster-cidrs: [10.9.0.0/16]}}\n\
         ports:\n{ports}"
    );
    standalone::start(machine, &state, &["--cores", &last_core().to_string(), "--poll", "always"])
}

fn last_core() -> usize {
    std::thread::available_parallelism().map_or(1, |cores| cores.get() - 1)
}

/// Frames from one port to the other, untouched, on the last core.
fn testpmd(machine: &Machine, driver: &str) -> Result<Process, LabError> {
    let log = machine.log("dpdk-testpmd");
    let failed = || LabError::io("start dpdk-testpmd".to_owned());
    let output = std::fs::File::create(&log).map_err(failed())?;
    let errors = output.try_clone().map_err(failed())?;
    let line = format!(
        "dpdk-testpmd -l 0,{last} --no-huge -m 256 --no-pci --no-telemetry --file-prefix {driver} \
         --vdev={driver}0,iface=left --vdev={driver}1,iface=right \
         -- --forward-mode=io --auto-start --total-num-mbufs=16384 --stats-period=3600",
        last = last_core()
    );
    let child = machine
        .space
        .command()
        .args(line.split_whitespace())
        .stdin(Stdio::null())
        .stdout(output)
        .stderr(errors)
        .spawn()
        .map_err(failed())?;
    let process = Process::of(child.id()).map_err(failed())?;
    reap(child);
    Ok(process)
}
