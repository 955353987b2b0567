//! What should change: reconcilers that see a [`Cache`] and a time and return a [`Plan`]. Pure:
//! no runtime, clock, randomness or I/O, so that a simulator runs the same code as a cluster.
//!
//! A reconciler takes no event, only the state. It may be run at any time, any number of times;
//! run again on the state that its plan leads to, it plans nothing.

mod api_service;
mod cache;
mod claim;
mod daemon_set;
mod deployment;
mod edit;
mod endpoint_slice_mirroring;
mod endpoint_slices;
mod endpoints;
mod entry;
mod garbage;
mod generated_name;
mod key;
mod namespace;
mod node_ipam;
mod node_lifecycle;
mod plan;
mod pod_garbage;
mod pod_state;
mod pod_template;
mod replica_set;
mod retired;
mod service_account;
mod service_backends;
mod settings;
mod taint_eviction;

use jiff::Timestamp;
use pontoon_model::resource::{self, Resource};

pub use cache::{Cache, Change, Liveness};
pub use entry::{Cached, Entry, Unreadable};
pub use key::Key;
pub use node_lifecycle::{is_unanswered, is_written_off};
pub use plan::{Absent, Action, EventType, Plan, Propagation, Sub};
pub use settings::{NOT_READY_SECONDS, Settings, UNREACHABLE_SECONDS};

/// One reconciler and what it has to be run for.
#[derive(Clone, Copy, Debug)]
pub struct Controller {
    /// Names the work queue and the source of events, such as `replicaset-controller`.
    pub name: &'static str,
    /// Changes of these are given to `keys`; changes of a node's liveness come as changes of
    /// the node.
    pub watches: &'static [&'static Resource],
    /// What to run the reconciler for after a change that the cache has taken over.
    pub keys: fn(&Change, &Cache) -> Vec<Key>,
    pub reconcile: fn(Timestamp, &Key, &Cache) -> Plan,
}

/// Every controller.
pub const ALL: &[Controller] = &[
    Controller {
        name: "deployment-controller",
        watches: &[resource::DEPLOYMENTS, resource::REPLICA_SETS, resource::PODS],
        keys: deployment::keys,
        reconcile: deployment::reconcile,
    },
    Controller {
        name: "replicaset-controller",
        watches: &[resource::REPLICA_SETS, resource::PODS],
        keys: replica_set::keys,
        reconcile: replica_set::reconcile,
    },
    Controller {
        name: "daemonset-controller",
        watches: &[
            resource::DAEMON_SETS,
            resource::CONTROLLER_REVISIONS,
            resource::PODS,
            resource::NODES,
        ],
        keys: daemon_set::keys,
        reconcile: daemon_set::reconcile,
    },
    Controller {
        name: "endpoint-controller",
        watches: &[resource::SERVICES, resource::PODS, resource::NODES, resource::ENDPOINTS],
        keys: endpoints::keys,
        reconcile: endpoints::reconcile,
    },
    Controller {
        name: "endpointslice-controller",
        watches: &[resource::SERVICES, resource::PODS, resource::NODES, resource::ENDPOINT_SLICES],
        keys: endpoint_slices::keys,
        reconcile: endpoint_slices::reconcile,
    },
    Controller {
        name: "endpointslice-mirroring-controller",
        watches: &[resource::SERVICES, resource::ENDPOINTS, resource::ENDPOINT_SLICES],
        keys: endpoint_slice_mirroring::keys,
        reconcile: endpoint_slice_mirroring::reconcile,
    },
    Controller {
        name: "kubernetes-service-controller",
        watches: &[resource::NODES, resource::SERVICES, resource::ENDPOINTS],
        keys: api_service::keys,
        reconcile: api_service::reconcile,
    },
    Controller {
        name: "namespace-controller",
        watches: resource::ALL,
        keys: namespace::keys,
        reconcile: namespace::reconcile,
    },
    Controller {
        name: "garbage-collector",
        watches: resource::ALL,
        keys: garbage::keys,
        reconcile: garbage::reconcile,
    },
    Controller {
        name: "node-lifecycle-controller",
        watches: &[resource::NODES, resource::PODS],
        keys: node_lifecycle::keys,
        reconcile: node_lifecycle::reconcile,
    },
    Controller {
        name: "taint-eviction-controller",
        watches: &[resource::NODES, resource::PODS],
        keys: taint_eviction::keys,
        reconcile: taint_eviction::reconcile,
    },
    Controller {
        name: "pod-garbage-collector",
        watches: &[resource::NODES, resource::PODS],
        keys: pod_garbage::keys,
        reconcile: pod_garbage::reconcile,
    },
    Controller {
        name: "node-ipam-controller",
        watches: &[resource::NODES],
        keys: node_ipam::keys,
        reconcile: node_ipam::reconcile,
    },
    Controller {
        name: "service-account-controller",
        watches: &[resource::NAMESPACES, resource::SERVICE_ACCOUNTS],
        keys: service_account::keys,
        reconcile: service_account::reconcile,
    },
];

#[cfg(test)]
mod cases;
#[cfg(test)]
mod convergence;
#[cfg(test)]
mod simulator;
