//! Traffic between the spaces of a lab, and what came of it.
//!
//! Programs ([`iperf`], [`ping`], [`capture`]) run inside the spaces. Connections that a test wants to look into
//! ([`stream`], [`datagram`]) belong to this process: their sockets are made by a thread inside the space.

pub mod capture;
pub mod connections;
pub mod datagram;
pub mod http;
pub mod iperf;
pub mod ping;
pub mod rising;
pub mod round_trips;
pub mod stream;

pub use capture::Capture;
pub use datagram::UdpServer;
pub use iperf::{Iperf, Protocol};
pub use ping::{Ping, TooLong};
pub use stream::{Hold, TcpServer};
