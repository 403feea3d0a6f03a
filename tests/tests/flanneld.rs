//! The real flanneld beside Headrace: a node of either kind, an API server, and nothing else between them. Each reads what the
//! other publishes on its Node object; nobody sets anything up for the other.

use std::net::{Ipv4Addr, SocketAddrV4};
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use headrace_lab::control_plane::{self, ControlPlane};
use headrace_lab::daemon::Daemon;
use headrace_lab::flanneld::{self, Flanneld, Remotes};
use headrace_lab::plan::{NodePlan, POD_MTU};
use headrace_lab::process::wait_until;
use headrace_lab::traffic::{Hold, Ping, TcpServer, stream};
use headrace_lab::{Lab, LabConfig, Service, manifests};

use crate::findings::{Findings, PORT};
use crate::kubernetes::{cluster_with, eventually, plans};

const FLANNEL: &str = "flannel.alpha.coreos.com";
const OUR_POD: &str = "node1-pod1";
const THEIR_POD: &str = "kernel1-pod1";
/// A further address of the flannel node, on the same LAN.
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 102);
/// By which our node is known outside of a router that translates it one to one.
const OUTER_ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
/// Port of the connection that has to outlive all.
const HELD: u16 = 9090;
/// Time for a connection to go on: its ends have backed off meanwhile.
const RESUME_LIMIT: Duration = Duration::from_secs(30);

#[test]
fn a_node_with_flanneld_and_one_of_ours_understand_each_other() -> Result<()> {
    let config = LabConfig { nodes: 1, kernel_nodes: 1, pods_per_node: 1, ..LabConfig::default() };
    let Some(program) = control_plane::build("flannel")? else { return skipped() };
    let Some((lab, plane)) = cluster_with(config, manifests::bare_node_objects)? else { return Ok(()) };
    let flanneld = Flanneld::install(&plane, lab.node("kernel1")?, program)?;
    let (ours, theirs) = (lab.node("node1")?.plan.clone(), lab.node("kernel1")?.plan.clone());
    let mut mixed = Mixed { lab, plane, flanneld, ours, theirs };
    let mut findings = Findings::default();
    findings.check("each learns of the other", mixed.learnt());
    mixed.reach(&mut findings);
    findings.check("ClusterIP", mixed.cluster_ip());
    findings.check("public-ip-overwrite of flannel's", mixed.their_overwrite());
    findings.check("public-ip-overwrite of ours", mixed.our_overwrite());
    findings.check("changes under a connection", mixed.changes());
    findings.check("flannel's node goes and comes back", mixed.their_node_goes());
    findings.check("our node goes and comes back", mixed.our_node_goes());
    findings.check("flannel's rights", mixed.rights());
    let Mixed { lab, plane, .. } = mixed;
    drop(plane);
    findings.finish(lab)
}

/// `ours` is node1 of `lab`, `theirs` kernel1, where flanneld runs.
struct Mixed {
    lab: Lab,
    plane: ControlPlane,
    flanneld: Flanneld,
    ours: NodePlan,
    theirs: NodePlan,
}

impl Mixed {
    /// What each publishes is what it has, and the other has taken it.
    fn learnt(&self) -> Result<()> {
        for node in [&self.ours, &self.theirs] {
            eventually(&"vxlan".to_owned(), || self.annotation(node, "backend-type"))?;
            eventually(&"true".to_owned(), || self.annotation(node, "kube-subnet-manager"))?;
            eventually(&node.address.to_string(), || self.annotation(node, "public-ip"))?;
        }
        ensure!(self.vtep_mac(&self.theirs)? == self.flanneld.mac()?);
        let subnet = self.flanneld.subnet_file()?;
        for line in [format!("FLANNEL_SUBNET={}/24", self.theirs.gateway()), format!("FLANNEL_MTU={POD_MTU}")]
        {
            ensure!(subnet.contains(&line), "no {line} in {subnet}");
        }
        eventually(&vec![self.theirs.address], || self.peers())?;
        self.flanneld_has(self.ours.address)
    }

    /// Pods both ways, with packets of all lengths and under their own addresses; and nodes.
    fn reach(&self, findings: &mut Findings) {
        for (node, pod, far) in [(&self.ours, OUR_POD, THEIR_POD), (&self.theirs, THEIR_POD, OUR_POD)] {
            let own = self.lab.address(pod).unwrap_or(Ipv4Addr::UNSPECIFIED);
            findings.reach(&self.lab, pod, far, &[own]);
            findings.check(format!("{} to {far}", node.name), self.reaches(&node.name, far, true));
        }
    }

    /// Our pod uses a Service whose endpoint is on flannel's node, which sees who it is.
    fn cluster_ip(&self) -> Result<()> {
        let web = Service::new("web", 10, PORT, &[self.lab.address(THEIR_POD)?]);
        self.plane.apply(&manifests::service_objects(&web, &plans(&self.lab)))?;
        let _server = TcpServer::start(self.lab.space(THEIR_POD)?, PORT, THEIR_POD)?;
        let ours = self.lab.address(OUR_POD)?;
        eventually(&(THEIR_POD.to_owned(), ours.into()), || {
            let address = SocketAddrV4::new(web.cluster_ip, PORT);
            let (_, greeting) = stream::greet(self.lab.space(OUR_POD)?, address)?;
            Ok((greeting.server, greeting.client_seen.ip()))
        })
    }

    /// flanneld publishes it when it starts. Its device goes on to send from the node's first address.
    fn their_overwrite(&mut self) -> Result<()> {
        let own = self.theirs.address;
        let space = &self.lab.node("kernel1")?.machine.space;
        let elsewhere = format!("INPUT -i eth0 -d {own} -p udp --dport 8472 -j DROP");
        space.run(&format!("ip address add {OTHER_ADDRESS}/24 dev eth0"))?;
        space.run(&format!("iptables -w -A {elsewhere}"))?;
        self.annotate(&self.theirs, "public-ip-overwrite", Some(&OTHER_ADDRESS.to_string()))?;
        self.restart_flanneld("")?;
        eventually(&OTHER_ADDRESS.to_string(), || self.annotation(&self.theirs, "public-ip"))?;
        eventually(&vec![OTHER_ADDRESS], || self.peers())?;
        self.both_ways(true)?;
        self.lab.node("kernel1")?.machine.space.run(&format!("iptables -w -D {elsewhere}"))?;
        self.annotate(&self.theirs, "public-ip-overwrite", None)?;
        self.restart_flanneld("")?;
        eventually(&vec![own], || self.peers())?;
        self.both_ways(true)
    }

    /// Ours publishes it at once, and flanneld sends there: to a router that translates it, which the flannel node is itself.
    fn our_overwrite(&self) -> Result<()> {
        let space = &self.lab.node("kernel1")?.machine.space;
        let own = self.ours.address;
        let router = format!("OUTPUT -d {OUTER_ADDRESS} -j DNAT --to-destination {own}");
        space.run(&format!("iptables -w -t nat -A {router}"))?;
        self.annotate(&self.ours, "public-ip-overwrite", Some(&OUTER_ADDRESS.to_string()))?;
        self.flanneld_has(OUTER_ADDRESS)?;
        self.both_ways(true)?;
        self.annotate(&self.ours, "public-ip-overwrite", None)?;
        self.flanneld_has(own)?;
        space.run(&format!("iptables -w -t nat -D {router}"))?;
        self.both_ways(true)
    }

    /// A connection between the nodes' pods outlives whatever either node goes through.
    fn changes(&mut self) -> Result<()> {
        let _server = TcpServer::start(self.lab.space(THEIR_POD)?, HELD, THEIR_POD)?;
        let address = SocketAddrV4::new(self.lab.address(THEIR_POD)?, HELD);
        let hold = Hold::start(self.lab.space(OUR_POD)?, address)?;
        self.their_device_is_lost(&hold)?;
        self.their_mac_changes(&hold)?;
        self.our_daemons_restart(&hold)?;
        let report = hold.stop();
        ensure!(report.broken.is_none(), "the connection broke: {:?}", report.broken);
        Ok(())
    }

    /// flanneld takes its MAC address from its annotation when it has to make the device anew.
    fn their_device_is_lost(&mut self, hold: &Hold) -> Result<()> {
        let before = self.flanneld.mac()?;
        self.restart_flanneld(&format!("ip link delete {}", flanneld::DEVICE))?;
        ensure!(self.flanneld.mac()? == before, "{} instead of {before}", self.flanneld.mac()?);
        self.goes_on(hold)
    }

    /// Without the annotation, it makes a new one.
    fn their_mac_changes(&mut self, hold: &Hold) -> Result<()> {
        let before = self.flanneld.mac()?;
        self.annotate(&self.theirs, "backend-data", None)?;
        self.restart_flanneld(&format!("ip link delete {}", flanneld::DEVICE))?;
        ensure!(self.flanneld.mac()? != before, "it is {before} still");
        self.goes_on(hold)
    }

    fn our_daemons_restart(&mut self, hold: &Hold) -> Result<()> {
        let before = self.flanneld.remotes()?;
        for daemon in Daemon::ALL {
            self.lab.kill("node1", daemon)?;
        }
        for daemon in Daemon::ALL {
            self.lab.start("node1", daemon)?;
        }
        self.goes_on(hold)?;
        let after = self.flanneld.remotes()?;
        ensure!(after == before, "{after:?} instead of {before:?}");
        self.flanneld_has(self.ours.address)
    }

    /// flanneld publishes nothing on an object that is made anew, until it is started again.
    fn their_node_goes(&mut self) -> Result<()> {
        self.plane.kubectl(&["delete", "node", &self.theirs.name])?;
        eventually(&Vec::new(), || self.peers())?;
        self.both_ways(false)?;
        self.comes_back(&self.theirs)?;
        self.restart_flanneld("")?;
        eventually(&vec![self.theirs.address], || self.peers())?;
        self.both_ways(true)
    }

    fn our_node_goes(&self) -> Result<()> {
        let mac = self.vtep_mac(&self.ours)?;
        self.plane.kubectl(&["delete", "node", &self.ours.name])?;
        eventually(&Remotes::default(), || Ok(self.flanneld.remotes()?))?;
        self.comes_back(&self.ours)?;
        eventually(&mac, || self.vtep_mac(&self.ours))?;
        self.flanneld_has(self.ours.address)?;
        self.both_ways(true)
    }

    /// What its manifest grants was enough.
    fn rights(&self) -> Result<()> {
        let audit = self.plane.audit()?;
        let own: Vec<_> = audit.iter().filter(|r| r.user.username == flanneld::ACCOUNT).collect();
        let denied: Vec<_> =
            own.iter().filter(|r| r.response_status.is_some_and(|status| status.code == 403)).collect();
        ensure!(!own.is_empty() && denied.is_empty(), "of {} requests denied: {denied:?}", own.len());
        Ok(())
    }

    /// Node object as a kubelet registers it.
    fn comes_back(&self, node: &NodePlan) -> Result<()> {
        self.plane.apply(&manifests::bare_node_objects(std::slice::from_ref(node)))?;
        Ok(())
    }

    /// Ends flanneld, runs `meanwhile` on its node and starts it again.
    fn restart_flanneld(&mut self, meanwhile: &str) -> Result<()> {
        self.flanneld.stop()?;
        self.lab.node("kernel1")?.machine.space.script(meanwhile)?;
        self.flanneld.start()?;
        Ok(())
    }

    /// Waits until flanneld sends to our node at `end`, with the MAC address that it publishes.
    fn flanneld_has(&self, end: Ipv4Addr) -> Result<()> {
        let remotes = Remotes::of(&self.ours, &self.vtep_mac(&self.ours)?, end);
        eventually(&remotes, || Ok(self.flanneld.remotes()?))
    }

    /// Where our dataplane's tunnels end.
    fn peers(&self) -> Result<Vec<Ipv4Addr>> {
        let status = self.lab.dataplane("node1")?;
        let octets = status.peers.iter().filter_map(|peer| Some(&peer.address.as_ref()?.octets[..]));
        Ok(octets.map(|octets| <[u8; 4]>::try_from(octets).map(Into::into)).collect::<Result<_, _>>()?)
    }

    fn goes_on(&self, hold: &Hold) -> Result<()> {
        let before = hold.echoed();
        ensure!(wait_until(RESUME_LIMIT, || hold.echoed() > before + 20), "the connection does not go on");
        self.both_ways(true)
    }

    /// Waits until the pods of both nodes reach each other, or neither the other.
    fn both_ways(&self, wanted: bool) -> Result<()> {
        self.reaches(OUR_POD, THEIR_POD, wanted)?;
        self.reaches(THEIR_POD, OUR_POD, wanted)
    }

    fn reaches(&self, from: &str, to: &str, wanted: bool) -> Result<()> {
        let ping = Ping { count: 1, ..Ping::new(self.lab.address(to)?) };
        eventually(&wanted, || Ok(ping.run(self.lab.space(from)?)?.received == 1))
    }

    /// The MAC address that `node` publishes. flanneld reads its own by splitting the text at its quotes.
    fn vtep_mac(&self, node: &NodePlan) -> Result<String> {
        let data = self.annotation(node, "backend-data")?;
        let mac = data.strip_prefix(r#"{"VNI":1,"VtepMAC":""#).and_then(|rest| rest.strip_suffix("\"}"));
        mac.map(str::to_owned).ok_or_else(|| anyhow::anyhow!("backend-data of {}: {data:?}", node.name))
    }

    fn annotation(&self, node: &NodePlan, key: &str) -> Result<String> {
        let path = format!("jsonpath={{.metadata.annotations.{}/{key}}}", FLANNEL.replace('.', "\\."));
        Ok(self.plane.kubectl(&["get", "node", &node.name, "-o", &path])?)
    }

    fn annotate(&self, node: &NodePlan, key: &str, value: Option<&str>) -> Result<()> {
        let change = match value {
            Some(value) => format!("{FLANNEL}/{key}={value}"),
            None => format!("{FLANNEL}/{key}-"),
        };
        let told = self.plane.kubectl(&["annotate", "--overwrite", "node", &node.name, &change])?;
        ensure!(told.contains("annotated"), "{told}");
        Ok(())
    }
}

fn skipped() -> Result<()> {
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("Go is missing, and CI must not skip the test with flanneld");
    }
    eprintln!("SKIPPED: flanneld is built with Go, which is missing");
    Ok(())
}
