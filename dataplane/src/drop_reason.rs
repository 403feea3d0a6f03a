//! Every reason for which a frame is dropped: one list for counters, metrics, traces and people.

/// Declares the reasons with the sentence that explains each.
macro_rules! drop_reasons {
    ($($(#[doc = $meaning:literal])+ $name:ident = $label:literal,)+) => {
        /// Why a frame was dropped.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[repr(u8)]
        pub enum DropReason {
            $($(#[doc = $meaning])+ $name,)+
        }

        impl DropReason {
            /// All reasons, in the order of their discriminants.
            pub const ALL: &'static [Self] = &[$(Self::$name,)+];

            /// Name in counters and metrics, snake_case.
            pub fn label(self) -> &'static str {
                match self { $(Self::$name => $label,)+ }
            }

            /// One sentence for people.
            pub fn meaning(self) -> &'static str {
                match self { $(Self::$name => concat!($($meaning,)+).trim_ascii_start(),)+ }
            }
        }
    };
}

drop_reasons! {
    /// No settings yet: nothing is forwarded before the controller has spoken.
    NotConfigured = "not_configured",
    /// Not IPv4 and not ARP: IPv6, spanning tree and the like.
    NotIpv4 = "not_ipv4",
    /// Shorter than its Ethernet header, or without room for the headers it claims.
    Truncated = "truncated",
    /// Headers spread over buffers in a way no driver produces.
    HeaderSplit = "header_split",
    /// IPv4 version, header length or total length cannot be true.
    BadIpv4Header = "bad_ipv4_header",
    /// The IPv4 header's checksum is wrong.
    BadIpv4Checksum = "bad_ipv4_checksum",
    /// Malformed IPv4 options, or source routing.
    BadIpv4Options = "bad_ipv4_options",
    /// Fragment that overlaps headers or the end of the largest packet.
    BadFragment = "bad_fragment",
    /// TCP, UDP or ICMP header with impossible lengths.
    BadTransportHeader = "bad_transport_header",
    /// A superframe whose TCP checksum is wrong: its segments would carry right ones.
    BadChecksum = "bad_checksum",
    /// Source address that no host may have: multicast, broadcast, loopback, 0.0.0.0.
    InvalidSource = "invalid_source",
    /// Multicast or broadcast destination.
    Multicast = "multicast",
    /// A source address that is not the sender's: a pod sent from another one, or somebody on the wire from one of ours.
    SpoofedSource = "spoofed_source",
    /// A pod sent to a MAC address that is not its gateway's.
    NotToGateway = "not_to_gateway",
    /// ARP that is malformed, or asks for anything but the gateway.
    ArpIgnored = "arp_ignored",
    /// VXLAN from an address that is no peer's.
    UnknownPeer = "unknown_peer",
    /// VXLAN header without the I flag or with reserved bits that change its meaning.
    BadVxlanHeader = "bad_vxlan_header",
    /// VXLAN with a network identifier that is not ours.
    WrongVni = "wrong_vni",
    /// Inner Ethernet destination is not this node's tunnel MAC address.
    WrongInnerMac = "wrong_inner_mac",
    /// Inner source address does not belong to the peer that sent it.
    ForeignInnerSource = "foreign_inner_source",
    /// Came without a tunnel from an address whose packets come by one, or from one of this node.
    UntunnelledSource = "untunnelled_source",
    /// Congestion was marked on a packet whose transport cannot hear of it (RFC 6040 4.2).
    CongestionNotEcn = "congestion_not_ecn",
    /// VXLAN whose destination is neither a pod of this node nor the node: peers disagree about routes.
    TunnelTransit = "tunnel_transit",
    /// Time to live ran out; the sender was told where it may be.
    TtlExceeded = "ttl_exceeded",
    /// No pod, peer or route has the destination.
    NoRoute = "no_route",
    /// The next hop's MAC address did not become known in time, or too many packets wait for it.
    NeighborUnresolved = "neighbor_unresolved",
    /// The port the packet should leave by is gone or not ready.
    PortGone = "port_gone",
    /// To the gateway's own address, but no echo request.
    ToGateway = "to_gateway",
    /// A Service without endpoints; the sender was told port unreachable.
    NoEndpoint = "no_endpoint",
    /// A Service of local traffic policy without endpoints on this node.
    NoLocalEndpoint = "no_local_endpoint",
    /// A cluster address at a port that its Service does not have; the sender was told port unreachable.
    NoServicePort = "no_service_port",
    /// A load balancer's address from outside of its source ranges.
    SourceNotAllowed = "source_not_allowed",
    /// A loopback address from elsewhere than the node itself.
    LoopbackDestination = "loopback_destination",
    /// An address of the Service range that no Service holds.
    NoService = "no_service",
    /// TCP to a Service that begins in the middle of a connection.
    TcpMidStream = "tcp_mid_stream",
    /// TCP of a connection that was reset.
    TcpAfterReset = "tcp_after_reset",
    /// A TCP reset far from where its connection is: forged, or of another connection.
    TcpResetForeign = "tcp_reset_foreign",
    /// A later fragment to be translated whose first one was not seen.
    FragmentUnknown = "fragment_unknown",
    /// The first fragment of an SCTP packet whose ports would change: its CRC covers a length that is not known yet.
    SctpFragment = "sctp_fragment",
    /// Every source port of the translation range is taken for this destination.
    SnatPortsExhausted = "snat_ports_exhausted",
    /// A protocol that cannot be translated to the node's address twice at a time.
    SnatConflict = "snat_conflict",
    /// ICMP error about a packet that no flow knows.
    IcmpErrorUnrelated = "icmp_error_unrelated",
    /// ICMP error whose quoted packet cannot be read.
    IcmpErrorMalformed = "icmp_error_malformed",
    /// Larger than the way allows, and must not be fragmented; the sender was told where it may be.
    TooBig = "too_big",
    /// A pod sent more than its bandwidth limit allows.
    EgressLimit = "egress_limit",
    /// A pod was sent more than its bandwidth limit allows.
    IngressLimit = "ingress_limit",
    /// The transmit ring was full.
    TxRingFull = "tx_ring_full",
    /// No chunk was free to build the frame in.
    NoChunk = "no_chunk",
    /// Meant for the node's own stack, which has no host link.
    NoHostLink = "no_host_link",
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What operators read (docs/drops.md) is what there is, in the same words and order.
    #[test]
    fn the_page_about_drops_has_every_reason_and_what_to_do() {
        let page = include_str!("../../docs/drops.md");
        let mut rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
        for reason in DropReason::ALL {
            let row = rows.next().unwrap_or_default();
            let remedy = row.strip_prefix(&format!("{}` | {} | ", reason.label(), reason.meaning()));
            let remedy = remedy.unwrap_or_else(|| panic!("{} is not what {row:?} says", reason.label()));
            assert!(remedy.len() > 10, "{row}");
        }
        assert_eq!(rows.next(), None);
    }
}
