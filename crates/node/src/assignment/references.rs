//! Which ConfigMaps and Secrets a pod uses: its node is told of those and of no others.

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::{Container, Pod, Volume};

use super::Kind;

/// The ConfigMaps and Secrets, by kind and name, that the pod's spec names.
pub(super) fn of(pod: &Pod) -> BTreeSet<(Kind, String)> {
    let mut found = BTreeSet::new();
    let Some(spec) = &pod.spec else { return found };
    for volume in spec.volumes.iter().flatten() {
        of_volume(volume, &mut found);
    }
    let containers = spec.init_containers.iter().flatten().chain(&spec.containers);
    for container in containers {
        of_container(container, &mut found);
    }
    for secret in spec.image_pull_secrets.iter().flatten() {
        found.insert((Kind::Secret, secret.name.clone()));
    }
    found
}

fn of_volume(volume: &Volume, found: &mut BTreeSet<(Kind, String)>) {
    if let Some(map) = &volume.config_map {
        found.insert((Kind::ConfigMap, map.name.clone()));
    }
    if let Some(name) = volume.secret.as_ref().and_then(|s| s.secret_name.clone()) {
        found.insert((Kind::Secret, name));
    }
    let projected = volume.projected.iter().flat_map(|p| p.sources.iter().flatten());
    for source in projected {
        found.extend(source.config_map.iter().map(|m| (Kind::ConfigMap, m.name.clone())));
        found.extend(source.secret.iter().map(|s| (Kind::Secret, s.name.clone())));
    }
}

fn of_container(container: &Container, found: &mut BTreeSet<(Kind, String)>) {
    for source in container.env_from.iter().flatten() {
        found.extend(source.config_map_ref.iter().map(|m| (Kind::ConfigMap, m.name.clone())));
        found.extend(source.secret_ref.iter().map(|s| (Kind::Secret, s.name.clone())));
    }
    for source in container.env.iter().flatten().filter_map(|e| e.value_from.as_ref()) {
        found.extend(source.config_map_key_ref.iter().map(|m| (Kind::ConfigMap, m.name.clone())));
        found.extend(source.secret_key_ref.iter().map(|s| (Kind::Secret, s.name.clone())));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_to_name_one_is_found() {
        let pod: Pod = serde_json::from_value(serde_json::json!({
            "spec": {
                "imagePullSecrets": [{ "name": "s1" }],
                "volumes": [
                    { "name": "a", "configMap": { "name": "c1" } },
                    { "name": "b", "secret": { "secretName": "s2" } },
                    { "name": "c", "projected": { "sources": [
                        { "configMap": { "name": "c2" } }, { "secret": { "name": "s3" } }
                    ] } }
                ],
                "initContainers": [{ "name": "i", "envFrom": [{ "configMapRef": { "name": "c3" } }] }],
                "containers": [{ "name": "m",
                    "envFrom": [{ "secretRef": { "name": "s4" } }],
                    "env": [
                        { "name": "A", "valueFrom": { "configMapKeyRef": { "name": "c4", "key": "k" } } },
                        { "name": "B", "valueFrom": { "secretKeyRef": { "name": "s5", "key": "k" } } }
                    ] }]
            }
        }))
        .unwrap();
        let names: Vec<String> = of(&pod).into_iter().map(|(_, name)| name).collect();
        assert_eq!(names, ["c1", "c2", "c3", "c4", "s1", "s2", "s3", "s4", "s5"]);
    }
}
