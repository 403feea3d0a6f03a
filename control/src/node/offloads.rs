//! Offloads of a link whose frames the dataplane takes: only TCP may be handed over in frames larger than the path.
//!
//! A frame of up to 64 KiB is cut into TCP segments by the dataplane, or goes whole to another pod. With anything else the
//! boundaries between datagrams (UDP, SCTP) or the inner headers (tunnels) would be lost, so the kernel has to cut those
//! before. Names as in the kernel's `netdev_features_strings` (net/ethtool/common.c).

use std::io;

/// Never: what is not TCP would arrive as one large packet, and the CRC32c of SCTP is not completed by the dataplane.
const NOT_TCP: [&str; 14] = [
    "tx-udp-segmentation",
    "tx-gso-list",
    "tx-gso-partial",
    "tx-gre-segmentation",
    "tx-gre-csum-segmentation",
    "tx-ipxip4-segmentation",
    "tx-ipxip6-segmentation",
    "tx-udp_tnl-segmentation",
    "tx-udp_tnl-csum-segmentation",
    "tx-tunnel-remcsum-segmentation",
    "tx-sctp-segmentation",
    "tx-esp-segmentation",
    "tx-fcoe-segmentation",
    "tx-checksum-sctp",
];

/// Plain frames only: no large ones either way, and checksums complete.
const PLAIN: [&str; 9] = [
    "tx-tcp-segmentation",
    "tx-tcp-ecn-segmentation",
    "tx-tcp-mangleid-segmentation",
    "tx-tcp6-segmentation",
    "tx-tcp-accecn-segmentation",
    "tx-generic-segmentation",
    "tx-checksum-ip-generic",
    "rx-gro",
    "rx-gro-list",
];

/// A link that would hand over frames nobody can cut.
#[derive(Debug, thiserror::Error)]
pub(crate) enum OffloadError {
    /// The kernel refused the request.
    #[error("switching offloads of {link} off: {cause}")]
    Request {
        /// The link.
        link: String,
        /// What the kernel said.
        cause: io::Error,
    },
    /// The request went through, the features stayed.
    #[error("{link} keeps {}: frames of it cannot be forwarded whole", features.join(", "))]
    Stay {
        /// The link.
        link: String,
        /// What stayed on.
        features: Vec<String>,
    },
}

/// Switches off what the dataplane cannot carry; with `superframes` off, everything. In the calling thread's network
/// namespace. Features that this kernel does not know are not on either.
pub(crate) fn restrict(link: &str, superframes: bool) -> Result<(), OffloadError> {
    let plain: &[&str] = if superframes { &[] } else { &PLAIN };
    let off: Vec<_> = NOT_TCP.iter().chain(plain).map(|feature| (*feature, false)).collect();
    let outcome = headrace_xsk::offloads::set(link, &off)
        .map_err(|cause| OffloadError::Request { link: link.to_owned(), cause })?;
    if outcome.refused.is_empty() {
        return Ok(());
    }
    Err(OffloadError::Stay { link: link.to_owned(), features: outcome.refused })
}
