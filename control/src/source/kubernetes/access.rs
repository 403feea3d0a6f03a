//! How the API server is reached: by a kubeconfig, or with the service account of the agent's pod.

use std::path::PathBuf;

use kube::config::{InClusterError, KubeConfigOptions, Kubeconfig, KubeconfigError};
use kube::{Client, Config};
use tracing::{info, warn};

use super::watch::chain;

/// Where the API server is and who the agent is to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Access {
    /// A kubeconfig file; `None` = the service account of the pod.
    pub kubeconfig: Option<PathBuf>,
    /// The server's URL, in place of the one that is found otherwise.
    pub api_server: Option<String>,
}

/// The API server cannot even be asked.
#[derive(Debug, thiserror::Error)]
pub enum AccessError {
    /// The kubeconfig cannot be used.
    #[error("{}: {reason}; correct --kubeconfig", path.display())]
    Kubeconfig {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// There is no service account.
    #[error("{0}; outside of a pod say --kubeconfig FILE, or --manifests DIRECTORY to do without a cluster")]
    NotInPod(#[from] InClusterError),
    /// The given address is no URL.
    #[error("--api-server {0}; write it like https://10.0.0.1:6443")]
    Server(String),
    /// The credentials cannot be used.
    #[error("cannot make a client for the API server: {0}")]
    Client(#[from] kube::Error),
}

impl Access {
    /// A client. Nothing is sent yet: whether the server answers shows later, and may change.
    ///
    /// # Errors
    /// [`AccessError`].
    pub async fn client(&self) -> Result<Client, AccessError> {
        let mut config = match &self.kubeconfig {
            Some(path) => from_kubeconfig(path.clone()).await?,
            None if self.api_server.is_some() => Config::incluster_dns()?,
            None => {
                warn!(
                    "the API server is reached by the kubernetes Service, which this agent provides itself: a node \
                     without kube-proxy cannot start so; say --api-server https://HOST:PORT"
                );
                Config::incluster()?
            }
        };
        if let Some(server) = &self.api_server {
            config.cluster_url =
                server.parse().map_err(|e| AccessError::Server(format!("{server:?}: {e}")))?;
        }
        info!("API server: {}", config.cluster_url);
        Ok(Client::try_from(config)?)
    }
}

async fn from_kubeconfig(path: PathBuf) -> Result<Config, AccessError> {
    let read = async {
        let file = Kubeconfig::read_from(&path)?;
        Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await
    };
    read.await.map_err(|e: KubeconfigError| AccessError::Kubeconfig { reason: chain(&e), path })
}
