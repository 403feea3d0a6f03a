//! The plugin's side of the connection to the agent.

use std::io;
use std::os::fd::BorrowedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use rustix::net::sockopt::{self, Timeout};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};

use crate::error::{CniError, ErrorCode};
use crate::protocol::{self, ProtocolError, Reply, Request};
use crate::result::CniResult;

/// An agent that is there takes a connection at once; a full backlog is an agent that hangs.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);

/// Longer than anything the agent waits for.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Asks the agent of `run_dir` and waits for its answer.
///
/// # Errors
/// The agent's own, or `TRY_AGAIN_LATER` when it is not there or goes away meanwhile.
pub fn ask(
    run_dir: &Path,
    request: &Request,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Option<CniResult>, CniError> {
    let path = protocol::socket_path(run_dir);
    let reply = connect(&path)
        .map_err(ProtocolError::Io)
        .and_then(|stream| exchange(&stream, request, netns))
        .map_err(|cause| away(&path, run_dir, &cause))?;
    match reply {
        Reply::Ok(result) => Ok(result),
        Reply::Error(error) => Err(error),
    }
}

/// `connect(2)` on a Unix socket waits while the backlog is full, up to the socket's send timeout (unix(7)).
fn connect(path: &Path) -> io::Result<UnixStream> {
    let address = SocketAddrUnix::new(path)?;
    let socket =
        rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_timeout(&socket, Timeout::Send, Some(CONNECT_TIMEOUT))?;
    rustix::net::connect(&socket, &address)?;
    Ok(UnixStream::from(socket))
}

fn exchange(
    stream: &UnixStream,
    request: &Request,
    netns: Option<BorrowedFd<'_>>,
) -> Result<Reply, ProtocolError> {
    stream.set_write_timeout(Some(REPLY_TIMEOUT))?;
    stream.set_read_timeout(Some(REPLY_TIMEOUT))?;
    protocol::send_request(stream, request, netns)?;
    protocol::receive_reply(stream)
}

fn away(socket: &Path, run_dir: &Path, cause: &ProtocolError) -> CniError {
    let socket = socket.display();
    match cause {
        ProtocolError::Io(cause) => {
            let cause = match cause.kind() {
                io::ErrorKind::WouldBlock => "no answer in time".to_owned(),
                io::ErrorKind::UnexpectedEof => "it closed the connection".to_owned(),
                _ => cause.to_string(),
            };
            CniError::new(ErrorCode::TRY_AGAIN_LATER, format!("headrace-agent is away: {socket}: {cause}")).details(
                format!(
                    "start headrace-agent with --run-dir {}, or set runDir in the network configuration to the directory \
                     of the agent that runs; the runtime tries again by itself",
                    run_dir.display()
                ),
            )
        }
        other => {
            CniError::new(ErrorCode::INTERNAL, format!("talking to headrace-agent at {socket}: {other}"))
                .details("plugin and agent may be of different versions; install both from one release")
        }
    }
}
