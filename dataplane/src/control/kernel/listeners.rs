//! Ports that processes of this node listen on, from /proc/net (proc_net(5)).

use std::collections::BTreeSet;
use std::ops::RangeInclusive;
use std::path::PathBuf;

/// State of a listening TCP socket, TCP_LISTEN of net/tcp_states.h.
const TCP_LISTEN: &str = "0A";

/// A table of sockets cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read {path}: {source}; ports with listeners may be used for translation")]
pub struct ListenersError {
    path: PathBuf,
    source: std::io::Error,
}

/// Ports of `range` with a listening TCP socket or a bound UDP socket, of either family, in the thread's network namespace.
///
/// # Errors
/// [`ListenersError`] when /proc does not tell. A family that the kernel lacks is no error.
pub fn listening(range: &RangeInclusive<u16>) -> Result<BTreeSet<u16>, ListenersError> {
    let mut ports = BTreeSet::new();
    for (table, state) in
        [("tcp", Some(TCP_LISTEN)), ("tcp6", Some(TCP_LISTEN)), ("udp", None), ("udp6", None)]
    {
        let path = PathBuf::from("/proc/thread-self/net").join(table);
        match std::fs::read_to_string(&path) {
            Ok(content) => ports.extend(content.lines().skip(1).filter_map(|l| local_port(l, state))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound && table.ends_with('6') => {}
            Err(source) => return Err(ListenersError { path, source }),
        }
    }
    ports.retain(|port| range.contains(port));
    Ok(ports)
}

/// The local port of a line "sl: local_address:port rem_address:port st ..." in hexadecimal, if it is in that state.
fn local_port(line: &str, state: Option<&str>) -> Option<u16> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let (_, port) = fields.next()?.rsplit_once(':')?;
    let is = fields.nth(1)?;
    u16::from_str_radix(port, 16).ok().filter(|_| state.is_none_or(|wanted| wanted == is))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net_give_their_local_port() {
        let listening = "   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1";
        let connected = "   1: 0100007F:1F91 0100007F:0050 01 00000000:00000000 00:00000000 00000000 0 0 1 1";
        let v6 = " 2: 00000000000000000000000000000000:1F92 00000000000000000000000000000000:0000 0A 0:0 0:0";
        assert_eq!(local_port(listening, Some(TCP_LISTEN)), Some(8080));
        assert_eq!(local_port(connected, Some(TCP_LISTEN)), None);
        assert_eq!(local_port(connected, None), Some(8081));
        assert_eq!(local_port(v6, Some(TCP_LISTEN)), Some(8082));
        assert_eq!(local_port("garbage", None), None);
    }

    #[test]
    fn sockets_of_this_process_are_found() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = std::net::UdpSocket::bind("[::1]:0")
            .or_else(|_| std::net::UdpSocket::bind("127.0.0.1:0"))
            .unwrap();
        let (tcp, udp) = (tcp.local_addr().unwrap().port(), udp.local_addr().unwrap().port());
        let found = listening(&(1..=65535)).unwrap();
        assert!(found.contains(&tcp) && found.contains(&udp), "{found:?}");
        assert!(!listening(&(tcp + 1..=65535)).unwrap().contains(&tcp));
    }
}
