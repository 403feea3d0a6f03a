//! Bandwidth limits of pods that run already.
//!
//! The kubelet reads a pod's annotations once, when it starts the pod (kubernetes, pkg/util/bandwidth), and the plugin hears
//! the rates with ADD. Here they hold as they stand now, and a pod that says nothing has what its Namespace says. Pods that
//! no object is known of keep what ADD said.

use std::collections::BTreeMap;
use std::num::NonZeroU64;
use std::ops::RangeInclusive;
use std::sync::Arc;

use headrace_api::state::{Port, RateLimit};

use super::Problem;
use crate::objects::{Metadata, Objects};
use crate::seam::Ports;

/// What pods receive and send, in bits per second.
const INGRESS: &str = "kubernetes.io/ingress-bandwidth";
const EGRESS: &str = "kubernetes.io/egress-bandwidth";
/// What the kubelet takes: a kilobit to a petabit.
const REASONABLE: RangeInclusive<u64> = 1_000..=1_000_000_000_000_000;

/// What annotations say, by the label of the pod's port.
#[derive(Clone, Debug, Default)]
pub(super) struct Limits {
    pods: BTreeMap<String, Rates>,
}

#[derive(Clone, Copy, Debug, Default)]
struct Rates {
    ingress: Rate,
    egress: Rate,
}

#[derive(Clone, Copy, Debug, Default)]
enum Rate {
    /// Nothing limits it.
    #[default]
    Free,
    /// Bits per second.
    Limited(NonZeroU64),
    /// It is to be limited, and nobody can say how far: what is stays.
    Unclear,
}

impl Limits {
    /// Of all pods that there are objects of.
    pub(super) fn new(objects: &Objects, problems: &mut Vec<Problem>) -> Self {
        let of_namespaces: BTreeMap<_, _> = objects
            .namespaces
            .iter()
            .map(|(name, namespace)| {
                let title = format!("Namespace {name}");
                (name, Rates::of(&namespace.metadata, &title, Rates::default(), problems))
            })
            .collect();
        let mut of_pod = |name: &crate::objects::ObjectName, metadata: &Metadata| {
            let usual = of_namespaces.get(&name.namespace).copied().unwrap_or_default();
            Rates::of(metadata, &metadata.title("Pod"), usual, problems)
        };
        let pods = objects.pods.iter().map(|(name, pod)| (name.to_string(), of_pod(name, &pod.metadata)));
        Self { pods: pods.collect() }
    }

    /// The ports with the limits that hold now; the very same ones where all have theirs.
    pub(super) fn apply(&self, ports: &Ports) -> Ports {
        let mut limited = Arc::clone(ports);
        for (id, port) in &**ports {
            let Some(rates) = self.pods.get(&port.label) else { continue };
            let now = rates.limit(port);
            if now != *port {
                Arc::make_mut(&mut limited).insert(*id, now);
            }
        }
        limited
    }
}

impl Rates {
    /// What the object's annotations say, `usual` where they are silent.
    fn of(metadata: &Metadata, title: &str, usual: Self, problems: &mut Vec<Problem>) -> Self {
        let mut rate = |key: &str, usual: Rate| {
            let Some(text) = metadata.annotations.get(key) else { return usual };
            match bits(text).filter(|bits| REASONABLE.contains(bits)).and_then(NonZeroU64::new) {
                Some(bits) => Rate::Limited(bits),
                None => {
                    let what = format!("annotation {key} is {text:?}, and the limit stays as it is");
                    problems.push(Problem::new(title, what, "use 1k to 1P bits per second, like 10M"));
                    Rate::Unclear
                }
            }
        };
        Self { ingress: rate(INGRESS, usual.ingress), egress: rate(EGRESS, usual.egress) }
    }

    fn limit(self, port: &Port) -> Port {
        let mut port = port.clone();
        port.bandwidth.ingress = self.ingress.limit(port.bandwidth.ingress);
        port.bandwidth.egress = self.egress.limit(port.bandwidth.egress);
        port
    }
}

impl Rate {
    /// In place of what was asked for with ADD, whose burst stays.
    fn limit(self, asked: Option<RateLimit>) -> Option<RateLimit> {
        match self {
            Self::Free => None,
            Self::Limited(rate) => Some(RateLimit { rate, burst: asked.and_then(|limit| limit.burst) }),
            Self::Unclear => asked,
        }
    }
}

/// A quantity (apimachinery, pkg/api/resource): a decimal number with a suffix or an exponent; rounded up. `None` when it is
/// none, or below zero, or beyond all bounds.
fn bits(text: &str) -> Option<u64> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    let (number, suffix) = text.split_at(end);
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    let (factor, exponent): (u128, i32) = match suffix {
        "n" => (1, -9),
        "u" => (1, -6),
        "m" => (1, -3),
        "" => (1, 0),
        "k" => (1, 3),
        "M" => (1, 6),
        "G" => (1, 9),
        "T" => (1, 12),
        "P" => (1, 15),
        "E" => (1, 18),
        "Ki" => (1 << 10, 0),
        "Mi" => (1 << 20, 0),
        "Gi" => (1 << 30, 0),
        "Ti" => (1 << 40, 0),
        "Pi" => (1 << 50, 0),
        "Ei" => (1 << 60, 0),
        _ => (1, suffix.strip_prefix(['e', 'E'])?.parse().ok()?),
    };
    let digits: u128 = format!("{whole}{fraction}").parse().ok()?;
    let exponent = exponent.checked_sub(i32::try_from(fraction.len()).ok()?)?;
    let shift = 10u128.checked_pow(exponent.unsigned_abs())?;
    let value = digits.checked_mul(factor)?;
    let value = if exponent < 0 { value.div_ceil(shift) } else { value.checked_mul(shift)? };
    value.try_into().ok()
}

#[cfg(test)]
mod tests {
    use headrace_api::state::{Bandwidth, PortId};

    use super::super::test_objects::port_of;
    use super::*;
    use crate::objects::{Namespace, ObjectName, Pod};

    #[test]
    fn quantities_are_read_as_kubernetes_reads_them() {
        for (text, wanted) in [
            ("10M", Some(10_000_000)),
            ("1.5G", Some(1_500_000_000)),
            ("1Ki", Some(1024)),
            ("1e3", Some(1000)),
            ("2E6", Some(2_000_000)),
            ("1E", Some(1_000_000_000_000_000_000)),
            ("1500", Some(1500)),
            (".5k", Some(500)),
            ("5.", Some(5)),
            ("1m", Some(1)),
            ("1001m", Some(2)),
            ("0", Some(0)),
            ("", None),
            (".", None),
            ("M", None),
            ("-1k", None),
            ("10 M", None),
            ("10Mbit", None),
            ("1e", None),
            ("1e99", None),
            ("99999999999999999999999999999999999999999", None),
            ("1e-2147483648", None),
            ("٣", None),
        ] {
            assert_eq!(bits(text), wanted, "{text:?}");
        }
    }

    /// The objects of pod default/web.
    fn objects(namespace: &[(&str, &str)], pod: Option<&[(&str, &str)]>) -> Objects {
        let annotated = |name: &str, pairs: &[(&str, &str)]| Metadata {
            name: name.into(),
            annotations: pairs.iter().map(|(k, v)| ((*k).into(), (*v).into())).collect(),
            ..Metadata::default()
        };
        let mut objects = Objects::default();
        let namespace = Namespace { metadata: annotated("default", namespace) };
        objects.namespaces.insert("default".into(), Arc::new(namespace));
        if let Some(pod) = pod {
            let name = ObjectName { namespace: "default".into(), name: "web".into() };
            objects.pods.insert(name, Arc::new(Pod { metadata: annotated("web", pod) }));
        }
        objects
    }

    fn rate(limit: Option<RateLimit>) -> u64 {
        limit.map_or(0, |limit| limit.rate.get())
    }

    #[test]
    fn annotations_hold_now_the_pods_before_the_namespaces() {
        let asked = NonZeroU64::new(7000).map(|rate| RateLimit { rate, burst: NonZeroU64::new(9000) });
        let mut port = port_of("default/web");
        port.bandwidth = Bandwidth { ingress: asked, egress: None };
        let id = PortId::new(1).unwrap();
        let ports: Ports = Arc::new([(id, port.clone())].into());
        let found = |objects: &Objects| {
            let mut problems = Vec::new();
            let limited = Limits::new(objects, &mut problems).apply(&ports);
            let Bandwidth { ingress, egress } = limited[&id].bandwidth;
            (rate(ingress), rate(egress), problems.len())
        };
        let usual = &[(INGRESS, "1M"), (EGRESS, "2M")][..];
        assert_eq!(found(&objects(&[], Some(&[]))), (0, 0, 0), "an annotation that went");
        assert_eq!(found(&objects(&[], Some(&[(EGRESS, "3k")]))), (0, 3000, 0));
        assert_eq!(found(&objects(usual, Some(&[]))), (1_000_000, 2_000_000, 0));
        assert_eq!(found(&objects(usual, Some(&[(INGRESS, "3k")]))), (3000, 2_000_000, 0));
        assert_eq!(found(&objects(usual, None)), (7000, 0, 0), "nothing is known of the pod");
        let unclear = objects(&[], Some(&[(INGRESS, "much"), (EGRESS, "1")]));
        assert_eq!(found(&unclear), (7000, 0, 2), "nothing usable is said");

        let same = Limits::new(&objects(&[], Some(&[(INGRESS, "7k")])), &mut Vec::new()).apply(&ports);
        assert!(Arc::ptr_eq(&same, &ports), "nothing differs");
        let more = Limits::new(&objects(&[], Some(&[(INGRESS, "8k")])), &mut Vec::new()).apply(&ports);
        assert_eq!(more[&id].bandwidth.ingress.unwrap().burst, NonZeroU64::new(9000));
    }
}
