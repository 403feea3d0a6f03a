//! A node that runs flannel beside one of ours, known by its Node object in a real API server: it changes its MAC address, moves
//! to another address, goes and comes back. What flanneld would do on its own node, the test does.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use headrace_lab::control_plane::ControlPlane;
use headrace_lab::traffic::Ping;
use headrace_lab::{Lab, LabConfig, kernel_node, manifests};

use crate::findings::Findings;
use crate::kubernetes::{cluster_of, eventually, plans};

const FLANNEL: &str = "flannel.alpha.coreos.com";
const OTHER_MAC: &str = "02:bb:00:00:00:02";
/// Another address of the flannel node, on the same LAN.
const OTHER_ADDRESS: Ipv4Addr = Ipv4Addr::new(172, 30, 0, 102);

#[test]
fn a_flannel_node_changes_goes_and_comes_back() -> Result<()> {
    let config = LabConfig { nodes: 1, kernel_nodes: 1, pods_per_node: 1, ..LabConfig::default() };
    let Some((lab, plane)) = cluster_of(config)? else { return Ok(()) };
    let mut findings = Findings::default();
    let mixed = Mixed { lab: &lab, plane: &plane };
    let own = mixed.lab.node("kernel1")?.plan.clone();
    findings.check("at first", mixed.both_ways(true));
    findings.check("another MAC address", mixed.moves(OTHER_MAC, own.address, "public-ip"));
    mixed.flannel(&format!("ip address add {OTHER_ADDRESS}/24 dev eth0"))?;
    findings.check("public-ip-overwrite", mixed.moves(OTHER_MAC, OTHER_ADDRESS, "public-ip-overwrite"));
    mixed.annotate("kernel1", "public-ip-overwrite", None)?;
    findings.check("another address", mixed.moves(&own.vtep_mac(), own.address, "public-ip"));
    findings.check("our own public-ip-overwrite", mixed.own_overwrite());
    plane.kubectl(&["delete", "node", "kernel1"])?;
    findings.check("gone", mixed.both_ways(false));
    plane.apply(&manifests::node_objects(&plans(&lab)))?;
    findings.check("back", mixed.both_ways(true));
    drop(plane);
    findings.finish(lab)
}

/// node1 is ours, kernel1 flannel's.
struct Mixed<'a> {
    lab: &'a Lab,
    plane: &'a ControlPlane,
}

impl Mixed<'_> {
    /// The flannel node's tunnel ends elsewhere from now on, and its Node object says so.
    fn moves(&self, mac: &str, end: Ipv4Addr, key: &str) -> Result<()> {
        let node = self.lab.node("kernel1")?;
        kernel_node::move_tunnel(&node.machine, &node.plan, &plans(self.lab), mac, end)?;
        let data = format!(r#"{{"VNI":1,"VtepMAC":"{mac}"}}"#);
        self.annotate("kernel1", "backend-data", Some(&data))?;
        self.annotate("kernel1", key, Some(&end.to_string()))?;
        self.both_ways(true)
    }

    /// What our node's operator says is published in place of what the node has found, as long as it is said.
    fn own_overwrite(&self) -> Result<()> {
        let own = self.lab.node("node1")?.plan.address.to_string();
        for (overwrite, published) in [(Some("203.0.113.9"), "203.0.113.9"), (None, own.as_str())] {
            self.annotate("node1", "public-ip-overwrite", overwrite)?;
            let path =
                format!("jsonpath={{.metadata.annotations.{}/public-ip}}", FLANNEL.replace('.', "\\."));
            eventually(&published.to_owned(), || {
                Ok(self.plane.kubectl(&["get", "node", "node1", "-o", &path])?)
            })?;
        }
        Ok(())
    }

    /// Waits until the pods of both nodes reach each other, or neither the other.
    fn both_ways(&self, wanted: bool) -> Result<()> {
        for (from, to) in [("node1-pod1", "kernel1-pod1"), ("kernel1-pod1", "node1-pod1")] {
            let ping = Ping { count: 1, ..Ping::new(self.lab.address(to)?) };
            eventually(&wanted, || Ok(ping.run(self.lab.space(from)?)?.received == 1))?;
        }
        Ok(())
    }

    fn annotate(&self, node: &str, key: &str, value: Option<&str>) -> Result<()> {
        let change = match value {
            Some(value) => format!("{FLANNEL}/{key}={value}"),
            None => format!("{FLANNEL}/{key}-"),
        };
        let told = self.plane.kubectl(&["annotate", "--overwrite", "node", node, &change])?;
        ensure!(told.contains("annotated"), "{told}");
        Ok(())
    }

    fn flannel(&self, command: &str) -> Result<()> {
        self.lab.space("kernel1")?.run(command)?;
        Ok(())
    }
}
