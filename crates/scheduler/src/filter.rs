//! Which nodes a pod cannot go to, and why, in the order kube-scheduler asks.

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;
use crate::topology::Topology;

/// Whether everything that placing pods does not change lets the pod in.
pub(crate) fn suits(info: &PodInfo, node: &NodeInfo) -> bool {
    tolerated(info, node) && info.wants_node(&node.name, &node.labels)
}

/// Whether there is room for the pod now.
pub(crate) fn has_room(info: &PodInfo, node: &NodeInfo) -> bool {
    node.ports_free(&info.host_ports) && node.allocatable.has_room(&node.requested, &info.requests)
}

/// Whether the pod may be there in spite of taints and of cordoning.
pub(crate) fn tolerated(info: &PodInfo, node: &NodeInfo) -> bool {
    !node.cordoned_for(&info.tolerances) && node.forbidding_taint(&info.tolerances).is_none()
}

/// What the first filter that refuses the node says; empty if none does.
pub(crate) fn reasons(
    info: &PodInfo,
    node: &NodeInfo,
    topology: &Topology,
    floors: &[i64],
) -> Vec<String> {
    if node.cordoned_for(&info.tolerances) {
        return vec!["node(s) were unschedulable".to_owned()];
    }
    if info.pinned.as_ref().is_some_and(|p| *p != node.name) {
        return vec!["node(s) didn't match the requested node name".to_owned()];
    }
    if let Some(taint) = node.forbidding_taint(&info.tolerances) {
        return vec![format!("node(s) had untolerated taint {{{}: {}}}", taint.key, taint.value)];
    }
    if !info.wants_node(&node.name, &node.labels) {
        return vec!["node(s) didn't match Pod's node affinity/selector".to_owned()];
    }
    if !node.ports_free(&info.host_ports) {
        return vec!["node(s) didn't have free ports for the requested pod ports".to_owned()];
    }
    let shortages = node.allocatable.shortages(&node.requested, &info.requests);
    if !shortages.is_empty() {
        return shortages;
    }
    topology.refusal(node, floors).map(|r| r.text().to_owned()).into_iter().collect()
}
