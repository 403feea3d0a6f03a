//! Manifests of many Services.

use std::fmt::Write as _;

/// Endpoints of every Service.
pub(super) const ENDPOINTS: usize = 10;

/// Two states of a Service, which differ in one endpoint.
#[derive(Clone, Copy)]
pub(super) enum Version {
    A,
    B,
}

impl Version {
    /// The version after `changes` changes of a Service that begins with A.
    pub(super) fn of(changes: usize) -> Self {
        if changes.is_multiple_of(2) { Self::B } else { Self::A }
    }
}

/// A Service and its EndpointSlice, as kubectl shows them.
pub(super) fn service(number: usize, version: Version) -> String {
    let mut text = format!(
        "apiVersion: v1
kind: Service
metadata:
  name: service-{number}
  namespace: scale
  creationTimestamp: \"2026-01-01T00:00:00Z\"
spec:
  type: ClusterIP
  clusterIP: 10.96.{high}.{low}
  clusterIPs:
  - 10.96.{high}.{low}
  internalTrafficPolicy: Cluster
  ipFamilies:
  - IPv4
  ports:
  - name: http
    port: 80
    protocol: TCP
    targetPort: http
  selector:
    app: service-{number}
  sessionAffinity: None
---
{slice}---
",
        high = number / 250 + 1,
        low = number % 250 + 1,
        slice = slice_head(number),
    );
    // The document's end mark is put behind its endpoints.
    text.truncate(text.len() - "---\n".len());
    for i in 0..ENDPOINTS {
        endpoint(&mut text, number, i, version);
    }
    text + "---\n"
}

fn slice_head(number: usize) -> String {
    format!(
        "apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata:
  name: service-{number}-abcde
  namespace: scale
  labels:
    endpointslice.kubernetes.io/managed-by: endpointslice-controller.k8s.io
    kubernetes.io/service-name: service-{number}
addressType: IPv4
ports:
- name: http
  port: 8080
  protocol: TCP
endpoints:
"
    )
}

fn endpoint(text: &mut String, service: usize, i: usize, version: Version) {
    let serial = service * ENDPOINTS + i;
    // The last octet tells the versions apart: the even ones are A's.
    let low = serial % 100 * 2 + 2 + usize::from(i == 0 && matches!(version, Version::B));
    let _ = write!(
        text,
        "- addresses:
  - 10.244.{}.{low}
  conditions:
    ready: true
    serving: true
    terminating: false
  nodeName: node{}
  targetRef:
    kind: Pod
    name: service-{service}-{i}
    namespace: scale
  zone: zone-{}
",
        serial / 100 % 256,
        serial % 50,
        i % 3,
    );
}
