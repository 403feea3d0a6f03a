use pcap_file::pcapng::{Block, PcapNgReader};

use super::*;

fn record(port: &str, direction: Direction) -> proto::CaptureRecord {
    proto::CaptureRecord {
        time_ns: 1_700_000_000_123_456_789,
        port: port.into(),
        direction: direction.into(),
        length: 1500,
        frame: vec![7; 60],
        reason: "no_route".into(),
        meaning: "Nothing leads there.".into(),
        ..Default::default()
    }
}

#[test]
fn a_file_names_ports_directions_times_and_reasons() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.pcapng");
    let mut file = Pcapng::create(&path).unwrap();
    for (port, direction) in [("hr1", Direction::In), ("eth0", Direction::Out), ("hr1", Direction::Dropped)] {
        file.put(&record(port, direction)).unwrap();
    }
    file.flush().unwrap();
    let mut reader = PcapNgReader::new(File::open(&path).unwrap()).unwrap();
    let mut packets = Vec::new();
    while let Some(block) = reader.next_block() {
        if let Block::EnhancedPacket(packet) = block.unwrap() {
            packets.push((packet.interface_id, packet.original_len, packet.timestamp, packet.options.len()));
            if packets.len() == 3 {
                let comment = format!("{:?}", packet.options);
                assert!(comment.contains("dropped: no_route: Nothing leads there."), "{comment}");
            }
        }
    }
    let time = Duration::from_nanos(1_700_000_000_123_456_789);
    assert_eq!(packets, [(0, 1500, time, 1), (1, 1500, time, 1), (0, 1500, time, 1)]);
}

#[test]
fn a_full_disk_is_an_error_that_names_the_file() {
    // Every write to /dev/full fails as on a full disk.
    let mut file = Pcapng::create(Path::new("/dev/full")).unwrap();
    file.put(&record("hr1", Direction::In)).unwrap();
    let error = file.flush().unwrap_err();
    assert_eq!(error.exit_code(), 1);
    assert!(error.to_string().contains("/dev/full") && error.to_string().contains("No space"), "{error}");
}
