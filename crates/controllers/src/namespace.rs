//! A namespace that is deleted takes everything in it along before it goes.

use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Namespace, NamespaceCondition, NamespaceStatus};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use pontoon_model::{names, resource};
use serde_json::json;

use crate::cache::{Cache, Change};
use crate::edit;
use crate::key::Key;
use crate::plan::{Action, Plan, Propagation, Sub};

/// The condition that tells what a namespace still waits for.
const REMAINING: &str = "NamespaceContentRemaining";

/// The namespace itself, or the one on its way out that something is in.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::NAMESPACES) {
        return vec![change.key.clone()];
    }
    let key = Key::new(resource::NAMESPACES, None, change.key.namespace());
    let going = cache.entry(&key).is_some_and(|e| e.meta().is_terminating());
    going.then_some(key).into_iter().collect()
}

/// Deletes what is in a namespace that is on its way out, and lets it go once it is empty.
pub(crate) fn reconcile(now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let mut plan = Plan::none();
    let Some(namespace) = cache.get::<Namespace>(None, &key.name) else { return plan };
    let finalizers = namespace.spec.as_ref().and_then(|s| s.finalizers.as_ref());
    let held = finalizers.is_some_and(|f| f.iter().any(|f| f == names::FINALIZER_KUBERNETES));
    if namespace.metadata.deletion_timestamp.is_none() || !held {
        return plan;
    }
    let mut left = 0;
    for resource in resource::ALL.iter().filter(|r| r.namespaced) {
        for (object, entry) in cache.entries(resource, Some(&key.name)) {
            left += 1;
            if !entry.meta().is_terminating() {
                plan.push(delete(object, &entry.meta().uid));
            }
        }
    }
    if left > 0 {
        tell(now, key, namespace, left, &mut plan);
        return plan;
    }
    // Nothing can be created in it any more, but something may have been that this cache has not
    // seen yet: the store itself is asked to delete everything once more.
    for resource in resource::ALL.iter().filter(|r| r.namespaced) {
        plan.push(Action::DeleteAll { resource, namespace: key.name.clone() });
    }
    let rest: Vec<_> =
        finalizers.into_iter().flatten().filter(|f| *f != names::FINALIZER_KUBERNETES).collect();
    let patch = json!({"spec": {"finalizers": rest}});
    plan.push(edit::patch(key, &namespace.metadata, Sub::Finalize, patch));
    plan
}

fn delete(key: &Key, uid: &str) -> Action {
    Action::Delete {
        key: key.clone(),
        uid: uid.to_owned(),
        grace_seconds: None,
        propagation: Propagation::Background,
        only_if_absent: Vec::new(),
    }
}

fn tell(now: Timestamp, key: &Key, namespace: &Namespace, left: usize, plan: &mut Plan) {
    let mut status = namespace.status.clone().unwrap_or_default();
    let message = format!("Some content in the namespace remains: {left} objects");
    let conditions = status.conditions.get_or_insert_default();
    let since = conditions.iter().find(|c| c.type_ == REMAINING);
    let since = since.and_then(|c| c.last_transition_time.clone()).unwrap_or(Time(now));
    conditions.retain(|c| c.type_ != REMAINING);
    conditions.push(NamespaceCondition {
        type_: REMAINING.to_owned(),
        status: "True".to_owned(),
        reason: Some("SomeResourcesRemain".to_owned()),
        message: Some(message),
        last_transition_time: Some(since),
    });
    let status = NamespaceStatus { phase: Some("Terminating".to_owned()), ..status };
    let patch = edit::status(key, &namespace.metadata, namespace.status.as_ref(), &status);
    plan.actions.extend(patch);
}
