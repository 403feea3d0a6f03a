//! Who may look: methods, Host, Origin and the token, checked before anything else.
//!
//! There are no cookies and no write operations, so another site has nothing to forge; Host and Origin are checked all
//! the same, because without a token (loopback) a name that its owner points at 127.0.0.1 would let a foreign page read
//! (DNS rebinding). An address cannot be rebound, so every address is taken as Host; names only when they are known.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Request, State};
use axum::http::header::{AUTHORIZATION, HOST, ORIGIN, WWW_AUTHENTICATE};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use sha2::{Digest, Sha256};

/// The secret that opens dashboard and metrics. It is compared by its hash, so that time tells nothing about it.
#[derive(Clone)]
pub struct Token {
    text: Arc<str>,
    hash: [u8; 32],
}

impl Token {
    /// The token `text`.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), hash: Sha256::digest(text).into() }
    }

    /// The Authorization header that opens other nodes.
    pub(super) fn header(&self) -> String {
        format!("Bearer {}", self.text)
    }

    fn opens(&self, headers: &HeaderMap) -> bool {
        let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        // RFC 9110, 11.1: the scheme is case-insensitive.
        let given = given.and_then(|value| value.split_once(' '));
        let given = given.filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"));
        given.is_some_and(|(_, token)| <[u8; 32]>::from(Sha256::digest(token.trim())) == self.hash)
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(..)")
    }
}

/// What is asked of every request.
#[derive(Clone, Debug)]
pub struct Access {
    /// `None`: nothing is asked (loopback).
    pub token: Option<Token>,
    /// Names that are taken as Host.
    pub hosts: Vec<String>,
    /// "http" or "https".
    pub scheme: &'static str,
}

/// Why a request is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// There is nothing to write.
    #[error("only GET and HEAD are answered: nothing can be changed here")]
    Method,
    /// A name that could be anybody's.
    #[error(
        "this host name is not known here; use the node's address, or start the agent with --http-host NAME"
    )]
    Host,
    /// Another site's page asks.
    #[error("pages of other sites are not answered")]
    Origin,
    /// Wrong or missing.
    #[error("a token is needed: Authorization: Bearer TOKEN, from the file that --http-token-file names")]
    Token,
}

impl IntoResponse for Denied {
    fn into_response(self) -> Response {
        let status = match self {
            Self::Method => StatusCode::METHOD_NOT_ALLOWED,
            Self::Host => StatusCode::MISDIRECTED_REQUEST,
            Self::Origin => StatusCode::FORBIDDEN,
            Self::Token => StatusCode::UNAUTHORIZED,
        };
        let mut response = (status, format!("{self}\n")).into_response();
        if self == Self::Token {
            response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl Access {
    /// Checks method, Host and Origin.
    ///
    /// # Errors
    /// [`Denied`].
    pub fn check(&self, method: &Method, headers: &HeaderMap) -> Result<(), Denied> {
        if !matches!(*method, Method::GET | Method::HEAD) {
            return Err(Denied::Method);
        }
        let mut hosts = headers.get_all(HOST).iter();
        let host = hosts.next().and_then(|host| host.to_str().ok()).ok_or(Denied::Host)?;
        if hosts.next().is_some() || !self.knows(host) {
            return Err(Denied::Host);
        }
        let own = format!("{}://{host}", self.scheme);
        match headers.get(ORIGIN) {
            Some(origin) if !origin.as_bytes().eq_ignore_ascii_case(own.as_bytes()) => Err(Denied::Origin),
            _ => self.check_site(headers),
        }
    }

    /// Checks the token.
    ///
    /// # Errors
    /// [`Denied::Token`].
    pub fn check_token(&self, headers: &HeaderMap) -> Result<(), Denied> {
        match &self.token {
            Some(token) if !token.opens(headers) => Err(Denied::Token),
            _ => Ok(()),
        }
    }

    fn knows(&self, host: &str) -> bool {
        let Ok(authority) = host.parse::<Authority>() else { return false };
        let name = authority.host();
        let address = name.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
        address.is_ok()
            || name.eq_ignore_ascii_case("localhost")
            || self.hosts.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    /// Browsers tell where a request comes from; links from elsewhere to the page itself are fine.
    fn check_site(&self, headers: &HeaderMap) -> Result<(), Denied> {
        let told = |name: &str| headers.get(name).map_or("", |value| value.to_str().unwrap_or("?"));
        match told("sec-fetch-site") {
            "" | "same-origin" | "none" => Ok(()),
            _ if told("sec-fetch-mode") == "navigate" => Ok(()),
            _ => Err(Denied::Origin),
        }
    }
}

/// The outermost layer: refuses before anything is done, and says to the browser what the page may do.
pub(super) async fn guard(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    let mut response = match access.check(request.method(), request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in HEADERS {
        headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
    }
    response
}

/// The layer around everything that tells about the node.
pub(super) async fn ask_token(State(access): State<Arc<Access>>, request: Request, next: Next) -> Response {
    match access.check_token(request.headers()) {
        Ok(()) => next.run(request).await,
        Err(denied) => denied.into_response(),
    }
}

/// The page may load its own files and ask its own server, nothing else, and nobody may frame it.
const HEADERS: [(&str, &str); 6] = [
    (
        "content-security-policy",
        "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; connect-src 'self'; \
         base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("x-frame-options", "DENY"),
    ("referrer-policy", "no-referrer"),
    ("cross-origin-resource-policy", "same-origin"),
    ("cross-origin-opener-policy", "same-origin"),
];
