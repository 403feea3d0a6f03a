//! Where the agent serves HTTP, and what it asks of those who look from elsewhere.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use clap::Args;

use super::access::Token;
use super::tls::{self, Tls, TlsError};

/// Shortest token that is taken, in characters: 128 bits written in hexadecimal are 32.
const SHORTEST_TOKEN: usize = 16;

/// Flags of the dashboard and the metrics.
#[derive(Args, Clone, Debug, Default, PartialEq, Eq)]
pub struct HttpArgs {
    /// Where the dashboard is served, ADDRESS:PORT or "none"; beyond loopback --http-token-file is needed
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:9480")]
    pub dashboard: Listen,

    /// Where /metrics is served for Prometheus, ADDRESS:PORT or "none"; beyond loopback --http-token-file is needed
    #[arg(long, value_name = "WHERE", default_value = "127.0.0.1:9481")]
    pub metrics: Listen,

    /// File with the token that dashboard and metrics ask for (a bearer token); the same on all nodes
    #[arg(long, value_name = "FILE")]
    pub http_token_file: Option<PathBuf>,

    /// File with the certificate chain (PEM) of dashboard and metrics; it must name the node's address
    #[arg(long, value_name = "FILE", requires = "http_key")]
    pub http_certificate: Option<PathBuf>,

    /// File with the certificate's private key (PEM)
    #[arg(long, value_name = "FILE", requires = "http_certificate")]
    pub http_key: Option<PathBuf>,

    /// File with the authorities (PEM) that sign all nodes' certificates; with it the dashboard shows the whole cluster
    #[arg(long, value_name = "FILE", requires = "http_certificate")]
    pub http_ca: Option<PathBuf>,

    /// Name by which browsers may call this node, besides addresses and localhost; may be repeated
    #[arg(long, value_name = "NAME")]
    pub http_host: Vec<String>,
}

/// Where to listen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Listen {
    /// Nowhere.
    #[default]
    None,
    /// There.
    At(SocketAddr),
}

impl Listen {
    /// The address, where there is one.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            Self::None => None,
            Self::At(address) => Some(address),
        }
    }
}

impl FromStr for Listen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "none" {
            return Ok(Self::None);
        }
        let address = text.parse().map(Self::At);
        address.map_err(|_| "is no address with a port; write it like 127.0.0.1:9480, or none".into())
    }
}

/// The flags, checked, with the files they name.
#[derive(Debug)]
pub struct HttpConfig {
    /// Dashboard's address.
    pub dashboard: Option<SocketAddr>,
    /// Metrics' address.
    pub metrics: Option<SocketAddr>,
    /// Asked for beyond loopback, and on loopback where it is configured.
    pub token: Option<Token>,
    /// Both ports' encryption.
    pub tls: Option<Tls>,
    /// Names in the Host header that are taken besides addresses.
    pub hosts: Vec<String>,
}

/// HTTP cannot be served as configured.
#[derive(Debug, thiserror::Error)]
pub enum HttpConfigError {
    /// Everybody could look.
    #[error("--{flag} {address} is not on loopback: give --http-token-file, or listen on 127.0.0.1")]
    NoToken {
        /// The flag's name.
        flag: &'static str,
        /// Its value.
        address: SocketAddr,
    },
    /// The token's file cannot be read.
    #[error("--http-token-file {}: {source}", path.display())]
    TokenFile {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The token can be guessed, or no browser could send it.
    #[error(
        "--http-token-file {}: wants at least {SHORTEST_TOKEN} letters, digits, or - . _ ~ + / =; make one with: \
         openssl rand -hex 32",
        .0.display()
    )]
    WeakToken(PathBuf),
    /// Certificate, key or authorities are not usable.
    #[error(transparent)]
    Tls(#[from] TlsError),
}

impl HttpArgs {
    /// Reads what the flags name and checks that it is enough.
    ///
    /// # Errors
    /// [`HttpConfigError`] names the flag and the remedy.
    pub fn load(&self) -> Result<HttpConfig, HttpConfigError> {
        let token = self.http_token_file.as_deref().map(token).transpose()?;
        let (dashboard, metrics) = (self.dashboard.address(), self.metrics.address());
        for (flag, address) in [("dashboard", dashboard), ("metrics", metrics)] {
            if let Some(address) = address.filter(|a| token.is_none() && !a.ip().is_loopback()) {
                return Err(HttpConfigError::NoToken { flag, address });
            }
        }
        let tls = match (&self.http_certificate, &self.http_key) {
            (Some(certificate), Some(key)) => Some(tls::load(certificate, key, self.http_ca.as_deref())?),
            _ => None,
        };
        Ok(HttpConfig { dashboard, metrics, token, tls, hosts: self.http_host.clone() })
    }
}

fn token(path: &Path) -> Result<Token, HttpConfigError> {
    let text = fs::read_to_string(path)
        .map_err(|source| HttpConfigError::TokenFile { path: path.to_owned(), source })?;
    let text = text.trim();
    // RFC 6750, 2.1: what a bearer token is made of.
    let usable = text.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/=".contains(c));
    if text.len() < SHORTEST_TOKEN || !usable {
        return Err(HttpConfigError::WeakToken(path.to_owned()));
    }
    Ok(Token::new(text))
}
