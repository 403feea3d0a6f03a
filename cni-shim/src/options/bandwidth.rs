//! How much a pod may send and receive: the capability `bandwidth`.

use std::num::NonZeroU64;

use serde::{Deserialize, Serialize};

use super::decode::{Object, invalid};
use crate::error::CniError;

/// What containerd sends as burst, having none (`math.MaxUint32`, internal/cri/server/sandbox_run.go). Taken literally, it
/// would let half a gigabyte through before a limit is felt.
const NO_BURST: u64 = u32::MAX as u64;

/// Limits of a pod; `None` = none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Bandwidth {
    /// What the pod receives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ingress: Option<Limit>,
    /// What the pod sends.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub egress: Option<Limit>,
}

/// A token bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Limit {
    /// Bits per second.
    pub rate: NonZeroU64,
    /// Bits that may pass at once; `None` = as the dataplane sees fit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub burst: Option<NonZeroU64>,
}

pub(super) fn read(asked: &Object<'_>) -> Result<Bandwidth, CniError> {
    Ok(Bandwidth {
        ingress: limit(asked, "ingressRate", "ingressBurst")?,
        egress: limit(asked, "egressRate", "egressBurst")?,
    })
}

/// The rules of the reference plugin `bandwidth` (plugins/meta/bandwidth, `validateRateAndBurst`): neither below 0, no burst
/// without a rate. A rate without a burst is fine here.
fn limit(asked: &Object<'_>, rate: &str, burst: &str) -> Result<Option<Limit>, CniError> {
    let bits = |key: &str| {
        let number = asked.number(key)?.unwrap_or(0);
        u64::try_from(number)
            .map_err(|_| invalid(format!("{} is {number}; want 0 or more", asked.place(key))))
    };
    let rate = (asked.place(rate), NonZeroU64::new(bits(rate)?));
    let burst = (asked.place(burst), NonZeroU64::new(bits(burst)?));
    match (rate, burst) {
        ((_, Some(rate)), (_, burst)) => {
            Ok(Some(Limit { rate, burst: burst.filter(|bits| bits.get() != NO_BURST) }))
        }
        ((_, None), (_, None)) => Ok(None),
        ((rate, None), (burst, Some(_))) => Err(invalid(format!("{burst} is set; set {rate} too"))),
    }
}
