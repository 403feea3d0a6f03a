//! Encryption of the HTTP ports, and of this agent's requests to other nodes' agents.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::crypto::ring;
use rustls::pki_types::pem::{self, PemObject as _};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// Both directions.
#[derive(Clone)]
pub struct Tls {
    /// For those who come.
    pub(super) acceptor: TlsAcceptor,
    /// To other nodes; `None` without authorities.
    pub(super) connector: Option<TlsConnector>,
}

impl std::fmt::Debug for Tls {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tls(..)")
    }
}

/// A certificate, key or list of authorities that is not usable.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Not there, or not PEM.
    #[error("{}: {source}; {what} in PEM form is wanted", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What was looked for.
        what: &'static str,
        /// What was found.
        source: pem::Error,
    },
    /// Certificate and key do not fit, or are of an unknown kind.
    #[error("{}: {source}", path.display())]
    Unusable {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rustls::Error,
    },
}

/// Reads the files.
pub(super) fn load(certificate: &Path, key: &Path, authorities: Option<&Path>) -> Result<Tls, TlsError> {
    let unusable = |path: &Path| {
        let path = path.to_owned();
        move |source| TlsError::Unusable { path, source }
    };
    let chain = certificates(certificate, "a certificate")?;
    let secret = PrivateKeyDer::from_pem_file(key).map_err(file(key, "a private key"))?;
    let provider = Arc::new(ring::default_provider());
    let server = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(unusable(certificate))?
        .with_no_client_auth()
        .with_single_cert(chain, secret)
        .map_err(unusable(certificate))?;
    let connector = authorities.map(|path| -> Result<TlsConnector, TlsError> {
        let mut roots = RootCertStore::empty();
        for authority in certificates(path, "a certificate authority")? {
            roots.add(authority).map_err(unusable(path))?;
        }
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(unusable(path))?
            .with_root_certificates(roots)
            .with_no_client_auth();
        Ok(TlsConnector::from(Arc::new(client)))
    });
    Ok(Tls { acceptor: TlsAcceptor::from(Arc::new(server)), connector: connector.transpose()? })
}

fn certificates(path: &Path, what: &'static str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let list = CertificateDer::pem_file_iter(path).map_err(file(path, what))?;
    let list = list.collect::<Result<Vec<_>, _>>().map_err(file(path, what))?;
    if list.is_empty() {
        return Err(file(path, what)(pem::Error::NoItemsFound));
    }
    Ok(list)
}

fn file(path: &Path, what: &'static str) -> impl Fn(pem::Error) -> TlsError {
    move |source| TlsError::File { path: path.to_owned(), what, source }
}
