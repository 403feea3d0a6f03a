//! `headracectl preflight`: its flags.

use std::path::PathBuf;

use clap::Args;

use super::Options;

/// Flags of `headracectl preflight`.
#[derive(Args, Clone, Debug)]
pub struct PreflightArgs {
    /// NIC that carries pods' packets [default: that of the default route]
    #[arg(long, value_name = "LINK")]
    uplink: Option<String>,

    /// Workers that the dataplane shall have
    #[arg(long, value_name = "NUMBER", default_value = "1")]
    workers: u32,

    /// Directory of the runtime's plugins
    #[arg(long, value_name = "DIR", default_value = "/opt/cni/bin")]
    bin_dir: PathBuf,

    /// Directory of the runtime's network configurations
    #[arg(long, value_name = "DIR", default_value = "/etc/cni/net.d")]
    conf_dir: PathBuf,

    /// Print JSON
    #[arg(long)]
    pub json: bool,
}

impl PreflightArgs {
    /// What to look at.
    pub fn options(&self) -> Options {
        Options {
            root: "/".into(),
            uplink: self.uplink.clone(),
            workers: self.workers,
            bin_dir: self.bin_dir.clone(),
            conf_dir: self.conf_dir.clone(),
        }
    }
}
