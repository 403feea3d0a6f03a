//! A port of a space, reachable on the machine's own loopback: how a browser gets to a node's dashboard.
//!
//! Connections are made on a thread that enters the space's network namespace; bytes are copied by two threads each.

use std::io;
use std::net::{Ipv4Addr, Shutdown, SocketAddrV4, TcpListener, TcpStream};

use crate::{LabError, Space};

/// Forwards to one port of the space's loopback.
#[derive(Debug)]
pub struct Forward {
    listener: TcpListener,
    space: Space,
    port: u16,
}

impl Forward {
    /// Listens on the machine's loopback, on `local` (0 = any free port).
    ///
    /// # Errors
    /// [`LabError::Io`] when the port is taken.
    pub fn listen(space: &Space, port: u16, local: u16) -> Result<Self, LabError> {
        let address = SocketAddrV4::new(Ipv4Addr::LOCALHOST, local);
        let what = format!("listen on {address} (--listen takes another port)");
        let listener = TcpListener::bind(address).map_err(LabError::io(what))?;
        Ok(Self { listener, space: space.clone(), port })
    }

    /// Where it listens.
    ///
    /// # Errors
    /// [`LabError::Io`].
    pub fn local_port(&self) -> Result<u16, LabError> {
        Ok(self.listener.local_addr().map_err(LabError::io("look at a socket"))?.port())
    }

    /// Carries all connections, until the space is gone.
    ///
    /// # Errors
    /// [`LabError::Io`] when the namespace is gone.
    pub fn run(&self) -> Result<(), LabError> {
        loop {
            let (near, _) = self.listener.accept().map_err(LabError::io("accept a connection"))?;
            let target = SocketAddrV4::new(Ipv4Addr::LOCALHOST, self.port);
            // Nobody listens there while the agent is away: the browser sees a connection that ends at once.
            let Ok(far) = self.space.enter(|| TcpStream::connect(target))? else { continue };
            let copies = [(near.try_clone(), far.try_clone()), (Ok(far), Ok(near))];
            for (from, to) in copies {
                let (Ok(from), Ok(to)) = (from, to) else { continue };
                std::thread::spawn(move || copy(from, &to));
            }
        }
    }
}

/// Until one side ends; then the other side learns of it.
fn copy(mut from: TcpStream, to: &TcpStream) {
    // An error is an end as well.
    let _ = io::copy(&mut from, &mut &*to);
    let _ = to.shutdown(Shutdown::Both);
    let _ = from.shutdown(Shutdown::Both);
}
