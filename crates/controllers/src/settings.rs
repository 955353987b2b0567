//! What the cluster was set up with, as far as reconcilers need it.

use std::net::Ipv4Addr;

use ipnet::Ipv4Net;
use pontoon_model::names;

/// How long a pod that asks for nothing stays on a node that is unreachable: not at all, since its
/// death has been confirmed by then. Kubernetes waits five minutes.
pub const UNREACHABLE_SECONDS: i64 = 0;
/// How long such a pod stays on a node that lives but is not ready: longer than the node's daemon
/// takes to be started again, which pods survive.
pub const NOT_READY_SECONDS: i64 = 30;
/// How long pods still get connections when their node's daemon is down: they run on, but nobody
/// probes them.
pub(crate) const SERVING_SECONDS: i64 = 10;

/// The settings of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pods have their addresses from here.
    pub cluster_cidr: Ipv4Net,
    /// Services have their addresses from here.
    pub service_cidr: Ipv4Net,
    /// The prefix length of one node's part of it.
    pub node_prefix: u8,
    /// What a pod that asks for nothing tolerates, in seconds.
    pub unreachable_seconds: i64,
    pub not_ready_seconds: i64,
    /// How many finished pods are kept before the oldest are deleted.
    pub finished_pods_kept: usize,
}

impl Settings {
    /// The address of the service `kubernetes`.
    pub(crate) fn api_address(&self) -> Ipv4Addr {
        names::api_address(self.service_cidr.network())
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_cidr: names::CLUSTER_CIDR.parse().expect("the default is a network"),
            service_cidr: names::SERVICE_CIDR.parse().expect("the default is a network"),
            node_prefix: names::NODE_SUBNET_PREFIX,
            unreachable_seconds: UNREACHABLE_SECONDS,
            not_ready_seconds: NOT_READY_SECONDS,
            finished_pods_kept: 1_000,
        }
    }
}
