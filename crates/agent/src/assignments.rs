//! Everything this node shall be, as one value: the agent makes the node like the newest one it was given.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{ConfigMap, Node, Pod, Secret, Service};
use k8s_openapi::api::discovery::v1::EndpointSlice;

/// Namespace and name.
pub type ObjectKey = (String, String);

/// The wanted state of one node. Objects are shared and compared by pointer first, so that a new value with one
/// change costs one change.
#[derive(Clone, Debug, Default)]
pub struct Assignments {
    /// Whether this was told by a manager. Until then the node keeps what it has: nothing is stopped because
    /// it is missing here.
    pub complete: bool,
    /// Whether nodes, services and slices are what the node heard before its daemon started: good for names and
    /// wires until a manager says otherwise, no reason to begin or end a pod.
    pub remembered: bool,
    /// The node's own object, for its labels and its pod range.
    pub node: Option<Arc<Node>>,
    /// The pods bound to this node.
    pub pods: BTreeMap<ObjectKey, Arc<Pod>>,
    /// The ConfigMaps that those pods use.
    pub config_maps: BTreeMap<ObjectKey, Arc<ConfigMap>>,
    /// The Secrets that those pods use.
    pub secrets: BTreeMap<ObjectKey, Arc<Secret>>,
    /// All Services.
    pub services: BTreeMap<ObjectKey, Arc<Service>>,
    /// All EndpointSlices.
    pub slices: BTreeMap<ObjectKey, Arc<EndpointSlice>>,
    /// All Nodes by name, for the overlay's peers.
    pub nodes: BTreeMap<String, Arc<Node>>,
    /// Pods of other nodes whose names must resolve here.
    pub service_pods: BTreeMap<ObjectKey, Arc<Pod>>,
}

impl Assignments {
    /// Whether anything was told, now or before the daemon started.
    pub(crate) fn is_known(&self) -> bool {
        self.complete || self.remembered
    }
}
