//! The page itself, embedded: built from `control/web`, so that cargo alone makes the whole agent.

use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::response::IntoResponse;
use axum::routing::get;

/// Path, type and content of everything that a browser loads.
const FILES: [(&str, &str, &[u8]); 4] = [
    ("/", "text/html; charset=utf-8", include_bytes!("../../web/dist/index.html")),
    ("/app.js", "text/javascript; charset=utf-8", include_bytes!("../../web/dist/app.js")),
    ("/app.css", "text/css; charset=utf-8", include_bytes!("../../web/dist/app.css")),
    ("/icon.svg", "image/svg+xml", include_bytes!("../../web/dist/icon.svg")),
];

/// One route for each file. Nothing of it is secret, so no token is asked: the page itself asks for it.
pub(super) fn routes() -> Router {
    FILES.into_iter().fold(Router::new(), |router, (path, kind, content)| {
        // An agent that was upgraded must not be shown by the page of the one before.
        let headers = [(CONTENT_TYPE, kind), (CACHE_CONTROL, "no-cache")];
        router.route(path, get(async move || (headers, content).into_response()))
    })
}
