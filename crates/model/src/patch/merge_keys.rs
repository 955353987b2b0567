//! How strategic merge patches treat the lists and maps of each kind, as data.

use crate::resource::Resource;

/// How a field is patched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Strategy {
    /// Maps are merged; lists are replaced.
    Plain,
    /// A list of objects that is merged by this key of theirs.
    By(&'static str),
    /// A list of strings that is merged as a set.
    Set,
}

/// Of which type a field's value (or a list's items, or a map's values) is, and how it is patched.
#[derive(Debug)]
pub(super) struct Rule {
    of: &'static str,
    field: &'static str,
    pub(super) strategy: Strategy,
    pub(super) to: &'static str,
}

const fn plain(of: &'static str, field: &'static str, to: &'static str) -> Rule {
    Rule { of, field, strategy: Strategy::Plain, to }
}

const fn by(of: &'static str, field: &'static str, key: &'static str, to: &'static str) -> Rule {
    Rule { of, field, strategy: Strategy::By(key), to }
}

const fn set(of: &'static str, field: &'static str) -> Rule {
    Rule { of, field, strategy: Strategy::Set, to: "" }
}

/// Kubernetes' patchMergeKey and patchStrategy, for the kinds in the resource table. Fields that are
/// not here are plain, and so is everything below them.
const RULES: &[Rule] = &[
    by("ObjectMeta", "ownerReferences", "uid", ""),
    set("ObjectMeta", "finalizers"),
    // Pod
    plain("Pod", "metadata", "ObjectMeta"),
    plain("Pod", "spec", "PodSpec"),
    plain("Pod", "status", "PodStatus"),
    plain("PodTemplateSpec", "metadata", "ObjectMeta"),
    plain("PodTemplateSpec", "spec", "PodSpec"),
    by("PodSpec", "containers", "name", "Container"),
    by("PodSpec", "initContainers", "name", "Container"),
    by("PodSpec", "ephemeralContainers", "name", "Container"),
    by("PodSpec", "volumes", "name", ""),
    by("PodSpec", "imagePullSecrets", "name", ""),
    by("PodSpec", "hostAliases", "ip", ""),
    by("PodSpec", "topologySpreadConstraints", "topologyKey", ""),
    by("PodSpec", "resourceClaims", "name", ""),
    by("PodSpec", "schedulingGates", "name", ""),
    by("Container", "env", "name", ""),
    by("Container", "ports", "containerPort", ""),
    by("Container", "volumeMounts", "mountPath", ""),
    by("Container", "volumeDevices", "devicePath", ""),
    by("PodStatus", "conditions", "type", ""),
    by("PodStatus", "podIPs", "ip", ""),
    by("PodStatus", "hostIPs", "ip", ""),
    by("PodStatus", "resourceClaimStatuses", "name", ""),
    plain("PodStatus", "containerStatuses", "ContainerStatus"),
    by("ContainerStatus", "volumeMounts", "mountPath", ""),
    // workloads
    plain("Deployment", "metadata", "ObjectMeta"),
    plain("Deployment", "spec", "Workload"),
    plain("Deployment", "status", "Conditions"),
    plain("ReplicaSet", "metadata", "ObjectMeta"),
    plain("ReplicaSet", "spec", "Workload"),
    plain("ReplicaSet", "status", "Conditions"),
    plain("DaemonSet", "metadata", "ObjectMeta"),
    plain("DaemonSet", "spec", "Workload"),
    plain("DaemonSet", "status", "Conditions"),
    plain("ControllerRevision", "metadata", "ObjectMeta"),
    plain("Workload", "template", "PodTemplateSpec"),
    by("Conditions", "conditions", "type", ""),
    // the rest
    plain("Service", "metadata", "ObjectMeta"),
    plain("Service", "spec", "ServiceSpec"),
    plain("Service", "status", "Conditions"),
    by("ServiceSpec", "ports", "port", ""),
    plain("Node", "metadata", "ObjectMeta"),
    plain("Node", "spec", "NodeSpec"),
    plain("Node", "status", "NodeStatus"),
    set("NodeSpec", "podCIDRs"),
    by("NodeStatus", "conditions", "type", ""),
    by("NodeStatus", "addresses", "type", ""),
    plain("Namespace", "metadata", "ObjectMeta"),
    plain("Namespace", "status", "Conditions"),
    plain("ServiceAccount", "metadata", "ObjectMeta"),
    by("ServiceAccount", "secrets", "name", ""),
    plain("ConfigMap", "metadata", "ObjectMeta"),
    plain("Secret", "metadata", "ObjectMeta"),
    plain("Endpoints", "metadata", "ObjectMeta"),
    plain("EndpointSlice", "metadata", "ObjectMeta"),
    plain("Lease", "metadata", "ObjectMeta"),
    plain("Event", "metadata", "ObjectMeta"),
];

const OTHER: Rule = plain("", "", "");

/// The rule of a field of a type; plain for what is not in the table.
pub(super) fn rule(of: &str, field: &str) -> &'static Rule {
    let found = RULES.iter().find(|r| r.of == of && r.field == field);
    found.unwrap_or(&OTHER)
}

/// The type at which a patch of an object of this resource begins.
pub(super) fn root(resource: &Resource) -> &'static str {
    RULES.iter().find(|r| r.of == resource.kind).map_or("", |r| r.of)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::resource::ALL;

    #[test]
    fn every_kind_has_rules_and_every_type_is_defined() {
        for resource in ALL {
            assert_ne!(root(resource), "", "{resource}");
            assert_eq!(rule(root(resource), "metadata").to, "ObjectMeta");
        }
        for rule in RULES.iter().filter(|r| !r.to.is_empty()) {
            assert!(RULES.iter().any(|r| r.of == rule.to), "{} leads nowhere", rule.to);
        }
    }
}
