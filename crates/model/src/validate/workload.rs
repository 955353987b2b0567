//! Deployments, ReplicaSets, DaemonSets and the revisions of these.

use k8s_openapi::api::apps::v1::{ControllerRevision, DaemonSet, Deployment, ReplicaSet};
use k8s_openapi::api::core::v1::PodTemplateSpec;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use super::faults::Faults;
use super::kinds::Check;
use super::meta;
use super::name;
use super::path::Path;
use super::pod::pod_spec;
use crate::selector;

const SPEC: Path<'static> = Path::root("spec");

impl Check for Deployment {
    fn check(&self, faults: &mut Faults) {
        let spec = &self.spec;
        faults.not_negative(&SPEC.child("replicas"), spec.replicas.map(i64::from));
        selecting(&spec.selector, &spec.template, faults);
        let ready = spec.min_ready_seconds.unwrap_or(0);
        faults.not_negative(&SPEC.child("minReadySeconds"), Some(ready.into()));
        let history = spec.revision_history_limit.map(i64::from);
        faults.not_negative(&SPEC.child("revisionHistoryLimit"), history);
        if let Some(deadline) = spec.progress_deadline_seconds {
            let at = SPEC.child("progressDeadlineSeconds");
            faults.not_negative(&at, Some(deadline.into()));
            if deadline <= ready {
                faults.invalid(&at, deadline, "must be greater than minReadySeconds");
            }
        }
        let Some(strategy) = &spec.strategy else { return };
        let at = SPEC.child("strategy");
        let kind = strategy.type_.as_deref().unwrap_or_default();
        faults.one_of(&at.child("type"), kind, &["Recreate", "RollingUpdate"]);
        let Some(update) = &strategy.rolling_update else { return };
        let at = at.child("rollingUpdate");
        if kind == "Recreate" {
            let why = "may not be specified when strategy `type` is 'Recreate'";
            faults.forbidden(&at, why);
        }
        rolling(&at, update.max_unavailable.as_ref(), update.max_surge.as_ref(), faults);
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        faults.immutable(&SPEC.child("selector"), &self.spec.selector, &old.spec.selector);
    }
}

impl Check for ReplicaSet {
    fn check(&self, faults: &mut Faults) {
        let spec = &self.spec;
        faults.not_negative(&SPEC.child("replicas"), spec.replicas.map(i64::from));
        faults.not_negative(&SPEC.child("minReadySeconds"), spec.min_ready_seconds.map(i64::from));
        match &spec.template {
            Some(template) => selecting(&spec.selector, template, faults),
            None => faults.required(&SPEC.child("template"), ""),
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        faults.immutable(&SPEC.child("selector"), &self.spec.selector, &old.spec.selector);
    }
}

impl Check for DaemonSet {
    fn check(&self, faults: &mut Faults) {
        let spec = &self.spec;
        selecting(&spec.selector, &spec.template, faults);
        faults.not_negative(&SPEC.child("minReadySeconds"), spec.min_ready_seconds.map(i64::from));
        let history = spec.revision_history_limit.map(i64::from);
        faults.not_negative(&SPEC.child("revisionHistoryLimit"), history);
        let Some(strategy) = &spec.update_strategy else { return };
        let at = SPEC.child("updateStrategy");
        let kind = strategy.type_.as_deref().unwrap_or_default();
        faults.one_of(&at.child("type"), kind, &["RollingUpdate", "OnDelete"]);
        if let Some(update) = &strategy.rolling_update {
            let at = at.child("rollingUpdate");
            rolling(&at, update.max_unavailable.as_ref(), update.max_surge.as_ref(), faults);
        }
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        faults.immutable(&SPEC.child("selector"), &self.spec.selector, &old.spec.selector);
    }
}

/// The selector, the template, and that the one selects the other.
fn selecting(wanted: &LabelSelector, template: &PodTemplateSpec, faults: &mut Faults) {
    let at = SPEC.child("selector");
    let empty = wanted.match_labels.as_ref().is_none_or(std::collections::BTreeMap::is_empty)
        && wanted.match_expressions.as_ref().is_none_or(Vec::is_empty);
    if empty {
        faults.required(&at, "");
    }
    selector(&at, wanted, faults);
    let at = SPEC.child("template");
    let meta = template.metadata.clone().unwrap_or_default();
    let labels = meta.labels.unwrap_or_default();
    let at_meta = at.child("metadata");
    meta::labels(&at_meta.child("labels"), &labels, faults);
    if let Some(map) = &meta.annotations {
        meta::annotations(&at_meta.child("annotations"), map, faults);
    }
    if let Ok(selector) = selector::LabelSelector::of_typed(wanted)
        && !empty
        && !selector.matches(&labels)
    {
        let why = "`selector` does not match template `labels`";
        faults.invalid(&at_meta.child("labels"), &labels, why);
    }
    let at = at.child("spec");
    let Some(spec) = &template.spec else {
        faults.required(&at, "");
        return;
    };
    pod_spec(&at, spec, faults);
    let restart = spec.restart_policy.as_deref().unwrap_or_default();
    if ["OnFailure", "Never"].contains(&restart) {
        faults.not_supported(&at.child("restartPolicy"), restart, &["Always"]);
    }
    if spec.active_deadline_seconds.is_some() {
        let why = "activeDeadlineSeconds in a pod template is not supported";
        faults.forbidden(&at.child("activeDeadlineSeconds"), why);
    }
}

impl Check for ControllerRevision {
    fn check(&self, faults: &mut Faults) {
        if self.data.0.is_null() {
            faults.required(&Path::root("data"), "data is mandatory");
        }
        faults.not_negative(&Path::root("revision"), self.revision);
    }

    fn check_update(&self, old: &Self, faults: &mut Faults) {
        faults.immutable(&Path::root("data"), &self.data.0, &old.data.0);
    }
}

/// A selector in an object.
pub(super) fn selector(at: &Path<'_>, wanted: &LabelSelector, faults: &mut Faults) {
    if let Some(map) = &wanted.match_labels {
        meta::labels(&at.child("matchLabels"), map, faults);
    }
    let list = at.child("matchExpressions");
    for (i, expression) in wanted.match_expressions.iter().flatten().enumerate() {
        let at = list.index(i);
        let values = expression.values.as_deref().unwrap_or_default();
        match expression.operator.as_str() {
            "In" | "NotIn" if values.is_empty() => {
                let why = "must be specified when `operator` is 'In' or 'NotIn'";
                faults.required(&at.child("values"), why);
            }
            "Exists" | "DoesNotExist" if !values.is_empty() => {
                let why = "may not be specified when `operator` is 'Exists' or 'DoesNotExist'";
                faults.forbidden(&at.child("values"), why);
            }
            "In" | "NotIn" | "Exists" | "DoesNotExist" => {}
            other => faults.invalid(&at.child("operator"), other, "not a valid selector operator"),
        }
        faults.all_invalid(
            &at.child("key"),
            &expression.key,
            name::qualified_name(&expression.key),
        );
        for (j, value) in values.iter().enumerate() {
            faults.all_invalid(&at.child("values").index(j), value, name::label_value(value));
        }
    }
}

fn rolling(
    at: &Path<'_>,
    unavailable: Option<&IntOrString>,
    surge: Option<&IntOrString>,
    faults: &mut Faults,
) {
    share(&at.child("maxUnavailable"), unavailable, faults);
    share(&at.child("maxSurge"), surge, faults);
    let zero = |share: Option<&IntOrString>| match share {
        None | Some(IntOrString::Int(0)) => true,
        Some(IntOrString::Int(_)) => false,
        Some(IntOrString::String(text)) => text == "0%",
    };
    if zero(unavailable) && zero(surge) {
        let why = "may not be 0 when `maxSurge` is 0";
        faults.invalid(&at.child("maxUnavailable"), unavailable, why);
    }
}

/// A count, or a part of the whole.
fn share(at: &Path<'_>, share: Option<&IntOrString>, faults: &mut Faults) {
    match share {
        None => {}
        Some(IntOrString::Int(count)) => faults.not_negative(at, Some((*count).into())),
        Some(IntOrString::String(text)) => {
            let percent = text.strip_suffix('%').and_then(|n| n.parse::<u32>().ok());
            match percent {
                None => {
                    let why = "a valid percent string must be a numeric string followed by an ending '%' (e.g. '1%',  or '93%', regex used for validation is '[0-9]+%')";
                    faults.invalid(at, text, why);
                }
                Some(percent) if percent > 100 => {
                    faults.invalid(at, text, "must not be greater than 100%");
                }
                Some(_) => {}
            }
        }
    }
}
