//! Deployment: changes the template of running pods without losing the service they give.

pub(crate) mod bounds;
mod revision;
mod rolling;
mod rollout;
mod scaling;
mod status;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::Deployment;
use pontoon_model::resource;
use pontoon_scheduler::requirement::Matcher;

use crate::cache::{Cache, Change};
use crate::key::Key;
use crate::plan::Plan;
use rollout::Rollout;

/// The Deployments that a change may concern.
pub(crate) fn keys(change: &Change, cache: &Cache) -> Vec<Key> {
    if change.key.is(resource::DEPLOYMENTS) {
        return vec![change.key.clone()];
    }
    let mut keys = Vec::new();
    for state in change.states() {
        let Some(owner) = state.controller() else { continue };
        let Some((key, entry)) = cache.by_uid(owner) else { continue };
        if key.is(resource::DEPLOYMENTS) {
            keys.push(key.clone());
        } else if let Some((above, _)) = entry.controller().and_then(|uid| cache.by_uid(uid)) {
            // A pod: it matters to the Deployment above its ReplicaSet when it comes and goes
            // and when it becomes ready, which the ReplicaSet's status tells too, but later.
            keys.extend(Some(above.clone()).filter(|k| k.is(resource::DEPLOYMENTS)));
        }
    }
    if change.key.is(resource::REPLICA_SETS) {
        keys.extend(adopters(change, cache));
    }
    keys.sort();
    keys.dedup();
    keys
}

fn adopters(change: &Change, cache: &Cache) -> Vec<Key> {
    let Some(new) = change.new.as_ref().filter(|e| e.controller().is_none()) else {
        return Vec::new();
    };
    let namespace = change.key.namespace.as_deref();
    let matching = cache
        .list::<Deployment>(namespace)
        .filter(|d| Matcher::from(&d.spec.selector).matches(&new.meta().labels));
    let name = |d: &Deployment| d.metadata.name.clone().unwrap_or_default();
    matching.map(|d| Key::new(resource::DEPLOYMENTS, namespace, &name(d))).collect()
}

/// Takes one step towards all pods being of the present template.
pub(crate) fn reconcile(now: Timestamp, key: &Key, cache: &Cache) -> Plan {
    let Some(deployment) = cache.get::<Deployment>(key.namespace.as_deref(), &key.name) else {
        return Plan::none();
    };
    let spec = &deployment.spec;
    let deleting = deployment.metadata.deletion_timestamp.is_some();
    let mut rollout = Rollout::gather(now, key, cache, deployment, spec);
    if deleting {
        rollout.sync_status();
        return rollout.plan;
    }
    let paused = spec.paused == Some(true);
    if !paused && rollout.new.is_some() {
        rollout.sync_revision();
    }
    // A ReplicaSet whose annotations are patched is left for the next time: one patch an object.
    if rollout.plan.is_empty() {
        if paused || rollout.was_resized() {
            rollout.resize();
        } else if rollout.bounds.rolling {
            if rollout.new.is_none() {
                rollout.create_new();
            } else {
                rollout.roll();
            }
        } else {
            recreate(&mut rollout);
        }
        if rollout.plan.is_empty() && !paused {
            rollout.forget_old();
        }
    }
    rollout.sync_status();
    rollout.plan
}

fn recreate(rollout: &mut Rollout<'_>) {
    if rollout.stop_old() || rollout.old_pods_run() {
        return;
    }
    if rollout.new.is_none() {
        rollout.create_new();
    } else {
        rollout.grow_new();
    }
}
