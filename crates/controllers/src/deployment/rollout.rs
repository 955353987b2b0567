//! One Deployment with its ReplicaSets, gathered for one decision.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::api::apps::v1::{Deployment, DeploymentSpec, ReplicaSet};
use k8s_openapi::api::core::v1::{ObjectReference, Pod};
use pontoon_model::resource;
use serde_json::{Value, json};

use super::bounds::Bounds;
use crate::cache::Cache;
use crate::claim::Claim;
use crate::edit;
use crate::key::Key;
use crate::plan::{EventType, Plan, Sub};
use crate::pod_state;
use crate::pod_template;
use crate::replica_set::count;

/// The replicas that the Deployment asked for when the ReplicaSet was last scaled.
pub(super) const DESIRED: &str = "deployment.kubernetes.io/desired-replicas";
/// The most pods there could be of all revisions at that time.
pub(super) const MOST: &str = "deployment.kubernetes.io/max-replicas";

/// One ReplicaSet of the Deployment.
#[derive(Clone, Debug)]
pub(super) struct Member {
    pub(super) key: Key,
    pub(super) rs: Arc<ReplicaSet>,
    /// `spec.replicas`, with what this plan does to it.
    pub(super) replicas: i32,
    /// Its pods that are available now, and that it will keep.
    pub(super) available: i32,
    /// Its pods that are there now, those it has yet to delete among them.
    pub(super) present: i32,
}

impl Member {
    fn of(cache: &Cache, rs: Arc<ReplicaSet>, min_ready: i32, now: Timestamp) -> Self {
        let meta = &rs.metadata;
        let uid = meta.uid.as_deref().unwrap_or_default();
        let active = || cache.controlled::<Pod>(uid).filter(|p| pod_state::is_active(p));
        let works = |p: &&Arc<Pod>| pod_state::is_available(p, min_ready, now);
        let available = count(active().filter(works).count());
        let name = meta.name.as_deref().unwrap_or_default();
        let key = Key::new(resource::REPLICA_SETS, meta.namespace.as_deref(), name);
        let replicas = rs.spec.replicas.unwrap_or(1).max(0);
        // What was scaled away is as good as gone although its pods may still answer.
        let present = count(active().count());
        Self { key, replicas, available: available.min(replicas), present, rs }
    }

    pub(super) fn annotation(&self, name: &str) -> Option<&String> {
        self.rs.metadata.annotations.as_ref()?.get(name)
    }

    /// The pods that its own status last spoke of.
    pub(super) fn reported(&self) -> i32 {
        self.rs.status.as_ref().map_or(0, |s| s.replicas)
    }

    pub(super) fn born(&self) -> (Timestamp, &str) {
        let born = self.rs.metadata.creation_timestamp.as_ref();
        (born.map_or(Timestamp::MIN, |t| t.0), &self.key.name)
    }
}

/// A Deployment, its ReplicaSets and the plan being made.
pub(super) struct Rollout<'a> {
    pub(super) now: Timestamp,
    pub(super) key: &'a Key,
    pub(super) cache: &'a Cache,
    pub(super) deployment: &'a Deployment,
    pub(super) spec: &'a DeploymentSpec,
    pub(super) bounds: Bounds,
    pub(super) template: Value,
    /// The ReplicaSet of the present template.
    pub(super) new: Option<Member>,
    /// The others, oldest first.
    pub(super) old: Vec<Member>,
    pub(super) plan: Plan,
    pub(super) regarding: ObjectReference,
    /// The Deployment's metadata was patched in this plan: its status has to wait for the next.
    pub(super) touched: bool,
}

impl<'a> Rollout<'a> {
    pub(super) fn gather(
        now: Timestamp,
        key: &'a Key,
        cache: &'a Cache,
        deployment: &'a Deployment,
        spec: &'a DeploymentSpec,
    ) -> Self {
        let mut plan = Plan::none();
        let claim = Claim::new(key, &deployment.metadata, &spec.selector);
        let sets = claim.take::<ReplicaSet>(cache, &mut plan);
        let min_ready = spec.min_ready_seconds.unwrap_or(0);
        let mut old: Vec<Member> =
            sets.into_iter().map(|rs| Member::of(cache, rs, min_ready, now)).collect();
        old.sort_by(|a, b| a.born().cmp(&b.born()));
        let template = cache.entry(key).map(|e| pod_template::of(e)).unwrap_or_default();
        // The oldest match wins, so that it stays the same one.
        let of_template = |m: &Member| {
            let theirs = cache.entry(&m.key).map(|e| pod_template::of(e));
            theirs.is_some_and(|t| pod_template::same(&t, &template))
        };
        let new = old.iter().position(of_template).map(|at| old.remove(at));
        let regarding = edit::reference(cache, key);
        plan.subject = Some(Box::new(regarding.clone()));
        let bounds = Bounds::of(spec);
        Self {
            now,
            key,
            cache,
            deployment,
            spec,
            bounds,
            template,
            new,
            old,
            plan,
            regarding,
            touched: false,
        }
    }

    /// All ReplicaSets, oldest first but the new one at the end.
    pub(super) fn all(&self) -> impl Iterator<Item = &Member> {
        self.old.iter().chain(&self.new)
    }

    /// The pods that all ReplicaSets together ask for.
    pub(super) fn total(&self) -> i32 {
        self.all().map(|m| m.replicas).fold(0, i32::saturating_add)
    }

    pub(super) fn available(&self) -> i32 {
        self.all().map(|m| m.available).fold(0, i32::saturating_add)
    }

    /// Sets a ReplicaSet's size, and what it is measured by next time. Whether its size changed.
    pub(super) fn scale(&mut self, member: &Member, to: i32) -> bool {
        let mut patch = json!({});
        let marks = [(DESIRED, self.bounds.replicas), (MOST, self.bounds.most())];
        for (name, value) in marks {
            if member.annotation(name) != Some(&value.to_string()) {
                patch["metadata"]["annotations"][name] = json!(value.to_string());
            }
        }
        let from = member.replicas;
        if from != to {
            patch["spec"]["replicas"] = json!(to);
        }
        if patch == json!({}) {
            return false;
        }
        self.plan.push(edit::patch(&member.key, &member.rs.metadata, Sub::Whole, patch));
        if from != to {
            let direction = if to > from { "up" } else { "down" };
            let name = &member.key.name;
            let message = format!("Scaled {direction} replica set {name} from {from} to {to}");
            self.event("ScalingReplicaSet", message);
        }
        from != to
    }

    pub(super) fn event(&mut self, reason: &'static str, message: String) {
        self.plan.event(&self.regarding, EventType::Normal, reason, message);
    }
}
