//! The pair on a real kernel.

use super::super::namespace::Namespace;
use super::*;

fn names() -> HostLinkNames {
    HostLinkNames { kernel: "headrace0".into(), dataplane: "headrace1".into() }
}

/// Both ends' indices.
fn pair(kernel: &Kernel) -> (u32, u32) {
    let index = |name: &str| kernel.view().link(name).unwrap().index;
    (index("headrace1"), index("headrace0"))
}

#[test]
fn the_pair_is_made_adopted_and_made_anew_for_more_workers() {
    let Some(node) = Namespace::new() else { return };
    node.block_on(|| async {
        let mut kernel = Kernel::open().await.unwrap();
        assert_eq!(ensure(&mut kernel, &names(), 1).await.unwrap(), Vec::<String>::new());
        let first = pair(&kernel);
        let (ours, theirs) =
            (kernel.view().link("headrace1").unwrap(), kernel.view().link("headrace0").unwrap());
        assert!(ours.up && theirs.up);
        assert_eq!((ours.mtu, theirs.mtu), (65535, 65535));
        assert_eq!((ours.rx_queues, ours.tx_queues, theirs.tx_queues), (1, 1, 2));
        assert!(!headrace_xsk::offloads::get("headrace0").unwrap()["tx-udp-segmentation"]);

        node.ip("addr add 10.42.1.0/32 dev headrace0");
        node.ip("link set headrace1 down");
        kernel.refresh().await.unwrap();
        assert_eq!(ensure(&mut kernel, &names(), 1).await.unwrap(), Vec::<String>::new());
        assert_eq!(pair(&kernel), first, "adopted, with the agent's addresses");
        assert!(kernel.view().link("headrace1").unwrap().up);

        let warnings = ensure(&mut kernel, &names(), 2).await.unwrap();
        assert!(warnings.len() == 1 && warnings[0].contains("too few queues"), "{warnings:?}");
        let second = pair(&kernel);
        assert_ne!(second, first);
        ensure(&mut kernel, &names(), 1).await.unwrap();
        assert_eq!(pair(&kernel), second, "more queues than workers do no harm");

        assert!(remove(&kernel, &names()).await.unwrap());
        kernel.refresh().await.unwrap();
        assert!(!remove(&kernel, &names()).await.unwrap());
        assert!(kernel.view().link("headrace0").is_none());
    });
}

#[test]
fn a_device_of_somebody_else_is_refused_by_name() {
    let Some(node) = Namespace::new() else { return };
    node.ip("link add headrace0 type veth peer name other0");
    node.block_on(|| async {
        let mut kernel = Kernel::open().await.unwrap();
        let error = ensure(&mut kernel, &names(), 1).await.unwrap_err().to_string();
        assert!(error.contains("headrace0") && error.contains("--host-link-name"), "{error}");
        assert!(!remove(&kernel, &names()).await.unwrap(), "and not removed");
        assert!(kernel.view().link("headrace0").is_some());
    });
}
