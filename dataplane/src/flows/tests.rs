use std::collections::BTreeSet;
use std::net::Ipv4Addr;
use std::sync::Barrier;

use headrace_flowmap::{Geometry, Key, Slot, Value};
use headrace_wire::ipv4::Protocol;
use headrace_wire::nat::Rewrite;
use headrace_wire::parse::parse_ipv4;
use proptest::collection::vec;
use proptest::prelude::*;

use super::expiry::timeout;
use super::*;
use crate::drop_reason::DropReason;
use crate::port::PortIndex;
use crate::random::Random;
use crate::stats::Hot;
use crate::tables::routes::Out;
use crate::tables::{HopIndex, PeerIndex};

const POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 2);
const OTHER_POD: Ipv4Addr = Ipv4Addr::new(10, 1, 0, 3);
const NODE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const SERVER: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 9);
const NOW: Seconds = 1000;

fn flows(capacity: usize) -> Flows {
    let map = || FlowMap::anonymous(&Geometry { capacity, content_version: 1 }).unwrap();
    Flows::new(map(), Affinity::new(map()))
}

fn key(src: Ipv4Addr, src_port: u16, dst: Ipv4Addr, dst_port: u16) -> FlowKey {
    let tuple = Rewrite { src, dst, src_port, dst_port };
    FlowKey { tuple, protocol: Protocol::TCP, kind: Kind::Ports }
}

/// A connection that is masqueraded to one of `ports`.
fn masqueraded(key: FlowKey, ports: &[u16]) -> Connection<'_> {
    Connection {
        rewrite: Rewrite { src: NODE, ..key.tuple },
        source_ports: SourcePorts::Of(ports),
        ..plain(key)
    }
}

/// A connection that keeps its addresses and, if it can, its ports.
fn plain(key: FlowKey) -> Connection<'static> {
    Connection {
        key,
        rewrite: key.tuple,
        source_ports: SourcePorts::OwnOrAny,
        out: Out::Host,
        route_generation: 7,
        service: None,
        service_generation: 3,
        seen: Seen::SYN,
    }
}

fn connect(flows: &Flows, connection: &Connection<'_>) -> Result<Flow, DropReason> {
    flows.connect(connection, NOW, &mut Random::with_seed(1), &Hot::default())
}

fn find(flows: &Flows, key: &FlowKey) -> Option<Flow> {
    flows.find(key, NOW)
}

/// Panics unless every connection has both its entries and each leads to the other.
fn assert_paired(flows: &Flows) {
    for entry in flows.map().iter() {
        let key = FlowKey::unpack(&entry.key).unwrap();
        let flow = Flow::unpack(entry.slot, entry.value);
        let partner = flows
            .map()
            .lookup(&flow.partner_key(&key).pack(), flows.map().hash(&flow.partner_key(&key).pack()));
        let partner = partner.unwrap_or_else(|| panic!("{key:?} is alone"));
        assert_eq!(Flow::unpack(partner.slot, partner.value).partner_key(&flow.partner_key(&key)), key);
    }
}

fn out() -> impl Strategy<Value = Out> {
    (0u8..4, any::<u16>()).prop_map(|(kind, index)| match kind {
        0 => Out::Pod(PortIndex(index)),
        1 => Out::Host,
        2 => Out::Tunnel(PeerIndex(index)),
        _ => Out::Wire(HopIndex(index)),
    })
}

fn tuple() -> impl Strategy<Value = Rewrite> {
    any::<(u32, u32, u16, u16)>().prop_map(|(src, dst, src_port, dst_port)| Rewrite {
        src: src.into(),
        dst: dst.into(),
        src_port,
        dst_port,
    })
}

fn any_key() -> impl Strategy<Value = FlowKey> {
    (tuple(), any::<u8>(), prop_oneof![Just(Kind::Ports), Just(Kind::Fragments)])
        .prop_map(|(tuple, protocol, kind)| FlowKey { tuple, protocol: Protocol(protocol), kind })
}

proptest! {
    #[test]
    fn a_key_unpacks_to_what_was_packed(key in any_key(), other in any_key()) {
        prop_assert_eq!(FlowKey::unpack(&key.pack()), Some(key));
        prop_assert_eq!(key.pack() == other.pack(), key == other);
    }

    #[test]
    fn an_entry_unpacks_to_what_was_packed(
        from in tuple(), to in tuple(), out in proptest::option::of(out()), words in any::<(u32, u16, u32, u8)>(),
        original in any::<bool>(), service in any::<bool>(), [punted, elsewhere] in any::<[bool; 2]>(),
    ) {
        let (route_generation, mss, service_generation, seen) = words;
        let slot = Slot::from_raw(5);
        let flow = Flow {
            slot, rewrite: to, deltas: Deltas::between(&from, &to), out, route_generation, mss, seen: Seen(seen),
            original, service, service_generation, punted, elsewhere,
        };
        prop_assert_eq!(Flow::unpack(slot, flow.pack()), flow);
    }

    #[test]
    fn any_words_are_some_entry(words in any::<[u64; 5]>(), key in any::<[u64; 2]>()) {
        let flow = Flow::unpack(Slot::from_raw(0), Value(words));
        prop_assert_eq!(Flow::unpack(flow.slot, flow.pack()), flow);
        if let Some(unpacked) = Key::from_words(key).and_then(|key| FlowKey::unpack(&key)) {
            prop_assert_eq!(FlowKey::unpack(&unpacked.pack()), Some(unpacked));
        }
    }

    #[test]
    fn a_way_out_decodes_to_what_was_encoded(out in out(), word in any::<u32>()) {
        prop_assert_ne!(out.encode(), 0);
        prop_assert_eq!(Out::decode(out.encode()), Some(out));
        if let Some(out) = Out::decode(word) {
            prop_assert_eq!(Out::decode(out.encode()), Some(out));
        }
    }

    /// Clients connect at random through few ports into a table far too small: whatever goes, goes whole.
    #[test]
    fn a_full_table_forgets_whole_connections(
        steps in vec((0u8..4, 0u16..40, 0u8..3, any::<bool>()), 1..200), seed in any::<u64>(),
    ) {
        let flows = flows(16);
        let (stats, mut random) = (Hot::default(), Random::with_seed(seed));
        for (client, port, seen, masquerade) in steps {
            let key = key(Ipv4Addr::new(10, 1, 0, client), port, SERVER, 80);
            let connection = Connection {
                seen: [Seen::SYN, Seen::DATA, Seen::RST][usize::from(seen)],
                ..if masquerade { masqueraded(key, &[1000, 1001, 1002, 1003]) } else { plain(key) }
            };
            if find(&flows, &key).is_some() {
                continue;
            }
            match flows.connect(&connection, NOW, &mut random, &stats) {
                Ok(flow) => prop_assert!(masquerade || flow.rewrite == key.tuple),
                Err(reason) => prop_assert_eq!(reason, DropReason::SnatPortsExhausted),
            }
            assert_paired(&flows);
            prop_assert!(flows.map().len() <= flows.map().capacity());
        }
    }
}

#[test]
fn a_connection_is_known_by_both_directions() {
    let flows = flows(64);
    let key = key(POD, 40_000, SERVER, 443);
    let made = connect(&flows, &masqueraded(key, &[32_768])).unwrap();
    assert_eq!(made.rewrite, Rewrite { src: NODE, src_port: 32_768, ..key.tuple });
    assert_eq!(find(&flows, &key), Some(made));
    let partner = made.partner_key(&key);
    assert_eq!(partner.tuple, Rewrite { src: SERVER, dst: NODE, src_port: 443, dst_port: 32_768 });
    let back = find(&flows, &partner).unwrap();
    assert_eq!(back.rewrite, key.tuple.reversed());
    assert_eq!(back.deltas, made.deltas.reversed());
    assert_eq!(back.partner_key(&partner), key);
    assert!(made.original && !back.original);
    assert_eq!((made.out, back.out), (Some(Out::Host), None));
    assert_eq!(flows.map().len(), 2);
}

#[test]
fn connecting_twice_is_one_connection() {
    let flows = flows(64);
    let key = key(POD, 40_000, SERVER, 443);
    let ports: Vec<u16> = (32_768..32_800).collect();
    let mut random = Random::with_seed(3);
    let first = flows.connect(&masqueraded(key, &ports), NOW, &mut random, &Hot::default()).unwrap();
    for _ in 0..20 {
        let again = flows.connect(&masqueraded(key, &ports), NOW, &mut random, &Hot::default()).unwrap();
        assert_eq!(again.rewrite, first.rewrite);
        assert_eq!(flows.map().len(), 2);
    }
}

#[test]
fn a_taken_source_port_is_another_clients() {
    let flows = flows(4096);
    let endpoint = Rewrite { src: NODE, dst: SERVER, src_port: 40_000, dst_port: 80 };
    let clients: Vec<_> = (0..50).map(|i| key(Ipv4Addr::new(10, 1, 0, i), 40_000, SERVER, 80)).collect();
    let mut random = Random::with_seed(9);
    for client in &clients {
        let connection = Connection { rewrite: endpoint, ..plain(*client) };
        flows.connect(&connection, NOW, &mut random, &Hot::default()).unwrap();
    }
    let made: Vec<_> = clients.iter().map(|client| find(&flows, client).unwrap()).collect();
    assert_eq!(made[0].rewrite.src_port, 40_000, "the first keeps its own");
    for (client, flow) in clients.iter().zip(&made) {
        assert!(flow.rewrite.src_port >= 1024);
        let back = find(&flows, &flow.partner_key(client)).unwrap();
        assert_eq!(back.rewrite, client.tuple.reversed(), "answers reach their own client");
    }
}

#[test]
fn source_ports_run_out_per_destination() {
    let flows = flows(256);
    let ports = [100, 101, 102, 103];
    for i in 0..4 {
        assert!(connect(&flows, &masqueraded(key(POD, i, SERVER, 80), &ports)).is_ok());
    }
    let fifth = key(OTHER_POD, 4, SERVER, 80);
    assert_eq!(connect(&flows, &masqueraded(fifth, &ports)), Err(DropReason::SnatPortsExhausted));
    assert_eq!(connect(&flows, &masqueraded(fifth, &[])), Err(DropReason::SnatPortsExhausted));
    assert_eq!((find(&flows, &fifth), flows.map().len()), (None, 8));
    let elsewhere = key(OTHER_POD, 4, SERVER, 81);
    assert!(connect(&flows, &masqueraded(elsewhere, &ports)).is_ok());
    let first = key(POD, 0, SERVER, 80);
    flows.end(&first, &find(&flows, &first).unwrap());
    assert!(connect(&flows, &masqueraded(fifth, &ports)).is_ok(), "an ended connection frees its port");
}

#[test]
fn a_protocol_without_ports_is_translated_once_per_destination() {
    let flows = flows(256);
    let gre = |src| FlowKey { protocol: Protocol(47), ..key(src, 0, SERVER, 0) };
    assert!(connect(&flows, &masqueraded(gre(POD), &[5])).is_ok());
    assert!(connect(&flows, &masqueraded(gre(POD), &[5])).is_ok());
    assert_eq!(connect(&flows, &masqueraded(gre(OTHER_POD), &[5])), Err(DropReason::SnatConflict));
}

#[test]
fn echo_identifiers_are_moved_like_ports() {
    let flows = flows(256);
    let echo = |src| FlowKey { protocol: Protocol::ICMP, ..key(src, 77, SERVER, 0) };
    let ports = [600, 601];
    let one = connect(&flows, &masqueraded(echo(POD), &ports)).unwrap();
    let two = connect(&flows, &masqueraded(echo(OTHER_POD), &ports)).unwrap();
    let mut ids = [one.rewrite.src_port, two.rewrite.src_port];
    ids.sort_unstable();
    assert_eq!(ids, ports);
}

#[test]
fn a_connection_to_itself_has_one_entry() {
    let flows = flows(64);
    let key = key(POD, 80, POD, 80);
    let flow = connect(&flows, &plain(key)).unwrap();
    assert_eq!((flow.partner_key(&key), flows.map().len()), (key, 1));
    flows.end(&key, &flow);
    assert!(flows.map().is_empty());
}

#[test]
fn two_workers_that_connect_at_once_agree() {
    const ROUNDS: u16 = 3000;
    let flows = flows(1 << 15);
    let barrier = Barrier::new(2);
    let work = |worker: u8| {
        let (mut random, stats) = (Random::with_seed(worker.into()), Hot::default());
        let ports: Vec<u16> = (30_000..40_000).collect();
        let mut made = Vec::new();
        for round in 0..ROUNDS {
            let key = key(POD, round, SERVER, 80);
            let endpoint = Ipv4Addr::new(10, 2, 0, random.below(2) as u8);
            let connection = Connection {
                rewrite: Rewrite { src: NODE, dst: endpoint, ..key.tuple },
                ..masqueraded(key, &ports)
            };
            barrier.wait();
            made.push(flows.connect(&connection, NOW, &mut random, &stats).unwrap().rewrite);
        }
        made
    };
    let (one, two) = std::thread::scope(|scope| {
        let other = scope.spawn(|| work(1));
        (work(0), other.join().unwrap())
    });
    assert_eq!(one, two);
    assert_paired(&flows);
    assert_eq!(flows.map().len(), 2 * usize::from(ROUNDS), "the loser's reservation is gone");
}

#[test]
fn timeouts_are_those_of_linux() {
    let (none, syn, data) = (Seen::NOTHING, Seen::SYN, Seen::DATA);
    let open = Seen::SYN.and(Seen::DATA);
    let closing = open.and(Seen::FIN);
    let reset = open.and(Seen::RST);
    let cases = [
        ("SYN sent", Protocol::TCP, syn, none, 120),
        ("SYN received", Protocol::TCP, syn, syn, 60),
        ("handshake half done", Protocol::TCP, open, syn, 60),
        ("established", Protocol::TCP, open, open, 86_400),
        ("picked up in the middle", Protocol::TCP, data, none, 300),
        ("picked up in the middle, answered", Protocol::TCP, data, data, 86_400),
        ("half closed", Protocol::TCP, closing, open, 3600),
        ("closed", Protocol::TCP, closing, closing, 120),
        ("reset", Protocol::TCP, reset, closing, 10),
        ("UDP unanswered", Protocol::UDP, data, none, 30),
        ("UDP stream", Protocol::UDP, data, data, 120),
        ("echo", Protocol::ICMP, data, data, 30),
        ("other", Protocol(47), data, none, 600),
    ];
    for (name, protocol, one, other, seconds) in cases {
        assert_eq!(timeout(protocol, one, other), seconds, "{name}");
        assert_eq!(timeout(protocol, other, one), seconds, "{name}, the other way round");
    }
}

#[test]
fn a_connection_ends_when_both_directions_were_idle() {
    let flows = flows(64);
    let key = FlowKey { protocol: Protocol::UDP, ..key(POD, 1, SERVER, 53) };
    let made = connect(&flows, &Connection { seen: Seen::DATA, ..plain(key) }).unwrap();
    let expire = |now| Expiry::default().run(&flows, flows.map().buckets(), now);
    assert_eq!(expire(NOW + 29), 0);
    // An answer keeps both, and makes it a stream.
    let back = made.partner_key(&key);
    let mut answer = flows.find(&back, NOW + 29).unwrap();
    flows.saw(&back, &mut answer, Seen::DATA);
    assert_eq!(expire(NOW + 29 + 119), 0);
    assert_eq!(flows.map().len(), 2);
    assert!(expire(NOW + 29 + 120) > 0);
    assert!(flows.map().is_empty());
}

#[test]
fn connections_of_an_address_that_is_gone_end_whole_and_no_others() {
    let flows = flows(256);
    let translated = key(OTHER_POD, 1, Ipv4Addr::new(10, 96, 0, 1), 80);
    let to_pod = Connection { rewrite: Rewrite { dst: POD, ..translated.tuple }, ..plain(translated) };
    let others = plain(key(OTHER_POD, 2, SERVER, 80));
    for connection in [&plain(key(POD, 1, SERVER, 80)), &plain(key(SERVER, 9, POD, 80)), &to_pod, &others] {
        connect(&flows, connection).unwrap();
    }
    assert_eq!(flows.map().len(), 8);
    // One of both entries is removed with the other.
    assert_eq!(flows.end_of(&BTreeSet::from([POD])), 3);
    assert_eq!(flows.map().len(), 2);
    assert!(find(&flows, &others.key).is_some());
    assert_paired(&flows);
    assert_eq!(flows.end_of(&BTreeSet::from([POD])), 0);
}

#[test]
fn later_fragments_follow_the_first_for_a_while() {
    let flows = flows(64);
    let mut packet = vec![0x45, 0, 0, 36, 0x12, 0x34, 0x20, 0, 64, 17, 0, 0];
    packet.extend([POD.octets(), SERVER.octets()].concat());
    packet.extend([0, 9, 0, 53, 0, 100, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8]);
    let sum = headrace_wire::ipv4::header_checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let first = parse_ipv4(&packet, packet.len()).unwrap();
    let flow = connect(&flows, &masqueraded(FlowKey::of(&first), &[500])).unwrap();
    flows.follow_fragments(&FlowKey::of_fragments(&first), &flow, NOW, &Hot::default());

    packet[6..8].copy_from_slice(&[0, 20]);
    packet[10..12].fill(0);
    let sum = headrace_wire::ipv4::header_checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&sum.to_be_bytes());
    let later = parse_ipv4(&packet, packet.len()).unwrap();
    let key = FlowKey::of(&later);
    let found = find(&flows, &key).unwrap();
    assert_eq!((found.rewrite.src, found.rewrite.dst), (NODE, SERVER));
    assert_eq!(found.deltas.addresses, flow.deltas.addresses);
    assert!(found.translates(&key));
    Expiry::default().run(&flows, flows.map().buckets(), NOW + 29);
    assert!(flows.map().lookup(&key.pack(), flows.map().hash(&key.pack())).is_some());
    Expiry::default().run(&flows, flows.map().buckets(), NOW + 30);
    assert!(flows.map().lookup(&key.pack(), flows.map().hash(&key.pack())).is_none());
}

#[test]
fn segment_sizes_are_set_by_the_other_direction_and_only_lowered_by_errors() {
    let flows = flows(64);
    let key = key(POD, 1, SERVER, 80);
    let flow = connect(&flows, &plain(key)).unwrap();
    let back = flow.partner_key(&key);
    let mss = |key| find(&flows, key).unwrap().mss;
    flows.limit_partner(&key, &flow, 1460, false);
    assert_eq!((mss(&key), mss(&back)), (0, 1460));
    flows.limit_partner(&key, &flow, 1300, true);
    flows.limit_partner(&key, &flow, 1400, true);
    assert_eq!(mss(&back), 1300);
    flows.limit_partner(&key, &flow, 1400, false);
    assert_eq!(mss(&back), 1400);
}

#[test]
fn what_one_worker_learns_does_not_undo_what_another_did() {
    let flows = flows(64);
    let key = key(POD, 1, SERVER, 80);
    let mut mine = connect(&flows, &plain(key)).unwrap();
    let mut theirs = find(&flows, &key).unwrap();
    flows.saw(&key, &mut theirs, Seen::FIN);
    flows.set_route(&key, &mut mine, Out::Tunnel(PeerIndex(3)), 9);
    flows.set_service_generation(&key, &mut theirs, 4);
    let now = find(&flows, &key).unwrap();
    assert_eq!(now.seen, Seen::SYN.and(Seen::FIN));
    assert_eq!((now.out, now.route_generation), (Some(Out::Tunnel(PeerIndex(3))), 9));
    assert_eq!(now.service_generation, 4);
}
