//! The state that placements are decided on: nodes, and what pods take of them, kept up by changes.

use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Node, Pod};

use crate::fnv::Map;
use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::pod_term::{Namespaces, PodTerm};
use crate::requirement::Labels;

/// How many pods of some kind are on each node, by the node's index.
pub(crate) type Counts = Map<usize, u32>;

/// A pod that is on a node, or that was just decided to go there.
#[derive(Clone, Debug)]
pub(crate) struct Placed {
    pub(crate) uid: String,
    pub(crate) node: usize,
    pub(crate) info: Arc<PodInfo>,
    /// Decided here and not yet seen in the object.
    assumed: bool,
}

/// Pods of one group, which are to be spread.
#[derive(Clone, Debug, Default)]
pub(crate) struct Group {
    pub(crate) nodes: Counts,
    pub(crate) total: usize,
}

/// Pods that look alike to every selector: one namespace, one set of labels.
#[derive(Clone, Debug, Default)]
pub(crate) struct Look {
    /// All of them.
    pub(crate) all: Counts,
    /// Those that are not on their way out.
    pub(crate) staying: Counts,
}

/// All nodes and placed pods, updated one object at a time.
///
/// Nodes keep their index for as long as they or pods on them are known, so that counts can be
/// kept by index. A pod that speaks of a node before the node is known is counted there already.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    pub(crate) nodes: Vec<NodeInfo>,
    by_name: Map<String, usize>,
    free: Vec<usize>,
    pods_on: Vec<usize>,
    /// Indexes of nodes that are present, ascending.
    pub(crate) live: Vec<usize>,
    pods: Map<(String, String), Placed>,
    pub(crate) groups: Map<(String, String), Group>,
    pub(crate) looks: Map<(String, Labels), Look>,
    /// Required anti-affinity of placed pods: where pods are that reject others.
    pub(crate) rejections: Map<PodTerm, Counts>,
    pub(crate) namespaces: Namespaces,
    /// Where the next sampled search begins.
    pub(crate) cursor: usize,
}

impl Snapshot {
    pub fn new() -> Self {
        Self::default()
    }

    /// How many nodes can be scheduled to, in principle.
    pub fn node_count(&self) -> usize {
        self.live.len()
    }

    /// How many pods are placed or assumed.
    pub fn pod_count(&self) -> usize {
        self.pods.len()
    }

    /// What is known of a node.
    pub fn node(&self, name: &str) -> Option<&NodeInfo> {
        self.by_name.get(name).map(|i| &self.nodes[*i]).filter(|n| n.present)
    }

    /// The node that a pod is on or was assumed to go to.
    pub fn node_of(&self, namespace: &str, name: &str) -> Option<&str> {
        let placed = self.pods.get(&(namespace.to_owned(), name.to_owned()))?;
        Some(&self.nodes[placed.node].name)
    }

    /// Takes over a node that is new or has changed.
    pub fn upsert_node(&mut self, node: &Node) {
        let Some(name) = node.metadata.name.as_deref() else { return };
        let index = self.index_of(name);
        self.nodes[index].refresh(node);
        if let Err(at) = self.live.binary_search(&index) {
            self.live.insert(at, index);
        }
    }

    /// Forgets a node. Pods that are said to be on it are counted until they go, too.
    pub fn remove_node(&mut self, name: &str) {
        let Some(index) = self.by_name.get(name).copied() else { return };
        self.nodes[index].present = false;
        if let Ok(at) = self.live.binary_search(&index) {
            self.live.remove(at);
        }
        self.release(index);
    }

    /// Takes over a namespace's labels, which affinity may select by.
    pub fn upsert_namespace(&mut self, namespace: &Namespace) {
        let Some(name) = namespace.metadata.name.clone() else { return };
        let labels = namespace.metadata.labels.clone().unwrap_or_default();
        self.namespaces.insert(name, labels);
    }

    pub fn remove_namespace(&mut self, name: &str) {
        self.namespaces.remove(name);
    }

    /// Takes over a pod that is new or has changed. One that has no node, and was not assumed to
    /// go to one, takes nothing; one that has finished takes nothing any more.
    pub fn upsert_pod(&mut self, pod: &Pod) {
        let (Some(namespace), Some(name)) = (&pod.metadata.namespace, &pod.metadata.name) else {
            return;
        };
        let key = (namespace.clone(), name.clone());
        let uid = pod.metadata.uid.clone().unwrap_or_default();
        let phase = pod.status.as_ref().and_then(|s| s.phase.as_deref());
        let finished = matches!(phase, Some("Succeeded" | "Failed"));
        let node = pod.spec.as_ref().and_then(|s| s.node_name.as_deref()).filter(|n| !n.is_empty());
        match node {
            Some(node) if !finished => {
                let mut info = PodInfo::of(pod);
                info.pinned = None;
                let index = self.index_of(node);
                self.place(key, Placed { uid, node: index, info: Arc::new(info), assumed: false });
            }
            _ => {
                // An update from before the binding must not undo what was decided.
                let waits = self.pods.get(&key).is_some_and(|p| p.assumed && p.uid == uid);
                if finished || !waits {
                    self.remove_pod(namespace, name);
                }
            }
        }
    }

    /// Forgets a pod: it is gone, or binding it failed.
    pub fn remove_pod(&mut self, namespace: &str, name: &str) {
        if let Some(placed) = self.pods.remove(&(namespace.to_owned(), name.to_owned())) {
            self.displace(&placed);
        }
    }

    pub(crate) fn assume(
        &mut self,
        key: (String, String),
        uid: String,
        node: usize,
        info: &Arc<PodInfo>,
    ) {
        self.place(key, Placed { uid, node, info: Arc::clone(info), assumed: true });
    }

    pub(crate) fn assumed(&self, key: &(String, String), uid: &str) -> Option<&str> {
        let placed = self.pods.get(key).filter(|p| p.uid == uid)?;
        Some(&self.nodes[placed.node].name)
    }

    pub(crate) fn group(&self, info: &PodInfo) -> Option<&Group> {
        self.groups.get(&(info.namespace.clone(), info.group.clone()))
    }

    /// The indexes of the named nodes that are present.
    pub(crate) fn indexes(&self, names: &[&str]) -> Vec<usize> {
        let known = names.iter().filter_map(|n| self.by_name.get(*n).copied());
        known.filter(|i| self.nodes[*i].present).collect()
    }

    fn index_of(&mut self, name: &str) -> usize {
        if let Some(index) = self.by_name.get(name) {
            return *index;
        }
        let index = self.free.pop().unwrap_or_else(|| {
            self.nodes.push(NodeInfo::default());
            self.pods_on.push(0);
            self.nodes.len() - 1
        });
        self.nodes[index] = NodeInfo::unknown(name);
        self.pods_on[index] = 0;
        self.by_name.insert(name.to_owned(), index);
        index
    }

    /// Gives the index back once neither the node nor a pod on it is known.
    fn release(&mut self, index: usize) {
        if !self.nodes[index].present && self.pods_on[index] == 0 {
            self.by_name.remove(&self.nodes[index].name);
            self.free.push(index);
        }
    }

    fn place(&mut self, key: (String, String), placed: Placed) {
        self.count(&placed, true);
        if let Some(former) = self.pods.insert(key, placed) {
            self.displace(&former);
        }
    }

    fn displace(&mut self, placed: &Placed) {
        self.count(placed, false);
        self.release(placed.node);
    }

    fn count(&mut self, placed: &Placed, here: bool) {
        let (index, info) = (placed.node, placed.info.as_ref());
        let node = &mut self.nodes[index];
        if here {
            self.pods_on[index] += 1;
            node.take(&info.requests, &info.host_ports);
        } else {
            self.pods_on[index] -= 1;
            node.give_back(&info.requests, &info.host_ports);
        }
        let look = self.looks.entry((info.namespace.clone(), info.labels.clone())).or_default();
        step(&mut look.all, index, here);
        if !info.terminating {
            step(&mut look.staying, index, here);
            let group = self.groups.entry((info.namespace.clone(), info.group.clone()));
            let group = group.or_default();
            step(&mut group.nodes, index, here);
            group.total = if here { group.total + 1 } else { group.total - 1 };
            if group.total == 0 {
                self.groups.remove(&(info.namespace.clone(), info.group.clone()));
            }
        }
        for term in &info.anti_affinity {
            let counts = self.rejections.entry(term.clone()).or_default();
            step(counts, index, here);
            if counts.is_empty() {
                self.rejections.remove(term);
            }
        }
        self.forget_empty_look(info);
    }

    fn forget_empty_look(&mut self, info: &PodInfo) {
        let key = (info.namespace.clone(), info.labels.clone());
        if self.looks.get(&key).is_some_and(|l| l.all.is_empty()) {
            self.looks.remove(&key);
        }
    }
}

fn step(counts: &mut Counts, index: usize, up: bool) {
    if up {
        *counts.entry(index).or_default() += 1;
    } else if let Some(count) = counts.get_mut(&index) {
        *count -= 1;
        if *count == 0 {
            counts.remove(&index);
        }
    }
}
