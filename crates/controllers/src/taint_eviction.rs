//! Pods leave nodes whose NoExecute taints they do not tolerate, or tolerate for a time.

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::{Node, Pod, Taint, Toleration};
use pontoon_model::{names, resource};
use pontoon_scheduler::{Effect, Tolerance};

use crate::cache::{Cache, Change};
use crate::edit;
use crate::key::Key;
use crate::plan::{EventType, Plan};
use crate::pod_state;
use crate::replica_set;
use crate::settings::Settings;

/// The pod itself, or all pods of a node whose taints changed.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::PODS) {
        let new = change.new.as_ref().and_then(|e| e.get::<Pod>());
        let bound = new.and_then(|p| pod_state::node(p)).and_then(|n| cache.node(n));
        let tainted = bound.is_some_and(|node| no_execute(node).next().is_some());
        return if tainted { vec![change.key.clone()] } else { Vec::new() };
    }
    let taints = |e: &std::sync::Arc<crate::entry::Entry>| -> Vec<Taint> {
        e.get::<Node>().map(|n| no_execute(n).cloned().collect()).unwrap_or_default()
    };
    let before = change.old.as_ref().map(taints).unwrap_or_default();
    let after = change.new.as_ref().map(taints).unwrap_or_default();
    if before == after {
        return Vec::new();
    }
    let key = |pod: &std::sync::Arc<Pod>| {
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        Key::new(resource::PODS, pod.metadata.namespace.as_deref(), name)
    };
    cache.pods_on(&change.key.name).map(key).collect()
}

/// Deletes the pod if its time on its node is up.
pub(crate) fn reconcile(now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(pod) = cache.get::<Pod>(key.namespace.as_deref(), &key.name) else { return plan };
    if !pod_state::is_active(pod) {
        return plan;
    }
    let Some(node) = pod_state::node(pod).and_then(|n| cache.node(n)) else { return plan };
    let Some(due) = due(pod, node, &cache.settings, now) else {
        return plan;
    };
    let left = due.duration_since(now);
    if left > SignedDuration::ZERO {
        plan.again_in(left.unsigned_abs());
        return plan;
    }
    let regarding = edit::reference(cache, key);
    plan.subject = Some(Box::new(regarding.clone()));
    plan.push(replica_set::delete_pod(pod, None));
    let message = format!("Marking for deletion Pod {}/{}", key.namespace(), key.name);
    plan.event(&regarding, EventType::Normal, "TaintManagerEviction", message);
    plan
}

fn no_execute(node: &Node) -> impl Iterator<Item = &Taint> {
    let taints = node.spec.iter().flat_map(|s| s.taints.iter().flatten());
    taints.filter(|t| t.effect == "NoExecute")
}

/// When the pod has to go: `None` if it may stay for ever.
fn due(pod: &Pod, node: &Node, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    no_execute(node).filter_map(|taint| due_for(pod, taint, settings, now)).min()
}

fn due_for(pod: &Pod, taint: &Taint, settings: &Settings, now: Timestamp) -> Option<Timestamp> {
    let since = taint.time_added.as_ref().map_or(now, |t| t.0);
    let spec = pod.spec.as_ref()?;
    let tolerating = spec.tolerations.iter().flatten().filter(|t| tolerates(t, taint));
    let mut seconds: Option<Option<i64>> = None;
    for toleration in tolerating {
        // The shortest toleration that covers the taint counts; one without a time is for ever.
        let this = toleration.toleration_seconds.map(|s| s.max(0));
        seconds = Some(match seconds {
            None => this,
            Some(former) => former.into_iter().chain(this).min(),
        });
    }
    let seconds = match seconds {
        Some(None) => return None,
        Some(Some(seconds)) => seconds,
        None if taint.key == names::TAINT_UNREACHABLE => settings.unreachable_seconds,
        None if taint.key == names::TAINT_NOT_READY => settings.not_ready_seconds,
        None => 0,
    };
    since.checked_add(SignedDuration::from_secs(seconds)).ok()
}

fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let taint = pontoon_scheduler::Taint {
        key: taint.key.clone(),
        value: taint.value.clone().unwrap_or_default(),
        effect: Effect::NoExecute,
    };
    Tolerance::of(toleration).is_some_and(|t| t.covers(&taint))
}
