//! The Kubernetes objects of a lab, as the YAML that every agent of it reads.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use crate::plan::NodePlan;
use crate::state::write_whole;
use crate::{LabError, Service};

/// Writes the Node objects, one document each, to `folder`/nodes.yaml.
///
/// # Errors
/// [`LabError::Io`].
pub fn write_nodes(folder: &Path, nodes: &[NodePlan]) -> Result<(), LabError> {
    write_whole(&folder.join("nodes.yaml"), &node_objects(nodes))
}

/// The Node objects as YAML, one document each.
#[must_use]
pub fn node_objects(nodes: &[NodePlan]) -> String {
    let documents: Vec<String> = nodes.iter().map(|plan| node(plan, &annotations(plan))).collect();
    documents.join("---\n")
}

/// The same as kubelets leave them: nobody has said yet how a node is reached.
#[must_use]
pub fn bare_node_objects(nodes: &[NodePlan]) -> String {
    let documents: Vec<String> = nodes.iter().map(|plan| node(plan, "")).collect();
    documents.join("---\n")
}

/// Writes a Service and its EndpointSlice to `folder`/service-NAME.yaml. `nodes` tell where its endpoints are.
///
/// # Errors
/// [`LabError::Io`].
pub fn write_service(folder: &Path, wanted: &Service, nodes: &[NodePlan]) -> Result<(), LabError> {
    write_whole(&folder.join(service_file(&wanted.name)), &service_objects(wanted, nodes))
}

/// A Service and its EndpointSlice as YAML.
#[must_use]
pub fn service_objects(wanted: &Service, nodes: &[NodePlan]) -> String {
    format!("{}---\n{}", service(wanted), endpoint_slice(wanted, nodes))
}

/// Removes what [`write_service`] wrote.
///
/// # Errors
/// [`LabError::Io`].
pub fn remove_service(folder: &Path, name: &str) -> Result<(), LabError> {
    let path = folder.join(service_file(name));
    fs::remove_file(&path).map_err(LabError::io(format!("remove {}", path.display())))
}

fn service_file(name: &str) -> String {
    format!("service-{name}.yaml")
}

/// flannel reads its own MAC address back by splitting the string: this order of keys, no blanks.
fn annotations(node: &NodePlan) -> String {
    format!(
        r#"  annotations:
    flannel.alpha.coreos.com/backend-type: vxlan
    flannel.alpha.coreos.com/backend-data: '{{"VNI":1,"VtepMAC":"{mac}"}}'
    flannel.alpha.coreos.com/public-ip: {address}
    flannel.alpha.coreos.com/kube-subnet-manager: "true"
"#,
        mac = node.vtep_mac(),
        address = node.address,
    )
}

fn node(node: &NodePlan, annotations: &str) -> String {
    format!(
        r#"apiVersion: v1
kind: Node
metadata:
  name: {name}
{annotations}spec:
  podCIDR: {cidr}
  podCIDRs: ["{cidr}"]
status:
  addresses:
  - type: InternalIP
    address: {address}
  - type: Hostname
    address: {name}
"#,
        name = node.name,
        address = node.address,
        cidr = node.pod_cidr(),
    )
}

fn service(service: &Service) -> String {
    let kind = match (service.load_balancer, service.node_port) {
        (Some(_), _) => "LoadBalancer",
        (None, Some(_)) => "NodePort",
        (None, None) => "ClusterIP",
    };
    let node_port = service.node_port.map(|port| format!(", nodePort: {port}")).unwrap_or_default();
    let mut text = format!(
        r#"apiVersion: v1
kind: Service
metadata:
  name: {name}
  namespace: default
spec:
  type: {kind}
  clusterIP: {ip}
  clusterIPs: ["{ip}"]
  ports:
  - {{name: tcp, protocol: TCP, port: {port}, targetPort: {target}{node_port}}}
  - {{name: udp, protocol: UDP, port: {port}, targetPort: {target}{node_port}}}
  internalTrafficPolicy: {internal:?}
  externalIPs: {external_ips:?}
  loadBalancerSourceRanges: {ranges:?}
"#,
        name = service.name,
        ip = service.cluster_ip,
        port = service.port,
        target = service.target_port,
        internal = service.internal_policy,
        external_ips = service.external_ips.iter().map(ToString::to_string).collect::<Vec<_>>(),
        ranges = service.source_ranges,
    );
    if kind != "ClusterIP" || !service.external_ips.is_empty() {
        text += &format!("  externalTrafficPolicy: {:?}\n", service.external_policy);
    }
    if let Some(port) = service.health_check_port() {
        text += &format!("  healthCheckNodePort: {port}\n");
    }
    if let Some(seconds) = service.affinity {
        text += "  sessionAffinity: ClientIP\n";
        text += &format!("  sessionAffinityConfig: {{clientIP: {{timeoutSeconds: {seconds}}}}}\n");
    }
    if let Some(address) = service.load_balancer {
        text += &format!("status:\n  loadBalancer:\n    ingress:\n    - {{ip: {address}, ipMode: VIP}}\n");
    }
    text
}

fn endpoint_slice(service: &Service, nodes: &[NodePlan]) -> String {
    let mut text = format!(
        r#"apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: {name}-1
  namespace: default
  labels:
    kubernetes.io/service-name: {name}
addressType: IPv4
ports:
- {{name: tcp, protocol: TCP, port: {target}}}
- {{name: udp, protocol: UDP, port: {target}}}
endpoints:"#,
        name = service.name,
        target = service.target_port,
    );
    if service.endpoints.is_empty() {
        text += " []\n";
        return text;
    }
    text += "\n";
    for endpoint in &service.endpoints {
        let node = nodes.iter().find(|node| node.holds(*endpoint));
        let node = node.map(|node| format!("\n  nodeName: {}", node.name)).unwrap_or_default();
        // Writing to a string cannot fail.
        let _ = writeln!(text, "- addresses: [\"{endpoint}\"]\n  conditions: {{ready: true}}{node}");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{LabConfig, plan};

    #[test]
    fn endpoints_name_the_node_that_holds_them() {
        let nodes = plan::nodes(&LabConfig::default());
        let web =
            Service::new("web", 10, 80, &["10.244.2.5".parse().unwrap(), "172.30.0.1".parse().unwrap()]);
        let slice = endpoint_slice(&web, &nodes);
        assert!(
            slice.contains("- addresses: [\"10.244.2.5\"]\n  conditions: {ready: true}\n  nodeName: node2\n"),
            "{slice}"
        );
        assert!(slice.contains("nodeName: node1\n"), "{slice}");
        assert!(endpoint_slice(&web.with_endpoints(&[]), &nodes).ends_with("endpoints: []\n"));
    }

    #[test]
    fn files_are_replaced_in_one_step_and_removed() {
        let folder = std::env::temp_dir().join(format!("manifests-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let nodes = plan::nodes(&LabConfig::default());
        write_nodes(&folder, &nodes).unwrap();
        write_service(&folder, &Service::new("web", 10, 80, &[]), &nodes).unwrap();
        let names = || {
            let mut names: Vec<_> =
                fs::read_dir(&folder).unwrap().map(|entry| entry.unwrap().file_name()).collect();
            names.sort();
            names
        };
        assert_eq!(names(), ["nodes.yaml", "service-web.yaml"]);
        remove_service(&folder, "web").unwrap();
        assert_eq!(names(), ["nodes.yaml"]);
        fs::remove_dir_all(&folder).unwrap();
    }
}
