//! The controller's end of the socket.

use std::path::{Path, PathBuf};

use tonic::transport::{Channel, Endpoint};

use crate::proto::dataplane_client::DataplaneClient;
use crate::proto::observe_client::ObserveClient;

/// The socket's name in the run directory.
pub const SOCKET: &str = "dataplane.sock";

/// No connection to the dataplane.
#[derive(Debug, thiserror::Error)]
#[error("no dataplane at {path}: {source}; is headrace-dataplane running with this run directory?")]
pub struct ConnectError {
    path: PathBuf,
    source: tonic::transport::Error,
}

/// Connects to the dataplane that serves `run_dir`.
///
/// # Errors
/// [`ConnectError`] names the socket.
pub async fn connect(run_dir: &Path) -> Result<DataplaneClient<Channel>, ConnectError> {
    // A node with a hundred thousand endpoints fills more than the default of 4 MiB.
    Ok(DataplaneClient::new(channel(run_dir).await?).max_decoding_message_size(usize::MAX))
}

/// Connects to the same dataplane, to look into it.
///
/// # Errors
/// [`ConnectError`] names the socket.
pub async fn observe(run_dir: &Path) -> Result<ObserveClient<Channel>, ConnectError> {
    Ok(ObserveClient::new(channel(run_dir).await?).max_decoding_message_size(usize::MAX))
}

async fn channel(run_dir: &Path) -> Result<Channel, ConnectError> {
    let path = run_dir.join(SOCKET);
    let connected = match Endpoint::from_shared(format!("unix://{}", path.display())) {
        Ok(endpoint) => endpoint.connect().await,
        Err(source) => Err(source),
    };
    connected.map_err(|source| ConnectError { path, source })
}
