//! The binary a container runtime starts. All of it is in the library; see `headrace_cni::plugin`.

use std::process::ExitCode;

use headrace_cni::{Environment, plugin};

fn main() -> ExitCode {
    let environment = Environment::from_process();
    ExitCode::from(plugin::run(
        &environment,
        &mut std::io::stdin().lock(),
        &mut std::io::stdout().lock(),
        &mut std::io::stderr().lock(),
    ))
}
