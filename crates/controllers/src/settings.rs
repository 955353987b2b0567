//! What the cluster was set up with, as far as reconcilers need it.

use ipnet::Ipv4Net;
use pontoon_model::names;

/// How long a pod that asks for nothing stays on a node that is not ready or unreachable. Short,
/// since death has been confirmed by then; Kubernetes waits five minutes.
pub const DEFAULT_TOLERATION_SECONDS: i64 = 2;

/// The settings of one cluster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Pods have their addresses from here.
    pub cluster_cidr: Ipv4Net,
    /// The prefix length of one node's part of it.
    pub node_prefix: u8,
    pub default_toleration_seconds: i64,
    /// How many finished pods are kept before the oldest are deleted.
    pub finished_pods_kept: usize,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            cluster_cidr: names::CLUSTER_CIDR.parse().expect("the default is a network"),
            node_prefix: names::NODE_SUBNET_PREFIX,
            default_toleration_seconds: DEFAULT_TOLERATION_SECONDS,
            finished_pods_kept: 1_000,
        }
    }
}
