//! Which labels a node's object has by whose word: its own, or its record's. By some labels pods are kept from nodes
//! that are not trusted with them: no node gives those to itself, as in Kubernetes.

use std::collections::BTreeMap;

use pontoon_model::names::{LABEL_CONTROL_PLANE, LABEL_NODE_ROLE_PREFIX};
use pontoon_model::validate::name;

use crate::identity::Role;

/// The labels by which `kubectl get nodes` tells a node's role.
const ROLES: [&str; 2] = [LABEL_CONTROL_PLANE, "node-role.kubernetes.io/worker"];
/// The labels below Kubernetes' own names that a node gives itself.
const OWN: &[&str] = &[
    "kubernetes.io/hostname",
    "kubernetes.io/arch",
    "kubernetes.io/os",
    "beta.kubernetes.io/arch",
    "beta.kubernetes.io/os",
    "beta.kubernetes.io/instance-type",
    "topology.kubernetes.io/region",
    "topology.kubernetes.io/zone",
    "failure-domain.beta.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone",
];
/// Below these names of Kubernetes, too.
const OWN_PREFIXES: &[&str] = &["node.kubernetes.io", "kubelet.kubernetes.io"];

/// Whether a node may give itself this label: whatever is not Kubernetes', and some of what is.
#[must_use]
pub fn is_own(label: &str) -> bool {
    let Some((prefix, _)) = label.split_once('/') else { return true };
    let below = |name: &str| {
        prefix == name || prefix.strip_suffix(name).is_some_and(|head| head.ends_with('.'))
    };
    let reserved = below("kubernetes.io") || below("k8s.io");
    !reserved || OWN.contains(&label) || OWN_PREFIXES.iter().any(|own| below(own))
}

/// Why a label cannot be one, if so it is.
#[must_use]
pub fn fault(label: &str, value: &str) -> Option<String> {
    let faults = name::qualified_name(label).into_iter().chain(name::label_value(value));
    faults.into_iter().next()
}

/// The labels that a node's object is to have: what the node claims as far as it may, and its role by its record.
pub(crate) fn wanted(
    mut claimed: BTreeMap<String, String>,
    role: Role,
) -> BTreeMap<String, String> {
    claimed.retain(|label, value| is_own(label) && fault(label, value).is_none());
    claimed.insert(of_role(role).to_owned(), String::new());
    claimed
}

/// The labels that a node claimed before, as its object remembers them, and claims no more.
pub(crate) fn dropped<'a>(
    remembered: Option<&'a str>,
    wanted: &BTreeMap<String, String>,
) -> Vec<&'a str> {
    let before = remembered.unwrap_or_default().split(',').filter(|label| is_own(label));
    before.filter(|label| !label.is_empty() && !wanted.contains_key(*label)).collect()
}

/// How a node's object remembers which of its labels are the node's.
pub(crate) fn remembered(wanted: &BTreeMap<String, String>) -> String {
    let own: Vec<&str> = wanted.keys().map(String::as_str).filter(|label| is_own(label)).collect();
    own.join(",")
}

/// The labels that go because they tell of another role; others below that name are the administrators'.
pub(crate) fn outdated(role: Role) -> impl Iterator<Item = &'static str> {
    ROLES.into_iter().filter(move |label| *label != of_role(role))
}

fn of_role(role: Role) -> &'static str {
    debug_assert!(ROLES.iter().all(|label| label.starts_with(LABEL_NODE_ROLE_PREFIX)));
    match role {
        Role::Manager => ROLES[0],
        Role::Worker => ROLES[1],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_claims_no_trust() {
        for own in [
            "disk",
            "example.com/disk",
            "kubernetes.io/hostname",
            "topology.kubernetes.io/zone",
            "node.kubernetes.io/instance-type",
            "x.node.kubernetes.io/y",
            "notkubernetes.io/x",
        ] {
            assert!(is_own(own), "{own}");
        }
        for not in [
            "node-role.kubernetes.io/control-plane",
            "node-restriction.kubernetes.io/secure",
            "a.node-restriction.kubernetes.io/x",
            "kubernetes.io/role",
            "k8s.io/x",
            "x.k8s.io/y",
            "evilnode.kubernetes.io/x",
        ] {
            assert!(!is_own(not), "{not}");
        }
    }

    #[test]
    fn what_a_node_claims_no_more_goes_and_what_others_gave_it_stays() {
        let claim = |labels: &[&str]| -> BTreeMap<String, String> {
            labels.iter().map(|label| ((*label).to_owned(), "x".to_owned())).collect()
        };
        let before = remembered(&wanted(claim(&["disk", "zone", "k8s.io/x"]), Role::Worker));
        assert_eq!(before, "disk,zone");
        let now = wanted(claim(&["zone"]), Role::Worker);
        assert_eq!(dropped(Some(&before), &now), ["disk"]);
        assert_eq!(dropped(Some("node-role.kubernetes.io/worker,disk"), &now), ["disk"]);
        assert_eq!(dropped(None, &now), Vec::<&str>::new());
        let broken = wanted(claim(&["not a label", "good"]), Role::Worker);
        assert_eq!(remembered(&broken), "good", "the rest of what it says is taken");
    }

    #[test]
    fn the_role_is_the_records() {
        let claim = |label: &str| BTreeMap::from([(label.to_owned(), String::new())]);
        let worker = wanted(claim(LABEL_CONTROL_PLANE), Role::Worker);
        assert_eq!(worker, claim("node-role.kubernetes.io/worker"));
        assert_eq!(outdated(Role::Worker).collect::<Vec<_>>(), [LABEL_CONTROL_PLANE]);
        let manager = wanted(claim("node-role.kubernetes.io/worker"), Role::Manager);
        assert_eq!(manager, claim(LABEL_CONTROL_PLANE));
    }
}
