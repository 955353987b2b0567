//! Revisions: the ReplicaSet of the present template, its number, and how many old ones are kept.

use std::collections::BTreeMap;

use pontoon_model::resource;
use serde_json::{Value, json};

use super::rollout::{DESIRED, MOST, Member, Rollout};
use crate::edit;
use crate::generated_name;
use crate::key::Key;
use crate::plan::{Action, Propagation};
use crate::pod_template::{self, HASH_LABEL};

/// Numbers the templates of a Deployment in the order they came into force.
pub(super) const REVISION: &str = "deployment.kubernetes.io/revision";
/// The numbers a ReplicaSet had before it came into force again.
const HISTORY: &str = "deployment.kubernetes.io/revision-history";
/// How long that text may get.
const HISTORY_BYTES: usize = 2_000;
/// Annotations that speak of the Deployment itself and are not handed on.
const NOT_COPIED: [&str; 6] = [
    "kubectl.kubernetes.io/last-applied-configuration",
    "deprecated.deployment.rollback.to",
    REVISION,
    HISTORY,
    DESIRED,
    MOST,
];

impl Rollout<'_> {
    /// Gives the new ReplicaSet the highest number, and the Deployment the same.
    pub(super) fn sync_revision(&mut self) {
        let Some(new) = self.new.clone() else { return };
        let highest = self.old.iter().map(revision).max().unwrap_or(0);
        let mine = revision(&new);
        let next = if mine > highest { mine } else { highest.saturating_add(1) };
        let mut wanted = self.handed_on();
        wanted.insert(REVISION.to_owned(), Some(next.to_string()));
        if next != mine && mine > 0 {
            let former = new.annotation(HISTORY).map_or_else(String::new, |h| format!("{h},"));
            let text = format!("{former}{mine}");
            // Users write annotations, too: not all is ASCII.
            let cut = text.ceil_char_boundary(text.len().saturating_sub(HISTORY_BYTES));
            wanted.insert(HISTORY.to_owned(), Some(text[cut..].to_owned()));
        }
        let patch = edit::annotations(&new.key, &new.rs.metadata, &wanted);
        self.plan.actions.extend(patch);
        self.number(next);
    }

    /// Writes the revision on the Deployment.
    fn number(&mut self, revision: i64) {
        let wanted = BTreeMap::from([(REVISION.to_owned(), Some(revision.to_string()))]);
        if let Some(patch) = edit::annotations(self.key, &self.deployment.metadata, &wanted) {
            self.plan.push(patch);
            self.touched = true;
        }
    }

    fn handed_on(&self) -> BTreeMap<String, Option<String>> {
        let own = self.deployment.metadata.annotations.iter().flatten();
        let handed_on = own.filter(|(k, _)| !NOT_COPIED.contains(&k.as_str()));
        handed_on.map(|(k, v)| (k.clone(), Some(v.clone()))).collect()
    }

    /// Creates the ReplicaSet of the present template. Its name is a function of the template, so
    /// that a second creation meets the first; when something else has the name, the Deployment
    /// counts a collision and tries another.
    pub(super) fn create_new(&mut self) {
        let status = self.deployment.status.as_ref();
        let collisions = status.and_then(|s| s.collision_count).unwrap_or(0);
        let hash = generated_name::letters(&pod_template::hash(&self.template, collisions), 10);
        let name = format!("{}-{hash}", self.key.name);
        let key = Key::new(resource::REPLICA_SETS, self.key.namespace.as_deref(), &name);
        if self.cache.entry(&key).is_some() {
            self.count_collision(collisions);
            return;
        }
        let size = self.new_size(0);
        let revision = self.old.iter().map(revision).max().unwrap_or(0).saturating_add(1);
        let body = self.body(&name, &hash, size, revision);
        let namespace = self.key.namespace.clone();
        self.plan.push(Action::Create { resource: resource::REPLICA_SETS, namespace, body });
        if size > 0 {
            let message = format!("Scaled up replica set {name} from 0 to {size}");
            self.event("ScalingReplicaSet", message);
        }
        self.number(revision);
    }

    fn count_collision(&mut self, collisions: i32) {
        let patch = json!({"status": {"collisionCount": collisions.saturating_add(1)}});
        let meta = &self.deployment.metadata;
        self.plan.push(edit::patch(self.key, meta, crate::plan::Sub::Status, patch));
        self.touched = true;
    }

    fn body(&self, name: &str, hash: &str, size: i32, revision: i64) -> Value {
        let mut template = self.template.clone();
        pod_template::label(&mut template, &BTreeMap::from([(HASH_LABEL, hash)]));
        let mut selector = edit::to_json(&self.spec.selector);
        selector["matchLabels"][HASH_LABEL] = json!(hash);
        let mut annotations = self.handed_on();
        for (key, value) in [
            (REVISION, revision.to_string()),
            (DESIRED, self.bounds.replicas.to_string()),
            (MOST, self.bounds.most().to_string()),
        ] {
            annotations.insert(key.to_owned(), Some(value));
        }
        let uid = self.deployment.metadata.uid.as_deref().unwrap_or_default();
        let labels = template["metadata"]["labels"].clone();
        json!({
            "apiVersion": "apps/v1",
            "kind": "ReplicaSet",
            "metadata": {
                "name": name,
                "namespace": self.key.namespace,
                "labels": labels,
                "annotations": annotations,
                "ownerReferences": [edit::controller_reference(self.key, uid)],
            },
            "spec": {
                "replicas": size,
                "minReadySeconds": self.spec.min_ready_seconds.unwrap_or(0),
                "selector": selector,
                "template": template,
            },
        })
    }

    /// Deletes the oldest revisions beyond the limit, if nothing of them runs.
    pub(super) fn forget_old(&mut self) {
        let limit = usize::try_from(self.spec.revision_history_limit.unwrap_or(10)).unwrap_or(0);
        let idle = |m: &&Member| {
            let meta = &m.rs.metadata;
            let observed = m.rs.status.as_ref().and_then(|s| s.observed_generation).unwrap_or(0);
            m.replicas == 0
                && m.reported() == 0
                && observed >= meta.generation.unwrap_or(0)
                && meta.deletion_timestamp.is_none()
        };
        let mut idle: Vec<&Member> = self.old.iter().filter(idle).collect();
        idle.sort_by_key(|m| revision(m));
        let surplus = idle.len().saturating_sub(limit);
        let doomed: Vec<Action> = idle[..surplus].iter().map(|m| delete(m)).collect();
        self.plan.actions.extend(doomed);
    }
}

fn delete(member: &Member) -> Action {
    Action::Delete {
        key: member.key.clone(),
        uid: member.rs.metadata.uid.clone().unwrap_or_default(),
        grace_seconds: None,
        propagation: Propagation::Background,
        only_if_absent: Vec::new(),
    }
}

/// The number of a ReplicaSet; 0 if it has none.
fn revision(member: &Member) -> i64 {
    member.annotation(REVISION).and_then(|r| r.parse().ok()).unwrap_or(0)
}
