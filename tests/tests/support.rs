//! What the lab tests share.

use std::io;
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::{Result, bail};
use headrace_lab::daemon::Daemon;
use headrace_lab::{Lab, LabConfig, LabError};

/// A way to end a daemon: [`Lab::stop`] or [`Lab::kill`].
pub(crate) type End = fn(&mut Lab, &str, Daemon) -> Result<(), LabError>;

/// The same lab with AF_XDP for everything, where the default is what is fastest on veths.
pub(crate) fn over_af_xdp(config: LabConfig) -> LabConfig {
    LabConfig { dataplane_args: vec!["--driver=af_xdp".into()], ..config }
}

/// Makes a lab with a name of its own, `None` where this machine cannot: loudly, and in CI with an error.
pub(crate) fn lab(config: LabConfig) -> Result<Option<Lab>> {
    let Some(name) = lab_name()? else { return Ok(None) };
    Ok(Some(Lab::up(&LabConfig { name, ..config }, &mut |_| {})?))
}

/// A name for a lab that no other test has; `None` as for [`lab`].
pub(crate) fn lab_name() -> Result<Option<String>> {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    if rustix::process::geteuid().is_root() {
        return Ok(Some(format!("t{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed))));
    }
    if std::env::var("CI").is_ok_and(|ci| ci == "true") {
        bail!("labs need root, and CI must not skip them");
    }
    eprintln!("SKIPPED: labs make network namespaces and need root");
    Ok(None)
}

/// An attempt to connect that was refused, and neither answered nor ignored.
pub(crate) fn refused<T>(answer: io::Result<T>) -> Result<()> {
    match answer {
        Ok(_) => bail!("it is answered"),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        // What connect_timeout of the standard library says of a socket that hung up without an error that it could read.
        Err(error) if error.to_string().contains("after POLLHUP") => Ok(()),
        Err(error) => bail!("{error} instead of a refusal"),
    }
}
