//! Cases for environments: what overrides what, what is expanded, and what is missing.

use std::sync::Arc;

use serde_json::{Value, json};

use super::*;
use crate::assignments::Assignments;

fn assignments() -> Assignments {
    let mut assignments = Assignments::default();
    let key = |name: &str| ("d".to_owned(), name.to_owned());
    let map = json!({"metadata": {}, "data": {"A": "map-a", "B": "map-b"}});
    assignments.config_maps.insert(key("map"), Arc::new(serde_json::from_value(map).unwrap()));
    let secret = json!({"metadata": {}, "data": {"S": "c2VjcmV0"}});
    assignments.secrets.insert(key("sec"), Arc::new(serde_json::from_value(secret).unwrap()));
    let binary = json!({"metadata": {}, "data": {"S": "//8="}});
    assignments.secrets.insert(key("bin"), Arc::new(serde_json::from_value(binary).unwrap()));
    assignments
}

fn environment_of(container: Value) -> Result<Vec<String>, String> {
    let pod =
        json!({"metadata": {"name": "p", "namespace": "d"}, "spec": {"containers": [container]}});
    let pod = serde_json::from_value(pod).unwrap();
    let around = Surroundings {
        pod: &pod,
        pod_ip: None,
        node_name: "n1",
        host_ip: "h",
        node_cpu_millis: 0,
        node_memory_bytes: 0,
        assignments: &assignments(),
    };
    let variables = environment(&around, &pod.spec.as_ref().unwrap().containers[0]);
    let list = variables.map_err(|error| error.to_string())?.into_list();
    Ok(list.into_iter().map(|(name, value)| format!("{name}={value}")).collect())
}

#[track_caller]
fn check(container: Value, expected: &[&str]) {
    let expected = expected.iter().map(|&line| line.to_owned()).collect();
    assert_eq!(environment_of(container), Ok(expected));
}

#[track_caller]
fn check_error(container: Value, expected: &str) {
    assert_eq!(environment_of(container), Err(expected.to_owned()));
}

#[test]
fn later_sources_override_and_see_earlier_ones() {
    check(
        json!({"name": "c",
            "envFrom": [{"configMapRef": {"name": "map"}}, {"prefix": "P_", "secretRef": {"name": "sec"}}],
            "env": [{"name": "A", "value": "own"}, {"name": "C", "value": "$(A)/$(B)/$(D)"}, {"name": "D"}]}),
        &["A=own", "B=map-b", "P_S=secret", "C=own/map-b/$(D)", "D="],
    );
}

#[test]
fn values_come_from_keys_and_fields() {
    let key = |kind: &str, name: &str, key: &str| json!({kind: {"name": name, "key": key}});
    check(
        json!({"name": "c", "env": [
            {"name": "M", "valueFrom": key("configMapKeyRef", "map", "A")},
            {"name": "S", "valueFrom": key("secretKeyRef", "sec", "S")},
            {"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}]}),
        &["M=map-a", "S=secret", "N=p"],
    );
}

#[test]
fn what_is_missing_is_named_unless_it_is_optional() {
    let env = |source: Value| json!({"name": "c", "env": [{"name": "X", "valueFrom": source}]});
    let map = |name: &str, key: &str, optional: bool| {
        env(json!({"configMapKeyRef": {"name": name, "key": key, "optional": optional}}))
    };
    check_error(map("none", "A", false), "configmap \"none\" not found");
    check_error(map("map", "none", false), "couldn't find key none in ConfigMap d/map");
    check(map("none", "A", true), &[]);
    check(map("map", "none", true), &[]);
    let from = |source: Value| json!({"name": "c", "envFrom": [source]});
    check_error(from(json!({"secretRef": {"name": "none"}})), "secret \"none\" not found");
    check(from(json!({"secretRef": {"name": "none", "optional": true}})), &[]);
    check_error(from(json!({"secretRef": {"name": "bin"}})), "key S of secret bin is not text");
}
