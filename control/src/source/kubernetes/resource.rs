//! The agent's slim objects as kube knows resources.
//!
//! The types of k8s-openapi would hold every field of a hundred thousand endpoints; these hold what
//! [`crate::objects`] names, and beside it the version by which a watch finds its place again.

use std::borrow::Cow;
use std::fmt::Debug;
use std::mem;

use k8s_openapi::ClusterResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::Resource;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::objects::{EndpointSlice, Metadata, Namespace, Node, ObjectName, Pod, Service, ServiceCidr};

/// A whole object in one annotation, which nobody here reads.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
/// As kube-proxy lists: objects with one of these labels are another proxy's, or nobody's.
const OURS: &str = "!service.kubernetes.io/service-proxy-name,!service.kubernetes.io/headless";

/// A kind of object that is followed.
pub(super) trait Kind: Clone + Debug + PartialEq + DeserializeOwned + Send + Sync + 'static {
    /// What is unique among objects of the kind.
    type Name: Clone + Ord + Send;
    const KIND: &'static str;
    const GROUP: &'static str;
    const VERSION: &'static str = "v1";
    const PLURAL: &'static str;
    /// Label selector of the objects that matter; `None` = all do.
    const SELECTOR: Option<&'static str>;
    /// Whether there are API servers without this kind; to them it is as if there were no object of it.
    const OPTIONAL: bool = false;
    /// Whether only the objects on this node matter.
    const OF_THIS_NODE: bool = false;

    fn metadata(&mut self) -> &mut Metadata;
    fn name(&self) -> Self::Name;
}

impl Kind for Node {
    type Name = String;
    const KIND: &'static str = "Node";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "nodes";
    const SELECTOR: Option<&'static str> = None;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn name(&self) -> String {
        self.metadata.name.clone()
    }
}

impl Kind for Service {
    type Name = ObjectName;
    const KIND: &'static str = "Service";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "services";
    const SELECTOR: Option<&'static str> = Some(OURS);

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn name(&self) -> ObjectName {
        self.metadata.object_name()
    }
}

impl Kind for EndpointSlice {
    type Name = ObjectName;
    const KIND: &'static str = "EndpointSlice";
    const GROUP: &'static str = "discovery.k8s.io";
    const PLURAL: &'static str = "endpointslices";
    const SELECTOR: Option<&'static str> = Some(OURS);

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn name(&self) -> ObjectName {
        self.metadata.object_name()
    }
}

/// Known since Kubernetes 1.33.
impl Kind for ServiceCidr {
    type Name = String;
    const KIND: &'static str = "ServiceCIDR";
    const GROUP: &'static str = "networking.k8s.io";
    const PLURAL: &'static str = "servicecidrs";
    const SELECTOR: Option<&'static str> = None;
    const OPTIONAL: bool = true;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn name(&self) -> String {
        self.metadata.name.clone()
    }
}

impl Kind for Namespace {
    type Name = String;
    const KIND: &'static str = "Namespace";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "namespaces";
    const SELECTOR: Option<&'static str> = None;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn name(&self) -> String {
        self.metadata.name.clone()
    }
}

impl Kind for Pod {
    type Name = ObjectName;
    const KIND: &'static str = "Pod";
    const GROUP: &'static str = "";
    const PLURAL: &'static str = "pods";
    const SELECTOR: Option<&'static str> = None;
    const OF_THIS_NODE: bool = true;

    fn metadata(&mut self) -> &mut Metadata {
        &mut self.metadata
    }

    fn name(&self) -> ObjectName {
        self.metadata.object_name()
    }
}

/// An object and its version.
#[derive(Clone, Debug)]
pub(super) struct Slim<T> {
    pub(super) object: T,
    /// Only `resourceVersion` is filled in.
    meta: ObjectMeta,
}

impl<'de, T: Kind> Deserialize<'de> for Slim<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut object = T::deserialize(deserializer)?;
        let metadata = object.metadata();
        metadata.annotations.remove(LAST_APPLIED);
        // It changes with every write, also of what is not looked at: equal objects have to stay equal.
        let resource_version = mem::take(&mut metadata.resource_version);
        Ok(Self { object, meta: ObjectMeta { resource_version, ..ObjectMeta::default() } })
    }
}

impl<T: Kind> Resource for Slim<T> {
    type DynamicType = ();
    /// For the whole cluster also where objects have namespaces.
    type Scope = ClusterResourceScope;

    fn kind((): &()) -> Cow<'_, str> {
        T::KIND.into()
    }

    fn group((): &()) -> Cow<'_, str> {
        T::GROUP.into()
    }

    fn version((): &()) -> Cow<'_, str> {
        T::VERSION.into()
    }

    fn plural((): &()) -> Cow<'_, str> {
        T::PLURAL.into()
    }

    fn meta(&self) -> &ObjectMeta {
        &self.meta
    }

    fn meta_mut(&mut self) -> &mut ObjectMeta {
        &mut self.meta
    }
}
