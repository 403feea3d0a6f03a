//! The answers, byte for byte as kube-proxy gives them (kubernetes 1.35, pkg/proxy/healthcheck/proxy_health.go and
//! service_health.go).

use std::time::SystemTime;

use http_body_util::Full;
use hyper::body::Bytes;
use hyper::header::{CONTENT_TYPE, HeaderValue, X_CONTENT_TYPE_OPTIONS};
use hyper::{Response, StatusCode};
use serde::Serialize;

use super::Health;
use super::server::Answer;
use crate::objects::ObjectName;

/// How Go writes a time that was never set.
const NEVER: &str = "0001-01-01T00:00:00Z";

/// ProxyHealth.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ProxyHealth {
    last_updated: String,
    current_time: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    node_eligible: Option<bool>,
    healthy: bool,
    status: ByFamily,
}

/// One entry for every family that is carried.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ByFamily {
    #[serde(rename = "IPv4")]
    ipv4: FamilyHealth,
}

/// ProxierHealth.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FamilyHealth {
    last_updated: String,
    healthy: bool,
}

/// `/healthz` asks whether traffic may be sent here, `/livez` whether the proxy works. `/alive`, which kube-proxy lacks, asks
/// whether this process does: a restart of the agent mends nothing that ails the dataplane.
pub(super) fn proxy(health: &Health, path: &str) -> Answer {
    match path {
        "/healthz" => proxy_health(health, Some(health.serving.borrow().node_eligible)),
        "/livez" => proxy_health(health, None),
        "/alive" => answer(StatusCode::OK, "text/plain; charset=utf-8", "ok\n".into()),
        _ => answer(StatusCode::NOT_FOUND, "text/plain; charset=utf-8", "404 page not found\n".into()),
    }
}

fn proxy_health(health: &Health, node_eligible: Option<bool>) -> Answer {
    let healthy = health.is_healthy();
    let now = time(SystemTime::now());
    let updated = health.sync.borrow().updated.map_or_else(|| NEVER.into(), time);
    let well = healthy && node_eligible != Some(false);
    let body = ProxyHealth {
        // Of a healthy proxy "recent" is said, whenever the last change was.
        last_updated: if well { now.clone() } else { updated.clone() },
        current_time: now,
        node_eligible,
        healthy,
        status: ByFamily { ipv4: FamilyHealth { last_updated: updated, healthy } },
    };
    let body = serde_json::to_string(&body).unwrap_or_default();
    answer(code(well), "application/json", body)
}

/// Whether a load balancer should send what is for a Service to this node.
pub(super) fn service(health: &Health, name: &ObjectName) -> Answer {
    let local = health.serving.borrow().checks.get(name).map_or(0, |check| check.local_endpoints);
    let healthy = health.is_healthy();
    let body = format!(
        "{{\n\t\"service\": {{\n\t\t\"namespace\": {:?},\n\t\t\"name\": {:?}\n\t}},\n\t\"localEndpoints\": {local},\n\t\
         \"serviceProxyHealthy\": {healthy}\n}}",
        name.namespace, name.name
    );
    let mut answer = answer(code(local > 0 && healthy), "application/json", body);
    answer.headers_mut().insert("x-load-balancing-endpoint-weight", HeaderValue::from(local));
    answer
}

fn code(well: bool) -> StatusCode {
    if well { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn answer(code: StatusCode, content: &'static str, body: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(body)));
    *answer.status_mut() = code;
    answer.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content));
    answer.headers_mut().insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    answer
}

/// RFC 3339.
fn time(time: SystemTime) -> String {
    humantime::format_rfc3339_nanos(time).to_string()
}
