//! Where a pod may run: node selectors, affinity, tolerations, spread.

use k8s_openapi::api::core::v1::{
    Affinity, NodeSelectorRequirement, NodeSelectorTerm, PodAffinityTerm, PodSpec, Toleration,
};

use super::faults::Faults;
use super::meta;
use super::name;
use super::path::Path;
use super::workload::selector;

const EFFECTS: &[&str] = &["NoSchedule", "PreferNoSchedule", "NoExecute"];

pub(super) fn check(at: &Path<'_>, spec: &PodSpec, faults: &mut Faults) {
    if let Some(wanted) = &spec.node_selector {
        meta::labels(&at.child("nodeSelector"), wanted, faults);
    }
    for (i, toleration) in spec.tolerations.iter().flatten().enumerate() {
        tolerate(&at.child("tolerations").index(i), toleration, faults);
    }
    if let Some(wanted) = &spec.affinity {
        affinity(&at.child("affinity"), wanted, faults);
    }
    for (i, spread) in spec.topology_spread_constraints.iter().flatten().enumerate() {
        let list = at.child("topologySpreadConstraints");
        let at = list.index(i);
        if spread.max_skew <= 0 {
            faults.invalid(&at.child("maxSkew"), spread.max_skew, "must be greater than zero");
        }
        if spread.topology_key.is_empty() {
            faults.required(&at.child("topologyKey"), "can not be empty");
        }
        let choices = &["DoNotSchedule", "ScheduleAnyway"];
        faults.one_of(&at.child("whenUnsatisfiable"), &spread.when_unsatisfiable, choices);
        if let Some(labels) = &spread.label_selector {
            selector(&at.child("labelSelector"), labels, faults);
        }
    }
}

fn tolerate(at: &Path<'_>, toleration: &Toleration, faults: &mut Faults) {
    let key = toleration.key.as_deref().unwrap_or_default();
    let operator = toleration.operator.as_deref().filter(|o| !o.is_empty()).unwrap_or("Equal");
    let value = toleration.value.as_deref().unwrap_or_default();
    let effect = toleration.effect.as_deref().unwrap_or_default();
    if !key.is_empty() {
        faults.all_invalid(&at.child("key"), key, name::qualified_name(key));
    }
    match operator {
        "Equal" if key.is_empty() => {
            let why = "operator must be Exists when `key` is empty, which means \"match all values and all keys\"";
            faults.invalid(&at.child("operator"), operator, why);
        }
        "Equal" => faults.all_invalid(&at.child("operator"), value, name::label_value(value)),
        "Exists" if !value.is_empty() => {
            faults.invalid(
                &at.child("operator"),
                operator,
                "value must be empty when `operator` is 'Exists'",
            );
        }
        "Exists" => {}
        other => faults.not_supported(&at.child("operator"), other, &["Equal", "Exists"]),
    }
    if !effect.is_empty() {
        faults.one_of(&at.child("effect"), effect, EFFECTS);
    }
    if toleration.toleration_seconds.is_some() && effect != "NoExecute" {
        let why = "effect must be 'NoExecute' when `tolerationSeconds` is set";
        faults.invalid(&at.child("effect"), effect, why);
    }
}

fn affinity(at: &Path<'_>, affinity: &Affinity, faults: &mut Faults) {
    const REQUIRED: &str = "requiredDuringSchedulingIgnoredDuringExecution";
    const PREFERRED: &str = "preferredDuringSchedulingIgnoredDuringExecution";
    if let Some(node) = &affinity.node_affinity {
        let at = at.child("nodeAffinity");
        if let Some(required) = &node.required_during_scheduling_ignored_during_execution {
            let at = at.child(REQUIRED);
            let at = at.child("nodeSelectorTerms");
            if required.node_selector_terms.is_empty() {
                faults.required(&at, "must have at least one node selector term");
            }
            for (i, term) in required.node_selector_terms.iter().enumerate() {
                node_term(&at.index(i), term, faults);
            }
        }
        let preferred = node.preferred_during_scheduling_ignored_during_execution.iter().flatten();
        for (i, wish) in preferred.enumerate() {
            let list = at.child(PREFERRED);
            let at = list.index(i);
            weight(&at, wish.weight, faults);
            node_term(&at.child("preference"), &wish.preference, faults);
        }
    }
    let pods = affinity.pod_affinity.as_ref().map(|a| {
        (
            "podAffinity",
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        )
    });
    let anti = affinity.pod_anti_affinity.as_ref().map(|a| {
        (
            "podAntiAffinity",
            &a.required_during_scheduling_ignored_during_execution,
            &a.preferred_during_scheduling_ignored_during_execution,
        )
    });
    for (field, required, preferred) in pods.into_iter().chain(anti) {
        let at = at.child(field);
        for (i, term) in required.iter().flatten().enumerate() {
            pod_term(&at.child(REQUIRED).index(i), term, faults);
        }
        for (i, wish) in preferred.iter().flatten().enumerate() {
            let list = at.child(PREFERRED);
            let at = list.index(i);
            weight(&at, wish.weight, faults);
            pod_term(&at.child("podAffinityTerm"), &wish.pod_affinity_term, faults);
        }
    }
}

fn weight(at: &Path<'_>, weight: i32, faults: &mut Faults) {
    if !(1..=100).contains(&weight) {
        faults.invalid(&at.child("weight"), weight, "must be in the range 1-100");
    }
}

fn pod_term(at: &Path<'_>, term: &PodAffinityTerm, faults: &mut Faults) {
    if term.topology_key.is_empty() {
        faults.required(&at.child("topologyKey"), "can not be empty");
    } else {
        let wrong = name::qualified_name(&term.topology_key);
        faults.all_invalid(&at.child("topologyKey"), &term.topology_key, wrong);
    }
    if let Some(labels) = &term.label_selector {
        selector(&at.child("labelSelector"), labels, faults);
    }
}

fn node_term(at: &Path<'_>, term: &NodeSelectorTerm, faults: &mut Faults) {
    for (i, requirement) in term.match_expressions.iter().flatten().enumerate() {
        let list = at.child("matchExpressions");
        let at = list.index(i);
        faults.all_invalid(
            &at.child("key"),
            &requirement.key,
            name::qualified_name(&requirement.key),
        );
        node_requirement(&at, requirement, faults);
    }
    for (i, requirement) in term.match_fields.iter().flatten().enumerate() {
        let list = at.child("matchFields");
        let at = list.index(i);
        if requirement.key != "metadata.name" {
            faults.invalid(&at.child("key"), &requirement.key, "not a valid field selector key");
        }
        node_requirement(&at, requirement, faults);
    }
}

fn node_requirement(at: &Path<'_>, requirement: &NodeSelectorRequirement, faults: &mut Faults) {
    let values = requirement.values.as_deref().unwrap_or_default();
    let at_values = at.child("values");
    match requirement.operator.as_str() {
        "In" | "NotIn" if values.is_empty() => {
            faults.required(&at_values, "must be specified when `operator` is 'In' or 'NotIn'");
        }
        "Exists" | "DoesNotExist" if !values.is_empty() => {
            let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
            faults.forbidden(&at_values, why);
        }
        "Gt" | "Lt" if values.len() != 1 => {
            let why = "must be specified single value when `operator` is 'Lt' or 'Gt'";
            faults.required(&at_values, why);
        }
        "In" | "NotIn" | "Exists" | "DoesNotExist" | "Gt" | "Lt" => {}
        other => faults.invalid(&at.child("operator"), other, "not a valid selector operator"),
    }
}
