//! What a node costs a pod; the cheapest is taken. One unit of spread is a million.

use crate::node_info::NodeInfo;
use crate::pod_info::PodInfo;

/// One more pod of the same group on the node.
const SPREAD: i64 = 1_000_000;
/// A taint that asks the pod to go elsewhere weighs like three pods of its group.
const DISCOURAGED: i64 = 3 * SPREAD;
/// A preference of weight 100 weighs like two pods of the group.
const PREFERENCE: i64 = SPREAD / 50;
/// A node without anything left, against one that is empty; always less than one pod of a group.
const FULL: i64 = SPREAD / 10;

/// The cost of a node for a pod when `beside` pods of its group are there: even spread first,
/// then what the pod prefers, then the least allocated.
pub(crate) fn cost(info: &PodInfo, node: &NodeInfo, beside: u32) -> i64 {
    let discouraged = if node.taints.is_empty() {
        0
    } else {
        i64::try_from(node.discouraging_taints(&info.tolerances)).unwrap_or(i64::MAX / DISCOURAGED)
    };
    i64::from(beside) * SPREAD + discouraged * DISCOURAGED - preference(info, node) * PREFERENCE
        + fullness(info, node)
}

fn preference(info: &PodInfo, node: &NodeInfo) -> i64 {
    let met = info.preferred_nodes.iter().filter(|(_, t)| t.matches(&node.name, &node.labels));
    met.map(|(weight, _)| i64::from(*weight)).sum()
}

/// The mean of how full processors, memory and places would be with the pod, up to [`FULL`].
fn fullness(info: &PodInfo, node: &NodeInfo) -> i64 {
    let (has, used, asked) = (&node.allocatable, &node.requested, &info.requests);
    let part = |has: i64, used: i64, asked: i64| {
        if has <= 0 {
            return FULL;
        }
        let taken = i128::from(used) + i128::from(asked);
        let scaled = taken * i128::from(FULL) / i128::from(has);
        i64::try_from(scaled.clamp(0, i128::from(FULL))).unwrap_or(FULL)
    };
    let parts = part(has.cpu_millis, used.cpu_millis, asked.cpu_millis)
        + part(has.memory_bytes, used.memory_bytes, asked.memory_bytes)
        + part(has.pods, used.pods, asked.pods);
    parts / 3
}
