//! Cost of the pipeline in ns per packet: in-memory ports, one core, no I/O. Receiving (a copy of the template) and freeing are
//! part of every figure; "drop" shows what they cost alone.

use criterion::measurement::WallTime;
use criterion::{BenchmarkGroup, Criterion, Throughput, criterion_group, criterion_main};
use etherparse::PacketBuilder;
use headrace_bench::{NEIGHBOUR, PEER, PEER_VTEP, POD, REMOTE, SERVICE, VTEP, node};
use headrace_dataplane::port::BURST;
use headrace_dataplane::tables::GATEWAY_MAC;
use headrace_wire::ethernet::MacAddr;
use headrace_wire::vxlan::{ENCAP_LEN, Inner, Tunnel, Vni, encap_header};

const POD_MAC: [u8; 6] = [2, 0, 0, 0, 3, 1];

fn udp(src: std::net::Ipv4Addr, dst: (std::net::Ipv4Addr, u16), flow: u16, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(POD_MAC, GATEWAY_MAC.0)
        .ipv4(src.octets(), dst.0.octets(), 64)
        .udp(1024 + flow, dst.1)
        .write(&mut bytes, &vec![0; payload])
        .expect("a vector takes all bytes");
    bytes
}

fn tcp(src: std::net::Ipv4Addr, dst: std::net::Ipv4Addr, payload: usize) -> Vec<u8> {
    let mut bytes = Vec::new();
    PacketBuilder::ethernet2(POD_MAC, GATEWAY_MAC.0)
        .ipv4(src.octets(), dst.octets(), 64)
        .tcp(4000, 5201, 1, 65535)
        .ack(1)
        .write(&mut bytes, &vec![0; payload])
        .expect("a vector takes all bytes");
    bytes
}

fn tunnelled(mut inner: Vec<u8>) -> Vec<u8> {
    inner[..6].copy_from_slice(&VTEP.0);
    inner[6..12].copy_from_slice(&PEER_VTEP.0);
    let tunnel = Tunnel {
        src_mac: MacAddr([2, 0, 0, 0, 0, 3]),
        dst_mac: MacAddr([2, 0, 0, 0, 0, 1]),
        src: PEER,
        dst: headrace_bench::NODE,
        port: 8472,
        vni: Vni::new(1).expect("24 bits"),
    };
    let mut outer = [0; ENCAP_LEN];
    let what = Inner { frame_len: inner.len(), tos: 0, flow_hash: 7, id: 1 };
    encap_header(&mut outer, &tunnel, &what).expect("fits");
    [outer.to_vec(), inner].concat()
}

fn case(
    group: &mut BenchmarkGroup<'_, WallTime>,
    name: &str,
    from_pod: Vec<Vec<u8>>,
    from_wire: Vec<Vec<u8>>,
) {
    let mut worker = node(from_pod, from_wire);
    for _ in 0..20_000 / BURST {
        worker.turn(1);
    }
    group.bench_function(name, |b| b.iter(|| worker.turn(1)));
}

fn pipeline(c: &mut Criterion) {
    let mut group = c.benchmark_group("pipeline");
    group.throughput(Throughput::Elements(BURST as u64));
    let flows = |dst, count: u16, payload| (0..count).map(|f| udp(POD, dst, f, payload)).collect::<Vec<_>>();
    let mut stranger = udp(POD, (NEIGHBOUR, 1), 0, 22);
    stranger[26] = 11;
    case(&mut group, "drop (spoofed), 64 B", vec![stranger], Vec::new());
    for count in [1, 10_000] {
        case(
            &mut group,
            &format!("same node, 64 B, {count} flows"),
            flows((NEIGHBOUR, 53), count, 22),
            Vec::new(),
        );
        case(
            &mut group,
            &format!("vxlan out, 64 B, {count} flows"),
            flows((REMOTE, 53), count, 22),
            Vec::new(),
        );
        case(
            &mut group,
            &format!("service and vxlan out, 64 B, {count} flows"),
            flows((SERVICE, 80), count, 22),
            Vec::new(),
        );
    }
    let back = vec![tunnelled(udp(REMOTE, (POD, 53), 0, 22))];
    case(&mut group, "vxlan in, 64 B, 1 flow", Vec::new(), back);
    case(&mut group, "vxlan in, 1450 B, 1 flow", Vec::new(), vec![tunnelled(tcp(REMOTE, POD, 1400))]);
    case(&mut group, "same node, 64 KB", vec![tcp(POD, NEIGHBOUR, 65_000)], Vec::new());
    group.finish();
}

criterion_group!(benches, pipeline);
criterion_main!(benches);
