//! What is stolen because it belongs to a Service or to a hostPort.

use super::*;

#[test]
fn a_frontend_is_stolen_as_long_as_anybody_has_it() {
    with_program(|uplink| {
        uplink.configure(&config()).unwrap();
        let port = |place| Frontend { place, port: 30000, protocol: TCP };
        let (node_port, host_port) = (port(Place::NodePort), port(Place::EveryOwn));
        let address = port(Place::Address(OTHER_OWN.into()));
        let at_both = |uplink: &UplinkProgram| {
            [NODE, OTHER_OWN].map(|to| run(variants(uplink)[0].1, &ip(TCP, OUTSIDE, to, &ports(5000, 30000))))
        };
        let steps = [
            (vec![], vec![node_port], [true, false]),
            (vec![], vec![node_port, host_port], [true, true]),
            (vec![host_port], vec![], [true, false]),
            (vec![node_port], vec![address], [true, true]),
            (vec![node_port], vec![], [false, true]),
            (vec![address], vec![], [false, false]),
        ];
        for (removed, added, stolen) in steps {
            uplink.change_frontends(&removed, &added).unwrap();
            assert_eq!(at_both(uplink), stolen, "- {removed:?} + {added:?}");
        }
        let left: BTreeSet<[u8; 8]> = uplink.frontends.keys().collect();
        let balancer = [203, 0, 113, 5, 0, 0, 0, 0];
        assert!(left.contains(&balancer) && left.len() == 7, "{left:?}");
    });
}

#[test]
fn frontends_of_an_earlier_process_stay_until_it_is_known_that_nobody_wants_them() {
    with_program(|uplink| {
        uplink.configure(&config()).unwrap();
        uplink.frontends.inherit();
        let kept = Frontend { place: Place::NodePort, port: 30080, protocol: TCP };
        let stolen = |uplink: &UplinkProgram, port, protocol| {
            run(variants(uplink)[0].1, &ip(protocol, OUTSIDE, NODE, &ports(5000, port)))
        };
        uplink.change_frontends(&[], &[kept]).unwrap();
        assert!(stolen(uplink, 8053, UDP));
        uplink.forget_inherited_frontends().unwrap();
        assert!(!stolen(uplink, 8053, UDP) && stolen(uplink, 30080, TCP));
        uplink.change_frontends(&[kept], &[]).unwrap();
        assert!(!stolen(uplink, 30080, TCP));
    });
}

/// Packets to frontends and about them, as the table of all rules has them.
pub(super) fn rows() -> Rows {
    [to_frontends(), about_frontends()].concat()
}

/// What the program of every test serves.
pub(super) fn served() -> Vec<Frontend> {
    let at = |place, port, protocol| Frontend { place, port, protocol };
    vec![
        at(Place::NodePort, 30080, TCP),
        at(Place::NodePort, 30132, SCTP),
        at(Place::EveryOwn, 8053, UDP),
        at(Place::Address(OTHER_OWN.into()), 8443, TCP),
        at(Place::Address(BALANCER.into()), 443, TCP),
    ]
}

fn to_frontends() -> Rows {
    let row = |what, protocol, to, port, stolen| {
        (what, config(), ip(protocol, OUTSIDE, to, &ports(5000, port)), stolen)
    };
    vec![
        row("NodePort", TCP, NODE, 30080, true),
        row("NodePort over another protocol", UDP, NODE, 30080, false),
        row("NodePort at an address without NodePorts", TCP, OTHER_OWN, 30080, false),
        row("NodePort at a foreign address", TCP, PEER, 30080, false),
        row("NodePort at the load balancer's address", TCP, BALANCER, 30080, false),
        row("NodePort over SCTP", SCTP, NODE, 30132, true),
        row("hostPort", UDP, NODE, 8053, true),
        row("hostPort at another own address", UDP, OTHER_OWN, 8053, true),
        row("hostPort over another protocol", TCP, NODE, 8053, false),
        row("hostPort at a foreign address", UDP, PEER, 8053, false),
        row("hostPort at its address", TCP, OTHER_OWN, 8443, true),
        row("hostPort at another own address than its own", TCP, NODE, 8443, false),
        row("load balancer", TCP, BALANCER, 443, true),
        row("another port of a load balancer", TCP, BALANCER, 80, false),
        row("the load balancer's port at the node", TCP, NODE, 443, false),
        row("source port of a frontend", TCP, NODE, 5000, false),
        row("the pseudo-port of addresses", 0, BALANCER, 0, false),
    ]
}

/// Fragments to frontends' addresses, and ICMP errors about what frontends have sent.
fn about_frontends() -> Rows {
    let from = |protocol, address, port| ip(protocol, address, OUTSIDE, &ports(port, 5000));
    let error =
        |to, quoted: Vec<u8>| ip(ICMP, OUTSIDE, to, &[&[3, 4, 0, 0, 0, 0, 5, 0], &quoted[14..42]].concat());
    let to_balancer = ip(UDP, OUTSIDE, BALANCER, &ports(5000, 9));
    vec![
        ("fragment to a load balancer", fragments(), fragment(to_balancer.clone(), 100), true),
        ("fragment to a load balancer, not taken", config(), fragment(to_balancer, 100), false),
        ("too big: NodePort", config(), error(NODE, from(TCP, NODE, 30080)), true),
        ("too big: NodePort over SCTP", config(), error(NODE, from(SCTP, NODE, 30132)), true),
        ("too big: hostPort", config(), error(OTHER_OWN, from(UDP, OTHER_OWN, 8053)), true),
        ("too big: load balancer", config(), error(BALANCER, from(TCP, BALANCER, 443)), true),
        ("too big: no port of the load balancer", config(), error(BALANCER, from(TCP, BALANCER, 80)), false),
        ("too big: no NodePort", config(), error(NODE, from(TCP, NODE, 30081)), false),
        ("too big: no NodePort there", config(), error(OTHER_OWN, from(TCP, OTHER_OWN, 30080)), false),
        (
            "too big: NodePort, to another own address",
            config(),
            error(OTHER_OWN, from(TCP, NODE, 30080)),
            false,
        ),
        ("too big: to the NodePort", config(), error(NODE, ip(TCP, NODE, PEER, &ports(5000, 30080))), false),
        (
            "echo request to a load balancer",
            config(),
            ip(ICMP, OUTSIDE, BALANCER, &[8, 0, 0, 0, 0, 1, 0, 1]),
            false,
        ),
    ]
}
