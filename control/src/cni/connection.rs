//! The socket: who may connect, how many at once, how long a request may take to arrive.

use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use headrace_cni::protocol::{self, ProtocolError, Reply};
use headrace_cni::{CniError, ErrorCode};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::Semaphore;
use tracing::{debug, warn};

use super::server::Server;

/// Requests in work. Each holds a thread for moments only; a node's 250 pods at once wait in the backlog.
const AT_ONCE: usize = 64;

/// The plugin sends its request in one piece and reads the answer at once.
const PATIENCE: Duration = Duration::from_secs(10);

/// Binds the socket with mode 0600; it takes the place of one that a dead agent left.
pub(crate) fn listen(path: &Path) -> anyhow::Result<UnixListener> {
    if std::os::unix::net::UnixStream::connect(path).is_ok() {
        bail!("another headrace-agent serves it; stop that one or give this one another --run-dir");
    }
    // Under another name first, so that nobody meets the socket before its mode is set.
    let new = path.with_extension("new");
    match std::fs::remove_file(&new) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e.into()),
        _ => {}
    }
    let listener = UnixListener::bind(&new)?;
    std::fs::set_permissions(&new, PermissionsExt::from_mode(0o600))?;
    std::fs::rename(&new, path)?;
    Ok(listener)
}

/// Takes connections until the process ends.
pub(crate) async fn accept(listener: UnixListener, server: Arc<Server>) -> anyhow::Result<()> {
    let places = Arc::new(Semaphore::new(AT_ONCE));
    loop {
        let place = Arc::clone(&places).acquire_owned().await?;
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(e) => {
                warn!("taking a CNI connection: {e}");
                tokio::time::sleep(Duration::from_millis(100)).await;
                continue;
            }
        };
        let server = Arc::clone(&server);
        tokio::spawn(async move {
            if let Err(e) = converse(stream, &server).await {
                debug!("a CNI connection ended early: {e}");
            }
            drop(place);
        });
    }
}

/// One request, one answer. An error means that there was nobody to answer to.
async fn converse(stream: UnixStream, server: &Server) -> Result<(), ProtocolError> {
    let peer = stream.peer_cred()?;
    let stream = stream.into_std()?;
    stream.set_nonblocking(false)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let (stream, received) = blocking(move || {
        let received = protocol::receive_request(&stream);
        (stream, received)
    })
    .await?;
    let reply = match received {
        _ if peer.uid() != 0 => refuse(ErrorCode::INTERNAL, "only root may attach pods".to_owned()),
        Ok((request, netns)) => server.answer(request, netns).await,
        Err(ProtocolError::Io(e)) => return Err(e.into()),
        Err(e) => refuse(ErrorCode::DECODING_FAILURE, e.to_string()),
    };
    blocking(move || protocol::send_reply(&stream, &reply)).await?
}

fn refuse(code: ErrorCode, msg: String) -> Reply {
    Reply::Error(CniError::new(code, msg))
}

/// Off the runtime's own threads.
async fn blocking<T: Send + 'static>(job: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(job).await.map_err(io::Error::other)
}
