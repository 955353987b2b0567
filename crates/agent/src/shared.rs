//! What all pods of a node share: the runtime, images, wires, the way to the managers, and the clock.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use tokio::sync::watch;

use crate::assignments::Assignments;
use crate::config::AgentConfig;
use crate::container::Surroundings;
use crate::engine::Engine;
use crate::images::Images;
use crate::report::Outbox;
use crate::wires::Wires;

/// A port of the node that leads to a pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct PodPort {
    pub host_ip: Option<Ipv4Addr>,
    pub host_port: u16,
    pub udp: bool,
    pub pod_ip: Ipv4Addr,
    pub pod_port: u16,
}

/// The host ports of all pods by uid; whoever keeps the packet filter listens.
pub(crate) type PodPorts = watch::Sender<BTreeMap<String, Vec<PodPort>>>;

/// What all pods share.
pub(crate) struct Shared {
    pub config: AgentConfig,
    pub engine: Arc<dyn Engine>,
    pub images: Arc<dyn Images>,
    pub wires: Arc<dyn Wires>,
    pub outbox: Arc<Outbox>,
    pub assignments: watch::Receiver<Arc<Assignments>>,
    pub ports: PodPorts,
    pub clock: Box<dyn Fn() -> Timestamp + Send + Sync>,
    /// The node's thousandths of a CPU and bytes of memory.
    pub node_cpu_millis: i64,
    pub node_memory_bytes: i64,
    /// The node's address as text.
    pub host_ip: String,
}

impl Shared {
    pub(crate) fn now(&self) -> Timestamp {
        (self.clock)()
    }

    /// What `pod` can ask about the world around it.
    pub(crate) fn around<'a>(
        &'a self,
        pod: &'a Pod,
        pod_ip: Option<Ipv4Addr>,
        assignments: &'a Assignments,
    ) -> Surroundings<'a> {
        Surroundings {
            pod,
            pod_ip,
            node_name: &self.config.node_name,
            host_ip: &self.host_ip,
            node_cpu_millis: self.node_cpu_millis,
            node_memory_bytes: self.node_memory_bytes,
            assignments,
        }
    }

    /// The text of the node's resolver configuration; empty if it has none.
    pub(crate) fn resolv_conf(&self) -> String {
        std::fs::read_to_string(&self.config.resolv_conf).unwrap_or_default()
    }
}
