//! Which pods to delete first when there are too many.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;

use crate::pod_state;

/// Users say with it which pods they would miss least.
const DELETION_COST: &str = "controller.kubernetes.io/pod-deletion-cost";

/// What comes before how pods are spread: not scheduled, not running, not ready, cheap.
type Before = (bool, u8, bool, i64);
/// What comes after it: ready for a short time, often restarted, young.
type After = (u32, Reverse<i32>, Reverse<Timestamp>, String);

/// The pods to delete, worst first: Kubernetes' order, except that the number of pods beside each
/// other on a node is counted anew after each choice, so that what stays is spread evenly.
pub(crate) fn worst(now: Timestamp, pods: &[Arc<Pod>], count: usize) -> Vec<&Arc<Pod>> {
    if count >= pods.len() {
        return pods.iter().collect();
    }
    let mut beside: BTreeMap<&str, usize> = BTreeMap::new();
    for node in pods.iter().filter_map(|p| pod_state::node(p)) {
        *beside.entry(node).or_default() += 1;
    }
    let mut left: Vec<(Before, After, &Arc<Pod>)> =
        pods.iter().map(|p| (before(p), after(now, p), p)).collect();
    let mut chosen = Vec::with_capacity(count);
    for _ in 0..count {
        let crowd = |pod: &Pod| pod_state::node(pod).and_then(|n| beside.get(n)).copied();
        let rank = |i: &usize| {
            let (before, after, pod) = &left[*i];
            (before, Reverse(crowd(pod).unwrap_or(0)), after)
        };
        let Some(at) = (0..left.len()).min_by(|a, b| rank(a).cmp(&rank(b))) else { break };
        let (_, _, pod) = left.swap_remove(at);
        if let Some(node) = pod_state::node(pod) {
            beside.entry(node).and_modify(|n| *n -= 1);
        }
        chosen.push(pod);
    }
    chosen
}

fn before(pod: &Pod) -> Before {
    let phase = match pod_state::phase(pod) {
        "Pending" => 0,
        "Unknown" => 1,
        _ => 2,
    };
    let cost = pod.metadata.annotations.as_ref().and_then(|a| a.get(DELETION_COST));
    let cost = cost.and_then(|c| c.parse().ok()).unwrap_or(0);
    (pod_state::node(pod).is_some(), phase, pod_state::is_ready(pod), cost)
}

fn after(now: Timestamp, pod: &Pod) -> After {
    // Times within a power of two are alike, as in Kubernetes: else the youngest would always go,
    // and they tend to be on one node.
    let ready = pod_state::ready_since(pod).map_or(0, |since| {
        let seconds = now.duration_since(since).as_secs().max(1);
        seconds.ilog2() + 1
    });
    let born = pod.metadata.creation_timestamp.as_ref().map_or(Timestamp::MIN, |t| t.0);
    let name = pod.metadata.name.clone().unwrap_or_default();
    (ready, Reverse(pod_state::restarts(pod)), Reverse(born), name)
}
