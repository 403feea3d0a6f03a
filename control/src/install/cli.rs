//! The agent's other tasks: `headrace-agent install-cni` and `headrace-agent uninstall-cni`.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{ArgAction, Args, Parser};

use super::{PLUGIN, conflist};
use crate::config::AgentConfig;
use crate::config::layers::{self, ConfigError};

/// What the process is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Task {
    /// Serve the node.
    Run(Box<AgentConfig>),
    /// Put plugin and configuration in place.
    Install(InstallArgs),
    /// Take them away.
    Uninstall(UninstallArgs),
}

const INSTALL_HELP: &str = "\
Both files appear by rename, so that a running runtime is not disturbed and containerd notices.
Every flag can also stand in the environment (--bin-dir: HEADRACE_BIN_DIR).

Examples:
  headrace-agent install-cni
  headrace-agent install-cni --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d";

/// Puts the CNI plugin and its network configuration in place
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "headrace-agent install-cni", bin_name = "headrace-agent install-cni", version, after_help = INSTALL_HELP)]
pub struct InstallArgs {
    /// The plugin to install [default: headrace-cni beside this program]
    #[arg(long, value_name = "FILE")]
    pub plugin: Option<PathBuf>,

    /// Directory of the runtime's plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,

    /// Directory of the runtime's network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,

    /// Name of the configuration's file; the runtime takes the first in the order of names
    #[arg(long, value_name = "NAME", default_value = conflist::FILE, value_parser = conf_name)]
    pub conf_name: String,

    /// The agent's --run-dir, as the runtime sees it
    #[arg(long, value_name = "DIR", default_value = "/run/headrace")]
    pub run_dir: PathBuf,
}

const UNINSTALL_HELP: &str = "\
Drain the node first: without the plugin, a runtime cannot delete the pods that have it.

Example:
  headrace-agent uninstall-cni --bin-dir /host/opt/cni/bin --conf-dir /host/etc/cni/net.d";

/// Removes what install-cni has put in place
#[derive(Clone, Debug, PartialEq, Eq, Parser)]
#[command(name = "headrace-agent uninstall-cni", bin_name = "headrace-agent uninstall-cni", version, after_help = UNINSTALL_HELP)]
pub struct UninstallArgs {
    /// Directory of the runtime's plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub bin_dir: PathBuf,

    /// Directory of the runtime's network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub conf_dir: PathBuf,

    /// Name of the configuration's file
    #[arg(long, value_name = "NAME", default_value = conflist::FILE, value_parser = conf_name)]
    pub conf_name: String,

    /// Stay until told to end, as the DaemonSet that uninstalls does
    #[arg(long)]
    pub wait: bool,
}

/// Flags of the agent that installs by itself.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct CniArgs {
    /// Whether to put plugin and CNI configuration in place, once the dataplane has this node's state
    #[arg(long, value_name = "BOOL", default_value = "false", action = ArgAction::Set)]
    pub install_cni: bool,

    /// Directory of the runtime's plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    pub cni_bin_dir: PathBuf,

    /// Directory of the runtime's network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    pub cni_conf_dir: PathBuf,
}

impl CniArgs {
    /// What is to be installed, if anything.
    pub fn wanted(&self, run_dir: &Path) -> Option<InstallArgs> {
        self.install_cni.then(|| InstallArgs {
            plugin: None,
            bin_dir: self.cni_bin_dir.clone(),
            conf_dir: self.cni_conf_dir.clone(),
            conf_name: conflist::FILE.to_owned(),
            run_dir: run_dir.to_owned(),
        })
    }
}

impl Task {
    /// What the arguments (program name first) ask for.
    ///
    /// # Errors
    /// [`ConfigError`], also when help was asked for.
    pub fn read(
        args: impl IntoIterator<Item = OsString>,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, ConfigError> {
        let mut args: Vec<_> = args.into_iter().collect();
        match args.get(1).and_then(|word| word.to_str()) {
            Some("install-cni") => {
                args.remove(1);
                layers::parse(args, environment).map(Self::Install)
            }
            Some("uninstall-cni") => {
                args.remove(1);
                layers::parse(args, environment).map(Self::Uninstall)
            }
            _ => AgentConfig::parse_from_layers(args, environment).map(|config| Self::Run(Box::new(config))),
        }
    }
}

impl InstallArgs {
    /// The plugin to install.
    pub(super) fn plugin_file(&self) -> PathBuf {
        let beside = || std::env::current_exe().ok().map(|agent| agent.with_file_name(PLUGIN));
        self.plugin.clone().or_else(beside).unwrap_or_else(|| PLUGIN.into())
    }
}

fn conf_name(text: &str) -> Result<String, String> {
    let fits = !text.contains('/') && !text.starts_with('.') && text.ends_with(".conflist");
    if fits { Ok(text.to_owned()) } else { Err(format!("is no name such as {}", conflist::FILE)) }
}
