//! The agent's configuration.
//!
//! Flags stand in [`AgentConfig`]; [`layers`] adds the environment and the file.

pub mod layers;

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU16;
use std::ops::RangeInclusive;
use std::path::PathBuf;

use clap::error::ErrorKind;
use clap::{ArgAction, CommandFactory, Parser, ValueEnum};
use headrace_api::state::Encapsulation;
use headrace_wire::vxlan::Vni;
use ipnetwork::IpNetwork;

use self::layers::ConfigError;
use crate::desired::{ClusterConfig, LocalDetector, NodePortAddresses};
use crate::http::config::HttpArgs;
use crate::install::CniArgs;
use crate::log::{Format, Level};
use crate::seam::Directories;
use crate::source::kubernetes::Access;

const AFTER_HELP: &str = "\
Every flag can also stand in the environment (--run-dir: HEADRACE_RUN_DIR; lists with commas)
and in a TOML file (run-dir = \"/run/headrace\"; lists as arrays).
A flag goes before the environment, the environment before the file.

Examples:
  headrace-agent --node-name node-a --manifests /etc/headrace/manifests
  headrace-agent --config /etc/headrace/agent.toml --log json
  headrace-agent --node-name node-a --kubeconfig /etc/headrace/kubeconfig --api-server https://10.0.0.1:6443
  headrace-agent install-cni      put the CNI plugin and its configuration in place; see --help behind it
  headrace-agent uninstall-cni    take them away
  HEADRACE_NODE_NAME=node-a headrace-agent --manifests ./cluster --cluster-cidr 10.42.0.0/16";

/// Feeds the Headrace dataplane of this node from Kubernetes objects and serves its CNI plugin.
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "headrace-agent", version, after_help = AFTER_HELP)]
pub struct AgentConfig {
    /// TOML file with any of these flags as keys, without the dashes
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,

    /// Directory of the sockets; the dataplane of this node has the same
    #[arg(long, value_name = "DIR", default_value = "/run/headrace")]
    pub run_dir: PathBuf,

    /// Directory of what must outlive a restart: attachments, port ids, the VTEP MAC address [default: the run directory]
    #[arg(long, value_name = "DIR")]
    pub state_dir: Option<PathBuf>,

    /// Name of this node's Node object
    #[arg(long, value_name = "NAME", value_parser = clap::builder::NonEmptyStringValueParser::new())]
    pub node_name: String,

    /// Directory of Kubernetes YAML to follow in place of a cluster: Node, Service, EndpointSlice
    #[arg(long, value_name = "DIR")]
    pub manifests: Option<PathBuf>,

    /// Follow the cluster of this kubeconfig [default: the one of the pod, by its service account]
    #[arg(long, value_name = "FILE")]
    pub kubeconfig: Option<PathBuf>,

    /// The API server, in place of the kubeconfig's or the pod's; the agent itself provides the Service `kubernetes`
    #[arg(long, value_name = "URL", value_parser = url)]
    pub api_server: Option<String>,

    /// Range of all pods of the cluster, never masqueraded; may be repeated
    #[arg(long, value_name = "CIDR", default_value = "10.244.0.0/16", value_parser = cidr)]
    pub cluster_cidr: Vec<IpNetwork>,

    /// Range of all Service addresses; may be repeated
    #[arg(long, value_name = "CIDR", default_value = "10.96.0.0/16", value_parser = cidr)]
    pub service_cidr: Vec<IpNetwork>,

    /// UDP port of the VXLAN tunnel, the same on all nodes
    #[arg(long, value_name = "PORT", default_value = "8472")]
    pub vxlan_port: NonZeroU16,

    /// VXLAN network identifier, the same on all nodes
    #[arg(long, value_name = "VNI", default_value = "1", value_parser = vni)]
    pub vni: Vni,

    /// vxlan: a tunnel to every node; direct: none to nodes on a subnet of the uplink
    #[arg(long, value_enum, default_value = "vxlan")]
    pub encapsulation: EncapsulationFlag,

    /// Whether pod traffic that leaves the cluster carries the node's address
    #[arg(long, value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    pub masquerade: bool,

    /// Range outside the cluster that sees pod addresses all the same; may be repeated
    #[arg(long, value_name = "CIDR", value_parser = cidr)]
    pub non_masquerade_cidr: Vec<IpNetwork>,

    /// Which addresses of the node answer NodePorts and health checks of load balancers: primary, or ranges; may be repeated
    #[arg(long, value_name = "primary|CIDR", default_value = "primary", value_parser = node_port_address)]
    pub nodeport_addresses: Vec<NodePortAddress>,

    /// Whether NodePorts answer on 127.0.0.0/8 too, to processes of the node
    #[arg(long, value_name = "BOOL", default_value = "false", action = ArgAction::Set)]
    pub localhost_nodeports: bool,

    /// Whether everything that goes to a clusterIP carries the node's address
    #[arg(long, value_name = "BOOL", default_value = "false", action = ArgAction::Set)]
    pub masquerade_all: bool,

    /// Whose traffic to Services counts as that of pods here: every pod's of the cluster, those of this node's podCIDR, or nobody's
    #[arg(long, value_name = "MODE", value_enum, default_value = "cluster-cidr")]
    pub detect_local_mode: DetectLocalFlag,

    /// Where /healthz and /livez are served: an address and port, or off
    #[arg(long, value_name = "ADDRESS:PORT|off", default_value = "0.0.0.0:10256", value_parser = bind_address)]
    pub healthz_bind_address: BindAddress,

    /// Whether the healthCheckNodePorts of Services are served
    #[arg(long, value_name = "BOOL", default_value = "true", action = ArgAction::Set)]
    pub health_check_node_ports: bool,

    // RFC 6335, 6: ports no service is ever assigned. The kernel keeps the lower half of its own range, 32768 to 49151.
    /// Source ports of translated traffic; reserved from the kernel, so keep listeners out of it
    #[arg(long, value_name = "FIRST-LAST", default_value = "49152-65535", value_parser = port_range)]
    pub snat_ports: PortRange,

    /// Installation of the CNI plugin
    #[command(flatten)]
    pub cni: CniArgs,

    /// Dashboard and metrics
    #[command(flatten)]
    pub http: HttpArgs,

    /// Form of the log on standard error
    #[arg(long, value_enum, default_value = "human")]
    pub log: Format,

    /// How much the log tells
    #[arg(long, value_enum, default_value = "info")]
    pub log_level: Level,
}

/// Ports, first and last inclusive.
pub type PortRange = RangeInclusive<u16>;

/// Where Kubernetes objects come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// A directory of YAML.
    Manifests(PathBuf),
    /// An API server.
    Kubernetes(Access),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Manifests(directory) => write!(f, "{}", directory.display()),
            Self::Kubernetes(Access { api_server: Some(url), .. }) => write!(f, "the API server {url}"),
            Self::Kubernetes(Access { kubeconfig: Some(file), .. }) => {
                write!(f, "the API server of {}", file.display())
            }
            Self::Kubernetes(_) => f.write_str("the cluster's API server"),
        }
    }
}

/// [`Encapsulation`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum EncapsulationFlag {
    /// A tunnel to every node.
    Vxlan,
    /// No tunnel on one subnet.
    Direct,
}

/// Where to listen, if at all.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BindAddress(pub Option<SocketAddr>);

/// [`LocalDetector`] by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum DetectLocalFlag {
    /// Sources in the cluster's pod ranges.
    ClusterCidr,
    /// Sources in this node's pod ranges.
    NodeCidr,
    /// None.
    Off,
}

/// One value of `--nodeport-addresses`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NodePortAddress {
    /// The node's primary address.
    Primary,
    /// The node's addresses in a range.
    Range(IpNetwork),
}

impl AgentConfig {
    /// The configuration that arguments (program name first), environment and file give.
    ///
    /// # Errors
    /// [`ConfigError`], also when help was asked for.
    pub fn parse_from_layers(
        args: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let config: Self = layers::parse(args, environment)?;
        for (flag, given) in
            [("--kubeconfig", config.kubeconfig.is_some()), ("--api-server", config.api_server.is_some())]
        {
            if given && config.manifests.is_some() {
                let what =
                    format!("{flag} and --manifests exclude each other; choose a cluster or a directory");
                return Err(Self::command().error(ErrorKind::ArgumentConflict, what).into());
            }
        }
        Ok(config)
    }

    /// Where objects come from.
    pub fn source(&self) -> Source {
        match &self.manifests {
            Some(directory) => Source::Manifests(directory.clone()),
            None => {
                let (kubeconfig, api_server) = (self.kubeconfig.clone(), self.api_server.clone());
                Source::Kubernetes(Access { kubeconfig, api_server })
            }
        }
    }

    /// Where the agent keeps its files.
    pub fn directories(&self) -> Directories {
        Directories {
            run: self.run_dir.clone(),
            state: self.state_dir.clone().unwrap_or_else(|| self.run_dir.clone()),
        }
    }

    /// What is the same on all nodes.
    pub fn cluster(&self) -> ClusterConfig {
        ClusterConfig {
            cluster_cidrs: self.cluster_cidr.clone(),
            service_cidrs: self.service_cidr.clone(),
            vxlan_port: self.vxlan_port,
            vni: self.vni,
            encapsulation: match self.encapsulation {
                EncapsulationFlag::Vxlan => Encapsulation::Vxlan,
                EncapsulationFlag::Direct => Encapsulation::Direct,
            },
            masquerade: self.masquerade,
            non_masquerade_cidrs: self.non_masquerade_cidr.clone(),
            snat_ports: self.snat_ports.clone(),
            node_port_addresses: self.node_port_addresses(),
            node_port_loopback: self.localhost_nodeports,
            masquerade_all: self.masquerade_all,
            local_detector: match self.detect_local_mode {
                DetectLocalFlag::ClusterCidr => LocalDetector::ClusterCidr,
                DetectLocalFlag::NodeCidr => LocalDetector::NodeCidr,
                DetectLocalFlag::Off => LocalDetector::Nobody,
            },
        }
    }

    /// `primary` beside ranges adds nothing that a range could not say, so ranges count alone.
    fn node_port_addresses(&self) -> NodePortAddresses {
        let range = |address: &NodePortAddress| match address {
            NodePortAddress::Primary => None,
            NodePortAddress::Range(range) => Some(*range),
        };
        let ranges: Vec<IpNetwork> = self.nodeport_addresses.iter().filter_map(range).collect();
        if ranges.is_empty() { NodePortAddresses::Primary } else { NodePortAddresses::Ranges(ranges) }
    }
}

fn cidr(text: &str) -> Result<IpNetwork, String> {
    let wrong = || format!("{text:?} is no range of addresses; write it like 10.244.0.0/16");
    let network: IpNetwork = text.parse().map_err(|_| wrong())?;
    if !text.contains('/') {
        return Err(wrong());
    }
    if network.ip() != network.network() {
        return Err(format!("has bits behind its length; write {}/{}", network.network(), network.prefix()));
    }
    Ok(network)
}

fn bind_address(text: &str) -> Result<BindAddress, String> {
    if text == "off" {
        return Ok(BindAddress(None));
    }
    let address =
        text.parse().map_err(|_| "is no address with a port; write it like 0.0.0.0:10256, or off")?;
    Ok(BindAddress(Some(address)))
}

fn node_port_address(text: &str) -> Result<NodePortAddress, String> {
    if text == "primary" {
        return Ok(NodePortAddress::Primary);
    }
    cidr(text).map(NodePortAddress::Range).map_err(|what| format!("{what}; or write primary"))
}

fn vni(text: &str) -> Result<Vni, String> {
    let number = text.parse().ok().and_then(Vni::new);
    number.ok_or_else(|| "is no VXLAN network identifier; use 0 to 16777215".into())
}

fn url(text: &str) -> Result<String, String> {
    let host = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    match host {
        Some(host) if !host.is_empty() => Ok(text.into()),
        _ => Err("is no URL; write it like https://10.0.0.1:6443".into()),
    }
}

fn port_range(text: &str) -> Result<PortRange, String> {
    let range = text.split_once('-').and_then(|(first, last)| Some(first.parse().ok()?..=last.parse().ok()?));
    range
        .filter(|r: &PortRange| *r.start() >= 1024 && !r.is_empty())
        .ok_or_else(|| "is no range of ports above 1023; write it like 49152-65535".into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(args: &[&str]) -> Result<AgentConfig, ConfigError> {
        let args =
            ["headrace-agent", "--node-name=a", "--manifests=/m"].iter().chain(args).map(OsString::from);
        AgentConfig::parse_from_layers(args, |_| None)
    }

    #[test]
    fn defaults_are_those_of_a_flannel_cluster() {
        let config = parse(&[]).unwrap();
        let cluster = config.cluster();
        assert_eq!(cluster.cluster_cidrs, ["10.244.0.0/16".parse::<IpNetwork>().unwrap()]);
        assert_eq!((cluster.vxlan_port.get(), cluster.vni.get()), (8472, 1));
        assert_eq!(cluster.encapsulation, Encapsulation::Vxlan);
        assert!(cluster.masquerade);
        assert_eq!(config.directories().state, config.directories().run);
    }

    #[test]
    fn lists_are_repeated_flags_and_replace_the_default() {
        let config = parse(&["--cluster-cidr=10.1.0.0/16", "--cluster-cidr=fd00::/48"]).unwrap();
        assert_eq!(config.cluster_cidr.len(), 2);
        assert_eq!(config.cluster_cidr[0].to_string(), "10.1.0.0/16");
    }

    #[test]
    fn wrong_values_are_told_with_the_flag_the_value_and_the_remedy() {
        let cases = [
            ("--cluster-cidr=10.1.0.0", "10.244.0.0/16"),
            ("--cluster-cidr=10.1.2.3/16", "10.1.0.0/16"),
            ("--vni=16777216", "16777215"),
            ("--vxlan-port=0", "vxlan-port"),
            ("--snat-ports=60000-50000", "49152-65535"),
            ("--snat-ports=80-90", "above 1023"),
            ("--healthz-bind-address=10256", "0.0.0.0:10256, or off"),
            ("--nodeport-addresses=all", "primary"),
            ("--detect-local-mode=bridge", "cluster-cidr, node-cidr, off"),
            ("--encapsulation=ipip", "vxlan, direct"),
            ("--masquerade=maybe", "true, false"),
            ("--api-server=10.0.0.1:6443", "https://10.0.0.1:6443"),
        ];
        for (flag, remedy) in cases {
            let error = parse(&[flag]).unwrap_err().to_string();
            let (name, value) = flag.split_once('=').unwrap();
            for word in [name, value, remedy] {
                assert!(error.contains(word), "{word:?} is missing in {error:?}");
            }
        }
    }

    #[test]
    fn objects_come_from_a_directory_or_from_a_cluster_but_not_from_both() {
        let parse = |args: &[&str]| {
            let args = ["headrace-agent", "--node-name=a"].iter().chain(args).map(OsString::from);
            AgentConfig::parse_from_layers(args, |_| None).map(|config| config.source())
        };
        assert_eq!(parse(&["--manifests=/m"]).unwrap(), Source::Manifests("/m".into()));
        let in_pod = Access { kubeconfig: None, api_server: None };
        assert_eq!(parse(&[]).unwrap(), Source::Kubernetes(in_pod.clone()));
        let by_file = Access { kubeconfig: Some("/k".into()), ..in_pod };
        assert_eq!(parse(&["--kubeconfig=/k"]).unwrap(), Source::Kubernetes(by_file));
        let error = parse(&["--kubeconfig=/k", "--manifests=/m"]).unwrap_err().to_string();
        assert!(error.contains("--kubeconfig and --manifests exclude each other"), "{error}");
    }

    #[test]
    fn every_default_passes_its_own_check_from_a_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("agent.toml");
        let text = "run-dir = '/r'\nnode-name = 'n'\nmanifests = '/m'\nvni = 1\nmasquerade = false\n\
                    cluster-cidr = ['10.244.0.0/16']\nsnat-ports = '49152-65535'\nlog = 'json'";
        std::fs::write(&path, text).unwrap();
        let args = ["headrace-agent".into(), "--config".into(), path.into_os_string()];
        let config = AgentConfig::parse_from_layers(args, |_| None).unwrap();
        assert_eq!((config.run_dir.to_str(), config.masquerade), (Some("/r"), false));
    }
}
