//! core/v1 Pod and Namespace.

use serde::Deserialize;

use super::Metadata;

/// A pod. What it runs and where is the CNI plugin's to tell.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Pod {
    /// Name, annotations.
    pub metadata: Metadata,
}

/// A namespace.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Namespace {
    /// Name, annotations.
    pub metadata: Metadata,
}
