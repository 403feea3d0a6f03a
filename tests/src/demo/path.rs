//! The paths that are measured.

use crate::leg::{Leg, Pair, far, near, outside};
use crate::{Lab, LabError};

/// One path on both sides.
#[derive(Clone, Debug)]
pub(super) struct Path {
    /// For people and for the JSON file.
    pub(super) name: &'static str,
    /// Through Headrace.
    pub(super) headrace: Leg,
    /// Through the kernel.
    pub(super) kernel: Leg,
    /// Through Headrace to the same server without the Service; none where there is no Service.
    pub(super) direct: Option<Leg>,
}

impl Path {
    /// Headrace's leg and the kernel's, with their names for error messages.
    pub(super) fn both(&self) -> [(&Leg, &'static str); 2] {
        [(&self.headrace, "Headrace"), (&self.kernel, "kernel")]
    }
}

/// Names of the paths from pod to pod, without a Service.
pub(super) const BETWEEN_PODS: [&str; 2] = ["same node", "across nodes"];

/// Lists the paths.
pub(super) fn paths(lab: &Lab) -> Result<[Path; 5], LabError> {
    let headrace = Pair { lab, a: "node1", b: "node2", subnet: 10 };
    let kernel = Pair { lab, a: "kernel1", b: "kernel2", subnet: 20 };
    let path = |name, leg: fn(&Pair<'_>) -> Result<Leg, LabError>| {
        Ok::<_, LabError>(Path { name, headrace: leg(&headrace)?, kernel: leg(&kernel)?, direct: None })
    };
    let service = |name, number, server: fn(&Pair<'_>) -> String| {
        Ok::<_, LabError>(Path {
            name,
            headrace: headrace.cluster_ip(number, &server(&headrace))?,
            kernel: kernel.cluster_ip(number, &server(&kernel))?,
            direct: Some(headrace.direct(&server(&headrace))?),
        })
    };
    Ok([
        path(BETWEEN_PODS[0], |pair| pair.direct(&near(pair)))?,
        path(BETWEEN_PODS[1], |pair| pair.direct(&far(pair)))?,
        path("outside, masqueraded", outside)?,
        service("ClusterIP, across nodes", 1, far)?,
        // The last one: its Service slows a kernel node's bridge down (see kernel_node).
        service("ClusterIP, same node", 2, near)?,
    ])
}
