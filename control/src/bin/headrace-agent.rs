//! `headrace-agent`: reads its configuration and runs [`headrace_control::agent`].

use headrace_control::config::AgentConfig;
use headrace_control::{agent, log};

fn main() -> anyhow::Result<()> {
    let config = AgentConfig::of_process().unwrap_or_else(|e| e.exit());
    log::start(config.log, config.log_level);
    // Two threads: one may wait for the file system while the other answers the CNI plugin.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(agent::run(config))
}
