//! ReplicaSet: as many pods of a template as asked for.

pub(crate) mod ranking;

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{ReplicaSet, ReplicaSetStatus};
use k8s_openapi::api::core::v1::Pod;
use pontoon_model::resource;
use pontoon_scheduler::requirement::{Labels, Matcher};

use crate::cache::{Cache, Change};
use crate::claim::Claim;
use crate::edit;
use crate::generated_name;
use crate::key::Key;
use crate::plan::{Action, EventType, Plan, Propagation};
use crate::pod_state;
use crate::pod_template;

/// One plan creates or deletes no more pods than this; the next one goes on.
const BURST: usize = 500;

/// The ReplicaSets that a change may concern.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::REPLICA_SETS) {
        return vec![change.key.clone()];
    }
    owners_and_adopters(change, cache)
}

fn owners_and_adopters(change: &Change, cache: &Cache) -> Vec<Key> {
    let mut keys = Vec::new();
    for state in change.states() {
        if let Some(owner) = state.controller() {
            let owner = cache.by_uid(owner).map(|(key, _)| key.clone());
            keys.extend(owner.filter(|k| k.is(resource::REPLICA_SETS)));
        }
    }
    // Labels or owners may have changed so that somebody adopts the pod.
    if let Some(new) = change.new.as_ref().filter(|e| e.controller().is_none()) {
        let namespace = change.key.namespace.as_deref();
        for rs in cache.list::<ReplicaSet>(namespace) {
            if Matcher::from(&rs.spec.selector).matches(&new.meta().labels) {
                keys.push(Key::new(resource::REPLICA_SETS, namespace, name(rs)));
            }
        }
    }
    keys.sort();
    keys.dedup();
    keys
}

fn name(rs: &ReplicaSet) -> &str {
    rs.metadata.name.as_deref().unwrap_or_default()
}

/// Brings the number of pods to what the ReplicaSet asks for and tells of it in its status.
pub(crate) fn reconcile(now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(rs) = cache.get::<ReplicaSet>(key.namespace.as_deref(), &key.name) else {
        return plan;
    };
    let spec = &rs.spec;
    let claim = Claim::new(key, &rs.metadata, &spec.selector);
    let mut pods: Vec<Arc<Pod>> = claim.take(cache, &mut plan);
    pods.retain(|p| pod_state::is_active(p));
    if rs.metadata.deletion_timestamp.is_none() {
        plan.subject = Some(Box::new(edit::reference(cache, key)));
        let wanted = usize::try_from(spec.replicas.unwrap_or(1)).unwrap_or(0);
        if pods.len() < wanted {
            create(key, rs, wanted - pods.len(), cache, &mut plan);
        } else if pods.len() > wanted {
            delete(now, key, &pods, wanted, cache, &mut plan);
        }
    }
    let status = status(now, rs, &pods, &mut plan);
    plan.actions.extend(edit::status(key, &rs.metadata, rs.status.as_ref(), &status));
    plan
}

fn create(key: &Key, rs: &ReplicaSet, missing: usize, cache: &Cache, plan: &mut Plan) {
    let Some(entry) = cache.entry(key) else { return };
    let template = pod_template::of(entry);
    let uid = rs.metadata.uid.as_deref().unwrap_or_default();
    let regarding = edit::reference(cache, key);
    for name in generated_name::next_pods(cache, key, uid, "").take(missing.min(BURST)) {
        plan.push(pod_template::create_pod(&template, &name, key, uid));
        let message = format!("Created pod: {name}");
        plan.event(&regarding, EventType::Normal, "SuccessfulCreate", message);
    }
    if missing > BURST {
        plan.again_in(Duration::ZERO);
    }
}

fn delete(
    now: Timestamp,
    key: &Key,
    pods: &[Arc<Pod>],
    keep: usize,
    cache: &Cache,
    plan: &mut Plan,
) {
    let surplus = pods.len() - keep;
    let regarding = edit::reference(cache, key);
    for pod in ranking::worst(now, pods, surplus.min(BURST)) {
        plan.push(delete_pod(pod, None));
        let name = pod.metadata.name.as_deref().unwrap_or_default();
        plan.event(
            &regarding,
            EventType::Normal,
            "SuccessfulDelete",
            format!("Deleted pod: {name}"),
        );
    }
    if surplus > BURST {
        plan.again_in(Duration::ZERO);
    }
}

/// Deletes this very pod.
pub(crate) fn delete_pod(pod: &Pod, grace_seconds: Option<i64>) -> Action {
    let meta = &pod.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    Action::Delete {
        key: Key::new(resource::PODS, meta.namespace.as_deref(), name),
        uid: meta.uid.clone().unwrap_or_default(),
        grace_seconds,
        propagation: Propagation::Background,
        only_if_absent: Vec::new(),
    }
}

fn status(now: Timestamp, rs: &ReplicaSet, pods: &[Arc<Pod>], plan: &mut Plan) -> ReplicaSetStatus {
    let min_ready = rs.spec.min_ready_seconds.unwrap_or(0);
    let template = rs.spec.template.as_ref().and_then(|t| t.metadata.as_ref());
    let labels = template.and_then(|m| m.labels.clone()).unwrap_or_default();
    let labelled = |pod: &&Arc<Pod>| {
        let none = Labels::new();
        let has = pod.metadata.labels.as_ref().unwrap_or(&none);
        labels.iter().all(|(k, v)| has.get(k) == Some(v))
    };
    let mut available = 0;
    for pod in pods {
        match pod_state::available_in(pod, min_ready, now) {
            Some(left) if left.is_zero() => available += 1,
            Some(left) => plan.again_in(left.unsigned_abs()),
            None => {}
        }
    }
    let former = rs.status.clone().unwrap_or_default();
    ReplicaSetStatus {
        replicas: count(pods.len()),
        fully_labeled_replicas: Some(count(pods.iter().filter(labelled).count())),
        ready_replicas: Some(count(pods.iter().filter(|p| pod_state::is_ready(p)).count())),
        available_replicas: Some(available),
        observed_generation: rs.metadata.generation,
        ..former
    }
}

pub(crate) fn count(n: usize) -> i32 {
    i32::try_from(n).unwrap_or(i32::MAX)
}
