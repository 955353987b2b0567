//! Pods that nobody will ever finish: those of dead and deleted nodes, and too many finished ones.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::Pod;
use pontoon_model::{names, resource};

use crate::cache::{Cache, Change};
use crate::key::Key;
use crate::plan::{Absent, Action, Plan};
use crate::pod_state;
use crate::replica_set;

/// The pod itself, or all pods of a node that was lost or deleted.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::PODS) {
        return if change.new.is_some() { vec![change.key.clone()] } else { Vec::new() };
    }
    if change.new.is_some() && !cache.is_dead(&change.key.name) {
        return Vec::new();
    }
    let key = |pod: &std::sync::Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Key::new(resource::PODS, pod.metadata.namespace.as_deref(), name)
    };
    cache.pods_on(&change.key.name).map(key).collect()
}

/// Takes the pod away at once if its node cannot answer for it any more.
pub(crate) fn reconcile(_now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(pod) = cache.get::<Pod>(key.namespace.as_deref(), &key.name) else { return plan };
    let terminating = pod_state::is_terminating(pod);
    match pod_state::node(pod) {
        None if terminating => plan.push(replica_set::delete_pod(pod, Some(0))),
        Some(node) if cache.node(node).is_none() => plan.push(of_no_node(pod, node)),
        Some(node) if terminating && is_lost(cache, node) => {
            plan.push(replica_set::delete_pod(pod, Some(0)));
        }
        _ if pod_state::is_finished(pod) && !terminating => forget_oldest(cache, &mut plan),
        _ => {}
    }
    plan
}

/// Whether the node's death is not only known here but written down for all.
fn is_lost(cache: &Cache, node: &str) -> bool {
    let taints = cache.node(node).and_then(|n| n.spec.as_ref()).and_then(|s| s.taints.as_ref());
    let mut keys = taints.into_iter().flatten().map(|t| t.key.as_str());
    let written = keys.any(|k| k == names::TAINT_UNREACHABLE || k == names::TAINT_OUT_OF_SERVICE);
    written && cache.is_dead(node)
}

/// Deletes a pod of a node that does not exist, if the store says the same.
fn of_no_node(pod: &Pod, node: &str) -> Action {
    let mut action = replica_set::delete_pod(pod, Some(0));
    if let Action::Delete { only_if_absent, .. } = &mut action {
        only_if_absent.push(Absent { key: Key::new(resource::NODES, None, node), uid: None });
    }
    action
}

fn forget_oldest(cache: &Cache, plan: &mut Plan) {
    let finished = cache.finished_pods();
    let surplus = finished.len().saturating_sub(cache.settings.finished_pods_kept);
    for key in finished.take(surplus) {
        let pod = cache.get::<Pod>(key.namespace.as_deref(), &key.name);
        let pod = pod.filter(|p| !pod_state::is_terminating(p));
        plan.actions.extend(pod.map(|p| replica_set::delete_pod(p, Some(0))));
    }
}
