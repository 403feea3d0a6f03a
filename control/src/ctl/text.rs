//! Numbers and addresses for people.

use std::net::{IpAddr, SocketAddr};

use headrace_api::proto;

/// With a suffix of the metric system: "1.2 k", "3.4 M".
pub(in crate::ctl) fn short(n: f64) -> String {
    let scaled = [(1e9, " G"), (1e6, " M"), (1e3, " k")];
    match scaled.into_iter().find(|(unit, _)| n >= *unit) {
        Some((unit, suffix)) => format!("{:.1}{suffix}", n / unit),
        None => format!("{n:.0}"),
    }
}

/// Bytes.
pub(in crate::ctl) fn bytes(n: u64) -> String {
    if n < 1000 { format!("{n} B") } else { format!("{}B", short(n as f64)) }
}

/// "3 s", "5 min", "2 h", "4 d".
pub(in crate::ctl) fn seconds(n: u64) -> String {
    match n {
        0..120 => format!("{n} s"),
        120..7_200 => format!("{} min", n / 60),
        7_200..172_800 => format!("{} h", n / 3_600),
        _ => format!("{} d", n / 86_400),
    }
}

/// An address of the contract; empty when it holds none.
pub(in crate::ctl) fn address(message: &Option<proto::Address>) -> String {
    ip(message).map(|a| a.to_string()).unwrap_or_default()
}

/// Address and port.
pub(in crate::ctl) fn end(message: &Option<proto::Address>, port: u32) -> String {
    match (ip(message), u16::try_from(port)) {
        (Some(address), Ok(0)) => address.to_string(),
        (Some(address), Ok(port)) => SocketAddr::new(address, port).to_string(),
        _ => String::new(),
    }
}

fn ip(message: &Option<proto::Address>) -> Option<IpAddr> {
    let octets = message.as_ref()?.octets.as_slice();
    let v4 = <[u8; 4]>::try_from(octets).map(IpAddr::from);
    v4.or_else(|_| <[u8; 16]>::try_from(octets).map(IpAddr::from)).ok()
}

/// Name of an IP protocol.
pub(in crate::ctl) fn protocol(number: u32) -> String {
    match number {
        1 => "icmp".into(),
        6 => "tcp".into(),
        17 => "udp".into(),
        132 => "sctp".into(),
        other => other.to_string(),
    }
}

/// "14:03:07.123456", UTC.
pub(in crate::ctl) fn time_of_day(unix_ns: u64) -> String {
    let (seconds, rest) = (unix_ns / 1_000_000_000, unix_ns % 1_000_000_000);
    let (h, m, s) = (seconds / 3_600 % 24, seconds / 60 % 60, seconds % 60);
    format!("{h:02}:{m:02}:{s:02}.{:06}", rest / 1_000)
}

/// Bytes as hexadecimal digits.
pub(in crate::ctl) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        let told: Vec<_> = [0.0, 999.0, 1_500.0, 2_340_000.0, 7.6e9].into_iter().map(short).collect();
        assert_eq!(told, ["0", "999", "1.5 k", "2.3 M", "7.6 G"]);
        assert_eq!([5, 1_500].map(bytes), ["5 B", "1.5 kB"]);
        assert_eq!([5, 130, 8_000, 200_000].map(seconds), ["5 s", "2 min", "2 h", "2 d"]);
        assert_eq!(time_of_day(86_400_000_000_000 + 3_723_000_456_000), "01:02:03.000456");
    }
}
