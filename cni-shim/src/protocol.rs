//! What plugin and agent say to each other over `RUN_DIR/cni.sock`.
//!
//! One connection, one [`Request`], one [`Reply`]. A message is its length in bytes (4 bytes, big-endian) and that many bytes
//! of JSON. The pod's network namespace travels as a file descriptor (`SCM_RIGHTS`, unix(7)) with the first byte of the
//! request, because the agent may live in another mount namespace, where the path means nothing.
//!
//! Blocking calls; the caller sets timeouts on the socket. Lengths are bounded before memory is taken.

use std::collections::BTreeMap;
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags,
};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::error::CniError;
use crate::result::CniResult;

/// Longest message, in bytes of JSON. GC carries the ids of all attachments of a node, annotations are up to 256 KiB.
pub const MAX_MESSAGE: usize = 4 << 20;

/// Where the agent listens.
pub fn socket_path(run_dir: &Path) -> PathBuf {
    run_dir.join("cni.sock")
}

/// A request to the agent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// What to do.
    pub verb: Verb,
    /// The container's id; empty for GC and STATUS.
    #[serde(default)]
    pub container_id: String,
    /// The interface's name in the pod; empty for GC and STATUS.
    #[serde(default)]
    pub ifname: String,
    /// Path of the pod's network namespace, for the result and for messages only. The namespace itself is the descriptor.
    #[serde(default)]
    pub netns: Option<String>,
    /// `CNI_ARGS`.
    #[serde(default)]
    pub args: BTreeMap<String, String>,
    /// What the configuration's IPAM plugin has given (ADD); `None` = the agent gives the address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ipam: Option<CniResult>,
    /// The network configuration as it came, with `prevResult`.
    pub config: Value,
}

/// The verbs that need the agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Verb {
    /// Attach.
    Add,
    /// Detach.
    Del,
    /// Verify.
    Check,
    /// Remove the leftovers.
    Gc,
    /// Ready for ADD?
    Status,
}

/// The agent's answer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reply {
    /// It is done. ADD has a result, the other verbs have none.
    Ok(Option<CniResult>),
    /// It is not.
    Error(CniError),
}

/// Why a message did not get through.
#[derive(Debug, thiserror::Error)]
pub enum ProtocolError {
    /// The socket failed, or the other side went away.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Too long.
    #[error("a message of {0} bytes; at most {MAX_MESSAGE} are allowed")]
    TooLong(usize),
    /// Not the JSON that was expected.
    #[error("a message that is not valid: {0}")]
    Json(#[from] serde_json::Error),
    /// Descriptors that nobody asked for.
    #[error("{0} file descriptors came with the request; at most one is allowed")]
    Descriptors(usize),
}

/// Sends a request, with the pod's network namespace if there is one.
///
/// # Errors
/// [`ProtocolError`].
pub fn send_request(
    stream: &UnixStream,
    request: &Request,
    netns: Option<BorrowedFd<'_>>,
) -> Result<(), ProtocolError> {
    let message = encode(request)?;
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let descriptors: Vec<_> = netns.into_iter().collect();
    if !descriptors.is_empty() && !control.push(SendAncillaryMessage::ScmRights(&descriptors)) {
        unreachable!("the buffer is made for one descriptor");
    }
    let sent = rustix::net::sendmsg(stream, &[IoSlice::new(&message)], &mut control, SendFlags::NOSIGNAL)
        .map_err(io::Error::from)?;
    let mut stream = stream;
    Ok(stream.write_all(&message[sent..])?)
}

/// Receives a request and the descriptor that came with it.
///
/// # Errors
/// [`ProtocolError`]; descriptors that came with a refused message are closed.
pub fn receive_request(stream: &UnixStream) -> Result<(Request, Option<OwnedFd>), ProtocolError> {
    let mut length = [0; 4];
    let (received, descriptor) = receive_first(stream, &mut length)?;
    let mut rest = stream;
    rest.read_exact(&mut length[received..])?;
    Ok((read_body(stream, length)?, descriptor))
}

/// Sends the answer.
///
/// # Errors
/// [`ProtocolError`].
pub fn send_reply(stream: &UnixStream, reply: &Reply) -> Result<(), ProtocolError> {
    let mut stream = stream;
    Ok(stream.write_all(&encode(reply)?)?)
}

/// Receives the answer.
///
/// # Errors
/// [`ProtocolError`].
pub fn receive_reply(stream: &UnixStream) -> Result<Reply, ProtocolError> {
    let mut length = [0; 4];
    let mut from = stream;
    from.read_exact(&mut length)?;
    read_body(stream, length)
}

fn encode<T: Serialize>(message: &T) -> Result<Vec<u8>, ProtocolError> {
    let mut bytes = vec![0; 4];
    serde_json::to_writer(&mut bytes, message)?;
    let length = bytes.len() - 4;
    match u32::try_from(length) {
        Ok(prefix) if length <= MAX_MESSAGE => {
            bytes[..4].copy_from_slice(&prefix.to_be_bytes());
            Ok(bytes)
        }
        _ => Err(ProtocolError::TooLong(length)),
    }
}

fn read_body<T: DeserializeOwned>(stream: &UnixStream, length: [u8; 4]) -> Result<T, ProtocolError> {
    let length = u32::from_be_bytes(length) as usize;
    if length > MAX_MESSAGE {
        return Err(ProtocolError::TooLong(length));
    }
    let mut body = vec![0; length];
    let mut stream = stream;
    stream.read_exact(&mut body)?;
    Ok(serde_json::from_slice(&body)?)
}

/// The first bytes, with the descriptors that are attached to them.
fn receive_first(stream: &UnixStream, into: &mut [u8; 4]) -> Result<(usize, Option<OwnedFd>), ProtocolError> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(into)];
    let received = rustix::net::recvmsg(stream.as_fd(), &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC)
        .map_err(io::Error::from)?;
    if received.bytes == 0 {
        return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
    }
    let mut descriptors: Vec<OwnedFd> = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            descriptors.extend(more);
        }
    }
    // The kernel pads control buffers, so that a second descriptor may fit; what does not is closed and flagged.
    let truncated = received.flags.contains(ReturnFlags::CTRUNC);
    if descriptors.len() > 1 || truncated {
        return Err(ProtocolError::Descriptors(descriptors.len() + usize::from(truncated)));
    }
    Ok((received.bytes, descriptors.pop()))
}
