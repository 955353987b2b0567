//! The revisions of a DaemonSet's template, kept as ControllerRevisions: what `kubectl rollout` shows and goes back to.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet};
use k8s_openapi::api::core::v1::Pod;
use pontoon_model::resource;
use serde_json::{Value, json};

use super::daemon_pod::REVISION;
use crate::cache::Cache;
use crate::edit;
use crate::generated_name;
use crate::key::Key;
use crate::plan::{Action, Plan, Propagation, Sub};
use crate::pod_template;

/// As many letters tell templates apart.
const HASH_LENGTH: usize = 10;
/// Tells a strategic merge patch that the template is replaced by this one.
const PATCH: &str = "$patch";

/// The revisions that a DaemonSet has.
pub(super) struct History {
    /// The newest one of the present template.
    current: Option<Arc<ControllerRevision>>,
    /// The others, oldest first.
    old: Vec<Arc<ControllerRevision>>,
    /// The label of the pods of the present template.
    pub(super) hash: String,
}

impl History {
    pub(super) fn new(
        revisions: Vec<Arc<ControllerRevision>>,
        template: &Value,
        collisions: i32,
    ) -> Self {
        let (mut same, mut old): (Vec<_>, Vec<_>) =
            revisions.into_iter().partition(|r| pod_template::same(&template_of(r), template));
        same.sort_by_key(|r| r.revision);
        let current = same.pop();
        old.extend(same);
        old.sort_by_key(|r| r.revision);
        let label = current.as_ref().and_then(|r| r.metadata.labels.as_ref()?.get(REVISION));
        let hash = label.cloned().unwrap_or_else(|| {
            generated_name::letters(&pod_template::hash(template, collisions), HASH_LENGTH)
        });
        Self { current, old, hash }
    }

    /// Keeps the present template as the newest revision. False if the name that it should have is another's: a new
    /// name has to be found first.
    pub(super) fn record(
        &self,
        key: &Key,
        set: &DaemonSet,
        template: &Value,
        cache: &Cache,
        plan: &mut Plan,
    ) -> bool {
        let newest = self.old.last().and_then(|r| r.revision).unwrap_or(0).saturating_add(1);
        if let Some(current) = &self.current {
            if current.revision.unwrap_or(0) < newest {
                let patch = json!({ "revision": newest });
                plan.push(edit::patch(&key_of(current), &current.metadata, Sub::Whole, patch));
            }
            return true;
        }
        let name = generated_name::join(&key.name, &self.hash);
        let made = Key::new(resource::CONTROLLER_REVISIONS, key.namespace.as_deref(), &name);
        if cache.entry(&made).is_some() {
            let collisions = set.status.as_ref().and_then(|s| s.collision_count).unwrap_or(0);
            let patch = json!({"status": {"collisionCount": collisions.saturating_add(1)}});
            plan.push(edit::patch(key, &set.metadata, Sub::Status, patch));
            return false;
        }
        let body = self.body(&name, newest, key, set, template);
        let namespace = key.namespace.clone();
        plan.push(Action::Create { resource: resource::CONTROLLER_REVISIONS, namespace, body });
        true
    }

    fn body(
        &self,
        name: &str,
        revision: i64,
        key: &Key,
        set: &DaemonSet,
        template: &Value,
    ) -> Value {
        let mut labelled = template.clone();
        pod_template::label(&mut labelled, &BTreeMap::from([(REVISION, self.hash.as_str())]));
        let mut template = template.clone();
        template[PATCH] = json!("replace");
        let uid = set.metadata.uid.as_deref().unwrap_or_default();
        json!({
            "apiVersion": "apps/v1",
            "kind": "ControllerRevision",
            "metadata": {
                "name": name,
                "namespace": key.namespace,
                "labels": labelled["metadata"]["labels"],
                // The reason of the change, which `kubectl rollout history` shows, is among them.
                "annotations": set.metadata.annotations,
                "ownerReferences": [edit::controller_reference(key, uid)],
            },
            "data": {"spec": {"template": template}},
            "revision": revision,
        })
    }

    /// Deletes the oldest revisions beyond the limit, if no pod is of them.
    pub(super) fn forget_old<'p>(
        &self,
        limit: Option<i32>,
        pods: impl Iterator<Item = &'p Arc<Pod>>,
        plan: &mut Plan,
    ) {
        let limit = usize::try_from(limit.unwrap_or(10)).unwrap_or(0);
        let in_use: BTreeSet<&String> =
            pods.filter_map(|pod| pod.metadata.labels.as_ref()?.get(REVISION)).collect();
        let is_idle = |r: &&Arc<ControllerRevision>| {
            let label = r.metadata.labels.as_ref().and_then(|labels| labels.get(REVISION));
            label.is_none_or(|label| !in_use.contains(label))
                && r.metadata.deletion_timestamp.is_none()
        };
        let surplus = self.old.len().saturating_sub(limit);
        for doomed in self.old.iter().filter(is_idle).take(surplus) {
            plan.push(Action::Delete {
                key: key_of(doomed),
                uid: doomed.metadata.uid.clone().unwrap_or_default(),
                grace_seconds: None,
                propagation: Propagation::Background,
                only_if_absent: Vec::new(),
            });
        }
    }
}

fn key_of(revision: &ControllerRevision) -> Key {
    let meta = &revision.metadata;
    let name = meta.name.as_deref().unwrap_or_default();
    Key::new(resource::CONTROLLER_REVISIONS, meta.namespace.as_deref(), name)
}

/// The pod template that a revision keeps.
fn template_of(revision: &ControllerRevision) -> Value {
    let mut template = revision.data.0.pointer("/spec/template").cloned().unwrap_or_default();
    if let Some(fields) = template.as_object_mut() {
        fields.remove(PATCH);
    }
    template
}
