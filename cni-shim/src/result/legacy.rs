//! The result as specification 0.1.0 and 0.2.0 have it: one address of each family, each with its routes, no interfaces.

use std::net::IpAddr;

use ipnetwork::IpNetwork;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{CniResult, IpConfig, Route, cidr};

#[derive(Deserialize)]
struct Family {
    #[serde(with = "cidr")]
    ip: IpNetwork,
    #[serde(default)]
    gateway: Option<IpAddr>,
    #[serde(default)]
    routes: Option<Vec<Route>>,
}

/// Whether a result has this shape.
pub(super) fn is_legacy(json: &Value) -> bool {
    ["ip4", "ip6"].iter().any(|key| json.get(key).is_some_and(|family| !family.is_null()))
}

pub(super) fn from_json(json: &Value) -> Result<CniResult, String> {
    let mut result = CniResult::default();
    for (key, value) in json.as_object().into_iter().flatten() {
        match key.as_str() {
            "ip4" | "ip6" if value.is_null() => {}
            "ip4" | "ip6" => {
                let family = Family::deserialize(value).map_err(|e| format!("{key}: {e}"))?;
                let (address, gateway) = (family.ip, family.gateway);
                result.ips.push(IpConfig { address, gateway, interface: None, other: Map::new() });
                result.routes.extend(family.routes.unwrap_or_default());
            }
            _ => drop(result.other.insert(key.clone(), value.clone())),
        }
    }
    Ok(result)
}

/// The first address of each family; there is no room for more.
pub(super) fn to_json(result: &CniResult) -> Map<String, Value> {
    let mut json = result.other.clone();
    for (key, is_v4) in [("ip4", true), ("ip6", false)] {
        let Some(ip) = result.ips.iter().find(|ip| ip.address.is_ipv4() == is_v4) else { continue };
        let routes: Vec<_> =
            result.routes.iter().filter(|r| r.dst.is_ipv4() == is_v4).map(|r| json!(r)).collect();
        let mut family = json!({ "ip": ip.address.to_string() });
        if let Some(gateway) = ip.gateway {
            family["gateway"] = gateway.to_string().into();
        }
        if !routes.is_empty() {
            family["routes"] = routes.into();
        }
        json.insert(key.to_owned(), family);
    }
    json
}
