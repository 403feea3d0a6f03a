//! `CNI_NETNS`, opened: the descriptor is what the agent works with.

use std::fs::File;

use crate::env::Attachment;
use crate::error::{CniError, ErrorCode};

/// For ADD and CHECK, which cannot go without.
pub(super) fn open(attachment: &Attachment) -> Result<File, CniError> {
    let path = attachment.netns.as_deref().unwrap_or_default();
    let netns = File::open(path).map_err(|e| {
        CniError::new(ErrorCode::INVALID_NETNS, format!("cannot open CNI_NETNS {path}"))
            .details(e.to_string())
    })?;
    refuse_own(&netns, attachment)?;
    Ok(netns)
}

/// DEL succeeds without the namespace: its path may be empty or gone, or be an ordinary file that a runtime left unmounted.
pub(super) fn open_for_del(attachment: &Attachment) -> Result<Option<File>, CniError> {
    match attachment.netns.as_deref().map(File::open) {
        Some(Ok(netns)) => refuse_own(&netns, attachment).map(|()| Some(netns)),
        Some(Err(_)) | None => Ok(None),
    }
}

/// Attaching the namespace that the plugin runs in would take the node's own name space apart.
fn refuse_own(netns: &File, attachment: &Attachment) -> Result<(), CniError> {
    let identity = |file: &File| rustix::fs::fstat(file).map(|s| (s.st_dev, s.st_ino)).ok();
    let own = File::open("/proc/thread-self/ns/net").ok();
    let same = own.as_ref().and_then(identity).is_some_and(|own| identity(netns) == Some(own));
    if !same || attachment.netns_override {
        return Ok(());
    }
    let msg = "plugin's netns and netns from CNI_NETNS should not be the same";
    Err(CniError::new(ErrorCode::INVALID_NETNS, msg).details(
        "CNI_NETNS has to be the pod's network namespace; CNI_NETNS_OVERRIDE=1 allows it all the same",
    ))
}
