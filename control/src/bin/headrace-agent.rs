//! `headrace-agent`: reads what it is to do and does it: [`headrace_control::agent`] or [`headrace_control::install`].

use headrace_control::config::AgentConfig;
use headrace_control::install::{Task, install, uninstall};
use headrace_control::{agent, log};

fn main() -> anyhow::Result<()> {
    match Task::read(std::env::args_os(), |name| std::env::var_os(name)).unwrap_or_else(|e| e.exit()) {
        Task::Run(config) => run(*config),
        Task::Install(args) => tell(&install(&args)?),
        Task::Uninstall(args) => {
            tell(&uninstall(&args)?)?;
            if args.wait {
                wait_for_a_signal();
            }
            Ok(())
        }
    }
}

fn run(config: AgentConfig) -> anyhow::Result<()> {
    log::start(config.log, config.log_level);
    // Two threads: one may wait for the file system while the other answers the CNI plugin.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(agent::run(config))
}

fn wait_for_a_signal() -> ! {
    loop {
        std::thread::park();
    }
}

fn tell(report: &[String]) -> anyhow::Result<()> {
    report.iter().for_each(|line| println!("{line}"));
    Ok(())
}
