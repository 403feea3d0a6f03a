//! When to try again to open a device.
//!
//! An attempt attaches an XDP program, which the kernel reports as a change of the device, after which everything is looked
//! at again. Without a pause a device that cannot be opened would be tried without end, and some NICs reset with each.

use std::time::{Duration, Instant};

/// The pause after an attempt that failed.
const PAUSE: Duration = Duration::from_secs(1);

/// The last attempt that failed.
#[derive(Clone, Copy, Debug)]
pub struct Failure {
    ifindex: u32,
    when: Instant,
}

impl Failure {
    /// An attempt on this device failed now.
    pub fn on(ifindex: u32) -> Self {
        Self { ifindex, when: Instant::now() }
    }

    /// Whether the device may be tried again. One made anew, with another index, always may.
    pub fn is_over(&self, ifindex: u32) -> bool {
        self.is_over_at(ifindex, Instant::now())
    }

    fn is_over_at(&self, ifindex: u32, now: Instant) -> bool {
        self.ifindex != ifindex || now.duration_since(self.when) >= PAUSE
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_device_waits_and_another_does_not() {
        let failure = Failure::on(7);
        assert!(!failure.is_over_at(7, failure.when) && failure.is_over_at(8, failure.when));
        assert!(failure.is_over_at(7, failure.when + PAUSE));
    }
}
