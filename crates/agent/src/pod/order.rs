//! What a pod's task is told: the newest wanted pod, and whether it shall end.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Pod;

use super::spec::{all_containers, grace, spec};
use super::state::StopOrder;
use crate::assignments::Assignments;

/// The newest wish for a pod.
#[derive(Clone, Debug)]
pub(crate) struct Order {
    pub pod: Arc<Pod>,
    pub stop: Option<StopOrder>,
    /// Which versions of ConfigMaps and Secrets it uses, to be compared only.
    pub references: Vec<String>,
}

impl Order {
    /// The order for a pod that is assigned.
    pub(crate) fn assigned(pod: &Arc<Pod>, assignments: &Assignments) -> Self {
        let deleted = pod.metadata.deletion_timestamp.is_some();
        let stop = deleted.then(|| StopOrder { grace: grace(pod), delete: true });
        Self { pod: pod.clone(), stop, references: references(pod, assignments) }
    }

    /// The order for a pod that is assigned no more.
    pub(crate) fn unassigned(pod: &Arc<Pod>) -> Self {
        let stop = Some(StopOrder { grace: grace(pod), delete: true });
        Self { pod: pod.clone(), stop, references: Vec::new() }
    }

    /// Whether there is anything new in `other`.
    pub(crate) fn differs(&self, other: &Self) -> bool {
        !Arc::ptr_eq(&self.pod, &other.pod)
            || self.stop != other.stop
            || self.references != other.references
    }
}

/// The versions of the objects that the pod uses, one text each.
fn references(pod: &Pod, assignments: &Assignments) -> Vec<String> {
    let namespace = pod.metadata.namespace.clone().unwrap_or_default();
    let (maps, secrets) = names(pod);
    let version = |meta: &k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta| {
        let uid = meta.uid.as_deref().unwrap_or_default();
        format!("{uid}@{}", meta.resource_version.as_deref().unwrap_or_default())
    };
    let maps = maps.into_iter().map(|name| {
        let found = assignments.config_maps.get(&(namespace.clone(), name.clone()));
        format!("c/{name}={}", found.map(|map| version(&map.metadata)).unwrap_or_default())
    });
    let secrets = secrets.into_iter().map(|name| {
        let found = assignments.secrets.get(&(namespace.clone(), name.clone()));
        format!("s/{name}={}", found.map(|secret| version(&secret.metadata)).unwrap_or_default())
    });
    maps.chain(secrets).collect()
}

/// The names of the ConfigMaps and of the Secrets that a pod uses.
fn names(pod: &Pod) -> (Vec<String>, Vec<String>) {
    let (mut maps, mut secrets) = (Vec::new(), Vec::new());
    secrets.extend(spec(pod).image_pull_secrets.iter().flatten().map(|s| s.name.clone()));
    for volume in spec(pod).volumes.iter().flatten() {
        maps.extend(volume.config_map.as_ref().map(|map| map.name.clone()));
        secrets.extend(volume.secret.as_ref().and_then(|secret| secret.secret_name.clone()));
        let sources = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
        for source in sources {
            maps.extend(source.config_map.as_ref().map(|map| map.name.clone()));
            secrets.extend(source.secret.as_ref().map(|secret| secret.name.clone()));
        }
    }
    for container in all_containers(pod) {
        for source in container.env_from.iter().flatten() {
            maps.extend(source.config_map_ref.as_ref().map(|map| map.name.clone()));
            secrets.extend(source.secret_ref.as_ref().map(|secret| secret.name.clone()));
        }
        for source in container.env.iter().flatten().filter_map(|env| env.value_from.as_ref()) {
            maps.extend(source.config_map_key_ref.as_ref().map(|map| map.name.clone()));
            secrets.extend(source.secret_key_ref.as_ref().map(|secret| secret.name.clone()));
        }
    }
    (maps, secrets)
}
