//! Ctrl-C while a lab is being made or used: the lab goes too.

use std::process::exit;
use std::thread;

use tokio::signal::unix::{SignalKind, signal};

use crate::Lab;

/// Exit code of a program that was interrupted: 128 and the signal's number.
const INTERRUPTED: i32 = 130;

/// From now on, SIGINT and SIGTERM remove the lab `name` and end this process.
pub fn remove_when_interrupted(name: &str) {
    let name = name.to_owned();
    thread::spawn(move || {
        if let Err(error) = wait() {
            eprintln!("an interruption will leave lab {name} behind: {error}");
            return;
        }
        match Lab::remove(&name) {
            Ok(_) => eprintln!("interrupted: lab {name} is removed"),
            Err(error) => eprintln!("interrupted: {error}"),
        }
        exit(INTERRUPTED);
    });
}

fn wait() -> std::io::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut interrupt = signal(SignalKind::interrupt())?;
        let mut terminate = signal(SignalKind::terminate())?;
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
        Ok(())
    })
}
