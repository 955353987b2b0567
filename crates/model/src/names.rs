//! Names that several parts must agree on: labels, annotations, taints, finalizers, ranges.

use std::net::Ipv4Addr;

/// The domain below which services and pods have their names.
pub const CLUSTER_DOMAIN: &str = "cluster.local";
/// Where services get their addresses unless the cluster was made with another range.
pub const SERVICE_CIDR: &str = "10.96.0.0/16";
/// Where nodes get their pod subnets unless the cluster was made with another range.
pub const CLUSTER_CIDR: &str = "10.244.0.0/16";
/// The prefix length of a node's pod subnet.
pub const NODE_SUBNET_PREFIX: u8 = 24;
/// The service address at which every node answers DNS, in the default service range.
pub const DNS_ADDRESS: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);
/// The service of the cluster's own API, in the namespace `default`.
pub const API_SERVICE: &str = "kubernetes";
/// The first and the last port that services get on nodes.
pub const NODE_PORTS: (u16, u16) = (30_000, 32_767);

pub const NAMESPACE_DEFAULT: &str = "default";
pub const NAMESPACE_SYSTEM: &str = "kube-system";
pub const NAMESPACE_PUBLIC: &str = "kube-public";
/// Holds one Lease a node.
pub const NAMESPACE_NODE_LEASE: &str = "kube-node-lease";
/// The namespaces that every cluster has and that cannot be deleted.
pub const NAMESPACES_BUILT_IN: &[&str] =
    &[NAMESPACE_DEFAULT, NAMESPACE_SYSTEM, NAMESPACE_PUBLIC, NAMESPACE_NODE_LEASE];

/// The service account of pods that name no other; every namespace has it.
pub const SERVICE_ACCOUNT_DEFAULT: &str = "default";

/// Keeps a namespace until everything in it is gone; it is in `spec.finalizers`.
pub const FINALIZER_KUBERNETES: &str = "kubernetes";
/// Keeps an object until the garbage collector deleted its dependents.
pub const FINALIZER_FOREGROUND: &str = "foregroundDeletion";
/// Keeps an object until the garbage collector freed its dependents of it.
pub const FINALIZER_ORPHAN: &str = "orphan";

pub const TAINT_NOT_READY: &str = "node.kubernetes.io/not-ready";
pub const TAINT_UNREACHABLE: &str = "node.kubernetes.io/unreachable";
pub const TAINT_UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
pub const TAINT_DISK_PRESSURE: &str = "node.kubernetes.io/disk-pressure";
pub const TAINT_MEMORY_PRESSURE: &str = "node.kubernetes.io/memory-pressure";
pub const TAINT_PID_PRESSURE: &str = "node.kubernetes.io/pid-pressure";
pub const TAINT_NETWORK_UNAVAILABLE: &str = "node.kubernetes.io/network-unavailable";
pub const TAINT_OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

pub const LABEL_HOSTNAME: &str = "kubernetes.io/hostname";
pub const LABEL_OS: &str = "kubernetes.io/os";
pub const LABEL_ARCH: &str = "kubernetes.io/arch";
pub const LABEL_ZONE: &str = "topology.kubernetes.io/zone";
pub const LABEL_REGION: &str = "topology.kubernetes.io/region";
/// The role of a node is the part behind this prefix: `node-role.kubernetes.io/control-plane`.
pub const LABEL_NODE_ROLE_PREFIX: &str = "node-role.kubernetes.io/";
pub const LABEL_CONTROL_PLANE: &str = "node-role.kubernetes.io/control-plane";
/// Every namespace carries its own name.
pub const LABEL_METADATA_NAME: &str = "kubernetes.io/metadata.name";
/// Which service an EndpointSlice belongs to.
pub const LABEL_SERVICE_NAME: &str = "kubernetes.io/service-name";
/// Who keeps an EndpointSlice up to date.
pub const LABEL_MANAGED_BY: &str = "endpointslice.kubernetes.io/managed-by";
pub const LABEL_POD_TEMPLATE_HASH: &str = "pod-template-hash";
pub const LABEL_CONTROLLER_REVISION_HASH: &str = "controller-revision-hash";
/// Services of this label are left alone by the service tables (another implementation has them).
pub const LABEL_PROXY_NAME: &str = "service.kubernetes.io/service-proxy-name";

pub const ANNOTATION_REVISION: &str = "deployment.kubernetes.io/revision";
pub const ANNOTATION_REVISION_HISTORY: &str = "deployment.kubernetes.io/revision-history";
pub const ANNOTATION_DESIRED_REPLICAS: &str = "deployment.kubernetes.io/desired-replicas";
pub const ANNOTATION_MAX_REPLICAS: &str = "deployment.kubernetes.io/max-replicas";
pub const ANNOTATION_LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";
pub const ANNOTATION_DEFAULT_CONTAINER: &str = "kubectl.kubernetes.io/default-container";
pub const ANNOTATION_ENDPOINTS_LAST_CHANGE: &str =
    "endpoints.kubernetes.io/last-change-trigger-time";
/// Makes the garbage collector leave a pod alone when it is what a deletion prefers.
pub const ANNOTATION_POD_DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What labels and annotations of our own begin with.
pub const PONTOON_PREFIX: &str = "pontoon.io/";
/// The role of a node in the store: `manager` or `worker`.
pub const LABEL_ROLE: &str = "pontoon.io/role";

/// The long name of a service: `web.default.svc.cluster.local`.
pub fn service_dns_name(service: &str, namespace: &str) -> String {
    format!("{service}.{namespace}.svc.{CLUSTER_DOMAIN}")
}

/// The address of the service [`API_SERVICE`], in a services' range that begins at `network`: its first, which no other
/// service is given.
#[must_use]
pub fn api_address(network: Ipv4Addr) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(network).saturating_add(1))
}
