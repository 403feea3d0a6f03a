//! Observations that tests make up.

use super::*;

/// What readers see after one look that found `status`.
pub(crate) fn seen(status: Result<StatusReply, String>) -> (Observer, Observations) {
    let (mut observer, observations) = new(PathBuf::new());
    observer.show(status);
    (observer, observations)
}

impl Observer {
    /// One more look, a second later.
    pub(crate) fn show(&mut self, status: Result<StatusReply, String>) {
        let before = self.latest.borrow().clone();
        let before = (before.sequence > 0).then_some((INTERVAL, &*before));
        let snapshot = self.take(status, 1_800_000_000_000, before);
        self.latest.send_replace(Arc::new(snapshot));
    }
}
