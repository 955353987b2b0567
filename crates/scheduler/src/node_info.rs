//! What the scheduler knows of one node.

use k8s_openapi::api::core::v1::{ContainerPort, Node, Pod};

use crate::fnv::Map;
use crate::pod_info::Tolerance;
use crate::requirement::Labels;
use crate::resources::Resources;

/// The taint that stands for a node's `spec.unschedulable`.
const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// The taint a node without a true Ready condition is treated as having.
const NOT_READY: &str = "node.kubernetes.io/not-ready";

/// A taint: who does not tolerate it stays away.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Taint {
    pub key: String,
    pub value: String,
    pub effect: Effect,
}

/// What a taint does to pods that do not tolerate it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Effect {
    NoSchedule,
    PreferNoSchedule,
    NoExecute,
}

impl Effect {
    /// Reads Kubernetes' spelling; an effect that is not known has none.
    pub fn parse(text: &str) -> Option<Self> {
        match text {
            "NoSchedule" => Some(Self::NoSchedule),
            "PreferNoSchedule" => Some(Self::PreferNoSchedule),
            "NoExecute" => Some(Self::NoExecute),
            _ => None,
        }
    }
}

/// A port on the node's own address. The empty address is all addresses.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HostPort {
    pub address: String,
    pub protocol: String,
    pub port: i32,
}

impl HostPort {
    /// The port that a container takes on its node, if it takes one.
    pub fn of(port: &ContainerPort) -> Option<Self> {
        let number = port.host_port.filter(|p| *p > 0)?;
        let address = match port.host_ip.as_deref() {
            None | Some("" | "0.0.0.0" | "::") => String::new(),
            Some(address) => address.to_owned(),
        };
        let protocol = port.protocol.clone().unwrap_or_else(|| "TCP".to_owned());
        Some(Self { address, protocol, port: number })
    }

    /// All ports of a pod's containers, in order and once each.
    pub fn of_pod(pod: &Pod) -> Vec<Self> {
        let Some(spec) = &pod.spec else { return Vec::new() };
        let ports = spec.containers.iter().flat_map(|c| c.ports.iter().flatten());
        let mut taken: Vec<Self> = ports.filter_map(Self::of).collect();
        taken.sort();
        taken.dedup();
        taken
    }

    fn collides(&self, other: &Self) -> bool {
        let apart =
            !self.address.is_empty() && !other.address.is_empty() && self.address != other.address;
        self.port == other.port && self.protocol == other.protocol && !apart
    }
}

/// One node: what it has, what is taken, and who it lets in.
#[derive(Clone, Debug, Default)]
pub struct NodeInfo {
    pub name: String,
    /// False while only pods speak of the node, or after it was deleted: never a candidate.
    pub present: bool,
    pub labels: Labels,
    /// Its taints, and those that unreadiness and cordoning amount to.
    pub taints: Vec<Taint>,
    pub unschedulable: bool,
    pub ready: bool,
    pub allocatable: Resources,
    pub requested: Resources,
    ports: Map<HostPort, u32>,
}

impl NodeInfo {
    /// A node known by name only.
    pub fn unknown(name: &str) -> Self {
        Self { name: name.to_owned(), ..Self::default() }
    }

    /// Takes over what the object says; what pods take of the node stays.
    pub fn refresh(&mut self, node: &Node) {
        let spec = node.spec.as_ref();
        self.present = true;
        self.labels = node.metadata.labels.clone().unwrap_or_default();
        self.unschedulable = spec.and_then(|s| s.unschedulable).unwrap_or(false);
        self.ready = is_ready(node);
        self.allocatable = Resources::of_node(node);
        let taints = spec.into_iter().flat_map(|s| s.taints.iter().flatten());
        self.taints = taints
            .filter_map(|t| {
                let value = t.value.clone().unwrap_or_default();
                Some(Taint { key: t.key.clone(), value, effect: Effect::parse(&t.effect)? })
            })
            .filter(|t| t.key != UNSCHEDULABLE)
            .collect();
        let lost = |t: &Taint| t.key == NOT_READY || t.key == "node.kubernetes.io/unreachable";
        if !self.ready && !self.taints.iter().any(lost) {
            // The lifecycle controller is about to say the same with a taint.
            self.taints.push(bare(NOT_READY));
        }
    }

    pub(crate) fn take(&mut self, requests: &Resources, ports: &[HostPort]) {
        self.requested.add(requests);
        for port in ports {
            *self.ports.entry(port.clone()).or_default() += 1;
        }
    }

    pub(crate) fn give_back(&mut self, requests: &Resources, ports: &[HostPort]) {
        self.requested.subtract(requests);
        for port in ports {
            if let Some(count) = self.ports.get_mut(port) {
                *count -= 1;
                if *count == 0 {
                    self.ports.remove(port);
                }
            }
        }
    }

    /// Whether none of these ports is taken by a pod on the node.
    pub fn ports_free(&self, wanted: &[HostPort]) -> bool {
        wanted.iter().all(|port| !self.ports.keys().any(|taken| taken.collides(port)))
    }

    /// The first taint that keeps the pod away.
    pub fn forbidding_taint(&self, tolerances: &[Tolerance]) -> Option<&Taint> {
        self.taints.iter().find(|taint| {
            taint.effect != Effect::PreferNoSchedule && !tolerances.iter().any(|t| t.covers(taint))
        })
    }

    /// How many taints ask the pod to go elsewhere if it can.
    pub fn discouraging_taints(&self, tolerances: &[Tolerance]) -> usize {
        let discourages = |taint: &&Taint| {
            taint.effect == Effect::PreferNoSchedule && !tolerances.iter().any(|t| t.covers(taint))
        };
        self.taints.iter().filter(discourages).count()
    }

    /// Whether the node is cordoned and the pod does not tolerate that.
    pub fn cordoned_for(&self, tolerances: &[Tolerance]) -> bool {
        self.unschedulable && !tolerances.iter().any(|t| t.covers(&bare(UNSCHEDULABLE)))
    }
}

fn bare(key: &str) -> Taint {
    Taint { key: key.to_owned(), value: String::new(), effect: Effect::NoSchedule }
}

fn is_ready(node: &Node) -> bool {
    let conditions = node.status.iter().flat_map(|s| s.conditions.iter().flatten());
    conditions.filter(|c| c.type_ == "Ready").any(|c| c.status == "True")
}
