//! Kubernetes' patchMergeKey and patchStrategy of the served kinds, as clients read them from the schemas.

use serde_json::Value;

/// How one list or map is patched.
pub(super) struct Rule {
    pub of: &'static str,
    field: &'static str,
    /// Empty where strings are merged as a set, or a map keeps only given keys.
    key: &'static str,
    strategy: &'static str,
}

impl Rule {
    /// Adds the extensions to the field of that type's schema.
    pub(super) fn add_to(&self, schema: &mut Value) {
        let field = schema.get_mut("properties").and_then(|fields| fields.get_mut(self.field));
        let Some(Value::Object(field)) = field else { return };
        field.insert("x-kubernetes-patch-strategy".to_owned(), self.strategy.into());
        if !self.key.is_empty() {
            field.insert("x-kubernetes-patch-merge-key".to_owned(), self.key.into());
        }
    }
}

const fn by(of: &'static str, field: &'static str, key: &'static str) -> Rule {
    Rule { of, field, key, strategy: "merge" }
}

const fn set(of: &'static str, field: &'static str) -> Rule {
    Rule { of, field, key: "", strategy: "merge" }
}

/// Every rule.
pub(super) const ALL: &[Rule] = &[
    by("ObjectMeta", "ownerReferences", "uid"),
    set("ObjectMeta", "finalizers"),
    by("PodSpec", "containers", "name"),
    by("PodSpec", "initContainers", "name"),
    by("PodSpec", "ephemeralContainers", "name"),
    Rule { of: "PodSpec", field: "volumes", key: "name", strategy: "merge,retainKeys" },
    by("PodSpec", "imagePullSecrets", "name"),
    by("PodSpec", "hostAliases", "ip"),
    by("PodSpec", "topologySpreadConstraints", "topologyKey"),
    Rule { of: "PodSpec", field: "resourceClaims", key: "name", strategy: "merge,retainKeys" },
    by("PodSpec", "schedulingGates", "name"),
    by("Container", "env", "name"),
    by("Container", "ports", "containerPort"),
    by("Container", "volumeMounts", "mountPath"),
    by("Container", "volumeDevices", "devicePath"),
    by("EphemeralContainer", "env", "name"),
    by("EphemeralContainer", "ports", "containerPort"),
    by("EphemeralContainer", "volumeMounts", "mountPath"),
    by("EphemeralContainer", "volumeDevices", "devicePath"),
    by("ContainerStatus", "volumeMounts", "mountPath"),
    by("PodStatus", "conditions", "type"),
    by("PodStatus", "podIPs", "ip"),
    by("PodStatus", "hostIPs", "ip"),
    by("PodStatus", "resourceClaimStatuses", "name"),
    by("ServiceSpec", "ports", "port"),
    by("ServiceStatus", "conditions", "type"),
    by("ServiceAccount", "secrets", "name"),
    set("NodeSpec", "podCIDRs"),
    by("NodeStatus", "conditions", "type"),
    by("NodeStatus", "addresses", "type"),
    by("NamespaceStatus", "conditions", "type"),
    Rule { of: "DeploymentSpec", field: "strategy", key: "", strategy: "retainKeys" },
    by("DeploymentStatus", "conditions", "type"),
    by("ReplicaSetStatus", "conditions", "type"),
    by("DaemonSetStatus", "conditions", "type"),
];
