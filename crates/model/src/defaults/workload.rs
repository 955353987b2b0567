//! Defaults of Deployments, ReplicaSets and DaemonSets.

use serde_json::{Value, json};

use super::{Object, absent, pod, text, with};

fn template(spec: &mut Object) {
    with(spec.get_mut("template"), |template| with(template.get_mut("spec"), pod::spec));
}

pub(super) fn deployment(spec: &mut Object) {
    absent(spec, "replicas", json!(1));
    absent(spec, "revisionHistoryLimit", json!(10));
    absent(spec, "progressDeadlineSeconds", json!(600));
    absent(spec, "strategy", json!({}));
    with(spec.get_mut("strategy"), |strategy| {
        rolling(strategy, &[("maxUnavailable", json!("25%")), ("maxSurge", json!("25%"))]);
    });
    template(spec);
}

pub(super) fn replica_set(spec: &mut Object) {
    absent(spec, "replicas", json!(1));
    template(spec);
}

pub(super) fn daemon_set(spec: &mut Object) {
    absent(spec, "revisionHistoryLimit", json!(10));
    absent(spec, "updateStrategy", json!({}));
    with(spec.get_mut("updateStrategy"), |strategy| {
        rolling(strategy, &[("maxUnavailable", json!(1)), ("maxSurge", json!(0))]);
    });
    template(spec);
}

fn rolling(strategy: &mut Object, defaults: &[(&str, Value)]) {
    if text(strategy, "type").is_empty()
        && !strategy.get("type").is_some_and(|t| !t.is_null() && !t.is_string())
    {
        strategy.insert("type".to_owned(), json!("RollingUpdate"));
    }
    if text(strategy, "type") != "RollingUpdate" {
        return;
    }
    absent(strategy, "rollingUpdate", json!({}));
    with(strategy.get_mut("rollingUpdate"), |update| {
        for (field, value) in defaults {
            absent(update, field, value.clone());
        }
    });
}
