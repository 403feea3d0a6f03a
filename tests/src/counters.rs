//! Counters of the kernel inside a space: protocols and links.

use std::collections::HashMap;
use std::fs;

use crate::{LabError, Space};

/// What one link has received and sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LinkCounters {
    /// Bytes received.
    pub rx_bytes: u64,
    /// Frames received.
    pub rx_packets: u64,
    /// Bytes sent.
    pub tx_bytes: u64,
    /// Frames sent.
    pub tx_packets: u64,
}

impl LinkCounters {
    /// What came since `before`.
    #[must_use]
    pub fn since(&self, before: &Self) -> Self {
        Self {
            rx_bytes: self.rx_bytes.saturating_sub(before.rx_bytes),
            rx_packets: self.rx_packets.saturating_sub(before.rx_packets),
            tx_bytes: self.tx_bytes.saturating_sub(before.tx_bytes),
            tx_packets: self.tx_packets.saturating_sub(before.tx_packets),
        }
    }

    /// Mean length of a received frame in bytes; 0 without frames.
    #[must_use]
    #[allow(clippy::cast_precision_loss)]
    pub fn mean_received(&self) -> f64 {
        if self.rx_packets == 0 { 0.0 } else { self.rx_bytes as f64 / self.rx_packets as f64 }
    }
}

/// Counters of the link `name` in `space` (/proc/net/dev).
///
/// # Errors
/// [`LabError::Io`] when the space is gone, [`LabError::Output`] when it has no such link.
pub fn link(space: &Space, name: &str) -> Result<LinkCounters, LabError> {
    let text = read(space, "dev")?;
    parse_link(&text, name).ok_or_else(|| LabError::Output {
        tool: "/proc/net/dev",
        problem: format!("no link {name} in {}", space.name),
        output: text,
    })
}

/// Names of the links in `space`.
///
/// # Errors
/// [`LabError::Io`] when the space is gone.
pub fn links(space: &Space) -> Result<Vec<String>, LabError> {
    let text = read(space, "dev")?;
    Ok(text.lines().skip(2).filter_map(|line| Some(line.split_once(':')?.0.trim().to_owned())).collect())
}

/// Protocol counters of a space by name, such as `Tcp.RetransSegs` (/proc/net/snmp and /proc/net/netstat).
#[derive(Clone, Debug, Default)]
pub struct Protocols(HashMap<String, i64>);

impl Protocols {
    /// Reads them.
    ///
    /// # Errors
    /// [`LabError::Io`] when the space is gone.
    pub fn read(space: &Space) -> Result<Self, LabError> {
        Ok(Self(parse_protocols(&(read(space, "snmp")? + &read(space, "netstat")?))))
    }

    /// One counter; 0 when the kernel has none of that name.
    #[must_use]
    pub fn get(&self, name: &str) -> i64 {
        self.0.get(name).copied().unwrap_or(0)
    }

    /// Packets that were thrown away because a checksum was wrong.
    #[must_use]
    pub fn checksum_errors(&self) -> i64 {
        ["Tcp.InCsumErrors", "Udp.InCsumErrors", "Icmp.InCsumErrors", "IpExt.InCsumErrors"]
            .iter()
            .map(|name| self.get(name))
            .sum()
    }
}

/// Whether a TCP socket in `space` listens on `port`.
///
/// # Errors
/// [`LabError::Io`] when the space is gone.
pub fn listens(space: &Space, port: u16) -> Result<bool, LabError> {
    let tables = read(space, "tcp")? + &read(space, "tcp6").unwrap_or_default();
    let port = format!(":{port:04X}");
    // Fields: slot, local address, remote address, state (0A = LISTEN).
    Ok(tables.lines().any(|line| {
        let mut fields = line.split_whitespace().skip(1);
        fields.next().is_some_and(|local| local.ends_with(&port)) && fields.nth(1) == Some("0A")
    }))
}

fn read(space: &Space, file: &str) -> Result<String, LabError> {
    let path = format!("/proc/thread-self/net/{file}");
    space.enter(|| fs::read_to_string(&path))?.map_err(LabError::io(format!("read {path} in {}", space.name)))
}

fn parse_link(text: &str, name: &str) -> Option<LinkCounters> {
    let values = text.lines().find_map(|line| {
        let (link, values) = line.split_once(':')?;
        (link.trim() == name).then_some(values)
    })?;
    let values: Vec<u64> = values.split_whitespace().filter_map(|value| value.parse().ok()).collect();
    Some(LinkCounters {
        rx_bytes: *values.first()?,
        rx_packets: *values.get(1)?,
        tx_bytes: *values.get(8)?,
        tx_packets: *values.get(9)?,
    })
}

/// Lines come in pairs: `Tcp: NAME NAME ...`, then `Tcp: VALUE VALUE ...`.
fn parse_protocols(text: &str) -> HashMap<String, i64> {
    let lines: Vec<&str> = text.lines().collect();
    let pairs =
        lines.chunks_exact(2).filter_map(|pair| Some((pair[0].split_once(':')?, pair[1].split_once(':')?)));
    pairs
        .flat_map(|((protocol, names), (_, values))| {
            let values = values.split_whitespace().map(|value| value.parse().unwrap_or(0));
            names.split_whitespace().map(move |name| format!("{protocol}.{name}")).zip(values)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocol_counters_are_found_by_protocol_and_name() {
        let text = "Tcp: RetransSegs InErrs InCsumErrors\nTcp: 7 0 2\nUdp: InCsumErrors\nUdp: 3\n";
        let counters = Protocols(parse_protocols(text));
        assert_eq!(counters.get("Tcp.RetransSegs"), 7);
        assert_eq!(counters.checksum_errors(), 5);
        assert_eq!(counters.get("Tcp.NoSuch"), 0);
    }

    #[test]
    fn link_counters_come_from_the_right_columns() {
        let text = "Inter-|\n face |\n  eth0: 3000 2 0 0 0 0 0 0 90 1 0 0 0 0 0 0\n";
        let link = parse_link(text, "eth0").unwrap();
        assert_eq!(link, LinkCounters { rx_bytes: 3000, rx_packets: 2, tx_bytes: 90, tx_packets: 1 });
        assert!((link.mean_received() - 1500.0).abs() < f64::EPSILON);
        assert_eq!(parse_link(text, "eth1"), None);
    }
}
